"""Which images are compared: random pairs as in the original notebook, and class-balanced batches.

A pair is two indices, never a copy of pixels. Label: 0 = similar (same class), 1 = dissimilar.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from siamese_np._checks import as_array, is_whole
from siamese_np.errors import DataError, OptionError, ShapeError


def random_pairs(classes: ArrayLike, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw for every image one similar and one dissimilar partner, and shuffle.

    Parameters
    ----------
    classes : (N,) array of int
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
        `classes` is not a 1-D array of whole numbers.
    DataError
        There are not two classes, or there is a class with a single image.
    """
    classes = check_pairable(classes)
    N = len(classes)
    by_class = np.argsort(classes, kind="stable")
    kinds, start, count = np.unique(classes[by_class], return_index=True, return_counts=True)

    # Every image's place within its class, and the partner at a random cyclic step of 1 .. count-1 from it.
    # The classes lie one after another in `by_class`, so a step of count .. N-1 from a place of the class,
    # around the whole circle of N, reaches every image of another class once.
    own = np.searchsorted(kinds, classes)
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


def balanced_batches(classes: ArrayLike, batch_size: int, rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """Yield the indices of one epoch's batches: every image once, every class in its share of each batch.

    Parameters
    ----------
    classes : (N,) array of int
        Class of each image.
    batch_size : int
        Largest batch, from 2 to N. The epoch is cut into batches of nearly equal size.
    rng : numpy.random.Generator

    Raises
    ------
    ShapeError, OptionError
        As soon as the function is called.
    """
    classes = check_classes(classes)
    N = len(classes)
    if not is_whole(batch_size) or not 2 <= batch_size <= N:
        raise OptionError(f"the batch size must be from 2 to the {N} images there are, not {batch_size!r}")
    # Spread each class evenly over [0, 1), at a random offset: any stretch holds each class in its share.
    shuffled = rng.permutation(N)
    kinds, own, count = np.unique(classes[shuffled], return_inverse=True, return_counts=True)
    by_class = np.argsort(own, kind="stable")
    rank = np.arange(N) - np.repeat(np.cumsum(count) - count, count)
    position = (rank + rng.random(len(kinds))[own[by_class]]) / count[own[by_class]]
    order = shuffled[by_class[np.argsort(position, kind="stable")]]
    return iter(np.array_split(order, -(-N // batch_size)))


def check_pairable(classes: ArrayLike) -> NDArray[np.int64]:
    """`classes` as an array of classes of which every image has a similar and a dissimilar partner, or a DataError."""
    classes = check_classes(classes)
    kinds, count = np.unique(classes, return_counts=True)
    if len(kinds) < 2:
        raise DataError(
            f"dissimilar pairs need images of at least two classes, but the {len(classes)} images have {len(kinds)}"
        )
    if count.min() < 2:
        lone = kinds[count.argmin()]
        raise DataError(f"class {lone} has a single image, but a similar pair needs two of the same class")
    return classes


def check_classes(classes: ArrayLike) -> NDArray[np.int64]:
    """`classes` as an array of classes, or a ShapeError."""
    classes = as_array("classes", classes)
    if classes.ndim != 1 or not np.issubdtype(classes.dtype, np.integer):
        raise ShapeError(f"classes must be a 1-D array of whole numbers, not {classes.ndim}-D of {classes.dtype}")
    return np.ascontiguousarray(classes, np.int64)


def check_pair_labels(label: ArrayLike) -> NDArray[np.int64]:
    """`label` as an array of 0 (similar) and 1 (dissimilar), or a ShapeError."""
    label = as_array("pair labels", label)
    if label.ndim != 1 or label.dtype.kind not in "biuf":
        raise ShapeError(f"pair labels must be a 1-D array of numbers, not {label.ndim}-D of {label.dtype}")
    wrong = label[(label != 0) & (label != 1)]
    if wrong.size:
        raise ShapeError(f"pair labels must be 0 (similar) or 1 (dissimilar), but there is a {wrong[0]}")
    return label.astype(np.int64)
