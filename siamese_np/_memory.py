"""Large arrays in memory that earlier ones have left.

The system gives memory in pages of 4 KiB, and a process pays for each when it first writes to it. A training step
that allocates its arrays anew can spend a third of its time on that. The next step needs the same sizes again, so
what nobody refers to any more is kept until then.
"""

import math
import sys
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

LEAST = 1 << 18  # bytes; the C library's allocator keeps the memory of smaller arrays

_lock = threading.Lock()
_kept: dict[int, list[NDArray[np.uint8]]] = {}  # by size; each is in use while anything else refers to it


def empty(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """As `numpy.empty`.

    What is not in use is let go as soon as a size is wanted that is not there: no more is kept than one step needs.
    """
    dtype = np.dtype(dtype)
    size = math.prod(shape) * dtype.itemsize
    if size < LEAST:
        return np.empty(shape, dtype)
    with _lock:
        if size in _kept and (free := _split(_kept[size])[0]):
            buffer = free[0]
        else:
            used = {known: _split(buffers)[1] for known, buffers in _kept.items()}
            _kept.clear()
            _kept.update({known: buffers for known, buffers in used.items() if buffers})
            buffer = np.empty(size, np.uint8)
            _kept.setdefault(size, []).append(buffer)
        return buffer.view(dtype).reshape(shape)  # which refer to the buffer, as all their views do


def empty_like(array: NDArray[Any]) -> NDArray[Any]:
    """As `numpy.empty_like` of a C-contiguous array."""
    return empty(array.shape, array.dtype)


def _split(buffers: Sequence[NDArray[np.uint8]]) -> tuple[list[NDArray[np.uint8]], list[NDArray[np.uint8]]]:
    """Those of `buffers` that nothing but this list refers to, and the others."""
    free = [count == _ALONE for count in _references(buffers)]
    return (
        [buffer for buffer, is_free in zip(buffers, free, strict=True) if is_free],
        [buffer for buffer, is_free in zip(buffers, free, strict=True) if not is_free],
    )


def _references(buffers: Sequence[NDArray[np.uint8]]) -> list[int]:
    return [sys.getrefcount(buffer) for buffer in buffers]


_ALONE = _references([np.empty(1, np.uint8)])[0]  # differs between versions of Python
