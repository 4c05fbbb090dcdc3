"""Winograd F(2x2, 3x3): 16 multiplications where the plain sum needs 36, for 3x3 kernels, stride 1, padding 1.

A 4x4 input tile d and a 3x3 kernel g give 2x2 outputs: ``A' [(G g G') * (B' d B)] A``, where ``*`` is element by
element and summed over channels: sixteen matrix products (tiles, C) x (C, F), which are left to BLAS. The transforms
are additions only, but they read and write memory, and at these few channels that costs more than is gained.

Source: A. Lavin, S. Gray, "Fast algorithms for convolutional neural networks", 2015, section 4.1.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from siamese_np.ladder.rung import rung

Array = NDArray[Any]


def multiplications(problem: Any) -> float:
    """Floating-point operations of the sixteen products."""
    N, H, W, F = problem.dout.shape
    return 2.0 * 16 * N * (H // 2) * (W // 2) * problem.x.shape[3] * F


def transformed_bytes(problem: Any) -> float:
    """Transformed inputs and products, written once and read once; of each 4 pixels there are 16 numbers."""
    return 2.0 * 4 * (problem.x.nbytes + problem.dout.nbytes)


@rung("conv2d_forward", "Winograd + BLAS", executed=multiplications, scratch=transformed_bytes)
def conv2d_forward(out: Array, x: Array, w: Array, b: Array, stride: Any, pad: Any) -> None:
    """out (N, H, W, F) = convolution of x (N, H, W, C) with w (3, 3, C, F), plus b (F,); H and W are even."""
    N, H, W, F = out.shape
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    d = [[padded[:, p : p + H : 2, q : q + W : 2] for q in range(4)] for p in range(4)]
    u, v = _both_sides(_kernel_side, w), _both_sides(_input_side, d)
    m = [[v[p][q].reshape(-1, x.shape[3]) @ u[p][q] for q in range(4)] for p in range(4)]
    sums = _both_sides(_output_side, m)
    for p in range(2):
        for q in range(2):
            out[:, p::2, q::2] = (sums[p][q] + b).reshape(N, H // 2, W // 2, F)


def _both_sides(side: Any, matrix: Any) -> list[tuple[Array, ...]]:
    """``T' M T`` of a matrix M of arrays, where `side` multiplies a column by T'."""
    half = [side(*column) for column in zip(*matrix, strict=True)]  # the columns of T' M
    return [side(*row) for row in zip(*half, strict=True)]


def _kernel_side(g0: Array, g1: Array, g2: Array) -> tuple[Array, ...]:
    return g0, (g0 + g1 + g2) / 2, (g0 - g1 + g2) / 2, g2


def _input_side(d0: Array, d1: Array, d2: Array, d3: Array) -> tuple[Array, ...]:
    return d0 - d2, d1 + d2, d2 - d1, d1 - d3


def _output_side(m0: Array, m1: Array, m2: Array, m3: Array) -> tuple[Array, ...]:
    return m0 + m1 + m2, m1 - m2 - m3
