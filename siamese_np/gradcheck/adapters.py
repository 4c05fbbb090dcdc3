"""Anything that goes forward and backward as a case: a layer, a network, or a pair of plain functions.

Objects are known by their methods: nothing is imported to tell one by its class.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from siamese_np.errors import OptionError, ShapeError
from siamese_np.gradcheck.case import Array, Arrays, Broken, Case, as_array, kind


def layer_case(name: str, layer: Any, x: Array, strict: bool = False) -> Case:
    """A case of anything that goes both ways like a layer, or of a network of layers; its parameters stay live.

    ``layer.forward(x) -> (out, cache)``, ``layer.backward(dout, cache) -> dx``, and, where there are parameters,
    ``layer.params`` and ``layer.grads``: dicts of arrays under the same names, lists of arrays, or one array each.
    A network has ``layers``, ``named_params()`` and ``zero_grads()``. A layer that says ``adds_gradients`` is held to
    the contract of `Case.strict`, as is every network, whose layers must be fit to be shared.
    """
    network = _is_network(layer)
    params = _parameters(name, layer)
    if params and not network and not hasattr(layer, "grads"):
        raise OptionError(f"{name} has params, but no grads for their gradients")
    of_input = "x" if "x" not in params else "input"

    def grads() -> dict[str, Any]:
        if not params:
            return {}
        return named_grads(layer) if network else _by_name(f"the grads of {name}", layer.grads)

    def zero() -> None:
        for gradient in grads().values():
            if isinstance(gradient, np.ndarray):
                gradient[...] = 0

    return Case(
        name,
        {of_input: x, **params},
        lambda arrays: layer.forward(arrays[of_input]),
        lambda dout, cache: {of_input: _one(layer.backward(dout, cache)), **grads()},
        zero,
        inputs=(of_input,),
        batch=True,
        strict=strict or network or getattr(layer, "adds_gradients", False),
        owner=layer,
    )


def is_loss(thing: Any) -> bool:
    """Whether `thing` goes both ways and its backward takes the cache alone, as that of a loss does."""
    if not (callable(getattr(thing, "forward", None)) and callable(getattr(thing, "backward", None))):
        return False
    return [p.name for p in parameters(thing.backward) if p.default is p.empty] == ["cache"]


def loss_case(name: str, loss: Any, x: Array, about: Any) -> Case:
    """A case of a loss: ``forward(x, about) -> (value, cache)``, ``backward(cache)``, the gradient of x.

    x are the embeddings of a batch or the distances of pairs, `about` the classes or the labels: they are constant.
    """
    (of_input,) = _argument_names(loss.forward, 1)
    return Case(
        name,
        {of_input: x},
        lambda arrays: loss.forward(arrays[of_input], about),
        lambda dout, cache: {of_input: _one(loss.backward(cache)) * float(dout)},
        inputs=(of_input,),
        owner=loss,
    )


def named_grads(network: Any) -> Arrays:
    """Every gradient of a network under the name of its parameter."""
    grads = [gradient for layer in network.layers for gradient in layer.grads.values()]
    return dict(zip(network.named_params(), grads, strict=True))


def function_case(
    name: str,
    forward: Callable[..., Any],
    backward: Callable[..., Any],
    arrays: Sequence[Array],
) -> Case:
    """A case of ``forward(*arrays) -> (out, cache)`` and ``backward(dout, cache) -> one gradient per array``."""
    names = _argument_names(forward, len(arrays))

    def run_backward(dout: Array, cache: Any) -> Arrays:
        gradients = backward(dout, cache)
        if len(names) == 1:
            return {names[0]: _one(gradients)}
        if not isinstance(gradients, (tuple, list)) or len(gradients) != len(names):
            count = len(gradients) if isinstance(gradients, (tuple, list)) else 1
            raise Broken(f"backward must return {len(names)} gradients ({', '.join(names)}), but it returned {count}")
        return dict(zip(names, gradients, strict=True))

    return Case(
        name,
        dict(zip(names, arrays, strict=True)),
        lambda values: forward(*(values[key] for key in names)),
        run_backward,
        inputs=tuple(names),
    )


def expect_float64(name: str, layer: Any) -> None:
    """Demand parameters that differences can be taken of, or OptionError."""
    for key, value in _parameters(name, layer).items():
        if not isinstance(value, np.ndarray) or value.dtype != np.float64:
            found = value.dtype if isinstance(value, np.ndarray) else type(value).__name__
            raise OptionError(
                f"the parameter {key} of {name} must be a float64 array to be checked by differences, not {found}"
            )
        if not value.flags.writeable:
            raise OptionError(f"the parameter {key} of {name} is read-only, but to be checked it must be moved")


def floats(what: str, array: Any) -> Array:
    """A float64 copy of `array`, or a ShapeError."""
    array = as_array(f"{what} must hold numbers, but it", array)
    if not (np.issubdtype(array.dtype, np.floating) or np.issubdtype(array.dtype, np.integer)):
        raise ShapeError(f"{what} must hold real numbers, not {array.dtype}")
    array = np.array(array, np.float64, order="C")
    if not np.isfinite(array).all():
        raise ShapeError(f"{what} must hold finite numbers, but it holds NaN or infinity")
    return array


def _is_network(layer: Any) -> bool:
    return all(hasattr(layer, name) for name in ("layers", "named_params", "zero_grads"))


def _parameters(name: str, layer: Any) -> dict[str, Any]:
    if _is_network(layer):
        return dict(layer.named_params())
    return _by_name(f"the params of {name}", getattr(layer, "params", None))


def _by_name(what: str, arrays: Any) -> dict[str, Any]:
    """Parameters or gradients by name, the same for both: of a dict, of a list, or one array."""
    if arrays is None:
        return {}
    if isinstance(arrays, Mapping):
        return {str(key): array for key, array in arrays.items()}
    if isinstance(arrays, (list, tuple)):
        return {f"params[{number}]": array for number, array in enumerate(arrays)}
    if isinstance(arrays, np.ndarray):
        return {"params": arrays}
    raise OptionError(f"{what} must be a dict of arrays, a list of arrays or one array, not {kind(arrays)}")


def _one(gradient: Any) -> Any:
    if isinstance(gradient, (tuple, list)):
        if len(gradient) != 1:
            raise Broken(f"backward must return one gradient, that of the input, but it returned {kind(gradient)}")
        return gradient[0]
    if gradient is None:
        raise Broken("backward must return the gradient of the input, but it returned None")
    return gradient


def parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    """The parameters of `function`; none where Python does not know them."""
    try:
        return list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return []


def _argument_names(function: Callable[..., Any], count: int) -> list[str]:
    """The names of the first `count` parameters of `function`, or x0, x1, ..."""
    named = [p.name for p in parameters(function) if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return named[:count] if len(named) >= count else [f"x{number}" for number in range(count)]
