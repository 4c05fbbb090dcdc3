"""Files of results: read back with a check of what they are, and every timing in them under a name of its own."""

import json
import math
from pathlib import Path
from typing import Any

from siamese_np.bench.suite import FORMAT
from siamese_np.bench.words import threads_text
from siamese_np.errors import DataError


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
    named: dict[str, list[float]] = {}
    for entry in results.get("ladder", ()):
        for threads, timing in entry["timings"].items():
            name = f"ladder: {entry['operation']}, {entry['rung']}, {entry['images']} images, {threads_text(threads)}"
            named[name] = _samples(timing)
    whole = results.get("end_to_end", {})
    for row in whole.get("steps", ()):
        named[f"step: {row['preset']}, {row['pairs']} pairs, {threads_text(row['threads'])}"] = _samples(row["timing"])
    for row in whole.get("embeddings", ()):
        name = f"embedding: {row['preset']}, {row['images']:,} images, {threads_text(row['threads'])}"
        named[name] = _samples(row["timing"])
    for name, row in whole.get("exact", {}).items():
        named[f"exact: {name}"] = _samples(row["timing"])
    for task, by_peer in results.get("peers", {}).get("tasks", {}).items():
        if "siamese_np" in by_peer:
            named[f"beside peers: {task}"] = _samples(by_peer["siamese_np"]["timing"])
    return named


def _samples(timing: dict[str, Any]) -> list[float]:
    samples = [float(sample) for sample in timing["samples"]]
    if not isinstance(timing["samples"], list) or not samples or not all(0 < sample < math.inf for sample in samples):
        raise ValueError
    return samples
