"""Rectified linear unit: out = max(x, 0), and NaN stays NaN.

The slope is 1 where x > 0 and 0 where x < 0. At the kink, x = 0, any number in [0, 1] is a subgradient; here
it is 0, so a unit that gave nothing receives nothing. The output is positive exactly where the input was:
the backward pass needs only the output.
"""

from siamese_np.runtime.jit import inlined, kernel
from siamese_np.runtime.shards import sharded

NUMBERS = 1 << 15  # of a shard


@kernel(shared=True)
def relu_forward(out, x):
    """out (M,) = max(x (M,), 0)."""
    _forward((out, x), (x.size + NUMBERS - 1) // NUMBERS)


@kernel(shared=True)
def relu_backward(dx, dout, out):
    """dx (M,) = dout (M,) where out (M,) > 0, and 0 elsewhere."""
    _backward((dx, dout, out), (out.size + NUMBERS - 1) // NUMBERS)


@sharded
@inlined
def _forward(out, x, s):
    shard = slice(s * NUMBERS, (s + 1) * NUMBERS)
    out, x = out[shard], x[shard]
    for m in range(x.size):
        out[m] = 0 if x[m] <= 0 else x[m]


@sharded
@inlined
def _backward(dx, dout, out, s):
    shard = slice(s * NUMBERS, (s + 1) * NUMBERS)
    dx, dout, out = dx[shard], dout[shard], out[shard]
    for m in range(out.size):
        dx[m] = dout[m] if out[m] > 0 else 0
