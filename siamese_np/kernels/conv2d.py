"""2-D convolution (cross-correlation) of NHWC images.

    out[n, i, j, f] = b[f] + sum over p, q, c of x[n, i*sh + p - ph, j*sw + q - pw, c] w[p, q, c, f]

with stride (sh, sw), padding (ph, pw) and x = 0 outside the image. The patch of x under an output pixel,
flattened to K = KH*KW*C numbers, meets w flattened to (K, F): a convolution is a matrix product of patches
and weights (im2col), here made for a few output rows at a time, so the patches never leave the cache.
With `patches` (pixels, K) and the same rows of dout (pixels, F):

    out      = patches @ w + b
    dw      += patches.T @ dout
    dpatches = dout @ w.T,  and each dpatch is added to dx where its patch was read
    db      += sum over pixels of dout                                                (bias.py)

Source: K. Chellapilla, S. Puri, P. Simard, "High performance convolutional neural networks for document
processing", 2006 (the unrolling of patches).
"""

import numpy as np

from siamese_np._jit import kernel
from siamese_np.kernels.matmul import matmul_add

BLOCK = 64  # pixels that share one pass over w: large enough to amortise it, small enough for the L2 cache


@kernel
def conv2d_forward(out, x, w, b, stride, pad):
    """out (N, OH, OW, F) = convolution of x (N, H, W, C) with w (KH, KW, C, F), plus b (F,)."""
    N, OH, OW, F = out.shape
    KH, KW, C, _ = w.shape
    w2 = w.reshape(KH * KW * C, F)
    rows = min(OH, 1 + BLOCK // OW)
    patches = np.empty((rows * OW, KH * KW * C), x.dtype)
    for n in range(N):
        for i in range(0, OH, rows):
            last = min(i + rows, OH)
            pixels = (last - i) * OW
            _read_patches(patches, x[n], i, last, OW, KH, KW, stride, pad)
            block = out[n, i:last].reshape(pixels, F)
            block[:] = b
            matmul_add(block, patches[:pixels], w2)


@kernel
def conv2d_backward_x(dx, dout, wT, stride, pad):
    """dx (N, H, W, C) = gradient of the input, from dout (N, OH, OW, F) and the weights as wT (F, KH, KW, C)."""
    N, OH, OW, F = dout.shape
    _, KH, KW, C = wT.shape
    wT2 = wT.reshape(F, KH * KW * C)
    rows = min(OH, 1 + BLOCK // OW)
    dpatches = np.empty((rows * OW, KH * KW * C), dx.dtype)
    dx[:] = 0
    for n in range(N):
        for i in range(0, OH, rows):
            last = min(i + rows, OH)
            pixels = (last - i) * OW
            dpatches[:] = 0
            matmul_add(dpatches[:pixels], dout[n, i:last].reshape(pixels, F), wT2)
            _add_patches(dx[n], dpatches, i, last, OW, KH, KW, stride, pad)


@kernel
def conv2d_backward_w(dw, dout, x, stride, pad):
    """dw (KH, KW, C, F) += gradient of the weights, from dout (N, OH, OW, F) and x (N, H, W, C)."""
    N, OH, OW, F = dout.shape
    KH, KW, C, _ = dw.shape
    dw2 = dw.reshape(KH * KW * C, F)
    rows = min(OH, 1 + BLOCK // OW)
    patches = np.empty((rows * OW, KH * KW * C), x.dtype)
    for n in range(N):
        for i in range(0, OH, rows):
            last = min(i + rows, OH)
            pixels = (last - i) * OW
            _read_patches(patches, x[n], i, last, OW, KH, KW, stride, pad)
            matmul_add(dw2, patches[:pixels].T, dout[n, i:last].reshape(pixels, F))


@kernel
def _read_patches(patches, image, first, last, OW, KH, KW, stride, pad):
    """Copy the patches under output rows first..last-1 of one image (H, W, C) into rows of `patches`."""
    H, W, C = image.shape
    pixel = 0
    for i in range(first, last):
        for j in range(OW):
            patch, k = patches[pixel], 0
            for p in range(KH):
                row = i * stride[0] + p - pad[0]
                for q in range(KW):
                    column = j * stride[1] + q - pad[1]
                    if 0 <= row < H and 0 <= column < W:
                        for c in range(C):
                            patch[k + c] = image[row, column, c]
                    else:
                        for c in range(C):
                            patch[k + c] = 0
                    k += C
            pixel += 1


@kernel
def _add_patches(dimage, dpatches, first, last, OW, KH, KW, stride, pad):
    """Add each patch's gradient to `dimage` (H, W, C) where `_read_patches` read it."""
    H, W, C = dimage.shape
    pixel = 0
    for i in range(first, last):
        for j in range(OW):
            dpatch, k = dpatches[pixel], 0
            for p in range(KH):
                row = i * stride[0] + p - pad[0]
                for q in range(KW):
                    column = j * stride[1] + q - pad[1]
                    if 0 <= row < H and 0 <= column < W:
                        for c in range(C):
                            dimage[row, column, c] += dpatch[k + c]
                    k += C
            pixel += 1
