"""Functions with a derivative of their own as cases: given beside them, as in scipy.optimize, or by PyTorch or JAX.

Neither of the two is imported: a user's object from them has done that.
"""

import copy
import inspect
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from siamese_np.errors import OptionError, ShapeError
from siamese_np.gradcheck import calls
from siamese_np.gradcheck.case import INCONCLUSIVE, Array, Arrays, Case, Check, as_array, describe
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
        of = given if len(derivative) == len(given) else [value for value in given if calls.is_checked(value)]
        return tuple(_product(dout, part, np.shape(value)) for part, value in zip(derivative, of, strict=False))

    forward.__signature__ = inspect.Signature(calls.parameters(function))  # type: ignore[attr-defined]
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


def torch_kind(thing: Any, values: Sequence[Any]) -> bool:
    """Whether `thing` is an autograd function or a module of PyTorch, or is called with its tensors."""
    torch = sys.modules.get("torch")
    if torch is None or not hasattr(torch, "autograd"):
        return False
    of_class = isinstance(thing, type) and issubclass(thing, torch.autograd.Function)
    return of_class or isinstance(thing, torch.nn.Module) or any(isinstance(v, torch.Tensor) for v in values)


def torch_case(name: str, thing: Any, values: Sequence[Any]) -> Case:
    """A case of a ``torch.autograd.Function``, a module with its parameters, or a function of tensors, in float64."""
    torch = sys.modules["torch"]
    plain = [v.detach().cpu().numpy() if isinstance(v, torch.Tensor) else v for v in values]
    of_class = isinstance(thing, type)
    call: Callable[..., Any] = thing.apply if of_class else thing
    first = thing.forward if of_class or isinstance(thing, torch.nn.Module) else thing
    names = calls.argument_names(first, len(values) + of_class)[-len(values) :]  # without ctx
    given = dict(zip(names, calls.arguments(first, plain).values(), strict=True))
    params: Arrays = {}
    if isinstance(thing, torch.nn.Module):
        module = copy.deepcopy(thing).double()
        params = {key: p.detach().numpy().copy() for key, p in module.named_parameters() if p.is_floating_point()}
        given = {(key if key not in params else f"input {key}"): value for key, value in given.items()}

    def forward(values: Arrays) -> tuple[Any, Any]:
        tensors = {key: torch.from_numpy(np.array(array)).requires_grad_() for key, array in values.items()}
        handed = [torch.from_numpy(np.array(v)) if isinstance(v, np.ndarray) else v for v in given.values()]
        handed = [tensors.get(key, value) for key, value in zip(given, handed, strict=True)]
        known = {key: tensors[key] for key in params if key in tensors}
        result = torch.func.functional_call(module, known, tuple(handed)) if params else call(*handed)
        if not isinstance(result, (tuple, list)):
            return result.detach().numpy(), (result, result.detach().numpy(), tensors)
        parts = tuple(part.detach().numpy() for part in result)
        return calls.joined(parts), (result, parts, tensors)

    def gradients(dout: Array, cache: Any) -> dict[str, Any]:
        result, parts, tensors = cache
        douts = calls.split(np.array(dout), parts)
        pairs = zip(result, douts, strict=True) if isinstance(parts, tuple) else [(result, douts)]
        total = sum((out * torch.from_numpy(np.array(d))).sum() for out, d in pairs)
        if not total.requires_grad:
            return dict.fromkeys(tensors)
        found = torch.autograd.grad(total, list(tensors.values()), retain_graph=True, allow_unused=True)
        return {key: g if g is None else g.detach().numpy() for key, g in zip(tensors, found, strict=True)}

    arrays = {**{key: value for key, value in given.items() if calls.is_checked(value)}, **params}
    with calls.quiet():
        try:
            out, cache = forward(arrays)
            trial = gradients(np.ones_like(out), cache)
        except Exception as error:
            raise OptionError(f"{name} cannot be called with these arguments: it raised {describe(error)}") from error
    constants = {key: array for key, array in arrays.items() if trial[key] is None}
    checked = {key: array for key, array in arrays.items() if key not in constants}
    if not checked:
        raise OptionError(f"{name} has no gradient of any of its arguments")
    sentence = f"there is no gradient of {', '.join(constants)}: not checked"
    return Case(
        name,
        checked,
        lambda values: forward({**constants, **values}),
        lambda dout, cache: {key: g for key, g in gradients(dout, cache).items() if key in checked},
        inputs=tuple(checked),
        extra=(lambda: [Check("arguments", INCONCLUSIVE, sentence)]) if constants else None,
        notes=["the gradients are those of torch.autograd, in float64", *calls.not_checked(given)],
    )


def jax_case(name: str, function: Callable[..., Any], values: Sequence[Any]) -> Case | None:
    """A case of a function of JAX, differentiated by ``jax.vjp`` in float64; None where it is none."""
    jax = sys.modules.get("jax")
    if jax is None or not hasattr(jax, "vjp"):
        return None
    x64 = jax.enable_x64 if hasattr(jax, "enable_x64") else jax.experimental.enable_x64
    given = calls.arguments(function, values)
    checked = {key: value for key, value in given.items() if calls.is_checked(value)}

    def call(*floats: Any) -> Any:
        return function(*{**given, **dict(zip(checked, floats, strict=True))}.values())

    with calls.quiet(), x64(True):
        try:
            out = call(*checked.values())
        except Exception:  # it is none, or what it is checked as says why
            return None
    if not isinstance(out, jax.Array) or not checked:
        return None

    def forward(arrays: Arrays) -> tuple[Any, Any]:
        with x64(True):
            floats = [jax.numpy.array(array) for array in arrays.values()]
            return np.asarray(call(*floats)), floats

    def backward(dout: Array, floats: list[Any]) -> Arrays:
        with x64(True):
            found = jax.vjp(call, *floats)[1](jax.numpy.array(dout))
            return {key: np.array(gradient) for key, gradient in zip(checked, found, strict=True)}

    notes = ["the gradients are those of jax.vjp, in float64", *calls.not_checked(given)]
    return Case(name, checked, forward, backward, inputs=tuple(checked), notes=notes)
