"""Unrolled: four output pixels and nine taps inside the channel loop, for 3x3 kernels, stride 1, padding 1.

A 2x2 tile of output pixels depends on 4x4 inputs. They are read into scalars and multiplied by nine rows of weights:
each iteration of the innermost loop makes 36 multiply-adds for nine loads of weights and four loads and stores of
sums ("unroll and jam"). Now the arithmetic units begin to be the limit, not the memory ports. H and W are even.
"""

import numpy as np

from siamese_np.ladder.rung import rung
from siamese_np.runtime.jit import kernel


@rung("conv2d_forward", "unrolled")
@kernel(reassociate=True)
def conv2d_forward(out, x, w, b, stride, pad):
    """out (N, H, W, F) = convolution of x (N, H, W, C) with w (3, 3, C, F), plus b (F,)."""
    N, H, W, F = out.shape
    C = x.shape[3]
    padded = np.zeros((H + 2, W + 2, C), x.dtype)
    for n in range(N):
        padded[1:-1, 1:-1] = x[n]
        for i in range(0, H, 2):
            for j in range(0, W, 2):
                s0, s1, s2, s3 = out[n, i, j], out[n, i, j + 1], out[n, i + 1, j], out[n, i + 1, j + 1]
                s0[:] = b
                s1[:] = b
                s2[:] = b
                s3[:] = b
                tile = padded[i : i + 4, j : j + 4]
                for c in range(C):
                    a0, a1, a2, a3 = tile[0, 0, c], tile[0, 1, c], tile[0, 2, c], tile[0, 3, c]
                    b0, b1, b2, b3 = tile[1, 0, c], tile[1, 1, c], tile[1, 2, c], tile[1, 3, c]
                    c0, c1, c2, c3 = tile[2, 0, c], tile[2, 1, c], tile[2, 2, c], tile[2, 3, c]
                    d0, d1, d2, d3 = tile[3, 0, c], tile[3, 1, c], tile[3, 2, c], tile[3, 3, c]
                    w0, w1, w2 = w[0, 0, c], w[0, 1, c], w[0, 2, c]
                    w3, w4, w5 = w[1, 0, c], w[1, 1, c], w[1, 2, c]
                    w6, w7, w8 = w[2, 0, c], w[2, 1, c], w[2, 2, c]
                    for f in range(F):
                        v0, v1, v2, v3, v4, v5, v6, v7, v8 = (
                            w0[f], w1[f], w2[f], w3[f], w4[f], w5[f], w6[f], w7[f], w8[f],
                        )  # fmt: skip
                        s0[f] += a0 * v0 + a1 * v1 + a2 * v2 + b0 * v3 + b1 * v4 + b2 * v5 + c0 * v6 + c1 * v7 + c2 * v8
                        s1[f] += a1 * v0 + a2 * v1 + a3 * v2 + b1 * v3 + b2 * v4 + b3 * v5 + c1 * v6 + c2 * v7 + c3 * v8
                        s2[f] += b0 * v0 + b1 * v1 + b2 * v2 + c0 * v3 + c1 * v4 + c2 * v5 + d0 * v6 + d1 * v7 + d2 * v8
                        s3[f] += b1 * v0 + b2 * v1 + b3 * v2 + c1 * v3 + c2 * v4 + c3 * v5 + d1 * v6 + d2 * v7 + d3 * v8
