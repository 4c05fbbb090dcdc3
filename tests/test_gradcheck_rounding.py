"""What the checker does where rounding, kinks of compositions, small entries or float32 limit what can be known."""

import gradcheck_kinds as kinds
import numpy as np
import pytest

from siamese_np.gradcheck import check_gradients
from siamese_np.gradcheck.adapters import function_case
from siamese_np.gradcheck.differences import EPS, typical_sizes
from siamese_np.gradcheck.noise import measured_noise


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
    for seed in range(4):
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
