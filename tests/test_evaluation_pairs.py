"""The shipped evaluation pairs are those that are drawn, and no others are taken for them."""

import numpy as np
import pytest

from siamese_np import load_dataset
from siamese_np.errors import DataError, OptionError
from siamese_np.evaluation_pairs import (
    CONFUSABLE,
    FILE,
    confusable_pairs,
    evaluation_pairs,
    load_evaluation_pairs,
    mnist_part,
)


@pytest.mark.parametrize("part", ["test", "validation"])
@pytest.mark.parametrize("confusable", [False, True])
def test_the_file_holds_what_is_drawn(part, confusable):
    classes = getattr(load_dataset(), part).classes
    draw = confusable_pairs if confusable else evaluation_pairs
    for shipped, drawn in zip(load_evaluation_pairs(part, confusable), draw(classes), strict=True):
        np.testing.assert_array_equal(shipped, drawn)


def test_confusable_pairs_are_of_digits_that_look_alike():
    classes = np.arange(200) % 10
    pairs, label = confusable_pairs(classes)
    assert len(pairs) == 2 * 6 * 20 and (pairs[:, 0] != pairs[:, 1]).all()
    for (one, other), different in zip(classes[pairs], label, strict=True):
        assert other in CONFUSABLE[one] if different else other == one
    assert label.sum() == len(label) // 2
    assert {(3, 8), (8, 3), (4, 9), (7, 9), (3, 5)} <= set(map(tuple, classes[pairs[label == 1]].tolist()))


def test_each_image_has_its_pairs():
    classes = np.arange(60) % 10
    pairs, label = confusable_pairs(classes)
    for kind in (0, 1):
        assert sorted(pairs[label == kind, 0]) == [i for i in range(60) if classes[i] in CONFUSABLE]


def test_a_digit_without_partners_is_refused():
    with pytest.raises(DataError, match="of each of 3, 4, 5, 7, 8 and 9; 8 has fewer"):
        confusable_pairs(np.array([3, 4, 5, 7, 9, 3, 4, 5, 7, 9, 8]))


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
