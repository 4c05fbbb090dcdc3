"""2-D max-pooling of NHWC images, without padding; a last window that does not fit is left out.

    out[n, i, j, c] = max over p, q of x[n, i*sh + p, j*sw + q, c]

Only the entry that won its window moves the output, so it alone receives the gradient; windows that overlap
add up. A tie goes to the first maximum in row-major order (MNIST is mostly black: ties are the rule). NaN
wins every comparison, so that it stays visible. `argmax` keeps the winner's number p*KW + q within its window.
"""

from siamese_np.runtime.jit import kernel


@kernel
def maxpool2d_forward(out, argmax, x, window, stride):
    """out, argmax (N, OH, OW, C) = maximum of x (N, H, W, C) under `window`, and which entry it was."""
    N, OH, OW, C = out.shape
    for n in range(N):
        for i in range(OH):
            for j in range(OW):
                best, winner = out[n, i, j], argmax[n, i, j]
                first = x[n, i * stride[0], j * stride[1]]
                for c in range(C):
                    best[c] = first[c]
                    winner[c] = 0
                for t in range(1, window[0] * window[1]):
                    p, q = t // window[1], t % window[1]
                    entry = x[n, i * stride[0] + p, j * stride[1] + q]
                    for c in range(C):
                        value = entry[c]
                        if value > best[c] or (value != value and best[c] == best[c]):
                            best[c] = value
                            winner[c] = t


@kernel
def maxpool2d_backward(dx, dout, argmax, x_shape, window, stride):
    """dx (N, H, W, C), of x_shape, = dout (N, OH, OW, C) sent to the largest pixel of each window, zero elsewhere."""
    N, OH, OW, C = dout.shape
    dx[:] = 0
    for n in range(N):
        for i in range(OH):
            for j in range(OW):
                for c in range(C):
                    t = argmax[n, i, j, c]
                    p, q = t // window[1], t % window[1]
                    dx[n, i * stride[0] + p, j * stride[1] + q, c] += dout[n, i, j, c]
