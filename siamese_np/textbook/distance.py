"""Euclidean distance of two embeddings, row by row.

Forward.   dist[n] = sqrt(sum over e of (a[n, e] - b[n, e])^2)

Backward.  dist is the root of a sum s. The root has the slope 1 / (2 sqrt(s)), and s has the slope 2 (a - b) in a:
           da = ddist * (a - b) / dist,     db = -da
           (a - b) / dist has length 1 and points from b to a: moving a away from b, or b away from a, lengthens the
           distance by as much as it moves.

Kink.      At dist = 0 there is no such direction: the graph is the tip of a cone. The gradient there is exactly 0,
           with no epsilon under the root, which would bias every other distance.

Example.   a = [3, 5, 8], b = [1, 2, 2]: a - b = [2, 3, 6], dist = sqrt(4 + 9 + 36) = 7.
           With ddist = 7: da = [2, 3, 6], db = [-2, -3, -6].

Squares of very small or very large differences leave the range of floating-point numbers. So each row of differences is
divided by the largest of it, and the root is multiplied by that again: dist is 0 only where the embeddings are equal.

Compiled: kernels/distance.py.
"""

import numpy as np


def euclidean_forward(emb_a, emb_b):
    """Distances dist (N,) of the rows of emb_a and emb_b (N, E), cache."""
    difference = emb_a - emb_b
    scale = abs(difference.real).max(axis=1, initial=0)
    scale[(scale == 0) | (scale == np.inf)] = 1
    dist = scale * np.sqrt(((difference / scale[:, None]) ** 2).sum(axis=1))
    return dist, (emb_a, emb_b, dist)


def euclidean_backward(ddist, cache):
    """demb_a, demb_b (N, E) from ddist (N,)."""
    emb_a, emb_b, dist = cache
    nonzero = np.where(dist == 0, 1, dist)
    direction = (emb_a - emb_b) / nonzero[:, None]  # at distance 0 the difference itself is 0
    demb_a = ddist[:, None] * direction
    return demb_a, -demb_a
