"""2-D average-pooling, compiled. Textbook: textbook/avgpool2d.py.

Made fast by running along the channels of a pixel, which are neighbours in memory, and by summing where the sums will
be read: in out. Images are shared among threads.
"""

from siamese_np.kernels.simd.scratch import ceil_div
from siamese_np.runtime.jit import inlined, kernel
from siamese_np.runtime.shards import sharded

IMAGES = 4  # of a shard


@kernel(shared=True)
def avgpool2d_forward(out, x, window, stride):
    """out (N, OH, OW, C) = mean of x (N, H, W, C) under `window`."""
    _forward((out, x, window, stride), ceil_div(len(out), IMAGES))


@kernel(shared=True)
def avgpool2d_backward(dx, dout, x_shape, window, stride):
    """dx (N, H, W, C), of x_shape, = dout (N, OH, OW, C) in equal shares to the pixels of each window."""
    _backward((dx, dout, window, stride), ceil_div(len(dout), IMAGES))


@sharded
@inlined
def _forward(out, x, window, stride, s):
    N, OH, OW, C = out.shape
    count = out.dtype.type(window[0] * window[1])
    for n in range(s * IMAGES, min((s + 1) * IMAGES, N)):
        for i in range(OH):
            for j in range(OW):
                mean = out[n, i, j]
                mean[:] = 0
                for p in range(window[0]):
                    for q in range(window[1]):
                        entry = x[n, i * stride[0] + p, j * stride[1] + q]
                        for c in range(C):
                            mean[c] += entry[c]
                for c in range(C):
                    mean[c] /= count


@sharded
@inlined
def _backward(dx, dout, window, stride, s):
    N, OH, OW, C = dout.shape
    count = dout.dtype.type(window[0] * window[1])
    for n in range(s * IMAGES, min((s + 1) * IMAGES, N)):
        dx[n] = 0
        for i in range(OH):
            for j in range(OW):
                share = dout[n, i, j]
                for p in range(window[0]):
                    for q in range(window[1]):
                        entry = dx[n, i * stride[0] + p, j * stride[1] + q]
                        for c in range(C):
                            entry[c] += share[c] / count
