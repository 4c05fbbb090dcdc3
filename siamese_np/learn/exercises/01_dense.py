"""Dense layer, backward: three sums that are three matrix products.

dout has the shape of out. Each of its entries says by how much the loss grows, per unit, if this entry of out grows.
Backward turns it into the same for x, w and b. The chain rule: follow a number along every way on which it reaches
out; on each way multiply the slopes; add up the ways.

In all exercises: write in place of `raise NotImplementedError`, then `siamese-np learn check`. It shows what you print.

Forward.   out[n, e] = b[e] + sum over d of x[n, d] * w[d, e]                     out = x @ w + b

Backward.  x[n, d] reaches every out[n, e], through w[d, e]. So
           dx[n, d] = sum over e of dout[n, e] * w[d, e]
           Write that without loops. Then follow w[d, e], which is used once for every image n; and b[e].

Shapes.    x (N, D), w (D, E), b (E,), dout (N, E)  ->  dx (N, D), dw (D, E), db (E,)

Example.   x = [[1, 2]], w = [[3], [4]], b = [5]: out = [[16]]. With dout = [[10]]:
           dx = [[30, 40]], dw = [[10], [20]], db = [10].

Read: notebooks/dense-and-adam.ipynb, section "Dense layer"
Hint: Shapes nearly write it: dx (N, D) is made of dout (N, E) and w (D, E), summed over E. Which one is transposed?
Hint: dw[d, e] = sum over n of x[n, d] * dout[n, e]: a product of x transposed and dout.
Hint: b[e] is added once for every image: db is a sum over the axis of the images, not a mean.
"""

import numpy as np


def dense_backward(dout, cache):
    """dx, dw, db from dout; the cache is what forward kept."""
    x, w = cache
    raise NotImplementedError
