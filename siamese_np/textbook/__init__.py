"""Every operation in plain NumPy, one file each: its derivation, then the code that is the derivation.

    out, cache = conv2d_forward(x, w, b, stride, pad)
    dx, dw, db = conv2d_backward(dout, cache)

How to read a page. In the end all numbers flow into one number, the loss. ``dout`` has the shape of ``out``, and each
of its entries is the slope of the loss in that entry of ``out``: how much the loss grows per unit, if only this one
number grows a little. Backward is given ``dout`` and returns the same for the inputs: ``dx``, ``dw``, ``db``. It uses
one rule only, the chain rule: follow a number along every way on which it reaches ``out``; on each way multiply the
slopes; add up the ways. The ``cache`` is what forward has seen and backward needs again.

Letters of shapes: N images (or pairs), D numbers that go into a dense layer, E that come out; images are (N, H, W, C),
rows, columns and channels; a window has KH rows and KW columns; F filters give outputs of OH rows and OW columns.

Where to begin: dense, relu, distance, contrastive and adam are a whole Siamese network, which
notebooks/whole-thing.ipynb builds; conv2d and maxpool2d make it a convolutional one.

``use_kernels("textbook")`` (siamese_np.backend) runs the whole package on these files, so that a debugger steps through
them. The compiled kernels (siamese_np.kernels) compute the same under the same names, and the tests hold each against
the other.

All functions take float32, float64 and complex numbers, so the complex step works on them: decisions (which is the
largest, which side of a kink) are made by the real part. They check nothing; the layers do.
"""

from siamese_np.textbook.adam import adam_step
from siamese_np.textbook.all_pairs import all_pairs_backward, all_pairs_forward
from siamese_np.textbook.contrastive import contrastive_backward, contrastive_forward
from siamese_np.textbook.conv2d import conv2d_backward, conv2d_forward
from siamese_np.textbook.conv_relu_pool import conv_relu_pool_backward, conv_relu_pool_forward
from siamese_np.textbook.dense import dense_backward, dense_forward
from siamese_np.textbook.distance import euclidean_backward, euclidean_forward
from siamese_np.textbook.maxpool2d import maxpool2d_backward, maxpool2d_forward
from siamese_np.textbook.nearest import nearest_rows
from siamese_np.textbook.pair_ranks import pair_ranks, pair_squares
from siamese_np.textbook.pairwise import pairwise_backward, pairwise_forward
from siamese_np.textbook.relu import relu_backward, relu_forward
from siamese_np.textbook.sgd import sgd_step
from siamese_np.textbook.zero import fill_zero

__all__ = [
    "adam_step",
    "all_pairs_backward",
    "all_pairs_forward",
    "contrastive_backward",
    "contrastive_forward",
    "conv2d_backward",
    "conv2d_forward",
    "conv_relu_pool_backward",
    "conv_relu_pool_forward",
    "dense_backward",
    "dense_forward",
    "euclidean_backward",
    "euclidean_forward",
    "fill_zero",
    "maxpool2d_backward",
    "maxpool2d_forward",
    "nearest_rows",
    "pair_ranks",
    "pair_squares",
    "pairwise_backward",
    "pairwise_forward",
    "relu_backward",
    "relu_forward",
    "sgd_step",
]
