"""What users hand in, checked in one place: arrays, the caches of backward passes, and numbers."""

import numbers
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from siamese_np.errors import ShapeError

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


# --- Arrays -----------------------------------------------------------------------------------------------


def as_array(name: str, value: Any) -> NDArray[Any]:
    """`value` as an array; ShapeError where it makes none, or has a mask, which NumPy would drop silently."""
    if isinstance(value, np.ma.MaskedArray):
        raise ShapeError(f"{name} must be an array without a mask; fill or leave out what is masked")
    try:
        return np.asarray(value)
    except (TypeError, ValueError, OverflowError):
        raise ShapeError(f"{name} must be an array, but a {type(value).__name__} that makes none was given") from None


def is_array(value: Any) -> bool:
    """Whether `value` is an array, and one without a mask."""
    return isinstance(value, np.ndarray) and not isinstance(value, np.ma.MaskedArray)


def check_gradient(owner: object, dout: Any, shape: tuple[int, ...], dtype: DTypeLike | None = None) -> NDArray[Any]:
    """`dout` as a C-contiguous array of `shape` and `dtype` (None: float32 or float64), or a ShapeError."""
    dout = as_array("dout", dout)
    dtypes = FLOATS if dtype is None else (np.dtype(dtype),)
    if dout.shape != shape or dout.dtype not in dtypes:
        raise ShapeError(
            f"{owner} needs dout of its output's shape {shape} and dtype {_names(dtypes)}, "
            f"not {dout.shape} and {dout.dtype}"
        )
    return np.ascontiguousarray(dout)


# --- Caches: what backward is given must be what the owner's own forward makes, for kernels trust it --------


def cache_parts(owner: object, cache: Any, kind: type[tuple[Any, ...]] | type[list[Any]], count: int) -> Any:
    """`cache`, if it is a `kind` (tuple or list) of `count` parts; else a ShapeError."""
    if type(cache) is not kind or len(cache) != count:
        raise ShapeError(f"{_needs(owner)}, a {kind.__name__} of {count}, not {_found(cache)}")
    return cache


def cache_array(
    owner: object,
    name: str,
    array: Any,
    shape: Sequence[int | None] | None,
    dtype: DTypeLike | None = None,
) -> NDArray[Any]:
    """`array`, if C-contiguous and of `shape` and `dtype` (None: float32 or float64).

    None for `shape` admits any, None within it any length.
    """
    dtypes = FLOATS if dtype is None else (np.dtype(dtype),)
    if (
        type(array) is not np.ndarray
        or array.dtype not in dtypes
        or not _fits(array.shape, shape)
        or not array.flags.c_contiguous
    ):
        lengths = "" if shape is None else f" ({', '.join('any' if n is None else str(n) for n in shape)})"
        wanted = f"{name} a C-contiguous array{lengths} of {_names(dtypes)}"
        raise ShapeError(f"{_needs(owner)}, with {wanted}, not {_found(array)}")
    return array


def cache_shape(owner: object, cache: Any) -> tuple[int, ...]:
    """`cache`, if it is the shape of a batch."""
    if type(cache) is not tuple or len(cache) < 2 or any(type(length) is not int or length < 0 for length in cache):
        raise ShapeError(f"{_needs(owner)}, with the shape of its input, not {_found(cache)}")
    return cache


def cache_argmax(owner: object, argmax: Any, shape: tuple[int, ...], dtype: DTypeLike, count: int) -> NDArray[Any]:
    """`argmax`, if it is such an array of numbers from 0 to `count` - 1."""
    argmax = cache_array(owner, "argmax", argmax, shape, dtype)
    signed = argmax.dtype.kind == "i"
    if argmax.size and (argmax.max() >= count or (signed and argmax.min() < 0)):
        raise ShapeError(f"{_needs(owner)}, with every argmax below {count}, not from {argmax.min()} to {argmax.max()}")
    return argmax


def _fits(found: tuple[int, ...], shape: Sequence[int | None] | None) -> bool:
    if shape is None or found == shape:
        return True
    return len(found) == len(shape) and all(n in (None, length) for n, length in zip(shape, found, strict=True))


def _needs(owner: object) -> str:
    return f"{owner} needs the cache that its own forward returned"


def _names(dtypes: Sequence[np.dtype[Any]]) -> str:
    return " or ".join(str(dtype) for dtype in dtypes)


def _found(value: Any) -> str:
    if isinstance(value, np.ndarray):
        layout = "" if value.flags.c_contiguous else ", not C-contiguous"
        return f"{type(value).__name__} {value.shape} of {value.dtype}{layout}"
    return f"a {type(value).__name__} of {len(value)}" if isinstance(value, (tuple, list)) else type(value).__name__


# --- Numbers ------------------------------------------------------------------------------------------------


def as_number(value: Any) -> float:
    """`value` as a float; NaN, which no range includes, where it is no real number (a bool is none)."""
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        return np.nan
    try:
        return float(value)
    except OverflowError:
        return np.inf


def is_whole(value: Any) -> bool:
    """Whether `value` is an int, of Python or NumPy (a bool is none)."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)
