"""The gradient of one array against differences: entry by entry, or a sample and random directions.

Directions have entries of +1 and -1, so each entry keeps its full weight in every direction: an error in one
of them cannot be multiplied away, as it can be with Gaussian or non-negative ones.
"""

from collections.abc import Iterator

import numpy as np

from siamese_np.gradcheck import measure
from siamese_np.gradcheck.budget import DIRECTIONS, MAX_PER_ENTRY, MIN_ENTRIES, TIME_UP, Meter
from siamese_np.gradcheck.case import FAIL, INCONCLUSIVE, PASS, Array
from siamese_np.gradcheck.curve import Curve
from siamese_np.gradcheck.differences import EPS, SINGLE_EPS, Estimate, Slopes
from siamese_np.gradcheck.kinks import COMPOSITION, MAX_SKIPPED, advice, excuse_direction, settle_entries
from siamese_np.gradcheck.point import SAME_BITS, Index, Point, index_of, one, signs
from siamese_np.gradcheck.report import TOO_SMALL, ArrayResult, Entry

WORST = 10  # entries shown
LONG = (5,)  # so many steps must agree on a small slope: two decades, which rounding does not do by chance


def check_array(point: Point, name: str, rng: np.random.Generator, meter: Meter) -> ArrayResult:
    """Check the gradient of the array `name`, as far as calls and time suffice."""
    shape = point.case.arrays[name].shape
    if 0 in shape:
        return ArrayResult(name, shape, verdict=INCONCLUSIVE, remark="it is empty: there is nothing to check")
    check = ArrayCheck(point, name, rng, meter)
    meter.reached(check.measure)
    meter.reached(check.compare)
    return check.summary()


class ArrayCheck:
    """The check of one array: first all slopes are measured, then compared."""

    def __init__(self, point: Point, name: str, rng: np.random.Generator, meter: Meter) -> None:
        self.point, self.name, self.rng, self.meter = point, name, rng, meter
        self.array, self.gradient = point.case.arrays[name], point.gradients[name]
        self.planned = meter.sample(point.case, name, point.out)
        self.estimates = point.estimates[name] = {}
        self.entries: dict[Index, Entry] = {}
        self.directions: list[Entry] = []
        self.vectors: list[Array] = []
        self.curve: Curve = []
        self.zero = False  # nothing but rounding is left to compare

    def measure(self) -> None:
        """Measure slopes along directions through all entries, and of the chosen entries."""
        self._through_all(1)
        if self.planned.entries < self.array.size:
            self._through_all(DIRECTIONS)
        rms = abs(self.directions[0].numeric) / np.sqrt(self.array.size)  # of the slopes, roughly
        resolution = self.point.enough * measure.FLOOR * self._scale([rms])
        used = self.meter.calls
        for index in self._chosen():
            if self.meter.calls - used > self.planned.calls and len(self.estimates) >= MIN_ENTRIES:
                break
            self.estimates[index] = self._estimate(index, resolution)
        if len(self.estimates) < self.array.size:
            self._through_all(DIRECTIONS)

    def compare(self) -> None:
        """Compare what was measured, small entries at their own size; look at kinks, and for a fault not yet found."""
        point, name = self.point, self.name
        self.estimates = point.estimates[name] = dict(sorted(self.estimates.items()))
        scale = self._scale([e.value for e in self.estimates.values()])
        self.entries = {index: self._entry(index, estimate, scale) for index, estimate in self.estimates.items()}
        # 0 to the last digit, both as backward says and as measured?
        audible = 32 * EPS * point.level / (point.quick[-1] * point.sizes[name])
        silent = all(e.rough <= audible for e in self.estimates.values())
        self.zero = bool(self.directions) and bool(abs(self.gradient).max() <= point.floors[name] and silent)
        if self.zero:
            for entry in (*self.entries.values(), *self.directions):
                entry.verdict, entry.error = PASS, 0.0
            return
        self._hold_to_own_size(scale)
        settle_entries(point, name, list(self.entries.values()))
        for direction, v in zip(self.directions, self.vectors, strict=False):  # Ctrl-C may come in between
            excuse_direction(point, direction, {name: v})
        wrong = [direction for direction in self.directions if direction.verdict == FAIL]
        sampled = len(self.entries) < self.array.size
        if sampled and wrong and FAIL not in [entry.verdict for entry in self.entries.values()]:
            self._bisect(wrong[0], scale)

    def _through_all(self, count: int) -> None:
        """Compare slopes along random directions until there are `count`."""
        for number in range(len(self.directions) + 1, count + 1):
            v = signs(self.rng, self.array.shape)
            entry, slopes = self.point.check_direction(self.name, f"direction {number}", {self.name: v})
            self.directions.append(entry)
            self.vectors.append(v)
            self.curve = self.curve or _curve(slopes, entry)

    def _chosen(self) -> Iterator[Index]:
        """The entries to check, in random order where the calls may not suffice for all."""
        size = self.array.size
        if self.planned.entries == size and MAX_PER_ENTRY * size <= self.planned.calls:
            yield from np.ndindex(self.array.shape)
        else:
            for flat in self.rng.choice(size, self.planned.entries, replace=False):
                yield index_of(flat, self.array.shape)

    def _scale(self, slopes: list[float]) -> float:
        """The largest slope of the array: of its gradient, and of those measured."""
        largest = max((abs(slope) for slope in slopes if np.isfinite(slope)), default=0.0)
        return max(float(abs(self.gradient).max()), largest, self.point.floors[self.name])

    def _estimate(self, index: Index, resolution: float) -> Estimate:
        return self.point.estimate({self.name: one(self.array, index)}, resolution, float(self.gradient[index]))

    def _entry(self, index: Index, estimate: Estimate, scale: float) -> Entry:
        point, analytic = self.point, float(self.gradient[index])
        entry = point.compare(self.name, index, analytic, estimate, scale)
        if entry.kink == "at" and point.convention is not None and entry.verdict != FAIL:
            declared = float(point.convention[self.name][index])
            entry.verdict = PASS if abs(analytic - declared) <= SAME_BITS * scale else FAIL
            entry.remark = "" if entry.verdict == PASS else f"not the declared convention at this kink, {declared:g}"
        if point.signature is not None and point.signature.shape == self.array.shape:
            entry.branch = point.case.branches.get(int(point.signature[index]))
        return entry

    def _hold_to_own_size(self, scale: float) -> None:
        """Compare at their own size entries that pass beside the largest alone, or, without calls, leave them out."""
        point, used, held = self.point, self.meter.calls, 0
        rounding = measure.ROUNDING * scale * (SINGLE_EPS / EPS if point.single else 1)
        small = []
        for index, entry in self.entries.items():
            low, high = (entry.numeric if end is None else end for end in (entry.low, entry.high))
            size = max(abs(entry.analytic), abs(low), abs(high))
            off = measure.error(entry.analytic, min(max(entry.analytic, low), high), 0.0)
            if entry.verdict == PASS and off > point.tolerance and size < measure.FLOOR * scale:
                small.append((index, entry, size))
        try:
            for index, entry, size in small:
                if self.meter.calls - used > self.planned.calls and held >= MIN_ENTRIES:
                    break
                slopes = point.slopes({self.name: one(self.array, index)})
                estimate = slopes.estimate(point.enough * size + rounding, LONG)
                entry.verdict, wrong = measure.evaluate_small(
                    entry.analytic, estimate, rounding, point.tolerance, point.enough
                )
                if entry.verdict == FAIL:
                    entry.numeric, entry.step, entry.error = estimate.value, estimate.step, wrong
                    entry.remark = "wrong at its own size, small beside the largest of the array"
                elif entry.verdict == INCONCLUSIVE:
                    entry.remark = TOO_SMALL
                held += 1
        finally:
            for index, *_ in small[held:]:
                del self.entries[index], self.estimates[index]

    def _bisect(self, direction: Entry, scale: float) -> None:
        """Find the entry that makes `direction` wrong: halve the half that is more wrong, until one entry is left."""
        point, name = self.point, self.name
        v = signs(self.rng, self.array.shape).ravel()

        def off(low: int, high: int, resolution: float) -> float:
            part = np.zeros(self.array.size)
            part[low:high] = v[low:high]
            along = {name: part.reshape(self.array.shape)}
            said = point.along(along)
            return said - point.estimate(along, resolution, said).nearest(said)

        low, high = 0, self.array.size
        total = off(low, high, abs(direction.analytic - direction.numeric) / 8)
        while high - low > 1:
            middle = (low + high) // 2
            first = off(low, middle, abs(total) / 8)
            if not np.isfinite(total) or not np.isfinite(first):
                return
            if abs(first) >= abs(total - first):
                high, total = middle, first
            else:
                low, total = middle, total - first
        index = index_of(low, self.array.shape)
        estimate = self._estimate(index, point.tolerance * measure.FLOOR * scale)
        entry = self._entry(index, estimate, scale)
        settle_entries(point, name, [entry])
        if entry.verdict == FAIL:  # else many entries are wrong, each by little
            entry.remark = entry.remark or "found by halving a direction"
            self.entries[index], self.estimates[index] = entry, estimate

    def summary(self) -> ArrayResult:
        point, name, directions, stopped = self.point, self.name, self.directions, self.meter.stopped
        entries, size = list(self.entries.values()), self.array.size
        both = [*entries, *directions]
        verdicts = [entry.verdict for entry in both]
        undecided = [e for e in entries if e.verdict == INCONCLUSIVE and e.remark != TOO_SMALL]
        small = sum(e.remark == TOO_SMALL for e in entries)
        # inside the bracket of a kink is weak evidence unless a convention says where
        weak = sum(e.verdict == PASS and e.kink == "at" and point.convention is None for e in entries)
        skipped = len(undecided) + weak
        # one alone may be more than that of a small array, if it or the direction through all is known well enough
        alone = skipped == 1 < len(entries) and not small
        alone &= all(e.nearly for e in undecided) or {d.verdict for d in directions} == {PASS}
        verdict, remark = PASS, ""
        if self.zero and name not in point.case.invariant:  # which says nothing
            verdict, remark = INCONCLUSIVE, "its gradient is 0 throughout, which says nothing; give "
            remark += f"{name} {measure.OTHER_VALUES}, if the output uses it"
            if self.gradient.any():
                remark = f"its gradient cannot be told from 0: {measure.reasons([measure.HIDDEN], name)}"
        elif FAIL in verdicts:
            verdict, remark = FAIL, f"{verdicts.count(FAIL)} of {len(verdicts)} slopes are wrong"
        elif skipped + small > MAX_SKIPPED * len(entries) and not alone:
            verdict, remark = INCONCLUSIVE, self._skipped(undecided, weak, small)
        elif len(entries) < size and verdicts[len(entries) :].count(INCONCLUSIVE) > DIRECTIONS // 2:
            because = measure.reasons([d.remark for d in directions], name)
            verdict, remark = INCONCLUSIVE, f"most directions through all entries could not be decided: {because}"
        elif skipped:
            remark = self._skipped(undecided, weak, 0)
        # with time up, a sample and all directions will do
        enough = len(entries) == size or (len(entries) >= MIN_ENTRIES and len(directions) == DIRECTIONS)
        if stopped and verdict != FAIL and not (verdict == PASS and enough and stopped == TIME_UP):
            reached = f"{stopped}: {len(entries)} of {size} entries were reached"
            verdict, remark = INCONCLUSIVE, f"{reached}; {remark}" if remark else reached
        wrong = [entry for entry in both if entry.verdict != PASS]
        wrong.sort(key=lambda e: (e.verdict == FAIL, e.error if np.isfinite(e.error) else np.inf), reverse=True)
        return ArrayResult(
            name=name,
            shape=self.array.shape,
            total=size,
            checked=len(entries),
            directions=len(directions),
            kinks=sum(bool(entry.kink) for entry in entries),
            skipped=skipped,
            small=small,
            flat=sum(entry.analytic == 0 == entry.numeric for entry in entries),
            error=max((e.error for e in both if not np.isnan(e.error)), default=float("nan")),
            verdict=verdict,
            remark=remark,
            worst=wrong[:WORST],
            curve=self.curve,
        )

    def _skipped(self, undecided: list[Entry], weak: int, small: int) -> str:
        point, name, total, found = self.point, self.name, len(self.entries), []
        if undecided:
            which = f" ({undecided[0].where})" if len(undecided) == 1 else ""
            remarks = [entry.remark for entry in undecided]
            composition = any(COMPOSITION in remark for remark in remarks)
            because = advice(point) if composition else measure.reasons(remarks, name)
            found.append(f"{len(undecided)} of {total} entries{which} could not be decided: {because}")
        if weak:
            away = advice(point) if point.to_move else measure.AWAY.format(name)
            found.append(f"{weak} of {total} entries lie at kinks, where many slopes are right; {away}")
        if small:
            found.append(f"{TOO_SMALL}: {small} of {total} entries; give {name} values of like size")
        return "; ".join(found)


def _curve(slopes: Slopes, entry: Entry) -> Curve:
    """Error against step along a direction, relative to the slope."""
    size = max(abs(entry.analytic), abs(entry.numeric), measure.TINY)
    with np.errstate(all="ignore"):
        central = abs(slopes.central[1:] - entry.analytic) / size
        richardson = abs(slopes.richardson - entry.analytic) / size
    return [(float(h), float(c), float(r)) for h, c, r in zip(slopes.steps[1:], central, richardson, strict=True)]
