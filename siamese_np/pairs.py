"""Which images are compared: random pairs as in the original notebook, and class-balanced batches.

A pair is two indices, never a copy of pixels. Label: 0 = similar (same class), 1 = dissimilar.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from siamese_np._checks import as_array, is_whole
from siamese_np.errors import DataError, OptionError, ShapeError


def random_pairs(labels: ArrayLike, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw for every image one similar and one dissimilar partner, and shuffle.

    Parameters
    ----------
    labels : (N,) array of int
        Class of each image.
    rng : numpy.random.Generator

    Returns
    -------
    pairs : (2 N, 2) array of int64
        Indices of the two images of each pair, never the same image twice.
    label : (2 N,) array of int64
        0 = similar, 1 = dissimilar; N of each.

    Raises
    ------
    ShapeError
        `labels` is not a 1-D array of whole numbers.
    DataError
        There are not two classes, or there is a class with a single image.
    """
    labels = check_pairable(labels)
    N = len(labels)
    by_class = np.argsort(labels, kind="stable")
    classes, start, count = np.unique(labels[by_class], return_index=True, return_counts=True)

    # Every image's place within its class, and the partner at a random cyclic step of 1 .. count-1 from it.
    # The classes lie one after another in `by_class`, so a step of count .. N-1 from a place of the class,
    # around the whole circle of N, reaches every image of another class once.
    own = np.searchsorted(classes, labels)
    place = np.empty(N, np.int64)
    place[by_class] = np.arange(N)
    first, size = start[own], count[own]
    similar = by_class[first + (place - first + rng.integers(1, size)) % size]
    dissimilar = by_class[(first + rng.integers(size, N)) % N]

    images = np.arange(N)
    pairs = np.stack([np.concatenate([images, images]), np.concatenate([similar, dissimilar])], axis=1)
    label = np.repeat([0, 1], N)
    order = rng.permutation(2 * N)
    return pairs[order], label[order]


def balanced_batches(labels: ArrayLike, batch_size: int, rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """Yield the indices of one epoch's batches: every image once, every class in its share of each batch.

    Parameters
    ----------
    labels : (N,) array of int
        Class of each image.
    batch_size : int
        Largest batch, from 2 to N. The epoch is cut into batches of nearly equal size.
    rng : numpy.random.Generator

    Raises
    ------
    ShapeError, OptionError
        As soon as the function is called.
    """
    labels = check_classes(labels)
    N = len(labels)
    if not is_whole(batch_size) or not 2 <= batch_size <= N:
        raise OptionError(f"the batch size must be from 2 to the {N} images there are, not {batch_size!r}")
    # Spread each class evenly over [0, 1), at a random offset: any stretch holds each class in its share.
    shuffled = rng.permutation(N)
    classes, own, count = np.unique(labels[shuffled], return_inverse=True, return_counts=True)
    by_class = np.argsort(own, kind="stable")
    rank = np.arange(N) - np.repeat(np.cumsum(count) - count, count)
    position = (rank + rng.random(len(classes))[own[by_class]]) / count[own[by_class]]
    order = shuffled[by_class[np.argsort(position, kind="stable")]]
    return iter(np.array_split(order, -(-N // batch_size)))


def check_pairable(labels: ArrayLike) -> NDArray[np.int64]:
    """`labels` as an array of classes of which every image has a similar and a dissimilar partner, or a DataError."""
    labels = check_classes(labels)
    classes, count = np.unique(labels, return_counts=True)
    if len(classes) < 2:
        raise DataError(
            f"dissimilar pairs need images of at least two classes, but the {len(labels)} images have {len(classes)}"
        )
    if count.min() < 2:
        lone = classes[count.argmin()]
        raise DataError(f"class {lone} has a single image, but a similar pair needs two of the same class")
    return labels


def check_classes(labels: ArrayLike) -> NDArray[np.int64]:
    """`labels` as an array of classes, or a ShapeError."""
    labels = as_array("classes", labels)
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise ShapeError(f"classes must be a 1-D array of whole numbers, not {labels.ndim}-D of {labels.dtype}")
    return np.ascontiguousarray(labels, np.int64)


def check_pair_labels(label: ArrayLike) -> NDArray[np.int64]:
    """`label` as an array of 0 (similar) and 1 (dissimilar), or a ShapeError."""
    label = as_array("pair labels", label)
    if label.ndim != 1 or label.dtype.kind not in "biuf":
        raise ShapeError(f"pair labels must be a 1-D array of numbers, not {label.ndim}-D of {label.dtype}")
    wrong = label[(label != 0) & (label != 1)]
    if wrong.size:
        raise ShapeError(f"pair labels must be 0 (similar) or 1 (dissimilar), but there is a {wrong[0]}")
    return label.astype(np.int64)
