"""How each layer fares after an epoch: the norm of its gradient, and how many of its ReLU units are dead.

Both are measured on the same images after every epoch: the first batch of the first epoch, not augmented. Nothing of
the training changes by it.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from siamese_np._checks import as_images
from siamese_np.fusion import ConvReLUPool, fused
from siamese_np.layer import Array
from siamese_np.layers import ReLU
from siamese_np.ledger import layer_names
from siamese_np.network import Sequential
from siamese_np.textbook import conv2d_forward

if TYPE_CHECKING:
    from siamese_np.training import Training

DEAD_IMAGES = 64  # of the batch, on which a dead unit is 0


def columns(network: Sequential) -> list[str]:
    """Names of what `health` measures: ``grad_norm.conv2d_1`` of layers with parameters, ``dead.relu_1`` of ReLUs."""
    named = list(zip(layer_names(network.layers), network.layers, strict=True))
    norms = [f"grad_norm.{name}" for name, layer in named if layer.params]
    return norms + [f"dead.{name}" for name, layer in named if isinstance(layer, ReLU)]


def health(training: "Training") -> dict[str, float]:
    """The L2 norm of the gradient of each layer, and the share of units of each ReLU that are 0 for every image."""
    network = training.siamese.network
    images: list[Array] = []

    def kept(x: Array) -> Array:
        images.append(x)
        return x

    grads = network.grads.copy()
    try:
        network.zero_grads()
        training.protocol.gradients(training.siamese, next(iter(training.protocol.batches(0))), kept)
        norms = [_norm(layer.grads.values()) for layer in network.layers if layer.params]
    finally:
        network.grads[:] = grads
    seen = as_images(np.concatenate(images)[:DEAD_IMAGES], network.input_shape, network.params.dtype)
    return dict(zip(columns(network), norms + _dead(network, seen), strict=True))


def _norm(arrays: Iterable[Array]) -> float:
    return float(np.linalg.norm(np.concatenate([array.ravel() for array in arrays]).astype(np.float64)))


def _dead(network: Sequential, x: Array) -> list[float]:
    """The share of each ReLU's units that are 0 for all of x.

    A fused step gives no more than the largest unit of each window, so its convolution is done again, by the textbook:
    the compiled one alone is a kernel that training does without.
    """
    shares = []
    for step in fused(network.layers):
        out, _ = step.forward(x)
        if isinstance(step, ConvReLUPool):
            conv = step.conv
            x = conv2d_forward(x, conv.params["w"], conv.params["b"], conv.stride, conv.pad)[0]
        if isinstance(step, ConvReLUPool | ReLU):
            shares.append(float(np.mean((x <= 0).all(axis=0))))
        x = out
    return shares
