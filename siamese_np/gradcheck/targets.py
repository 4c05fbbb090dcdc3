"""From a name to its cases: a known operation, or ``package.module:object`` of a user."""

import contextlib
import copy
import difflib
import importlib
import inspect
import math
import sys
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from siamese_np.errors import OptionError
from siamese_np.gradcheck.adapters import expect_float64, function_case, is_loss, layer_case, loss_case, parameters
from siamese_np.gradcheck.case import Array, Case, Shape, describe

# makes the cases of an operation, at its input's shape or, for None, at one of its own choice
Operation = Callable[[np.random.Generator, Shape | None], list[Case]]

MAX_ENTRIES = 10**7


def find_cases(
    target: str | None, shapes: Sequence[Shape], seed: int, operations: Mapping[str, Operation]
) -> dict[str, list[Case]]:
    """The cases of `target`, by operation; of all operations where it is None.

    Parameters
    ----------
    target : str, optional
        The name of an operation, or ``package.module:object``, found from the current folder too. The
        object is a layer, a class or a function that makes one without arguments (``dtype`` and ``seed`` are
        passed where it has them), or a function ``NAME(*arrays) -> (out, cache)`` or ``NAME_forward`` with its
        ``NAME_backward(dout, cache)`` beside it. A module with functions forward and backward can be named alone.
    shapes : sequence of tuple of int
        Shape of the input; for plain functions one shape for each argument.
    seed : int
        Of all numbers drawn, including those that a layer draws from ``numpy.random`` when it is made.
    operations : dict of str to callable
        The known operations by name: each takes a random generator and a shape, or None, and returns its cases.

    Raises
    ------
    OptionError, ShapeError
        There is no such operation or object, it is not of these kinds, or the shapes do not fit it.
    """
    for shape in shapes:
        if not shape or min(shape) < 1 or math.prod(shape) > MAX_ENTRIES:
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
    if seed < 0:
        raise OptionError(f"the seed must be at least 0, not {seed}")
    return np.random.default_rng([seed, zlib.crc32(name.encode())])


@contextlib.contextmanager
def _reproducible(seed: int) -> Iterator[None]:
    """NumPy's global generator, which many layers draw their weights from, seeded for a while."""
    state = np.random.get_state()  # noqa: NPY002
    np.random.seed(seed % 2**32)  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(state)  # noqa: NPY002


# --- a user's objects -------------------------------------------------------------------------------------


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

    if inspect.isfunction(thing) and _required(thing):
        partner = short.removesuffix("_forward") + "_backward" if short != "forward" else "backward"
        if not callable(getattr(home, partner, None)):
            raise OptionError(f"there is no function {partner} beside {short} in {module.__name__}")
        return [_function(short, thing, getattr(home, partner), shapes, rng)]
    if isinstance(thing, ModuleType):
        if not path and not _goes_both_ways(thing):
            name = module.__name__
            raise OptionError(f"{name} has no functions forward and backward; name what to check as {name}:object")
        return [_function(short, thing.forward, thing.backward, shapes, rng)]

    make: Callable[[], Any] = lambda: copy.deepcopy(thing)  # noqa: E731
    if inspect.isclass(thing) or (callable(thing) and not _goes_both_ways(thing)):
        make = lambda: _made(target, thing, seed)  # noqa: E731
    return _layer(short, make, shapes, rng, seed)


def _module(target: str, operations: Collection[str]) -> tuple[ModuleType, list[str]]:
    """The module of a target, and the path of the object within it."""
    name, _, path = target.partition(":")
    is_path = ":" in target or "." in target
    if not name:
        raise OptionError(f"{target!r} names no module; name what to check as package.module:object")
    if name.endswith(".py"):  # a file of the current folder, or below it
        name = ".".join(Path(name.removesuffix(".py")).parts)
    if "" not in sys.path:
        sys.path.insert(0, "")  # the current folder, whatever it is when something is imported
    importlib.invalidate_caches()
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(error.name + ".")):
            if is_path:
                hint = f"; did you mean {':'.join(name.rsplit('.', 1))}?" if ":" not in target else ""
                raise OptionError(f"there is no module {error.name}, not in the current folder either{hint}") from None
            raise OptionError(
                f"there is no operation {target!r}{_close(target, operations)}; choose one of {', '.join(operations)}, "
                "or name your own as package.module:object"
            ) from None
        raise OptionError(f"importing {name} raised {describe(error)}") from error
    except (Exception, SystemExit) as error:
        raise OptionError(f"importing {name} raised {describe(error)}") from error
    return module, [part for part in path.split(".") if part]


def _layer(
    name: str, make: Callable[[], Any], shapes: Sequence[Shape], rng: np.random.Generator, seed: int
) -> list[Case]:
    """A layer or loss as made, and with moved parameters and larger input: some faults hide while biases are 0."""
    if len(shapes) != 1:
        raise OptionError(f"{name} needs one --shape, that of its input, such as --shape 4,10, not {len(shapes)}")
    cases: list[Case] = []
    for point, scale in (("as made", 1.0), ("parameters and input moved", 2.0)):
        with _reproducible(seed):
            layer = make()
        if not _goes_both_ways(layer):
            raise OptionError(f"{name} gives a {type(layer).__name__}, which has no methods forward and backward")
        expect_float64(name, layer)
        x = scale * rng.standard_normal(shapes[0])
        if is_loss(layer):
            cases.append(_loss(f"{name} {'with larger input' if cases else 'as made'}", layer, x))
            continue
        case = layer_case(f"{name} {point}", layer, x)
        if point != "as made":
            for key, w in case.arrays.items():
                if key not in case.inputs:
                    w += (float(np.sqrt(np.mean(np.square(w)))) or 1.0) / 2 * rng.standard_normal(w.shape)
        cases.append(case)
    return cases


def _loss(name: str, loss: Any, x: Array) -> Case:
    """A loss at embeddings (N, E) of three classes, or at distances (N,) of pairs of both labels."""
    return loss_case(name, loss, np.abs(x) if x.ndim == 1 else x, np.arange(len(x)) % (2 if x.ndim == 1 else 3))


def _function(name: str, forward: Any, backward: Any, shapes: Sequence[Shape], rng: np.random.Generator) -> Case:
    required = _required(forward)
    if len(shapes) != len(required):
        raise OptionError(
            f"{name} takes {len(required)} arrays ({', '.join(required)}): it needs as many --shape, not {len(shapes)}"
        )
    return function_case(name, forward, backward, [rng.standard_normal(shape) for shape in shapes])


def _made(target: str, maker: Any, seed: int) -> Any:
    """What a class or function makes without arguments."""
    required = _required(maker)
    if required:
        raise OptionError(
            f"{target} cannot be made without arguments ({', '.join(required)}); "
            "write a function without parameters that returns one, and name that"
        )
    known = {"dtype": np.float64, "seed": seed}
    options = {p.name: known[p.name] for p in parameters(maker) if p.name in known}
    try:
        return maker(**options)
    except (Exception, SystemExit) as error:
        raise OptionError(f"making {target} raised {describe(error)}") from error


def _goes_both_ways(thing: Any) -> bool:
    return callable(getattr(thing, "forward", None)) and callable(getattr(thing, "backward", None))


def _required(function: Any) -> list[str]:
    """The parameters that have no default."""
    several = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [p.name for p in parameters(function) if p.default is p.empty and p.kind not in several]


def _close(name: str, known: Any) -> str:
    close = difflib.get_close_matches(name, list(known), 1)
    return f" (did you mean {close[0]}?)" if close else ""
