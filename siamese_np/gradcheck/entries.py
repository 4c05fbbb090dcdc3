"""The gradient of one array against differences: entry by entry, or a sample and random directions.

Directions have entries of +1 and -1, so each entry keeps its full weight in every direction: an error in one
of them cannot be multiplied away, as it can be with Gaussian or non-negative ones.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from siamese_np.gradcheck import measure
from siamese_np.gradcheck.budget import DEAREST, DIRECTIONS, LEAST, TIME_UP, Meter, Sample, Stopped
from siamese_np.gradcheck.case import FAIL, INCONCLUSIVE, PASS, Array, Arrays, Case
from siamese_np.gradcheck.compositions import COMPOSITION, MAX_SKIPPED, advice, excuse_direction, settle_entries
from siamese_np.gradcheck.curve import Curve
from siamese_np.gradcheck.differences import (
    EPS,
    QUICK,
    SINGLE_EPS,
    SINGLE_QUICK,
    SWEEP,
    Estimate,
    Slopes,
    differences,
    typical_sizes,
)
from siamese_np.gradcheck.noise import measured_noise
from siamese_np.gradcheck.report import TOO_SMALL, ArrayResult, Entry
from siamese_np.gradcheck.undecided import AWAY, OTHER_VALUES, reasons, why
from siamese_np.gradcheck.undecided import ROUNDING as ROUNDING_HIDES

WORST = 10  # entries shown
LONG = (5,)  # so many steps must agree on a small slope: two decades, which rounding does not do by chance
ROUNDING = 1e-13  # of the loss: what its summation may cost
SAME_BITS = 1e-12  # relative: two ways to compute one number in float64

Index = tuple[int, ...]


@dataclass
class Point:
    """A case at its point: output, weights of the loss, and the gradients that backward returned for them."""

    case: Case
    out: Array
    dout: Array
    gradients: Arrays
    tolerance: float
    convention: Arrays | None = None
    signature: Array | None = None
    # what is found on the way, per array: the estimate of each entry that was checked
    estimates: dict[str, dict[Index, Estimate]] = field(default_factory=dict)
    # of kinks of a composition: the gradients next to the point, and the arrays to move
    beside: list[tuple[Arrays, Arrays]] | None = None
    to_move: list[str] = field(default_factory=list)
    eps: float = 0.0  # of the outputs
    single: bool = False  # outputs or gradients are float32, and judged in it

    def __post_init__(self) -> None:
        self.eps = max(self.eps, float(np.finfo(self.out.dtype).eps))
        self.single |= any(array.dtype == np.float32 for array in (self.out, *self.gradients.values()))
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
        self.level = max([float((self.rounding * abs(self.dout).ravel()).sum()) / EPS, *moves])
        self.floors = {name: ROUNDING * self.level / size for name, size in self.sizes.items()}

    def size(self, direction: Arrays) -> float:
        """Of the numbers that move along `direction`."""
        moving = [abs(self.case.arrays[name][v != 0]).max(initial=0) for name, v in direction.items()]
        return float(max([*moving, *(self.sizes[name] for name in direction)]))

    def slopes(self, direction: Arrays, steps: Array) -> Slopes:
        """Measure along `direction`."""
        size = self.size(direction)
        return differences(self.case, direction, self.out, self.dout, steps, size, self.rounding, self.eps)

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
        slopes = self.slopes(direction, SWEEP)
        seen = abs(slopes.central)
        largest = float(seen[np.isfinite(seen)].max(initial=0))
        estimate = slopes.estimate(self.enough * max(norm, largest))
        return self.compare(name, label, self.along(direction), estimate, norm / measure.FLOOR), slopes

    def compare(self, name: str, index: Index | str, analytic: float, estimate: Estimate, scale: float) -> Entry:
        """Compare one analytic slope with its estimate."""
        return compare(name, index, analytic, estimate, scale, self.tolerance, self.enough)


def compare(
    name: str,
    index: Index | str,
    analytic: float,
    estimate: Estimate,
    scale: float,
    tolerance: float,
    enough: float,
) -> Entry:
    """Compare one analytic slope with its estimate, as `measure.evaluate` does."""
    verdict, wrong = measure.evaluate(analytic, estimate, scale, tolerance, enough)
    at = estimate.kink == "at"
    entry = Entry(name, index, analytic, estimate.value, estimate.step, wrong, verdict, estimate.kink)
    if at:
        entry.low, entry.high = estimate.low, estimate.high
        if verdict == FAIL:
            entry.remark = "outside the slopes of both sides of a kink"
    if verdict == INCONCLUSIVE:
        entry.doubt = measure.doubt(analytic, estimate, scale)
        entry.remark = why(estimate, entry.doubt, enough)
    return entry


def check_array(point: Point, name: str, rng: np.random.Generator, meter: Meter) -> ArrayResult:
    """Check the gradient of the array `name`, as far as calls and time suffice."""
    array, gradient = point.case.arrays[name], point.gradients[name]
    if array.size == 0:
        return ArrayResult(
            name, array.shape, 0, 0, 0, 0, 0, 0, 0.0, INCONCLUSIVE, remark="it is empty: there is nothing to check"
        )
    planned = meter.sample(point.case, name, point.out)
    directions: list[Entry] = []
    vectors: list[Array] = []
    estimates: dict[Index, Estimate] = {}
    curve: Curve = []
    stopped = ""
    try:
        v = signs(rng, array.shape)
        first, slopes = point.check_direction(name, "direction 1", {name: v})
        directions, vectors = [first], [v]
        curve = _curve(slopes, first)
        if planned.entries < array.size:
            _through_all(point, name, rng, directions, vectors)
        rms = abs(first.numeric) / np.sqrt(array.size)  # of the slopes, roughly
        known = max(float(abs(gradient).max()), rms if np.isfinite(rms) else 0.0, point.floors[name])
        resolution = point.enough * measure.FLOOR * known
        used = meter.calls
        for index in _chosen(array, planned, rng):
            if meter.calls - used > planned.calls and len(estimates) >= LEAST:
                break
            estimates[index] = _estimate(point, {name: _one(array, index)}, resolution, float(gradient[index]))
        if len(estimates) < array.size:
            _through_all(point, name, rng, directions, vectors)
    except (Stopped, KeyboardInterrupt) as error:
        stopped = meter.stop(error)
    estimates = point.estimates[name] = dict(sorted(estimates.items()))

    values = [e.value for e in estimates.values() if np.isfinite(e.value)]
    scale = max(float(abs(gradient).max()), float(np.abs(values).max(initial=0)), point.floors[name])
    entries = {index: _entry(point, name, index, estimate, scale) for index, estimate in estimates.items()}
    zero = bool(directions) and _is_zero(point, name)
    if zero:  # nothing but rounding is left to compare
        for entry in (*entries.values(), *directions):
            entry.verdict, entry.error = PASS, 0.0
    else:
        try:
            _hold_all_to_own_size(point, name, entries, scale, meter, planned.calls)
            settle_entries(point, name, list(entries.values()))
            for direction, v in zip(directions, vectors, strict=False):  # Ctrl-C may come in between
                excuse_direction(point, direction, {name: v})
            if len(entries) < array.size and FAIL not in [entry.verdict for entry in entries.values()]:
                wrong = [direction for direction in directions if direction.verdict == FAIL]
                entries.update(_bisect(point, name, wrong[0], scale, rng) if wrong else {})
        except (Stopped, KeyboardInterrupt) as error:
            stopped = meter.stop(error)
    return _summary(point, name, list(entries.values()), directions, curve, zero, stopped)


def _through_all(
    point: Point, name: str, rng: np.random.Generator, directions: list[Entry], vectors: list[Array]
) -> None:
    """As many directions as stand for the entries that are not checked one by one."""
    for number in range(len(directions) + 1, DIRECTIONS + 1):
        v = signs(rng, point.case.arrays[name].shape)
        directions.append(point.check_direction(name, f"direction {number}", {name: v})[0])
        vectors.append(v)


def _hold_all_to_own_size(
    point: Point, name: str, entries: dict[Index, Entry], scale: float, meter: Meter, calls: float
) -> None:
    """Compare small entries at their own size; those for which there are no calls or no time do not count as checked.

    The first `LEAST` have calls in any event.
    """
    used, held = meter.calls, 0
    small = [index for index, entry in entries.items() if entry.verdict == PASS and _is_small(point, entry, scale)]
    for number, index in enumerate(small):
        try:
            if meter.calls - used > calls and held >= LEAST:
                raise Stopped
            _hold_to_own_size(point, name, entries[index], {name: _one(point.case.arrays[name], index)}, scale)
            held += 1
        except (Stopped, KeyboardInterrupt) as error:
            for left in small[number:]:
                del entries[left], point.estimates[name][left]
            if meter.calls - used > calls and not isinstance(error, KeyboardInterrupt):
                return
            raise


def _bisect(point: Point, name: str, wrong: Entry, scale: float, rng: np.random.Generator) -> dict[Index, Entry]:
    """The entry that makes directions wrong: the half that is more wrong is halved, until one entry is left."""
    array = point.case.arrays[name]
    v = signs(rng, array.shape).ravel()

    def off(low: int, high: int, resolution: float) -> float:
        part = np.zeros(array.size)
        part[low:high] = v[low:high]
        direction = {name: part.reshape(array.shape)}
        said = point.along(direction)
        estimate = _estimate(point, direction, resolution, said)
        return said - (min(max(said, estimate.low), estimate.high) if estimate.kink == "at" else estimate.value)

    low, high = 0, array.size
    total = off(low, high, abs(wrong.analytic - wrong.numeric) / 8)
    while high - low > 1:
        middle = (low + high) // 2
        first = off(low, middle, abs(total) / 8)
        if not np.isfinite(total) or not np.isfinite(first):
            return {}
        if abs(first) >= abs(total - first):
            high, total = middle, first
        else:
            low, total = middle, total - first
    index = tuple(int(i) for i in np.unravel_index(low, array.shape))
    resolution, said = point.tolerance * measure.FLOOR * scale, float(point.gradients[name][index])
    estimate = _estimate(point, {name: _one(array, index)}, resolution, said)
    entry = _entry(point, name, index, estimate, scale)
    settle_entries(point, name, [entry])
    if entry.verdict != FAIL:  # many entries are wrong, each by little
        return {}
    entry.remark = entry.remark or "found by halving a direction"
    point.estimates[name][index] = estimate
    return {index: entry}


def _entry(point: Point, name: str, index: Index, estimate: Estimate, scale: float) -> Entry:
    analytic = float(point.gradients[name][index])
    entry = point.compare(name, index, analytic, estimate, scale)
    if entry.kink == "at" and point.convention is not None and entry.verdict != FAIL:
        declared = float(point.convention[name][index])
        entry.verdict = PASS if abs(analytic - declared) <= SAME_BITS * scale else FAIL
        entry.remark = "" if entry.verdict == PASS else f"not the declared convention at this kink, {declared:g}"
    if point.signature is not None and point.signature.shape == point.case.arrays[name].shape:
        entry.branch = point.case.branches.get(int(point.signature[index]))
    return entry


def _is_small(point: Point, entry: Entry, scale: float) -> bool:
    """Whether an entry is much smaller than the largest of its array, and not known to be right at its own size."""
    low, high = _ends(entry)
    nearest = min(max(entry.analytic, low), high)
    wrong = measure.error(entry.analytic, nearest, 0.0) > point.tolerance
    return wrong and max(abs(entry.analytic), abs(low), abs(high)) < measure.FLOOR * scale


def _ends(entry: Entry) -> tuple[float, float]:
    """Of the interval that the slope lies in."""
    return tuple(entry.numeric if end is None else end for end in (entry.low, entry.high))  # type: ignore[return-value]


def _hold_to_own_size(point: Point, name: str, entry: Entry, direction: Arrays, scale: float) -> None:
    """Compare an entry that is small, and passes beside the largest of its array, at its own size."""
    size = max(abs(entry.analytic), *(abs(end) for end in _ends(entry)))
    rounding = measure.ROUNDING * scale * (SINGLE_EPS / EPS if point.single else 1)
    estimate = point.slopes(direction, SWEEP).estimate(point.enough * size + rounding, LONG)
    verdict, wrong = measure.evaluate_small(entry.analytic, estimate, rounding, point.tolerance, point.enough)
    if verdict == FAIL:
        entry.numeric, entry.step, entry.error = estimate.value, estimate.step, wrong
        entry.remark = "wrong at its own size, small beside the largest of the array"
    elif verdict == INCONCLUSIVE:
        entry.remark = TOO_SMALL
    entry.verdict = verdict


def _summary(
    point: Point, name: str, entries: list[Entry], directions: list[Entry], curve: Curve, zero: bool, stopped: str
) -> ArrayResult:
    array, both = point.case.arrays[name], (*entries, *directions)
    verdicts = [entry.verdict for entry in both]
    # inside the bracket of a kink is weak evidence unless a convention says where
    weak = [e for e in entries if e.verdict == PASS and e.kink == "at" and point.convention is None]
    small = sum(e.remark == TOO_SMALL for e in entries)
    skipped = verdicts[: len(entries)].count(INCONCLUSIVE) - small + len(weak)
    verdict, remark = PASS, ""
    # one alone is more than that of a small array: it may be, if it or the direction through all is known well enough
    alone = skipped == 1 < len(entries) and not small
    alone &= all(e.nearly for e in entries if e.verdict == INCONCLUSIVE) or {d.verdict for d in directions} == {PASS}
    says_nothing = zero and name not in point.case.invariant
    if says_nothing and point.gradients[name].any():
        verdict, remark = INCONCLUSIVE, f"its gradient cannot be told from 0: {reasons([ROUNDING_HIDES], name)}"
    elif says_nothing:
        verdict = INCONCLUSIVE
        remark = f"its gradient is 0 throughout, which says nothing; give {name} {OTHER_VALUES}, if the output uses it"
    elif FAIL in verdicts:
        verdict, remark = FAIL, f"{verdicts.count(FAIL)} of {len(verdicts)} slopes are wrong"
    elif skipped + small > MAX_SKIPPED * len(entries) and not alone:
        verdict, remark = INCONCLUSIVE, _undecided(point, name, entries, skipped, small, len(weak))
    elif len(entries) < array.size and verdicts[len(entries) :].count(INCONCLUSIVE) > DIRECTIONS // 2:
        because = reasons([d.remark for d in directions], name)
        verdict, remark = INCONCLUSIVE, f"most directions through all entries could not be decided: {because}"
    elif skipped:
        remark = _undecided(point, name, entries, skipped, 0, len(weak))
    # with time up, a sample and all directions will do
    enough = len(entries) == array.size or (len(entries) >= LEAST and len(directions) == DIRECTIONS)
    if stopped and verdict != FAIL and not (verdict == PASS and enough and stopped == TIME_UP):
        reached = f"{stopped}: {len(entries)} of {array.size} entries were reached"
        verdict, remark = INCONCLUSIVE, f"{reached}; {remark}" if remark else reached
    wrong = sorted((e for e in both if e.verdict != PASS), key=_badness, reverse=True)
    errors = [e.error for e in both if not np.isnan(e.error)]
    return ArrayResult(
        name=name,
        shape=array.shape,
        total=array.size,
        checked=len(entries),
        directions=len(directions),
        kinks=sum(bool(entry.kink) for entry in entries),
        skipped=skipped,
        small=small,
        flat=sum(entry.analytic == 0 == entry.numeric for entry in entries),
        error=max(errors, default=float("nan")),
        verdict=verdict,
        remark=remark,
        worst=wrong[:WORST],
        curve=curve,
    )


def _undecided(point: Point, name: str, entries: list[Entry], skipped: int, small: int, weak: int) -> str:
    """How many entries could not be decided, why, and what to do."""
    found = []
    if skipped > weak:
        undecided = [entry for entry in entries if entry.verdict == INCONCLUSIVE and entry.remark != TOO_SMALL]
        which = f" ({undecided[0].where})" if len(undecided) == 1 else ""
        remarks = [entry.remark for entry in undecided]
        composition = any(COMPOSITION in remark for remark in remarks)
        because = advice(point) if composition else reasons(remarks, name)
        found.append(f"{len(undecided)} of {len(entries)} entries{which} could not be decided: {because}")
    if weak:
        away = advice(point) if point.to_move else AWAY.format(name)
        found.append(f"{weak} of {len(entries)} entries lie at kinks, where many slopes are right; {away}")
    if small:
        found.append(f"{TOO_SMALL}: {small} of {len(entries)} entries; give {name} values of like size")
    return "; ".join(found)


def _is_zero(point: Point, name: str) -> bool:
    """Whether the gradient is 0 to the last digit, both as backward says and as measured."""
    audible = 32 * EPS * point.level / (point.quick[-1] * point.sizes[name])
    measured = point.estimates[name].values()
    return bool(abs(point.gradients[name]).max() <= point.floors[name] and all(e.rough <= audible for e in measured))


def _badness(entry: Entry) -> tuple[bool, float]:
    return entry.verdict == FAIL, entry.error if np.isfinite(entry.error) else np.inf


def _curve(slopes: Slopes, entry: Entry) -> Curve:
    """Error against step along a direction, relative to the slope."""
    size = max(abs(entry.analytic), abs(entry.numeric), measure.TINY)
    with np.errstate(all="ignore"):
        central = abs(slopes.central[1:] - entry.analytic) / size
        richardson = abs(slopes.richardson - entry.analytic) / size
    return [(float(h), float(c), float(r)) for h, c, r in zip(slopes.steps[1:], central, richardson, strict=True)]


def signs(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Entries of +1 and -1 at random."""
    return rng.choice([-1.0, 1.0], shape)


def _one(array: Array, index: Index) -> Array:
    """The direction along one entry."""
    direction = np.zeros_like(array)
    direction[index] = 1
    return direction


def _chosen(array: Array, planned: Sample, rng: np.random.Generator) -> Iterator[Index]:
    """The entries to check, in random order where the calls may not suffice for all."""
    if planned.entries == array.size and DEAREST * array.size <= planned.calls:
        yield from np.ndindex(array.shape)
    else:
        for flat in rng.choice(array.size, planned.entries, replace=False):
            yield tuple(int(i) for i in np.unravel_index(flat, array.shape))


def _estimate(point: Point, direction: Arrays, resolution: float, analytic: float) -> Estimate:
    """Two steps where they suffice, else the whole sweep; kinks also from the branch signature."""
    quick = point.slopes(direction, point.quick)
    estimate = quick.quick(resolution, analytic) or point.slopes(direction, SWEEP).estimate(resolution)
    estimate.rough = float(abs(quick.central).max())
    if estimate.kink != "at" and _branches_change(point, direction, SWEEP[-1]):
        estimate.kink = "at"  # one that the slopes pass smoothly, as the hinge does at its margin
    elif not estimate.kink and _branches_change(point, direction, point.quick[0]):
        estimate.kink = "near"
    return estimate


def _branches_change(point: Point, direction: Arrays, step: float) -> bool:
    """Whether a step along `direction`, either way, takes an element into another branch."""
    case = point.case
    if case.signature is None:
        return False
    h = step * point.size(direction)
    moved = [{**case.arrays, **{n: case.arrays[n] + s * h * v for n, v in direction.items()}} for s in (1, -1)]
    return any(bool((case.signature(arrays) != point.signature).any()) for arrays in moved)
