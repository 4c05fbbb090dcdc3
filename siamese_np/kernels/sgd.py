"""Gradient descent with momentum, compiled. Textbook: textbook/sgd.py.

Made fast by one pass over memory for all parameters, shared by all threads, and without subnormal numbers (adam.py).
"""

from siamese_np.kernels.adam import SMALLEST_NORMAL
from siamese_np.runtime.jit import inlined, kernel
from siamese_np.runtime.shards import sharded


@kernel(shared=True)
def sgd_step(w, velocity, dw, chunks, learning_rate, momentum, weight_decay):
    """Update w and velocity (P,) in place, from dw (P,); chunks (S, 2) cut them into shards."""
    keep = w.dtype.type(1) - learning_rate * weight_decay
    _step((w, velocity, dw, chunks, learning_rate, momentum, keep), len(chunks))


@sharded
@inlined
def _step(w, velocity, dw, chunks, learning_rate, momentum, keep, s):
    shard = slice(chunks[s, 0], chunks[s, 1])
    w, velocity, dw = w[shard], velocity[shard], dw[shard]
    smallest, zero = w.dtype.type(SMALLEST_NORMAL), w.dtype.type(0)
    for p in range(w.size):
        moved = momentum * velocity[p] + dw[p]
        velocity[p] = zero if abs(moved) < smallest else moved
        w[p] = (w[p] - learning_rate * velocity[p]) * keep
