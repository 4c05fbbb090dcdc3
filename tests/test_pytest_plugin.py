"""The fixture `gradcheck`, run by a pytest of its own: what a failure shows, and that pytest starts as fast as ever."""

import importlib
import os
import re
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest

PLUGIN = "siamese_np.gradcheck.pytest_plugin"
TESTS = """
import numpy as np

x, w = np.random.default_rng(0).standard_normal((2, 4, 4))

def forward(x, w):
    return x @ w, (x, w)

def correct(dout, cache):
    x, w = cache
    return dout @ w.T, x.T @ dout

def mean(dout, cache):
    x, w = cache
    return dout @ w.T, x.T @ dout / len(x)

def test_correct(gradcheck):
    assert gradcheck(forward, x, w, backward=correct).passed

def test_wrong(gradcheck):
    gradcheck(forward, x, w, backward=mean)

def test_undecided(gradcheck):
    gradcheck(lambda x: (np.round(x), x), x, backward=lambda dout, x: 0 * dout)

def test_mistake(gradcheck):
    gradcheck(forward, backward=mean)

def test_function(gradcheck):
    from siamese_np.gradcheck import assert_gradients
    assert_gradients(forward, x, w, backward=mean)
"""


@pytest.fixture(scope="module")
def printed(tmp_path_factory):
    """What a pytest of its own prints of the tests above, in a wide terminal: of each its failure, and all in all."""
    file = tmp_path_factory.mktemp("mine") / "test_mine.py"
    file.write_text(TESTS)
    plugins = ("-p", "no:siamese_np_gradcheck", "-p", PLUGIN)  # installed or not
    command = [sys.executable, "-m", "pytest", *plugins, "-p", "no:cacheprovider", str(file)]
    paths = os.pathsep.join([str(Path(__file__).parent.parent), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "COLUMNS": "240", "PYTHONPATH": paths}
    environment.pop("CI", None)
    done = subprocess.run(
        command, cwd=file.parent, env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert "4 failed, 1 passed" in done.stdout, done.stdout + done.stderr
    assert "entries" not in done.stdout.split("FAILURES")[0]  # of the one that passes nothing is said
    failures, short = done.stdout.split("short test summary info")
    _, *parts = re.split(r"\n_+ (test_\w+) _+\n", failures)
    return {"": done.stdout, "short": short, **dict(zip(parts[::2], parts[1::2], strict=True))}


def summary(printed: dict[str, str], name: str) -> str:
    (line,) = (line for line in printed["short"].splitlines() if line.startswith("FAILED ") and f"::{name} " in line)
    return line


@pytest.mark.parametrize("name", ["test_wrong", "test_function"])
def test_a_failure_shows_the_line_of_the_test_and_the_report_once_and_is_named_in_the_summary_line(printed, name):
    shown = printed[name]
    assert "backward=mean)" in shown
    assert "siamese_np" not in shown.replace("from siamese_np.gradcheck import", "")
    assert shown.count("ratio  step") == 1 and shown.count("w[0, 0]") == 1
    line = "w: 17 of 17 slopes are wrong; every entry is divided by 4, the batch size N"
    assert line in summary(printed, name)


def test_a_check_that_could_not_decide_fails_and_says_so(printed):
    assert "not decided: " in summary(printed, "test_undecided")


def test_a_mistake_in_the_call_is_one_sentence(printed):
    assert "there is nothing to check forward at" in summary(printed, "test_mistake")
    assert "Error" not in printed["test_mistake"] and "During handling" not in printed[""]


def test_setup_cfg_names_the_plugin():
    parser = ConfigParser()
    parser.read(Path(__file__).parent.parent / "setup.cfg", encoding="utf-8")
    name, module = parser["options.entry_points"]["pytest11"].strip().split(" = ")
    assert (name, module) == ("siamese_np_gradcheck", PLUGIN)
    assert hasattr(importlib.import_module(module), "gradcheck")


def test_the_plugin_imports_nothing_heavy():
    script = f"import {PLUGIN}, sys; print([m for m in ('numpy', 'numba', 'matplotlib', 'tqdm') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
