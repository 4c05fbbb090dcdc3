"""Convolution, ReLU and 2x2 max-pooling in a row: three pages in one call, for the kernel that fuses them.

Forward.   out = maxpool2d(relu(conv2d(x)))

Backward.  dout goes to the largest pixel of each window, unless ReLU has cut it off: then it goes nowhere. So argmax
           keeps which of the four pixels it was, 0 to 3, and 4, "none", where out is not positive.

Training on the textbook never calls this; it runs the three layers one by one.
Compiled: kernels/conv_relu_pool.py.
"""

import numpy as np

from siamese_np.textbook.conv2d import conv2d_backward, conv2d_forward
from siamese_np.textbook.maxpool2d import maxpool2d_backward, maxpool2d_forward
from siamese_np.textbook.relu import relu_forward

POOL = (2, 2), (2, 2)  # window, stride


def conv_relu_pool_forward(x, w, b, stride, pad):
    """out (N, OH, OW, F) of x (N, H, W, C), w (KH, KW, C, F), b (F,), cache, which begins with argmax."""
    conv, _ = conv2d_forward(x, w, b, stride, pad)
    positive, _ = relu_forward(conv)
    out, (argmax, *_) = maxpool2d_forward(positive, *POOL)
    return out, (np.where(out.real > 0, argmax, 4), x, w, stride, pad)


def conv_relu_pool_backward(dout, cache):
    """dx (N, H, W, C), dw (KH, KW, C, F), db (F,) from dout (N, OH, OW, F)."""
    argmax, x, w, stride, pad = cache
    conv, _ = conv2d_forward(x, w, 0, stride, pad)  # only for its shape
    dconv = maxpool2d_backward(dout, (argmax, conv.shape, *POOL))
    return conv2d_backward(dconv, (x, w, stride, pad))
