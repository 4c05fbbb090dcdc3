"""The embedding networks of this package: three small CNNs, and the MLP of the original notebook."""

from collections.abc import Sequence
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

    Examples
    --------
    >>> cnn(seed=0).output_shape, cnn((8, 8, 3), embedding_size=16).input_shape
    ((64,), (8, 8, 3))
    """
    return blocks("cnn", (32, 64), 1, 128, input_shape, embedding_size, seed, dtype)


def cnn3(
    input_shape: Shape = (28, 28, 1),
    embedding_size: int = 64,
    seed: int = 0,
    dtype: DTypeLike = np.float32,
) -> Sequential:
    """As `cnn`, with a third block, of 128 filters: more layers, but fewer weights, for less is left of the image.

    Parameters are those of `cnn`.
    """
    return blocks("cnn3", (32, 64, 128), 1, 128, input_shape, embedding_size, seed, dtype)


def slim(
    input_shape: Shape = (28, 28, 1),
    embedding_size: int = 32,
    seed: int = 0,
    dtype: DTypeLike = np.float32,
) -> Sequential:
    """As `cnn`, for a training of a second: few filters, and convolutions without padding, of a border that is black.

    Parameters are those of `cnn`.
    """
    return blocks("slim", (16, 48), 0, 128, input_shape, embedding_size, seed, dtype)


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


PRESETS = {"cnn": cnn, "cnn3": cnn3, "mlp": mlp, "slim": slim}


def make_network(preset: str, **options: Any) -> Sequential:
    """The preset called `preset`, or an OptionError that names the presets there are."""
    _check_preset(preset)
    return PRESETS[preset](**options)


def _check_preset(preset: Any) -> None:
    if not isinstance(preset, str) or preset not in PRESETS:
        raise OptionError(f"there is no preset {preset!r:.200}; choose one of {', '.join(sorted(PRESETS))}")


def blocks(
    name: str,
    filters: Sequence[int],
    pad: int,
    hidden: int,
    input_shape: Shape,
    embedding_size: int,
    seed: int,
    dtype: DTypeLike,
) -> Sequential:
    """Blocks of 3x3 convolution, ReLU and 2x2 max-pooling, then two dense layers."""
    H, W, C = _image_shape(input_shape)
    smallest = _smallest(len(filters), pad)
    if min(H, W) < smallest:
        raise ShapeError(f"the {name} preset needs images of at least {smallest}x{smallest} pixels, not {H}x{W}")
    seeds = seeded(np.random.SeedSequence, seed).spawn(len(filters) + 2)
    layers: list[Layer] = []
    for F, block_seed in zip(filters, seeds, strict=False):
        layers += [Conv2D(C, F, 3, pad=pad, seed=block_seed, dtype=dtype), ReLU(), MaxPool2D(2)]
        H, W, C = (H - 2 + 2 * pad) // 2, (W - 2 + 2 * pad) // 2, F
    layers += [Flatten(), Dense(H * W * C, hidden, seed=seeds[-2], dtype=dtype), ReLU()]
    return Sequential([*layers, Dense(hidden, embedding_size, seed=seeds[-1], dtype=dtype)], input_shape)


def _smallest(blocks: int, pad: int) -> int:
    """The least height and width of images of which something is left after so many blocks."""
    smallest = 1
    for _ in range(blocks):
        smallest = 2 * smallest + 2 - 2 * pad
    return smallest


_SMALLEST = {"cnn3": _smallest(3, 1), "slim": _smallest(2, 0), "cnn": _smallest(2, 1), "mlp": 1}


def fitting(preset: str, shape: Shape) -> str:
    """`preset`, or, where images of this shape are too small for it, the next smaller one that takes them."""
    _check_preset(preset)
    shape = _image_shape(shape)
    return next(name for name in (preset, "cnn", "mlp") if min(shape[:2]) >= _SMALLEST[name])


def _image_shape(shape: Shape) -> tuple[int, int, int]:
    if not isinstance(shape, (list, tuple)) or len(shape) != 3:
        raise ShapeError(f"an image shape is (H, W, C), not {shape!r:.200}")
    H, W, C = as_shape(shape, "an image shape")
    return H, W, C
