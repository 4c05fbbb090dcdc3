"""Dense layer: every output is a weighted sum of all inputs, plus a bias.

Forward.   out[n, e] = b[e] + sum over d of x[n, d] * w[d, e]                     out = x @ w + b

           for N images, with D numbers each that go in and E that come out

Backward.  x[n, d] reaches every out[n, e], through w[d, e]:
           dx[n, d] = sum over e of dout[n, e] * w[d, e]                          dx = dout @ w.T
           w[d, e] is used once for every image n, where it meets x[n, d]:
           dw[d, e] = sum over n of x[n, d] * dout[n, e]                          dw = x.T @ dout
           b[e] is added once for every image:
           db[e]    = sum over n of dout[n, e]

Example.   x = [[1, 2]], w = [[3], [4]], b = [5]: out = [[1*3 + 2*4 + 5]] = [[16]]. With dout = [[10]]:
           dx = [[30, 40]], dw = [[10], [20]], db = [10].

Compiled: kernels/dense.py.
"""


def dense_forward(x, w, b):
    """out (N, E) = x (N, D) @ w (D, E) + b (E,), cache."""
    return x @ w + b, (x, w)


def dense_backward(dout, cache):
    """dx (N, D), dw (D, E), db (E,) from dout (N, E)."""
    x, w = cache
    return dout @ w.T, x.T @ dout, dout.sum(axis=0)
