"""metrics.py against brute force, against cases worked out on paper, and against its promises."""

import itertools
import json
import math
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from siamese_np import metrics as ev
from siamese_np.errors import OptionError, ShapeError
from siamese_np.losses import ContrastiveLoss

SIMILAR, DISSIMILAR = 0, 1

# Small whole numbers: ties in distance are then the rule.
tied_pairs = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 1)), min_size=2, max_size=40).filter(
    lambda pairs: len({label for _, label in pairs}) == 2
)


def unzip(pairs):
    dist, label = zip(*pairs, strict=True)
    return np.array(dist, dtype=float), np.array(label)


def every_cut(dist):
    """One threshold for each set of pairs that any threshold can accept."""
    value = np.unique(dist)
    return [*value, value[-1] + 1]


def auc_by_comparing_all(dist, label):
    wins = [1.0 if a < b else 0.5 if a == b else 0.0 for a in dist[label == SIMILAR] for b in dist[label == DISSIMILAR]]
    return sum(wins) / len(wins)


def nearest_by_sorting_all(query, gallery, k):
    diff = query[:, None].astype(np.float64) - gallery[None].astype(np.float64)
    dist = np.sqrt((diff**2).sum(axis=2))
    indices = np.argsort(dist, axis=1, kind="stable")[:, :k]
    return indices, np.take_along_axis(dist, indices, axis=1)


def random_pairs(seed, n=400, overlap=1.0):
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 2, n)
    return np.abs(rng.normal(label * 2.0, overlap)), label


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("width", [1, 3, 64])
def test_pair_distances_match_the_norm_of_each_difference(dtype, width):
    rng = np.random.default_rng(width)
    emb = rng.normal(size=(50, width)).astype(dtype)
    pairs = rng.integers(0, 50, (9000, 2))  # several blocks at width 64
    dist = ev.pair_distances(emb, pairs)
    wide = emb.astype(np.float64)
    assert dist.dtype == np.float64
    wanted = np.linalg.norm(wide[pairs[:, 0]] - wide[pairs[:, 1]], axis=1)
    np.testing.assert_allclose(dist, wanted, rtol=1e-13)


def test_pair_distances_do_not_cancel():
    emb = np.array([[1e4], [1e4 + 2**-9], [1e4]], dtype=np.float32)  # squares differ by less than an ulp
    np.testing.assert_array_equal(ev.pair_distances(emb, np.array([[0, 1], [0, 2]])), [2**-9, 0.0])


def test_pair_distances_of_no_pairs():
    assert ev.pair_distances(np.ones((2, 3)), np.empty((0, 2), dtype=int)).shape == (0,)


@given(tied_pairs)
def test_no_cut_beats_the_calibrated_threshold(pairs):
    dist, label = unzip(pairs)
    best = max(ev.pair_accuracy(dist, label, cut) for cut in every_cut(dist))
    assert ev.pair_accuracy(dist, label, ev.calibrate_threshold(dist, label)) == best


@given(tied_pairs)
def test_calibrated_threshold_lies_in_the_first_of_the_widest_best_gaps(pairs):
    dist, label = unzip(pairs)
    accuracy = {cut: ev.pair_accuracy(dist, label, cut) for cut in every_cut(dist)}
    value = np.unique(dist)
    inner = [(low, high) for low, high in itertools.pairwise(value)]
    best = [gap for gap in inner if accuracy[gap[1]] == max(accuracy.values())]
    if best:
        low, high = max(best, key=lambda gap: gap[1] - gap[0])  # max() takes the first of equals
        assert ev.calibrate_threshold(dist, label) == (low + high) / 2


@pytest.mark.parametrize(
    ("dist", "label", "threshold"),
    [
        ([1, 2, 5, 7], [0, 0, 1, 1], 3.5),  # separated: the middle of the gap
        ([1, 2, 3, 7], [0, 1, 0, 1], 5.0),  # gaps 1-2 and 3-7 are both right three times; the wider one
        ([1, 2, 3, 4], [0, 1, 0, 1], 1.5),  # equally wide: the lower one
        ([3, 3, 3], [0, 1, 1], 1.5),  # nothing to gain by accepting
        ([3, 3, 3], [0, 0, 1], np.nextafter(3.0, 4.0)),  # nor by rejecting
        ([0, 0, 0], [0, 1, 1], 0.0),  # no distance is below 0
        ([1, 2], [1, 0], 0.5),  # reversed: accepting none or all is right once, and none comes first
    ],
)
def test_threshold_on_paper(dist, label, threshold):
    assert ev.calibrate_threshold(dist, label) == threshold


@pytest.mark.parametrize("low", [0.0, 5e-324, 1.0, 1e300])
def test_threshold_between_neighbouring_floats_still_separates(low):
    dist, label = np.array([low, np.nextafter(low, np.inf)]), [SIMILAR, DISSIMILAR]
    assert ev.pair_accuracy(dist, label, ev.calibrate_threshold(dist, label)) == 1.0


def test_threshold_between_neighbouring_float32_still_separates():
    dist, label = np.array([1, np.nextafter(np.float32(1), np.float32(2))], dtype=np.float32), [0, 1]
    assert ev.pair_accuracy(dist, label, ev.calibrate_threshold(dist, label)) == 1.0


@given(tied_pairs, st.integers(0, 7))
def test_swapped_labels_are_the_complement(pairs, threshold):
    dist, label = unzip(pairs)
    swapped = ev.pair_accuracy(dist, 1 - label, threshold)
    assert ev.pair_accuracy(dist, label, threshold) == pytest.approx(1 - swapped, abs=1e-15)


def test_a_distance_at_the_threshold_is_dissimilar():
    assert ev.pair_accuracy([1.0], [DISSIMILAR], 1.0) == 1.0
    assert ev.pair_accuracy([1.0], [SIMILAR], 1.0) == 0.0


@pytest.mark.parametrize("label", [[True, False], [1.0, 0.0], np.array([1, 0], dtype=np.uint8)])
def test_labels_may_be_of_any_number_type(label):
    assert ev.pair_accuracy([5, 1], label, 3) == 1.0


@given(tied_pairs)
def test_roc_is_what_each_of_its_thresholds_gives(pairs):
    dist, label = unzip(pairs)
    far, tar, thresholds = ev.roc_curve(dist, label)
    assert (far[0], tar[0], far[-1], tar[-1]) == (0, 0, 1, 1)
    assert len(far) == len(tar) == len(thresholds) == len(np.unique(dist)) + 1
    for m, threshold in enumerate(thresholds):
        assert far[m] == np.mean(dist[label == DISSIMILAR] < threshold)
        assert tar[m] == np.mean(dist[label == SIMILAR] < threshold)


@given(tied_pairs)
def test_auc_is_the_share_of_comparisons_won(pairs):
    dist, label = unzip(pairs)
    assert ev.roc_auc(dist, label) == pytest.approx(auc_by_comparing_all(dist, label), abs=1e-14)


@given(tied_pairs)
def test_auc_is_the_area_under_the_roc(pairs):
    dist, label = unzip(pairs)
    far, tar, _ = ev.roc_curve(dist, label)
    area = np.sum(np.diff(far) * (tar[1:] + tar[:-1]) / 2)
    assert ev.roc_auc(dist, label) == pytest.approx(area, abs=1e-12)


@given(tied_pairs, st.sampled_from([np.sqrt, np.exp, lambda d: d**3 + 2 * d, lambda d: 1e-6 * d]))
def test_auc_and_eer_depend_only_on_the_order(pairs, monotone):
    dist, label = unzip(pairs)
    assert ev.roc_auc(monotone(dist), label) == ev.roc_auc(dist, label)
    assert ev.equal_error_rate(monotone(dist), label) == ev.equal_error_rate(dist, label)


@given(tied_pairs, st.randoms(use_true_random=False))
def test_the_order_of_pairs_does_not_matter(pairs, random):
    dist, label = unzip(pairs)
    figures = ev.pair_metrics(dist, label, 2.5, 4.0)
    random.shuffle(pairs)
    shuffled = ev.pair_metrics(*unzip(pairs), 2.5, 4.0)
    for key in ("pair_accuracy", "auc", "eer", "tar_at_far_1e-3"):
        assert figures[key] == shuffled[key]


@given(tied_pairs)
def test_reversed_distances_give_the_complement(pairs):
    dist, label = unzip(pairs)
    assert ev.roc_auc(6 - dist, label) == pytest.approx(1 - ev.roc_auc(dist, label), abs=1e-14)
    complement = 1 - ev.equal_error_rate(dist, label)
    assert ev.equal_error_rate(6 - dist, label) == pytest.approx(complement, abs=1e-12)


@pytest.mark.parametrize(
    ("dist", "label", "auc", "eer"),
    [
        ([1, 2, 3, 4], [0, 0, 1, 1], 1.0, 0.0),  # separated
        ([1, 2, 3, 4], [1, 1, 0, 0], 0.0, 1.0),  # reversed
        ([2, 2, 2, 2], [0, 1, 0, 1], 0.5, 0.5),  # nothing to tell them apart
        ([1, 2, 2, 3], [0, 0, 1, 1], 0.875, 0.25),  # wins 3.5 of 4; the tie's line from (0, 1/2) to (1/2, 1)
        ([1, 2, 3, 4], [0, 1, 0, 1], 0.75, 0.5),  # at (1/2, 1/2)
        ([1, 2, 3], [0, 1, 0], 0.5, 0.5),  # up 1/2, right 1, up 1/2: crosses at (1/2, 1/2)
    ],
)
def test_auc_and_eer_on_paper(dist, label, auc, eer):
    assert ev.roc_auc(dist, label) == auc
    assert ev.equal_error_rate(dist, label) == pytest.approx(eer, abs=1e-15)


def test_auc_does_not_overflow_or_lose_counts():
    n = 200_000
    dist = np.concatenate([np.zeros(n), np.ones(n)])
    label = np.concatenate([np.zeros(n), np.ones(n)]).astype(int)
    label[0], label[-1] = 1, 0  # one dissimilar pair at 0, one similar pair at 1
    wins = (n - 1) ** 2 + 0.5 * 2 * (n - 1)
    assert ev.roc_auc(dist, label) == wins / n**2


@given(tied_pairs, st.floats(0, 1))
def test_tar_at_far_is_the_best_of_a_scan(pairs, far):
    dist, label = unzip(pairs)
    best = max(
        np.mean(dist[label == SIMILAR] < cut)
        for cut in every_cut(dist)
        if np.mean(dist[label == DISSIMILAR] < cut) <= far
    )
    assert ev.tar_at_far(dist, label, far) == best


def test_tar_at_far_on_paper():
    dist, label = [1, 2, 3, 3, 4], [0, 1, 0, 1, 0]
    assert ev.tar_at_far(dist, label, 0) == pytest.approx(1 / 3)
    assert ev.tar_at_far(dist, label, 0.5) == pytest.approx(1 / 3)  # the tie at 3 would bring FAR to 1
    assert ev.tar_at_far(dist, label, 1) == 1.0
    assert ev.tar_at_far(dist, label) == pytest.approx(1 / 3)
    exactly = np.arange(2000.0), np.arange(2000) % 2 == 0  # dissimilar pairs at 0, 2, 4 ...
    assert ev.tar_at_far(*exactly, 1e-3) == 1e-3  # one in a thousand is allowed, the boundary included


def test_contrastive_loss_on_paper():
    # similar at 2: 1/2 4; dissimilar at 1/2, margin 1: 1/2 1/4; at and beyond the margin: nothing
    assert ev.pair_metrics([2.0, 0.5, 1.0, 3.0], [0, 1, 1, 1], 0.5, 1.0)["loss"] == (2 + 0.125) / 4


def test_figures_are_plain_json_and_agree_with_the_functions():
    dist, label = random_pairs(0)
    figures = ev.pair_metrics(dist.astype(np.float32), label, np.float32(1.0), 2)
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures
    dist = dist.astype(np.float32)
    assert list(figures) == [
        "pair_accuracy",
        "pair_accuracy_at_half_margin",
        "threshold",
        "auc",
        "eer",
        "tar_at_far_1e-3",
        "loss",
        "d_prime",
        "similar_distance",
        "dissimilar_distance",
    ]
    assert figures["pair_accuracy"] == ev.pair_accuracy(dist, label, 1)
    assert figures["pair_accuracy_at_half_margin"] == figures["pair_accuracy"]
    assert figures["auc"] == ev.roc_auc(dist, label)
    assert figures["eer"] == ev.equal_error_rate(dist, label)
    assert figures["tar_at_far_1e-3"] == ev.tar_at_far(dist, label, 1e-3)
    assert figures["loss"] == pytest.approx(ContrastiveLoss(2).forward(dist, label)[0], rel=1e-6)
    assert figures["dissimilar_distance"]["p50"] == pytest.approx(np.median(dist[label == 1]), rel=1e-6)
    assert figures["similar_distance"]["mean"] == pytest.approx(dist[label == 0].mean(), rel=1e-6)
    assert list(figures["similar_distance"]) == ["mean", "std", "p1", "p5", "p25", "p50", "p75", "p95", "p99"]


def all_pairs(emb, classes):
    """The list of all pairs: distances before the root, and labels."""
    i, j = np.triu_indices(len(emb), 1)
    return ((emb[i].astype(float) - emb[j]) ** 2).sum(axis=1), (classes[i] != classes[j]).astype(int)


@settings(deadline=None)
@given(st.data())
def test_all_pairs_metrics_are_those_of_the_list_of_all_pairs(data):
    N, width = data.draw(st.integers(3, 40)), data.draw(st.integers(1, 3))
    classes = data.draw(hnp.arrays(np.int64, N, elements=st.integers(0, data.draw(st.integers(1, 4)))))
    # small whole numbers: many ties, and exact in any order of summation
    emb = data.draw(hnp.arrays(np.int8, (N, width), elements=st.integers(-2, 2))).astype(np.float32)
    dist, label = all_pairs(emb, classes)
    if label.all() or not label.any():
        with pytest.raises(ShapeError, match="both similar and dissimilar"):
            ev.all_pairs_metrics(emb, classes)
        return
    threshold = np.sqrt(data.draw(st.sampled_from(sorted(dist)))) + data.draw(st.sampled_from([-9, 0, 0, 9]))
    figures = ev.all_pairs_metrics(emb, classes, threshold)
    below = np.sqrt(dist) < threshold  # also at exactly a pair's distance, whose square may round to either side
    assert figures["balanced_accuracy"] == pytest.approx((below[label == 0].mean() + 1 - below[label == 1].mean()) / 2)
    assert figures["pairs"] == len(dist)
    assert figures["auc"] == ev.roc_auc(dist, label)
    assert figures["eer"] == pytest.approx(ev.equal_error_rate(dist, label), abs=1e-12)
    assert figures["tar_at_far_1e-3"] == ev.tar_at_far(dist, label)


@pytest.mark.parametrize("spread", [0.3, 1.0, 3.0])
def test_all_pairs_metrics_of_more_than_one_block_of_images(spread):
    rng = np.random.default_rng(3)
    classes = rng.integers(0, 4, 1300)
    emb = (np.eye(4)[classes] + spread * rng.normal(size=(1300, 4)) / 4).astype(np.float32)
    dist, label = all_pairs(emb, classes)
    figures = ev.all_pairs_metrics(emb, classes)
    assert figures["auc"] == pytest.approx(ev.roc_auc(dist, label), abs=1e-12)
    assert figures["eer"] == pytest.approx(ev.equal_error_rate(dist, label), abs=1e-12)
    assert figures["tar_at_far_1e-3"] == pytest.approx(ev.tar_at_far(dist, label), abs=1e-5)
    metrics = pytest.importorskip("sklearn.metrics")
    assert figures["auc"] == pytest.approx(metrics.roc_auc_score(label == 0, -dist), abs=1e-12)


def test_all_pairs_metrics_of_rare_dissimilar_pairs_and_of_text_labels():
    classes = np.array(["a"] * 30 + ["b"])
    emb = np.random.default_rng(4).normal(size=(31, 2))
    dist, label = all_pairs(emb, classes)
    assert ev.all_pairs_metrics(emb, classes)["auc"] == pytest.approx(ev.roc_auc(dist, label), abs=1e-12)


def test_all_pairs_metrics_of_a_collapsed_network_are_those_of_chance():
    figures = ev.all_pairs_metrics(np.ones((700, 8)), np.arange(700) % 3)
    assert (figures["auc"], figures["eer"], figures["tar_at_far_1e-3"]) == (0.5, 0.5, 0.0)


@pytest.mark.parametrize("threshold", [0.0, -1.0, 5e-324, 1.0, 2**0.5, 3**0.5, 1e200, np.inf])
def test_the_least_square_is_the_first_whose_root_is_not_below_the_threshold(threshold):
    least = ev.least_square(threshold)
    assert np.sqrt(least) >= threshold or least == np.finfo(float).max
    assert least == 0 or np.sqrt(np.nextafter(least, 0)) < threshold


def test_all_pairs_are_never_held():
    rng = np.random.default_rng(0)
    emb, classes = rng.normal(size=(3000, 8)).astype(np.float32), np.arange(3000) % 10
    ev.all_pairs_metrics(emb[:50], classes[:50])
    tracemalloc.start()
    ev.all_pairs_metrics(emb, classes)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 24e6  # the distances of all 4.5 million pairs would be 36 MB


@settings(deadline=None)
@given(st.data())
def test_nearest_matches_sorting_everything_with_many_duplicates(data):
    width = data.draw(st.integers(1, 3))
    dtype = data.draw(st.sampled_from([np.float32, np.float64]))
    rows = st.integers(-2, 2)
    sizes = data.draw(st.tuples(st.integers(1, 6), st.integers(1, 60)))
    query, gallery = (data.draw(hnp.arrays(np.int8, (size, width), elements=rows)).astype(dtype) for size in sizes)
    k = data.draw(st.integers(1, len(gallery)))
    indices, distances = ev.nearest(query, gallery, k)
    wanted_indices, wanted_distances = nearest_by_sorting_all(query, gallery, k)
    np.testing.assert_array_equal(indices, wanted_indices)
    np.testing.assert_allclose(distances, wanted_distances, rtol=1e-14)


@pytest.mark.parametrize("offset", [0.0, 1e3])
@pytest.mark.parametrize("scale", [1e-20, 1.0, 1e20])
@pytest.mark.parametrize("k", [1, 5, 60])
def test_nearest_is_exact_where_the_gram_trick_alone_is_not(offset, scale, k):
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(5, 16)) + offset  # tight clusters, far from the origin, of any size
    query, gallery = (
        ((centres[rng.integers(0, 5, n)] + 1e-3 * rng.normal(size=(n, 16))) * scale).astype(np.float32)
        for n in (30, 3001)
    )
    query = np.concatenate([query, gallery[:200]])  # 30 queries alone would not be filtered
    for rows in (query[:30], query):
        indices, distances = ev.nearest(rows, gallery, k)
        wanted_indices, wanted_distances = nearest_by_sorting_all(rows, gallery, k)
        np.testing.assert_array_equal(indices, wanted_indices)
        np.testing.assert_allclose(distances, wanted_distances, rtol=1e-12)


@pytest.mark.parametrize("far", [1e3, 1e30, 1e130])
@pytest.mark.parametrize("width", [1, 64, 300])
def test_nearest_is_exact_where_some_embeddings_are_far_from_all_others(far, width):
    rng = np.random.default_rng(0)
    query, gallery = rng.normal(size=(100, width)), rng.normal(size=(2000, width))
    query[::7] *= far
    gallery[1::11] *= far  # not the first, from which the size of most is told
    query[1::7] = gallery[1::11][: len(query[1::7])]
    gallery[12::22] = gallery[1::22][: len(gallery[12::22])] * (1 + 1e-9)
    indices, distances = ev.nearest(query, gallery, 7)
    wanted_indices, wanted_distances = nearest_by_sorting_all(query, gallery, 7)
    np.testing.assert_array_equal(indices, wanted_indices)
    np.testing.assert_allclose(distances, wanted_distances, rtol=1e-12)


@pytest.mark.parametrize("k", [1, 3, 70, 1301])
def test_nearest_among_ties_in_more_than_one_block(k):
    rng = np.random.default_rng(1)
    query, gallery = (rng.integers(0, 3, (n, 3)).astype(np.float32) for n in (150, 1301))
    indices, distances = ev.nearest(query, gallery, k)
    wanted_indices, wanted_distances = nearest_by_sorting_all(query, gallery, k)
    np.testing.assert_array_equal(indices, wanted_indices)
    np.testing.assert_array_equal(distances, wanted_distances)


def test_nearest_in_a_collapsed_gallery_is_quick_and_ordered():
    indices, distances = ev.nearest(np.zeros((2000, 64)), np.zeros((20_000, 64)), 5)
    np.testing.assert_array_equal(indices, np.broadcast_to(np.arange(5), (2000, 5)))
    assert not distances.any()


def test_nearest_keeps_memory_bounded():
    rng = np.random.default_rng(0)
    query, gallery = (rng.normal(size=(n, 16)).astype(np.float32) for n in (500, 70_000))
    tracemalloc.start()
    ev.nearest(query, gallery, 5)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100e6  # all distances at once would be 280 MB


def test_nearest_accepts_what_is_not_contiguous_and_mixed_types():
    rng = np.random.default_rng(2)
    query, gallery = rng.normal(size=(8, 10)), rng.normal(size=(8, 80)).astype(np.float32)
    indices, _ = ev.nearest(query[:, ::2].T, gallery.T[::2], 3)
    wanted, _ = nearest_by_sorting_all(query[:, ::2].T, gallery.T[::2], 3)
    np.testing.assert_array_equal(indices, wanted)
    whole, _ = ev.nearest([[2]], [[5], [1], [3]], 3)  # lists of whole numbers; 1 and 3 are equally far
    np.testing.assert_array_equal(whole, [[1, 2, 0]])


def test_no_queries_have_no_neighbours():
    indices, distances = ev.nearest(np.empty((0, 4)), np.ones((3, 4)), 2)
    assert indices.shape == distances.shape == (0, 2)


def test_knn_votes_and_breaks_ties_by_the_nearest():
    gallery, classes = np.array([[1.0], [2.0], [3.0], [4.0], [5.0]]), [7, 8, 8, 7, 9]
    query = np.array([[0.0]])
    for k, winner in [(1, 7), (2, 7), (3, 8), (4, 7), (5, 7)]:
        assert ev.knn_accuracy(query, [winner], gallery, classes, k) == 1.0, k
        assert ev.knn_accuracy(query, [winner + 1], gallery, classes, k) == 0.0, k


@given(st.integers(0, 2**32 - 1), st.integers(1, 9))
@settings(deadline=None, max_examples=30)
def test_knn_matches_counting_votes(seed, k):
    rng = np.random.default_rng(seed)
    query, gallery = rng.normal(size=(20, 2)), rng.normal(size=(40, 2))
    truth, classes = rng.integers(0, 4, 20), rng.integers(0, 4, 40)
    right = 0
    for neighbours, wanted in zip(nearest_by_sorting_all(query, gallery, k)[0], truth, strict=True):
        votes = [int(c) for c in classes[neighbours]]
        right += max(votes, key=votes.count) == wanted  # max() takes the first of equals, the nearest
    assert ev.knn_accuracy(query, truth, gallery, classes, k) == right / 20


def map_at_r_by_the_formula(emb, classes):
    values = []
    for q in range(len(emb)):
        dist = ((emb - emb[q]) ** 2).sum(axis=1)
        others = [i for i in np.argsort(dist, kind="stable") if i != q]
        relevant = [classes[i] == classes[q] for i in others]
        R = sum(relevant)
        if R:
            values.append(sum(sum(relevant[:r]) / r for r in range(1, R + 1) if relevant[r - 1]) / R)
    return np.mean(values)


@pytest.mark.parametrize("kind", ["normal", "tied", "collapsed"])
def test_map_at_r_is_the_formula(kind):
    rng = np.random.default_rng(3)
    classes = np.append(rng.integers(0, 5, 60), 99)  # the last is alone
    emb = {"normal": rng.normal(size=(61, 3)), "tied": rng.integers(0, 3, (61, 2)), "collapsed": np.ones((61, 2))}[kind]
    assert ev.map_at_r(emb, classes) == pytest.approx(map_at_r_by_the_formula(emb, classes), rel=1e-12)


def test_map_at_r_in_blocks(monkeypatch):
    emb, classes = np.random.default_rng(0).normal(size=(50, 2)), np.arange(50) % 3
    whole = ev.map_at_r(emb, classes)
    monkeypatch.setattr(ev, "_BLOCK_QUERIES", 7)
    assert ev.map_at_r(emb, classes) == pytest.approx(whole, rel=1e-12)


def test_map_at_r_on_paper():
    assert ev.map_at_r([[0.0], [1], [10], [11]], [0, 0, 1, 1]) == 1
    # of 0 and of 2 the nearest is the 1 of the other class, and R is 1; the 1 is alone
    assert ev.map_at_r([[0.0], [1], [2]], [0, 1, 0]) == 0
    with pytest.raises(ShapeError, match="alone"):
        ev.map_at_r([[0.0], [1]], [0, 1])


def test_d_prime_on_paper():
    dist, label = [1.0, 3.0, 6.0, 10.0], [0, 0, 1, 1]  # means 2 and 8, standard deviations 1 and 2
    assert ev.pair_metrics(dist, label, 4, 1)["d_prime"] == pytest.approx(6 / math.sqrt(2.5))
    assert ev.pair_metrics([1.0, 1.0], [0, 1], 4, 1)["d_prime"] == 0


def test_pca_finds_the_directions_of_a_stretched_cloud():
    rng = np.random.default_rng(0)
    plane = rng.normal(size=(500, 2)) * [5.0, 2.0]
    basis = np.linalg.qr(rng.normal(size=(8, 2)))[0]
    emb = plane @ basis.T + 100.0
    coordinates, explained = ev.pca_2d(emb)
    wanted = np.sort(np.linalg.eigvalsh(np.cov(emb.T, bias=True)))[::-1][:2]
    np.testing.assert_allclose(coordinates.var(axis=0), wanted, rtol=1e-9)
    np.testing.assert_allclose(coordinates.mean(axis=0), 0, atol=1e-9)
    np.testing.assert_allclose(explained.sum(), 1, rtol=1e-9)
    centred = emb - emb.mean(axis=0)
    np.testing.assert_allclose(coordinates @ coordinates.T, centred @ centred.T, atol=1e-8)  # nothing is lost


def test_pca_sign_is_fixed():
    rng = np.random.default_rng(1)
    emb = rng.normal(size=(40, 5)) * [9, 4, 1, 1, 1]
    coordinates, _ = ev.pca_2d(emb)
    mirrored, _ = ev.pca_2d(-emb)
    np.testing.assert_allclose(mirrored, -coordinates, atol=1e-12)
    for axis in (0, 1):  # the largest coordinate grows to the right and upwards
        direction = (emb - emb.mean(axis=0)).T @ coordinates[:, axis]
        assert direction[np.abs(direction).argmax()] > 0


@pytest.mark.parametrize("shape", [(1, 4), (5, 1), (2, 2), (6, 3)])
def test_pca_degenerate(shape):
    coordinates, explained = ev.pca_2d(np.ones(shape, dtype=np.float32))
    assert coordinates.shape == (shape[0], 2) and not coordinates.any() and not explained.any()


EMB = np.ones((4, 2))
NAN_ROW = np.array([[0.0, 1.0], [np.nan, 0.0]])


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (
            lambda: ev.pair_accuracy([1.0], [2], 1),
            ShapeError,
            r"0 \(similar\) or 1 \(dissimilar\), but label\[0\] is 2",
        ),
        (lambda: ev.pair_accuracy([1.0, np.nan], [0, 1], 1), ShapeError, r"dist\[1\] is nan"),
        (lambda: ev.pair_accuracy([np.inf], [0], 1), ShapeError, r"dist\[0\] is inf"),
        (lambda: ev.pair_accuracy([-0.5], [0], 1), ShapeError, r"dist\[0\] is -0.5"),
        (lambda: ev.pair_accuracy([1.0], [np.nan], 1), ShapeError, r"label\[0\] is nan"),
        (
            lambda: ev.pair_accuracy([1.0, 2.0], [0], 1),
            ShapeError,
            r"equally long .*, not \(2,\) and \(1,\)",
        ),
        (lambda: ev.pair_accuracy([], np.array([], dtype=int), 1), ShapeError, "not empty"),
        (lambda: ev.pair_accuracy([[1.0]], [0], 1), ShapeError, r"equally long .* \(1, 1\) and \(1,\)"),
        (lambda: ev.pair_accuracy(["a"], [0], 1), ShapeError, "dist must hold distances as real numbers, not <U1"),
        (lambda: ev.pair_accuracy([1j], [0], 1), ShapeError, "real numbers, not complex128"),
        (lambda: ev.pair_accuracy([1.0], ["similar"], 1), ShapeError, "pair labels must be a 1-D array of numbers"),
        (lambda: ev.pair_accuracy([1.0], [0], math.nan), OptionError, "the threshold must be a number .*, not nan"),
        (
            lambda: ev.roc_auc([1.0, 2.0], [0, 0]),
            ShapeError,
            "both similar and .*, but gives only similar pairs",
        ),
        (lambda: ev.roc_curve([1.0, 2.0], [1, 1]), ShapeError, "only dissimilar pairs"),
        (lambda: ev.equal_error_rate([1.0], [1]), ShapeError, "only dissimilar"),
        (lambda: ev.calibrate_threshold([1.0], [0]), ShapeError, "only similar pairs"),
        (lambda: ev.tar_at_far([1.0, 2.0], [0, 1], 1.5), OptionError, "far must be a number from 0 to 1, not 1.5"),
        (lambda: ev.tar_at_far([1.0, 2.0], [0, 1], math.nan), OptionError, "0 to 1, not nan"),
        (
            lambda: ev.pair_metrics([1.0, 2.0], [0, 1], 1.0, -1),
            OptionError,
            "the margin must be .* above 0, not -1",
        ),
        (lambda: ev.pair_metrics([1.0, 2.0], [0, 1], 1.0, 1e20), OptionError, "must be from 1e-15 to 1e.15, not 1e.20"),
        (lambda: ev.pair_metrics([1.0, 2.0], [0, 1], 1.0, math.inf), OptionError, "margin must be .*, not inf"),
        (lambda: ev.pair_metrics([1.0], [0], 1.0, 1.0), ShapeError, "only similar"),
        (lambda: ev.pair_distances(EMB, [[0, 4]]), ShapeError, r"row numbers from 0 to 3, but pairs\[0, 1\] is 4"),
        (lambda: ev.pair_distances(EMB, [[0, 0], [-1, 0]]), ShapeError, r"pairs\[1, 0\] is -1"),
        (lambda: ev.pair_distances(EMB, [[0, 1, 2]]), ShapeError, r"\(1, 3\)"),
        (lambda: ev.pair_distances(EMB, [[0.0, 1.0]]), ShapeError, r"\(any, 2\) of row numbers, not float64"),
        (lambda: ev.pair_distances(EMB[0], [[0, 1]]), ShapeError, "emb must be"),
        (lambda: ev.pair_distances(NAN_ROW, [[0, 0]]), ShapeError, r"emb\[1\] holds another"),
        (lambda: ev.pair_distances(np.ones((3, 0)), [[0, 1]]), ShapeError, "at least one number"),
        (
            lambda: ev.nearest(EMB, EMB, 0),
            OptionError,
            "k must be .* 1 to the 4 rows of the gallery, not 0",
        ),
        (lambda: ev.nearest(EMB, EMB, 5), OptionError, "gallery, not 5"),
        (lambda: ev.nearest(EMB, EMB, 2.0), OptionError, "gallery, not 2.0"),
        (lambda: ev.nearest(EMB, EMB, True), OptionError, "gallery, not True"),
        (lambda: ev.nearest(EMB, np.ones((4, 3)), 1), ShapeError, r"equally wide, not \(4, 2\) and \(4, 3\)"),
        (
            lambda: ev.nearest(EMB, np.ones((0, 2)), 1),
            ShapeError,
            "gallery must hold at least one",
        ),
        (lambda: ev.nearest(EMB, NAN_ROW, 1), ShapeError, r"gallery\[1\]"),
        (lambda: ev.nearest(EMB * 1e200, EMB, 1), ShapeError, r"squares do not overflow, but query\[0\] holds another"),
        (lambda: ev.nearest(EMB[:, 0], EMB, 1), ShapeError, "query must be"),
        (
            lambda: ev.all_pairs_metrics(EMB, [0, 1, 2, 3]),
            ShapeError,
            "classes must .* only dissimilar pairs",
        ),
        (lambda: ev.all_pairs_metrics(EMB, [5] * 4), ShapeError, "classes must .* only similar pairs"),
        (lambda: ev.all_pairs_metrics(EMB[:1], [5]), ShapeError, "no pairs"),
        (
            lambda: ev.all_pairs_metrics(EMB[:0], []),
            ShapeError,
            "numbers or text, not 1-D of float64",
        ),
        (lambda: ev.all_pairs_metrics(EMB, [0, 1]), ShapeError, "classes must have 4 entries, .*, not 2"),
        (lambda: ev.all_pairs_metrics(NAN_ROW, [0, 1]), ShapeError, r"emb\[1\] holds another"),
        (lambda: ev.pca_2d(np.ones((0, 2))), ShapeError, "emb must hold at least one embedding"),
        (
            lambda: ev.knn_accuracy(EMB, [0] * 3, EMB, [0] * 4, 1),
            ShapeError,
            "query_classes must have 4 .*, not 3",
        ),
        (
            lambda: ev.knn_accuracy(EMB, [0] * 4, EMB, [0] * 5, 1),
            ShapeError,
            "gallery_classes must have 4 .*, not 5",
        ),
        (lambda: ev.knn_accuracy(EMB, [[0]] * 4, EMB, [0] * 4, 1), ShapeError, "query_classes must be a 1-D"),
        (
            lambda: ev.knn_accuracy(EMB[:0], np.zeros(0, int), EMB, [0] * 4, 1),
            ShapeError,
            "query must hold",
        ),
        (lambda: ev.knn_accuracy(EMB, [0] * 4, EMB, [0] * 4, 9), OptionError, "gallery, not 9"),
    ],
)
def test_a_mistake_is_named_in_one_sentence(call, error, says):
    with pytest.raises(error, match=says) as caught:
        call()
    message = str(caught.value)
    assert not message.endswith(".") and "\n" not in message


def test_importing_metrics_compiles_nothing():
    code = "import siamese_np.metrics, sys; sys.exit(bool({'numba', 'matplotlib'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
