"""The dense layer: three loops, compiled; and the matrix products of BLAS, which know nothing of black pixels."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from siamese_np.ladder.rung import rung
from siamese_np.runtime.jit import loose_kernel

Array = NDArray[Any]


@rung("dense_forward_full", "naive njit")
@rung("dense_forward", "naive njit")
@loose_kernel
def dense_forward(out, x, w, b):
    """out (N, E) = x (N, D) @ w (D, E) + b (E,)."""
    N, E = out.shape
    for n in range(N):
        for e in range(E):
            total = b[e]
            for d in range(x.shape[1]):
                total += x[n, d] * w[d, e]
            out[n, e] = total


@rung("dense_backward", "naive njit")
@loose_kernel
def dense_backward(dx, dw, db, dout, x, w):
    """dx (N, D) = gradient of x; dw (D, E) and db (E,) += theirs."""
    N, E = dout.shape
    for n in range(N):
        for d in range(x.shape[1]):
            total = w.dtype.type(0)
            for e in range(E):
                total += dout[n, e] * w[d, e]
                dw[d, e] += x[n, d] * dout[n, e]
            dx[n, d] = total
        for e in range(E):
            db[e] += dout[n, e]


@rung("dense_forward_full", "BLAS")
@rung("dense_forward", "BLAS")
def dense_forward_blas(out: Array, x: Array, w: Array, b: Array) -> None:
    """out (N, E) = x (N, D) @ w (D, E) + b (E,)."""
    np.matmul(x, w, out=out)
    out += b


@rung("dense_backward", "BLAS")
def dense_backward_blas(dx: Array, dw: Array, db: Array, dout: Array, x: Array, w: Array) -> None:
    """dx (N, D) = gradient of x; dw (D, E) and db (E,) += theirs."""
    np.matmul(dout, w.T, out=dx)
    dw += x.T @ dout
    db += dout.sum(axis=0)
