"""The comparison with other checkers: what counts as caught, that each is asked fairly, and the figures told."""

import re

import checkers
import numpy as np
import pytest
from checkers import CANNOT_TELL, CAUGHT, FAULTS, INSTALLED, KINDS, KINKS, PASSED, PUBLIC, RULES, outcome, overall


def fault(name):
    return next(fault for fault in FAULTS if fault.name == name)


def test_every_fault_is_of_one_kind_and_wrong_at_its_points():
    assert {fault.kind for fault in FAULTS} == set(KINDS)
    assert sum(fault.kind == PUBLIC for fault in FAULTS) == 20
    for seed in range(3):
        assert all(fault.points(seed) for fault in FAULTS)
    assert fault("relu: slope 1 at 0 (>= for >)").kind == KINKS
    assert fault("relu: no mask").kind != KINKS  # wrong everywhere below 0


@pytest.mark.parametrize("name", [*RULES, *INSTALLED])
def test_each_accepts_a_correct_pass_and_refuses_a_wrong_sign(name):
    """The other rows of the table are no straw men."""
    if name in INSTALLED:
        module, checker = INSTALLED[name]
        pytest.importorskip(module)
    else:
        checker = RULES[name]
    sign = fault("conv2d: dx has the wrong sign")
    (arrays,) = sign.points(0).values()
    rngs = [np.random.default_rng(seed) for seed in range(5)]
    if "rtol 1e-6" not in name:  # the difference at its step is not so exact
        assert checker(sign.operation, sign.operation.backward, arrays, rngs[0])
    assert not all(checker(sign.operation, sign.backward, arrays, rng) for rng in rngs)


def test_outcomes():
    for name, rule, kind in (
        ("dense: dw of abs(dout)", "Caffe", PASSED),
        ("dense, outputs of 1e-7: dx has the wrong sign", "Caffe", PASSED),
        ("dense: dw is divided by N", "Caffe", CAUGHT),
        ("maxpool2d: last maximum of a tie", "Caffe", CANNOT_TELL),
        ("relu: slope 1 at 0 (>= for >)", "cs231n", CANNOT_TELL),
    ):
        assert outcome(RULES[rule], fault(name), 0) == kind, name
    assert outcome(checkers.ours, fault("dense, outputs of 1e-7: dx has the wrong sign"), 0) == CAUGHT


def test_a_checker_that_cannot_decide_cannot_tell():
    sign = fault("dense: dx = dout @ w (not w.T)")
    wrong = sign.backward
    for of_fault, of_correct, kind in (
        (False, True, CAUGHT),
        (False, None, CAUGHT),
        (False, False, CANNOT_TELL),
        (None, True, CANNOT_TELL),
        (True, False, PASSED),
    ):
        says = lambda o, backward, a, rng, w=of_fault, c=of_correct: w if backward is wrong else c  # noqa: E731
        assert outcome(says, sign, 0) == kind
    assert overall([CAUGHT, CAUGHT]) == CAUGHT
    assert overall([CAUGHT, CANNOT_TELL]) == CANNOT_TELL
    assert overall([CAUGHT, CANNOT_TELL, PASSED]) == PASSED


def test_a_checker_that_is_not_installed_is_named_as_such(monkeypatch):
    monkeypatch.setattr(checkers, "find_spec", lambda name: None)
    found = {name: [[CAUGHT] for _ in FAULTS] for name in checkers.available()}
    assert not set(found) & set(INSTALLED)
    lines = checkers.summary(found).splitlines()
    assert sum("not installed here" in line for line in lines) == len(INSTALLED)


def test_the_readme_has_the_figures_of_the_results():
    page = checkers.PAGE.read_text()
    summary = next(part for part in page.split("\n\n") if part.startswith("| caught"))
    readme = (checkers.PAGE.parents[2] / "README.md").read_text()
    shown = [line for line in summary.splitlines() if "(its rule)" not in line]
    assert "\n".join(shown) in readme
    rows = {line.split(" | ")[0].strip("| "): re.findall(r"\d+ / \d+ / \d+", line) for line in shown[2:]}
    totals = [sum(fault.kind == kind for fault in FAULTS) for kind in KINDS]
    for name, cells in rows.items():
        assert cells == [] or [sum(map(int, cell.split(" / "))) for cell in cells] == totals, name
    assert rows["ours"][:2] == [f"{total} / 0 / 0" for total in totals[:2]]
    for each in FAULTS:
        assert f"| {each.name} | caught |" in page or each.kind == KINKS
