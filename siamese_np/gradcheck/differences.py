"""Slopes measured by differences, along any direction, over many steps.

With dout the upstream gradient, the loss sum(out * dout) has the gradient that backward must return. Along a
direction v, from the three outputs at x - h v, x and x + h v:

    right slope    (out(x + h v) - out(x)) / h             = f'(x) + O(h)
    left slope     (out(x) - out(x - h v)) / h             = f'(x) + O(h)
    central        their mean                              = f'(x) + O(h^2)
    Richardson     (r^2 C(h / r) - C(h)) / (r^2 - 1)       = f'(x) + O(h^4)

The differences are taken output by output before they are weighted with dout and summed, so outputs that do
not move add no rounding, and a kink in one output cannot hide behind another.

A large step errs by the curvature, a small one by rounding: against the step, on logarithmic axes, the error is a V.
Which step is at its bottom depends on the function. So slopes are measured at the 23 steps of `SWEEP`, half a decade
apart, and `plateau` takes the window where successive values agree best. How well they agree says how sure it is.

Sources: L. F. Richardson 1911; J. N. Lyness, C. B. Moler, "Numerical differentiation of analytic functions", 1967.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siamese_np.gradcheck.case import Array, Arrays, Broken, Case, Floats
from siamese_np.gradcheck.changes import Changes, Spread

RATIO = np.sqrt(10)  # of successive steps: half a decade
SWEEP = 10.0 ** -np.arange(1, 12.5, 0.5)  # 1e-1 ... 1e-12, in units of the size of the array
SINGLE_QUICK = 1e-1 / RATIO ** np.arange(2)  # the same in float32: smaller steps are lost in rounding
QUICK = 1e-4 / RATIO ** np.arange(2)  # two steps that suffice for a smooth function: error about 1e-13 after Richardson
NEGLIGIBLE = 1e-6
EPS = float(np.finfo(float).eps)
SINGLE_EPS = float(np.finfo(np.float32).eps)


@dataclass
class Estimate:
    """A slope, as well as differences can tell it."""

    value: float  # NaN where no two steps agree
    uncertainty: float  # largest error that `value` may have
    step: float  # it was measured with
    low: float  # at a kink: the interval between the slopes of both sides; else both ends are `value`
    high: float
    # "at" a kink (left and right slope differ however small the step), "near" one (they agree, but only for steps too
    # small to reach it), or ""
    kink: str
    parts: Spread  # slope of every output on its own (flat), so that value = sum(parts * dout)
    moves: Spread  # which outputs move at all
    rounding: float = 0.0  # the part of `uncertainty` that rounding is to blame for
    rough: float = 0.0  # size of the central difference at a middling step: finite also where no steps agree

    def nearest(self, slope: float) -> float:
        return min(max(slope, self.low), self.high) if self.kink == "at" else self.value


class Slopes(Changes):
    """Right and left slope of every output at a falling sequence of steps, each half a decade below the last."""

    def __init__(self, steps: Floats, size: float, eps: float, *outputs: Floats) -> None:
        super().__init__(*outputs)
        self.steps = size * steps  # (K,)
        self.size, self.eps = size, eps  # of the numbers that are moved, and relative: steps below it mean nothing

    @cached_property
    def central(self) -> Floats:
        """(K,) central differences."""
        return (self.right + self.left) @ self.dout / 2

    @property
    def richardson(self) -> Floats:
        """(K - 1,) Richardson extrapolations; entry k combines the steps k and k + 1."""
        central = self.central
        return (RATIO**2 * central[1:] - central[:-1]) / (RATIO**2 - 1)

    @cached_property
    def moves(self) -> NDArray[np.bool_]:
        """(outputs,) which outputs any of the steps moves."""
        return ((self.right != 0) | (self.left != 0)).any(axis=0)

    @cached_property
    def noise(self) -> Floats:
        """(K,) rounding error to expect of a slope: of the outputs that move, and of x + h v itself."""
        central = abs(self.central)
        slope = float(central[np.isfinite(central)].min(initial=np.inf)) if np.isfinite(central).any() else 0.0
        rounding = self.rounding
        if len(self.steps) > 2:  # two steps that differ so tell nothing in any case
            rounding = np.maximum(rounding, self._quantum)
        moving = float((rounding * abs(self.dout))[self.moves].sum())
        return 4 * (moving + self.eps * self.size * slope) / self.steps

    @property
    def _quantum(self) -> Floats:
        """(outputs,) the smallest change, where small steps move an output not at all, but larger ones both ways."""
        right, left = self.right != 0, self.left != 0
        smallest = len(self.steps) - 1 - (right | left)[::-1].argmax(axis=0)
        rounds = right.any(axis=0) & left.any(axis=0) & (smallest < len(self.steps) - 1)
        k, j = smallest[rounds], np.flatnonzero(rounds)
        quantum = np.zeros(len(self.dout))
        quantum[rounds] = np.maximum(abs(self.right[k, j]), abs(self.left[k, j])) * self.steps[k]
        return np.where(np.isfinite(quantum), quantum, 0.0)

    @property
    def hidden(self) -> float:
        """Largest slope of the outputs that no step moves: they may be rounded to where they were."""
        still = float((self.rounding * abs(self.dout))[~self.moves].sum())
        return (still + self.still) / float(self.steps[0])

    @cached_property
    def width(self) -> Floats:
        """(K,) by how much right and left slope differ, all outputs added up."""
        return abs(self.right - self.left) @ abs(self.dout)

    @cached_property
    def jump(self) -> Floats:
        """(K - 1,) `width` extrapolated to step 0, which removes what curvature does: what stays is a kink."""
        width = self.width
        return abs(RATIO * width[1:] - width[:-1]) / (RATIO - 1)

    def _estimate(
        self, value: float, uncertainty: float, k: int, parts: Floats, kink: str = "", rounding: float = 0.0
    ) -> Estimate:
        spread, step = self.spread, float(self.steps[k])
        return Estimate(value, uncertainty, step, value, value, kink, spread(parts), spread(self.moves), rounding)

    def quick(self, resolution: float, analytic: float) -> Estimate | None:
        """The slope from the first two steps, or None where they leave a doubt: kinks, no agreement, hidden outputs."""
        value, finer, rounding = float(self.richardson[0]), float(self.central[1]), float(self.noise[1])
        uncertainty = abs(value - finer) + rounding
        if not (uncertainty <= resolution and self.jump[0] <= resolution):  # NaN is a doubt too
            return None
        if not abs(value - analytic) <= resolution and (self.hidden > resolution or not self.moves.any()):
            return None
        parts = (self.right[1] + self.left[1]) / 2
        return self._estimate(value, uncertainty, 1, parts, rounding=rounding)

    def estimate(self, resolution: float, widths: tuple[int, ...] = (3, 2)) -> Estimate:
        """The slope from all steps, of which `widths` must agree; sides that differ by `resolution` are a kink."""
        rich, noise, jump = self.richardson, self.noise[1:], self.jump
        moved = ((self.right != 0) | (self.left != 0)).any(axis=1)
        # a step that moves nothing, where larger ones do on both sides, is below the last digit
        flat = not (self.right.any() and self.left.any())
        usable = np.isfinite(rich) & np.isfinite(jump) & (moved[1:] | flat)
        lasting = self._lasting_kink(usable, resolution)
        if lasting is not None:
            return self._both_sides(usable & (np.arange(len(usable)) <= lasting), widths)
        clean = usable & (jump <= resolution + 4 * noise)
        value, uncertainty, k = plateau(rich, noise, clean, widths)
        # far faster than curvature lets them, the two sides stop differing from one step to the next
        width = self.width
        drop = (width[1:] < width[:-1] / 50) & (width[:-1] > resolution + 4 * noise)
        drop &= self.steps[1:] <= 1e-3 * self.size
        parts = (self.right[k + 1] + self.left[k + 1]) / 2
        kink, rounding = "near" if drop.any() else "", float(noise[k]) + self.hidden
        return self._estimate(value, uncertainty + self.hidden, k + 1, parts, kink, rounding)

    def _lasting_kink(self, usable: NDArray[np.bool_], resolution: float) -> int | None:
        """The smallest step at which a kink at the point itself stands out from rounding; None without one.

        The jump is then the same at the last steps that can show it. Beside a kink, it vanishes at some of them.
        """
        jump, noise = self.jump, self.noise[1:]
        strong = np.flatnonzero(usable & (jump > resolution) & (jump > 16 * noise))
        if not len(strong):
            return None
        k = int(strong[-1])
        vanishes = (usable & (64 * noise <= jump[k]))[k + 1 :].any()
        last = jump[max(k - 2, 0) : k + 1]
        return k if len(strong) > 1 and not vanishes and last.max() <= 3 * last.min() else None

    def _both_sides(self, usable: NDArray[np.bool_], widths: tuple[int, ...]) -> Estimate:
        """At a kink: the interval between the extrapolated slopes of both sides, output by output."""
        sides = [(RATIO * s[1:] - s[:-1]) / (RATIO - 1) for s in (self.right, self.left)]
        right, uncertainty_right, k = plateau(sides[0] @ self.dout, 2 * self.noise[1:], usable, widths)
        left, uncertainty_left, m = plateau(sides[1] @ self.dout, 2 * self.noise[1:], usable, widths)
        ends = np.stack([sides[0][k] * self.dout, sides[1][m] * self.dout])
        parts = (sides[0][k] + sides[1][m]) / 2
        estimate = self._estimate((right + left) / 2, uncertainty_right + uncertainty_left, k + 1, parts, "at")
        estimate.low, estimate.high = float(ends.min(axis=0).sum()), float(ends.max(axis=0).sum())
        return estimate


def plateau(
    values: Floats, noise: Floats, usable: NDArray[np.bool_], widths: tuple[int, ...]
) -> tuple[float, float, int]:
    """The window of neighbours that agree best: its middle value, how sure, and where.

    Its length is the first of `widths` for which there is a window. The uncertainty is what its values differ
    by, plus the rounding error to expect of them, or what smaller steps differ by beyond theirs: large steps across a
    fast oscillation may agree by chance. It is infinite where there is no window of any of these lengths.
    """
    best = (np.nan, np.inf, int(np.argmax(usable)))
    for width in widths:
        for start in range(len(values) - width + 1):
            if usable[start : start + width].all():
                middle, end = start + width // 2, start + width
                smaller = np.flatnonzero(usable[end:]) + end
                off = abs(values[smaller] - values[middle]) - 4 * noise[smaller]
                uncertainty = max(float(np.ptp(values[start:end]) + noise[middle]), float(off.max(initial=0)))
                if uncertainty < best[1]:
                    best = (float(values[middle]), uncertainty, middle)
        if best[1] < np.inf:
            break
    return best


def differences(
    case: Case,
    direction: Arrays,
    out: Array,
    dout: Array,
    steps: Floats,
    size: float,
    rounding: Floats | None = None,
    eps: float = EPS,
) -> Slopes:
    """Slopes of `case` along `direction` (arrays to add, by name) at `steps` times `size`; `rounding` is of outputs."""
    # the index of the entries that move, where they are few; else of all
    touched: dict[str, Any] = {
        name: np.nonzero(v) if v.ndim and 8 * np.count_nonzero(v) < v.size else ... for name, v in direction.items()
    }
    saved = {name: case.arrays[name][touched[name]].copy() for name in direction}
    along = {name: v[touched[name]] for name, v in direction.items()}

    def moved(h: float) -> Floats:
        for name, v in along.items():
            if touched[name] is ...:  # without arrays in between
                np.multiply(v, h, out=case.arrays[name])
                case.arrays[name] += saved[name]
            else:
                case.arrays[name][touched[name]] = saved[name] + h * v
        try:
            output = np.array(case.run()[0], float)
        except Broken:  # such a step leaves the domain: it tells nothing
            return np.full(out.shape, np.nan)
        if output.shape != out.shape:
            raise Broken(f"the shape of the output changes with the numbers: {out.shape}, then {output.shape}")
        return output

    rounding = np.asarray(EPS * abs(out).ravel(), float) if rounding is None else rounding
    slopes = Slopes(steps, size, eps, out, dout, rounding)
    try:
        for h in slopes.steps:
            with np.errstate(all="ignore"):
                slopes.add(moved(h), moved(-h), h)
    finally:
        for name, array in saved.items():
            case.arrays[name][touched[name]] = array
    slopes.finish()
    return slopes


def typical_sizes(arrays: Arrays) -> dict[str, float]:
    """The root mean square of each array; one of zeros, or next to it, counts as large as the largest of all."""
    sizes = {name: float(np.sqrt(np.mean(np.square(a)))) if a.size else 0.0 for name, a in arrays.items()}
    largest = max(sizes.values(), default=0.0) or 1.0
    return {name: size if size > NEGLIGIBLE * largest else largest for name, size in sizes.items()}
