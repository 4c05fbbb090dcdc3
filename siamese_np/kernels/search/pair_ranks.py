"""Ranks of the distances of many pairs among those of few others, compiled. Textbook: textbook/pair_ranks.py.

With embeddings sorted by class, the partners j > i of image i are first similar ones, then only dissimilar ones. So a
kind of pairs is a range first[i] .. last[i] - 1 of partners for each i, whose bounds never fall while i rises.

Made fast by
- writing only the squares of the rarer kind, to be sorted: no array is as long as there are pairs;
- computing all squares in blocks (squared_distances.py), and taking no root: only their order counts;
- beginning each search in a table of equally wide bins over the sorted values; a bisection ends it;
- letting threads add to the same counts, in any order: they are whole numbers.
"""

from typing import Any, NamedTuple

import numpy as np

from siamese_np.kernels.search.squared_distances import COLUMNS, ROWS, columns_of, pad_rows, square_rows
from siamese_np.kernels.simd.scratch import ceil_div
from siamese_np.runtime.jit import inlined, kernel
from siamese_np.runtime.shards import atomic_add, sharded

SHARD = 64  # images that share a transposed block of others
BINS = 1 << 18
VALUES = 1 << 16  # entered into the table by one shard


class Table(NamedTuple):
    """Ascending values; first[b] is the first of them in bin b or later. A bin is 1 / scale wide."""

    values: Any
    first: Any
    scale: float


@kernel(shared=True)
def pair_squares(squares, emb, first, last):
    """squares (S,) of the pairs (i, j), first[i] <= j < last[i], one image after another, of emb (N, E)."""
    start = np.zeros(len(emb) + 1, np.int64)
    for i in range(len(emb)):
        start[i + 1] = start[i] + last[i] - first[i]
    _write((squares, emb, first, last, start), ceil_div(len(emb), SHARD))


@kernel(shared=True)
def pair_ranks(below, equal, values, emb, first, last):
    """Count the squares of the pairs (i, j), first[i] <= j < last[i], among the ascending values (S,).

    below (S + 1,) += pairs between values[s - 1] and values[s]; equal (S,) += pairs equal to values[s], where
    it is the first of equal ones.
    """
    scale = BINS / (values[-1] - values[0]) if values[-1] > values[0] else 0.0
    table = Table(values, np.empty(BINS + 2, np.int64), scale)
    _index((table,), ceil_div(values.size, VALUES))
    _count((below, equal, table, emb, first, last), ceil_div(len(emb), SHARD))


@sharded
@inlined
def _index(table, s):
    """Enter some of the values into the table: each into the bins behind that of the value before."""
    values, stop = table.values, min((s + 1) * VALUES, table.values.size)
    before = _bin(table, values[s * VALUES - 1]) if s else -1
    for p in range(s * VALUES, stop):
        b = _bin(table, values[p])
        for between in range(before + 1, b + 1):
            table.first[between] = p
        before = b
    if stop == values.size:
        table.first[before + 1 :] = stop


@sharded
@inlined(arrays=True)
def _write(squares, emb, first, last, start, s):
    i0, i1 = s * SHARD, min((s + 1) * SHARD, len(emb))
    rows, block = pad_rows(emb, i0, SHARD), np.empty((ROWS, COLUMNS), emb.dtype)
    for j0 in range(first[i0], last[i1 - 1], COLUMNS):
        columns = columns_of(emb, j0)
        for i in range(i0, i1, ROWS):
            square_rows(block, rows, i - i0, columns)
            for r in range(min(ROWS, i1 - i)):
                for j in range(max(first[i + r], j0), min(last[i + r], j0 + COLUMNS)):
                    squares[start[i + r] + j - first[i + r]] = block[r, j - j0]


@sharded
@inlined(arrays=True)
def _count(below, equal, table, emb, first, last, s):
    i0, i1 = s * SHARD, min((s + 1) * SHARD, len(emb))
    rows, block = pad_rows(emb, i0, SHARD), np.empty((ROWS, COLUMNS), emb.dtype)
    greatest, above = table.values[-1], 0
    for j0 in range(first[i0], last[i1 - 1], COLUMNS):
        columns = columns_of(emb, j0)
        for i in range(i0, i1, ROWS):
            square_rows(block, rows, i - i0, columns)
            for r in range(min(ROWS, i1 - i)):
                for j in range(max(first[i + r], j0), min(last[i + r], j0 + COLUMNS)):
                    square = block[r, j - j0]
                    if square > greatest:
                        above += 1
                    else:
                        rank = _rank(table, square)
                        atomic_add(equal if table.values[rank] == square else below, rank, 1)
    atomic_add(below, table.values.size, above)


@inlined
def _rank(table, square):
    """Number of the first value that is not below `square`, which is not above all."""
    if not square > table.values[0]:
        return 0
    b = _bin(table, square)
    first, end = table.first[b], table.first[b + 1]
    while first < end:
        middle = (first + end) >> 1
        if table.values[middle] < square:
            first = middle + 1
        else:
            end = middle
    return first


@inlined
def _bin(table, value):
    """Number of the bin of a value; never falls while the value rises."""
    return min(int((value - table.values[0]) * table.scale), BINS)
