"""Squared distances between many embeddings, a block at a time: sum over e of (a[i, e] - b[j, e])^2.

Made fast by
- transposing a block of COLUMNS embeddings b once, so that each is one entry of a vector; the block serves many rows a;
- keeping the sums of ROWS rows in registers.

|a|^2 + |b|^2 - 2 a b would cost half as much, but it cancels for close pairs, which are the ones that matter. Each sum
is one chain of fused multiply-adds in ascending e, so the bits of a pair's square are the same wherever it is computed,
and for (i, j) as for (j, i).
"""

import numpy as np

from siamese_np.kernels.simd.gemm import Matrix, transpose
from siamese_np.kernels.simd.vectors import VECTOR_BYTES, add_squares, length, load, load_scalar, store, zeros
from siamese_np.runtime.jit import inlined

ROWS = 8
VECTORS = 2 if VECTOR_BYTES == 64 else 1  # of each row, as far as registers go: differences need some, too
COLUMNS = 320  # a power of two would send every row of a block to the same few sets of the cache


@inlined(arrays=True)
def pad_rows(x, first, rows):
    """Rows first, ..., first + rows - 1 of x (N, E); those past the last are 0."""
    padded = np.empty((rows, x.shape[1]), x.dtype)
    for r in range(rows):
        for e in range(x.shape[1]):
            padded[r, e] = x[first + r, e] if first + r < x.shape[0] else 0
    return padded


@inlined(arrays=True)
def columns_of(x, first):
    """Rows first, ..., first + COLUMNS - 1 of x (N, E) as columns; those past the last are 0."""
    E = x.shape[1]
    columns = np.empty((E, COLUMNS), x.dtype)
    rows, src = x.reshape(-1), first * E
    if first + COLUMNS > x.shape[0]:
        rows, src = pad_rows(x, first, COLUMNS).reshape(-1), 0
    transpose(Matrix(columns.reshape(-1), 0, COLUMNS), Matrix(rows, src, E), COLUMNS, E)
    return columns


@inlined
def square_rows(squares, rows, start, columns):
    """squares (ROWS, COLUMNS) of rows[start : start + ROWS] and all columns (E, COLUMNS)."""
    E, like = columns.shape[0], zeros(columns, VECTORS)
    out, x, w = squares.reshape(-1), rows.reshape(-1), columns.reshape(-1)
    x0 = start * E
    x1, x2, x3, x4, x5, x6, x7 = x0 + E, x0 + 2 * E, x0 + 3 * E, x0 + 4 * E, x0 + 5 * E, x0 + 6 * E, x0 + 7 * E
    for f in range(0, COLUMNS, length(like)):
        sums0 = sums1 = sums2 = sums3 = sums4 = sums5 = sums6 = sums7 = like
        for e in range(E):
            vector = load(w, e * COLUMNS + f, like)
            sums0 = add_squares(sums0, load_scalar(x, x0 + e), vector)
            sums1 = add_squares(sums1, load_scalar(x, x1 + e), vector)
            sums2 = add_squares(sums2, load_scalar(x, x2 + e), vector)
            sums3 = add_squares(sums3, load_scalar(x, x3 + e), vector)
            sums4 = add_squares(sums4, load_scalar(x, x4 + e), vector)
            sums5 = add_squares(sums5, load_scalar(x, x5 + e), vector)
            sums6 = add_squares(sums6, load_scalar(x, x6 + e), vector)
            sums7 = add_squares(sums7, load_scalar(x, x7 + e), vector)
        store(out, f, sums0)
        store(out, COLUMNS + f, sums1)
        store(out, 2 * COLUMNS + f, sums2)
        store(out, 3 * COLUMNS + f, sums3)
        store(out, 4 * COLUMNS + f, sums4)
        store(out, 5 * COLUMNS + f, sums5)
        store(out, 6 * COLUMNS + f, sums6)
        store(out, 7 * COLUMNS + f, sums7)


@inlined
def square_pair(squares, r, j, a, i, b, k):
    """squares[r, j] = the square of rows a[i] and b[k], of arrays (N, E)."""
    E, sums = a.shape[1], zeros(a, 0)
    x, w = a.reshape(-1), b.reshape(-1)
    for e in range(E):
        sums = add_squares(sums, load_scalar(x, i * E + e), load(w, k * E + e, sums))
    store(squares.reshape(-1), r * squares.shape[1] + j, sums)
