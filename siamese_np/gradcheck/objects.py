"""What an object holds: every number that can be reached from it, by path, and copies that keep shared memory shared.

A layer may keep numbers anywhere: in attributes, lists, dicts, layers within layers, variables of a function.
"""

import copy
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import CellType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np

from siamese_np.errors import OptionError
from siamese_np.gradcheck.case import Array, describe

RECIPE = """; write these three lines, in which the layer is made anew and is the cache:
    def forward(x, W, b): layer = Affine(W, b); return layer.forward(x), layer
    def backward(dout, layer): return layer.backward(dout.copy()), layer.dW, layer.db
    check_gradients(forward, x, W, b, backward=backward)"""

Step = tuple[str, Any]  # ".", an attribute; "[]", a key; "()", a variable of a function; "", an argument of a call
Path = tuple[Step, ...]


@dataclass
class Call:
    """What a forward pass works with: an object, or None, and those of its arguments that are not checked as such."""

    thing: Any
    given: dict[str, Any]


def numbers(thing: Any) -> dict[Path, Any]:
    """Every floating-point array, and every float, that can be reached from `thing`, by the shortest path to it."""
    found: dict[Path, Any] = {}
    seen: dict[int, Any] = {}  # by identity; the objects are kept, so that no two share one
    left: deque[tuple[Path, Any]] = deque([((), thing)])
    while left:
        path, value = left.popleft()
        if isinstance(value, (float, np.floating)):
            found[path] = value
            continue
        if id(value) in seen:
            continue
        seen[id(value)] = value
        if isinstance(value, np.ndarray) and np.issubdtype(value.dtype, np.inexact):
            if value.size:
                found[path] = value
        else:
            left.extend(((*path, *steps), part) for steps, part in _parts(value))
    return found


def arrays_of(thing: Any) -> dict[Path, Array]:
    """The arrays among `numbers`."""
    return {path: value for path, value in numbers(thing).items() if isinstance(value, np.ndarray)}


def _under(kind: str, items: Iterable[tuple[Any, Any]]) -> Iterator[tuple[Path, Any]]:
    return ((((kind, key),), part) for key, part in items)


def _parts(value: Any) -> Iterator[tuple[Path, Any]]:
    """What a container or an object holds."""
    if isinstance(value, (type, ModuleType)):
        return
    if isinstance(value, np.ndarray):
        indices = np.ndindex(value.shape) if value.ndim != 1 else range(len(value))
        keys = value.dtype.names or (indices if value.dtype == object else ())
        yield from _under("[]", ((key, value[key]) for key in keys))
        return
    if isinstance(value, Call):
        yield (), value.thing
        yield from _under("", value.given.items())
        return
    if isinstance(value, MethodType):
        yield (), value.__self__
        value = value.__func__
    if isinstance(value, FunctionType):
        cells = zip(value.__code__.co_freevars, value.__closure__ or (), strict=True)
        yield from _under("()", ((name, cell.cell_contents) for name, cell in cells if cell != CellType()))  # not empty
    if isinstance(value, Mapping):
        yield from _under("[]", value.items())
    elif isinstance(value, (list, tuple, deque, set, frozenset)):
        yield from _under("()" if isinstance(value, (set, frozenset)) else "[]", enumerate(value))
    yield from _under(".", getattr(value, "__dict__", {}).items())
    for name, part in (member for owner in type(value).__mro__ for member in vars(owner).items()):
        if name == "__slots__":
            slots = [part] if isinstance(part, str) else part
            yield from _under(".", ((slot, getattr(value, slot, None)) for slot in slots))
        elif not name.startswith("__"):
            yield ((".", name),), part


def text(path: Path) -> str:
    """A path as Python writes it."""
    return "".join(f"[{key!r}]" if kind == "[]" else f".{key}" for kind, key in path).removeprefix(".")


def get(thing: Any, path: Path) -> Any:
    """What is at `path`; None where nothing is."""
    if isinstance(thing, Call):
        of_argument = bool(path) and path[0][0] == ""
        thing, path = (thing.given[path[0][1]], path[1:]) if of_argument else (thing.thing, path)
    try:
        for kind, key in path:
            thing = getattr(thing, key) if kind == "." else thing[key]
    except (AttributeError, LookupError, TypeError):
        return None
    return thing


def put(thing: Any, path: Path, value: Any) -> None:
    """Set the number at `path` to `value`, in place where it is an array of this object alone."""
    old, holder, (kind, key) = get(thing, path), get(thing, path[:-1]), path[-1]
    of_class = kind == "." and getattr(type(holder), key, None) is old
    if isinstance(old, np.ndarray) and old.flags.writeable and not of_class:
        old[...] = value
    elif kind == ".":
        setattr(holder, key, value.copy() if np.ndim(value) else float(value))
    else:
        holder[key] = value.copy() if np.ndim(value) else float(value)


class Copies:
    """Deep copies of `thing`, in which arrays that share memory still do."""

    def __init__(self, thing: Any) -> None:
        self.thing = thing
        roots: dict[int, tuple[Array, list[Array]]] = {}
        for array in arrays_of(thing).values():
            root = array
            while isinstance(root.base, np.ndarray):
                root = root.base
            if root.flags.c_contiguous or root.flags.f_contiguous:
                roots.setdefault(id(root), (root, []))[1].append(array)
        self.shared = [(root, views) for root, views in roots.values() if len(views) > 1]

    def make(self, as_float64: bool = False) -> Any:
        """One copy, on request with float32 arrays as float64; OptionError where it cannot be made."""
        memo: dict[int, Any] = {}
        if as_float64:
            memo = {id(a): a.astype(np.float64) for a in arrays_of(self.thing).values() if a.dtype == np.float32}
        for root, views in self.shared:
            new = root.copy(order="K")
            buffer = new if new.flags.c_contiguous else new.T
            for view in views:
                offset = view.ctypes.data - root.ctypes.data
                memo[id(view)] = np.ndarray(view.shape, view.dtype, buffer, offset, view.strides)
        try:
            return copy.deepcopy(self.thing, memo)
        except Exception as error:
            held = self.thing[0] if isinstance(self.thing, tuple) else self.thing
            name = type(held.thing if isinstance(held, Call) else held).__name__
            raise OptionError(
                f"{name} cannot be copied for each forward pass: copy.deepcopy raised {describe(error)}", RECIPE
            ) from error
