"""The product of matrices (gemm.py) for large w, compiled: as many rows of w as fit into the L1 cache at a time.

Made fast by copying a block of w, DEPTH rows and as many columns as a block of sums, to one place where all rows of x
meet it. The sums that are stored and loaded again between two blocks keep their bits.

Source: K. Goto, R. van de Geijn, "Anatomy of high-performance matrix multiplication", ACM TOMS 34, 2008.
"""

from siamese_np.kernels.simd.gemm import ROWS, Matrix, Strided, gemm_6x
from siamese_np.kernels.simd.scratch import ceil_div, empty_aligned
from siamese_np.kernels.simd.vectors import PAIR, WIDE, length, load, store, zeros
from siamese_np.runtime.jit import inlined

DEPTH = 128  # rows of w: 32 KiB of WIDE vectors
FEW_ROWS, MANY_ROWS = 4 * ROWS, 16 * ROWS  # of x: copying w does not pay, and takes hardly any time


@inlined(arrays=True)
def empty_block(like):
    """Memory for a block of w."""
    return empty_aligned(DEPTH * length(zeros(like, WIDE)), like)


@inlined
def multiply_blocks(out, x, w, shape, add, block):
    """`multiply`, for w (K, F) whose rows fill PAIR vectors; `block` is memory for a part of it."""
    M, K, F = shape
    wide, narrow = zeros(w.data, WIDE), zeros(w.data, PAIR)
    for k in range(0, K, DEPTH):
        rows = Strided(x.data, x.start + k * x.column_step, x.step, x.column_step)
        for f in range(0, F, length(wide)):
            sums = Matrix(out.data, out.start + f, out.step)
            factors = Matrix(w.data, w.start + k * w.step + f, w.step)
            if F - f >= length(wide):
                _multiply_block(sums, rows, factors, (M, min(DEPTH, K - k)), add or k > 0, block, wide)
            else:
                _multiply_block(sums, rows, factors, (M, min(DEPTH, K - k)), add or k > 0, block, narrow)


@inlined
def _multiply_block(out, x, w, shape, add, block, like):
    M, K = shape
    if M > FEW_ROWS and w.step != length(like):
        for k in range(K):
            store(block, k * length(like), load(w.data, w.start + k * w.step, like))
        w = Matrix(block, 0, length(like))
    for m in range(0, M, ROWS):
        gemm_6x(out, x, w, shape, (m, 0), add, like)


@inlined
def rows_at_a_time(total, most):
    """How many of `total` rows, about `most`, to take at a time: equally many, in whole blocks of sums."""
    return ceil_div(ceil_div(total, ceil_div(total, most)), ROWS) * ROWS
