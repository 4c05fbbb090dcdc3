"""The gradient checker: verdicts, steps, kinks, references, structure, layers of users, and the command."""

import copy
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from siamese_np.backend import ops, use_kernels
from siamese_np.cli import main
from siamese_np.distances import PairwiseDistances
from siamese_np.errors import OptionError, ShapeError
from siamese_np.gradcheck import InvalidReference, assert_gradients, check_gradients, complex_step
from siamese_np.gradcheck import curve as curves
from siamese_np.gradcheck.adapters import function_case
from siamese_np.gradcheck.case import Case
from siamese_np.gradcheck.cases import check_target
from siamese_np.gradcheck.cases.networks import Pairs
from siamese_np.gradcheck.cases.operations import OPERATIONS
from siamese_np.gradcheck.engine import check_case
from siamese_np.layers import Dense, Flatten, ReLU
from siamese_np.losses import AllPairsContrastiveLoss, ContrastiveLoss
from siamese_np.network import Sequential
from siamese_np.presets import PRESETS, make_network

X = np.random.default_rng(5).standard_normal((4, 3))


def check(forward, backward, *arrays, **options):
    return check_gradients(forward, *arrays, backward=backward, **options)


def elementwise(f, df):
    """forward and backward of a function of each entry."""
    return lambda x: (f(x), x), lambda dout, x: dout * df(x)


def findings(report) -> str:
    return "\n".join(check.remark for case in report.cases for check in case.checks if check.verdict != "PASS")


# --- steps and verdicts -----------------------------------------------------------------------------------

SMOOTH = {
    "sin": (np.sin, np.cos),
    "exp": (np.exp, np.exp),
    "cube": (lambda x: x**3, lambda x: 3 * x**2),
    "tanh": (np.tanh, lambda x: 1 - np.tanh(x) ** 2),
}


@pytest.mark.parametrize("name", SMOOTH)
def test_a_smooth_function_draws_a_v(name):
    """Slope 2 at the right, -1 at the left, and a floor of 1e-9 or less: measured on a mean of many entries."""
    x = np.random.default_rng(0).standard_normal(400)
    report = check(*elementwise(*SMOOTH[name]), x)
    assert report.passed
    right, left, floor = curves.arms(report.cases[0].arrays[0].curve)
    assert right == pytest.approx(2, abs=0.2) and left == pytest.approx(-1, abs=0.3) and floor <= 1e-9


def test_a_wrong_gradient_draws_a_flat_line():
    report = check(*elementwise(np.sin, lambda x: 1.01 * np.cos(x)), X)
    errors = [central for _, central, _ in report.cases[0].arrays[0].curve[6:]]
    assert report.verdict == "FAIL" and max(errors) < 1.01 * min(errors)
    assert curves.arms(report.cases[0].arrays[0].curve)[:2] == (None, None)


def test_no_plateau_is_inconclusive():
    """A function that differences cannot see through: it computes in float32."""
    coarse = lambda x: (np.sin(x.astype(np.float32)).astype(float), x)  # noqa: E731
    cosine = lambda dout, x: dout * np.cos(x)  # noqa: E731
    assert check(coarse, cosine, X).verdict == "INCONCLUSIVE"
    with pytest.raises(AssertionError, match="INCONCLUSIVE"):
        assert_gradients(coarse, X, backward=cosine)
    assert check(coarse, lambda dout, x: -dout * np.cos(x), X).verdict == "FAIL"  # good enough to see a wrong sign


def test_a_step_out_of_the_domain_is_left_out():
    def log(x):
        if not (x > 0).all():
            raise ValueError("the logarithm of nothing")
        return np.log(x), x

    x = np.array([0.01, 0.5, 3.0, 4.0])
    assert check(log, lambda dout, x: dout / x, x).passed
    assert check(log, lambda dout, x: 1.001 * dout / x, x).verdict == "FAIL"


@pytest.mark.parametrize("scale", [1e-30, 1e-9, 1.0, 1e9, 1e30])
def test_neither_the_size_of_the_output_nor_that_of_the_input_matters(scale):
    right = elementwise(lambda x: scale * np.sin(x), lambda x: scale * np.cos(x))
    wrong = elementwise(lambda x: scale * np.sin(x), lambda x: scale * np.cos(x) * np.where(x == X[1, 1], 1.001, 1))
    assert check(*right, X).passed and check(*wrong, X).verdict == "FAIL"
    right = elementwise(lambda x: np.sin(x / scale), lambda x: np.cos(x / scale) / scale)
    wrong = elementwise(lambda x: np.sin(x / scale), lambda x: np.cos(x / scale) / scale * 1.001)
    assert check(*right, X * scale).passed and check(*wrong, X * scale).verdict == "FAIL"


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_fail_in_a_gradient_and_leave_an_output_undecided(bad):
    def backward(dout, x):
        dx = dout * np.cos(x)
        dx[2, 1] = bad
        return dx

    report = check(lambda x: (np.sin(x), x), backward, X)
    assert report.verdict == "FAIL" and "[2, 1]" in findings(report)
    both = check(lambda x: (np.sin(x) * bad, x), lambda dout, x: dout * bad, X)
    assert both.verdict == "INCONCLUSIVE" and "the output holds" in findings(both)


def test_what_says_nothing_is_no_success():
    constant = check(lambda x: (np.zeros(3), x), lambda dout, x: np.zeros_like(x), X)
    assert constant.verdict == "INCONCLUSIVE" and "0 throughout" in str(constant)
    dead = check(lambda x: (np.maximum(x - 100, 0), x), lambda dout, x: dout * (x > 100), X)
    assert dead.verdict == "INCONCLUSIVE"
    empty = check(*elementwise(np.sin, np.cos), np.zeros((0, 3)))
    assert empty.verdict == "INCONCLUSIVE"
    for tolerance in (0.1, 0.5, 1, 0, -1, np.nan):
        with pytest.raises(OptionError, match="tolerance"):
            check(*elementwise(np.sin, np.cos), X, tolerance=tolerance)
    with pytest.raises(TypeError, match="three verdicts"):
        assert not constant


def test_a_branch_that_is_never_taken_is_no_success():
    case = OPERATIONS["relu"](np.random.default_rng(0), None)[0]
    case.arrays["x"][...] = abs(case.arrays["x"])
    result = check_case(case)
    assert result.verdict == "INCONCLUSIVE" and "never: off" in str(result.checks)


def test_one_wrong_entry_of_twenty_thousand():
    """Too many to check one by one: random directions of +-1 show it, if it is off by 1 % of the mean size."""
    x = np.random.default_rng(1).standard_normal(20_000)
    gradient = np.random.default_rng(2).standard_normal(20_000)

    def backward(dout, size):
        dx = dout * gradient
        dx[16_543] += size * abs(dout) * np.sqrt((gradient**2).mean())
        return dx

    forward = lambda x: ((x * gradient).sum(), None)  # noqa: E731
    right = check(forward, lambda dout, _: backward(dout, 0), x)
    assert right.passed and right.cases[0].arrays[0].directions == 8
    for size in (-0.01, 1):
        assert check(forward, lambda dout, _, size=size: backward(dout, size), x).verdict == "FAIL"
    few = x[:4999]
    report = check(lambda x: (x**2, x), lambda dout, x: 2 * dout * x * (1 + 1e-3 * (x == few[777])), few)
    assert report.verdict == "FAIL" and report.cases[0].arrays[0].worst[0].index == (777,)


# --- entries much smaller than the largest ----------------------------------------------------------------


def squares(small, factor=1.0):
    """The sum of squares at three numbers, one of them small; the gradient of that one times `factor`."""
    factors = np.array([factor, 1, 1])
    return check(lambda x: ((x**2).sum(), x), lambda d, x: 2 * d * x * factors, np.array([small, 1.0, -2.0]))


@pytest.mark.parametrize("small", [1e-3, 1e-5, 1e-8])
def test_small_entries_are_compared_at_their_own_size(small):
    assert squares(small).passed
    for factor in (-1, 0, 0.5, 1.01):
        report = squares(small, factor)
        tensor = report.cases[0].arrays[0]
        wrong = [entry.index for entry in tensor.worst if not isinstance(entry.index, str)]
        assert report.verdict == "FAIL" and wrong == [(0,)], factor
    assert "much smaller than the largest" in squares(1e-8, -1).cases[0].arrays[0].hint


def test_a_gradient_of_many_sizes():
    """Each output has a rounding error of its own size, so that the smallest slopes are measured as well as others."""
    x = np.linspace(-20, 3, 40)
    right = check(*elementwise(np.exp, np.exp), x)
    assert right.passed and right.cases[0].arrays[0].small == 0
    report = check(*elementwise(np.exp, lambda x: np.exp(x) * np.where(x == -20, -1, 1)), x)
    assert report.verdict == "FAIL" and report.cases[0].arrays[0].worst[0].index == (0,)
    # log(1 + exp(-x)) has small slopes to all digits; sigmoid - 1, its correct gradient, rounds them away
    rounded = check(*elementwise(lambda x: np.log1p(np.exp(-x)), lambda x: 1 / (1 + np.exp(-x)) - 1), x + 17)
    assert rounded.verdict != "FAIL"


def test_entries_too_small_to_judge_are_counted():
    few = squares(1e-12)
    assert few.verdict == "INCONCLUSIVE" and "too small to judge: 1 of 3 entries" in str(few)
    assert squares(1e-14, -1).verdict == squares(1e-12, 1.01).verdict == "INCONCLUSIVE"
    x = np.append(np.random.default_rng(0).standard_normal(60), 1e-12)
    many = check(lambda x: ((x**2).sum(), x), lambda d, x: 2 * d * x, x)
    assert many.passed and many.cases[0].arrays[0].small == 1 and many.cases[0].arrays[0].skipped == 0
    assert "note  x: too small to judge: 1 of 61 entries" in str(many)
    assert str(many).splitlines()[-1].startswith("PASS: ") and "1 too small to judge" in str(many).splitlines()[-1]
    assert "too small" not in str(squares(1e-8))


def test_a_small_slope_at_a_kink_lies_between_its_sides_too():
    x = np.linspace(-1, 1, 40)
    x[7] = 0
    scale = np.where(x == 0, 1e-9, 1.0)
    for slope, verdict in ((0, "PASS"), (0.5, "PASS"), (1, "PASS"), (-1, "FAIL"), (2, "FAIL")):
        backward = lambda dout, x, slope=slope: dout * scale * np.where(x == 0, slope, x > 0)  # noqa: E731
        assert check(lambda x: (scale * np.maximum(x, 0), x), backward, x).verdict == verdict


# --- kinks ------------------------------------------------------------------------------------------------


def relu(slope):
    """A ReLU as a black box, with `slope` at 0."""
    return lambda x: (np.maximum(x, 0), x), lambda dout, x: dout * np.where(x == 0, slope, x > 0)


@pytest.mark.parametrize("offset", [0, 5e-5, -5e-5, 1e-9])
def test_a_kink_is_found_at_and_beside_it(offset):
    x = np.linspace(-1, 1, 40)
    x[7] = offset
    (tensor,) = check(*relu(0), x).cases[0].arrays
    assert tensor.kinks == 1 and tensor.verdict == "PASS"


def test_a_slope_outside_of_both_sides_fails():
    x = np.linspace(-1, 1, 40)
    x[7] = 0
    for slope in (0, 0.3, 1):
        assert check(*relu(slope), x).passed
    for slope in (-0.1, 1.001, 1.5, 2):
        report = check(*relu(slope), x)
        wrong = report.cases[0].arrays[0].worst[0]
        assert report.verdict == "FAIL" and wrong.index == (7,) and wrong.kink == "at"
        assert "kink" in report.cases[0].arrays[0].hint


def test_too_many_kinks_are_no_success():
    report = check(*relu(0), np.zeros(5))
    assert report.verdict == "INCONCLUSIVE" and "lie at kinks" in str(report)


def maximum(share):
    """The largest of each row, and what each of the entries that tie for it gets."""

    def backward(dout, x):
        return dout[:, None] * (x == x.max(axis=1, keepdims=True)) * share

    return lambda x: (x.max(axis=1), x), backward


def test_a_tie_is_bracketed_along_the_diagonal_too():
    """(1, 1) lies between 0 and 1 in each entry, but together both entries move the maximum once, not twice."""
    x = np.random.default_rng(0).permutation(120).reshape(40, 3) / 120
    assert check(*maximum(1), x).passed
    x[3, :2] = 2
    report = check(*maximum(1), x)
    assert report.verdict == "FAIL" and "together: x[3, 0], x[3, 1]" in findings(report)
    assert all(isinstance(entry.index, str) for entry in report.cases[0].arrays[0].worst)  # no entry alone shows it
    assert check(*maximum(np.array([0.5, 0.5, 1])), x).verdict == "FAIL"  # and the rows without a tie


def second_of_the_tie(dx, x):
    """Hand what the first pixel of a black window got to its second."""
    dx = dx.copy()
    dx[0, 0, 1], dx[0, 0, 0] = dx[0, 0, 0], 0
    return dx


@pytest.mark.parametrize(
    ("name", "number", "other"),
    [
        ("relu", 1, lambda dx, x: dx + 0.5 * (x == 0)),
        ("maxpool2d", 1, second_of_the_tie),
        ("distance", 1, lambda dx, x: dx + 0.1 * (dx == 0)),
    ],
)
def test_declared_conventions_are_enforced(name, number, other):
    """Of all slopes that a kink allows, only the declared one passes for our operations."""
    case = OPERATIONS[name](np.random.default_rng(0), None)[number]
    result = check_case(case)
    assert result.verdict == "PASS" and result.arrays[0].kinks > 0
    first, right = next(iter(case.arrays)), case.backward
    case.backward = lambda dout, cache: {
        key: other(dx, case.arrays[key]) if key == first else dx for key, dx in right(dout, cache).items()
    }
    result = check_case(case)
    assert result.verdict == "FAIL" and "declared convention" in str(result.arrays)


def test_a_hinge_at_its_margin_is_a_kink_though_its_slopes_agree():
    far = OPERATIONS["contrastive"](np.random.default_rng(0), None)[1]
    result = check_case(far)
    assert result.verdict == "PASS" and result.arrays[0].kinks == 1


@pytest.mark.long
def test_a_fault_that_shows_only_after_a_burn_in():
    """Pushing pairs beyond the margin changes nothing while there are none."""

    def wrong(dist, label, margin, dloss):
        return dloss / len(dist) * np.where(label == 0, dist, dist - margin)

    for preset in ("cnn", "mlp"):
        rng, shape = np.random.default_rng(0), (6, 4, 4, 1)
        pairs = Pairs(rng, shape)
        network = make_network(preset, input_shape=shape[1:], embedding_size=2, seed=1, dtype=np.float64)
        verdicts = []
        for branches in ((0, 1), (0, 1, 2)):
            case = pairs.case("pairs", network, branches)
            loss = pairs.loss
            loss.backward = lambda cache, dloss=1.0, m=loss.margin: wrong(*cache, m, dloss)
            verdicts.append(check_case(case).verdict)
            del loss.backward
            pairs.burn_in(network)
        assert verdicts == ["PASS", "FAIL"]


# --- references and structure -----------------------------------------------------------------------------


def test_complex_step():
    arrays = {"x": X, "w": np.eye(3)[:, :2] + 0.5}
    dout = np.random.default_rng(0).standard_normal((4, 2))
    gradients = complex_step(lambda a: np.exp(a["x"]) @ a["w"], arrays, dout)
    np.testing.assert_allclose(gradients["x"], np.exp(X) * (dout @ arrays["w"].T), rtol=1e-13)
    np.testing.assert_allclose(gradients["w"], np.exp(X).T @ dout, rtol=1e-13)


@pytest.mark.parametrize(
    ("function", "x"),
    [
        (lambda a: abs(a["x"]), X),
        (lambda a: np.conj(a["x"]) ** 2, X),
        (lambda a: a["x"].real ** 2, X),
        (lambda a: a["x"].max(axis=1), np.ones((2, 3))),  # an unguarded maximum at ties: each claims to be the largest
        (lambda a: np.array([float(v) for v in a["x"].ravel()]), X),
    ],
    ids=["abs", "conj", "real", "max", "float"],
)
def test_a_reference_that_is_not_analytic_is_refused(function, x):
    dout = np.full(np.shape(function({"x": x})), 1.0)
    with pytest.raises(InvalidReference, match=r"disagree|cannot be evaluated"):
        complex_step(function, {"x": x}, dout)
    case = function_case("sum", lambda x: (function({"x": x}), x), lambda dout, x: x, [x])
    case.reference = function
    assert check_case(case).verdict != "PASS"


def test_what_is_linear_on_whole_numbers_only_is_not_taken_for_linear():
    """x + floor(x): slope 1 away from the steps, though it is 2x on whole numbers."""
    x = np.random.default_rng(0).standard_normal((6, 10))
    assert check_gradients(lambda x: (x + np.floor(x), None), x, backward=lambda dout, _: dout).verdict == "PASS"


def test_the_adjoint_identity_finds_linear_arrays_by_itself():
    (case, *_) = OPERATIONS["conv2d"](np.random.default_rng(0), None)
    found = {check.name: check.remark for check in check_case(case).checks}
    assert found["adjoint identity"] == found["adjoint identity in float32"] == "linear in x, w, b"
    (view,) = OPERATIONS["flatten"](np.random.default_rng(0), None)
    assert {c.name: c.remark for c in check_case(view).checks}["adjoint identity"] == "linear in x"
    # linear where it was tried, on one side of its kink: no reason to hold it to the identity on the other
    apart = check(
        lambda a, b: (abs(a - b), (a, b)),
        lambda d, c: (d * np.sign(c[0] - c[1]), d * np.sign(c[1] - c[0])),
        [5.0],
        [0.999],
    )
    assert apart.passed
    nonlinear = check(*elementwise(np.sin, np.cos), X)
    assert "adjoint identity" not in [check.name for check in nonlinear.cases[0].checks]


def test_float32_kernels_are_held_to_their_reference():
    (case, *_) = OPERATIONS["dense"](np.random.default_rng(0), None)
    right = case.single
    case.single = lambda arrays: right({**arrays, "w": arrays["w"] * np.float32(1 + 1e-5)})
    faults = [check for check in check_case(case).checks if check.verdict != "PASS"]
    assert not faults  # the reference is given the weights that the kernel was given
    case.single = right
    reference = case.reference
    case.reference = lambda arrays: reference(arrays) * (1 + 5e-6 * (arrays["x"].dtype == np.float64))
    assert any(check.verdict == "FAIL" for check in check_case(case).checks)


@pytest.mark.parametrize("off", [1, 1 + 1e-4])
def test_float32_without_a_reference_is_held_to_the_same_pass_in_float64(off):
    def case(x, factor):
        return function_case("tanh", lambda x: (np.tanh(x) * factor, x), lambda d, x: d / np.cosh(x) ** 2, [x])

    checked = case(X, 1)
    checked.single = lambda arrays: case(arrays["x"], np.float32(off))
    (single,) = (check for check in check_case(checked).checks if check.name == "float32 against float64")
    assert single.verdict == ("PASS" if off == 1 else "FAIL")


class Layer:
    """A correct layer, tanh(x @ w), to be spoiled."""

    def __init__(self):
        self.params = {"w": np.random.default_rng(0).standard_normal((3, 2))}
        self.grads = {"w": np.zeros((3, 2))}

    def forward(self, x):
        out = np.tanh(x @ self.params["w"])
        return out, (x, out)

    def backward(self, dout, cache):
        x, out = cache
        dz = dout * (1 - out**2)
        self.grads["w"] += x.T @ dz
        return dz @ self.params["w"].T


def spoiled(**methods):
    return type("Spoiled", (Layer,), methods)()


def test_a_correct_layer_passes_and_is_left_as_it_was():
    layer = Layer()
    before, x = layer.params["w"].copy(), X.copy()
    report = assert_gradients(layer, x)
    assert report.passed and [t.name for t in report.cases[0].arrays] == ["x", "w"] and not report.cases[0].notes
    np.testing.assert_array_equal(layer.params["w"], before)
    np.testing.assert_array_equal(x, X)


def raises(self, *_):
    raise KeyError("weights")


def changes_input(self, x):
    x += 1
    return Layer.forward(self, x)


def changes_dout(self, dout, cache):
    dout *= 2
    return Layer.backward(self, dout, cache)


def is_random(self, x):
    return Layer.forward(self, x + np.random.default_rng().normal(size=x.shape))


def keeps_cache_on_itself(self, dout, cache):
    return Layer.backward(self, dout, self.last)


def forward_that_keeps(self, x):
    out, self.last = Layer.forward(self, x)
    return out, None


FAULTS = {
    "forward raises": (dict(forward=raises), r"forward raised KeyError: 'weights' \(test_gradcheck.py, line \d+\)"),
    "backward raises": (dict(backward=raises), r"backward raised KeyError: 'weights'"),
    "forward exits": (dict(forward=lambda self, x: sys.exit(3)), "forward raised SystemExit: 3"),
    "forward returns integers": (dict(forward=lambda self, x: (x.astype(int), x)), "floating-point numbers"),
    "float16 output": (dict(forward=lambda self, x: (x.astype(np.float16), x)), "turned float64 into float16"),
    "wrong shape": (
        dict(backward=lambda self, dout, cache: dout),
        r"gradient of x has shape \(4, 2\), but x has shape \(4, 3\)",
    ),
    "wrong dtype": (
        dict(backward=lambda self, dout, cache: Layer.backward(self, dout, cache).astype(np.float16)),
        "the gradient of x is float16, but x is float64",
    ),
    "two arrays": (
        dict(backward=lambda self, dout, cache: (Layer.backward(self, dout, cache), dout)),
        "must return one gradient, that of the input, but it returned a tuple of 2",
    ),
    "no array": (dict(backward=lambda self, dout, cache: None), "it returned None"),
    "changes its input": (dict(forward=changes_input), r"forward changed its input x at \[\d, \d\]"),
    "changes dout": (dict(backward=changes_dout), r"backward changed its argument dout at \[\d, \d\]"),
    "is random": (dict(forward=is_random), "forward is random or keeps a state"),
    "NaN output": (dict(forward=lambda self, x: (x * np.nan, x)), r"the output holds NaN at \[0, 0\]"),
    "NaN gradient": (
        dict(backward=lambda self, dout, cache: Layer.backward(self, dout, cache) * np.nan),
        r"the gradient of x holds NaN at \[0, 0\] \(12 of 12",
    ),
    "cache on the layer": (
        dict(forward=forward_that_keeps, backward=keeps_cache_on_itself),
        "must be in the cache, not on the layer",
    ),
}


@pytest.mark.parametrize("method", ["forward", "backward"])
def test_a_pass_that_found_no_memory_is_not_wrong(method):
    def lacks_memory(self, *_):
        raise MemoryError("Unable to allocate 1 TiB")

    report = check_gradients(spoiled(**{method: lacks_memory}), X)
    assert report.verdict == "INCONCLUSIVE" and f"{method} raised MemoryError: Unable to allocate 1 TiB" in str(report)


@pytest.mark.parametrize("fault", FAULTS)
def test_each_misbehaviour_has_its_sentence(fault):
    methods, sentence = FAULTS[fault]
    report = check_gradients(spoiled(**methods), X)
    breach = fault in ("changes its input", "cache on the layer")  # of the contract alone: the numbers are right
    assert report.verdict == "PASS" if breach else report.verdict in ("FAIL", "INCONCLUSIVE")
    assert re.search(sentence, str(report)), str(report)
    strict = check_gradients(spoiled(**methods), X, strict=True)
    assert strict.verdict in ("FAIL", "INCONCLUSIVE") and re.search(sentence, str(strict)), str(strict)
    assert "Traceback" not in str(report)


def test_faults_of_structure():
    def wrong(change):
        return check(lambda x: (np.sin(x), x.copy()), change, X)

    calls = []

    def drifts(dout, x, by=1e-6):
        calls.append(1)
        return dout * np.cos(x) * (1 + by * len(calls))

    assert "backward called again" in findings(wrong(drifts))
    # rounding errors that differ from call to call are a fault where the contract is ours, and else none
    case = function_case("drifts", lambda x: (np.sin(x), x.copy()), lambda dout, x: drifts(dout, x, 1e-14), [X])
    assert check_case(case).verdict == "PASS"
    case.strict = True
    assert "backward called again" in str(check_case(case).checks)
    assert "twice dout" in findings(wrong(lambda dout, x: np.cos(x) * np.sign(dout)))
    assert "dout = 0" in findings(wrong(lambda dout, x: dout * np.cos(x) + 1e-3))
    strided = wrong(
        lambda dout, x: (
            np.cos(x) * np.ndarray(dout.shape, dout.dtype, np.asarray(dout).base if dout.base is not None else dout)
        )
    )
    assert "arguments changed" in findings(strided)


def test_overwritten_gradients_are_noted_and_for_our_layers_wrong():
    def overwrites(self, dout, cache):
        self.grads["w"][:] = 0
        return Layer.backward(self, dout, cache)

    report = check_gradients(spoiled(backward=overwrites), X)
    assert report.passed and "one of them is lost" in str(report)

    class Overwriting(Dense):
        def backward(self, dout, cache, need_dx=True):
            self.grads["w"][:] = 0
            return super().backward(dout, cache, need_dx)

    report = check_gradients(Overwriting(3, 2, seed=0, dtype=np.float64), X)
    assert report.verdict == "FAIL" and "one of them is lost" in findings(report)


def test_misuse_of_the_functions():
    for arrays, backward, sentence in (
        ((X, X), None, "forward cannot be called with"),
        ((), None, "at one array"),
        (([[np.nan]],), None, "finite"),
        ((["a"],), None, "real numbers"),
    ):
        with pytest.raises((OptionError, ShapeError), match=sentence):
            check_gradients(Layer(), *arrays, backward=backward)
    with pytest.raises(OptionError, match="no methods forward and backward"):
        check_gradients(3, X)
    with pytest.raises(OptionError, match="nothing to check"):
        check_gradients(np.sin, backward=np.cos)
    layer = Layer()
    layer.params["w"] = layer.params["w"].astype(np.float32)
    layer.grads["w"] = layer.grads["w"].astype(np.float32)
    assert check_gradients(layer, X).passed  # the copies that are checked are of float64
    with pytest.raises(OptionError, match=r"must return 2 gradients \(x, w\), in this order .* but it returned 1"):
        check(lambda x, w: (x @ w, (x, w)), lambda dout, cache: dout @ cache[1].T, X, np.eye(3))


class Attributes:
    """A layer that keeps its arrays as it likes; what it has for gradients of w and b goes by no such name."""

    def __init__(self, where):
        rng = np.random.default_rng(0)
        w, b, unused = rng.standard_normal((3, 2)), np.zeros(2), np.ones((3, 2))
        self.where, self.velocity = where, unused
        self.cached = None
        if where == "attributes":
            self.w, self.b = w, b
        elif where == "list":
            self.weights = [w, b]
        elif where == "nested":
            self.state = {"main": {"w": w}, "rest": ([b],)}
        elif where == "layer":
            self.inner = Attributes("attributes")
        elif where == "objects":
            self.weights = np.array([w, b], dtype=object)
        elif where == "flat":  # w is handed over, and b lies in the same vector
            self.vector = np.concatenate([w.ravel(), b])
            self.params, self.grads = {"w": self.vector[:6].reshape(3, 2)}, {"w": np.zeros((3, 2))}
        elif where == "function":
            self.affine = lambda x: x @ w + b
        elif where == "locked":
            w.flags.writeable = b.flags.writeable = False
            self.w, self.b = w, b
        elif where == "constant":
            self.w, self.b = np.broadcast_to(w[:, :1], (3, 2)), np.frombuffer(b.tobytes())
        elif where == "lazy":
            self.w = self.b = None

    def arrays(self):
        if self.where == "lazy" and self.w is None:
            self.w, self.b = np.random.default_rng(1).standard_normal((3, 2)), np.zeros(2)
        return {
            "list": lambda: self.weights,
            "objects": lambda: self.weights,
            "nested": lambda: (self.state["main"]["w"], self.state["rest"][0][0]),
            "layer": lambda: self.inner.arrays(),
            "flat": lambda: (self.params["w"], self.vector[6:]),
        }.get(self.where, lambda: (self.w, self.b))()

    def forward(self, x):
        self.cached = x.copy()
        if self.where == "function":
            return self.affine(x), x
        w, b = self.arrays()
        return x @ w + b, x

    def backward(self, dout, x):
        if self.where == "flat":
            self.grads["w"] += x.T @ dout
        if self.where == "function":
            return dout @ (self.affine(np.eye(3)) - self.affine(np.zeros((3, 3)))).T
        self.left = 99 * dout.sum(axis=0)
        return dout @ self.arrays()[0].T


class Slotted(Attributes):
    __slots__ = ("hidden",)

    def __init__(self):
        self.where, self.hidden = "slots", (np.ones((3, 2)), np.ones(2))

    def arrays(self):
        return self.hidden


@pytest.mark.parametrize(
    ("where", "named"),
    [
        ("attributes", "w, b are arrays that the output depends on, but not in params: their gradients are not"),
        ("list", "weights[0], weights[1] are arrays"),
        ("nested", "state['main']['w'], state['rest'][0][0] are arrays"),
        ("layer", "inner.w, inner.b are arrays"),
        ("objects", "weights[0], weights[1] are arrays"),
        ("flat", "vector is an array that the output depends on, but not in params: its gradient is not checked"),
        ("function", "affine.b, affine.w are arrays"),
        ("locked", "w, b are arrays"),
        ("constant", "w, b are arrays"),
        ("lazy", "w, b are arrays"),
    ],
)
def test_arrays_whose_gradients_nobody_checks_are_named(where, named):
    layer = Attributes(where)
    report = check_gradients(layer, X)
    assert report.verdict == "INCONCLUSIVE" and named in findings(report)
    assert "velocity" not in str(report) and "cached" not in str(report) and "left" not in str(report)
    w, b = layer.arrays() if where != "function" else (0, 0)
    assert not np.any(b)
    if where == "locked":
        assert not w.flags.writeable and not b.flags.writeable


def test_slots_and_arrays_of_the_class_are_found_too():
    assert "hidden[0], hidden[1] are arrays" in findings(check_gradients(Slotted(), X))
    shared = type("Shared", (Attributes,), {"w": np.ones((3, 2)), "b": np.zeros(2)})
    assert "w, b are arrays" in findings(check_gradients(shared("class"), X))


def test_a_fault_stays_a_fault_beside_arrays_that_are_not_checked():
    class Wrong(Attributes):
        def backward(self, dout, x):
            return -super().backward(dout, x)

    assert check_gradients(Wrong("attributes"), X).verdict == "FAIL"


def test_functions_name_all_that_is_checked():
    """The way out for constants: what a function is not given is none of its arguments."""
    layer = Attributes("attributes")
    assert check(layer.forward, layer.backward, X).passed


def test_parameters_in_a_list_or_in_one_array():
    class Listed(Layer):
        def __init__(self):
            super().__init__()
            self.params, self.grads = [self.params["w"]], [self.grads["w"]]

        def forward(self, x):
            out = np.tanh(x @ self.params[0])
            return out, (x, out)

        def backward(self, dout, cache):
            x, out = cache
            dz = dout * (1 - out**2)
            self.grads[0] += x.T @ dz
            return dz @ self.params[0].T

    class Flat(Listed):
        def __init__(self):
            super().__init__()
            self.params, self.grads = self.params[0], self.grads[0]

        def forward(self, x):
            out = np.tanh(x @ self.params)
            return out, (x, out)

        def backward(self, dout, cache):
            x, out = cache
            dz = dout * (1 - out**2)
            self.grads += x.T @ dz
            return dz @ self.params.T

    for layer, name in ((Listed(), "params[0]"), (Flat(), "params")):
        report = assert_gradients(layer, X)
        assert [t.name for t in report.cases[0].arrays] == ["x", name]
    for params, sentence in (
        ({1, 2}, "forward cannot be called with x (4, 3): it raised TypeError"),
        ({"layer": {"w": np.eye(3)}}, "forward cannot be called with x (4, 3): it raised KeyError: 'w'"),
    ):
        layer = Layer()
        layer.params = params
        with pytest.raises(OptionError) as caught:
            check_gradients(layer, X)
        assert sentence in str(caught.value)


def test_a_network_of_ours_is_checked_layer_by_layer():
    layers = [Flatten(), Dense(4, 3, seed=0, dtype=np.float64), ReLU(), Dense(3, 2, seed=1, dtype=np.float64)]
    images = np.random.default_rng(0).standard_normal((3, 2, 2, 1))
    report = assert_gradients(Sequential(layers, (2, 2, 1)), images)
    names = ["x", "dense_1.w", "dense_1.b", "dense_2.w", "dense_2.b"]
    assert [tensor.name for tensor in report.cases[0].arrays] == names
    with pytest.raises(OptionError, match=r"the parameter dense_1.w of Sequential must be a float64 array"):
        check_gradients(make_network("mlp", input_shape=(2, 2, 1)), images)

    class Scaled(Dense):
        scale = np.full(2, 3.0)

        def forward(self, x):
            out, cache = super().forward(x)
            return out * self.scale, cache

        def backward(self, dout, cache, need_dx=True):
            return super().backward(dout * self.scale, cache, need_dx)

    other = Sequential([*copy.deepcopy(layers[:-1]), Scaled(3, 2, seed=1, dtype=np.float64)], (2, 2, 1))
    assert "layers[3].scale is an array" in findings(check_gradients(other, images))


def test_numbers_without_an_axis():
    """A learnable scale: the product rule holds for it like for any other array."""

    def scaled(factor):
        return check(lambda x, s: (s * x, (x, s)), lambda d, c: (d * c[1], factor * (d * c[0]).sum()), X, 2.0)

    assert scaled(1).passed
    report = scaled(-1)
    assert report.verdict == "FAIL" and report.cases[0].arrays[1].hint == "every entry has the wrong sign"

    class Square:
        def forward(self, x):
            return x * x, x

        def backward(self, dout, x):
            return 2 * dout * x

    assert check_gradients(Square(), 3.0).passed


class Tensor:
    """What a framework's tensor does to NumPy while it records gradients."""

    def __array__(self, *args, **kwargs):
        raise RuntimeError("cannot call numpy() on a tensor that requires grad")


@pytest.mark.parametrize(
    ("output", "gradient", "array", "sentence"),
    [
        (lambda x: Tensor(), None, X, "output, but it is a Tensor that NumPy cannot read (RuntimeError: cannot call"),
        (lambda x: x, lambda d: Tensor(), X, "the gradient of x must be a NumPy array, but it is a Tensor"),
        (
            lambda x: x,
            lambda d: ([d, d[0]],),
            X,
            "the gradient of x must be a NumPy array, but it is a list of 2 whose",
        ),
        (lambda x: x, None, Tensor(), "array 0 must hold numbers, but it is a Tensor that NumPy cannot read"),
        (lambda x: x, None, [[1.0], [1.0, 2.0]], "array 0 must hold numbers, but it is a list of 2 whose parts have"),
    ],
)
def test_what_is_no_array_has_its_sentence(output, gradient, array, sentence):
    with pytest.raises(ShapeError) as caught:
        check(lambda x: (output(x), x), lambda dout, _: gradient(dout) if gradient else dout, array)
    assert sentence in str(caught.value)


def test_the_first_rule_of_the_message():
    """The ten worst entries, each with place, analytic, numeric, ratio, step; and the cause."""
    with pytest.raises(AssertionError) as caught:
        assert_gradients(spoiled(backward=lambda self, dout, cache: -Layer.backward(self, dout, cache)), X)
    message = str(caught.value)
    assert message.startswith("x: 13 of 13 slopes are wrong; every entry has the wrong sign\n")
    assert message.count("x[") == 10 and "analytic" in message and "ratio" in message and "step" in message


# --- the command, from outside ----------------------------------------------------------------------------

MODULE = """
import numpy as np

class MyLayer:
    def __init__(self):
        self.params = {"w": np.random.randn(10, 3), "b": np.zeros(3)}
        self.grads = {"w": np.zeros((10, 3)), "b": np.zeros(3)}

    def forward(self, x):
        print("forward!")
        out = np.tanh(x @ self.params["w"] + self.params["b"])
        return out, (x, out)

    def backward(self, dout, cache):
        x, out = cache
        dz = dout * (1 - out**2)
        self.grads["w"] += x.T @ dz
        self.grads["b"] += dz.sum(axis=0)
        return dz @ self.params["w"].T

class Wrong(MyLayer):
    def backward(self, dout, cache):
        dx = super().backward(dout, cache)
        self.grads["w"] /= len(dx)
        return dx

class Kinked(MyLayer):
    def forward(self, x):
        return np.round(x, 2), x
    def backward(self, dout, cache):
        return dout

class Needy:
    def __init__(self, units):
        pass

class Explodes:
    def __init__(self):
        raise RuntimeError("no weights here")

def make():
    return MyLayer()

def affine_forward(x, w, b):
    return x @ w + b, (x, w)

def affine_backward(dout, cache):
    x, w = cache
    return dout @ w.T, x.T @ dout, dout.sum(axis=0)

def lonely_forward(x):
    return x, x

def two_forward(x):
    return (x, x.sum(axis=1)), x

def two_backward(dout, cache):
    return dout

def network(dtype=np.float32, seed=0):
    from siamese_np import Dense, Flatten, Sequential
    return Sequential([Flatten(), Dense(4, 3, dtype=dtype, seed=seed)], (2, 2, 1))

class Hidden(MyLayer):
    def __init__(self):
        super().__init__()
        self.scale = np.ones(3)
    def forward(self, x):
        return x @ self.params["w"] * self.scale + self.params["b"], x
    def backward(self, dout, x):
        self.grads["w"] += x.T @ (dout * self.scale)
        self.grads["b"] += dout.sum(axis=0)
        return dout * self.scale @ self.params["w"].T

instance, number = MyLayer(), 3
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A folder with a user's module in it, as the current folder."""
    name = f"mylayer_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    yield name
    sys.modules.pop(name, None)


def run(capsys, *arguments) -> tuple[int, str, str]:
    try:
        status = main(["gradcheck", *arguments])
    except SystemExit as stop:
        status = stop.code
    printed = capsys.readouterr()
    return status, printed.out, printed.err


def test_a_users_layer_correct_and_wrong(own, capsys):
    status, out, _ = run(capsys, f"{own}:MyLayer", "--shape", "4,10")
    assert status == 0 and out.splitlines()[-1].startswith("PASS: ") and "forward!" not in out
    assert "falls with the step to the power" in out  # the V-curve
    status, out, _ = run(capsys, f"{own}:Wrong", "--shape", "4,10")
    assert status == 1 and out.splitlines()[-1].startswith("FAIL: ")
    assert "divided by 4, the batch size N" in out and "0.25" in out
    status, out, _ = run(capsys, f"{own}:Hidden", "--shape", "4,10")
    assert status == 3 and "scale is an array" in out and out.splitlines()[-1].startswith("INCONCLUSIVE: ")
    status, out, _ = run(capsys, f"{own}:network", "--shape", "4,2,2,1")
    assert status == 0 and "dense_1.w" in out
    status, out, _ = run(capsys, f"{own}:Kinked", "--shape", "4,10")
    assert status in (1, 3) and "PASS: " not in out


@pytest.mark.parametrize("thing", ["make", "instance", "affine_forward"])
def test_factories_instances_and_functions(own, capsys, thing):
    shapes = ["4,10", "10,3", "3"] if thing == "affine_forward" else ["4,10"]
    status, out, _ = run(capsys, f"{own}:{thing}", *(part for shape in shapes for part in ("--shape", shape)))
    assert status == 0, out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["con2d"], "there is no operation 'con2d' (did you mean conv2d?)"),
        (["nowhere:Layer", "--shape", "4"], "there is no module nowhere"),
        (["OWN:MyLayr", "--shape", "4,10"], "there is no MyLayr in OWN (did you mean MyLayer?)"),
        (["OWN:MyLayer"], "needs one --shape"),
        (["OWN:MyLayer", "--shape", "4,x"], "a shape is whole numbers"),
        (["OWN:MyLayer", "--shape", "4,0"], "at least 1"),
        (["OWN:MyLayer", "--shape", "100000,100000"], "entries in all"),
        (["OWN:Needy", "--shape", "4"], "cannot be made without arguments (units)"),
        (["OWN:Explodes", "--shape", "4"], "making OWN:Explodes raised RuntimeError: no weights here"),
        (["OWN:number", "--shape", "4"], "no methods forward and backward"),
        (["OWN:lonely_forward", "--shape", "4"], "there is no function lonely_backward beside lonely_forward"),
        (["OWN:affine_forward", "--shape", "4,10"], "takes 3 arrays (x, w, b)"),
        (["OWN:two_forward", "--shape", "4,10"], "backward must return 1 gradients (x), in this order"),
        (["OWN"], "has no functions forward and backward"),
        (["OWN:"], "name what to check as OWN:object"),
        (["OWN.MyLayer", "--shape", "4,10"], "did you mean OWN:MyLayer?"),
        ([":MyLayer", "--shape", "4,10"], "':MyLayer' names no module"),
        (["conv2d", "--shape", "4,10"], "conv2d needs a --shape N,H,W,C"),
        (["conv2d", "--shape", "2,1,1,1"], "is larger than its padded input"),
        (["--shape", "4,10"], "--shape needs a target"),
        (["relu", "--seed", "-1"], "the seed must be a whole number of at least 0"),
        (["relu", "--plot", "nowhere/v.png"], "there is no folder nowhere"),
    ],
)
def test_misuse_of_the_command(own, capsys, arguments, sentence):
    status, out, err = run(capsys, *(argument.replace("OWN", own) for argument in arguments))
    assert status == 2 and not out and sentence.replace("OWN", own) in err and "Traceback" not in err


def test_a_module_that_cannot_be_imported(own, capsys, tmp_path):
    (tmp_path / f"{own}_broken.py").write_text("def f(:\n")
    status, _, err = run(capsys, f"{own}_broken:f", "--shape", "4")
    assert status == 2 and "raised SyntaxError" in err and "Traceback" not in err


def test_json_is_the_same_for_the_same_seed(own, capsys):
    printed = [run(capsys, f"{own}:Wrong", "--shape", "4,10", "--json", "--seed", seed)[1] for seed in "774"]
    timeless = [re.sub(r'"seconds": [^,}]+', "", text) for text in printed]
    for text in printed:
        sys.modules.pop(own, None)
        found = json.loads(text, parse_constant=lambda constant: pytest.fail(f"{constant} is no JSON"))
        assert found["verdict"] == "FAIL"
    assert timeless[0] == timeless[1] != timeless[2]
    worst = found["operations"][f"{own}:Wrong"][0]["tensors"][1]["worst"]
    assert len(worst) == 10 and {"index", "analytic", "numeric", "step", "error"} <= set(worst[0])


def test_a_picture_of_the_curves(own, capsys):
    assert run(capsys, f"{own}:Wrong", "--shape", "4,10", "--plot", "v.png")[0] == 1
    assert Path("v.png").read_bytes().startswith(b"\x89PNG") and Path("v.png").stat().st_size > 10_000


@pytest.mark.parametrize("name", sorted(set(OPERATIONS) - set(PRESETS)))
def test_our_operations_pass(name):
    report = check_target(name, seed=1)
    assert report.passed, str(report)


@pytest.mark.parametrize("name", ["cnn", "mlp"])
def test_our_presets_pass(name):
    report = check_target(name, seed=1)
    assert report.passed, str(report)


def test_shapes_of_our_operations(capsys):
    status, out, _ = run(capsys, "conv2d", "--shape", "2,4,4,1", "--json")
    assert status == 0 and json.loads(out)["operations"]["conv2d"][0]["tensors"][0]["shape"] == [2, 4, 4, 1]


def test_as_a_process_from_an_empty_folder(tmp_path):
    """Exit status, the current folder on the path, and nothing but JSON on standard output."""
    (tmp_path / "mylayer.py").write_text(MODULE)
    command = [sys.executable, "-m", "siamese_np", "gradcheck", "mylayer:Wrong", "--shape", "4,10", "--json"]
    package = str(Path(__file__).parent.parent)
    environment = {**os.environ, "PYTHONPATH": package, "PYTHONSAFEPATH": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and json.loads(done.stdout)["verdict"] == "FAIL" and "Traceback" not in done.stderr


def test_a_case_without_arrays_is_no_success():
    assert check_case(Case("nothing", {}, lambda arrays: (np.zeros(3), None), lambda dout, cache: {})).verdict != "PASS"


# --- what it needs, and what it checks --------------------------------------------------------------------

ALONE = """
import sys
from importlib.abc import MetaPathFinder

class Blocked(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        ours = name.startswith("siamese_np.") and name != "siamese_np.errors"
        if name.split(".")[0] in ("numba", "llvmlite", "matplotlib", "tqdm") or (
            ours and not (name + ".").startswith("siamese_np.gradcheck.")
        ) or name.startswith("siamese_np.gradcheck.cases"):
            raise ImportError(f"{name} is not for the engine")

sys.meta_path.insert(0, Blocked())

import numpy as np
from siamese_np.gradcheck import assert_gradients, check_gradients, complex_step
from siamese_np.gradcheck.engine import check_cases
from siamese_np.gradcheck.targets import find_cases
import mylayer

x = np.random.default_rng(0).standard_normal((4, 10))
print(assert_gradients(mylayer.MyLayer(), x).verdict)
print(check_gradients(mylayer.Wrong(), x).verdict)
print(assert_gradients(lambda x: (np.sin(x), x), x, backward=lambda dout, x: dout * np.cos(x)).verdict)
found = check_cases(find_cases("mylayer:affine_forward", [(4, 10), (10, 3), (3,)], 0, {}))
print(str(found).splitlines()[-1].split(":")[0], found.to_dict()["verdict"])
print(complex_step(lambda a: np.exp(a["x"]), {"x": np.zeros(1)}, np.ones(1))["x"])
"""


def test_the_engine_needs_numpy_alone(tmp_path):
    """No numba, no matplotlib, no tqdm, nothing of the network: it could be a package of its own."""
    (tmp_path / "mylayer.py").write_text(MODULE)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent.parent), str(tmp_path)])}
    done = subprocess.run([sys.executable, "-c", ALONE], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stdout.splitlines() if line != "forward!"]
    assert said == ["PASS", "FAIL", "PASS", "PASS PASS", "[1.]"]


DRAW = """
import sys
import numpy as np
from siamese_np.gradcheck import assert_gradients
from siamese_np.gradcheck.plot import plot

plot(assert_gradients(lambda x: (np.sin(x), x), np.ones(3), backward=lambda dout, x: dout * np.cos(x)), sys.argv[1])
"""


def test_curves_are_drawn_with_any_backend(tmp_path):
    """matplotlib refuses to be imported where MPLBACKEND names a backend that it does not have."""
    command = [sys.executable, "-c", DRAW, str(tmp_path / "v.png")]
    environment = {**os.environ, "MPLBACKEND": "Qt4Agg"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "v.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("name", sorted(set(OPERATIONS) - set(PRESETS)))
def test_our_operations_pass_on_the_textbook(name):
    with use_kernels("textbook"):
        report = check_target(name)
    assert report.passed, str(report)


@pytest.mark.parametrize(("back_end", "other"), [("textbook", "compiled"), ("compiled", "textbook")])
def test_the_active_back_end_is_the_one_that_is_checked(back_end, other, monkeypatch):
    def twice(function):
        return lambda dx, dw, db, *inputs: (function(dx, dw, db, *inputs), np.multiply(dw, 2, out=dw))

    with use_kernels(back_end):
        monkeypatch.setattr(ops, "dense_backward", twice(ops.dense_backward))
        report = check_target("dense")
        assert report.verdict == "FAIL" and "factor 2" in str(report)
    with use_kernels(other):
        assert check_target("dense").passed


def test_the_command_checks_the_back_end_of_the_environment():
    """Nothing is compiled: with numba's compiler switched to raise, the textbook still passes, and kernels do not."""
    code = (
        "import sys; from numba.core.registry import CPUDispatcher\n"
        "def compile(*_): raise RuntimeError('a kernel is compiled')\n"
        "CPUDispatcher.compile = compile\n"
        "from siamese_np.cli import main; sys.exit(main(['gradcheck', 'conv2d', '--json']))\n"
    )
    package = str(Path(__file__).parent.parent)
    for back_end, status, verdict in (("textbook", 0, "PASS"), ("compiled", 1, "FAIL")):
        environment = {**os.environ, "PYTHONPATH": package, "SIAMESE_NP_KERNELS": back_end}
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == status and json.loads(done.stdout)["verdict"] == verdict, done.stderr


# --- losses -------------------------------------------------------------------------------------------------


class MeanOfPositives:
    """A loss of a batch: the mean distance of the pairs of one class."""

    distances = PairwiseDistances()

    def forward(self, emb, classes):
        dist, cache = self.distances.forward(emb)
        i, j = np.nonzero((classes[:, None] == classes) & ~np.eye(len(emb), dtype=bool))
        return float(dist[i, j].mean()), (i, j, cache)

    def backward(self, cache):
        i, j, cache = cache
        ddist = np.zeros((len(cache[1]),) * 2)
        ddist[i, j] = 1 / len(i)
        return self.distances.backward(ddist, cache)


class Doubled(MeanOfPositives):
    def backward(self, cache):
        return 2 * super().backward(cache)


CLASSES = np.arange(9) % 3


@pytest.mark.parametrize("loss", [MeanOfPositives(), AllPairsContrastiveLoss(2.0)])
def test_a_loss_is_checked_with_its_classes(loss):
    report = assert_gradients(loss, np.random.default_rng(0).standard_normal((9, 4)), CLASSES)
    assert [array.name for array in report.cases[0].arrays] == ["emb"]


def test_a_loss_of_pairs_is_checked_with_its_labels():
    assert_gradients(ContrastiveLoss(1.0), [0.1, 0.7, 0.4, 1.3], [0, 0, 1, 1])


def test_a_wrong_loss_is_told_its_factor():
    report = check_gradients(Doubled(), np.random.default_rng(0).standard_normal((9, 4)), CLASSES)
    assert report.verdict == "FAIL" and "every entry is multiplied by 2" in str(report) == repr(report)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_loss_is_checked_at_two_arrays(count):
    arrays = [np.ones((9, 4))] * count
    sentence = rf"MeanOfPositives is checked at the two arrays of its forward\(emb, classes\), not at {count}"
    with pytest.raises(OptionError, match=sentence):
        check_gradients(MeanOfPositives(), *arrays)


@pytest.mark.parametrize(("name", "shape"), [("AllPairsContrastiveLoss", "9,3"), ("ContrastiveLoss", "12")])
def test_a_loss_is_checked_on_the_command_line(name, shape, capsys):
    assert main(["gradcheck", f"siamese_np.losses:{name}", "--shape", shape]) == 0
    assert "PASS: 1 operation" in capsys.readouterr().out


@pytest.mark.parametrize("target", ["twice.py:twice_forward", "./twice.py:twice_forward", "twice:twice_forward"])
def test_a_target_may_be_named_by_its_file(target, tmp_path, monkeypatch):
    lines = [
        "def twice_forward(x):",
        "    return 2 * x, None",
        "def twice_backward(dout, cache):",
        "    return 2 * dout",
    ]
    (tmp_path / "twice.py").write_text("\n".join(lines))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "twice", raising=False)
    assert check_target(target, [(3, 2)]).verdict == "PASS"
