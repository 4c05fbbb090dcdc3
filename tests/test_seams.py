"""Where a user's own network, loss, augmentation and data go into a training, and the states a run is resumed from."""

import csv
import json
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from siamese_np import (
    AllPairsContrastiveLoss,
    ContrastiveLoss,
    Dataset,
    Dense,
    Distort,
    Flatten,
    Layer,
    ReLU,
    Sequential,
    SiameseNetwork,
    Split,
    TrainConfig,
    checkpoint,
    cnn,
    load_model,
    mlp,
    register_layer,
    train_run,
)
from siamese_np._contract import loss_kind
from siamese_np.augment import augmented
from siamese_np.backend import BACKENDS, use_kernels
from siamese_np.checkpoint import CHECKPOINT_FORMAT
from siamese_np.errors import DataError, ModelError, OptionError, ShapeError, SiameseError
from siamese_np.evaluation import evaluate
from siamese_np.report.health import columns
from siamese_np.run import resumed
from siamese_np.storage import save_arrays
from siamese_np.training import Training

OLD = Path(__file__).parent / "data" / "checkpoint-format-1.npz"


HEALTH = columns(cnn((4, 4, 1)))  # the old checkpoint is of a cnn


def blobs_split(N):
    """Images of 4x4 pixels of two classes that anything can tell apart."""
    images = np.arange(N * 16, dtype=np.float32).reshape(N, 4, 4, 1) % 7 / 28
    images[1::2, :2] += np.float32(0.5)
    return Split(images, np.arange(N) % 2)


BLOBS = Dataset("blobs", blobs_split(64), blobs_split(32), blobs_split(32))
QUICK = TrainConfig(preset="mlp", epochs=3, batch_size=16)
SHIFT = Distort(rotation=0, scale=0, shift=1, elastic=0)
PAIRS = TrainConfig(preset="mlp", protocol="notebook", epochs=2, batch_size=64)


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch):
    monkeypatch.setattr("siamese_np.run_folder.draw", lambda *arguments: [])


class ShrinkLoss:
    """A loss of a batch: half the mean square of its embeddings."""

    def forward(self, emb, classes):
        return float((emb**2).mean() / 2), emb

    def backward(self, cache):
        return cache / cache.size


class SquaredDistance:
    """A loss of given pairs: mean of (dist - label)^2 / 2."""

    def forward(self, dist, label):
        return float(((dist - label) ** 2).mean() / 2), (dist, label)

    def backward(self, cache):
        dist, label = cache
        return ((dist - label) / len(dist)).astype(dist.dtype)


def flip(images, rng):
    return np.where(rng.random((len(images), 1, 1, 1)) < 0.5, images, images[:, :, ::-1])


def own_network():
    return Sequential([Flatten(), Dense(16, 8, seed=1), ReLU(), Dense(8, 5, seed=2)], (4, 4, 1))


@register_layer
class Leaky(Layer):
    """ReLU with a slope below 0."""

    def __init__(self, slope):
        super().__init__()
        self.slope = slope

    def forward(self, x):
        return np.where(x > 0, x, self.slope * x).astype(x.dtype), x > 0

    def backward(self, dout, cache, need_dx=True):
        return np.where(cache, dout, self.slope * dout).astype(dout.dtype)


def leaky_network(slope=0.1, frozen=False):
    network = Sequential([Flatten(), Dense(16, 8, seed=1), Leaky(slope), Dense(8, 5, seed=2)], (4, 4, 1))
    network.layers[1].trainable = not frozen
    return network


# --- Losses -----------------------------------------------------------------------------------------------


def test_the_kind_of_a_loss_is_told_by_what_its_forward_takes():
    assert [loss_kind(loss) for loss in (ContrastiveLoss(), SquaredDistance())] == ["pairs", "pairs"]
    assert [loss_kind(loss) for loss in (AllPairsContrastiveLoss(), ShrinkLoss())] == ["batch", "batch"]


class NoBackward:
    def forward(self, emb, classes):
        return 0.0, None


class OtherNames(SquaredDistance):
    def forward(self, x, y):
        return 0.0, None


@pytest.mark.parametrize(
    ("loss", "sentence"),
    [
        (object(), r"backward\(cache\), but <object object .*> has no forward and no backward"),
        ("contrastive", "but 'contrastive' has no forward and no backward"),
        (NoBackward(), r"NoBackward object .* has forward\(emb, classes\) and no backward"),
        (OtherNames(), r"OtherNames object .* has forward\(x, y\)$"),
        (ShrinkLoss, r"ShrinkLoss'> has forward\(self, emb, classes\)$"),
        (SquaredDistance(), r"the batch protocol needs a loss with forward\(emb, classes\), but SquaredDistance has"),
    ],
)
def test_a_loss_that_cannot_be_trained_with_is_refused(loss, sentence, tmp_path):
    with pytest.raises(OptionError, match=sentence):
        train_run(QUICK, BLOBS, tmp_path / "run", loss=loss)
    assert not (tmp_path / "run").exists()


def test_a_batch_loss_is_none_of_pairs():
    with pytest.raises(OptionError, match=r"the notebook protocol needs a loss with forward\(dist, label\)"):
        train_run(PAIRS, BLOBS, loss=ShrinkLoss())


def test_a_loss_with_another_gradient_is_refused_by_name():
    class Transposed(ShrinkLoss):
        def backward(self, cache):
            return super().backward(cache).T

    with pytest.raises(ShapeError, match=r"Transposed.backward must return demb as an array \(16, 128\) of float32"):
        train_run(QUICK, BLOBS, loss=Transposed())


# --- Augmentation -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernels", BACKENDS)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_a_distorted_image_is_one_of_those_it_may_be(kernels, dtype):
    image = np.zeros((9, 11, 2), dtype)
    image[4, 5] = 1  # the centre, which a rotation leaves alone
    images, rng = np.repeat(image[None], 200, axis=0), np.random.default_rng(0)
    with use_kernels(kernels):
        same = Distort(0, 0, 0, 0)(images, rng)
        turned = Distort(180, 0, 0, 0)(images, rng)
        shifted = Distort(0, 0, 2, 0)(images, rng)
        bent = Distort(0, 0, 0, 0.5)(images, rng)
    np.testing.assert_array_equal(same, images)
    for out in (turned, shifted, bent):
        assert out.shape == images.shape and out.dtype == dtype and out.min() >= 0 and out.max() <= 1
        np.testing.assert_array_equal(out[..., 0], out[..., 1])
    np.testing.assert_allclose(turned[:, 4, 5], 1, atol=1e-3)
    places = np.argwhere(shifted[..., 0] > 0)[:, 1:] - (4, 5)
    assert (places.min(axis=0), places.max(axis=0)) == (pytest.approx(-2), pytest.approx(2))
    assert shifted.sum() == pytest.approx(400, rel=1e-2)  # a bright pixel is shared among four, none is lost
    assert 0.3 < bent[:, 4, 5, 0].mean() < 0.8 and len(np.unique(bent[:, 4, 5, 0])) > 150


def test_stretch_is_apart_for_rows_and_columns():
    ramp = np.broadcast_to(np.linspace(0, 1, 21)[:, None, None], (300, 21, 21, 1))
    slopes = np.diff(Distort(0, 0.2, 0, 0)(ramp, np.random.default_rng(0))[:, 8:13, 10, 0], axis=1) * 20
    assert np.ptp(slopes, axis=1).max() < 1e-9
    assert 0.8 <= slopes.min() < 0.81 and 1.19 < slopes.max() <= 1.2 + 1e-9


@pytest.mark.parametrize("wrong", [-1, np.nan, np.inf, None, True, "2", 1e7])
@pytest.mark.parametrize("name", ["rotation", "scale", "shift", "elastic"])
def test_a_distortion_out_of_range_is_refused(name, wrong):
    with pytest.raises(OptionError, match=f"{name} of Distort must be from 0 to .*, not {wrong!r}"):
        Distort(**{name: wrong})


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda images, rng: images[:-1], r"ndarray \(15, 4, 4, 1\) of float32"),
        (lambda images, rng: images.astype(np.float64), r"ndarray \(16, 4, 4, 1\) of float64"),
        (lambda images, rng: images.tolist(), "a list of 16"),
        (lambda images, rng: None, "NoneType"),
        (lambda images, rng: images - 0.1, "numbers from -0.1 to"),
        (lambda images, rng: images + 0.5, "numbers from 0.5 to 1"),
        (lambda images, rng: images * np.float32(np.nan), "numbers from nan to nan"),
    ],
)
def test_an_augmentation_that_changes_more_than_pixels_is_refused(change, found):
    with pytest.raises(OptionError, match=rf"images \(16, 4, 4, 1\) of float32 in \[0, 1\].* returned {found}"):
        train_run(QUICK, BLOBS, augment=change)


def test_an_augmentation_is_a_function():
    with pytest.raises(OptionError, match="must be a function of images and rng, not 'shift'"):
        train_run(QUICK, BLOBS, augment="shift")


@pytest.mark.parametrize("config", [QUICK, PAIRS])
def test_the_augmentation_draws_from_seed_epoch_and_step(config):
    seen = []

    def spy(images, rng):
        seen.append(rng.random())
        return images

    plain, spied = train_run(config, BLOBS), train_run(config, BLOBS, augment=spy)
    np.testing.assert_array_equal(plain.siamese.network.params, spied.siamese.network.params)
    steps, calls = (4, 1) if config is QUICK else (3, 2)  # both sides of a pair are changed
    expected = [
        number
        for epoch in range(config.epochs)
        for step in range(steps)
        for number in np.random.default_rng([config.seed, 3, epoch, step]).random(calls)
    ]
    assert seen == expected[:calls] + expected  # the first step is tried before it is taken
    changed = train_run(config, BLOBS, augment=flip)
    assert (plain.siamese.network.params != changed.siamese.network.params).any()


def test_an_augmentation_is_applied_to_a_copy():
    before = BLOBS.train.images.copy()

    def blacken(images, rng):
        images[:] = 0
        return images

    train_run(QUICK, BLOBS, augment=blacken)
    np.testing.assert_array_equal(BLOBS.train.images, before)
    out = augmented(Distort(), before, np.random.default_rng(0))
    np.testing.assert_array_equal(out, Distort()(before, np.random.default_rng(0)))


# --- A run in Python ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernels", BACKENDS)
@pytest.mark.parametrize(("config", "own"), [(QUICK, ShrinkLoss()), (PAIRS, SquaredDistance())])
def test_an_own_loss_is_what_falls(kernels, config, own):
    with use_kernels(kernels):
        run = train_run(config, BLOBS, loss=own, augment=SHIFT)
    assert run.history[-1]["loss"] < run.history[0]["loss"]
    assert not run.interrupted and run.folder is None and run.metrics["run"] is None
    assert run.metrics["options"]["augment"] == "Distort(rotation=0, scale=0, shift=1, elastic=0)"
    assert type(own).__name__ in run.metrics["options"]["loss"]


@pytest.mark.parametrize("config", [QUICK, PAIRS])
def test_the_default_training_is_that_of_the_siamese_network(config, monkeypatch):
    name = "gradients" if config is QUICK else "pair_gradients"
    method, calls = getattr(SiameseNetwork, name), []

    def counted(self, *arguments):
        calls.append(type(arguments[-1]))
        return method(self, *arguments)

    monkeypatch.setattr(SiameseNetwork, name, counted)
    train_run(config, BLOBS)
    steps = 3 * 4 if config is QUICK else 2 * 3
    tried = 1 + config.epochs  # before the first step, and what is measured after each epoch
    assert calls == [AllPairsContrastiveLoss if config is QUICK else ContrastiveLoss] * (tried + steps)


def test_an_own_network_is_trained_itself():
    network = own_network()
    before = network.params.copy()
    run = train_run(QUICK, BLOBS, network=network)
    assert run.siamese.network is network and (network.params != before).any()
    assert run.metrics["pair_accuracy"] == 1.0
    assert "preset" not in run.metrics["options"] and run.metrics["options"]["network"].startswith("Flatten, Dense, ")


def test_a_network_that_does_not_fit_is_refused():
    with pytest.raises(ShapeError, match=r"the images of blobs are \(4, 4, 1\), but the network takes \(8, 8, 1\)"):
        train_run(QUICK, BLOBS, network=mlp((8, 8, 1)))
    with pytest.raises(OptionError, match="a network must be a Sequential, not 'cnn'"):
        train_run(QUICK, BLOBS, network="cnn")


@pytest.mark.parametrize("arguments", [(BLOBS, QUICK), (None, BLOBS), (QUICK, None), ({}, BLOBS)])
def test_a_run_needs_a_configuration_and_data(arguments):
    with pytest.raises(OptionError, match="train_run needs a TrainConfig and a Dataset, not"):
        train_run(*arguments)


def test_a_run_leaves_what_the_command_leaves(tmp_path):
    told, said = [], []
    run = train_run(QUICK, BLOBS, tmp_path / "run-*", on_metrics=told.append, log=said.append)
    assert run.folder == tmp_path / "run-1" and train_run(QUICK, BLOBS, tmp_path / "run-*").folder.name == "run-2"
    assert sorted(path.name for path in run.folder.iterdir()) == [
        "checkpoint.npz",
        "history.csv",
        "metrics.json",
        "model.npz",
        "report.html",
    ]
    assert json.loads((run.folder / "metrics.json").read_text()) == run.metrics == told[0]
    assert len(run.history) == 3 and any(line.startswith("epoch 3/3") for line in said)
    np.testing.assert_array_equal(load_model(run.folder).network.params, run.siamese.network.params)
    with pytest.raises(ModelError, match="is not empty"):
        train_run(QUICK, BLOBS, run.folder)
    (run.folder / "notes.txt").write_text("mine")
    (run.folder / ".model.npz-a1b2c3d4").touch()
    train_run(TrainConfig(preset="mlp", epochs=1, batch_size=16), BLOBS, run.folder, overwrite=True)
    assert (run.folder / "notes.txt").exists() and not (run.folder / ".model.npz-a1b2c3d4").exists()
    assert len((run.folder / "history.csv").read_text().splitlines()) == 2


# --- Refused before anything is written -----------------------------------------------------------------------


class Unregistered(Leaky):
    pass


class Forgetful(Leaky):
    @classmethod
    def from_config(cls, config):
        return cls(0.5)


class InPlace(Leaky):
    def forward(self, x):
        x -= np.float32(0.1)
        return x, np.ones(x.shape, bool)


def network_of(layer):
    return Sequential([layer, Flatten(), Dense(16, 5, seed=1)], (4, 4, 1))


def with_split(part, images, classes=None):
    split = getattr(BLOBS, part)
    return replace(BLOBS, **{part: Split(images(split.images), split.classes if classes is None else classes)})


def holed(images):
    return np.where(np.arange(images.size).reshape(images.shape) == 40, np.float32(np.nan), images)


def one_argument(images):
    return images


REFUSED = [
    *(
        (with_split(part, change), {}, f"the {part} images of blobs cannot be used: {sentence}")
        for part in ("train", "validation", "test")
        for change, sentence in (
            (lambda images: (images * 255).astype(np.uint8), "images must be floats in .* not uint8"),
            (holed, "image 2 holds NaN or infinity"),
        )
    ),
    *(
        (with_split(part, lambda images: images[:, :3]), {}, rf"the {part} images .* not \(32, 3, 4, 1\)")
        for part in ("validation", "test")
    ),
    (with_split("validation", lambda images: images, np.zeros(32, np.int64)), {}, "the 32 validation images of blobs"),
    (BLOBS, {"network": network_of(Unregistered(0.1))}, "there is no layer 'Unregistered'.*@register_layer"),
    (BLOBS, {"network": network_of(Leaky({1}))}, "JSON cannot hold"),
    (BLOBS, {"network": network_of(type("Leaky", (Leaky,), {})(0.1))}, "of another class than the registered Leaky"),
    (
        BLOBS,
        {"network": network_of(register_layer(Forgetful)(0.1))},
        "is not what its description makes, {'slope': 0.1}",
    ),
    (
        BLOBS,
        {"network": network_of(register_layer(InPlace)(0.1))},
        r"InPlace\(\).forward must not write into its input",
    ),
    (BLOBS, {"network": Sequential}, "a network must be a Sequential, not <class"),
    (BLOBS, {"augment": Distort}, r"not a class; make one of it, Distort\(\.\.\.\)"),
    (BLOBS, {"augment": one_argument}, r"function of images and rng, not of \(images\), as <function one_argument"),
    (BLOBS, {"augment": lambda images, rng: images - 1}, "returned numbers from -1 to"),
    (BLOBS, {"augment": Distort(shift=4)}, r"shift=4, elastic=0.45\) needs images of at least 5x5 pixels, not 4x4"),
]


@pytest.mark.parametrize("number", range(len(REFUSED)))
@pytest.mark.parametrize("protocol", ["batch", "notebook"])
def test_what_cannot_be_trained_with_costs_no_run(protocol, number, tmp_path):
    data, own, sentence = REFUSED[number]
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "model.npz").write_bytes(b"the old run")
    config = TrainConfig(preset="mlp", protocol=protocol, epochs=1, batch_size=16)
    before = [split.images.copy() for split in (data.train, data.validation, data.test)]
    with pytest.raises(SiameseError, match=sentence):
        train_run(config, data, folder, overwrite=True, **own)
    assert [path.name for path in folder.iterdir()] == ["model.npz"]
    assert (folder / "model.npz").read_bytes() == b"the old run"
    for split, images in zip((data.train, data.validation, data.test), before, strict=True):
        np.testing.assert_array_equal(split.images, images)


def test_a_network_that_cannot_be_saved_can_be_trained_without_a_folder():
    assert train_run(QUICK, BLOBS, network=network_of(Unregistered(0.1))).metrics["pair_accuracy"] > 0.9


def test_a_used_folder_is_told_before_a_step_is_tried(tmp_path, monkeypatch):
    (tmp_path / "notes.txt").touch()
    monkeypatch.setattr(Training, "rehearse", lambda self: pytest.fail("a step was tried"))
    with pytest.raises(ModelError, match="is not empty"):
        train_run(QUICK, BLOBS, tmp_path)


@pytest.mark.parametrize(
    ("images", "classes", "sentence"),
    [
        ([[0.5]], np.array([1]), r"a Split needs its images as an array \(N, ...\), not a list of 1"),
        (BLOBS.test.images, [0, 1] * 16, "a Split needs its classes as an array .* not a list of 32"),
        (np.float32(1), np.array([1]), "a Split needs its images as an array"),
        (BLOBS.test.images, BLOBS.test.classes[:-1], "classes must have 32 entries"),
        (BLOBS.test.images, BLOBS.test.classes / 2, "classes must be a 1-D array of whole numbers"),
    ],
)
def test_a_split_is_images_and_as_many_classes(images, classes, sentence):
    with pytest.raises(ShapeError, match=sentence):
        Split(images, classes)


def test_a_data_set_has_a_name_and_three_splits():
    with pytest.raises(OptionError, match="a Dataset needs a name, as text, not NoneType"):
        Dataset(None, BLOBS.train, BLOBS.validation, BLOBS.test)
    with pytest.raises(OptionError, match="a Dataset needs a Split as validation, not a tuple of 2"):
        Dataset("blobs", BLOBS.train, (BLOBS.test.images, BLOBS.test.classes), BLOBS.test)


def test_a_distortion_needs_images_of_channels():
    for images in (np.zeros((3, 4, 4), np.float32), [0.5]):
        with pytest.raises(ShapeError, match=r"Distort needs an array of images \(N, H, W, C\) of real numbers, not"):
            SHIFT(images, np.random.default_rng(0))


def test_batches_that_hold_hardly_a_similar_pair_are_told(tmp_path):
    said = []
    train_run(TrainConfig(preset="mlp", epochs=1, batch_size=2), BLOBS, log=said.append)
    assert any(line.startswith("warning: batches of 2 images of 2 classes hold hardly any similar") for line in said)


# --- Resumed ------------------------------------------------------------------------------------------------


class Killed(BaseException):
    pass


def killed_when(*beginnings):
    def log(line):
        if line.startswith(beginnings):
            raise Killed

    return log


@pytest.mark.parametrize("state", ["run folder", "epoch 1", "epoch 3", "trained", "evaluating", "drawing"])
@pytest.mark.parametrize("own", [{}, {"loss": ShrinkLoss(), "augment": partial(flip)}])
def test_a_run_goes_on_from_every_state(state, own, tmp_path):
    whole = train_run(QUICK, BLOBS, tmp_path / "whole", **own)
    folder = tmp_path / "run"
    with pytest.raises(Killed):
        train_run(QUICK, BLOBS, folder, log=killed_when(state), **own)
    if state == "run folder":  # before the first step there is nothing to resume
        with pytest.raises(ModelError, match="nothing to resume"):
            train_run(QUICK, BLOBS, folder, resume=True, **own)
        return
    run = train_run(None, BLOBS, folder, resume=True, **own)
    np.testing.assert_array_equal(run.siamese.network.params, whole.siamese.network.params)
    reported, found = (json.loads((folder / "metrics.json").read_text()), evaluate(load_model(folder), BLOBS).metrics)
    for name in ("threshold", "pair_accuracy", "auc", "loss", "knn_accuracy"):
        assert reported[name] == found[name] == whole.metrics[name]
    with pytest.raises(ModelError, match="is complete"):
        train_run(QUICK, BLOBS, folder, resume=True, **own)


@pytest.fixture(scope="module")
def begun(tmp_path_factory) -> Path:
    """A run with an own loss and augmentation, one epoch of three done."""
    folder = tmp_path_factory.mktemp("begun") / "run"
    with pytest.raises(Killed):
        train_run(QUICK, BLOBS, folder, loss=ShrinkLoss(), augment=SHIFT, log=killed_when("epoch 1"))
    return folder


@pytest.mark.parametrize(
    ("own", "sentence"),
    [
        ({}, r"of the user's: loss was '<.*ShrinkLoss object>', not None$"),
        ({"loss": ShrinkLoss()}, r"of the user's: augment was 'Distort\(rotation=0, .*\)', not None$"),
        ({"loss": AllPairsContrastiveLoss(), "augment": SHIFT}, "ShrinkLoss object>.* not .*AllPairs"),
        (
            {"loss": ShrinkLoss(), "augment": Distort(0, 0, 2, 0)},
            "augment was .*shift=1, .*, not .*shift=2",
        ),
        (
            {"loss": ShrinkLoss(), "augment": SHIFT, "network": own_network()},
            r"network was None, not \[\['Flatten', ",
        ),
    ],
)
def test_a_resumed_run_has_the_parts_it_had(own, sentence, begun):
    before = (begun / "checkpoint.npz").read_bytes()
    with pytest.raises(ModelError, match=sentence):
        train_run(QUICK, BLOBS, begun, resume=True, **own)
    assert (begun / "checkpoint.npz").read_bytes() == before


def test_a_resumed_run_has_the_network_it_had(tmp_path):
    folder = tmp_path / "run"
    with pytest.raises(Killed):
        train_run(QUICK, BLOBS, folder, network=leaky_network(), log=killed_when("epoch 1"))
    before = (folder / "checkpoint.npz").read_bytes()
    for other, sentence in (
        (leaky_network(0.9), r"network.layers\[2\].slope was 0.1, not 0.9$"),
        (leaky_network(frozen=True), r"network.trainable\[1\] was True, not False$"),
        (own_network(), r"network.layers\[2\].class was 'Leaky', not 'ReLU'$"),
        (None, r"network was \[\['Flatten', .*\.\.\., not None$"),
    ):
        with pytest.raises(ModelError, match=sentence):
            train_run(QUICK, BLOBS, folder, resume=True, network=other)
        assert (folder / "checkpoint.npz").read_bytes() == before
    with np.load(folder / "checkpoint.npz") as archive:
        arrays = {name: archive[name] for name in archive}
    header = json.loads(str(arrays.pop("header")))
    del header["network"]  # as before it was written
    save_arrays(folder / "checkpoint.npz", header, arrays)
    whole = train_run(QUICK, BLOBS, network=leaky_network())
    run = train_run(None, BLOBS, folder, resume=True, network=leaky_network())
    np.testing.assert_array_equal(run.siamese.network.params, whole.siamese.network.params)


def test_the_first_difference_is_shown_however_long_what_is_equal_is():
    a, b = {"x": 1, "loss": "a" * 300 + "b" + "c" * 300}, {"x": 1, "loss": "a" * 300 + "d" + "c" * 300}
    told = checkpoint.first_difference(a, b)
    assert told == f"loss was ...{'a' * 60}b{'c' * 59}..., not ...{'a' * 60}d{'c' * 59}..."
    assert checkpoint.first_difference({"x": [1, {"y": 2}]}, {"x": [1, {"y": 3}]}) == "x[1].y was 2, not 3"
    assert checkpoint.first_difference({"x": [1]}, {"x": [1, 2]}) == "x was [1], not [1, 2]"
    assert checkpoint.first_difference(a, dict(a)) == ""


def test_a_run_is_resumed_or_overwritten(begun):
    before = {path.name: path.read_bytes() for path in begun.iterdir()}
    with pytest.raises(OptionError, match="resumed or overwritten, not both"):
        train_run(QUICK, BLOBS, begun, loss=ShrinkLoss(), augment=SHIFT, resume=True, overwrite=True)
    assert {path.name: path.read_bytes() for path in begun.iterdir()} == before


def test_a_resumed_run_has_the_configuration_it_had(begun):
    own = {"loss": ShrinkLoss(), "augment": SHIFT}
    with pytest.raises(ModelError, match=r"keeps its configuration: TrainConfig\(preset="):
        train_run(TrainConfig(preset="mlp", epochs=4, batch_size=16), BLOBS, begun, resume=True, **own)
    with pytest.raises(OptionError, match="a run is resumed from its folder"):
        train_run(QUICK, BLOBS, resume=True)


def test_a_checkpoint_of_before_goes_on(tmp_path):
    """Made by version 0.1.0 before runs had parts of the user's, after the first of two epochs."""
    shutil.copy(OLD, tmp_path / "checkpoint.npz")
    said = []
    run = train_run(None, BLOBS, tmp_path, resume=True, log=said.append)
    assert [line for line in said if line.startswith("warning: ") and "older version: whether the images are" in line]
    assert [row["epoch"] for row in run.history] == [1, 2]
    assert run.history[0]["loss"] == 0.14776753175881044
    assert run.history[1]["loss"] == pytest.approx(0.08090233413765548, rel=1e-3)  # as that version went on
    assert run.siamese.threshold == 0.1893821757054222 and run.metrics["options"]["optimizer"] == "sgd"
    assert (tmp_path / "report.html").exists()
    assert [*run.history[1]] == [*run.history[0], *HEALTH]  # which that version did not measure
    first, second = csv.DictReader((tmp_path / "history.csv").read_text().splitlines())
    assert first["dead.relu_1"] == "" and float(second["dead.relu_1"]) == run.history[1]["dead.relu_1"]


def damaged(change) -> dict:
    """The old checkpoint's header after `change`."""
    with np.load(OLD) as archive:
        header = json.loads(str(archive["header"]))
    change(header)
    return header


def changed(name, value):
    return lambda header: header.update({name: value})


def row(name, value):
    return lambda header: header["history"][0].update({name: value})


def with_health(value):
    """As a training writes it, but with one other value."""
    return lambda header: header["history"][0].update(dict.fromkeys(HEALTH, 0.5), **{HEALTH[-1]: value})


def option(name, value):
    return lambda header: header["options"].update({name: value})


def dropped(name):
    return lambda header: header.pop(name)


DAMAGES = [
    *((name, dropped(name)) for name in ("options", "history", "best", "steps", "images_seen", "seconds", "data")),
    *(("history", changed("history", value)) for value in (None, {}, "x", [1], [{}], [[]], 3)),
    *(("history", row("epoch", value)) for value in (2, "1", None, 0, 1.5)),
    *(("history", row("loss", value)) for value in (np.nan, np.inf, None, "x")),
    *(("history", row("threshold", value)) for value in (np.nan, "x", -1, [])),
    *(("history", row("validation_pair_accuracy", value)) for value in (2, -1, np.nan, True)),
    *(("history", row("seconds", value)) for value in (-1, np.nan, {})),
    ("history", lambda header: header["history"][0].pop("loss")),
    ("history", row("surplus", 1)),
    ("history", row("dead.relu_1", 0.5)),  # alone
    *(("history", with_health(value)) for value in (-0.5, "x", [], 1)),
    ("history", lambda header: header.update(history=header["history"] * 3)),
    *(("steps", changed("steps", value)) for value in (1.5, 10**30, -1, 3, 8, "4", None, True, np.nan)),
    *(("images_seen", changed("images_seen", value)) for value in (None, "x", 63, 10**30, np.nan, -64)),
    *(("seconds", changed("seconds", value)) for value in (None, "x", -1, np.nan, np.inf, 0.001)),
    *(("best", changed("best", value)) for value in (None, {}, [], 1)),
    ("best", lambda header: header["best"].update(threshold=np.nan)),
    ("best", lambda header: header["best"].update(threshold="x")),
    ("best", lambda header: header["best"].update(accuracy=2)),
    ("best", lambda header: header["best"].update(epoch=2)),
    *(("options", changed("options", value)) for value in (None, [], "x", {})),
    *(("epochs", option("epochs", value)) for value in (2.5, 0, None, "2", np.nan)),
    ("describes no training", lambda header: header["options"].pop("seed")),
    ("margin", option("margin", 0)),
    ("learning rate", option("learning_rate", "x")),
    ("preset", option("preset", "resnet")),
    ("at least 8x8 pixels", option("preset", "cnn3")),
    ("steps", option("protocol", "notebook")),
    ("steps", option("batch_size", 8)),
    ("batch size", option("batch_size", 10**9)),
    ("velocity|optimizer", option("optimizer", "adam")),
    ("params", option("preset", "mlp")),
    ("other data", changed("data", 3)),
    ("other data", changed("images", "x")),
    *(("another network", changed("own", value)) for value in ({"loss": "x"}, {"x": 1}, 3, None)),
]


@pytest.mark.parametrize("number", range(len(DAMAGES)))
def test_a_damaged_header_is_told_in_a_sentence(number, tmp_path):
    name, change = DAMAGES[number]
    with np.load(OLD) as archive:
        arrays = {key: archive[key] for key in archive if key != "header"}
    save_arrays(tmp_path / "checkpoint.npz", damaged(change), arrays)
    before = (tmp_path / "checkpoint.npz").read_bytes()
    with pytest.raises(ModelError) as told:
        resumed(tmp_path, BLOBS)
    sentence = str(told.value)
    assert str(tmp_path) in sentence and "\n" not in sentence and len(sentence) < 500
    assert any(part in sentence for part in (*name.split("|"), "describes no training", "other data"))
    assert "is damaged or not a file" not in sentence  # which is said of what was not foreseen
    assert (tmp_path / "checkpoint.npz").read_bytes() == before


def test_the_undamaged_header_is_taken(tmp_path):
    with np.load(OLD) as archive:
        arrays = {key: archive[key] for key in archive if key != "header"}
    save_arrays(tmp_path / "checkpoint.npz", damaged(lambda header: None), arrays)
    assert len(resumed(tmp_path, BLOBS).history) == 1
    assert damaged(lambda header: None)["format"] == CHECKPOINT_FORMAT
    for value in (0.0, 0.5, np.nan):  # a gradient of a user's loss may be NaN on these images and no others
        save_arrays(tmp_path / "checkpoint.npz", damaged(with_health(value)), arrays)
        assert len(resumed(tmp_path, BLOBS).history) == 1


@pytest.mark.parametrize(
    ("classes", "sentence"),
    [
        (np.where(np.arange(32) == 5, 7, BLOBS.test.classes), "class 7 has a single image among the 32 test images of"),
        (np.zeros(32, np.int64), "at least two classes, but the 32 test images of blobs have 1"),
    ],
)
def test_test_images_that_make_no_pairs_are_told_before_the_training_and_before_an_evaluation(
    classes, sentence, tmp_path
):
    data = Dataset("blobs", BLOBS.train, BLOBS.validation, Split(BLOBS.test.images, classes))
    with pytest.raises(DataError, match=sentence):
        train_run(QUICK, data, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(DataError, match=sentence):
        evaluate(SiameseNetwork(mlp((4, 4, 1))), data)


def test_an_augmentation_called_by_its_name_needs_no_object_to_be_resumed(tmp_path):
    config = replace(QUICK, augment="mild")
    whole, plain = train_run(config, BLOBS), train_run(QUICK, BLOBS)
    with pytest.raises(Killed):
        train_run(config, BLOBS, tmp_path / "run", log=killed_when("epoch 1"))
    run = train_run(None, BLOBS, tmp_path / "run", resume=True)
    np.testing.assert_array_equal(run.siamese.network.params, whole.siamese.network.params)
    assert (whole.siamese.network.params != plain.siamese.network.params).any()
    assert run.metrics["options"]["augment"] == "mild"
