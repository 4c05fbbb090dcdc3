"""Two runs side by side: what became slower, by enough to matter and too surely to be chance.

A timing counts as slower (or faster) if its median moved by more than the limit *and* the rank test finds the
two sets of samples different, at 5 % in all: with many timings each must pass 5 % divided by their number.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from siamese_np.bench.probe import DRIFT
from siamese_np.bench.results import timings
from siamese_np.errors import DataError, OptionError

SIGNIFICANCE = 0.05


class Row(NamedTuple):
    """One timing in both runs; `p` is the rank test's, `verdict` "slower", "faster", "same" or "undecided"."""

    name: str
    old: float  # median seconds
    new: float
    ratio: float  # new / old
    p: float
    verdict: str


def compare(old: dict[str, Any], new: dict[str, Any], limit: float) -> list[Row]:
    """Compare all timings that both runs have; `limit` is the least change that matters, 0.05 for 5 %.

    Raises
    ------
    DataError
        The runs have no timing in common.
    """
    before, after = timings(old), timings(new)
    common = [name for name in before if name in after]
    if not common:
        raise DataError("the two runs have no timing in common, so there is nothing to compare")
    level = SIGNIFICANCE / len(common)
    rows = []
    for name in common:
        a, b = before[name], after[name]
        ratio = median(b) / median(a)
        p = mann_whitney(a, b)
        large = ratio > 1 + limit or ratio < 1 / (1 + limit)
        if not large:
            verdict = "same"
        elif p < level:
            verdict = "slower" if ratio > 1 else "faster"
        else:
            # too few samples to ever pass, or too much noise
            verdict = "undecided"
        rows.append(Row(name, median(a), median(b), ratio, p, verdict))
    return rows


def text(rows: Sequence[Row], old: dict[str, Any], new: dict[str, Any], limit: float) -> str:
    """The comparison for a terminal."""
    width = max(len(row.name) for row in rows)
    lines = [f"{'':{width}}  {'old ms':>10} {'new ms':>10} {'new/old':>8} {'p':>8}"]
    for row in rows:
        mark = "" if row.verdict == "same" else row.verdict
        old_ms, new_ms = 1e3 * row.old, 1e3 * row.new
        lines.append(
            f"{row.name:{width}}  {old_ms:>10.3f} {new_ms:>10.3f} {row.ratio:>8.3f} {row.p:>8.1g} {mark}".rstrip()
        )
    count = {verdict: sum(row.verdict == verdict for row in rows) for verdict in ("slower", "faster", "undecided")}
    lines.append(
        f"{len(rows)} timings, limit {100 * limit:g} %: {count['slower']} slower, {count['faster']} faster, "
        f"{count['undecided']} moved by more but may be chance"
    )
    for which, run in (("old", old), ("new", new)):
        if any(abs(change) > DRIFT for change in run.get("drift", {}).values()):
            lines.append(f"the machine drifted during the {which} run, as its report says: small changes mean little")
    only = set(timings(old)) ^ set(timings(new))
    if only:
        lines.append(f"{len(only)} further timings are in one of the runs only")
    environments = [run.get("environment", {}) for run in (old, new)]
    machines = [(found.get("model_name"), found.get("processors")) for found in environments]
    if all(environments) and machines[0] != machines[1]:
        lines.append("the runs come from different machines: the times say nothing about the code")
    return "\n".join(lines)


def parse_limit(value: str) -> float:
    """``"5%"`` or ``"5"`` as 0.05; OptionError for anything else than a percentage of at least 0."""
    try:
        percent = float(value.removesuffix("%"))
    except ValueError:
        percent = math.nan
    if not 0 <= percent < math.inf:
        raise OptionError(f"--fail-over must be a percentage such as 5%, not {value!r}")
    return percent / 100


def median(values: Sequence[float]) -> float:
    """Median of a few numbers."""
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def mann_whitney(a: Sequence[float], b: Sequence[float]) -> float:
    """Two-sided p-value of the rank test: how often chance alone would part `a` and `b` this far.

    U counts the pairs in which b's sample is the larger. Without ties its distribution is counted exactly;
    with ties it is taken as normal, corrected for ties and continuity.

    Source: H. Mann, D. Whitney, "On a test of whether one of two random variables is stochastically larger
    than the other", 1947.
    """
    n, m = len(a), len(b)
    u = sum((y > x) + 0.5 * (y == x) for x in a for y in b)
    both = sorted([*a, *b])
    ties = [both.count(value) for value in set(both)]
    if max(ties) == 1:
        ways = _ways(n, m)
        tail = sum(ways[: int(min(u, n * m - u)) + 1])
        return min(1.0, 2 * tail / math.comb(n + m, n))
    total = n + m
    variance = n * m / 12 * (total + 1 - sum(t**3 - t for t in ties) / (total * (total - 1)))
    if variance == 0:
        return 1.0
    z = max(0.0, abs(u - n * m / 2) - 0.5) / math.sqrt(variance)
    return math.erfc(z / math.sqrt(2))


def _ways(n: int, m: int) -> list[int]:
    """In how many of the orders of n and m samples U is 0, 1, ..., n m: coefficients of the Gaussian binomial."""
    ways = [1] + [0] * (n * m)
    for i in range(1, n + 1):
        for u in range(n * m, m + i - 1, -1):  # times 1 - q^(m + i)
            ways[u] -= ways[u - m - i]
        for u in range(i, n * m + 1):  # divided by 1 - q^i
            ways[u] += ways[u - i]
    return ways
