"""Kinks, where a function has no gradient but an interval of them between its slopes to either side.

Entry by entry, a slope at a kink need only lie between the left and the right one. That is not enough: max(a, b) at
a = b has the slopes 0 and 1 in a and in b, so (1, 1) would do; but moving both together moves the maximum by as much,
not twice as much. So entries that meet in one output (a tie) are moved together too, and all arrays at once.

The interval is formed for each output alone and then summed with dout: outputs bent up and outputs bent down
do not cancel.

A composition can leave even this interval: relu(x) - relu(-x) is x, but with the slope 0 at 0 for each part the chain
rule gives 0 there, not 1. A dense layer on a black pixel with zero biases puts all of its ReLUs at 0. Differences
cannot tell whether such a gradient is correct at the point, only close to it. So a gradient that looks wrong is
undecided if all of this holds:

- it jumps: 1e-7 of the size of the arrays away (NEXT), backward says something else;
- it jumps as parts at kinks may: between more than two values; or between two, and lies between 0 and their sum; or,
  where it is the same all around, to 0 or to twice as much;
- it is correct 1e-2 of the size of the arrays away (ASIDE).

Source: F. H. Clarke, "Optimization and Nonsmooth Analysis", 1983 (generalised gradients).
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from siamese_np.gradcheck import measure
from siamese_np.gradcheck.case import FAIL, INCONCLUSIVE, PASS, Array, Arrays, Broken, Check
from siamese_np.gradcheck.curve import Taylor, check_taylor, taylor
from siamese_np.gradcheck.point import Index, Point, one, signed, signs
from siamese_np.gradcheck.report import Entry

MAX_GROUPS = 32
RANDOM = 4
NEXT, ASIDE = 1e-7, 1e-2  # in units of the size of each array: beside the point, and far enough to measure slopes
PAIRS = 4  # of places opposite to each other, beside the point
PLACES = 2  # to measure at
MAX_MEASURED = 8  # entries: if these are correct aside, so are the others
MAX_SKIPPED = 0.05  # of an array: more entries at kinks make it inconclusive
COMPOSITION = "kink of a composition"
SAME = 1e-5  # relative: how much a gradient changes between two places without a kink


def check_directions(point: Point, rng: np.random.Generator, alone: bool) -> tuple[list[Check | None], Taylor]:
    """Compare slopes along random directions through everything; and through all kinks, and through each tie.

    And the Taylor remainders along the first of the random directions. `alone` says that each entry was compared alone.
    """
    arrays, remainders = point.case.arrays, []

    def compare(label: str, direction: Arrays) -> Entry:
        entry, slopes = point.check_direction("all arrays", label, direction)
        remainders.append(taylor(slopes, entry.analytic))
        excuse_direction(point, entry, direction)
        return entry

    size = {name: size / max(point.sizes.values()) for name, size in point.sizes.items()}
    through_all = [
        compare(f"random direction {number + 1}", {n: size[n] * signs(rng, a.shape) for n, a in arrays.items()})
        for number in range(RANDOM)
    ]
    kinks, meeting = [], defaultdict(list)  # a tie: entries at a kink that move the same output
    for name, estimates in point.estimates.items():
        for index, estimate in estimates.items():
            if estimate.kink == "at":
                kinks.append((name, index))
                for output in np.flatnonzero(np.asarray(estimate.moves)):
                    meeting[int(output)].append((name, index))
    ties = list(dict.fromkeys(tuple(members) for members in meeting.values() if len(members) > 1))
    together = []

    def move(label: str, members: Sequence[tuple[str, Index]], weights: Array) -> None:
        direction: Arrays = {}
        for (name, index), weight in zip(members, weights, strict=True):
            direction.setdefault(name, np.zeros_like(arrays[name]))[index] = weight
        together.append(compare(label, direction))

    for tie in [ties[k] for k in np.sort(rng.permutation(len(ties))[:MAX_GROUPS])]:
        label = "together: " + ", ".join(f"{name}{list(index)}" for name, index in tie[:4])
        label += f" and {len(tie) - 4} more" if len(tie) > 4 else ""
        move(label, tie, np.ones(len(tie)))
        move(f"{label}, random signs", tie, signs(rng, (len(tie),)))
    for number in range(RANDOM if kinks else 0):
        move(f"kinks, random signs {number + 1}", kinks, signs(rng, (len(kinks),)))
    checks = [_check("directions", through_all, len(through_all) // 2, alone)]
    checks += [_check("ties and kinks moved together", together, 0, False)] if together else []
    return [*checks, check_taylor(remainders[0], through_all[0].verdict)], remainders[0]


def _check(name: str, entries: list[Entry], may_skip: int, alone: bool) -> Check:
    """One check of many directions, of which so many may remain undecided.

    Those that are right to a thousandth do not count where each entry was compared alone.
    """
    wrong = [entry for entry in entries if entry.verdict == FAIL]
    undecided = [entry for entry in entries if entry.verdict == INCONCLUSIVE and not (alone and entry.nearly)]
    if not wrong and len(undecided) <= may_skip:
        return Check(name, PASS)
    worst = (wrong or undecided)[0]
    said, slope = worst.numbers(6)
    remark = f"{len(wrong or undecided)} of {len(entries)}; along {worst.index}: {said}, measured {slope}"
    if wrong:
        return Check(name, FAIL, remark)
    return Check(name, INCONCLUSIVE, f"{remark}: {measure.reasons([e.remark for e in undecided], 'the arrays')}")


@contextmanager
def moved(point: Point, by: float, seed: int, names: tuple[str, ...] = ()) -> Iterator[Point]:
    """The point moved so far in a random direction, along the arrays of these names or all: Broken where it cannot."""
    case, rng = point.case, np.random.default_rng(seed)
    with case.restored():
        for name, array in case.arrays.items():
            array[...] += by * point.sizes[name] * signed(rng, array.shape) * (not names or name in names)
        out, cache = case.run()
        out = out.copy()
        gradients = case.gradients(point.dout, cache)
        yield Point(case, out, point.dout, gradients, point.tolerance)


def settle_entries(point: Point, name: str, entries: list[Entry]) -> None:
    """Look beside the point at entries at kinks, wrong ones and, where there are many, others; say what to move.

    Undecided are those that are wrong at a kink of a composition alone. Wrong are those that are wrong beside it too.
    """
    if point.convention is not None:
        return
    wrong = [entry for entry in entries if entry.verdict == FAIL]
    between = [entry for entry in entries if entry.verdict == PASS and entry.kink == "at"]
    try:
        if wrong:
            pairs = [(a[name], b[name]) for a, b in _beside(point)]
            jumping = [entry for entry in wrong if _may_jump(entry, pairs)]
            if not _wrong_aside(point, name, jumping):
                _look_what_to_move(point, name, jumping)
                for entry in jumping:
                    entry.verdict, entry.remark = INCONCLUSIVE, f"a {COMPOSITION}; {advice(point)}"
        elif len(between) > MAX_SKIPPED * len(entries):
            _look_what_to_move(point, name, between)
            for entry in _wrong_aside(point, name, between):
                entry.verdict, entry.remark = FAIL, "between the slopes of both sides of a kink, but wrong beside it"
    except Broken:
        return


def excuse_direction(point: Point, entry: Entry, direction: Arrays) -> None:
    """The same for the slope along a direction."""
    if entry.verdict != FAIL or point.convention is not None:
        return
    try:
        slopes = [sum(float((g[n] * v).sum()) for n, v in direction.items()) for pair in _beside(point) for g in pair]
        size = measure.norm(np.array([measure.norm(point.gradients[n] * v) for n, v in direction.items()]))
        if not (point.to_move or len(_distinct(slopes, size)) > 2):
            return
        if not any(abs(slope - entry.analytic) > SAME * size for slope in slopes):
            return
        for seed in range(PLACES):
            with moved(point, ASIDE, seed) as aside:
                if aside.check_direction(entry.array, str(entry.index), direction)[0].verdict == FAIL:
                    return
    except Broken:
        return
    entry.verdict, entry.remark = INCONCLUSIVE, f"it crosses kinks of a composition; {advice(point)}"


def advice(point: Point) -> str:
    """What to move, so that the kinks are left behind."""
    if not point.to_move:
        return "choose another point"
    zeros = all((point.case.arrays[name] == 0).any() for name in point.to_move)
    return f"move {' or '.join(point.to_move)}{' away from 0' if zeros else ' a little'}"


def _beside(point: Point) -> list[tuple[Arrays, Arrays]]:
    """Gradients at pairs of places opposite to each other, next to the point."""
    if point.beside is None:
        pairs = []
        for seed in range(PAIRS):
            found = []
            for sign in (1, -1):
                with moved(point, sign * NEXT, seed) as place:
                    found.append(place.gradients)
            pairs.append((found[0], found[1]))
        point.beside = pairs
    return point.beside


def _may_jump(entry: Entry, pairs: list[tuple[Array, Array]]) -> bool:
    """Whether backward jumps at the point, and in a way that the slopes of parts at kinks explain."""
    analytic, values = entry.analytic, [float(gradient[entry.index]) for pair in pairs for gradient in pair]
    size = max(abs(analytic), *map(abs, values))
    near = lambda value: abs(value - analytic) <= SAME * size  # noqa: E731
    if all(map(near, values)):
        return False
    all_on = [float(a[entry.index] + b[entry.index]) for a, b in pairs]
    distinct = len(_distinct(values, size))
    if distinct == 1:  # no kink to be seen: the parts cancel, if all are off or all on
        return any(map(near, (0.0, *all_on)))
    bounds = (0.0, *values, *all_on)
    return distinct > 2 or min(bounds) - SAME * size <= analytic <= max(bounds) + SAME * size


def _distinct(values: list[float], size: float) -> list[float]:
    """The values without those that are the same but for a little."""
    found: list[float] = []
    for value in sorted(values):
        if not found or value - found[-1] > SAME * size:
            found.append(value)
    return found


def _look_what_to_move(point: Point, name: str, entries: list[Entry]) -> None:
    """Note the arrays that leave the kinks behind when they move alone."""
    for other in point.case.arrays:
        if entries and other not in point.to_move and not _wrong_aside(point, name, entries, (other,), 1):
            point.to_move.append(other)


def _wrong_aside(
    point: Point, name: str, entries: list[Entry], names: tuple[str, ...] = (), places: int = PLACES
) -> list[Entry]:
    """Which of the entries (some of them) are wrong once the point is moved aside; or at a kink still, for `names`."""
    wrong = []
    for seed in range(places if entries else 0):
        with moved(point, ASIDE, seed, names) as aside:
            gradient = aside.gradients[name]
            scale = max(float(abs(gradient).max()), aside.floors[name])
            for entry in entries[:: 1 + (len(entries) - 1) // MAX_MEASURED]:
                slopes = aside.slopes({name: one(gradient, entry.index)})
                estimate = slopes.estimate(point.enough * measure.FLOOR * scale)
                there = aside.compare(name, entry.index, float(gradient[entry.index]), estimate, scale)
                if there.verdict == FAIL or (names and there.kink == "at"):
                    wrong.append(entry)
    return wrong
