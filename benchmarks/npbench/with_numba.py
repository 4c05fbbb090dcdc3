"""The cases as in NPBench's Numba versions: NumPy's expressions, parallel loops; matrix products need SciPy."""

from typing import Any

import numba
import numpy as np

fast: Any = numba.njit(parallel=True, fastmath=True)


@fast
def conv2d(x, w):
    """A row of output pixels in each parallel iteration."""
    K, rows, columns = w.shape[0], x.shape[1] - w.shape[0] + 1, x.shape[2] - w.shape[0] + 1
    out = np.empty((x.shape[0], rows, columns, w.shape[3]), x.dtype)
    for i in numba.prange(rows):
        for j in range(columns):
            for n in range(x.shape[0]):
                for f in range(w.shape[3]):
                    out[n, i, j, f] = np.sum(x[n, i : i + K, j : j + K] * w[:, :, :, f])
    return out


@fast
def conv2d_bias(input, weights, bias):
    """The case ``conv2d_bias``."""
    return conv2d(input, weights) + bias


@fast
def maxpool2d(x):
    """Windows of 2x2."""
    out = np.empty((x.shape[0], x.shape[1] // 2, x.shape[2] // 2, x.shape[3]), x.dtype)
    for i in numba.prange(out.shape[1]):
        for j in range(out.shape[2]):
            for n in range(x.shape[0]):
                for c in range(x.shape[3]):
                    out[n, i, j, c] = np.max(x[n, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2, c])
    return out


@fast
def relu(x):
    """What is negative becomes 0."""
    return np.maximum(x, np.float32(0))


@fast
def softmax(x):
    """Of each row."""
    out = np.empty_like(x)
    for n in numba.prange(x.shape[0]):
        shifted = np.exp(x[n] - np.max(x[n]))
        out[n] = shifted / np.sum(shifted)
    return out


@fast
def lenet5(input, conv1, conv1bias, conv2, conv2bias, fc1w, fc1b, fc2w, fc2b, fc3w, fc3b):
    """The case ``lenet``."""
    x = maxpool2d(relu(conv2d(input, conv1) + conv1bias))
    x = maxpool2d(relu(conv2d(x, conv2) + conv2bias))
    x = x.reshape(x.shape[0], fc1w.shape[0])
    return relu(relu(x @ fc1w + fc1b) @ fc2w + fc2b) @ fc3w + fc3b


@fast
def mlp(input, w1, b1, w2, b2, w3, b3):
    """The case ``mlp``."""
    return softmax(relu(relu(input @ w1 + b1) @ w2 + b2) @ w3 + b3)
