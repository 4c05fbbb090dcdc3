"""What a wrong gradient looks like: the likely cause, by trying which simple mistake reproduces it.

Each cause below makes guesses: what backward would have returned had it made one mistake, and the sentence that names
it. The first guess that is the gradient which backward returned is the hint. The slope of every output on its own is
known from the differences, so a lost half of a batch or a forgotten dout can be tried as well. A guess of None needs
no comparison: its sentence only says what is seen.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from siamese_np.gradcheck import formulas
from siamese_np.gradcheck.case import FAIL, Array, Broken
from siamese_np.gradcheck.evidence import ALIKE, CLOSER, Evidence, spread
from siamese_np.gradcheck.formulas import Guesses, reading, subsets
from siamese_np.gradcheck.measure import TINY
from siamese_np.gradcheck.point import Point, signs
from siamese_np.gradcheck.report import ArrayResult

SLIGHT = 2e-3
MAX_ENTRIES = 3000  # above that, arrays are not turned and shifted
MAX_SHARES = 4_000_000  # of outputs in entries; above that, it is not asked which of them arrive

Cause = Callable[[Evidence], Guesses]


def hint(point: Point, result: ArrayResult) -> str:
    """A sentence on the likely cause of a wrong gradient."""
    evidence = Evidence(point, result.name)
    if not evidence.wrong.any():
        return _kinks(result)
    return _first(evidence, CAUSES) or f"no simple cause fits: {evidence.count('checked entries')} are wrong"


def _first(e: Evidence, causes: Sequence[Cause]) -> str | None:
    """The sentence of the first guess that fits."""
    guesses = itertools.chain.from_iterable(cause(e) for cause in causes)
    return next((sentence for guess, sentence in guesses if guess is None or e.explains(guess)), None)


def _kinks(result: ArrayResult) -> str:
    if any(entry.kink == "at" and entry.verdict == FAIL for entry in result.worst):
        return "only entries at a kink are wrong: look at what happens at equality (> or >=, which of a tie wins)"
    if any(entry.verdict == FAIL and not isinstance(entry.index, str) for entry in result.worst):
        return "only entries much smaller than the largest of the array are wrong: look at what sets them apart"
    return "no checked entry is wrong, only directions through all of them: a few entries elsewhere are wrong"


# --- every entry, in the same way -------------------------------------------------------------------------


def _zero(e: Evidence) -> Guesses:
    if not e.analytic.any():
        yield None, "backward left it at 0: its gradient is never written"
    if not e.numeric.any() and len(e.indices) == len(e.point.estimates[e.name]):  # at kinks it may
        yield None, "the output does not move with it (is a copy read, or a number rounded?), so its gradient must be 0"


def _unused_dout(e: Evidence) -> Guesses:
    """Where another dout gives the same gradient, and what else is then wrong."""
    if e.dout is None and np.array_equal(_with_dout(e, -2.0), e.point.gradients[e.name]):
        ones = np.ones(e.point.dout.size)
        right = "right for dout = 1, but" if ones.size == 1 else "as if dout were all ones:"
        yield e.jacobian @ ones, f"the gradient is {right} dout is not used"
        more = _first(Evidence(e.point, e.name, ones), CAUSES)
        yield None, f"dout is not used{'; besides, ' + more if more else ''}"


def _with_dout(e: Evidence, factor: float) -> Array:
    """What backward returns for so many times dout; NaN where it breaks."""
    try:
        return e.point.case.gradients(factor * e.point.dout, e.point.case.run()[1])[e.name]
    except Broken:
        return np.full(e.shape, np.nan)


def _other_gradient(e: Evidence) -> Guesses:
    """The gradient of another array of the same shape."""
    for name in (name for name, array in e.others.items() if array.shape == e.shape and e.full):
        other = Evidence(e.point, name)
        theirs, what = e.at(other.measured), f"it is the gradient of {name}"
        opposite = e.measures(-theirs)
        if other.wrong.any() and other.explains(other.at(e.measured)):
            more = ", or both have the wrong sign" if opposite else ""
            yield theirs, f"{what}: they are returned in the wrong order{more}"
        yield theirs, f"every entry has the wrong sign: {what}, and not its opposite" if opposite else what


def _factor(e: Evidence) -> Guesses:
    if abs(e.ratio + 1) < ALIKE:
        yield -e.numeric, "every entry has the wrong sign"
    elif what := reading(e, max(abs(e.ratio), 1 / abs(e.ratio))):
        word, sign = "multiplied" if abs(e.ratio) > 1 else "divided", ", and the sign is wrong" if e.ratio < 0 else ""
        yield e.ratio * e.numeric, f"every entry is {word} by {what}{sign}"


def _constant(e: Evidence) -> Guesses:
    if len(e.wrong) > 1:
        what = f"{e.ratio:.6g} times what it should be: a constant factor (a scale, a temperature, a weight)"
        yield e.ratio * e.numeric, f"every entry is {what}"


def _dout(e: Evidence) -> Guesses:
    dout, out = e.weights, e.point.out.ravel()
    tried = [
        (np.ones(dout.size), "as if dout were all ones: dout is not used"),
        (abs(dout), "as if dout were positive: its sign is lost"),
        (dout**2, "as if dout were squared: it is used twice"),
        (dout * out, "multiplied by the output: a factor of the chain rule is missing or too many"),
        (dout / out, "divided by the output: a factor of the chain rule is missing or too many"),
        (2 * dout * out, "as if the output were squared: a square root is forgotten"),
        *((dout * factor.ravel(), what) for factor, what in formulas.slopes(e)),
    ]
    yield from (
        (e.jacobian @ weights, f"the gradient is {what}") for weights, what in tried if np.isfinite(weights).all()
    )
    for axes in subsets(e.point.dout.ndim):
        summed = e.weights.reshape(e.point.dout.shape).sum(axis=axes)
        if summed.shape == e.shape:
            yield e.at(summed), f"the gradient is dout summed along axes {axes}: the wrong axis"
    powers = {"divided by": -1, "multiplied by": 1, "twice divided by": -2, "twice multiplied by": 2}
    for (name, array), (word, power) in itertools.product(e.point.case.arrays.items(), powers.items()):
        wide = spread(array, e.point.out.shape)
        if wide is not None and np.isfinite(weights := dout * wide.ravel() ** power).all():
            what = f"the gradient is {word} {name}: a factor {name} is missing or too many"
            yield e.jacobian @ weights, what


def _slight(e: Evidence) -> Guesses:
    moving = (e.numeric != 0) | (e.analytic != 0)
    if e.off < SLIGHT * e.scale and e.wrong.sum() > max(1, moving.sum() / 2):
        off = f"{e.off / e.scale:.1g}"
        yield None, f"all are off by little, {off} of the largest: an epsilon, or a constant with too few digits"


# --- outputs that do not arrive ---------------------------------------------------------------------------


def _same_index(e: Evidence) -> Guesses:
    """Of the outputs that an entry reaches, only those count that have its index along an axis, or a later one ..."""
    if e.jacobian.size > MAX_SHARES:
        return
    places, shares = e.places, e.jacobian * e.weights
    outputs = np.array(list(np.ndindex(e.point.out.shape))).T
    pairs = itertools.product(range(len(e.shape)), range(len(outputs)))
    for axis, of_out in sorted(pairs, key=lambda pair: abs(pair[0] - pair[1])):
        if e.shape[axis] == e.point.out.shape[of_out] > 1:
            lag = outputs[of_out] - places[:, axis, None]
            causal = not shares[lag < 0].any()
            rest = "what comes back from later steps" if causal else "what goes through the other outputs"
            for kept, what in (
                (lag == 0, f"only the output of the same index counts, the diagonal: {rest} is missing"),
                ((lag == 0) | (lag == 1) | (not causal), f"only the next step counts: {rest} is missing"),
                (lag != 0, "the output of the same index, the diagonal, is missing"),
            ):
                yield (shares * kept).sum(axis=1), f"along axis {axis}, {what}"


def _lost_outputs(e: Evidence) -> Guesses:
    """A part of the outputs that is left out, or the only one that counts, or counted twice."""
    if not e.wrong[e.numeric != 0].all():  # an index that occurs twice, where the others are correct
        yield from _overwritten(e)
    for axis, length in enumerate(e.point.out.shape):
        name = "batch" if axis == 0 else f"output axis {axis}"
        half = length // 2
        parts = {"first half": slice(half), "second half": slice(half, None)} if length % 2 == 0 else {}
        parts |= {"first": slice(1), "last": slice(-1, None)}
        for what, part in parts.items() if length > 1 else ():
            kept = np.zeros(e.point.dout.shape)
            kept[(slice(None),) * axis + (part,)] = 1
            tried = [(1 - kept, "is lost"), (1 + kept, "counts twice")]
            tried += [(kept, "alone counts: = for +=, or a loop that ends too early")]
            if "half" in what:  # if one alone counts, it is the other that is lost
                tried = [(1 - kept, "is lost: one branch is lost"), tried[1]]
            for weights, sentence in tried:
                yield e.jacobian @ (e.weights * weights.ravel()), f"the {what} of the {name} {sentence}"


def _overwritten(e: Evidence) -> Guesses:
    """Where several outputs meet in one entry, whether only one of them arrives."""
    shares = e.jacobian[e.wrong] * e.weights
    arrived = abs(shares - e.analytic[e.wrong][:, None]) <= min(ALIKE * e.scale, CLOSER * e.off)
    if ((shares != 0).sum(axis=1) > 1).all() and (arrived & (shares != 0)).any(axis=1).all():
        yield None, "where several outputs meet in one entry, only one of them arrives: = for +=, or a slice for a sum"


def _single(e: Evidence) -> Guesses:
    if e.wrong.sum() == 1 < len(e.wrong):
        yield from _overwritten(e)
        k = int(e.wrong.argmax())
        said, measured = e.analytic[k], e.numeric[k]
        yield None, f"a single entry is wrong, {list(e.indices[k])}: it is {said:.8g} and should be {measured:.8g}"


# --- arrays that are turned, added, or taken for others ---------------------------------------------------


def _turned(e: Evidence) -> Guesses:
    measured, shape = e.measured, e.shape
    if not e.full or measured.size > MAX_ENTRIES:
        return
    for what, other in _variants(measured):
        yield e.at(other), f"the gradient is {what}"
    if measured.ndim == 4:
        inner = np.array([0 < i[1] < shape[1] - 1 and 0 < i[2] < shape[2] - 1 for i in e.indices])
        for pixels in itertools.product((-1, 0, 1), repeat=2):
            if any(pixels) and (inner & e.wrong).sum() > 3:
                shifted = np.where(inner, e.at(np.roll(measured, pixels, (1, 2))), e.analytic)
                yield shifted, f"the gradient is shifted by {pixels} pixels: padding is off"


def _variants(array: Array) -> Iterator[tuple[str, Array]]:
    """`array` turned, shifted or cut, as plausible mistakes do it, and the word for each."""
    axes = range(array.ndim)
    for order in itertools.permutations(axes) if array.ndim <= 4 else ():
        if order != tuple(axes):  # also where only the memory was turned, and the shape kept
            yield f"transposed: its axes are in the order {order}", array.transpose(order).reshape(array.shape)
    kernel = " (a flipped kernel)" if array.ndim == 4 else ""
    for flipped in subsets(array.ndim):
        yield f"flipped along axes {flipped}{kernel}", np.flip(array, flipped)
    for axis, by in ((axis, by) for axis in axes for by in (1, -1, 2, -2) if abs(by) < array.shape[axis]):
        edge = (slice(None),) * axis + (slice(0, by) if by > 0 else slice(by, None),)
        moved, cut, zero = np.roll(array, by, axis), np.roll(array, by, axis), array.copy()
        cut[edge] = zero[edge] = 0
        for shifted in (moved, cut):
            yield f"shifted by {by} along axis {axis}: padding or stride is off", shifted
        if abs(by) == 1:
            yield f"zero in the {'first' if by > 0 else 'last'} of its axis {axis}: a loop leaves it out", zero


def _extra(e: Evidence) -> Guesses:
    """Multiples of the array itself and of its signs in its gradient, or of another array."""
    known = {f"{e.name} itself": (e.values, "weight decay"), f"the signs of {e.name}": (np.sign(e.values), "L1")}
    itself, its_signs = known
    scale = e.weights[0] if e.weights.size == 1 and not _with_dout(e, 0.0).any() else 1.0
    known |= {name: (e.at(array), "") for name, array in e.others.items() if array.shape == e.shape}
    for names in ((itself,), (its_signs,), (itself, its_signs), *((name,) for name in [*known][2:])):
        terms = np.stack([known[name][0] for name in names], 1)
        if len(terms) > 2 * len(names) and terms.any():
            counts = np.linalg.lstsq(terms, e.analytic - e.numeric, rcond=None)[0]
            guess, counts = e.numeric + terms @ counts, counts / scale
            if (counts > 0).all() or (counts < 0).all():
                what = " and ".join(f"{abs(c):.4g} times {name}" for c, name in zip(counts, names, strict=True))
                reason = " and ".join(known[name][1] for name in names)
                added = ("is " if len(names) == 1 else "are ") + ("added to" if counts[0] > 0 else "missing from")
                yield guess, f"{what} {added} its gradient{', as by ' + reason if reason else ''}"


def _updated(e: Evidence) -> Guesses:
    """Computed with another array after its update, array - rate * gradient, at a rate that fits."""
    gradient, v = e.point.gradients[e.name], signs(np.random.default_rng(1), e.shape)
    for name, array in e.others.items():
        step = e.point.gradients[name]
        if array.size < 3 or len(e.indices) < 3:
            continue
        rate, before = 1e-2 * e.point.sizes[name] / max(float(abs(step).max(initial=0)), TINY), 0.0
        try:
            missed = e.miss(name, array, v, gradient)
            for _ in range(3):  # secants: one suffices where the slope is linear in the other array
                misses = e.miss(name, array - rate * step, v, gradient)
                if misses != missed:
                    rate, before, missed = rate - misses * (rate - before) / (misses - missed), rate, misses
        except Broken:
            continue
        if 0 < rate <= 1 and _needs(e, name, array - rate * step, gradient):
            what = f"as if {name} were {name} - {rate:.4g} d{name}"
            yield None, f"the gradient is {what}: it is computed with {name} already updated"


def _as_if(e: Evidence) -> Guesses:
    """Whether it would be correct at another temperature, or with another array turned, shifted, cut, or 0."""
    array, gradient = e.point.case.arrays[e.name], e.point.gradients[e.name]
    for t in (0.01, 0.02, 0.05, 0.07, 0.1, 0.2, 0.25, 0.3, 0.4, 0.5, 0.7, 0.8, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 8.0, 10.0):
        if any(_needs(e, e.name, t * array, gradient / factor) for factor in (1, t)):
            what = f"as if {e.name} were {t:g} times as large: a temperature or scale of {t:g} is lost"
            yield None, f"the gradient is {what}"
    for name, array in e.others.items():
        for what, other in _variants(array) if array.size <= MAX_ENTRIES else ():
            if not np.array_equal(other, array) and _needs(e, name, other, gradient):
                yield None, f"the gradient is as if {name} were {what}"
    for name, array in e.others.items():
        if array.any() and _correct_with(e, name, np.zeros_like(array), None):
            yield None, f"it is correct where {name} is 0: the part that comes through {name} is lost or wrong"


def _needs(e: Evidence, name: str, value: Array, gradient: Array) -> bool:
    """Whether `gradient` is correct once `name` has this value, but not near it, as where it only opens a mask."""
    return _correct_with(e, name, value, gradient) and not _correct_with(e, name, 1.001 * value, gradient)


def _correct_with(e: Evidence, name: str, value: Array, gradient: Array | None) -> bool:
    """Whether `gradient`, or that of backward, is right once `name` has this value where it is wrong as things are."""
    rng, off = np.random.default_rng(0), e.analytic - e.numeric
    by = [(v, abs(off @ e.at(v))) for v in (signs(rng, e.shape) for _ in range(16))]
    telling = [(v, wrong / np.linalg.norm(e.analytic)) for v, wrong in by if wrong > np.linalg.norm(off) / 4][:4]
    try:
        return bool(telling) and all(
            abs(e.miss(name, value, v, gradient)) <= min(ALIKE, CLOSER * wrong) for v, wrong in telling
        )
    except Broken:
        return False


# --- what the wrong entries have in common ----------------------------------------------------------------


def _branch(e: Evidence) -> Guesses:
    signature = e.point.signature
    if signature is not None and signature.shape == e.shape:
        taken = e.at(signature)
        wrong, correct = set(taken[e.wrong]), set(taken[~e.wrong])
        if len(wrong) == 1 and not wrong & correct:
            name = e.point.case.branches.get(int(next(iter(wrong))), "one branch")
            what = f"exactly the entries in the branch '{name}' are wrong: its condition or its formula"
            yield None, what + _how(e)


def _condition(e: Evidence) -> Guesses:
    """Whether the wrong entries are those where a number of the same shape is negative, positive, small or large."""
    point, wrong = e.point, e.wrong
    numbers = {**point.case.arrays, "dout": e.weights.reshape(point.dout.shape), "the output": point.out}
    both = wrong.any() and not wrong.all()
    for name, array in numbers.items() if both else ():
        for what, of in ((name, e.at(array)), (f"abs({name})", abs(e.at(array)))) if array.shape == e.shape else ():
            for side, low, high in (("below", wrong, ~wrong), ("above", ~wrong, wrong)):
                end, begin = float(of[low].max()), float(of[high].min())
                if end <= 0 <= begin and end < begin and len(wrong) >= 8:
                    words = {"below": "negative", "above": "positive"}
                    where = (words if what == name else {"below": "0", "above": "not 0"})[side]
                    yield None, f"exactly the entries where {name} is {where} are wrong{_how(e)}"
                if end < begin and math.comb(len(wrong), int(wrong.sum())) > 100:  # else it may be chance
                    where = f"{side} about {(end + begin) / 2:.3g}"
                    yield None, f"exactly the entries where {what} is {where} are wrong{_how(e)}"


def _how(e: Evidence) -> str:
    """In which way the wrong entries are wrong, if all in the same."""
    if not e.numeric[e.wrong].any():
        return "; they should get no gradient"
    if not e.analytic[e.wrong].any():
        return "; they get no gradient"
    wrong = list(itertools.compress(e.indices, e.wrong))
    how = _first(Evidence(e.point, e.name, e.dout, wrong), (_factor, _constant, _dout)) if len(wrong) > 1 else None
    return f"; there, {how}" if how else ""


def _axis_factors(e: Evidence) -> Guesses:
    moving = e.numeric != 0
    for axis, length in enumerate(e.shape):
        at = e.places[:, axis]
        seen, squares = np.bincount(at[moving], minlength=length), np.bincount(at, e.numeric**2, length)
        r = np.where(seen > 0, np.bincount(at, e.analytic * e.numeric, length) / squares, 1)
        if (seen != 1).all() and abs(r - 1).max() > 0.05 and not np.isin(r.round(9), (0, 1)).all():
            factors = ", ".join(f"{factor:.3g}" for factor in r[:3]) + (", ..." if length > 3 else "")
            what = "weights of samples, classes or channels, or a norm, are missing or too many"
            if np.isin(r.round(9), (-1, 1)).all():
                what = "the sign is wrong for some"
            yield r[at] * e.numeric, f"along axis {axis} each index has a factor of its own ({factors}): {what}"


def _norm(e: Evidence) -> Guesses:
    """Where each row is off by a multiple of itself, as through its norm."""
    values, off = e.values, e.analytic - e.numeric
    for axis, length in enumerate(e.shape):
        at = e.places[:, axis]
        if np.bincount(at, minlength=length).min() > 2:
            r = np.bincount(at, off * values, length) / np.bincount(at, values**2, length)
            what = f"along axis {axis} each index is off by a multiple of {e.name} itself"
            yield e.numeric + r[at] * values, f"{what}: what comes through its norm is missing or wrong"


def _plain(e: Evidence) -> Guesses:
    """dout itself, or times the output, where more would be needed."""
    if e.shape == e.point.out.shape:
        dout = e.weights.reshape(e.shape)
        yield e.at(dout), "the gradient is dout itself: the derivative is missing"
        more = "what comes through the other outputs, as through the sum of a softmax, is missing"
        yield e.at(dout * e.point.out), f"the gradient is dout times the output: {more}"


def _mask(e: Evidence) -> Guesses:
    """Gradient where none should be, or none where one should; first of all at the edge of an image."""
    if len(e.shape) == 4 and min(e.shape[1:3]) > 2:
        pixels = e.places[e.wrong, 1:3]
        if ((pixels == 0) | (pixels == np.array(e.shape[1:3]) - 1)).any(axis=1).all():
            yield None, "only entries at the edge of the image are wrong: padding"
    some, (extra, missing) = e.count(), (slopes[e.wrong] == 0 for slopes in (e.numeric, e.analytic))
    if extra.all():
        yield None, f"{some} should get no gradient but do: a mask or a condition is missing"
    if missing.all():
        yield None, f"{some} get no gradient but should: part of the sum is left out, or a mask is wrong"
    if np.array_equal(e.analytic != 0, e.numeric == 0):
        yield None, "exactly the wrong entries get a gradient: the mask or its condition is inverted"
    if (extra | missing).all():
        yield None, f"the gradient goes to the wrong entries ({some}): a mask of the wrong array, or the wrong maximum"
    if extra.any() and abs(e.analytic.sum() - e.numeric.sum()) <= ALIKE * abs(e.numeric).sum():
        yield None, "the total is right, but part of it goes where nothing should arrive: a wrong index or maximum"


def _in_common(e: Evidence) -> Guesses:
    for axis, length in enumerate(e.shape):
        at = e.places[e.wrong, axis]
        if length > 1 and np.ptp(at) == 0:
            yield None, f"all wrong entries have the index {at[0]} in axis {axis}{_how(e)}"
    off, some = (e.analytic - e.numeric)[e.wrong], f"{e.count()} are wrong"
    if (how := _how(e)) and not e.wrong.all():
        yield None, some + how
    if len(off) > 2 and np.ptp(off) <= 1e-4 * e.off:
        what = "a constant (a 1, a one-hot label) is missing or too many, or has the wrong sign"
        yield None, f"{some}, all by the same, {off[0]:+.4g}: {what}"
    if np.nan_to_num(_with_dout(e, 0.0)).any():
        yield None, "with dout = 0 it is not 0: a part of it is not multiplied by dout (brackets?)"


CAUSES: tuple[Cause, ...] = (
    _zero, _unused_dout, _other_gradient, _factor, _dout, formulas.activation, _single, _same_index, _lost_outputs,
    _overwritten, _turned, _constant, formulas.normalised, _extra, formulas.epsilon, formulas.convolution, _updated,
    _slight, _branch, _condition, _plain, _axis_factors, _norm, _mask, _as_if, _in_common,
)  # fmt: skip
