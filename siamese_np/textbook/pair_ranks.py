"""Ranks of the distances of many pairs among those of few others: what the exact ROC curve is made of.

A ROC curve tells, for each threshold, how many similar and how many dissimilar pairs lie below it. The kind of which
there are fewer gives the thresholds: its squared distances, sorted (`values`). The pairs of the other kind are counted
into the gaps between them, and their distances are not kept. The root would keep the order, so it is not taken.

The embeddings are sorted by class, so the partners of image i are a range: first[i] <= j < last[i].

Example.   values = [1, 4] and pairs with the squares 0, 1, 2, 5:
           below = [1, 1, 1] (the 0, the 2 and the 5), equal = [1, 0] (the 1).

Compiled: kernels/search/pair_ranks.py.
"""

import numpy as np


def pair_squares(emb, first, last):
    """squares (S,) of the pairs of emb (N, E), one image i after another."""
    rows = [((emb[i] - emb[first[i] : last[i]]) ** 2).sum(axis=1) for i in range(len(emb))]
    return np.concatenate(rows) if rows else np.empty(0, emb.dtype)


def pair_ranks(values, emb, first, last):
    """below (S + 1,), equal (S,): how many pairs' squares lie between two of the sorted values (S,), or equal one.

    below[s] counts the squares above values[s - 1] and below values[s]; equal[s] those equal to values[s], where
    the first of equal values counts.
    """
    squares = pair_squares(emb, first, last)
    place = np.searchsorted(values, squares)
    equals = values[np.minimum(place, len(values) - 1)] == squares
    below = np.bincount(place[~equals], minlength=len(values) + 1)
    equal = np.bincount(place[equals], minlength=len(values))
    return below, equal
