"""Ranks of the distances of many pairs among those of few others: what the exact ROC curve is made of.

The pairs are (i, j) with first[i] <= j < last[i]. Squared distances are compared: the root keeps their order.

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
