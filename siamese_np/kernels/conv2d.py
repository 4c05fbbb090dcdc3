"""2-D convolution (cross-correlation) of NHWC images.

    out[n, i, j, f] = b[f] + sum over p, q, c of x[n, i*sh + p - ph, j*sw + q - pw, c] w[p, q, c, f]

with stride (sh, sw), padding (ph, pw) and x = 0 outside the image. Every entry of x under the window meets one
row of w, its F filters: out[n, i, j] is a sum of rows of w, each scaled by an entry of x. The sums stay in
registers (`lanes`) from the first product to the last. There are two ways to run through the entries:

- dense: four output pixels at a time, so that each row of w is loaded once for four multiply-adds; black margins
  of an image are left out;
- listed: the entries that are not 0 are listed first, and only they are visited. After ReLU three entries in
  four are 0. One pixel of x at a time adds to the output pixels of one row that see it, KW of them.

Both add in the same order, p, q, c, and a product with 0 changes no sum: they give the same bits, so each image
takes the faster way.

The backward pass begins with the entries of dout that are not 0: under max-pooling and ReLU at most one in four.
Each of them, in output pixel (i, j) and filter f, meets the same patch of x that the forward pass saw there:

    dx[patch]       = sum over all entries that saw it of dout[n, i, j, f] w[:, :, :, f]
    dw[:, :, :, f] += sum over all entries of the filter of dout[n, i, j, f] x[patch]
    db[f]          += sum over all entries of the filter of dout[n, i, j, f]

So dx runs through the entries pixel by pixel, dw filter by filter. Each row of a patch is KW*C neighbouring numbers;
three such pieces of sums, in all listed passes, grow in registers while a list is run through (`add_three`). Those
rows are too short where x has few channels, as the pixels of the first layer: there the filters lie side by side,
and output pixels that saw only black are left out.

A batch is cut into shards of images, the same for any number of threads, and the shards' dw are added in order.

Sources: E. Georganas et al., "Anatomy of high-performance deep learning convolutions on SIMD architectures",
2018 (sums of several pixels in registers); Z. Gong et al., "SparseTrain", 2020 (zeros skipped in all passes).
"""

import numpy as np

from siamese_np._jit import kernel
from siamese_np._team import sharded
from siamese_np.kernels.lanes import (
    HALF,
    VECTOR_BYTES,
    WIDE,
    item,
    load,
    muladd,
    nonzero,
    numbers,
    pack,
    popcount,
    put,
    store,
    zeros,
)

FEW = 8  # channels; with fewer, the loops over the entries of a pixel, or of a row of a window, are too short
IMAGES, SHARDS = 4, 16  # least images that a thread takes at a time, and most shards of a batch
PIXELS = 32  # about as many output pixels are summed before they are written out: their sums stay in the L1 cache


@kernel
def conv2d_forward(out, x, w, b, stride, pad):
    """out (N, OH, OW, F) = convolution of x (N, H, W, C) with w (KH, KW, C, F), plus b (F,)."""
    FP, size = whole(b.size, x), shard_size(len(x))
    rows, swapped, biases = in_vectors(w.reshape(-1), b.size, FP), swap(w, FP), in_vectors(b, b.size, FP)
    _convolve((out, x, rows, swapped, biases, w.shape, stride, pad, size), -(-len(x) // size))


@sharded
@kernel
def _convolve(out, x, weights, swapped, biases, kernel, stride, pad, size, shard):
    _, OH, OW, _ = out.shape
    N, H, W, C = x.shape
    FP = biases.size
    target = pixel_rows(min(OH, 1 + PIXELS // OW), OW, (1, 1), W, kernel, pad, FP)
    rows = aligned(len(target) * OW * FP + FP, x)
    start, index, value = empty_list(H * W, C, x)
    padded, edges = empty_padded(H, W, C, pad, x)
    source, goal = np.empty(target.size + 3, np.int64), np.empty(target.size + 3, np.int64)
    for n in range(shard * size, min((shard + 1) * size, N)):
        listed = list_pays(x[n], kernel, stride)
        if listed:
            list_image(start, index, value, x[n])
        else:
            pad_image(padded, edges, x[n], pad)
        for i in range(0, OH, len(target)):
            here = target[: OH - i]
            fill(rows, here, biases)
            if listed:
                add_list(rows, here, i, start, index, value, swapped, x.shape, kernel, FP, stride, pad)
            else:
                add_windows(rows, here, OW, i, source, goal, padded, edges, weights, kernel, FP, stride)
            copy_pixels(out[n], i, rows, here, kernel[1] - 1)


@kernel
def conv2d_backward(dx, dw, db, dout, x, w, stride, pad):
    """dw (KH, KW, C, F) and db (F,) += their gradients; dx (N, H, W, C) = its own, unless it is empty."""
    winner = np.zeros((1, dout.shape[1], dout.shape[2], dout.shape[3]), np.uint8)
    add_gradients(dx, dw, db, dout, winner, x, w, stride, pad, (1, 1))


# --- sums of scaled rows of w -----------------------------------------------------------------------------------


@kernel
def fill(rows, target, biases):
    """The sums of every pixel begin with the biases."""
    half = zeros(rows, HALF)
    for f in range(0, biases.size, HALF * VECTOR_BYTES // rows.itemsize):
        bias = load(biases, f, half)
        for i in range(target.shape[0]):
            for j in range(target.shape[1]):
                store(rows, target[i, j] + f, bias)


@kernel
def add_list(rows, target, first, start, index, value, w, image, kernel, FP, stride, pad):
    """Add the listed entries, times their rows of w, to all filters of the pixels of `target`.

    These are the output rows `first`, `first` + 1, ...; the sums of pixel (i, j) begin at
    ``rows[target[i, j + KW - 1]]``. All pixels outside the image share the sums of a spare one.
    """
    f, vector = 0, VECTOR_BYTES // rows.itemsize
    while f + WIDE * vector <= FP:
        add_listed(rows, target, first, start, index, value, w, image, kernel, FP, stride, pad, f, zeros(rows, WIDE))
        f += WIDE * vector
    while f < FP:
        add_listed(rows, target, first, start, index, value, w, image, kernel, FP, stride, pad, f, zeros(rows, HALF))
        f += HALF * vector


@kernel
def add_listed(rows, target, first, start, index, value, w, image, kernel, FP, stride, pad, f, like):
    """`add_list` for filters f, f + 1, ...: one pixel of x, and all output pixels of a row that see it, at a time."""
    _, H, W, C = image
    KH, KW, _, _ = kernel
    for p in range(KH):  # outermost, so that one row of the kernel at a time is in the L1 cache
        for i in range(target.shape[0]):
            r = (first + i) * stride[0] + p - pad[0]
            if r < 0 or r >= H:
                continue
            for s in range(W):
                e, stop = start[r * W + s], start[r * W + s + 1]
                for q in range(0, KW, 3):
                    q1, q2 = min(q + 1, KW - 1), min(q + 2, KW - 1)  # the last again where fewer than three are left
                    j, row = s + pad[1], p * C * KW * FP + f
                    goal0, goal1, goal2 = target[i, j + q] + f, target[i, j + q1] + f, target[i, j + q2] + f
                    row0, row1, row2 = row + q * FP, row + q1 * FP, row + q2 * FP
                    add_three(rows, goal0, goal1, goal2, w, row0, row1, row2, index, KW * FP, value, e, stop, like)


@kernel
def add_three(sums, goal0, goal1, goal2, rows, row0, row1, row2, index, scale, value, first, stop, like):
    """The one loop of all sparse passes: three pieces of sums += the rows of a list's entries, each times its value.

    Entry e has ``value[e]``, and its three rows begin ``index[e] * scale`` behind row0, row1 and row2.
    """
    sums0, sums1, sums2 = load(sums, goal0, like), load(sums, goal1, like), load(sums, goal2, like)
    for e in range(first, stop):
        factor, row = item(value, e), np.int64(item(index, e)) * scale
        sums0 = muladd(sums0, factor, load(rows, row + row0, like))
        sums1 = muladd(sums1, factor, load(rows, row + row1, like))
        sums2 = muladd(sums2, factor, load(rows, row + row2, like))
    store(sums, goal0, sums0)
    store(sums, goal1, sums1)
    store(sums, goal2, sums2)


@kernel
def add_windows(rows, target, OW, first, source, goal, padded, edges, w, shape, FP, stride):
    """Add every entry under the windows of `target`, times its row of w, but leave out windows that are all black."""
    KH, KW, C, _ = shape
    line = padded.size // len(edges)
    m = 0
    for i in range(target.shape[0]):
        r = (first + i) * stride[0]
        left, right = edges[r, 0], edges[r, 1]
        for p in range(1, KH):
            left, right = min(left, edges[r + p, 0]), max(right, edges[r + p, 1])
        for j in range(OW):
            s = j * stride[1]
            if s < right and s + KW > left:
                source[m], goal[m] = r * line + s * C, target[i, j + KW - 1]
                m += 1
    while m % 4:  # fill up with the last pixel: it is computed again, and stored again
        source[m], goal[m] = source[m - 1], goal[m - 1]
        m += 1
    vector = VECTOR_BYTES // rows.itemsize
    for k in range(0, m, 4):
        f = 0
        while f + WIDE * vector <= FP:
            add_dense(rows, goal, source, k, padded, line, w, KH, KW * C, FP, f, zeros(rows, WIDE))
            f += WIDE * vector
        while f < FP:
            add_dense(rows, goal, source, k, padded, line, w, KH, KW * C, FP, f, zeros(rows, HALF))
            f += HALF * vector


@kernel
def add_dense(rows, goal, source, m, padded, line, w, KH, T, FP, f, like):
    """Filters f, f + 1, ... of the pixels m to m + 3, whose windows are KH pieces of T entries from `source` on."""
    row = f
    x0, x1, x2, x3 = source[m], source[m + 1], source[m + 2], source[m + 3]
    goal0, goal1, goal2, goal3 = goal[m] + f, goal[m + 1] + f, goal[m + 2] + f, goal[m + 3] + f
    sums0, sums1 = load(rows, goal0, like), load(rows, goal1, like)
    sums2, sums3 = load(rows, goal2, like), load(rows, goal3, like)
    for p in range(KH):
        for k in range(p * line, p * line + T):
            filters = load(w, row, like)
            sums0 = muladd(sums0, item(padded, x0 + k), filters)
            sums1 = muladd(sums1, item(padded, x1 + k), filters)
            sums2 = muladd(sums2, item(padded, x2 + k), filters)
            sums3 = muladd(sums3, item(padded, x3 + k), filters)
            row += FP
    store(rows, goal0, sums0)
    store(rows, goal1, sums1)
    store(rows, goal2, sums2)
    store(rows, goal3, sums3)


# --- the backward pass ------------------------------------------------------------------------------------------


@kernel
def add_gradients(dx, dw, db, dout, argmax, x, w, stride, pad, window):
    """The backward pass, where dout (N, OH, OW, F) lies at entry `argmax` of windows of the output."""
    KH, KW, C, F = w.shape
    size = shard_size(len(x))
    shards = -(-len(x) // size)
    if not shards:
        return
    db_of = np.zeros((shards, F), x.dtype)
    if C < FEW and not len(dx):
        FP = whole(F, x)
        dw_of = aligned(shards * KH * KW * C * FP, x)
        _see_pixels((dw_of, db_of, dout, argmax, x, w.shape, stride, pad, window, size), shards)
        add_shards(dw_of, shards)
        flat = dw.reshape(-1)
        for k in range(KH * KW * C):
            for f in range(F):
                flat[k * F + f] += dw_of[k * FP + f]
    else:
        T = whole(KW * C, x)
        filters, dw_of = aligned(F * KH * T, x), aligned(shards * F * KH * T, x)
        transpose(filters, w.reshape(-1), F, KH, KW * C, T)
        _see_windows((dx, dw_of, db_of, dout, argmax, x, filters, w.shape, stride, pad, window, size), shards)
        add_shards(dw_of, shards)
        add_transposed(dw.reshape(-1), dw_of, F, KH, KW * C, T)
    for shard in range(shards):
        for f in range(F):
            db[f] += db_of[shard, f]


@kernel
def add_shards(sums, shards):
    """Add to the sums of the first shard those of all others, always in this order."""
    for shard in range(1, shards):
        size = sums.size // shards
        for k in range(size):
            put(sums, k, item(sums, k) + item(sums, shard * size + k))


@sharded
@kernel
def _see_windows(dx, dw_of, db_of, dout, argmax, x, filters, kernel, stride, pad, window, size, shard):
    """dx of some images, and what their windows add to dw, (F, KH, KW*C in whole vectors), and to db."""
    _, OH, OW, F = dout.shape
    N, H, W, C = x.shape
    KH, KW, _, _ = kernel
    padded, edges = empty_padded(H, W, C, pad, x)
    dpadded, _ = empty_padded(H, W, C, pad, x)
    line, T = padded.size // len(edges), whole(KW * C, x)
    start, channel, gradient = empty_list(OH * OW * window[0] * window[1], F, x)
    place, won = np.empty(start.size - 1, np.int64), np.empty(OW * F, x.dtype)
    room = OH * OW  # for the entries of a filter: one of each window
    count, seen, factor = np.empty(F, np.int64), np.empty(F * room, np.int64), np.empty(F * room, x.dtype)
    dw, db = shard * F * KH * T, db_of[shard]
    for k in range(F * KH * T):
        put(dw_of, dw + k, x.dtype.type(0))
    for n in range(shard * size, min((shard + 1) * size, N)):
        values, winners = dout[n].reshape(-1), argmax[n % len(argmax)].reshape(-1)
        live = has_gradient(values)
        if len(dx):
            for k in range(dpadded.size):
                dpadded[k] = 0
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
            pad_image(padded, edges, x[n], pad)
            list_filters(count, seen, factor, room, start, place, channel, gradient)
            for f in range(F):
                first, stop = f * room, f * room + count[f]
                for m in range(first, stop):
                    db[f] += item(factor, m)
                add_window(dw_of, dw + f * KH * T, T, padded, line, KH, seen, factor, first, stop)


@kernel
def add_row(sums, goal, rows, row, T, index, scale, value, first, stop):
    """`add_three` for T neighbouring numbers."""
    like, lanes = zeros(sums, HALF), HALF * VECTOR_BYTES // sums.itemsize
    for t in range(0, T, 3 * lanes):
        t1, t2 = min(t + lanes, T - lanes), min(t + 2 * lanes, T - lanes)  # the last again where none are left
        goal0, goal1, goal2, row0, row1, row2 = goal + t, goal + t1, goal + t2, row + t, row + t1, row + t2
        add_three(sums, goal0, goal1, goal2, rows, row0, row1, row2, index, scale, value, first, stop, like)


@kernel
def add_window(sums, goal, T, x, line, KH, index, value, first, stop):
    """`add_three` for the KH rows of a window of x, T numbers each."""
    like = zeros(sums, HALF)
    for t in range(0, T, HALF * VECTOR_BYTES // sums.itemsize):
        for p in range(0, KH, 3):
            p1, p2 = min(p + 1, KH - 1), min(p + 2, KH - 1)  # the last again where fewer than three are left
            goal0, goal1, goal2 = goal + p * T + t, goal + p1 * T + t, goal + p2 * T + t
            row0, row1, row2 = p * line + t, p1 * line + t, p2 * line + t
            add_three(sums, goal0, goal1, goal2, x, row0, row1, row2, index, 1, value, first, stop, like)


@kernel
def list_windows(start, place, index, value, won, values, winners, OW, stride, window, line, C):
    """List a flat dout (OH, OW, F), window by window; the patches of the padded x that they saw begin at `place`."""
    F, k = won.size // OW, 0
    for i in range(values.size // won.size):
        for t in range(window[0] * window[1]):
            copy_won(won, 0, values, winners, i * OW * F, OW * F, winners.dtype.type(t))
            row = (i * window[0] + t // window[1]) * stride[0] * line
            for j in range(OW):
                place[k] = row + (j * window[1] + t % window[1]) * stride[1] * C
                start[k + 1] = list_pixel(index, value, start[k], won, j * F, F)
                k += 1


@kernel
def has_gradient(values):
    """Whether any entry of a flat dout is not 0."""
    for k in range(values.size):  # noqa: SIM110  (compiled code knows no generators)
        if values[k] != 0:
            return True
    return False


@sharded
@kernel
def _see_pixels(dw_of, db_of, dout, argmax, x, kernel, stride, pad, window, size, shard):
    """What some images add to dw (KH, KW, C, F in whole vectors) and db, where rows of windows are short of channels.

    The gradients of a few output pixels are written out, filter beside filter, and each meets the entries of x under
    its window; pixels whose window is all black are left out.
    """
    _, OH, OW, F = dout.shape
    N, H, W, C = x.shape
    KH, KW, _, _ = kernel
    FP, T, entries = whole(F, x), KW * C, window[0] * window[1]
    padded, edges = empty_padded(H, W, C, pad, x)
    line = padded.size // len(edges)
    place, pixels = np.empty(entries * OW, np.int64), aligned(entries * OW * FP, x)
    for k in range(pixels.size):
        pixels[k] = 0
    dw, db = shard * KH * T * FP, db_of[shard]
    for k in range(KH * T * FP):
        put(dw_of, dw + k, x.dtype.type(0))
    for n in range(shard * size, min((shard + 1) * size, N)):
        values, winners = dout[n].reshape(-1), argmax[n % len(argmax)].reshape(-1)
        add_biases(db, values, winners, entries)
        pad_image(padded, edges, x[n], pad)
        for i in range(OH):
            m = 0
            for t in range(entries):
                r = (i * window[0] + t // window[1]) * stride[0]
                left, right = edges[r, 0], edges[r, 1]
                for p in range(1, KH):
                    left, right = min(left, edges[r + p, 0]), max(right, edges[r + p, 1])
                for j in range(OW):
                    s = (j * window[1] + t % window[1]) * stride[1]
                    if s < right and s + KW > left:
                        place[m] = r * line + s * C
                        copy_won(pixels, m * FP, values, winners, (i * OW + j) * F, F, winners.dtype.type(t))
                        m += 1
            for p in range(KH):
                for f in range(0, FP, HALF * VECTOR_BYTES // x.itemsize):
                    add_taps(dw_of, dw + p * T * FP + f, FP, T, padded, p * line, place, pixels, f, m)


@kernel
def add_biases(db, values, winners, entries):
    """db (F,) += values (pixels, F), flat, that some entry has won."""
    for first in range(0, values.size, db.size):
        for f in range(db.size):
            value = item(values, first + f)
            put(db, f, item(db, f) + (value if item(winners, first + f) < entries else db.dtype.type(0)))


@kernel
def copy_won(pixels, to, values, winners, at, F, t):
    """pixels[to : to + F] = values[at : at + F] where entry t has won, else 0."""
    zero = values.dtype.type(0)
    for f in range(F):
        value = item(values, at + f)
        put(pixels, to + f, value if item(winners, at + f) == t else zero)


@kernel
def add_taps(sums, at, FP, T, padded, first, place, pixels, f, count):
    """dw of one row of the kernel += `count` pixels' gradients times the entries they saw, three taps at a time."""
    like = zeros(sums, HALF)
    for k in range(0, T, 3):
        # where fewer than three taps are left, the last is computed, and stored, more than once
        k1, k2 = min(k + 1, T - 1), min(k + 2, T - 1)
        goal0, goal1, goal2 = at + k * FP, at + k1 * FP, at + k2 * FP
        sums0, sums1, sums2 = load(sums, goal0, like), load(sums, goal1, like), load(sums, goal2, like)
        for m in range(count):
            x, gradient = item(place, m) + first, load(pixels, m * FP + f, like)
            sums0 = muladd(sums0, item(padded, x + k), gradient)
            sums1 = muladd(sums1, item(padded, x + k1), gradient)
            sums2 = muladd(sums2, item(padded, x + k2), gradient)
        store(sums, goal0, sums0)
        store(sums, goal1, sums1)
        store(sums, goal2, sums2)


@kernel
def swap(w, FP):
    """w (KH, KW, C, F), flat, as (p, c, KW-1-q, f): what an entry meets lies side by side, as its pixels do."""
    KH, KW, C, F = w.shape
    swapped = aligned(KH * KW * C * FP, w)
    for p in range(KH):
        for q in range(KW):
            for c in range(C):
                row = ((p * C + c) * KW + KW - 1 - q) * FP
                for f in range(F):
                    put(swapped, row + f, w[p, q, c, f])
                for f in range(F, FP):
                    put(swapped, row + f, w.dtype.type(0))
    return swapped


@kernel
def transpose(filters, w, F, KH, K, T):
    """filters (F, KH, T) = w (KH, K, F), both flat, with zeros behind the K numbers of each row."""
    for p in range(KH):
        for k in range(T):
            for f in range(F):
                put(filters, (f * KH + p) * T + k, item(w, (p * K + k) * F + f) if k < K else w.dtype.type(0))


@kernel
def add_transposed(dw, sums, F, KH, K, T):
    """dw (KH, K, F) += sums (F, KH, T), both flat."""
    for p in range(KH):
        for k in range(K):
            for f in range(F):
                to = (p * K + k) * F + f
                put(dw, to, item(dw, to) + item(sums, (f * KH + p) * T + k))


@kernel
def copy_middle(out, padded, H, line, first, step):
    """out (H, line), flat, from rows `step` apart, the first of which begins at padded[first]."""
    for r in range(H):
        for k in range(line):
            put(out, r * line + k, item(padded, first + r * step + k))


@kernel
def list_filters(count, seen, factor, room, start, place, index, value):
    """Sort the entries of `list_windows` by filters: the value of each, and where the patch that it saw begins."""
    for f in range(len(count)):
        count[f] = 0
    for k in range(place.size):
        for e in range(start[k], start[k + 1]):
            channel = np.int64(item(index, e))
            m = item(count, channel)
            put(seen, channel * room + m, place[k])
            put(factor, channel * room + m, item(value, e))
            put(count, channel, m + 1)


# --- lists, and images with margins -----------------------------------------------------------------------------


@kernel
def list_pays(x, kernel, stride):
    """Whether the listed way is the faster one for x (H, W, C): at most half of it is not 0, and C is not small."""
    flat, count = x.reshape(-1), 0
    for k in range(flat.size):
        count += flat[k] != 0
    return kernel[1] > 1 and stride[1] == 1 and x.shape[2] >= FEW and 2 * count <= flat.size


@kernel
def empty_list(pixels, C, like):
    """Room for the entries of an image that are not 0: those of pixel s are entries start[s] to start[s + 1] - 1.

    Entry e is ``value[e]``, in channel ``index[e]``.
    """
    size = pixels * C + VECTOR_BYTES  # lists are written in whole vectors
    return np.zeros(pixels + 1, np.int64), np.empty(size, np.int32), np.empty(size, like.dtype)


@kernel
def list_image(start, index, value, x):
    """List x (H, W, C)."""
    flat, C = x.reshape(-1), x.shape[2]
    for s in range(start.size - 1):
        start[s + 1] = list_pixel(index, value, start[s], flat, s * C, C)


@kernel
def list_pixel(index, value, e, flat, at, C):
    """Append those of flat[at], ..., flat[at + C - 1] that are not 0, after e entries; return how many there are."""
    c, one, vector = 0, zeros(flat, 1), VECTOR_BYTES // flat.itemsize
    while c + vector <= C:
        bits = nonzero(flat, at + c, one)
        pack(value, e, load(flat, at + c, one), bits)
        pack(index, e, numbers(index, c, one), bits)
        e += popcount(bits)
        c += vector
    while c < C:  # written in any case, and kept by counting it: no branch that could be predicted wrong
        put(index, e, c)
        put(value, e, item(flat, at + c))
        e += item(flat, at + c) != 0
        c += 1
    return e


@kernel
def empty_padded(H, W, C, pad, like):
    """Room for an image (H, W, C) between black margins, and for the edges of each row: it is black outside them."""
    PH, PW = H + 2 * pad[0], W + 2 * pad[1]
    padded, edges = aligned(PH * PW * C, like), np.empty((PH, 2), np.int64)
    for k in range(padded.size):
        padded[k] = 0
    for r in range(PH):
        edges[r, 0], edges[r, 1] = PW, 0
    return padded, edges


@kernel
def pad_image(padded, edges, x, pad):
    """Copy x (H, W, C) between the margins, and find the edges of its rows."""
    H, W, C = x.shape
    flat = x.reshape(-1)
    for r in range(H):
        line, copy = flat[r * W * C : (r + 1) * W * C], padded[((pad[0] + r) * (W + 2 * pad[1]) + pad[1]) * C :]
        for k in range(W * C):
            copy[k] = line[k]
        left, right = 0, W * C
        while left < right and line[left] == 0:
            left += 1
        while left < right and line[right - 1] == 0:
            right -= 1
        edges[pad[0] + r, 0] = pad[1] + left // C
        edges[pad[0] + r, 1] = pad[1] + (right + C - 1) // C if left < right else 0


# --- shards and memory ------------------------------------------------------------------------------------------


@kernel
def shard_size(N):
    """Images in a shard of a batch of N: it depends on nothing else, so neither does the order of any sum."""
    return max(IMAGES, -(-N // SHARDS))


@kernel
def aligned(size, like):
    """A new array of `size` numbers at a multiple of a vector's bytes; HALF vectors more may be read behind its end."""
    vector = VECTOR_BYTES // like.itemsize
    room = np.empty(size + (HALF + 1) * vector, like.dtype)
    for k in range(size, room.size):
        room[k] = 0
    first = (VECTOR_BYTES - room.ctypes.data % VECTOR_BYTES) % VECTOR_BYTES // like.itemsize
    return room[first : first + size]


@kernel
def whole(count, like):
    """`count`, rounded up to a multiple of the numbers in HALF vectors."""
    lanes = HALF * VECTOR_BYTES // like.itemsize
    return (count + lanes - 1) // lanes * lanes


@kernel
def in_vectors(flat, F, FP):
    """Copy of rows of F numbers, each filled up with zeros to FP."""
    K = flat.size // F
    out = aligned(K * FP, flat)
    for k in range(K):
        for f in range(F):
            put(out, k * FP + f, item(flat, k * F + f))
        for f in range(F, FP):
            out[k * FP + f] = 0
    return out


@kernel
def pixel_rows(count, OW, window, W, kernel, pad, size):
    """The `target` of `add_list`: where the sums of `count` rows of windows begin, `size` numbers a pixel.

    All first entries of the windows of a row lie side by side, then all second ones, ...; a spare pixel is the last.
    """
    KW, columns = kernel[1], OW * window[1]
    spare = count * window[0] * columns * size
    target = np.full((count * window[0], max(columns, W + pad[1] + 1) + KW - 1), spare)
    for i in range(count * window[0]):
        for j in range(columns):
            plane = (i * window[1] + j % window[1]) * OW + j // window[1]
            target[i, j + KW - 1] = plane * size
    return target


@kernel
def copy_pixels(out, first, rows, target, margin):
    """Rows `first`, `first` + 1, ... of out (OH, OW, F) = the sums."""
    flat = out.reshape(-1)
    _, OW, F = out.shape
    for i in range(target.shape[0]):
        for j in range(OW):
            to, at = ((first + i) * OW + j) * F, target[i, j + margin]
            for f in range(F):
                put(flat, to + f, item(rows, at + f))
