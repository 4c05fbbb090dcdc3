"""Convolution, bias, ReLU and 2x2 max-pooling in one pass: what training runs. Equal to the three in a row.

    out[n, i, j, f] = max(0, max over p, q of conv[n, 2 i + p, 2 j + q, f])        p, q = 0, 1

with conv as in conv2d.py and winograd.py, whose sums these kernels use. The four sums of a window are in registers
when their maximum is taken: the largest array of the network, conv, is never written to memory.

`argmax` keeps the winner 2 p + q of each window: the first maximum in row-major order; NaN wins. Where the output is
not positive it keeps 4, "none": there, ReLU has slope 0 and nothing goes back. So dout and argmax are the gradient
of conv as a list, at most one entry a window, and the backward pass of conv_gradients.py takes it from there;
entries of dout that are 0 themselves, as of pairs beyond the margin, are not even listed.

A last row or column of conv that no window covers is never computed, and receives no gradient.
"""

import numpy as np

from siamese_np.kernels.conv.conv2d import sum_four
from siamese_np.kernels.conv.sparse_backward import add_gradients
from siamese_np.kernels.conv.winograd import (
    TILES,
    empty_tiles,
    multiply_tiles,
    tile_pixels,
    transform_weights,
    winograd_pays,
)
from siamese_np.kernels.simd.scratch import (
    aligned,
    all_finite,
    copy,
    empty_edges,
    empty_padded,
    find_edges,
    is_black,
    pad_image,
    pad_to_vector,
    round_up,
    shard_size,
)
from siamese_np.kernels.simd.vectors import (
    PAIR,
    VECTOR_BYTES,
    WIDE,
    greater,
    greater_or_nan,
    load,
    select,
    splat,
    store,
    zeros,
)
from siamese_np.runtime.inline import array_part, part
from siamese_np.runtime.jit import kernel
from siamese_np.runtime.team import sharded


@kernel
def conv_relu_pool_forward(out, argmax, x, w, b, stride, pad):
    """out, argmax (N, OH, OW, F) = pooled ReLU of x (N, H, W, C) convolved with w (KH, KW, C, F), plus b (F,)."""
    FP, size = round_up(b.size, x), shard_size(len(x))
    biases, shards = pad_to_vector(b, b.size, FP), -(-len(x) // size)
    if winograd_pays(w, stride):
        _pool_tiles((out, argmax, x, transform_weights(w, FP), biases, pad, size), shards)
    else:
        weights = pad_to_vector(w.reshape(-1), b.size, FP)
        skip = all_finite(weights, 0, 0, 1, weights.size)  # else a black pixel shows NaN as well
        _pool_windows((out, argmax, x, weights, biases, w.shape, stride, pad, size, skip), shards)


@kernel
def conv_relu_pool_backward(dx, dw, db, dout, argmax, x, w, stride, pad):
    """dw (KH, KW, C, F) and db (F,) += their gradients; dx (N, H, W, C) = its own, unless it is empty."""
    add_gradients(dx, dw, db, dout, argmax, x, w, stride, pad, (2, 2))


@sharded
@array_part
def _pool_windows(out, argmax, x, weights, biases, kernel, stride, pad, size, skip, shard):
    _, OH, OW, F = out.shape
    N, H, W, C = x.shape
    KH, KW, _, _ = kernel
    FP, line, vector = biases.size, (W + 2 * pad[1]) * C, VECTOR_BYTES // x.itemsize
    padded, edges = empty_padded(H, W, C, pad, biases), empty_edges(H, W, pad)
    flat, numbers = out.reshape(-1), argmax.reshape(-1)
    best, winner = (flat, numbers) if F == FP else (aligned(FP, biases), np.empty(FP, argmax.dtype))
    for n in range(shard * size, min((shard + 1) * size, N)):
        pad_image(padded, x[n], pad)
        find_edges(edges, x[n], pad)
        for i in range(OH):
            for j in range(OW):
                r, s, to = 2 * i * stride[0], 2 * j * stride[1], ((n * OH + i) * OW + j) * F
                black = skip and is_black(edges, r, r + stride[0] + KH, s, s + stride[1] + KW)
                at, rows, goal = r * line + s * C, 0 if black else KH, to if F == FP else 0
                f = 0
                while f + WIDE * vector <= FP:
                    like = zeros(x, WIDE)
                    _pool_four(best, winner, goal, padded, at, line, weights, f, biases, rows, KW * C, stride, C, like)
                    f += WIDE * vector
                while f < FP:
                    half = zeros(x, PAIR)
                    _pool_four(best, winner, goal, padded, at, line, weights, f, biases, rows, KW * C, stride, C, half)
                    f += PAIR * vector
                if F != FP:
                    copy(flat, to, best, 0, F)
                    copy(numbers, to, winner, 0, F)


@part
def _pool_four(best, winner, goal, padded, at, line, w, f, biases, KH, T, stride, C, like):
    """The four pixels of a window, the first of which sees what begins at padded[at]."""
    below, right = stride[0] * line, stride[1] * C
    pixel0, pixel1, pixel2, pixel3 = sum_four(
        padded,
        at,
        at + right,
        at + below,
        at + below + right,
        line,
        w,
        f,
        biases.size,
        KH,
        T,
        load(biases, f, like),
    )
    store_largest(best, winner, goal + f, pixel0, pixel1, pixel2, pixel3)


@sharded
@array_part
def _pool_tiles(out, argmax, x, U, biases, pad, size, shard):
    """A tile of `winograd` is a window: both are numbered in the same way."""
    N, OH, OW, F = out.shape
    FP, like = biases.size, zeros(x, 1)
    flat, numbers = out.reshape(-1), argmax.reshape(-1)
    best, winner = (flat, numbers) if F == FP else (aligned(FP, biases), np.empty(FP, argmax.dtype))
    memory, held = empty_tiles(x, biases, pad), -1
    stop = min((shard + 1) * size, N) * OH * OW
    for first in range(shard * size * OH * OW, stop, TILES):
        count = min(TILES, stop - first)
        held = multiply_tiles(memory, x, U, FP, pad, OH, OW, first, count, held)
        for t in range(count):
            to = (first + t) * F
            goal = to if F == FP else 0
            for f in range(0, FP, VECTOR_BYTES // x.itemsize):
                pixel0, pixel1, pixel2, pixel3 = tile_pixels(memory[1], t * FP + f, load(biases, f, like))
                store_largest(best, winner, goal + f, pixel0, pixel1, pixel2, pixel3)
            if F != FP:
                copy(flat, to, best, 0, F)
                copy(numbers, to, winner, 0, F)


@part
def store_largest(out, argmax, to, pixel0, pixel1, pixel2, pixel3):
    """ReLU of the largest of four pixels, and its number: the first of equal ones (NaN is largest), or 4."""
    best, number = pixel0, splat(argmax, argmax.dtype.type(0), pixel0)
    larger = greater_or_nan(pixel1, best)
    best, number = select(larger, pixel1, best), select(larger, splat(argmax, argmax.dtype.type(1), best), number)
    larger = greater_or_nan(pixel2, best)
    best, number = select(larger, pixel2, best), select(larger, splat(argmax, argmax.dtype.type(2), best), number)
    larger = greater_or_nan(pixel3, best)
    best, number = select(larger, pixel3, best), select(larger, splat(argmax, argmax.dtype.type(3), best), number)
    none, zero = splat(argmax, argmax.dtype.type(4), best), splat(out, out.dtype.type(0), best)
    store(out, to, select(greater_or_nan(best, zero), best, zero))
    store(argmax, to, select(greater(best, zero), number, none))
