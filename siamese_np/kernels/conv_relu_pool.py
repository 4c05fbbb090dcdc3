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
from siamese_np._team import sharded
from siamese_np.kernels.conv2d import (
    add_gradients,
    add_list,
    add_windows,
    aligned,
    empty_list,
    empty_padded,
    fill,
    in_vectors,
    list_image,
    list_pays,
    pad_image,
    pixel_rows,
    shard_size,
    swap,
    whole,
)
from siamese_np.kernels.lanes import item, put


@kernel
def conv_relu_pool_forward(out, argmax, x, w, b, stride, pad, window):
    """out, argmax (N, OH, OW, F) = pooled ReLU of x (N, H, W, C) convolved with w (KH, KW, C, F), plus b (F,)."""
    FP, size = whole(b.size, x), shard_size(len(x))
    rows, swapped, biases = in_vectors(w.reshape(-1), b.size, FP), swap(w, FP), in_vectors(b, b.size, FP)
    _pool_images((out, argmax, x, rows, swapped, biases, w.shape, stride, pad, window, size), -(-len(x) // size))


@sharded
@kernel
def _pool_images(out, argmax, x, weights, swapped, biases, kernel, stride, pad, window, size, shard):
    _, OH, OW, F = out.shape
    N, H, W, C = x.shape
    FP, entries = biases.size, window[0] * window[1]
    target = pixel_rows(1, OW, window, W, kernel, pad, FP)
    rows = aligned((entries * OW + 1) * FP, x)
    winner = np.empty(OW * FP, argmax.dtype)
    start, index, value = empty_list(H * W, C, x)
    padded, edges = empty_padded(H, W, C, pad, x)
    source, goal = np.empty(target.size + 3, np.int64), np.empty(target.size + 3, np.int64)
    flat, numbers = out.reshape(-1), argmax.reshape(-1)
    for n in range(shard * size, min((shard + 1) * size, N)):
        listed = list_pays(x[n], kernel, stride)
        if listed:
            list_image(start, index, value, x[n])
        else:
            pad_image(padded, edges, x[n], pad)
        for i in range(OH):
            first, columns = i * window[0], OW * window[1]
            fill(rows, target, biases)
            if listed:
                add_list(rows, target, first, start, index, value, swapped, x.shape, kernel, FP, stride, pad)
            else:
                add_windows(rows, target, columns, first, source, goal, padded, edges, weights, kernel, FP, stride)
            find_maxima(rows, winner, entries)
            at = (n * OH + i) * OW * F
            if F == FP:
                relu_pixels(flat, numbers, at, rows, winner, 0, OW * F, entries)
            else:
                for j in range(OW):
                    relu_pixels(flat, numbers, at + j * F, rows, winner, j * FP, F, entries)


@kernel
def conv_relu_pool_backward(dx, dw, db, dout, argmax, x, w, stride, pad, window):
    """dw (KH, KW, C, F) and db (F,) += their gradients; dx (N, H, W, C) = its own, unless it is empty."""
    add_gradients(dx, dw, db, dout, argmax, x, w, stride, pad, window)


@kernel
def find_maxima(rows, winner, entries):
    """Maximum of `entries` planes in `rows`, written over the first, and the number of the plane it was in."""
    size = winner.size
    for k in range(size):
        winner[k] = 0
    for t in range(1, entries):
        keep_larger(rows, winner, t * size, winner.dtype.type(t))


@kernel
def keep_larger(rows, winner, plane, number):
    """The larger of the first plane and the one that begins at `plane`; the first of equal ones; NaN is largest."""
    for k in range(winner.size):
        # everything is read before anything is written, or LLVM could not do many at a time
        best, value, best_number = item(rows, k), item(rows, plane + k), item(winner, k)
        larger = (value > best) | (value != value)
        put(rows, k, value if larger else best)
        put(winner, k, number if larger else best_number)


@kernel
def relu_pixels(out, argmax, at, best, winner, first, count, entries):
    """`count` numbers of out and argmax, from `at` on, from those of `best` and `winner` from `first` on."""
    zero, none = best.dtype.type(0), winner.dtype.type(entries)
    for k in range(count):
        value, number = item(best, first + k), item(winner, first + k)
        put(out, at + k, zero if value <= 0 else value)
        put(argmax, at + k, number if value > 0 else none)
