"""Convolution, gradient of the image: a pixel is under several places of the window, and all of them add up.

Forward.   out[n, i, j, f] = b[f] + sum over p, q, c of  x[n, i + p, j + q, c] * w[p, q, c, f]
           with stride 1 and no padding. For one entry (p, q) of the window:
           seen = x[:, p : p + OH, q : q + OW]   adds   seen @ w[p, q]   to out

Backward.  As in a dense layer, where dx = dout @ w.T, the pixels of seen get
           dseen = dout @ w[p, q].T              (N, OH, OW, C)
           and that is added to dx at the pixels that seen was read from. Do so for every (p, q).

Shapes.    x (N, H, W, C), w (KH, KW, C, F), dout (N, OH, OW, F)  ->  dx (N, H, W, C)

Example.   One row of pixels, a window of two with w = [10, 1]: dout = [1, 1] gives dx = [10, 1 + 10, 1]; the middle
           pixel is under both places of the window.

Read: notebooks/convolution-backward.ipynb, section "dw and dx, from the sum"
Hint: dx starts as zeros like x. A slice of it can be added to: dx[:, p : p + OH, q : q + OW] += ...
Hint: w[p, q] is (C, F) and dout (N, OH, OW, F): dout @ w[p, q].T works on the last axis, whatever comes before.
"""

import numpy as np


def conv2d_backward_x(dout, cache):
    """dx from dout."""
    x, w = cache
    raise NotImplementedError
