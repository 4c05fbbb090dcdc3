"""A kernel of your own on the ladder: ``siamese-np bench --rung my_kernel.py``.

It is verified against the textbook in float64 first, like every rung, and refused with one sentence if it is wrong.
The arguments are those of `siamese_np.kernels`' function of the same name; the ladder's convolution is 3x3 with
stride 1 and padding 1. A kernel that uses several threads itself says ``shares=True``, and is timed on 1, 2, 4, ...
"""

import numpy as np
from numba import njit

from siamese_np.ladder.rung import rung


@rung("conv2d_forward", name="mine")
@njit(fastmath={"contract"})
def conv2d_forward(out, x, w, b, stride, pad):
    """A whole output row at a time: its sums stay in the L1 cache while each weight passes by once."""
    N, OH, OW, F = out.shape
    H, W, C = x.shape[1:]
    padded = np.zeros((H + 2, W + 2, C), x.dtype)
    for n in range(N):
        padded[1:-1, 1:-1] = x[n]
        for i in range(OH):
            out[n, i] = b
            for p in range(3):
                for q in range(3):
                    for c in range(C):
                        weights = w[p, q, c]
                        for j in range(OW):
                            a, sums = padded[i + p, j + q, c], out[n, i, j]
                            for f in range(F):
                                sums[f] += a * weights[f]
