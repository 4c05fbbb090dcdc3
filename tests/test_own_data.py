"""The user's own data: folders of pictures, torchvision's folders, .npz, CSV; loaded, trained on, used."""

import json
import os
import shutil
import signal

import numpy as np
import pytest
from conftest import write_idx, write_npz
from PIL import Image
from test_images import png_claiming

from siamese_np import Dataset, Split, load_dataset, load_images, load_model, read_image
from siamese_np.cli import main
from siamese_np.datasets import DIGIT, InputForm
from siamese_np.datasets.pictures import Files, Stack
from siamese_np.errors import DataError, ModelError, OptionError
from siamese_np.presets import PRESETS, fitting

COLOURS = {"blue": (30, 40, 220), "green": (20, 190, 40), "red": (220, 30, 30), "stripes": (120, 120, 120)}


def picture(kind, rng, height=60, width=40, colour=True):
    """Noise in a colour, with stripes, both of the class."""
    noise = rng.integers(0, 90, (height, width, 3))
    image = noise + np.array(list(COLOURS.values())[kind % 4]) // 2 * colour
    image[:: kind % 7 + 2] += 60 * (kind % 3)
    image = np.uint8(np.clip(image, 0, 255))
    return image if colour else image[..., 0]


def write_folder(root, names, count, **options):
    rng = np.random.default_rng(0)
    for kind, name in enumerate(names):
        (root / name).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            suffix = ("png", "jpg", "bmp")[i % 3]
            Image.fromarray(picture(kind, rng, **options)).save(root / name / f"{i:03}.{suffix}")
    return root


@pytest.fixture
def rgb(tmp_path):
    return write_folder(tmp_path / "goods", COLOURS, 9)


def fails(words, *arguments, error=DataError, **options):
    with pytest.raises(error, match=words) as caught:
        load_dataset(*arguments, **options)
    assert "\n" not in str(caught.value)


def sizes(dataset):
    return [len(part) for part in (dataset.train, dataset.validation, dataset.test)]


# --- Folders of pictures ----------------------------------------------------------------------------------------------


def test_a_folder_of_class_folders(rgb):
    data = load_dataset(rgb)
    assert data.name == "goods" and data.class_names == list(COLOURS)
    assert sizes(data) == [20, 8, 8] and data.train.images.shape[1:] == (60, 40, 3)
    for part, count in ((data.train, 5), (data.validation, 2), (data.test, 2)):
        assert np.bincount(part.classes).tolist() == [count] * 4
    found = {image.tobytes() for part in (data.train, data.validation, data.test) for image in part.images}
    assert len(found) == 36  # each is in one part
    assert np.shares_memory(data.all_train.images, data.train.images) and len(data.all_train) == 28
    again, other = load_dataset(rgb), load_dataset(rgb, seed=1)
    assert again.digests == data.digests and other.digests != data.digests
    assert sorted(i.tobytes() for p in (other.train, other.validation, other.test) for i in p.images) == sorted(found)


def test_training_and_use_read_a_file_alike(rgb):
    data = load_dataset(rgb, size=(30, 30))
    every, names = load_images([rgb], data.form)
    read = {image.tobytes() for image in every}
    assert all(image.tobytes() in read for image in data.train.images) and len(names) == 36
    blue = read_image(rgb / "blue" / "000.png", data.form)
    where = [image.tobytes() for image in np.concatenate([data.all_train.images, data.test.images])]
    classes = np.concatenate([data.all_train.classes, data.test.classes])
    assert classes[where.index(blue.tobytes())] == 0


def test_size_and_colour_follow_the_data(tmp_path, rgb):
    assert load_dataset(rgb, channels=1).form.shape == (60, 40, 1)
    assert load_dataset(rgb, size=(10, 20)).form.shape == (10, 20, 3)
    grey = write_folder(tmp_path / "grey", ["a", "b"], 6, height=200, width=150, colour=False)
    assert load_dataset(grey).form.shape == (64, 48, 1)
    assert load_dataset(grey, channels=3).train.images.shape[1:] == (64, 48, 3)
    Image.fromarray(picture(0, np.random.default_rng(1), 300, 100)).save(grey / "b" / "colour.png")
    assert load_dataset(grey).form.shape == (64, 48, 3)  # one picture in colour, and larger
    for path in grey.rglob("*.png"):
        Image.open(path).convert("L").convert("RGBA").save(path)
    assert load_dataset(grey).form.shape == (64, 48, 1)  # a mode for colour, but none to see


def test_parts_that_are_given(tmp_path):
    for part, count in (("train", 5), ("val", 2), ("test", 3)):
        write_folder(tmp_path / "own" / part, ["a", "b"], count)
    data = load_dataset(tmp_path / "own")
    assert sizes(data) == [10, 4, 6] and data.class_names == ["a", "b"]
    (tmp_path / "own" / "val").rename(tmp_path / "own" / "Validation")
    assert sizes(load_dataset(tmp_path / "own")) == [10, 4, 6]
    shutil.rmtree(tmp_path / "own" / "test")
    assert sizes(load_dataset(tmp_path / "own")) == [6, 4, 4]  # the other part is for testing
    shutil.rmtree(tmp_path / "own" / "train")
    (tmp_path / "own" / "Validation" / "c").mkdir()
    fails("has one class", tmp_path / "own")  # a class called Validation, whose folder has folders


def test_a_class_may_be_called_train(tmp_path):
    assert load_dataset(write_folder(tmp_path / "own", ["train", "bus"], 6)).class_names == ["bus", "train"]
    assert load_dataset(write_folder(tmp_path / "only", ["train", "test"], 6)).class_names == ["test", "train"]


def test_several_folders_have_their_classes_in_common(tmp_path):
    first = write_folder(tmp_path / "1", ["cat", "dog"], 6)
    second = write_folder(tmp_path / "2", ["dog", "10", "9"], 6, height=30, colour=False)
    data = load_dataset([first, second])
    assert data.name == "1 + 2" and data.class_names == ["9", "10", "cat", "dog"]
    assert np.bincount(data.train.classes).tolist() == [2, 2, 2, 4] and sizes(data) == [10, 10, 10]
    assert data.form.shape == (30, 40, 3)


def test_classes_of_the_same_name(tmp_path):
    fails("'Cat' and 'cat' have the same name", write_folder(tmp_path / "1", ["Cat", "cat"], 6))
    fails("the same name", write_folder(tmp_path / "2", ["caf\u00e9", "cafe\u0301"], 6))
    one, other = (write_folder(tmp_path / name, ["dog", kind], 6) for name, kind in (("3", "cat"), ("4", "CAT")))
    fails("'CAT' and 'cat' have the same name", [one, other])


def test_a_class_too_small_is_named(tmp_path, rgb):
    for path in list((rgb / "red").iterdir())[:4]:
        path.unlink()
    fails("goods has too few pictures of a class: class 'red' has 5, but at least 6 are needed", rgb)
    (rgb / "none").mkdir()  # without pictures it is no class
    fails("class 'red' has 5, but", rgb)
    one = write_folder(tmp_path / "one", ["only"], 9)
    fails("one has one class, 'only', but two are needed", one)
    for part, count in (("train", 3), ("test", 1)):
        write_folder(tmp_path / "parts" / part, ["a", "b"], count)
    fails("parts, train, has too few .* 'a' has 3, 'b' has 3, but at least 4", tmp_path / "parts")
    write_folder(tmp_path / "parts" / "train", ["a", "b"], 4)
    fails("parts, test, has too few .* 'a' has 1", tmp_path / "parts")
    write_folder(tmp_path / "parts" / "test", ["a"], 2)
    shutil.rmtree(tmp_path / "parts" / "test" / "b")
    fails("parts, test, has too few .*class 'b' has 0", tmp_path / "parts")


def test_every_unreadable_picture_is_told_of(rgb):
    for i in range(12):
        (rgb / "red" / f"bad{i:02}.png").write_bytes(b"no picture")
    fails(r"12 pictures cannot be used: .*bad00\.png is not an image.*bad09\.png.*; and 2 more", rgb)
    for path in rgb.rglob("bad*.png"):
        path.unlink()
    cut = (rgb / "red" / "000.png").read_bytes()
    (rgb / "red" / "000.png").write_bytes(cut[: len(cut) // 2])  # its header is sound
    fails(r"000\.png is a damaged image file", rgb, size=(9, 9))
    os.remove(rgb / "red" / "000.png")
    os.mkfifo(rgb / "red" / "pipe.png")
    fails(r"pipe\.png: it is a pipe", rgb)


def test_a_file_that_would_fill_the_memory_is_told_of_before_it_is_decoded(rgb):
    (rgb / "red" / "large.png").write_bytes(png_claiming(13_000, 13_000))
    (rgb / "red" / "long.png").write_bytes(png_claiming(1, 170_000_000))
    fails(r"large\.png has 13000x13000 pixels in .*long\.png has 1x170000000 pixels", rgb)


def test_folders_without_classes(tmp_path):
    (tmp_path / "empty").mkdir()
    fails("empty holds no pictures in subfolders", tmp_path / "empty")
    Image.new("L", (9, 9)).save(tmp_path / "empty" / "a.png")
    fails("empty holds pictures, but none in subfolders", tmp_path / "empty")
    (tmp_path / "note.txt").write_text("none")
    fails(r"note\.txt is not a folder, nor an \.npz or \.csv", tmp_path / "note.txt")
    fails("list of sources is empty", [], error=OptionError)
    fails("empty is given twice", [tmp_path / "empty", tmp_path / "empty" / ".." / "empty"], error=OptionError)
    fails("loaded from a path, or from several", 5, error=OptionError)
    fails("a source must be a path", [None], error=OptionError)


def test_odd_names_and_links(tmp_path):
    root = write_folder(tmp_path / "own", ["a b", "\u00e9 #1", "x\ny"], 6)
    (root / "a b" / "up").symlink_to(root)
    (root / "linked").symlink_to(write_folder(tmp_path / "elsewhere", ["c"], 7) / "c")
    (root / ".hidden").mkdir()
    data = load_dataset(root)
    assert data.class_names == ["a b", "linked", "x\ny", "\u00e9 #1"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"size": (0, 4)}, "size"),
        ({"size": 28}, "size"),
        ({"channels": 2}, "1 channel, grey, or 3"),
        ({"form": "guess"}, "no input form 'guess'"),
        ({"form": "digit", "channels": 3}, "28x28 and grey"),
        ({"form": DIGIT, "size": (28, 28)}, "its own size"),
        ({"split": "letters"}, "split"),
        ({"split": 5}, "split is named by text"),
        ({"seed": -1}, "seed must be a whole number"),
        ({"form": ["digit"]}, "no input form"),
    ],
)
def test_wrong_options(rgb, options, words):
    fails(words, rgb, error=OptionError, **options)


def test_images_that_would_not_fit_in_memory(rgb):
    fails("would take .* GB, but this machine has .*choose a smaller size", rgb, size=(200_000, 200_000))


def test_pictures_as_they_are(tmp_path, rgb):
    data = load_dataset(rgb, form="as-is")
    assert data.form == InputForm("as-is", (60, 40, 3))
    Image.new("RGB", (41, 60)).save(rgb / "red" / "wide.png")
    fails("wide.png cannot be used: it has 60x41 pixels", rgb, form="as-is")


def test_digits_in_folders(tmp_path):
    mnist = load_dataset().test
    for kind in range(3):
        (tmp_path / "own" / str(kind)).mkdir(parents=True)
        for i in np.flatnonzero(mnist.classes == kind)[:8]:
            image = np.uint8(np.rint(mnist.images[i, ..., 0] * 255))
            Image.fromarray(image).save(tmp_path / "own" / str(kind) / f"{i}.png")
    data = load_dataset(tmp_path / "own")
    assert data.form == DIGIT and data.class_names == ["0", "1", "2"]
    assert load_dataset(tmp_path / "own", form="resize").form.kind == "resize"


# --- IDX folders as torchvision leaves them ---------------------------------------------------------------------------


def write_idx_folder(root, prefix="", N=60, size=(6, 5), classes=10, first=0, labels="idx1-ubyte", test="t10k"):
    root.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for part, count in (("train", N), (test, 20)):
        images = rng.integers(0, 256, (count, *size))
        write_idx(root / f"{prefix}{part}-images-idx{1 + len(images.shape) - 1}-ubyte", images)
        write_idx(root / f"{prefix}{part}-labels-{labels}", np.arange(count) % classes + first)
    return root


@pytest.mark.parametrize("place", ["FashionMNIST", "FashionMNIST/raw"])
def test_torchvisions_raw_folder(tmp_path, place):
    write_idx_folder(tmp_path / "FashionMNIST" / "raw")
    data = load_dataset(tmp_path / place)
    assert data.name == "FashionMNIST" and sizes(data) == [40, 20, 20] and data.class_names == list("0123456789")
    assert data.form == InputForm("resize", (6, 5, 1))


def test_garments_are_no_digits_and_digits_are(tmp_path, small_mnist):
    assert load_dataset(small_mnist).form == DIGIT
    whole = load_dataset(small_mnist, form="resize")
    assert whole.form.kind == "resize" and whole.form.background == 0
    assert np.array_equal(whole.train.images, load_dataset(small_mnist).train.images)


def test_the_splits_of_emnist(tmp_path):
    for split, classes, first in (("letters", 26, 1), ("byclass", 62, 0), ("balanced", 47, 0), ("digits", 10, 0)):
        write_idx_folder(tmp_path / "raw", f"emnist-{split}-", 124, classes=classes, first=first, test="test")
    fails(r"one file with the images for train, but holds 4: .*choose .*\(--split\)", tmp_path)
    fails("holds no file .* named bymerge-train-images", tmp_path, "bymerge")
    letters = load_dataset(tmp_path, "letters")
    assert letters.class_names[0] == "A" and letters.all_train.classes[:3].tolist() == [0, 1, 2]
    byclass, balanced = (load_dataset(tmp_path, split).class_names for split in ("byclass", "balanced"))
    assert byclass[10] + byclass[36] + byclass[61] == "Aaz" and "".join(balanced[36:]) == "abdefghnqrt"
    stored = np.random.default_rng(0).integers(0, 256, (124, 6, 5))[0] / np.float32(255)
    assert np.allclose(load_dataset(tmp_path, "digits").all_train.images[0, ..., 0], stored.T)  # stored transposed


def test_the_labels_of_qmnist(tmp_path):
    write_idx_folder(tmp_path, "qmnist-", test="test")
    for part, count in (("train", 60), ("test", 20)):
        rows = np.zeros((count, 8), ">i4")
        rows[:, 0], rows[:, 1:] = np.arange(count) % 10, 70_000
        content = bytes([0, 0, 0x0C, 2]) + np.array(rows.shape, ">u4").tobytes() + rows.tobytes()
        (tmp_path / f"qmnist-{part}-labels-idx1-ubyte").unlink()
        (tmp_path / f"qmnist-{part}-labels-idx2-int").write_bytes(content)
    data = load_dataset(tmp_path)
    assert data.all_train.classes[:12].tolist() == [*range(10), 0, 1]
    (tmp_path / "qmnist-test-labels-idx2-int").write_bytes(content[:12] + b"\xff" + content[13:])
    fails("class beyond 0 to 255", tmp_path)


def test_idx_files_in_colour(tmp_path):
    data = load_dataset(write_idx_folder(tmp_path, size=(6, 5, 3)))
    assert data.train.images.shape[1:] == (6, 5, 3) == data.form.shape
    write_idx(tmp_path / "train-images-idx4-ubyte", np.zeros((60, 6, 5, 2)))
    fails(r"train-images-idx4-ubyte holds uint8 values of shape \(60, 6, 5, 2\)", tmp_path)


# --- .npz and CSV -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keys", [("x_{}", "y_{}"), ("{}_images", "{}_labels")])
@pytest.mark.parametrize("labels", ["numbers", "column", "text"])
def test_npz(tmp_path, keys, labels):
    rng, arrays = np.random.default_rng(0), {}
    for part, count in (("train", 36), ("test", 9)):
        arrays[keys[0].format(part)] = rng.integers(0, 256, (count, 7, 6, 3)).astype(np.uint8)
        y = np.arange(count) % 3
        arrays[keys[1].format(part)] = {"numbers": y, "column": y[:, None], "text": np.array(list("cab"))[y]}[labels]
    write_npz(tmp_path / "d.npz", **arrays)
    data = load_dataset(tmp_path / "d.npz")
    assert data.name == "d" and sizes(data) == [30, 6, 9] and data.form.shape == (7, 6, 3)
    assert data.class_names == (["a", "b", "c"] if labels == "text" else ["0", "1", "2"])
    assert data.test.classes[:3].tolist() == ([2, 0, 1] if labels == "text" else [0, 1, 2])
    first = arrays[keys[0].format("test")]
    assert np.array_equal(data.test.images, first / np.float32(255))
    write_npz(tmp_path / "d.npz", **{name: array for name, array in arrays.items() if "train" in name})
    assert sizes(load_dataset(tmp_path / "d.npz")) == [24, 6, 6]  # divided by class


@pytest.mark.parametrize(
    ("images", "value"),
    [
        (np.full((18, 25), 51, np.uint8), 0.2),
        (np.full((18, 5, 5), 0.2), 0.2),
        (np.full((18, 5, 5), 51.0), 0.2),
        (np.full((18, 5, 5), 51.5), 51.5 / 255),
        (np.full((18, 5, 5), 13107, np.int32), 0.2),
        (np.ones((18, 5, 5), np.int64), 1),
        (np.full((18, 3, 5, 5), 51, np.uint8), 0.2),
    ],
)
def test_the_scale_and_the_shape_of_arrays(tmp_path, images, value):
    write_npz(tmp_path / "d.npz", x=images, y=np.arange(18) % 2)
    data = load_dataset(tmp_path / "d.npz")
    assert data.train.images.shape[1:] == (5, 5, 3 if images.ndim == 4 else 1)
    np.testing.assert_allclose(data.train.images, value, rtol=1e-6)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"x": np.full((18, 5, 5), 1.02), "y": np.arange(18) % 2}, "fractions up to 1.02, neither"),
        ({"x": np.full((18, 5, 5), 15.5), "y": np.arange(18) % 2}, "clip them to"),
        ({"a": np.zeros(3)}, "must hold the arrays x_train and y_train, .* not a"),
        ({"x_train": np.zeros((18, 5, 5))}, "holds the array x_train, but no array y_train with the classes"),
        ({"x_train": np.zeros((18, 5, 5)), "y_train": np.zeros(17)}, "18 images, but 17 labels"),
        ({"x_train": np.zeros((18, 5, 5)), "y_train": np.zeros((18, 4))}, "one a picture"),
        ({"x_train": np.full((18, 5, 5), -1), "y_train": np.zeros(18)}, "values from -1 to -1"),
        ({"x_train": np.full((18, 5, 5), np.nan), "y_train": np.zeros(18)}, "values from nan"),
        ({"x_train": np.zeros((18, 26)), "y_train": np.zeros(18)}, "make no square"),
        ({"x_train": np.zeros((18, 5, 5, 4)), "y_train": np.zeros(18)}, "4 channels"),
        ({"x_train": np.array(["a"]), "y_train": np.zeros(1)}, "images are numbers"),
        ({"x_train": np.zeros((18, 5, 5)), "y_train": np.zeros(18)}, "one class, '0'"),
        ({"x_train": b"no array", "y_train": b""}, "damaged"),
    ],
)
def test_wrong_npz(tmp_path, arrays, words):
    write_npz(tmp_path / "d.npz", **arrays)
    fails(f"d.*{words}", tmp_path / "d.npz")


def table(count=18, pixels=25, header="label,{}", label=lambda i: i % 2):
    names = ",".join(f"pixel{i}" for i in range(pixels))
    rows = [",".join(map(str, [label(i), *((np.arange(pixels) + i) % 256)])) for i in range(count)]
    return "\n".join([*([header.format(names)] if header else []), *rows]) + "\n"


def test_csv(tmp_path):
    (tmp_path / "train.csv").write_text(table())
    data = load_dataset(tmp_path / "train.csv")
    assert data.name == "train" and sizes(data) == [10, 4, 4] and data.form.shape == (5, 5, 1)
    assert {round(float(image[0, 0, 0] * 255)) for image in data.all_train.images} < set(range(18))
    (tmp_path / "plain.csv").write_text(table(header=None, label=lambda i: "ba"[i % 2]))
    assert load_dataset(tmp_path / "plain.csv").class_names == ["a", "b"]
    (tmp_path / "wide.csv").write_text("\ufeff" + table(pixels=24))
    assert load_dataset(tmp_path / "wide.csv", size=(4, 6)).form.shape == (4, 6, 1)
    (tmp_path / "colour.csv").write_text(table(pixels=75).replace("label", "Label"))
    assert load_dataset(tmp_path / "colour.csv").form.shape == (5, 5, 3)
    (tmp_path / "test.csv").write_text(table(6))
    assert sizes(load_dataset(tmp_path)) == [14, 4, 6]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no table"),
        ("label,pixel0\n", "holds no picture"),
        (table(header="pixel,{}"), "no column called label"),
        (table() + "1,2,3\n", "picture 19: its row has 3 columns, but the first has 26"),
        (table() + "1," * 25 + "x\n", "picture 19: could not convert string 'x'"),
        (table() + "1," * 26 + "1\n", "27 columns, but the first has 26"),
        (table(pixels=24), "make no square"),
        (table().replace(",1,", ",1e9,"), "values from 0 to 1e"),
    ],
)
def test_wrong_csv(tmp_path, text, words):
    (tmp_path / "t.csv").write_text(text)
    fails(f"t.csv.*{words}", tmp_path / "t.csv")


def test_a_test_table_without_labels_is_named(tmp_path):
    (tmp_path / "train.csv").write_text(table())
    (tmp_path / "test.csv").write_text(table(header=None).replace("0,0,", "0,", 1).split("\n")[0] + "\n")
    (tmp_path / "test.csv").write_text(",".join(f"pixel{i}" for i in range(25)) + "\n" + ",".join("1" * 25) + "\n")
    fails(r"test\.csv has no column called label.*train\.csv alone can be trained on", tmp_path)


# --- Trained, evaluated, embedded from the command line ---------------------------------------------------------------


def run(capsys, *arguments, status=0):
    assert main([*map(str, arguments), "--json"]) == status
    return json.loads(capsys.readouterr().out)


TRAIN = ("--preset", "mlp", "--epochs", "1", "--batch-size", "8")


def test_a_folder_in_colour_from_the_command_line(tmp_path, rgb, capsys):
    metrics = run(capsys, "train", "--data", rgb, "--out", tmp_path / "run", *TRAIN)
    assert metrics["data"] == "goods" and metrics["class_names"] == list(COLOURS) and metrics["test_images"] == 8
    report = (tmp_path / "run" / "report.html").read_text()
    assert '"classes": ["blue", "green", "red", "stripes"]' in report or '"blue","green"' in report
    assert f"--data</span> <span>{rgb}" in report and "60x40" in report
    model = load_model(tmp_path / "run")
    assert model.class_names == list(COLOURS) and model.input_form.shape == (60, 40, 3)
    assert model.trained_on["source"] == [str(rgb)] and len(model.trained_on["sha256"]) == 64
    again = run(capsys, "evaluate", tmp_path / "run")
    assert again["knn_accuracy"] == metrics["knn_accuracy"] and again["data"] == "goods"
    run(capsys, "embed", tmp_path / "run", rgb, "-o", tmp_path / "e.npz")
    with np.load(tmp_path / "e.npz") as file:
        emb, paths = file["embeddings"], file["paths"].tolist()
    one = rgb / "green" / "002.bmp"
    np.testing.assert_array_equal(emb[paths.index(str(one))], model.embed(read_image(one, model.input_form)[None])[0])
    assert run(capsys, "compare", tmp_path / "run", one, one)["distance"] == 0
    assert main(["evaluate", str(tmp_path / "run")]) == 0
    assert "an image of 'blue' and one of 'green'" in capsys.readouterr().out


def test_evaluate_wants_the_data_of_the_training(tmp_path, rgb, capsys, no_pictures):
    run(capsys, "train", "--data", rgb, "--out", tmp_path / "run", "--size", "9x8", "--grey", *TRAIN)
    before = run(capsys, "evaluate", tmp_path / "run")
    copy = shutil.copytree(rgb, tmp_path / "copy")
    shutil.rmtree(rgb / "red")
    assert "has changed since" in run(capsys, "evaluate", tmp_path / "run", status=2)["error"]
    shutil.rmtree(rgb)
    assert "goods, which is gone; name the data" in run(capsys, "evaluate", tmp_path / "run", status=2)["error"]
    given = run(capsys, "evaluate", tmp_path / "run", "--data", copy)
    assert given["data"] == "copy" and given["auc"] == before["auc"]


def test_a_run_on_own_data_is_resumed_without_naming_them(tmp_path, rgb, capsys, monkeypatch, no_pictures):
    from siamese_np.training import Training

    calls = []

    def stopped(self, stop, on_step=lambda: None):
        calls.append(1)
        if len(calls) == 2:
            signal.raise_signal(signal.SIGINT)
        return epoch(self, stop, on_step)

    epoch = Training.train_epoch
    monkeypatch.setattr(Training, "train_epoch", stopped)
    options = [*TRAIN[:2], "--epochs", "3", *TRAIN[4:], "--size", "9x8"]
    assert main(["train", "--data", str(rgb), "--out", str(tmp_path / "run"), *options]) == 130
    assert "--resume" in capsys.readouterr().err
    metrics = run(capsys, "train", "--resume", tmp_path / "run")
    assert metrics["class_names"] == list(COLOURS)
    assert load_model(tmp_path / "run").input_form.shape == (9, 8, 3)
    assert main(["train", "--resume", str(tmp_path / "run"), "--size", "9x8"]) == 2
    assert "--size cannot go with --resume" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["grey", "mixed", "npz", "csv", "idx"])
def test_other_data_from_the_command_line(tmp_path, capsys, kind, request):
    if kind != "grey":  # whose 30 classes are drawn
        request.getfixturevalue("no_pictures")
    if kind == "grey":  # 30 classes
        data = write_folder(tmp_path / "own", [f"c{i}" for i in range(30)], 6, height=64, width=64, colour=False)
    elif kind == "mixed":
        data = write_folder(tmp_path / "own", ["a", "b"], 6)
        write_folder(data, ["c", "d"], 7, height=90, width=30, colour=False)
    elif kind == "npz":
        data = tmp_path / "own.npz"
        write_npz(data, x=np.random.default_rng(0).random((40, 9, 9, 3), np.float32), y=np.arange(40) % 4)
    elif kind == "csv":
        data = tmp_path / "own.csv"
        data.write_text(table(24, label=lambda i: ("x", "y", "z")[i % 3]))
    else:
        data = write_idx_folder(tmp_path / "own" / "raw")
    metrics = run(capsys, "train", "--data", data, "--out", tmp_path / "run", "--epochs", "1")
    assert metrics["options"]["preset"] == ("cnn" if kind in ("csv", "idx") else "cnn3")
    again = run(capsys, "evaluate", tmp_path / "run")
    assert again["auc"] == metrics["auc"] and again["test_images"] == metrics["test_images"]
    inputs = data if data.is_dir() and kind != "idx" else next(iter((tmp_path / "own").rglob("t10k-images*")), None)
    if inputs:
        told = run(capsys, "embed", tmp_path / "run", inputs, "-o", tmp_path / "e.npy")
        assert told["images"] == {"grey": 180, "mixed": 26, "idx": 20}[kind]
    if kind == "idx":  # the very arrays of the training
        images, _ = load_images([inputs], load_model(tmp_path / "run").input_form)
        assert np.array_equal(images, load_dataset(data).test.images)


def test_a_model_that_does_not_know_its_data(tmp_path, rgb, capsys):
    from siamese_np import SiameseNetwork, mlp, save_model

    save_model(tmp_path / "m.npz", SiameseNetwork(mlp((9, 8, 3))))
    assert "does not say what it was trained on; name" in run(capsys, "evaluate", tmp_path / "m.npz", status=2)["error"]
    fails_with = run(capsys, "evaluate", tmp_path / "m.npz", "--data", rgb, status=2)["error"]
    assert "60x40 pixels (height x width), but the model takes 9x8" in fails_with


@pytest.mark.parametrize(
    "wrong",
    [
        5,
        {},
        {"source": "x", "split": None, "seed": 0, "sha256": None},
        {"source": [1], "split": None, "seed": 0, "sha256": None},
    ],
)
def test_a_file_with_a_wrong_origin_is_no_model(tmp_path, wrong):
    from siamese_np import SiameseNetwork, mlp, save_model

    siamese = SiameseNetwork(mlp((2, 2, 1)))
    save_model(tmp_path / "m.npz", siamese)
    with np.load(tmp_path / "m.npz") as file:
        arrays = dict(file)
    header = json.loads(str(arrays.pop("header")))
    assert header["trained_on"] is None
    write_npz(tmp_path / "m.npz", header=np.array(json.dumps({**header, "trained_on": wrong})), **arrays)
    with pytest.raises(ModelError, match="trained_on must"):
        load_model(tmp_path / "m.npz")
    siamese.trained_on = wrong
    with pytest.raises(ModelError, match="trained_on must"):
        save_model(tmp_path / "m.npz", siamese)


def test_presets_follow_the_input():
    assert [fitting("cnn3", (side, 30, 3)) for side in (8, 7, 4, 3)] == ["cnn3", "cnn", "cnn", "mlp"]
    assert [fitting("slim", (side, 30, 1)) for side in (10, 9)] == ["slim", "cnn"]
    for preset in PRESETS:
        for side in (1, 3, 4, 7, 8, 9, 10):
            PRESETS[fitting(preset, (side, 12, 3))](input_shape=(side, 12, 3))


# --- What is underneath -----------------------------------------------------------------------------------------------


def test_class_names_of_a_data_set_made_by_hand():
    split = Split(np.zeros((4, 2, 2, 1), np.float32), np.arange(4) % 2)
    data = Dataset("d", split, split, split, ["a", "b"])
    assert data.named(split.classes).tolist() == ["a", "b", "a", "b"] and data.form.kind == "as-is"
    for wrong in (["a"], "ab", [1, 2]):
        with pytest.raises(OptionError):
            Dataset("d", split, split, split, wrong)


def test_a_stack_is_read_row_by_row_as_at_once():
    array = np.random.default_rng(0).integers(0, 256, (5000, 3, 2)).astype(np.uint8)
    stack, form = Stack("s", array), InputForm("resize", (3, 2, 1))
    rows = np.random.default_rng(1).permutation(5000)[:3000]
    for chosen in (rows, np.arange(7, 4000)):
        out = np.empty((len(chosen), 3, 2, 1), np.float32)
        assert stack.put(out, chosen, form) == []
        assert np.array_equal(out[..., 0], array[chosen] / np.float32(255))


def test_colour_is_seen_in_files(tmp_path):
    for name, image in {
        "l": Image.new("L", (4, 4), 9),
        "p": Image.new("P", (4, 4)),
        "c": Image.new("CMYK", (4, 4)),
    }.items():
        image.save(tmp_path / f"{name}.tif")
        files = Files([str(tmp_path / f"{name}.tif")])
        assert files.look() == [] and not files.colour and files.sizes.tolist() == [[4, 4]]


# --- A model of garments reads other pictures of garments -------------------------------------------------------------


def garment(kind, rng, side=28):
    """A light coat, pair of trousers, bag or shoe on black, that touches the field above and below or on both sides."""
    y, x = (np.mgrid[:side, :side] + 0.5) / side
    x = x - 0.5
    wide = 0.02 * rng.standard_normal()
    cloth = [
        np.abs(x) < 0.25 + wide + 0.2 * y,
        (np.abs(np.abs(x) - 0.14 - 0.08 * y) < 0.09 + wide / 2) | ((np.abs(x) < 0.24) & (y < 0.2)),
        (y > 0.4) & (y < 0.8 + wide) | ((np.abs(np.hypot(x, y - 0.45) - 0.25) < 0.04) & (y < 0.45)),
        (y > 0.62) & (y < 0.85 + wide) | ((x > 0.12) & (y > 0.3) & (y < 0.85)),
    ][kind]
    texture = 0.5 + rng.uniform(0, 0.25) + 0.2 * np.cos(rng.uniform(8, 14) * x) * np.sin(rng.uniform(8, 14) * y)
    return (cloth * texture).astype(np.float32)


def test_a_model_of_garments_reads_dark_ones_on_light_ground_of_another_size(tmp_path):
    from siamese_np import TrainConfig, train_run
    from siamese_np.metrics import knn_vote, nearest

    rng = np.random.default_rng(0)
    for part, count in (("train", 240), ("t10k", 40)):
        images = np.stack([garment(i % 4, rng) for i in range(count)])
        write_idx(tmp_path / f"{part}-images-idx3-ubyte", images * 255)
        write_idx(tmp_path / f"{part}-labels-idx1-ubyte", np.arange(count) % 4)
    data = load_dataset(tmp_path)
    assert data.form == InputForm("resize", (28, 28, 1), 0.0, 1.0)
    siamese = train_run(TrainConfig(preset="mlp", epochs=3, batch_size=20), data).siamese
    for i in range(40):
        large = np.pad(garment(i % 4, rng, 112), ((9, 20), (30, 4)))
        Image.fromarray(np.uint8(255 - 230 * large)).save(tmp_path / f"{i:02}.png")
    images, _ = load_images(sorted(tmp_path.glob("*.png")), siamese.input_form)
    near, _ = nearest(siamese.embed(images), siamese.embed(data.train.images), 5)
    assert (knn_vote(data.train.classes[near]) == np.arange(40) % 4).mean() >= 0.97
