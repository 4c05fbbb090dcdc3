"""Gradient descent with momentum: a ball that rolls downhill, slowed by friction.

    velocity = momentum * velocity + dw
    w        = w - learning_rate * velocity

Source: B. Polyak, "Some methods of speeding up the convergence of iteration methods", 1964.
Compiled: kernels/sgd.py.
"""


def sgd_step(w, velocity, dw, learning_rate, momentum):
    """New w and velocity (P,), from the gradient dw (P,)."""
    velocity = momentum * velocity + dw
    return w - learning_rate * velocity, velocity
