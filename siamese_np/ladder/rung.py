"""How a kernel gets onto the ladder: one decorator, for this package's rungs and for those of users."""

import contextlib
import dataclasses
import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from siamese_np.errors import OptionError

Function = TypeVar("Function", bound=Callable[..., Any])

RUNGS: list["Rung"] = []

# From the bottom of the ladder up.
FILES = ("loops", "im2col", "channels", "unrolled", "skipping", "winograd", "product")


@dataclasses.dataclass(frozen=True)
class Rung:
    """One kernel on the ladder."""

    operation: str  # a name in `operations.OPERATIONS`, for example "conv2d_forward"
    name: str  # in tables
    function: Callable[..., Any]  # with the arguments of the kernel of that name in `siamese_np.kernels`
    small: bool = False  # it is so slow that it gets the small problem
    executed: Callable[[Any], float] | None = None  # operations really executed on a problem; None: the dense sum's
    scratch: Callable[[Any], float] | None = None  # bytes written and read beyond arguments and result
    shares: bool = False  # it shares its work among threads; only then it is timed on more than one
    user: bool = False  # it comes from a user's file


def rung(operation: str, name: str, **options: Any) -> Callable[[Function], Function]:
    """Put the decorated kernel on the ladder; `options` are further attributes of `Rung`.

    Raises
    ------
    OptionError
        There is no such operation, or the name is no string, empty or taken.

    Examples
    --------
    >>> @rung("conv2d_forward", name="mine")  # doctest: +SKIP
    ... @numba.njit(nogil=True)
    ... def forward(out, x, w, b, stride, pad): ...
    """
    from siamese_np.ladder.operations import OPERATIONS

    if operation not in OPERATIONS:
        raise OptionError(f"the ladder has no operation {operation!r}; it has {', '.join(OPERATIONS)}")
    if not isinstance(name, str) or not name.strip():
        raise OptionError(f"the name of a rung must be a string that is not empty, not {name!r}")
    if any((operation, name) == (other.operation, other.name) for other in RUNGS):
        raise OptionError(f"the ladder already has a rung {name!r} of {operation}; choose another name")

    def add(function: Function) -> Function:
        RUNGS.append(Rung(operation, name, function, **options))
        return function

    return add


def load_rungs(file: Path | None = None) -> list[Rung]:
    """All rungs from the bottom up, and last those that a user's Python `file` puts on the ladder.

    Raises
    ------
    OptionError
        The file is missing, fails, or puts nothing on the ladder.
    """
    for name in FILES:
        importlib.import_module(f"siamese_np.ladder.rungs.{name}")
    if file is None:
        return list(RUNGS)
    if not file.is_file():
        raise OptionError(f"there is no file {file} with a kernel for the ladder")
    before = len(RUNGS)
    module_name = f"_rungs_of_{file.stem}"  # a user's subprocess.py must not replace Python's
    spec = importlib.util.spec_from_file_location(module_name, file)
    if spec is None or spec.loader is None:
        raise OptionError(f"{file} is no Python file; a kernel for the ladder comes in a .py file")
    module = sys.modules[module_name] = importlib.util.module_from_spec(spec)
    try:
        with contextlib.redirect_stdout(sys.stderr):  # standard output is for results
            spec.loader.exec_module(module)
    except (OptionError, KeyboardInterrupt):
        raise
    except BaseException as error:  # SystemExit, too
        raise OptionError(f"{file} fails with {error_text(error)}") from None
    if len(RUNGS) == before:
        raise OptionError(
            f'{file} puts no kernel on the ladder; decorate one with @rung("conv2d_forward", name="mine")'
        )
    RUNGS[before:] = [dataclasses.replace(added, user=True) for added in RUNGS[before:]]
    return list(RUNGS)


def error_text(error: BaseException) -> str:
    """An exception's type and the first line of its message: ``"ValueError: no message"`` where there is none."""
    return f"{type(error).__name__}: {(str(error).strip() or 'no message').splitlines()[0]}"
