"""Two runs compared: what became slower, by enough to matter and too surely to be chance.

A timing counts as slower (or faster) if its median moved by more than the limit *and* the rank test finds the
two sets of samples different, at 5 % in all: with many timings each must pass 5 % divided by their number.
"""

import json
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from siamese_np.bench.probe import DRIFT, threads_text
from siamese_np.errors import DataError, OptionError

FORMAT = "siamese_np benchmark 1"
SIGNIFICANCE = 0.05


def read_results(path: Path) -> dict[str, Any]:
    """Read what ``siamese-np bench --out`` or ``--json`` wrote; ``path`` is the file or its folder.

    Raises
    ------
    DataError
        The file is missing, damaged, or of another format.
    """
    if path.is_dir():
        path = path / "benchmark.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"there is no file {path}") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from None
    except (ValueError, RecursionError):
        raise DataError(f"{path} is damaged or no JSON, as `siamese-np bench --out` writes it") from None
    found = content.get("format") if isinstance(content, dict) else None
    if found != FORMAT:
        raise DataError(f"{path} is not a {FORMAT!r} file, it says {found!r}")
    try:
        timings(content)
        if not isinstance(content.get("environment", {}), dict):
            raise TypeError
        sum(abs(change) for change in content.get("drift", {}).values())
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError):
        raise DataError(f"{path} says it is a {FORMAT!r} file, but its contents are not those of one") from None
    return content


def timings(results: dict[str, Any]) -> dict[str, list[float]]:
    """All samples of this package's timings, in seconds a call, by name."""
    named: dict[str, Any] = {}
    for entry in results.get("ladder", ()):
        name = f"ladder: {entry['operation']}, {entry['rung']}, {entry['images']} images"
        named.update({f"{name}, {threads_text(threads)}": timing for threads, timing in entry["timings"].items()})
    whole = results.get("end_to_end", {})
    for row in whole.get("steps", ()):
        named[f"step: {row['preset']}, {row['pairs']} pairs, {threads_text(row['threads'])}"] = row["timing"]
    for row in whole.get("embeddings", ()):
        named[f"embedding: {row['preset']}, {row['images']:,} images, {threads_text(row['threads'])}"] = row["timing"]
    named.update({f"exact: {name}": row["timing"] for name, row in whole.get("exact", {}).items()})
    for task, by_peer in results.get("peers", {}).get("tasks", {}).items():
        if "siamese_np" in by_peer:
            named[f"beside peers: {task}"] = by_peer["siamese_np"]["timing"]
    return {name: _samples(timing) for name, timing in named.items()}


def _samples(timing: dict[str, Any]) -> list[float]:
    samples = [float(sample) for sample in timing["samples"]]
    if not isinstance(timing["samples"], list) or not samples or not all(0 < sample < math.inf for sample in samples):
        raise ValueError
    return samples


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
        a, b = statistics.median(before[name]), statistics.median(after[name])
        ratio, p = b / a, mann_whitney(before[name], after[name])
        if 1 / (1 + limit) <= ratio <= 1 + limit:
            verdict = "same"
        elif p < level:
            verdict = "slower" if ratio > 1 else "faster"
        else:
            verdict = "undecided"  # too few samples to ever pass, or too much noise
        rows.append(Row(name, a, b, ratio, p, verdict))
    return rows


def text(rows: Sequence[Row], old: dict[str, Any], new: dict[str, Any], limit: float) -> str:
    """The comparison for a terminal."""
    width = max(len(row.name) for row in rows)
    lines = [f"{'':{width}}  {'old ms':>10} {'new ms':>10} {'new/old':>8} {'p':>8}"]
    for name, a, b, ratio, p, verdict in rows:
        lines.append(f"{name:{width}}  {1e3 * a:>10.3f} {1e3 * b:>10.3f} {ratio:>8.3f} {p:>8.1g} {verdict}")
    slower, faster, undecided = (sum(row.verdict == v for row in rows) for v in ("slower", "faster", "undecided"))
    lines.append(
        f"{len(rows)} timings, limit {100 * limit:g} %: {slower} slower, {faster} faster, "
        f"{undecided} moved by more but may be chance"
    )
    for which, run in (("old", old), ("new", new)):
        if any(abs(change) > DRIFT for change in run.get("drift", {}).values()):
            lines.append(f"the machine drifted during the {which} run, as its report says: small changes mean little")
    if only := set(timings(old)) ^ set(timings(new)):
        lines.append(f"{len(only)} further timings are in one of the runs only")
    if old.get("environment") and new.get("environment"):
        same = machine(old) == machine(new)
        lines.append(f"both runs: {machine(new)}" if same else f"old run: {machine(old)}; new run: {machine(new)}")
        if not same:
            lines.append("the runs come from different machines: the times say nothing about the code")
    return "\n".join(lines)


def machine(results: dict[str, Any]) -> str:
    """``"2 cores, one CPU model: AMD EPYC (family 26, model 2)"``: where the ratios of a run hold."""
    facts = results["environment"]
    cores = "1 core" if facts.get("processors") == 1 else f"{facts.get('processors')} cores"
    model = f" (family {facts['cpu_family']}, model {facts.get('model')})" if "cpu_family" in facts else ""
    return f"{cores}, one CPU model: {facts.get('model_name') or facts.get('processor')}{model}"


def parse_limit(value: str) -> float:
    """``"5%"`` or ``"5"`` as 0.05; OptionError for anything else than a percentage of at least 0."""
    try:
        percent = float(value.removesuffix("%"))
    except ValueError:
        percent = math.nan
    if not 0 <= percent < math.inf:
        raise OptionError(f"--fail-over must be a percentage such as 5%, not {value!r}")
    return percent / 100


def mann_whitney(a: Sequence[float], b: Sequence[float]) -> float:
    """Two-sided p-value of the rank test: how often chance alone would separate `a` and `b` this far.

    It counts all ways to choose which of the samples are a's, by their rank sum. Equal samples share their mean rank.

    Source: H. Mann, D. Whitney, "On a test of whether one of two random variables is stochastically larger
    than the other", 1947.
    """
    both, n = sorted([*a, *b]), len(a)
    rank = {value: 2 * both.index(value) + both.count(value) + 1 for value in both}  # twice the mean rank
    total = sum(rank[value] for value in both)
    ways = np.zeros((n + 1, total + 1))  # by the number of a's and their rank sum
    ways[0, 0] = 1
    for value in both:
        ways[1:, rank[value] :] += ways[:-1, : -rank[value]]
        ways /= 2  # only their ratios matter
    distance = abs(np.arange(total + 1) * len(both) - n * total)  # from the mean rank sum
    as_far = distance >= distance[sum(rank[value] for value in a)]
    return float(ways[n, as_far].sum() / ways[n].sum())
