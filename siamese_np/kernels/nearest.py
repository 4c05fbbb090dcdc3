"""The k nearest neighbours, exactly: every distance is computed (squares.py), the k smallest of a row are kept.

A row's k best so far lie in ascending order, a list so short that a new one is put into its place by moving
the larger ones up. Most are not among the k best, and then one comparison is all. Rows of the gallery come in
ascending order and must be smaller, not equal, to go before: of equal distances the lower row number wins.
"""

import numpy as np

from siamese_np._jit import kernel
from siamese_np._team import sharded
from siamese_np._tile import ROWS
from siamese_np.kernels.squares import COLUMNS, columns_of, pad_rows, square_rows

SHARD = 128  # queries that share a transposed block of the gallery


@kernel
def nearest_rows(squares, indices, query, gallery):
    """squares, indices (Q, k): the k smallest squared distances of each query (Q, E) to gallery (G, E), k <= G."""
    _search((squares, indices, query, gallery), -(-query.shape[0] // SHARD))


@sharded
@kernel
def _search(squares, indices, query, gallery, s):
    first, last = s * SHARD, min((s + 1) * SHARD, query.shape[0])
    k = squares.shape[1]
    rows, block = pad_rows(query, first, SHARD), np.empty((ROWS, COLUMNS), query.dtype)
    for i in range(first, last):
        for n in range(k):
            squares[i, n] = np.inf
    for g in range(0, gallery.shape[0], COLUMNS):
        columns, width = columns_of(gallery, g), min(COLUMNS, gallery.shape[0] - g)
        for start in range(0, last - first, ROWS):
            square_rows(block, rows, start, columns)
            for r in range(min(ROWS, last - first - start)):
                best, index, new = squares[first + start + r], indices[first + start + r], block[r]
                for j in range(width):
                    if new[j] < best[k - 1]:
                        n = k - 1
                        while n > 0 and new[j] < best[n - 1]:
                            best[n], index[n] = best[n - 1], index[n - 1]
                            n -= 1
                        best[n], index[n] = new[j], g + j
