"""Convolution, bias, ReLU and max-pooling in one pass: what training runs. Equal to the three in a row.

    out[n, i, j, f] = max(0, max over p, q of conv[n, i*PH + p, j*PW + q, f])

with conv as in conv2d.py, whose sums this kernel uses, and windows (PH, PW) that do not overlap. A few rows of
conv are summed, pooled and forgotten: the largest array of the network is never written to memory.

`argmax` keeps the winner p*PW + q of each window: the first maximum in row-major order; NaN wins. Where the
output is not positive it keeps PH*PW, "none": there, ReLU has slope 0 and nothing goes back. So dout and argmax
are the gradient of conv as a list, at most one entry a window, and the backward pass of conv2d.py takes it from
there; entries of dout that are 0 themselves, as of pairs beyond the margin, are not even listed.

Rows and columns of conv that no window covers are never computed, and receive no gradient.
"""

import numpy as np

from siamese_np._jit import kernel
from siamese_np.kernels.conv2d import (
    add_entries,
    add_transposed,
    aligned,
    backward_image,
    begin,
    convolve,
    empty_lists,
    empty_padded,
    empty_work,
    in_vectors,
    nonzero_bits,
    read_image,
)
from siamese_np.kernels.lanes import VECTOR_BYTES, equal, zeros


@kernel
def conv_relu_pool_forward(out, argmax, x, w, b, stride, pad, window):
    """out, argmax (N, OH, OW, F) = pooled ReLU of x (N, H, W, C) convolved with w (KH, KW, C, F), plus b (F,)."""
    N, OH, OW, F = out.shape
    _, H, W, C = x.shape
    weights, biases = in_vectors(w.reshape(-1, F)), in_vectors(b.reshape(1, F))
    target = window_planes(window, OW, biases.size)
    rows = aligned(target[0, -1] + biases.size, x)
    winner = np.empty(OW * biases.size, argmax.dtype)
    lists, padded = empty_lists(H, W, C, x), empty_padded(H, W, C, pad, x)
    for n in range(N):
        listed = read_image(lists, padded, x[n], pad)
        for i in range(OH):
            convolve(rows, target, i * window[0], lists, padded, listed, weights, biases, w.shape, stride, pad)
            pool(out[n, i], argmax[n, i], rows, winner, window[0] * window[1])


@kernel
def conv_relu_pool_backward(dx, dw, db, dout, argmax, x, w, stride, pad, window):
    """dw (KH, KW, C, F) and db (F,) += their gradients; dx (N, H, W, C) = its own, unless it is empty."""
    N, OH, OW, F = dout.shape
    lists = empty_lists((OH * window[0] - 1) * stride[0] + 1, (OW * window[1] - 1) * stride[1] + 1, F, x)
    work = empty_work(x, w, OH * OW, pad)
    for n in range(N):
        list_winners(lists, dout[n], argmax[n], stride, window)
        backward_image(dx[n : n + 1], db, lists, x[n], work, w.shape, pad)
    add_transposed(dw, work.dw)


@kernel
def window_planes(window, OW, size):
    """Where the sums of one row of windows go: all first entries of the windows together, then all second ones."""
    target = np.empty((window[0], OW * window[1] + 1), np.int64)
    for p in range(window[0]):
        for j in range(OW * window[1]):
            target[p, j] = ((p * window[1] + j % window[1]) * OW + j // window[1]) * size
        target[p, -1] = window[0] * window[1] * OW * size  # a spare pixel behind them all
    return target


@kernel
def pool(out, argmax, rows, winner, entries):
    """out, argmax (OW, F) = maximum and winner of the planes in `rows`, after ReLU."""
    OW, F = out.shape
    size = winner.size
    winner[:] = 0
    for t in range(1, entries):
        for k in range(size):
            value, best = rows[t * size + k], rows[k]
            larger = value > best or value != value
            rows[k] = value if larger else best
            winner[k] = t if larger else winner[k]
    for j in range(OW):
        for f in range(F):
            k = j * (size // OW) + f
            best = rows[k]
            out[j, f] = 0 if best <= 0 else best
            argmax[j, f] = winner[k] if best > 0 else entries


@kernel
def list_winners(lists, dout, argmax, stride, window):
    """List the gradient of conv, from dout and argmax (OH, OW, F), on the grid of x."""
    OH, OW, F = dout.shape
    start = lists.start.reshape(-1)
    e, done = 0, 0
    for i in range(OH):
        line, winners = dout[i].reshape(-1), argmax[i].reshape(-1)
        for p in range(window[0]):
            for j in range(OW):
                for q in range(window[1]):
                    s = (j * window[1] + q) * stride[1]
                    place = (i * window[0] + p) * stride[0] * lists.start.shape[1] + s
                    done = begin(start, done, place + 1, e)
                    for f in range(0, F, 64):
                        at, count = j * F + f, min(64, F - f)
                        bits = nonzero_bits(line, at, count)
                        bits &= equal_bits(winners, at, count, p * window[1] + q, line)
                        e = add_entries(lists, e, bits, line, at, s * F + f)
    begin(start, done, start.size, e)


@kernel
def equal_bits(numbers, at, count, number, like):
    """Bit k is set where ``numbers[at + k]`` is `number`, for k < count <= 64; as many at a time as of `like`."""
    bits, k, vector = np.uint64(0), 0, VECTOR_BYTES // like.itemsize
    while k + vector <= count:
        bits |= equal(numbers, at + k, number, zeros(like, 1)) << np.uint64(k)
        k += vector
    while k < count:
        bits |= np.uint64(numbers[at + k] == number) << np.uint64(k)
        k += 1
    return bits
