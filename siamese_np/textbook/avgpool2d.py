"""2-D average-pooling: the mean of each window; a last window that does not fit is left out.

Forward.   out[n, i, j, c] = 1/(KH*KW) * sum over p, q of  x[n, i*sh + p, j*sw + q, c]

Backward.  The mean has the slope 1/(KH*KW) in each of its pixels. A pixel under several windows reaches several
           outputs, so their gradients add up; one under no window gets 0:
           dx[n, i*sh + p, j*sw + q, c] += dout[n, i, j, c] / (KH*KW)     for all p, q

Kink.      None: the operation is linear.

Example.   The window [[1, 5], [3, 3]]: out = 12 / 4 = 3, and dout = 8 gives dx = [[2, 2], [2, 2]].

A window as large as the image, at its one place, gives the mean of each channel: global average-pooling.

Compiled: kernels/avgpool2d.py.
"""

import math

import numpy as np

from siamese_np.textbook import windows


def avgpool2d_forward(x, window, stride):
    """Pool x (N, H, W, C) over windows (KH, KW): out (N, OH, OW, C), cache."""
    places = windows.count(x.shape[1:3], window, stride)
    total = sum(x[windows.seen_by(p, q, places, stride)] for p, q in np.ndindex(*window))
    return total / math.prod(window), (x.shape, window, stride)


def avgpool2d_backward(dout, cache):
    """dx (N, H, W, C) from dout (N, OH, OW, C); windows that overlap add up."""
    x_shape, window, stride = cache
    dx = np.zeros(x_shape, dout.dtype)
    for p, q in np.ndindex(*window):
        dx[windows.seen_by(p, q, dout.shape[1:3], stride)] += dout / math.prod(window)
    return dx
