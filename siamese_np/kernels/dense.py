"""Dense layer: out = x @ w + b.

    out[n, e] = b[e] + sum over d of x[n, d] w[d, e]

Each x[n, d] reaches every out[n, e] through w[d, e], and each w[d, e] is used once per n. So

    dx[n, d]  = sum over e of dout[n, e] w[d, e]         dx  = dout @ w.T
    dw[d, e] += sum over n of x[n, d] dout[n, e]         dw += x.T @ dout
    db[e]    += sum over n of dout[n, e]                 (bias.py)
"""

from siamese_np._jit import kernel
from siamese_np.kernels.matmul import matmul_add


@kernel
def dense_forward(out, x, w, b):
    """out (N, E) = x (N, D) @ w (D, E) + b (E,)."""
    out[:] = b
    matmul_add(out, x, w)


@kernel
def dense_backward_x(dx, dout, wT):
    """dx (N, D) = dout (N, E) @ wT (E, D), the weights transposed (once, for all shards of a batch)."""
    dx[:] = 0
    matmul_add(dx, dout, wT)


@kernel
def dense_backward_w(dw, dout, x, first):
    """Add to dw, which holds the rows `first`, `first` + 1, ... of the gradient of w: dw += x.T @ dout.

    Each row of dw belongs to one caller, so threads can share the work and need no private copies.
    """
    matmul_add(dw, x[:, first : first + dw.shape[0]].T, dout)
