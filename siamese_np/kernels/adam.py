"""Adam, all parameters in one pass over memory.

    m = beta1 m + (1 - beta1) dw             running mean of the gradient
    v = beta2 v + (1 - beta2) dw^2           running mean of its square
    w = w - learning_rate (m / correction1) / (sqrt(v / correction2) + epsilon)

correction = 1 - beta^t at step t = 1, 2, ... undoes the bias of m and v towards their zero start. Here the two
divisions by a correction are made once, before the loop:

    w = w - rate m / (sqrt(v) + small),   rate = learning_rate sqrt(correction2) / correction1
                                          small = epsilon sqrt(correction2)

Source: D. Kingma, J. Ba, "Adam: a method for stochastic optimization", ICLR 2015, algorithm 1 and section 2.
"""

import numpy as np

from siamese_np.runtime.inline import part
from siamese_np.runtime.jit import kernel
from siamese_np.runtime.team import sharded


@kernel
def adam_step(w, m, v, dw, chunks, learning_rate, beta1, beta2, epsilon, correction1, correction2):
    """Update w, m and v (P,) in place, from dw (P,); chunks (S, 2) cut them into shards."""
    root = np.sqrt(correction2)
    rate, small = learning_rate * root / correction1, epsilon * root
    one = w.dtype.type(1)
    _step((w, m, v, dw, chunks, rate, beta1, one - beta1, beta2, one - beta2, small), len(chunks))


@sharded
@part
def _step(w, m, v, dw, chunks, rate, keep1, take1, keep2, take2, small, s):
    here = slice(chunks[s, 0], chunks[s, 1])
    w, m, v, dw = w[here], m[here], v[here], dw[here]
    for p in range(w.size):
        m[p] = keep1 * m[p] + take1 * dw[p]
        v[p] = keep2 * v[p] + take2 * dw[p] * dw[p]
        w[p] -= rate * m[p] / (np.sqrt(v[p]) + small)
