"""Distances of all pairs of a batch: what a loss of your own starts from.

Forward.   dist[i, j] = |emb[i] - emb[j]|

Backward.  emb[i] stands in row i and in column i. dist[i, j] and dist[j, i] are equal and have the same slope in it, so
           the gradients of both add up:
           demb[i] = sum over j of (ddist[i, j] + ddist[j, i]) * (emb[i] - emb[j]) / dist[i, j]
           where dist = 0, as for i = j, the term is 0, as in distance.py.

Compiled: kernels/pairwise.py.
"""

import numpy as np

from siamese_np.textbook.distance import euclidean_backward, euclidean_forward


def pairwise_forward(emb):
    """dist (N, N) of the rows of emb (N, E), cache."""
    N = len(emb)
    i, j = np.indices((N, N)).reshape(2, -1)
    dist = euclidean_forward(emb[i], emb[j])[0].reshape(N, N)
    return dist, (dist, emb)


def pairwise_backward(ddist, cache):
    """demb (N, E) from ddist (N, N), which need not be symmetric."""
    dist, emb = cache
    N, E = emb.shape
    i, j = np.indices((N, N)).reshape(2, -1)
    both = (ddist + ddist.T).reshape(-1)
    demb, _ = euclidean_backward(both, (emb[i], emb[j], dist.reshape(-1)))
    return demb.reshape(N, N, E).sum(axis=1)
