"""The tables: which networks are trained, for which rows, and how each row is measured.

Test images are measured and choose nothing. The options are those of `siamese_np.recipes`; what is not, comes from the
pilot that made the recipes, on validation images, and is said beside the row. The ablations, which tell whether a part
earns its place, are measured on the validation images.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siamese_np.augment import Distort
from siamese_np.config import TrainConfig
from siamese_np.datasets import Dataset
from siamese_np.evaluation import calibrated, evaluate, measure
from siamese_np.losses import SupConLoss
from siamese_np.metrics import knn_accuracy, nearest
from siamese_np.network import Sequential, SiameseNetwork
from siamese_np.presets import blocks
from siamese_np.recipes import recipe
from siamese_np.reproduce.baselines import CrossEntropy, classifier, components, pixels
from siamese_np.reproduce.unseen import COURSE, SIMILARITY, measure_unseen, seen_only

Metrics = dict[str, Any]
Embed = Callable[[NDArray[Any]], NDArray[Any]]
Measure = Callable[[SiameseNetwork, Dataset], Metrics]
Columns = Mapping[str, tuple[str, float, str]]  # JSON key, or several to be added: heading, factor, format

ACCURACY: Columns = {
    "eer_all_pairs": ("EER, all pairs, %", 100, ".3f"),
    "balanced_accuracy_all_pairs": ("balanced accuracy, all pairs, %", 100, ".3f"),
    "auc_all_pairs": ("AUC, all pairs", 1, ".6f"),
    "tar_at_far_1e-3_all_pairs": ("TAR at FAR 0.001", 1, ".4f"),
    "d_prime": ("d'", 1, ".2f"),
    "pair_accuracy": ("pair accuracy", 1, ".4f"),
    "pair_accuracy_confusable": ("look-alikes", 1, ".4f"),
    "knn_accuracy": ("5 neighbours", 1, ".4f"),
    "map_at_r": ("MAP@R", 1, ".4f"),
    "seconds": ("s of training", 1, ".1f"),
}
# The threshold and the epoch are chosen on validation pairs, so what depends on them says nothing there.
OF_THRESHOLD = ("balanced_accuracy_all_pairs", "pair_accuracy", "pair_accuracy_confusable")
ABLATION: Columns = {key: column for key, column in ACCURACY.items() if key not in OF_THRESHOLD}
UNSEEN: Columns = {
    "few_shot_all": ("20 shots, all digits", 1, ".4f"),
    "few_shot_unseen": ("20 shots, unseen", 1, ".4f"),
    "one_shot": ("1 shot, among unseen", 1, ".4f"),
    "one_shot_five": ("1 shot, 5 ways", 1, ".4f"),
    "pairs_seen": ("pairs of seen", 1, ".4f"),
    "pairs_across": ("seen with unseen", 1, ".4f"),
    "pairs_unseen": ("pairs of unseen", 1, ".4f"),
    "seconds": ("s of training", 1, ".1f"),
}
FAST: Columns = {
    "mean_accuracy": ("nearest class mean, test", 1, ".4f"),
    "mean_accuracy_validation": ("validation", 1, ".4f"),
    "seconds + mean_seconds": ("s, all included", 1, ".2f"),
    "seconds": ("s of training", 1, ".2f"),
    "knn_accuracy": ("5 neighbours, test", 1, ".4f"),
    "knn_accuracy_validation": ("validation", 1, ".4f"),
    "gallery_seconds": ("s for the gallery", 1, ".2f"),
    "search_seconds": ("s of the search", 1, ".2f"),
    "gigaflops": ("GFLOP an epoch, dense", 1, ".0f"),
}
FAST_ABLATION: Columns = {
    key: (title.removesuffix(", test"), factor, form)
    for key, (title, factor, form) in FAST.items()
    if "validation" not in key
}
STRONG = Distort(rotation=12, scale=0.1, shift=1.5, elastic=0.8)
MEANS_OF = 5_000  # training images, of whose embeddings the class means are taken
OF_MARGIN = ("margin", "loss", "pair_accuracy_at_half_margin")  # which embeddings of another training do not have


@dataclass(frozen=True)
class Job:
    """What is trained, once for each seed, into a folder of this name; with no epochs to train, it is left as it began.

    `parts` makes the network and the loss of a config, where they are not the preset's; `digits` are those of the
    training images, all if empty; with `copies`, turned and mirrored ones are classes, too (`unseen.with_copies`).
    """

    name: str
    config: TrainConfig
    parts: Callable[[TrainConfig], Mapping[str, Any]] = lambda config: {}
    digits: tuple[int, ...] = ()
    copies: bool = False
    trained: bool = True


@dataclass(frozen=True)
class Row:
    """A row of a table: a job, and what is measured of the network it leaves."""

    name: str
    job: Job
    measure: Measure
    seeds: int | None = None  # as many as the table's; 1 where nothing is random


@dataclass(frozen=True)
class Table:
    """Rows with the same columns."""

    title: str
    columns: Columns
    rows: Sequence[Row]
    seeds: int = 5


def embedding(embed: Embed, dataset: Dataset, threshold: float | None = None) -> Metrics:
    """The metrics of an embedding function; without a threshold it is calibrated on the validation images."""
    threshold = calibrated(embed, dataset) if threshold is None else threshold
    metrics = measure(embed(dataset.test.images), embed(dataset.train.images), dataset, threshold, 1.0).metrics
    return {key: value for key, value in metrics.items() if key not in OF_MARGIN}


def as_trained(siamese: SiameseNetwork, dataset: Dataset) -> Metrics:
    """As `siamese_np.evaluation.evaluate`: with the threshold that training calibrated, and the margin."""
    return evaluate(siamese, dataset).metrics


def in_views(siamese: SiameseNetwork, dataset: Dataset) -> Metrics:
    """Each embedding averaged over views of its image, of test and training images alike."""
    siamese.views = True
    return embedding(siamese.embed, dataset)


def on_validation(siamese: SiameseNetwork, dataset: Dataset) -> Metrics:
    """With the validation images in the place of the test images."""
    return as_trained(siamese, _validated(dataset))


def _validated(dataset: Dataset) -> Dataset:
    return replace(dataset, test=dataset.validation)


def predicted_class(siamese: SiameseNetwork, dataset: Dataset) -> Metrics:
    """Of a classifier: two images are similar where their predicted classes are equal.

    That is one threshold, so there is no true accept rate at a false accept rate of one's choice.
    """
    kinds = siamese.network.output_shape[0]
    metrics = embedding(lambda images: np.eye(kinds)[siamese.embed(images).argmax(axis=1)], dataset, 0.5)
    return {key: value for key, value in metrics.items() if not key.startswith("tar_at_far")}


def penultimate(siamese: SiameseNetwork, dataset: Dataset) -> Metrics:
    """Of a classifier: what the preset's network returns, before the last ReLU and the logits."""
    network = siamese.network
    return embedding(SiameseNetwork(network.upto(len(network.layers) - 2)).embed, dataset)


def of_unseen(embed_of: Callable[[SiameseNetwork], Embed], digits: tuple[int, ...]) -> Any:
    """What measures embeddings where training saw `digits` only; the threshold is calibrated on these."""

    def measured(siamese: SiameseNetwork, dataset: Dataset) -> Metrics:
        embed, test, train = embed_of(siamese), dataset.test, dataset.train
        threshold = calibrated(embed, seen_only(dataset, digits))
        return measure_unseen(embed(test.images), test.classes, embed(train.images), train.classes, digits, threshold)

    return measured


def record(siamese: SiameseNetwork, dataset: Dataset) -> Metrics:
    """Accuracy by the nearest of ten class means, which need no gallery, and by neighbours, with all seconds."""
    train, cost = dataset.train, siamese.network.summary(dataset.train.images[:1])
    found = {"gigaflops": len(train) * (cost.total("flops") + cost.total("backward_flops")) / 1e9}
    two = siamese.embed(train.images[:2])
    nearest(two, two, 1)  # compiles or loads the kernels before the clocks start
    clock = time.perf_counter
    start = clock()
    emb, classes = siamese.embed(train.images[:MEANS_OF]), train.classes[:MEANS_OF]
    kinds = np.unique(classes)
    means = np.stack([emb[classes == kind].mean(axis=0) for kind in kinds])
    emb = siamese.embed(dataset.test.images)
    answers = kinds[nearest(emb, means, 1)[0][:, 0]]
    found["mean_seconds"] = clock() - start
    start = clock()
    gallery = siamese.embed(train.images)
    found["gallery_seconds"] = clock() - start
    start = clock()
    found["knn_accuracy"] = knn_accuracy(emb, dataset.test.classes, gallery, train.classes)
    found["search_seconds"] = clock() - start
    found["mean_accuracy"] = float(np.mean(answers == dataset.test.classes))
    validation = siamese.embed(dataset.validation.images)
    answers = kinds[nearest(validation, means, 1)[0][:, 0]]
    found["mean_accuracy_validation"] = float(np.mean(answers == dataset.validation.classes))
    found["knn_accuracy_validation"] = knn_accuracy(validation, dataset.validation.classes, gallery, train.classes)
    return found


def unit(embed: Embed) -> Embed:
    """Embeddings brought to length 1, which is how `SupConLoss` compares them."""

    def embedded(images: NDArray[Any]) -> NDArray[Any]:
        emb = embed(images)
        length = np.linalg.norm(emb, axis=1, keepdims=True)
        return np.divide(emb, length, out=np.zeros_like(emb), where=length > 0)

    return embedded


def unit_of_views(siamese: SiameseNetwork) -> Embed:
    """The same of the mean over seven views of each image."""
    siamese.views = True
    return unit(siamese.embed)


def main_table() -> Table:
    """The recipes, the notebook's network, and baselines, on the test images.

    Active negatives helped the MLP on validation, in short trainings; 24 epochs are the pilot's 1.2 million images.
    """
    best = recipe("best")
    mlp = recipe("best", preset="mlp", epochs=24, negatives="active")
    as_classifier = Job(
        "classifier",
        best,
        lambda config: {"network": classifier(config.preset, config.seed), "loss": CrossEntropy()},
    )
    trained_best, initial = Job("best", best), Job("untrained", best, trained=False)
    rows = [
        Row("recipe best, 7 views", trained_best, in_views),
        Row("recipe best", trained_best, as_trained),
        Row("recipe default", Job("default", recipe()), as_trained),
        Row("recipe fast", Job("fast", recipe("fast")), as_trained),
        Row(
            "the notebook's MLP, by its protocol",
            Job("notebook", recipe(preset="mlp", protocol="notebook")),
            as_trained,
        ),
        Row("the notebook's MLP, as best but 24 epochs, active negatives", Job("mlp", mlp), as_trained),
        Row("classifier as best: predicted classes equal", as_classifier, predicted_class),
        Row("classifier as best: embedding before ReLU and logits", as_classifier, penultimate),
        Row("network of best, untrained", initial, lambda siamese, data: embedding(siamese.embed, data)),
        Row("50 principal components", initial, lambda _, data: embedding(components(data, 50), data), seeds=1),
        Row("raw pixels", initial, lambda _, data: embedding(pixels, data), seeds=1),
    ]
    return Table("MNIST, 10,000 test images", ACCURACY, rows)


def ablations() -> Table:
    """The recipe best, and with one thing changed, on the validation images."""
    changed: dict[str, dict[str, Any]] = {
        "two blocks (cnn)": {"preset": "cnn"},
        "no augmentation": {"augment": "none"},
        "no weight decay": {"weight_decay": 0.0},
        "a third of the epochs": {"epochs": 12},
        "active negatives": {"negatives": "active"},
    }
    title = "recipe best with one thing changed, 10,000 validation images"
    return Table(title, ABLATION, _changes("best", changed, on_validation), seeds=3)


def fast_ablations() -> Table:
    """The recipe fast, and with one of its tricks left out, on the validation images."""
    changed: dict[str, dict[str, Any]] = {
        "the usual filters, padded (cnn)": {"preset": "cnn"},
        "256 images a batch": {"batch_size": 256},
        "half the rate": {"learning_rate": 3e-3},
        "a constant rate": {"schedule": "constant"},
        "all negatives": {"negatives": "all"},
        "no weight decay": {"weight_decay": 0.0},
    }
    title = "recipe fast with one trick left out, 10,000 validation images"
    rows = _changes("fast", changed, lambda siamese, data: record(siamese, _validated(data)))
    padded = Job("fast padded", rows[0].job.config, lambda config: {"network": _padded_slim(config.seed)})
    rows.append(replace(rows[0], name="padded convolutions", job=padded))
    return Table(title, FAST_ABLATION, rows, seeds=10)


def _padded_slim(seed: int) -> Sequential:
    """The preset slim with convolutions that keep the size of their images."""
    return blocks("padded slim", (16, 48), 1, 128, (28, 28, 1), 32, seed, np.float32)


def _changes(name: str, changed: Mapping[str, Mapping[str, Any]], measure: Measure) -> list[Row]:
    """A row of a recipe, and one for each change of its options."""
    rows = [Row(f"recipe {name}", Job(name, recipe(name)), measure)]
    return rows + [
        Row(words, Job(f"{name} {words}", recipe(name, **options)), measure) for words, options in changed.items()
    ]


def unseen_table() -> Table:
    """Training without some digits, with the contrastive and the supervised contrastive loss.

    The pilot's 120,000 images or about as many. Its distortion, its temperature, and one epoch of copies were chosen
    with further digits left out of the training images and measured on validation images.
    """
    config, rows = recipe("best", epochs=4), []
    once = replace(config, epochs=1)
    for split, digits in (("similarity", SIMILARITY), ("course", COURSE)):
        seen = ", ".join(map(str, digits))
        contrastive = Job(f"{split} contrastive", config, digits=digits)
        supcon = Job(f"{split} supcon", config, lambda config: {"loss": SupConLoss()}, digits)
        copies = Job(f"{split} copies", once, lambda config: {"loss": SupConLoss(), "augment": STRONG}, digits, True)
        rows += [
            Row(f"seen {seen}: contrastive", contrastive, of_unseen(lambda siamese: siamese.embed, digits)),
            Row(f"seen {seen}: SupCon", supcon, of_unseen(lambda siamese: unit(siamese.embed), digits)),
            Row(f"seen {seen}: SupCon, with copies", copies, of_unseen(lambda siamese: unit(siamese.embed), digits)),
            Row(f"seen {seen}: the same, 7 views", copies, of_unseen(unit_of_views, digits)),
        ]
    return Table("digits that training never saw", UNSEEN, rows)


def fast_table() -> Table:
    """The recipe fast: how soon 99 % of the images are known."""
    return Table("the recipe fast", FAST, [Row("recipe fast", Job("fast", recipe("fast")), record)], seeds=30)


TABLES: dict[str, Sequence[Callable[[], Table]]] = {
    "main": [main_table],
    "ablations": [ablations, fast_ablations],
    "unseen": [unseen_table],
    "fast": [fast_table],
}
