"""Contrastive loss: similar pairs are pulled together, dissimilar ones pushed apart until they are far enough.

Forward.   loss[n] = 1/2 dist[n]^2                       where label[n] is 0: a similar pair
                   = 1/2 max(0, margin - dist[n])^2      where label[n] is 1: a dissimilar pair

Backward.  Take the derivative of each line by dist. Which sign has the second? What is left of it beyond
           the margin? ddist[n] is dloss[n] times that slope. For the mean loss of N pairs, the caller gives 1/N.

Kink.      max(0, .) has a kink where dist is the margin, but its square has none: the slope is 0 from both sides.

Shapes.    dist, label (0 or 1) and dloss (N,), margin a number  ->  ddist (N,)

Example.   margin 1, dloss = 1: dist = 0.5 gives 0.5 for a similar pair, -0.5 for a dissimilar one; dist = 3 gives 3 for
           a similar pair and 0 for a dissimilar one.

Read: notebooks/distance-and-contrastive-loss.ipynb, section "The contrastive loss"
Hint: A loss that falls as dist grows has a negative slope: dissimilar pairs are pushed apart.
Hint: np.maximum(0, margin - dist) is the hinge; the slope of 1/2 hinge^2 in dist is minus the hinge.
"""

import numpy as np


def contrastive_backward(dloss, cache):
    """ddist from dloss."""
    dist, label, margin = cache
    raise NotImplementedError
