"""Images bent a little: turned, stretched, shifted, and pulled as if drawn on rubber, in one resampling.

Where from. Each pixel (i, j) of the result is looked up at a place (y, x) of the image, in pixels: an affine map gives
           it, and a displacement of its own is added:
           y = matrix[0, 0] * i + matrix[0, 1] * j + matrix[0, 2] + bend[i, j, 0]        likewise x, with matrix[1]
           To look up, not to push pixels away, leaves no holes; and all is done at once, for each resampling blurs.

Bend.      grid (G, G, 2) holds the displacements of G x G knots, spread evenly from the first row and column to the
           last. Between two knots, at the part t of the way, the second weighs t * t * (3 - 2 * t): like t, this goes
           from 0 to 1, but it begins and ends flat, so that no crease shows at a knot.

Lookup.    Between pixels the value is that of the four around, mixed by the distance: first the upper two and the lower
           two, then these. Beyond the image all is 0, the background. A mix lies between what is mixed, so a result
           keeps the range of the image.

Example.   One row [0, 1, 0], matrix [[1, 0, 0], [0, 1, 0.25]], grid 0: each pixel comes from a quarter to its right:
           [0.75 * 0 + 0.25 * 1, 0.75 * 1 + 0.25 * 0, 0.75 * 0 + 0.25 * 0] = [0.25, 0.75, 0].

Nothing is learned here, so there is no backward pass.

Source: P. Simard, D. Steinkraus, J. Platt, "Best practices for convolutional neural networks", ICDAR 2003.
Compiled: kernels/distort.py.
"""

import numpy as np


def distort(images, matrix, grid):
    """Images (N, H, W, C) as matrix (N, 2, 3) and grid (N, G, G, 2) bend them."""
    N, H, W, _ = images.shape
    i, j = np.indices((H, W)).astype(images.dtype)
    bend = _between(_between(grid, H).swapaxes(1, 2), W).swapaxes(1, 2)  # (N, H, W, 2)
    m = matrix[..., None, None]
    y, x = (m[:, axis, 0] * i + m[:, axis, 1] * j + m[:, axis, 2] + bend[..., axis] for axis in (0, 1))
    y, x = np.clip(y, -1, H), np.clip(x, -1, W)
    top, left = np.floor(y).astype(int), np.floor(x).astype(int)
    padded, n = np.pad(images, ((0, 0), (1, 2), (1, 2), (0, 0))), np.arange(N)[:, None, None]
    upper, lower = (
        _mix(padded[n, row + 1, left + 1], padded[n, row + 1, left + 2], (x - left)[..., None])
        for row in (top, top + 1)
    )
    return _mix(upper, lower, (y - top)[..., None]).astype(images.dtype)


def _between(knots, length):
    """knots (N, G, ...), spread over `length` pixels, at each pixel: (N, length, ...)."""
    place = np.arange(length) * (knots.shape[1] - 1) / (length - 1)
    first = np.minimum(place.astype(int), knots.shape[1] - 2)
    t = (place - first).reshape(-1, *[1] * (knots.ndim - 2))
    return _mix(knots[:, first], knots[:, first + 1], t * t * (3 - 2 * t)).astype(knots.dtype)


def _mix(a, b, weight):
    """From a, at weight 0, to b, at weight 1."""
    return a + weight * (b - a)
