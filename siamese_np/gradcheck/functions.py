"""Functions with their derivative, as in scipy.optimize, as cases."""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from siamese_np.errors import ShapeError
from siamese_np.gradcheck.calls import is_checked, parameters
from siamese_np.gradcheck.case import Array, Case, as_array
from siamese_np.gradcheck.styles import found_case


def gradient_case(name: str, function: Callable[..., Any], grad: Callable[..., Any], values: Sequence[Any]) -> Case:
    """A case of ``function(*arrays) -> out`` and ``grad(*arrays)``, its gradient or full Jacobian.

    The Jacobian of an array has shape ``(*out.shape, *array.shape)``; for several arrays there are as many, in order,
    and None where there is none. Where it has the shape of the output and of the array it is the derivative of each
    entry.
    """

    def forward(*given: Any) -> tuple[Any, Any]:
        return function(*given), given

    def backward(dout: Array, given: tuple[Any, ...]) -> Any:
        derivative = grad(*given)
        if isinstance(derivative, Mapping):
            return {key: _product(dout, part, None) for key, part in derivative.items()}
        in_order = isinstance(derivative, tuple) or (isinstance(derivative, list) and len(given) > 1)
        if not in_order or (len(given) == 1 and len(derivative) > 1):
            return _product(dout, derivative, np.shape(given[0]))
        of = given if len(derivative) == len(given) else [value for value in given if is_checked(value)]
        return tuple(_product(dout, part, np.shape(value)) for part, value in zip(derivative, of, strict=False))

    forward.__signature__ = inspect.Signature(parameters(function))  # type: ignore[attr-defined]
    return found_case(name, None, forward, backward, values)


def _product(dout: Array, derivative: Any, shape: tuple[int, ...] | None) -> Any:
    """dout times a Jacobian, a gradient (of a scalar) or the derivatives of all entries."""
    if derivative is None:
        return None
    derivative = as_array("the derivative must be an array, but it", derivative)
    if shape is not None and derivative.shape in ((*dout.shape, *shape), (dout.size, math.prod(shape))):
        return (dout.ravel() @ derivative.reshape(dout.size, math.prod(shape))).reshape(shape)
    if dout.size == 1:
        return dout.item() * derivative
    if shape is None or derivative.shape == dout.shape == shape:
        return dout * derivative
    raise ShapeError(
        f"grad must return the gradient of a scalar or the Jacobian {(*dout.shape, *shape)}, not {derivative.shape}"
    )
