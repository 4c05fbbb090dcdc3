"""Adam: momentum, and for each parameter a step size of its own.

    m = beta1 * m + (1 - beta1) * dw         running mean of the gradient
    v = beta2 * v + (1 - beta2) * dw^2       running mean of its square
    w = w - learning_rate * (m / correction1) / (sqrt(v / correction2) + epsilon)

The root of v is the usual size of the gradient. Divided by it, the step no longer depends on whether gradients are
large or small: each parameter moves by about learning_rate, and by less where the gradient keeps changing its sign.
epsilon, a tiny number, prevents 0 / 0.

m and v start at 0, so after t steps the weights of their means add up to correction1 = 1 - beta1^t and
correction2 = 1 - beta2^t, not to 1. Dividing by these makes up for it.

Example.   The first step (t = 1), beta1 = 0.9, beta2 = 0.999, dw = 20: m = 0.1 * 20 = 2 and v = 0.001 * 400 = 0.4;
           m / correction1 = 2 / 0.1 = 20 and sqrt(v / correction2) = sqrt(0.4 / 0.001) = 20: w moves by -learning_rate.
           With dw = 0.5 it would move just as far.

Decay.     Weights that nothing needs should fade, for a network of small weights has learned less by heart. So after
           the step w is multiplied by 1 - learning_rate * weight_decay. It is "decoupled": as a part of the gradient,
           weight_decay * w would be divided by its own usual size, and all weights would fade by the same amount.

Sources: D. Kingma, J. Ba, "Adam: a method for stochastic optimization", ICLR 2015, algorithm 1; I. Loshchilov,
F. Hutter, "Decoupled weight decay regularization", ICLR 2019, where weights decay before the step, not after it.
Compiled: kernels/adam.py.
"""

import numpy as np


def adam_step(w, m, v, dw, learning_rate, beta1, beta2, epsilon, correction1, correction2, weight_decay=0):
    """New w, m and v (P,), from the gradient dw (P,)."""
    m = beta1 * m + (1 - beta1) * dw
    v = beta2 * v + (1 - beta2) * dw**2
    w = w - learning_rate * (m / correction1) / (np.sqrt(v / correction2) + epsilon)
    return w * (1 - learning_rate * weight_decay), m, v
