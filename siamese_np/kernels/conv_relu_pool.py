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
    add_gradients,
    add_lists,
    add_windows,
    aligned,
    empty_lists,
    empty_padded,
    every_entry,
    fill,
    in_vectors,
    list_entries,
    list_pays,
    pad_image,
    whole,
)


@kernel
def conv_relu_pool_forward(out, argmax, x, w, b, stride, pad, window):
    """out, argmax (N, OH, OW, F) = pooled ReLU of x (N, H, W, C) convolved with w (KH, KW, C, F), plus b (F,)."""
    N, OH, OW, F = out.shape
    _, H, W, C = x.shape
    FP = whole(F, x)
    weights, biases = in_vectors(w.reshape(-1), F, FP), in_vectors(b, F, FP)
    target = window_planes(window, OW, FP)
    rows = aligned(target[0, -1] + FP, x)
    winner = np.empty(OW * FP, argmax.dtype)
    start, index, value = empty_lists(H, W, C, x)
    padded, edges = empty_padded(H, W, C, pad, x)
    every = every_entry(x)
    for n in range(N):
        listed = list_pays(x[n])
        if listed:
            list_entries(start, index, value, x[n], every[0], (1, 1), (1, 1))
        else:
            pad_image(padded, edges, x[n], pad)
        for i in range(OH):
            fill(rows, target, biases)
            if listed:
                add_lists(rows, target, i * window[0], start, index, value, weights, w.shape, FP, stride, pad)
            else:
                add_windows(rows, target, i * window[0], padded, edges, weights, w.shape, FP, stride)
            pool(out[n, i], argmax[n, i], rows, winner, window[0] * window[1])


@kernel
def conv_relu_pool_backward(dx, dw, db, dout, argmax, x, w, stride, pad, window):
    """dw (KH, KW, C, F) and db (F,) += their gradients; dx (N, H, W, C) = its own, unless it is empty."""
    add_gradients(dx, dw, db, dout, argmax, x, w, stride, pad, window)


@kernel
def window_planes(window, OW, size):
    """Where the sums of one row of windows go: all first entries of the windows together, then all second ones."""
    target = np.empty((window[0], OW * window[1] + 1), np.int64)
    for p in range(window[0]):
        for j in range(OW * window[1]):
            target[p, j] = ((p * window[1] + j % window[1]) * OW + j // window[1]) * size
        target[p, OW * window[1]] = window[0] * window[1] * OW * size  # a spare pixel behind them all
    return target


@kernel
def pool(out, argmax, rows, winner, entries):
    """out, argmax (OW, F) = maximum and winner of the planes in `rows`, after ReLU."""
    OW, F = out.shape
    best = rows[: winner.size]
    for k in range(winner.size):
        winner[k] = 0
    for t in range(1, entries):
        plane, number = rows[t * winner.size : (t + 1) * winner.size], argmax.dtype.type(t)
        for k in range(winner.size):
            larger = (plane[k] > best[k]) | (plane[k] != plane[k])
            best[k] = plane[k] if larger else best[k]
            winner[k] = number if larger else winner[k]
    none, zero = argmax.dtype.type(entries), rows.dtype.type(0)
    for j in range(OW):
        k = j * (winner.size // OW)
        values, numbers = best[k : k + F], winner[k : k + F]
        for f in range(F):
            out[j, f] = zero if values[f] <= 0 else values[f]
            argmax[j, f] = numbers[f] if values[f] > 0 else none
