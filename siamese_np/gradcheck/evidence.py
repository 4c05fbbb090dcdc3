"""What is known of a wrong gradient: the entries that were checked, and the slope of every output in each of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from siamese_np.gradcheck.case import Array, Broken, Shape
from siamese_np.gradcheck.differences import QUICK, differences
from siamese_np.gradcheck.measure import FLOOR
from siamese_np.gradcheck.point import Index, Point

ALIKE = 1e-6  # relative to the largest slope
MAX_CALLS = 2000  # forward passes that the hint on one array may take
MAX_SLOPES = 3 * 10**7  # of single outputs, in all entries together: no more entries are looked at
CLOSER = 0.01  # and so much nearer to the gradient than the measured slopes: a small fault is not taken for another


@dataclass
class Evidence:
    """The checked entries of one array: what backward said and what was measured, away from kinks.

    With `dout`, the slopes are those of the loss that weights its outputs so; with `only`, just these entries count.
    """

    point: Point
    name: str
    dout: Array | None = None
    only: Sequence[Index] | None = None

    def __post_init__(self) -> None:
        arrays, found = self.point.case.arrays, self.point.estimates[self.name]
        gradient = self.point.gradients[self.name]
        chosen = found if self.only is None else self.only
        self.indices = [index for index in chosen if found[index].kink != "at" and np.isfinite(found[index].value)]
        most = max(1, MAX_SLOPES // max(1, self.point.out.size))
        if len(self.indices) > most:  # those that are most wrong
            self.indices = sorted(self.indices, key=lambda i: -abs(gradient[i] - found[i].value))[:most]
        self.analytic = self.at(gradient)
        self.numeric = np.array([found[index].value for index in self.indices])
        self.weights = self.point.dout.ravel() if self.dout is None else self.dout
        if self.dout is not None:
            self.numeric = self.jacobian @ self.dout
        self.scale = max(abs(self.analytic).max(initial=0), abs(self.numeric).max(initial=0))
        off, largest = abs(self.analytic - self.numeric), np.maximum(abs(self.analytic), abs(self.numeric))
        self.wrong = off > self.point.tolerance * np.maximum(FLOOR * self.scale, largest)
        self.off = float(off.max(initial=0))
        self.shape, self.calls = gradient.shape, 0
        self.full = len(self.indices) == gradient.size  # and none at a kink
        self.places = np.array(self.indices, int).reshape(len(self.indices), gradient.ndim)  # where they are
        self.values = self.at(arrays[self.name])  # the array itself, where it was checked
        self.others = {name: array for name, array in arrays.items() if name != self.name}

    def count(self, what: str = "entries") -> str:
        return f"{int(self.wrong.sum())} of {len(self.wrong)} {what}"

    def explains(self, guess: Array) -> bool:
        """Whether `guess`, in place of the numeric slopes, is what backward returned."""
        size = max(abs(self.analytic).max(initial=0), abs(guess).max(initial=0))
        return bool((abs(self.analytic - guess) <= min(ALIKE * size, CLOSER * self.off)).all())

    def measures(self, guess: Array) -> bool:
        """Whether `guess` is what was measured."""
        return bool((abs(self.numeric - guess) <= ALIKE * self.scale).all())

    def at(self, array: Array) -> Array:
        """The checked entries of an array of the full shape."""
        return np.array([array[index] for index in self.indices])

    @property
    def ratio(self) -> float:
        """By what all slopes are multiplied, if by one number."""
        return self.analytic @ self.numeric / (self.numeric @ self.numeric)  # of NumPy: 1 / 0 is inf

    @cached_property
    def measured(self) -> Array:
        """The numeric gradient in its shape; entries that were not checked, or at kinks, as backward gave them."""
        full = self.point.gradients[self.name].copy()
        for index, value in zip(self.indices, self.numeric, strict=True):
            full[index] = value
        return full

    @cached_property
    def jacobian(self) -> Array:
        """(checked entries, outputs) slopes of each output."""
        found = self.point.estimates[self.name]
        return np.array([np.asarray(found[index].parts) for index in self.indices]).reshape(len(self.indices), -1)

    def miss(self, name: str, value: Array, v: Array, gradient: Array | None) -> float:
        """By how much `gradient` (by default that of backward) is off along v once `name` has this value."""
        case = self.point.case
        self.calls += 1 + 2 * len(QUICK)
        if self.calls > MAX_CALLS:
            raise Broken("the hint has taken long enough")
        kept = case.arrays[name].copy()
        try:
            case.arrays[name][...] = value
            out, cache = case.run()
            out = out.copy()
            said = case.gradients(self.point.dout, cache)[self.name] if gradient is None else gradient
            slopes = differences(case, {self.name: v}, out, self.point.dout, QUICK, self.point.sizes[self.name])
            if not said.any():
                return np.inf  # nothing is left to compare
            return float(((said * v).sum() - slopes.richardson[0]) / np.linalg.norm(said))
        finally:
            case.arrays[name][...] = kept


def spread(array: Array, shape: Shape) -> Array | None:
    """`array` as it spreads over `shape`, its axes being the last or the first ones; None where it does not."""
    for wide in (array, array.reshape(array.shape + (1,) * (len(shape) - array.ndim))):
        if wide.ndim <= len(shape) and all(n in (1, m) for n, m in zip(wide.shape[::-1], shape[::-1], strict=False)):
            return np.broadcast_to(wide, shape)
    return None
