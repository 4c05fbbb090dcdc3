"""The gradient checker's time in hand: calls that are bounded, foretold, counted, limited, and interrupted."""

import contextlib
import io
import itertools
import json
import re
import signal
import sys
import time

import numpy as np
import pytest

from siamese_np.cli import main
from siamese_np.errors import OptionError
from siamese_np.gradcheck import assert_gradients, check_gradients, evidence
from siamese_np.gradcheck.adapters import function_case, layer_case
from siamese_np.gradcheck.budget import expected
from siamese_np.gradcheck.changes import Changes
from siamese_np.gradcheck.engine import Options, check_case
from siamese_np.layers import Conv2D, Dense


class Counted:
    """The sum of tanh, or tanh, that counts its calls; backward is wrong in one entry if asked for."""

    def __init__(self, scalar=True, wrong=None, at_call=None, action=None):
        self.calls, self.scalar, self.wrong, self.at_call, self.action = 0, scalar, wrong, at_call, action

    def forward(self, x):
        self.calls += 1
        if self.calls == self.at_call:
            self.action()
        out = np.tanh(x)
        return (out.sum() if self.scalar else out), x

    def backward(self, dout, x):
        dx = dout * (1 - np.tanh(x) ** 2)
        if self.wrong is not None:
            dx[self.wrong] *= -1
        return dx


FINDING = 4  # calls at most that find out how a pass is called, before the check begins


def draw(*shape):
    return np.random.default_rng(0).uniform(0.5, 1.5, shape)


def check(counted, x, **options):
    return check_gradients(counted.forward, x, backward=counted.backward, **options)


def interrupt():
    signal.raise_signal(signal.SIGINT)


@pytest.fixture(autouse=True)
def _interruptible():
    """Ctrl-C raises, also in the background of a shell, which ignores it there."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


# --- how many calls ---------------------------------------------------------------------------------------

SIZES = [1, 40, 2_000, 4_999, 5_000, 12_000]


@pytest.mark.parametrize("scalar", [True, False])
def test_calls_are_counted_bounded_and_without_a_cliff(scalar):
    calls = []
    for size in SIZES:
        counted = Counted(scalar)
        case = function_case("tanh", counted.forward, counted.backward, [draw(size)])
        coming = expected(case, case.run()[0].size, None, 0.0)
        counted.calls = 0
        result = check_case(case)
        assert result.verdict == "PASS" and result.calls == counted.calls
        assert coming.calls / 3 <= counted.calls <= 3 * coming.calls
        assert counted.calls <= coming.most <= 60_000
        assert counted.calls <= 300 + 50 * size  # nor do the bounds of large arrays make small ones dear
        calls.append(counted.calls)
    for (size, before), (larger, after) in itertools.pairwise(zip(SIZES, calls, strict=True)):
        ratio = larger / size
        assert before / ratio - 350 <= after <= before * ratio + 350, (size, larger)


def test_what_is_in_doubt_is_bounded_too():
    """Each entry of sin(1000 x) takes up to 50 calls, each small one 46 more: of 1,000 entries, some are checked."""
    x = draw(1_000)
    report = check_gradients(lambda x: (np.sin(1000 * x), x), x, backward=lambda d, x: d * 1000 * np.cos(1000 * x))
    (array,) = report.cases[0].arrays
    assert report.verdict == "PASS" and report.calls < 40_000
    assert 32 <= array.checked < 1_000 and array.directions == 8


def test_small_entries_are_bounded_too():
    x = np.logspace(-7, 0, 2_000)
    report = check_gradients(lambda x: (np.sum(x**3), x), x, backward=lambda d, x: d * 3 * x**2)
    assert report.verdict != "FAIL" and report.calls < 40_000


@pytest.mark.parametrize("layer", [Dense(5, 4, dtype=np.float64), Conv2D(1, 2, 3, dtype=np.float64)])
def test_calls_of_a_layer_are_foretold(layer):
    x = draw(3, 5) if isinstance(layer, Dense) else draw(2, 6, 6, 1)
    case = layer_case("layer", layer, x)
    coming, result = expected(case, case.run()[0].size, None, 0.0), check_case(case)
    assert coming.calls / 3 <= result.calls <= 3 * coming.calls and result.calls <= coming.most
    assert "forward calls, at most" in str(coming)


def test_report_and_json_say_what_it_took(capsys):
    report = check(Counted(), draw(7))
    assert f"; {report.calls} forward calls; seed 0" in str(report) and report.seconds > 0
    found = report.to_dict()
    assert found["calls"] == report.calls == found["operations"]["forward"][0]["calls"] > 0 < found["seconds"]
    assert main(["gradcheck", "relu", "--json"]) == 0
    assert {"calls", "seconds"} <= set(json.loads(capsys.readouterr().out))


# --- limits -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("entries", [1, 10, 60, 1_000])
def test_so_many_entries_of_each_array(entries):
    counted = Counted(scalar=False)
    report = check(counted, draw(60), entries=entries)
    (array,) = report.cases[0].arrays
    assert report.passed and array.checked == min(entries, 60) and array.directions == (1 if entries >= 60 else 8)
    assert check(Counted(False, wrong=37), draw(60), entries=entries).verdict == "FAIL"


@pytest.mark.parametrize(
    "limits", [{"entries": 0}, {"entries": 2.5}, {"entries": True}, {"seconds": 0}, {"seconds": float("nan")}]
)
def test_limits_that_are_none(limits):
    with pytest.raises(OptionError, match=f"{next(iter(limits))} must be"):
        check(Counted(), draw(3), **limits)


class Clock:
    """A clock that only forward moves."""

    def __init__(self, monkeypatch, per_call):
        self.now, self.per_call = 0.0, per_call
        monkeypatch.setattr(time, "perf_counter", lambda: self.now)

    def layer(self, **options):
        counted = Counted(**options)
        forward = counted.forward

        def slow(x):
            self.now += self.per_call
            return forward(x)

        counted.forward = slow
        return counted


def test_in_a_given_time_a_sample_is_checked(monkeypatch):
    """With 100 s at 0.05 s a call, an array of 1,000 gets as many entries as fit, beside all other checks."""
    clock = Clock(monkeypatch, 0.05)
    counted = clock.layer(scalar=False)
    report = check(counted, draw(1_000), seconds=100)
    (array,) = report.cases[0].arrays
    assert report.passed and 32 <= array.checked < 1_000 and array.directions == 8
    assert 1_000 <= report.calls <= 2_000 == 100 / 0.05


@pytest.mark.parametrize("calls", [1, 10, 60, 300, 420])
def test_what_is_not_reached_in_time_is_said(monkeypatch, calls):
    clock = Clock(monkeypatch, 1.0)
    counted = clock.layer(scalar=False)
    report = check(counted, draw(1_000), seconds=calls)
    assert report.verdict == "INCONCLUSIVE" and "time is up" in str(report) and not report.interrupted
    assert report.calls <= calls <= counted.calls <= calls + FINDING
    assert check(clock.layer(scalar=False, wrong=...), draw(1_000), seconds=100).verdict == "FAIL"


def test_all_cases_share_the_time(monkeypatch):
    from siamese_np.gradcheck.engine import check_cases

    clock = Clock(monkeypatch, 1.0)
    layers = [clock.layer(scalar=False) for _ in range(3)]
    cases = [function_case(str(k), layer.forward, layer.backward, [draw(900)]) for k, layer in enumerate(layers)]
    report = check_cases({"three": cases}, Options(seconds=3_000))
    assert report.passed and report.calls <= 3_000
    assert all(500 < case.calls < 1_500 for case in report.cases)


# --- Ctrl-C -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at_call", [5, 30, 60, 250, 330, 480])
def test_interrupted_it_says_what_was_found(at_call):
    x = draw(60)
    counted = Counted(False, at_call=at_call, action=interrupt)
    report = check(counted, x)
    assert report.interrupted and report.verdict == "INCONCLUSIVE" and "interrupted" in str(report)
    assert counted.calls == at_call and at_call - FINDING <= report.calls <= at_call
    assert np.array_equal(x, draw(60))
    if at_call == 250:
        (array,) = report.cases[0].arrays
        assert 0 < array.checked < 60 and f"interrupted: {array.checked} of 60 entries were reached" in str(report)


def test_what_is_wrong_stays_wrong_when_interrupted():
    report = check(Counted(False, wrong=..., at_call=200, action=interrupt), draw(60))
    assert report.verdict == "FAIL" and report.interrupted


def test_a_test_that_is_interrupted_is_interrupted():
    counted = Counted(at_call=100, action=interrupt)
    with pytest.raises(KeyboardInterrupt):
        assert_gradients(counted.forward, draw(60), backward=counted.backward)


SLOW = """
import signal
import numpy as np

calls = 0

def tanh_forward(x):
    global calls
    calls += 1
    if calls == 150:
        signal.raise_signal(signal.SIGINT)
    return np.tanh(x), x

def tanh_backward(dout, x):
    return dout * (1 - np.tanh(x) ** 2)
"""


def test_interrupted_on_the_command_line(tmp_path, monkeypatch, capsys):
    (tmp_path / "interrupted_layer.py").write_text(SLOW)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    status = main(["gradcheck", "interrupted_layer:tanh_forward", "--shape", "60", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert status == 130 and found["verdict"] == "INCONCLUSIVE" and 150 - FINDING <= found["calls"] <= 150
    monkeypatch.delitem(sys.modules, "interrupted_layer")
    assert main(["gradcheck", "interrupted_layer:tanh_forward", "--shape", "60"]) == 130
    assert "interrupted" in capsys.readouterr().out


# --- one wrong entry among many ---------------------------------------------------------------------------


@pytest.mark.parametrize(("scalar", "rows"), [pytest.param(True, 1000, marks=pytest.mark.long), (False, 20)])
def test_the_wrong_entry_among_very_many_is_named(scalar, rows, monkeypatch):
    monkeypatch.setattr(evidence, "MAX_SLOPES", 10**6)  # the hint may be of a part of the sample
    x = draw(rows, 1000)
    report = check(Counted(scalar, wrong=(7, 456)), x)
    (array,) = report.cases[0].arrays
    (entry,) = [e for e in array.worst if not isinstance(e.index, str) and e.verdict == "FAIL"]
    assert report.verdict == "FAIL" and entry.index == (7, 456)
    assert entry.analytic == pytest.approx(-entry.numeric) and "found by halving" in entry.remark
    assert "[7, 456]" in array.hint and report.calls <= 3_000


@pytest.mark.parametrize("index", [0, 1, 4_998, 4_999])
def test_the_wrong_entry_is_found_at_either_end_and_beside_kinks(index):
    x = np.random.default_rng(0).standard_normal(5_000)
    x[index] = 1.0

    def backward(dout, x):
        dx = dout * (x > 0)
        dx[index] *= 1.01
        return dx

    report = check_gradients(lambda x: (np.maximum(x, 0), x), x, backward=backward, entries=40)
    assert report.verdict == "FAIL" and (index,) in [entry.index for entry in report.cases[0].arrays[0].worst]


def test_the_hint_of_many_outputs_looks_at_few_entries(monkeypatch):
    """Slopes of single outputs in all entries would take too much memory."""
    monkeypatch.setattr(evidence, "MAX_SLOPES", 100)
    w = draw(5, 4)
    report = check_gradients(lambda x: (x @ w, x), draw(6, 5), backward=lambda dout, x: 2 * dout @ w.T)
    assert report.verdict == "FAIL" and "multiplied by 2" in str(report)


# --- outputs in little memory -----------------------------------------------------------------------------


@pytest.mark.parametrize("outputs", [1, 512, 513, 9_999, 40_000])
@pytest.mark.parametrize("moving", [1, 0.5, 0.01])
def test_changes_are_those_of_all_outputs(outputs, moving):
    """Slope, jump between the sides, and size of what moves: as from the full arrays, however few are kept."""
    rng = np.random.default_rng(0)
    out, dout, right, left = rng.standard_normal((4, outputs))
    still = rng.random(outputs) >= moving
    right[still] = left[still] = out[still]
    changes = Changes(out, dout, abs(out))
    for h in (0.1, 0.01):
        changes.add(out + h * (right - out), out + h * (left - out), h)
    changes.finish()
    after, before = (right - out) * dout, (out - left) * dout
    for k in range(2):
        got_right, got_left = changes.right[k] * changes.dout, changes.left[k] * changes.dout
        np.testing.assert_allclose([got_right.sum(), got_left.sum()], [after.sum(), before.sum()], atol=1e-9)
        np.testing.assert_allclose(abs(got_right - got_left).sum(), abs(after - before).sum(), rtol=1e-9, atol=1e-9)
    moved = (changes.right != 0).any(axis=0) | (changes.left != 0).any(axis=0)
    size = (changes.rounding * abs(changes.dout))[moved].sum()
    np.testing.assert_allclose(size, abs(out * dout)[~still].sum(), rtol=1e-9)
    unmoved = (changes.rounding * abs(changes.dout))[~moved].sum() + changes.still
    np.testing.assert_allclose(unmoved, abs(out * dout)[still].sum(), rtol=1e-9, atol=1e-9)
    assert changes.right.shape[1] <= max(10_000, 2)


# --- progress ---------------------------------------------------------------------------------------------


def shown(monkeypatch, per_call, without_tqdm=False, **options):
    if without_tqdm:
        monkeypatch.setitem(sys.modules, "tqdm", None)
    clock = Clock(monkeypatch, per_call)
    stream = io.StringIO()
    with contextlib.redirect_stderr(stream):
        check(clock.layer(scalar=False), draw(30), **options)
    return stream.getvalue()


def test_progress_is_shown_on_request_where_there_is_time_for_it(monkeypatch):
    bar = shown(monkeypatch, 0.1, progress=True)
    assert re.search(r"slow: +\d+%.* calls", bar)
    assert not shown(monkeypatch, 0.1)
    assert not shown(monkeypatch, 1e-6, progress=True)


def test_without_a_bar_there_is_a_sentence(monkeypatch):
    said = shown(monkeypatch, 0.1, without_tqdm=True, progress=True)
    assert re.fullmatch(r"slow: about [\d,]+ forward calls, at most [\d,]+; about \d+ s\n", said)
