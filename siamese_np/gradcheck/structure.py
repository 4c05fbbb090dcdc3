"""What must hold exactly, whatever the numbers are: no derivative is needed to check it.

A backward pass is the transpose of a linear map, applied to dout. So it gives the same numbers each time, twice as
much for twice dout, exactly zero for zero, and the sum for a sum. It leaves its arguments alone, works with any memory
layout, on a batch of 0 and of 1, keeps the caches of two branches apart, and lets shared parameters add up the
gradients of both. Cases that are `strict` give the same bits; others may differ by rounding errors.
"""

from collections.abc import Callable

import numpy as np

from siamese_np.gradcheck.case import FAIL, PASS, Array, Arrays, Broken, Case, Check, expect_finite, expect_gradients
from siamese_np.gradcheck.entries import SAME_BITS, Point, signs

ROUNDING = 1e-9  # relative to the largest number: what other passes may differ by


def start(case: Case, rng: np.random.Generator) -> tuple[Array, Array, Arrays]:
    """Run `case` at its point: output, random weights dout of it, and gradients; Broken where it misbehaves.

    Everything that would make a comparison of numbers meaningless is found here.
    """
    before = {name: array.copy() for name, array in case.arrays.items()}
    out, cache = case.run()
    _expect_unchanged("forward", before, case.arrays)
    if out.dtype != np.float64:
        raise Broken(
            f"forward turned float64 into {out.dtype}, too coarse for differences: it must keep its input's dtype",
            "INCONCLUSIVE",
        )
    expect_finite("the output", out)
    out = out.copy()
    again = case.run()[0]
    if not _same(case, again, out):
        raise Broken(
            "forward is random or keeps a state: two calls with the same input gave different outputs"
            f"{_first_difference(again, out)}"
        )
    dout = signs(rng, out.shape) * rng.uniform(0.5, 1.5, out.shape)
    kept = dout.copy()
    gradients = case.gradients(dout, cache)
    if not np.array_equal(dout, kept):
        raise Broken(f"backward changed its argument dout{_first_difference(dout, kept)}")
    _expect_unchanged("backward", before, case.arrays)
    expect_gradients(gradients, case.arrays)
    return out, dout, gradients


def check_structure(point: Point) -> tuple[list[Check], list[str]]:
    """All structural checks, and notes on what is allowed but worth knowing."""
    case, out, dout, gradients = point.case, point.out, point.dout, point.gradients
    notes: list[str] = []
    checks: list[tuple[str, Callable[[], str | None]]] = [
        ("same bits twice", lambda: _same_bits(case, dout, gradients)),
        ("linear in dout", lambda: _linear(case, dout, gradients, point.floors)),
        ("zero in, zero out", lambda: _zero(case, dout)),
        ("any memory layout", lambda: _layouts(case, out, dout, gradients)),
        ("branches kept apart", lambda: _branches(case, dout, gradients, notes)),
    ]
    first = [case.arrays[name] for name in case.inputs[:1]]
    # a loss has no batch axis
    if case.batch and out.ndim and first[0].ndim and out.shape[0] == len(first[0]):
        checks.append(("batch of 1", lambda: _batch(case, out, 1)))
        checks.append(("batch of 0", lambda: _batch(case, out, 0)))
    found = []
    for name, check in checks:
        try:
            fault = check()
        except Broken as error:
            fault = str(error)
        if fault and name == "batch of 0" and not case.strict:
            notes.append(f"batch of 0: {fault}")
        else:
            found.append(Check(name, FAIL if fault else PASS, fault or ""))
    return found, notes


def _same_bits(case: Case, dout: Array, gradients: Arrays) -> str | None:
    cache = case.run()[1]
    for _ in range(2):  # with a fresh cache, and with one that was used before
        for name, gradient in case.gradients(dout, cache).items():
            if not _same(case, gradient, gradients[name]):
                where = _first_difference(gradient, gradients[name])
                return f"backward called again gave another gradient of {name}{where}"
    return None


def _linear(case: Case, dout: Array, gradients: Arrays, floors: dict[str, float]) -> str | None:
    cache, other = case.run()[1], np.roll(dout, 1) ** 2
    double, second = case.gradients(2 * dout, cache), case.gradients(other, case.run()[1])
    both = case.gradients(dout + other, case.run()[1])
    for name, gradient in gradients.items():
        if not _same(case, double[name], 2 * gradient):
            return f"twice dout did not give {'exactly ' if case.strict else ''}twice the gradient of {name}"
        within = SAME_BITS if case.strict else ROUNDING
        allowed = within * (abs(gradient).max(initial=0) + abs(second[name]).max(initial=0)) + floors[name]
        if not (abs(both[name] - gradient - second[name]) <= allowed).all():
            return f"the gradient of {name} for a sum of two dout is not the sum of the two gradients"
    return None


def _zero(case: Case, dout: Array) -> str | None:
    for name, gradient in case.gradients(np.zeros_like(dout), case.run()[1]).items():
        if gradient.any():  # NaN counts as True
            return f"dout = 0 gave a gradient of {name} that is not 0"
    return None


def _layouts(case: Case, out: Array, dout: Array, gradients: Arrays) -> str | None:
    """Arguments in column-major order, and as every second number of a larger array."""
    for label, lay in (("column-major", lambda array: np.array(array, order="F")), ("strided", _strided)):
        arrays = {name: lay(array) if name in case.inputs else array for name, array in case.arrays.items()}
        moved, cache = case.run(arrays)
        found = {"the output": (moved, out)}
        for name, gradient in case.gradients(lay(dout), cache).items():
            found[f"the gradient of {name}"] = (gradient, gradients[name])
        for what, (ours, expected) in found.items():
            if not _same(case, ours, expected, SAME_BITS):
                return f"{label} arguments changed {what}"
    return None


def _branches(case: Case, dout: Array, gradients: Arrays, notes: list[str]) -> str | None:
    """Two forward passes, then their backward passes: each cache must serve its own branch, gradients add up."""
    _, cache = case.run()
    other = {n: np.flip(a, 0 if a.ndim else ()) * 0.75 if n in case.inputs else a for n, a in case.arrays.items()}
    _, other_cache = case.run(other)
    first = case.gradients(dout, cache)
    for name, gradient in first.items():
        if not _same(case, gradient, gradients[name]):
            fault = f"after another forward pass, backward gave another gradient of {name} for the old cache"
            return f"{fault}: what it needs must be in the cache, not on the layer"
    shared = [name for name in case.arrays if name not in case.inputs] if case.inputs else []
    second = case.gradients(dout, other_cache)
    case.gradients(dout, case.run()[1])
    both = case.gradients(dout, case.run(other)[1], zero=False)
    for name in shared:
        expected = first[name] + second[name]
        if not _same(case, both[name], expected, SAME_BITS):
            fault = f"the gradient of {name} after two branches is not the sum of both"
            if _same(case, both[name], second[name]):
                fault = f"backward overwrites the gradient of {name}: shared by two branches, one of them is lost"
            if case.strict:
                return fault
            notes.append(fault)
    return None


def _batch(case: Case, out: Array, size: int) -> str | None:
    arrays = {name: array[:size] if name in case.inputs else array for name, array in case.arrays.items()}
    fewer, cache = case.run(arrays)
    if fewer.shape != (size, *out.shape[1:]):
        return f"a batch of {size} gave an output of shape {fewer.shape}, not {(size, *out.shape[1:])}"
    gradients = case.gradients(np.ones_like(fewer), cache)
    expect_gradients(gradients, arrays)
    full = [name for name, gradient in gradients.items() if size == 0 and gradient.any()]
    return f"an empty batch gave a gradient of {full[0]} that is not 0" if full else None


def _same(case: Case, ours: Array, expected: Array, within: float = 0.0) -> bool:
    """Whether two ways to one result agree: `within` so much of its largest number, or up to rounding if not strict."""
    allowed = (within if case.strict else ROUNDING) * abs(expected).max(initial=0)
    return ours.shape == expected.shape and bool((abs(ours - expected) <= allowed).all())


def _strided(array: Array) -> Array:
    """The same numbers, with something else between each two of them."""
    if not array.ndim:
        return array
    wide = np.full((*array.shape[:-1], 2 * array.shape[-1]), np.nan, array.dtype)
    wide[..., ::2] = array
    return wide[..., ::2]


def _expect_unchanged(which: str, before: Arrays, arrays: Arrays) -> None:
    for name, array in arrays.items():
        if not np.array_equal(array, before[name]):
            at = _first_difference(array, before[name])
            array[...] = before[name]
            raise Broken(f"{which} changed its input {name}{at}")


def _first_difference(ours: Array, expected: Array) -> str:
    if ours.shape != expected.shape or not ours.ndim:
        return ""
    at = tuple(int(i) for i in np.argwhere(ours != expected)[0])
    return f" at {list(at)}: {ours[at]:g} and {expected[at]:g}"
