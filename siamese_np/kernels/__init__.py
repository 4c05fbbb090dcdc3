"""Every operation as compiled loops. What each computes, and why, says the textbook page of the same name.

A kernel writes its result into its first argument(s), trusts its arguments (layers check them) and never raises.
Gradients of parameters (``dw``, ``db``) are added to, so that weights may be shared: the caller zeroes them. Gradients
of inputs (``dx``) are overwritten; an empty one is not wanted, and not computed. The shards that threads take depend on
the size of the work alone, never on the number of threads, so neither does any bit of a result.
"""

from siamese_np.kernels.adam import adam_step
from siamese_np.kernels.all_pairs import all_pairs_backward, all_pairs_forward
from siamese_np.kernels.contrastive import contrastive_backward, contrastive_forward
from siamese_np.kernels.conv.direct import conv2d_forward, conv_relu_pool_forward
from siamese_np.kernels.conv.sparse_backward import conv2d_backward, conv_relu_pool_backward
from siamese_np.kernels.dense import dense_backward, dense_forward
from siamese_np.kernels.distance import euclidean_backward, euclidean_forward
from siamese_np.kernels.maxpool2d import maxpool2d_backward, maxpool2d_forward
from siamese_np.kernels.pairwise import pairwise_backward, pairwise_forward
from siamese_np.kernels.relu import relu_backward, relu_forward
from siamese_np.kernels.search.nearest import nearest_rows
from siamese_np.kernels.search.pair_ranks import pair_ranks, pair_squares
from siamese_np.kernels.sgd import sgd_step
from siamese_np.kernels.zero import fill_zero

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
