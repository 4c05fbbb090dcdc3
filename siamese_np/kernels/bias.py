"""A bias is added to every row, so its gradient is the sum of the rows of the upstream gradient.

out[m, f] = ... + b[f]        db[f] += sum over m of dout[m, f]
"""

from siamese_np._jit import kernel


@kernel
def bias_backward(db, dout):
    """db (F,) += sum over m of dout (M, F)."""
    M, F = dout.shape
    for m in range(M):
        row = dout[m]
        for f in range(F):
            db[f] += row[f]
