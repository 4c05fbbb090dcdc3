"""Sets gradients to 0 before a step adds to them; shared, because each thread then writes what it wrote last."""

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
