"""Where, among the distances of one kind of pairs, those of the other kind lie: all an exact ROC needs.

With embeddings sorted by class, the partners j > i of image i are a run of similar ones, then only dissimilar
ones. So a kind of pairs is a range first[i] .. last[i] - 1 of partners for each i, whose bounds never fall while
i rises. `pair_squares` writes the squared distances of the rarer kind, to be sorted; `pair_ranks` runs over the
other kind and counts, for each sorted value, how many lie in the gap below it and how many equal it. No array
is as long as there are pairs.

A table of equally wide bins over the values says where to begin to look, and a bisection ends it. The counts
are whole numbers, so threads can add to them in any order.
"""

import numpy as np

from siamese_np.kernels.search.squared_distances import COLUMNS, ROWS, columns_of, pad_rows, square_rows
from siamese_np.runtime.inline import array_part, part
from siamese_np.runtime.jit import kernel
from siamese_np.runtime.team import count, sharded

SHARD = 64  # images that share a transposed block of others
BINS = 1 << 18
VALUES = 1 << 16  # entered into the table by one thread


@kernel
def pair_squares(squares, emb, first, last):
    """squares (S,) of the pairs (i, j), first[i] <= j < last[i], one image after another, of emb (N, E)."""
    start = np.zeros(emb.shape[0] + 1, np.int64)
    for i in range(emb.shape[0]):
        start[i + 1] = start[i] + last[i] - first[i]
    _write((squares, emb, first, last, start), -(-emb.shape[0] // SHARD))


@kernel
def pair_ranks(below, equal, values, emb, first, last):
    """Count the squares of the pairs (i, j), first[i] <= j < last[i], among the ascending values (S,).

    below (S + 1,) += pairs between values[s - 1] and values[s]; equal (S,) += pairs equal to values[s], where
    it is the first of equal ones.
    """
    scale = BINS / (values[-1] - values[0]) if values[-1] > values[0] else 0.0
    table = np.empty(BINS + 2, np.int64)  # table[b]: the first value in bin b or later
    _index((table, values, scale), -(-values.size // VALUES))
    _count((below, equal, values, table, scale, emb, first, last), -(-emb.shape[0] // SHARD))


@sharded
@part
def _index(table, values, scale, s):
    """Enter some of the values into the table: each into the bins behind that of the value before."""
    least, stop = values[0], min((s + 1) * VALUES, values.size)
    before = _bin(values[s * VALUES - 1], least, scale) if s else -1
    for p in range(s * VALUES, stop):
        b = _bin(values[p], least, scale)
        for between in range(before + 1, b + 1):
            table[between] = p
        before = b
    if stop == values.size:
        table[before + 1 :] = stop


@sharded
@array_part
def _write(squares, emb, first, last, start, s):
    i0, i1 = s * SHARD, min((s + 1) * SHARD, emb.shape[0])
    rows, block = pad_rows(emb, i0, SHARD), np.empty((ROWS, COLUMNS), emb.dtype)
    for j0 in range(first[i0], last[i1 - 1], COLUMNS):
        columns = columns_of(emb, j0)
        for i in range(i0, i1, ROWS):
            square_rows(block, rows, i - i0, columns)
            for r in range(min(ROWS, i1 - i)):
                for j in range(max(first[i + r], j0), min(last[i + r], j0 + COLUMNS)):
                    squares[start[i + r] + j - first[i + r]] = block[r, j - j0]


@sharded
@array_part
def _count(below, equal, values, table, scale, emb, first, last, s):
    i0, i1 = s * SHARD, min((s + 1) * SHARD, emb.shape[0])
    rows, block = pad_rows(emb, i0, SHARD), np.empty((ROWS, COLUMNS), emb.dtype)
    least, most, above = values[0], values[-1], 0
    for j0 in range(first[i0], last[i1 - 1], COLUMNS):
        columns = columns_of(emb, j0)
        for i in range(i0, i1, ROWS):
            square_rows(block, rows, i - i0, columns)
            for r in range(min(ROWS, i1 - i)):
                for j in range(max(first[i + r], j0), min(last[i + r], j0 + COLUMNS)):
                    square = block[r, j - j0]
                    if square > most:
                        above += 1
                        continue
                    place = 0
                    if square > least:
                        b = _bin(square, least, scale)
                        place, end = table[b], table[b + 1]
                        while place < end:  # the first value that is not below
                            middle = (place + end) >> 1
                            if values[middle] < square:
                                place = middle + 1
                            else:
                                end = middle
                    count(equal if values[place] == square else below, place, 1)
    count(below, values.size, above)


@part
def _bin(value, least, scale):
    """Number of the bin of a value; never falls while the value rises."""
    return min(int((value - least) * scale), BINS)
