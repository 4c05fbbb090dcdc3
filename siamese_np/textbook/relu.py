"""ReLU: the positive part of every number.

Forward.   out = max(x, 0)

Backward.  Where x > 0, out is x itself: slope 1. Elsewhere out stays 0 when x moves a little: slope 0.
           dx = dout where x > 0, else 0

Kink.      At x = 0 the slope is 0 from the left and 1 from the right. No answer is the only right one; 0 is chosen.

Example.   x = [-1, 0, 2]: out = [0, 0, 2]. With dout = [5, 5, 5]: dx = [0, 0, 5].

out > 0 exactly where x > 0, so the output is all that backward needs.

Compiled: kernels/relu.py.
"""

import numpy as np


def relu_forward(x):
    """out = max(x, 0), cache; for any shape."""
    out = np.where(x.real <= 0, 0, x)  # so written, NaN stays NaN
    return out, (out,)


def relu_backward(dout, cache):
    """dx from dout, of the same shape."""
    (out,) = cache
    return np.where(out.real > 0, dout, 0)
