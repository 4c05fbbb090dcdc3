"""2-D convolution (cross-correlation) of NHWC images.

    out[n, i, j, f] = b[f] + sum over p, q, c of x[n, i*sh + p - ph, j*sw + q - pw, c] w[p, q, c, f]

with stride (sh, sw), padding (ph, pw) and x = 0 outside the image. Every entry of x under the window meets one
row of w, its F filters: out[n, i, j] is a sum of rows of w, each scaled by an entry of x. The sums of four pixels
stay in registers (`lanes`) from the first product to the last, so that each row of w is loaded once for four
multiply-adds. Four pixels that see only black, as in the margins of a digit, are the biases.

3x3 windows with stride 1 and several channels are computed in another way, with fewer multiplications
(winograd.py). The backward pass is in conv_gradients.py.

Source: E. Georganas et al., "Anatomy of high-performance deep learning convolutions on SIMD architectures",
SC 2018 (sums of several pixels in registers).
"""

import numpy as np

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
from siamese_np.kernels.simd.vectors import PAIR, VECTOR_BYTES, WIDE, load, load_scalar, muladd, no_unroll, store, zeros
from siamese_np.runtime.inline import array_part, part
from siamese_np.runtime.jit import kernel
from siamese_np.runtime.team import sharded


@kernel
def conv2d_forward(out, x, w, b, stride, pad):
    """out (N, OH, OW, F) = convolution of x (N, H, W, C) with w (KH, KW, C, F), plus b (F,)."""
    FP, size = round_up(b.size, x), shard_size(len(x))
    biases, shards = pad_to_vector(b, b.size, FP), -(-len(x) // size)
    if winograd_pays(w, stride):
        _convolve_tiles((out, x, transform_weights(w, FP), biases, pad, size), shards)
    else:
        weights = pad_to_vector(w.reshape(-1), b.size, FP)
        skip = all_finite(weights, 0, 0, 1, weights.size)  # else a black pixel shows NaN as well
        _convolve((out, x, weights, biases, w.shape, stride, pad, size, skip), shards)


@kernel
def conv2d_backward(dx, dw, db, dout, x, w, stride, pad):
    """dw (KH, KW, C, F) and db (F,) += their gradients; dx (N, H, W, C) = its own, unless it is empty."""
    winner = np.zeros((1, dout.shape[1], dout.shape[2], dout.shape[3]), np.uint8)
    add_gradients(dx, dw, db, dout, winner, x, w, stride, pad, (1, 1))


@sharded
@array_part
def _convolve(out, x, weights, biases, kernel, stride, pad, size, skip, shard):
    _, OH, OW, F = out.shape
    N, H, W, C = x.shape
    KH, KW, _, _ = kernel
    FP, line, vector = biases.size, (W + 2 * pad[1]) * C, VECTOR_BYTES // x.itemsize
    padded, edges = empty_padded(H, W, C, pad, biases), empty_edges(H, W, pad)
    sums, flat = aligned(4 * FP, biases), out.reshape(-1)
    for n in range(shard * size, min((shard + 1) * size, N)):
        pad_image(padded, x[n], pad)
        find_edges(edges, x[n], pad)
        for i in range(OH):
            for j in range(0, OW, 4):
                # where fewer than four pixels are left, the last is computed more than once
                last, r, s = min(3, OW - 1 - j), i * stride[0], j * stride[1]
                black = skip and is_black(edges, r, r + KH, s, s + last * stride[1] + KW)
                x0, step, rows = r * line + s * C, stride[1] * C, 0 if black else KH
                x1, x2, x3 = x0 + min(1, last) * step, x0 + min(2, last) * step, x0 + last * step
                f = 0
                while f + WIDE * vector <= FP:
                    like = zeros(sums, WIDE)
                    _sum_pixels(sums, padded, x0, x1, x2, x3, line, weights, f, biases, rows, KW * C, like)
                    f += WIDE * vector
                while f < FP:
                    like_half = zeros(sums, PAIR)
                    _sum_pixels(sums, padded, x0, x1, x2, x3, line, weights, f, biases, rows, KW * C, like_half)
                    f += PAIR * vector
                for q in range(last + 1):
                    copy(flat, ((n * OH + i) * OW + j + q) * F, sums, q * FP, F)


@part
def _sum_pixels(sums, padded, x0, x1, x2, x3, line, w, f, biases, KH, T, like):
    FP, bias = biases.size, load(biases, f, like)
    sums0, sums1, sums2, sums3 = sum_four(padded, x0, x1, x2, x3, line, w, f, FP, KH, T, bias)
    store_four(sums, f, FP, sums0, sums1, sums2, sums3)


@part
def store_four(sums, f, FP, pixel0, pixel1, pixel2, pixel3):
    """Filters f, f + 1, ... of four pixels, in rows of FP."""
    store(sums, f, pixel0)
    store(sums, FP + f, pixel1)
    store(sums, 2 * FP + f, pixel2)
    store(sums, 3 * FP + f, pixel3)


@part
def sum_four(padded, x0, x1, x2, x3, line, w, f, FP, KH, T, bias):
    """Filters f, f + 1, ... of four pixels, whose windows are KH pieces of T entries from x0, x1, x2 and x3 on."""
    sums0 = sums1 = sums2 = sums3 = bias
    row = f
    for p in range(KH):
        for k in range(p * line, p * line + T):
            no_unroll()
            filters = load(w, row, bias)
            sums0 = muladd(sums0, load_scalar(padded, x0 + k), filters)
            sums1 = muladd(sums1, load_scalar(padded, x1 + k), filters)
            sums2 = muladd(sums2, load_scalar(padded, x2 + k), filters)
            sums3 = muladd(sums3, load_scalar(padded, x3 + k), filters)
            row += FP
    return sums0, sums1, sums2, sums3


@sharded
@array_part
def _convolve_tiles(out, x, U, biases, pad, size, shard):
    N, OH, OW, F = out.shape
    FP, rows, columns = biases.size, (OH + 1) // 2, (OW + 1) // 2
    memory, held = empty_tiles(x, biases, pad), -1
    sums, flat, like = aligned(4 * FP, biases), out.reshape(-1), zeros(x, 1)
    tiles = rows * columns
    stop = min((shard + 1) * size, N) * tiles
    for first in range(shard * size * tiles, stop, TILES):
        count = min(TILES, stop - first)
        held = multiply_tiles(memory, x, U, FP, pad, rows, columns, first, count, held)
        for t in range(count):
            for f in range(0, FP, VECTOR_BYTES // x.itemsize):
                pixel0, pixel1, pixel2, pixel3 = tile_pixels(memory[1], t * FP + f, load(biases, f, like))
                store_four(sums, f, FP, pixel0, pixel1, pixel2, pixel3)
            n, tile = (first + t) // tiles, (first + t) % tiles
            for pixel in range(4):
                i, j = 2 * (tile // columns) + pixel // 2, 2 * (tile % columns) + pixel % 2
                if i < OH and j < OW:
                    copy(flat, ((n * OH + i) * OW + j) * F, sums, pixel * FP, F)
