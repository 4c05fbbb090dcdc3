"""Evaluation of a trained model on the test images, and what a run folder shows: metrics, history, pictures, a page."""

import csv
import io
import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siamese_np._checks import check_pairable
from siamese_np.bootstrap import all_pairs_intervals
from siamese_np.datasets import Dataset, Split
from siamese_np.errors import ModelError
from siamese_np.evaluation_pairs import evaluation_pairs, load_evaluation_pairs
from siamese_np.metrics import knn_vote, map_at_r, nearest, pair_distances, pair_metrics
from siamese_np.network import SiameseNetwork
from siamese_np.storage import write_atomically

NEIGHBOURS = 5  # k of the nearest-neighbour classifier

# What overwriting removes, in this order: what is left when it is interrupted is a run that can be resumed, or none
RUN_FILES = ("metrics.json", "report.html", "history.csv", "model.npz", "checkpoint.npz")

# What is said of a model, in this order, on the terminal and on the page: JSON key, words, format.
LINES = [
    ("pair_accuracy", "pair accuracy, threshold calibrated on validation pairs", ".4f"),
    ("pair_accuracy_at_half_margin", "pair accuracy at half the margin", ".4f"),
    ("threshold", "calibrated threshold", ".4f"),
    ("auc", "area under the ROC curve (AUC)", ".5f"),
    ("eer", "equal error rate (EER)", ".4f"),
    ("tar_at_far_1e-3", "true accepts at one false accept in 1,000 (TAR@FAR)", ".4f"),
    ("d_prime", "decidability d': the means' difference over the root of the mean variance", ".2f"),
    ("auc_all_pairs", "AUC over all pairs of test images", ".5f"),
    ("eer_all_pairs", "EER over all pairs of test images", ".4f"),
    ("balanced_accuracy_all_pairs", "balanced accuracy over all pairs, at the calibrated threshold", ".4f"),
    ("tar_at_far_1e-3_all_pairs", "TAR at a FAR of one in 1,000, over all pairs", ".4f"),
    ("pair_accuracy_confusable", "pair accuracy where dissimilar digits look alike (4/9, 3/5, 7/9, 3/8)", ".4f"),
    ("map_at_r", "mean average precision at R (MAP@R), each test image among the others", ".4f"),
    ("knn_accuracy", f"{NEIGHBOURS}-nearest-neighbour accuracy on the embeddings", ".4f"),
    ("loss", "contrastive loss of the test pairs", ".4f"),
]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What was measured on the test images, ready for JSON, and the arrays that pictures and page are made of.

    `neighbours` (N, k) are the training images nearest to each test image, `near` their distances, and `voted` (N,) the
    class that they vote for.
    """

    metrics: dict[str, Any]
    emb: NDArray[Any]
    gallery: NDArray[Any]
    neighbours: NDArray[np.intp]
    near: NDArray[np.float64]
    voted: NDArray[np.int64]
    pairs: NDArray[np.int64]
    label: NDArray[np.int64]
    dist: NDArray[Any]


def evaluate(siamese: SiameseNetwork, dataset: Dataset) -> Evaluation:
    """Embed the test images and measure; nothing is chosen here, the threshold is the model's own.

    Parameters
    ----------
    siamese : SiameseNetwork
    dataset : Dataset
        Its test part is measured; its training part (without validation) is the gallery of the
        nearest-neighbour classifier. The test pairs are the same for every model: one similar and one
        dissimilar pair for each image, drawn with a fixed seed.

    Raises
    ------
    DataError
        The test images are not of at least two classes with at least two images each.
    """
    check_pairable(dataset.test.classes, f"test images of {dataset.name}")
    siamese.embed(dataset.test.images[:1])  # compiles or loads the kernels before the clock starts
    start = time.perf_counter()
    emb = siamese.embed(dataset.test.images)
    embedding_seconds = time.perf_counter() - start
    gallery = siamese.embed(dataset.train.images)
    bundled = dataset.name == "MNIST"
    pairs, label = load_evaluation_pairs("test") if bundled else evaluation_pairs(dataset.test.classes)
    dist = pair_distances(emb, pairs)
    metrics = pair_metrics(dist, label, siamese.threshold, siamese.margin)
    all_pairs = all_pairs_intervals(emb, dataset.test.classes, siamese.threshold)
    for name in ("auc", "eer", "tar_at_far_1e-3", "balanced_accuracy"):
        metrics[f"{name}_all_pairs"] = all_pairs[name]
        if f"{name}_interval" in all_pairs:
            metrics[f"{name}_all_pairs_interval"] = all_pairs[f"{name}_interval"]
    if bundled:
        alike, alike_label = load_evaluation_pairs("test", confusable=True)
        alike_metrics = pair_metrics(pair_distances(emb, alike), alike_label, siamese.threshold, siamese.margin)
        metrics["pair_accuracy_confusable"], metrics["eer_confusable"] = (
            alike_metrics["pair_accuracy"],
            alike_metrics["eer"],
        )
    metrics["map_at_r"] = map_at_r(emb, dataset.test.classes)
    neighbours, near = nearest(emb, gallery, min(NEIGHBOURS, len(gallery)))
    voted = knn_vote(dataset.train.classes[neighbours])
    metrics["knn_accuracy"] = float(np.mean(voted == dataset.test.classes))
    metrics["embeddings_per_second"] = len(emb) / embedding_seconds
    metrics["margin"] = siamese.margin
    metrics["data"] = dataset.name
    metrics["test_images"], metrics["test_pairs"] = len(emb), len(pairs)
    metrics["demonstration"] = _demonstration(siamese, emb, dataset.test)
    return Evaluation(metrics, emb, gallery, neighbours, near, voted, pairs, label, dist)


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


def figures(metrics: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Each figure of `LINES` that was measured, and what it is."""
    lines = []
    for key, words, form in LINES:
        if key in metrics:
            low, high = metrics.get(f"{key}_interval", (None, None))
            interval = "" if low is None else f", 95 % interval {low:{form}} to {high:{form}}"
            lines.append((f"{metrics[key]:{form}}", words + interval))
    return lines


def text(metrics: Mapping[str, Any]) -> str:
    """The metrics as lines for a terminal."""
    lines = [f"{metrics['data']}: {metrics['test_images']:,} test images, {metrics['test_pairs']:,} test pairs"]
    lines += [f"  {figure:<9} {words}" for figure, words in figures(metrics)]
    for kind in ("similar", "dissimilar"):
        of = metrics[f"{kind}_distance"]
        lines.append(
            f"  distance of {kind} pairs: median {of['p50']:.3f}, 1 to 99 percent {of['p1']:.3f} to {of['p99']:.3f}"
        )
    for pair in metrics["demonstration"]:
        (one, other), distance = pair["classes"], pair["distance"]
        lines.append(f"  an image of a {one} and one of a {other}: distance {distance:.3f}, {verdict(pair)}")
    return "\n".join(lines)


def verdict(pair: Mapping[str, Any]) -> str:
    return "similar" if pair["similar"] else "dissimilar"


def write_run(
    folder: Path,
    evaluation: Evaluation,
    dataset: Dataset,
    history: Sequence[Mapping[str, float]],
    metrics: Mapping[str, Any],
) -> None:
    """Write ``history.csv``, the pictures and ``report.html`` to the run folder, then ``metrics.json``.

    ``metrics.json`` comes last because it marks the run as complete: until then the run can be resumed.
    """
    from siamese_np.report.page import page  # which shows what is defined here

    write_history(folder, history)
    draw(folder, evaluation, dataset, history)
    # a file name in it may hold bytes that are no UTF-8
    content = page(evaluation, dataset, history, metrics).encode(errors="backslashreplace")
    write_atomically(folder / "report.html", content)
    write_atomically(folder / "metrics.json", (json.dumps(metrics, indent=2) + "\n").encode())


def write_history(folder: Path, history: Sequence[Mapping[str, float]]) -> None:
    """Write one row per epoch to ``history.csv``; a column that an older run did not measure is empty in its rows."""
    content = io.StringIO(newline="")
    writer = csv.DictWriter(content, list(dict.fromkeys(name for row in history for name in row)) or ["epoch"])
    writer.writeheader()
    writer.writerows(history)
    write_atomically(folder / "history.csv", content.getvalue().encode())


def drawable(images: NDArray[Any]) -> NDArray[Any]:
    """`images` as pictures take them: of channels that are no grey and no colours the first, of vectors one row."""
    if images.ndim not in (3, 4):
        images = images.reshape(len(images), 1, -1)
    return images[..., :1] if images.ndim == 4 and images.shape[3] not in (1, 3) else images


def draw(folder: Path, evaluation: Evaluation, dataset: Dataset, history: Sequence[Mapping[str, float]]) -> None:
    """Draw the pictures of a run: embeddings, distances, ROC, history, some pairs, some neighbours, the worst pairs."""
    from siamese_np import plots

    e, test, threshold = evaluation, dataset.test, evaluation.metrics["threshold"]
    shown = np.sort(np.unique(test.classes, return_index=True)[1])
    indices, distances = nearest(e.emb[shown], e.gallery, min(8, len(e.gallery)))
    pair_arrays = (drawable(test.images), e.pairs, e.dist, e.label, threshold, test.classes)
    plots.plot_embedding_map(folder / "embedding_map.png", e.emb, test.classes)
    plots.plot_distances(folder / "distances.png", e.dist, e.label, threshold, e.metrics["margin"])
    plots.plot_roc(folder / "roc.png", e.dist, e.label)
    plots.plot_history(folder / "history.png", history)
    plots.plot_pairs(folder / "pairs.png", *pair_arrays)
    plots.plot_neighbours(
        folder / "neighbours.png",
        drawable(test.images[shown]),
        test.classes[shown],
        drawable(dataset.train.images),
        dataset.train.classes,
        indices,
        distances,
    )
    plots.plot_mistakes(folder / "mistakes.png", *pair_arrays)


def check_folder(folder: Path, overwrite: bool = False) -> None:
    """ModelError where `make_folder` would refuse `folder` for what it is or holds; changes nothing."""
    if "*" in folder.name or not folder.exists():
        return
    if not folder.is_dir():
        raise ModelError(f"{folder} is a file, but a run needs a folder")
    if not overwrite and any(folder.iterdir()):
        raise ModelError(f"{folder} is not empty; choose another folder, or overwrite the run in it (--overwrite)")


def make_folder(folder: Path, overwrite: bool = False) -> Path:
    """Make a new run folder; a ``*`` in its name becomes the first number that no other run has taken.

    Raises
    ------
    ModelError
        It is a file, cannot be written, or is not empty; with `overwrite` the files of a run in it are removed.
    """
    check_folder(folder, overwrite)
    new, numbered = folder, 0
    while True:
        if "*" in folder.name:
            numbered += 1
            new = folder.with_name(folder.name.replace("*", str(numbered)))
        try:
            new.mkdir(parents=True, exist_ok=not numbered)
            tempfile.TemporaryFile(dir=new).close()
            break
        except FileExistsError:
            continue
        except OSError as error:
            raise ModelError(f"the run folder {new} cannot be written: {error.strerror or error}") from None
    if overwrite:
        for name in RUN_FILES:
            (new / name).unlink(missing_ok=True)
        remove_leftovers(new)
    return new


def remove_leftovers(folder: Path) -> None:
    """Remove what a killed run had begun to write: files beside those of a run, as `write_atomically` names them."""
    for name in (*RUN_FILES, "*.png"):
        for path in folder.glob(f".{name}-????????"):
            path.unlink(missing_ok=True)
