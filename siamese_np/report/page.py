"""The report of a run as one HTML page, complete in itself: numbers, pictures and program, no other file."""

import base64
import html
import math
import os
import platform
import shlex
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siamese_np.augment import AUGMENTATIONS
from siamese_np.datasets import Dataset
from siamese_np.evaluation import Evaluation, class_words, figures, verdict
from siamese_np.metrics import pca_2d
from siamese_np.pages import filled
from siamese_np.report.shown import SEED, SHOWN, Shown, shown, tsne_2d

_SCRIPTS = ("page.js", "chart.js", "map.js", "threshold.js", "confusion.js", "training.js")


def page(
    evaluation: Evaluation, dataset: Dataset, history: Sequence[Mapping[str, float]], metrics: Mapping[str, Any]
) -> str:
    """The page of a run.

    Parameters
    ----------
    evaluation : Evaluation
    dataset : Dataset
        That it was evaluated on.
    history : sequence of dict
        A row for each epoch. A column that not all rows have is drawn where it is.
    metrics : dict
        As in ``metrics.json``; options, versions and seconds may be missing.
    """
    here = shown(evaluation, dataset)
    n, test, train = here.numbers, dataset.test.classes, dataset.train.classes
    classes = np.unique(np.concatenate([test, train]))

    def number_of(values: NDArray[Any]) -> Any:
        return np.searchsorted(classes, values).tolist()

    pca, explained = pca_2d(evaluation.emb)
    tsne = tsne_2d(evaluation.emb[n], pca[n])
    cells, counts = np.unique(np.stack([test, evaluation.voted]), axis=1, return_counts=True)
    ascending = [np.sort(evaluation.dist[evaluation.label == kind]) for kind in (0, 1)]
    data = {
        "classes": [str(name) for name in dataset.named(classes)],
        "tests": len(test),
        "points": {"number": n.tolist(), "class": number_of(test[n]), "knn": number_of(evaluation.voted[n])},
        "near": np.searchsorted(here.gallery, evaluation.neighbours[n]).tolist(),
        "near_dist": _rounded(evaluation.near[n]),
        "gallery": {"number": here.gallery.tolist(), "class": number_of(train[here.gallery])},
        "maps": {"pca": _rounded(pca[n]), "tsne": None if tsne is None else _rounded(tsne)},
        "explained": explained.tolist(),
        "confusion": [[*number_of(cell), count] for cell, count in zip(cells.T, counts.tolist(), strict=True)],
        # base64 of little-endian float64, with which counts are exact
        "distances": [base64.b64encode(dist.astype("<f8").tobytes()).decode() for dist in ascending],
        "pairs": _pairs(evaluation, n),
        "threshold": evaluation.metrics["threshold"],
        "margin": evaluation.metrics["margin"],
        "history": history,
        "sheet": {"across": here.across, "tile": here.tile, "size": here.size},
    }
    pictures = f'<script type="text/plain" id="sheet">{base64.b64encode(here.png).decode()}</script>'
    texts = {
        "TITLE": html.escape(metrics["data"]),
        "TESTS": f"{metrics['test_images']:,} test images, {metrics['test_pairs']:,} test pairs",
        "SHOWN": _shown_text(here, len(test)),
        "METRICS": _table(_measured(metrics)),
        "RUN": _table(_run(metrics)),
    }
    return filled(__package__, f"siamese_np: {texts['TITLE']}", data, _SCRIPTS, [pictures], texts)


def _measured(metrics: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows = [(words, figure) for figure, words in figures(metrics)]
    for pair in metrics["demonstration"]:
        (a, b), (one, other) = pair["images"], pair["classes"]
        words = f"test images {a} ({class_words(metrics, one)}) and {b} ({class_words(metrics, other)})"
        rows.append((words, f"{verdict(pair)}, {pair['distance']:.3f}"))
    return rows


def _run(metrics: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What the run was and where: all that it takes to do it again."""
    from siamese_np.runtime.scheduler import get_threads

    options = dict(metrics.get("options", {}))
    own = [name for name in ("network", "loss") if name in options]
    if options.get("augment", "none") not in AUGMENTATIONS:
        own.append("augment")
    words = [part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    command = f"siamese-np train {shlex.join(words + _data_options(metrics))}"
    if own:
        described = ", ".join(f"{name} {value}" for name, value in options.items())
        command = f"train_run in Python, with {' and '.join(own)} of the user's: {described}"
    versions = ", ".join(f"{name} {version}" for name, version in metrics.get("versions", {}).items())
    found = {
        "written": datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %z"),
        "command": command if options else "",
        "data": metrics["data"],
        "seed": str(options.get("seed", "")),
        "epoch of the weights": f"{metrics['epoch']:g}" if "epoch" in metrics else "",
        "seconds of training, without compiling": f"{metrics['seconds']:.1f}" if "seconds" in metrics else "",
        "versions": versions,
        "machine": f"{os.cpu_count()} cores, {get_threads()} threads, {platform.machine()}, {platform.system()}",
    }
    return [(name, value) for name, value in found.items() if value]


def _data_options(metrics: Mapping[str, Any]) -> list[str]:
    """The options of the command line that name data of the user's, and how their pictures are read."""
    source, form = metrics.get("source"), metrics.get("input")
    if not source or not source["source"] or not form:
        return []
    H, W, C = form["shape"]
    words = ["--data", *source["source"], *(["--split", source["split"]] if source["split"] else [])]
    return [*words, "--as", form["kind"], "--size", f"{H}x{W}", "--colour" if C == 3 else "--grey"]


def _table(rows: Sequence[tuple[str, str]]) -> str:
    cells = [
        (html.escape(words), " ".join(f"<span>{html.escape(word)}</span>" for word in value.split()))
        for words, value in rows
    ]
    return "\n".join(f'<tr><th scope="row">{words}</th><td>{value}</td></tr>' for words, value in cells)


def _shown_text(here: Shown, tests: int) -> str:
    if len(here.numbers) == tests:
        return f"All {tests:,} test images are here."
    return (
        f"Here are {len(here.numbers):,} of the {tests:,} test images: those of hard pairs and those that the "
        f"neighbours get wrong, at most {SHOWN // 2:,}, and a sample (seed {SEED}). Counts are of all test images."
    )


def _rounded(values: NDArray[Any]) -> list[Any]:
    """As JSON numbers of four decimals, or of four digits where all are small."""
    largest = float(np.abs(values).max()) or 1.0
    rounded: list[Any] = np.round(values, max(4, 3 - math.floor(math.log10(largest)))).tolist()
    return rounded


def _pairs(evaluation: Evaluation, numbers: NDArray[np.int64]) -> list[list[Any]]:
    """The test pairs of which the page has both pictures: their places in `numbers`, label, distance."""
    rows = np.flatnonzero(np.isin(evaluation.pairs, numbers).all(axis=1))
    places = np.searchsorted(numbers, evaluation.pairs[rows]).tolist()
    given = zip(places, evaluation.label[rows].tolist(), evaluation.dist[rows].tolist(), strict=True)
    return [[a, b, label, dist] for (a, b), label, dist in given]
