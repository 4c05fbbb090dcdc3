"""Digits that training never saw: which are left out, and how embeddings of new classes are measured."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siamese_np.datasets import Dataset, Split
from siamese_np.metrics import nearest, pair_accuracy, pair_distances
from siamese_np.pairs import random_pairs

Ints = NDArray[np.int64]
Emb = NDArray[Any]

SEED = 20061
SIMILARITY = (1, 2, 3, 6, 7, 9)  # the training digits of TensorFlow Similarity, examples/supervised_hello_world.ipynb
COURSE = (2, 3, 4, 5, 6, 7)  # those of many course assignments
ALL_EIGHT = [(turns, mirrored) for mirrored in (False, True) for turns in range(4)]
# Which quarter turns of a digit, and of its mirror image, are a shape of their own: no other digit, no other turn of it
COPIES = {
    0: ALL_EIGHT[:1],
    1: ALL_EIGHT[:2],
    2: [ALL_EIGHT[i] for i in (0, 1, 4, 5)],
    3: ALL_EIGHT[:4],
    4: ALL_EIGHT,
    5: ALL_EIGHT[:2],  # its mirror image is nearly a 2
    6: [copy for copy in ALL_EIGHT if copy != (2, False)],  # a 9
    7: ALL_EIGHT,
    8: ALL_EIGHT[:2],
    9: ALL_EIGHT[:1],  # all others are those of 6
}
SHOTS = 20
EPISODES, QUERIES = 1000, 10  # of one-shot classification, and images of each class in an episode


def seen_only(dataset: Dataset, digits: tuple[int, ...]) -> Dataset:
    """The data set with training and validation images of `digits` only, and all test images."""

    def part(split: Split) -> Split:
        keep = np.isin(split.classes, digits)
        return Split(split.images[keep], split.classes[keep])

    name = f"{dataset.name}, digits {', '.join(map(str, digits))}"
    return Dataset(name, part(dataset.train), part(dataset.validation), dataset.test)


def with_copies(dataset: Dataset) -> Dataset:
    """The data set with turned and mirrored digits as further classes to train on, 10 + 8 for each digit's first."""
    train, images, classes = dataset.train, [], []
    for digit in np.unique(train.classes).tolist():
        own = train.images[train.classes == digit]
        for turns, mirrored in COPIES[digit]:
            images.append(np.rot90(own[:, :, ::-1] if mirrored else own, turns, (1, 2)))
            classes.append(np.full(len(own), digit + 10 * (turns + 4 * mirrored)))
    return replace(dataset, train=Split(np.concatenate(images), np.concatenate(classes)))


def few_shot(emb: Emb, classes: Ints, support: Emb, support_classes: Ints) -> Ints:
    """The class of each embedding (N, E): that of the nearest of `SHOTS` support embeddings of each class."""
    rng = np.random.default_rng(SEED)
    of_class = [np.flatnonzero(support_classes == kind) for kind in np.unique(classes)]
    chosen = np.concatenate([rng.choice(own, min(SHOTS, len(own)), replace=False) for own in of_class])
    indices, _ = nearest(emb, support[chosen], 1)
    return support_classes[chosen[indices[:, 0]]]


def one_shot(emb: Emb, classes: Ints, ways: int) -> float:
    """The share of right answers where one image stands for each of `ways` classes; all drawn anew in each episode."""
    rng, right = np.random.default_rng(SEED), 0
    of_class = [np.flatnonzero(classes == kind) for kind in np.unique(classes)]
    for _ in range(EPISODES):
        kinds = rng.permutation(len(of_class))[:ways] if ways < len(of_class) else range(ways)
        drawn = np.stack([rng.choice(of_class[kind], 1 + QUERIES, replace=False) for kind in kinds])
        support, query = emb[drawn[:, 0]], emb[drawn[:, 1:]]
        answer = ((query[:, :, None] - support) ** 2).sum(axis=3).argmin(axis=2)
        right += int((answer == np.arange(ways)[:, None]).sum())
    return right / (EPISODES * QUERIES * ways)


def measure_unseen(
    emb: Emb, classes: Ints, support: Emb, support_classes: Ints, seen: tuple[int, ...], threshold: float
) -> dict[str, Any]:
    """Few-shot and pair accuracies of embeddings (N, E) of test images; the support images are training images.

    Returns
    -------
    dict
        `few_shot_all` and `few_shot_unseen`, by the nearest of 20 images of each of the ten classes; `one_shot`, among
        the unseen classes, and `one_shot_five`, among five of all; `pairs_seen` and `pairs_unseen`, the accuracy of one
        similar and one dissimilar pair for each image; `pairs_across`, the share of pairs of a seen and an unseen digit
        that is rejected.
    """
    rng, known = np.random.default_rng(SEED), np.isin(classes, seen)
    right = few_shot(emb, classes, support, support_classes) == classes
    result = {"few_shot_all": float(right.mean()), "few_shot_unseen": float(right[~known].mean())}
    result["one_shot"] = one_shot(emb[~known], classes[~known], len(np.unique(classes[~known])))
    result["one_shot_five"] = one_shot(emb, classes, 5)
    of_kind = {"seen": np.flatnonzero(known), "unseen": np.flatnonzero(~known)}
    for kind, images in of_kind.items():
        pairs, label = random_pairs(classes[images], rng)
        result[f"pairs_{kind}"] = pair_accuracy(pair_distances(emb, images[pairs]), label, threshold)
    count = min(map(len, of_kind.values()))
    across = np.stack([rng.permutation(images)[:count] for images in of_kind.values()], axis=1)
    result["pairs_across"] = float(np.mean(pair_distances(emb, across) >= threshold))
    return result
