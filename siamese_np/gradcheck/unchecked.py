"""Arrays that the output depends on, but whose gradients are not checked: a check without them is no PASS.

A layer may keep numbers anywhere: in attributes, lists, dicts, layers within layers, variables of a function. So
every floating-point array that can be reached from it is moved, and the output says whether it matters. Caches
and gradients do not move it, and what is checked is put back before the output is looked at.
"""

from collections import deque
from collections.abc import Iterator, Mapping
from types import FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np

from siamese_np.gradcheck.case import INCONCLUSIVE, PASS, Array, Broken, Check
from siamese_np.gradcheck.entries import Point, signs

MOVES = (1e-3, 1.0)  # of the size of an array: less than a step of a threshold, and more
MAX_NAMED = 4


def check_owner(point: Point) -> Check:
    """Whether the output depends on no array of the layer but those that are checked."""
    found = [name for name, array in float_arrays(point.case.owner).items() if _moves_output(point, array)]
    if not found:
        return Check("arrays of the layer", PASS)
    named = ", ".join(found[:MAX_NAMED]) + (f" and {len(found) - MAX_NAMED} more" if found[MAX_NAMED:] else "")
    are, their = ("is an array", "its gradient is") if len(found) == 1 else ("are arrays", "their gradients are")
    return Check(
        "arrays of the layer",
        INCONCLUSIVE,
        f"{named} {are} that the output depends on, but not in params: {their} not checked; hand them over in params "
        "and grads, or, where they are constants, check the functions layer.forward and layer.backward",
    )


def float_arrays(thing: Any) -> dict[str, Array]:
    """Every array of floating-point numbers that can be reached from `thing`, by the path to it."""
    found: dict[str, Array] = {}
    seen: dict[int, Any] = {}  # by identity; the objects are kept, so that no two share one
    left = deque([("", thing)])
    while left:
        path, value = left.popleft()
        if id(value) in seen:
            continue
        seen[id(value)] = value
        if isinstance(value, np.ndarray) and np.issubdtype(value.dtype, np.inexact):
            if value.size:
                found[path] = value
        else:
            left.extend(_parts(path, value))
    return found


def _parts(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    """What a container or an object holds."""
    if isinstance(value, np.ndarray):
        if value.dtype.names:
            yield from ((f"{path}[{name!r}]", value[name]) for name in value.dtype.names)
        elif value.dtype == object:
            yield from ((f"{path}[{number}]", part) for number, part in enumerate(value.flat))
        return
    if isinstance(value, (type, ModuleType)):
        return
    if isinstance(value, MethodType):
        yield path, value.__self__
        value = value.__func__
    if isinstance(value, FunctionType):
        for name, cell in zip(value.__code__.co_freevars, value.__closure__ or (), strict=True):
            try:
                yield _join(path, name), cell.cell_contents
            except ValueError:  # a variable that has no value yet
                continue
    if isinstance(value, Mapping):
        yield from ((f"{path}[{key!r}]", part) for key, part in value.items())
    elif isinstance(value, (list, tuple, set, frozenset, deque)):
        yield from ((f"{path}[{number}]", part) for number, part in enumerate(value))
    yield from ((_join(path, name), part) for name, part in getattr(value, "__dict__", {}).items())
    for owner in type(value).__mro__:
        for name, part in vars(owner).items():
            if name == "__slots__":
                slots = [part] if isinstance(part, str) else part
                yield from ((_join(path, slot), getattr(value, slot, None)) for slot in slots)
            elif not name.startswith("__"):
                yield _join(path, name), part


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _moves_output(point: Point, array: Array) -> bool:
    """Whether the output changes with the part of `array` that is not checked."""
    case = point.case
    while not array.flags.writeable and isinstance(array.base, np.ndarray):
        array = array.base
    locked = not array.flags.writeable
    try:
        array.flags.writeable = True
    except ValueError:  # nobody can tell without moving it
        return True
    kept = array.copy()
    checked = {name: value.copy() for name, value in case.arrays.items()}
    away = (float(np.sqrt(np.mean(np.square(abs(kept))))) or 1.0) * signs(np.random.default_rng(0), kept.shape)
    try:
        for size in MOVES:
            array[...] = kept + size * away
            for name, value in checked.items():
                case.arrays[name][...] = value
            if np.array_equal(array, kept, equal_nan=True):
                return False
            if not np.array_equal(case.run()[0], point.out):
                return True
    except Broken:
        return True
    finally:
        array[...] = kept
        for name, value in checked.items():
            case.arrays[name][...] = value
        array.flags.writeable = not locked
    return False
