"""2-D max-pooling: the largest pixel of each window; a last window that does not fit is left out.

Forward.   out[n, i, j, c] = max over p, q of  x[n, i*sh + p, j*sw + q, c]

Backward.  Move any other pixel a little, and the output stays as it is: slope 0. The largest one moves the output with
           slope 1. So dout goes there, and nowhere else:
           dx[n, i*sh + p, j*sw + q, c] += dout[n, i, j, c]     for the entry (p, q) that was the largest

Kink.      Where several pixels are the largest, the slope depends on which one is moved. The gradient goes to the first
           in row-major order. NaN counts as larger than every number, so that it stays visible.

Example.   The window [[1, 5], [3, 2]]: out = 5, argmax = 1, and dout = 10 gives dx = [[0, 10], [0, 0]].

Compiled: kernels/maxpool2d.py.
"""

import numpy as np

from siamese_np.textbook import windows


def maxpool2d_forward(x, window, stride):
    """Pool x (N, H, W, C) over windows (KH, KW): out (N, OH, OW, C), cache.

    The cache begins with argmax (N, OH, OW, C): which entry, p * KW + q, was the largest.
    """
    places = windows.count(x.shape[1:3], window, stride)
    entries = np.stack([x[windows.seen_by(p, q, places, stride)] for p, q in np.ndindex(*window)])
    argmax = entries.real.argmax(axis=0)  # the first NaN, or the first maximum; complex numbers compare by real part
    out = np.take_along_axis(entries, argmax[None], axis=0)[0]
    return out, (argmax, x.shape, window, stride)


def maxpool2d_backward(dout, cache):
    """dx (N, H, W, C) from dout (N, OH, OW, C); windows that overlap add up."""
    argmax, x_shape, window, stride = cache
    dx = np.zeros(x_shape, dout.dtype)
    for p, q in np.ndindex(*window):
        selected = argmax == p * window[1] + q
        dx[windows.seen_by(p, q, dout.shape[1:3], stride)] += np.where(selected, dout, 0)
    return dx
