"""Adam: momentum, and for each parameter a step size of its own.

    m = running mean of dw:      beta1 parts of the old m, and 1 - beta1 parts of dw
    v = running mean of dw^2:    likewise with beta2
    w = w - learning_rate * (m / correction1) / (sqrt(v / correction2) + epsilon)

The root of v is the usual size of the gradient. Divided by it, a step no longer depends on whether gradients are large
or small. m and v start at 0, so at first they are too small: whoever calls this gives correction1 = 1 - beta1^t and
correction2 = 1 - beta2^t of step t, which make up for it.

Shapes.    w, m, v, dw (P,), the rest are numbers  ->  the new w, m and v (P,)
           The arguments stay as they are: return new arrays.

Example.   The first step, m = v = 0, beta1 = 0.9, beta2 = 0.999, correction1 = 0.1, correction2 = 0.001, dw = 20:
           m = 2, v = 0.4, and w moves by -learning_rate * 20 / sqrt(400) = -learning_rate.

Read: notebooks/dense-and-adam.ipynb, section "Adam"
Hint: m = beta1 * m + (1 - beta1) * dw, and v the same with beta2 and dw**2.
Hint: epsilon stands outside the root.
"""

import numpy as np


def adam_step(w, m, v, dw, learning_rate, beta1, beta2, epsilon, correction1, correction2):
    """The new w, m and v."""
    raise NotImplementedError
