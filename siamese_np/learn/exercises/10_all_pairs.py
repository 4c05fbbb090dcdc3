"""All pairs of a batch: every image is embedded once, and compared with every other.

Forward.   dist[i, j] = |emb[i] - emb[j]|                for all i and j of a batch

Backward.  dist[i, j] has the slope (emb[i] - emb[j]) / dist[i, j] in emb[i], as in the exercise on the distance. Now
           look where emb[i] stands: in row i of dist, and in column i too. Gradients come from both. ddist need not
           be symmetric: some losses look at one half only.

Kink.      Where dist is 0, as for i = j, the gradient is 0.

Shapes.    emb (N, E), dist and ddist (N, N)  ->  demb (N, E)

Example.   emb = [[0], [3]]: dist = [[0, 3], [3, 0]]. With ddist = [[0, 1], [0, 0]] demb = [[-1], [1]]: to move emb[1]
           up, or emb[0] down, lengthens dist[0, 1]. With ddist = [[0, 1], [1, 0]] it is [[-2], [2]].

Read: notebooks/all-pairs-and-mining.ipynb, section "The gradient in one matrix product"
Hint: emb[:, None] - emb[None] is the array of all differences, (N, N, E).
Hint: dist[i, j] and dist[j, i] are the same number: what arrives at either counts, ddist + ddist.T.
"""

import numpy as np


def pairwise_backward(ddist, cache):
    """demb from ddist."""
    dist, emb = cache
    raise NotImplementedError
