"""out += x @ w: the one matrix product under the dense and the convolution kernels.

    out[i, f] += sum over k of x[i, k] * w[k, f]

A tile of out (_tile.py) stays in registers while k runs over a block of BLOCK: 8 x 32 sums on a machine with
AVX-512, each vector of w met by eight factors of x. The rows of w in a block, 32 columns wide, lie in the L1
cache and serve every row of out before the next columns are taken. x may have any strides (a transposed view
costs no copy); the rows of out and w must be contiguous.

Where most of x is zero (four in five MNIST pixels are black), `list_used` lists, for four rows of x at a time,
those k where not all four are zero, and `matmul_add_listed` multiplies only these. Neighbouring rows are zero
in the same places often enough, and each row of w that is read serves four times; one row at a time would wait
for memory. Each sum is the same chain of multiply-adds in ascending k as in `matmul_add`, and a zero adds
nothing: they agree to the last bit (but for the sign of a zero), and which one runs shows in nothing but the
time. This supposes finite w: 0 * NaN is NaN, and a skipped product is not.
"""

import numpy as np

from siamese_np._jit import kernel
from siamese_np._parts import part
from siamese_np._tile import ROWS, VECTOR_BYTES, VECTORS, dense_tile, listed_tile, transposed_tile

BLOCK = 256
LISTED_ROWS, LISTED_VECTORS = 4, VECTORS * ROWS // 4  # a listed tile has as many sums as a dense one

_tile = dense_tile(ROWS, VECTORS)
_row_tile = dense_tile(1, VECTORS)
_listed_tile = listed_tile(LISTED_ROWS, LISTED_VECTORS)
_transposed_tile = transposed_tile()


@kernel
def matmul_add(out, x, w):
    """out (M, F) += x (M, K) @ w (K, F)."""
    M, K = x.shape
    width = VECTORS * (VECTOR_BYTES // out.itemsize)
    M_whole, F_whole = M - M % ROWS, out.shape[1] - out.shape[1] % width
    for k0 in range(0, K, BLOCK):
        k1 = min(k0 + BLOCK, K)
        for f in range(0, F_whole, width):
            for i in range(0, M_whole, ROWS):
                _tile(out, i, f, x, w, k0, k1)
            for i in range(M_whole, M):
                _row_tile(out, i, f, x, w, k0, k1)
    for i in range(M if F_whole < out.shape[1] else 0):  # the last columns, too few to fill a tile
        for k in range(K):
            a = x[i, k]
            for f in range(F_whole, out.shape[1]):
                out[i, f] += a * w[k, f]


@part
def list_used(index, count, x, first, last):
    """List which of the columns first, ..., last - 1 of x (M, K) are not all zero in rows 4 g to 4 g + 3.

    There are count[g] of them, numbered from `first` on, in index (G, K'), K' > last - first.
    """
    used = np.empty(last - first, np.uint8)
    for g in range(count.size):
        for k in range(used.size):
            used[k] = 0
        for i in range(g * LISTED_ROWS, (g + 1) * LISTED_ROWS):
            row = x[i][first:last]
            for k in range(used.size):
                used[k] |= row[k] != 0
        listed, entries = index[g], 0
        for k in range(used.size):
            listed[entries] = k  # overwritten by the next, if not used
            entries += used[k]
        count[g] = entries


@part
def matmul_add_listed(out, x, w, index, count):
    """out (M, F) += x (M, K) @ w (K, F), where `list_used` has listed what is not zero in x."""
    width = LISTED_VECTORS * (VECTOR_BYTES // out.itemsize)
    F_whole = out.shape[1] - out.shape[1] % width
    for f in range(0, F_whole, width):
        for g in range(count.size):
            _listed_tile(out, g * LISTED_ROWS, f, x, w, index[g], count[g])
    M_whole = LISTED_ROWS * count.size
    matmul_add(out[:M_whole, F_whole:], x[:M_whole], w[:, F_whole:])
    matmul_add(out[M_whole:], x[M_whole:], w)


@part
def transpose(out, x):
    """out (K, M) = x (M, K).T."""
    M, K = x.shape
    lanes = VECTOR_BYTES // x.itemsize
    M_whole, K_whole = M - M % lanes, K - K % lanes
    for i in range(0, M_whole, lanes):
        for j in range(0, K_whole, lanes):
            _transposed_tile(out, j, i, x)
    for i in range(M):
        for j in range(K_whole if i < M_whole else 0, K):
            out[j, i] = x[i, j]
