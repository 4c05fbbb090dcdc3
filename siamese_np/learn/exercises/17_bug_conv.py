"""Find the bug: a convolution with stride.

With stride 1 all of it is right. One of the three gradients is wrong as soon as the window moves by more.

Shapes.    x (N, H, W, C), w (KH, KW, C, F), b (F,), dout (N, OH, OW, F)  ->  dx, dw, db like x, w, b

Read: notebooks/convolution-backward.ipynb, section "Stride and padding: who is seen how often"
Hint: Compare the pixels that dx is added to with those that dw is made of.
"""

import numpy as np


def conv2d_backward(dout, cache):
    """dx, dw, db from dout."""
    x, w, (sh, sw), (ph, pw) = cache
    _, H, W, _ = x.shape
    KH, KW, _, _ = w.shape
    _, OH, OW, _ = dout.shape
    padded = np.pad(x, ((0, 0), (ph, ph), (pw, pw), (0, 0)))
    dpadded, dw = np.zeros_like(padded), np.zeros_like(w)
    for p, q in np.ndindex(KH, KW):
        seen = padded[:, p : p + OH, q : q + OW]
        dw[p, q] = np.tensordot(seen, dout, axes=([0, 1, 2], [0, 1, 2]))
        dpadded[:, p : p + OH * sh : sh, q : q + OW * sw : sw] += dout @ w[p, q].T
    return dpadded[:, ph : ph + H, pw : pw + W], dw, dout.sum(axis=(0, 1, 2))
