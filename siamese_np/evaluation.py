"""What is measured of a trained model on the test images, and how it is told."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siamese_np._checks import check_embeddings, check_kind, check_pairable, check_threshold, found
from siamese_np.bootstrap import all_pairs_intervals
from siamese_np.datasets import Dataset, Split
from siamese_np.errors import OptionError, ShapeError
from siamese_np.evaluation_pairs import evaluation_pairs, load_evaluation_pairs, mnist_part
from siamese_np.metrics import calibrate_threshold, knn_vote, map_at_r, nearest, pair_distances, pair_metrics
from siamese_np.network import SiameseNetwork

NEIGHBOURS = 5  # k of the nearest-neighbour classifier

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
        Its test part is measured; its training part (without validation) is the gallery of the nearest-neighbour
        classifier. The test pairs are the same for every model (`siamese_np.evaluation_pairs`).

    Raises
    ------
    OptionError
        One is not of its class.
    DataError
        The test images are not of at least two classes with at least two images each.
    """
    check_kind("siamese", siamese, SiameseNetwork)
    check_kind("dataset", dataset, Dataset)
    check_pairable(dataset.test.classes, f"test images of {dataset.name}")
    siamese.embed(dataset.test.images[:1])  # compiles or loads the kernels before the clock starts
    start = time.perf_counter()
    emb = siamese.embed(dataset.test.images)
    seconds = time.perf_counter() - start
    evaluation = measure(emb, siamese.embed(dataset.train.images), dataset, siamese.threshold, siamese.margin)
    evaluation.metrics["embeddings_per_second"] = len(emb) / seconds
    return evaluation


def calibrated(embed: Callable[[NDArray[Any]], NDArray[Any]], dataset: Dataset) -> float:
    """The threshold of an embedding function: calibrated on the evaluation pairs of the validation images."""
    check_kind("dataset", dataset, Dataset)
    if not callable(embed):
        raise OptionError(f"an embedding function is called with images, which {found(embed)} cannot be")
    check_pairable(dataset.validation.classes, f"validation images of {dataset.name}")
    pairs, label = evaluation_pairs(dataset.validation.classes)
    return calibrate_threshold(pair_distances(embed(dataset.validation.images), pairs), label)


def measure(emb: NDArray[Any], gallery: NDArray[Any], dataset: Dataset, threshold: float, margin: float) -> Evaluation:
    """As `evaluate`, of embeddings of the test images (N, E) and of the training images (G, E)."""
    check_kind("dataset", dataset, Dataset)
    emb, gallery = check_embeddings("emb", emb), check_embeddings("gallery", gallery)
    threshold = check_threshold(threshold)
    for name, rows, split in (("emb", emb, dataset.test), ("gallery", gallery, dataset.train)):
        if len(rows) != len(split):
            raise ShapeError(f"{name} must have {len(split)} rows, one for each image, not {len(rows)}")
    test, part = dataset.test, mnist_part(dataset.test.classes)
    pairs, label = load_evaluation_pairs(part) if part else evaluation_pairs(test.classes)
    dist = pair_distances(emb, pairs)
    metrics = pair_metrics(dist, label, threshold, margin)
    all_pairs = all_pairs_intervals(emb, test.classes, threshold)
    for name in ("auc", "eer", "tar_at_far_1e-3", "balanced_accuracy"):
        metrics[f"{name}_all_pairs"] = all_pairs[name]
        if f"{name}_interval" in all_pairs:
            metrics[f"{name}_all_pairs_interval"] = all_pairs[f"{name}_interval"]
    if part:
        alike, alike_label = load_evaluation_pairs(part, confusable=True)
        of_alike = pair_metrics(pair_distances(emb, alike), alike_label, threshold, margin)
        metrics |= {f"{name}_confusable": of_alike[name] for name in ("pair_accuracy", "eer")}
    metrics["map_at_r"] = map_at_r(emb, test.classes)
    neighbours, near = nearest(emb, gallery, min(NEIGHBOURS, len(gallery)))
    voted = knn_vote(dataset.train.classes[neighbours])
    metrics["knn_accuracy"] = float(np.mean(voted == test.classes))
    metrics["margin"] = margin
    metrics["data"] = dataset.name
    metrics["class_names"] = dataset.class_names
    metrics["test_images"], metrics["test_pairs"] = len(emb), len(pairs)
    metrics["demonstration"] = _demonstration(emb, test, threshold)
    return Evaluation(metrics, emb, gallery, neighbours, near, voted, pairs, label, dist)


def _demonstration(emb: NDArray[Any], test: Split, threshold: float) -> list[dict[str, Any]]:
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
            "similar": bool(dist < threshold),
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
        of, to = class_words(metrics, one), class_words(metrics, other)
        lines.append(f"  an image of {of} and one of {to}: distance {distance:.3f}, {verdict(pair)}")
    return "\n".join(lines)


def class_words(metrics: Mapping[str, Any], number: int) -> str:
    """A class in a sentence: "a 3", or its name."""
    names = metrics.get("class_names")
    name = str(number) if names is None else names[number]
    return f"a {name}" if name.isdecimal() else repr(name)


def verdict(pair: Mapping[str, Any]) -> str:
    return "similar" if pair["similar"] else "dissimilar"
