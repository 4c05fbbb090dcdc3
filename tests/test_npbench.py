"""NPBench's cases at tiny sizes: every version is right, a wrong one is named, and the holes are where we say."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).parent.parent / "benchmarks" / "npbench"
FAKE = """
import time
import cases

now = [0.0]  # a clock that passes while a task is read, and in calls
time.perf_counter = lambda: now[0]

def versions(variant):
    return {"fake": "1"}

def operation(task, arrays):
    now[0] += 100
    def call():
        now[0] += 0.25
        return cases.mlp(*arrays.values())
    return call, lambda out: [out]
"""


@pytest.fixture(scope="module")
def npbench():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        run = importlib.import_module("run")
        for name in ("SETTLE_SECONDS", "WAKE_SECONDS"):
            patch.setattr(importlib.import_module("siamese_np.bench.sampling"), name, 0)
        patch.setattr(run, "with_numba", run.cases)  # compiled they take seconds: see below
        yield run
    for name in ("run", "cases", "with_kernels", "with_numba"):
        sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def shapes(npbench):
    sizes = {"conv2d_bias": (2, 3, 4, 2, 6, 5), "lenet": (2, 18, 20), "mlp": (4, 3, 40, 30, 20)}
    return {name: case.shapes(*sizes[name]) for name, case in npbench.cases.CASES.items()}


def test_sizes_are_npbench_s(npbench):
    cases = npbench.cases.CASES
    assert {name: set(case.sizes) for name, case in cases.items()} == {name: {"S", "M", "L", "paper"} for name in cases}
    conv2d = cases["conv2d_bias"].shapes(*cases["conv2d_bias"].sizes["paper"])
    assert npbench.cases.products(conv2d) == pytest.approx(17.3e9, rel=0.01)
    lenet = cases["lenet"].shapes(*cases["lenet"].sizes["S"])
    assert lenet["fc1w"] == (256, 120)
    by_hand = 4 * (24 * 24 * 150 + 8 * 8 * 2400 + 256 * 120 + 120 * 84 + 84 * 10)
    assert npbench.cases.products(lenet) == 2 * by_hand
    mlp = cases["mlp"].shapes(*cases["mlp"].sizes["L"])
    assert mlp["w2"] == (30_000, 30_000) and npbench.cases.products(mlp) == 2 * 8 * 30_000 * (3 + 2 * 30_000)


def test_inputs(npbench, shapes):
    drawn, more = (draw(shapes["mlp"]) for draw in (npbench.cases.uniform, npbench.cases.signed))
    assert min(array.min() for array in drawn.values()) >= 0
    assert (more["input"] < 0).any() and (more["input"] == 0).any() and (more["w1"] < 0).any()
    assert {array.dtype for array in [*drawn.values(), *more.values()]} == {np.dtype(np.float32)}


def test_the_command_times_what_is_right(npbench, shapes, capsys):
    assert npbench.main(["--repeat", "2", "--json"], shapes) == 0
    result = json.loads(capsys.readouterr().out)
    for name, found in result["cases"].items():
        assert set(found["versions"]) >= {"NumPy", "siamese_np"}
        for row in found["versions"].values():
            assert row["error"] < npbench.TOLERANCE and len(row["timing"]["samples"]) == 2, name
    assert npbench.main(["--repeat", "1", "--case", "mlp"], shapes) == 0
    said = capsys.readouterr().out
    assert "cores, one CPU model" in said and "| siamese_np " in said and "## lenet" not in said
    assert npbench.numba.get_num_threads() == min(npbench.get_threads(), npbench.numba.config.NUMBA_NUM_THREADS)


def test_blas_has_the_threads_that_we_have():
    """Its number is read when NumPy is imported."""
    code = f"""
import os, runpy, sys
sys.argv[1:] = ["--repeat", "0"]
try:
    runpy.run_path({str(FOLDER / "run.py")!r}, run_name="__main__")
except SystemExit:
    print({{name: os.environ[name] for name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS")}})
"""
    environment = {**os.environ, "SIAMESE_NP_THREADS": "3"}
    environment["PYTHONPATH"] = os.pathsep.join([str(FOLDER), str(FOLDER.parents[1])])
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.count("3") == 3


@pytest.mark.long
def test_numba_s_versions_are_right(npbench, shapes):
    compiled = importlib.import_module("with_numba")
    for name, case in npbench.cases.CASES.items():
        if name != "conv2d_bias":
            pytest.importorskip("scipy")  # for Numba's products of matrices
        for draw in npbench.INPUTS.values():
            arrays = draw(shapes[name])
            found = getattr(compiled, case.function.__name__)(*arrays.values())
            assert npbench.relative_error(found, npbench.reference(name, arrays)) < npbench.TOLERANCE, name


def test_a_framework_tells_its_versions_and_its_first_call(npbench, shapes, tmp_path, monkeypatch):
    """Its first call is that of what is timed alone: no file is read meanwhile."""
    (tmp_path / "fake.py").write_text(FAKE)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(FOLDER)]))
    peers = npbench.load_peers()
    peer = peers.Operations("fake", "", sys.executable, 1, tmp_path)
    try:
        row = npbench.run("mlp", shapes["mlp"], peer, 1, 1e-6)["versions"]["JAX jit"]
    finally:
        peer.close()
    assert row["versions"] == {"fake": "1"} and row["error"] < npbench.TOLERANCE
    assert row["first_call_seconds"] == row["timing"]["median"] == 0.25


def test_what_is_wrong_is_named_and_not_timed(npbench, shapes, capsys, monkeypatch):
    monkeypatch.setattr(npbench.with_kernels, "mlp", lambda *arrays: npbench.cases.mlp(*arrays) + 0.1)
    assert npbench.main(["--repeat", "1", "--case", "mlp"], shapes) == 1
    said = capsys.readouterr().out
    assert "siamese_np: its result is wrong, off by" in said and "| siamese_np " not in said
    monkeypatch.setattr(npbench.with_kernels, "mlp", lambda *arrays: 1 / 0)
    assert npbench.main(["--repeat", "1", "--case", "mlp"], shapes) == 1
    assert "siamese_np: it raises ZeroDivisionError: division by zero." in capsys.readouterr().out


def test_the_holes_in_npbench_s_verification(npbench, shapes, capsys):
    assert npbench.main(["--checks", "--json"], shapes) == 0
    rows = {(row["case"], row["mistake"]): row for row in json.loads(capsys.readouterr().out)["checks"]}
    # any shift is right where nothing overflows, as at these sizes
    assert [mistake for (_, mistake), row in rows.items() if row["ours"]] == [
        "softmax shifted by another row's maximum"
    ]
    assert rows["mlp", "without ReLU"]["rule"] and rows["lenet", "without ReLU"]["rule"]  # nothing is negative there
    assert not rows["conv2d_bias", "filters flipped"]["rule"]
    assert npbench.main(["--checks"], shapes) == 0
    said = capsys.readouterr().out
    assert "accepted" in said and said.endswith(npbench.FOOTNOTE + "\n")


def test_its_rule(npbench):
    one = np.ones(3, np.float32)
    assert npbench.accepts([one], [one + np.float32(1e-6)]) and not npbench.accepts([one], [one + np.float32(1e-3)])
    assert not npbench.accepts([one], [np.full(3, np.nan, np.float32)]) and npbench.accepts([], [])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--repeat", "0"], "--repeat must be at least 1, not 0"),
        (["--peer-python", "/no/such/python"], "must name a Python interpreter"),
    ],
)
def test_mistakes_are_one_sentence(npbench, shapes, capsys, arguments, says):
    assert npbench.main(arguments, shapes) == 2
    said = capsys.readouterr().err
    assert says in said and said.count("\n") == 1


def test_too_little_memory(npbench, capsys):
    assert npbench.main(["--case", "mlp"], {"mlp": npbench.cases.mlp_shapes(8, 3, 10**6, 10**7, 10)}) == 2
    assert "GB are free" in capsys.readouterr().err
