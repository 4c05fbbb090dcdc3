"""The fixture `gradcheck`, run by a pytest of its own: what a failure shows, and that pytest starts as fast as ever."""

import importlib
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest

pytest_plugins = "pytester"

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


@pytest.fixture
def run(pytester, monkeypatch):
    """Runs the tests above whose names match, in a wide terminal; returns what was printed."""
    monkeypatch.setenv("COLUMNS", "240")
    monkeypatch.delenv("CI", raising=False)
    pytester.makepyfile(test_mine=TESTS)

    def run(names: str, **outcomes: int) -> str:
        plugins = ("-p", "no:siamese_np_gradcheck", "-p", PLUGIN)  # installed or not
        result = pytester.runpytest_subprocess(*plugins, "-p", "no:cacheprovider", "-k", names)
        result.assert_outcomes(**outcomes, deselected=5 - sum(outcomes.values()))
        return result.stdout.str()

    return run


def summary(printed: str) -> str:
    (line,) = (line for line in printed.splitlines() if line.startswith("FAILED "))
    return line


def test_a_correct_gradient_passes_and_says_nothing(run):
    assert "entries" not in run("correct", passed=1)


def test_a_wrong_gradient_is_named_in_the_summary_line(run):
    line = summary(run("wrong", failed=1))
    assert "w: 17 of 17 slopes are wrong; every entry is divided by 4, the batch size N" in line


@pytest.mark.parametrize("name", ["wrong", "function"])
def test_a_failure_shows_the_line_of_the_test_and_the_report_once(run, name):
    printed = run(name, failed=1)
    assert "backward=mean)" in printed
    assert "siamese_np" not in printed.replace("from siamese_np.gradcheck import", "").split("FAILURES")[1]
    assert printed.count("ratio  step") == 1 and printed.count("w[0, 0]") == 1
    assert "w: 17 of 17 slopes are wrong; every entry" in summary(printed)


def test_a_check_that_could_not_decide_fails_and_says_so(run):
    assert "not decided: " in summary(run("undecided", failed=1))


def test_a_mistake_in_the_call_is_one_sentence(run):
    printed = run("mistake", failed=1)
    assert "there is nothing to check forward at" in summary(printed)
    assert "Error" not in printed and "During handling" not in printed


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
