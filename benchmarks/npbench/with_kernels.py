"""The cases on this package's kernels, which write into arrays that are given; softmax, of a few rows, is NumPy's."""

from typing import Any

import cases
import numpy as np

from siamese_np import kernels

Array = np.ndarray[Any, Any]
STRIDE, PAD = (1, 1), (0, 0)


def conv2d_bias(input: Array, weights: Array, bias: Array) -> Array:
    """The case ``conv2d_bias``."""
    K, F = len(weights), len(bias)
    out = np.empty((len(input), input.shape[1] - K + 1, input.shape[2] - K + 1, F), input.dtype)
    kernels.conv2d_forward(out, input, weights, bias, STRIDE, PAD)
    return out


def _block(x: Array, w: Array, b: Array) -> Array:
    """Convolution, ReLU and pooling in one pass."""
    K = len(w)
    out = np.empty((len(x), (x.shape[1] - K + 1) // 2, (x.shape[2] - K + 1) // 2, len(b)), x.dtype)
    kernels.conv_relu_pool_forward(out, np.empty(out.shape, np.uint8), x, w, b, STRIDE, PAD)
    return out


def _dense(x: Array, w: Array, b: Array, relu: bool = True) -> Array:
    out = np.empty((len(x), len(b)), x.dtype)
    kernels.dense_forward(out, x, w, b)
    if relu:
        kernels.relu_forward(out.reshape(-1), out.reshape(-1))
    return out


def lenet5(
    input: Array, conv1: Array, conv1bias: Array, conv2: Array, conv2bias: Array,
    fc1w: Array, fc1b: Array, fc2w: Array, fc2b: Array, fc3w: Array, fc3b: Array,
) -> Array:  # fmt: skip
    """The case ``lenet``."""
    x = _block(_block(input, conv1, conv1bias), conv2, conv2bias).reshape(len(input), -1)
    return _dense(_dense(_dense(x, fc1w, fc1b), fc2w, fc2b), fc3w, fc3b, relu=False)


def mlp(input: Array, w1: Array, b1: Array, w2: Array, b2: Array, w3: Array, b3: Array) -> Array:
    """The case ``mlp``."""
    return cases.softmax(_dense(_dense(_dense(input, w1, b1), w2, b2), w3, b3, relu=False))
