"""Images bent a little, compiled. Textbook: textbook/distort.py.

Made fast by
- mixing the knots along a column once for a row of pixels, and the weights along a row once for all images of a shard;
- copying each image into a frame of zeros, so that a lookup needs to ask for no edge;
- sharing images among threads.
"""

import numpy as np

from siamese_np.kernels.simd.scratch import ceil_div
from siamese_np.runtime.jit import inlined, kernel
from siamese_np.runtime.shards import sharded

IMAGES = 8  # of a shard


@kernel(shared=True)
def distort(out, images, matrix, grid):
    """out (N, H, W, C) = images (N, H, W, C) as matrix (N, 2, 3) and grid (N, G, G, 2) bend them."""
    _distort((out, images, matrix, grid), ceil_div(len(out), IMAGES))


@sharded
@inlined(arrays=True)
def _distort(out, images, matrix, grid, s):
    N, H, W, C = out.shape
    G, number = grid.shape[1], out.dtype.type
    knots, weights = np.empty(W, np.int64), np.empty(W, out.dtype)
    for j in range(W):
        knots[j], weights[j] = _knot(j, W, G, weights)
    row, frame = np.empty((G, 2), out.dtype), np.zeros((H + 3, W + 3, C), out.dtype)
    for n in range(s * IMAGES, min((s + 1) * IMAGES, N)):
        for i in range(H):
            for j in range(W):
                for c in range(C):
                    frame[i + 1, j + 1, c] = images[n, i, j, c]
        m, bend = matrix[n], grid[n]
        for i in range(H):
            k, t = _knot(i, H, G, weights)
            for g in range(G):
                row[g, 0] = _mix(bend[k, g, 0], bend[k + 1, g, 0], t)
                row[g, 1] = _mix(bend[k, g, 1], bend[k + 1, g, 1], t)
            for j in range(W):
                k, t = knots[j], weights[j]
                y = m[0, 0] * number(i) + m[0, 1] * number(j) + m[0, 2] + _mix(row[k, 0], row[k + 1, 0], t)
                x = m[1, 0] * number(i) + m[1, 1] * number(j) + m[1, 2] + _mix(row[k, 1], row[k + 1, 1], t)
                y, x = min(max(y, number(-1)), number(H)), min(max(x, number(-1)), number(W))
                top, left = np.floor(y), np.floor(x)
                p, q = np.int64(top) + 1, np.int64(left) + 1
                for c in range(C):
                    upper = _mix(frame[p, q, c], frame[p, q + 1, c], x - left)
                    lower = _mix(frame[p + 1, q, c], frame[p + 1, q + 1, c], x - left)
                    out[n, i, j, c] = _mix(upper, lower, y - top)


@inlined
def _knot(pixel, length, G, like):
    """The knot at or before `pixel` of `length`, and the weight of the next one."""
    place = pixel * (G - 1) / (length - 1)
    first = min(np.int64(place), G - 2)
    t = place - first
    return first, like.dtype.type(t * t * (3 - 2 * t))


@inlined
def _mix(a, b, weight):
    return a + weight * (b - a)
