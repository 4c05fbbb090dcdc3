"""The verdict on an array: from its entries, its directions, and what stopped the check."""

import numpy as np

from siamese_np.gradcheck.budget import DIRECTIONS, MIN_ENTRIES, TIME_UP
from siamese_np.gradcheck.case import FAIL, INCONCLUSIVE, PASS
from siamese_np.gradcheck.compositions import COMPOSITION, MAX_SKIPPED, advice
from siamese_np.gradcheck.curve import Curve
from siamese_np.gradcheck.point import Point
from siamese_np.gradcheck.report import TOO_SMALL, ArrayResult, Entry
from siamese_np.gradcheck.undecided import AWAY, OTHER_VALUES, ROUNDING, reasons

WORST = 10  # entries shown


def summary(
    point: Point, name: str, entries: list[Entry], directions: list[Entry], curve: Curve, zero: bool, stopped: str
) -> ArrayResult:
    """What was found about the gradient of the array `name`."""
    array, both = point.case.arrays[name], (*entries, *directions)
    verdicts = [entry.verdict for entry in both]
    undecided = [e for e in entries if e.verdict == INCONCLUSIVE and e.remark != TOO_SMALL]
    small = sum(e.remark == TOO_SMALL for e in entries)
    # inside the bracket of a kink is weak evidence unless a convention says where
    weak = sum(e.verdict == PASS and e.kink == "at" and point.convention is None for e in entries)
    skipped = len(undecided) + weak
    # one alone is more than that of a small array: it may be, if it or the direction through all is known well enough
    alone = skipped == 1 < len(entries) and not small
    alone &= all(e.nearly for e in undecided) or {d.verdict for d in directions} == {PASS}
    verdict, remark = PASS, ""
    if zero and name not in point.case.invariant:  # which says nothing
        verdict = INCONCLUSIVE
        remark = f"its gradient is 0 throughout, which says nothing; give {name} {OTHER_VALUES}, if the output uses it"
        if point.gradients[name].any():
            remark = f"its gradient cannot be told from 0: {reasons([ROUNDING], name)}"
    elif FAIL in verdicts:
        verdict, remark = FAIL, f"{verdicts.count(FAIL)} of {len(verdicts)} slopes are wrong"
    elif skipped + small > MAX_SKIPPED * len(entries) and not alone:
        verdict, remark = INCONCLUSIVE, _skipped(point, name, undecided, weak, small, len(entries))
    elif len(entries) < array.size and verdicts[len(entries) :].count(INCONCLUSIVE) > DIRECTIONS // 2:
        because = reasons([d.remark for d in directions], name)
        verdict, remark = INCONCLUSIVE, f"most directions through all entries could not be decided: {because}"
    elif skipped:
        remark = _skipped(point, name, undecided, weak, 0, len(entries))
    # with time up, a sample and all directions will do
    enough = len(entries) == array.size or (len(entries) >= MIN_ENTRIES and len(directions) == DIRECTIONS)
    if stopped and verdict != FAIL and not (verdict == PASS and enough and stopped == TIME_UP):
        reached = f"{stopped}: {len(entries)} of {array.size} entries were reached"
        verdict, remark = INCONCLUSIVE, f"{reached}; {remark}" if remark else reached
    wrong = sorted((e for e in both if e.verdict != PASS), key=_badness, reverse=True)
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
        error=max((e.error for e in both if not np.isnan(e.error)), default=float("nan")),
        verdict=verdict,
        remark=remark,
        worst=wrong[:WORST],
        curve=curve,
    )


def _skipped(point: Point, name: str, undecided: list[Entry], weak: int, small: int, total: int) -> str:
    """How many entries could not be decided, why, and what to do."""
    found = []
    if undecided:
        which = f" ({undecided[0].where})" if len(undecided) == 1 else ""
        remarks = [entry.remark for entry in undecided]
        composition = any(COMPOSITION in remark for remark in remarks)
        because = advice(point) if composition else reasons(remarks, name)
        found.append(f"{len(undecided)} of {total} entries{which} could not be decided: {because}")
    if weak:
        away = advice(point) if point.to_move else AWAY.format(name)
        found.append(f"{weak} of {total} entries lie at kinks, where many slopes are right; {away}")
    if small:
        found.append(f"{TOO_SMALL}: {small} of {total} entries; give {name} values of like size")
    return "; ".join(found)


def _badness(entry: Entry) -> tuple[bool, float]:
    return entry.verdict == FAIL, entry.error if np.isfinite(entry.error) else np.inf
