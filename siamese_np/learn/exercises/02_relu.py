"""ReLU, backward: who lets the gradient through?

Forward.   out = max(x, 0), entry by entry

Backward.  Where x > 0, out is x itself: what is its slope? Where x < 0, out stays 0 when x moves a little.

Kink.      At x = 0 the slope is 0 from the left and 1 from the right. No answer is the only right one; here it is 0.

Shapes.    out, dout and dx are alike, of any shape. The cache holds out alone: is that enough?

Example.   x = [-1, 0, 2]: out = [0, 0, 2]. With dout = [5, 5, 5]: dx = [0, 0, 5].

Read: notebooks/pooling-and-relu.ipynb, section "ReLU is a mask"
Hint: out > 0 exactly where x > 0, so out is all you need.
Hint: np.where(condition, dout, 0) keeps dout where the condition holds. It is a condition on out, not on dout.
"""

import numpy as np


def relu_backward(dout, cache):
    """dx from dout."""
    (out,) = cache
    raise NotImplementedError
