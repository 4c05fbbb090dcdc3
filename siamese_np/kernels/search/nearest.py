"""The k nearest neighbours, exactly, compiled. Textbook: textbook/nearest.py.

Made fast by
- a filter: |q - g|^2 = |q|^2 + |g|^2 - 2 q g is a product of matrices (gemm.py), for which float32 will do. It cancels
  for close pairs, so it only leaves out those rows of the gallery that cannot be among the k best whatever its error
  (`_in_frame`). Of the others the square is computed from the difference (squared_distances.py): one by one if there
  are few, as of most blocks, or all of a block;
- keeping the k best so far in a heap: none is better than its two children, n at 2 n + 1 and 2 n + 2, so the worst is
  at the top, 0. A row that is better than the top takes its place and sinks to where it belongs.

In the end the top is taken off k times, the worst first. Of equal distances the lower row number is the better.
"""

from typing import Any, NamedTuple

import numpy as np

from siamese_np.kernels.search.squared_distances import COLUMNS, ROWS, columns_of, pad_rows, square_pair, square_rows
from siamese_np.kernels.simd.gemm import Matrix, Strided, multiply, transpose
from siamese_np.kernels.simd.scratch import ceil_div, empty_aligned, zeros_aligned
from siamese_np.kernels.simd.vectors import load_scalar
from siamese_np.runtime.jit import inlined, kernel
from siamese_np.runtime.shards import sharded

SHARD = 240  # queries that pass over the gallery together
TILE = 6 * ROWS  # of these, how many meet a block of the gallery at a time
MIN_QUERIES = 32  # with fewer, to bring the gallery into float32 costs more than is saved
FEW = COLUMNS // 2  # squares to compute of ROWS queries and a block; from there on, a whole block of squares is faster
SAMPLE = 256  # rows of the gallery that tell where its middle lies, and how far others do
FAR = 2.0**40  # squared distance from the middle, in units of the sample's largest, from which on nothing is left out


class Frame(NamedTuple):
    """An embedding x becomes (x - centre) * scale in float32; `error` bounds what rounding takes from a product."""

    centre: Any
    scale: float
    error: float


@kernel(shared=True)
def nearest_rows(squares, indices, query, gallery, k):
    """squares, indices (Q, k): the k smallest squared distances of each query (Q, E) to gallery (G, E), k <= G.

    All embeddings are float64.
    """
    blocks = ceil_div(len(gallery), COLUMNS) if len(query) >= MIN_QUERIES else 0
    frame = _frame_of(gallery if blocks else gallery[:1])  # of one row: scale 0, so nothing is left out
    columns = empty_aligned(blocks * COLUMNS * (gallery.shape[1] + 1), np.empty(0, np.float32))
    _fill_columns((columns, gallery, frame), blocks)
    _search((squares, indices, query, gallery, columns, frame), ceil_div(len(query), SHARD))


@inlined(arrays=True)
def _frame_of(gallery):
    """The `Frame` in which evenly spread rows of the gallery have the middle 0 and lengths up to 1."""
    G, E = gallery.shape
    step, centre, largest = ceil_div(G, SAMPLE), np.zeros(E), 0.0
    for g in range(0, G, step):
        for e in range(E):
            centre[e] += gallery[g, e] / ceil_div(G, step)
    for g in range(0, G, step):
        square = 0.0
        for e in range(E):
            square += (gallery[g, e] - centre[e]) ** 2
        largest = max(largest, square)
    roundings = (E + 8) * 2.0**-24
    return Frame(centre, 1 / np.sqrt(largest) if largest > 1e-200 else 0.0, roundings * (1 + 2 * roundings))


@inlined(arrays=True)
def _in_frame(x, first, count, frame):
    """Rows first, ..., first + count - 1 of x (N, E) in float32, with room for one number more, and their squares.

    A row q with the number 1 behind it, times a row g with (error - 1/2) |g|^2, is q g - |g|^2 / 2 but for rounding:
    E + 1 multiply-adds and the numbers themselves are each off by up to 2^-24 of |q g| or |g|^2 / 2, so all together
    by less than error (|q|^2 / 2 + |g|^2). What the product is too small by is less than error |q|^2 / 2.
    """
    E = x.shape[1]
    rows, squares = np.zeros((count, E + 1), np.float32), np.zeros(count)
    for r in range(min(count, len(x) - first)):
        src, dst = x[first + r], rows[r]
        for e in range(E):
            dst[e] = np.float32((src[e] - frame.centre[e]) * frame.scale)
        squares[r] = _square_pair_row(dst, E)
    return rows, squares


@inlined(reassociate=True)
def _square_pair_row(row, E):
    total = 0.0
    for e in range(E):
        total += np.float64(row[e]) * np.float64(row[e])
    return total


@sharded
@inlined(arrays=True)
def _fill_columns(columns, gallery, frame, s):
    """Block s of the gallery as columns (E + 1, COLUMNS) in the frame."""
    K = gallery.shape[1] + 1
    rows, squares = _in_frame(gallery, s * COLUMNS, COLUMNS, frame)
    for r in range(COLUMNS):
        rows[r, K - 1] = np.inf if squares[r] > FAR else (frame.error - 0.5) * squares[r]
    transpose(Matrix(columns, s * COLUMNS * K, COLUMNS), Matrix(rows.reshape(-1), 0, K), COLUMNS, K)


@sharded
@inlined(arrays=True)
def _search(squares, indices, query, gallery, columns, frame, s):
    first, count = s * SHARD, min(SHARD, len(query) - s * SHARD)
    k, K, transposed = squares.shape[1], query.shape[1] + 1, -1
    for i in range(first, first + count):
        for n in range(k):
            squares[i, n], indices[i, n] = np.inf, -1
    rows, lengths = _in_frame(query, first, SHARD, frame)
    rows[:, K - 1] = 1
    exact_rows, exact_columns = pad_rows(query, first, SHARD), np.empty((0, COLUMNS), query.dtype)
    products, block = zeros_aligned(TILE * COLUMNS, columns), np.empty((ROWS, COLUMNS), query.dtype)
    found = np.empty(ROWS, np.float32)
    for g in range(0, len(gallery), COLUMNS):
        width = min(COLUMNS, len(gallery) - g)
        for m in range(0, count, ROWS):
            if m % TILE == 0 and columns.size:
                left, right = Strided(rows.reshape(-1), m * K, K, 1), Matrix(columns, g * K, COLUMNS)
                multiply(Matrix(products, 0, COLUMNS), left, right, (min(TILE, count - m), K, COLUMNS), False)
            for r in range(ROWS):
                least = _least_product(squares, min(first + m + r, first + count - 1), lengths[m + r], frame)
                found[r] = _count_above(products, (m % TILE + r) * COLUMNS, width, least)
            whole = found.sum() > FEW
            if whole:
                if transposed != g:
                    exact_columns, transposed = columns_of(gallery, g), g
                square_rows(block, exact_rows, m, exact_columns)
            for r in range(min(ROWS, count - m)):
                if found[r]:
                    i, src = first + m + r, (m % TILE + r) * COLUMNS
                    best, index, least = squares[i], indices[i], _least_product(squares, i, lengths[m + r], frame)
                    for j in range(width):
                        if not load_scalar(products, src + j) <= least:
                            if not whole:
                                square_pair(block, r, j, query, i, gallery, g + j)
                            if block[r, j] < best[0]:  # one that is equal has the higher row number
                                _sink(best, index, k, block[r, j], g + j)
    for i in range(first, first + count):
        best, index = squares[i], indices[i]
        for size in range(k - 1, 0, -1):
            square, number = best[size], index[size]
            best[size], index[size] = best[0], index[0]
            _sink(best, index, size, square, number)


@inlined
def _least_product(squares, i, length, frame):
    """The product (`_in_frame`) up to which no row is among the best of query i, of this square length; or NaN."""
    if length > FAR:
        return np.float32(np.nan)
    least = ((1 - frame.error) * length - squares[i, 0] * frame.scale * frame.scale) / 2
    # less what float32 takes from this number, and from numbers near 0
    return np.float32(least - abs(least) * 2.0**-22 - frame.centre.size * 2.0**-100)


@inlined(reassociate=True)
def _count_above(products, src, width, least):
    """How many of `width` products are above `least`, or NaN, or have no such bound."""
    count = np.float32(0)  # of which a vector holds more than of whole numbers
    for j in range(src, src + width):
        count += np.float32(not load_scalar(products, j) <= least)
    return count


@inlined
def _sink(best, index, size, square, number):
    """Put (square, number) in place of the top of the heap of `size`, and let it sink."""
    n = 0
    while True:
        child = 2 * n + 1
        if child + 1 < size and _worse(best, index, child + 1, best[child], index[child]):
            child += 1
        if child >= size or not _worse(best, index, child, square, number):
            best[n], index[n] = square, number
            return
        best[n], index[n] = best[child], index[child]
        n = child


@inlined
def _worse(best, index, n, square, number):
    return best[n] > square or (best[n] == square and index[n] > number)
