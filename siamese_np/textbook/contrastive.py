"""Contrastive loss of a pair: similar pairs are pulled together, dissimilar ones pushed out to the margin.

Forward.   loss = 1/2 dist^2                       label 0, similar
                = 1/2 max(0, margin - dist)^2      label 1, dissimilar

Backward.  dloss/ddist = dist                      similar: a spring that pulls, the harder the farther apart
                       = -max(0, margin - dist)    dissimilar: a spring that pushes, as long as it is compressed

Kink.      At dist = margin both slopes of the hinge are 0: the gradient is continuous; the pair is far enough.

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
