"""Contrastive loss of all pairs of a batch: every image is embedded once, every pair of images is used.

Forward.   dist[i, j] = |emb[i] - emb[j]|,  label[i, j] = 0 where the classes are equal, else 1,
           loss[i, j] as in contrastive.py

           A batch has far fewer similar than dissimilar pairs. So their losses are summed apart, row by row:
           sums[i, 0] = sum over similar j of loss[i, j],  sums[i, 1] = sum over dissimilar j of loss[i, j]
           The caller chooses how much each kind counts, weight = (of similar, of dissimilar pairs), and the total is
           1/2 * sum over i of (sums[i, 0] * weight[0] + sums[i, 1] * weight[1])
           with 1/2 because each pair stands in it twice, as (i, j) and as (j, i).

           sums[i, 2] = how many dissimilar j lie within the margin. In a trained network few are left, and a mean over
           all dissimilar pairs is next to nothing. A weight of one by the number of these "active" ones keeps their
           part of the loss as large as at the start. The number only jumps, so no gradient flows through it.

Backward.  emb[i] stands in row i and in column i. Both hold the same losses and have the same slope in emb[i]: together
           they cancel the 1/2, and row i alone is enough:
           demb[i] = sum over j of weight[label[i, j]] * slope[i, j] * (emb[i] - emb[j]) / dist[i, j]
           with the slope of the loss in the distance from contrastive.py, and the last factor from distance.py

Compiled: kernels/all_pairs.py.
"""

import numpy as np

from siamese_np.textbook.contrastive import contrastive_backward, contrastive_forward
from siamese_np.textbook.distance import euclidean_backward, euclidean_forward


def all_pairs_forward(emb, classes, margin):
    """sums (N, 3): of each row the loss of similar and of dissimilar pairs, and the number of active ones; cache.

    Of emb (N, E) and classes (N,). The cache begins with the distances dist (N, N).
    """
    N = len(emb)
    i, j, label = _pairs(classes)
    dist, _ = euclidean_forward(emb[i], emb[j])
    loss, _ = contrastive_forward(dist, label, margin)
    similar, dissimilar = (np.where(label == kind, loss, 0).reshape(N, N).sum(axis=1) for kind in (0, 1))
    active = ((label == 1) & ~(dist.real >= margin)).reshape(N, N).sum(axis=1)
    return np.stack([similar, dissimilar, active], axis=1), (dist.reshape(N, N), emb, classes, margin)


def all_pairs_backward(weight, cache):
    """demb (N, E) from weight (2,), of similar and of dissimilar pairs."""
    dist, emb, classes, margin = cache
    N, E = emb.shape
    i, j, label = _pairs(classes)
    ddist = contrastive_backward(weight[label], (dist.reshape(-1), label, margin))
    demb, _ = euclidean_backward(ddist, (emb[i], emb[j], dist.reshape(-1)))
    return demb.reshape(N, N, E).sum(axis=1)


def _pairs(classes):
    """All ordered pairs (i, j), row by row, and their label."""
    i, j = np.indices((len(classes), len(classes))).reshape(2, -1)
    return i, j, (classes[i] != classes[j]).astype(int)
