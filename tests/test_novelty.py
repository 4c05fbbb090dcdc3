"""How unlike the training images an image is: told from digits, calibrated, kept in model files."""

import copy
import json
import pickle
from pathlib import Path

import garbage
import numpy as np
import pytest

from siamese_np import (
    Conv2D,
    Dense,
    Flatten,
    Sequential,
    SiameseNetwork,
    cnn,
    load_dataset,
    load_model,
    mlp,
    models,
    recipe,
    save_model,
    train_run,
    use_kernels,
)
from siamese_np.errors import ModelError, ShapeError
from siamese_np.models import shipped
from siamese_np.novelty import Novelty


@pytest.fixture(scope="module")
def mnist():
    return load_dataset()


@pytest.fixture(scope="module")
def siamese():
    return load_model("mnist")


def blobs(shape, classes=3, each=20, seed=0):
    """Images of some classes, each a pattern with noise; and their classes."""
    rng = np.random.default_rng(seed)
    of_image = np.repeat(np.arange(classes), each)
    patterns = np.random.default_rng(9).random((classes, *shape))
    return np.clip(patterns[of_image] + rng.normal(0, 0.1, (len(of_image), *shape)), 0, 1).astype(np.float32), of_image


def fitted(network, **options):
    siamese = SiameseNetwork(network)
    images, classes = blobs(network.input_shape, **options)
    siamese.novelty = Novelty.fit(network, images, classes, blobs(network.input_shape, seed=1)[0])
    return siamese


# --- What is no digit -------------------------------------------------------------------------------------


def areas(siamese, mnist, count):
    """AUC of each kind of garbage beside digits, as drawn and read from pictures."""
    digits = mnist.test.images[:: 10_000 // (8 * count)]
    familiar = [siamese.embed_scored(x)[1] for x in (digits, garbage.read_from_pictures(digits[::2]))]
    for name, (_, kinds) in garbage.SETS.items():
        for kind in kinds:
            images = garbage.drawn(name, kind, count, seed=7)
            for way, known in zip((images, garbage.read_from_pictures(images)), familiar, strict=True):
                if len(way):
                    yield name, kind, garbage.auc(known, siamese.embed_scored(way)[1])


def test_what_is_no_digit_looks_less_familiar_than_digits(siamese, mnist):
    for name, kind, area in areas(siamese, mnist, 24):
        assert area >= garbage.MARKS.get(name, 0.9) - 0.02, (name, kind, area)  # of few images


@pytest.mark.long
def test_each_set_keeps_its_mark(siamese, mnist):
    for name, kind, area in areas(siamese, mnist, 400):
        assert area >= garbage.MARKS.get(name, 0.9), (name, kind, area)


@pytest.mark.long
def test_a_short_training_tells_too(mnist):
    siamese = train_run(recipe("fast", seed=1), mnist).siamese
    found = {}
    for name, kind, area in areas(siamese, mnist, 100):
        found[name] = min(area, found.get(name, (1, ""))[0]), kind
    least = {"noise": 0.97, "garments": 0.88, "scribbles": 0.92, "letters": 0.9}
    assert all(found[name][0] >= mark for name, mark in least.items()), found


def test_the_share_of_digits_beyond_the_limit_is_that_of_the_validation_images(siamese, mnist):
    _, unlike = siamese.embed_scored(mnist.test.images[:4000])
    assert unlike.dtype == np.float64 and unlike.min() >= 0 and unlike.max() <= 1
    for share in (0.5, 0.9, 0.99):
        assert np.mean(unlike > share) == pytest.approx(1 - share, abs=0.06 if share < 0.99 else 0.005)
    assert siamese.novelty.limit == 0.99


def test_nearest_class_mean_is_a_classifier(siamese, mnist):
    emb, _ = siamese.embed_scored(mnist.test.images[:1000])
    dist = np.linalg.norm(emb[:, None] - siamese.novelty.class_means, axis=2)
    assert (siamese.novelty.classes[dist.argmin(axis=1)] == mnist.test.classes[:1000]).mean() >= 0.99
    assert siamese.class_names == list("0123456789")


# --- One pass, any network --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "network",
    [
        cnn((12, 10, 3), embedding_size=5, seed=1),
        cnn((8, 8, 1), embedding_size=300, seed=1),
        mlp((6, 4, 1), embedding_size=4, seed=2, dtype=np.float64),
        Sequential([Flatten(), Dense(24, 6, seed=3)], (6, 4, 1)),
        Sequential([Conv2D(1, 4, 3, pad=1, seed=4), Flatten(), Dense(96, 6, seed=3)], (6, 4, 1)),
        Sequential([Flatten()], (4, 4, 1)),
    ],
    ids=["cnn", "wide", "mlp", "one layer", "no ReLU", "pixels"],
)
def test_embeddings_are_those_of_embed_whatever_the_network(network, tmp_path):
    siamese = fitted(network)
    images = np.concatenate([blobs(network.input_shape, each=90)[0], 1 - blobs(network.input_shape)[0]])
    emb, unlike = siamese.embed_scored(images)
    np.testing.assert_array_equal(emb, siamese.embed(images))
    assert garbage.auc(unlike[:270], unlike[270:]) > 0.95
    again = SiameseNetwork(network)
    assert np.isnan(again.embed_scored(images)[1]).all()
    np.testing.assert_array_equal(again.embed_scored(images)[0], emb)
    assert [len(part) for part in siamese.embed_scored(images[:0])] == [0, 0]
    siamese.views = True
    np.testing.assert_array_equal(siamese.embed_scored(images)[0], siamese.embed(images))
    siamese.views = False

    save_model(tmp_path / "model.npz", siamese)
    for other in (load_model(tmp_path), copy.deepcopy(siamese), pickle.loads(pickle.dumps(siamese))):
        np.testing.assert_array_equal(other.embed_scored(images)[1], unlike)
        np.testing.assert_array_equal(other.novelty.class_means, siamese.novelty.class_means)
    network.load_params(tmp_path / "model.npz")  # which reads the weights alone


def test_both_back_ends_agree():
    siamese = fitted(cnn((8, 8, 1), embedding_size=4, seed=1))
    images, _ = blobs((8, 8, 1), each=9, seed=3)
    _, compiled = siamese.embed_scored(images)
    with use_kernels("textbook"):
        np.testing.assert_allclose(siamese.embed_scored(images)[1], compiled, atol=0.02)


@pytest.mark.parametrize("make", [cnn, mlp])
@pytest.mark.parametrize(
    ("images", "classes", "validation"),
    [
        (blobs((8, 8, 1), each=1)[0], [0, 1, 2], blobs((8, 8, 1))[0]),  # one of each class
        (np.zeros((4, 8, 8, 1), np.float32), [5, 5, 9, 9], np.zeros((1, 8, 8, 1), np.float32)),  # nothing to see
        (np.full((1, 8, 8, 1), 0.5, np.float32), [-3], np.full((3, 8, 8, 1), 0.5, np.float32)),
        (1e30 * blobs((8, 8, 1))[0], blobs((8, 8, 1))[1], blobs((8, 8, 1))[0]),
    ],
    ids=["one image a class", "constant pixels", "one image", "huge"],
)
@pytest.mark.filterwarnings("error")
def test_a_degenerate_data_set_gives_numbers_all_the_same(make, images, classes, validation, tmp_path):
    siamese = SiameseNetwork(make((8, 8, 1), embedding_size=4, seed=1))
    siamese.network.params[::3] = 0  # dead units
    siamese.novelty = Novelty.fit(siamese.network, images, np.array(classes), validation)
    save_model(tmp_path / "model.npz", siamese)  # which refuses what is not finite
    _, unlike = load_model(tmp_path).embed_scored(np.concatenate([images, validation]))
    assert ((unlike >= 0) & (unlike <= 1)).all()


def test_what_cannot_be_fitted_earns_a_sentence():
    network = mlp((4, 4, 1), embedding_size=3)
    images, classes = blobs((4, 4, 1))
    for arguments, sentence in [
        ((images[:0], classes[:0], images), "at least one training image"),
        ((images, classes, images[:0]), "one validation image"),
        ((images, classes[:-1], images), "must have 60 entries"),
        ((images[:, :3], classes, images), r"made for images \(N, 4, 4, 1\)"),
        ((images, classes, np.where(images > 0.9, np.nan, images)), "NaN or infinity"),
    ]:
        with pytest.raises(ShapeError, match=sentence):
            Novelty.fit(network, *arguments)


# --- In files ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("novelty") / "model.npz"
    save_model(path, fitted(mlp((4, 4, 1), embedding_size=3, seed=5)))
    with np.load(path, allow_pickle=False) as archive:
        return {**archive}


def test_a_run_keeps_what_it_can_tell(small_mnist, tmp_path, no_pictures):
    run = train_run(recipe("fast", seed=0), load_dataset(small_mnist), tmp_path / "run")
    images = load_dataset(small_mnist).test.images
    again = load_model(tmp_path / "run")
    np.testing.assert_array_equal(again.embed_scored(images)[1], run.siamese.embed_scored(images)[1])
    assert again.novelty.class_means.shape == (10, 32)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"limit": 2}, "novelty has a limit from 0 to 1"),
        ({"limit": None}, "novelty has a limit from 0 to 1"),
        ({"widths": []}, "sizes of at least 1"),
        ({"widths": "abc"}, "sizes of at least 1"),
        ({"widths": [10**12, 3]}, "sizes of at least 1"),
        ({"widths": [3, 256]}, r"novelty is of layers and embeddings of \(\[3, 256\], 3\) numbers"),
        ({"widths": [200, 59]}, "holds 'novelty.whitening' as"),
        ({"classes": 0}, "sizes of at least 1"),
        ({"classes": True}, "sizes of at least 1"),
        ({"classes": 4}, r"holds 'novelty.classes' as \(3,\)"),
        ({"embedding_size": 4}, "holds 'novelty.class_means' as"),
        ({"familiar": 7}, "holds 'novelty.familiar' as"),
        ([], "novelty has a limit"),
        (5, "novelty has a limit"),
    ],
)
def test_a_wrong_description_earns_a_sentence(saved, changes, sentence, tmp_path):
    header = json.loads(str(saved["header"]))
    header["novelty"] = {**header["novelty"], **changes} if isinstance(changes, dict) else changes
    np.savez(tmp_path / "model.npz", **{**saved, "header": np.array(json.dumps(header))})
    with pytest.raises(ModelError, match=sentence):
        load_model(tmp_path)


@pytest.mark.parametrize(
    ("name", "change", "sentence"),
    [
        ("means", lambda a: a * np.nan, "NaN or infinity in 'novelty.means'"),
        ("deviation", lambda a: 0 * a, "a deviation that is not above 0"),
        ("familiar", lambda a: a[::-1], "scores that are not sorted"),
        ("class_means", lambda a: a.astype(np.float64), "holds 'novelty.class_means' as"),
        ("whitening", None, "lacks the array 'novelty.whitening'"),
    ],
)
def test_wrong_arrays_earn_a_sentence(saved, name, change, sentence, tmp_path):
    arrays = dict(saved)
    array = arrays.pop(f"novelty.{name}")
    if change:
        arrays[f"novelty.{name}"] = change(array)
    np.savez(tmp_path / "model.npz", **arrays)
    with pytest.raises(ModelError, match=sentence):
        load_model(tmp_path)


def test_a_limit_that_is_none_is_not_saved(tmp_path):
    siamese = fitted(mlp((4, 4, 1), embedding_size=3))
    siamese.novelty.limit = "high"
    with pytest.raises(ModelError, match="a limit from 0 to 1"):
        save_model(tmp_path / "model.npz", siamese)


# --- The shipped model ------------------------------------------------------------------------------------


def test_the_shipped_model_is_small_and_good(siamese, mnist):
    assert shipped("mnist").stat().st_size < 1_350_000
    distances = siamese.distances(mnist.test.images[:-1:9], mnist.test.images[1::9])
    same = mnist.test.classes[:-1:9] == mnist.test.classes[1::9]
    assert ((distances < siamese.threshold) == same).mean() > 0.99


def test_a_file_of_that_name_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("mnist").mkdir()
    with pytest.raises(ModelError, match="there is no file mnist"):
        load_model("mnist")
    save_model("mnist/model.npz", SiameseNetwork(mlp((4, 4, 1))))
    assert load_model("mnist").network.input_shape == (4, 4, 1)


def test_a_changed_model_is_refused(tmp_path, monkeypatch):
    for name in ("mnist.npz", "SHA256SUMS"):
        (tmp_path / name).write_bytes((models.FOLDER / name).read_bytes())
    monkeypatch.setattr(models, "FOLDER", tmp_path)
    assert load_model("mnist").class_names
    with (tmp_path / "mnist.npz").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(ModelError, match="not the file that came with this package: its SHA-256 is"):
        load_model("mnist")
    (tmp_path / "mnist.npz").unlink()
    with pytest.raises(ModelError, match="the model mnist of this package cannot be read"):
        load_model("mnist")


def test_the_table_is_printed(capsys):
    garbage.main("mnist", 2)
    assert len(capsys.readouterr().out.splitlines()) == 2 + sum(len(kinds) for _, kinds in garbage.SETS.values())
