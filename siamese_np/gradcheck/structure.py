"""What must hold of the numbers without any derivative, whoever wrote the pass.

A backward pass is the transpose of a linear map, applied to dout. So it gives the same numbers each time, twice as
much for twice dout, zero for zero, and the sum for a sum: for strict cases to the last bit, for others up to rounding.
How a pass treats its arguments, its cache and its state is another matter: contract.py.
"""

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np

from siamese_np.gradcheck.case import (
    FAIL,
    INCONCLUSIVE,
    PASS,
    TOO_COARSE,
    Array,
    Arrays,
    Broken,
    Case,
    Check,
    expect_finite,
    expect_gradients,
    two,
)
from siamese_np.gradcheck.differences import EPS
from siamese_np.gradcheck.measure import ROUNDING, TINY
from siamese_np.gradcheck.point import SAME_BITS, Point, index_of, signs

OTHERS = 1e-9  # relative to the largest number: what passes that are not strict may always differ by
NOISE = 8  # times the differences that are measured where there should be none


def start(case: Case, rng: np.random.Generator) -> tuple[Array, Array, Arrays, Check]:
    """Run `case` at its point: output, random weights dout of it, gradients; and whether all else was left alone.

    What would make a comparison of numbers meaningless is Broken. What can be undone is undone from here on:
    parameters that a pass changes are put back, and gradients that add up are told apart.
    """
    cannot = FAIL if case.strict else INCONCLUSIVE
    before, handed = {name: array.copy() for name, array in case.arrays.items()}, case.with_inputs()
    out = case.run(handed)[0].copy()
    faults = _changed(case, "forward", handed, before)
    if out.dtype != np.float64 and (case.strict or out.dtype != np.float32):
        raise Broken(f"forward turned float64 into {out.dtype}, {TOO_COARSE}", INCONCLUSIVE)
    expect_finite("the output", out, cannot)

    with contextlib.suppress(Broken):  # others may be out of its domain; what it keeps of them shows in the next call
        case.run(other_inputs(case))
    handed = case.with_inputs()
    again, cache = case.run(handed)
    if not (again.shape == out.shape and _close(case, again, out)):
        raise Broken(
            "forward is random or keeps a state: two calls with the same input gave different outputs"
            f"{difference(again, out)}; reseed=True seeds numpy.random and random before each call",
            cannot,
        )
    noise = NOISE * (abs(again - out).max(initial=0) + EPS * abs(out).max(initial=0))
    dout = signs(rng, out.shape) * rng.uniform(0.5, 1.5, out.shape)
    given, kept = dout.copy(), {name: array.copy() for name, array in handed.items()}
    gradients = case.gradients(dout, cache, lay=lambda _: given)
    if not np.array_equal(given, dout):
        at = difference(given, dout)
        faults.append(f"backward changed its argument dout{at}; right where nothing else needs it")
    faults += _changed(case, "backward", handed, kept)
    after = case.run()[0]
    if not (abs(after - out) <= noise).all():
        raise Broken(
            "backward updates the weights: the output for the same input changed"
            f"{difference(after, out)}; leave the update to an optimizer, or make it with a learning rate of 0",
            cannot,
        )
    expect_gradients(gradients, before, case.strict)
    gradients, fault = _told_apart(case, dout, gradients)
    return out, dout, gradients, contract("arguments left alone", [*faults, *fault])


def other_inputs(case: Case) -> Arrays:
    """Other numbers for the inputs: those of a second branch."""
    return case.with_inputs(lambda array: np.flip(array, 0 if array.ndim else ()) * 0.75)


def contract(name: str, faults: list[str]) -> Check:
    return Check(name, FAIL if faults else PASS, "; ".join(faults), contract=True)


def _changed(case: Case, which: str, handed: Arrays, before: Arrays) -> list[str]:
    """Sentences on the arrays that a pass wrote into. Parameters are put back, now and after each call to come."""
    names = [name for name, array in handed.items() if not np.array_equal(array, before[name])]
    faults, params = [], [name for name in names if name not in case.inputs]
    for name in names:
        at = difference(handed[name], before[name])
        if name in case.inputs:
            faults.append(f"{which} changed its input {name}{at}; right where nothing else needs it, as here a copy")
        else:
            faults.append(f"{which} changed the parameter {name}{at}; it is put back after each call here")
            handed[name][...] = before[name]
    if params:
        setattr(case, which, _putting_back(getattr(case, which), {name: handed[name] for name in params}))
    return faults


def _putting_back(function: Callable[..., Any], params: Arrays) -> Callable[..., Any]:
    def run(*arguments: Any) -> Any:
        before = {name: array.copy() for name, array in params.items()}
        try:
            return function(*arguments)
        finally:
            for name, array in params.items():
                array[...] = before[name]

    return run


def _told_apart(case: Case, dout: Array, gradients: Arrays) -> tuple[Arrays, list[str]]:
    """The gradients, and a sentence if they add up, where dout = 0 leaves what was there: told apart from here on."""
    second = case.gradients(dout, case.run()[1])
    names = [name for name, gradient in gradients.items() if not _close(case, second[name], gradient)]
    total = case.gradients(np.zeros_like(dout), case.run()[1]) if names else {}
    if not names or not all(second[name].any() and _close(case, total[name], second[name]) for name in names):
        return gradients, []
    twice = all(_close(case, second[name], 2 * gradients[name]) for name in names)
    case.backward = _each_part(case.backward, {name: total[name] for name in names})
    which = f"the gradient of {', '.join(names)} adds up from call to call"
    how = "a second call gave exactly twice as much" if twice else "a call gave its own on top of what was there"
    return case.gradients(dout, case.run()[1]), [f"{which}: {how}; right where it is set to 0 before each step"]


def _each_part(backward: Callable[..., Any], totals: Arrays) -> Callable[..., Any]:
    def run(dout: Array, cache: Any) -> Any:
        found = dict(backward(dout, cache))
        for name, before in totals.items():
            totals[name] = np.array(found[name])
            found[name] = totals[name] - before
        return found

    return run


def check_structure(point: Point) -> list[Check]:
    """All checks of what backward makes of dout: up to rounding, and then, if strict, exactly, which is contract."""
    noise, found = _noise(point), []
    for name, check in {"same bits twice": _same_bits, "linear in dout": _linear, "zero in, zero out": _zero}.items():
        exact = False
        try:
            fault = check(point, noise, exact)
            if point.case.strict and not fault:
                exact, fault = True, check(point, noise, True)
        except Broken as error:
            fault = str(error)
        found.append(Check(name, FAIL if fault else PASS, fault, contract=exact and bool(fault)))
    return found


def _noise(point: Point) -> dict[str, float]:
    """What rounding may do to each gradient: how two calls differ, and column-major arguments, some times over."""
    case, noise = point.case, {}
    try:
        column_major = case.with_inputs(lambda array: np.array(array, order="F"))
        found = [case.gradients(point.dout, case.run(arrays)[1]) for arrays in (None, column_major)]
    except Broken:  # it does not take such arrays
        found = []
    for name, gradient in point.gradients.items():
        differences = [float(abs(g[name] - gradient).max(initial=0)) for g in found]
        noise[name] = NOISE * min(max(differences, default=0.0), point.tolerance * point.floors[name] / ROUNDING)
        if point.single:
            noise[name] = max(noise[name], point.tolerance * abs(gradient).max(initial=0))
    return noise


def _same_bits(point: Point, noise: dict[str, float], exact: bool) -> str:
    for name, gradient in point.case.gradients(point.dout, point.case.run()[1]).items():
        expected = point.gradients[name]
        if not same(point, name, gradient, expected, exact=exact):
            return f"backward called again gave another gradient of {name}{difference(gradient, expected)}"
    return ""


def _linear(point: Point, noise: dict[str, float], exact: bool) -> str:
    case, dout, other = point.case, point.dout, np.roll(point.dout, 1) ** 2
    double, second, both = (case.gradients(d, case.run()[1]) for d in (2 * dout, other, dout + other))
    for name, gradient in point.gradients.items():
        allowed = 0.0 if exact else _rounding(noise[name], gradient)
        if not (abs(double[name] - 2 * gradient) <= 2 * allowed).all():
            return f"twice dout did not give {'exactly ' if exact else ''}twice the gradient of {name}"
        largest = abs(gradient).max(initial=0) + abs(second[name]).max(initial=0)
        allowed = SAME_BITS * largest if exact else _rounding(noise[name], gradient, second[name])
        if not (abs(both[name] - gradient - second[name]) <= allowed + point.floors[name]).all():
            return f"the gradient of {name} for a sum of two dout is not the sum of the two gradients"
    return ""


def _zero(point: Point, noise: dict[str, float], exact: bool) -> str:
    for name, gradient in point.case.gradients(np.zeros_like(point.dout), point.case.run()[1]).items():
        if not (abs(gradient) <= (0.0 if exact else _rounding(noise[name], point.gradients[name]))).all():
            return f"dout = 0 gave a gradient of {name} that is not 0"
    return ""


def _rounding(noise: float, *gradients: Array) -> float:
    return max(OTHERS * float(sum(abs(g).max(initial=0) for g in gradients)), noise, TINY)


def same(point: Point, name: str, ours: Array, expected: Array, within: float = 0.0, exact: bool | None = None) -> bool:
    """Whether two ways to a gradient or the output agree: up to `within` if `exact` (or strict), else the tolerance."""
    exact = point.case.strict if exact is None else exact
    allowed = (within if exact else point.tolerance) * abs(expected).max(initial=0)
    allowed += 0.0 if exact else point.floors.get(name, 0.0)
    return ours.shape == expected.shape and bool((abs(ours - expected) <= allowed).all())


def _close(case: Case, ours: Array, expected: Array) -> bool:
    allowed = 0.0 if case.strict else OTHERS * abs(expected).max(initial=0)
    return bool((abs(ours - expected) <= allowed).all())


def difference(ours: Array, expected: Array) -> str:
    """Where two arrays differ most, and both numbers there."""
    if ours.shape != expected.shape or not ours.ndim:
        return ""
    off = np.nan_to_num(abs(ours - expected), nan=np.inf)
    at = index_of(int(off.argmax()), off.shape)
    return f" at {list(at)}: {' and '.join(two(ours[at], expected[at]))}"
