"""Adam, compiled. Textbook: textbook/adam.py.

Made fast by
- one pass over memory for all parameters, shared by all threads;
- keeping no mean below the smallest normal number of float32: subnormal numbers take many processors a hundred cycles,
  and where gradients are 0 for long, as of a black pixel, the mean would stay one for ever; it moves no weight;
- dividing by the corrections once, before the loop: w -= rate * m / (sqrt(v) + small), where
  rate = learning_rate * sqrt(correction2) / correction1, and small = epsilon * sqrt(correction2).

Source: D. Kingma, J. Ba, "Adam: a method for stochastic optimization", ICLR 2015, end of section 2.
"""

import numpy as np

from siamese_np.runtime.jit import inlined, kernel
from siamese_np.runtime.shards import sharded

SMALLEST_NORMAL = 2.0**-126  # of float32


@kernel(shared=True)
def adam_step(w, m, v, dw, chunks, learning_rate, beta1, beta2, epsilon, correction1, correction2, weight_decay):
    """Update w, m and v (P,) in place, from dw (P,); chunks (S, 2) cut them into shards."""
    one, root = w.dtype.type(1), np.sqrt(correction2)
    rate, small = learning_rate * root / correction1, epsilon * root
    keep = one - learning_rate * weight_decay
    _step((w, m, v, dw, chunks, (beta1, one - beta1, beta2, one - beta2, rate, small, keep)), len(chunks))


@sharded
@inlined
def _step(w, m, v, dw, chunks, factors, s):
    shard = slice(chunks[s, 0], chunks[s, 1])
    w, m, v, dw = w[shard], m[shard], v[shard], dw[shard]
    keep1, take1, keep2, take2, rate, small, keep = factors
    smallest, zero = w.dtype.type(SMALLEST_NORMAL), w.dtype.type(0)
    for p in range(w.size):
        mean = keep1 * m[p] + take1 * dw[p]
        m[p] = zero if abs(mean) < smallest else mean
        v[p] = keep2 * v[p] + take2 * dw[p] * dw[p]
        w[p] = (w[p] - rate * m[p] / (np.sqrt(v[p]) + small)) * keep
