"""Judges a trained model on the test images, and writes what a run folder shows: figures, pictures, a page."""

import base64
import csv
import html
import io
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siamese_np.datasets import Dataset, Split
from siamese_np.metrics import all_pairs_metrics, knn_accuracy, nearest, pair_distances, pair_metrics
from siamese_np.network import SiameseNetwork
from siamese_np.pairs import random_pairs
from siamese_np.storage import write_atomically
from siamese_np.training import EVALUATION_SEED

NEIGHBOURS = 5  # k of the nearest-neighbour classifier

# What is said of a model, in this order, on the terminal and on the page: JSON key, words, format.
LINES = [
    ("pair_accuracy", "pair accuracy, threshold calibrated on validation pairs", ".4f"),
    ("pair_accuracy_at_half_margin", "pair accuracy at half the margin", ".4f"),
    ("threshold", "calibrated threshold", ".4f"),
    ("auc", "area under the ROC curve (AUC)", ".5f"),
    ("eer", "equal error rate (EER)", ".4f"),
    ("tar_at_far_1e-3", "true accepts at one false accept in 1,000 (TAR@FAR)", ".4f"),
    ("auc_all_pairs", "AUC over all pairs of test images", ".5f"),
    ("eer_all_pairs", "EER over all pairs of test images", ".4f"),
    ("knn_accuracy", f"{NEIGHBOURS}-nearest-neighbour accuracy on the embeddings", ".4f"),
    ("loss", "contrastive loss of the test pairs", ".4f"),
]


@dataclass(frozen=True, eq=False)
class Judgement:
    """A model's test figures, ready for JSON, and the arrays the pictures are drawn from."""

    figures: dict[str, Any]
    emb: NDArray[Any]
    gallery: NDArray[Any]
    pairs: NDArray[np.int64]
    label: NDArray[np.int64]
    dist: NDArray[Any]


def judge(siamese: SiameseNetwork, dataset: Dataset) -> Judgement:
    """Embed the test images and measure; nothing is chosen here, the threshold is the model's own.

    Parameters
    ----------
    siamese : SiameseNetwork
    dataset : Dataset
        Its test part is judged; its training part (without validation) is the gallery of the
        nearest-neighbour classifier. The test pairs are the same for every model: one similar and one
        dissimilar pair for each image, drawn with a fixed seed.
    """
    siamese.embed(dataset.test.images[:1])  # compiles or loads the kernels before the clock starts
    start = time.perf_counter()
    emb = siamese.embed(dataset.test.images)
    embedding_seconds = time.perf_counter() - start
    gallery = siamese.embed(dataset.train.images)
    pairs, label = random_pairs(dataset.test.classes, np.random.default_rng(EVALUATION_SEED))
    dist = pair_distances(emb, pairs)
    figures = pair_metrics(dist, label, siamese.threshold, siamese.margin)
    all_pairs = all_pairs_metrics(emb, dataset.test.classes)
    figures["auc_all_pairs"], figures["eer_all_pairs"] = all_pairs["auc"], all_pairs["eer"]
    k = min(NEIGHBOURS, len(gallery))
    figures["knn_accuracy"] = knn_accuracy(emb, dataset.test.classes, gallery, dataset.train.classes, k)
    figures["embeddings_per_second"] = len(emb) / embedding_seconds
    figures["margin"] = siamese.margin
    figures["data"] = dataset.name
    figures["test_images"], figures["test_pairs"] = len(emb), len(pairs)
    figures["demonstration"] = _demonstration(siamese, emb, dataset.test)
    return Judgement(figures, emb, gallery, pairs, label, dist)


def _demonstration(siamese: SiameseNetwork, emb: NDArray[Any], test: Split) -> list[dict[str, Any]]:
    """The original notebook's: the distances between two images of a 3 and one of a 7.

    Data without these classes gives its first two.
    """
    classes = np.unique(test.classes)
    one, other = (3, 7) if {3, 7} <= set(classes.tolist()) else classes[:2].tolist()
    (a, b), c = np.flatnonzero(test.classes == one)[:2].tolist(), int((test.classes == other).argmax())
    pairs = np.array([[a, b], [a, c], [b, c]])
    return [
        {
            "classes": test.classes[pair].tolist(),
            "images": pair.tolist(),
            "distance": float(dist),
            "similar": bool(dist < siamese.threshold),
        }
        for pair, dist in zip(pairs, pair_distances(emb, pairs), strict=True)
    ]


def text(figures: Mapping[str, Any]) -> str:
    """The figures as lines for a terminal."""
    lines = [f"{figures['data']}: {figures['test_images']:,} test images, {figures['test_pairs']:,} test pairs"]
    lines += [f"  {figures[key]:<9{form}} {words}" for key, words, form in LINES]
    for kind in ("similar", "dissimilar"):
        of = figures[f"{kind}_distance"]
        lines.append(
            f"  distance of {kind} pairs: median {of['p50']:.3f}, 1 to 99 percent {of['p1']:.3f} to {of['p99']:.3f}"
        )
    for pair in figures["demonstration"]:
        (one, other), verdict = pair["classes"], _verdict(pair)
        lines.append(f"  an image of a {one} and one of a {other}: distance {pair['distance']:.3f}, {verdict}")
    return "\n".join(lines)


def _verdict(pair: Mapping[str, Any]) -> str:
    return "similar" if pair["similar"] else "dissimilar"


def write_run(
    folder: Path,
    judgement: Judgement,
    dataset: Dataset,
    history: Sequence[Mapping[str, float]],
    figures: Mapping[str, Any],
) -> None:
    """Write ``history.csv``, the pictures and ``report.html`` to the run folder, then ``metrics.json``.

    ``metrics.json`` comes last because it marks the run as complete: until then the run can be resumed.
    """
    write_history(folder, history)
    pictures = draw(folder, judgement, dataset, history)
    # a file name in it may hold bytes that are no UTF-8
    write_atomically(folder / "report.html", page(figures, pictures).encode(errors="backslashreplace"))
    write_atomically(folder / "metrics.json", (json.dumps(figures, indent=2) + "\n").encode())


def write_history(folder: Path, history: Sequence[Mapping[str, float]]) -> None:
    """Write one row per epoch to ``history.csv``."""
    content = io.StringIO(newline="")
    writer = csv.DictWriter(content, list(history[0]) if history else ["epoch"])
    writer.writeheader()
    writer.writerows(history)
    write_atomically(folder / "history.csv", content.getvalue().encode())


def draw(
    folder: Path, judgement: Judgement, dataset: Dataset, history: Sequence[Mapping[str, float]]
) -> list[tuple[Path, str]]:
    """Draw the pictures of a run; return their paths, each with a sentence that says what it shows."""
    from siamese_np import plots

    j, test, threshold = judgement, dataset.test, judgement.figures["threshold"]
    shown = np.sort(np.unique(test.classes, return_index=True)[1])
    indices, distances = nearest(j.emb[shown], j.gallery, min(8, len(j.gallery)))
    pair_arrays = (test.images, j.pairs, j.dist, j.label, threshold, test.classes)
    return [
        (
            plots.plot_embedding_map(folder / "embedding_map.png", j.emb, test.classes),
            "Embeddings of the test images, the two directions of largest variance, one colour a class.",
        ),
        (
            plots.plot_distances(folder / "distances.png", j.dist, j.label, threshold, j.figures["margin"]),
            "Distances of similar and of dissimilar test pairs, and the threshold between them.",
        ),
        (
            plots.plot_roc(folder / "roc.png", j.dist, j.label),
            "True accepts against false accepts, for every threshold.",
        ),
        (
            plots.plot_history(folder / "history.png", history),
            "Loss and pair accuracy after each epoch.",
        ),
        (
            plots.plot_pairs(folder / "pairs.png", *pair_arrays),
            "Some test pairs with their distance and verdict.",
        ),
        (
            plots.plot_neighbours(
                folder / "neighbours.png",
                test.images[shown],
                test.classes[shown],
                dataset.train.images,
                dataset.train.classes,
                indices,
                distances,
            ),
            "The first test image of each class, and the training images nearest to it.",
        ),
        (
            plots.plot_mistakes(folder / "mistakes.png", *pair_arrays),
            "The pairs furthest on the wrong side of the threshold.",
        ),
    ]


def page(figures: Mapping[str, Any], pictures: Sequence[tuple[Path, str]]) -> str:
    """One HTML page, complete in itself, with the figures and the pictures."""
    lines = [(words, f"{figures[key]:{form}}") for key, words, form in LINES]
    for pair in figures["demonstration"]:
        (a, b), (one, other), verdict = pair["images"], pair["classes"], _verdict(pair)
        lines.append((f"test images {a} (a {one}) and {b} (a {other})", f"{verdict}, {pair['distance']:.3f}"))
    lines.append(("seconds of training, without compiling", f"{figures['seconds']:.1f}"))
    rows = "\n".join(f"<tr><td>{html.escape(words)}</td><td>{figure}</td></tr>" for words, figure in lines)
    options = ", ".join(f"{key} {value}" for key, value in figures.get("options", {}).items())
    shown = "\n".join(
        f'<figure><img alt="{html.escape(words)}" src="data:image/png;base64,'
        f'{base64.b64encode(path.read_bytes()).decode()}"><figcaption>{html.escape(words)}</figcaption></figure>'
        for path, words in pictures
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>siamese_np: {html.escape(figures["data"])}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #222 }}
table {{ border-collapse: collapse }}
td {{ padding: .2rem 1.5rem .2rem 0; border-bottom: 1px solid #ddd }}
td + td {{ text-align: right; font-variant-numeric: tabular-nums }}
figure {{ margin: 2.5rem 0 }}
img {{ max-width: 100% }}
figcaption, .options {{ color: #555; font-size: .9rem }}
</style>
<h1>{html.escape(figures["data"])}</h1>
<p>{figures["test_images"]:,} test images, {figures["test_pairs"]:,} test pairs.</p>
<p class="options">{html.escape(options)}</p>
<table>
{rows}
</table>
{shown}
</html>
"""
