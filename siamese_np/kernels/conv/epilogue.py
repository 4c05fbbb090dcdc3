"""What becomes of a 2x2 tile of a convolution's pixels while they are in registers: stored, or ReLU and max-pooling.

Pooled, the largest array of the network, the output of the convolution, is never written to memory. `argmax` keeps
which of the four pixels was the largest, 0 to 3, and where the output is not positive 4, "none": ReLU lets nothing
back. Without pooling, argmax is an array of size 0, here and in sparse_backward.py.

Pixels whose F filters do not fill whole vectors go through a `row` of FP >= F numbers.
"""

from typing import Any, NamedTuple

import numpy as np

from siamese_np.kernels.simd.scratch import copy, empty_aligned
from siamese_np.kernels.simd.vectors import greater, greater_or_nan, select, splat, store
from siamese_np.runtime.jit import inlined


class Output(NamedTuple):
    """Where tiles go: out and argmax (N, OH, OW, F), flat, and a row of each; where F is FP, out and argmax again."""

    out: Any
    argmax: Any
    row: Any
    row_argmax: Any
    shape: tuple[int, int, int]  # OH, OW, F
    FP: int


class Tile(NamedTuple):
    """Where one tile goes: the upper left pixel to out[start], the others `right` and `below` behind it."""

    start: int
    right: int
    below: int


@inlined(arrays=True)
def make_output(out, argmax, FP):
    """The `Output` for out (N, OH, OW, F) and argmax, of the same size or empty."""
    _, OH, OW, F = out.shape
    flat, flat_argmax = out.reshape(-1), argmax.reshape(-1)
    if F == FP:
        return Output(flat, flat_argmax, flat, flat_argmax, (OH, OW, F), FP)
    return Output(flat, flat_argmax, empty_aligned(4 * FP, flat), np.empty(FP, argmax.dtype), (OH, OW, F), FP)


@inlined
def count_tiles(output):
    """Rows and columns of tiles of an image."""
    OH, OW, _ = output.shape
    if output.argmax.size:
        return OH, OW
    return (OH + 1) // 2, (OW + 1) // 2


@inlined
def tile_at(output, n, i, j):
    """Tile (i, j) of image n. Where it has no right column, or no lower row, the steps there are 0."""
    OH, OW, F = output.shape
    if output.argmax.size:
        return Tile(((n * OH + i) * OW + j) * F, F, F)
    right, below = F if 2 * j + 1 < OW else 0, OW * F if 2 * i + 1 < OH else 0
    return Tile(((n * OH + 2 * i) * OW + 2 * j) * F, right, below)


@inlined
def store_tile(output, tile, f, pixels):
    """Store filters f, f + 1, ... of a tile's four pixels, or pool them; `finish_tile` ends a tile."""
    direct = output.shape[2] == output.FP
    dst = (tile.start if direct else 0) + f
    if output.argmax.size:
        store_largest(output.row, output.row_argmax, dst, pixels)
    else:
        right, below = (tile.right, tile.below) if direct else (output.FP, 2 * output.FP)
        store(output.row, dst + below + right, pixels[3])  # backwards: pixels outside the image lie on others
        store(output.row, dst + below, pixels[2])
        store(output.row, dst + right, pixels[1])
        store(output.row, dst, pixels[0])


@inlined
def store_largest(out, argmax, dst, pixels):
    """ReLU of the largest of four pixels, and its number: the first of equal ones (NaN is largest), or 4."""
    best, number = pixels[0], splat(argmax, argmax.dtype.type(0), pixels[0])
    larger = greater_or_nan(pixels[1], best)
    best, number = select(larger, pixels[1], best), select(larger, splat(argmax, argmax.dtype.type(1), best), number)
    larger = greater_or_nan(pixels[2], best)
    best, number = select(larger, pixels[2], best), select(larger, splat(argmax, argmax.dtype.type(2), best), number)
    larger = greater_or_nan(pixels[3], best)
    best, number = select(larger, pixels[3], best), select(larger, splat(argmax, argmax.dtype.type(3), best), number)
    none, zero = splat(argmax, argmax.dtype.type(4), best), splat(out, out.dtype.type(0), best)
    store(out, dst, select(greater_or_nan(best, zero), best, zero))
    store(argmax, dst, select(greater(best, zero), number, none))


@inlined
def finish_tile(output, tile):
    """Copy a tile from the row to out and argmax, if it is not there already."""
    _, _, F = output.shape
    if F != output.FP and output.argmax.size:
        copy(output.out, tile.start, output.row, 0, F)
        copy(output.argmax, tile.start, output.row_argmax, 0, F)
    elif F != output.FP:
        for q in range(3, -1, -1):
            copy(output.out, tile.start + q // 2 * tile.below + q % 2 * tile.right, output.row, q * output.FP, F)
