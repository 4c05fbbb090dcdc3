"""Compiles ahead what training, evaluating and searching with the presets would compile when first used."""

import time
from collections.abc import Callable

import numpy as np

from siamese_np import metrics
from siamese_np.fusion import ConvReLUPool
from siamese_np.layers import Conv2D, Dense, MaxPool2D, ReLU
from siamese_np.losses import AllPairsContrastiveLoss, ContrastiveLoss
from siamese_np.network import Sequential, SiameseNetwork
from siamese_np.optimizers import OPTIMIZERS
from siamese_np.presets import PRESETS, make_network


def warm_up() -> dict[str, float]:
    """Run every kernel of the presets, both protocols and the evaluation once, on a few random images.

    Returns
    -------
    dict
        Seconds that each part took: to compile, or to load what was compiled before.
    """
    images = np.random.default_rng(0).random((8, 28, 28, 1), np.float32)
    classes = np.arange(8) % 2
    seconds: dict[str, float] = {}

    def clocked(name: str, part: Callable[..., object], *arguments: object) -> None:
        start = time.perf_counter()
        part(*arguments)
        seconds[name] = time.perf_counter() - start

    for preset in PRESETS:
        siamese = SiameseNetwork(make_network(preset))
        clocked(f"{preset} network", _pass, siamese, images)
    clocked("losses", _losses, siamese, images, classes)
    for name, optimizer in OPTIMIZERS.items():
        clocked(name, optimizer(siamese.network.params, siamese.network.grads).step, 1e-3)
    clocked("evaluation", _evaluation, siamese.embed(images), classes)
    siamese.views = True
    clocked("views, distortions", siamese.embed, images)
    return seconds


def compile_ahead() -> None:
    """Compile all kernels of a training step but the first, those first that take longest to compile.

    Where nothing is compiled yet, a process does this while another takes the step from its beginning.
    """
    image, pixels, vector = (np.zeros(shape, np.float32) for shape in ((1, 4, 4, 1), (1, 2, 2, 1), (1, 1)))
    conv = ConvReLUPool(Conv2D(1, 1, pad="same"), MaxPool2D())
    conv.backward(pixels, (pixels.astype(np.uint8), image))
    _pass(SiameseNetwork(Sequential([Dense(1, 1), ReLU()], (1,))), vector)
    loss = AllPairsContrastiveLoss()
    loss.backward(loss.forward(vector, [0])[1])


def _pass(siamese: SiameseNetwork, images: np.ndarray) -> None:
    emb, caches = siamese.network.forward(images)
    siamese.network.backward(emb, caches, need_dx=False)
    siamese.network.zero_grads()


def _losses(siamese: SiameseNetwork, images: np.ndarray, classes: np.ndarray) -> None:
    siamese.gradients(images, classes, AllPairsContrastiveLoss())
    siamese.pair_gradients(images, images[::-1], classes, ContrastiveLoss())
    siamese.network.zero_grads()
    ContrastiveLoss().forward(np.ones(8), classes)  # of float64, as in validation


def _evaluation(emb: np.ndarray, classes: np.ndarray) -> None:
    metrics.nearest(emb, emb, 1)
    metrics.all_pairs_metrics(emb, classes)
