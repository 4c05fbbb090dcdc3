"""2-D max-pooling, compiled. Textbook: textbook/maxpool2d.py.

Made fast by taking the largest of a window for all channels at once: they are neighbours in memory. Images are shared
among threads, each with its own rows of dx.
"""

from siamese_np.kernels.simd.scratch import ceil_div
from siamese_np.runtime.jit import inlined, kernel
from siamese_np.runtime.shards import sharded

IMAGES = 4  # of a shard


@kernel(shared=True)
def maxpool2d_forward(out, argmax, x, window, stride):
    """out, argmax (N, OH, OW, C) = maximum of x (N, H, W, C) under `window`, and which entry it was."""
    _forward((out, argmax, x, window, stride), ceil_div(len(out), IMAGES))


@kernel(shared=True)
def maxpool2d_backward(dx, dout, argmax, x_shape, window, stride):
    """dx (N, H, W, C), of x_shape, = dout (N, OH, OW, C) sent to the largest pixel of each window, zero elsewhere."""
    _backward((dx, dout, argmax, window, stride), ceil_div(len(dout), IMAGES))


@sharded
@inlined
def _forward(out, argmax, x, window, stride, s):
    N, OH, OW, C = out.shape
    for n in range(s * IMAGES, min((s + 1) * IMAGES, N)):
        for i in range(OH):
            for j in range(OW):
                best, selected = out[n, i, j], argmax[n, i, j]
                first = x[n, i * stride[0], j * stride[1]]
                for c in range(C):
                    best[c] = first[c]
                    selected[c] = 0
                for t in range(1, window[0] * window[1]):
                    p, q = t // window[1], t % window[1]
                    entry = x[n, i * stride[0] + p, j * stride[1] + q]
                    for c in range(C):
                        value = entry[c]
                        if value > best[c] or (value != value and best[c] == best[c]):
                            best[c] = value
                            selected[c] = t


@sharded
@inlined
def _backward(dx, dout, argmax, window, stride, s):
    N, OH, OW, C = dout.shape
    for n in range(s * IMAGES, min((s + 1) * IMAGES, N)):
        dx[n] = 0
        for i in range(OH):
            for j in range(OW):
                for c in range(C):
                    t = argmax[n, i, j, c]
                    p, q = t // window[1], t % window[1]
                    dx[n, i * stride[0] + p, j * stride[1] + q, c] += dout[n, i, j, c]
