"""The shipped evaluation pairs are those that are drawn, and no others are taken for them."""

import numpy as np
import pytest

from siamese_np import load_dataset
from siamese_np.errors import DataError, OptionError
from siamese_np.evaluation_pairs import EVALUATION_SEED, FILE, evaluation_pairs, load_evaluation_pairs, mnist_part

CONFUSABLE = {3: (5, 8), 4: (9,), 5: (3,), 7: (9,), 8: (3,), 9: (4, 7)}  # digits, and those that look most like them


def confusable_pairs(classes):
    """How the shipped pairs of digits that look alike were drawn: a similar and a dissimilar pair for each image."""
    rng = np.random.default_rng(EVALUATION_SEED)
    images = {digit: np.flatnonzero(classes == digit) for digit in CONFUSABLE}
    pairs, label = [], []
    for digit, own in images.items():
        similar = own[(np.arange(len(own)) + rng.integers(1, len(own), len(own))) % len(own)]
        dissimilar = rng.choice(np.concatenate([images[other] for other in CONFUSABLE[digit]]), len(own))
        pairs += [np.stack([own, similar], axis=1), np.stack([own, dissimilar], axis=1)]
        label += [np.zeros(len(own), np.int64), np.ones(len(own), np.int64)]
    order = rng.permutation(sum(map(len, label)))
    return np.concatenate(pairs)[order], np.concatenate(label)[order]


@pytest.mark.parametrize("part", ["test", "validation"])
@pytest.mark.parametrize("confusable", [False, True])
def test_the_file_holds_what_is_drawn(part, confusable):
    classes = getattr(load_dataset(), part).classes
    draw = confusable_pairs if confusable else evaluation_pairs
    for shipped, drawn in zip(load_evaluation_pairs(part, confusable), draw(classes), strict=True):
        np.testing.assert_array_equal(shipped, drawn)


@pytest.mark.parametrize("part", ["test", "validation"])
def test_shipped_pairs_are_of_digits_that_look_alike(part):
    classes = getattr(load_dataset(), part).classes
    pairs, label = load_evaluation_pairs(part, confusable=True)
    assert (pairs[:, 0] != pairs[:, 1]).all() and label.sum() == len(label) // 2
    for kind in (0, 1):  # each image of such a digit has a pair of each kind
        np.testing.assert_array_equal(np.sort(pairs[label == kind, 0]), np.flatnonzero(np.isin(classes, [*CONFUSABLE])))
    for (one, other), different in zip(classes[pairs].tolist(), label, strict=True):
        assert other in CONFUSABLE[one] if different else other == one


def test_another_file_is_not_taken(tmp_path):
    wrong = tmp_path / "pairs.npz"
    content = bytearray(FILE.read_bytes())
    content[1000] ^= 1
    wrong.write_bytes(content)
    with pytest.raises(DataError, match=r"pairs\.npz does not hold the published evaluation pairs: its SHA-256 is"):
        load_evaluation_pairs(file=wrong)
    with pytest.raises(DataError, match="cannot be read: No such file"):
        load_evaluation_pairs(file=tmp_path / "none.npz")
    with pytest.raises(OptionError, match="test or validation, not 'train'"):
        load_evaluation_pairs("train")


def test_a_part_of_mnist_is_known_by_its_classes_whatever_its_name():
    mnist = load_dataset()
    assert mnist_part(mnist.test.classes) == "test" and mnist_part(mnist.validation.classes) == "validation"
    assert mnist_part(mnist.test.classes.astype(np.int8)) == "test"
    assert mnist_part(mnist.test.classes[::-1]) is None and mnist_part(mnist.test.classes[:200]) is None
