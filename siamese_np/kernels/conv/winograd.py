"""Convolution with 3x3 windows by Winograd's F(2x2, 3x3), compiled. Textbook: textbook/conv2d.py.

Made fast by
- computing a tile of 2x2 pixels with 16 multiplications instead of 36. Their windows are one patch d of 4x4 pixels:

      V = B' d B    of each channel of a patch       B' = 1  0 -1  0     A' = 1  1  1  0     G = 1    0    0
      U = G g G'    of each kernel g                      0  1  1  0          0  1 -1 -1         1/2  1/2  1/2
      M = V * U     number by number, summed              0 -1  1  0                             1/2 -1/2  1/2
                    over the channels                     0  1  0 -1                             0    0    1

  and the pixels are A' M A. The transforms of patches and pixels are additions only;
- making each of the 16 numbers of M a product of matrices, (patches, C) @ (C, F), which runs in registers (blocks.py);
- taking a few patches at a time, so that their V and M stay in the cache; to pass all of a batch through memory would
  cost what is gained. Where U is larger than the cache, more patches share what is read of it.

Going backward, dx is such a convolution, of dout with the filters turned round. For dw, every step is transposed:

      dU = sum of V * (A dm A') over all tiles, whose gradients are dm, and dg = G' dU G

The pixels are those of the plain sum but for rounding of the same size (a test compares them), and exactly those that
see a NaN become NaN. Where one sees infinity, or sums that overflow on the way to it, it may become NaN, and so may its
neighbours in the tile.

Source: A. Lavin, S. Gray, "Fast algorithms for convolutional neural networks", CVPR 2016, equations 8 to 13.
"""

import numpy as np

from siamese_np.kernels.conv.blocks import FEW_ROWS, MANY_ROWS, empty_block, multiply_blocks, rows_at_a_time
from siamese_np.kernels.conv.epilogue import count_tiles, finish_tile, make_output, store_tile, tile_at
from siamese_np.kernels.conv.geometry import Geometry, add_biases, empty_padded, images_of, pad_image
from siamese_np.kernels.simd.gemm import Matrix, Strided, transpose
from siamese_np.kernels.simd.scratch import ceil_div, clear, empty_aligned, pad_to_vector, round_up
from siamese_np.kernels.simd.vectors import length, load, muladd, store, zeros
from siamese_np.runtime.jit import inlined
from siamese_np.runtime.shards import sharded

MIN_CHANNELS = 8  # with fewer, the transforms cost more than they save
MANY_WEIGHTS = 1 << 14  # C * F of a U that is larger than the L2 cache
CHANNELS = 32  # whose weights a shard transforms


@inlined
def winograd_pays(w, stride):
    """Whether a convolution with w (KH, KW, C, F) is of the kind that this file computes."""
    return w.shape[0] == 3 and w.shape[1] == 3 and w.shape[2] >= MIN_CHANNELS and stride[0] == 1 and stride[1] == 1


@sharded
@inlined(arrays=True)
def convolve_tiles(out, argmax, x, U, biases, geometry, shard):
    """Convolve the images of one shard; see `make_output` for out and argmax, `transform_weights` for U."""
    C, FP, like = x.shape[3], biases.size, zeros(biases, 1)
    padded = empty_padded(x, 2, geometry, biases)  # where the output has odd sizes, the last patches reach so far
    output, padded_image = make_output(out, argmax, FP), -1
    rows, columns = count_tiles(output)
    tiles = rows * columns  # of an image; they are numbered through all images
    images, CP = images_of(shard, len(x)), round_up(C, x)
    size = rows_at_a_time(len(images) * tiles, MANY_ROWS if C * FP >= MANY_WEIGHTS else FEW_ROWS)
    V, M, block = empty_sixteen(size * CP, biases), empty_sixteen(size * FP, biases), empty_block(biases)
    for first in range(images.start * tiles, images.stop * tiles, size):
        count = min(size, images.stop * tiles - first)
        for t in range(count):
            n, tile = (first + t) // tiles, (first + t) % tiles
            if n != padded_image:
                pad_image(padded, x[n], geometry)
                padded_image = n
            patch = 2 * (tile // columns) * geometry.line + 2 * (tile % columns) * C
            transform_patch(Matrix(V, t * CP, V.size // 16), Matrix(padded, patch, geometry.line), C)
        for k in range(16):
            patches, filters = Strided(V, k * (V.size // 16), CP, 1), Matrix(U, k * (U.size // 16), FP)
            multiply_blocks(Matrix(M, k * (M.size // 16), FP), patches, filters, (count, C, FP), False, block)
        for t in range(count):
            n, tile = (first + t) // tiles, (first + t) % tiles
            place = tile_at(output, n, tile // columns, tile % columns)
            for f in range(0, FP, length(like)):
                store_tile(output, place, f, tile_pixels(M, t * FP + f, load(biases, f, like)))
            finish_tile(output, place)


@inlined(arrays=True)
def empty_sixteen(size, like):
    """Memory for 16 matrices, the size // 16 numbers apart: not a power of 2, or they would compete in the cache."""
    return empty_aligned(16 * (size + length(zeros(like, 1))), like)


@inlined(arrays=True)
def transform_weights(w, FP):
    """U (16, C, FP), flat, of w (3, 3, C, F), with zeros behind the F filters."""
    _, _, C, F = w.shape
    g = w.reshape(-1) if F == FP else pad_to_vector(w.reshape(-1), F, FP)
    U = empty_sixteen(C * FP, g)
    _transform_channels((U, g, C, FP), ceil_div(C, CHANNELS))
    return U


@sharded
@inlined
def _transform_channels(U, g, C, FP, shard):
    row, step = C * FP, U.size // 16
    for k in range(shard * CHANNELS * FP, min((shard + 1) * CHANNELS, C) * FP, length(zeros(g, 1))):
        left = spread_column(g, k, 3 * row)
        middle = spread_column(g, row + k, 3 * row)
        right = spread_column(g, 2 * row + k, 3 * row)
        store_four(U, k, step, spread(U, left[0], middle[0], right[0]))
        store_four(U, 4 * step + k, step, spread(U, left[1], middle[1], right[1]))
        store_four(U, 8 * step + k, step, spread(U, left[2], middle[2], right[2]))
        store_four(U, 12 * step + k, step, spread(U, left[3], middle[3], right[3]))


@inlined(arrays=True)
def turn_filters(w):
    """(KH, KW, F, C), of w (KH, KW, C, F): the filters upside down and back to front, as a gradient meets them."""
    KH, KW, C, F = w.shape
    turned, flat = np.empty((KH, KW, F, C), w.dtype), w.reshape(-1)
    for k in range(KH * KW):
        transpose(Matrix(turned.reshape(-1), (KH * KW - 1 - k) * F * C, C), Matrix(flat, k * C * F, F), C, F)
    return turned


@sharded
@inlined(arrays=True)
def filter_gradients(shards_dw, shards_db, dout, x, geometry, shard):
    """What the images of a shard add to dw (3, 3, C, F in whole vectors) and db."""
    _, OH, OW, F = dout.shape
    C, like, db = x.shape[3], zeros(shards_dw, 1), shards_db[shard * F : (shard + 1) * F]
    CP, FP = round_up(C, x), round_up(F, x)
    rows, columns = ceil_div(OH, 2), ceil_div(OW, 2)
    tiles, images, padded_image = rows * columns, images_of(shard, len(x)), -1
    dgeometry = Geometry(2, 2 * F, 2 * columns * F, 2, 2 * F, (0, 0))
    padded, dpadded = empty_padded(x, 2, geometry, shards_dw), empty_padded(dout, 1, dgeometry, shards_dw)
    row = C * FP
    size = rows_at_a_time(len(images) * tiles, MANY_ROWS if row >= MANY_WEIGHTS else FEW_ROWS)
    V, dM, dU = empty_sixteen(size * CP, db), empty_sixteen(size * FP, db), empty_sixteen(row, db)
    step, block = dU.size // 16, empty_block(db)
    clear(dU, 0, dU.size)
    for first in range(images.start * tiles, images.stop * tiles, size):
        count = min(size, images.stop * tiles - first)
        for t in range(count):
            n, tile = (first + t) // tiles, (first + t) % tiles
            if n != padded_image:
                pad_image(padded, x[n], geometry)
                pad_image(dpadded, dout[n], dgeometry)
                add_biases(db, dout, np.empty(0, np.uint8), n)
                padded_image = n
            i, j = 2 * (tile // columns), 2 * (tile % columns)
            transform_patch(
                Matrix(V, t * CP, V.size // 16), Matrix(padded, i * geometry.line + j * C, geometry.line), C
            )
            transform_pixels(dM, t * FP, Matrix(dpadded, i * dgeometry.line + j * F, dgeometry.line), F, FP)
        for k in range(16):
            patches, gradients = Strided(V, k * (V.size // 16), 1, CP), Matrix(dM, k * (dM.size // 16), FP)
            multiply_blocks(Matrix(dU, k * step, FP), patches, gradients, (C, count, FP), True, block)
    for k in range(0, row, length(like)):
        a, b = gather_column(dU, k, 4 * step), gather_column(dU, k + step, 4 * step)
        c, d = gather_column(dU, k + 2 * step, 4 * step), gather_column(dU, k + 3 * step, 4 * step)
        dst = shard * 9 * row + k
        store_three(shards_dw, dst, row, gather(dU, a[0], b[0], c[0], d[0]))
        store_three(shards_dw, dst + 3 * row, row, gather(dU, a[1], b[1], c[1], d[1]))
        store_three(shards_dw, dst + 6 * row, row, gather(dU, a[2], b[2], c[2], d[2]))


@inlined
def transform_pixels(dM, dst, pixels, F, FP):
    """A dm A' of a tile, whose gradients dm are 2x2 pixels, a `Matrix`; the 16 numbers begin at dM[dst]."""
    like, step, dm = zeros(dM, 1), dM.size // 16, pixels.data
    for f in range(0, FP, length(like)):
        k, src = dst + f, pixels.start + f
        left = widen(dM, load(dm, src, like), load(dm, src + pixels.step, like))
        right = widen(dM, load(dm, src + F, like), load(dm, src + F + pixels.step, like))
        store_four(dM, k, step, widen(dM, left[0], right[0]))
        store_four(dM, k + 4 * step, step, widen(dM, left[1], right[1]))
        store_four(dM, k + 8 * step, step, widen(dM, left[2], right[2]))
        store_four(dM, k + 12 * step, step, widen(dM, left[3], right[3]))


@inlined
def widen(dM, a, b):
    """A (a, b): four vectors from two, of the type of dM."""
    one, minus = dM.dtype.type(1), dM.dtype.type(-1)
    return a, muladd(a, one, b), muladd(a, minus, b), muladd(zeros(dM, 1), minus, b)


@inlined
def gather_column(dU, k, step):
    """A column of G' dU, from the column of dU that begins at dU[k]."""
    like = zeros(dU, 1)
    a, b, c, d = load(dU, k, like), load(dU, k + step, like), load(dU, k + 2 * step, like), load(dU, k + 3 * step, like)
    return gather(dU, a, b, c, d)


@inlined
def gather(dU, a, b, c, d):
    """G' (a, b, c, d): three vectors from four, of the type of dU."""
    half, one, minus, zero = dU.dtype.type(0.5), dU.dtype.type(1), dU.dtype.type(-1), zeros(dU, 1)
    both = muladd(zero, half, muladd(b, one, c))
    return muladd(a, one, both), muladd(zero, half, muladd(b, minus, c)), muladd(both, one, d)


@inlined
def store_three(out, dst, step, numbers):
    """Store three vectors, `step` apart."""
    store(out, dst, numbers[0])
    store(out, dst + step, numbers[1])
    store(out, dst + 2 * step, numbers[2])


@inlined
def store_four(out, dst, step, numbers):
    """Store four vectors, `step` apart."""
    store(out, dst, numbers[0])
    store(out, dst + step, numbers[1])
    store(out, dst + 2 * step, numbers[2])
    store(out, dst + 3 * step, numbers[3])


@inlined
def spread_column(g, src, step):
    """A column of G g, from the column of g that begins at g[src]."""
    like = zeros(g, 1)
    return spread(g, load(g, src, like), load(g, src + step, like), load(g, src + 2 * step, like))


@inlined
def spread(w, a, b, c):
    """G (a, b, c): four vectors from three, of the type of w."""
    half, one, minus, zero = w.dtype.type(0.5), w.dtype.type(1), w.dtype.type(-1), zeros(w, 1)
    both = muladd(a, one, c)
    return a, muladd(zero, half, muladd(both, one, b)), muladd(zero, half, muladd(both, minus, b)), c


@inlined
def transform_patch(V, patch, C):
    """V = B' d B of a patch, both as `Matrix`: the 16 numbers of V are `step` apart, and the rows of the patch."""
    plus, minus = V.data.dtype.type(1), V.data.dtype.type(-1)
    for c in range(0, C, length(zeros(V.data, 1))):
        dst, src = V.start + c, patch.start + c
        transform_column(Matrix(V.data, dst, V.step), patch, src, src + 2 * C, minus)
        transform_column(Matrix(V.data, dst + V.step, V.step), patch, src + C, src + 2 * C, plus)
        transform_column(Matrix(V.data, dst + 2 * V.step, V.step), patch, src + 2 * C, src + C, minus)
        transform_column(Matrix(V.data, dst + 3 * V.step, V.step), patch, src + C, src + 3 * C, minus)


@inlined
def transform_column(V, patch, a, b, sign):
    """One column of V, from the columns of d that begin at a and b: B' (a + sign b)."""
    d, line, like = patch.data, patch.step, zeros(patch.data, 1)
    plus, minus = d.dtype.type(1), d.dtype.type(-1)
    d0 = muladd(load(d, a, like), sign, load(d, b, like))
    d1 = muladd(load(d, a + line, like), sign, load(d, b + line, like))
    d2 = muladd(load(d, a + 2 * line, like), sign, load(d, b + 2 * line, like))
    d3 = muladd(load(d, a + 3 * line, like), sign, load(d, b + 3 * line, like))
    store(V.data, V.start, muladd(d0, minus, d2))
    store(V.data, V.start + 4 * V.step, muladd(d1, plus, d2))
    store(V.data, V.start + 8 * V.step, muladd(d2, minus, d1))
    store(V.data, V.start + 12 * V.step, muladd(d1, minus, d3))


@inlined
def tile_pixels(M, k, bias):
    """A' M A of one tile, row by row, plus the biases, for the filters from M[k] on."""
    step, one, minus = M.size // 16, M.dtype.type(1), M.dtype.type(-1)
    upper0, lower0 = sum_column(M, k, 4 * step, bias)
    upper1, lower1 = sum_column(M, k + step, 4 * step, bias)
    upper2, lower2 = sum_column(M, k + 2 * step, 4 * step, bias)
    upper3, lower3 = sum_column(M, k + 3 * step, 4 * step, bias)
    pixel0 = muladd(muladd(muladd(bias, one, upper0), one, upper1), one, upper2)
    pixel1 = muladd(muladd(muladd(bias, one, upper1), minus, upper2), minus, upper3)
    pixel2 = muladd(muladd(muladd(bias, one, lower0), one, lower1), one, lower2)
    pixel3 = muladd(muladd(muladd(bias, one, lower1), minus, lower2), minus, lower3)
    return pixel0, pixel1, pixel2, pixel3


@inlined
def sum_column(M, k, step, like):
    """The column of A' M that begins at M[k]."""
    one, minus = M.dtype.type(1), M.dtype.type(-1)
    m0, m1, m2 = load(M, k, like), load(M, k + step, like), load(M, k + 2 * step, like)
    return muladd(muladd(m0, one, m1), one, m2), muladd(muladd(m1, minus, m2), minus, load(M, k + 3 * step, like))
