"""How a pass treats its arguments, its cache and its state: required of strict cases, notes for all others.

Two Siamese branches want more than one forward and one backward pass: a cache must serve again, whatever was computed
since, shared parameters must add up the gradients of both, and neither memory layout nor batch size may matter. Whether
arguments are left alone shows in the first call: `siamese_np.gradcheck.structure.start`.
"""

import contextlib
from collections.abc import Callable
from functools import partial

import numpy as np

from siamese_np.gradcheck.case import Array, Broken, Check, expect_gradients
from siamese_np.gradcheck.point import SAME_BITS, Point
from siamese_np.gradcheck.structure import contract, difference, other_inputs, same

ONCE = "right when used once"
NO_BRANCHES = f"{ONCE}; not fit for two Siamese branches, because"


def check_contract(point: Point) -> list[Check]:
    """All checks of the contract but that of the first call."""
    case, out = point.case, point.out
    checks: dict[str, Callable[[Point], str]] = {"cache used twice": _twice, "any memory layout": _layouts}
    with contextlib.suppress(Broken):  # other numbers may be out of its domain
        if not case.strict:
            case.run(other_inputs(case))
        checks |= {"branches kept apart": _branches, "branches added up": _sum}
    first = [case.arrays[name] for name in case.inputs[:1]]
    # a loss has no batch axis
    if case.batch and first and out.ndim and first[0].ndim and out.shape[0] == len(first[0]):
        checks |= {"batch of 1": partial(_batch, 1), "batch of 0": partial(_batch, 0)}
    found = []
    for name, check in checks.items():
        try:
            fault = check(point)
        except Broken as error:
            fault = f"{name}: {error}"
        found.append(contract(name, [fault] if fault else []))
    return found


def _twice(point: Point) -> str:
    case, dout = point.case, point.dout
    cache = case.run()[1]
    case.gradients(dout, cache)
    try:
        second = case.gradients(dout, cache)
    except Broken as error:
        return f"a second backward pass with the same cache failed ({error}): {ONCE} for each forward pass"
    for name, gradient in second.items():
        expected = point.gradients[name]
        if not same(point, name, gradient, expected):
            what = f"a second backward pass with the same cache gave another gradient of {name}"
            why = f"{difference(gradient, expected)}: it works in place on its cache"
            if same(point, name, gradient, 2 * expected):
                why = ": it adds up, exactly twice as much"
            return f"{what}{why}; {ONCE} for each forward pass"
    return ""


def _layouts(point: Point) -> str:
    """Arguments in column-major order, and as every second number of a larger array."""
    case = point.case
    for label, lay in (("column-major", lambda array: np.array(array, order="F")), ("strided", _strided)):
        moved, cache = case.run(case.with_inputs(lay))
        found = {"": (moved, point.out)}
        for name, gradient in case.gradients(point.dout, cache, lay=lay).items():
            found[name] = (gradient, point.gradients[name])
        for name, (ours, expected) in found.items():
            if not same(point, name, ours, expected, SAME_BITS):
                what = f"the gradient of {name}" if name else "the output"
                return f"{label} arguments changed {what}; right for C-contiguous arrays"
    return ""


def _branches(point: Point) -> str:
    """Two forward passes, then the backward pass of the first: its output and its cache must still be there."""
    case = point.case
    out, cache = case.run()
    kept = out.copy()
    case.run(other_inputs(case))
    if not np.array_equal(out, kept):
        return f"forward writes each output into the same array; {NO_BRANCHES} the second output overwrites the first"
    for name, gradient in case.gradients(point.dout, cache).items():
        if not same(point, name, gradient, point.gradients[name]):
            fault = f"after another forward pass, backward gave another gradient of {name} for the old cache"
            fault += ": what it needs must be in the cache, not on the layer"
            return f"{fault}; {NO_BRANCHES} the second forward pass overwrites what the first backward pass needs"
    return ""


def _sum(point: Point) -> str:
    """The gradients of shared parameters must be the sum of those of both branches."""
    case, dout = point.case, point.dout
    shared = [name for name in case.arrays if name not in case.inputs] if case.inputs and not case.fresh else []
    if not shared:
        return ""
    second = case.gradients(dout, case.run(other_inputs(case))[1])
    first = case.gradients(dout, case.run()[1])
    both = case.gradients(dout, case.run(other_inputs(case))[1], zero=False)
    for name in shared:
        if not same(point, name, both[name], first[name] + second[name], SAME_BITS):
            fault = f"the gradient of {name} after two branches is not the sum of both"
            if same(point, name, both[name], second[name]):
                fault = f"backward overwrites the gradient of {name}: shared by two branches, one of them is lost"
            return f"{fault}; {ONCE}"
    return ""


def _batch(size: int, point: Point) -> str:
    case, out = point.case, point.out
    arrays = case.with_inputs(lambda array: array[:size].copy())
    fewer, cache = case.run(arrays)
    if fewer.shape != (size, *out.shape[1:]):
        return f"a batch of {size} gave an output of shape {fewer.shape}, not {(size, *out.shape[1:])}"
    gradients = case.gradients(np.ones_like(fewer), cache)
    expect_gradients(gradients, arrays, case.strict)
    full = [name for name, gradient in gradients.items() if size == 0 and gradient.any()]
    return f"an empty batch gave a gradient of {full[0]} that is not 0" if full else ""


def _strided(array: Array) -> Array:
    """The same numbers, with something else between each two of them."""
    if not array.ndim:
        return array.copy()
    wide = np.full((*array.shape[:-1], 2 * array.shape[-1]), np.nan, array.dtype)
    wide[..., ::2] = array
    return wide[..., ::2]
