"""Gradient descent with momentum: a ball that rolls downhill, slowed by friction.

    velocity = momentum * velocity + dw
    w        = w - learning_rate * velocity

The gradient dw points to where the loss grows, so w goes the other way. momentum, a number below 1, says how much of
the velocity is kept from step to step; with momentum 0 it is plain gradient descent.

Shapes.    w, velocity and dw (P,); learning_rate and momentum are numbers  ->  the new w and velocity (P,)
           The arguments stay as they are: return new arrays.

Example.   w = 1, velocity = 2, dw = 3, learning_rate = 0.1, momentum = 0.5: velocity = 4, w = 0.6.

Read: notebooks/dense-and-adam.ipynb, section "Momentum"
Hint: First the velocity, then w with the new velocity.
"""

import numpy as np


def sgd_step(w, velocity, dw, learning_rate, momentum):
    """The new w and the new velocity."""
    raise NotImplementedError
