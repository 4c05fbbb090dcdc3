"""The top: the kernels that `siamese_np` runs.

Its backward pass of a convolution gives dw, db and, if wanted, dx in one call, which lists the gradient once. So
there is no rung for dx alone; `conv_relu_pool_backward` is the whole of it.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from siamese_np import _threads, kernels
from siamese_np.bench.ladder.rung import rung
from siamese_np.bench.ladder.rungs.skipping import visited

Array = NDArray[Any]


def visited_forward(problem: Any) -> float:
    """Operations on the entries of x that are not zero, where they are listed; else on all."""
    nonzero = np.count_nonzero(problem.x) / problem.x.size
    return 2.0 * problem.dout.size * problem.w[..., 0].size * (nonzero if nonzero <= 0.5 else 1.0)


def visited_backward(problem: Any) -> float:
    """Operations on the entries of the gradient that are not zero, for dx and for dw."""
    return 2.0 * visited(problem)


rung("conv2d_forward", "siamese_np", executed=visited_forward)(kernels.conv2d_forward)
rung("conv_relu_pool_forward", "siamese_np", executed=visited_forward)(kernels.conv_relu_pool_forward)
rung("conv_relu_pool_backward", "siamese_np", executed=visited_backward)(kernels.conv_relu_pool_backward)


@rung("conv2d_backward_w", "siamese_np", executed=visited, code=kernels.conv2d_backward)
def conv2d_backward_w(dw: Array, dout: Array, x: Array, stride: Any, pad: Any) -> None:
    """Without dx; the gradient of the bias comes with it."""
    w, db = np.empty(dw.shape, dw.dtype), np.zeros(dw.shape[-1], dw.dtype)
    kernels.conv2d_backward(x[:0], dw, db, dout, x, w, stride, pad)


@rung("dense_forward", "siamese_np", shares=True, code=kernels.dense_forward)
def dense_forward(out: Array, x: Array, w: Array, b: Array) -> None:
    """Shared among the threads by the kernel itself."""
    _threads.wake()
    kernels.dense_forward(out, x, w, b)


@rung("dense_backward", "siamese_np", shares=True, code=kernels.dense_backward)
def dense_backward(dx: Array, dw: Array, db: Array, dout: Array, x: Array, w: Array) -> None:
    """Shared among the threads by the kernel itself."""
    _threads.wake()
    kernels.dense_backward(dx, dw, db, dout, x, w)
