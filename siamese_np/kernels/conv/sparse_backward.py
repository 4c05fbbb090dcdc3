"""The backward pass of the convolutions, with or without ReLU and pooling: from the entries of dout that are not 0.

Under max-pooling and ReLU they are at most one in four. Each of them, in output pixel (i, j) and filter f, meets the
same patch of x that the forward pass saw there:

    dx[patch]       = sum over all entries that saw it of dout[n, i, j, f] w[:, :, :, f]
    dw[:, :, :, f] += sum over all entries of the filter of dout[n, i, j, f] x[patch]
    db[f]          += sum over all entries of the filter of dout[n, i, j, f]

So dx runs through the entries pixel by pixel, dw filter by filter. Each row of a patch is KW*C neighbouring numbers;
three such pieces of sums grow in registers while a list is run through (`add_three`). Those rows are too short where
x has few channels, as the pixels of the first layer: there the filters lie side by side, and output pixels that saw
only black are left out.

NaN and infinity in dout stay visible, and may show in more of dx than the patch: rows are filled up with zeros to
whole vectors, and 0 * NaN is NaN.

A batch is cut into shards of images, the same for any number of threads, and the shards' dw are added in order.

Source: Z. Gong et al., "SparseTrain: Leveraging dynamic sparsity in software for training DNNs on general-purpose
SIMD processors", PACT 2020 (zeros skipped in all passes).
"""

import numpy as np

from siamese_np.kernels.simd.scratch import (
    aligned,
    aligned_zeros,
    clear,
    copy,
    empty_edges,
    empty_padded,
    find_edges,
    is_black,
    pad_image,
    round_up,
    shard_size,
)
from siamese_np.kernels.simd.sparse import empty_list, list_entries
from siamese_np.kernels.simd.vectors import (
    PAIR,
    VECTOR_BYTES,
    load,
    load_scalar,
    muladd,
    no_unroll,
    store,
    store_scalar,
    zeros,
)
from siamese_np.runtime.inline import array_part, part
from siamese_np.runtime.team import sharded

PIECE = 1 << 11  # sums of all shards that one thread adds at a time
FEW = 8  # channels; with fewer, a row of a window is too short to run through a list for it


@array_part
def add_gradients(dx, dw, db, dout, argmax, x, w, stride, pad, window):
    """The backward pass, where dout (N, OH, OW, F) lies at entry `argmax` of windows of the output."""
    KH, KW, C, F = w.shape
    size = shard_size(len(x))
    shards = -(-len(x) // size)
    if not shards:
        return
    db_of = aligned_zeros(shards * F, db)
    if C < FEW and not len(dx):
        FP = round_up(F, db)
        dw_of = aligned(shards * KH * KW * C * FP, db)
        _see_pixels((dw_of, db_of, dout, argmax, x, w.shape, stride, pad, window, size), shards)
        add_shards(dw_of, shards)
        flat = dw.reshape(-1)
        for k in range(KH * KW * C):
            for f in range(F):
                flat[k * F + f] += dw_of[k * FP + f]
    else:
        T = round_up(KW * C, db)
        filters, dw_of = aligned(F * KH * T, db), aligned(shards * F * KH * T, db)
        transpose(filters, w.reshape(-1), F, KH, KW * C, T)
        _see_windows((dx, dw_of, db_of, dout, argmax, x, filters, w.shape, stride, pad, window, size), shards)
        add_shards(dw_of, shards)
        add_transposed(dw.reshape(-1), dw_of, F, KH, KW * C, T)
    for shard in range(shards):
        for f in range(F):
            db[f] += db_of[shard * F + f]


@array_part
def add_shards(sums, shards):
    """Add to the sums of the first shard those of all others, always in this order."""
    _add_piece((sums, sums.size // shards), -(-sums.size // shards // PIECE) if shards > 1 else 0)


@sharded
@part
def _add_piece(sums, size, s):
    for first in range(size, sums.size, size):
        for k in range(s * PIECE, min((s + 1) * PIECE, size)):
            store_scalar(sums, k, load_scalar(sums, k) + load_scalar(sums, first + k))


@sharded
@array_part
def _see_windows(dx, dw_of, db_of, dout, argmax, x, filters, kernel, stride, pad, window, size, shard):
    """dx of some images, and what their windows add to dw, (F, KH, KW*C in whole vectors), and to db."""
    _, OH, OW, F = dout.shape
    N, H, W, C = x.shape
    KH, KW, _, _ = kernel
    padded, dpadded = empty_padded(H, W, C, pad, dw_of), empty_padded(H, W, C, pad, dw_of)
    line, T = (W + 2 * pad[1]) * C, round_up(KW * C, dw_of)
    pixels = OH * OW * window[0] * window[1]
    start, place, won = np.empty(pixels + 1, np.int64), np.empty(pixels, np.int64), np.empty(OW * F, x.dtype)
    channel, gradient = empty_list(pixels * F, dw_of)
    room = OH * OW  # for the entries of a filter: one of each window
    count, seen, factor = np.empty(F, np.int64), np.empty(F * room, np.int64), np.empty(F * room, x.dtype)
    dw, db = shard * F * KH * T, db_of[shard * F : (shard + 1) * F]
    clear(dw_of, dw, F * KH * T)
    for n in range(shard * size, min((shard + 1) * size, N)):
        values, winners = dout[n].reshape(-1), argmax[n % len(argmax)].reshape(-1)
        live = has_gradient(values)
        if len(dx):
            clear(dpadded, 0, dpadded.size)
        if live:
            list_windows(start, place, channel, gradient, won, values, winners, OW, stride, window, line, C)
        if live and len(dx):
            for p in range(KH):  # outermost, so that one row of the kernel at a time is in the L1 cache
                for k in range(place.size):
                    goal = place[k] + p * line
                    if start[k] < start[k + 1]:
                        add_row(dpadded, goal, filters, p * T, T, channel, KH * T, gradient, start[k], start[k + 1])
        if len(dx):
            copy_middle(dx[n].reshape(-1), dpadded, H, W * C, pad[0] * line + pad[1] * C, line)
        if live:
            pad_image(padded, x[n], pad)
            add_biases(db, values, winners, winners.dtype.type(window[0] * window[1]))
            list_filters(count, seen, factor, room, start, place, channel, gradient)
            for f in range(F):
                first, stop = f * room, f * room + count[f]
                add_window(dw_of, dw + f * KH * T, T, padded, line, KH, seen, factor, first, stop)


@part
def add_row(sums, goal, rows, row, T, index, scale, value, first, stop):
    """`add_three` for T neighbouring numbers."""
    like, lanes = zeros(sums, PAIR), PAIR * VECTOR_BYTES // sums.itemsize
    for t in range(0, T, 3 * lanes):
        t1, t2 = min(t + lanes, T - lanes), min(t + 2 * lanes, T - lanes)  # the last again where none are left
        goal0, goal1, goal2, row0, row1, row2 = goal + t, goal + t1, goal + t2, row + t, row + t1, row + t2
        add_three(sums, goal0, goal1, goal2, rows, row0, row1, row2, index, scale, value, first, stop, like)


@part
def add_window(sums, goal, T, x, line, KH, index, value, first, stop):
    """`add_three` for the KH rows of a window of x, T numbers each."""
    like = zeros(sums, PAIR)
    for t in range(0, T, PAIR * VECTOR_BYTES // sums.itemsize):
        for p in range(0, KH, 3):
            p1, p2 = min(p + 1, KH - 1), min(p + 2, KH - 1)  # the last again where fewer than three are left
            goal0, goal1, goal2 = goal + p * T + t, goal + p1 * T + t, goal + p2 * T + t
            row0, row1, row2 = p * line + t, p1 * line + t, p2 * line + t
            add_three(sums, goal0, goal1, goal2, x, row0, row1, row2, index, 1, value, first, stop, like)


@part
def add_three(sums, goal0, goal1, goal2, rows, row0, row1, row2, index, scale, value, first, stop, like):
    """The one loop of all sparse passes: three pieces of sums += the rows of a list's entries, each times its value.

    Entry e has ``value[e]``, and its three rows begin ``index[e] * scale`` behind row0, row1 and row2.
    """
    sums0, sums1, sums2 = load(sums, goal0, like), load(sums, goal1, like), load(sums, goal2, like)
    for e in range(first, stop):
        no_unroll()
        factor, row = load_scalar(value, e), np.int64(load_scalar(index, e)) * scale
        sums0 = muladd(sums0, factor, load(rows, row + row0, like))
        sums1 = muladd(sums1, factor, load(rows, row + row1, like))
        sums2 = muladd(sums2, factor, load(rows, row + row2, like))
    store(sums, goal0, sums0)
    store(sums, goal1, sums1)
    store(sums, goal2, sums2)


@part
def list_windows(start, place, index, value, won, values, winners, OW, stride, window, line, C):
    """List a flat dout (OH, OW, F), window by window.

    The entries of pixel k are numbers start[k] to start[k + 1] - 1; the patch of the padded x that it saw begins at
    place[k].
    """
    F, k = won.size // OW, 0
    start[0] = 0
    for i in range(values.size // won.size):
        for t in range(window[0] * window[1]):
            copy_won(won, 0, values, winners, i * OW * F, OW * F, winners.dtype.type(t))
            row = (i * window[0] + t // window[1]) * stride[0] * line
            for j in range(OW):
                place[k] = row + (j * window[1] + t % window[1]) * stride[1] * C
                start[k + 1] = list_entries(index, value, start[k], won, j * F, F)
                k += 1


@part
def list_filters(count, seen, factor, room, start, place, index, value):
    """Sort the entries of `list_windows` by filters: the value of each, and where the patch that it saw begins."""
    for f in range(len(count)):
        count[f] = 0
    for k in range(place.size):
        for e in range(start[k], start[k + 1]):
            channel = np.int64(load_scalar(index, e))
            m = load_scalar(count, channel)
            store_scalar(seen, channel * room + m, place[k])
            store_scalar(factor, channel * room + m, load_scalar(value, e))
            store_scalar(count, channel, m + 1)


@part
def has_gradient(values):
    """Whether any entry of a flat dout is not 0."""
    for k in range(values.size):  # noqa: SIM110  (compiled code knows no generators)
        if values[k] != 0:
            return True
    return False


@part
def transpose(filters, w, F, KH, K, T):
    """filters (F, KH, T) = w (KH, K, F), both flat, with zeros behind the K numbers of each row."""
    for p in range(KH):
        for k in range(T):
            for f in range(F):
                store_scalar(
                    filters, (f * KH + p) * T + k, load_scalar(w, (p * K + k) * F + f) if k < K else w.dtype.type(0)
                )


@part
def add_transposed(dw, sums, F, KH, K, T):
    """dw (KH, K, F) += sums (F, KH, T), both flat."""
    for p in range(KH):
        for k in range(K):
            for f in range(F):
                to = (p * K + k) * F + f
                store_scalar(dw, to, load_scalar(dw, to) + load_scalar(sums, (f * KH + p) * T + k))


@part
def copy_middle(out, padded, H, line, first, step):
    """out (H, line), flat, from rows `step` apart, the first of which begins at padded[first]."""
    for r in range(H):
        copy(out, r * line, padded, first + r * step, line)


@sharded
@array_part
def _see_pixels(dw_of, db_of, dout, argmax, x, kernel, stride, pad, window, size, shard):
    """What some images add to dw (KH, KW, C, F in whole vectors) and db, where rows of windows are short of channels.

    The gradients of a few output pixels are written out, filter beside filter, and each meets the entries of x under
    its window; pixels whose window is all black are left out.
    """
    _, OH, OW, F = dout.shape
    N, H, W, C = x.shape
    KH, KW, _, _ = kernel
    FP, T, entries = round_up(F, dw_of), KW * C, window[0] * window[1]
    padded, edges = empty_padded(H, W, C, pad, dw_of), empty_edges(H, W, pad)
    line = (W + 2 * pad[1]) * C
    place, pixels = np.empty(entries * OW, np.int64), aligned_zeros(entries * OW * FP, dw_of)
    dw, db = shard * KH * T * FP, db_of[shard * F : (shard + 1) * F]
    clear(dw_of, dw, KH * T * FP)
    for n in range(shard * size, min((shard + 1) * size, N)):
        values, winners = dout[n].reshape(-1), argmax[n % len(argmax)].reshape(-1)
        add_biases(db, values, winners, winners.dtype.type(entries))
        pad_image(padded, x[n], pad)
        find_edges(edges, x[n], pad)
        for i in range(OH):
            m = 0
            for t in range(entries):
                r = (i * window[0] + t // window[1]) * stride[0]
                for j in range(OW):
                    s = (j * window[1] + t % window[1]) * stride[1]
                    if not is_black(edges, r, r + KH, s, s + KW):
                        place[m] = r * line + s * C
                        copy_won(pixels, m * FP, values, winners, (i * OW + j) * F, F, winners.dtype.type(t))
                        m += 1
            for p in range(KH):
                for f in range(0, FP, PAIR * VECTOR_BYTES // x.itemsize):
                    add_taps(dw_of, dw + p * T * FP + f, FP, T, padded, p * line, place, pixels, f, m)


@part
def add_biases(db, values, winners, entries):
    """db (F,) += values (pixels, F), flat, that some entry has won."""
    for first in range(0, values.size, db.size):
        for f in range(db.size):
            value = load_scalar(values, first + f)
            store_scalar(
                db, f, load_scalar(db, f) + (value if load_scalar(winners, first + f) < entries else db.dtype.type(0))
            )


@part
def copy_won(pixels, to, values, winners, at, F, t):
    """pixels[to : to + F] = values[at : at + F] where entry t has won, else 0."""
    zero = values.dtype.type(0)
    for f in range(F):
        value = load_scalar(values, at + f)
        store_scalar(pixels, to + f, value if load_scalar(winners, at + f) == t else zero)


@part
def add_taps(sums, at, FP, T, padded, first, place, pixels, f, count):
    """dw of one row of the kernel += `count` pixels' gradients times the entries they saw, three taps at a time."""
    like = zeros(sums, PAIR)
    for k in range(0, T, 3):
        # where fewer than three taps are left, the last is computed, and stored, more than once
        k1, k2 = min(k + 1, T - 1), min(k + 2, T - 1)
        goal0, goal1, goal2 = at + k * FP, at + k1 * FP, at + k2 * FP
        sums0, sums1, sums2 = load(sums, goal0, like), load(sums, goal1, like), load(sums, goal2, like)
        for m in range(count):
            x, gradient = load_scalar(place, m) + first, load(pixels, m * FP + f, like)
            sums0 = muladd(sums0, load_scalar(padded, x + k), gradient)
            sums1 = muladd(sums1, load_scalar(padded, x + k1), gradient)
            sums2 = muladd(sums2, load_scalar(padded, x + k2), gradient)
        store(sums, goal0, sums0)
        store(sums, goal1, sums1)
        store(sums, goal2, sums2)
