"""Large arrays in memory that earlier ones have left.

The system gives memory in pages of 4 KiB, and a process pays for each when it first writes to it. A training step
that allocates its arrays anew can spend a third of its time on that. The next step needs the same sizes again, so
what nobody refers to any more is kept until then.
"""

import math
import os
import sys
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

MIN_BYTES = 1 << 18  # the C library's allocator keeps the memory of smaller arrays

_lock = threading.Lock()
_buffers: dict[int, list[NDArray[np.uint8]]] = {}  # by size; each is in use while anything else refers to it


def empty(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """As `numpy.empty`.

    All unused memory is let go as soon as a size is wanted that is not there: no more is kept than one step needs.
    """
    dtype = np.dtype(dtype)
    size = math.prod(shape) * dtype.itemsize
    if size < MIN_BYTES:
        return np.empty(shape, dtype)
    with _lock:
        buffers = _buffers.get(size, [])
        references = _references(buffers)
        if _ALONE in references:
            buffer = buffers[references.index(_ALONE)]
        else:
            for known, kept in list(_buffers.items()):
                kept[:] = [used for used, count in zip(kept, _references(kept), strict=True) if count > _ALONE]
                if not kept:
                    del _buffers[known]
            buffer = np.empty(size, np.uint8)
            _buffers.setdefault(size, []).append(buffer)
        return np.ndarray(shape, dtype, buffer)  # which refers to the buffer, as all its views do


def empty_like(array: NDArray[Any]) -> NDArray[Any]:
    """As `numpy.empty_like` of a C-contiguous array."""
    return empty(array.shape, array.dtype)


def _references(buffers: Sequence[NDArray[np.uint8]]) -> list[int]:
    return [sys.getrefcount(buffer) for buffer in buffers]


def _forget_lock() -> None:
    """Of a forked child: another thread of its parent may have held the lock."""
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_lock)

_ALONE = _references([np.empty(1, np.uint8)])[0]  # differs between versions of Python
