"""The top: what `siamese_np` runs, alone and as the block that training runs; and that block in separate passes.

Its kernels keep sums in registers. Forward, Winograd's transforms stay in the caches; backward, the zeros of the
gradient are skipped. One backward call gives dw, db and, if wanted, dx; for the ladder each is also computed alone.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from siamese_np import kernels
from siamese_np.kernels.dense import SPARSE
from siamese_np.ladder.operations import OPERATIONS
from siamese_np.ladder.rung import rung
from siamese_np.ladder.rungs.skipping import visited
from siamese_np.ladder.rungs.winograd import multiplications

Array = NDArray[Any]


def visited_twice(problem: Any) -> float:
    """Operations on the entries of the gradient that are not zero, for dx and for dw."""
    return 2.0 * visited(problem)


def density(array: Array) -> float:
    """Share of the products with entries of `array` that dense layers make: they skip zeros where most are zero."""
    share = np.count_nonzero(array) / array.size
    return share if share <= SPARSE else 1.0


def dense_visited(problem: Any) -> float:
    """Operations of the dense layer on what is not skipped of x."""
    return OPERATIONS["dense_forward"].flops(problem) * density(problem.dense_x)


def dense_visited_backward(problem: Any) -> float:
    """Operations for dw and dx: images without a gradient are skipped, and zeros of x and dout where most are zero."""
    x, dout = problem.dense_x, problem.dense_dout
    used = dout.any(axis=1)
    dx = min(density(dout), used.mean())
    return OPERATIONS["dense_forward"].flops(problem) * (used.mean() * density(x[used]) + dx)


def top(operation: str, executed: Any = None) -> None:
    """Put this package's own kernel on the ladder; it shares its work among the threads itself."""
    kernel = getattr(kernels, operation.removesuffix("_full"))
    rung(operation, "siamese_np", executed=executed, shares=True)(kernel)


top("conv2d_forward", multiplications)
top("conv_relu_pool_forward", multiplications)
top("conv_relu_pool_backward", visited_twice)
top("dense_forward", dense_visited)
top("dense_forward_full")
top("dense_backward", dense_visited_backward)


@rung("conv2d_backward_x", "siamese_np", executed=multiplications, shares=True)
def conv2d_backward_x(dx: Array, dout: Array, wT: Array, stride: Any, pad: Any) -> None:
    """For stride 1, dx is dout convolved with the flipped weights; the block below skips zeros instead."""
    KH, KW = wT.shape[1:3]
    flipped = np.ascontiguousarray(wT.transpose(1, 2, 0, 3)[::-1, ::-1])
    no_bias = np.zeros(dx.shape[3], dx.dtype)
    kernels.conv2d_forward(dx, dout, flipped, no_bias, stride, (KH - 1 - pad[0], KW - 1 - pad[1]))


@rung("conv2d_backward_w", "siamese_np", executed=visited, shares=True)
def conv2d_backward_w(dw: Array, dout: Array, x: Array, stride: Any, pad: Any) -> None:
    """Without dx; the gradient of the bias comes with it."""
    w, db = np.empty(dw.shape, dw.dtype), np.zeros(dw.shape[-1], dw.dtype)
    kernels.conv2d_backward(x[:0], dw, db, dout, x, w, stride, pad)


@rung("conv_relu_pool_forward", "separate passes", executed=multiplications, shares=True)
def separate_forward(out: Array, argmax: Array, x: Array, w: Array, b: Array, stride: Any, pad: Any) -> None:
    """Three kernels in a row, each writing its result to memory for the next."""
    conv = np.empty((len(x), 2 * out.shape[1], 2 * out.shape[2], out.shape[3]), x.dtype)
    active = np.empty_like(conv)
    kernels.conv2d_forward(conv, x, w, b, stride, pad)
    kernels.relu_forward(active.reshape(-1), conv.reshape(-1))
    kernels.maxpool2d_forward(out, argmax, active, (2, 2), (2, 2))
    argmax[out <= 0] = 4


@rung("conv_relu_pool_backward", "separate passes", executed=visited_twice, shares=True)
def separate_backward(
    dx: Array, dw: Array, db: Array, dout: Array, argmax: Array, x: Array, w: Array, stride: Any, pad: Any
) -> None:
    """The gradient is written out as an image, of which the convolution's backward pass takes what is not zero."""
    N, OH, OW, F = dout.shape
    dconv = np.empty((N, 2 * OH, 2 * OW, F), dout.dtype)
    sent = np.where(argmax < 4, dout, 0).astype(dout.dtype)
    kernels.maxpool2d_backward(dconv, sent, argmax % 4, dconv.shape, (2, 2), (2, 2))
    kernels.conv2d_backward(dx, dw, db, dconv, x, w, stride, pad)
