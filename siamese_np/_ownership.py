"""How a network comes to own the arrays of its layers: they become views of its two vectors, or it is refused.

Whatever would leave a layer with arrays that its network does not train is told in a sentence.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from siamese_np._arrays import walk
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
        for array in (*layer._params.kept.values(), *layer._grads.kept.values()):
            if array.size and array.ctypes.data in seen:
                raise OptionError(
                    f"{layer} is given twice, or shares an array: give each place a layer of its own, "
                    "copy.deepcopy(layer)"
                )
            seen.add(array.ctypes.data)
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
            f"{layer} belongs to a network, and only to one: give this one copy.deepcopy(layer), or use the first "
            "layers of a network with network.upto(k)"
        )
    for name, array in params.items():
        if array.dtype not in FLOATS:
            raise ShapeError(f"{layer} needs params[{name!r}] of float32 or float64, not {array.dtype}")
    if not grads.can_hold_gradients(params):
        raise ShapeError(
            f"{layer} needs grads like its params, {params.forms()}, and that can be written, not {grads.forms()}"
        )

    def check_held(held: Any) -> Any:
        if isinstance(held, Layer) and held.params and held.params is not params:
            raise OptionError(
                f"{layer} holds {held}, which the network would not train: give it to the network as a layer, "
                f"or set the params and grads of {layer} to those of {held}"
            )
        return held

    walk(layer, check_held, {})
    tie_views(layer)


def tie_views(layer: Layer) -> None:
    """Whole views of its arrays that `layer` keeps become those arrays, so that what moves or copies these finds all.

    OptionError where a layer without a network keeps another view, as of a part, which could not follow.
    """
    own = {f"params[{name!r}]": array for name, array in layer._params.kept.items()}
    own |= {f"grads[{name!r}]": array for name, array in layer._grads.kept.items()}
    whole = {_memory(array): array for array in own.values()}

    def tie(value: Any) -> Any:
        if not isinstance(value, np.ndarray):
            return value
        if _memory(value) in whole:
            return whole[_memory(value)]
        for name, array in own.items():
            if not layer._params.owner and np.may_share_memory(value, array):
                raise OptionError(
                    f"{layer} keeps a view of {name} that its network would not train: read self.{name} in forward "
                    "and backward instead of keeping a part or another form of it"
                )
        return value

    walk(layer, tie, {})


def _memory(array: Array) -> tuple[Any, ...]:
    return array.ctypes.data, array.shape, array.strides, array.dtype


def join_arrays(layers: Sequence[Layer]) -> tuple[Array, Array]:
    """One vector (P,) of all parameters of `layers`, and one of their gradients."""
    pairs = [(layer.params[name], layer.grads[name]) for layer in layers for name in layer.params]
    if not pairs:
        return np.empty(0, np.float32), np.empty(0, np.float32)
    params, grads = (np.concatenate([array.ravel() for array in arrays]) for arrays in zip(*pairs, strict=True))
    return params, grads


def move_arrays(layers: Sequence[Layer], params: Array, grads: Array) -> None:
    """Make all arrays of `layers` views of two vectors, which hold their values in the same order.

    What else holds such an array, as ``self.w``, of a layer or of one within it, holds the view from then on.
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

        def view(value: Any, moved: dict[int, Any] = moved) -> Any:
            return moved.get(id(value), (value, value))[1]

        walk(layer, view, {})
        start = end
