"""How a network comes to own the arrays of its layers: they become views of its two vectors, or it is refused.

Whatever would leave a layer with arrays that its network does not train is told in a sentence.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from siamese_np._checks import FLOATS, found
from siamese_np.errors import OptionError, ShapeError
from siamese_np.layer import Array, Layer


def check_layers(layers: Sequence[Any]) -> None:
    """OptionError or ShapeError unless one network can own all `layers`."""
    seen, dtypes = set(), {}  # type: set[int], dict[np.dtype[Any], Layer]
    for layer in layers:
        if not isinstance(layer, Layer):
            raise OptionError(f"a network is made of layers, objects of classes derived from Layer, not {found(layer)}")
        _check_arrays(layer)
        if layer.params and id(layer.params) in seen:
            raise OptionError(f"{layer} is given twice: give each place a layer of its own, copy.deepcopy(layer)")
        seen.add(id(layer.params))
        dtypes.update({array.dtype: layer for array in layer.params.values()})
    if len(dtypes) > 1:
        each = " and ".join(f"{layer} has {dtype}" for dtype, layer in dtypes.items())
        raise ShapeError(f"all parameters of a network must have one dtype, but {each}")


def _check_arrays(layer: Layer) -> None:
    if type(layer).params is not Layer.params or type(layer).grads is not Layer.grads:
        raise OptionError(f"{layer} must keep its arrays in the params and grads that Layer gives it")
    params, grads = layer.params, layer.grads
    if params and params.owner:
        raise OptionError(
            f"{layer} belongs to a network, which could not train it any more: give the new one "
            "copy.deepcopy(layer), or use the first layers of a network with network.upto(k)"
        )
    for name, array in params.items():
        if array.dtype not in FLOATS:
            raise ShapeError(f"{layer} needs params[{name!r}] of float32 or float64, not {array.dtype}")
    if not grads.can_hold_gradients(params):
        raise ShapeError(
            f"{layer} needs grads like its params, {params.forms()}, and that can be written, not {grads.forms()}"
        )
    for held in _held_by(layer):
        if held.params and held.params is not params:
            raise OptionError(
                f"{layer} holds {held}, whose weights the network would not reach: give the network all layers "
                "themselves, or set params and grads to those of the layer within"
            )


def _held_by(layer: Layer) -> Iterator[Layer]:
    """The layers that `layer` holds, in attributes or in lists of them."""
    for value in vars(layer).values():
        for part in value if isinstance(value, (list, tuple)) else (value,):
            if isinstance(part, Layer):
                yield part
                yield from _held_by(part)


def join_arrays(layers: Sequence[Layer]) -> tuple[Array, Array]:
    """One vector (P,) of all parameters of `layers`, and one of their gradients."""
    pairs = [(layer.params[name], layer.grads[name]) for layer in layers for name in layer.params]
    if not pairs:
        return np.empty(0, np.float32), np.empty(0, np.float32)
    params, grads = (np.concatenate([array.ravel() for array in arrays]) for arrays in zip(*pairs, strict=True))
    return params, grads


def move_arrays(layers: Sequence[Layer], params: Array, grads: Array) -> None:
    """Make all arrays of `layers` views of two vectors, which hold their values in the same order.

    An attribute that holds such an array, as ``self.w``, of a layer or of one within it, holds the view from then on.
    """
    start = 0
    for layer in layers:
        moved, end = {}, start
        for arrays, vector in ((layer.params, params), (layer.grads, grads)):
            arrays.owner = arrays.owner or str(layer)
            end = start
            for name in layer.params:
                array = arrays.kept[name]
                arrays.kept[name] = vector[end : end + array.size].reshape(array.shape)
                moved[id(array)] = array, arrays.kept[name]
                end += array.size
        for holder in (layer, *_held_by(layer)):
            for key, value in vars(holder).items():
                if id(value) in moved:
                    vars(holder)[key] = moved[id(value)][1]
        start = end
