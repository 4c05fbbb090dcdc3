"""The checker's own test: seeded faults are found and named, correct gradients never raise an alarm."""

import re
import zlib

import mutants
import numpy as np
import pytest
from mutants import MUTANTS, OPERATIONS, case_of

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
