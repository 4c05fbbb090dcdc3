"""Channel-vectorised: the naive loops in another order, so that the innermost one runs along contiguous memory.

In NHWC the channels of a pixel are contiguous. With the loop over them innermost, its iterations are independent,
and the compiler turns it into vector multiply-adds. What remains: every multiply-add loads and stores its sum,
three memory accesses for one useful instruction.
"""

from siamese_np.ladder.rung import rung
from siamese_np.runtime.jit import kernel


@rung("conv2d_forward", "channel-vectorised")
@kernel(reassociate=True)
def conv2d_forward(out, x, w, b, stride, pad):
    """out (N, OH, OW, F) = convolution of x (N, H, W, C) with w (KH, KW, C, F), plus b (F,)."""
    N, OH, OW, F = out.shape
    H, W = x.shape[1:3]
    KH, KW, C, _ = w.shape
    for n in range(N):
        for i in range(OH):
            for j in range(OW):
                sums = out[n, i, j]
                sums[:] = b
                for p in range(KH):
                    for q in range(KW):
                        row, column = i * stride[0] + p - pad[0], j * stride[1] + q - pad[1]
                        if 0 <= row < H and 0 <= column < W:
                            for c in range(C):
                                a, weights = x[n, row, column, c], w[p, q, c]
                                for f in range(F):
                                    sums[f] += a * weights[f]
