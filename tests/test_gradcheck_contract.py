"""The checker's two verdicts: the gradient is right, and the pass keeps the contract of our own layers."""

import numpy as np
import pytest

from siamese_np.gradcheck import check_gradients, measure
from siamese_np.gradcheck.adapters import function_case, layer_case
from siamese_np.gradcheck.case import Case
from siamese_np.gradcheck.differences import Estimate
from siamese_np.gradcheck.engine import Options, check_case, check_cases
from siamese_np.gradcheck.structure import difference

X = np.random.default_rng(5).standard_normal((4, 3))
W = np.random.default_rng(6).standard_normal((3, 2))


def check(forward, backward, *arrays, **options):
    return check_gradients(forward, *arrays, backward=backward, **options)


def notes(report) -> str:
    return "\n".join(note for case in report.cases for note in case.notes)


def sine(x):
    return np.sin(x), x


def cosine(dout, x):
    return dout * np.cos(x)


# --- layers as others write them: right when used once ----------------------------------------------------


class OnSelf:
    """A layer that keeps what backward needs on itself, and writes into dout: the textbook's ReLU."""

    def forward(self, x):
        self.off = x <= 0
        return np.where(self.off, 0, x)

    def backward(self, dout):
        dout[self.off] = 0
        return dout


class Sigmoid:
    def forward(self, x):
        self.y = 1 / (1 + np.exp(-x))
        return self.y

    def backward(self, dout):
        return dout * self.y * (1 - self.y)


class Product:
    """x @ W with gradients that add up."""

    def __init__(self):
        self.gradients = {"W": 0.0}

    def forward(self, x, W):
        self.x, self.W = x, W
        return x @ W

    def backward(self, dout):
        self.gradients["W"] = self.gradients["W"] + self.x.T @ dout
        return dout @ self.W.T


class Buffers:
    """Writes its output and its gradient into arrays of its own."""

    def __init__(self):
        self.out, self.dx = np.zeros((4, 3)), np.zeros((4, 3))

    def forward(self, x):
        np.tanh(x, out=self.out)
        return self.out, self.out.copy()

    def backward(self, dout, out):
        self.dx[...] = dout * (1 - out**2)
        return self.dx


class Updating:
    """backward makes the step of the optimizer, in place on a parameter that is handed over, or on one that is not."""

    def __init__(self, handed=True):
        self.w = W.copy()
        if handed:
            self.params, self.grads = {"w": self.w}, {"w": np.zeros_like(W)}

    def forward(self, x):
        return x @ self.w, x

    def backward(self, dout, x):
        dx, dw = dout @ self.w.T, x.T @ dout
        if hasattr(self, "grads"):
            self.grads["w"] += dw
        self.w -= 0.1 * dw
        return dx


def on_self(layer):
    """A layer that returns its output alone as a pair of functions, with nothing in the cache."""
    return lambda x: (layer.forward(x), None), lambda dout, _: layer.backward(dout)


def product(make):
    """A product as the cache: made anew in each forward pass, or the same in all."""

    def forward(x, W):
        layer = make()
        return layer.forward(x, W), layer

    return forward, lambda dout, layer: (layer.backward(dout), layer.gradients["W"])


def in_place_on_input(x):
    x += 1
    return np.sin(x), x


def in_place_on_cache(dout, x):
    np.cos(x, out=x)
    return dout * x


def updates_argument(dout, cache):
    x, w = cache
    dx, dw = dout @ w.T, x.T @ dout
    w -= 0.1 * dw
    return dx, dw


def shared():
    layer = Product()
    return product(lambda: layer)


BREACHES = {
    "writes into dout": (
        on_self(OnSelf()), (X,), "arguments left alone", "backward changed its argument dout at"),
    "works in place on dout": (
        (sine, lambda d, x: np.multiply(d, np.cos(x), out=d)), (X,), "arguments left alone", "its argument dout at"),
    "state on self": (
        on_self(Sigmoid()), (X,), "branches kept apart", "not fit for two Siamese branches, because"),
    "adds up in the cache": (
        product(Product), (X, W), "cache used twice", "another gradient of W: it adds up, exactly twice as much"),
    "adds up in the layer": (
        shared(), (X, W), "arguments left alone", "of W adds up from call to call"),
    "in place on its input": (
        (in_place_on_input, cosine), (X,), "arguments left alone", "forward changed its input x at"),
    "in place on its cache": (
        (lambda x: (np.sin(x), x.copy()), in_place_on_cache), (X,), "cache used twice", "works in place on its cache"),
    "in place on an argument in the cache": (
        (sine, in_place_on_cache), (X,), "arguments left alone", "backward changed its input x at"),
    "updates an argument": (
        (lambda x, w: (x @ w, (x, w)), updates_argument), (X, W), "arguments left alone", "changed its input w at"),
    "a graph for one use": (
        (lambda x: (np.sin(x), [x]), lambda dout, cache: cosine(dout, cache.pop())), (X,),
        "cache used twice", r"a second backward pass with the same cache failed (backward raised IndexError"),
    "one array for all outputs": (
        (Buffers().forward, Buffers().backward), (X,), "branches kept apart", "each output into the same array"),
    "memory layout": (
        (lambda x: (np.sin(x), x), lambda dout, x: np.cos(x) * np.ravel(dout, "K").reshape(dout.shape)), (X,),
        "any memory layout", "column-major arguments changed the gradient of x"),
}  # fmt: skip


@pytest.mark.parametrize("name", BREACHES)
def test_a_right_gradient_passes_and_a_breach_of_the_contract_is_a_note(name):
    (forward, backward), arrays, check_name, sentence = BREACHES[name]
    report = check(forward, backward, *arrays)
    assert (report.verdict, report.gradient, report.contract) == ("PASS", "PASS", "FAIL"), str(report)
    assert sentence in notes(report) and f"  note  {notes(report).splitlines()[0]}" in str(report)
    assert report.cases[0].arrays[0].checked == X.size
    assert "see notes" in str(report) and "FAIL" not in str(report)
    strict = check(forward, backward, *arrays, strict=True)
    assert (strict.verdict, strict.gradient, strict.contract) == ("FAIL", "PASS", "FAIL"), str(strict)
    (found,) = [found for found in strict.cases[0].checks if found.name == check_name]
    assert found.verdict == "FAIL" and found.contract and sentence.split(": a second")[0] in found.remark
    assert "see notes" not in str(strict) and f"FAIL  {check_name}" in str(strict)


@pytest.mark.parametrize("name", BREACHES)
def test_a_wrong_gradient_fails_whatever_else_the_pass_does(name):
    (forward, backward), arrays, *_ = BREACHES[name]

    def wrong(dout, cache):
        found = backward(dout, cache)
        return (*found[:-1], 1.01 * found[-1]) if isinstance(found, tuple) else 1.01 * found

    report = check(forward, wrong, *arrays)
    assert report.verdict == report.gradient == "FAIL"
    assert "1.01 times" in report.cases[0].arrays[-1].hint, str(report)


def test_a_layer_that_was_used_before_is_told_apart_from_its_past():
    layer = Product()
    layer.forward(X, W)
    layer.backward(np.ones((4, 2)))
    report = check(*product(lambda: layer), X, W)
    assert report.passed and "a call gave its own on top of what was there" in notes(report)


def test_a_batch_of_one_size_is_a_note():
    report = check_gradients(Buffers(), X)
    assert report.passed and report.contract == "FAIL" and "batch of 0: forward raised" in notes(report)
    assert "a batch of 1 gave an output of shape (4, 3)" in notes(report)
    assert check_gradients(Buffers(), X, strict=True).verdict == "FAIL"


def test_a_backward_pass_that_updates_the_weights_is_named_in_one_line():
    report = check_gradients(Updating(), X)
    assert report.gradient == "PASS" and "backward changed the parameter w at" in notes(report)
    report = check_gradients(Updating(), X, strict=True)
    assert report.gradient == "PASS" and report.contract == "FAIL"
    hidden = Updating(handed=False)
    for strict, verdict in ((False, "INCONCLUSIVE"), (True, "FAIL")):
        report = check(hidden.forward, hidden.backward, X, strict=strict)
        (line,) = [found.remark for found in report.cases[0].checks if found.verdict != "PASS"]
        assert report.verdict == verdict and line.startswith("backward updates the weights: the output for the same")


def test_a_parameter_that_forward_changes_is_put_back():
    class Counts(Updating):
        def forward(self, x):
            self.w *= 1.5
            return super().forward(x)

        def backward(self, dout, x):
            self.grads["w"] += 1.5 * x.T @ dout  # d(1.5 w)
            return dout @ self.w.T

    layer = Counts()
    before = layer.w.copy()
    report = check_gradients(layer, X)
    assert report.gradient == "INCONCLUSIVE" and "w is an array that the output depends on" in str(report)
    assert report.cases[0].arrays[0].verdict == "PASS"  # of x
    np.testing.assert_array_equal(layer.w, before)


def test_other_numbers_that_a_function_does_not_take_break_no_contract():
    def integral(x):
        if not (np.diff(x) > 0).all():
            raise ValueError("the nodes must rise")
        return np.diff(x) ** 2, x

    def backward(dout, x):
        steps = 2 * dout * np.diff(x)
        return np.append(0, steps) - np.append(steps, 0)

    report = check(integral, backward, np.array([0.1, 0.4, 1.1, 1.3]))
    assert report.passed and report.contract == "PASS" and not notes(report)


def test_a_small_batch_in_place_leaves_the_point_alone():
    class InPlace:
        def __init__(self):
            self.velocity = np.ones(3)  # moves nothing

        def forward(self, x):
            x *= 2
            return np.sin(x), x.copy()

        def backward(self, dout, x):
            return 2 * cosine(dout, x)

    report = check_gradients(InPlace(), X)
    assert report.passed and "velocity" not in str(report), str(report)


def test_a_forward_pass_without_a_cache_is_no_wrong_gradient():
    case = Case(
        "one", {"x": X.copy()}, lambda arrays: np.sin(arrays["x"]), lambda dout, cache: {"x": dout}, inputs=("x",)
    )
    assert check_case(case).verdict == "INCONCLUSIVE"


def test_what_is_random_cannot_be_checked():
    def dropout(x):
        mask = np.random.default_rng().random(x.shape) > 0.5
        return x * mask, mask

    report = check(dropout, lambda dout, mask: dout * mask, X)
    assert report.verdict == "INCONCLUSIVE" and "reseed=True seeds numpy.random" in str(report)
    assert check(dropout, lambda dout, mask: dout * mask, X, strict=True).verdict == "FAIL"
    calls = []

    def drifts(dout, x):
        calls.append(1)
        return cosine(dout, x) * (1 + 1e-3 * len(calls))

    assert check(sine, drifts, X).gradient == "FAIL"


# --- rounding is no fault ---------------------------------------------------------------------------------


def batchnorm(x):
    centred = x - x.mean(0)
    inverse = 1 / np.sqrt((centred**2).mean(0) + 1e-5)
    return centred * inverse, (centred * inverse, inverse)


def batchnorm_backward(dout, cache):
    out, inverse = cache
    return inverse * (dout - dout.mean(0) - out * (dout * out).mean(0))


def variance(x):
    return (x * x).mean(0) - x.mean(0) ** 2, x


def shuffled():
    """dw added up in another order each time."""
    rng = np.random.default_rng(0)

    def backward(dout, cache):
        x, w = cache
        return dout @ w.T, sum(np.outer(x[i], dout[i]) for i in rng.permutation(len(x)))

    return backward


def draw(*shape):
    return np.random.default_rng(0).standard_normal(shape)


ORDER = np.random.default_rng(0)
ROUNDED = {
    "batchnorm on numbers around 1e4": (batchnorm, batchnorm_backward, draw(40, 4) + 1e4),
    "a difference of two means": (variance, lambda d, x: 2 * d * (x - x.mean(0)) / 40, draw(40, 16) + 100),
    "denormals": (lambda x: (np.exp(x), x), lambda d, x: d * np.exp(x), np.array([-744.6, 0.3, 1.0])),
    "a gradient read off an update": (
        lambda x, w: (x @ w, (x, w)),
        lambda d, c: (d @ c[1].T, c[1] - (c[1] - c[0].T @ d)),
        draw(4, 5), draw(5, 3)),
    "digits lost and found": (sine, lambda d, x: (d * 3.0 + 1.0 - 1.0) / 3 * np.cos(x), draw(12)),
    "a digit lost at dout = 0": (sine, lambda d, x: (d + 1 / 3 - 0.1 - (1 / 3 - 0.1)) * np.cos(x), draw(12)),
    "outputs added up in another order": (
        lambda x: (np.array([sum(row) for row in ORDER.permuted(x, axis=1)]), x),
        lambda d, x: np.broadcast_to(d[:, None], x.shape), draw(3, 20)),
    "another order of addition": (lambda x, w: (x @ w, (x, w)), shuffled(), draw(14, 5), draw(5, 3)),
}  # fmt: skip


@pytest.mark.parametrize("name", ROUNDED)
def test_rounding_breaks_neither_structure_nor_contract(name):
    forward, backward, *arrays = ROUNDED[name]
    report = check(forward, backward, *arrays)
    assert (report.verdict, report.contract) == ("PASS", "PASS") and not notes(report), str(report)


def test_a_gradient_that_is_rounding_alone_breaks_no_contract():
    """A bias before batch normalisation."""

    def backward(dout, cache):
        dx = batchnorm_backward(dout, cache)
        return dx, dx.sum(0)

    report = check(lambda x, b: batchnorm(x + b), backward, draw(12, 3), draw(3))
    assert report.contract == "PASS" and report.gradient != "FAIL" and not report.cases[0].notes, str(report)


def test_denormals_alone_are_linear_as_far_as_they_go():
    x = np.array([-744.0, -743.5, -742.0])
    report = check(lambda x: (np.exp(x), x), lambda d, x: d * np.exp(x), x)
    assert [c.name for c in report.cases[0].checks if c.name == "linear in dout" and c.verdict == "PASS"]


def test_noise_that_is_measured_is_allowed_and_more_is_not():
    """Far below the tolerance, but above 1e-9: what the order of addition does, not what a threshold of dout does."""
    rng = np.random.default_rng(0)
    noisy = lambda d, x: cosine(d, x) * (1 + 3e-8 * rng.choice([-1, 1]))  # noqa: E731
    assert check(sine, noisy, X).passed
    assert check(sine, lambda d, x: cosine(d, x) + 3e-8, X).gradient == "FAIL"
    assert check(sine, lambda d, x: cosine(d, x) * (1 + 3e-8 * (abs(d) > 1)), X).gradient == "FAIL"


def test_finer_numbers_than_float64_are_rounded_to_it():
    fine = lambda array: array.astype(np.longdouble)  # noqa: E731
    assert check(lambda x: (np.sin(fine(x)), x), cosine, X).passed
    assert check(sine, lambda d, x: fine(cosine(d, x)), X).passed
    assert check(lambda x: (x[x > 0].sum(), x), lambda d, x: (x > 0) * d, X).passed
    assert check(lambda x: (2 * x, x), lambda d, x: np.sign(d).astype(int), X).gradient == "FAIL"


def test_two_numbers_that_differ_are_printed_so():
    calls = []

    def drifts(dout, x):
        calls.append(1)
        return cosine(dout, x) * (1 + 1e-12 * len(calls))

    case = function_case("drifts", sine, drifts, [X])
    (remark,) = [c.remark for c in check_case(case, Options(strict=True)).checks if c.name == "same bits twice"]
    assert difference(np.array([1.0, 2.0, 3.0]), np.array([1.1, 5.0, 3.0])) == " at [1]: 2 and 5"
    one, other = remark.rsplit(": ", 1)[1].split(" and ")
    assert one != other and abs(float(one) / float(other) - 1) < 1e-10


# --- what is not decided, why, and what to do ---------------------------------------------------------------


SIX = np.array([0.3, -1.2, 0.7, 1.1, -0.4, 0.9])


def lifted(offset, factor=1.0):
    """A sine whose third output is so large that its changes drown in rounding."""
    third = np.arange(6) == 2
    return check(lambda x: (np.sin(x) + offset * third, x), lambda d, x: cosine(d, x) * np.where(third, factor, 1), SIX)


def test_one_undecided_entry_of_a_few_is_a_note():
    report = lifted(1e7)
    assert report.passed and report.cases[0].arrays[0].skipped == 1
    assert "  note  x: 1 of 6 entries (x[2]) could not be decided: rounding hides it; the output is" in str(report)
    assert "1 skipped" in str(report).splitlines()[-1]
    assert lifted(1e7, 1.01).verdict == lifted(1e7, -1).verdict == "FAIL"
    assert lifted(1e12).verdict == "INCONCLUSIVE"  # it is not known to a thousandth
    two = check(lambda x: (np.sin(x) + 1e7, x), cosine, SIX[:2])
    assert two.verdict == "INCONCLUSIVE" and "2 of 2 entries could not be decided: rounding hides it" in str(two)
    alone = check(lambda x: (np.sin(x) + 1e7, x), cosine, SIX[:1])
    assert alone.verdict == "INCONCLUSIVE"


def test_one_entry_at_a_kink_of_a_few_is_a_note():
    relu = lambda x: (np.maximum(x, 0), x)  # noqa: E731
    x = SIX.copy()
    x[4] = 0
    report = check(relu, lambda d, x: d * (x > 0), x)
    assert report.passed and "  note  x: 1 of 6 entries lie at kinks" in str(report)
    assert check(relu, lambda d, x: d * np.where(x == 0, 1.5, x > 0), x).verdict == "FAIL"
    x[5] = 0
    report = check(relu, lambda d, x: d * (x > 0), x)
    assert report.verdict == "INCONCLUSIVE" and "2 of 6 entries lie at kinks" in str(report)
    x[5], x[1] = 1, 1e-12  # beside another that is too small to judge, it is not alone
    report = check(
        lambda x: ((x**2).sum() + max(x[4], 0), x), lambda d, x: d * (2 * x + (x > 0) * (np.arange(6) == 4)), x
    )
    assert report.verdict == "INCONCLUSIVE" and report.cases[0].arrays[0].skipped == 1


@pytest.mark.parametrize(
    ("forward", "backward", "x", "reason", "advice"),
    [
        (lambda x: (np.sin(x) + 1e9, x), cosine, SIX, "rounding hides it", "check it without offsets"),
        (
            lambda x: (abs(x), x), lambda d, x: d * np.sign(x), np.array([1e-11, 2, 3e-11, 1]),
            "a kink lies close by", "move x away from kinks, zeros and ties; try other values (on the command line: a"),
        (
            lambda x: (np.sin(x * 2e6), x), lambda d, x: 2e6 * d * np.cos(x * 2e6), SIX,
            "it bends too much", "check it without offsets"),
        (
            lambda x: (np.sin(x) + 100, x), lambda d, x: cosine(d, x) * (1 + 1e-6), SIX,
            "its error is as large as the tolerance", "a larger or smaller tolerance would decide"),
        (
            lambda x: (np.zeros(3), x), lambda d, x: np.zeros_like(x), SIX,
            "its gradient is 0 throughout, which says nothing", "give x other values"),
        (
            lambda x: ((x**2).sum(), x), lambda d, x: 2 * d * x, np.array([1e-12, 1, 2]),
            "too small to judge: 1 of 3 entries", "give x values of like size"),
        (
            lambda x: (np.maximum(x, 0), x), lambda d, x: d * (x > 0), np.zeros(3),
            "3 of 3 entries lie at kinks", "move x away from 0"),
    ],
)  # fmt: skip
def test_what_is_not_decided_says_why_and_what_to_do(forward, backward, x, reason, advice):
    report = check(forward, backward, x)
    array = report.cases[0].arrays[0]
    assert report.verdict == "INCONCLUSIVE", str(report)
    assert reason in array.remark and advice in array.remark, array.remark


def test_the_reason_is_the_larger_part_of_the_doubt():
    def estimate(value=1.0, uncertainty=1e-4, rounding=0.0, kink=""):
        none = np.zeros(0)
        return Estimate(value, uncertainty, 1e-3, value, value, kink, none, none.astype(bool), rounding)

    assert measure.why(estimate(), 1e-4, 1e-6) == measure.BENDS
    assert measure.why(estimate(rounding=1e-4), 1e-4, 1e-6) == measure.HIDDEN
    assert measure.why(estimate(np.nan, np.inf), np.inf, 1e-6) == measure.NO_STEPS
    assert measure.why(estimate(np.nan, np.inf, kink="near"), np.inf, 1e-6) == measure.KINK
    assert measure.why(estimate(kink="at"), 1e-4, 1e-6) == measure.SIDES
    assert measure.why(estimate(), 1e-7, 1e-6) == measure.BORDER
    said = measure.reasons([measure.BENDS, measure.HIDDEN, measure.HIDDEN, ""], "w")
    assert said.startswith(f"{measure.HIDDEN}, {measure.BENDS}; the output is large beside what a step in w")


def test_undecided_directions_say_why_and_no_two_equal_numbers_seem_to_differ():
    report = check(lambda x: (np.sin(x) + 1e9, x), cosine, SIX)
    (remark,) = [c.remark for c in report.cases[0].checks if c.name == "directions"]
    assert "4 of 4; along random direction 1: " in remark and "(to " in remark and "rounding hides it" in remark
    assert "the arrays" in remark
    wrong = check(sine, lambda d, x: cosine(d, x) * (1 + 1e-8), SIX, tolerance=1e-9)
    (remark,) = [c.remark for c in wrong.cases[0].checks if c.name == "directions"]
    said, measured = remark.split("direction 1: ")[1].split(", measured ")
    assert wrong.verdict == "FAIL" and said != measured
    rows = [line.split() for line in str(wrong).splitlines() if line.strip().startswith("x[")]
    assert rows and all(row[1] != row[2] for row in rows)
    large = np.random.default_rng(0).standard_normal(6000)
    report = check(lambda x: (np.sin(x) + 1e9, x), cosine, large)
    assert "could not be decided: rounding hides it" in report.cases[0].arrays[0].remark


# --- the report -------------------------------------------------------------------------------------------


def test_both_verdicts_are_in_the_report_and_in_each_case():
    report = check(*on_self(Sigmoid()), X)
    found = report.to_dict()
    (case,) = next(iter(found["operations"].values()))
    for values in (found, case):
        assert (values["verdict"], values["gradient"], values["contract"]) == ("PASS", "PASS", "FAIL")
    assert case["strict"] is False and case["notes"] == report.cases[0].notes
    assert {check["name"] for check in case["checks"] if check["contract"]} >= {"branches kept apart"}
    kept = check(sine, cosine, X)
    assert (kept.verdict, kept.gradient, kept.contract) == ("PASS", "PASS", "PASS") and "see notes" not in str(kept)
    broken = check(sine, lambda d, x: d[:1], X)
    assert (broken.gradient, broken.contract) == ("FAIL", "INCONCLUSIVE")


def test_the_notes_of_a_case_are_printed_in_any_event():
    for backward, verdict in ((cosine, "PASS"), (lambda d, x: None, "FAIL")):
        case = function_case("sine", sine, backward, [X])
        case.notes.append("labels are whole numbers: passed through and not checked")
        report = check_cases({"sine": [case]})
        assert report.verdict == verdict and "  note  labels are whole numbers" in str(report)
        assert case.notes == report.cases[0].notes == report.to_dict()["operations"]["sine"][0]["notes"]


def test_strict_holds_any_case_to_the_contract_of_ours_and_leaves_it_as_it_was():
    case = layer_case("updating", Updating(), X)
    forward, backward = case.forward, case.backward
    assert check_case(case).verdict == "PASS"
    assert check_case(case, Options(strict=True)).verdict == "FAIL"
    assert (case.forward, case.backward, case.strict, case.notes) == (forward, backward, False, [])
    np.testing.assert_array_equal(case.arrays["w"], W)
