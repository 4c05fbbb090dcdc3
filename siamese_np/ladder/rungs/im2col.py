"""im2col + BLAS: copy the patch under every output pixel into a row, and let one matrix product do the rest.

The product runs near the machine's peak, but the patches are nine times as large as the image, and they are written
to memory and read back.

Source: K. Chellapilla, S. Puri, P. Simard, "High performance convolutional neural networks for document
processing", 2006.
"""

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from siamese_np.ladder.rung import rung

Array = NDArray[Any]


def patch_bytes(problem: Any) -> float:
    """The patches, written once and read once."""
    return 2.0 * problem.x.nbytes * problem.w.shape[0] * problem.w.shape[1]


@rung("conv2d_forward", "im2col + BLAS", scratch=patch_bytes)
def conv2d_forward(out: Array, x: Array, w: Array, b: Array, stride: Any, pad: Any) -> None:
    """out (N, OH, OW, F) = convolution of x (N, H, W, C) with w (KH, KW, C, F), plus b (F,)."""
    F = w.shape[3]
    np.matmul(_patches(x, w.shape, stride, pad), w.reshape(-1, F), out=out.reshape(-1, F))
    out += b


@rung("conv2d_backward_x", "im2col + BLAS", scratch=patch_bytes)
def conv2d_backward_x(dx: Array, dout: Array, wT: Array, stride: Any, pad: Any) -> None:
    """dx (N, H, W, C): the gradients of all patches in one product, then each added where it was read."""
    N, OH, OW, F = dout.shape
    KH, KW, C = wT.shape[1:]
    H, W = dx.shape[1:3]
    dpatches = (dout.reshape(-1, F) @ wT.reshape(F, -1)).reshape(N, OH, OW, KH, KW, C)
    dpadded = np.zeros((N, H + 2 * pad[0], W + 2 * pad[1], C), dx.dtype)
    for p in range(KH):
        for q in range(KW):
            rows = slice(p, p + OH * stride[0], stride[0])
            dpadded[:, rows, q : q + OW * stride[1] : stride[1]] += dpatches[:, :, :, p, q]
    dx[:] = dpadded[:, pad[0] : pad[0] + H, pad[1] : pad[1] + W]


@rung("conv2d_backward_w", "im2col + BLAS", scratch=patch_bytes)
def conv2d_backward_w(dw: Array, dout: Array, x: Array, stride: Any, pad: Any) -> None:
    """dw (KH, KW, C, F) += patches, transposed, times dout."""
    F = dout.shape[3]
    dw += (_patches(x, dw.shape, stride, pad).T @ dout.reshape(-1, F)).reshape(dw.shape)


def _patches(x: Array, w_shape: tuple[int, ...], stride: Any, pad: Any) -> Array:
    """The patches of all output pixels, (N * OH * OW, KH * KW * C)."""
    KH, KW, C, _ = w_shape
    padded = np.pad(x, ((0, 0), (pad[0], pad[0]), (pad[1], pad[1]), (0, 0)))
    windows = sliding_window_view(padded, (KH, KW), axis=(1, 2))[:, :: stride[0], :: stride[1]]
    return windows.transpose(0, 1, 2, 4, 5, 3).reshape(-1, KH * KW * C)
