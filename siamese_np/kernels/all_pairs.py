"""Contrastive loss of all pairs of a batch, compiled. Textbook: textbook/all_pairs.py.

Made fast by
- computing distances in blocks (pairwise.py), and the sums of a row in the same pass;
- giving each row i to one thread, which visits every j: twice the arithmetic of i < j, but no two threads ever add to
  the same gradient;
- skipping dissimilar pairs at or beyond the margin, and not dividing for similar ones: there, dloss/ddist is dist;
- listing first the partners of a row that have a gradient, and then adding four at a time, so that the row is read and
  written a quarter as often.
"""

import numpy as np

from siamese_np.kernels.distance import LARGE
from siamese_np.kernels.pairwise import SHARD, distance_rows
from siamese_np.kernels.simd.scratch import ceil_div
from siamese_np.runtime.jit import inlined, kernel
from siamese_np.runtime.shards import sharded


@kernel(shared=True)
def all_pairs_forward(sums, dist, emb, classes, margin):
    """sums (N, 3) = each row's loss over its similar and its dissimilar pairs, and how many of these are active;
    dist (N, N) = distances of emb (N, E)."""
    _forward((sums, dist, emb, classes, margin), ceil_div(len(emb), SHARD))


@kernel(shared=True)
def all_pairs_backward(demb, weight, dist, emb, classes, margin):
    """demb (N, E) = gradients of emb, from weight (2,) and dist (N, N)."""
    _backward((demb, weight, dist, emb, classes, margin), ceil_div(len(emb), SHARD))


@sharded
@inlined(arrays=True)
def _forward(sums, dist, emb, classes, margin, s):
    N, first = emb.shape[0], s * SHARD
    distance_rows(dist, emb, first)
    zero = emb.dtype.type(0)
    for i in range(first, min(first + SHARD, N)):
        similar, dissimilar, active, row, own = zero, zero, 0, dist[i], classes[i]
        for j in range(N):
            d = row[j]
            gap = zero if d >= margin else margin - d  # so written, NaN counts
            similar += d * d / 2 if classes[j] == own else zero
            dissimilar += zero if classes[j] == own else gap * gap / 2
            active += classes[j] != own and not d >= margin
        sums[i, 0], sums[i, 1], sums[i, 2] = similar, dissimilar, active


@sharded
@inlined(arrays=True)
def _backward(demb, weight, dist, emb, classes, margin, s):
    N, E = emb.shape
    factor, partner = np.empty(N + 4, emb.dtype), np.empty(N + 4, np.int64)
    for i in range(s * SHARD, min((s + 1) * SHARD, N)):
        mine, row, count = emb[i], demb[i], 0
        for e in range(E):
            row[e] = 0
        for j in range(N):
            d = dist[i, j]
            if classes[i] == classes[j]:
                factor[count], partner[count] = weight[0], j
                count += 1
            elif d != 0 and not d >= margin:
                slope = weight[1] * (d - margin)
                if abs(slope / d) < LARGE:
                    factor[count], partner[count] = slope / d, j
                    count += 1
                else:  # 1 / d may be infinite, or all is NaN
                    for e in range(E):
                        row[e] += slope * ((mine[e] - emb[j, e]) / d)
        for n in range(count, count + 4):
            factor[n], partner[n] = 0, i
        for n in range(0, count, 4):
            a, b, c, d = factor[n], factor[n + 1], factor[n + 2], factor[n + 3]
            emb_a, emb_b, emb_c, emb_d = emb[partner[n]], emb[partner[n + 1]], emb[partner[n + 2]], emb[partner[n + 3]]
            for e in range(E):
                m = mine[e]
                row[e] += a * (m - emb_a[e]) + b * (m - emb_b[e]) + c * (m - emb_c[e]) + d * (m - emb_d[e])
