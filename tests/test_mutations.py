"""The checker's own test: seeded faults are found and named, correct gradients never raise an alarm."""

import re
import zlib

import mutants
import numpy as np
import pytest
from mutants import CANNOT_TELL, CAUGHT, MUTANTS, OPERATIONS, PASSED, case_of, outcome, overall

from siamese_np.gradcheck.engine import Options, check_case

REAL = [mutant for mutant in MUTANTS if not mutant.equivalent]
EQUIVALENT = [mutant for mutant in MUTANTS if mutant.equivalent]
SEEDS = 1000


def points(operation: str, seed: int):
    return OPERATIONS[operation].points(np.random.default_rng([seed, zlib.crc32(operation.encode())]))


def check(mutant, seed):
    operation = OPERATIONS[mutant.operation]
    return [
        check_case(case_of(operation, mutant.backward, p, "mutant"), Options(seed))
        for p in points(mutant.operation, seed)
    ]


def test_there_are_enough_faults_and_each_is_named_once():
    assert len(REAL) >= 40
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)


@pytest.mark.parametrize("mutant", REAL, ids=lambda mutant: mutant.name)
def test_every_fault_fails(mutant):
    for seed in range(2):
        assert "FAIL" in [result.verdict for result in check(mutant, seed)]


def test_nine_hints_in_ten_name_the_cause():
    named, unnamed = 0, []
    for mutant in REAL:
        results = check(mutant, 0)
        said = [t.hint for r in results for t in r.arrays] + [c.remark for r in results for c in r.checks]
        if any(re.search(mutant.hint, hint) for hint in said):
            named += 1
        else:
            unnamed.append(mutant.name)
    assert named >= 0.9 * len(REAL), unnamed


@pytest.mark.parametrize("mutant", EQUIVALENT, ids=lambda mutant: mutant.name)
def test_equivalent_faults_change_no_gradient_and_pass(mutant):
    """The reason is in `mutants`; here by example: the same numbers on many points, kinks included."""
    operation = OPERATIONS[mutant.operation]
    for seed in range(200):
        for arrays in points(mutant.operation, seed):
            dout = np.random.default_rng(seed).standard_normal(np.shape(operation.forward(*arrays)))
            for ours, correct in zip(mutant.backward(dout, *arrays), operation.backward(dout, *arrays), strict=True):
                np.testing.assert_allclose(ours, correct, rtol=1e-13, atol=1e-15)
    assert [result.verdict for result in check(mutant, 0)] == ["PASS"] * len(points(mutant.operation, 0))


def test_no_false_alarm_over_a_thousand_seeds():
    """Each seed draws one operation's points and checks the correct gradients; every verdict is PASS."""
    names, alarms = list(OPERATIONS), []
    for seed in range(SEEDS):
        name = names[seed % len(names)]
        for arrays in points(name, seed):
            operation = OPERATIONS[name]
            result = check_case(case_of(operation, operation.backward, arrays, name), Options(seed))
            if result.verdict != "PASS":
                alarms.append((seed, name, result))
    assert not alarms


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
@pytest.mark.parametrize("name", ["dense", "relu", "distance", "contrastive"])
def test_the_verdict_does_not_depend_on_the_size_of_the_loss(name, scale):
    operation = OPERATIONS[name]
    scaled = mutants.Operation(
        lambda *arrays: scale * operation.forward(*arrays),
        lambda dout, *arrays: operation.backward(scale * dout, *arrays),
        operation.points,
    )
    for arrays in points(name, 0):
        assert check_case(case_of(scaled, scaled.backward, arrays, name)).verdict == "PASS"
    for mutant in (m for m in REAL if m.operation == name):
        wrong = lambda dout, *arrays, mutant=mutant: mutant.backward(scale * dout, *arrays)  # noqa: E731
        verdicts = [check_case(case_of(scaled, wrong, p, name)).verdict for p in points(name, 0)]
        unscaled = [result.verdict for result in check(mutant, 0)]
        assert "FAIL" in verdicts and "FAIL" in unscaled, mutant.name


def test_the_rules_of_others_accept_correct_gradients_and_let_faults_pass():
    """The table's other columns are no straw men: each accepts a smooth correct pass, and finds a wrong sign."""
    operation, rng = OPERATIONS["conv2d"], np.random.default_rng(0)
    (arrays,) = points("conv2d", 0)
    sign = next(mutant for mutant in REAL if mutant.name == "conv2d: dx has the wrong sign")
    small = next(mutant for mutant in REAL if mutant.name == "dense, outputs of 1e-7: dx has the wrong sign")
    for name, rule in mutants.RULES.items():
        assert rule(operation, operation.backward, arrays, rng), name
        assert not all(rule(operation, sign.backward, arrays, np.random.default_rng(s)) for s in range(10)), name
    assert outcome(mutants.RULES["Caffe"], small, 0) == PASSED
    assert outcome(mutants.CHECKERS["ours"], small, 0) == CAUGHT


def test_a_checker_that_refuses_the_correct_gradient_too_cannot_tell():
    torch = mutants.RULES["PyTorch slow"]
    for name, kind in (
        ("dense: dw of abs(dout)", PASSED),
        ("dense: dw is divided by N", CAUGHT),
        ("relu: slope 1 at 0 (>= for >)", CANNOT_TELL),
        ("maxpool2d: last maximum of a tie", CANNOT_TELL),
    ):
        assert outcome(torch, next(mutant for mutant in REAL if mutant.name == name), 0) == kind, name
    assert overall([CAUGHT, CAUGHT]) == CAUGHT
    assert overall([CAUGHT, CANNOT_TELL]) == CANNOT_TELL
    assert overall([CAUGHT, CANNOT_TELL, PASSED]) == PASSED


def test_the_readme_has_the_figures_of_the_results():
    page = mutants.PAGE.read_text()
    counted = page.split("\n\n")[2]
    assert counted in (mutants.PAGE.parents[2] / "README.md").read_text()
    rows = {
        cells[1].strip(): [int(n) for n in cells[2:5]] for cells in (r.split("|") for r in counted.splitlines()[2:])
    }
    assert list(rows) == list(mutants.CHECKERS) and all(sum(counts) == len(REAL) for counts in rows.values())
    assert rows["ours"] == [len(REAL), 0, 0]
    for mutant in REAL:
        assert f"| {mutant.name} | caught |" in page
