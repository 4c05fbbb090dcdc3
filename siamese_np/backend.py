"""Which code computes: the compiled kernels, or the textbook in plain NumPy.

Layers, losses, optimizers and searches call ``ops.NAME``. Kernels write into arrays that they are given and are called
as ``kernel(outputs..., inputs...)``; the textbook returns its results. `as_kernel` gives a textbook function the
signature of its kernel, whatever the operation, so the callers do not know which of the two they call.
"""

import inspect
import os
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from siamese_np import kernels, textbook
from siamese_np.errors import OptionError

BACKENDS = ("compiled", "textbook")
ADDED = ("dw", "db")  # gradients of parameters, which may be shared: kernels add to them, and overwrite all others

ops: Any = SimpleNamespace()


class use_kernels:
    """Compute with the compiled kernels or with the textbook from now on, in the whole process.

    As a context manager, until the end of its block. ``SIAMESE_NP_KERNELS`` chooses what a process starts with.

    Parameters
    ----------
    name : "compiled" or "textbook"

    Raises
    ------
    OptionError
        There is no such back end.

    Examples
    --------
    >>> with use_kernels("textbook"):
    ...     out, cache = Dense(4, 3, seed=0).forward(np.ones((2, 4), np.float32))
    >>> out.shape
    (2, 3)
    """

    def __init__(self, name: str) -> None:
        if not isinstance(name, str) or name not in BACKENDS:
            raise OptionError(f"no back end {name!r:.200}; choose {' or '.join(BACKENDS)}")
        self.before = getattr(ops, "name", name)
        _switch(name)

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        _switch(self.before)


def as_kernel(function: Callable[..., Any], kernel: Callable[..., Any]) -> Callable[..., None]:
    """The textbook's `function` with the signature of `kernel`.

    Three rules tie the two together:

    - The inputs of a forward pass or a search have the same names. What a kernel writes comes before them: the
      output, and then the first entries of the textbook's cache.
    - A backward kernel takes ``gradients..., dout, cache...``: what follows dout is the textbook's cache, in order.
    - An optimizer's kernel updates its first arguments, of which the textbook returns the new values.
    """
    names, takes = list(inspect.signature(kernel).parameters), list(inspect.signature(function).parameters)
    first = names.index(takes[0])  # of the inputs; what comes before is written

    def call(*arguments: Any) -> None:
        if takes[-1] == "cache":
            results = function(arguments[first], arguments[first + 1 :])
        else:
            given = dict(zip(names, arguments, strict=True))
            results = function(*(given[name] for name in takes))
        if not isinstance(results, tuple):
            results = (results,)
        if isinstance(results[-1], tuple):  # a cache
            results = (*results[:-1], *results[-1])
        for name, array, result in zip(names[: first or len(results)], arguments, results, strict=False):
            if name in ADDED:
                array += result
            elif len(array):  # an empty dx is not wanted
                array[...] = result

    return call


def _check_names() -> None:
    """ImportError where a page of the textbook has no kernel, or the reverse."""
    pages, compiled = set(textbook.__all__), set(kernels.__all__)
    if pages - compiled:
        names = ", ".join(sorted(pages - compiled))
        raise ImportError(f"siamese_np/textbook defines {names}, but no file of siamese_np/kernels has such a @kernel")
    if compiled - pages:
        names = ", ".join(sorted(compiled - pages))
        raise ImportError(f"siamese_np/kernels defines {names}, but no page of siamese_np/textbook has such a function")


def _switch(name: str) -> None:
    for operation in textbook.__all__:
        kernel = getattr(kernels, operation)
        chosen = kernel if name == "compiled" else as_kernel(getattr(textbook, operation), kernel)
        setattr(ops, operation, chosen)
    ops.name = name


_check_names()
use_kernels(os.environ.get("SIAMESE_NP_KERNELS") or "compiled")
