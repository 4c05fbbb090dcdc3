"""NPBench's cases at tiny sizes: every version is right, a wrong one is named, and the holes are where we say."""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).parent.parent / "benchmarks" / "npbench"


@pytest.fixture(scope="module")
def npbench():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        run = importlib.import_module("run")
        patch.setattr(importlib.import_module("siamese_np.bench.sampling"), "SETTLE_SECONDS", 0)
        patch.setattr(run, "with_numba", run.cases)  # compiled they take seconds: see the command
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
    assert rows["conv2d_bias", "filters flipped"]["in_place"] and rows["lenet", "without ReLU"]["in_place"] is None
    assert npbench.main(["--checks"], shapes) == 0
    assert "accepted" in capsys.readouterr().out


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
