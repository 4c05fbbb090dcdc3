"""A case at its point: outputs, gradients, and how slopes are measured and compared there."""

from dataclasses import dataclass, field

import numpy as np

from siamese_np.gradcheck import measure
from siamese_np.gradcheck.case import FAIL, INCONCLUSIVE, Array, Arrays, Case
from siamese_np.gradcheck.differences import QUICK, SINGLE_QUICK, SWEEP, Estimate, Slopes, differences, typical_sizes
from siamese_np.gradcheck.noise import measured_noise
from siamese_np.gradcheck.report import Entry

SAME_BITS = 1e-12  # relative: two ways to compute one number in float64

Index = tuple[int, ...]


@dataclass
class Point:
    """A case at its point."""

    case: Case
    out: Array
    dout: Array  # weights of the outputs in the loss
    gradients: Arrays  # as backward returned them
    tolerance: float
    convention: Arrays | None = None  # the declared gradients at kinks
    signature: Array | None = None
    estimates: dict[str, dict[Index, Estimate]] = field(default_factory=dict)  # what was measured, by array and entry
    exact: Arrays = field(default_factory=dict)  # the gradients by the complex step, where it was taken
    beside: list[tuple[Arrays, Arrays]] | None = None  # gradients next to the point, for kinks of a composition
    to_move: list[str] = field(default_factory=list)  # the arrays that leave those kinks behind

    def __post_init__(self) -> None:
        self.eps = float(np.finfo(self.out.dtype).eps)
        # outputs or gradients are float32
        self.single = any(array.dtype == np.float32 for array in (self.out, *self.gradients.values()))
        self.out = self.out.astype(np.float64)
        self.gradients = {name: gradient.astype(np.float64) for name, gradient in self.gradients.items()}
        self.tolerance = max(self.tolerance, measure.SINGLE_TOLERANCE if self.single else 0.0)
        self.enough = max(self.tolerance, measure.SINGLE_ENOUGH if self.single else 0.0)  # largest uncertainty
        self.quick = SINGLE_QUICK if self.single else QUICK
        self.sizes = typical_sizes(self.case.arrays)
        measured = measured_noise(self.case, self.sizes, self.out, np.random.default_rng(0))
        self.rounding = np.maximum(measured, np.maximum(self.eps * abs(self.out).ravel(), measure.SMALLEST))
        # slopes that move the loss by no more than its last digits are 0 as far as anyone can tell
        moves = [float(abs(g).max(initial=0)) * self.sizes[name] for name, g in self.gradients.items()]
        self.level = max([float((self.rounding * abs(self.dout).ravel()).sum()) / np.finfo(float).eps, *moves])
        self.floors = {name: measure.ROUNDING * self.level / size for name, size in self.sizes.items()}

    def size(self, direction: Arrays) -> float:
        moving = [abs(self.case.arrays[name][v != 0]).max(initial=0) for name, v in direction.items()]
        return float(max([*moving, *(self.sizes[name] for name in direction)]))

    def slopes(self, direction: Arrays, steps: Array = SWEEP) -> Slopes:
        size = self.size(direction)
        return differences(self.case, direction, self.out, self.dout, steps, size, self.rounding, self.eps)

    def estimate(self, direction: Arrays, resolution: float, analytic: float) -> Estimate:
        """The slope from two steps where they suffice, else from all; kinks also from the branch signature."""
        quick = self.slopes(direction, self.quick)
        estimate = quick.quick(resolution, analytic) or self.slopes(direction).estimate(resolution)
        estimate.rough = float(abs(quick.central).max())
        if estimate.kink != "at" and self._branches_change(direction, SWEEP[-1]):
            estimate.kink = "at"  # one that the slopes pass smoothly, as the hinge does at its margin
        elif not estimate.kink and self._branches_change(direction, self.quick[0]):
            estimate.kink = "near"
        return estimate

    def _branches_change(self, direction: Arrays, step: float) -> bool:
        """Whether a step along `direction`, either way, takes an element into another branch."""
        signature, arrays = self.case.signature, self.case.arrays
        if signature is None:
            return False
        h = step * self.size(direction)
        moved = [{**arrays, **{n: arrays[n] + s * h * v for n, v in direction.items()}} for s in (1, -1)]
        return any(bool((signature(arrays) != self.signature).any()) for arrays in moved)

    def along(self, direction: Arrays) -> float:
        """What the gradients say the slope along `direction` is."""
        return float(sum((self.gradients[name] * v).sum() for name, v in direction.items()))

    def check_direction(self, name: str, label: str, direction: Arrays) -> tuple[Entry, Slopes]:
        """Compare the slope along a direction. Its scale is the norm of the gradients that it touches.

        Where it touches few entries of an array, they count as if they were as large as the largest.
        """
        parts = []
        for n, v in direction.items():
            g = self.gradients[n]
            as_largest = min(float(np.linalg.norm(v)) * float(abs(g).max(initial=0)), measure.norm(g))
            parts.append(max(measure.norm(g * v), as_largest, self.floors[n]))
        norm = measure.norm(np.array(parts))
        slopes = self.slopes(direction)
        seen = abs(slopes.central)
        largest = float(seen[np.isfinite(seen)].max(initial=0))
        estimate = slopes.estimate(self.enough * max(norm, largest))
        return self.compare(name, label, self.along(direction), estimate, norm / measure.FLOOR), slopes

    def compare(self, name: str, index: Index | str, analytic: float, estimate: Estimate, scale: float) -> Entry:
        verdict, wrong = measure.evaluate(analytic, estimate, scale, self.tolerance, self.enough)
        entry = Entry(name, index, analytic, estimate.value, estimate.step, wrong, verdict, estimate.kink)
        if estimate.kink == "at":
            entry.low, entry.high = estimate.low, estimate.high
            if verdict == FAIL:
                entry.remark = "outside the slopes of both sides of a kink"
        if verdict == INCONCLUSIVE:
            entry.doubt = measure.doubt(analytic, estimate, scale)
            entry.remark = measure.why(estimate, entry.doubt, self.enough)
        return entry


def signs(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return rng.choice([-1.0, 1.0], shape)


def signed(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Entries of random sign, between a half and one and a half in size."""
    return rng.uniform(0.5, 1.5, shape) * signs(rng, shape)


def index_of(flat: int, shape: tuple[int, ...]) -> Index:
    return tuple(int(i) for i in np.unravel_index(flat, shape))


def one(array: Array, index: Index | str) -> Array:
    """The direction along one entry."""
    direction = np.zeros_like(array)
    direction[index] = 1
    return direction
