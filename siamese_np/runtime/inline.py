"""How the parts of kernels are compiled: functions that only compiled code calls.

Numba makes of every function a library of its own, with a way in from Python, all optimisations and machine code;
what calls it takes in a copy and optimises that once more. A kernel made of small functions, one in the other, would
be optimised and translated five times over. A part stops before that: it is optimised where it ends up, in a kernel,
and only there it becomes machine code. Nor is it compiled again for each number that Numba happens to know ahead. So
all kernels of a training step compile in about half the time.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import numba
from numba import types
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler

Function = TypeVar("Function", bound=Callable[..., Any])


def part(function: Function) -> Function:
    """Compile `function` as a part of the kernels that call it, to the letter of IEEE 754 like these (see `kernel`).

    It works on the arrays it is given: it neither makes nor returns any, so it need not count who refers to them.
    """
    return _compile(function, _nrt=False, fastmath=False)


def array_part(function: Function) -> Function:
    """As `part`, for a function that makes arrays."""
    return _compile(function, _nrt=True, fastmath=False)


def sum_part(function: Function) -> Function:
    """As `part`, for one long sum, which may be added in any order and so use vector registers.

    ("nnan" and "ninf" stay forbidden: they would hide NaN and infinity.)
    """
    return _compile(function, _nrt=False, fastmath={"contract", "reassoc"}, forceinline=True)


class _Library(JITCodeLibrary):  # type: ignore[misc]
    """Code that waits to be linked into that of others; as far as Numba's machine is concerned, it does not exist."""

    def _optimize_final_module(self) -> None:
        pass

    def _finalize_final_module(self) -> None:
        self._finalize_dynamic_globals()
        self._verify_declare_only_symbols()
        self._finalized = True

    def get_pointer_to_function(self, name: str) -> int:
        self._ensure_finalized()
        return 0

    @property
    def codegen(self) -> "_Library":
        return self

    def set_env(self, name: str, env: Any) -> None:
        """Parts have no environment: it is what functions need that call back into Python."""


class _Compiler(Compiler):  # type: ignore[misc]
    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.state.library = _Library(self.state.targetctx.codegen(), "part")


def _compile(function: Function, **options: Any) -> Function:
    """All options are given: a part would inherit others from the first kernel that calls it, and keep them."""
    compiled: Any = numba.njit(
        nogil=True,
        error_model="numpy",
        no_cpython_wrapper=True,
        no_cfunc_wrapper=True,
        pipeline_class=_Compiler,
        **options,
    )(function)
    if numba.config.DISABLE_JIT:
        return compiled
    template = compiled.get_call_template

    def get_call_template(args: Any, kws: Any) -> Any:
        return template([_plain(arg) for arg in args], kws)

    compiled.get_call_template = get_call_template
    return compiled


def _plain(typed: Any) -> Any:
    """The type of any number, where Numba knows that it is always the same: or each would be compiled for it."""
    if isinstance(typed, types.BaseNamedTuple):  # keeps the names of its fields; the fields are plain already
        return typed
    if isinstance(typed, types.BaseTuple):
        return types.Tuple([_plain(part) for part in typed])
    return types.unliteral(typed)
