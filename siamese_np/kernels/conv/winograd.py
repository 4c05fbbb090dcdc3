"""Convolution with 3x3 windows by Winograd's F(2x2, 3x3), compiled. Textbook: textbook/conv2d.py.

Made fast by
- computing a tile of 2x2 pixels with 16 multiplications instead of 36. Their windows are one patch d of 4x4 pixels:

      V = B' d B    of each channel of a patch       B' = 1  0 -1  0     A' = 1  1  1  0     G = 1    0    0
      U = G g G'    of each kernel g                      0  1  1  0          0  1 -1 -1         1/2  1/2  1/2
      M = V * U     number by number, summed              0 -1  1  0                             1/2 -1/2  1/2
                    over the channels                     0  1  0 -1                             0    0    1

  and the pixels are A' M A. The transforms of patches and pixels are additions only;
- making each of the 16 numbers of M a product of matrices, (patches, C) @ (C, F), which runs in registers (gemm.py);
- taking a few patches at a time, so that their V and M stay in the cache; to pass all of a batch through memory would
  cost what is gained.

The pixels are those of the plain sum but for rounding of the same size (a test compares them), and exactly those that
see a NaN become NaN. Where one sees infinity, or sums that overflow on the way to it, it may become NaN, and so may its
neighbours in the tile.

Source: A. Lavin, S. Gray, "Fast algorithms for convolutional neural networks", CVPR 2016, equations 8 to 13.
"""

from siamese_np.kernels.conv.epilogue import count_tiles, finish_tile, make_output, store_tile, tile_at
from siamese_np.kernels.conv.geometry import empty_padded, images_of, pad_image
from siamese_np.kernels.simd.gemm import ROWS, Matrix, Strided, multiply
from siamese_np.kernels.simd.scratch import empty_aligned, pad_to_vector, round_up
from siamese_np.kernels.simd.vectors import length, load, muladd, store, zeros
from siamese_np.runtime.jit import inlined
from siamese_np.runtime.shards import sharded

MIN_CHANNELS = 8  # with fewer, the transforms cost more than they save
TILES = 4 * ROWS  # patches at a time: so many meet each filter of U while it is in the L1 cache


@inlined
def winograd_pays(w, stride):
    """Whether a convolution with w (KH, KW, C, F) is of the kind that this file computes."""
    return w.shape[0] == 3 and w.shape[1] == 3 and w.shape[2] >= MIN_CHANNELS and stride[0] == 1 and stride[1] == 1


@sharded
@inlined(arrays=True)
def convolve_tiles(out, argmax, x, U, biases, geometry, shard):
    """Convolve the images of one shard; see `make_output` for out and argmax, `transform_weights` for U."""
    C, FP, like = x.shape[3], biases.size, zeros(biases, 1)
    CP = round_up(C, x)
    V, M = empty_aligned(16 * TILES * CP, biases), empty_aligned(16 * TILES * FP, biases)
    padded = empty_padded(x, 2, geometry, biases)  # where the output has odd sizes, the last patches reach so far
    output, padded_image = make_output(out, argmax, FP), -1
    rows, columns = count_tiles(output)
    tiles = rows * columns  # of an image; they are numbered through all images
    images = images_of(shard, len(x))
    for first in range(images.start * tiles, images.stop * tiles, TILES):
        count = min(TILES, images.stop * tiles - first)
        for t in range(count):
            n, tile = (first + t) // tiles, (first + t) % tiles
            if n != padded_image:
                pad_image(padded, x[n], geometry)
                padded_image = n
            patch = 2 * (tile // columns) * geometry.line + 2 * (tile % columns) * C
            transform_patch(Matrix(V, t * CP, TILES * CP), Matrix(padded, patch, geometry.line), C)
        for k in range(16):
            patches, filters = Strided(V, k * TILES * CP, CP, 1), Matrix(U, k * C * FP, FP)
            multiply(Matrix(M, k * TILES * FP, FP), patches, filters, (count, C, FP), False)
        for t in range(count):
            n, tile = (first + t) // tiles, (first + t) % tiles
            place = tile_at(output, n, tile // columns, tile % columns)
            for f in range(0, FP, length(like)):
                store_tile(output, place, f, tile_pixels(M, t * FP + f, load(biases, f, like)))
            finish_tile(output, place)


@inlined(arrays=True)
def transform_weights(w, FP):
    """U (16, C, FP), flat, of w (3, 3, C, F), with zeros behind the F filters."""
    _, _, C, F = w.shape
    row, g = C * FP, pad_to_vector(w.reshape(-1), F, FP)
    U = empty_aligned(16 * row, g)
    for k in range(0, row, length(zeros(g, 1))):
        left = spread_column(g, k, 3 * row)
        middle = spread_column(g, row + k, 3 * row)
        right = spread_column(g, 2 * row + k, 3 * row)
        store_spread(U, k, row, left[0], middle[0], right[0])
        store_spread(U, 4 * row + k, row, left[1], middle[1], right[1])
        store_spread(U, 8 * row + k, row, left[2], middle[2], right[2])
        store_spread(U, 12 * row + k, row, left[3], middle[3], right[3])
    return U


@inlined
def spread_column(g, src, step):
    """A column of G g, from the column of g that begins at g[src]."""
    like = zeros(g, 1)
    return spread(g, load(g, src, like), load(g, src + step, like), load(g, src + 2 * step, like))


@inlined
def store_spread(U, dst, step, a, b, c):
    """A row of (G g) G', from a row (a, b, c) of G g; its numbers are `step` apart."""
    u0, u1, u2, u3 = spread(U, a, b, c)
    store(U, dst, u0)
    store(U, dst + step, u1)
    store(U, dst + 2 * step, u2)
    store(U, dst + 3 * step, u3)


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
