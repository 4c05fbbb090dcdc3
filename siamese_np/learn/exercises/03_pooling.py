"""Max-pooling, backward: the gradient goes to the largest pixel of each window.

Forward.   out[n, i, j, c] = max over p, q of  x[n, i*sh + p, j*sw + q, c]
           with windows of KH x KW pixels that move by the stride (sh, sw)

Backward.  Move any other pixel of the window a little: out stays as it is. Move the largest: out moves as much. So
           dout[n, i, j, c] is added to dx at the largest pixel of window (i, j), and nowhere else. Windows may overlap
           when the stride is smaller than the window. Then a pixel can be the largest of several.

Kink.      Where several pixels are the largest (a tie), the gradient goes to the first of them in row-major order, as
           np.argmax finds it. Images are full of ties: black pixels are all 0.

Shapes.    x (N, H, W, C), window (KH, KW), stride (sh, sw), dout (N, OH, OW, C)  ->  dx (N, H, W, C)

Example.   The window [[1, 5], [3, 2]] with dout = 10 gives [[0, 10], [0, 0]]; the window [[5, 5], [3, 5]] gives all of
           it to its first 5: [[10, 0], [0, 0]].

Read: notebooks/pooling-and-relu.ipynb, section "Max-pooling: the gradient takes the way of the maximum"
Hint: Loops are fine: for n, i, j, c in np.ndindex(dout.shape). Cut out the window: rows i*sh to i*sh + KH of image n.
Hint: np.argmax numbers the entries of a window 0, 1, 2 ... row by row; divmod(number, KW) gives its row and column.
Hint: dx starts as zeros and is added to with +=, since windows may overlap.
"""

import numpy as np


def maxpool2d_backward(dout, cache):
    """dx from dout; here the cache is all that forward was given."""
    x, (KH, KW), (sh, sw) = cache
    raise NotImplementedError
