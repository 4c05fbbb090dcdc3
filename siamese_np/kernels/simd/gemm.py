"""The matrix product under the dense layer and under Winograd's convolution, in registers.

    out[m, f] (+)= sum over k of x[m, k] w[k, f]

A block of ROWS x WIDE vectors of out is summed at a time: each vector of w that is loaded meets ROWS factors of x,
and so many independent sums hide the latency of a multiply-add. LLVM would vectorise plain loops too, but it would
read and write each sum for every product.

A matrix is a tuple: a flat array, where in it the matrix begins, and the step from row to row; of x also the step
from column to column, so a transposed x costs no copy.

Each sum is one chain of fused multiply-adds in ascending k, as in the product of listed entries (lists.py): both
agree to the last bit, and which one runs shows in nothing but the time.

Source: K. Goto, R. van de Geijn, "Anatomy of high-performance matrix multiplication", ACM TOMS 34, 2008.
"""

from siamese_np.kernels.simd.scratch import clear
from siamese_np.kernels.simd.vectors import (
    VECTOR_BYTES,
    WIDE,
    load,
    load_scalar,
    muladd,
    store,
    store_scalar,
    transpose_square,
    zeros,
)
from siamese_np.runtime.inline import part

ROWS = 6


@part
def multiply(out, x, w, shape, add):
    """out (M, F) = x (M, K) @ w (K, F), or += if `add`; shape = M, K, F."""
    M, K, F = shape
    f, vector = 0, VECTOR_BYTES // w[0].itemsize
    while f + WIDE * vector <= F:
        for m in range(0, M, ROWS):
            multiply_rows(out, x, w, m, f, M, K, add, zeros(w[0], WIDE))
        f += WIDE * vector
    while f + vector <= F:
        for m in range(0, M, ROWS):
            multiply_rows(out, x, w, m, f, M, K, add, zeros(w[0], 1))
        f += vector
    if f < F:
        multiply_rest(out, x, w, f, shape, add)


@part
def multiply_rows(out, x, w, m, f, M, K, add, like):
    """`multiply` for rows m to m + ROWS - 1 and the columns from f on; the last row again where none are left."""
    (sums, goal, out_step), (factors, at, row_step, step), (rows, row, w_step) = out, x, w
    m1, m2, m3, m4, m5 = min(m + 1, M - 1), min(m + 2, M - 1), min(m + 3, M - 1), min(m + 4, M - 1), min(m + 5, M - 1)
    goal += f
    goal0, goal1, goal2 = goal + m * out_step, goal + m1 * out_step, goal + m2 * out_step
    goal3, goal4, goal5 = goal + m3 * out_step, goal + m4 * out_step, goal + m5 * out_step
    x0, x1, x2 = at + m * row_step, at + m1 * row_step, at + m2 * row_step
    x3, x4, x5 = at + m3 * row_step, at + m4 * row_step, at + m5 * row_step
    sums0 = sums1 = sums2 = sums3 = sums4 = sums5 = like
    if add:
        sums0, sums1, sums2 = load(sums, goal0, like), load(sums, goal1, like), load(sums, goal2, like)
        sums3, sums4, sums5 = load(sums, goal3, like), load(sums, goal4, like), load(sums, goal5, like)
    for k in range(K):
        there, numbers = k * step, load(rows, row + f + k * w_step, like)
        sums0 = muladd(sums0, load_scalar(factors, x0 + there), numbers)
        sums1 = muladd(sums1, load_scalar(factors, x1 + there), numbers)
        sums2 = muladd(sums2, load_scalar(factors, x2 + there), numbers)
        sums3 = muladd(sums3, load_scalar(factors, x3 + there), numbers)
        sums4 = muladd(sums4, load_scalar(factors, x4 + there), numbers)
        sums5 = muladd(sums5, load_scalar(factors, x5 + there), numbers)
    store(sums, goal0, sums0)
    store(sums, goal1, sums1)
    store(sums, goal2, sums2)
    store(sums, goal3, sums3)
    store(sums, goal4, sums4)
    store(sums, goal5, sums5)


@part
def multiply_rest(out, x, w, f, shape, add):
    """`multiply` for the columns from f on, which do not fill a vector."""
    (M, K, F), (sums, goal, out_step), (factors, at, row_step, step), (rows, row, w_step) = shape, out, x, w
    for m in range(M):
        to = goal + m * out_step
        if not add:
            clear(sums, to + f, F - f)
        for k in range(K):
            factor = load_scalar(factors, at + m * row_step + k * step)
            for e in range(f, F):
                store_scalar(sums, to + e, load_scalar(sums, to + e) + factor * load_scalar(rows, row + k * w_step + e))


@part
def transpose(out, out_step, x, at, step, M, K):
    """out (K, M), flat, = x (M, K).T; the rows of out are `out_step` apart, those of x, from x[at] on, `step`."""
    like = zeros(x, 1)
    lanes = VECTOR_BYTES // x.itemsize
    M_whole, K_whole = M - M % lanes, K - K % lanes
    for m in range(0, M_whole, lanes):
        for k in range(0, K_whole, lanes):
            transpose_square(out, k * out_step + m, out_step, x, at + m * step + k, step, like)
    for m in range(M):
        for k in range(K_whole if m < M_whole else 0, K):
            store_scalar(out, k * out_step + m, load_scalar(x, at + m * step + k))
