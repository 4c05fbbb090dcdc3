"""2-D convolution, plain or with ReLU and 2x2 max-pooling, compiled. Textbook: textbook/conv2d.py, conv_relu_pool.py.

Made fast by
- keeping the sums of a 2x2 tile of pixels in registers, so that each row of filters is loaded once for four
  multiply-adds. Vectors run over the filters, which are neighbours in w (KH, KW, C, F) and in out (N, OH, OW, F);
- skipping windows that see only black, as in the margins of a digit: their output is the bias;
- pooling a tile before it leaves the registers (epilogue.py).

3x3 windows with stride 1 and several channels are computed in another way, with fewer multiplications (winograd.py).
The backward pass is in backward.py.

Source: E. Georganas et al., "Anatomy of high-performance deep learning convolutions on SIMD architectures",
SC 2018 (sums of several pixels in registers).
"""

from typing import Any, NamedTuple

import numpy as np

from siamese_np.kernels.conv.epilogue import count_tiles, finish_tile, make_output, store_tile, tile_at
from siamese_np.kernels.conv.geometry import (
    count_shards,
    empty_edges,
    empty_padded,
    find_edges,
    geometry_of,
    images_of,
    outer_edges,
    pad_image,
)
from siamese_np.kernels.conv.winograd import convolve_tiles, transform_weights, winograd_pays
from siamese_np.kernels.simd.scratch import all_finite, pad_to_vector, round_up
from siamese_np.kernels.simd.vectors import PAIR, WIDE, length, load, load_scalar, muladd, no_unroll, zeros
from siamese_np.runtime.jit import inlined, kernel
from siamese_np.runtime.shards import sharded


class Filters(NamedTuple):
    """Weights, flat, (KH * KW * C, FP), biases (FP,), and whether all weights are finite."""

    weights: Any
    biases: Any
    finite: bool


class Windows(NamedTuple):
    """The windows of a tile: where, in the padded image, the upper left one begins, the steps to others, and rows."""

    start: int
    right: int
    below: int
    KH: int


@kernel(shared=True)
def conv2d_forward(out, x, w, b, stride, pad):
    """out (N, OH, OW, F) = convolution of x (N, H, W, C) with w (KH, KW, C, F), plus b (F,)."""
    _convolve(out, np.empty((0, 0, 0, 0), np.uint8), x, w, b, stride, pad)


@kernel(shared=True)
def conv_relu_pool_forward(out, argmax, x, w, b, stride, pad):
    """out, argmax (N, OH, OW, F) = pooled ReLU of x (N, H, W, C) convolved with w (KH, KW, C, F), plus b (F,)."""
    _convolve(out, argmax, x, w, b, stride, pad)


@inlined(arrays=True)
def _convolve(out, argmax, x, w, b, stride, pad):
    geometry, shards = geometry_of(x, w, stride, pad), count_shards(len(x))
    FP = round_up(b.size, b)
    biases = pad_to_vector(b, b.size, FP)
    if winograd_pays(w, stride):
        convolve_tiles((out, argmax, x, transform_weights(w, FP), biases, geometry), shards)
    else:
        weights = pad_to_vector(w.reshape(-1), b.size, FP)
        filters = Filters(weights, biases, all_finite(weights, 0, 0, 1, weights.size))
        _convolve_windows((out, argmax, x, filters, geometry), shards)


@sharded
@inlined(arrays=True)
def _convolve_windows(out, argmax, x, filters, geometry, shard):
    FP, wide, narrow = filters.biases.size, zeros(filters.biases, WIDE), zeros(filters.biases, PAIR)
    output = make_output(out, argmax, FP)
    rows, columns = count_tiles(output)
    padded, edges = empty_padded(x, 0, geometry, filters.biases), empty_edges(x, geometry)
    for n in images_of(shard, len(x)):
        pad_image(padded, x[n], geometry)
        find_edges(edges, x[n], geometry)
        for i in range(rows):
            for j in range(columns):
                tile = tile_at(output, n, i, j)
                windows = windows_of(tile, i, j, geometry, edges, filters)
                f = 0
                while f + length(wide) <= FP:
                    store_tile(output, tile, f, conv_2x2(padded, windows, geometry, filters, f, wide))
                    f += length(wide)
                for rest in range(f, FP, length(narrow)):
                    store_tile(output, tile, rest, conv_2x2(padded, windows, geometry, filters, rest, narrow))
                finish_tile(output, tile)


@inlined
def windows_of(tile, i, j, geometry, edges, filters):
    """The `Windows` of tile (i, j); without rows if all they see is black (0 * NaN is NaN, so weights count, too)."""
    row, column = 2 * i * geometry.down, 2 * j * geometry.right
    down, right = geometry.down if tile.below else 0, geometry.right if tile.right else 0
    first, last = outer_edges(edges, row, row + down + geometry.KH)
    black = filters.finite and (column + right + geometry.width <= first or column >= last)
    return Windows(row * geometry.line + column, right, down * geometry.line, 0 if black else geometry.KH)


@inlined
def conv_2x2(padded, windows, geometry, filters, f, like):
    """Filters f, f + 1, ... of four pixels, as many as `like` has entries."""
    FP = filters.biases.size
    x0, x1 = windows.start, windows.start + windows.right
    x2, x3 = x0 + windows.below, x1 + windows.below
    sums0 = sums1 = sums2 = sums3 = load(filters.biases, f, like)
    row = f
    for p in range(windows.KH):
        for k in range(p * geometry.line, p * geometry.line + geometry.width):
            no_unroll()
            weights = load(filters.weights, row, like)
            sums0 = muladd(sums0, load_scalar(padded, x0 + k), weights)
            sums1 = muladd(sums1, load_scalar(padded, x1 + k), weights)
            sums2 = muladd(sums2, load_scalar(padded, x2 + k), weights)
            sums3 = muladd(sums3, load_scalar(padded, x3 + k), weights)
            row += FP
    return sums0, sums1, sums2, sums3
