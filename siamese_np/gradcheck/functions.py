"""Functions without a backward pass as cases: a loss that returns its gradient, a function with its derivative."""

import copy
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from types import MethodType
from typing import Any

import numpy as np

from siamese_np.errors import OptionError, ShapeError
from siamese_np.gradcheck.calls import arguments, is_checked, parameters, quiet
from siamese_np.gradcheck.case import Array, Case, as_array, describe, kind
from siamese_np.gradcheck.styles import found_case


def value_case(name: str, function: Callable[..., Any], values: Sequence[Any]) -> Case:
    """A case of ``function(*arrays) -> (value, gradients)``: a scalar loss, and gradients as a backward pass returns.

    Of a method, the gradients may be those of its object's parameters, in a dict.
    """
    with quiet():
        try:
            result = copy.deepcopy(function)(*arguments(function, values).values())
        except Exception as error:
            raise OptionError(f"{name} cannot be called with these arguments: it raised {describe(error)}") from error
    if not (isinstance(result, tuple) and len(result) == 2 and np.size(result[0]) == 1):
        raise OptionError(
            f"{name} must return a scalar loss and its gradients, (loss, dx), or be given with its backward pass, "
            f"backward=, or its derivative, grad= or jac=; it returned {kind(result)}"
        )
    if isinstance(function, MethodType):
        return found_case(name, function.__self__, function.__name__, None, values)
    return found_case(name, None, function, None, values)


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
