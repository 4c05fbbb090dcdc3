"""Euclidean distance of two embeddings: a slope of length 1, and the tip of a cone.

Forward.   dist[n] = sqrt(sum over e of (emb_a[n, e] - emb_b[n, e])^2)

Backward.  dist is the root of a sum s. The root has the slope 1 / (2 sqrt(s)); s has the slope 2 (emb_a - emb_b) in
           emb_a, and minus that in emb_b. Multiply, and write sqrt(s) as dist.

Kink.      Where both embeddings are equal, dist is 0 and the slope has no direction: 0 / 0. The gradient there is
           exactly 0, not NaN; and no small number is added to dist, for that would make all other slopes wrong.

Shapes.    emb_a, emb_b (N, E), dist and ddist (N,)  ->  demb_a, demb_b (N, E)

Example.   emb_a = [3, 5, 8], emb_b = [1, 2, 2]: the difference is [2, 3, 6], dist = 7.
           With ddist = 7: demb_a = [2, 3, 6], demb_b = [-2, -3, -6].

Read: notebooks/distance-and-contrastive-loss.ipynb, section "The distance"
Hint: demb_a = ddist * (emb_a - emb_b) / dist, row by row: dist[:, None] has the shape (N, 1).
Hint: Divide by np.where(dist == 0, 1, dist): where dist is 0 the difference is 0 already.
"""

import numpy as np


def euclidean_backward(ddist, cache):
    """demb_a, demb_b from ddist."""
    emb_a, emb_b, dist = cache
    raise NotImplementedError
