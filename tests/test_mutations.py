"""The checker's own test: seeded faults are found and named, correct gradients never raise an alarm."""

import functools
import re
import zlib

import mutants
import numpy as np
import pytest
from mutants import MUTANTS, OPERATIONS, case_of

from siamese_np.gradcheck.engine import Options, check_case
from siamese_np.gradcheck.scope import section

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
    assert len(REAL) >= 90
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)


@functools.cache
def said(mutant, seed):
    return mutants.hints(mutant, seed)  # and it is caught


@pytest.mark.parametrize("mutant", REAL, ids=lambda mutant: mutant.name)
def test_every_fault_fails(mutant):
    for seed in range(2):
        said(mutant, seed)


def test_nine_hints_in_ten_name_the_cause_and_hardly_one_names_another():
    runs = [(mutant, seed) for mutant in REAL for seed in range(2)]
    unnamed = [(m.name, said(m, s)) for m, s in runs if not mutants.is_named(m, said(m, s))]
    wrong = [(m.name, found) for m, s in runs if (found := mutants.wrong_hints(m, said(m, s)))]
    assert len(unnamed) <= 0.1 * len(runs), unnamed
    assert len(wrong) <= 0.03 * len(runs), wrong


def test_a_hint_that_names_another_mistake_is_counted_as_wrong():
    fault = next(mutant for mutant in REAL if mutant.hint == "sign")
    assert mutants.wrong_hints(fault, ["x: every entry is divided by 2: a factor 2", "x: the wrong sign"]) == [
        "x: every entry is divided by 2: a factor 2"
    ]


def test_every_mistake_that_is_named_has_a_section_that_explains_it():
    for mutant in REAL:
        for hint in said(mutant, 0):
            if not re.search(mutants.DESCRIBES, hint) and re.search(mutant.hint, hint) and "NaN" not in hint:
                assert section(hint), hint


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


def alarms(seeds):
    """How many cases the seeds make, and those whose correct gradient does not pass.

    A seed stands for one operation, in turn, and for one point of it or two, drawn anew: each point is a case. So what
    is counted are complaints about cases of all operations alike, declared with their convention at kinks.
    """
    names, cases, found = list(OPERATIONS), 0, []
    for seed in seeds:
        name = names[seed % len(names)]
        for arrays in points(name, seed):
            operation = OPERATIONS[name]
            result = check_case(case_of(operation, operation.backward, arrays, name), Options(seed))
            cases += 1
            if result.verdict != "PASS":
                found.append((seed, name, result))
    return cases, found


def test_no_false_alarm():
    _, found = alarms(range(2 * len(OPERATIONS)))
    assert not found


@pytest.mark.long
def test_no_false_alarm_over_a_thousand_seeds():
    cases, found = alarms(range(SEEDS))
    # the rule of three: of n independent cases without a complaint, the rate is below 3 / n with 95 % confidence
    print(f"{len(found)} complaints in {cases} cases of {SEEDS} seeds; none: a rate below {3 / cases:.2%}")
    assert not found


@pytest.mark.parametrize("scale", [1e-9, 1e9])
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
        wrong = lambda dout, *arrays, mutant=mutant: [scale * g for g in mutant.backward(dout, *arrays)]  # noqa: E731
        assert "FAIL" in [check_case(case_of(scaled, wrong, p, name)).verdict for p in points(name, 0)], mutant.name


def hints_of(forward, backward, *arrays):
    operation = mutants.Operation(forward, backward, lambda rng: [list(arrays)])
    return [array.hint for array in check_case(case_of(operation, backward, list(arrays), "f", False)).arrays]


def test_a_hint_says_less_rather_than_what_fits_by_chance():
    rng = np.random.default_rng(0)
    a, p, n = rng.standard_normal((3, 4, 3))
    p[0] = a[0]  # the hinge of the first triplet is inactive

    def triplet(a, p, n):
        return np.maximum(((a - p) ** 2).sum(1) - ((a - n) ** 2).sum(1) + 0.1, 0).mean()

    def no_hinge(dout, a, p, n):
        return dout / 2 * (n - p), dout / 2 * (p - a), dout / 2 * (a - n)

    # with n or p turned no hinge is inactive, and the gradient correct: that is not the cause
    assert all("should get no gradient" in hint for hint in hints_of(triplet, no_hinge, a, p, n))

    def prelu(x, slope):
        return np.where(x > 0, x, slope * x)

    def no_slope(dout, x, slope):  # some rate makes every single number what it should be
        return dout, np.asarray((dout * np.minimum(x, 0)).sum())

    (said, _) = hints_of(prelu, no_slope, rng.standard_normal((4, 5)), np.array(0.3))
    assert "x is negative" in said

    def weighted(v):
        return v / np.linalg.norm(v)

    # of one vector, what is missing is a multiple of it: no weight decay
    (said,) = hints_of(weighted, lambda dout, v: (dout / np.linalg.norm(v),), rng.standard_normal(7))
    assert "normalisation" in said


@pytest.mark.parametrize(("at_zero", "elsewhere", "where"), [(1, 0, "is 0"), (0, 1, "is not 0")])
def test_a_hint_tells_entries_at_0_from_all_others(at_zero, elsewhere, where):
    x = np.array([0, 0.5, -0.7, 0, 1.2, 0, -0.3, 0.9, 0, 0.4])

    def wrong(dout, x):
        return (dout * np.cos(x) + np.where(x == 0, at_zero, elsewhere) * (dout**2 + np.sin(9 * dout)),)

    (said,) = hints_of(np.sin, wrong, x)
    assert f"exactly the entries where x {where} are wrong" in said


def test_a_missing_regularisation_is_not_called_an_added_one_whatever_the_sign_of_dout():
    x, w = np.random.default_rng(0).standard_normal((2, 4, 4))
    operation = mutants.Operation(
        lambda x, w: ((x @ w) ** 2).sum() + 0.1 * (w**2).sum(),
        lambda dout, x, w: (2 * dout * x @ w @ w.T, 2 * dout * x.T @ (x @ w)),
        lambda rng: [],
    )
    for seed in range(4):  # both signs of dout
        case = case_of(operation, operation.backward, [x, w], "ridge", False)
        assert check_case(case, Options(seed)).arrays[1].hint.startswith("0.2 times w itself is missing from")


def test_a_lost_temperature_a_lost_norm_and_a_lost_stride_of_one_picture():
    rng = np.random.default_rng(0)
    scores = rng.standard_normal((5, 3))
    classes = np.eye(3)[[0, 2, 1, 2, 0]]

    def loss(scores):
        return -(classes * np.log(mutants.softmax(scores / 0.5))).sum() / 5

    (said,) = hints_of(loss, lambda dout, s: (dout * (mutants.softmax(s) - classes) / 5,), scores)
    assert "a temperature or scale of 0.5 is lost" in said

    a, b = rng.standard_normal((2, 4, 3))

    def cosine(a, b):
        return (mutants.unit_forward(a) * mutants.unit_forward(b)).sum(axis=1)

    def no_norm(dout, a, b):  # as if the norms were constant
        norms = (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))[:, None]
        return dout[:, None] * b / norms, dout[:, None] * a / norms

    assert all("multiple of" in hint and "its norm" in hint for hint in hints_of(cosine, no_norm, a, b))

    def conv(x, w):
        return np.array([[(x[2 * i : 2 * i + 3, 2 * j : 2 * j + 3] * w).sum() for j in range(3)] for i in range(3)])

    def no_stride(dout, x, w):
        dx = np.zeros_like(x)
        for i, j in np.ndindex(3, 3):
            dx[2 * i : 2 * i + 3, 2 * j : 2 * j + 3] += dout[i, j] * w
        return dx, sum(dout[i, j] * x[i : i + 3, j : j + 3] for i, j in np.ndindex(3, 3))

    said = hints_of(conv, no_stride, rng.standard_normal((7, 7)), rng.standard_normal((3, 3)))
    assert said == ["", "as if the stride were (1, 1), not (2, 2)"]
