"""Zero-skipping: at most one entry in four of the gradient comes through max-pooling and ReLU; visit only those.

Each nonzero entry scales nine vectors of C contiguous numbers: for dx weights, added to the pixels it came from; for
dw pixels of x, added to weights. No product with zero is computed, and the sums are the same. Inside a vector loop a
test of each entry would cost more than it saves; here, outside of it, one test decides about nine vectors.

Source: Z. Gong et al., "SparseTrain: leveraging dynamic sparsity in software for training DNNs on
general-purpose SIMD processors", 2020.
"""

from typing import Any

import numpy as np

from siamese_np.ladder.rung import rung
from siamese_np.runtime.jit import kernel


def visited(problem: Any) -> float:
    """Operations on those entries of the gradient that are not zero."""
    return 2.0 * np.count_nonzero(problem.dout) * problem.wT[0].size


@rung("conv2d_backward_x", "zero-skipping", executed=visited)
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
                row, column = i * stride[0] - pad[0], j * stride[1] - pad[1]
                for f in range(F):
                    d = dout[n, i, j, f]
                    if d == 0:
                        continue
                    for p in range(max(0, -row), min(KH, H - row)):
                        for q in range(max(0, -column), min(KW, W - column)):
                            sums, weights = dx[n, row + p, column + q], wT[f, p, q]
                            for c in range(C):
                                sums[c] += d * weights[c]


@rung("conv2d_backward_w", "zero-skipping", executed=visited)
@kernel(reassociate=True)
def conv2d_backward_w(dw, dout, x, stride, pad):
    """dw (KH, KW, C, F) += gradient of the weights, from dout (N, OH, OW, F) and x (N, H, W, C)."""
    N, OH, OW, F = dout.shape
    H, W = x.shape[1:3]
    KH, KW, C, _ = dw.shape
    transposed = np.zeros((F, KH, KW, C), dw.dtype)  # contiguous along the channels, as x is
    for n in range(N):
        for i in range(OH):
            for j in range(OW):
                row, column = i * stride[0] - pad[0], j * stride[1] - pad[1]
                for f in range(F):
                    d = dout[n, i, j, f]
                    if d == 0:
                        continue
                    for p in range(max(0, -row), min(KH, H - row)):
                        for q in range(max(0, -column), min(KW, W - column)):
                            sums, pixel = transposed[f, p, q], x[n, row + p, column + q]
                            for c in range(C):
                                sums[c] += d * pixel[c]
    dw += transposed.transpose(1, 2, 3, 0)
