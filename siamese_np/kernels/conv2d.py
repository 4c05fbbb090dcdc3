"""2-D convolution (cross-correlation) of NHWC images.

    out[n, i, j, f] = b[f] + sum over p, q, c of x[n, i*sh + p - ph, j*sw + q - pw, c] w[p, q, c, f]

with stride (sh, sw), padding (ph, pw) and x = 0 outside the image. Every entry of x under the window meets one
row of w, its F filters: out[n, i, j] is a sum of rows of w, each scaled by an entry of x. The sums stay in
registers (`lanes`) from the first product to the last. There are two ways to run through the entries:

- dense: four output pixels at a time, so that each row of w is loaded once for four multiply-adds;
- listed: the entries that are not 0 are listed first, and only they are visited. After ReLU three entries in
  four are 0. Two neighbouring output pixels share a pass over the list, and the products that both need.

Both add in the same order, p, q, c, and a product with 0 changes no sum: they give the same bits, so each image
takes the faster way. Black margins of an image are left out of the dense way too.

A convolution's gradients are convolutions. With dout put back on the grid of x, stride entries apart,

    dx  = dout, padded by KH-1-ph, convolved with the flipped weights w[KH-1-p, KW-1-q, c, f]
    dw[p, q, c, f] += sum over n, i, j of x[n, i*sh + p - ph, j*sw + q - pw, c] dout[n, i, j, f]
    db[f]          += sum over n, i, j of dout[n, i, j, f]

dout is a list from the start: under max-pooling and ReLU at most one entry in four is not 0. dx is the listed
way again; the gaps that a stride leaves cost nothing. For dw, filter by filter, each listed entry scales the
rows of x under its window, KW*C neighbouring numbers, and the sums dw[:, :, :, f] stay in registers.

Sources: E. Georganas et al., "Anatomy of high-performance deep learning convolutions on SIMD architectures",
2018 (sums of several pixels in registers); Z. Gong et al., "SparseTrain", 2020 (zeros skipped in all passes).
"""

from typing import Any, NamedTuple

import numpy as np

from siamese_np._jit import kernel
from siamese_np.kernels.lanes import VECTOR_BYTES, WIDE, load, lowest, muladd, nonzero, store, zeros

HALF = WIDE // 2
PIXELS = 32  # about as many output pixels are summed before they are written out: their sums stay in the L1 cache


@kernel
def conv2d_forward(out, x, w, b, stride, pad):
    """out (N, OH, OW, F) = convolution of x (N, H, W, C) with w (KH, KW, C, F), plus b (F,)."""
    N, OH, OW, F = out.shape
    _, H, W, C = x.shape
    weights, biases = in_vectors(w.reshape(-1, F)), in_vectors(b.reshape(1, F))
    target = pixel_rows(min(OH, 1 + PIXELS // OW), OW, biases.size)
    rows = aligned((target.size + 1) * biases.size, x)
    lists, padded = empty_lists(H, W, C, x), empty_padded(H, W, C, pad, x)
    for n in range(N):
        listed = read_image(lists, padded, x[n], pad)
        for i in range(0, OH, len(target)):
            here = target[: OH - i]
            convolve(rows, here, i, lists, padded, listed, weights, biases, w.shape, stride, pad)
            copy_pixels(out[n, i : i + len(here)], rows, here)


@kernel
def conv2d_backward(dx, dw, db, dout, x, w, stride, pad):
    """dw (KH, KW, C, F) and db (F,) += their gradients; dx (N, H, W, C) = its own, unless it is empty."""
    N, OH, OW, F = dout.shape
    lists = empty_lists((OH - 1) * stride[0] + 1, (OW - 1) * stride[1] + 1, F, x)
    work = empty_work(x, w, OH * OW, pad)
    for n in range(N):
        list_nonzeros(lists, dout[n], stride)
        backward_image(dx[n : n + 1], db, lists, x[n], work, w.shape, pad)
    add_transposed(dw, work.dw)


class Lists(NamedTuple):
    """The entries of an image (H, W, C) that are not 0, row by row, column by column.

    Pixel (r, s) has the entries ``start[r, s]`` to ``start[r, s + 1] - 1``. Entry e is ``value[e]``, in channel
    ``index[e] - s*C``: the entries under one row of a window are neighbours, and so are the rows of w they meet.
    """

    start: Any
    index: Any
    value: Any


class Padded(NamedTuple):
    """An image with zeros on all sides; each row is 0 before column `left` and from column `right` on."""

    image: Any
    left: Any
    right: Any


class Work(NamedTuple):
    """Room for the backward pass of one image; `dw` (F, KH, KW*C in whole vectors) gathers that of all images."""

    padded: Any
    flipped: Any
    zeros: Any
    rows: Any
    target: Any
    count: Any
    position: Any
    value: Any
    dw: Any


# --- sums of scaled rows of w -----------------------------------------------------------------------------------


@kernel
def convolve(rows, target, first, lists, padded, listed, weights, biases, shape, stride, pad):
    """Rows `first`, `first` + 1, ... of one output image; the sums of pixel (i, j) begin at ``rows[target[i, j]]``.

    The last column of `target` is a spare one: where the last pixel has no neighbour, that of the listed way.
    """
    FP = biases.size
    for i in range(target.shape[0]):
        for j in range(target.shape[1]):
            rows[target[i, j] : target[i, j] + FP] = biases
    source, goal = windows(target, first, padded, listed, shape, stride)
    f, vector = 0, VECTOR_BYTES // rows.itemsize
    while f + WIDE * vector <= FP:
        wide = zeros(rows, WIDE)
        add_products(rows, target, first, lists, padded, listed, source, goal, weights, shape, FP, stride, pad, f, wide)
        f += WIDE * vector
    while f + HALF * vector <= FP:
        half = zeros(rows, HALF)
        add_products(rows, target, first, lists, padded, listed, source, goal, weights, shape, FP, stride, pad, f, half)
        f += HALF * vector
    while f < FP:
        one = zeros(rows, 1)
        add_products(rows, target, first, lists, padded, listed, source, goal, weights, shape, FP, stride, pad, f, one)
        f += vector


@kernel
def add_products(rows, target, first, lists, padded, listed, source, goal, w, shape, FP, stride, pad, f, like):
    """Filters f, f + 1, ... of the pixels of `convolve`, as many as `like` has lanes."""
    if listed:
        add_listed(rows, target, first, lists, w, shape, FP, stride, pad, f, like)
    else:
        add_dense(rows, goal, source, padded.image, w, shape, FP, f, like)


@kernel
def add_listed(rows, target, first, lists, w, shape, FP, stride, pad, f, like):
    """Each listed entry of a row of x, times its row of w, to the two output pixels (i, j) and (i, j + 1)."""
    start, index, value = lists
    KH, KW, C, _ = shape
    H, W = start.shape[0], start.shape[1] - 1
    step = stride[1] * C * FP  # an entry meets a row of w this much earlier in the second pixel
    for i in range(target.shape[0]):
        for p in range(KH):
            r = (first + i) * stride[0] + p - pad[0]
            if r < 0 or r >= H:
                continue
            for j in range(0, target.shape[1] - 1, 2):
                s = j * stride[1] - pad[1]
                t = s + stride[1]
                e0, e2 = start[r, min(max(s, 0), W)], start[r, min(max(s + KW, 0), W)]
                e1, e3 = start[r, min(max(t, 0), W)], start[r, min(max(t + KW, 0), W)]
                row = (p * KW - s) * C * FP + f
                sums0, sums1 = load(rows, target[i, j] + f, like), load(rows, target[i, j + 1] + f, like)
                for e in range(e0, min(e1, e2)):
                    sums0 = muladd(sums0, value[e], load(w, row + index[e] * FP, like))
                for e in range(e1, e2):
                    sums0 = muladd(sums0, value[e], load(w, row + index[e] * FP, like))
                    sums1 = muladd(sums1, value[e], load(w, row - step + index[e] * FP, like))
                for e in range(max(e1, e2), e3):
                    sums1 = muladd(sums1, value[e], load(w, row - step + index[e] * FP, like))
                store(rows, target[i, j] + f, sums0)
                store(rows, target[i, j + 1] + f, sums1)


@kernel
def add_dense(rows, goal, source, padded, w, shape, FP, f, like):
    """Every entry under the windows of four pixels, times its row of w; the windows begin at `source`."""
    KH, KW, C, _ = shape
    x, line = padded.reshape(-1), padded.shape[1] * C
    for m in range(0, len(source), 4):
        x0, x1, x2, x3 = source[m], source[m + 1], source[m + 2], source[m + 3]
        goal0, goal1, goal2, goal3 = goal[m] + f, goal[m + 1] + f, goal[m + 2] + f, goal[m + 3] + f
        sums0, sums1 = load(rows, goal0, like), load(rows, goal1, like)
        sums2, sums3 = load(rows, goal2, like), load(rows, goal3, like)
        row = f
        for p in range(KH):
            for k in range(p * line, p * line + KW * C):
                filters = load(w, row, like)
                sums0 = muladd(sums0, x[x0 + k], filters)
                sums1 = muladd(sums1, x[x1 + k], filters)
                sums2 = muladd(sums2, x[x2 + k], filters)
                sums3 = muladd(sums3, x[x3 + k], filters)
                row += FP
        store(rows, goal0, sums0)
        store(rows, goal1, sums1)
        store(rows, goal2, sums2)
        store(rows, goal3, sums3)


@kernel
def windows(target, first, padded, listed, shape, stride):
    """Where the windows begin that are not all black, and where their sums go: in fours, none for the listed way."""
    KH, KW, C, _ = shape
    columns = 0 if listed else target.shape[1] - 1
    source = np.empty(len(target) * columns + 3, np.int64)
    goal = np.empty_like(source)
    m = 0
    for i in range(len(target)):
        r = (first + i) * stride[0]
        left, right = padded.left[r], padded.right[r]
        for p in range(1, KH):
            left, right = min(left, padded.left[r + p]), max(right, padded.right[r + p])
        for j in range(columns):
            s = j * stride[1]
            if s < right and s + KW > left:
                source[m], goal[m] = (r * padded.image.shape[1] + s) * C, target[i, j]
                m += 1
    while m % 4:  # fill up with the last pixel: it is computed again, and stored again
        source[m], goal[m] = source[m - 1], goal[m - 1]
        m += 1
    return source[:m], goal[:m]


# --- the backward pass ------------------------------------------------------------------------------------------


@kernel
def empty_work(x, w, entries, pad):
    """Room for the backward pass of one image at a time, whose filters have at most so many entries each."""
    KH, KW, C, F = w.shape
    _, H, W, _ = x.shape
    flipped = in_vectors(np.ascontiguousarray(w[::-1, ::-1].transpose(0, 1, 3, 2)).reshape(-1, C))
    CP, T = flipped.size // (KH * KW * F), whole_vectors(KW * C, x)
    dw = aligned(F * KH * T, x)
    dw[:] = 0
    none = aligned(CP, x)
    none[:] = 0
    target = pixel_rows(min(H, 1 + PIXELS // W), W, CP)
    return Work(
        empty_padded(H, W, C, pad, x),
        flipped,
        none,
        aligned((target.size + 1) * CP, x),
        target,
        np.empty(F, np.int64),
        np.empty((F, entries + 1), np.int64),
        np.empty((F, entries + 1), x.dtype),
        dw.reshape(F, KH, T),
    )


@kernel
def backward_image(dx, db, lists, x, work, shape, pad):
    """The gradients of one image x (H, W, C), from its dout as a list; dx is (1, H, W, C) or empty."""
    KH, KW, C, F = shape
    H = x.shape[0]
    entries = lists.start[-1, -1]
    if len(dx) and not entries:
        dx[:] = 0
    if not entries:
        return
    if len(dx):
        for i in range(0, H, len(work.target)):
            here = work.target[: H - i]
            convolve(
                work.rows, here, i, lists, work.padded, True, work.flipped, work.zeros, (KH, KW, F, C), (1, 1),
                (KH - 1 - pad[0], KW - 1 - pad[1]),
            )  # fmt: skip
            copy_pixels(dx[0, i : i + len(here)], work.rows, here)
    pad_image(work.padded, x, pad)
    list_filters(lists, work, shape)
    for f in range(F):
        for m in range(work.count[f]):
            db[f] += work.value[f, m]
        add_windows(work, f, shape)


@kernel
def list_filters(lists, work, shape):
    """Sort the list of dout by filters: the values of each, and where their windows begin in the padded x."""
    _, _, C, F = shape
    count, position, value = work.count, work.position, work.value
    count[:] = 0
    for r in range(lists.start.shape[0]):
        for s in range(lists.start.shape[1] - 1):
            place = (r * work.padded.image.shape[1] + s) * C
            for e in range(lists.start[r, s], lists.start[r, s + 1]):
                f = lists.index[e] - s * F
                m = count[f]
                position[f, m], value[f, m] = place, lists.value[e]
                count[f] = m + 1


@kernel
def add_windows(work, f, shape):
    """dw of filter f += its entries times the windows of x that they saw."""
    T, vector = work.dw.shape[2], VECTOR_BYTES // work.dw.itemsize
    if work.count[f]:
        t = 0
        while t + WIDE * vector <= T:
            add_rows(work, f, t, zeros(work.dw, WIDE))
            t += WIDE * vector
        while t + HALF * vector <= T:
            add_rows(work, f, t, zeros(work.dw, HALF))
            t += HALF * vector
        while t < T:
            add_rows(work, f, t, zeros(work.dw, 1))
            t += vector


@kernel
def add_rows(work, f, t, like):
    """Columns t, t + 1, ... of the windows, as many as `like` has lanes, three rows of the windows at a time."""
    _, KH, T = work.dw.shape
    dw, x = work.dw[f].reshape(-1), work.padded.image.reshape(-1)
    line = work.padded.image.shape[1] * work.padded.image.shape[2]
    position, value = work.position[f], work.value[f]
    for p in range(0, KH, 3):
        # where fewer than three rows are left, the last is computed, and stored, more than once
        p1, p2 = min(p + 1, KH - 1), min(p + 2, KH - 1)
        sums0, sums1, sums2 = load(dw, p * T + t, like), load(dw, p1 * T + t, like), load(dw, p2 * T + t, like)
        x0, x1, x2 = p * line + t, p1 * line + t, p2 * line + t
        for m in range(work.count[f]):
            sums0 = muladd(sums0, value[m], load(x, position[m] + x0, like))
            sums1 = muladd(sums1, value[m], load(x, position[m] + x1, like))
            sums2 = muladd(sums2, value[m], load(x, position[m] + x2, like))
        store(dw, p * T + t, sums0)
        store(dw, p1 * T + t, sums1)
        store(dw, p2 * T + t, sums2)


@kernel
def add_transposed(dw, filters):
    """dw (KH, KW, C, F) += filters (F, KH, KW*C and more)."""
    KH, KW, C, F = dw.shape
    for p in range(KH):
        for q in range(KW):
            for c in range(C):
                for f in range(F):
                    dw[p, q, c, f] += filters[f, p, q * C + c]


# --- lists, and images with margins -----------------------------------------------------------------------------


@kernel
def read_image(lists, padded, x, pad):
    """Either list x (H, W, C) and return True, or pad it: a list pays where at most half of x is not 0."""
    flat, count = x.reshape(-1), 0
    if x.shape[2] >= 8:  # with fewer, the loops over the entries of a window are too short
        for k in range(flat.size):
            count += flat[k] != 0
        if 2 * count <= flat.size:
            list_nonzeros(lists, x, (1, 1))
            return True
    pad_image(padded, x, pad)
    return False


@kernel
def empty_lists(H, W, C, like):
    """Room for the entries of an image (H, W, C)."""
    return Lists(np.zeros((H, W + 1), np.int64), np.empty(H * W * C, np.int64), np.empty(H * W * C, like.dtype))


@kernel
def list_nonzeros(lists, x, stride):
    """List x (H, W, C), whose rows and columns lie `stride` apart on the grid of the list."""
    H, W, C = x.shape
    start = lists.start.reshape(-1)
    e, done = 0, 0
    for r in range(H):
        line = x[r].reshape(-1)
        for s in range(W):
            place = r * stride[0] * lists.start.shape[1] + s * stride[1]
            done = begin(start, done, place + 1, e)
            for c in range(0, C, 64):
                bits = nonzero_bits(line, s * C + c, min(64, C - c))
                e = add_entries(lists, e, bits, line, s * C + c, s * stride[1] * C + c)
    begin(start, done, start.size, e)


@kernel
def begin(start, first, stop, e):
    """The pixels first to stop - 1 of a list begin with entry e: all but the last of them are empty."""
    for k in range(first, stop):
        start[k] = e
    return stop


@kernel
def nonzero_bits(line, at, count):
    """Bit k is set where ``line[at + k]`` is not 0, for k < count <= 64."""
    bits, k, one = np.uint64(0), 0, zeros(line, 1)
    while k + VECTOR_BYTES // line.itemsize <= count:
        bits |= nonzero(line, at + k, one) << np.uint64(k)
        k += VECTOR_BYTES // line.itemsize
    while k < count:
        bits |= np.uint64(line[at + k] != 0) << np.uint64(k)
        k += 1
    return bits


@kernel
def add_entries(lists, e, bits, line, at, index):
    """Append ``line[at + k]``, with index + k, for every bit k; return the number of entries."""
    while bits:
        k = lowest(bits)
        lists.index[e] = index + k
        lists.value[e] = line[at + k]
        bits &= bits - np.uint64(1)
        e += 1
    return e


@kernel
def empty_padded(H, W, C, pad, like):
    """Room for an image (H, W, C) and its margins, black."""
    PH, PW = H + 2 * pad[0], W + 2 * pad[1]
    image = aligned(PH * PW * C, like)
    image[:] = 0
    return Padded(image.reshape(PH, PW, C), np.full(PH, PW), np.zeros(PH, np.int64))


@kernel
def pad_image(padded, x, pad):
    """Copy x (H, W, C) between the margins, and find where each row begins and ends to be black."""
    H, W, C = x.shape
    for r in range(H):
        source, line = x[r].reshape(-1), padded.image[pad[0] + r].reshape(-1)
        first, last = 0, W * C
        for k in range(W * C):
            line[pad[1] * C + k] = source[k]
        while first < last and source[first] == 0:
            first += 1
        while first < last and source[last - 1] == 0:
            last -= 1
        black = first == last
        padded.left[pad[0] + r] = padded.image.shape[1] if black else pad[1] + first // C
        padded.right[pad[0] + r] = 0 if black else pad[1] + (last - 1) // C + 1


# --- memory -----------------------------------------------------------------------------------------------------


@kernel
def aligned(size, like):
    """A new array of `size` numbers at a multiple of a vector's bytes; one vector more may be read behind its end."""
    vector = VECTOR_BYTES // like.itemsize
    room = np.empty(size + 2 * vector, like.dtype)
    room[size:] = 0
    first = (VECTOR_BYTES - room.ctypes.data % VECTOR_BYTES) % VECTOR_BYTES // like.itemsize
    return room[first : first + size]


@kernel
def whole_vectors(count, like):
    """`count`, rounded up to a multiple of the numbers in a vector."""
    vector = VECTOR_BYTES // like.itemsize
    return (count + vector - 1) // vector * vector


@kernel
def in_vectors(matrix):
    """Copy of a matrix (K, F), flat, each row filled up with zeros to whole vectors."""
    K, F = matrix.shape
    FP = whole_vectors(F, matrix)
    out = aligned(K * FP, matrix)
    for k in range(K):
        for f in range(FP):
            out[k * FP + f] = matrix[k, f] if f < F else 0
    return out


@kernel
def pixel_rows(count, columns, size):
    """Where the sums of `count` rows of pixels begin: `size` numbers a pixel, and a spare pixel behind them all."""
    target = np.empty((count, columns + 1), np.int64)
    for i in range(count):
        for j in range(columns):
            target[i, j] = (i * columns + j) * size
        target[i, columns] = count * columns * size
    return target


@kernel
def copy_pixels(out, rows, target):
    """out (rows, columns, F) = the sums of `convolve`."""
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            for f in range(out.shape[2]):
                out[i, j, f] = rows[target[i, j] + f]
