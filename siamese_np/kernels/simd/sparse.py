"""Entries that are not 0, listed one beside the other: what is worth multiplying in black pixels and ReLU's zeros.

Entry e of a list is ``value[e]``, at place ``index[e]``. What runs through a list keeps a few vectors of sums in
registers, and meets each entry with a row of neighbouring numbers: so the sums must be wide, and the rows it picks
from should lie in the L1 cache.
"""

import numpy as np

from siamese_np.kernels.simd.scratch import aligned
from siamese_np.kernels.simd.vectors import (
    LONG,
    VECTOR_BYTES,
    WIDE,
    compress_store,
    iota,
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
from siamese_np.runtime.inline import array_part, part

BLOCK = 64  # factors, whose LONG vectors of w each fit into the L1 cache together


@array_part
def empty_list(size, like):
    """Room for an index and a value of `size` entries."""
    size += VECTOR_BYTES  # lists are written in whole vectors
    return np.empty(size, np.int32), np.empty(size, like.dtype)


@part
def list_entries(index, value, e, flat, at, count):
    """Append what is not 0 of flat[at], ..., flat[at + count - 1] to e entries; return how many there are then."""
    c, one, vector = 0, zeros(flat, 1), VECTOR_BYTES // flat.itemsize
    while c + vector <= count:
        bits = nonzero_mask(flat, at + c, one)
        compress_store(value, e, load(flat, at + c, one), bits)
        compress_store(index, e, iota(index, c, one), bits)
        e += popcount(bits)
        c += vector
    while c < count:  # written in any case, and kept by counting it: no branch that could be predicted wrong
        store_scalar(index, e, c)
        store_scalar(value, e, load_scalar(flat, at + c))
        e += load_scalar(flat, at + c) != 0
        c += 1
    return e


@array_part
def list_rows(x, at, step, M, K):
    """Lists of the rows of x (M, K), flat, from x[at] on, `step` apart: index, value, and where each begins.

    Each row has a list for each BLOCK of its columns, and counts from the first of them.
    """
    blocks = -(-K // BLOCK)
    start = np.empty(M * blocks + 1, np.int64)
    index, value = empty_list(M * K, x)
    start[0] = 0
    for m in range(M):
        for b in range(blocks):
            here, count = at + m * step + b * BLOCK, min(BLOCK, K - b * BLOCK)
            s = m * blocks + b
            store_scalar(start, s + 1, list_entries(index, value, load_scalar(start, s), x, here, count))
    return index, value, start


@array_part
def multiply_listed(out, lists, w, shape):
    """out (M, F) += x (M, K) @ w (K, F), as `multiply` of matmul.py, where `list_rows` has listed x."""
    M, K, F = shape
    f, vector = 0, VECTOR_BYTES // w[0].itemsize
    held = aligned(BLOCK * LONG * vector, w[0])
    while f + LONG * vector <= F:
        add_columns(out, lists, w, held, f, M, K, zeros(w[0], LONG), LONG * vector)
        f += LONG * vector
    while f + WIDE * vector <= F:
        add_columns(out, lists, w, held, f, M, K, zeros(w[0], WIDE), WIDE * vector)
        f += WIDE * vector
    while f + vector <= F:
        add_columns(out, lists, w, held, f, M, K, zeros(w[0], 1), vector)
        f += vector
    if f < F:
        add_rest(out, lists, w, f, shape)


@part
def add_columns(out, lists, w, held, f, M, K, like, width):
    """`multiply_listed` for `width` columns from f on, as many as `like` has lanes."""
    (sums, goal, out_step), (index, value, start), (rows, row, step) = out, lists, w
    blocks = -(-K // BLOCK)
    for b in range(blocks):
        for k in range(min(BLOCK, K - b * BLOCK)):  # where they lie, rows may crowd into few sets of the cache
            store(held, k * width, load(rows, row + (b * BLOCK + k) * step + f, like))
        for m in range(M):
            to, total = goal + m * out_step + f, load(sums, goal + m * out_step + f, like)
            for e in range(load_scalar(start, m * blocks + b), load_scalar(start, m * blocks + b + 1)):
                no_unroll()
                total = muladd(total, load_scalar(value, e), load(held, np.int64(load_scalar(index, e)) * width, like))
            store(sums, to, total)


@part
def add_rest(out, lists, w, f, shape):
    """`multiply_listed` for the columns from f on, which do not fill a vector."""
    (M, K, F), (sums, goal, out_step), (index, value, start), (rows, row, step) = shape, out, lists, w
    blocks = -(-K // BLOCK)
    for m in range(M):
        for b in range(blocks):
            for e in range(load_scalar(start, m * blocks + b), load_scalar(start, m * blocks + b + 1)):
                at, to = row + (b * BLOCK + np.int64(load_scalar(index, e))) * step, goal + m * out_step
                for column in range(f, F):
                    store_scalar(
                        sums,
                        to + column,
                        load_scalar(sums, to + column) + load_scalar(value, e) * load_scalar(rows, at + column),
                    )
