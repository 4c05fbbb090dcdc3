"""What a wrong gradient looks like: the likely cause, by trying which simple mistake reproduces it.

Each function below tries one kind of mistake on the measured slopes and returns a sentence if the result is the
gradient that backward returned. The slope of every output on its own is known from the differences, so a lost
half of a batch or a forgotten dout can be tried as well.
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from siamese_np.gradcheck.case import FAIL, Array, Broken
from siamese_np.gradcheck.differences import QUICK, differences
from siamese_np.gradcheck.entries import Point, signs
from siamese_np.gradcheck.measure import FLOOR
from siamese_np.gradcheck.report import ArrayResult

ALIKE = 1e-6  # relative to the largest slope
SLIGHT = 2e-3
MAX_ENTRIES = 3000  # above that, arrays are not turned and shifted


@dataclass
class Evidence:
    """The checked entries of one array: what backward said and what was measured, away from kinks."""

    point: Point
    name: str

    def __post_init__(self) -> None:
        found = self.point.estimates[self.name]
        self.indices = [index for index, e in found.items() if e.kink != "at" and np.isfinite(e.value)]
        gradient = self.point.gradients[self.name]
        self.analytic = np.array([gradient[index] for index in self.indices])
        self.numeric = np.array([found[index].value for index in self.indices])
        self.scale = max(abs(self.analytic).max(initial=0), abs(self.numeric).max(initial=0))
        self.wrong = abs(self.analytic - self.numeric) > self.point.tolerance * np.maximum(
            FLOOR * self.scale, np.maximum(abs(self.analytic), abs(self.numeric))
        )
        self.full = len(found) == gradient.size

    def count(self, what: str = "entries") -> str:
        """How many are wrong."""
        return f"{int(self.wrong.sum())} of {len(self.wrong)} {what}"

    def explains(self, guess: Array) -> bool:
        """Whether `guess`, in place of the numeric slopes, is what backward returned."""
        size = max(abs(self.analytic).max(initial=0), abs(guess).max(initial=0))
        return bool((abs(self.analytic - guess) <= ALIKE * size).all())

    def at(self, array: Array) -> Array:
        """The checked entries of an array of the full shape."""
        return np.array([array[index] for index in self.indices])

    @cached_property
    def measured(self) -> Array:
        """The numeric gradient in its shape; entries at kinks as backward gave them."""
        full = self.point.gradients[self.name].copy()
        for index, value in zip(self.indices, self.numeric, strict=True):
            full[index] = value
        return full

    @cached_property
    def jacobian(self) -> Array:
        """(checked entries, outputs) slopes of each output."""
        found = self.point.estimates[self.name]
        return np.array([found[index].parts for index in self.indices])


def hint(point: Point, result: ArrayResult) -> str:
    """A sentence on the likely cause of a wrong gradient."""
    evidence = Evidence(point, result.name)
    if not evidence.wrong.any():
        return _kinks(result)
    for cause in CAUSES:
        sentence = cause(evidence)
        if sentence:
            return sentence
    return f"no simple cause fits: {evidence.count('checked entries')} are wrong"


def _kinks(result: ArrayResult) -> str:
    if any(entry.kink == "at" and entry.verdict == FAIL for entry in result.worst):
        return "only entries at a kink are wrong: look at what happens at equality (> or >=, which of a tie wins)"
    if any(entry.verdict == FAIL and not isinstance(entry.index, str) for entry in result.worst):
        return "only entries much smaller than the largest of the array are wrong: look at what sets them apart"
    return "no checked entry is wrong, only directions through all of them: a few entries elsewhere are wrong"


def _factor(e: Evidence) -> str | None:
    if not e.analytic.any():
        return "backward left it at 0: its gradient is never written"
    if not e.numeric.any():
        return "the output does not move with it (is a copy read, or a number rounded?), so its gradient must be 0"
    r = float(e.analytic @ e.numeric / (e.numeric @ e.numeric))
    if not e.explains(r * e.numeric):
        return None
    if abs(r + 1) < ALIKE:
        return "every entry has the wrong sign"
    for k, what in _sizes(e):
        for factor, word in ((1 / k, "divided"), (k, "multiplied")):
            for sign, also in ((1, ""), (-1, ", and the sign is wrong")):
                if abs(r - sign * factor) < ALIKE * factor:
                    return f"every entry is {word} by {k}, {what}{also}"
    return f"every entry is {r:.6g} times what it should be: a constant factor"


def _sizes(e: Evidence) -> Iterator[tuple[int, str]]:
    """Numbers that are easily left out or put in, and what each would mean."""
    shape = e.point.out.shape
    yield 2, "a factor 2 is missing or too many"
    for batch in (shape, *(e.point.case.arrays[name].shape for name in e.point.case.inputs)):
        if batch and batch[0] > 2:
            yield batch[0], "the batch size N (1/N: a mean taken for a sum, or a sum for a mean)"
    if len(shape) > 2:
        yield int(np.prod(shape[:-1])), "the number of output pixels (1/N: a mean taken for a sum)"
    yield e.point.out.size, "the number of outputs (1/N: a mean taken for a sum)"
    for axis, length in enumerate(e.point.case.arrays[e.name].shape):
        if length > 2:
            yield length, f"the length of its axis {axis} (1/N: a mean taken for a sum)"


def _slight(e: Evidence) -> str | None:
    off = float(abs(e.analytic - e.numeric).max() / e.scale)
    sentence = f"all are off by little, {off:.1g} of the largest: an epsilon, or a constant with too few digits"
    return sentence if off < SLIGHT and e.wrong.sum() > 1 else None


def _dout(e: Evidence) -> str | None:
    dout, out = e.point.dout.ravel(), e.point.out.ravel()
    with np.errstate(all="ignore"):
        tried = (
            (np.ones(dout.size), "as if dout were all ones: dout is not used"),
            (abs(dout), "as if dout were positive: its sign is lost"),
            (dout**2, "as if dout were squared: it is used twice"),
            (dout * out, "multiplied by the output: a factor of the chain rule is missing or too many"),
            (dout / out, "divided by the output: a factor of the chain rule is missing or too many"),
            (2 * dout * out, "as if the output were squared: a square root is forgotten"),
            (dout / (1 - out**2), "divided by 1 - out^2: the derivative of tanh is missing"),
            (dout / (out * (1 - out)), "divided by out (1 - out): the derivative of the sigmoid is missing"),
        )
    for weights, what in tried:
        if np.isfinite(weights).all() and e.explains(e.jacobian @ weights):
            return f"the gradient is {what}"
    gradient = e.point.gradients[e.name]
    for axes in _subsets(e.point.dout.ndim):
        summed = e.point.dout.sum(axis=axes)
        if summed.shape == gradient.shape and np.allclose(summed, gradient, rtol=ALIKE, atol=0):
            return f"the gradient is dout summed along axes {axes}: the wrong axis"
    return None


def _subsets(ndim: int) -> Iterator[tuple[int, ...]]:
    """Every choice of one axis or more."""
    return itertools.chain.from_iterable(itertools.combinations(range(ndim), count + 1) for count in range(ndim))


def _turned(e: Evidence) -> str | None:
    measured, shape = e.measured, e.measured.shape
    if not e.full or measured.size > MAX_ENTRIES:
        return None
    for what, other in _variants(measured):
        if e.explains(e.at(other)):
            return f"the gradient is {what}"
    if measured.ndim == 4:
        inner = np.array([0 < i[1] < shape[1] - 1 and 0 < i[2] < shape[2] - 1 for i in e.indices])
        for pixels in itertools.product((-1, 0, 1), repeat=2):
            shifted = e.at(np.roll(measured, pixels, (1, 2)))
            if any(pixels) and inner.any() and (abs(e.analytic - shifted)[inner] <= ALIKE * e.scale).all():
                return f"the gradient is shifted by {pixels} pixels: padding is off"
    return None


def _variants(array: Array) -> Iterator[tuple[str, Array]]:
    """`array` turned, shifted or cut, as plausible mistakes do it, and the word for each."""
    axes = range(array.ndim)
    for order in itertools.permutations(axes) if array.ndim <= 4 else ():
        if order != tuple(axes):  # also where only the memory was turned, and the shape kept
            yield f"transposed: its axes are in the order {order}", array.transpose(order).reshape(array.shape)
    kernel = " (a flipped kernel)" if array.ndim == 4 else ""
    for flipped in _subsets(array.ndim):
        yield f"flipped along axes {flipped}{kernel}", np.flip(array, flipped)
    for axis, by in ((axis, by) for axis in axes for by in (1, -1, 2, -2) if abs(by) < array.shape[axis]):
        edge = (slice(None),) * axis + (slice(0, by) if by > 0 else slice(by, None),)
        moved, cut, zero = np.roll(array, by, axis), np.roll(array, by, axis), array.copy()
        cut[edge] = zero[edge] = 0
        for shifted in (moved, cut):
            yield f"shifted by {by} along axis {axis}: padding or stride is off", shifted
        if abs(by) == 1:
            yield f"zero in the {'first' if by > 0 else 'last'} of its axis {axis}: a loop leaves it out", zero


def _lost_outputs(e: Evidence) -> str | None:
    """A part of the outputs that is left out, or the only one that counts, or counted twice."""
    for axis, length in enumerate(e.point.out.shape):
        name = "batch" if axis == 0 else f"output axis {axis}"
        parts = {"first": slice(0, 1), "last": slice(-1, None)}
        if length > 1 and length % 2 == 0:
            parts = {"first half": slice(0, length // 2), "second half": slice(length // 2, None), **parts}
        for what, part in parts.items() if length > 1 else ():
            kept = np.zeros(e.point.dout.shape)
            kept[(slice(None),) * axis + (part,)] = 1
            branch = ": one branch is lost" if "half" in what else ""
            tried = [(1 - kept, "is lost" + branch), (1 + kept, "counts twice")]
            if not branch:  # else it is the other half that is lost
                tried.append((kept, "alone counts: = for +=, or a loop that ends too early"))
            for weights, sentence in tried:
                if e.explains(e.jacobian @ (e.point.dout * weights).ravel()):
                    return f"the {what} of the {name} {sentence}"
    return None


def _overwritten(e: Evidence) -> str | None:
    """Where several outputs meet in one entry, whether only one of them arrives."""
    shares = e.jacobian[e.wrong] * e.point.dout.ravel()
    arrived = abs(shares - e.analytic[e.wrong][:, None]) <= ALIKE * e.scale
    one_of_several = ((shares != 0).sum(axis=1) > 1).all() and (arrived & (shares != 0)).any(axis=1).all()
    return "where several outputs meet in one entry, only one of them arrives: = for +=" if one_of_several else None


def _extra(e: Evidence) -> str | None:
    """A multiple of the array itself in its gradient."""
    values, extra = e.at(e.point.case.arrays[e.name]), e.analytic - e.numeric
    if values.any() and len(values) > 2:
        c = float(extra @ values / (values @ values))
        if e.explains(e.numeric + c * values):
            return f"{c:.4g} times {e.name} itself is added to its gradient, as by weight decay"
    return None


def _as_if(e: Evidence) -> str | None:
    """Whether the gradient would be correct if another array were turned, shifted or cut."""
    for name, array in e.point.case.arrays.items():
        for what, other in _variants(array) if name != e.name and array.size <= MAX_ENTRIES else ():
            if not np.array_equal(other, array) and _correct_with(e, name, other, e.point.gradients[e.name]):
                return f"the gradient is as if {name} were {what}"
    return None


def _lost_input(e: Evidence) -> str | None:
    """Which other array the fault comes through: where that is 0, the gradient is correct."""
    case = e.point.case
    for name, array in case.arrays.items():
        if name != e.name and array.any() and _correct_with(e, name, np.zeros_like(array), None):
            return f"it is correct where {name} is 0: the part that comes through {name} is lost or wrong"
    return None


def _correct_with(e: Evidence, name: str, value: Array, gradient: Array | None) -> bool:
    """Whether `gradient` (by default that of backward) is correct along two directions once `name` has this value."""
    case, rng = e.point.case, np.random.default_rng(0)
    kept = case.arrays[name].copy()
    try:
        case.arrays[name][...] = value
        out, cache = case.run()
        out = out.copy()
        if gradient is None:
            gradient = case.gradients(e.point.dout, cache)[e.name]
        norm = float(np.linalg.norm(gradient))
        for _ in range(2):
            v = signs(rng, gradient.shape)
            slopes = differences(case, {e.name: v}, out, e.point.dout, QUICK, e.point.sizes[e.name])
            if not (norm > 0 and abs(slopes.richardson[0] - (gradient * v).sum()) <= ALIKE * norm):
                return False
        return True
    except Broken:
        return False
    finally:
        case.arrays[name][...] = kept


def _branch(e: Evidence) -> str | None:
    """Whether all wrong entries take one branch that no correct entry takes."""
    signature = e.point.signature
    if signature is None or signature.shape != e.point.case.arrays[e.name].shape:
        return None
    taken = e.at(signature)
    wrong, correct = set(taken[e.wrong]), set(taken[~e.wrong])
    if len(wrong) == 1 and not wrong & correct:
        name = e.point.case.branches.get(int(next(iter(wrong))), "one branch")
        return f"exactly the entries in the branch '{name}' are wrong: its condition or its formula{_how(e)}"
    return None


def _how(e: Evidence) -> str:
    """In which way the wrong entries are wrong, if all in the same."""
    if not e.numeric[e.wrong].any():
        return "; they should get no gradient"
    if not e.analytic[e.wrong].any():
        return "; they get no gradient"
    with np.errstate(all="ignore"):
        ratio = e.analytic[e.wrong] / e.numeric[e.wrong]
    if np.ptp(ratio) > ALIKE * abs(ratio).max():
        return ""
    wrong_sign = abs(ratio[0] + 1) < ALIKE
    return "; they have the wrong sign" if wrong_sign else f"; they are {ratio[0]:.4g} times what they should be"


def _mask(e: Evidence) -> str | None:
    """Gradient where none should be, or none where one should."""
    some = e.count()
    extra, missing = e.wrong & (e.numeric == 0), e.wrong & (e.analytic == 0)
    if extra[e.wrong].all():
        return f"{some} should get no gradient but do: a mask or a condition is missing"
    if missing[e.wrong].all():
        return f"{some} get no gradient but should: part of the sum is left out, or a mask is wrong"
    if np.array_equal(e.analytic != 0, e.numeric == 0):
        return "exactly the wrong entries get a gradient: the mask or its condition is inverted"
    if (extra | missing)[e.wrong].all():
        return f"the gradient goes to the wrong entries ({some}): a mask of the wrong array, or the wrong maximum"
    if extra.any() and abs(e.analytic.sum() - e.numeric.sum()) <= ALIKE * abs(e.numeric).sum():
        return "the total is right, but part of it goes to entries that should get nothing: a wrong index or maximum"
    return None


def _some_alike(e: Evidence) -> str | None:
    how = _how(e)
    return f"{e.count()} are wrong{how}" if how and not e.wrong.all() else None


def _single(e: Evidence) -> str | None:
    if e.wrong.sum() == 1 < len(e.wrong):
        k = int(e.wrong.argmax())
        said, measured = e.analytic[k], e.numeric[k]
        return f"a single entry is wrong, {list(e.indices[k])}: it is {said:.8g} and should be {measured:.8g}"
    return None


def _place(e: Evidence) -> str | None:
    """What the places of the wrong entries have in common."""
    places = np.array([index for index, wrong in zip(e.indices, e.wrong, strict=True) if wrong])
    shape = e.point.case.arrays[e.name].shape
    for axis, length in enumerate(shape):
        if length > 1 and np.ptp(places[:, axis]) == 0:
            return f"all wrong entries have the index {places[0, axis]} in axis {axis}{_how(e)}"
    if len(shape) == 4:
        edge = [(places[:, axis] == 0) | (places[:, axis] == shape[axis] - 1) for axis in (1, 2)]
        if (edge[0] | edge[1]).all() and min(shape[1:3]) > 2:
            return "only entries at the edge of the image are wrong: padding"
    return None


CAUSES: tuple[Callable[[Evidence], str | None], ...] = (
    _single, _slight, _factor, _dout, _branch, _lost_outputs, _turned, _extra, _as_if, _lost_input, _overwritten,
    _place, _mask, _some_alike,
)  # fmt: skip
