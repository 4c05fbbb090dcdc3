"""Dense layer: out = x @ w + b.

    out[n, e] = b[e] + sum over d of x[n, d] w[d, e]

Each x[n, d] reaches every out[n, e] through w[d, e], and each w[d, e] is used once per n. So

    dx[n, d]  = sum over e of dout[n, e] w[d, e]         dx  = dout @ w.T
    dw[d, e] += sum over n of x[n, d] dout[n, e]         dw += x.T @ dout
    db[e]    += sum over n of dout[n, e]

What is known to be zero is not multiplied: rows of dout that are zero (images whose pairs are all beyond the
margin), and single entries of x and dout where at least half of them are zero (black pixels, ReLU's zeros). They are
listed (lists.py); with fewer zeros, blocks of sums in registers (matmul.py) are as fast. Skipping changes no bit of a
finite result.

NaN and infinity stay visible: going forward, entries of x are skipped only if the weights they meet are finite, so
that 0 * NaN is NaN. Going backward, where the forward pass has shown them already, a zero in x or dout adds nothing
to dw and dx, whatever it meets.

Threads share the work by input features d: a block of them has its rows of w and dw, and its columns of dx, to
itself, so no two threads add to the same sum. What the threads then hand each other is small; w and dw, the
largest arrays, stay where they are. Going forward the sum over d is cut in two halves for this, which have a
sum each, whatever the number of threads; only short sums, over less than 2 x HALF features, stay whole.
"""

import numpy as np

from siamese_np.kernels.simd.gemm import multiply, transpose
from siamese_np.kernels.simd.scratch import all_finite, clear, copy
from siamese_np.kernels.simd.sparse import list_rows, multiply_listed
from siamese_np.kernels.simd.vectors import load_scalar
from siamese_np.runtime.inline import array_part, part
from siamese_np.runtime.jit import kernel
from siamese_np.runtime.team import sharded

HALF = 128  # least features in half a sum
SIZE = 64  # rows of out, and input features, that one thread takes at a time; twice as many features where dx is wanted
COLUMNS = 256  # of out, that one thread takes at a time
SAMPLE = 8  # rows looked at to judge how many zeros there are
SPARSE = 0.5  # share of non-zero entries up to which skipping pays


@kernel
def dense_forward(out, x, w, b):
    """out (N, E) = x (N, D) @ w (D, E) + b (E,)."""
    (N, E), D = out.shape, w.shape[0]
    halves = 2 if D >= 2 * HALF else 1
    second = np.empty((N if halves == 2 else 0, E), x.dtype)
    _forward_blocks((out, second, x, w, -(-D // halves), seldom_nonzero(x)), halves * -(-N // SIZE) * -(-E // COLUMNS))
    for n in range(N):
        row = out[n]
        for e in range(E):
            row[e] += b[e]
        if halves == 2:
            more = second[n]
            for e in range(E):
                row[e] += more[e]


@kernel
def dense_backward(dx, dw, db, dout, x, w):
    """dx (N, D) = gradient of x, or dx (0, D): not wanted; dw (D, E) and db (E,) are added to."""
    (N, E), D = dout.shape, w.shape[0]
    lists = list_rows(dout.reshape(-1), 0, E, N, E)
    used = used_rows(lists[2], N)
    dout = take_rows(dout, used, 0, E)
    for r in range(used.size):
        for e in range(E):
            db[e] += dout[r * E + e]
    skip = lists[2][-1] <= SPARSE * dout.size
    size = 2 * SIZE if len(dx) else SIZE
    _backward_features((dx, dw, dout, lists, used, x, w, seldom_nonzero(x), skip, size), -(-D // size))


@sharded
@array_part
def _forward_blocks(out, second, x, w, half, skip, s):
    (N, E), D = out.shape, w.shape[0]
    down, across = -(-N // SIZE), -(-E // COLUMNS)
    h, block = s // (down * across), s % (down * across)  # one half after the other
    n, e, d = block % down * SIZE, block // down * COLUMNS, h * half
    M, K, F = min(SIZE, N - n), min(half, D - d), min(COLUMNS, E - e)
    sums, x, w = (out if h == 0 else second).reshape(-1), x.reshape(-1), w.reshape(-1)
    if skip and all_finite(w, d * E + e, E, K, F):
        for m in range(M):
            clear(sums, (n + m) * E + e, F)
        multiply_listed((sums, n * E + e, E), list_rows(x, n * D + d, D, M, K), (w, d * E + e, E), (M, K, F))
    else:
        multiply((sums, n * E + e, E), (x, n * D + d, D, 1), (w, d * E + e, E), (M, K, F), False)


@sharded
@array_part
def _backward_features(dx, dw, dout, lists, used, x, w, skip_x, skip_dout, size, s):
    D, E = w.shape
    first, R = s * size, used.size
    wide = min(size, D - first)
    rows, w = take_rows(x, used, first, wide), w.reshape(-1)
    here = (dw.reshape(-1), first * E, E)
    if skip_x:
        xT = np.empty(wide * R, x.dtype)
        transpose(xT, R, rows, 0, wide, R, wide)
        multiply_listed(here, list_rows(xT, 0, R, wide, R), (dout, 0, E), (wide, R, E))
    else:
        multiply(here, (rows, 0, 1, wide), (dout, 0, E), (wide, R, E), True)
    if len(dx):
        wT, N, flat = np.empty(E * wide, w.dtype), len(dx), dx.reshape(-1)
        transpose(wT, wide, w, first * E, E, wide, E)
        if skip_dout:
            for n in range(N):
                clear(flat, n * D + first, wide)
            multiply_listed((flat, first, D), lists, (wT, 0, wide), (N, E, wide))
        else:
            multiply((rows, 0, wide), (dout, 0, E, 1), (wT, 0, wide), (R, E, wide), False)  # now rows of dx, not of x
            r = 0
            for n in range(N):
                if r < R and used[r] == n:
                    copy(flat, n * D + first, rows, r * wide, wide)
                    r += 1
                else:
                    clear(flat, n * D + first, wide)


@part
def seldom_nonzero(x):
    """Whether at most SPARSE of some rows of x (N, D), evenly spread, is not zero."""
    N, D = x.shape
    step, seen, nonzero, flat = max(1, N // SAMPLE), 0, 0, x.reshape(-1)
    for n in range(0, N, step):
        for k in range(n * D, (n + 1) * D):
            nonzero += load_scalar(flat, k) != 0
        seen += D
    return nonzero <= SPARSE * seen


@array_part
def used_rows(start, N):
    """Which of N rows hold anything but zeros, from where their lists begin."""
    used, count, blocks = np.empty(N, np.int64), 0, (start.size - 1) // N if N else 0
    for n in range(N):
        used[count] = n
        count += start[(n + 1) * blocks] > start[n * blocks]
    return used[:count]


@array_part
def take_rows(x, rows, first, wide):
    """A flat copy of columns `first` to `first` + `wide` - 1 of some rows of x (N, D)."""
    taken, flat = np.empty(rows.size * wide, x.dtype), x.reshape(-1)
    for r in range(rows.size):
        copy(taken, r * wide, flat, rows[r] * x.shape[1] + first, wide)
    return taken
