"""What is killed, interrupted or out of disk space at any point is whole, and ends with the same bits."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")
long = pytest.mark.long
COMMANDS = ["train", "embed"]
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "SIAMESE_NP_THREADS": "1"}  # many small matrices


def crashes(folder, *arguments) -> dict[str, int]:
    """What became of how many commands that `crashes.py` ended."""
    command = [sys.executable, str(Path(__file__).with_name("crashes.py")), str(folder), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **ONE_THREAD})
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_a_run_killed_before_any_file_is_renamed_ends_with_the_same_bits(tmp_path):
    told = crashes(tmp_path, "train", "kill", "replace")
    assert told["survived"] == 1 and told["to be resumed"] >= 18  # files, written after the first checkpoint


def test_a_collection_killed_at_every_third_call_ends_with_the_same_bits(tmp_path):
    told = crashes(tmp_path, "embed", "kill/3")
    assert told["survived"] == 1 and told["to be resumed"] >= 12


@long
@pytest.mark.parametrize("way", ["kill", "again"])
@pytest.mark.parametrize("command", COMMANDS)
def test_a_kill_at_any_call_leaves_the_old_or_the_new(command, way, tmp_path):
    assert crashes(tmp_path, command, way)["survived"] == 1


@long
@pytest.mark.parametrize("way", ["ENOSPC", "EROFS", "EIO", "gone"])
@pytest.mark.parametrize("command", COMMANDS)
def test_a_call_that_fails_earns_a_sentence_and_ends_with_the_same_bits(command, way, tmp_path):
    assert sum(crashes(tmp_path, command, way).values()) >= 60


@long
@pytest.mark.parametrize("command", COMMANDS)
def test_a_random_signal_leaves_what_ends_with_the_same_bits(command, tmp_path):
    assert sum(crashes(tmp_path, command, "signals", 200, 0).values()) == 200
