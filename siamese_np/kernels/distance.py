"""Euclidean distance of two embeddings, compiled. Textbook: textbook/distance.py.

Made fast by
- one loop, without arrays in between;
- letting LLVM add the squares of a row in any order, so in vectors;
- dividing by the largest difference first only where squares have left the range of the number type.
"""

import numpy as np

from siamese_np.runtime.jit import inlined, kernel

# Outside this range of sums of squares, squares of float32 (and the more so of float64) may have lost digits.
SMALL, LARGE = 1e-25, 1e35


@kernel
def euclidean_forward(dist, emb_a, emb_b):
    """dist (N,) = distances between the rows of emb_a and emb_b (N, E)."""
    for n in range(emb_a.shape[0]):
        dist[n] = row_distance(emb_a[n], emb_b[n])


@kernel
def euclidean_backward(demb_a, demb_b, ddist, emb_a, emb_b, dist):
    """demb_a, demb_b (N, E) = gradients of the embeddings, from ddist (N,) and the distances dist (N,)."""
    N, E = emb_a.shape
    for n in range(N):
        for e in range(E):
            slope = (emb_a[n, e] - emb_b[n, e]) / dist[n] if dist[n] != 0 else emb_a.dtype.type(0)
            demb_a[n, e] = ddist[n] * slope
            demb_b[n, e] = -demb_a[n, e]


@inlined(reassociate=True)
def row_distance(a, b):
    """Distance between two vectors a, b (E,), free of underflow and overflow."""
    total = a.dtype.type(0)
    for e in range(a.size):
        total += (a[e] - b[e]) * (a[e] - b[e])
    if SMALL < total < LARGE or total != total:
        return np.sqrt(total)
    largest = a.dtype.type(0)
    for e in range(a.size):
        largest = max(largest, abs(a[e] - b[e]))
    if largest == 0 or largest == np.inf:
        return largest
    total = a.dtype.type(0)
    for e in range(a.size):
        scaled = (a[e] - b[e]) / largest
        total += scaled * scaled
    return largest * np.sqrt(total)
