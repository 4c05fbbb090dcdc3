"""Contrastive loss of pairs, from their distances. Label: 0 = similar, 1 = dissimilar.

    loss = 1/2 (1 - label) dist^2 + 1/2 label max(0, margin - dist)^2

    dloss/ddist = dist                           similar: pull together
                = -(margin - dist)               dissimilar and dist < margin: push apart
                = 0                              dissimilar and dist >= margin: far enough

At dist = margin both sides of the slope agree on 0: the hinge counts as inactive.

Source: R. Hadsell, S. Chopra, Y. LeCun, "Dimensionality reduction by learning an invariant mapping", CVPR
2006, equation 4 (their Y is this label).
"""

from siamese_np.runtime.jit import kernel


@kernel
def contrastive_forward(loss, dist, label, margin):
    """loss (N,) = contrastive loss of each pair, from dist (N,), label (N,) in {0, 1} and the margin."""
    for n in range(dist.size):
        if label[n] == 0:
            loss[n] = dist[n] * dist[n] / 2
        else:
            gap = margin - dist[n]
            loss[n] = 0 if gap <= 0 else gap * gap / 2


@kernel
def contrastive_backward(ddist, dloss, dist, label, margin):
    """ddist (N,) = gradients of the distances, from dloss (N,)."""
    for n in range(dist.size):
        if label[n] == 0:
            ddist[n] = dloss[n] * dist[n]
        else:
            gap = margin - dist[n]
            ddist[n] = 0 if gap <= 0 else -dloss[n] * gap
