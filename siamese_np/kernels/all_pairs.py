"""Distance and contrastive loss of all pairs of a batch: every image is embedded once, every pair is used.

    dist[i, j] = |emb[i] - emb[j]|,  pair (i, j) is similar where the classes are equal
    loss[i, j] = 1/2 dist^2                     similar
               = 1/2 max(0, margin - dist)^2    dissimilar

A batch has far fewer similar than dissimilar pairs, so their sums are kept apart and the caller weighs them:
L = weight[0] * (sum over similar pairs) + weight[1] * (sum over dissimilar pairs), each pair i < j once. With
ddist/demb[i] = (emb[i] - emb[j]) / dist (distance.py) and dloss/ddist (contrastive.py),

    demb[i] = sum over j of weight[0] (emb[i] - emb[j])                              similar
            = sum over j of -weight[1] (margin - dist) (emb[i] - emb[j]) / dist      dissimilar, dist < margin

A similar pair needs no division; a dissimilar pair at distance 0 has no direction and gets 0. The difference
is divided by the distance, not multiplied by 1/dist, which would be infinite for the smallest distances. Each
row i belongs to one caller that visits every j: twice the arithmetic of i < j, but rows can go to threads.
"""

from siamese_np._jit import kernel
from siamese_np.kernels.distance import row_distance


@kernel
def all_pairs_forward(dist, sums, emb, classes, margin, first):
    """Fill the rows of dist (R, N) and sums (R, 2) that belong to emb[first : first + R].

    sums[:, 0] is the loss summed over the row's similar pairs, sums[:, 1] over its dissimilar pairs.
    """
    for r in range(dist.shape[0]):
        i = first + r
        sums[r, 0] = 0
        sums[r, 1] = 0
        for j in range(emb.shape[0]):
            d = row_distance(emb[i], emb[j])
            dist[r, j] = d
            if classes[i] == classes[j]:
                sums[r, 0] += d**2 / 2
            elif not d >= margin:  # so written, NaN counts
                sums[r, 1] += (margin - d) ** 2 / 2


@kernel
def all_pairs_backward(demb, weight, dist, emb, classes, margin, first):
    """demb (R, E) = gradients of emb[first : first + R], from weight (2,) and the rows of dist (R, N)."""
    E = emb.shape[1]
    demb[:] = 0
    for r in range(demb.shape[0]):
        i = first + r
        mine, row = emb[i], demb[r]
        for j in range(emb.shape[0]):
            theirs, d = emb[j], dist[r, j]
            if classes[i] == classes[j]:
                for e in range(E):
                    row[e] += weight[0] * (mine[e] - theirs[e])
            elif d != 0 and not d >= margin:
                slope = weight[1] * (d - margin)
                for e in range(E):
                    row[e] += slope * ((mine[e] - theirs[e]) / d)
