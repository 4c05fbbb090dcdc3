"""Embeddings in, metrics out: pair accuracy, ROC, AUC, EER, nearest neighbours.

A pair's label is 0 = similar, 1 = dissimilar (Hadsell, Chopra & LeCun, "Dimensionality Reduction by Learning an
Invariant Mapping", CVPR 2006). A pair is *accepted* as similar if its distance is below the threshold. So similar
pairs are the positives: the true accept rate (TAR) is the share of similar pairs accepted, the false accept rate
(FAR) the share of dissimilar ones.

The arguments mean the same in all functions:

- ``dist`` (P,) and ``label`` (P,): distances of P >= 1 pairs, finite and at least 0, and their labels.
- ``emb`` (N, E), ``query`` (Q, E), ``gallery`` (G, E): embeddings, finite real numbers, E >= 1.
- ``classes`` (N,): the class of each embedding, whole numbers or text; not a pair label.
- ``threshold``: the first distance that counts as dissimilar, any number but NaN.

An array of another shape, dtype or value is a `ShapeError`, and so are pairs of one kind only where both are needed.
A number outside its range is an `OptionError`.

Everything is computed in float64 whatever comes in, and counted where counting is possible. So equal distances
(common: two black images have the same embedding) are treated exactly.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from siamese_np._checks import (
    as_array,
    as_number,
    check_classes,
    check_embeddings,
    check_margin,
    check_pairs,
    check_rows,
    check_threshold,
    found,
    is_whole,
)
from siamese_np.errors import OptionError, ShapeError
from siamese_np.textbook import contrastive_forward

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

PERCENTILES = (1, 5, 25, 50, 75, 95, 99)

_BLOCK_DIFFERENCES = 1 << 18  # numbers of a block of differences: 2 MB in float64, stays in cache
_BLOCK_QUERIES = 1 << 10  # whose neighbours are held at once
_BLOCK_VALUES = 1 << 16  # values whose corners of the ROC are made at once


def pair_distances(emb: ArrayLike, pairs: ArrayLike) -> Floats:
    """Euclidean distance of each pair of embeddings.

    Taken from the differences themselves. The shorter ``|a|^2 + |b|^2 - 2ab`` cancels for close pairs, which are the
    ones that matter here; this way two equal embeddings are at distance exactly 0.

    Parameters
    ----------
    emb : (N, E) array
    pairs : (P, 2) array of int
        Row numbers of `emb`; P may be 0.

    Returns
    -------
    (P,) array of float64
    """
    emb = check_embeddings("emb", emb)
    pairs = check_rows("pairs", pairs, (None, 2), len(emb))
    dist = np.empty(len(pairs))
    step = max(1, _BLOCK_DIFFERENCES // emb.shape[1])
    for start in range(0, len(pairs), step):
        first, second = pairs[start : start + step].T
        diff = np.subtract(emb[first], emb[second], dtype=np.float64)
        np.einsum("pe,pe->p", diff, diff, out=dist[start : start + step])
    return np.sqrt(dist, out=dist)


def calibrate_threshold(dist: ArrayLike, label: ArrayLike) -> float:
    """The threshold with the highest pair accuracy, at least 0.

    Every threshold between two neighbouring distances decides alike, so their midpoint is returned. If several
    such gaps give the same, highest accuracy, the widest wins, and the lowest of equally wide ones. Accepting
    nothing (half the smallest distance is returned) or everything (the next number above the largest) is chosen
    only if no gap does as well. Both kinds of pairs are needed.

    Calibrate on validation pairs, never on the pairs whose accuracy is then reported.
    """
    dist, similar = _both_kinds(dist, label)
    value, accepted_similar, accepted_dissimilar = _accepted_counts(dist, similar)
    correct = accepted_similar - accepted_dissimilar  # less the number of dissimilar pairs, a constant
    gap = np.concatenate(([0.0], np.diff(value), [0.0]))
    gap[correct < correct.max()] = -1.0
    cut = int(gap.argmax())  # the first of the widest
    if cut == 0:
        return float(value[0] / 2)
    if cut == len(value):
        return float(np.nextafter(value[-1], np.inf))
    low, high = value[cut - 1], value[cut]
    middle = low + (high - low) / 2
    # Between two neighbouring floats there is no middle; `high` itself still accepts low and rejects high.
    return float(middle if middle > low else high)


def pair_accuracy(dist: ArrayLike, label: ArrayLike, threshold: float) -> float:
    """The share of pairs that the rule "similar if dist < threshold" decides correctly, in [0, 1]."""
    dist, label = check_pairs(dist, label)
    return float(np.mean((dist < check_threshold(threshold)) == (label == 0)))


def roc_curve(dist: ArrayLike, label: ArrayLike) -> tuple[Floats, Floats, Floats]:
    """The receiver operating characteristic, one point for each set of pairs a threshold can accept.

    Point m accepts the pairs with `dist < thresholds[m]`. Equal distances enter together, as one step that may go
    up and right at once. Both kinds of pairs are needed.

    Returns
    -------
    far, tar : (M + 1,) array of float64
        False and true accept rate, rising from 0 to 1. M is the number of distinct distances.
    thresholds : (M + 1,) array of float64
        The distinct distances ascending, then infinity.
    """
    value, accepted_similar, accepted_dissimilar = _accepted_counts(*_both_kinds(dist, label))
    far = accepted_dissimilar / accepted_dissimilar[-1]
    tar = accepted_similar / accepted_similar[-1]
    return far, tar, np.append(value, np.inf)


def roc_auc(dist: ArrayLike, label: ArrayLike) -> float:
    """The area under the ROC: how often a similar pair is closer than a dissimilar one. 1 is perfect, 0.5 is chance.

    Counted in whole numbers over all (similar, dissimilar) combinations, an equal distance counting one half: the
    Mann-Whitney statistic (Hanley & McNeil, Radiology 143, 1982). Exact up to the one final division. Both kinds
    of pairs are needed.
    """
    _, accepted_similar, accepted_dissimilar = _accepted_counts(*_both_kinds(dist, label))
    return _twice_area(accepted_similar, accepted_dissimilar) / (
        2 * int(accepted_similar[-1]) * int(accepted_dissimilar[-1])
    )


def equal_error_rate(dist: ArrayLike, label: ArrayLike) -> float:
    """The error rate where FAR = 1 - TAR. 0 is perfect, 0.5 is chance.

    A threshold that makes both equal rarely exists, so the ROC is followed in straight lines between its points.
    Both kinds of pairs are needed.
    """
    far, tar, _ = roc_curve(dist, label)
    return _crossing(far, tar)


def tar_at_far(dist: ArrayLike, label: ArrayLike, far: float = 1e-3) -> float:
    """The largest true accept rate of any threshold whose false accept rate is at most `far`, from 0 to 1.

    Not interpolated: a threshold exists that reaches exactly this rate on these pairs. With fewer than 1 / `far`
    dissimilar pairs this is the rate at which not one of them is accepted. Both kinds of pairs are needed.
    """
    if not 0 <= as_number(far) <= 1:
        raise OptionError(f"far must be a number from 0 to 1, not {far!r:.200}")
    rate, tar, _ = roc_curve(dist, label)
    return float(tar[rate <= far][-1])


def pair_metrics(dist: ArrayLike, label: ArrayLike, threshold: float, margin: float) -> dict[str, Any]:
    """All metrics of a set of evaluation pairs, ready for JSON. Both kinds of pairs are needed.

    Parameters
    ----------
    dist, label : (P,) array
    threshold : float
        From `calibrate_threshold` on other pairs than these.
    margin : float
        The margin of the loss, above 0.

    Returns
    -------
    dict
        Plain floats under `pair_accuracy`, `pair_accuracy_at_half_margin`, `threshold`, `auc`, `eer`,
        `tar_at_far_1e-3`, `d_prime` and `loss`, the mean contrastive loss. d', the decidability (Daugman, IEEE
        Trans. Circuits Syst. Video Technol. 14, 2004), is the difference of the two kinds' mean distances over the
        root of the mean of their variances (0 where these are 0). Under `similar_distance` and `dissimilar_distance`
        a dict each with `mean`, `std` and the percentiles `p1`, `p5`, `p25`, `p50`, `p75`, `p95`, `p99`.
    """
    margin = check_margin(margin)
    dist, similar = _both_kinds(dist, label)
    near, far = _distance_summary(dist[similar]), _distance_summary(dist[~similar])
    spread = math.sqrt((near["std"] ** 2 + far["std"] ** 2) / 2)
    return {
        "pair_accuracy": pair_accuracy(dist, label, threshold),
        "pair_accuracy_at_half_margin": pair_accuracy(dist, label, margin / 2),
        "threshold": check_threshold(threshold),
        "auc": roc_auc(dist, label),
        "eer": equal_error_rate(dist, label),
        "tar_at_far_1e-3": tar_at_far(dist, label, 1e-3),
        "loss": float(np.mean(contrastive_forward(dist, ~similar, margin)[0])),
        "d_prime": (far["mean"] - near["mean"]) / spread if spread else 0.0,
        "similar_distance": near,
        "dissimilar_distance": far,
    }


def all_pairs_metrics(emb: ArrayLike, classes: ArrayLike, threshold: float | None = None) -> dict[str, float]:
    """Metrics of the ROC over all N (N - 1) / 2 pairs of N embeddings, exactly.

    Two embeddings are similar if their classes are the same; both kinds of pairs are needed. Distances are computed
    in float64 from the differences themselves and compared before the root is taken. They are counted, not sampled
    and not binned: the result equals that of `roc_auc`, `equal_error_rate` and `tar_at_far` on the list of all
    pairs. That list is never made; memory is needed for the squared distances of the rarer kind of pairs, 24 bytes
    each (120 MB for 10,000 images of ten classes).

    Returns
    -------
    dict
        `auc`, `eer` and `tar_at_far_1e-3`, in [0, 1], and `pairs`, their number. With a threshold, too,
        `balanced_accuracy`: the mean of the shares of similar pairs below it and of dissimilar ones that are not.
    """
    limit = None if threshold is None else least_square(threshold)
    emb = check_embeddings("emb", emb)
    classes = check_classes(classes, len(emb), text=True)
    N = len(emb)
    own = np.unique(classes, return_inverse=True)[1]
    order = np.argsort(own, kind="stable")
    after_class = np.cumsum(np.bincount(own, minlength=1))[own[order]] if N else own
    # Of image i, sorted by class, the partners i + 1 .. after_class - 1 are similar, those from there on are not.
    ranges = [(np.arange(1, N + 1), after_class), (after_class, np.full(N, N))]
    number = [int((last - first).sum()) for first, last in ranges]
    _need_both_kinds("classes", *number)

    from siamese_np.backend import ops

    rarer = int(number[1] < number[0])
    emb = np.ascontiguousarray(emb, np.float64)[order]
    values = np.empty(number[rarer])
    ops.pair_squares(values, emb, *ranges[rarer])
    values.sort()
    below, equal = np.zeros(len(values) + 1, np.int64), np.zeros(len(values), np.int64)
    ops.pair_ranks(below, equal, values, emb, *ranges[1 - rarer])

    twice_area, eer, tar = 0, -1.0, 0.0
    for of_rarer, of_other in _corners(values, below, equal, number[1 - rarer]):
        similar, dissimilar = (of_other, of_rarer) if rarer else (of_rarer, of_other)
        twice_area += _twice_area(similar, dissimilar)
        far, true = dissimilar / number[1], similar / number[0]
        if eer < 0 and far[-1] >= 1 - true[-1]:
            eer = _crossing(far, true)
        tar = max(tar, float(true[far <= 1e-3].max(initial=0.0)))
    metrics = {
        "auc": twice_area / (2 * number[0] * number[1]),
        "eer": eer,
        "tar_at_far_1e-3": tar,
        "pairs": sum(number),
    }
    if limit is not None:
        accepted = [int(np.searchsorted(values, limit))] * 2
        below, equal = np.zeros(2, np.int64), np.zeros(1, np.int64)
        ops.pair_ranks(below, equal, np.array([limit]), emb, *ranges[1 - rarer])
        accepted[1 - rarer] = int(below[0])
        metrics["balanced_accuracy"] = (1 + accepted[0] / number[0] - accepted[1] / number[1]) / 2
    return metrics


def least_square(threshold: float) -> float:
    """The least square whose root is not below the threshold, so that squares tell what is accepted, exactly."""
    threshold = max(check_threshold(threshold), 0.0)
    square = threshold * threshold
    near = (np.nextafter(square, 0), square, np.nextafter(square, np.inf))
    least = next(value for value in near if np.sqrt(value) >= threshold)
    return float(min(least, np.finfo(np.float64).max))


def nearest(query: ArrayLike, gallery: ArrayLike, k: int) -> tuple[Ints, Floats]:
    """The k nearest gallery embeddings of each query, exactly; k is from 1 to G.

    Every distance is computed from the differences themselves in float64, the sum of squares in the order of the
    embedding's numbers, unless a faster sum shows that it is not among the k smallest. Beside arguments and results
    there is only a float64 copy of both, where they are not float64 already, and a float32 copy of the gallery.

    Returns
    -------
    indices : (Q, k) array of intp
        Rows of `gallery`, nearest first; equal distances by the lower row number.
    distances : (Q, k) array of float64
        Euclidean distances, ascending along each row.
    """
    query, gallery = check_embeddings("query", query), check_embeddings("gallery", gallery)
    if query.shape[1] != gallery.shape[1]:
        raise ShapeError(f"query and gallery must be equally wide, not {query.shape} and {gallery.shape}")
    if len(gallery) == 0:
        raise ShapeError("gallery must hold at least one embedding, but is empty")
    if not is_whole(k) or not 1 <= k <= len(gallery):
        raise OptionError(f"k must be a whole number from 1 to the {len(gallery)} rows of the gallery, not {k!r:.200}")

    from siamese_np.backend import ops

    query, gallery = np.ascontiguousarray(query, np.float64), np.ascontiguousarray(gallery, np.float64)
    squares, indices = np.empty((len(query), k)), np.empty((len(query), k), np.int64)
    ops.nearest_rows(squares, indices, query, gallery, int(k))
    return indices.astype(np.intp, copy=False), np.sqrt(squares, out=squares)


def knn_accuracy(
    query: ArrayLike, query_classes: ArrayLike, gallery: ArrayLike, gallery_classes: ArrayLike, k: int = 5
) -> float:
    """The share of queries whose class is the one most common among their k nearest gallery embeddings, in [0, 1].

    Each neighbour has one vote, whatever its distance. Among classes with equally many votes, the one of the
    nearest neighbour that voted for any of them wins; so k = 2 decides exactly like k = 1. A query that is itself
    in the gallery finds itself: keep the two apart.
    """
    query, gallery = check_embeddings("query", query), check_embeddings("gallery", gallery)
    expected = check_classes(query_classes, len(query), "query_classes", text=True)
    classes = check_classes(gallery_classes, len(gallery), "gallery_classes", text=True)
    if len(query) == 0:
        raise ShapeError("query must hold at least one embedding, but is empty")
    indices, _ = nearest(query, gallery, k)
    return float(np.mean(knn_vote(classes[indices]) == expected))


def knn_vote(voted: NDArray[Any]) -> NDArray[Any]:
    """The class (Q,) that most of the neighbours vote for, of their classes `voted` (Q, k), nearest first.

    Equal votes are decided as in `knn_accuracy`.
    """
    voted = as_array("voted", voted)
    if voted.ndim != 2 or voted.shape[1] == 0 or voted.dtype.kind not in "iubSU":
        raise ShapeError(f"voted must be an array (Q, k) of whole numbers or text, k >= 1, not {found(voted)}")
    votes = np.zeros(voted.shape, dtype=np.intp)
    for neighbour in range(voted.shape[1]):
        votes += voted == voted[:, neighbour, None]
    winner = votes.argmax(axis=1)  # the first, so the nearest, whose class has the most votes
    return voted[np.arange(len(voted)), winner]


def map_at_r(emb: ArrayLike, classes: ArrayLike) -> float:
    """Mean average precision at R of each embedding's search among all others, in [0, 1]; 1 is perfect.

    R is the number of others of its class. Among its R nearest, the average precision at R is the mean over
    ranks r = 1 .. R of (the share of its class among the r nearest if number r is of its class, else 0): Musgrave,
    Belongie and Lim, "A metric learning reality check" (ECCV 2020). Equal distances rank by the lower row. An
    embedding that is alone in its class is left out; all of them alone is a `ShapeError`.
    """
    emb = check_embeddings("emb", emb)
    own = np.unique(check_classes(classes, len(emb), text=True), return_inverse=True)[1]
    R = np.bincount(own, minlength=1)[own] - 1 if len(own) else own
    if not R.any():
        raise ShapeError("classes must hold at least two embeddings of a class, but all are alone in theirs")
    k, total = int(R.max()) + 1, 0.0  # one more: itself
    for start in range(0, len(emb), _BLOCK_QUERIES):
        rows = np.arange(start, min(start + _BLOCK_QUERIES, len(emb)))
        indices, _ = nearest(emb[rows], emb, k)
        itself = indices == rows[:, None]
        itself[~itself.any(axis=1), -1] = True  # hidden behind its equals: the last one goes
        others = indices[~itself].reshape(len(rows), k - 1)
        hit = (own[others] == own[rows, None]) & (np.arange(k - 1) < R[rows, None])
        precision = np.cumsum(hit, axis=1) / np.arange(1, k)
        total += float(((precision * hit).sum(axis=1) / np.maximum(R[rows], 1)).sum())
    return total / int((R > 0).sum())


def pca_2d(emb: ArrayLike) -> tuple[Floats, Floats]:
    """The two directions in which N >= 1 embeddings vary most, by singular value decomposition.

    A singular vector's sign is arbitrary; here its largest entry in absolute value is positive (the first of
    equals), so the same embeddings always give the same map.

    Returns
    -------
    coordinates : (N, 2) array of float64
        The centred embeddings in these directions; 0 in a direction that does not exist (E = 1 or N = 1).
    explained : (2,) array of float64
        Share of the total variance in each direction, in [0, 1]; 0 if there is no variance.
    """
    values = check_embeddings("emb", emb).astype(np.float64)
    if len(values) == 0:
        raise ShapeError("emb must hold at least one embedding, but is empty")
    centred = values - values.mean(axis=0)
    _, singular, directions = np.linalg.svd(centred, full_matrices=False)
    directions = directions[:2]
    largest = np.abs(directions).argmax(axis=1)[:, None]
    directions *= np.where(np.take_along_axis(directions, largest, axis=1) < 0, -1.0, 1.0)
    coordinates, explained = np.zeros((len(values), 2)), np.zeros(2)
    coordinates[:, : len(directions)] = centred @ directions.T
    total = float(np.sum(singular**2))
    if total > 0:
        explained[: len(directions)] = singular[:2] ** 2 / total
    return coordinates, explained


def _both_kinds(dist: ArrayLike, label: ArrayLike) -> tuple[Floats, NDArray[np.bool_]]:
    """Distances as float64, and whether each pair is similar: some are, and some are not."""
    dist, label = check_pairs(dist, label)
    similar = label == 0
    count = int(similar.sum())
    _need_both_kinds("label", count, len(similar) - count)
    return dist, similar


def _need_both_kinds(name: str, similar: int, dissimilar: int) -> None:
    if not (similar and dissimilar):
        found = "only similar" if similar else "only dissimilar" if dissimilar else "no"
        raise ShapeError(f"{name} must give both similar and dissimilar pairs, but gives {found} pairs")


def _accepted_counts(dist: Floats, similar: NDArray[np.bool_]) -> tuple[Floats, Ints, Ints]:
    """The distinct distances (M,) ascending, and how many similar and dissimilar pairs each cut accepts.

    Cut m, of M + 1, accepts the m smallest distinct distances; equal distances cannot be told apart by any
    threshold, so they are accepted together.
    """
    # Numbers of at least 0 sort as their bits do, whose first, the sign, makes room for the kind of pair as the last:
    # NumPy sorts whole numbers in a fraction of the time it takes to sort row numbers by distance.
    keys = dist.view(np.uint64) << np.uint64(1)
    keys |= similar
    keys.sort()
    ascending = (keys >> np.uint64(1)).view(np.float64)
    last_of_run = np.flatnonzero(np.append(ascending[1:] != ascending[:-1], True))
    similar_so_far = np.cumsum(keys & np.uint64(1), dtype=np.intp)[last_of_run]
    accepted_similar = np.append(0, similar_so_far)
    accepted_dissimilar = np.append(0, last_of_run + 1 - similar_so_far)
    return ascending[last_of_run], accepted_similar, accepted_dissimilar


def _twice_area(similar: Ints, dissimilar: Ints) -> int:
    """Twice the area under the line through points of the ROC in counts, so that a tie's half is a whole number."""
    return int(np.sum(np.diff(dissimilar) * (similar[1:] + similar[:-1])))


def _crossing(far: Floats, tar: Floats) -> float:
    """Where far = 1 - tar, in straight lines between points of which the last is at or past it."""
    excess = far - (1 - tar)  # rises from -1 to 1 and at every point, so the division below is safe
    after = int((excess >= 0).argmax())
    before = after - 1
    share = -excess[before] / (excess[after] - excess[before])
    return float(far[before] + share * (far[after] - far[before]))


def _distance_summary(dist: Floats) -> dict[str, float]:
    """Mean, standard deviation and percentiles (linear interpolation) as plain floats, ready for JSON."""
    percentiles = np.percentile(dist, PERCENTILES)
    return {"mean": float(dist.mean()), "std": float(dist.std())} | {
        f"p{p}": float(value) for p, value in zip(PERCENTILES, percentiles, strict=True)
    }


def _corners(values: Floats, below: Ints, equal: Ints, others: int) -> Iterator[tuple[Ints, Ints]]:
    """The corners of the ROC, in blocks that each begin where the one before ended.

    Both coordinates are counts of accepted pairs: of the kind with the ascending squares `values`, and of the other
    kind, of which there are `others`, as `pair_ranks` counted them. A value that others lie below or are equal to
    gives three corners: before both, after those below, and after those equal. In between the ROC runs straight
    along an axis.
    """
    end = [0, 0]
    for start in range(0, len(values), _BLOCK_VALUES):
        block = slice(start, min(start + _BLOCK_VALUES, len(values)))
        corner = start + np.flatnonzero(below[block] | equal[block])
        past = np.where(equal[corner] > 0, np.searchsorted(values, values[corner], side="right"), corner)
        steps = np.stack([np.zeros_like(corner), below[corner], equal[corner]], axis=1)
        of_values = np.append(end[0], np.stack([corner, corner, past], axis=1))
        of_others = np.append(end[1], end[1] + np.cumsum(steps))
        end = [of_values[-1], of_others[-1]]
        yield of_values, of_others
    yield np.array([end[0], len(values), len(values)]), np.array([end[1], end[1], others])
