"""Setting gradients to 0, compiled. Textbook: textbook/zero.py.

Made fast by sharing it: each thread clears the gradients that it wrote last, which are in its cache.
"""

from siamese_np.runtime.inline import part
from siamese_np.runtime.jit import kernel
from siamese_np.runtime.team import sharded


@kernel
def fill_zero(out, chunks):
    """out (P,) = 0; chunks (S, 2) cut it into shards."""
    _fill((out, chunks), len(chunks))


@sharded
@part
def _fill(out, chunks, s):
    out = out[chunks[s, 0] : chunks[s, 1]]
    for p in range(out.size):
        out[p] = 0
