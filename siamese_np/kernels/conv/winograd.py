"""Winograd's convolution F(2x2, 3x3): 16 multiplications for 2 x 2 pixels of the output, instead of 36.

The windows of these four pixels overlap: together they are one patch d of 4 x 4 pixels. With

    V = B' d B    of each channel of a patch       B' = 1  0 -1  0     A' = 1  1  1  0     G = 1    0    0
    U = G g G'    of each kernel g                      0  1  1  0          0  1 -1 -1         1/2  1/2  1/2
    M = V * U     number by number, summed              0 -1  1  0                             1/2 -1/2  1/2
                  over the channels                     0  1  0 -1                             0    0    1

the four pixels are A' M A. They are the plain convolution but for rounding, whose size is the same (a test compares
them), and exactly those that see a NaN become NaN. Where one sees infinity, or sums that overflow on the way to it, it
may become NaN, and so may its neighbours in the tile. Each of the 16 numbers of M is a product of matrices:
(patches, C) @ (C, F). A few patches are taken at a time, so that their V and M stay in the caches of the processor;
passing all of a batch through memory would cost what is gained.

Source: A. Lavin, S. Gray, "Fast algorithms for convolutional neural networks", CVPR 2016, equations 8 to 13.
"""

from siamese_np.kernels.simd.gemm import ROWS, multiply
from siamese_np.kernels.simd.scratch import aligned, empty_padded, pad_image, pad_to_vector, round_up
from siamese_np.kernels.simd.vectors import VECTOR_BYTES, load, muladd, store, zeros
from siamese_np.runtime.inline import array_part, part

CHANNELS = 8  # with fewer, the transforms cost more than they save
TILES = 4 * ROWS  # patches at a time: so many meet each filter of U while it is in the L1 cache


@part
def winograd_pays(w, stride):
    """Whether a convolution with w (KH, KW, C, F) is of the kind that this file computes."""
    return w.shape[0] == 3 and w.shape[1] == 3 and w.shape[2] >= CHANNELS and stride[0] == 1 and stride[1] == 1


@array_part
def transform_weights(w, FP):
    """U (16, C, FP), flat, of w (3, 3, C, F), with zeros behind the F filters."""
    _, _, C, F = w.shape
    row, g = C * FP, pad_to_vector(w.reshape(-1), F, FP)
    U = aligned(16 * row, g)
    for k in range(0, row, VECTOR_BYTES // w.itemsize):
        left0, left1, left2, left3 = spread_column(g, k, 3 * row)
        middle0, middle1, middle2, middle3 = spread_column(g, row + k, 3 * row)
        right0, right1, right2, right3 = spread_column(g, 2 * row + k, 3 * row)
        store_row(U, k, row, left0, middle0, right0)
        store_row(U, 4 * row + k, row, left1, middle1, right1)
        store_row(U, 8 * row + k, row, left2, middle2, right2)
        store_row(U, 12 * row + k, row, left3, middle3, right3)
    return U


@part
def spread_column(g, at, step):
    """A column of G g, from the column of g that begins at g[at]."""
    like = zeros(g, 1)
    return spread(load(g, at, like), load(g, at + step, like), load(g, at + 2 * step, like), g)


@part
def spread(a, b, c, w):
    """G (a, b, c): four lanes from three, of the type of w."""
    half, one, minus, zero = w.dtype.type(0.5), w.dtype.type(1), w.dtype.type(-1), zeros(w, 1)
    both = muladd(a, one, c)
    return a, muladd(zero, half, muladd(both, one, b)), muladd(zero, half, muladd(both, minus, b)), c


@part
def store_row(U, to, step, a, b, c):
    """A row of (G g) G'; its numbers lie `step` apart."""
    u0, u1, u2, u3 = spread(a, b, c, U)
    store(U, to, u0)
    store(U, to + step, u1)
    store(U, to + 2 * step, u2)
    store(U, to + 3 * step, u3)


@array_part
def empty_tiles(x, biases, pad):
    """Memory for `multiply_tiles`: V and M, flat, and a padded image; biases (FP,)."""
    _, H, W, C = x.shape
    V = aligned(16 * TILES * round_up(C, biases), biases)
    # two rows more: where the output has odd sizes, the last patches reach over the margin
    return V, aligned(16 * TILES * biases.size, biases), empty_padded(H + 2, W, C, pad, biases)


@part
def multiply_tiles(memory, x, U, FP, pad, rows, columns, first, count, held):
    """M (16, TILES, FP) of the `count` tiles of 2 x 2 pixels from number `first` on.

    Tiles are numbered through all images, each of which has `rows` x `columns` of them. `held` is the image that
    lies in the padded one; the one that does so afterwards is returned.
    """
    V, M, padded = memory
    _, _, W, C = x.shape
    CP, line = V.size // (16 * TILES), (W + 2 * pad[1]) * C
    for t in range(count):
        n, tile = (first + t) // (rows * columns), (first + t) % (rows * columns)
        if n != held:
            pad_image(padded, x[n], pad)
            held = n
        at = 2 * (tile // columns) * line + 2 * (tile % columns) * C
        transform_patch(V, t * CP, TILES * CP, padded, at, line, C)
    for k in range(16):
        out, patches, filters = (M, k * TILES * FP, FP), (V, k * TILES * CP, CP, 1), (U, k * C * FP, FP)
        multiply(out, patches, filters, (count, C, FP), False)
    return held


@part
def transform_patch(V, to, step, padded, at, line, C):
    """V = B' d B of the patch that begins at padded[at]; its 16 numbers lie `step` apart."""
    for c in range(0, C, VECTOR_BYTES // V.itemsize):
        from_, goal = at + c, to + c
        subtract_columns(V, goal, step, padded, from_, from_ + 2 * C, line, V.dtype.type(-1))
        subtract_columns(V, goal + step, step, padded, from_ + C, from_ + 2 * C, line, V.dtype.type(1))
        subtract_columns(V, goal + 2 * step, step, padded, from_ + 2 * C, from_ + C, line, V.dtype.type(-1))
        subtract_columns(V, goal + 3 * step, step, padded, from_ + C, from_ + 3 * C, line, V.dtype.type(-1))


@part
def subtract_columns(V, to, step, padded, a, b, line, sign):
    """One column of V, from the columns of d that begin at a and b: B' (a + sign b)."""
    like, plus, minus = zeros(V, 1), V.dtype.type(1), V.dtype.type(-1)
    d0 = muladd(load(padded, a, like), sign, load(padded, b, like))
    d1 = muladd(load(padded, a + line, like), sign, load(padded, b + line, like))
    d2 = muladd(load(padded, a + 2 * line, like), sign, load(padded, b + 2 * line, like))
    d3 = muladd(load(padded, a + 3 * line, like), sign, load(padded, b + 3 * line, like))
    store(V, to, muladd(d0, minus, d2))
    store(V, to + 4 * step, muladd(d1, plus, d2))
    store(V, to + 8 * step, muladd(d2, minus, d1))
    store(V, to + 12 * step, muladd(d1, minus, d3))


@part
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


@part
def sum_column(M, k, step, like):
    """The column of A' M that begins at M[k]."""
    one, minus = M.dtype.type(1), M.dtype.type(-1)
    m0, m1, m2 = load(M, k, like), load(M, k + step, like), load(M, k + 2 * step, like)
    return muladd(muladd(m0, one, m1), one, m2), muladd(muladd(m1, minus, m2), minus, load(M, k + 3 * step, like))
