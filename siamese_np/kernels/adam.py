"""Adam, all parameters in one pass over memory.

    m = beta1 m + (1 - beta1) dw             running mean of the gradient
    v = beta2 v + (1 - beta2) dw^2           running mean of its square
    w = w - learning_rate (m / correction1) / (sqrt(v / correction2) + epsilon)

correction = 1 - beta^t at step t = 1, 2, ... undoes the bias of m and v towards their zero start.

Source: D. Kingma, J. Ba, "Adam: a method for stochastic optimization", ICLR 2015, algorithm 1.
"""

import numpy as np

from siamese_np._jit import kernel


@kernel
def adam_step(w, m, v, dw, learning_rate, beta1, beta2, epsilon, correction1, correction2):
    """Update w, m and v (P,) in place, from the gradient dw (P,)."""
    one = w.dtype.type(1)
    for p in range(w.size):
        m[p] = beta1 * m[p] + (one - beta1) * dw[p]
        v[p] = beta2 * v[p] + (one - beta2) * dw[p] * dw[p]
        w[p] -= learning_rate * (m[p] / correction1) / (np.sqrt(v[p] / correction2) + epsilon)
