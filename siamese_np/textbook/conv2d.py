"""2-D convolution (cross-correlation): every output pixel is a weighted sum of the window of x it sees, plus a bias.

Forward.   out[n, i, j, f] = b[f] + sum over p, q, c of  x[n, i*sh + p - ph, j*sw + q - pw, c] * w[p, q, c, f]
           with stride (sh, sw), padding (ph, pw), and x = 0 outside the image.

           Fix one entry (p, q) of the window, and look at the pixels under it at all places (i, j) at once. They are
           a slice of x, `seen` (N, OH, OW, C), and what they add to out is a matrix product, seen @ w[p, q], with
           w[p, q] (C, F). So the loop runs over the window, not over the image: KH * KW products.

Backward.  Each product out += seen @ w[p, q] sends dout back as every matrix product does:
           dw[p, q] = seen.T @ dout           summed over all images and places
           dseen    = dout @ w[p, q].T        added to the pixels it was read from; where windows overlap, several add
           db       = dout                    summed over all images and places, since each output pixel added b once

Example.   One row of pixels x = [1, 2, 3], a window of two, w = [10, 1], b = 0:
           out = [1*10 + 2*1, 2*10 + 3*1] = [12, 23]. With dout = [1, 1]:
           dw = [1 + 2, 2 + 3] = [3, 5], dx = [10, 1 + 10, 1] (both windows see the middle pixel), db = 1 + 1 = 2.

Compiled: kernels/conv/direct.py (forward), backward.py, sparse_backward.py, winograd.py (both).
"""

import numpy as np

from siamese_np.textbook import windows


def conv2d_forward(x, w, b, stride, pad):
    """Convolve x (N, H, W, C) with w (KH, KW, C, F) and add b (F,): out (N, OH, OW, F), cache."""
    KH, KW, _, _ = w.shape
    padded = _pad(x, pad)
    OH, OW = windows.count(padded.shape[1:3], (KH, KW), stride)
    out = np.zeros((len(x), OH, OW, 1), x.dtype) + b
    for p, q in np.ndindex(KH, KW):
        out = out + padded[windows.seen_by(p, q, (OH, OW), stride)] @ w[p, q]
    return out, (x, w, stride, pad)


def conv2d_backward(dout, cache):
    """dx (N, H, W, C), dw (KH, KW, C, F), db (F,) from dout (N, OH, OW, F)."""
    x, w, stride, pad = cache
    KH, KW, _, _ = w.shape
    padded = _pad(x, pad)
    dpadded, dw = np.zeros_like(padded), np.zeros_like(w)
    for p, q in np.ndindex(KH, KW):
        seen = windows.seen_by(p, q, dout.shape[1:3], stride)
        dw[p, q] = np.tensordot(padded[seen], dout, axes=([0, 1, 2], [0, 1, 2]))
        dpadded[seen] += dout @ w[p, q].T
    dx = dpadded[:, pad[0] : pad[0] + x.shape[1], pad[1] : pad[1] + x.shape[2]]
    return dx, dw, dout.sum(axis=(0, 1, 2))


def _pad(x, pad):
    return np.pad(x, ((0, 0), (pad[0], pad[0]), (pad[1], pad[1]), (0, 0)))
