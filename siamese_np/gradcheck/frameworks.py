"""What PyTorch and JAX differentiate, as cases. Neither is imported: a user's object from them has done that."""

import contextlib
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from siamese_np.errors import OptionError
from siamese_np.gradcheck.calls import argument_names, arguments, is_checked, joined, not_checked, quiet, split
from siamese_np.gradcheck.case import INCONCLUSIVE, Array, Arrays, Case, Check, describe


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
    names = argument_names(first, len(values) + of_class)[-len(values) :]  # without ctx
    given = dict(zip(names, arguments(first, plain).values(), strict=True))
    params: Arrays = {}
    if isinstance(thing, torch.nn.Module):
        import copy

        module = copy.deepcopy(thing).double()
        params = {key: p.detach().numpy().copy() for key, p in module.named_parameters() if p.is_floating_point()}
        given = {(key if key not in params else f"input {key}"): value for key, value in given.items()}

    def run(values: Arrays) -> tuple[Any, Any]:
        tensors = {key: torch.from_numpy(np.array(array)).requires_grad_() for key, array in values.items()}
        handed = [tensors[k] if k in tensors else _constant(torch, v) for k, v in given.items()]
        if params:
            known = {key: tensors[key] for key in params if key in tensors}
            result = torch.func.functional_call(module, known, tuple(handed))
        else:
            result = call(*handed)
        return result, tensors

    def forward(values: Arrays) -> tuple[Any, Any]:
        result, tensors = run(values)
        outs = tuple(result) if isinstance(result, (tuple, list)) else result
        parts = tuple(part.detach().numpy() for part in outs) if isinstance(outs, tuple) else outs.detach().numpy()
        return joined(parts), (outs, parts, tensors)

    def gradients(dout: Array, cache: Any) -> dict[str, Any]:
        outs, parts, tensors = cache
        each = split(np.array(dout), parts)
        several = isinstance(outs, tuple)
        pairs = list(zip(outs, each, strict=True)) if several else [(outs, each)]
        pairs = [(out, torch.from_numpy(np.array(d))) for out, d in pairs if out.requires_grad]
        if not pairs:
            return dict.fromkeys(tensors)
        found = torch.autograd.grad(
            [out for out, _ in pairs],
            list(tensors.values()),
            [d for _, d in pairs],
            retain_graph=True,
            allow_unused=True,
        )
        return {key: g if g is None else g.detach().numpy() for key, g in zip(tensors, found, strict=True)}

    arrays = {**{key: value for key, value in given.items() if is_checked(value)}, **params}
    with quiet():
        try:
            out, cache = forward(arrays)
            trial = gradients(np.ones_like(out), cache)
        except Exception as error:
            raise OptionError(f"{name} cannot be called with these arguments: it raised {describe(error)}") from error
    missing = [key for key in arrays if trial[key] is None]
    checked = {key: array for key, array in arrays.items() if key not in missing}
    constants = {key: arrays[key] for key in missing}
    if not checked:
        raise OptionError(f"{name} has no gradient of any of its arguments")
    sentence = f"there is no gradient of {', '.join(missing)}: not checked"
    return Case(
        name,
        checked,
        lambda values: forward({**constants, **values}),
        lambda dout, cache: {key: g for key, g in gradients(dout, cache).items() if key in checked},
        inputs=tuple(checked),
        extra=(lambda: [Check("arguments", INCONCLUSIVE, sentence)]) if missing else None,
        notes=["the gradients are those of torch.autograd, in float64", *not_checked(given)],
    )


def _constant(torch: Any, value: Any) -> Any:
    return torch.from_numpy(np.array(value)) if isinstance(value, np.ndarray) else value


def jax_case(name: str, function: Callable[..., Any], values: Sequence[Any]) -> Case | None:
    """A case of a function of JAX, differentiated by ``jax.vjp`` in float64; None where it is none."""
    jax = sys.modules.get("jax")
    if jax is None or not hasattr(jax, "vjp"):
        return None
    given = arguments(function, values)
    checked = {key: value for key, value in given.items() if is_checked(value)}

    def call(*floats: Any) -> Any:
        return function(*{**given, **dict(zip(checked, floats, strict=True))}.values())

    with quiet(), _x64(jax):
        try:
            out = call(*checked.values())
        except Exception:  # it is none, or what it is checked as says why
            return None
    if not isinstance(out, jax.Array) or not checked:
        return None

    def forward(arrays: Arrays) -> tuple[Any, Any]:
        with _x64(jax):
            floats = [jax.numpy.array(array) for array in arrays.values()]
            return np.asarray(call(*floats)), floats

    def backward(dout: Array, floats: list[Any]) -> Arrays:
        with _x64(jax):
            found = jax.vjp(call, *floats)[1](jax.numpy.array(dout))
            return {key: np.array(gradient) for key, gradient in zip(checked, found, strict=True)}

    notes = ["the gradients are those of jax.vjp, in float64", *not_checked(given)]
    return Case(name, checked, forward, backward, inputs=tuple(checked), notes=notes)


def _x64(jax: Any) -> contextlib.AbstractContextManager[Any]:
    if hasattr(jax, "enable_x64"):
        return jax.enable_x64(True)
    return jax.experimental.enable_x64()
