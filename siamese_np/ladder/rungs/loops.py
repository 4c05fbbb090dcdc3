"""The formula as written, in seven loops: once run by Python, once compiled without a change.

Compiled, it is still slow: the innermost loop runs along the input channels and adds to one number, so every addition
waits for the one before, and the weights it reads are F numbers apart.
"""

from siamese_np.ladder.rung import rung
from siamese_np.runtime.jit import kernel


def conv2d_forward(out, x, w, b, stride, pad):
    """out (N, OH, OW, F) = convolution of x (N, H, W, C) with w (KH, KW, C, F), plus b (F,)."""
    N, OH, OW, F = out.shape
    H, W = x.shape[1:3]
    KH, KW, C, _ = w.shape
    for n in range(N):
        for i in range(OH):
            for j in range(OW):
                for f in range(F):
                    total = b[f]
                    for p in range(KH):
                        for q in range(KW):
                            row, column = i * stride[0] + p - pad[0], j * stride[1] + q - pad[1]
                            if 0 <= row < H and 0 <= column < W:
                                for c in range(C):
                                    total += x[n, row, column, c] * w[p, q, c, f]
                    out[n, i, j, f] = total


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
                            for c in range(C):
                                total = dx[n, row, column, c]
                                for f in range(F):
                                    total += dout[n, i, j, f] * wT[f, p, q, c]
                                dx[n, row, column, c] = total


def conv2d_backward_w(dw, dout, x, stride, pad):
    """dw (KH, KW, C, F) += gradient of the weights, from dout (N, OH, OW, F) and x (N, H, W, C)."""
    N, OH, OW, F = dout.shape
    H, W = x.shape[1:3]
    KH, KW, C, _ = dw.shape
    for p in range(KH):
        for q in range(KW):
            for c in range(C):
                for f in range(F):
                    total = dw[p, q, c, f]
                    for n in range(N):
                        for i in range(OH):
                            for j in range(OW):
                                row, column = i * stride[0] + p - pad[0], j * stride[1] + q - pad[1]
                                if 0 <= row < H and 0 <= column < W:
                                    total += x[n, row, column, c] * dout[n, i, j, f]
                    dw[p, q, c, f] = total


for function in (conv2d_forward, conv2d_backward_x, conv2d_backward_w):
    rung(function.__name__, "Python loops", small=True)(function)
    rung(function.__name__, "naive njit")(kernel(function, reassociate=True))
