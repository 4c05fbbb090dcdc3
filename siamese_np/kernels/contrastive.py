"""Contrastive loss of pairs, compiled. Textbook: textbook/contrastive.py.

Made fast by one loop, without arrays in between.
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
