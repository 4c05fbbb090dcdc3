"""The backward pass of the convolutions, plain or with ReLU and pooling, compiled. Textbook: textbook/conv2d.py.

Made fast by going the way that suits dout and x:
- where most of dout is 0, as under max-pooling and ReLU, listing what is not (sparse_backward.py);
- else, for 3x3 windows with stride 1 and several channels, with fewer multiplications (winograd.py);
- else by products of matrices, which run in registers (blocks.py): with the windows of some pixels as rows, and their
  gradients as rows, dw = windows.T @ gradients, and gradients @ w.T is what the windows get back. So do sparse
  gradients where rows of windows are too short for lists, as in the first layer, but for its black margins.

A batch is cut into the same shards for any number of threads, whose dw are added in order: the same bits.
"""

import numpy as np

from siamese_np.kernels.conv.blocks import MANY_ROWS, empty_block, multiply_blocks
from siamese_np.kernels.conv.geometry import (
    add_biases,
    add_windows,
    copy_windows,
    count_shards,
    empty_edges,
    empty_padded,
    find_edges,
    geometry_of,
    images_of,
    outer_edges,
    pad_image,
    unpad_image,
)
from siamese_np.kernels.conv.sparse_backward import backward_sparse, copy_selected, pool_of, transpose_filters
from siamese_np.kernels.conv.winograd import (
    MIN_CHANNELS,
    convolve_tiles,
    filter_gradients,
    transform_weights,
    turn_filters,
    winograd_pays,
)
from siamese_np.kernels.simd.gemm import Matrix, Strided, transpose
from siamese_np.kernels.simd.scratch import ceil_div, clear, empty_aligned, round_up, zeros_aligned
from siamese_np.kernels.simd.vectors import load_scalar, store_scalar
from siamese_np.runtime.jit import inlined, kernel
from siamese_np.runtime.shards import sharded

BLOCK = 1 << 11  # sums of all shards that one thread adds at a time
FEW_CHANNELS = 8  # with fewer, a row of a window is too short to run through a list for it
SAMPLE = 512  # pixels of dout looked at to estimate how many zeros there are
SPARSE = 0.375  # share of non-zeros up to which listing them pays


@kernel(shared=True)
def conv2d_backward(dx, dw, db, dout, x, w, stride, pad):
    """dw (KH, KW, C, F) and db (F,) += their gradients; dx (N, H, W, C) = its own, unless it is empty."""
    geometry, shards, none = geometry_of(x, w, stride, pad), count_shards(len(x)), np.empty(0, np.uint8)
    sparse = is_sparse(dout)
    if sparse or not winograd_pays(w, stride) or db.size < MIN_CHANNELS or max(pad[0], pad[1]) > 2:
        _backward((dx, dw, db), dout, none, x, w, geometry, sparse)
        return
    FP, CP = round_up(db.size, db), round_up(x.shape[3], db)
    shards_dw, shards_db = empty_aligned(shards * (w.size // db.size) * FP, db), zeros_aligned(shards * db.size, db)
    filter_gradients((shards_dw, shards_db, dout, x, geometry), shards)
    _add_shards(dw, db, shards_dw, shards_db, (geometry.width * FP, FP, 1))
    if len(dx):
        turned = turn_filters(w)
        dgeometry = geometry_of(dout, turned, stride, (2 - pad[0], 2 - pad[1]))
        U, biases = transform_weights(turned, CP), zeros_aligned(CP, db)
        convolve_tiles((dx, np.empty((0, 0, 0, 0), np.uint8), dout, U, biases, dgeometry), shards)


@kernel(shared=True)
def conv_relu_pool_backward(dx, dw, db, dout, argmax, x, w, stride, pad):
    """dw (KH, KW, C, F) and db (F,) += their gradients; dx (N, H, W, C) = its own, unless it is empty."""
    _backward((dx, dw, db), dout, argmax.reshape(-1), x, w, geometry_of(x, w, stride, pad), True)


@inlined(arrays=True)
def _backward(grads, dout, argmax, x, w, geometry, sparse):
    """Add to grads = dx, dw, db; argmax is flat, and empty without pooling."""
    dx, dw, db = grads
    shards, F = count_shards(len(x)), db.size
    if not shards:
        return
    shards_db = zeros_aligned(shards * F, db)
    if sparse and (x.shape[3] >= FEW_CHANNELS or len(dx)):
        filters = transpose_filters(w, db)
        shards_dw = empty_aligned(shards * filters.size, db)
        backward_sparse(((dx, shards_dw, shards_db), dout, argmax, x, filters, geometry), shards)
        T = filters.size // (F * geometry.KH)
        _add_shards(dw, db, shards_dw, shards_db, (T, 1, geometry.KH * T))
    else:
        K, KP, FP = w.size // F, round_up(w.size // F, db), round_up(F, db)
        filters, shards_dw = zeros_aligned(F * KP, db), empty_aligned(shards * K * FP, db)
        transpose(Matrix(filters, 0, KP), Matrix(w.reshape(-1), 0, F), K, F)
        _backward_windows(((dx, shards_dw, shards_db), dout, argmax, x, filters, geometry), shards)
        _add_shards(dw, db, shards_dw, shards_db, (geometry.width * FP, FP, 1))


@inlined
def is_sparse(dout):
    """Whether at most SPARSE of some evenly spread pixels of dout (N, OH, OW, F) is not zero."""
    flat, F = dout.reshape(-1), dout.shape[3]
    seen = nonzero = 0
    for first in range(0, flat.size, max(1, flat.size // F // SAMPLE) * F):
        for k in range(first, first + F):
            nonzero += load_scalar(flat, k) != 0
        seen += F
    return nonzero <= SPARSE * seen


@sharded
@inlined(arrays=True)
def _backward_windows(grads, dout, argmax, x, filters, geometry, shard):
    """dx of the images of a shard, and what they add to dw (KH, KW, C, F in whole vectors) and db; filters (F, KP)."""
    dx, shards_dw, shards_db = grads
    _, OH, OW, F = dout.shape
    flat, pool, K = dout.reshape(-1), pool_of(argmax), geometry.KH * geometry.width
    FP, KP, row = round_up(F, flat), round_up(K, flat), pool**2 * OW
    windows, rows = np.empty(MANY_ROWS + row, np.int64), empty_aligned((MANY_ROWS + row) * KP, flat)
    gradients, block = zeros_aligned((MANY_ROWS + row) * FP, flat), empty_block(flat)
    padded, dpadded = empty_padded(x, 0, geometry, flat), empty_padded(x, 0, geometry, flat)
    db, dw = shards_db[shard * F : (shard + 1) * F], Matrix(shards_dw, shard * K * FP, FP)
    edges = empty_edges(x, geometry)
    clear(shards_dw, dw.start, K * FP)
    for n in images_of(shard, len(x)):
        add_biases(db, dout, argmax, n)
        pad_image(padded, x[n], geometry)
        find_edges(edges, x[n], geometry)
        if len(dx):
            clear(dpadded, 0, dpadded.size)
        count = 0
        for i in range(OH):
            for t in range(pool**2):
                r = (i * pool + t // pool) * geometry.down
                left, right = outer_edges(edges, r, r + geometry.KH)
                for j in range(OW):
                    column = (j * pool + t % pool) * geometry.right
                    if len(dx) or left - geometry.width < column < right:
                        windows[count] = r * geometry.line + column
                        copy_selected(gradients, count * FP, flat, argmax, ((n * OH + i) * OW + j) * F, F, t)
                        count += 1
            if count >= MANY_ROWS or i == OH - 1:
                copy_windows(rows, padded, windows[:count], geometry)
                multiply_blocks(dw, Strided(rows, 0, 1, K), Matrix(gradients, 0, FP), (K, count, FP), True, block)
                if len(dx):
                    sums, entries = Matrix(rows, 0, KP), Strided(gradients, 0, FP, 1)
                    multiply_blocks(sums, entries, Matrix(filters, 0, KP), (count, F, KP), False, block)
                    add_windows(dpadded, rows, KP, windows[:count], geometry)
                count = 0
        if len(dx):
            unpad_image(dx[n], dpadded, geometry)


@inlined(arrays=True)
def _add_shards(dw, db, shards_dw, shards_db, steps):
    """Add the sums of all shards to dw and db, always in the same order; see `_add_strided` for `steps`."""
    shards = shards_db.size // db.size
    size = shards_dw.size // shards
    _add_block((shards_dw, size), ceil_div(size, BLOCK) if shards > 1 else 0)
    _add_strided(dw, shards_dw, steps)
    for shard in range(shards):
        for f in range(db.size):
            db[f] += shards_db[shard * db.size + f]


@sharded
@inlined
def _add_block(sums, size, s):
    for first in range(size, sums.size, size):
        for k in range(s * BLOCK, min((s + 1) * BLOCK, size)):
            store_scalar(sums, k, load_scalar(sums, k) + load_scalar(sums, first + k))


@inlined
def _add_strided(dw, sums, steps):
    """dw (KH, KW, C, F) += sums, flat, whose rows, entries of a row and filters are `steps` apart."""
    KH, KW, C, F = dw.shape
    flat, K = dw.reshape(-1), KW * C
    for p in range(KH):
        for k in range(K):
            src = p * steps[0] + k * steps[1]
            for f in range(F):
                dst = (p * K + k) * F + f
                store_scalar(flat, dst, load_scalar(flat, dst) + load_scalar(sums, src + f * steps[2]))
