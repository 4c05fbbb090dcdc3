"""Intervals over all pairs against lists of the pairs of every resample."""

import numpy as np
import pytest

from siamese_np import metrics
from siamese_np.bootstrap import all_pairs_intervals
from siamese_np.errors import OptionError, ShapeError


def embeddings(n, seed=0, spread=1.0):
    rng = np.random.default_rng(seed)
    classes = rng.integers(0, 4, n)
    return np.eye(4, 8)[classes] + rng.normal(0, spread, (n, 8)), classes


def resampled(emb, classes, resamples, seed):
    """Distance, label and weight of every pair of each resample, drawn as `all_pairs_intervals` says it draws."""
    order, rng = np.argsort(classes, kind="stable"), np.random.default_rng(seed)
    emb, classes = emb[order], classes[order]
    i, j = np.triu_indices(len(emb), 1)
    dist, label = np.linalg.norm(emb[i] - emb[j], axis=1), (classes[i] != classes[j]).astype(int)
    for _ in range(resamples):
        count = np.bincount(rng.integers(0, len(emb), len(emb)), minlength=len(emb))
        yield dist, label, count[i] * count[j]


def balanced_accuracy(dist, label, weight, threshold):
    below = dist < threshold
    shares = [np.average(below[label == kind] == (kind == 0), weights=weight[label == kind]) for kind in (0, 1)]
    return sum(shares) / 2


@pytest.mark.parametrize("n", [30, 700])  # within a block, and in several
def test_intervals_are_those_of_the_listed_pairs(n):
    emb, classes = embeddings(n, spread=0.3)
    found = all_pairs_intervals(emb, classes, 0.9, resamples=60, seed=1)
    accuracies, rates = [], []
    for dist, label, weight in resampled(emb, classes, 60, 1):
        accuracies.append(balanced_accuracy(dist, label, weight, 0.9))
        if n < 100:
            rates.append(metrics.equal_error_rate(np.repeat(dist, weight), np.repeat(label, weight)))
    assert found["balanced_accuracy_interval"] == pytest.approx(np.percentile(accuracies, [2.5, 97.5]), rel=1e-12)
    if rates:  # between the thresholds that are measured the rates are taken as straight lines
        assert found["eer_interval"] == pytest.approx(np.percentile(rates, [2.5, 97.5]), rel=0.15)


def test_the_middle_is_that_of_all_images():
    emb, classes = embeddings(200, spread=0.3)
    found = all_pairs_intervals(emb, classes, 0.9, resamples=20)
    i, j = np.triu_indices(200, 1)
    dist, label = np.linalg.norm(emb[i] - emb[j], axis=1), (classes[i] != classes[j]).astype(int)
    assert found["balanced_accuracy"] == pytest.approx(balanced_accuracy(dist, label, np.ones(len(dist)), 0.9))
    assert {key: found[key] for key in ("auc", "eer", "pairs")} == {
        key: metrics.all_pairs_metrics(emb, classes)[key] for key in ("auc", "eer", "pairs")
    }
    low, high = found["eer_interval"]
    assert low < found["eer"] < high


def test_the_interval_is_wider_than_one_of_independent_pairs():
    emb, classes = embeddings(300, spread=0.3)
    found = all_pairs_intervals(emb, classes, 0.9, resamples=100)
    low, high = found["eer_interval"]
    independent = 2 * 1.96 * np.sqrt(found["eer"] * (1 - found["eer"]) / found["pairs"])
    assert high - low > 3 * independent


def test_perfect_embeddings_have_no_error_in_any_resample():
    found = all_pairs_intervals(np.repeat(np.eye(2), 5, axis=0), np.repeat([0, 1], 5), 0.5, resamples=30)
    assert found["eer_interval"] == [0, 0]
    assert found["balanced_accuracy_interval"] == [1, 1]


def test_equal_distances_are_one_threshold():
    """As of predicted classes: the ROC has one corner, and its lines go on to (0, 0) and (1, 1)."""
    rng = np.random.default_rng(0)
    classes = rng.integers(0, 4, 400)
    predicted = np.where(rng.random(400) < 0.02, (classes + 1) % 4, classes)
    found = all_pairs_intervals(np.eye(4)[predicted], classes, 0.5, resamples=60)
    i, j = np.triu_indices(400, 1)
    dist, label = (predicted[i] != predicted[j]).astype(float), (classes[i] != classes[j]).astype(int)
    assert found["eer"] == pytest.approx(metrics.equal_error_rate(dist, label))
    low, high = found["eer_interval"]
    assert low < found["eer"] < high < 3 * found["eer"]


def test_resamples_of_a_few_images_may_lack_a_kind():
    found = all_pairs_intervals(np.array([[0.0], [1], [5], [7]]), np.array([0, 0, 1, 1]), 1.5, resamples=50)
    assert np.isfinite(found["eer_interval"] + found["balanced_accuracy_interval"]).all()


def test_nothing_is_below_a_threshold_of_0_and_a_distance_is_not_below_itself():
    emb, classes = np.repeat(np.random.default_rng(0).normal(size=(10, 3)), 2, axis=0), np.arange(20) // 2
    found = all_pairs_intervals(emb, classes, 0.0, resamples=20)
    assert [found["balanced_accuracy"], *found["balanced_accuracy_interval"]] == [0.5] * 3
    corners = np.array([[0.0, 0], [1, 1], [5, 5], [6, 6]])  # similar pairs are sqrt(2) apart
    assert all_pairs_intervals(corners, np.array([0, 0, 1, 1]), 2**0.5, resamples=2)["balanced_accuracy"] == 0.5


def test_an_offset_changes_nothing():
    emb, classes = embeddings(100, spread=0.3)
    plain, moved = (all_pairs_intervals(emb + by, classes, 0.9, resamples=20) for by in (0, 1e6))
    assert moved["eer_interval"] == pytest.approx(plain["eer_interval"], rel=1e-6)


@pytest.mark.parametrize("resamples", [1, 2.5, None])
def test_too_few_resamples_are_refused(resamples):
    with pytest.raises(OptionError, match="at least 2 resamples"):
        all_pairs_intervals(*embeddings(10), 0.9, resamples=resamples)


def test_pairs_of_one_kind_are_refused():
    with pytest.raises(ShapeError, match="only similar"):
        all_pairs_intervals(np.eye(3), np.zeros(3, int), 0.9)
