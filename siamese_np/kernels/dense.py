"""Dense layer, compiled. Textbook: textbook/dense.py.

Made fast by
- sharing work by input features: a thread has some rows of w and dw, and columns of dx, to itself, and these, the
  largest arrays, stay in its cache. Going forward, the sum over the features is cut in two halves for this, whatever
  the number of threads (short sums stay whole);
- leaving out rows of dout that are all zero: images whose pairs are all beyond the margin;
- listing non-zeros (simd/sparse.py) where at most half of x, or of dout, is not zero: black pixels, ReLU's zeros. With
  fewer zeros, blocks of sums in registers (simd/gemm.py) are as fast. Both give the same bits.

NaN and infinity stay visible, though 0 * NaN is NaN. Going forward, blocks compute anew where a weight is not finite.
Going backward, where the forward pass has shown them already, a zero in x or dout adds nothing, whatever it meets.
"""

from typing import Any, NamedTuple

import numpy as np

from siamese_np.kernels.simd.gemm import Matrix, Strided, multiply, transpose
from siamese_np.kernels.simd.scratch import ceil_div, clear, copy
from siamese_np.kernels.simd.sparse import SparseRows, sparse_multiply, sparse_rows
from siamese_np.kernels.simd.vectors import load_scalar
from siamese_np.runtime.jit import inlined, kernel
from siamese_np.runtime.shards import sharded

MIN_HALF = 128  # features in half a sum
SIZE = 64  # rows of out, and input features, of a shard; twice as many features where dx is wanted
COLUMNS = 256  # of out, of a shard
SAMPLE = 8  # rows looked at to estimate how many zeros there are
SPARSE = 0.5  # share of non-zeros up to which listing them pays


class SparseGradient(NamedTuple):
    """dout (N, E): `data`, a flat copy of those `rows` that are not all zero, and the non-zeros of all rows."""

    data: Any
    rows: Any
    nonzeros: SparseRows


@kernel(shared=True)
def dense_forward(out, x, w, b):
    """out (N, E) = x (N, D) @ w (D, E) + b (E,)."""
    N, E = out.shape
    D = len(w)
    halves = 2 if D >= 2 * MIN_HALF else 1
    second = np.empty((N if halves == 2 else 0, E), x.dtype)
    shards = halves * ceil_div(N, SIZE) * ceil_div(E, COLUMNS)
    _forward_block((out, second, x, w, ceil_div(D, halves), is_sparse(x)), shards)
    for n in range(N):
        row = out[n]
        for e in range(E):
            row[e] += b[e]
        if halves == 2:
            more = second[n]
            for e in range(E):
                row[e] += more[e]


@kernel(shared=True)
def dense_backward(dx, dw, db, dout, x, w):
    """dw (D, E) and db (E,) += their gradients; dx (N, D) = its own, unless it is empty: not wanted."""
    N, E = dout.shape
    nonzeros = sparse_rows(Matrix(dout.reshape(-1), 0, E), N, E)
    rows = nonzero_rows(nonzeros.start, N)
    data = take_rows(dout, rows, 0, E)
    for r in range(rows.size):
        for e in range(E):
            db[e] += data[r * E + e]
    K = 2 * SIZE if len(dx) else SIZE
    _backward_block((dx, dw, SparseGradient(data, rows, nonzeros), x, w, K, is_sparse(x)), ceil_div(len(w), K))


@sharded
@inlined(arrays=True)
def _forward_block(out, second, x, w, half, sparse, s):
    N, E = out.shape
    D = len(w)
    down, across = ceil_div(N, SIZE), ceil_div(E, COLUMNS)
    h, block = s // (down * across), s % (down * across)  # one half after the other
    n, e, d = block % down * SIZE, block // down * COLUMNS, h * half
    M, K, F = min(SIZE, N - n), min(half, D - d), min(COLUMNS, E - e)
    flat_x, flat_w = x.reshape(-1), w.reshape(-1)
    sums = Matrix((out if h == 0 else second).reshape(-1), n * E + e, E)
    weights = Matrix(flat_w, d * E + e, E)
    if sparse:
        for m in range(M):
            clear(sums.data, sums.start + m * E, F)
    if not (sparse and sparse_multiply(sums, sparse_rows(Matrix(flat_x, n * D + d, D), M, K), weights, (M, K, F))):
        multiply(sums, Strided(flat_x, n * D + d, D, 1), weights, (M, K, F), False)


@sharded
@inlined(arrays=True)
def _backward_block(dx, dw, dout, x, w, features, sparse_x, s):
    D, E = w.shape
    N, R = len(dx), dout.rows.size
    first = s * features
    K = min(features, D - first)
    rows = take_rows(x, dout.rows, first, K)
    sums = Matrix(dw.reshape(-1), first * E, E)
    if sparse_x:
        xT = Matrix(np.empty(K * R, x.dtype), 0, R)
        transpose(xT, Matrix(rows, 0, K), R, K)
        sparse_multiply(sums, sparse_rows(xT, K, R), Matrix(dout.data, 0, E), (K, R, E))
    else:
        multiply(sums, Strided(rows, 0, 1, K), Matrix(dout.data, 0, E), (K, R, E), True)
    if N:
        flat_dx = dx.reshape(-1)
        wT = Matrix(np.empty(E * K, w.dtype), 0, K)
        transpose(wT, Matrix(w.reshape(-1), first * E, E), K, E)
        if dout.nonzeros.start[-1] <= SPARSE * dout.data.size:
            for n in range(N):
                clear(flat_dx, n * D + first, K)
            sparse_multiply(Matrix(flat_dx, first, D), dout.nonzeros, wT, (N, E, K))
        else:
            multiply(Matrix(rows, 0, K), Strided(dout.data, 0, E, 1), wT, (R, E, K), False)  # rows now hold dx
            r = 0
            for n in range(N):
                if r < R and dout.rows[r] == n:
                    copy(flat_dx, n * D + first, rows, r * K, K)
                    r += 1
                else:
                    clear(flat_dx, n * D + first, K)


@inlined
def is_sparse(x):
    """Whether at most SPARSE of some evenly spread rows of x (N, D) is not zero."""
    N, D = x.shape
    flat = x.reshape(-1)
    seen = nonzero = 0
    for n in range(0, N, max(1, N // SAMPLE)):
        for k in range(n * D, (n + 1) * D):
            nonzero += load_scalar(flat, k) != 0
        seen += D
    return nonzero <= SPARSE * seen


@inlined(arrays=True)
def nonzero_rows(start, N):
    """Numbers of the rows, of N, that hold anything but zeros, from where their lists begin (`SparseRows`)."""
    rows, count = np.empty(N, np.int64), 0
    blocks = (start.size - 1) // N if N else 0
    for n in range(N):
        rows[count] = n
        count += start[(n + 1) * blocks] > start[n * blocks]
    return rows[:count]


@inlined(arrays=True)
def take_rows(x, rows, first, count):
    """A flat copy of `count` columns, from `first` on, of some rows of x (N, D)."""
    D = x.shape[1]
    flat, taken = x.reshape(-1), np.empty(rows.size * count, x.dtype)
    for r in range(rows.size):
        copy(taken, r * count, flat, rows[r] * D + first, count)
    return taken
