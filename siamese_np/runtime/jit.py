"""How kernels are compiled: which decorator to use when.

A **kernel** is what Python calls: loops over NumPy arrays, first those that it writes. ::

    @kernel
    def scale(out, x, factor):
        for m in range(out.size):
            out[m] = factor * x[m]

**Inlined** functions are the pieces of kernels, called by compiled code only. ``@inlined(arrays=True)`` is for one that
makes or returns arrays, also in a tuple (without it nobody counts their references, and the caller would free what
is still in use), ``@inlined(reassociate=True)`` for one long sum whose order is free, so that it can use vectors. ::

    @inlined(reassociate=True)
    def squared_norm(x):
        total = x.dtype.type(0)
        for m in range(x.size):
            total += x[m] * x[m]
        return total

A **shared** kernel takes 10 µs or more, and cuts its work into shards that depend on the work alone, never on the
number of threads. Its **sharded** function (shards.py) runs shard s, and writes what no other shard writes. ::

    @kernel(shared=True)
    def scale(out, x, factor):
        _scale((out, x, factor), ceil_div(out.size, SIZE))

    @sharded
    @inlined
    def _scale(out, x, factor, s):
        for m in range(s * SIZE, min((s + 1) * SIZE, out.size)):
            out[m] = factor * x[m]

All keep to IEEE 754: LLVM would decide anew what to fuse each time it optimises, and a kernel that was just compiled
would give other bits than the same one loaded from the cache. Where a multiply-add is to be fused, kernels say so
(`siamese_np.kernels.simd`). With ``NUMBA_DISABLE_JIT=1`` all are the plain Python functions, for a debugger. With
``SIAMESE_NP_CHECK=1`` an index outside of its array is an IndexError; this machine code has a folder of its own.

Kernels consist of inlined functions, not of kernels, because Numba would optimise and translate each of those on its
own, and once more in each that calls it, and again for each literal number. So they compile in a third of the time.
"""

import logging
from collections.abc import Callable
from functools import lru_cache, partial, wraps
from pathlib import Path
from typing import Any

import numba
from numba.core import event

from siamese_np.runtime import scheduler
from siamese_np.runtime.numba_compat import (
    CHECKED,
    PRIVATE,
    SHARED,
    compile_inlined,
    compile_kernel,
    kernels_folder,
    warn_not_kept,
)


def kernel(function: Callable[..., Any] | None = None, *, shared: bool = False, reassociate: bool = False) -> Any:
    """Compile `function`, which trusts its arguments, on its first call and keep the machine code.

    Parameters
    ----------
    shared : bool
        It calls a `sharded` function: wake the threads first. Then only Python can call it, and its attribute
        ``compiled`` is what compiled code can call.
    reassociate : bool
        LLVM may fuse and reorder sums (though never hide NaN or infinity): not for kernels of the package.
    """
    if function is None:
        return partial(kernel, shared=shared, reassociate=reassociate)
    function.is_kernel = True  # type: ignore[attr-defined]  # and of whatever wraps it
    if numba.config.DISABLE_JIT:
        return function
    compiled = compile_kernel(function, cache_folder(), **_options(reassociate))
    if not (shared and SHARED):  # shards run on the caller alone
        return compiled

    @wraps(function)
    def wake_and_run(*arguments: Any) -> Any:
        scheduler.wake()
        return compiled(*arguments)

    wake_and_run.compiled = compiled  # type: ignore[attr-defined]
    return wake_and_run


def inlined(function: Callable[..., Any] | None = None, *, arrays: bool = False, reassociate: bool = False) -> Any:
    """Compile `function` as a piece of the kernels that call it.

    Parameters
    ----------
    arrays : bool
        It makes or returns arrays; else it need not count who refers to those that it is given.
    reassociate : bool
        LLVM may fuse and reorder sums.
    """
    if function is None:
        return partial(inlined, arrays=arrays, reassociate=reassociate)
    return function if numba.config.DISABLE_JIT else compile_inlined(function, arrays, **_options(reassociate))


def _options(reassociate: bool) -> dict[str, Any]:
    fastmath = {"contract", "reassoc"} if reassociate else False
    options = {"nogil": True, "error_model": "numpy", "no_cfunc_wrapper": True, "fastmath": fastmath}
    return {**options, "boundscheck": True} if CHECKED else options


@lru_cache(maxsize=1)
def cache_folder() -> Path | None:
    """Folder of the compiled kernels; None where none is safe."""
    try:
        return kernels_folder(PRIVATE)
    except (OSError, RuntimeError) as error:
        warn_not_kept(error)
        return None


class _FirstCompile(event.Listener):  # type: ignore[misc]
    """Logs that kernels are being compiled, once in a process: it takes its time, and nothing else is to be seen."""

    told = False

    def on_start(self, event: Any) -> None:
        if not self.told and str(event.data["dispatcher"].__module__).startswith("siamese_np."):
            self.told = True
            logging.getLogger("siamese_np").info("compiling kernels, once (about 10 s) ...")

    def on_end(self, event: Any) -> None:
        pass


event.register("numba:compile", _FirstCompile())
