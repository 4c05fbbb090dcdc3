"""From the name of something to its cases: an operation of ours, or ``package.module:object`` of anybody's."""

import contextlib
import copy
import difflib
import importlib
import inspect
import math
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import Any

import numpy as np

from siamese_np.errors import OptionError
from siamese_np.gradcheck.adapters import expect_float64, function_case, layer_case
from siamese_np.gradcheck.case import Case, describe
from siamese_np.gradcheck.cases.operations import OPERATIONS

Shape = tuple[int, ...]

MOST_ENTRIES = 10**7


def find_cases(target: str | None, shapes: Sequence[Shape] = (), seed: int = 0) -> dict[str, list[Case]]:
    """The cases of `target`, by operation; of all operations of this package where it is None.

    Parameters
    ----------
    target : str, optional
        An operation of this package, or ``package.module:object``, found from the current folder too. The
        object is a layer, a class or a function that makes one without arguments (``dtype`` and ``seed`` are
        passed where it has them), or a function ``NAME(*arrays) -> (out, cache)`` or ``NAME_forward`` with its
        ``NAME_backward(dout, cache)`` beside it. A module with functions forward and backward can be named alone.
    shapes : sequence of tuple of int
        Shape of the input; for plain functions one shape for each argument.
    seed : int
        Of all numbers drawn, including those that a layer draws from ``numpy.random`` when it is made.

    Raises
    ------
    OptionError, ShapeError
        There is no such operation or object, it is not of these kinds, or the shapes do not fit it.
    """
    for shape in shapes:
        if not shape or min(shape) < 1 or math.prod(shape) > MOST_ENTRIES:
            raise OptionError(f"--shape must hold whole numbers of at least 1, at most {MOST_ENTRIES:,} entries in all")
    if target is None:
        if shapes:
            raise OptionError("--shape needs a target: each operation has a shape of its own")
        return {name: operation(_rng(seed, name), None) for name, operation in OPERATIONS.items()}
    if target in OPERATIONS:
        if len(shapes) > 1:
            raise OptionError(f"{target} takes one --shape, that of its input, not {len(shapes)}")
        return {target: OPERATIONS[target](_rng(seed, target), shapes[0] if shapes else None)}
    with contextlib.redirect_stdout(sys.stderr):  # what a module prints must not mix with our output
        return {target: _cases_of(target, shapes, _rng(seed, target), seed)}


def _rng(seed: int, name: str) -> np.random.Generator:
    """A generator of this operation alone: what it draws does not depend on which others are checked."""
    if seed < 0:
        raise OptionError(f"the seed must be at least 0, not {seed}")
    return np.random.default_rng([seed, zlib.crc32(name.encode())])


@contextlib.contextmanager
def _reproducible(seed: int) -> Iterator[None]:
    """NumPy's global generator, which people's layers draw their weights from, seeded for a while."""
    state = np.random.get_state()  # noqa: NPY002
    np.random.seed(seed % 2**32)  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(state)  # noqa: NPY002


# --- a person's own ---------------------------------------------------------------------------------------


def _cases_of(target: str, shapes: Sequence[Shape], rng: np.random.Generator, seed: int) -> list[Case]:
    module, path = _module(target)
    thing: Any = module
    for name in path:
        if not hasattr(thing, name):
            raise OptionError(f"there is no {'.'.join(path)} in {module.__name__}{_close(name, dir(thing))}")
        thing = getattr(thing, name)
    short = path[-1] if path else module.__name__

    if inspect.isfunction(thing) and _required(thing):
        return [_function(short, thing, _partner(module, path, thing), shapes, rng)]
    if isinstance(thing, ModuleType):
        if not path and not _goes_both_ways(thing):
            name = module.__name__
            raise OptionError(f"{name} has no functions forward and backward; name what to check as {name}:object")
        return [_function(short, thing.forward, thing.backward, shapes, rng)]

    make: Callable[[], Any] = lambda: copy.deepcopy(thing)  # noqa: E731
    if inspect.isclass(thing) or (callable(thing) and not _goes_both_ways(thing)):
        make = lambda: _made(target, thing, seed)  # noqa: E731
    return _layer(short, make, shapes, rng, seed)


def _module(target: str) -> tuple[ModuleType, list[str]]:
    """The module of a target, and the path of the object within it."""
    name, _, path = target.partition(":")
    own = ":" in target or "." in target
    if not name:
        raise OptionError(f"{target!r} names no module; name what to check as package.module:object")
    if "" not in sys.path:
        sys.path.insert(0, "")  # the current folder, whatever it is when something is imported
    importlib.invalidate_caches()
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(error.name + ".")):
            if own:
                hint = f"; did you mean {':'.join(name.rsplit('.', 1))}?" if ":" not in target else ""
                raise OptionError(f"there is no module {error.name}, not in the current folder either{hint}") from None
            raise OptionError(
                f"there is no operation {target!r}{_close(target, OPERATIONS)}; choose one of {', '.join(OPERATIONS)}, "
                "or name your own as package.module:object"
            ) from None
        raise OptionError(f"importing {name} raised {describe(error)}") from error
    except (Exception, SystemExit) as error:
        raise OptionError(f"importing {name} raised {describe(error)}") from error
    return module, [part for part in path.split(".") if part]


def _layer(
    name: str, make: Callable[[], Any], shapes: Sequence[Shape], rng: np.random.Generator, seed: int
) -> list[Case]:
    """A layer as it is made, and with moved parameters and larger input: some faults hide while biases are 0."""
    if len(shapes) != 1:
        raise OptionError(f"{name} needs one --shape, that of its input, such as --shape 4,10, not {len(shapes)}")
    cases = []
    for point, scale in (("as made", 1.0), ("parameters and input moved", 2.0)):
        with _reproducible(seed):
            layer = make()
        if not _goes_both_ways(layer):
            raise OptionError(f"{name} gives a {type(layer).__name__}, which has no methods forward and backward")
        expect_float64(name, layer)
        x = scale * rng.standard_normal(shapes[0])
        case = layer_case(f"{name} {point}", layer, x)
        if point != "as made":
            for key, w in case.arrays.items():
                if key not in case.inputs:
                    w += (float(np.sqrt(np.mean(np.square(w)))) or 1.0) / 2 * rng.standard_normal(w.shape)
        cases.append(case)
    return cases


def _function(name: str, forward: Any, backward: Any, shapes: Sequence[Shape], rng: np.random.Generator) -> Case:
    required = _required(forward)
    if len(shapes) != len(required):
        raise OptionError(
            f"{name} takes {len(required)} arrays ({', '.join(required)}): it needs as many --shape, not {len(shapes)}"
        )
    return function_case(name, forward, backward, [rng.standard_normal(shape) for shape in shapes])


def _partner(module: ModuleType, path: list[str], forward: Any) -> Any:
    """The backward function beside a forward function."""
    wanted = path[-1].removesuffix("_forward") + "_backward" if path[-1] != "forward" else "backward"
    home: Any = module
    for name in path[:-1]:
        home = getattr(home, name)
    if not callable(getattr(home, wanted, None)):
        raise OptionError(f"there is no function {wanted} beside {path[-1]} in {module.__name__}")
    return getattr(home, wanted)


def _made(target: str, maker: Any, seed: int) -> Any:
    """What a class or function makes without arguments."""
    required = _required(maker)
    if required:
        raise OptionError(
            f"{target} cannot be made without arguments ({', '.join(required)}); "
            "write a function without parameters that returns one, and name that"
        )
    known = {"dtype": np.float64, "seed": seed}
    options = {key: value for key, value in known.items() if key in _parameters(maker)}
    try:
        return maker(**options)
    except (Exception, SystemExit) as error:
        raise OptionError(f"making {target} raised {describe(error)}") from error


def _goes_both_ways(thing: Any) -> bool:
    return callable(getattr(thing, "forward", None)) and callable(getattr(thing, "backward", None))


def _parameters(function: Any) -> dict[str, inspect.Parameter]:
    try:
        return dict(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return {}


def _required(function: Any) -> list[str]:
    """The parameters that have no default."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [n for n, p in _parameters(function).items() if p.default is p.empty and p.kind in kinds]


def _close(name: str, known: Any) -> str:
    close = difflib.get_close_matches(name, list(known), 1)
    return f" (did you mean {close[0]}?)" if close else ""
