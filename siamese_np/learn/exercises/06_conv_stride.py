"""Convolution with stride and padding, the whole backward pass.

Forward.   out[n, i, j, f] = b[f] + sum over p, q, c of  x[n, i*sh + p - ph, j*sw + q - pw, c] * w[p, q, c, f]
           with stride (sh, sw), padding (ph, pw), and x = 0 outside the image

           Padding: put ph rows of zeros above and below the image, pw columns left and right. Stride: the window moves
           by sh rows, so the pixels under its entry (p, q) are every sh-th row from p on, OH of them:
           seen = padded[:, p : p + OH*sh : sh, q : q + OW*sw : sw]

Backward.  With this `seen` all is as in the last two exercises. What reaches the zeros around the image goes nowhere:
           cut it off, so that dx has the shape of x. And each output pixel added b[f] once.

Shapes.    x (N, H, W, C), w (KH, KW, C, F), b (F,), dout (N, OH, OW, F)  ->  dx, dw, db like x, w, b

Example.   One row of pixels [1, 2, 3], a window of two with w = [10, 1], stride 2, padding (0, 1): padded, the
           row is [0, 1, 2, 3, 0]; out = [0*10 + 1*1, 2*10 + 3*1] = [1, 23]. With dout = [1, 1]:
           dw = [0 + 2, 1 + 3] = [2, 4]; the padded row gets [10, 1, 10, 1, 0], so dx = [1, 10, 1]; db = 2.

Read: notebooks/convolution-backward.ipynb, section "Stride and padding: who is seen how often"
Hint: np.pad(x, ((0, 0), (ph, ph), (pw, pw), (0, 0))) pads; add to a dpadded of that shape, and cut dx out of it.
Hint: Cut with dpadded[:, ph : ph + H, pw : pw + W]. The slice ph : -ph is empty where ph is 0.
Hint: db = dout.sum(axis=(0, 1, 2)).
"""

import numpy as np


def conv2d_backward(dout, cache):
    """dx, dw, db from dout."""
    x, w, (sh, sw), (ph, pw) = cache
    raise NotImplementedError
