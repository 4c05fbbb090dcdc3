"""Gradient descent with momentum: a ball that rolls downhill, slowed by friction.

    velocity = momentum * velocity + dw
    w        = w - learning_rate * velocity

The gradient dw points to where the loss grows, so w goes the other way. momentum, a number below 1, says how much of
the velocity is kept from step to step; with momentum 0 a step is learning_rate * dw, plain gradient descent.

Decay.     After the step w is multiplied by 1 - learning_rate * weight_decay: see adam.py.

Source: B. Polyak, "Some methods of speeding up the convergence of iteration methods", 1964.
Compiled: kernels/sgd.py.
"""


def sgd_step(w, velocity, dw, learning_rate, momentum, weight_decay=0):
    """New w and velocity (P,), from the gradient dw (P,)."""
    velocity = momentum * velocity + dw
    w = w - learning_rate * velocity
    return w * (1 - learning_rate * weight_decay), velocity
