"""NPBench's deep-learning cases: sizes, inputs and the plain NumPy versions, written anew after its descriptions.

Source: A. Ziogas et al., "NPBench: a benchmarking suite for high-performance NumPy", ICS 2021. Images are
(N, H, W, C), filters (K, K, C, F); windows lie inside the image, stride 1.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]
Shapes = dict[str, tuple[int, ...]]


class Case(NamedTuple):
    """The shapes of a case's arrays at a size, the function over them, and the sizes."""

    shapes: Callable[..., Shapes]
    function: Callable[..., Array]
    sizes: dict[str, tuple[int, ...]]


def conv2d_shapes(N: int, C: int, F: int, K: int, H: int, W: int) -> Shapes:
    """A convolution with a bias."""
    return {"input": (N, H, W, C), "weights": (K, K, C, F), "bias": (F,)}


def lenet_shapes(N: int, H: int, W: int) -> Shapes:
    """LeNet-5: two convolutions with pooling, three dense layers."""
    left = ((H - 4) // 2 - 4) // 2 * (((W - 4) // 2 - 4) // 2) * 16
    shapes: Shapes = {"input": (N, H, W, 1), "conv1": (5, 5, 1, 6), "conv1bias": (6,)}
    shapes.update(conv2=(5, 5, 6, 16), conv2bias=(16,), fc1w=(left, 120), fc1b=(120,))
    return {**shapes, "fc2w": (120, 84), "fc2b": (84,), "fc3w": (84, 10), "fc3b": (10,)}


def mlp_shapes(N: int, C: int, S0: int, S1: int, S2: int) -> Shapes:
    """Three dense layers, the last with a softmax."""
    return {"input": (N, C), "w1": (C, S0), "b1": (S0,), "w2": (S0, S1), "b2": (S1,), "w3": (S1, S2), "b3": (S2,)}


def conv2d(x: Array, w: Array) -> Array:
    """One output pixel of all images at a time."""
    K, rows, columns = len(w), x.shape[1] - len(w) + 1, x.shape[2] - len(w) + 1
    out = np.empty((len(x), rows, columns, w.shape[3]), x.dtype)
    for i in range(rows):
        for j in range(columns):
            out[:, i, j] = np.sum(x[:, i : i + K, j : j + K, :, None] * w[None], axis=(1, 2, 3))
    return out


def conv2d_bias(input: Array, weights: Array, bias: Array) -> Array:
    """The case ``conv2d_bias``."""
    return conv2d(input, weights) + bias


def maxpool2d(x: Array) -> Array:
    """Windows of 2x2."""
    out = np.empty((len(x), x.shape[1] // 2, x.shape[2] // 2, x.shape[3]), x.dtype)
    for i in range(out.shape[1]):
        for j in range(out.shape[2]):
            out[:, i, j] = np.max(x[:, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2], axis=(1, 2))
    return out


def relu(x: Array) -> Array:
    """What is negative becomes 0."""
    return np.maximum(x, 0)


def softmax(x: Array) -> Array:
    """Of each row."""
    shifted = np.exp(x - np.max(x, axis=-1, keepdims=True))
    return shifted / np.sum(shifted, axis=-1, keepdims=True)


def lenet5(
    input: Array, conv1: Array, conv1bias: Array, conv2: Array, conv2bias: Array,
    fc1w: Array, fc1b: Array, fc2w: Array, fc2b: Array, fc3w: Array, fc3b: Array,
) -> Array:  # fmt: skip
    """The case ``lenet``."""
    x = maxpool2d(relu(conv2d(input, conv1) + conv1bias))
    x = maxpool2d(relu(conv2d(x, conv2) + conv2bias)).reshape(len(x), -1)
    return relu(relu(x @ fc1w + fc1b) @ fc2w + fc2b) @ fc3w + fc3b


def mlp(input: Array, w1: Array, b1: Array, w2: Array, b2: Array, w3: Array, b3: Array) -> Array:
    """The case ``mlp``."""
    return softmax(relu(relu(input @ w1 + b1) @ w2 + b2) @ w3 + b3)


def products(shapes: Shapes) -> float:
    """Operations: two for each weight of each image, and of each pixel of a convolution's output."""
    (N, *place), total = shapes["input"], 0.0
    for name, shape in shapes.items():
        if len(shape) == 4 and name != "input":
            place = [place[0] - shape[0] + 1, place[1] - shape[1] + 1]
            total += 2.0 * N * np.prod(place, dtype=float) * np.prod(shape, dtype=float)
            place = [place[0] // 2, place[1] // 2]
        elif len(shape) == 2 and name != "input":
            total += 2.0 * N * np.prod(shape, dtype=float)
    return total


SIZES = ("S", "M", "L", "paper")
CONV2D = ((8, 3, 16, 2, 32, 32), (8, 3, 8, 5, 64, 64), (8, 3, 8, 10, 128, 128), (8, 3, 16, 20, 256, 256))
LENET = ((4, 28, 28), (8, 56, 56), (8, 176, 176), (16, 256, 256))
MLP = tuple((8, 3, 30_000, *widths) for widths in ((2_000, 2_000), (10_000, 10_000), (30_000, 30_000), (10_000, 1_000)))
CASES = {
    "conv2d_bias": Case(conv2d_shapes, conv2d_bias, dict(zip(SIZES, CONV2D, strict=True))),
    "lenet": Case(lenet_shapes, lenet5, dict(zip(SIZES, LENET, strict=True))),
    "mlp": Case(mlp_shapes, mlp, dict(zip(SIZES, MLP, strict=True))),
}


def uniform(shapes: Shapes) -> dict[str, Array]:
    """Inputs as NPBench draws them: numbers from 0 to 1, none of them negative."""
    rng = np.random.default_rng(42)
    return {name: rng.random(shape, np.float32) for name, shape in shapes.items()}


def signed(shapes: Shapes) -> dict[str, Array]:
    """Inputs that tell more: of both signs, some zero, with sums of moderate size, which softmax does not cut off."""
    rng = np.random.default_rng(42)
    arrays = {}
    for name, shape in shapes.items():
        array = rng.standard_normal(shape, np.float32)
        if name == "input":
            array[rng.random(shape, np.float32) < 0.2] = 0
        elif len(shape) > 1:
            array *= np.float32(1.5 / np.sqrt(np.prod(shape[:-1], dtype=float)))
        arrays[name] = array
    return arrays
