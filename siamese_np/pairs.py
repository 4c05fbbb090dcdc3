"""Which images are compared: random pairs as in the original notebook, and class-balanced batches.

A pair is two indices, never a copy of pixels. Label: 0 = similar (same class), 1 = dissimilar.
"""

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from siamese_np._checks import check_classes, check_kind, check_pairable, is_whole
from siamese_np.errors import OptionError


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
    OptionError
        `rng` is no Generator.
    DataError
        There are not two classes, or there is a class with a single image.

    Examples
    --------
    >>> pairs, label = random_pairs([0, 0, 1, 1], np.random.default_rng(0))
    >>> pairs.shape, sorted(label.tolist())
    ((8, 2), [0, 0, 0, 0, 1, 1, 1, 1])
    """
    classes = check_pairable(classes)
    check_kind("rng", rng, np.random.Generator)
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

    Examples
    --------
    >>> [len(batch) for batch in balanced_batches([0, 0, 1, 1, 1], 3, np.random.default_rng(0))]
    [3, 2]
    """
    classes = check_classes(classes)
    N = len(classes)
    if not is_whole(batch_size) or not 2 <= batch_size <= N:
        raise OptionError(f"the batch size must be from 2 to the {N} images there are, not {batch_size!r:.200}")
    check_kind("rng", rng, np.random.Generator)
    # Spread each class evenly over [0, 1), at a random offset: any interval holds each class in its share.
    shuffled = rng.permutation(N)
    kinds, own, count = np.unique(classes[shuffled], return_inverse=True, return_counts=True)
    by_class = np.argsort(own, kind="stable")
    rank = np.arange(N) - np.repeat(np.cumsum(count) - count, count)
    position = (rank + rng.random(len(kinds))[own[by_class]]) / count[own[by_class]]
    order = shuffled[by_class[np.argsort(position, kind="stable")]]
    return iter(np.array_split(order, math.ceil(N / batch_size)))
