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


@rung("conv2d_backward_x", "channel-vectorised")
@kernel(reassociate=True)
def conv2d_backward_x(dx, dout, wT, stride, pad):
    """dx (N, H, W, C) = gradient of the input, from dout (N, OH, OW, F) and wT (F, KH, KW, C)."""
    N, OH, OW, F = dout.shape
    H, W = dx.shape[1:3]
    _, KH, KW, C = wT.shape
    dx[:] = 0
    for n in range(N):
        for i in range(OH):
            for j in range(OW):
                for p in range(KH):
                    for q in range(KW):
                        row, column = i * stride[0] + p - pad[0], j * stride[1] + q - pad[1]
                        if 0 <= row < H and 0 <= column < W:
                            sums = dx[n, row, column]
                            for f in range(F):
                                d, weights = dout[n, i, j, f], wT[f, p, q]
                                for c in range(C):
                                    sums[c] += d * weights[c]


@rung("conv2d_backward_w", "channel-vectorised")
@kernel(reassociate=True)
def conv2d_backward_w(dw, dout, x, stride, pad):
    """dw (KH, KW, C, F) += gradient of the weights, from dout (N, OH, OW, F) and x (N, H, W, C)."""
    N, OH, OW, F = dout.shape
    H, W = x.shape[1:3]
    KH, KW, C, _ = dw.shape
    for n in range(N):
        for i in range(OH):
            for j in range(OW):
                d = dout[n, i, j]
                for p in range(KH):
                    for q in range(KW):
                        row, column = i * stride[0] + p - pad[0], j * stride[1] + q - pad[1]
                        if 0 <= row < H and 0 <= column < W:
                            for c in range(C):
                                a, sums = x[n, row, column, c], dw[p, q, c]
                                for f in range(F):
                                    sums[f] += a * d[f]
