"""Find the bug: two branches, one set of weights.

The most common mistake in Siamese networks: it trains, and it is wrong.

Shapes.    x_a, x_b (N, D), w (D, E), b (E,), ddist (N,)  ->  dx_a, dx_b, dw, db like x_a, x_b, w, b

Read: notebooks/shared-weights.ipynb, section "The lost branch"
Hint: On how many ways does a weight reach the distance, and how many of them arrive in dw?
"""

import numpy as np

from siamese_np.textbook import dense_backward, euclidean_backward, relu_backward


def siamese_backward(ddist, cache):
    """dx_a, dx_b, dw, db from ddist; the forward pass is that of exercise 9."""
    dense_a, dense_b, relu_a, relu_b, dist_cache = cache
    demb_a, demb_b = euclidean_backward(ddist, dist_cache)
    dx_a, dw, db = dense_backward(relu_backward(demb_a, relu_a), dense_a)
    dx_b, dw, db = dense_backward(relu_backward(demb_b, relu_b), dense_b)
    return dx_a, dx_b, dw, db
