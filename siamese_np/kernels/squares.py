"""Squared distances between many embeddings, a block at a time.

    square[i, j] = sum over e of (a[i, e] - b[j, e])^2

The sum is one chain of fused multiply-adds in ascending e, so the bits of a pair's square are the same wherever
it is computed, and for (i, j) as for (j, i). |a|^2 + |b|^2 - 2 a b would cost half as much, but it cancels for
close pairs, which are the ones that matter. Where only the order of distances counts, no root is taken.

A block of COLUMNS embeddings b is transposed once, so that each fills a lane of a vector, and serves many rows.
"""

import numpy as np

from siamese_np._jit import inlined
from siamese_np._tile import ROWS, VECTOR_BYTES, VECTORS, squares_tile
from siamese_np.kernels.matmul import transpose

COLUMNS = 352  # a power of two would send every row of a block to the same few sets of the cache

_tile = squares_tile(ROWS, VECTORS)


@inlined
def pad_rows(x, first, rows):
    """Rows first, ..., first + rows - 1 of x (N, E); those behind the last are 0."""
    padded = np.empty((rows, x.shape[1]), x.dtype)
    for r in range(rows):
        for e in range(x.shape[1]):
            padded[r, e] = x[first + r, e] if first + r < x.shape[0] else 0
    return padded


@inlined
def columns_of(x, first):
    """Rows first, ..., first + COLUMNS - 1 of x (N, E) as columns; those behind the last are 0."""
    columns = np.empty((x.shape[1], COLUMNS), x.dtype)
    whole = first + COLUMNS <= x.shape[0]
    transpose(columns, x[first : first + COLUMNS] if whole else pad_rows(x, first, COLUMNS))
    return columns


@inlined
def square_rows(squares, rows, start, columns):
    """squares (ROWS, COLUMNS) of rows[start : start + ROWS] and all columns (E, COLUMNS)."""
    width = VECTORS * (VECTOR_BYTES // squares.itemsize)
    for f in range(0, COLUMNS, width):
        _tile(squares, 0, f, rows[start : start + ROWS], columns)
