"""The matrix product under the dense layer and under Winograd's convolution: out[m, f] (+)= sum of x[m, k] w[k, f].

Made fast by
- keeping a block of out, 6 rows x WIDE vectors, in registers: a plain loop, which LLVM would vectorise as well, reads
  and writes each sum for every product. So many independent sums also hide the latency of a multiply-add;
- loading each vector of w once for six rows of x;
- reading a transposed x where it lies, with another step, so that it costs no copy.

Each sum is one chain of fused multiply-adds in ascending k, as in sparse.py: both give the same bits, and which of them
runs shows in nothing but the time.

Source: K. Goto, R. van de Geijn, "Anatomy of high-performance matrix multiplication", ACM TOMS 34, 2008.
"""

from typing import Any, NamedTuple

from siamese_np.kernels.simd.vectors import (
    WIDE,
    length,
    load,
    load_scalar,
    muladd,
    store,
    store_scalar,
    transpose_square,
    zeros,
)
from siamese_np.runtime.jit import inlined

ROWS = 6
DEPTH = 512  # rows of w that all of x meets before the next ones: 128 KiB, which the L2 cache keeps


class Matrix(NamedTuple):
    """A matrix in a flat array, from data[start] on: rows of neighbouring numbers, `step` apart."""

    data: Any
    start: int
    step: int


class Strided(NamedTuple):
    """A matrix whose columns have a step as well: a `Matrix`, or a transposed one."""

    data: Any
    start: int
    step: int
    column_step: int


@inlined
def multiply(out, x, w, shape, add):
    """out (M, F) = x (M, K) @ w (K, F), or += if `add`; out and w are `Matrix`, x is `Strided`; shape = M, K, F."""
    M, K, F = shape
    wide, narrow, single = zeros(w.data, WIDE), zeros(w.data, 1), zeros(w.data, 0)
    for k in range(0, max(K, 1), DEPTH):
        rows = Strided(x.data, x.start + k * x.column_step, x.step, x.column_step)
        factors, size, more, f = Matrix(w.data, w.start + k * w.step, w.step), (M, min(DEPTH, K - k)), add or k > 0, 0
        while f + length(wide) <= F:
            for m in range(0, M, ROWS):
                gemm_6x(out, rows, factors, size, (m, f), more, wide)
            f += length(wide)
        while f + length(narrow) <= F:
            for m in range(0, M, ROWS):
                gemm_6x(out, rows, factors, size, (m, f), more, narrow)
            f += length(narrow)
        for rest in range(f, F):
            for m in range(0, M, ROWS):
                gemm_6x(out, rows, factors, size, (m, rest), more, single)


@inlined
def gemm_6x(out, x, w, shape, corner, add, like):
    """`multiply` for six rows, and as many columns as `like` has entries, from corner = m, f on.

    Where fewer rows are left, the last is computed, and stored, more than once.
    """
    M, K = shape
    m, f = corner
    dst, src = out.start + f, w.start + f
    m1, m2, m3, m4, m5 = min(m + 1, M - 1), min(m + 2, M - 1), min(m + 3, M - 1), min(m + 4, M - 1), min(m + 5, M - 1)
    dst0, dst1, dst2 = dst + m * out.step, dst + m1 * out.step, dst + m2 * out.step
    dst3, dst4, dst5 = dst + m3 * out.step, dst + m4 * out.step, dst + m5 * out.step
    src0, src1, src2 = x.start + m * x.step, x.start + m1 * x.step, x.start + m2 * x.step
    src3, src4, src5 = x.start + m3 * x.step, x.start + m4 * x.step, x.start + m5 * x.step
    sums0 = sums1 = sums2 = sums3 = sums4 = sums5 = like
    if add:
        sums0, sums1, sums2 = load(out.data, dst0, like), load(out.data, dst1, like), load(out.data, dst2, like)
        sums3, sums4, sums5 = load(out.data, dst3, like), load(out.data, dst4, like), load(out.data, dst5, like)
    for k in range(K):
        row = load(w.data, src + k * w.step, like)
        column = k * x.column_step
        sums0 = muladd(sums0, load_scalar(x.data, src0 + column), row)
        sums1 = muladd(sums1, load_scalar(x.data, src1 + column), row)
        sums2 = muladd(sums2, load_scalar(x.data, src2 + column), row)
        sums3 = muladd(sums3, load_scalar(x.data, src3 + column), row)
        sums4 = muladd(sums4, load_scalar(x.data, src4 + column), row)
        sums5 = muladd(sums5, load_scalar(x.data, src5 + column), row)
    store(out.data, dst0, sums0)
    store(out.data, dst1, sums1)
    store(out.data, dst2, sums2)
    store(out.data, dst3, sums3)
    store(out.data, dst4, sums4)
    store(out.data, dst5, sums5)


@inlined
def transpose(out, x, M, K):
    """out (K, M) = x (M, K).T, both `Matrix`."""
    like = zeros(x.data, 1)
    size = length(like)
    M_squares, K_squares = M - M % size, K - K % size
    for m in range(0, M_squares, size):
        for k in range(0, K_squares, size):
            dst, src = out.start + k * out.step + m, x.start + m * x.step + k
            transpose_square(out.data, dst, out.step, x.data, src, x.step, like)
    for m in range(M):
        for k in range(K_squares if m < M_squares else 0, K):
            store_scalar(out.data, out.start + k * out.step + m, load_scalar(x.data, x.start + m * x.step + k))
