"""Dense layer: out = x @ w + b.

    out[n, e] = b[e] + sum over d of x[n, d] w[d, e]

Each x[n, d] reaches every out[n, e] through w[d, e], and each w[d, e] is used once per n. So

    dx[n, d]  = sum over e of dout[n, e] w[d, e]         dx  = dout @ w.T
    dw[d, e] += sum over n of x[n, d] dout[n, e]         dw += x.T @ dout
    db[e]    += sum over n of dout[n, e]

What is known to be zero is not multiplied: rows of dout that are zero (images whose pairs are all beyond the
margin), and single entries of x where most of them are zero (black pixels). ReLU's zeros, about half of x and
scattered, would save less than the vectors lose. Skipping changes no bit of a finite result.

NaN and infinity stay visible: going forward, entries of x are skipped only if all of w is finite, so that
0 * NaN is NaN. Going backward, where the forward pass has shown them already, a zero in x or a zero row of
dout adds nothing to dw and dx, whatever it meets.

Threads share the work by input features d: a block of them has its rows of w and dw, and its columns of dx, to
itself, so no two threads add to the same sum. What the threads then hand each other is small; w and dw, the
largest arrays, stay where they are. Going forward the sum over d is cut in two halves for this, which have a
sum each, whatever the number of threads; only short sums, over less than 2 x HALF features, stay whole.
"""

import numpy as np

from siamese_np._jit import inlined, kernel
from siamese_np._parts import part
from siamese_np._team import sharded
from siamese_np.kernels.matmul import LISTED_ROWS, list_used, matmul_add, matmul_add_listed, transpose

HALF = 128  # least features in half a sum
SIZE = 64  # rows and columns of the block of out, and input features, that one thread takes at a time
LIST = 4 * LISTED_ROWS  # rows of x that one thread lists at a time
SAMPLE = 8  # rows of x looked at to judge how many zeros there are
SPARSE = 0.4  # share of non-zero entries up to which skipping pays


@kernel
def dense_forward(out, x, w, b):
    """out (N, E) = x (N, D) @ w (D, E) + b (E,)."""
    (N, E), D = out.shape, w.shape[0]
    halves = 2 if D >= 2 * HALF else 1
    half = -(-D // halves)
    skip = _mostly_zero(x)
    groups = N // LISTED_ROWS if skip else 0
    index, count = np.empty((halves, groups, half + 1), np.int32), np.empty((halves, groups), np.int64)
    if skip:
        finite = np.empty(max(-(-D // SIZE), halves * -(-N // LIST)), np.bool_)
        _prepare((index, count, finite, x, w, half), finite.size)
        for part in finite:
            skip &= part
    second = np.empty((N if halves == 2 else 0, E), x.dtype)
    _forward_blocks((out, second, x, w, half, index, count, skip), halves * -(-N // SIZE) * -(-E // SIZE))
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
    used = _nonzero_rows(dout)
    dout = _take_rows(dout, used, 0, dout.shape[1])
    for n in range(used.size):
        for e in range(db.size):
            db[e] += dout[n, e]
    _backward_features((dx, dw, dout, used, x, w, _mostly_zero(x)), -(-w.shape[0] // SIZE))


@sharded
@part
def _prepare(index, count, finite, x, w, half, s):
    """List what is used of a few rows of x, and look whether a few rows of w are finite."""
    N, D = x.shape
    blocks = -(-N // LIST)
    h, n = s // blocks, s % blocks * LIST
    if h < count.shape[0]:
        groups = slice(n // LISTED_ROWS, (n + LIST) // LISTED_ROWS)
        list_used(index[h, groups], count[h, groups], x[n : n + LIST], h * half, min((h + 1) * half, D))
    bad = False
    for d in range(s * SIZE, min((s + 1) * SIZE, D)):
        row = w[d]
        for e in range(row.size):
            bad |= row[e] - row[e] != 0  # NaN for NaN and for infinity
    finite[s] = not bad


@sharded
@part
def _forward_blocks(out, second, x, w, half, index, count, skip, s):
    N, E = out.shape
    blocks = -(-N // SIZE) * -(-E // SIZE)
    h, block = s // blocks, s % blocks  # one half after the other
    n, e = block % -(-N // SIZE) * SIZE, block // -(-N // SIZE) * SIZE
    target = (out if h == 0 else second)[n : n + SIZE, e : e + SIZE]
    x, w = x[n : n + SIZE, h * half : (h + 1) * half], w[h * half : (h + 1) * half, e : e + SIZE]
    _fill_rows(target)
    if skip:
        groups = slice(n // LISTED_ROWS, (n + SIZE) // LISTED_ROWS)
        matmul_add_listed(target, x, w, index[h, groups], count[h, groups])
    else:
        matmul_add(target, x, w)


@inlined
def _fill_rows(out):
    """out (N, E) = 0."""
    for n in range(out.shape[0]):
        for e in range(out.shape[1]):
            out[n, e] = 0


@sharded
@part
def _backward_features(dx, dw, dout, used, x, w, skip, s):
    here = slice(s * SIZE, min((s + 1) * SIZE, w.shape[0]))
    dw, dout, wide = dw[here, ::1], dout[:, ::1], here.stop - here.start
    x = _take_rows(x, used, here.start, here.stop)
    if skip:
        groups = wide // LISTED_ROWS
        index, count = np.empty((groups, used.size + 1), np.int32), np.empty(groups, np.int64)
        xT = np.empty((wide, used.size), x.dtype)
        transpose(xT, x)
        list_used(index, count, xT, 0, used.size)
        matmul_add_listed(dw, xT, dout, index, count)
    else:
        matmul_add(dw, x.T, dout)
    if dx.shape[0] > 0:
        rows, wT = x, np.empty((w.shape[1], wide), w.dtype)  # what x held is used no more
        _fill_rows(rows)
        transpose(wT, w[here])
        matmul_add(rows, dout, wT)
        r = 0
        for n in range(dx.shape[0]):
            target = dx[n]
            if r < used.size and used[r] == n:
                for d in range(wide):
                    target[here.start + d] = rows[r, d]
                r += 1
            else:
                for d in range(wide):
                    target[here.start + d] = 0


@inlined
def _mostly_zero(x):
    """Whether at most SPARSE of some rows of x (N, D), evenly spread, is not zero."""
    N, D = x.shape
    step, seen, nonzero = max(1, N // SAMPLE), 0, 0
    for n in range(0, N, step):
        row = x[n]
        for d in range(D):
            nonzero += row[d] != 0
        seen += D
    return nonzero <= SPARSE * seen


@inlined
def _nonzero_rows(dout):
    """Indices of the rows of dout (N, E) that hold anything but zeros."""
    N, E = dout.shape
    used, count = np.empty(N, np.int64), 0
    for n in range(N):
        for e in range(E):
            if dout[n, e] != 0:
                used[count] = n
                count += 1
                break
    return used[:count]


@inlined
def _take_rows(x, rows, first, last):
    """A copy of columns `first` to `last` - 1 of some rows of x (N, D)."""
    taken = np.empty((rows.size, last - first), x.dtype)
    for r in range(rows.size):
        row = x[rows[r]]
        for d in range(last - first):
            taken[r, d] = row[first + d]
    return taken
