"""Stochastic gradient descent with momentum, all parameters in one pass.

    velocity = momentum * velocity + dw
    w        = w - learning_rate * velocity

Source: B. Polyak, "Some methods of speeding up the convergence of iteration methods", 1964.
"""

from siamese_np._jit import kernel


@kernel
def sgd_step(w, velocity, dw, learning_rate, momentum):
    """Update w and velocity (P,) in place, from the gradient dw (P,)."""
    for p in range(w.size):
        velocity[p] = momentum * velocity[p] + dw[p]
        w[p] -= learning_rate * velocity[p]
