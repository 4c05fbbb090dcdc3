"""The k nearest neighbours, exactly, compiled. Textbook: textbook/nearest.py.

Made fast by
- computing all distances in blocks (squared_distances.py), and taking no root: only their order counts;
- keeping the k best so far in a heap: none is better than its two children, n at 2 n + 1 and 2 n + 2, so the worst is
  at the top, 0. Most rows of the gallery are not among the k best, and for these one comparison with the top, in
  vectors, is all. One that is takes the top's place and sinks to where it belongs.

In the end the top is taken off k times, the worst first. Of equal distances the lower row number is the better.
"""

import numpy as np

from siamese_np.kernels.search.squared_distances import COLUMNS, ROWS, columns_of, pad_rows, square_rows
from siamese_np.kernels.simd.scratch import ceil_div
from siamese_np.runtime.jit import inlined, kernel
from siamese_np.runtime.shards import sharded

SHARD = 128  # queries that share a transposed block of the gallery


@kernel(shared=True)
def nearest_rows(squares, indices, query, gallery, k):
    """squares, indices (Q, k): the k smallest squared distances of each query (Q, E) to gallery (G, E), k <= G."""
    _search((squares, indices, query, gallery, k), ceil_div(len(query), SHARD))


@sharded
@inlined(arrays=True)
def _search(squares, indices, query, gallery, k, s):
    first, last = s * SHARD, min((s + 1) * SHARD, query.shape[0])
    rows = pad_rows(query, first, SHARD)
    block = np.empty((ROWS, COLUMNS), query.dtype)
    for i in range(first, last):
        for n in range(k):
            squares[i, n], indices[i, n] = np.inf, -1
    for g in range(0, gallery.shape[0], COLUMNS):
        columns, width = columns_of(gallery, g), min(COLUMNS, gallery.shape[0] - g)
        for start in range(0, last - first, ROWS):
            square_rows(block, rows, start, columns)
            for r in range(min(ROWS, last - first - start)):
                best, index = squares[first + start + r], indices[first + start + r]
                new, worst, better = block[r], best[0], False
                for j in range(width):  # in vectors: there seldom is one
                    better |= new[j] < worst
                for j in range(width if better else 0):
                    if new[j] < best[0]:  # one that is equal has the higher row number
                        _sink(best, index, k, new[j], g + j)
    for i in range(first, last):
        best, index = squares[i], indices[i]
        for size in range(k - 1, 0, -1):
            square, number = best[size], index[size]
            best[size], index[size] = best[0], index[0]
            _sink(best, index, size, square, number)


@inlined
def _sink(best, index, size, square, number):
    """Put (square, number) in place of the top of the heap of `size`, and let it sink."""
    n = 0
    while True:
        child = 2 * n + 1
        if child + 1 < size and _worse(best, index, child + 1, best[child], index[child]):
            child += 1
        if child >= size or not _worse(best, index, child, square, number):
            best[n], index[n] = square, number
            return
        best[n], index[n] = best[child], index[child]
        n = child


@inlined
def _worse(best, index, n, square, number):
    return best[n] > square or (best[n] == square and index[n] > number)
