"""Random pairs and balanced batches: what holds for every data set, and what a wrong one is told."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from siamese_np._checks import check_classes, check_pair_labels, check_pairable
from siamese_np.errors import DataError, OptionError, ShapeError
from siamese_np.pairs import balanced_batches, random_pairs


@st.composite
def any_classes(draw, least=1):
    """Classes in any order and of any value, at least two of at least `least` images each."""
    counts = draw(st.lists(st.integers(least, 12), min_size=2, max_size=6))
    values = draw(st.lists(st.integers(-(2**40), 2**40), min_size=len(counts), max_size=len(counts), unique=True))
    return np.random.default_rng(draw(st.integers(0, 99))).permutation(np.repeat(values, counts))


seeds = st.integers(0, 2**32)


@given(any_classes(least=2), seeds)
def test_random_pairs(classes, seed):
    N = len(classes)
    pairs, label = random_pairs(classes, np.random.default_rng(seed))
    assert pairs.shape == (2 * N, 2) and pairs.dtype == np.int64
    assert label.shape == (2 * N,) and label.dtype == np.int64
    assert (pairs[:, 0] != pairs[:, 1]).all()
    assert np.array_equal(label, classes[pairs[:, 0]] != classes[pairs[:, 1]])
    for kind in (0, 1):  # every image once in front, in a similar and in a dissimilar pair
        assert np.array_equal(np.sort(pairs[label == kind, 0]), np.arange(N))

    again = random_pairs(classes, np.random.default_rng(seed))
    assert np.array_equal(again[0], pairs) and np.array_equal(again[1], label)


def test_every_allowed_partner_is_equally_likely():
    classes, rounds = np.array([7, 0, 7, 3, 0, 7, 3]), 3000
    met = np.zeros((2, 7, 7))
    rng = np.random.default_rng(1)
    for _ in range(rounds):
        pairs, label = random_pairs(classes, rng)
        met[label, pairs[:, 0], pairs[:, 1]] += 1
    same = classes[:, np.newaxis] == classes
    for kind, allowed in ((0, same & ~np.eye(7, dtype=bool)), (1, ~same)):
        share = allowed / allowed.sum(axis=1, keepdims=True)
        assert np.abs(met[kind] / rounds - share).max() < 0.05  # more than 5 standard deviations
        assert not met[kind][~allowed].any()


def test_pairs_are_shuffled_and_depend_on_the_seed():
    classes = np.arange(1000) % 10
    pairs, label = random_pairs(classes, np.random.default_rng(0))
    assert abs(label[:1000].mean() - 0.5) < 0.1
    assert abs(np.corrcoef(pairs[:, 0], np.arange(2000))[0, 1]) < 0.1
    assert (pairs != random_pairs(classes, np.random.default_rng(1))[0]).any(axis=1).mean() > 0.9


@pytest.mark.parametrize(
    ("classes", "error", "words"),
    [
        ([], ShapeError, "whole numbers"),
        (np.zeros(0, int), DataError, "at least two classes, but the 0 images have 0"),
        ([4, 4, 4], DataError, "at least two classes, but the 3 images have 1"),
        ([4, 4, 9], DataError, "class 9 has a single image among the 3 images"),
        ([[1, 2], [1, 2]], ShapeError, "1-D array of whole numbers, not 2-D"),
        ([0.0, 1.0], ShapeError, "not 1-D of float64"),
        ([True, False], ShapeError, "of bool"),
        (["3", "7"], ShapeError, "of <U1"),
        ([[1], [1, 2]], ShapeError, "classes must be an array, but a list that makes none"),
        (np.ma.masked_array([1, 1, 2, 2], [0, 0, 0, 1]), ShapeError, "without a mask"),
    ],
)
def test_labels_without_pairs(classes, error, words):
    with pytest.raises(error, match=words):
        random_pairs(classes, np.random.default_rng(0))


@given(any_classes(), st.data(), seeds)
def test_balanced_batches(classes, data, seed):
    N = len(classes)
    batch_size = data.draw(st.integers(2, N))
    batches = list(balanced_batches(classes, batch_size, np.random.default_rng(seed)))
    sizes = [len(batch) for batch in batches]
    assert len(batches) == -(-N // batch_size) and max(sizes) <= batch_size and max(sizes) - min(sizes) <= 1
    assert np.array_equal(np.sort(np.concatenate(batches)), np.arange(N))

    values, counts = np.unique(classes, return_counts=True)
    for batch in batches:
        # A stretch of n ranks is n / N of [0, 1) give or take one image of each of the K classes.
        expected = len(batch) * counts / N
        found = (classes[batch][:, np.newaxis] == values).sum(axis=0)
        assert (np.abs(found - expected) <= 1 + len(values) * counts / N).all()

    again = balanced_batches(classes, batch_size, np.random.default_rng(seed))
    assert all(np.array_equal(a, b) for a, b in zip(batches, again, strict=True))


def test_a_rare_class_is_spread_over_the_batches():
    classes = np.repeat([0, 1], [900, 100])
    for batch in balanced_batches(classes, 50, np.random.default_rng(0)):
        assert 4 <= classes[batch].sum() <= 6


def test_batches_differ_between_epochs():
    classes, rng = np.arange(1000) % 10, np.random.default_rng(0)
    first, second = (next(balanced_batches(classes, 100, rng)) for _ in range(2))
    assert len(np.intersect1d(first, second)) < 30  # ten expected
    assert np.bincount(classes[first], minlength=10).tolist() == [10] * 10


@pytest.mark.parametrize(("batch_size", "N"), [(1, 9), (0, 9), (-3, 9), (10, 9), (2, 0)])
def test_batch_size_out_of_range(batch_size, N):
    with pytest.raises(OptionError, match=rf"from 2 to the {N} images there are, not {batch_size}"):
        balanced_batches(np.zeros(N, int), batch_size, np.random.default_rng(0))  # before the first batch is asked for


@pytest.mark.parametrize("batch_size", [2.5, 3.0, "3", None, True, np.nan])
def test_a_batch_size_is_a_whole_number(batch_size):
    with pytest.raises(OptionError, match="from 2 to the 9 images"):
        balanced_batches(np.zeros(9, int), batch_size, np.random.default_rng(0))


def test_classes_of_any_whole_type():
    for dtype in (np.uint8, np.int16, np.int64):
        assert check_classes(np.array([3, 1], dtype)).tolist() == [3, 1]
    with pytest.raises(ShapeError, match="0-D"):
        check_classes(3)


def test_a_sentence_names_the_images_that_make_no_pairs():
    with pytest.raises(DataError, match="class 1 has a single image among the 3 test images"):
        check_pairable([0, 0, 1], "test images")
    with pytest.raises(DataError, match="at least two classes, but the 2 test images have 1"):
        check_pairable([4, 4], "test images")


def test_pair_labels():
    assert check_pair_labels([0, 1.0, True]).tolist() == [0, 1, 1]
    for wrong, words in (([0, 2], r"label\[1\] is 2"), ([-1], r"label\[0\] is -1"), ([0.5], "is 0.5")):
        with pytest.raises(ShapeError, match=words):
            check_pair_labels(wrong)
    with pytest.raises(ShapeError, match=r"label\[1\] is nan"):
        check_pair_labels([0, np.nan])
    with pytest.raises(ShapeError, match="not 2-D"):
        check_pair_labels([[0, 1]])
    for wrong, words in ((["0"], "of <U1"), ([1j], "of complex128"), (np.ma.zeros(2), "without a mask")):
        with pytest.raises(ShapeError, match=words):
            check_pair_labels(wrong)
