"""From a name to its cases: a known operation, or ``package.module:object`` of a user."""

import contextlib
import copy
import difflib
import importlib
import inspect
import math
import sys
import zlib
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from siamese_np.errors import OptionError
from siamese_np.gradcheck.adapters import is_loss, object_case
from siamese_np.gradcheck.calls import LABELS, parameters, seeded
from siamese_np.gradcheck.case import Case, Shape, describe
from siamese_np.gradcheck.derivatives import gradient_case
from siamese_np.gradcheck.styles import both_ways, found_case, method_of

# makes the cases of an operation, at its input's shape or, for None, at one of its own choice
Operation = Callable[[np.random.Generator, Shape | None], list[Case]]

MAX_ENTRIES = 10**7

MAKING = ("dtype", "seed")  # what a class or function that makes a layer is given where it has them

PAIRS = (("forward", "backward"), ("fprop", "bprop"), ("fwd", "bwd"))  # anywhere in the name
DERIVATIVES = ("{}_grad", "grad_{}", "{}_gradient", "{}_prime", "{}_derivative", "d_{}", "d{}")
USUAL: dict[str, Any] = {  # arguments that are no arrays, by the names that many give them
    "conv_param": {"stride": 1, "pad": 1},
    "pool_param": {"pool_height": 2, "pool_width": 2, "stride": 2},
    "bn_param": {"mode": "train"},
    "ln_param": {},
    "dropout_param": {"mode": "train", "p": 0.5, "seed": 0},
    **dict.fromkeys(("training", "train", "is_training"), True),
}


def find_cases(
    target: str | None, shapes: Sequence[Shape], seed: int, operations: Mapping[str, Operation]
) -> dict[str, list[Case]]:
    """The cases of `target`, by operation; of all operations where it is None. OptionError or ShapeError if none fit.

    A target is the name of one of the `operations`, or ``package.module:object`` or ``file.py:object``, found from the
    current folder too: a layer; a class or a function that makes one without arguments (but ``dtype`` and ``seed``); a
    function with its backward pass beside it (``NAME_forward`` and ``NAME_backward``, ``fprop`` and ``bprop``) or its
    derivative (``NAME_grad``); one that returns ``(loss, dx)``; a module with functions forward and backward.
    `shapes` are those of its arrays; labels, and settings such as ``conv_param``, are added. All numbers drawn depend
    on the seed, including those that a layer draws from ``numpy.random`` when it is made.
    """
    if not all(shape and min(shape) >= 1 and math.prod(shape) <= MAX_ENTRIES for shape in shapes):
        raise OptionError(f"--shape must hold whole numbers of at least 1, at most {MAX_ENTRIES:,} entries in all")
    if target is None:
        if shapes:
            raise OptionError("--shape needs a target: each operation has a shape of its own")
        return {name: operation(_rng(seed, name), None) for name, operation in operations.items()}
    if target in operations:
        if len(shapes) > 1:
            raise OptionError(f"{target} takes one --shape, that of its input, not {len(shapes)}")
        return {target: operations[target](_rng(seed, target), shapes[0] if shapes else None)}
    with contextlib.redirect_stdout(sys.stderr):  # what a module prints must not mix with our output
        return {target: _cases_of(target, shapes, _rng(seed, target), seed, operations)}


def _rng(seed: int, name: str) -> np.random.Generator:
    """A generator of this operation alone: what it draws does not depend on which others are checked."""
    return np.random.default_rng([seed, zlib.crc32(name.encode())])


def _cases_of(
    target: str, shapes: Sequence[Shape], rng: np.random.Generator, seed: int, operations: Collection[str]
) -> list[Case]:
    module, path = _module(target, operations)
    thing: Any = module
    home: Any = None  # what holds it
    for name in path:
        if not hasattr(thing, name):
            raise OptionError(f"there is no {'.'.join(path)} in {module.__name__}{_close(name, dir(thing))}")
        home, thing = thing, getattr(thing, name)
    short = path[-1] if path else module.__name__

    if inspect.isfunction(thing) and set(_required(thing)) - set(MAKING):
        return [_function(short, thing, home, shapes, rng)]
    if isinstance(thing, ModuleType):
        if not path and not callable(getattr(thing, "forward", None)):
            raise OptionError(f"{short} has no functions forward and backward; name what to check as {short}:object")
        return [_function("forward", thing.forward, thing, shapes, rng)]

    makes = inspect.isclass(thing) or (callable(thing) and not all(both_ways(thing)))
    cases: list[Case] = []
    for scale in (1.0, 2.0):  # as made, and with moved parameters and larger input: some faults hide at biases of 0
        with seeded(seed):
            made = _made(target, thing, seed) if makes else copy.deepcopy(thing)
        forward, backward = both_ways(made)
        if not (forward and backward):
            lacking = "methods forward and backward" if forward in ("", "__call__") else "method backward"
            raise OptionError(f"{short} gives a {type(made).__name__}, which has no {lacking}")
        if not shapes:
            raise OptionError(f"{short} needs one --shape, that of its input, such as --shape 4,10")
        values = _drawn(short, getattr(made, forward), shapes, rng, scale, is_loss(made))
        moved = "with larger input" if is_loss(made) else "parameters and input moved"
        case = object_case(f"{short} {moved if cases else 'as made'}", made, values)
        for key, w in case.arrays.items() if cases else ():
            if key not in case.inputs:
                w += (float(np.sqrt(np.mean(np.square(w)))) or 1.0) / 2 * rng.standard_normal(w.shape)
        cases.append(case)
    return cases


def _module(target: str, operations: Collection[str]) -> tuple[ModuleType, list[str]]:
    """The module of a target, and the path of the object within it."""
    name, _, path = target.partition(":")
    if not name:
        raise OptionError(f"{target!r} names no module; name what to check as package.module:object")
    if name.endswith(".py"):  # a file of the current folder, or below it
        name = ".".join(Path(name.removesuffix(".py")).parts)
    if "" not in sys.path:
        sys.path.insert(0, "")  # the current folder, whatever it is when something is imported
    importlib.invalidate_caches()
    try:
        module = importlib.import_module(name)
    except (Exception, SystemExit) as error:
        lacks = error.name if isinstance(error, ModuleNotFoundError) else None
        if not lacks or not f"{name}.".startswith(f"{lacks}."):
            raise OptionError(f"importing {name} raised {describe(error)}") from error
        if ":" in target or "." in target:
            hint = f"; did you mean {':'.join(name.rsplit('.', 1))}?" if ":" not in target else ""
            raise OptionError(f"there is no module {lacks}, not in the current folder either{hint}") from None
        raise OptionError(
            f"there is no operation {target!r}{_close(target, operations)}; choose one of {', '.join(operations)}, "
            "or name your own as package.module:object"
        ) from None
    return module, [part for part in path.split(".") if part]


def _function(name: str, forward: Any, home: Any, shapes: Sequence[Shape], rng: np.random.Generator) -> Case:
    """A function with its backward pass or its derivative beside it, or one that returns both: (loss, dx)."""
    values = _drawn(name, forward, shapes, rng, 1.0, False)
    partners = [name.replace(*pair) for pair in PAIRS if pair[0] in name] or [f"{name}_backward"]
    backward, derivative = (method_of(home, names) for names in (partners, [d.format(name) for d in DERIVATIVES]))
    if derivative and not backward:
        return gradient_case(name, forward, getattr(home, derivative), values)
    if "forward" in name and not backward:
        raise OptionError(f"there is no function {partners[0]} beside {name} in {home.__name__}")
    return found_case(name, None, forward, getattr(home, backward) if backward else None, values)


def _drawn(
    name: str, forward: Any, shapes: Sequence[Shape], rng: np.random.Generator, scale: float, is_loss: bool
) -> list[Any]:
    """Arguments for `forward`: floats of these shapes, and for labels and settings what is usual."""
    wanted = _required(forward) or [p.name for p in parameters(forward)[:1]] or ["x"]
    known = {key: copy.deepcopy(USUAL[key]) for key in wanted if key in USUAL}
    if len(shapes) < len(wanted) - len(known):
        first = shapes[0] if shapes else (1,)
        classes = first[-1] if len(first) > 1 else 2
        labels = np.arange(first[0]) % (3 if is_loss and classes != 2 else classes)
        known |= {key: labels.copy() for key in wanted[1:] if LABELS.match(key)}
    arrays = [key for key in wanted if key not in known]
    if arrays == ["images_a", "images_b"] and len(shapes) == 1:
        shapes = [*shapes, *shapes]
    if len(shapes) != len(arrays):
        raise OptionError(
            f"{name} takes {len(arrays)} arrays ({', '.join(arrays)}): it needs as many --shape, not {len(shapes)}"
        )
    known |= {key: scale * rng.standard_normal(shape) for key, shape in zip(arrays, shapes, strict=True)}
    values = [known[key] for key in wanted]
    return [np.abs(values[0]), *values[1:]] if is_loss and values[0].ndim == 1 else values


def _made(target: str, maker: Any, seed: int) -> Any:
    required = [key for key in _required(maker) if key not in MAKING]
    if required:
        raise OptionError(
            f"{target} cannot be made without arguments ({', '.join(required)}); "
            "write a function without parameters that returns one, and name that"
        )
    options = {p.name: np.float64 if p.name == "dtype" else seed for p in parameters(maker) if p.name in MAKING}
    try:
        return maker(**options)
    except (Exception, SystemExit) as error:
        raise OptionError(f"making {target} raised {describe(error)}") from error


def _required(function: Any) -> list[str]:
    several = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [p.name for p in parameters(function) if p.default is p.empty and p.kind not in several]


def _close(name: str, known: Any) -> str:
    return "".join(f" (did you mean {close}?)" for close in difflib.get_close_matches(name, list(known), 1))
