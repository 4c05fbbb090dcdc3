"""A Siamese network: two branches, one set of weights.

Forward.   hidden_a = dense(x_a, w, b), emb_a = relu(hidden_a), and the same with x_b; dist = |emb_a - emb_b|.
           The function below shows it, with the operations of the textbook.

Backward.  The textbook's backward passes are imported: dx, dw, db = dense_backward(dout, dense_cache), and so on.
           The same way back: from ddist to both embeddings, and from each through ReLU and the dense layer. A weight
           reaches dist on two ways, through branch a and through branch b. The chain rule says: add up the ways.

Shapes.    x_a, x_b (N, D), w (D, E), b (E,), ddist (N,)  ->  dx_a, dx_b, dw, db like x_a, x_b, w, b

Example.   One weight w = 2, x_a = 3, x_b = 1, no bias: emb_a = 6, emb_b = 2, dist = 4. With ddist = 4 the embeddings
           get 4 and -4; branch a gives dw = 3 * 4 = 12, branch b gives dw = 1 * -4 = -4; together dw = 8.

Read: notebooks/shared-weights.ipynb, section "A weight that is used twice"
Hint: The textbook's backward functions are euclidean_backward(ddist, dist_cache), relu_backward, dense_backward.
Hint: Call relu_backward and dense_backward once for each branch, with the caches of that branch.
"""

import numpy as np

from siamese_np.textbook import (
    dense_backward,
    dense_forward,
    euclidean_backward,
    euclidean_forward,
    relu_backward,
    relu_forward,
)


def siamese_forward(x_a, x_b, w, b):
    """dist (N,), cache. Nothing is to be done here."""
    hidden_a, dense_a = dense_forward(x_a, w, b)
    hidden_b, dense_b = dense_forward(x_b, w, b)
    emb_a, relu_a = relu_forward(hidden_a)
    emb_b, relu_b = relu_forward(hidden_b)
    dist, dist_cache = euclidean_forward(emb_a, emb_b)
    return dist, (dense_a, dense_b, relu_a, relu_b, dist_cache)


def siamese_backward(ddist, cache):
    """dx_a, dx_b, dw, db from ddist."""
    dense_a, dense_b, relu_a, relu_b, dist_cache = cache
    raise NotImplementedError
