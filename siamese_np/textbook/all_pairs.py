"""Contrastive loss of all pairs of a batch: every image is embedded once, every pair of images is used.

Forward.   dist[i, j] = |emb[i] - emb[j]|,  label[i, j] = 0 where the classes are equal, else 1,
           loss[i, j] as in contrastive.py

           A batch has far fewer similar than dissimilar pairs. So their sums are kept apart, row by row, and the caller
           weighs them: sums[i] = (sum over similar j, sum over dissimilar j of loss[i, j]).

Backward.  The loss is  1/2 * sum over i of sums[i] @ weight: each pair stands in it twice, as (i, j) and as (j, i).
           Both move with emb[i] in the same way, which cancels the 1/2. So emb[i] needs only its own row:
           demb[i] = sum over j of weight[label] * dloss/ddist[i, j] * ddist[i, j]/demb[i]

Compiled: kernels/all_pairs.py.
"""

import numpy as np

from siamese_np.textbook.contrastive import contrastive_backward, contrastive_forward
from siamese_np.textbook.distance import euclidean_backward, euclidean_forward


def all_pairs_forward(emb, classes, margin):
    """sums (N, 2) of the losses of each row's similar and dissimilar pairs, cache; emb (N, E), classes (N,).

    The cache begins with the distances dist (N, N).
    """
    i, j, label = _pairs(classes)
    dist, _ = euclidean_forward(emb[i], emb[j])
    loss, _ = contrastive_forward(dist, label, margin)
    similar, dissimilar = (np.where(label == kind, loss, 0).reshape(len(emb), -1).sum(axis=1) for kind in (0, 1))
    return np.stack([similar, dissimilar], axis=1), (dist.reshape(len(emb), -1), emb, classes, margin)


def all_pairs_backward(weight, cache):
    """demb (N, E) from weight (2,), of similar and of dissimilar pairs."""
    dist, emb, classes, margin = cache
    i, j, label = _pairs(classes)
    ddist = contrastive_backward(weight[label], (dist.reshape(-1), label, margin))
    demb, _ = euclidean_backward(ddist, (emb[i], emb[j], dist.reshape(-1)))
    return demb.reshape(len(emb), -1, emb.shape[1]).sum(axis=1)


def _pairs(classes):
    """All ordered pairs (i, j), row by row, and their label."""
    i, j = np.indices((len(classes), len(classes))).reshape(2, -1)
    return i, j, (classes[i] != classes[j]).astype(int)
