"""The training loop: its options, its two protocols, what it notices, and that a step is what it says."""

import inspect
import signal
from importlib import metadata

import numba
import numpy as np
import pytest

from siamese_np import ContrastiveLoss, Dataset, SiameseNetwork, Split, TrainConfig, load_dataset, load_model, mlp
from siamese_np._process import on_interrupt
from siamese_np.errors import ModelError, OptionError, TrainingError
from siamese_np.losses import AllPairsContrastiveLoss
from siamese_np.optimizers import Adam, one_cycle
from siamese_np.protocols import BatchProtocol, NotebookProtocol
from siamese_np.run import resumed, train, train_run
from siamese_np.storage import versions
from siamese_np.training import Training


@pytest.fixture(scope="module")
def data(small_mnist) -> Dataset:
    return load_dataset(small_mnist)


@pytest.fixture
def blobs() -> Dataset:
    """Images of 4x4 pixels of two classes that anything can tell apart."""
    rng = np.random.default_rng(0)

    def split(N):
        labels = np.arange(N) % 2
        images = 0.1 * rng.random((N, 4, 4, 1))
        images[labels == 1, :2] += 0.8
        return Split(images.astype(np.float32), labels)

    return Dataset("blobs", split(64), split(32), split(32))


def test_training_learns_and_keeps_a_row_per_epoch(data):
    run, said = Training(TrainConfig(epochs=3, batch_size=64), data), []
    train(run, log=said.append)
    assert [row["epoch"] for row in run.history] == [1, 2, 3] and len(said) == 3
    assert run.history[-1]["loss"] < run.history[0]["loss"] / 2
    assert run.history[-1]["validation_pair_accuracy"] > 0.85
    assert 0 < run.seconds < 60 and run.compile_seconds > 0
    assert run.images_seen == 3 * 1500


def test_the_kept_weights_are_those_of_the_best_validation_accuracy(blobs):
    run = Training(TrainConfig(preset="mlp", epochs=6, batch_size=16, learning_rate=0.02, optimizer="sgd"), blobs)
    weights = []
    train(run, log=lambda line: weights.append(run.siamese.network.params.copy()))
    accuracy = [row["validation_pair_accuracy"] for row in run.history]
    best = int(np.argmax(accuracy))  # the first of the best
    assert run.best_epoch == best + 1
    np.testing.assert_array_equal(run.siamese.network.params, weights[best])
    assert run.siamese.threshold == run.history[best]["threshold"]


def test_a_step_of_the_notebook_protocol_done_by_hand(data):
    """One epoch of one step: mean gradient over the pairs, one Adam step at the scheduled rate."""
    config = TrainConfig(protocol="notebook", preset="mlp", epochs=1, batch_size=3600, seed=4)
    run = Training(config, data)
    train(run)

    siamese, loss = SiameseNetwork(mlp(seed=4)), ContrastiveLoss()
    protocol = NotebookProtocol(config, data)
    a, b = protocol.pairs[next(protocol.batches(0))].T
    label = protocol.label[next(protocol.batches(0))]
    dist, cache = siamese.forward(data.all_train.images[a], data.all_train.images[b])
    value, loss_cache = loss.forward(dist, label)
    siamese.backward(loss.backward(loss_cache), cache)
    Adam(siamese.network.params, siamese.network.grads).step(1e-3 * one_cycle(0))
    assert run.history[0]["loss"] == pytest.approx(value)
    np.testing.assert_allclose(run.siamese.network.params, siamese.network.params, rtol=1e-5, atol=1e-7)


def test_the_batch_protocol_sees_every_image_once_an_epoch_and_every_pair_of_a_batch(data):
    protocol = BatchProtocol(TrainConfig(batch_size=100), data)
    batches = list(protocol.batches(0))
    assert len(batches) == protocol.steps == 15
    np.testing.assert_array_equal(np.sort(np.concatenate(batches)), np.arange(1500))
    assert any((a != b).any() for a, b in zip(batches, protocol.batches(1), strict=True))  # another order each epoch

    siamese = SiameseNetwork(mlp())
    loss = protocol.gradients(siamese, batches[0])
    emb = siamese.network.forward(data.train.images[batches[0]])[0]
    assert [protocol.images_in(steps) for steps in range(16)] == [100 * steps for steps in range(16)]
    assert loss == pytest.approx(AllPairsContrastiveLoss().forward(emb, data.train.classes[batches[0]])[0])


def test_the_test_images_play_no_part(data):
    """Training gives the same to the bit whatever the test images are."""
    other = Dataset(data.name, data.train, data.validation, Split(1 - data.test.images, data.test.classes[::-1]))
    runs = [Training(TrainConfig(preset="mlp", epochs=1, batch_size=128), each) for each in (data, other)]
    for run in runs:
        train(run)
    np.testing.assert_array_equal(runs[0].siamese.network.params, runs[1].siamese.network.params)
    assert runs[0].siamese.threshold == runs[1].siamese.threshold


def test_the_batch_protocol_does_not_learn_from_validation_images(data):
    other = Dataset(
        data.name, data.train, Split(data.validation.images[::-1], data.validation.classes[::-1]), data.test
    )
    runs = [Training(TrainConfig(preset="mlp", epochs=1, batch_size=128), each) for each in (data, other)]
    for run in runs:
        train(run)
    np.testing.assert_array_equal(runs[0].siamese.network.params, runs[1].siamese.network.params)


@pytest.mark.parametrize("protocol", ["batch", "notebook"])
def test_a_resumed_run_ends_with_the_same_bits(protocol, data, tmp_path):
    config = TrainConfig(protocol=protocol, preset="mlp", epochs=3, batch_size=128)
    whole = Training(config, data)
    train(whole)

    class Killed(Exception):
        pass

    def killed_after_epoch_1(line):
        if line.startswith("epoch 1"):
            raise Killed

    with pytest.raises(Killed):
        train(Training(config, data), tmp_path, log=killed_after_epoch_1)
    again = resumed(tmp_path, data)
    assert len(again.history) == 1
    train(again, tmp_path)
    np.testing.assert_array_equal(again.siamese.network.params, whole.siamese.network.params)
    for ours, theirs in zip(again.history, whole.history, strict=True):
        assert {**ours, "seconds": 0, "images_per_second": 0} == {**theirs, "seconds": 0, "images_per_second": 0}
    # trained, but not evaluated yet: there is something left to do
    np.testing.assert_array_equal(resumed(tmp_path, data).best_params, whole.siamese.network.params)
    (tmp_path / "metrics.json").touch()
    with pytest.raises(ModelError, match="is complete"):
        resumed(tmp_path, data)


def test_resume_refuses_other_data(data, blobs, tmp_path):
    train(Training(TrainConfig(preset="mlp", epochs=1), data), tmp_path)
    with pytest.raises(ModelError, match="other data than blobs"):
        resumed(tmp_path, blobs)
    inverted = Dataset(data.name, Split(1 - data.train.images, data.train.classes), data.validation, data.test)
    with pytest.raises(ModelError, match="other data than small-mnist"):
        resumed(tmp_path, inverted)
    relabelled = Dataset(data.name, data.train, Split(data.validation.images, data.validation.classes[::-1]), data.test)
    with pytest.raises(ModelError, match="other data"):
        resumed(tmp_path, relabelled)
    measured = Dataset(data.name, data.train, data.validation, Split(1 - data.test.images, data.test.classes))
    with pytest.raises(ModelError, match="other data"):
        resumed(tmp_path, measured)


def test_a_collapse_is_noticed_and_said(blobs):
    run, said = Training(TrainConfig(preset="mlp", epochs=1, batch_size=16), blobs), []
    run.siamese.network.params[:] = 0  # every image gets the embedding 0, and no gradient leads away
    train(run, log=said.append)
    assert run.history[0]["validation_loss"] == pytest.approx(0.25)
    assert any("collapsed" in line and "0.25" in line for line in said)


def test_a_healthy_run_is_not_called_collapsed(data):
    said = []
    train(Training(TrainConfig(preset="mlp", epochs=1, batch_size=128), data), log=said.append)
    assert not any("collapsed" in line for line in said)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_loss_that_is_not_finite_stops_training(value, blobs):
    run = Training(TrainConfig(preset="mlp", epochs=1, batch_size=16), blobs)
    run.siamese.network.params[5] = value
    with pytest.raises(
        TrainingError, match=r"tried on the first batch, and the loss is (nan|inf): look at the weights"
    ):
        train(run)
    run = Training(TrainConfig(preset="mlp", epochs=1, batch_size=16), blobs)
    run.rehearse()
    run.siamese.network.params[5] = value
    with pytest.raises(TrainingError, match=r"the loss became (nan|inf) in epoch 1, step 1; lower the learning rate"):
        train(run)


class NaNGradient(AllPairsContrastiveLoss):
    """Its gradient is right `good` times."""

    def __init__(self, good):
        super().__init__()
        self.good = good

    def backward(self, cache, dloss=1.0):
        self.good -= 1
        return super().backward(cache, dloss) * np.float32(1 if self.good >= 0 else np.nan)


@pytest.mark.parametrize("good", [1, 4])  # the first step, seen in the loss of the second; the last, seen in validation
def test_a_gradient_with_nan_is_not_blamed_on_the_learning_rate_alone(good, blobs):
    with pytest.raises(TrainingError, match="first batch, and a gradient holds NaN"):
        train(Training(TrainConfig(preset="mlp", batch_size=16), blobs, loss=NaNGradient(0)))
    with pytest.raises(
        TrainingError,
        match=r"a gradient held NaN or infinity in epoch 1, step .*; check the backward passes of your own",
    ) as told:
        train(Training(TrainConfig(preset="mlp", epochs=1, batch_size=16), blobs, loss=NaNGradient(good)))
    assert "too large" not in str(told.value)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_a_rehearsal_changes_nothing(optimizer, blobs):
    training = Training(TrainConfig(preset="mlp", batch_size=16, optimizer=optimizer), blobs)
    network = training.siamese.network
    network.grads[:] = 3
    arrays = [network.params, network.grads, *(split.images for split in (blobs.train, blobs.validation, blobs.test))]
    arrays += training.optimizer.state.values()
    before = [array.copy() for array in arrays]
    training.rehearse()
    for array, was in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(array, was)
    assert training.optimizer.steps == 0 and training.compile_seconds > 0


def test_one_class_cannot_be_trained_on(blobs):
    alone = Split(blobs.train.images, np.zeros(64, np.int64))
    with pytest.raises(ValueError, match="two classes"):
        Training(TrainConfig(preset="mlp", batch_size=16), Dataset("alone", alone, alone, alone))
    lone = Split(blobs.train.images, np.where(np.arange(64) == 5, 7, blobs.train.classes))
    with pytest.raises(ValueError, match="class 7 has a single image"):
        Training(TrainConfig(preset="mlp", batch_size=16), Dataset("lone", lone, blobs.validation, blobs.test))


def test_versions_are_told_without_package_metadata(monkeypatch):
    """As where the package is on the path and not installed."""

    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    told = versions()
    assert (told["siamese_np"], told["numpy"], told["numba"]) == ("unknown", np.__version__, numba.__version__)


def test_an_explosion_in_the_last_step_of_an_epoch_is_told_as_one(blobs):
    run = Training(TrainConfig(preset="mlp", epochs=1, batch_size=64, learning_rate=1e30, weight_decay=0), blobs)
    with pytest.raises(TrainingError, match="embeddings became too large to be measured in epoch 1; lower"):
        train(run)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
@pytest.mark.parametrize("protocol", ["batch", "notebook"])
def test_a_signal_loses_no_step(protocol, name, blobs, tmp_path, monkeypatch):
    """Interrupted within an epoch, a run goes on with its next step, and ends with the same bits."""
    config = TrainConfig(protocol=protocol, preset="mlp", epochs=2, batch_size=16)
    whole = Training(config, blobs)
    train(whole)
    stopped = Training(config, blobs)
    gradients, steps = type(stopped.protocol).gradients, []

    def counted(*arguments):
        steps.append(1)
        if len(steps) == 4:  # the first is the one that compiles
            signal.raise_signal(getattr(signal, name))
        return gradients(*arguments)

    if not hasattr(signal, name):
        pytest.skip(f"this system has no {name}")
    with monkeypatch.context() as patch:
        patch.setattr(type(stopped.protocol), "gradients", counted)
        finished = train(stopped, tmp_path)
    assert not finished and not stopped.history
    assert stopped.best_epoch == 3 / stopped.protocol.steps
    np.testing.assert_array_equal(load_model(tmp_path).network.params, stopped.siamese.network.params)
    again = resumed(tmp_path, blobs)
    assert (again.optimizer.steps, len(again.losses), again.best_epoch) == (3, 3, 0)
    train(again, tmp_path)
    np.testing.assert_array_equal(again.siamese.network.params, whole.siamese.network.params)
    assert [row["loss"] for row in again.history] == [row["loss"] for row in whole.history]
    assert again.images_seen == whole.images_seen


def test_a_second_signal_ends_at_once_and_handlers_come_back():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with on_interrupt() as stop:
        signal.raise_signal(signal.SIGTERM)
        assert stop.is_set()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_what_fails_because_of_an_interrupt_is_an_interrupt():
    def closing():
        with on_interrupt():
            try:
                signal.raise_signal(signal.SIGINT)
                signal.raise_signal(signal.SIGINT)
            finally:
                raise ValueError("cannot be closed")

    with pytest.raises(KeyboardInterrupt):
        closing()


@pytest.mark.parametrize("handler", [signal.SIG_IGN, lambda number, frame: None])
def test_what_the_caller_ignores_or_handles_is_left_to_it(handler):
    before = signal.signal(signal.SIGTERM, handler)
    try:
        with on_interrupt() as stop:
            signal.raise_signal(signal.SIGTERM)
        assert not stop.is_set()
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize("protocol", ["batch", "notebook"])
def test_checkpoints_by_time_lose_no_step(protocol, blobs, tmp_path, monkeypatch):
    """Killed within an epoch, a run goes on after its last checkpoint, and ends with the same bits."""
    config = TrainConfig(protocol=protocol, preset="mlp", epochs=2, batch_size=16)
    whole, killed = Training(config, blobs), Training(config, blobs)
    train(whole)
    take_step, steps = Training.take_step, []

    def killed_in_the_second_epoch(*arguments):
        steps.append(1)
        if len(steps) == whole.protocol.steps + 3:
            raise SystemExit
        take_step(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Training, "take_step", killed_in_the_second_epoch)
        with pytest.raises(SystemExit):
            train(killed, tmp_path, checkpoint_every=1e-9)
    again = resumed(tmp_path, blobs)
    assert (len(again.history), len(again.losses)) == (1, 2)
    train(again, tmp_path)
    np.testing.assert_array_equal(again.siamese.network.params, whole.siamese.network.params)
    assert [row["loss"] for row in again.history] == [row["loss"] for row in whole.history]


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), "60", None, True])
def test_seconds_between_checkpoints_are_above_0(seconds, blobs):
    with pytest.raises(OptionError, match="checkpoint_every must be a number of seconds above 0, not"):
        train_run(TrainConfig(preset="mlp"), blobs, checkpoint_every=seconds)


def test_a_minute_of_an_epoch_is_the_most_that_a_kill_costs():
    assert inspect.signature(train).parameters["checkpoint_every"].default == 60
