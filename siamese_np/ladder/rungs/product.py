"""The top: what `siamese_np` runs, alone and as the block with ReLU and pooling that training runs.

Its kernels keep sums in registers. Forward, Winograd's transforms stay in the caches; backward, the zeros of the
gradient are skipped. One backward call gives dw, db and, if wanted, dx; for the ladder each is also computed alone.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from siamese_np import kernels
from siamese_np.ladder.rung import rung
from siamese_np.ladder.rungs.skipping import visited
from siamese_np.ladder.rungs.winograd import multiplications

Array = NDArray[Any]


rung("conv2d_forward", "siamese_np", executed=multiplications, shares=True)(kernels.conv2d_forward)


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


rung("conv_relu_pool_forward", "siamese_np", executed=multiplications, shares=True)(kernels.conv_relu_pool_forward)
twice = {"executed": lambda problem: 2 * visited(problem), "shares": True}  # dx and dw
rung("conv_relu_pool_backward", "siamese_np", **twice)(kernels.conv_relu_pool_backward)
