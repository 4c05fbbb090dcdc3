"""The backward pass of the convolutions where most of dout is 0, compiled. Textbook: textbook/conv2d.py.

Made fast by
- listing the entries of dout that are not 0: under max-pooling and ReLU at most one in four. One in filter f, whose
  pixel saw a window of x, adds a multiple of w[..., f] to that window of dx, and of the window of x to dw[..., f];
- reading the lists pixel by pixel for dx, and sorted by filters for dw: so the sums that grow, three rows of a window,
  stay in registers while a list is read (`sparse_axpy3`). Rows of windows are filled up to whole vectors: in w with
  zeros, in x with what follows them in memory, whose sums are not used;

NaN and infinity in dout stay visible, and may show in more of dx than the window: 0 * NaN is NaN.

Source: Z. Gong et al., "SparseTrain: Leveraging dynamic sparsity in software for training DNNs on general-purpose
SIMD processors", PACT 2020 (zeros skipped in all passes).
"""

from typing import Any, NamedTuple

import numpy as np

from siamese_np.kernels.conv.geometry import (
    add_biases,
    empty_padded,
    images_of,
    pad_image,
    unpad_image,
)
from siamese_np.kernels.simd.gemm import Matrix, transpose
from siamese_np.kernels.simd.scratch import clear, copy, round_up, zeros_aligned
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
from siamese_np.runtime.jit import inlined
from siamese_np.runtime.shards import sharded


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


@inlined(arrays=True)
def transpose_filters(w, like):
    """(F, KH, T), flat, of w (KH, KW, C, F): rows of windows, filled up with zeros to T >= KW * C numbers."""
    KH, KW, C, F = w.shape
    K, T, flat = KW * C, round_up(KW * C, like), w.reshape(-1)
    filters = zeros_aligned(F * KH * T, like)
    for p in range(KH):
        transpose(Matrix(filters, p * T, KH * T), Matrix(flat, p * K * F, F), K, F)
    return filters


@sharded
@inlined(arrays=True)
def backward_sparse(grads, dout, argmax, x, filters, geometry, shard):
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
