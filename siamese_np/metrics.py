"""Embeddings in, figures out: pair accuracy, ROC, AUC, EER, nearest neighbours.

Two conventions hold throughout. A pair's label is 0 = similar, 1 = dissimilar (Hadsell, Chopra & LeCun,
"Dimensionality Reduction by Learning an Invariant Mapping", CVPR 2006). A pair is *accepted* as similar if
its distance is strictly below the threshold; so the similar pairs are the positives, the true accept rate
(TAR) is the share of similar pairs accepted, and the false accept rate (FAR) the share of dissimilar ones.

Everything is computed in float64 whatever comes in, and by counting where counting is possible, so equal
distances (common: two black images have the same embedding) are treated exactly. What looks at all pairs is
compiled, when it is first called; the rest is NumPy.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from siamese_np._checks import as_array
from siamese_np.errors import OptionError, ShapeError

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

PERCENTILES = (1, 5, 25, 50, 75, 95, 99)

_BLOCK_ELEMENTS = 1 << 18  # of a block of differences: 2 MB in float64, stays in cache
_STRETCH = 1 << 16  # values whose corners of the ROC are made at once
_LARGEST = 1e140  # number in an embedding, so that no square or sum of squares overflows


# --- Checks: every public function comes through here once -----------------------------------------------


def _array(name: str, value: ArrayLike, ndim: int, kinds: str, what: str) -> NDArray[Any]:
    """`value` as an array, refused unless it has `ndim` dimensions and a dtype of one of `kinds`."""
    array = as_array(name, value)
    if array.ndim != ndim or array.dtype.kind not in kinds:
        raise ShapeError(f"{name} must be {what}, not one of shape {array.shape} and dtype {array.dtype}.")
    return array


def check_pairs(dist: ArrayLike, label: ArrayLike, both_classes: bool = False) -> tuple[Floats, NDArray[np.bool_]]:
    """`dist` as float64 and `label == 0` (True = similar), both (P,) with P >= 1, or a `ShapeError`."""
    d = _array("dist", dist, 1, "fiu", "a 1-D array of distances, one per pair")
    d = d.astype(np.float64, copy=False)
    y = _array("label", label, 1, "biuf", "a 1-D array of pair labels, 0 = similar and 1 = dissimilar")
    if len(d) != len(y):
        raise ShapeError(f"dist and label must have one entry per pair, but have {len(d)} and {len(y)}.")
    if len(d) == 0:
        raise ShapeError("dist and label are empty; at least one pair is needed.")
    wrong = ~(d >= 0) | np.isinf(d)
    if wrong.any():
        at = int(wrong.argmax())
        raise ShapeError(f"dist[{at}] is {d[at]}; a distance must be a finite number of at least 0.")
    similar = y == 0
    wrong = ~(similar | (y == 1))
    if wrong.any():
        at = int(wrong.argmax())
        raise ShapeError(f"label[{at}] is {y[at]}; a pair label must be 0 (similar) or 1 (dissimilar).")
    if both_classes and (similar.all() or not similar.any()):
        present, absent = ("similar", "dissimilar") if similar.all() else ("dissimilar", "similar")
        raise ShapeError(f"label has only {present} pairs; at least one {absent} pair is needed as well.")
    return d, similar


def check_embeddings(name: str, value: ArrayLike) -> NDArray[Any]:
    """`value` as a 2-D array of finite numbers (N, E) with E >= 1, in the dtype it came in."""
    emb = _array(name, value, 2, "fiu", "a 2-D array of embeddings (N, E)")
    if emb.shape[1] == 0:
        raise ShapeError(f"{name} has shape {emb.shape}; an embedding needs at least one number.")
    # A NaN or infinity shows in the extremes, which need no array of booleans as large as the embeddings.
    if len(emb) and not (float(emb.min()) >= -_LARGEST and float(emb.max()) <= _LARGEST):
        row = int((~(np.abs(emb.astype(np.float64)) <= _LARGEST)).any(axis=1).argmax())
        raise ShapeError(f"{name}[{row}] holds a NaN, an infinity or a number too large to be squared.")
    return emb


def _positive(name: str, value: float) -> float:
    """`value` as a finite float above 0, or an `OptionError`."""
    if not (math.isfinite(value) and value > 0):
        raise OptionError(f"{name} is {value}; it must be a finite number above 0.")
    return float(value)


# --- Distances and the decision -------------------------------------------------------------------------


def _row_distances(a: NDArray[Any], rows_a: Ints, b: NDArray[Any], rows_b: Ints) -> Floats:
    """Euclidean distance of `a[rows_a[i]]` and `b[rows_b[i]]` for each i, a cache-sized block at a time."""
    dist = np.empty(len(rows_a))
    step = max(1, _BLOCK_ELEMENTS // a.shape[1])
    for start in range(0, len(dist), step):
        block = slice(start, start + step)
        diff = np.subtract(a[rows_a[block]], b[rows_b[block]], dtype=np.float64)
        np.einsum("pe,pe->p", diff, diff, out=dist[block])
    return np.sqrt(dist, out=dist)


def pair_distances(emb: ArrayLike, pairs: ArrayLike) -> Floats:
    """Euclidean distance of each pair of embeddings.

    Taken from the differences themselves. The shorter |a|^2 + |b|^2 - 2ab cancels for close pairs, which are
    the ones that matter here; this way two equal embeddings are at distance exactly 0.

    Parameters
    ----------
    emb : (N, E) array of float
        Embeddings, finite.
    pairs : (P, 2) array of int
        Row numbers into `emb`, each in [0, N).

    Returns
    -------
    (P,) array of float64
        Distances in the units of the embedding, at least 0.

    Raises
    ------
    ShapeError
        If an array has the wrong shape, dtype or values, or a row number is outside `emb`.
    """
    emb = check_embeddings("emb", emb)
    pairs = _array("pairs", pairs, 2, "iu", "a 2-D array of row numbers (P, 2)")
    if pairs.shape[1] != 2:
        raise ShapeError(f"pairs has shape {pairs.shape}; it must be (P, 2), two row numbers per pair.")
    wrong = ((pairs < 0) | (pairs >= len(emb))).any(axis=1)
    if wrong.any():
        at = int(wrong.argmax())
        raise ShapeError(f"pairs[{at}] is {pairs[at].tolist()}, but emb has only rows 0 to {len(emb) - 1}.")
    return _row_distances(emb, pairs[:, 0], emb, pairs[:, 1])


def _accepted_counts(dist: Floats, similar: NDArray[np.bool_]) -> tuple[Floats, Ints, Ints]:
    """The distinct distances (M,) ascending, and how many similar and dissimilar pairs each cut accepts.

    Cut m, of M + 1, accepts the m smallest distinct distances; equal distances cannot be told apart by any
    threshold, so they are accepted together.
    """
    order = np.argsort(dist)
    ascending = dist[order]
    last_of_run = np.flatnonzero(np.append(ascending[1:] != ascending[:-1], True))
    similar_so_far = np.cumsum(similar[order])[last_of_run]
    accepted_similar = np.append(0, similar_so_far)
    accepted_dissimilar = np.append(0, last_of_run + 1 - similar_so_far)
    return ascending[last_of_run], accepted_similar, accepted_dissimilar


def calibrate_threshold(dist: ArrayLike, label: ArrayLike) -> float:
    """The threshold with the highest pair accuracy of the rule "similar if dist < threshold".

    Every threshold between two neighbouring distances decides alike, so their midpoint is returned. If
    several such gaps give the same, highest accuracy, the widest wins, and the lowest of equally wide ones.
    Accepting nothing (half the smallest distance is returned) or everything (the next number above the
    largest) is chosen only if no gap does as well.

    Calibrate on validation pairs, never on the pairs whose accuracy is then reported.

    Parameters
    ----------
    dist : (P,) array of float
        Distances, finite and at least 0.
    label : (P,) array of int
        0 = similar, 1 = dissimilar; both must occur.

    Returns
    -------
    float
        The threshold, at least 0, in the units of `dist`.

    Raises
    ------
    ShapeError
        If an array has the wrong shape, dtype or values, or one kind of pair is missing.
    """
    d, similar = check_pairs(dist, label, both_classes=True)
    value, accepted_similar, accepted_dissimilar = _accepted_counts(d, similar)
    right = accepted_similar - accepted_dissimilar  # less the number of dissimilar pairs, a constant
    gap = np.concatenate(([0.0], np.diff(value), [0.0]))
    gap[right < right.max()] = -1.0
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
    """The share of pairs that the rule "similar if dist < threshold" decides rightly.

    Parameters
    ----------
    dist : (P,) array of float
        Distances, finite and at least 0; P is at least 1.
    label : (P,) array of int
        0 = similar, 1 = dissimilar.
    threshold : float
        The first distance that counts as dissimilar; any number but NaN.

    Returns
    -------
    float
        In [0, 1].

    Raises
    ------
    ShapeError
        If an array has the wrong shape, dtype or values.
    OptionError
        If the threshold is NaN.
    """
    d, similar = check_pairs(dist, label)
    if math.isnan(threshold):
        raise OptionError("threshold is NaN; it must be a number in the units of the distances.")
    return float(np.mean((d < threshold) == similar))


# --- The ROC and its summaries --------------------------------------------------------------------------


def roc_curve(dist: ArrayLike, label: ArrayLike) -> tuple[Floats, Floats, Floats]:
    """The receiver operating characteristic, one point for each set of pairs a threshold can accept.

    Point m accepts the pairs with `dist < thresholds[m]`. Equal distances enter together, as one step that
    may go up and right at once.

    Parameters
    ----------
    dist : (P,) array of float
        Distances, finite and at least 0.
    label : (P,) array of int
        0 = similar, 1 = dissimilar; both must occur.

    Returns
    -------
    far : (M + 1,) array of float64
        False accept rate, the share of dissimilar pairs accepted, rising from 0 to 1. M is the number of
        distinct distances.
    tar : (M + 1,) array of float64
        True accept rate, the share of similar pairs accepted, rising from 0 to 1.
    thresholds : (M + 1,) array of float64
        The distinct distances ascending, then infinity.

    Raises
    ------
    ShapeError
        If an array has the wrong shape, dtype or values, or one kind of pair is missing.
    """
    checked = check_pairs(dist, label, both_classes=True)
    value, accepted_similar, accepted_dissimilar = _accepted_counts(*checked)
    far = accepted_dissimilar / accepted_dissimilar[-1]
    tar = accepted_similar / accepted_similar[-1]
    return far, tar, np.append(value, np.inf)


def roc_auc(dist: ArrayLike, label: ArrayLike) -> float:
    """The area under the ROC: how often a similar pair is closer than a dissimilar one.

    Counted in whole numbers over all (similar, dissimilar) combinations, an equal distance counting one half:
    the Mann-Whitney statistic (Hanley & McNeil, Radiology 143, 1982). Exact up to the one final division.

    Parameters
    ----------
    dist : (P,) array of float
        Distances, finite and at least 0.
    label : (P,) array of int
        0 = similar, 1 = dissimilar; both must occur.

    Returns
    -------
    float
        In [0, 1]: 1 is perfect, 0.5 is chance.

    Raises
    ------
    ShapeError
        If an array has the wrong shape, dtype or values, or one kind of pair is missing.
    """
    checked = check_pairs(dist, label, both_classes=True)
    _, accepted_similar, accepted_dissimilar = _accepted_counts(*checked)
    # Twice the area of each trapezium, so that a tie's half stays a whole number.
    twice_area = int(np.sum(np.diff(accepted_dissimilar) * (accepted_similar[1:] + accepted_similar[:-1])))
    return twice_area / (2 * int(accepted_similar[-1]) * int(accepted_dissimilar[-1]))


def equal_error_rate(dist: ArrayLike, label: ArrayLike) -> float:
    """The error rate where as large a share of similar pairs is rejected as of dissimilar pairs accepted.

    A threshold that makes both shares equal rarely exists, so the ROC is followed in straight lines between
    its points to where FAR = 1 - TAR.

    Parameters
    ----------
    dist : (P,) array of float
        Distances, finite and at least 0.
    label : (P,) array of int
        0 = similar, 1 = dissimilar; both must occur.

    Returns
    -------
    float
        In [0, 1]: 0 is perfect, 0.5 is chance.

    Raises
    ------
    ShapeError
        If an array has the wrong shape, dtype or values, or one kind of pair is missing.
    """
    far, tar, _ = roc_curve(dist, label)
    return _crossing(far, tar)


def _crossing(far: Floats, tar: Floats) -> float:
    """Where far = 1 - tar, in straight lines between points of which the last is at or past it."""
    excess = far - (1 - tar)  # rises from -1 to 1 and at every point, so the division below is safe
    after = int((excess >= 0).argmax())
    before = after - 1
    part = -excess[before] / (excess[after] - excess[before])
    return float(far[before] + part * (far[after] - far[before]))


def tar_at_far(dist: ArrayLike, label: ArrayLike, far: float = 1e-3) -> float:
    """The largest true accept rate of any threshold whose false accept rate is at most `far`.

    Not interpolated: a threshold exists that reaches exactly this figure on these pairs. With fewer than
    1 / `far` dissimilar pairs this is the rate at which not one of them is accepted.

    Parameters
    ----------
    dist : (P,) array of float
        Distances, finite and at least 0.
    label : (P,) array of int
        0 = similar, 1 = dissimilar; both must occur.
    far : float
        The false accept rate allowed, in [0, 1].

    Returns
    -------
    float
        In [0, 1].

    Raises
    ------
    ShapeError
        If an array has the wrong shape, dtype or values, or one kind of pair is missing.
    OptionError
        If `far` is outside [0, 1].
    """
    if not 0 <= far <= 1:
        raise OptionError(f"far is {far}; a false accept rate must be between 0 and 1.")
    rate, tar, _ = roc_curve(dist, label)
    return float(tar[rate <= far][-1])


def contrastive_loss_value(dist: ArrayLike, label: ArrayLike, margin: float) -> float:
    """The mean contrastive loss of Hadsell, Chopra & LeCun (2006) over pairs.

    Per pair 1/2 (1 - label) dist^2 + 1/2 label max(0, margin - dist)^2.

    Parameters
    ----------
    dist : (P,) array of float
        Distances, finite and at least 0; P is at least 1.
    label : (P,) array of int
        0 = similar, 1 = dissimilar.
    margin : float
        The distance from which a dissimilar pair costs nothing, above 0.

    Returns
    -------
    float
        At least 0.

    Raises
    ------
    ShapeError
        If an array has the wrong shape, dtype or values.
    OptionError
        If the margin is not a finite number above 0.
    """
    d, similar = check_pairs(dist, label)
    margin = _positive("margin", margin)
    return float(np.mean(0.5 * np.where(similar, d, np.maximum(0.0, margin - d)) ** 2))


def _distance_summary(dist: Floats) -> dict[str, float]:
    """Mean, standard deviation and percentiles (linear interpolation) as plain floats, ready for JSON."""
    percentiles = np.percentile(dist, PERCENTILES)
    return {"mean": float(dist.mean()), "std": float(dist.std())} | {
        f"p{p}": float(value) for p, value in zip(PERCENTILES, percentiles, strict=True)
    }


def pair_figures(dist: ArrayLike, label: ArrayLike, threshold: float, margin: float) -> dict[str, Any]:
    """Every figure of a set of evaluation pairs, ready for JSON.

    Parameters
    ----------
    dist : (P,) array of float
        Distances, finite and at least 0.
    label : (P,) array of int
        0 = similar, 1 = dissimilar; both must occur.
    threshold : float
        From `calibrate_threshold` on other pairs than these.
    margin : float
        The margin of the loss, above 0.

    Returns
    -------
    dict
        Plain floats under `pair_accuracy`, `pair_accuracy_at_half_margin`, `threshold`, `auc`, `eer`,
        `tar_at_far_1e-3` and `loss`; under `similar_distance` and `dissimilar_distance` a dict each with
        `mean`, `std` and the percentiles `p1`, `p5`, `p25`, `p50`, `p75`, `p95`, `p99`.

    Raises
    ------
    ShapeError
        If an array has the wrong shape, dtype or values, or one kind of pair is missing.
    OptionError
        If the threshold is NaN or the margin is not a finite number above 0.
    """
    d, similar = check_pairs(dist, label, both_classes=True)
    margin = _positive("margin", margin)
    return {
        "pair_accuracy": pair_accuracy(d, label, threshold),
        "pair_accuracy_at_half_margin": pair_accuracy(d, label, margin / 2),
        "threshold": float(threshold),
        "auc": roc_auc(d, label),
        "eer": equal_error_rate(d, label),
        "tar_at_far_1e-3": tar_at_far(d, label, 1e-3),
        "loss": contrastive_loss_value(d, label, margin),
        "similar_distance": _distance_summary(d[similar]),
        "dissimilar_distance": _distance_summary(d[~similar]),
    }


# --- All pairs ------------------------------------------------------------------------------------------


def all_pairs_figures(emb: ArrayLike, labels: ArrayLike) -> dict[str, float]:
    """The ROC's figures over all N (N - 1) / 2 pairs of N embeddings, exactly.

    Two embeddings are similar if their classes are the same. Distances are computed in float64 from the
    differences themselves and compared before the root is taken. They are counted, not sampled and not binned:
    the result equals that of `roc_auc`, `equal_error_rate` and `tar_at_far` on the list of all pairs. That list
    is never made; memory is needed for the squared distances of the rarer kind of pairs, 24 bytes each (120 MB
    for 10,000 images of ten classes).

    Parameters
    ----------
    emb : (N, E) array of float
        Embeddings, finite.
    labels : (N,) array
        The class of each; at least two classes, and at least two embeddings of one class.

    Returns
    -------
    dict
        `auc`, `eer` and `tar_at_far_1e-3`, in [0, 1], and `pairs`, their number.

    Raises
    ------
    ShapeError
        If an array has the wrong shape, dtype or values, or one kind of pair is missing.
    """
    emb = check_embeddings("emb", emb)
    classes = _array("labels", labels, 1, "biuSU", "a 1-D array of classes, one per embedding")
    N = len(emb)
    if len(classes) != N:
        raise ShapeError(f"labels has {len(classes)} entries for {N} embeddings; each needs one.")
    own = np.unique(classes, return_inverse=True)[1]
    order = np.argsort(own, kind="stable")
    after_class = np.cumsum(np.bincount(own, minlength=1))[own[order]] if N else own
    # Of image i, sorted by class, the partners i + 1 .. after_class - 1 are similar, those from there on are not.
    ranges = [(np.arange(1, N + 1), after_class), (after_class, np.full(N, N))]
    number = [int((last - first).sum()) for first, last in ranges]
    if 0 in number:
        present, absent = ("dissimilar", "similar") if number[0] == 0 else ("similar", "dissimilar")
        kinds = f"{present} pairs" if any(number) else "no pairs"
        raise ShapeError(f"labels gives only {kinds}; at least one {absent} pair is needed as well.")

    from siamese_np.backend import ops
    from siamese_np.runtime import scheduler

    rarer = int(number[1] < number[0])
    emb = _as_float64(emb)[order]
    values = np.empty(number[rarer])
    scheduler.wake()
    ops.pair_squares(values, emb, *ranges[rarer])
    values.sort()
    below, equal = np.zeros(len(values) + 1, np.int64), np.zeros(len(values), np.int64)
    scheduler.wake()
    ops.pair_ranks(below, equal, values, emb, *ranges[1 - rarer])

    twice_area, eer, tar = 0, -1.0, 0.0
    for ours, others in _corners(values, below, equal, number[1 - rarer]):
        similar, dissimilar = (others, ours) if rarer else (ours, others)
        twice_area += int(np.sum(np.diff(dissimilar) * (similar[1:] + similar[:-1])))
        rates = dissimilar / number[1], similar / number[0]
        if eer < 0 and rates[0][-1] - (1 - rates[1][-1]) >= 0:
            eer = _crossing(*rates)
        tar = max(tar, float(rates[1][rates[0] <= 1e-3].max(initial=0.0)))
    return {
        "auc": twice_area / (2 * number[0] * number[1]),
        "eer": eer,
        "tar_at_far_1e-3": tar,
        "pairs": sum(number),
    }


def _corners(values: Floats, below: Ints, equal: Ints, others: int) -> Iterator[tuple[Ints, Ints]]:
    """The corners of the ROC, in stretches that each begin where the one before ended.

    Both coordinates are counts of accepted pairs: of the kind with the ascending squares `values`, and of the
    other kind, as `pair_ranks` counted them. A value that others lie below or are equal to gives three corners:
    before both, after those below, and after those equal. In between the ROC runs straight along an axis.
    """
    end = [0, 0]
    for start in range(0, len(values), _STRETCH):
        part = slice(start, min(start + _STRETCH, len(values)))
        at = start + np.flatnonzero(below[part] | equal[part])
        past = np.where(equal[at] > 0, np.searchsorted(values, values[at], side="right"), at)
        steps = np.stack([np.zeros_like(at), below[at], equal[at]], axis=1)
        ours = np.append(end[0], np.stack([at, at, past], axis=1))
        theirs = np.append(end[1], end[1] + np.cumsum(steps))
        end = [ours[-1], theirs[-1]]
        yield ours, theirs
    yield np.array([end[0], len(values), len(values)]), np.array([end[1], end[1], others])


# --- Nearest neighbours ---------------------------------------------------------------------------------


def nearest(query: ArrayLike, gallery: ArrayLike, k: int) -> tuple[Ints, Floats]:
    """The k nearest gallery embeddings of each query, exactly.

    Every distance is computed, from the differences themselves in float64, the sum of squares in the order of
    the embedding's numbers; none is held that is not among the k smallest so far. Beside arguments and results
    there is only a float64 copy of both, where they are not float64 already.

    Parameters
    ----------
    query : (Q, E) array of float
        Embeddings, finite.
    gallery : (G, E) array of float
        Embeddings, finite.
    k : int
        Neighbours per query, from 1 to G.

    Returns
    -------
    indices : (Q, k) array of intp
        Rows of `gallery`, nearest first; equal distances by the lower row number.
    distances : (Q, k) array of float64
        Euclidean distances, ascending along each row.

    Raises
    ------
    ShapeError
        If an array has the wrong shape, dtype or values, or the widths differ.
    OptionError
        If k is not a whole number from 1 to G.
    """
    query, gallery = check_embeddings("query", query), check_embeddings("gallery", gallery)
    if query.shape[1] != gallery.shape[1]:
        raise ShapeError(
            f"query and gallery hold embeddings of {query.shape[1]} and {gallery.shape[1]} numbers; "
            "they must be of the same width."
        )
    if len(gallery) == 0:
        raise ShapeError("gallery is empty; at least one embedding is needed to search in.")
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or not 1 <= k <= len(gallery):
        raise OptionError(f"k is {k}; it must be a whole number from 1 to {len(gallery)}, the gallery size.")

    from siamese_np.backend import ops
    from siamese_np.runtime import scheduler

    query, gallery = _as_float64(query), _as_float64(gallery)
    squares, indices = np.empty((len(query), k)), np.empty((len(query), k), np.int64)
    scheduler.wake()  # only now: the threads do not wait for long
    ops.nearest_rows(squares, indices, query, gallery, k)
    return indices.astype(np.intp, copy=False), np.sqrt(squares, out=squares)


def _as_float64(emb: NDArray[Any]) -> Floats:
    return np.ascontiguousarray(emb, np.float64)


def knn_accuracy(
    query: ArrayLike, query_labels: ArrayLike, gallery: ArrayLike, gallery_labels: ArrayLike, k: int = 5
) -> float:
    """The share of queries whose class is the one most common among their k nearest gallery embeddings.

    Each neighbour has one vote, whatever its distance. Among classes with equally many votes, the one of the
    nearest neighbour that voted for any of them wins; so k = 2 decides exactly like k = 1. A query that is
    itself in the gallery finds itself: keep the two apart.

    Parameters
    ----------
    query : (Q, E) array of float
        Embeddings, finite; Q is at least 1.
    query_labels : (Q,) array of int
        The class of each query (not a pair label).
    gallery : (G, E) array of float
        Embeddings, finite.
    gallery_labels : (G,) array of int
        The class of each gallery embedding.
    k : int
        Neighbours per query, from 1 to G.

    Returns
    -------
    float
        In [0, 1].

    Raises
    ------
    ShapeError
        If an array has the wrong shape, dtype or values, or the lengths or widths differ.
    OptionError
        If k is not a whole number from 1 to G.
    """
    truth = _array("query_labels", query_labels, 1, "biuSU", "a 1-D array of classes, one per query")
    classes = _array("gallery_labels", gallery_labels, 1, "biuSU", "a 1-D array of classes, one per row")
    indices, _ = nearest(query, gallery, k)
    for name, got, wanted in (
        ("query", len(truth), len(indices)),
        ("gallery", len(classes), len(np.asarray(gallery))),
    ):
        if got != wanted:
            raise ShapeError(f"{name}_labels has {got} entries for {wanted} embeddings; each needs one.")
    if len(truth) == 0:
        raise ShapeError("query is empty; at least one embedding is needed to measure an accuracy.")
    voted = classes[indices]
    votes = np.zeros(voted.shape, dtype=np.intp)
    for neighbour in range(voted.shape[1]):
        votes += voted == voted[:, neighbour, None]
    winner = votes.argmax(axis=1)  # the first, so the nearest, whose class has the most votes
    return float(np.mean(voted[np.arange(len(voted)), winner] == truth))
