"""Metrics over all pairs of N images, each with a 95 % interval by bootstrap over images.

The N (N - 1) / 2 pairs share images, so they are not independent, and an interval from resampled pairs is far too
narrow. So images are drawn, with replacement, as many as there are (Efron, "Bootstrap methods: another look at the
jackknife", Annals of Statistics 7, 1979): resample b holds image i count[i, b] times, and so the pair (i, j)
count[i, b] count[j, b] times. Pairs of an image with itself are left out.

How many pairs of each resample are accepted at a threshold is a matrix product, of the matrix that says which pairs
are (dist < threshold) with `count`. Its numbers are whole and below 2^24, so float32 holds them exactly.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from siamese_np._checks import check_classes, check_embeddings, is_whole, seeded
from siamese_np.errors import OptionError
from siamese_np.metrics import all_pairs_metrics, least_square

Floats = NDArray[np.float64]

MAX_RESAMPLES = 100_000
BLOCK = 500  # images whose distances to all others are held at once
# A resample's equal error rate lies on a straight line between two of these thresholds: where all images have a false
# reject rate of so many times their equal error rate
AROUND = np.array([2.0, 1.3, 1.0, 0.75, 0.5])


def all_pairs_intervals(
    emb: ArrayLike, classes: ArrayLike, threshold: float, resamples: int = 200, seed: int = 0
) -> dict[str, Any]:
    """`all_pairs_metrics`, the balanced accuracy at a threshold, and intervals; takes seconds for 10,000 images.

    Parameters
    ----------
    emb : (N, E) array
    classes : (N,) array
        Two embeddings are similar if their classes are the same; both kinds of pairs are needed.
    threshold : float
        From `calibrate_threshold` on other images than these.
    resamples : int, default 200
        From 2 to 100,000. An interval is the resamples' 2.5th to 97.5th percentile.
    seed : int

    Returns
    -------
    dict
        What `all_pairs_metrics` returns; `eer_interval` and `balanced_accuracy_interval`, a list of two floats each.
        A resample without a pair of each kind, as of a few images may come, is left out.
    """
    limit = least_square(threshold)
    if not is_whole(resamples) or not 2 <= resamples <= MAX_RESAMPLES:
        raise OptionError(
            f"an interval needs at least 2 resamples, at most {MAX_RESAMPLES}, as a whole number, "
            f"not {resamples!r:.200}"
        )
    metrics: dict[str, Any] = dict(all_pairs_metrics(emb, classes, threshold))
    emb, own = check_embeddings("emb", emb), np.unique(check_classes(classes, text=True), return_inverse=True)[1]
    order = np.argsort(own, kind="stable")
    own, emb = own[order], emb[order].astype(np.float64)
    emb -= emb.mean(axis=0)  # so that less cancels in `_squares`
    N, rng = len(emb), seeded(np.random.default_rng, seed)
    count = np.stack([np.bincount(rng.integers(0, N, N), minlength=N) for _ in range(resamples)], 1)

    rejects = np.minimum(AROUND * metrics["eer"], 1)
    near = np.quantile(_similar_squares(emb, own), 1 - rejects)
    around = np.unique(near + 1e-12 * (emb**2).sum(axis=1).max())  # beyond the rounding of `_squares`
    far, frr = _error_rates(emb, own, np.append(around, limit), count.astype(np.float32))
    balanced = 1 - (far[-1] + frr[-1]) / 2
    for name, values in (("eer", _crossings(far[:-1], frr[:-1])), ("balanced_accuracy", balanced)):
        metrics[f"{name}_interval"] = np.nanpercentile(values, [2.5, 97.5]).tolist()
    return metrics


def _similar_squares(emb: Floats, own: NDArray[np.intp]) -> Floats:
    """Squared distances of all similar pairs; `own` is sorted."""
    from siamese_np.backend import ops

    first, last = np.arange(1, len(own) + 1), np.cumsum(np.bincount(own))[own]
    squares = np.empty(int((last - first).sum()))
    ops.pair_squares(squares, emb, first, last)
    return squares


def _error_rates(
    emb: Floats, own: NDArray[np.intp], squares: Floats, count: NDArray[np.float32]
) -> tuple[Floats, Floats]:
    """False accept and false reject rates (thresholds, resamples) at thresholds of the squared distance.

    NaN where a resample has no pair of the kind.
    """
    accepted = np.zeros((2, len(squares), count.shape[1]))  # similar, dissimilar
    for first, last, end in _blocks(own):
        square = _squares(emb[first:last], emb[first:])
        square[np.tril_indices_from(square)] = np.inf  # each pair once, none with itself
        for kind, partners in enumerate((slice(0, end - first), slice(end - first, None))):
            for t, limit in enumerate(squares):
                partner_count = (square[:, partners] < limit).astype(np.float32) @ count[first:][partners]
                accepted[kind, t] += np.einsum("ib,ib->b", count[first:last], partner_count, dtype=np.float64)
    by_class = np.stack([count[own == c].sum(axis=0, dtype=np.float64) for c in range(own[-1] + 1)])
    together, itself = (by_class**2).sum(axis=0), (count.astype(np.float64) ** 2).sum(axis=0)
    similar, dissimilar = (together - itself) / 2, (len(emb) ** 2 - together) / 2
    with np.errstate(invalid="ignore"):
        return accepted[1] / dissimilar, 1 - accepted[0] / similar


def _blocks(own: NDArray[np.intp]) -> Iterator[tuple[int, int, int]]:
    """First and last image of each block, all of one class, and where that class ends; `own` is sorted."""
    ends = np.cumsum(np.bincount(own))
    for start, end in zip(np.append(0, ends), ends, strict=False):
        for first in range(start, end, BLOCK):
            yield first, min(first + BLOCK, end), end


def _squares(a: Floats, b: Floats) -> Floats:
    """Squared distances (A, B), which cancel where pairs are close; none is below 0."""
    return np.maximum((a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2 * a @ b.T, 0)


def _crossings(far: Floats, frr: Floats) -> Floats:
    """Where far = frr, in straight lines between the thresholds, from accepting nothing to accepting all."""
    far, frr = (np.pad(rates, ((1, 1), (0, 0)), constant_values=ends) for rates, ends in ((far, (0, 1)), (frr, (1, 0))))
    excess, column = far - frr, np.arange(far.shape[1])  # rises from -1 to 1
    after = (excess < 0).sum(axis=0).clip(1, len(far) - 1)
    low, high = excess[after - 1, column], excess[after, column]
    return far[after - 1, column] - low / (high - low) * (far[after, column] - far[after - 1, column])
