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
        buffers = _kept.get(size, [])
        references = _references(buffers)
        if _ALONE in references:
            buffer = buffers[references.index(_ALONE)]
        else:
            used = {known: _used(buffers) for known, buffers in _kept.items()}
            _kept.clear()
            _kept.update({known: buffers for known, buffers in used.items() if buffers})
            buffer = np.empty(size, np.uint8)
            _kept.setdefault(size, []).append(buffer)
        return np.ndarray(shape, dtype, buffer)  # which refers to the buffer, as all its views do


def empty_like(array: NDArray[Any]) -> NDArray[Any]:
    """As `numpy.empty_like` of a C-contiguous array."""
    return empty(array.shape, array.dtype)


def _used(buffers: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
    """Those of `buffers` that anything but this list refers to."""
    return [buffer for buffer, count in zip(buffers, _references(buffers), strict=True) if count > _ALONE]


def _references(buffers: Sequence[NDArray[np.uint8]]) -> list[int]:
    return [sys.getrefcount(buffer) for buffer in buffers]


_ALONE = _references([np.empty(1, np.uint8)])[0]  # differs between versions of Python
