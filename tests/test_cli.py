"""The command line from outside: files, exit statuses, JSON, and a sentence for every mistake."""

import _thread
import contextlib
import csv
import ctypes
import dataclasses
import json
import logging
import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from llvmlite.binding.executionengine import ExecutionEngine
from PIL import Image

from siamese_np import SiameseNetwork, load_dataset, load_model, mlp, save_model, use_kernels
from siamese_np._process import _send, on_signal, to_json
from siamese_np.cli import _progress, main
from siamese_np.config import TrainConfig
from siamese_np.options import COMMANDS, parse
from siamese_np.run import resumed
from siamese_np.run_folder import make_folder

PICTURES = ["distances", "embedding_map", "history", "mistakes", "neighbours", "pairs", "roc"]
FIGURES = ["pair_accuracy", "pair_accuracy_at_half_margin", "threshold", "auc", "eer", "tar_at_far_1e-3"]
FIGURES += ["knn_accuracy", "loss", "seconds", "images_per_second", "similar_distance", "demonstration"]


def run(*arguments, **options) -> subprocess.CompletedProcess:
    """Run the command in a process of its own."""
    command = [sys.executable, "-m", "siamese_np", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, **options)


def mistake(capsys, *arguments) -> str:
    """The one sentence that `arguments` earn, with exit status 2; with --json also as an object."""
    capsys.readouterr()
    assert main([str(argument) for argument in arguments]) == 2
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    sentence = err.strip().splitlines()[-1]
    assert sentence.startswith("siamese-np: ")
    wanted = "--json" in arguments or "--js" in arguments
    assert json.loads(out) == {"error": sentence.removeprefix("siamese-np: ")} if wanted else out == ""
    return sentence


@pytest.fixture(scope="module")
def trained(small_mnist, tmp_path_factory) -> tuple[Path, dict, str]:
    """A run folder, the JSON object that training printed, and what it said on standard error."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    done = run("train", "--epochs", 3, "--batch-size", 64, "--data", small_mnist, "--out", folder, "--json")
    assert done.returncode == 0, done.stderr
    return folder, json.loads(done.stdout), done.stderr


@pytest.fixture(scope="module")
def digits(tmp_path_factory) -> Path:
    """A folder with the first three test images of each digit as PNG, named DIGIT-NUMBER.png."""
    folder, test = tmp_path_factory.mktemp("digits"), load_dataset().test
    for digit in range(10):
        for number, index in enumerate(np.flatnonzero(test.classes == digit)[:3]):
            pixels = np.rint(test.images[index, :, :, 0] * 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{digit}-{number}.png")
    return folder


# --- train ------------------------------------------------------------------------------------------------


def test_train_leaves_a_complete_run_folder(trained):
    folder, figures, log = trained
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        [f"{name}.png" for name in PICTURES]
        + ["model.npz", "checkpoint.npz", "metrics.json", "history.csv", "report.html"]
    )
    assert json.loads((folder / "metrics.json").read_text()) == figures
    assert not [name for name in FIGURES if name not in figures]
    assert figures["pair_accuracy"] > 0.85 and figures["options"]["seed"] == 0
    history = (folder / "history.csv").read_text().splitlines()
    assert len(history) == 4 and history[0].startswith("epoch,loss,validation_loss,validation_pair_accuracy")
    page = (folder / "report.html").read_text()
    assert 'id="sheet">iVBOR' in page and 'src="http' not in page
    assert "seed 0" in log and "epoch 3/3" in log and "compiling" in log


def test_the_same_seed_gives_the_same_model_and_another_seed_another(trained, small_mnist, tmp_path, capsys):
    folder = trained[0]
    options = ["train", "--epochs", "3", "--batch-size", "64", "--data", str(small_mnist), "--out"]
    assert main([*options, str(tmp_path / "same"), "--threads", "1"]) == 0
    assert main([*options, str(tmp_path / "other"), "--seed", "1"]) == 0
    first, same, other = (load_model(path).network.params for path in (folder, tmp_path / "same", tmp_path / "other"))
    np.testing.assert_array_equal(first, same)
    assert (first != other).any()


def test_an_existing_run_is_kept_unless_asked(trained, small_mnist, capsys):
    folder = trained[0]
    before = (folder / "model.npz").read_bytes()
    assert "is not empty" in mistake(capsys, "train", "--data", small_mnist, "--out", folder)
    assert (folder / "model.npz").read_bytes() == before


def test_default_run_folders_are_numbered(small_mnist, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert main(["train", "--preset", "mlp", "--epochs", "1", "--data", str(small_mnist)]) == 0
    assert sorted(path.name for path in Path("runs").iterdir()) == ["mlp-1", "mlp-2"]


def test_runs_started_together_never_take_the_same_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with ThreadPoolExecutor(8) as threads:
        folders = list(threads.map(make_folder, [Path("runs/cnn-*")] * 40))
    assert sorted(folders) == sorted(Path(f"runs/cnn-{number}") for number in range(1, 41))


def test_help_tells_every_field_of_the_configuration_and_its_default(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    told = " ".join(capsys.readouterr().out.split())
    for field in dataclasses.fields(TrainConfig):
        assert f"--{field.name.replace('_', '-')} {field.metadata['metavar']}" in told
    for words in (
        "passes over the data (batch 3, notebook 5)",
        "a step (batch 256, notebook 32)",
        "top of the schedule (batch 0.003, notebook 0.001)",
        "cnn, cnn3, mlp or slim (batch cnn3, notebook cnn)",
        "those given: best, default, fast (default)",
        "(one-cycle)",
    ):
        assert words in told


def test_an_option_of_two_dashes_is_the_users_mistake(capsys):
    for option in ("epochs", "preset", "out", "threads", "data"):
        assert main(["train", f"--{option}=--"]) == 2
        assert f"argument --{option}: expected a value" in capsys.readouterr().err


def test_training_on_the_textbook(small_mnist, tmp_path, monkeypatch, capsys):
    """The whole command, with the plain NumPy of the textbook in place of the kernels."""
    options = ["train", "--preset", "mlp", "--epochs", "1", "--batch-size", "50", "--data", str(small_mnist), "--json"]
    environment = {**os.environ, "SIAMESE_NP_KERNELS": "textbook"}
    command = [sys.executable, "-c", QUICK, *options, "--out", tmp_path / "textbook"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    monkeypatch.setattr("siamese_np.run_folder.draw", lambda *arguments: [])
    assert main([*options, "--out", str(tmp_path / "compiled")]) == 0
    textbook, compiled = json.loads(done.stdout), json.loads(capsys.readouterr().out)
    assert list(textbook) == list(compiled) and textbook["auc"] == pytest.approx(compiled["auc"], abs=0.01)
    assert (tmp_path / "textbook" / "report.html").exists()


def test_notebook_protocol(small_mnist, tmp_path, capsys):
    options = ["--preset", "mlp", "--protocol", "notebook", "--epochs", "2", "--data", str(small_mnist)]
    assert main(["train", *options, "--out", str(tmp_path / "run"), "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["options"]["batch_size"] == 32 and "3,600 random pairs of 1,800 images" in err


def test_ctrl_c_keeps_the_weights_and_a_resumed_run_ends_as_if_never_stopped(trained, small_mnist, tmp_path, capsys):
    folder = tmp_path / "run"
    options = ["--epochs", "3", "--batch-size", "64", "--data", str(small_mnist), "--out", str(folder)]
    command = [sys.executable, "-m", "siamese_np", "train", *options, "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for line in process.stderr:
        if line.startswith("epoch 1/3"):
            break
    process.send_signal(signal.SIGINT)
    told, rest = process.communicate(timeout=60)
    assert process.returncode == 130 and json.loads(told) == {"error": "interrupted"}, rest
    assert "interrupted" in rest and "Traceback" not in rest
    assert f"`siamese-np train --resume {folder}` goes on" in rest
    assert load_model(folder).network.params.any()
    assert main(["train", "--resume", str(folder)]) == 0
    np.testing.assert_array_equal(load_model(folder).network.params, load_model(trained[0]).network.params)
    assert len((folder / "history.csv").read_text().splitlines()) == 4
    assert "is complete" in mistake(capsys, "train", "--resume", folder, "--data", small_mnist)


def test_ctrl_c_before_the_first_epoch_ends_leaves_something_to_resume(tmp_path):
    folder = tmp_path / "run"
    command = [sys.executable, "-m", "siamese_np", "train", "--batch-size", "32", "--out", str(folder)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while not (folder / "checkpoint.npz").exists():
        assert process.poll() is None
        time.sleep(0.1)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    rest = process.communicate(timeout=60)[1]
    assert process.returncode == 130 and "Traceback" not in rest, rest
    steps = re.search(r"interrupted after (\d+) of 4689 steps; the weights after \S+ of 3 epochs are kept", rest)[1]
    assert f"`siamese-np train --resume {folder}` goes on" in rest
    assert load_model(folder).network.params.any()
    again = resumed(folder, load_dataset())
    assert not again.history and again.optimizer.steps == int(steps)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--preset", "resnet"], r"no preset 'resnet'; choose one of cnn, cnn3, mlp, slim"),
        (["--protocol", "triplet"], r"no protocol 'triplet'; choose one of batch, notebook"),
        (["--optimizer", "adagrad"], r"no optimizer 'adagrad'"),
        (["--schedule", "steps"], r"no schedule 'steps'"),
        (["--margin", "0"], r"margin must be a finite number above 0, not 0"),
        (["--margin", "-1"], r"margin must be a finite number above 0"),
        (["--margin", "nan"], r"margin must be a finite number above 0"),
        (["--margin", "1e-300"], r"margin must be from 1e-15 to 1e\+15, not 1e-300"),
        (["--learning-rate", "1e300"], r"learning rate must be a finite number above 0, at most 3.4e\+38"),
        (["--epochs", "0"], r"epochs must be at least 1"),
        (["--seed", "-1"], r"seed must be at least 0"),
        (["--learning-rate", "0"], r"learning rate must be a finite number above 0"),
        (["--batch-size", "2000"], r"batch size must be from 2 to the 1500 images"),
        (["--protocol", "notebook", "--batch-size", "4000"], r"batch size must be at most the 3600 pairs"),
        (["--threads", "0"], r"number of threads must be at least 1"),
        (["--resume", "nowhere"], r"nothing to resume in nowhere"),
    ],
)
def test_train_refuses(options, sentence, small_mnist, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert re.search(sentence, mistake(capsys, "train", "--data", small_mnist, *options))
    assert not (tmp_path / "runs").exists()  # nothing is left behind by a mistake


def test_train_refuses_unusable_data_and_folders(small_mnist, tmp_path, capsys):
    assert "no file or folder" in mistake(capsys, "train", "--data", tmp_path / "nowhere")
    assert "holds no pictures" in mistake(capsys, "train", "--data", tmp_path)
    file = tmp_path / "file"
    file.touch()
    assert "is a file" in mistake(capsys, "train", "--data", small_mnist, "--out", file)
    assert "cannot be written" in mistake(capsys, "train", "--data", small_mnist, "--out", file / "run")
    assert "cannot go with --resume" in mistake(capsys, "train", "--resume", tmp_path, "--epochs", 2)
    both = ["--data", small_mnist, "--resume", tmp_path, "--overwrite"]
    assert "resumed or overwritten, not both" in mistake(capsys, "train", *both)


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="needs rights of files")
def test_what_cannot_be_written_is_told_and_left_as_it_is(trained, small_mnist, digits, capsys):
    # a folder that anybody may enter, as pytest's own may not; and kernels that lie in no folder
    with tempfile.TemporaryDirectory() as name, use_kernels("textbook"):
        home = Path(name)
        for source, copy in ((trained[0], "run"), (small_mnist, "data"), (digits, "digits")):
            shutil.copytree(source, home / copy)
        (home / "run" / "metrics.json").unlink()  # to be resumed
        save_model(home / "run" / "model.npz", SiameseNetwork(mlp(seed=0)))
        picture = home / "digits" / "7-1.png"
        assert main(["embed", str(home / "run"), str(picture), "-o", str(home / "collection")]) == 0
        before = {path: path.is_file() and path.read_bytes() for path in home.rglob("*")}
        for path in (home, *before):
            path.chmod(0o555 if path.is_dir() else 0o444)
        for module in ("bench.suite", "bench.command", "bench.op", "reproduce.command"):  # which a user can read
            import_module(f"siamese_np.{module}")
        user = os.geteuid()
        os.seteuid(user or 65534)  # root may write everywhere
        try:
            for words in (
                ["train", "--preset", "mlp", "--data", home / "data", "--out", home / "new"],
                ["train", "--preset", "mlp", "--data", home / "data", "--out", home / "run", "--overwrite"],
                ["train", "--resume", home / "run", "--data", home / "data"],
                ["embed", home / "run", home / "digits", "-o", home / "collection"],
                ["embed", home / "run", picture, "-o", home / "new"],
                *(["embed", home / "run", picture, "-o", home / f"e{end}"] for end in (".npy", ".npz", ".csv")),
                ["compare", home / "run", picture, picture, "--show", home / "sheet.png"],
                ["trace", home / "run", picture, picture, "--only", "-o", home / "trace.html"],
                ["export", home / "run", "-o", home / "weights.npz"],
                ["bench", "--quick", "--out", home],
                ["reproduce", "--out", home / "new"],
            ):
                sentence = mistake(capsys, *words)
                assert str(home) in sentence and "Permission denied" in sentence, sentence
        finally:
            os.seteuid(user)
        assert {path: path.is_file() and path.read_bytes() for path in home.rglob("*")} == before
        for path in (home, *before):
            path.chmod(0o755)


def test_a_diverging_run_stops_with_a_sentence_and_keeps_what_was_good(small_mnist, tmp_path, capsys):
    folder = tmp_path / "run"
    said = mistake(
        capsys, "train", "--data", small_mnist, "--learning-rate", "1e30", "--weight-decay", 0, "--out", folder
    )
    assert "the loss became" in said and "lower the learning rate" in said
    assert (folder / "checkpoint.npz").exists()


@pytest.mark.parametrize("picture", ["embedding_map", "mistakes"])  # the first and the last
@pytest.mark.parametrize("failure", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_a_run_that_was_not_drawn_whole_tells_its_figures_and_can_be_resumed(
    picture, failure, small_mnist, tmp_path, monkeypatch, capsys
):
    def fail(*arguments):
        raise failure

    folder, options = tmp_path / "run", ["train", "--json", "--data", str(small_mnist)]
    with monkeypatch.context() as patch:
        patch.setattr(f"siamese_np.plots.plot_{picture}", fail)
        new = ["--preset", "mlp", "--epochs", "1", "--out", str(folder)]
        assert main([*options, *new]) == (130 if isinstance(failure, KeyboardInterrupt) else 2)
    told = json.loads(capsys.readouterr().out)
    assert main([*options, "--resume", str(folder)]) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["auc"] == told["auc"] and json.loads((folder / "metrics.json").read_text()) == again
    assert sorted(path.stem for path in folder.glob("*.png")) == PICTURES and (folder / "report.html").exists()
    assert "is complete" in mistake(capsys, *options, "--resume", folder)


def test_a_data_folder_whose_name_is_not_utf_8(small_mnist, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("siamese_np.run_folder.draw", lambda *arguments: [])
    data, folder = tmp_path / os.fsdecode(b"data-\xe9"), tmp_path / os.fsdecode(b"run-\xe9")
    shutil.copytree(small_mnist, data)
    options = ["--preset", "mlp", "--epochs", "1", "--data", str(data), "--out", str(folder)]
    assert main(["train", *options, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["run"] == str(folder)
    assert "data-\\udce9" in (folder / "report.html").read_text("utf-8")


@pytest.mark.parametrize("name", [".writable", "notes.txt"])
def test_overwrite_touches_only_the_files_of_a_run(name, small_mnist, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("siamese_np.run_folder.draw", lambda *arguments: [])
    (tmp_path / name).write_text("mine")
    options = ["--data", str(small_mnist), "--preset", "mlp", "--epochs", "1", "--out", str(tmp_path), "--overwrite"]
    assert main(["train", *options]) == 0
    assert (tmp_path / name).read_text() == "mine"


# --- with a trained model -----------------------------------------------------------------------------------


def test_evaluate_repeats_the_figures_of_training(trained, small_mnist, capsys):
    folder, figures, _ = trained
    for model in (folder, folder / "model.npz"):
        assert main(["evaluate", str(model), "--data", str(small_mnist), "--json"]) == 0
        again = json.loads(capsys.readouterr().out)
        for name in ("pair_accuracy", "threshold", "auc", "knn_accuracy", "loss", "demonstration"):
            assert again[name] == figures[name]
    assert main(["evaluate", str(folder), "--data", str(small_mnist)]) == 0
    assert "pair accuracy" in capsys.readouterr().out


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".csv"])
def test_embed_writes(suffix, trained, digits, tmp_path, capsys):
    output = tmp_path / f"embeddings{suffix}"
    assert main(["embed", str(trained[0]), str(digits), "-o", str(output), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["images"] == 30
    if suffix == ".csv":
        rows = [line.split(",") for line in output.read_text().splitlines()]
        assert rows[0][:3] == ["path", "e0", "e1"] and len(rows) == 31
        emb, paths = np.array([row[1:] for row in rows[1:]], np.float32), [row[0] for row in rows[1:]]
    elif suffix == ".npz":
        with np.load(output) as archive:
            emb, paths = archive["embeddings"], archive["paths"].tolist()
    else:
        emb, paths = np.load(output), None
    assert emb.shape == (30, 64)
    assert paths is None or [Path(path).name for path in paths] == sorted(path.name for path in digits.iterdir())
    test = load_dataset().test
    first = np.flatnonzero(test.classes == 0)[:1]
    np.testing.assert_allclose(emb[:1], load_model(trained[0]).embed(test.images[first]), rtol=1e-6)


def test_compare(trained, digits, capsys):
    same = ["compare", str(trained[0]), str(digits / "1-0.png"), str(digits / "1-0.png"), "--json"]
    assert main(same) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["distance"], said["threshold"], said["similar"]) == (0.0, trained[1]["threshold"], True)
    assert list(said) == ["distance", "threshold", "similar", "unlike", "verdict"] and len(said["unlike"]) == 2
    assert main(["compare", str(trained[0]), str(digits / "1-0.png"), str(digits / "0-0.png")]) == 0
    assert re.match(r"dissimilar: distance \d\.\d{4} is not below the threshold \d\.\d{4}\n", capsys.readouterr().out)


def test_search_finds_the_query_itself_first(trained, digits, tmp_path, capsys):
    index = tmp_path / "index.npz"
    assert main(["embed", str(trained[0]), str(digits), "-o", str(index)]) == 0
    capsys.readouterr()
    query = ["search", str(trained[0]), str(digits / "7-1.png"), "--index", str(index)]
    assert main([*query, "-k", "3", "--json"]) == 0
    hits = json.loads(capsys.readouterr().out)["nearest"]
    assert [Path(hits[0]["path"]).name, hits[0]["distance"], len(hits)] == ["7-1.png", 0.0, 3]
    assert main(query) == 0
    assert len(capsys.readouterr().out.splitlines()) == 5
    assert "k must be a whole number from 1 to the 30 rows of the gallery, not 0" in mistake(capsys, *query, "-k", 0)


def test_search_refuses_the_index_of_another_model(trained, digits, tmp_path, capsys):
    from siamese_np import SiameseNetwork, cnn, save_model

    save_model(tmp_path / "model.npz", SiameseNetwork(cnn(seed=9)))
    assert main(["embed", str(tmp_path), str(digits), "-o", str(tmp_path / "index.npz")]) == 0
    query = ["search", trained[0], digits / "7-1.png", "--index", tmp_path / "index.npz"]
    assert "made by another model" in mistake(capsys, *query)


def test_views_have_a_threshold_and_an_index_of_their_own(trained, small_mnist, digits, tmp_path, capsys):
    model, index = trained[0], tmp_path / "index.npz"
    assert main(["evaluate", str(model), "--views", "--data", str(small_mnist), "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["views"] and figures["threshold"] != trained[1]["threshold"] and figures["auc"] != trained[1]["auc"]
    assert figures["pair_accuracy"] > trained[1]["pair_accuracy"] - 0.05
    assert main(["embed", str(model), str(digits), "--views", "-o", str(index)]) == 0
    query = ["search", str(model), str(digits / "7-1.png"), "--index", str(index)]
    assert "made by another model" in mistake(capsys, *query)
    assert main([*query, "--views", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)  # the model's threshold is of embeddings without views
    assert found["nearest"][0]["distance"] == 0
    assert found["threshold"] is None and found["nearest"][0]["similar"] is None


def test_a_recipe_on_the_command_line(small_mnist, tmp_path, capsys):
    given = ["train", "--recipe", "best", "--epochs", "1", "--preset", "mlp", "--data", small_mnist, "--out", tmp_path]
    assert main([str(argument) for argument in given] + ["--json"]) == 0
    options = json.loads(capsys.readouterr().out)["options"]
    assert (options["augment"], options["weight_decay"], options["epochs"]) == ("mild", 0.1, 1)
    wrong = "--recipe cannot go with --resume: a resumed run keeps its options and its folder"
    assert wrong in mistake(capsys, "train", "--recipe", "best", "--resume", tmp_path)
    assert "no recipe 'x'; choose one of" in mistake(capsys, "train", "--recipe", "x")
    assert "recipe best is for the protocol batch" in mistake(
        capsys, "train", "--recipe", "best", "--protocol", "notebook"
    )


def test_a_run_that_was_trained_but_not_evaluated_can_be_resumed(trained, small_mnist, tmp_path, capsys):
    folder = tmp_path / "run"
    folder.mkdir()
    for name in ("checkpoint.npz", "model.npz"):
        (folder / name).write_bytes((trained[0] / name).read_bytes())
    assert main(["train", "--resume", str(folder), "--data", str(small_mnist)]) == 0
    again = json.loads((folder / "metrics.json").read_text())
    assert again["auc"] == trained[1]["auc"] and (folder / "report.html").exists()


def test_models_and_images_that_are_none(trained, digits, tmp_path, capsys):
    model, image = trained[0], digits / "0-0.png"
    text = tmp_path / "text.png"
    text.write_text("this is no picture")
    assert "no file" in mistake(capsys, "evaluate", tmp_path)
    nowhere = tmp_path / "nowhere"
    sentence = f"there is no file {nowhere}: a model is a run folder, a model.npz, or mnist"
    for arguments in (["evaluate", nowhere], ["embed", nowhere, image, "-o", tmp_path / "e.npy"]):
        assert sentence in mistake(capsys, *arguments)
    assert "damaged" in mistake(capsys, "evaluate", text)
    assert "text.png" in mistake(capsys, "compare", model, image, text)
    assert "nowhere.png" in mistake(capsys, "compare", model, tmp_path / "nowhere.png", image)
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "empty" in mistake(capsys, "embed", model, empty, "-o", tmp_path / "e.npy")
    assert "must end in one of" in mistake(capsys, "embed", model, image, "-o", tmp_path / "e.txt")
    assert "no folder" in mistake(capsys, "embed", model, image, "-o", tmp_path / "no" / "e.npy")
    assert "not an .npz of embeddings" in mistake(capsys, "search", model, image, "--index", text)


def test_a_model_for_images_of_another_size(small_mnist, tmp_path, digits, capsys):
    from siamese_np import SiameseNetwork, mlp, save_model

    save_model(tmp_path / "model.npz", SiameseNetwork(mlp((8, 8, 1))))
    for arguments in (["evaluate", tmp_path, "--data", small_mnist], ["compare", tmp_path, *[digits / "0-0.png"] * 2]):
        assert "28x28 pixels (height x width), but the model takes 8x8" in mistake(capsys, *arguments)


# --- around it --------------------------------------------------------------------------------------------


def test_version(capsys):
    with pytest.raises(SystemExit, match=r"^0$"):
        main(["--version"])
    assert re.fullmatch(r"siamese-np (\d+\.\d+.*|unknown)\n", capsys.readouterr().out)


def test_help_and_import_are_light():
    script = (
        "import sys, siamese_np.cli; print([m for m in ('numba', 'matplotlib', 'PIL', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    done = run("--help")
    assert done.returncode == 0
    for command in ("train", "evaluate", "embed", "compare", "search", "info"):
        assert command in done.stdout


def test_unknown_options_and_commands_are_the_users_mistake():
    for arguments in (["train", "--epoch-count", "3"], ["fly"], [], ["train", "--epochs", "many"]):
        done = run(*arguments)
        assert done.returncode == 2 and "Traceback" not in done.stderr and done.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["trian"], "there is no command 'trian'; did you mean train?"),
        (["fly"], "there is no command 'fly' ("),
        (["train", "--epoch-count", "3"], "there is no option --epoch-count; did you mean --epochs?"),
        (["train", "--lr", "1e-3"], "there is no option --lr; did you mean --learning-rate?"),
        (["train", "--wd=1"], "there is no option --wd; did you mean --weight-decay?"),
        (["embed", "run", "scans", "--ouput", "e.npz"], "there is no option --ouput; did you mean --output?"),
        (
            ["bench", "compare", "a", "b", "--fial-over", "3%"],
            "there is no option --fial-over; did you mean --fail-over?",
        ),
        (["info", "--zzz", "--json"], "there is no option --zzz ("),
        (["info", "--threads", "0", "--js"], "the number of threads must be at least 1, not 0"),
    ],
)
def test_what_was_perhaps_meant(arguments, sentence, capsys):
    assert sentence in mistake(capsys, *arguments)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("train --out=", "an argument is an empty word: leave it out, or say which (`siamese-np --help` says what is "),
        ("embed M P -o ''", "an argument is an empty word"),
        ("train --epochs 2.5", "argument --epochs: invalid int value: '2.5' (`siamese-np train --help` says what is "),
        ("train --size 60", "argument --size: a size is height x width, such as 60x40, not '60' ("),
        ("train --checkpoint-every nan", "checkpoint_every must be a number of seconds above 0, not nan"),
        ("train --data D --as x", "there is no input form 'x'; choose one of digit, resize, as-is"),
        ("evaluate M --data nowhere", "there is no file or folder nowhere"),
        ("embed M P -o out.txt", "--output must end in one of .npy, .npz, .csv, or be a folder (no ending), not 'o"),
        ("embed M P -o nowhere/out", "there is no folder nowhere for --output"),
        ("embed M P -o .", ". holds other files, but no state.json: a collection needs a folder of its own"),
        ("embed M P -o out --labels P", "--labels needs one IDX file of images as the only INPUT"),
        ("embed M nowhere.png -o out", "there is no file nowhere.png"),
        ("compare M P P --show sheet.jpg", "--show must end in .png, not 'sheet.jpg'"),
        ("compare M P P --threads 9999", "the number of threads must be at most 1024"),
        ("search M P --index nowhere", "there is no file nowhere"),
        ("classify M P --index D", "D is no collection, a folder with a state.json, as `siamese-np embed` writes it"),
        ("export M P -o w.npz", "images, --index and --data go with --to projector, not with --to npz"),
        ("export M -o D --to onnx", "D is no file, which --output writes"),
        ("gradcheck relu --tolerance 1", "the tolerance must be at least 1e-9 and below 0.1, not 1.0: it is relative"),
        ("gradcheck relu --shape 4,x", "argument --shape: a shape is whole numbers such as 4,10, not '4,x' ("),
        ("gradcheck relu --seconds 0", "seconds must be more than 0, not 0.0"),
        ("gradcheck relu --plot D", "D is no file, which --plot writes"),
        ("trace M P P -o trace.txt", "--output must end in .html, not 'trace.txt'"),
        ("trace M P P --only --label x", "argument --label: invalid choice: 'x' (choose from "),
        ("bench --op x", "--op must be conv2d, dense, maxpool2d or grid, not 'x'"),
        ("bench compare D D", "there is no file D/benchmark.json"),
        ("learn hint", "`siamese-np learn hint` needs the name of an exercise"),
        ("reproduce --seeds 9999999999999", "--seeds must be from 1 to 1000, not 9999999999999"),
    ],
)
def test_a_wrong_value_earns_one_sentence(line, sentence, trained, digits, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("D").mkdir()
    Path("D/notes.txt").touch()
    words = {"M": trained[0], "P": digits / "7-1.png"}
    before = sorted(tmp_path.rglob("*"))
    for option in ([], ["--json"]):
        command = [words.get(word, word) for word in shlex.split(line)]
        assert mistake(capsys, *command, *option).startswith(f"siamese-np: {sentence}")
    assert [path for path in sorted(tmp_path.rglob("*")) if path.name != "reproduced"] == before


@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [
        ("SIAMESE_NP_THREADS", "many", "SIAMESE_NP_THREADS must be a whole number of at least 1, not 'many'"),
        ("SIAMESE_NP_THREADS", "0", "the number of threads must be at least 1, not 0"),
        ("SIAMESE_NP_KERNELS", "fast", "no back end 'fast'; choose compiled or textbook"),
        ("SIAMESE_NP_NUMBA", "\x1b[2J", "SIAMESE_NP_NUMBA must be private or public, not '\\x1b[2J'"),
        ("SIAMESE_NP_CHECK", "yes", "SIAMESE_NP_CHECK must be 0 or 1, not 'yes'"),
        *(
            ("NUMBA_NUM_THREADS", value, f"NUMBA_NUM_THREADS must be a whole number of at least 1, not '{value}'")
            for value in ("0", "-1", "abc", "1.5", "")
        ),
        ("NUMBA_OPT", "9", "NUMBA_OPT must be 0, 1, 2, 3 or max, not '9'"),
        ("NUMBA_DISABLE_JIT", "yes", "NUMBA_DISABLE_JIT must be 0 or 1, not 'yes'"),
        ("NUMBA_BOUNDSCHECK", "on", "NUMBA_BOUNDSCHECK must be 0 or 1, not 'on'"),
        (
            "NUMBA_CPU_FEATURES",
            "avx2",
            "NUMBA_CPU_FEATURES must be names with + or - before each, such as +avx2,-avx512f, not 'avx2'",
        ),
    ],
)
def test_a_wrong_word_in_the_environment_earns_one_sentence(variable, value, sentence):
    done = run("info", "--json", env={**os.environ, variable: value})
    assert done.returncode == 2 and json.loads(done.stdout) == {"error": sentence}
    assert done.stderr == f"siamese-np: {sentence}\n"


def test_a_wrong_word_in_the_environment_is_an_exception_in_python():
    code = "import siamese_np\ntry: siamese_np.cnn\nexcept siamese_np.SiameseError as error: print(error)"
    environment = {**os.environ, "NUMBA_NUM_THREADS": "0"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "NUMBA_NUM_THREADS must be a whole number of at least 1, not '0'\n" and not done.stderr


def test_every_command_has_examples_in_its_help(capsys):
    for name, (_, _, lines) in COMMANDS.items():
        with pytest.raises(SystemExit, match=r"^0$"):
            main([name, "--help"])
        told = capsys.readouterr().out
        assert [line for line in told.splitlines() if line.startswith(f"  siamese-np {name}")] == [
            f"  siamese-np {name} {line}".rstrip() for line in lines
        ]
    with pytest.raises(SystemExit, match=r"^0$"):
        main(["--help"])
    told = re.findall(r"^    ([a-z]+)(?:  |$)", capsys.readouterr().out, re.MULTILINE)
    assert sorted(told) == sorted(COMMANDS)


LONG = ["train", "train --recipe best --out runs/best", "evaluate runs/cnn3-1 --views", "gradcheck", "bench --quick"]
LONG += ["bench --out results", "bench compare results/old results/new", "reproduce --quick", "info --warm-up"]
LONG += ["reproduce --main --seeds 3", "train --resume runs/cnn3-1", "train --preset mlp --epochs 1"]
LONG += ["evaluate runs/cnn3-1", "trace runs/cnn3-1 3 18 -o trace.html"]
LONG += ["trace runs/cnn3-1 one.png other.png --label similar"]
LONG += ["classify runs/cnn3-1 one.png --index collected"]
EXAMPLE_LINES = [f"{name} {line}".rstrip() for name, (_, _, lines) in COMMANDS.items() for line in lines]


@pytest.mark.parametrize("line", EXAMPLE_LINES)
def test_examples_are_understood(line):
    parse(shlex.split(line))


@pytest.fixture(scope="module")
def at_home(tmp_path_factory) -> Path:
    """A folder in which the examples of the help can run, one after another."""
    from siamese_np import SiameseNetwork, cnn3, save_model

    folder = tmp_path_factory.mktemp("home")
    for name in ("runs/cnn3-1", "scans"):
        (folder / name).mkdir(parents=True)
    save_model(folder / "runs/cnn3-1/model.npz", SiameseNetwork(cnn3(seed=0)))
    images = np.rint(load_dataset().test.images[:5, :, :, 0] * 255).astype(np.uint8)
    for name, image in zip(("photo.jpg", "one.png", "other.png", "query.png", "scans/a.png"), images, strict=True):
        Image.fromarray(image).save(folder / name)
    (folder / "mylayer.py").write_text(
        "from siamese_np import Dense\n\n\ndef MyLayer():\n    return Dense(10, 3, seed=0, dtype='float64')\n"
    )
    return folder


def test_examples_run(at_home, monkeypatch, capsys):
    """Those that are quick, in their order: each may use what one before it wrote."""
    monkeypatch.chdir(at_home)
    assert set(LONG) < set(EXAMPLE_LINES)
    needed = {"onnx": "export .*onnx", "faiss": "index .*faiss", "usearch": "index .*usearch"}
    missing = [pattern for library, pattern in needed.items() if not find_spec(library)]
    for line in EXAMPLE_LINES:
        if line not in LONG and not any(re.match(pattern, line) for pattern in missing):
            status = main(shlex.split(line))
            told = capsys.readouterr()
            # an exercise that was not begun is not done
            assert status == (1 if line == "learn check exercises/01_dense.py" else 0), f"{line}: {told.err}{told.out}"


def test_quiet_leaves_results_and_mistakes(small_mnist, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("siamese_np.run_folder.draw", lambda *arguments: [])
    options = ["train", "--preset", "mlp", "--epochs", "1", "--data", str(small_mnist), "--quiet"]
    assert main([*options, "--out", str(tmp_path / "run")]) == 0
    out, err = capsys.readouterr()
    assert "pair accuracy" in out and err == ""
    assert "is not empty" in mistake(capsys, *options, "--out", tmp_path / "run")
    for quiet, told in ((True, ""), (False, "compiling\n"), (True, "")):
        with _progress(quiet):
            logging.getLogger("siamese_np").info("compiling")
        assert capsys.readouterr().err == told


def test_compiling_is_told_once_where_nothing_is_compiled_yet(tmp_path):
    from siamese_np import Dense, Flatten, Sequential, SiameseNetwork, save_model

    network = Sequential([Flatten(), Dense(784, 4, seed=0)], (28, 28, 1))
    save_model(tmp_path / "model.npz", SiameseNetwork(network))
    Image.fromarray(np.rint(load_dataset().test.images[0, :, :, 0] * 255).astype(np.uint8)).save(tmp_path / "7.png")
    command = ["compare", tmp_path, tmp_path / "7.png", tmp_path / "7.png", "--json"]
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    for told in ("compiling kernels, once (about 10 s) ...\n", ""):
        done = run(*command, env=environment)
        assert done.returncode == 0 and json.loads(done.stdout)["distance"] == 0
        assert done.stderr == told


def test_warm_up_says_what_it_compiled(capsys):
    assert main(["info", "--warm-up", "--json"]) == 0
    seconds = json.loads(capsys.readouterr().out)["warm_up_seconds"]
    assert list(seconds) == [
        "cnn network",
        "cnn3 network",
        "mlp network",
        "slim network",
        "losses",
        "adam",
        "sgd",
        "evaluation",
        "views, distortions",
    ]


def test_info(capsys):
    assert main(["info", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["threads"] >= 1 and set(figures["versions"]) >= {"siamese_np", "numpy", "numba"}
    assert main(["info"]) == 0
    assert "numba" in capsys.readouterr().out


def test_a_closed_pipe_is_no_error():
    process = subprocess.Popen(
        [sys.executable, "-m", "siamese_np", "info"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    process.stdout.close()  # before anything is printed
    assert process.wait(60) == 0 and process.stderr.read() == ""


# --- streams ----------------------------------------------------------------------------------------------

# The command without pictures, which take most of its time
QUICK = """
import sys
from siamese_np import cli
if "train" in sys.argv:
    from siamese_np import run_folder
    run_folder.draw = lambda *_: []
sys.exit(cli.main())
"""
posix = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a shell and /dev/full")


def in_shell(folder, line) -> list[int]:
    """Run a shell line in `folder`; return the exit status of each `siamese` in it."""
    (folder / "status").unlink(missing_ok=True)
    script = f'siamese() {{ "$PYTHON" -c "$QUICK" "$@"; echo $? >>status; }}; {line}'
    environment = {**os.environ, "PYTHON": sys.executable, "QUICK": QUICK}
    subprocess.run(["sh", "-c", script], cwd=folder, env=environment, timeout=300, check=False)
    return [int(number) for number in (folder / "status").read_text().split()]


@posix
@pytest.mark.parametrize("log", [">out 2>&-", ">out 2>/dev/full", "2>&1 >out | head -1 >log"])
def test_a_log_that_cannot_be_written_ends_no_training(log, small_mnist, tmp_path):
    options = f"--preset mlp --epochs 2 --batch-size 250 --data {shlex.quote(str(small_mnist))} --out run"
    assert in_shell(tmp_path, f"siamese train {options} --json {log}") == [0]
    figures = json.loads((tmp_path / "out").read_text())  # no line of the log is among it
    assert json.loads((tmp_path / "run" / "metrics.json").read_text()) == figures
    assert load_model(tmp_path / "run").threshold == figures["threshold"]


@posix
def test_a_training_whose_readers_have_all_gone_ends_whole(small_mnist, tmp_path):
    options = f"--preset mlp --epochs 2 --batch-size 250 --data {shlex.quote(str(small_mnist))} --out run"
    assert in_shell(tmp_path, f"siamese train {options} 2>&1 | head -1 >log") == [0]
    assert (tmp_path / "run" / "report.html").exists()


@posix
def test_the_exit_status_is_the_same_whatever_the_streams_are(tmp_path):
    for streams in (">&-", ">&- 2>&-", "<&- >&- 2>&-", "2>/dev/full", "| true", "2>&1 | true"):
        commands = ("--help", "evaluate nowhere", "--wrong")
        line = "; ".join(f"siamese {command} {streams}" for command in commands)
        assert in_shell(tmp_path, line) == [0, 2, 2], streams
    for streams in (">&-", "| true"):
        assert in_shell(tmp_path, f"siamese info {streams}; siamese info --json {streams}") == [0, 0], streams


@posix
def test_output_that_does_not_fit_on_the_disk_is_told(tmp_path):
    for option in ("", "--json"):
        assert in_shell(tmp_path, f"siamese info {option} >/dev/full 2>log")[-1] == 2
        assert (tmp_path / "log").read_text() == "siamese-np: standard output: No space left on device\n"


@pytest.mark.parametrize("name", ["_raw_object_cache_notify", "_raw_object_cache_getbuffer"])
def test_a_signal_while_a_kernel_is_loaded_is_not_lost(name):
    """What is raised in a function that C calls is lost; llvmlite has two, which are named here."""
    assert hasattr(ExecutionEngine, name)
    called = {}
    exec(f"def {name}():\n    signal.raise_signal(signal.SIGINT)", {"signal": signal}, called)
    with on_signal():
        ctypes.CFUNCTYPE(None)(called[name])()
        with pytest.raises(KeyboardInterrupt):
            time.sleep(5)


SIGNALLED = """
import signal, sys
for name in sys.argv[1:]:
    signal.signal(getattr(signal, name), signal.SIG_DFL)  # a shell has its background ignore some
print("begun", file=sys.stderr, flush=True)
from siamese_np.cli import main
sys.exit(main(["gradcheck", "--json"]))
"""


class Dropped:
    """Python cannot raise what comes in here."""

    def __del__(self):
        signal.raise_signal(signal.SIGTERM)


def test_a_signal_that_python_cannot_raise_comes_again():
    hook = sys.unraisablehook
    with on_signal():
        Dropped()
        with pytest.raises(KeyboardInterrupt):
            time.sleep(5)
    assert sys.unraisablehook is hook


def test_a_signal_that_comes_again_kills_nothing_once_the_command_has_ended():
    with on_signal():
        _thread.start_new_thread(_send, (signal.SIGTERM,))
    time.sleep(0.2)  # where it came, this process would have ended


def test_a_second_signal_within_the_first_does_not_hang():
    """As of a terminal that closes: SIGHUP and SIGTERM, the second at any line of what handles the first."""
    code = """
import contextlib, signal, sys
from siamese_np._process import on_interrupt
def trace(frame, event, argument):
    global lines
    if frame.f_code.co_name in ("handle", "set") and event == "line":
        lines += 1
        if lines == second:
            signal.raise_signal(signal.SIGTERM)
    return trace
for second in range(1, 9):
    lines = 0
    with contextlib.suppress(KeyboardInterrupt), on_interrupt() as stop:
        sys.settrace(trace)
        signal.raise_signal(signal.SIGHUP)
    sys.settrace(None)
    assert stop.is_set() and lines
"""
    done = subprocess.run([sys.executable, "-c", code], timeout=60, check=False)
    assert done.returncode == 0


@posix
@pytest.mark.long
@pytest.mark.parametrize("cold", [False, True])
def test_every_signal_at_any_time_ends_a_command(cold, tmp_path):
    """Forty starts, with kernels in the cache or to be compiled; -s shows how they ended."""
    chance, told = random.Random(int(cold)), Counter()
    names = ("SIGINT", "SIGTERM", "SIGHUP")
    for number in range(40):
        own = {"NUMBA_CACHE_DIR": str(tmp_path / str(number))} if cold else {}
        command = [sys.executable, "-c", SIGNALLED, *names]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        with subprocess.Popen(command, env={**os.environ, **own}, **pipes) as process:
            process.stderr.readline()
            time.sleep(chance.uniform(0, 4))
            name = names[number % 3]
            process.send_signal(getattr(signal, name))
            try:
                said, log = process.communicate(timeout=20)
            finally:
                process.kill()
        before_the_command = -getattr(signal, name)
        assert process.returncode in (130, before_the_command), (name, process.returncode, log)
        if process.returncode == 130:
            assert "Traceback" not in log and isinstance(json.loads(said), dict), log
        told[process.returncode] += 1
    print(dict(told))


def test_memory_that_is_used_up_is_told(monkeypatch, capsys):
    def lacks_memory():
        raise errors.pop()

    errors = [MemoryError(), MemoryError("Unable to allocate 1 TiB")]
    monkeypatch.setattr("siamese_np.runtime.scheduler.get_threads", lacks_memory)
    for why in ("Unable to allocate 1 TiB", "none is left"):
        assert mistake(capsys, "info", "--json") == f"siamese-np: there is not enough memory ({why})"


@posix
def test_no_file_takes_the_place_of_a_closed_stream(tmp_path):
    """What a library writes to descriptor 2 must not end up in a file that happens to have got this number."""
    script = """if True:
        import os
        from siamese_np.cli import safe_streams
        with safe_streams(), open("file", "w"):
            os.write(2, b"x")"""
    subprocess.run(["sh", "-c", '"$0" -c "$1" 2>&-', sys.executable, script], cwd=tmp_path, check=True)
    assert (tmp_path / "file").read_bytes() == b""


@posix
@pytest.mark.parametrize(
    ("encoding", "shown"),
    [
        ("ascii", [rb"a\xe9.png", rb"b\U0001f600.png", b"c\xe9.png"]),
        ("ascii:surrogateescape", [rb"a\xe9.png", rb"b\U0001f600.png", b"c\xe9.png"]),
        ("utf-8:strict", [b"a\xc3\xa9.png", b"b\xf0\x9f\x98\x80.png", b"c\xe9.png"]),
    ],
)
def test_file_names_that_the_terminal_cannot_show(encoding, shown, trained, digits, tmp_path):
    folder = tmp_path / "digits"
    folder.mkdir()
    for name in ("a\u00e9.png", "b\U0001f600.png", os.fsdecode(b"c\xe9.png")):
        shutil.copy(digits / "7-1.png", folder / name)
    command = [sys.executable, "-m", "siamese_np"]
    options = {"env": {**os.environ, "PYTHONIOENCODING": encoding}, "check": True, "capture_output": True}
    index = tmp_path / "index-\u00e9.npz"
    subprocess.run([*command, "embed", trained[0], folder, "-o", index], **options)
    done = subprocess.run([*command, "search", trained[0], digits / "7-1.png", "--index", index], **options)
    assert sorted(line.split(b"/")[-1] for line in done.stdout.splitlines()) == shown


# --- outputs ------------------------------------------------------------------------------------------------


def outputs(trained, digits) -> dict[str, list]:
    """Commands that write one file, by its name."""
    model, picture = trained[0], digits / "7-1.png"
    return {
        "model.npz": ["embed", model, picture, "-o"],
        "emb.npy": ["embed", model, picture, "-o"],
        "emb.csv": ["embed", model, picture, "-o"],
        "sheet.png": ["compare", model, picture, picture, "--show"],
        "curves.png": ["gradcheck", "relu", "--plot"],
        "trace.html": ["trace", model, picture, picture, "--only", "-o"],
        "model.onnx": ["export", model, "-o"],
    }


NAMES = ["model.npz", "emb.npy", "emb.csv", "sheet.png", "curves.png", "trace.html", "model.onnx"]


@pytest.mark.parametrize("name", NAMES)
def test_an_output_replaces_only_its_own_kind(name, trained, digits, tmp_path, capsys):
    if name.endswith("onnx"):
        pytest.importorskip("onnx")
    path, command = tmp_path / name, list(map(str, outputs(trained, digits)[name]))
    option = "--output" if command[-1] == "-o" else command[-1]
    (tmp_path / "other").write_bytes((trained[0] / "model.npz").read_bytes())
    refused = f"{path} was not written by {option}, and is not replaced; --overwrite replaces it"
    shutil.copy(tmp_path / "other", path)  # a model, of another kind than all of these
    assert refused in mistake(capsys, *command, path)
    assert path.read_bytes() == (tmp_path / "other").read_bytes()
    for _ in range(2):  # then it is of its own kind
        assert main([*command, str(path), *["--overwrite"] * (_ == 0)]) == 0
    assert path.read_bytes() != (tmp_path / "other").read_bytes()
    path.unlink()
    path.symlink_to(tmp_path / "other")
    assert refused in mistake(capsys, *command, path)
    if hasattr(os, "mkfifo"):
        path.unlink()
        os.mkfifo(path)
        assert f"is no file, which {option} writes" in mistake(capsys, *command, path, "--overwrite")
    assert (tmp_path / "other").read_bytes() == (trained[0] / "model.npz").read_bytes()
    assert "there is no folder" in mistake(capsys, *command, tmp_path / "nowhere" / name)


def test_a_folder_of_results_keeps_what_is_not_of_its_command(tmp_path, capsys):
    (tmp_path / ".writable").write_text("mine")  # which an earlier version made and removed
    for name in ("benchmark.json", "benchmark.md", "roofline.png", "ladder.png", "layers.png", "fast.png"):
        (tmp_path / name).write_text("mine")
        command = ["reproduce", "--fast"] if name == "fast.png" else ["bench", "--quick"]
        sentence = f"{tmp_path / name} was not written by --out, and is not replaced; --overwrite replaces it"
        assert sentence in mistake(capsys, *command, "--out", tmp_path)
        (tmp_path / name).unlink()
    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]
    run = tmp_path / "fast-seed-0"
    run.mkdir()
    (run / "model.npz").write_text("mine")
    assert f"{run} is not empty" in mistake(capsys, "reproduce", "--fast", "--out", tmp_path)


def test_json_has_no_nan_and_no_infinity():
    told = {"a": [float("nan"), (float("inf"), 1.5)], "b": {"c": -float("inf")}, "d": np.float64("nan"), "e": None}
    assert to_json(told) == '{"a": [null, [null, 1.5]], "b": {"c": null}, "d": null, "e": null}'
    assert json.loads(to_json({"a": 1.0}, indent=2)) == {"a": 1.0}


def test_control_characters_of_names_never_reach_the_terminal(trained, tmp_path, capsys):
    name = tmp_path / "a\x1b[31m\nsiamese-np: all well.png"
    shown = "a\\x1b[31m siamese-np: all well.png"  # a sentence is one line
    assert shown in mistake(capsys, "compare", trained[0], name, name)
    assert json.loads(capsys.readouterr().out or "{}") == {}
    (tmp_path / "\x1b[2J\u202e").mkdir()
    assert main(["export", str(trained[0]), "--to", "npz", "-o", str(tmp_path / "\x1b[2J\u202e" / "w.npz")]) == 0
    assert "\\x1b[2J\\u202e/w.npz" in capsys.readouterr().out


def test_no_path_of_a_csv_file_is_a_formula(trained, digits, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = ["=HYPERLINK(1).png", "+1.png", "@SUM(1).png", "a=1.png"]
    for name in names:
        shutil.copy(digits / "7-1.png", name)
    assert main(["embed", str(trained[0]), *names, "-o", "emb.csv"]) == 0
    paths = [row["path"] for row in csv.DictReader(Path("emb.csv").read_text().splitlines())]
    assert paths == ["./=HYPERLINK(1).png", "./+1.png", "./@SUM(1).png", "a=1.png"]
    assert all(Path(path).exists() for path in paths)


@posix
def test_a_failed_check_stays_one_though_its_reader_left(tmp_path):
    (tmp_path / "wrong.py").write_text("def f(x):\n    return (x * x).sum(), x\n")
    for option in ("", "--json"):
        line = f"siamese gradcheck wrong.py:f --shape 3 {option} 2>log | true"
        assert in_shell(tmp_path, line) == [1], (tmp_path / "log").read_text()


@posix
def test_a_slower_benchmark_stays_one_though_its_reader_left(tmp_path, monkeypatch):
    monkeypatch.setattr("siamese_np.bench.command.compare", lambda args, told: told(args, {"slower": 1}, "slower") or 1)
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as gone, contextlib.redirect_stdout(gone):
        assert main(["bench", "compare", "old", "new"]) == 1
