"""ReLU, compiled. Textbook: textbook/relu.py.

Made fast by reading and writing each number once, in shards that fit the L2 cache; LLVM turns the loops into vectors.
"""

from siamese_np.kernels.simd.scratch import ceil_div
from siamese_np.runtime.jit import inlined, kernel
from siamese_np.runtime.shards import sharded

NUMBERS = 1 << 15  # of a shard


@kernel(shared=True)
def relu_forward(out, x):
    """out (M,) = max(x (M,), 0)."""
    _forward((out, x), ceil_div(x.size, NUMBERS))


@kernel(shared=True)
def relu_backward(dx, dout, out):
    """dx (M,) = dout (M,) where out (M,) > 0, and 0 elsewhere."""
    _backward((dx, dout, out), ceil_div(out.size, NUMBERS))


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
