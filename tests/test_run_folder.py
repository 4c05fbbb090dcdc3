"""Evaluation of a model: the metrics are those of the test images, and the page shows them."""

import html
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from siamese_np import (
    Dataset,
    Dense,
    Flatten,
    Sequential,
    Split,
    TrainConfig,
    load_dataset,
    run_folder,
    train_run,
)
from siamese_np.distributed import Communicator
from siamese_np.errors import ModelError
from siamese_np.evaluation import LINES, evaluate, figures, text
from siamese_np.evaluation_pairs import evaluation_pairs
from siamese_np.metrics import knn_accuracy, map_at_r, pair_accuracy, roc_auc
from siamese_np.reading import parse_json
from siamese_np.run import train
from siamese_np.training import Training


@pytest.fixture(scope="module")
def evaluated(small_mnist):
    data = load_dataset(small_mnist)
    run = Training(TrainConfig(preset="mlp", epochs=2, batch_size=64), data)
    train(run)
    return data, run, evaluate(run.siamese, data)


def test_the_metrics_are_those_of_the_test_images(evaluated):
    data, run, evaluation = evaluated
    metrics, emb = evaluation.metrics, run.siamese.embed(data.test.images)
    pairs, label = evaluation_pairs(data.test.classes)
    dist = np.linalg.norm(emb[pairs[:, 0]].astype(np.float64) - emb[pairs[:, 1]], axis=1)
    assert metrics["pair_accuracy"] == pytest.approx(pair_accuracy(dist, label, run.siamese.threshold), abs=1e-3)
    assert metrics["threshold"] == run.siamese.threshold
    assert metrics["auc"] == pytest.approx(roc_auc(dist, label), abs=1e-5)
    gallery = run.siamese.embed(data.train.images)
    assert metrics["knn_accuracy"] == knn_accuracy(emb, data.test.classes, gallery, data.train.classes, 5)
    assert metrics["map_at_r"] == map_at_r(emb, data.test.classes)
    for name in ("eer", "balanced_accuracy"):
        low, high = metrics[f"{name}_all_pairs_interval"]
        assert low < metrics[f"{name}_all_pairs"] < high
    assert "pair_accuracy_confusable" not in metrics  # the shipped pairs are of all MNIST test images
    assert (metrics["test_images"], metrics["test_pairs"]) == (300, 600)
    json.dumps(metrics)


def test_the_demonstration_is_two_images_of_a_3_and_one_of_a_7(evaluated):
    data, run, evaluation = evaluated
    shown = evaluation.metrics["demonstration"]
    assert [pair["classes"] for pair in shown] == [[3, 3], [3, 7], [3, 7]]
    for pair in shown:
        a, b = pair["images"]
        assert data.test.classes[[a, b]].tolist() == pair["classes"]
        distance = run.siamese.distances(data.test.images[[a]], data.test.images[[b]])[0]
        assert pair["distance"] == pytest.approx(float(distance), rel=1e-5)
        assert pair["similar"] == (pair["distance"] < run.siamese.threshold)


def test_the_page_shows_every_metric_and_the_folder_every_picture(evaluated, tmp_path):
    data, run, evaluation = evaluated
    metrics = {**evaluation.metrics, "seconds": 1.5, "options": vars(run.config)}
    run_folder.write_run(tmp_path, evaluation, data, run.history, metrics)
    page = (tmp_path / "report.html").read_text()
    assert [key for key, *_ in LINES if key not in metrics] == ["pair_accuracy_confusable"]
    assert f"  {metrics['eer_all_pairs']:.4f}    EER over all pairs of test images, 95 % interval " in text(metrics)
    for figure, words in figures(metrics):
        assert f'<th scope="row">{html.escape(words)}</th><td><span>{figure}</span></td>' in page
        assert f"  {figure:<9} {words}\n" in text(metrics)
    assert len(list(tmp_path.glob("*.png"))) == 7
    assert f"{metrics['demonstration'][0]['distance']:.3f}" in page


def test_json_and_page_hold_null_where_a_number_is_not_finite(evaluated, tmp_path, monkeypatch):
    data, run, evaluation = evaluated
    monkeypatch.setattr(run_folder, "draw", lambda *arguments: [])
    history = [{**run.history[0], "loss": float("inf")}]
    run_folder.write_run(tmp_path, evaluation, data, history, {**evaluation.metrics, "seconds": float("nan")})
    assert parse_json((tmp_path / "metrics.json").read_text())["seconds"] is None
    data = (tmp_path / "report.html").read_text().split('id="data">')[1].split("</script>")[0]
    assert parse_json(data)["history"][0]["loss"] is None


@pytest.mark.parametrize("shape", [(8, 6, 2), (8, 6, 5), (12,), (2, 3, 2, 2)])
def test_images_that_are_no_pictures_are_drawn_all_the_same(shape, tmp_path):
    images = np.random.default_rng(0).random((40, *shape), np.float32)
    split = Split(images, np.arange(40) % 2)
    network = Sequential([Flatten(), Dense(images[0].size, 4)] if len(shape) > 1 else [Dense(12, 4)], shape)
    config = TrainConfig(epochs=1, batch_size=20)
    run = train_run(config, Dataset("noise", split, split, split), tmp_path / "run", network=network)
    assert (run.folder / "metrics.json").exists() and len(list(run.folder.glob("*.png"))) == 7


def test_of_channels_that_are_no_colours_the_first_is_drawn():
    images = np.random.default_rng(0).random((3, 4, 5, 2))
    np.testing.assert_array_equal(run_folder.drawable(images), images[..., :1])
    for C in (1, 3):
        assert run_folder.drawable(np.zeros((3, 4, 5, C))).shape == (3, 4, 5, C)
    assert run_folder.drawable(np.zeros((3, 4))).shape == (3, 1, 4)


def test_a_run_folder_of_links_has_its_links_replaced(evaluated, tmp_path):
    data, _, evaluation = evaluated
    folder, other = tmp_path / "run", tmp_path / "other"
    folder.mkdir()
    other.write_bytes(b"other")
    names = ["checkpoint.npz", "model.npz", "metrics.json", "history.csv", "report.html"]
    names += [
        f"{name}.png" for name in ("distances", "embedding_map", "history", "mistakes", "neighbours", "pairs", "roc")
    ]
    for name in names:
        (folder / name).symlink_to(other)
    run = Training(TrainConfig(preset="mlp", epochs=1, batch_size=250), data)
    train(run, folder)
    run_folder.write_run(folder, evaluation, data, run.history, {**evaluation.metrics, "seconds": 1.5})
    assert other.read_bytes() == b"other"
    assert sorted(path.name for path in folder.iterdir()) == sorted(names)
    assert not any(path.is_symlink() for path in folder.iterdir())


def test_history_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    run_folder.write_history(tmp_path, [{"epoch": 1, "loss": 0.5}])
    assert (tmp_path / "history.csv").read_bytes() == b"epoch,loss\r\n1,0.5\r\n"
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        run_folder.write_history(tmp_path, [{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.25}])
    assert [path.name for path in tmp_path.iterdir()] == ["history.csv"]
    assert (tmp_path / "history.csv").read_bytes() == b"epoch,loss\r\n1,0.5\r\n"


HOLD = """
import sys
from pathlib import Path
from siamese_np.run_folder import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """A process that writes to the run folder."""
    with subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as one:
        assert one.stdout.readline() == b"held\n"
        yield one
        one.kill()


def test_two_processes_never_share_a_run_folder(evaluated, holder, tmp_path):
    data, run, _ = evaluated
    busy = "another process is writing to the run folder"
    for overwrite in (False, True):
        with pytest.raises(ModelError, match=busy):
            train_run(run.config, data, tmp_path, overwrite=overwrite)
    (tmp_path / "checkpoint.npz").touch()  # of whatever is in it
    with pytest.raises(ModelError, match=busy):
        train_run(None, data, tmp_path, resume=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint.npz", "lock"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs SIGKILL")
def test_the_lock_of_a_killed_process_does_not_matter(holder, tmp_path):
    holder.kill()
    holder.wait()
    (tmp_path / ".model.npz-12345678").touch()
    assert (tmp_path / "lock").exists()
    run_folder.check_folder(tmp_path)
    with run_folder.locked(tmp_path):
        run_folder.clear_folder(tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == ["lock"]
    assert not list(tmp_path.iterdir())


def test_a_lock_whose_file_was_removed_is_none(tmp_path, monkeypatch):
    """Between opening the file and locking it, the process that had it may have removed it."""
    lock, calls = run_folder.lock, []

    def locked_late(descriptor):
        calls.append(descriptor)
        if len(calls) == 1:
            (tmp_path / "lock").unlink()
        return lock(descriptor)

    monkeypatch.setattr(run_folder, "lock", locked_late)
    with run_folder.locked(tmp_path):
        assert len(calls) == 2 and (tmp_path / "lock").exists()


def test_a_lock_that_is_a_link_is_not_followed(tmp_path):
    (tmp_path / "lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ModelError, match="cannot be written"), run_folder.locked(tmp_path):
        pass
    assert not (tmp_path / "elsewhere").exists()


NUMBERS = """
import sys
from pathlib import Path
from siamese_np.run_folder import clear_folder, locked, make_folder
sys.stdin.read(1)
for _ in range(40):
    folder = make_folder(Path("runs/cnn-*"))
    with locked(folder):
        clear_folder(folder)
        (folder / "model.npz").touch()
    print(folder.name)
"""


@pytest.mark.long
def test_default_folders_of_processes_never_collide(tmp_path):
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    each = [subprocess.Popen([sys.executable, "-c", NUMBERS], cwd=tmp_path, **pipes) for _ in range(6)]
    for one in each:
        one.stdin.write("x")
        one.stdin.flush()
    names = [name for one in each for name in one.communicate(timeout=120)[0].split()]
    assert sorted(names) == sorted(f"cnn-{number}" for number in range(1, 241))


# --- no leftovers, and what is in the way ---------------------------------------------------------------------


@pytest.mark.parametrize("out", ["run", "runs/new/run", "runs/mlp-*"])
def test_a_full_disk_before_the_first_file_leaves_no_folder(out, evaluated, tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    data, run, _ = evaluated
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        train_run(run.config, data, tmp_path / out)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_was_there_stays_and_so_does_one_with_files(tmp_path):
    (tmp_path / "there").mkdir()
    with run_folder.made_folder(tmp_path / "there"), run_folder.made_folder(tmp_path / "new" / "run") as new:
        (new / "model.npz").touch()
    assert (tmp_path / "there").is_dir() and (tmp_path / "new" / "run" / "model.npz").exists()


@pytest.mark.parametrize("name", ["link", "link/run", "link/run-*"])
def test_a_link_that_leads_nowhere_is_named(name, tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "absent")
    with pytest.raises(ModelError, match="link is a link that leads nowhere, but a run needs a folder"):
        run_folder.make_folder(tmp_path / name)


def test_what_ranks_share_is_given_up_where_a_run_fails(evaluated, monkeypatch):
    seen = []

    def fail(training, *rest):
        seen.append((training.siamese, training.siamese.sharing))
        raise ModelError("on the way")

    class Ranks(Communicator):
        def sharing(self, network):
            return network

    data, run, _ = evaluated
    monkeypatch.setattr("siamese_np.run.communicator", lambda reduction: Ranks())
    monkeypatch.setattr("siamese_np.run._carried_through", fail)
    with pytest.raises(ModelError, match="on the way"):
        train_run(run.config, data)
    ((siamese, shared),) = seen
    assert shared is siamese.network and siamese.sharing is None
