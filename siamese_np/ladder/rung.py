"""How a kernel gets onto the ladder: one decorator, for this package's rungs and for anybody's own."""

import contextlib
import dataclasses
import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from siamese_np.bench.words import error_text
from siamese_np.errors import OptionError

Function = TypeVar("Function", bound=Callable[..., Any])

RUNGS: list["Rung"] = []

# From the bottom of the ladder up.
FILES = ("loops", "im2col", "channels", "unrolled", "skipping", "winograd", "dense", "product")


@dataclasses.dataclass(frozen=True)
class Rung:
    """One kernel on the ladder.

    Attributes
    ----------
    operation : str
        A name in `operations.OPERATIONS`, for example ``"conv2d_forward"``.
    name : str
        What the rung is called in tables.
    function : callable
        The kernel, with the arguments of the kernel of that name in `siamese_np.kernels`.
    small : bool
        Whether it is so slow that it gets the small problem.
    executed : callable, optional
        Floating-point operations really executed on a problem; by default those of the dense sum.
    scratch : callable, optional
        Bytes written and read beyond arguments and result.
    shares : bool
        Whether the kernel shares its work among threads itself; else the ladder cuts the batch into parts.
    code : callable, optional
        The compiled function in which most time is spent, if `function` is not it.
    own : bool
        Whether a person brought it.
    """

    operation: str
    name: str
    function: Callable[..., Any]
    small: bool = False
    executed: Callable[[Any], float] | None = None
    scratch: Callable[[Any], float] | None = None
    shares: bool = False
    code: Callable[..., Any] | None = None
    own: bool = False


def rung(operation: str, name: str, **options: Any) -> Callable[[Function], Function]:
    """Put the decorated kernel on the ladder.

    Parameters
    ----------
    operation : str
        What it computes: a name in `operations.OPERATIONS`.
    name : str
        What to call it in tables; one name of each operation can be there once.
    **options
        Further attributes of `Rung`.

    Raises
    ------
    OptionError
        There is no such operation, or the name is none or taken.

    Examples
    --------
    >>> @rung("conv2d_forward", name="mine")
    ... @numba.njit(nogil=True)
    ... def forward(out, x, w, b, stride, pad): ...
    """
    from siamese_np.ladder.operations import OPERATIONS

    if operation not in OPERATIONS:
        raise OptionError(f"the ladder has no operation {operation!r}; it has {', '.join(OPERATIONS)}")
    if not isinstance(name, str) or not name.strip():
        raise OptionError(f"a rung of the ladder is called by a string, not {name!r}")
    if any((operation, name) == (other.operation, other.name) for other in RUNGS):
        raise OptionError(f"the ladder already has a rung {name!r} of {operation}; choose another name")

    def add(function: Function) -> Function:
        RUNGS.append(Rung(operation, name, function, **options))
        return function

    return add


def load_rungs(own: Path | None = None) -> list[Rung]:
    """All rungs from the bottom up, and last those that the Python file `own` puts on the ladder.

    Raises
    ------
    OptionError
        The file is missing, fails, or puts nothing on the ladder.
    """
    for name in FILES:
        importlib.import_module(f"siamese_np.ladder.rungs.{name}")
    if own is None:
        return list(RUNGS)
    if not own.is_file():
        raise OptionError(f"there is no file {own} with a kernel for the ladder")
    before = len(RUNGS)
    private = f"_rungs_of_{own.stem}"  # or subprocess.py would take the place of Python's own
    spec = importlib.util.spec_from_file_location(private, own)
    if spec is None or spec.loader is None:
        raise OptionError(f"{own} is no Python file; a kernel for the ladder comes in a .py file")
    module = sys.modules[private] = importlib.util.module_from_spec(spec)
    try:
        with contextlib.redirect_stdout(sys.stderr):  # standard output is for results
            spec.loader.exec_module(module)
    except (OptionError, KeyboardInterrupt):
        raise
    except BaseException as error:  # SystemExit, too
        raise OptionError(f"{own} fails with {error_text(error)}") from None
    if len(RUNGS) == before:
        raise OptionError(f'{own} puts no kernel on the ladder; decorate one with @rung("conv2d_forward", name="mine")')
    RUNGS[before:] = [dataclasses.replace(added, own=True) for added in RUNGS[before:]]
    return list(RUNGS)
