"""A run that is killed, interrupted or out of disk space at any point is whole, and ends with the same bits."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")
long = pytest.mark.long


def crashes(folder, *arguments) -> dict[str, int]:
    """What became of how many trainings that `crashes.py` ended."""
    command = [sys.executable, str(Path(__file__).with_name("crashes.py")), str(folder), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("names", [["replace"], pytest.param([], marks=long)])
def test_a_run_killed_at_any_call_ends_with_the_same_bits(names, tmp_path):
    told = crashes(tmp_path, "kill", *names)
    assert told["survived"] == 1 and told["to be resumed"] >= 18  # files, written after the first checkpoint


@long
def test_a_run_killed_while_it_overwrites_another_is_one_of_the_two(tmp_path):
    assert crashes(tmp_path, "overwrite")["survived"] == 1


@long
@pytest.mark.parametrize("error", ["ENOSPC", "EROFS", "EIO"])
def test_a_run_whose_calls_fail_earns_a_sentence_and_ends_with_the_same_bits(error, tmp_path):
    told = crashes(tmp_path, error, "mkdir", "open", "write", "fsync", "replace")
    assert told["survived"] == 1 and told["to be resumed"] >= 4 * 18


@long
def test_a_run_ended_by_a_random_signal_ends_with_the_same_bits(tmp_path):
    assert sum(crashes(tmp_path, "signals", 200, 0).values()) == 200
