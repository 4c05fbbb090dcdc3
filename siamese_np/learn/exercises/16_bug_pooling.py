"""Find the bug: max-pooling with windows that overlap.

With windows that lie side by side this passes every test. Where they overlap, it loses something.

Shapes.    x (N, H, W, C), window (KH, KW), stride (sh, sw), dout (N, OH, OW, C)  ->  dx (N, H, W, C)

Read: notebooks/pooling-and-relu.ipynb, section "Max-pooling: the gradient takes the way of the maximum"
Hint: A pixel can be the largest of several windows. What arrives from each of them?
"""

import numpy as np


def maxpool2d_backward(dout, cache):
    """dx from dout."""
    x, (KH, KW), (sh, sw) = cache
    dx = np.zeros_like(x)
    for n, i, j, c in np.ndindex(dout.shape):
        window = x[n, i * sh : i * sh + KH, j * sw : j * sw + KW, c]
        p, q = divmod(int(window.argmax()), window.shape[1])
        dx[n, i * sh + p, j * sw + q, c] = dout[n, i, j, c]
    return dx
