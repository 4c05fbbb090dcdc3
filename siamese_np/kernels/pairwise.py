"""Distances of all pairs of a batch, compiled. Textbook: textbook/pairwise.py.

Made fast by
- computing squares in blocks (search/squared_distances.py); the few that are so small or large that they may have lost
  digits are computed again, with care (distance.py);
- giving each row i to one thread, which visits every j: twice the arithmetic of i < j, but no two threads ever add to
  the same gradient.
"""

import numpy as np

from siamese_np.kernels.distance import LARGE, SMALL, row_distance
from siamese_np.kernels.search.squared_distances import COLUMNS, ROWS, columns_of, pad_rows, square_rows
from siamese_np.kernels.simd.scratch import ceil_div
from siamese_np.runtime.jit import inlined, kernel
from siamese_np.runtime.shards import sharded

SHARD = 16  # rows of a shard


@kernel(shared=True)
def pairwise_forward(dist, emb):
    """dist (N, N) = distances of the rows of emb (N, E)."""
    _forward((dist, emb), ceil_div(len(emb), SHARD))


@kernel(shared=True)
def pairwise_backward(demb, ddist, dist, emb):
    """demb (N, E) = gradients of emb, from ddist (N, N), which need not be symmetric."""
    _backward((demb, ddist, dist, emb), ceil_div(len(emb), SHARD))


@sharded
@inlined(arrays=True)
def _forward(dist, emb, s):
    distance_rows(dist, emb, s * SHARD)


@inlined(arrays=True)
def distance_rows(dist, emb, first):
    """Rows first, ..., first + SHARD - 1 of dist (N, N)."""
    N = emb.shape[0]
    rows = pad_rows(emb, first, SHARD)
    block = np.empty((ROWS, COLUMNS), emb.dtype)
    for j0 in range(0, N, COLUMNS):
        columns, width = columns_of(emb, j0), min(COLUMNS, N - j0)
        for start in range(0, SHARD, ROWS):
            square_rows(block, rows, start, columns)
            for r in range(min(ROWS, N - first - start)):
                i = first + start + r
                squares, row = block[r], dist[i, j0 : j0 + width]
                for j in range(width):
                    row[j] = np.sqrt(squares[j])
                for j in range(width):
                    if squares[j] < SMALL or squares[j] > LARGE:
                        row[j] = row_distance(emb[i], emb[j0 + j])


@sharded
@inlined
def _backward(demb, ddist, dist, emb, s):
    N, E = emb.shape
    for i in range(s * SHARD, min((s + 1) * SHARD, N)):
        for e in range(E):
            demb[i, e] = 0
        for j in range(N):
            if dist[i, j] != 0:
                slope = ddist[i, j] + ddist[j, i]
                for e in range(E):
                    demb[i, e] += slope * ((emb[i, e] - emb[j, e]) / dist[i, j])
