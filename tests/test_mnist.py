"""The bundled MNIST, and folders of IDX files that look like it."""

import gzip
import shutil

import numpy as np
import pytest
from conftest import write_idx

from siamese_np.datasets import Dataset, load_dataset, mnist
from siamese_np.errors import DataError

COUNTS = {  # published, of the 60,000 training and 10,000 test images
    "train": [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949],
    "test": [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009],
}


@pytest.fixture(scope="module")
def bundled():
    return load_dataset()


@pytest.fixture
def folder(tmp_path):
    """120 training and 20 test images of 5x4 pixels and ten classes."""
    for name, N in (("train", 120), ("t10k", 20)):
        write_idx(tmp_path / f"{name}-images-idx3-ubyte", np.arange(N * 20).reshape(N, 5, 4) % 251)
        write_idx(tmp_path / f"{name}-labels-idx1-ubyte.gz", np.arange(N) % 10)
    return tmp_path


def fails(folder, words):
    with pytest.raises(DataError, match=words):
        load_dataset(folder)


def test_bundled_parts(bundled):
    assert bundled.name == "MNIST"
    for split, N in ((bundled.train, 50_000), (bundled.validation, 10_000), (bundled.test, 10_000)):
        assert len(split) == N
        assert split.images.shape == (N, 28, 28, 1) and split.images.dtype == np.float32
        assert split.classes.shape == (N,) and split.classes.dtype == np.int64
        assert split.images.min() == 0 and split.images.max() == 1
    assert np.bincount(bundled.all_train.classes).tolist() == COUNTS["train"]
    assert np.bincount(bundled.test.classes).tolist() == COUNTS["test"]
    assert bundled.all_train.classes[:8].tolist() == [5, 0, 4, 1, 9, 2, 1, 3]
    assert bundled.test.classes[:8].tolist() == [7, 2, 1, 0, 4, 1, 4, 9]


def test_bundled_pixels_are_the_bytes(bundled):
    with gzip.open(mnist.BUNDLED / "t10k-images-idx3-ubyte.gz") as file:
        content = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 28, 28, 1)
    assert np.array_equal(bundled.test.images, content / np.float32(255))
    assert round(float(bundled.all_train.images.mean(dtype=np.float64)), 4) == 0.1307  # as is widely published


def test_validation_is_the_end_of_training(bundled):
    assert np.shares_memory(bundled.all_train.images, bundled.train.images)
    assert np.array_equal(bundled.all_train.images[50_000:], bundled.validation.images)
    assert np.array_equal(bundled.all_train.classes[50_000:], bundled.validation.classes)


@pytest.mark.parametrize("damage", ["changed", "renamed", "missing"])
def test_damaged_bundle(tmp_path, monkeypatch, damage):
    for name in mnist.SHA256:
        shutil.copy(mnist.BUNDLED / name, tmp_path)
    path = tmp_path / "t10k-labels-idx1-ubyte.gz"
    if damage == "changed":  # a sound file with another label
        labels = np.array(load_dataset(tmp_path).test.classes)
        labels[0] = 3
        write_idx(path, labels)
    elif damage == "renamed":
        path.rename(path.with_suffix(""))
    else:
        path.unlink()
    monkeypatch.setattr(mnist, "BUNDLED", tmp_path)
    fails(None, "holds no file with the labels for test" if damage == "missing" else "not the file that came with")


def test_folder(folder):
    dataset = load_dataset(str(folder))
    assert dataset.name == folder.name
    assert [len(part) for part in (dataset.train, dataset.validation, dataset.test)] == [100, 20, 20]
    flat = dataset.all_train.images.reshape(120, 20)
    assert np.array_equal(flat[1], np.arange(20, 40, dtype=np.float32) / np.float32(255))
    assert dataset.validation.classes.tolist() == 2 * list(range(10))


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("train-{}-{}", "t10k-{}-{}"),
        ("train-{}.{}", "t10k-{}.{}"),
        ("train-{}-{}.gz", "test-{}-{}.gz"),
        ("emnist-digits-train-{}-{}.gz", "emnist-digits-test-{}-{}"),
    ],
)
def test_names(folder, train, test):
    for part, name in (("train", train), ("t10k", test)):
        for kind, suffix, zipped in (("images", "idx3-ubyte", ""), ("labels", "idx1-ubyte", ".gz")):
            (folder / f"{part}-{kind}-{suffix}{zipped}").rename(folder / name.format(kind, suffix))
    (folder / "README-train-images.txt").write_text("beside")
    assert len(load_dataset(folder).test) == 20


def test_all_train_of_a_data_set_made_by_hand(folder):
    loaded = load_dataset(folder)
    made = Dataset("made", loaded.train, loaded.validation, loaded.test)
    assert np.array_equal(made.all_train.images, loaded.all_train.images)
    assert np.array_equal(made.all_train.classes, loaded.all_train.classes)


@pytest.mark.parametrize("name", ["train-images-idx3-ubyte", "t10k-labels-idx1-ubyte.gz"])
def test_missing_and_doubled_files(folder, name):
    kind, part = ("images", "train") if "train" in name else ("labels", "test")
    shutil.copy(folder / name, folder / f"other-{name}")
    fails(folder, f"one file with the {kind} for {part}, but holds 2: other-{name}, {name}")
    (folder / name).unlink()
    (folder / f"other-{name}").unlink()
    fails(folder, f"holds no file with the {kind} for {part}, which would be named")


def test_gzipped_and_plain_files_in_one_folder(folder):
    """As torchvision leaves them; the plain ones are read."""
    loaded = load_dataset(folder)
    for path in list(folder.iterdir()):
        if path.suffix == ".gz":
            path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
            path.write_bytes(b"not read")
        else:
            path.with_name(f"{path.name}.gz").write_bytes(b"not read")
    again = load_dataset(folder)
    assert np.array_equal(again.train.images, loaded.train.images)
    assert np.array_equal(again.test.classes, loaded.test.classes)


def test_wrong_content(folder):
    images, labels = folder / "train-images-idx3-ubyte", folder / "train-labels-idx1-ubyte.gz"
    sound = labels.read_bytes(), images.read_bytes()
    write_idx(labels, np.zeros(119))
    fails(folder, "holds 120 images, but .* holds 119 labels")
    write_idx(labels, np.zeros((120, 1)))
    fails(folder, "train-labels.* holds uint8 values in 2 dimensions")
    labels.write_bytes(sound[0][:-9])
    fails(folder, "train-labels.* truncated or damaged gzip")
    labels.write_bytes(sound[0])
    images.write_bytes(sound[1][:-1])
    fails(folder, "train-images.* too short")
    images.write_bytes(b"\0\0\x09" + sound[1][3:])
    fails(folder, "train-images.* holds int8 values")
    write_idx(images, np.zeros((120, 6, 4)))
    fails(folder, "of one size, but those for training are 6x4 and those for testing 5x4")
    write_idx(images, np.zeros((120, 0, 4)))
    fails(folder, "train-images.* holds no image")


def test_too_few_for_validation(folder):
    write_idx(folder / "train-images-idx3-ubyte", np.zeros((5, 5, 4)))
    write_idx(folder / "train-labels-idx1-ubyte.gz", np.zeros(5))
    fails(folder, "holds 5 images, but it takes at least 6")


@pytest.mark.parametrize(
    ("classes", "validation"),
    [
        (np.arange(60) % 3, [2, 0, 1, 2, 0, 1, 2, 0, 1, 2]),  # the last ones, which hold every class
        (np.repeat(np.arange(10), 300), np.repeat(np.arange(10), 50)),  # sorted: a sixth of each class
        (np.repeat(np.arange(5), 600), np.repeat(np.arange(5), 100)),
        (np.repeat([7, 3], [56, 4]), [7] * 9 + [3] * 2),  # a small class gives two
        ([5, 5, 5] + [0, 1] * 30, [0, 1] * 5),  # too small to be in both parts: it is trained on
        ([0] * 30 + [1] * 30 + [5, 5, 5], [0] * 4 + [1] * 4),
    ],
)
def test_every_class_is_in_both_parts(folder, classes, validation):
    images = np.arange(20 * len(classes)).reshape(-1, 5, 4) // 20 % 256
    write_idx(folder / "train-images-idx3-ubyte", images)
    write_idx(folder / "train-labels-idx1-ubyte.gz", np.asarray(classes))
    data = load_dataset(folder)
    assert data.all_train.classes.tolist() == list(classes)
    assert data.validation.classes.tolist() == list(validation)
    together = np.concatenate((data.train.classes, data.validation.classes))
    assert np.array_equal(np.sort(together), np.sort(classes))
    for part in (data.train, data.validation):  # each class keeps its order, and each image its class
        for kind in np.unique(part.classes):
            found = np.rint(part.images[part.classes == kind, 0, 0, 0] * 255)
            of_kind = images[np.asarray(classes) == kind, 0, 0]
            wanted = of_kind[-len(found) :] if part is data.validation else of_kind[: len(found)]
            assert np.array_equal(found, wanted)


def test_test_images_without_pairs_can_be_embedded(folder):
    for classes in (np.repeat([0, 1, 4], [10, 9, 1]), np.full(20, 3)):
        write_idx(folder / "t10k-labels-idx1-ubyte.gz", classes)
        assert load_dataset(folder).test.classes.tolist() == classes.tolist()


def test_not_a_folder(tmp_path):
    fails(tmp_path / "absent", "there is no file or folder .*absent")
    (tmp_path / "file").touch()
    fails(tmp_path / "file", "file is not a folder")
    fails(tmp_path, "holds no pictures in subfolders")
