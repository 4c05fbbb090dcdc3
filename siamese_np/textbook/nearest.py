"""Nearest neighbours: the k rows of a gallery with the smallest squared distances to each query.

A query is an embedding one looks for, the gallery are those one looks among. Squares are enough: the root would keep
their order. Of equal distances, the row that comes first in the gallery counts as nearer. Nothing is learned here, so
there is no backward pass.

Compiled: kernels/search/nearest.py.
"""

import numpy as np


def nearest_rows(query, gallery, k):
    """squares, indices (Q, k), nearest first, of query (Q, E) among gallery (G, E)."""
    squares, indices = np.empty((len(query), k), query.dtype), np.empty((len(query), k), np.int64)
    for q in range(len(query)):
        every = ((query[q] - gallery) ** 2).sum(axis=1)
        indices[q] = np.argsort(every, kind="stable")[:k]
        squares[q] = every[indices[q]]
    return squares, indices
