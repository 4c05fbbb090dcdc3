"""Winograd F(2x2, 3x3): 16 multiplications where the plain sum needs 36, for 3x3 kernels, stride 1, padding 1.

A 4x4 input tile d and a 3x3 kernel g give 2x2 outputs: ``A' [(G g G') * (B' d B)] A``, where ``*`` is element by
element and summed over channels: sixteen small matrix products (tiles, C) x (C, F). The transforms are
additions only, but they read and write memory, which costs most of the gain at these few channels.

Source: A. Lavin, S. Gray, "Fast algorithms for convolutional neural networks", 2015, section 4.1.
"""

from typing import Any

import numpy as np

from siamese_np.kernels.simd.gemm import Matrix, Strided, multiply
from siamese_np.ladder.rung import rung
from siamese_np.runtime.jit import kernel


def multiplications(problem: Any) -> float:
    """Floating-point operations of the sixteen products."""
    N, H, W, F = problem.dout.shape
    return 2.0 * 16 * N * (H // 2) * (W // 2) * problem.x.shape[3] * F


def transformed_bytes(problem: Any) -> float:
    """Transformed inputs and products, written once and read once; of each 4 pixels there are 16 numbers."""
    return 2.0 * 4 * (problem.x.nbytes + problem.dout.nbytes)


@rung("conv2d_forward", "Winograd", executed=multiplications, scratch=transformed_bytes)
@kernel(reassociate=True)
def conv2d_forward(out, x, w, b, stride, pad):
    """out (N, H, W, F) = convolution of x (N, H, W, C) with w (3, 3, C, F), plus b (F,); H and W are even."""
    N, H, W, F = out.shape
    C = x.shape[3]
    rows, columns = H // 2, W // 2
    tiles = rows * columns
    u = np.empty((4, 4, C, F), x.dtype)
    _transform_weights(u, w)
    padded = np.zeros((H + 2, W + 2, C), x.dtype)
    v, m = np.empty((4, 4, tiles, C), x.dtype), np.empty((4, 4, tiles, F), x.dtype)
    for n in range(N):
        padded[1:-1, 1:-1] = x[n]
        for i in range(rows):
            for j in range(columns):
                _transform_input(v[:, :, i * columns + j], padded[2 * i : 2 * i + 4, 2 * j : 2 * j + 4])
        for k in range(16):
            sums, patches = Matrix(m.reshape(-1), k * tiles * F, F), Strided(v.reshape(-1), k * tiles * C, C, 1)
            multiply(sums, patches, Matrix(u.reshape(-1), k * C * F, F), (tiles, C, F), False)
        for i in range(rows):
            for j in range(columns):
                _transform_output(out[n, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2], m[:, :, i * columns + j], b)


@kernel(reassociate=True)
def _transform_weights(u, w):
    """u (4, 4, C, F) = G w G' of each channel and filter."""
    half = w.dtype.type(0.5)
    C, F = w.shape[2:]
    t = np.empty((4, 3, F), w.dtype)
    for c in range(C):
        for q in range(3):
            for f in range(F):
                g0, g1, g2 = w[0, q, c, f], w[1, q, c, f], w[2, q, c, f]
                t[0, q, f], t[3, q, f] = g0, g2
                t[1, q, f], t[2, q, f] = half * (g0 + g1 + g2), half * (g0 - g1 + g2)
        for p in range(4):
            for f in range(F):
                g0, g1, g2 = t[p, 0, f], t[p, 1, f], t[p, 2, f]
                u[p, 0, c, f], u[p, 3, c, f] = g0, g2
                u[p, 1, c, f], u[p, 2, c, f] = half * (g0 + g1 + g2), half * (g0 - g1 + g2)


@kernel(reassociate=True)
def _transform_input(v, d):
    """v (4, 4, C) = B' d B of one tile d (4, 4, C)."""
    r0, r1, r2, r3 = d[0], d[1], d[2], d[3]
    for c in range(d.shape[2]):
        a0, a1, a2, a3 = r0[0, c] - r2[0, c], r0[1, c] - r2[1, c], r0[2, c] - r2[2, c], r0[3, c] - r2[3, c]
        b0, b1, b2, b3 = r1[0, c] + r2[0, c], r1[1, c] + r2[1, c], r1[2, c] + r2[2, c], r1[3, c] + r2[3, c]
        c0, c1, c2, c3 = r2[0, c] - r1[0, c], r2[1, c] - r1[1, c], r2[2, c] - r1[2, c], r2[3, c] - r1[3, c]
        d0, d1, d2, d3 = r1[0, c] - r3[0, c], r1[1, c] - r3[1, c], r1[2, c] - r3[2, c], r1[3, c] - r3[3, c]
        v[0, 0, c], v[0, 1, c], v[0, 2, c], v[0, 3, c] = a0 - a2, a1 + a2, a2 - a1, a1 - a3
        v[1, 0, c], v[1, 1, c], v[1, 2, c], v[1, 3, c] = b0 - b2, b1 + b2, b2 - b1, b1 - b3
        v[2, 0, c], v[2, 1, c], v[2, 2, c], v[2, 3, c] = c0 - c2, c1 + c2, c2 - c1, c1 - c3
        v[3, 0, c], v[3, 1, c], v[3, 2, c], v[3, 3, c] = d0 - d2, d1 + d2, d2 - d1, d1 - d3


@kernel(reassociate=True)
def _transform_output(out, m, b):
    """out (2, 2, F) = A' m A of one tile m (4, 4, F), plus b (F,)."""
    for f in range(b.size):
        t0 = m[0, 0, f] + m[1, 0, f] + m[2, 0, f], m[1, 0, f] - m[2, 0, f] - m[3, 0, f]
        t1 = m[0, 1, f] + m[1, 1, f] + m[2, 1, f], m[1, 1, f] - m[2, 1, f] - m[3, 1, f]
        t2 = m[0, 2, f] + m[1, 2, f] + m[2, 2, f], m[1, 2, f] - m[2, 2, f] - m[3, 2, f]
        t3 = m[0, 3, f] + m[1, 3, f] + m[2, 3, f], m[1, 3, f] - m[2, 3, f] - m[3, 3, f]
        out[0, 0, f], out[1, 0, f] = t0[0] + t1[0] + t2[0] + b[f], t0[1] + t1[1] + t2[1] + b[f]
        out[0, 1, f], out[1, 1, f] = t1[0] - t2[0] - t3[0] + b[f], t1[1] - t2[1] - t3[1] + b[f]
