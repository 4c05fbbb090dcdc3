"""Pairs worth a look, among the first test images: similar, dissimilar, identical, misjudged."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from siamese_np.datasets import Split
from siamese_np.network import SiameseNetwork
from siamese_np.textbook.pairwise import pairwise_forward

_LOOKED_AT = 300  # images


class Offer(NamedTuple):
    """Two test images and why they are worth a look."""

    title: str
    a: int
    b: int


def offers(siamese: SiameseNetwork, test: Split) -> list[Offer]:
    """One pair of each kind that there is among the first test images."""
    classes = test.classes[:_LOOKED_AT]
    dist, _ = pairwise_forward(siamese.embed(test.images[:_LOOKED_AT]).astype(np.float64))
    upper = np.triu(np.ones_like(dist, dtype=bool), 1)
    similar = upper & (classes[:, None] == classes)
    dissimilar = upper & ~similar
    below, margin = dist < siamese.threshold, siamese.margin
    wrong = np.where((similar & ~below) | (dissimilar & below), abs(dist - siamese.threshold), 0)
    found = [
        ("similar", _median(dist, similar & below)),
        ("dissimilar, within the margin", _median(dist, dissimilar & ~below & (dist < margin))),
        ("dissimilar, beyond the margin", _median(dist, dissimilar & (dist >= margin))),
        ("identical", (0, 0)),
        ("misjudged", _median(-wrong, wrong == wrong.max()) if wrong.any() else None),
    ]
    return [Offer(title, *pair) for title, pair in found if pair is not None]


def _median(dist: NDArray[np.floating], chosen: NDArray[np.bool_]) -> tuple[int, int] | None:
    """The pair with the median distance of those chosen."""
    i, j = np.nonzero(chosen)
    if not len(i):
        return None
    k = np.argsort(dist[i, j], kind="stable")[len(i) // 2]
    return int(i[k]), int(j[k])
