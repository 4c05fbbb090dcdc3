"""Which test images the page has pictures of, the pictures themselves, and the places of the images on the map."""

import io
import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from siamese_np.datasets import Dataset
from siamese_np.evaluation import Evaluation
from siamese_np.run_folder import drawable

SHOWN = 1_500  # test images with a picture, at most; t-SNE takes 5 seconds for them
TAILS = 50  # pairs of each kind on the wrong side, and as many spread evenly over all distances
SEED = 20062
MAX_PNG = 2_500_000  # bytes of all pictures; as text in the page a third more
SIDE = 48  # pixels of a picture, at most; larger ones are averaged down
BLOCK = 256  # images averaged down at a time

Ints = NDArray[np.int64]


class Shown(NamedTuple):
    """Test images `numbers` (n,), the training images `gallery` (m,) nearest to any of them, and pictures of both.

    `png` holds the pictures in rows of `across`, the test images first, each `tile` = (width, height) pixels of what
    was `size` = (width, height) pixels.
    """

    numbers: Ints
    gallery: Ints
    png: bytes
    across: int
    tile: tuple[int, int]
    size: tuple[int, int]


def shown(evaluation: Evaluation, dataset: Dataset) -> Shown:
    """All test images, or as many as `SHOWN` and `MAX_PNG` allow: telling ones first, then a seeded sample."""
    sample = np.random.default_rng(SEED).permutation(len(evaluation.emb))
    wrong = sample[(evaluation.voted != dataset.test.classes)[sample]]
    telling = dict.fromkeys([*_telling_pairs(evaluation).ravel().tolist(), *wrong.tolist()])
    order = np.array(list(dict.fromkeys([*list(telling)[: SHOWN // 2], *sample.tolist()])))
    count = min(len(order), SHOWN)
    while True:
        numbers = np.sort(order[:count])
        gallery = np.unique(evaluation.neighbours[numbers])
        made = _pictures(dataset, numbers, gallery)
        if len(made.png) <= MAX_PNG or count == 1:
            return made
        count = max(1, int(0.95 * count * MAX_PNG / len(made.png)))


def _telling_pairs(evaluation: Evaluation) -> Ints:
    """Pairs that are worth a look, whatever the threshold: the hardest of each kind, and some of every distance."""
    found = []
    for kind, step in ((0, -1), (1, 1)):  # similar pairs are hard where they are far apart
        order = np.flatnonzero(evaluation.label == kind)
        order = order[np.argsort(evaluation.dist[order], kind="stable")][::step]
        spread = np.linspace(0, len(order) - 1, min(TAILS, len(order))).astype(np.intp)
        found += [order[:TAILS], order[spread]]
    return evaluation.pairs[np.concatenate(found)]


def _pictures(dataset: Dataset, numbers: Ints, gallery: Ints) -> Shown:
    tiles = np.concatenate([_tiles(dataset.test.images, numbers), _tiles(dataset.train.images, gallery)])
    low, high = min(0.0, float(tiles.min())), max(1.0, float(tiles.max()))
    tiles = (tiles - low) * (255 / (high - low))
    n, h, w, C = tiles.shape
    across = math.isqrt(n - 1) + 1
    down = (n - 1) // across + 1
    grid = np.zeros((down * across, h, w, C), np.uint8)
    grid[:n] = np.rint(tiles)
    sheet = grid.reshape(down, across, h, w, C).swapaxes(1, 2).reshape(down * h, across * w, C)
    content = io.BytesIO()
    Image.fromarray(sheet[..., 0] if C == 1 else sheet).save(content, "png")
    size = drawable(dataset.test.images[:1]).shape[1:3]
    return Shown(numbers, gallery, content.getvalue(), across, (w, h), (size[1], size[0]))


def _tiles(images: NDArray[np.floating], chosen: Ints) -> NDArray[np.floating]:
    """The chosen images (n, h, w, 1 or 3), each averaged down to `SIDE` pixels in height and in width, at most."""
    tiles = []
    for start in range(0, len(chosen), BLOCK):
        some = drawable(images[chosen[start : start + BLOCK]])
        some = some[..., None] if some.ndim == 3 else some
        (n, H, W, C), (h, w) = some.shape, ((size - 1) // SIDE + 1 for size in some.shape[1:3])
        some = some[:, : H // h * h, : W // w * w]
        tiles.append(some.reshape(n, H // h, h, W // w, w, C).mean(axis=(2, 4)))
    return np.concatenate(tiles)


def tsne_2d(emb: NDArray[np.floating], start: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """A flat map (n, 2) that keeps neighbours together, begun at `start`; None where scikit-learn makes none."""
    start = start * (1e-4 / (start[:, 0].std() or 1.0))
    perplexity = min(30.0, (len(emb) - 1) / 3)
    try:
        from sklearn.manifold import TSNE
        from threadpoolctl import threadpool_limits

        flat = TSNE(2, perplexity=perplexity, init=start.astype(np.float32), learning_rate="auto", random_state=SEED)
        with threadpool_limits(1):  # many threads wait for each other: ten times as long on a busy machine
            found = np.asarray(flat.fit_transform(emb.astype(np.float32)), np.float64)
    except Exception:  # not only where it is missing: one that was built for another NumPy must end no training
        return None
    return found if np.isfinite(found).all() else None
