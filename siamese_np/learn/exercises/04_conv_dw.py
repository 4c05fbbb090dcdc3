"""Convolution, gradient of the weights: each weight is used once at every place of the window.

Forward.   out[n, i, j, f] = b[f] + sum over p, q, c of  x[n, i + p, j + q, c] * w[p, q, c, f]
           with stride 1 and no padding

           Fix one entry (p, q) of the window. The pixels under it, at all places (i, j) at once, are a slice of x:
           seen = x[:, p : p + OH, q : q + OW]         (N, OH, OW, C)
           and they add seen @ w[p, q] to out.

Backward.  This is a dense layer with seen for x and w[p, q] (C, F) for w, and a row for each image and place. So what
           was dw = x.T @ dout there, is here, for one (p, q):
           dw[p, q, c, f] = sum over n, i, j of  seen[n, i, j, c] * dout[n, i, j, f]

Shapes.    x (N, H, W, C), w (KH, KW, C, F), dout (N, OH, OW, F)  ->  dw (KH, KW, C, F)

Example.   One row of pixels x = [1, 2, 3], a window of two: dout = [1, 1] gives dw = [1 + 2, 2 + 3] = [3, 5].

Read: notebooks/convolution-backward.ipynb, section "dw and dx, from the sum"
Hint: Loop over the window, not over the image: for p, q in np.ndindex(KH, KW).
Hint: np.tensordot(seen, dout, axes=([0, 1, 2], [0, 1, 2])) sums over n, i and j, and leaves (C, F).
"""

import numpy as np


def conv2d_backward_w(dout, cache):
    """dw from dout."""
    x, w = cache
    raise NotImplementedError
