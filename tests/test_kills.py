"""A run that is killed while it saves: resumed, it ends with the model its report speaks of."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from siamese_np import load_dataset, load_model
from siamese_np.evaluation import evaluate

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")

# Forks once for each command, so that the package is imported once. Prints the exit statuses.
SCRIPT = """
import os, signal, sys
from pathlib import Path
from siamese_np import run_folder
from siamese_np.cli import main

data, folder, kill_in = sys.argv[1:]
run_folder.draw = lambda *arguments: []  # pictures take time, and are not what this is about


def command(*arguments, last=None):
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if last is not None:
        replace, count = os.replace, iter(range(last + 1))
        def counted(source, target):
            if next(count) == last:
                if kill_in == "after":
                    replace(source, target)
                os.kill(os.getpid(), signal.SIGKILL)
            replace(source, target)
        os.replace = counted
    os._exit(main(["train", "--data", data, *arguments]))


number, killed = 0, -signal.SIGKILL
while killed == -signal.SIGKILL:
    run = str(Path(folder) / str(number))
    killed = command("--preset", "mlp", "--epochs", "2", "--batch-size", "250", "--out", run, last=number)
    if killed and (Path(run) / "checkpoint.npz").exists() and not (Path(run) / "metrics.json").exists():
        assert command("--resume", run) == 0, run
    number += 1
"""


@pytest.mark.parametrize("kill_in", [pytest.param("before", marks=pytest.mark.long), "after"])
def test_a_run_killed_at_any_rename_ends_with_the_model_of_its_report(kill_in, small_mnist, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(small_mnist), str(tmp_path), kill_in], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    dataset, runs = load_dataset(small_mnist), sorted(tmp_path.iterdir(), key=lambda run: int(run.name))
    assert len(runs) > 10  # history and checkpoint at the start, model too of each epoch, the report, and none
    for run in runs:
        if not (run / "checkpoint.npz").exists():  # killed before there was a run
            assert run.name in ("0", "1") and not (run / "model.npz").exists()
            continue
        assert not list(run.glob(".*"))  # what a kill left of a file is removed
        reported, found = json.loads((run / "metrics.json").read_text()), evaluate(load_model(run), dataset).metrics
        for name in ("threshold", "pair_accuracy", "auc", "loss", "knn_accuracy"):
            assert found[name] == reported[name], (run, name)
        np.testing.assert_array_equal(load_model(run).network.params, load_model(runs[-1]).network.params)
