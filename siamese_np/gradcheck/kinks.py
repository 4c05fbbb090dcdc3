"""Kinks, where a function has no gradient but an interval of them between its slopes to either side.

Entry by entry, a slope at a kink need only lie between the left and the right one. That is not enough: max(a, b) at
a = b has the slopes 0 and 1 in a and in b, so (1, 1) would do; but moving both together moves the maximum by as much,
not twice as much. So entries that meet in one output (a tie) are moved together too, and all arrays at once.

The interval is formed for each output alone and then summed with dout: outputs bent up and outputs bent down
do not cancel. Compositions of kinks can have a chain-rule gradient outside even this interval: compositions.py.

Source: F. H. Clarke, "Optimization and Nonsmooth Analysis", 1983 (generalised gradients).
"""

from collections import defaultdict
from collections.abc import Iterator

import numpy as np

from siamese_np.gradcheck.case import Arrays
from siamese_np.gradcheck.compositions import excuse_direction
from siamese_np.gradcheck.differences import Estimate
from siamese_np.gradcheck.point import Index, Point, signs
from siamese_np.gradcheck.report import Entry
from siamese_np.gradcheck.taylor import Taylor, taylor

MAX_GROUPS = 32
RANDOM = 4

Member = tuple[str, Index]


def check_directions(point: Point, rng: np.random.Generator) -> tuple[list[Entry], list[Entry], Taylor]:
    """Compare slopes along random directions through everything; and through all kinks, and through each tie.

    And the Taylor remainders along the first of the random directions.
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
    together = []
    for group in _ties(point, rng):
        label = "together: " + ", ".join(f"{name}{list(index)}" for name, index in group[:4])
        label += f" and {len(group) - 4} more" if len(group) > 4 else ""
        together.append(compare(label, _direction(arrays, group, np.ones(len(group)))))
        together.append(compare(f"{label}, random signs", _direction(arrays, group, signs(rng, (len(group),)))))
    kinks = [(name, index) for name, index, _ in _at_kinks(point)]
    for number in range(RANDOM if kinks else 0):
        label = f"kinks, random signs {number + 1}"
        together.append(compare(label, _direction(arrays, kinks, signs(rng, (len(kinks),)))))
    return through_all, together, remainders[0]


def _at_kinks(point: Point) -> Iterator[tuple[str, Index, Estimate]]:
    for name, estimates in point.estimates.items():
        for index, estimate in estimates.items():
            if estimate.kink == "at":
                yield name, index, estimate


def _ties(point: Point, rng: np.random.Generator) -> list[list[Member]]:
    """The groups of entries at a kink that move the same output."""
    meeting: dict[int, list[Member]] = defaultdict(list)
    for name, index, estimate in _at_kinks(point):
        for output in np.flatnonzero(np.asarray(estimate.moves)):
            meeting[int(output)].append((name, index))
    groups = list(dict.fromkeys(tuple(members) for members in meeting.values() if len(members) > 1))
    chosen = rng.permutation(len(groups))[:MAX_GROUPS]
    return [list(groups[k]) for k in np.sort(chosen)]


def _direction(arrays: Arrays, members: list[Member], weights: np.ndarray) -> Arrays:
    direction: Arrays = {}
    for (name, index), weight in zip(members, weights, strict=True):
        direction.setdefault(name, np.zeros_like(arrays[name]))[index] = weight
    return direction
