"""The contract of layers and losses, held at each call: what they return, which users write, and what they are given.

Backward passes are given caches: these must be what the owner's own forward makes, for kernels trust them.
"""

import functools
import inspect
import numbers
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from siamese_np._checks import FLOATS, as_array, fits, found, is_array, kernel_input
from siamese_np.errors import OptionError, ShapeError

Array = NDArray[np.floating]

# --- What layers return, which users write ------------------------------------------------------------------


def call_forward(layer: Any, x: NDArray[Any], shape: tuple[int, ...]) -> tuple[NDArray[Any], Any]:
    """``layer.forward(x)``, or a ShapeError unless that is an array (N, *shape) and a cache."""
    returned = layer.forward(x) if _is_ours(layer.__class__) else _forward_of_user(layer, x)
    out: Any = returned[0] if type(returned) is tuple and len(returned) == 2 else None
    if not is_array(out) or out.shape != (len(x), *shape):
        wanted = f"(out, cache), with out of its output_shape, an array {(len(x), *shape)}"
        raise ShapeError(f"{layer}.forward must return {wanted}, not {found(returned if out is None else out)}")
    return returned


def _forward_of_user(layer: Any, x: NDArray[Any]) -> Any:
    """``layer.forward(x)``, which may not write into the images or into what the layer before keeps for backward."""
    x = x.view()
    x.flags.writeable = False
    try:
        return layer.forward(x)
    except ValueError as error:
        if "read-only" not in str(error):
            raise
        raise ShapeError(f"{layer}.forward must not write into its input: make a new array") from error


def call_backward(layer: Any, dout: Any, cache: Any, shape: tuple[int, ...], need_dx: bool) -> Any:
    """``layer.backward(dout, cache)``, or with `need_dx` a ShapeError unless that is an array of `shape`."""
    dx = layer.backward(dout, cache, **({"need_dx": need_dx} if _takes_need_dx(layer.__class__) else {}))
    if need_dx and (not is_array(dx) or dx.shape != shape):
        raise ShapeError(f"{layer}.backward must return dx of the shape of x, an array {shape}, not {found(dx)}")
    return dx


@functools.cache
def _is_ours(kind: Any) -> bool:
    return bool(kind.__module__ in ("siamese_np.layers", "siamese_np.fusion"))


@functools.cache
def _takes_need_dx(kind: Any) -> bool:
    parameters = inspect.signature(kind.backward).parameters.values()
    return any(parameter.name == "need_dx" or parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)


def check_gradient(
    owner: object, dout: Any, shape: tuple[int, ...], dtype: DTypeLike | None = None, name: str = "dout"
) -> NDArray[Any]:
    """`dout` as a C-contiguous array of `shape` and `dtype` (None: float32 or float64), or a ShapeError."""
    dout = as_array(name, dout)
    if dout.shape != shape or (dout.dtype not in FLOATS if dtype is None else dout.dtype != dtype):
        dtypes = FLOATS if dtype is None else (np.dtype(dtype),)
        raise ShapeError(
            f"{owner} needs {name} of its output's shape {shape} and dtype {_names(dtypes)}, "
            f"not {dout.shape} and {dout.dtype}"
        )
    return kernel_input(dout)


# --- Caches: what backward is given must be what the owner's own forward makes, for kernels trust it --------


def cache_parts(owner: object, cache: Any, kind: type[tuple[Any, ...]] | type[list[Any]], count: int) -> Any:
    """`cache`, if it is a `kind` (tuple or list) of `count` parts; else a ShapeError."""
    if type(cache) is not kind or len(cache) != count:
        raise ShapeError(f"{_needs(owner)}, a {kind.__name__} of {count}, not {found(cache)}")
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
    if (
        type(array) is not np.ndarray
        or (array.dtype not in FLOATS if dtype is None else array.dtype != dtype)
        or (array.shape != shape and not fits(array.shape, shape))
        or not array.flags.c_contiguous
    ):
        dtypes = FLOATS if dtype is None else (np.dtype(dtype),)
        lengths = "" if shape is None else f" ({', '.join('any' if n is None else str(n) for n in shape)})"
        wanted = f"{name} a C-contiguous array{lengths} of {_names(dtypes)}"
        raise ShapeError(f"{_needs(owner)}, with {wanted}, not {found(array)}")
    return array if array.flags.writeable else kernel_input(array)


def cache_shape(owner: object, cache: Any) -> tuple[int, ...]:
    """`cache`, if it is the shape of a batch."""
    if type(cache) is not tuple or len(cache) < 2 or any(type(length) is not int or length < 0 for length in cache):
        raise ShapeError(f"{_needs(owner)}, with the shape of its input, not {found(cache)}")
    return cache


def cache_argmax(owner: object, argmax: Any, shape: tuple[int, ...], dtype: DTypeLike, count: int) -> NDArray[Any]:
    """`argmax`, if it is such an array of numbers from 0 to `count` - 1."""
    argmax = cache_array(owner, "argmax", argmax, shape, dtype)
    signed = argmax.dtype.kind == "i"
    if argmax.size and (argmax.max() >= count or (signed and argmax.min() < 0)):
        raise ShapeError(f"{_needs(owner)}, with every argmax below {count}, not from {argmax.min()} to {argmax.max()}")
    return argmax


def _needs(owner: object) -> str:
    return f"{owner} needs the cache that its own forward returned"


def _names(dtypes: Sequence[np.dtype[Any]]) -> str:
    return " or ".join(str(dtype) for dtype in dtypes)


LOSS_FORMS = {"pairs": ("dist", "label"), "batch": ("emb", "classes")}  # kind of loss: parameters of its forward


def loss_kind(loss: Any) -> str:
    """Whether `loss` is a loss of given "pairs" or of a "batch", or an OptionError where it is neither."""
    try:
        names = list(inspect.signature(loss.forward).parameters)
    except (AttributeError, TypeError, ValueError):
        names = []
    backward = isinstance(loss, type) or _takes(loss, "backward", 1)
    for kind, form in LOSS_FORMS.items():
        if tuple(names[:2]) == form and _takes(loss, "forward", 2) and backward:
            return kind
    has = (f"forward({', '.join(names)})" if names else "no forward") + ("" if backward else " and no backward(cache)")
    raise OptionError(
        "a loss has forward(dist, label), for given pairs, or forward(emb, classes), for a batch, and "
        f"backward(cache), but {loss!r:.100} has {has}"
    )


def _takes(loss: Any, method: str, count: int) -> bool:
    """Whether `method` of `loss` can be called with `count` arguments."""
    try:
        inspect.signature(getattr(loss, method)).bind(*[None] * count)
    except (AttributeError, TypeError, ValueError):
        return False
    return True


def _call(loss: Any, method: str, *arguments: Any) -> Any:
    try:
        return getattr(loss, method)(*arguments)
    except (AttributeError, TypeError):
        if not _takes(loss, method, len(arguments)):
            takes = {"forward": "forward(inputs, targets)", "backward": "backward(cache)"}[method]
            raise OptionError(f"a loss is called as loss.{takes}, which {loss!r:.100} does not take") from None
        raise


def loss_forward(loss: Any, inputs: Array, targets: Any) -> tuple[float, Any]:
    """The value of `loss` and its cache, or a ShapeError where it returns anything else."""
    returned = _call(loss, "forward", inputs, targets)
    if not isinstance(returned, tuple) or len(returned) != 2:
        raise ShapeError(f"{type(loss).__name__}.forward must return the loss and a cache, not {found(returned)}")
    value, cache = returned
    if not isinstance(value, (float, numbers.Real)) and not (
        is_array(value) and value.ndim == 0 and value.dtype.kind in "iuf"
    ):
        raise ShapeError(f"{type(loss).__name__}.forward must return the loss as one number, not {found(value)}")
    return float(value), cache


def loss_backward(loss: Any, cache: Any, name: str, like: Array) -> Array:
    """The gradient that `loss` returns, or a ShapeError unless it has the shape and dtype of `like`."""
    gradient = _call(loss, "backward", cache)
    if not is_array(gradient) or (gradient.shape, gradient.dtype) != (like.shape, like.dtype):
        raise ShapeError(
            f"{type(loss).__name__}.backward must return {name} as an array {like.shape} of {like.dtype}, "
            f"not {found(gradient)}"
        )
    return gradient
