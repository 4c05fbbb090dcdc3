"""Lists of the numbers that are not 0, and the matrix product that multiplies by nothing else.

Made fast by
- finding non-zeros a vector at a time, without a branch that could be mispredicted;
- keeping LONG vectors of a row's sums in registers while its list is read;
- taking the factors in blocks of BLOCK rows, copied to one place: these stay in the L1 cache, and where they came from
  they could compete for a few of its sets.
"""

from typing import Any, NamedTuple

import numpy as np

from siamese_np.kernels.simd.scratch import all_finite, ceil_div, empty_aligned
from siamese_np.kernels.simd.vectors import (
    LONG,
    VECTOR_BYTES,
    WIDE,
    compress_store,
    iota,
    length,
    load,
    load_scalar,
    muladd,
    no_unroll,
    nonzero_mask,
    popcount,
    store,
    store_scalar,
    zeros,
)
from siamese_np.runtime.jit import inlined

BLOCK = 64  # factors, whose LONG vectors of w each fit into the L1 cache together


class SparseRows(NamedTuple):
    """The non-zeros of a matrix. Each row has a list for each BLOCK of its columns.

    List s has the entries start[s] to start[s + 1] - 1. Entry e is value[e], in column index[e] of the block.
    """

    index: Any
    value: Any
    start: Any


@inlined(arrays=True)
def empty_nonzeros(size, like):
    """Memory for the index and value of `size` entries."""
    size += VECTOR_BYTES  # lists are written in whole vectors
    return np.empty(size, np.int32), np.empty(size, like.dtype)


@inlined
def gather_nonzeros(index, value, e, x, src, count):
    """Append the non-zeros of x[src : src + count] to a list of e entries; return its new length."""
    k, like = 0, zeros(x, 1)
    while k + length(like) <= count:
        mask = nonzero_mask(x, src + k, like)
        compress_store(value, e, load(x, src + k, like), mask)
        compress_store(index, e, iota(index, k, like), mask)
        e += popcount(mask)
        k += length(like)
    while k < count:  # each is written, and kept only by counting it
        store_scalar(index, e, k)
        store_scalar(value, e, load_scalar(x, src + k))
        e += load_scalar(x, src + k) != 0
        k += 1
    return e


@inlined(arrays=True)
def sparse_rows(x, M, K):
    """The `SparseRows` of a `Matrix` x (M, K)."""
    blocks = ceil_div(K, BLOCK)
    start = np.empty(M * blocks + 1, np.int64)
    start[0] = 0
    index, value = empty_nonzeros(M * K, x.data)
    for m in range(M):
        for b in range(blocks):
            s, src = m * blocks + b, x.start + m * x.step + b * BLOCK
            end = gather_nonzeros(index, value, load_scalar(start, s), x.data, src, min(BLOCK, K - b * BLOCK))
            store_scalar(start, s + 1, end)
    return SparseRows(index, value, start)


@inlined(arrays=True)
def sparse_multiply(out, x, w, shape):
    """out (M, F) += x (M, K) @ w (K, F): `multiply` of gemm.py, for x as `SparseRows`; whether all of w is finite."""
    F = shape[2]
    f, long, wide = 0, zeros(w.data, LONG), zeros(w.data, WIDE)
    narrow, single = zeros(w.data, 1), zeros(w.data, 0)
    factors, finite = empty_aligned(BLOCK * length(long), w.data), True
    while f + length(long) <= F:
        finite &= _multiply_columns(out, x, w, shape, f, factors, long)
        f += length(long)
    while f + length(wide) <= F:
        finite &= _multiply_columns(out, x, w, shape, f, factors, wide)
        f += length(wide)
    while f + length(narrow) <= F:
        finite &= _multiply_columns(out, x, w, shape, f, factors, narrow)
        f += length(narrow)
    for rest in range(f, F):
        finite &= _multiply_columns(out, x, w, shape, rest, factors, single)
    return finite


@inlined
def _multiply_columns(out, x, w, shape, f, factors, like):
    """`sparse_multiply` for as many columns from f on as `like` has entries."""
    M, K, _ = shape
    width, blocks, check = length(like), ceil_div(K, BLOCK), like
    for b in range(blocks):
        for k in range(min(BLOCK, K - b * BLOCK)):
            factor = load(w.data, w.start + (b * BLOCK + k) * w.step + f, like)
            check = muladd(check, 0, factor)  # stays 0 unless a factor is NaN or infinite
            store(factors, k * width, factor)
        for m in range(M):
            first, end = load_scalar(x.start, m * blocks + b), load_scalar(x.start, m * blocks + b + 1)
            if first == end:  # its sums need not be read: a pixel that is black in all images
                continue
            dst = out.start + m * out.step + f
            sums = load(out.data, dst, like)
            for e in range(first, end):
                no_unroll()
                row = np.int64(load_scalar(x.index, e)) * width
                sums = muladd(sums, load_scalar(x.value, e), load(factors, row, like))
            store(out.data, dst, sums)
    store(factors, 0, check)
    return all_finite(factors, 0, 0, 1, width)
