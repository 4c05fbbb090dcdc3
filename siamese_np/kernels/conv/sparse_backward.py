"""The backward pass of the convolutions, plain or with ReLU and pooling, compiled. Textbook: textbook/conv2d.py.

Made fast by
- listing the entries of dout that are not 0: under max-pooling and ReLU at most one in four. One in filter f, whose
  pixel saw a window of x, adds a multiple of w[..., f] to that window of dx, and of the window of x to dw[..., f];
- reading the lists pixel by pixel for dx, and sorted by filters for dw: so the sums that grow, three rows of a window,
  stay in registers while a list is read (`sparse_axpy3`). Rows of windows are filled up to whole vectors: in w with
  zeros, in x with what follows them in memory, whose sums are not used;
- where x has few channels, as the pixels of the first layer, rows of windows are too short for this. There the vectors
  run over the filters instead, and pixels that saw only black are left out.

A batch is cut into the same shards for any number of threads, whose dw are added in order: the same bits.
NaN and infinity in dout stay visible, and may show in more of dx than the window: 0 * NaN is NaN.

Source: Z. Gong et al., "SparseTrain: Leveraging dynamic sparsity in software for training DNNs on general-purpose
SIMD processors", PACT 2020 (zeros skipped in all passes).
"""

from typing import Any, NamedTuple

import numpy as np

from siamese_np.kernels.conv.geometry import (
    count_shards,
    empty_edges,
    empty_padded,
    find_edges,
    geometry_of,
    images_of,
    is_black,
    pad_image,
    unpad_image,
)
from siamese_np.kernels.simd.gemm import Matrix
from siamese_np.kernels.simd.scratch import ceil_div, clear, copy, empty_aligned, round_up, zeros_aligned
from siamese_np.kernels.simd.sparse import empty_nonzeros, gather_nonzeros
from siamese_np.kernels.simd.vectors import (
    PAIR,
    length,
    load,
    load_scalar,
    muladd,
    no_unroll,
    store,
    store_scalar,
    zeros,
)
from siamese_np.runtime.jit import inlined, kernel
from siamese_np.runtime.shards import sharded

BLOCK = 1 << 11  # sums of all shards that one thread adds at a time
FEW_CHANNELS = 8  # with fewer, a row of a window is too short to run through a list for it


class Lists(NamedTuple):
    """The non-zeros of an image's gradient, by pixels or by filters.

    List k has the entries first[k] to stop[k] - 1. Entry e is value[e]. Its index[e] is, by pixels, its filter, and by
    filters, where the window that its pixel saw begins in the padded image.
    """

    first: Any
    stop: Any
    index: Any
    value: Any


class Rows(NamedTuple):
    """Three rows in a flat array, by where they begin."""

    data: Any
    row0: int
    row1: int
    row2: int


@kernel(shared=True)
def conv2d_backward(dx, dw, db, dout, x, w, stride, pad):
    """dw (KH, KW, C, F) and db (F,) += their gradients; dx (N, H, W, C) = its own, unless it is empty."""
    _backward((dx, dw, db), dout, np.empty(0, np.uint8), x, w, geometry_of(x, w, stride, pad))


@kernel(shared=True)
def conv_relu_pool_backward(dx, dw, db, dout, argmax, x, w, stride, pad):
    """dw (KH, KW, C, F) and db (F,) += their gradients; dx (N, H, W, C) = its own, unless it is empty."""
    _backward((dx, dw, db), dout, argmax.reshape(-1), x, w, geometry_of(x, w, stride, pad))


@inlined(arrays=True)
def _backward(grads, dout, argmax, x, w, geometry):
    """Add to grads = dx, dw, db; argmax is flat, and empty without pooling."""
    dx, dw, db = grads
    KH, width, F = geometry.KH, geometry.width, db.size
    shards = count_shards(len(x))
    if not shards:
        return
    shards_db = zeros_aligned(shards * F, db)
    if x.shape[3] < FEW_CHANNELS and not len(dx):
        FP = round_up(F, db)
        shards_dw = empty_aligned(shards * KH * width * FP, db)
        _backward_few_channels((shards_dw, shards_db, dout, argmax, x, geometry), shards)
        add_shards(shards_dw, shards)
        add_strided(dw, shards_dw, (width * FP, FP, 1))
    else:
        filters = transpose_filters(w, db)
        shards_dw = empty_aligned(shards * filters.size, db)
        _backward_sparse(((dx, shards_dw, shards_db), dout, argmax, x, filters, geometry), shards)
        add_shards(shards_dw, shards)
        T = filters.size // (F * KH)
        add_strided(dw, shards_dw, (T, 1, KH * T))
    for shard in range(shards):
        for f in range(F):
            db[f] += shards_db[shard * F + f]


@inlined(arrays=True)
def add_shards(sums, shards):
    """Add to the sums of the first shard those of all others, always in this order."""
    size = sums.size // shards
    _add_block((sums, size), ceil_div(size, BLOCK) if shards > 1 else 0)


@sharded
@inlined
def _add_block(sums, size, s):
    for first in range(size, sums.size, size):
        for k in range(s * BLOCK, min((s + 1) * BLOCK, size)):
            store_scalar(sums, k, load_scalar(sums, k) + load_scalar(sums, first + k))


@inlined(arrays=True)
def transpose_filters(w, like):
    """(F, KH, T), flat, of w (KH, KW, C, F): rows of windows, filled up with zeros to T >= KW * C numbers."""
    KH, KW, C, F = w.shape
    K, T, flat = KW * C, round_up(KW * C, like), w.reshape(-1)
    filters = zeros_aligned(F * KH * T, like)
    for p in range(KH):
        for k in range(K):
            for f in range(F):
                store_scalar(filters, (f * KH + p) * T + k, load_scalar(flat, (p * K + k) * F + f))
    return filters


@inlined
def add_strided(dw, sums, steps):
    """dw (KH, KW, C, F) += sums, flat, whose rows, entries of a row and filters are `steps` apart."""
    KH, KW, C, F = dw.shape
    flat, K = dw.reshape(-1), KW * C
    for p in range(KH):
        for k in range(K):
            src = p * steps[0] + k * steps[1]
            for f in range(F):
                dst = (p * K + k) * F + f
                store_scalar(flat, dst, load_scalar(flat, dst) + load_scalar(sums, src + f * steps[2]))


@sharded
@inlined(arrays=True)
def _backward_sparse(grads, dout, argmax, x, filters, geometry, shard):
    """dx of the images of a shard, and what they add to dw, transposed as `filters` are, and to db."""
    dx, shards_dw, shards_db = grads
    _, OH, OW, F = dout.shape
    pixels = OH * OW * pool_of(argmax) ** 2
    start, windows, row = np.zeros(pixels + 1, np.int64), np.empty(pixels, np.int64), np.empty(OW * F, x.dtype)
    index, value = empty_nonzeros(pixels * F, row)
    by_pixel = Lists(start[:-1], start[1:], index, value)
    first = np.arange(F) * (OH * OW)  # a filter has no more entries
    by_filter = Lists(first, np.empty(F, np.int64), np.empty(F * OH * OW, np.int64), np.empty(F * OH * OW, x.dtype))
    padded, dpadded = empty_padded(x, 0, geometry, row), empty_padded(x, 0, geometry, row)
    db, dw = shards_db[shard * F : (shard + 1) * F], Matrix(shards_dw, shard * filters.size, filters.size // F)
    clear(dw.data, dw.start, filters.size)
    for n in images_of(shard, len(x)):
        nonzero = any_nonzero(dout, n)
        if nonzero:
            list_pixels(by_pixel, windows, row, dout, argmax, n, geometry)
        if len(dx):
            clear(dpadded, 0, dpadded.size)
            if nonzero:
                add_to_windows(dpadded, windows, by_pixel, filters, dw.step, geometry)
            unpad_image(dx[n], dpadded, geometry)
        if nonzero:
            pad_image(padded, x[n], geometry)
            add_biases(db, dout, argmax, n)
            sort_by_filter(by_filter, by_pixel, windows)
            add_to_filters(dw, by_filter, padded, geometry)


@inlined
def pool_of(argmax):
    """Rows, and columns, of the pixels that share an entry of dout: 2, or 1 without pooling."""
    return 2 if argmax.size else 1


@inlined
def any_nonzero(dout, n):
    """Whether the gradient of image n is not all 0."""
    flat, size = dout.reshape(-1), dout.size // len(dout)
    for k in range(n * size, (n + 1) * size):  # noqa: SIM110  (compiled code knows no generators)
        if load_scalar(flat, k) != 0:
            return True
    return False


@inlined
def list_pixels(by_pixel, windows, row, dout, argmax, n, geometry):
    """List the gradient of image n, and where the windows of its pixels begin; `row` is memory for a row of dout."""
    _, OH, OW, F = dout.shape
    flat, pool, k, e = dout.reshape(-1), pool_of(argmax), 0, 0
    for i in range(OH):
        for t in range(pool**2):
            copy_selected(row, 0, flat, argmax, (n * OH + i) * OW * F, OW * F, t)
            first = (i * pool + t // pool) * geometry.down * geometry.line
            for j in range(OW):
                e = gather_nonzeros(by_pixel.index, by_pixel.value, e, row, j * F, F)
                store_scalar(by_pixel.stop, k, e)
                store_scalar(windows, k, first + (j * pool + t % pool) * geometry.right)
                k += 1


@inlined
def copy_selected(out, dst, dout, argmax, src, count, t):
    """out[dst : dst + count] = dout[src : src + count] where pixel t of a pooled tile is selected, else 0."""
    if argmax.size == 0:
        copy(out, dst, dout, src, count)
        return
    zero, number = dout.dtype.type(0), argmax.dtype.type(t)
    for k in range(count):
        value = load_scalar(dout, src + k)
        store_scalar(out, dst + k, value if load_scalar(argmax, src + k) == number else zero)


@inlined
def add_biases(db, dout, argmax, n):
    """db (F,) += the gradient of image n, where a pixel is selected."""
    flat, size = dout.reshape(-1), dout.size // len(dout)
    none, zero = argmax.dtype.type(4), db.dtype.type(0)
    for first in range(n * size, (n + 1) * size, db.size):
        for f in range(db.size):
            value = load_scalar(flat, first + f)
            if argmax.size:
                value = value if load_scalar(argmax, first + f) < none else zero
            store_scalar(db, f, load_scalar(db, f) + value)


@inlined
def sort_by_filter(by_filter, by_pixel, windows):
    """Fill `by_filter` with the entries of `by_pixel`."""
    copy(by_filter.stop, 0, by_filter.first, 0, by_filter.stop.size)
    for k in range(windows.size):
        for e in range(load_scalar(by_pixel.first, k), load_scalar(by_pixel.stop, k)):
            f = np.int64(load_scalar(by_pixel.index, e))
            m = load_scalar(by_filter.stop, f)
            store_scalar(by_filter.index, m, load_scalar(windows, k))
            store_scalar(by_filter.value, m, load_scalar(by_pixel.value, e))
            store_scalar(by_filter.stop, f, m + 1)


@inlined
def add_to_windows(dpadded, windows, by_pixel, filters, step, geometry):
    """The window of each pixel += its entries times their filters, which are `step` numbers each."""
    like, T = zeros(filters, PAIR), step // geometry.KH
    pair = length(like)
    for p in range(geometry.KH):  # outermost, so that one row of the filters at a time is in the L1 cache
        for k in range(windows.size):
            if load_scalar(by_pixel.first, k) < load_scalar(by_pixel.stop, k):
                dst = load_scalar(windows, k) + p * geometry.line
                for t in range(0, T, 3 * pair):
                    t1, t2 = min(t + pair, T - pair), min(t + 2 * pair, T - pair)  # the last again where none are left
                    rows = Rows(filters, p * T + t, p * T + t1, p * T + t2)
                    sparse_axpy3(Rows(dpadded, dst + t, dst + t1, dst + t2), rows, by_pixel, k, step, like)


@inlined
def add_to_filters(dw, by_filter, padded, geometry):
    """dw, a `Matrix` (F, KH * T), += each filter's entries times the windows that they saw."""
    like, KH, line = zeros(padded, PAIR), geometry.KH, geometry.line
    T = dw.step // KH
    for f in range(by_filter.stop.size):
        dst = dw.start + f * dw.step
        for t in range(0, T, length(like)):
            for p in range(0, KH, 3):
                p1, p2 = min(p + 1, KH - 1), min(p + 2, KH - 1)  # the last again where none are left
                sums = Rows(dw.data, dst + p * T + t, dst + p1 * T + t, dst + p2 * T + t)
                rows = Rows(padded, p * line + t, p1 * line + t, p2 * line + t)
                sparse_axpy3(sums, rows, by_filter, f, 1, like)


@inlined
def sparse_axpy3(sums, rows, lists, k, step, like):
    """Three rows of sums += for each entry of list k its value times three rows, index * step behind `rows`."""
    row0, row1, row2 = rows.row0, rows.row1, rows.row2
    sums0, sums1 = load(sums.data, sums.row0, like), load(sums.data, sums.row1, like)
    sums2 = load(sums.data, sums.row2, like)
    for e in range(load_scalar(lists.first, k), load_scalar(lists.stop, k)):
        no_unroll()
        value, src = load_scalar(lists.value, e), np.int64(load_scalar(lists.index, e)) * step
        sums0 = muladd(sums0, value, load(rows.data, src + row0, like))
        sums1 = muladd(sums1, value, load(rows.data, src + row1, like))
        sums2 = muladd(sums2, value, load(rows.data, src + row2, like))
    store(sums.data, sums.row0, sums0)
    store(sums.data, sums.row1, sums1)
    store(sums.data, sums.row2, sums2)


@sharded
@inlined(arrays=True)
def _backward_few_channels(shards_dw, shards_db, dout, argmax, x, geometry, shard):
    """What the images of a shard add to dw (KH, KW, C, F in whole vectors) and db.

    The gradients of a row of pixels are written out, and each meets the entries of x under its window.
    """
    _, OH, OW, F = dout.shape
    flat, pool, KH, width = dout.reshape(-1), pool_of(argmax), geometry.KH, geometry.width
    FP = round_up(F, flat)
    windows, pixels = np.empty(pool**2 * OW, np.int64), zeros_aligned(pool**2 * OW * FP, flat)
    padded, edges = empty_padded(x, 0, geometry, flat), empty_edges(x, geometry)
    db, dst = shards_db[shard * F : (shard + 1) * F], shard * KH * width * FP
    clear(shards_dw, dst, KH * width * FP)
    for n in images_of(shard, len(x)):
        add_biases(db, dout, argmax, n)
        pad_image(padded, x[n], geometry)
        find_edges(edges, x[n], geometry)
        for i in range(OH):
            count = 0
            for t in range(pool**2):
                r = (i * pool + t // pool) * geometry.down
                for j in range(OW):
                    column = (j * pool + t % pool) * geometry.right
                    if not is_black(edges, r, r + KH, column, column + width):
                        windows[count] = r * geometry.line + column
                        copy_selected(pixels, count * FP, flat, argmax, ((n * OH + i) * OW + j) * F, F, t)
                        count += 1
            for p in range(KH):
                for f in range(0, FP, length(zeros(flat, PAIR))):
                    sums = Matrix(shards_dw, dst + p * width * FP + f, FP)
                    add_products(sums, width, padded, p * geometry.line, windows[:count], Matrix(pixels, f, FP))


@inlined
def add_products(sums, width, padded, first, windows, gradients):
    """sums (width, F) += the entries of each window, from `first` behind its start on, times its gradients.

    Three entries are taken at a time, and as many filters as two registers hold.
    """
    like = zeros(padded, PAIR)
    for k in range(0, width, 3):
        k1, k2 = min(k + 1, width - 1), min(k + 2, width - 1)  # the last again where fewer than three are left
        dst0, dst1, dst2 = sums.start + k * sums.step, sums.start + k1 * sums.step, sums.start + k2 * sums.step
        sums0, sums1, sums2 = load(sums.data, dst0, like), load(sums.data, dst1, like), load(sums.data, dst2, like)
        for m in range(windows.size):
            x = load_scalar(windows, m) + first
            gradient = load(gradients.data, gradients.start + m * gradients.step, like)
            sums0 = muladd(sums0, load_scalar(padded, x + k), gradient)
            sums1 = muladd(sums1, load_scalar(padded, x + k1), gradient)
            sums2 = muladd(sums2, load_scalar(padded, x + k2), gradient)
        store(sums.data, dst0, sums0)
        store(sums.data, dst1, sums1)
        store(sums.data, dst2, sums2)
