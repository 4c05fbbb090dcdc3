"""Where a NaN or infinity of a failed training step came from: the step is run again, and every array looked at."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from siamese_np.backend import ops
from siamese_np.errors import SiameseError
from siamese_np.ledger import layer_names
from siamese_np.network import Sequential


def first_not_finite(network: Sequential, run: Callable[[], float]) -> str:
    """The first array of a step that is not finite, with its layer, its pass and the index; "" where all are.

    `run` computes the gradients of the step and returns the loss. Parameters are not changed.
    """
    for name, array in network.named_params().items():
        if place := _place(array):
            return f"parameter {name}, {place}, from the update before"
    names = {id(layer): name for layer, name in zip(network.layers, layer_names(network.layers), strict=True)}
    steps: Any = network._fused if ops.name == "compiled" else network.layers
    found: dict[str, str] = {}  # by the pass

    def look(direction: str, what: str, array: Any) -> None:
        if direction not in found and (place := _place(array)):
            found[direction] = f"{what}, {place}, in the {direction} pass"

    def watch(step: Any, name: str) -> None:
        def forward(x: Any) -> Any:
            out, cache = type(step).forward(step, x)
            look("forward", f"the output of {name}", out)
            return out, cache

        def backward(dout: Any, cache: Any, **flags: Any) -> Any:
            look("backward", f"the gradient of the output of {name}", dout)
            dx = type(step).backward(step, dout, cache, **flags)
            for key, grad in step.grads.items():
                look("backward", f"the gradient of {name}.{key}", grad)
            look("backward", f"the gradient of the input of {name}", dx)
            return dx

        vars(step).update(forward=forward, backward=backward)

    for step in steps:
        watch(step, names[id(getattr(step, "conv", step))])
    loss = math.nan
    try:
        with np.errstate(all="ignore"):
            loss = run()
    except SiameseError:  # told by whoever takes the step
        return found.get("forward", "")
    finally:
        for step in steps:
            del vars(step)["forward"], vars(step)["backward"]
    if "forward" in found:
        return found["forward"]
    return found.get("backward", "") if math.isfinite(loss) else f"the loss, {loss}, in the forward pass"


def _place(array: Any) -> str:
    """The first number of `array` that is not finite, and its index; "" where there is none."""
    wrong = None if array is None else np.argwhere(~np.isfinite(array))
    if wrong is None or not len(wrong):
        return ""
    index = wrong[0].tolist()
    return f"{array[tuple(index)]} at {index}"
