"""Objects as cases: our networks and losses whole, layers that keep our contract, and those of other people.

Objects are known by their methods: nothing is imported to tell one by its class.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from siamese_np.errors import OptionError
from siamese_np.gradcheck.calls import DOUT, argument_names, floats, parameters, quiet
from siamese_np.gradcheck.case import Array, Arrays, Broken, Case, kind
from siamese_np.gradcheck.derivatives import gradient_case
from siamese_np.gradcheck.styles import BACKWARD, both_ways, found_case


def object_case(name: str, thing: Any, values: Sequence[Any]) -> Case:
    """A case of an object that goes forward and backward, at the arguments `values` of its forward."""
    forward, backward = both_ways(thing)
    if not (forward and backward):
        lacking = "method forward" if backward else "method backward" if forward else "methods forward and backward"
        raise OptionError(
            f"{name} has no {lacking}; give a function's backward as backward=, or its derivative as grad="
        )
    if is_loss(thing):
        names = argument_names(thing.forward, 2)
        if len(values) != 2:
            form = f"forward({', '.join(names)})"
            raise OptionError(f"the loss {name} is checked at the two arrays of its {form}, not at {len(values)}")
        key, x, about = names[0], floats("array 0", values[0]), np.array(values[1])
        return Case(
            name,
            {key: x},  # embeddings of a batch or distances of pairs; the classes or labels are constant
            lambda arrays: thing.forward(arrays[key], about),
            lambda dout, cache: {key: _one(thing.backward(cache)) * float(dout)},
            inputs=(key,),
            owner=thing,
        )
    if _is_network(getattr(thing, "network", None)):
        return _siamese_case(name, thing, values)
    if _is_network(thing) or getattr(thing, "adds_gradients", False) or _keeps_contract(thing, values):
        if len(values) != 1:
            raise OptionError(f"a layer is checked at one array, its input, not at {len(values)}")
        _expect_float64(name, thing)
        return layer_case(name, thing, floats("array 0", values[0]))
    if not values:
        raise OptionError("a layer is checked at the arguments of its forward: at one array at least, its input")
    if backward not in BACKWARD:
        with quiet():
            case = gradient_case(name, getattr(thing, forward), getattr(thing, backward), values)
            return replace(case, owner=thing)
    return found_case(name, thing, forward, backward, values)


def _keeps_contract(layer: Any, values: Sequence[Any]) -> bool:
    """Whether forward returns out and cache, backward takes dout and cache, and params and grads have the same names.

    Then it is checked as it stands, and what it keeps on itself is found; any other is copied for each pass.
    """
    needed = ("forward", "backward", "params", "grads")
    if len(values) != 1 or not all(hasattr(layer, key) for key in needed) or np.asarray(values[0]).dtype.kind != "f":
        return False
    given = parameters(layer.backward)
    wanted = [p.name for p in given if p.default is p.empty and p.kind != p.VAR_POSITIONAL]
    if len(wanted) == len(given) and (len(wanted) != 2 or DOUT.match(wanted[1])):
        return False
    try:
        _expect_float64("", layer)
        if list(_held("", layer, "params")) != list(_held("", layer, "grads")):
            return False
        trial = copy.deepcopy(layer)
    except Exception:  # a user's object may refuse to be copied in any way
        return False
    try:
        with quiet():
            results = [trial.forward(floats("array 0", values[0])) for _ in range(2)]
    except (Exception, SystemExit):
        return True  # the check says what was raised
    pairs = all(isinstance(result, tuple) and len(result) == 2 for result in results)
    return pairs and np.array_equal(results[0][0], results[1][0], equal_nan=True)


def layer_case(name: str, layer: Any, x: Array, strict: bool = False) -> Case:
    """A case of anything that goes both ways like a layer, or of a network of layers; its parameters stay live.

    ``layer.params`` and ``layer.grads`` are dicts of arrays under the same names, lists of arrays, or one array each.
    A layer that says ``adds_gradients``, and every network, whose layers must be fit to be shared, are strict.
    """
    network, params = _is_network(layer), _held(name, layer, "params")
    of_input = "x" if "x" not in params else "input"
    if params and not network and not hasattr(layer, "grads"):
        raise OptionError(f"{name} has params, but no grads for their gradients")

    def grads() -> dict[str, Any]:
        return _held(name, layer, "grads") if params else {}

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
    if len([p for p in parameters(thing.forward) if p.default is p.empty]) != 2:
        return False
    return [p.name for p in parameters(thing.backward) if p.default is p.empty] == ["cache"]


def function_case(
    name: str, forward: Callable[..., Any], backward: Callable[..., Any], arrays: Sequence[Array]
) -> Case:
    """A case of ``forward(*arrays) -> (out, cache)`` and ``backward(dout, cache) -> one gradient per array``, as is."""
    names = argument_names(forward, len(arrays))

    def run_backward(dout: Array, cache: Any) -> Arrays:
        gradients = backward(dout, cache)
        several = gradients if isinstance(gradients, (tuple, list)) else (gradients,)
        if len(several) != len(names):
            count = len(several)
            raise Broken(f"backward must return {len(names)} gradients ({', '.join(names)}), but it returned {count}")
        return dict(zip(names, several, strict=True))

    return Case(
        name,
        dict(zip(names, arrays, strict=True)),
        lambda values: forward(*(values[key] for key in names)),
        run_backward,
        inputs=tuple(names),
    )


def _siamese_case(name: str, siamese: Any, values: Sequence[Any]) -> Case:
    if len(values) != 2:
        raise OptionError(f"{name} is checked at two batches of images, images_a and images_b, not at {len(values)}")
    images, network = [floats(f"array {number}", value) for number, value in enumerate(values)], siamese.network
    _expect_float64(name, network)
    params = network.named_params()
    return Case(
        name,
        params,
        lambda arrays: siamese.forward(*images),
        lambda dout, cache: (siamese.backward(dout, cache), named_grads(network))[1],
        network.zero_grads,
        strict=True,
        # a bias added last moves both embeddings of a pair alike: no distance depends on it
        invariant=tuple(params)[-1:] if "b" in network.layers[-1].params else (),
        notes=["images_a and images_b are constant: backward gives no gradient of them, and none is checked"],
    )


def named_grads(network: Any) -> Arrays:
    """Every gradient of a network under the name of its parameter."""
    grads = [gradient for layer in network.layers for gradient in layer.grads.values()]
    return dict(zip(network.named_params(), grads, strict=True))


def _expect_float64(name: str, layer: Any) -> None:
    for key, value in _held(name, layer, "params").items():
        found = value.dtype if isinstance(value, np.ndarray) else type(value).__name__
        if found != np.float64:
            raise OptionError(
                f"the parameter {key} of {name} must be a float64 array to be checked by differences, not {found}"
            )
        if not value.flags.writeable:
            raise OptionError(f"the parameter {key} of {name} is read-only, but to be checked it must be moved")


def _is_network(layer: Any) -> bool:
    return all(hasattr(layer, name) for name in ("layers", "named_params", "zero_grads"))


def _held(name: str, layer: Any, what: str) -> dict[str, Any]:
    """The params or grads of a network, or of a layer that has a dict of them, a list or one array: by name."""
    if _is_network(layer):
        return dict(layer.named_params()) if what == "params" else named_grads(layer)
    arrays = getattr(layer, what, None)
    if isinstance(arrays, Mapping):
        return {str(key): array for key, array in arrays.items()}
    if isinstance(arrays, (list, tuple)):  # params and grads have the same names
        return {f"params[{number}]": array for number, array in enumerate(arrays)}
    if arrays is None or isinstance(arrays, np.ndarray):
        return {} if arrays is None else {"params": arrays}
    sentence = f"the {what} of {name} must be a dict of arrays, a list of arrays or one array"
    raise OptionError(f"{sentence}, not {kind(arrays)}")


def _one(gradient: Any) -> Any:
    """The gradient of the only input."""
    several = isinstance(gradient, (tuple, list))
    if gradient is None or (several and len(gradient) != 1):
        which = "one gradient, that of the input" if several else "the gradient of the input"
        raise Broken(f"backward must return {which}, but it returned {kind(gradient)}")
    return gradient[0] if several else gradient
