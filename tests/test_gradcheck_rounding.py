"""What the checker does where rounding, kinks of compositions, small entries or float32 limit what can be known."""

import gradcheck_kinds as kinds
import numpy as np
import pytest

from siamese_np.gradcheck import check_gradients
from siamese_np.gradcheck.adapters import function_case
from siamese_np.gradcheck.differences import EPS, typical_sizes
from siamese_np.gradcheck.noise import measured_noise
from siamese_np.gradcheck.plot import plot_taylor


def report_of(kind: str, function: str, seed: int = 0):
    forward, backward, *arrays = kinds.KINDS[kind].functions[function](np.random.default_rng(seed))
    return check_gradients(forward, *arrays, backward=backward, seed=seed)


def slopes_verdict(report) -> set[str]:
    """The verdicts of all that was measured by differences."""
    case = report.cases[0]
    return {array.verdict for array in case.arrays} | {c.verdict for c in case.checks if "direction" in c.name}


# --- rounding is measured ---------------------------------------------------------------------------------


def noise_of(forward, *arrays):
    case = function_case("f", lambda *values: (forward(*values), None), lambda *_: (), arrays)
    out = case.run()[0].copy()
    before = [array.copy() for array in arrays]
    noise = measured_noise(case, typical_sizes(case.arrays), out, np.random.default_rng(0))
    for array, kept in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(array, kept)
    return noise


def test_noise_of_the_last_digit():
    x = np.random.default_rng(0).standard_normal(50)
    assert (noise_of(np.exp, x) < 30 * EPS * np.exp(x)).all()
    assert np.median(noise_of(np.exp, x) / np.exp(x)) > EPS / 30


@pytest.mark.parametrize("mean", [1e3, 1e4, 1e5])
def test_noise_of_sums_that_cancel(mean):
    """E[x^2] - E[x]^2 is about 1, but its error that of mean^2."""
    x = np.random.default_rng(0).standard_normal((40, 4)) + mean
    noise = noise_of(lambda x: (x * x).mean(0) - x.mean(0) ** 2, x)
    assert (noise > 0.03 * EPS * mean**2).all() and (noise < 30 * EPS * mean**2).all()


@pytest.mark.parametrize("offset", [1e6, 1e8, 1e10])
def test_noise_that_small_steps_do_not_show(offset):
    x = np.random.default_rng(0).standard_normal(12)
    noise = noise_of(lambda x: (offset + x) - offset, x)
    assert (noise > 0.01 * EPS * offset).mean() > 0.8 and (noise < 30 * EPS * offset).all()


def test_curvature_and_kinks_are_no_noise():
    x = np.random.default_rng(0).standard_normal(50)
    assert (noise_of(lambda x: np.sin(1000 * x), x) < 1e-11).all()
    x[:5] = 0
    x[5:9] = 1e-12, 1e-9, 1e-7, 1e-5
    assert (noise_of(abs, x) < 1e-14).all()
    assert (noise_of(lambda x: np.sort(x), x) < 1e-14).all()


def test_noise_at_any_scale_and_beyond_the_domain():
    x = np.random.default_rng(0).uniform(0.5, 2, 10)
    for scale in (1e-300, 1e300):
        assert (noise_of(lambda x, scale=scale: scale * np.sin(x), x) < 1e3 * EPS * scale).all()

    def root(x):
        if (x < 0).any():
            raise ValueError("negative")
        return np.sqrt(x)

    assert np.isfinite(noise_of(root, np.array([1e-9, 1.0]))).all()


SATURATED = [
    ("smooth", "sigmoid 30..40"),
    ("smooth", "tanh 15..20"),
    ("smooth", "tanh(50 x)"),
    ("scales", "offset 1e+12"),
    ("scales", "sum with offset 1e8"),
    ("scales", "sum with offset 1e12"),
    ("ill-conditioned", "cross-entropy, confident, 3"),
    ("ill-conditioned", "cross-entropy, confident, 5"),
    ("ill-conditioned", "E[x^2] - E[x]^2 at 10000"),
    ("ill-conditioned", "E[x^2] - E[x]^2 at 100000"),
    ("ill-conditioned", "LayerNorm at 100000"),
    ("ill-conditioned", "1 - cos at 1e-6"),
    ("ill-conditioned", "exp(x) - 1 at 1e-10"),
    ("ill-conditioned", "gradients that cancel"),
    ("scales", "denormals"),
    ("scales", "denormal outputs"),
]


@pytest.mark.parametrize(("kind", "function"), SATURATED)
def test_rounding_is_no_fault(kind, function):
    for seed in (1, 2):  # and at 0 in the table of kinds
        assert "FAIL" not in slopes_verdict(report_of(kind, function, seed)), seed


def test_a_wrong_gradient_beyond_the_rounding_fails():
    """Rounding is an allowance of its own size only."""
    x = np.random.default_rng(0).standard_normal((40, 4)) + 1e4
    forward = lambda x: ((x * x).mean(0) - x.mean(0) ** 2, x)  # noqa: E731
    for factor in (0, -1, 1.01):
        backward = lambda d, x, factor=factor: factor * 2 * d * (x - x.mean(0)) / len(x)  # noqa: E731
        assert check_gradients(forward, x, backward=backward).cases[0].arrays[0].verdict == "FAIL", factor
    x = np.linspace(10, 14, 12)
    wrong = lambda d, x: -d * kinds.sigmoid(x) * (1 - kinds.sigmoid(x))  # noqa: E731
    assert check_gradients(lambda x: (kinds.sigmoid(x), x), x, backward=wrong).verdict == "FAIL"


def test_last_bits_that_differ_from_call_to_call():
    rng = np.random.default_rng(0)
    forward = lambda x: (np.sin(x) * (1 + 2 * EPS * rng.integers(-1, 2, x.shape)), x)  # noqa: E731
    x = np.random.default_rng(1).standard_normal(12)
    right = check_gradients(forward, x, backward=lambda d, x: d * np.cos(x))
    assert slopes_verdict(right) == {"PASS"}
    assert check_gradients(forward, x, backward=lambda d, x: d * 1.001 * np.cos(x)).verdict == "FAIL"


# --- kinks of a composition -------------------------------------------------------------------------------


def test_black_pixels_with_zero_biases_are_undecided():
    for seed in range(4):
        report = report_of("kinks of a composition", "black pixels", seed)
        assert report.verdict == "INCONCLUSIVE"
        assert "move x or b1 away from 0" in str(report)


@pytest.mark.parametrize("array", ["x", "w1", "b1", "w2"])
def test_a_wrong_gradient_beside_kinks_of_a_composition_fails(array):
    for seed in range(3):
        assert report_of("wrong at kinks of a composition", f"black pixels, {array}", seed).verdict == "FAIL"


def test_moved_as_advised_the_net_passes():
    forward, backward, x, w1, b1, w2 = kinds.black_pixels()(np.random.default_rng(0))
    assert check_gradients(forward, x, w1, b1 + 0.1, w2, backward=backward).passed


def residual(slope_at_zero):
    """relu(x) - relu(-x), which is x, with a slope for each part at 0."""
    parts = lambda x: np.where(x == 0, slope_at_zero, x > 0) + np.where(x == 0, slope_at_zero, x < 0)  # noqa: E731
    return lambda x: (np.maximum(x, 0) - np.maximum(-x, 0), x), lambda d, x: d * parts(x)


@pytest.mark.parametrize("slope", [0, 1])
def test_kinks_that_cancel_are_undecided(slope):
    forward, backward = residual(slope)
    report = check_gradients(forward, np.array([0.3, -1.0, 0.0, 2.0]), backward=backward)
    assert report.verdict == "INCONCLUSIVE" and "move x away from 0" in str(report)
    assert check_gradients(forward, np.array([0.3, -1.0, 0.1, 2.0]), backward=backward).passed


def test_a_single_kink_keeps_its_bracket():
    """What a single kink allows is known: the slopes of both sides, and what lies between."""
    x = np.array([0.3, -1.0, 0.0, 2.0, -0.7, 0.6])
    for slope in (-0.1, 1.001, 2):
        backward = lambda d, x, slope=slope: d * np.where(x == 0, slope, x > 0)  # noqa: E731
        assert check_gradients(lambda x: (np.maximum(x, 0), x), x, backward=backward).verdict == "FAIL"


def test_a_gradient_between_both_sides_that_is_wrong_beside_them_fails():
    def backward(d, x):
        dx = np.zeros_like(x)
        dx[:, 0] = d  # the largest is the first only where all are equal
        return dx

    x = np.repeat(np.random.default_rng(0).standard_normal((4, 1)), 3, 1)
    report = check_gradients(lambda x: (x.max(1), x), x, backward=backward)
    assert report.verdict == "FAIL" and "wrong beside it" in str(report)


# --- what looks linear ------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [3, 5, 7])
def test_a_median_is_not_linear(size):
    def backward(d, x):
        dx = np.zeros_like(x)
        dx[np.argsort(x)[size // 2]] = d
        return dx

    for seed in range(20):
        x = np.random.default_rng(seed).standard_normal(size)
        assert check_gradients(lambda x: (np.median(x), x), x, backward=backward, seed=seed).passed


def test_a_vote_is_not_linear():
    majority = lambda x: np.sign(x) == np.sign(np.sign(x).sum())  # noqa: E731
    for seed in range(20):
        x = np.random.default_rng(seed).standard_normal(5)
        forward = lambda x: ((x * majority(x)).sum(), x)  # noqa: E731
        assert check_gradients(forward, x, backward=lambda d, x: d * majority(x), seed=seed).passed


# --- small entries ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("small", [1e-3, 1e-6, 1e-8, 1e-9])
@pytest.mark.parametrize("factor", [-1, 0, 2])
def test_a_small_entry_that_is_wrong_fails(small, factor):
    factors = np.array([factor, 1, 1])
    backward = lambda d, x: 2 * d * x * factors  # noqa: E731
    assert check_gradients(lambda x: ((x**2).sum(), x), np.r_[small, 1, -2], backward=backward).verdict == "FAIL"


@pytest.mark.parametrize("small", [1e-11, 1e-13])
def test_an_entry_too_small_to_judge_is_counted(small):
    backward = lambda d, x: 2 * d * x * np.where(x == small, -1, 1)  # noqa: E731
    x = np.append(np.random.default_rng(0).uniform(0.5, 2, 60), small)
    report = check_gradients(lambda x: ((x**2).sum(), x), x, backward=backward)
    assert report.verdict == "FAIL" or report.cases[0].arrays[0].small == 1


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (("smooth", "sigmoid 30..40"), "the output is large beside what a step in x changes"),
        (("ill-conditioned", "E[x^2] - E[x]^2 at 100000"), "rounding hides it; the output is large beside"),
        (("ill-conditioned", "gradients that cancel"), "its gradient cannot be told from 0: rounding hides it"),
    ],
)
def test_what_is_undecided_says_why(function, words):
    report = report_of(*function)
    assert report.verdict == "INCONCLUSIVE" and words in str(report), str(report)


# --- float32 ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", ["sin", "cube", "float32 output", "float32 gradient", "dense"])
def test_code_in_float32_is_judged_in_it(function):
    report = report_of("float32", function)
    assert report.passed and report.cases[0].precision == "float32"
    assert "in float32" in str(report).splitlines()[-1] and report.to_dict()["operations"]


@pytest.mark.parametrize("factor", [-1, 0, 2, 1.01, 1.001])
def test_a_wrong_gradient_in_float32_fails(factor):
    for make in (kinds.single(np.sin, np.cos, factor=factor), kinds.single_dense(factor)):
        for seed in range(2):
            assert kinds.verdict_of(make, seed) == "FAIL", seed


def test_one_wrong_entry_in_float32_fails():
    def backward(d, x):
        dx = (d * np.cos(x)).astype(np.float32)
        dx[3] *= np.float32(1.01)
        return dx

    x = np.random.default_rng(0).standard_normal(30)
    forward = lambda x: (np.sin(x.astype(np.float32)), x)  # noqa: E731
    report = check_gradients(forward, x, backward=backward)
    assert report.verdict == "FAIL" and report.cases[0].arrays[0].worst[0].index == (3,)


def test_float32_within_float64_is_undecided_and_float32_is_a_fault_of_a_strict_layer():
    assert report_of("float32", "float32 inside").verdict == "INCONCLUSIVE"
    forward, backward, x = kinds.KINDS["float32"].functions["sin"](np.random.default_rng(0))
    report = check_gradients(forward, x, backward=backward, strict=True)
    assert not report.passed and "float32" in str(report)


# --- the Taylor remainder, the dot product with J v, and what each check can see --------------------------


def dense(r, wrong=1.0):
    def backward(d, cache):
        x, w = cache
        g = d * (1 - np.tanh(x @ w) ** 2)
        return wrong * g @ w.T, x.T @ g

    return lambda x, w: (np.tanh(x @ w), (x, w)), backward, r.standard_normal((4, 3)), r.standard_normal((3, 2))


def moved_along(arrays, directions):
    (x, w), (v, u) = arrays, directions
    return (1 - np.tanh(x @ w) ** 2) * (v @ w + x @ u)


def checks_of(wrong=1.0, **options):
    forward, backward, *arrays = dense(np.random.default_rng(0), wrong)
    report = check_gradients(forward, *arrays, backward=backward, **options)
    return report, {check.name: check for check in report.cases[0].checks}


def test_the_rate_of_the_taylor_remainder():
    report, checks = checks_of()
    assert report.passed and report.cases[0].taylor.rate == pytest.approx(2, abs=0.05)
    for wrong in (1.001, 0.5, -1):
        report, checks = checks_of(wrong)
        assert report.cases[0].taylor.rate == pytest.approx(1, abs=0.05)
        assert checks["Taylor remainder"].verdict == "FAIL" and "not 2" in checks["Taylor remainder"].remark
    assert report.to_dict()["operations"]["lambda"][0]["taylor"]["rate"] == report.cases[0].taylor.rate


def test_a_straight_line_leaves_no_remainder():
    report = check_gradients(lambda x: (3 * x, x), np.arange(4.0), backward=lambda d, x: 3 * d)
    assert report.passed and report.cases[0].taylor.rate is None


def test_a_kink_is_no_wrong_rate():
    x = np.append(np.random.default_rng(0).standard_normal(40), 0.0)
    report = check_gradients(lambda x: (np.maximum(x, 0), x), x, backward=lambda d, x: d * (x > 0))
    assert report.passed and "Taylor remainder" not in [check.name for check in report.cases[0].checks]


def test_taylor_remainders_as_a_picture(tmp_path):
    report, _ = checks_of(1.01)
    assert plot_taylor(report, tmp_path / "remainder").read_bytes().startswith(b"\x89PNG")
    empty = check_gradients(lambda x: (3 * x / 0, x), np.arange(4.0), backward=lambda d, x: d)
    assert plot_taylor(empty, tmp_path / "nothing").exists()


def test_the_dot_product_with_a_jvp():
    report, checks = checks_of(jvp=moved_along)
    assert report.passed and checks["dot product with jvp"].verdict == "PASS"
    _, checks = checks_of(1 + 1e-5, jvp=moved_along)
    assert checks["dot product with jvp"].verdict == "FAIL"
    assert checks["dot product with jvp"].remark.endswith("so backward is wrong")
    report, checks = checks_of(jvp=lambda arrays, directions: 1.01 * moved_along(arrays, directions))
    assert report.verdict == "FAIL" and checks["dot product with jvp"].remark.endswith("so jvp is wrong")
    for jvp, words in ((lambda *_: 1 / 0, "jvp raised ZeroDivisionError"), (lambda *_: np.ones(3), "must return")):
        report, checks = checks_of(jvp=jvp)
        assert report.verdict == "INCONCLUSIVE" and words in checks["dot product with jvp"].remark


def test_each_check_says_what_it_can_see():
    report, checks = checks_of(jvp=moved_along)
    assert report.to_dict()["scope"].keys() == {"differences", *checks}


# --- the table of kinds -----------------------------------------------------------------------------------


def count(seeds, names):
    found = list(kinds.run(seeds, names))
    wrong = {name: each for name, kind, verdicts, each in found if kinds.falses(kind, verdicts) != (0, 0)}
    assert not wrong
    return {name: verdicts for name, _, verdicts, _ in found}


def test_no_false_verdict_on_any_kind():
    verdicts = count(1, [name for name, kind in kinds.KINDS.items() if not kind.few])
    decided = ("wrong by 1e-3 .. 3e-6", "23 wrong kinds", "small entries, wrong", "float32, wrong")
    for name in decided:
        assert set(verdicts[name]) == {"FAIL"}, name


@pytest.mark.long
def test_no_false_verdict_on_any_kind_at_many_seeds():
    verdicts = count(12, kinds.KINDS)
    assert set(verdicts["one wrong entry"]) == {"FAIL"}
    assert verdicts["smooth"]["PASS"] > 100 and verdicts["kinks"]["PASS"] > 190
