"""The dense layer as the matrix products of BLAS, which multiply zeros like all else."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from siamese_np.ladder.rung import rung

Array = NDArray[Any]


@rung("dense_forward_full", "BLAS")
@rung("dense_forward", "BLAS")
def dense_forward(out: Array, x: Array, w: Array, b: Array) -> None:
    """out (N, E) = x (N, D) @ w (D, E) + b (E,)."""
    np.matmul(x, w, out=out)
    out += b


@rung("dense_backward", "BLAS")
def dense_backward(dx: Array, dw: Array, db: Array, dout: Array, x: Array, w: Array) -> None:
    """dx (N, D) = gradient of x; dw (D, E) and db (E,) += theirs."""
    np.matmul(dout, w.T, out=dx)
    dw += x.T @ dout
    db += dout.sum(axis=0)
