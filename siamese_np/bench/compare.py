"""Two runs compared: what became slower, by enough to matter and too surely to be chance.

- *slower*, *faster*: the median moved by more than the limit, and the rank test finds the two sets of samples
  different, at 5 % in all: with many timings each must pass 5 % divided by their number.
- *same*: the 95 % bootstrap interval of the ratio of the medians lies within the limit.
- *undecided*: neither, so more or steadier samples are needed.
"""

import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from siamese_np.bench.idle import sentence
from siamese_np.bench.op import layer_of, timed
from siamese_np.bench.probe import DRIFT, threads_text
from siamese_np.bench.sampling import CONFIDENCE, ratio_interval
from siamese_np.errors import DataError, OptionError
from siamese_np.reading import parse_json, read_whole

FORMAT = "siamese_np benchmark 1"
MAX_BYTES = 1 << 22  # of a file of results; all sections together have 100,000
SIGNIFICANCE = 0.05
VERDICTS = ("slower", "faster", "same", "undecided")


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
        content = parse_json(read_whole(path, MAX_BYTES))
    except FileNotFoundError:
        raise DataError(f"there is no file {path}") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        raise DataError(f"{path} is damaged or no JSON, as `siamese-np bench --out` writes it ({error})") from None
    found = content.get("format") if isinstance(content, dict) else None
    if found != FORMAT:
        raise DataError(f"{path} is not a {FORMAT!r} file, it says {found!r}")
    try:
        timings(content)
        if not isinstance(content.get("environment", {}), dict):
            raise TypeError
        sum(abs(change) for change in content.get("drift", {}).values())
        _busy(content)
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
    for row in whole.get("cost_per_image", ()):
        named[f"training: one of {row['images']:,} images"] = row["timing"]
    titles = {"peers": "beside peers", "dense_input": "dense input", "avx2": "at most AVX2"}
    points = [(title, results.get(name, {})) for name, title in titles.items()]
    points += [(threads_text(count), point) for count, point in results.get("thread_counts", {}).items()]
    for title, point in points:
        for task, by_peer in point.get("tasks", {}).items():
            if "siamese_np" in by_peer:
                named[f"{title}: {task}"] = by_peer["siamese_np"]["timing"]
    for entry in timed(results):
        named[f"op: {layer_of(entry)}, {entry['direction']}"] = entry["candidates"]["siamese_np"]["timing"]
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
    low: float  # 95 % interval of the ratio
    high: float
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
        low, high = ratio_interval(np.array(after[name]), np.array(before[name]))
        least, most = 1 / (1 + limit), 1 + limit
        verdict = "undecided"
        if not least <= ratio <= most and p < level:
            verdict = "slower" if ratio > 1 else "faster"
        elif least <= low and high <= most:
            verdict = "same"
        rows.append(Row(name, a, b, ratio, low, high, p, verdict))
    return rows


def unmatched(old: dict[str, Any], new: dict[str, Any]) -> tuple[list[str], list[str]]:
    """The names of the timings that vanished, and of those that are new."""
    before, after = timings(old), timings(new)
    return [name for name in before if name not in after], [name for name in after if name not in before]


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """What else than the code may have made the times of the two runs differ, a sentence each."""
    found = []
    if machine(old) != machine(new):
        found.append(
            f"the runs come from different machines, so the times say nothing about the code: {machine(old)} (old), "
            f"{machine(new)} (new)"
        )
    versions = [run.get("environment", {}).get("versions", {}) for run in (old, new)]
    for name in sorted(set().union(*versions)):
        one, other = (of.get(name, "none") for of in versions)
        if one != other:
            found.append(f"the runs have different versions of {name}: {one} (old), {other} (new)")
    for which, run in (("old", old), ("new", new)):
        if any(abs(change) > DRIFT for change in run.get("drift", {}).values()):
            found.append(f"the machine drifted during the {which} run, as its report says: small changes mean little")
        found += [f"the machine was busy {when} the {which} run: {said}" for when, said in _busy(run).items()]
    return found


def _busy(results: dict[str, Any]) -> dict[str, str]:
    """What was noticed before and after a run of others that were at work on its machine."""
    moments = results.get("idle", {}).items()
    return {when: sentence(found["others"]) for when, found in moments if found["busy"]}


def text(rows: Sequence[Row], old: dict[str, Any], new: dict[str, Any], limit: float) -> str:
    """The comparison for a terminal: first what speaks against it, and how it is decided."""
    lines = [said[:1].upper() + said[1:] + "." for said in differences(old, new)]
    if new.get("environment") and machine(old) == machine(new):
        lines.append(f"Both runs: {machine(new)}.")
    moved = f"{100 * limit:g} %"
    lines.append(
        f"slower, faster: the median moved by more than {moved}, and a rank test says that this is no chance; "
        f"same: the {100 * CONFIDENCE:g} % interval of new/old lies within {moved}; undecided: neither."
    )
    width = max(len(row.name) for row in rows)
    lines.append(f"{'':{width}}  {'old ms':>10} {'new ms':>10} {'new/old':>8} {'interval':>14} {'p':>8}")
    for name, a, b, ratio, low, high, p, verdict in rows:
        spread = f"{low:.3f} - {high:.3f}"
        lines.append(
            f"{name:{width}}  {1e3 * a:>10.3f} {1e3 * b:>10.3f} {ratio:>8.3f} {spread:>14} {p:>8.1g} {verdict}"
        )
    counts = ", ".join(f"{sum(row.verdict == word for row in rows)} {word}" for word in VERDICTS)
    lines.append(f"{len(rows)} timings: {counts}")
    for which, names in zip(("vanished", "new"), unmatched(old, new), strict=True):
        lines += [f"{which}: {name}" for name in names]
    return "\n".join(lines)


def machine(results: dict[str, Any]) -> str:
    """``"2 cores, one CPU model: AMD EPYC (family 26, model 2)"``: where the ratios of a run hold."""
    facts = results.get("environment", {})
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
