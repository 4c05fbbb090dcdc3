"""Contrastive loss of a pair: similar pairs are pulled together, dissimilar ones pushed out to the margin.

Forward.   loss = 1/2 dist^2                       label 0, similar
                = 1/2 max(0, margin - dist)^2      label 1, dissimilar; max(0, margin - dist) is called the hinge

Backward.  The slope of the loss in dist is
             dist                      similar: a spring that pulls, the harder the farther apart
             -max(0, margin - dist)    dissimilar: a spring that pushes, as long as it is compressed
           and ddist = dloss * slope. For the mean loss of N pairs, dloss is 1/N for every pair.

Kink.      The hinge has a kink at dist = margin, but its square has not: the slope is 0 from both sides. The pair is
           far enough.

Example.   dist = 0.5 with margin 1: loss 1/8 either way; slope 0.5 if similar, -0.5 if dissimilar.
           dist = 3: a dissimilar pair has loss 0 and slope 0.

Source: R. Hadsell, S. Chopra, Y. LeCun, "Dimensionality reduction by learning an invariant mapping", CVPR 2006, eq. 4.
Compiled: kernels/contrastive.py.
"""

import numpy as np


def contrastive_forward(dist, label, margin):
    """loss (N,) of pairs with distances dist (N,) and label (N,), cache."""
    loss = np.where(label == 0, dist**2, _hinge(dist, margin) ** 2) / 2
    return loss, (dist, label, margin)


def contrastive_backward(dloss, cache):
    """ddist (N,) from dloss (N,)."""
    dist, label, margin = cache
    return dloss * np.where(label == 0, dist, -_hinge(dist, margin))


def _hinge(dist, margin):
    gap = margin - dist
    return np.where(gap.real <= 0, 0, gap)  # so written, NaN stays NaN
