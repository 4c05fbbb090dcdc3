"""Adam: momentum, and for each parameter a step size of its own.

    m = beta1 * m + (1 - beta1) * dw         running mean of the gradient
    v = beta2 * v + (1 - beta2) * dw^2       running mean of its square
    w = w - learning_rate * (m / correction1) / (sqrt(v / correction2) + epsilon)

m and v start at 0, so after t steps they hold only the parts correction1 = 1 - beta1^t and correction2 = 1 - beta2^t
of a full mean; dividing by these makes up for it.

Source: D. Kingma, J. Ba, "Adam: a method for stochastic optimization", ICLR 2015, algorithm 1.
Compiled: kernels/adam.py.
"""

import numpy as np


def adam_step(w, m, v, dw, learning_rate, beta1, beta2, epsilon, correction1, correction2):
    """New w, m and v (P,), from the gradient dw (P,)."""
    m = beta1 * m + (1 - beta1) * dw
    v = beta2 * v + (1 - beta2) * dw**2
    w = w - learning_rate * (m / correction1) / (np.sqrt(v / correction2) + epsilon)
    return w, m, v
