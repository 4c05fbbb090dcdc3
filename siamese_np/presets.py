"""The two embedding networks of this package: a small CNN, and the MLP of the original notebook."""

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from siamese_np._checks import as_shape, seeded
from siamese_np.errors import OptionError, ShapeError
from siamese_np.layer import Layer, Shape
from siamese_np.layers import Conv2D, Dense, Flatten, MaxPool2D, ReLU
from siamese_np.network import Sequential


def cnn(
    input_shape: Shape = (28, 28, 1),
    embedding_size: int = 64,
    seed: int = 0,
    dtype: DTypeLike = np.float32,
) -> Sequential:
    """Convolutional embedding network: two blocks of 3x3 convolution, ReLU and 2x2 max-pooling, two dense layers.

    Parameters
    ----------
    input_shape : (int, int, int), default (28, 28, 1)
        H, W, C of one image.
    embedding_size : int, default 64
        Length E of an embedding.
    seed : int
        Seed of the weights.
    dtype : dtype, default float32
    """
    H, W, C = _image_shape(input_shape)
    if min(H, W) < 4:
        raise ShapeError(f"the cnn preset needs images of at least 4x4 pixels, not {H}x{W}")
    seeds = seeded(np.random.SeedSequence, seed).spawn(4)
    layers = [
        Conv2D(C, 32, 3, pad="same", seed=seeds[0], dtype=dtype),
        ReLU(),
        MaxPool2D(2),
        Conv2D(32, 64, 3, pad="same", seed=seeds[1], dtype=dtype),
        ReLU(),
        MaxPool2D(2),
        Flatten(),
        Dense((H // 4) * (W // 4) * 64, 128, seed=seeds[2], dtype=dtype),
        ReLU(),
        Dense(128, embedding_size, seed=seeds[3], dtype=dtype),
    ]
    return Sequential(layers, input_shape)


def mlp(
    input_shape: Shape = (28, 28, 1),
    embedding_size: int = 128,
    seed: int = 0,
    dtype: DTypeLike = np.float32,
) -> Sequential:
    """The network of the original notebook: 784-512-256-128, ReLU between, linear output.

    Parameters are those of `cnn`.
    """
    H, W, C = _image_shape(input_shape)
    sizes = [H * W * C, 512, 256, embedding_size]
    seeds = seeded(np.random.SeedSequence, seed).spawn(3)
    layers: list[Layer] = [Flatten()]
    for i in range(3):
        layers += [Dense(sizes[i], sizes[i + 1], seed=seeds[i], dtype=dtype), ReLU()]
    return Sequential(layers[:-1], input_shape)


PRESETS = {"cnn": cnn, "mlp": mlp}


def make_network(preset: str, **options: Any) -> Sequential:
    """The preset called `preset`, or an OptionError that names the presets there are."""
    if preset not in PRESETS:
        raise OptionError(f"there is no preset {preset!r}; choose one of {', '.join(sorted(PRESETS))}")
    return PRESETS[preset](**options)


def _image_shape(shape: Shape) -> tuple[int, int, int]:
    if not isinstance(shape, (list, tuple)) or len(shape) != 3:
        raise ShapeError(f"an image shape is (H, W, C), not {shape!r}")
    H, W, C = as_shape(shape, "an image shape")
    return H, W, C
