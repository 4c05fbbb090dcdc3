"""A pair of images through the textbook, layer by layer, forward and backward, with every array kept.

Each branch runs by itself, so that what it adds to the shared gradients can be seen.
"""

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np

from siamese_np._checks import FLOATS, as_array, check_finite, found, is_whole
from siamese_np._contract import call_backward, call_forward
from siamese_np.errors import OptionError, ShapeError
from siamese_np.layer import Array, Layer
from siamese_np.layers import AvgPool2D, Conv2D, Dense, Flatten, GlobalAvgPool2D, MaxPool2D, ReLU
from siamese_np.ledger import aligned, flops, layer_names
from siamese_np.network import SiameseNetwork
from siamese_np.textbook import avgpool2d, contrastive, conv2d, dense, distance, maxpool2d, relu

BRANCHES = ("a", "b")
_HEAD = ("array", "shape", "norm", "largest", "zeros", "FLOPs", "bytes")
# Of each kind of layer: the textbook's two functions, and the attributes that forward takes beside x and parameters
_TEXTBOOK: dict[type[Any], tuple[Any, Any, tuple[str, ...]]] = {
    Conv2D: (conv2d.conv2d_forward, conv2d.conv2d_backward, ("stride", "pad")),
    Dense: (dense.dense_forward, dense.dense_backward, ()),
    ReLU: (relu.relu_forward, relu.relu_backward, ()),
    MaxPool2D: (maxpool2d.maxpool2d_forward, maxpool2d.maxpool2d_backward, ("window", "stride")),
    AvgPool2D: (avgpool2d.avgpool2d_forward, avgpool2d.avgpool2d_backward, ("window", "stride")),
}
TEXTBOOK_LAYERS = (*_TEXTBOOK, Flatten, GlobalAvgPool2D)


@dataclass(frozen=True, eq=False)
class Trace(Mapping[str, Array]):
    """Every array of one pair's way to the loss and back, by name; printed, it is a table.

    The names: ``a.conv2d_1.x``, ``a.conv2d_1.out`` and so on for each layer and both branches, ``a.conv2d_1.dout``,
    ``dx``, ``dw``, ``db`` on the way back, ``a.maxpool2d_1.argmax``, ``shared.conv2d_1.dw`` for the sum of both
    branches, ``dist``, ``loss`` and ``ddist``. Arrays are float32 and have the batch axis N = 1, as in the textbook.

    Attributes
    ----------
    arrays : dict of str to ndarray
    layers : dict of str to Layer
        Of the network, by name.
    label : int
        0 = similar, 1 = dissimilar.
    margin : float
    """

    arrays: dict[str, Array]
    layers: dict[str, Layer]
    label: int
    margin: float

    def __getitem__(self, name: str) -> Array:
        if name not in self.arrays:
            raise KeyError(f"the trace has no array {name!r}; a name is branch, layer and array, as a.{self._first}.dw")
        return self.arrays[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.arrays)

    def __len__(self) -> int:
        return len(self.arrays)

    @property
    def _first(self) -> str:
        return next((name for name, layer in self.layers.items() if layer.params), next(iter(self.layers)))

    def __repr__(self) -> str:
        table = [_HEAD]
        for name, array in self.arrays.items():
            layer, _, kind = name.partition(".")[2].rpartition(".")
            neighbours = {"x": [*self.layers][1:], "dout": [*self.layers][:-1]}
            if kind == "argmax" or layer in neighbours.get(kind, []):
                continue  # argmax holds no numbers to add up; the others are the out or dx of the layer beside
            table.append(
                (
                    name,
                    "x".join(map(str, array.shape[name[:7] != "shared." and kind not in ("dw", "db") :])) or "1",
                    f"{np.linalg.norm(array.astype(np.float64)):.4g}",
                    f"{abs(array.astype(np.float64)).max(initial=0):.4g}",
                    f"{1 - np.count_nonzero(array) / max(array.size, 1):.0%}",
                    self._flops(name, layer, kind),
                    f"{array.nbytes:,}",
                )
            )
        kind = "similar" if self.label == 0 else "dissimilar"
        last = f"{kind} pair, margin {self.margin:g}: dist {self['dist'][0]:.6g}, loss {self['loss'][0]:.6g}"
        return "\n".join([*aligned(table, left=2), last])

    def _flops(self, name: str, layer: str, kind: str) -> str:
        """Operations to make the array: backward's of a layer stand beside dx, or dw where it has parameters."""
        if layer not in self.layers or name.startswith("shared."):
            return ""
        x, out = self.arrays[f"a.{layer}.x"].shape[1:], self.arrays[f"a.{layer}.out"].shape[1:]
        forward, backward = flops(self.layers[layer], x, out)
        shown = {"out": forward, "dw" if self.layers[layer].params else "dx": backward}
        count = shown.get(kind)
        return "" if count is None else f"{count:,}"


@np.errstate(over="ignore", invalid="ignore")  # infinity and NaN are to be seen where they arise
def trace(siamese: SiameseNetwork, a: Any, b: Any, label: int | None = None) -> Trace:
    """Run two images through the textbook in float32, layer by layer, and keep every array.

    A layer that has no page there, as one of your own, runs itself.

    Parameters
    ----------
    siamese : SiameseNetwork
        Nothing of it is changed.
    a, b : (H, W, C) or (H, W) arrays
        Two images, float in [0, 1].
    label : int, optional
        0 = similar, 1 = dissimilar; by default what the model takes the pair for.

    Returns
    -------
    Trace
        Named arrays. A compiled run differs from them in the last digits.

    Raises
    ------
    ShapeError
        An image has not the shape the network was made for, or is not finite; or a layer returns what it may not.
    OptionError
        `siamese` is none, or has no layers; one of your own cannot be copied; or the label is neither 0 nor 1.

    Examples
    --------
    >>> import numpy as np
    >>> from siamese_np import SiameseNetwork, mlp, trace
    >>> images = np.random.default_rng(0).random((2, 4, 4), np.float32)
    >>> t = trace(SiameseNetwork(mlp((4, 4, 1))), images[0], images[1], label=1)
    >>> bool((t["shared.dense_1.dw"] == t["a.dense_1.dw"] + t["b.dense_1.dw"]).all())
    True
    """
    if label is not None and not (is_whole(label) and label in (0, 1)):
        raise OptionError(f"label is 0 for a similar pair and 1 for a dissimilar one, not {label!r}")
    if not isinstance(siamese, SiameseNetwork) or not siamese.network.layers:
        raise OptionError(f"a SiameseNetwork with layers can be traced, not {found(siamese)}")
    network, dtype = siamese.network, siamese.network.params.dtype
    layers = dict(zip(layer_names(network.layers), network.layers, strict=True))
    try:
        own = {name: deepcopy(layer) for name, layer in layers.items() if type(layer) not in TEXTBOOK_LAYERS}
    except TypeError as error:
        raise OptionError(f"a layer of your own is run on a copy, but none can be made: {error}") from None
    params = {name: {key: array.astype(np.float32) for key, array in layers[name].params.items()} for name in layers}
    images = [_image(name, image, network.input_shape) for name, image in zip(BRANCHES, (a, b), strict=True)]
    arrays: dict[str, Array] = {}
    caches: dict[str, list[Any]] = {}
    for branch, x in zip(BRANCHES, images, strict=True):
        caches[branch] = []
        for name, layer in layers.items():
            arrays[f"{branch}.{name}.x"] = x
            x, cache = _user_forward(own[name], x, dtype) if name in own else forward(layer, x, params[name])
            x = np.ascontiguousarray(x, np.float32)
            caches[branch].append(cache)
            arrays[f"{branch}.{name}.out"] = x
            if type(layer) is MaxPool2D:
                arrays[f"{branch}.{name}.argmax"] = cache[0]

    emb = [arrays[f"{branch}.{[*layers][-1]}.out"] for branch in BRANCHES]
    dist, distance_cache = distance.euclidean_forward(*emb)
    if label is None:
        label = int(dist[0] >= siamese.threshold)
    margin = np.float32(siamese.margin)
    loss, loss_cache = contrastive.contrastive_forward(dist, np.array([label]), margin)
    ddist = contrastive.contrastive_backward(np.ones_like(loss), loss_cache)
    arrays |= {"dist": dist, "loss": loss, "ddist": ddist}
    demb = distance.euclidean_backward(ddist, distance_cache)
    for branch, dout in zip(BRANCHES, demb, strict=True):
        for (name, layer), cache in zip(reversed(layers.items()), reversed(caches[branch]), strict=True):
            arrays[f"{branch}.{name}.dout"] = dout
            if name in own:
                dout, grads = _user_backward(own[name], dout.astype(dtype), cache, arrays[f"{branch}.{name}.x"].shape)
            else:
                dout, grads = backward(layer, dout, cache)
            dout = np.ascontiguousarray(dout, np.float32)
            arrays[f"{branch}.{name}.dx"] = dout
            arrays |= {f"{branch}.{name}.d{key}": grad for key, grad in grads.items()}
    for name, layer in layers.items():
        for key in layer.params:
            arrays[f"shared.{name}.d{key}"] = arrays[f"a.{name}.d{key}"] + arrays[f"b.{name}.d{key}"]
    return Trace(arrays, layers, label, float(margin))


def forward(layer: Layer, x: Array, params: Mapping[str, Array]) -> tuple[Array, Any]:
    """The textbook's ``out, cache`` of `layer`."""
    if isinstance(layer, Flatten):
        return x.reshape(len(x), *layer.output_shape(x.shape[1:])), x.shape
    if isinstance(layer, GlobalAvgPool2D):
        out, cache = avgpool2d.avgpool2d_forward(x, x.shape[1:3], x.shape[1:3])
        return out[:, 0, 0], cache
    function, _, attributes = _TEXTBOOK[type(layer)]
    return function(x, *params.values(), *(getattr(layer, name) for name in attributes))


def backward(layer: Layer, dout: Array, cache: Any) -> tuple[Array, dict[str, Array]]:
    """The textbook's dx of `layer`, and the gradients of its parameters."""
    if isinstance(layer, Flatten):
        return dout.reshape(cache), {}
    if isinstance(layer, GlobalAvgPool2D):
        return avgpool2d.avgpool2d_backward(dout[:, None, None], cache), {}
    found = _TEXTBOOK[type(layer)][1](dout, cache)
    return (found[0], dict(zip(layer.params, found[1:], strict=True))) if layer.params else (found, {})


def _user_forward(layer: Layer, x: Array, dtype: Any) -> tuple[Array, Any]:
    out, cache = call_forward(layer, x.astype(dtype), layer.output_shape(x.shape[1:]))
    if out.dtype not in FLOATS:
        raise ShapeError(f"{layer}.forward must return an array of {dtype}, not of {out.dtype}")
    return out, cache


def _user_backward(layer: Layer, dout: Array, cache: Any, shape: tuple[int, ...]) -> tuple[Array, dict[str, Array]]:
    for grad in layer.grads.values():
        grad[...] = 0
    dx = call_backward(layer, dout, cache, shape, True)
    return dx, {key: grad.astype(np.float32) for key, grad in layer.grads.items()}


def _image(name: str, image: Any, shape: Sequence[int]) -> Array:
    """`image` as a batch of one, float32."""
    image = as_array(f"image {name}", image)
    if image.shape == (*shape[:2],) and len(shape) == 3 and shape[2] == 1:
        image = image[..., None]
    if image.shape != tuple(shape):
        raise ShapeError(f"the model was made for images {tuple(shape)}, but image {name} is {image.shape}")
    if image.dtype.kind != "f":
        raise ShapeError(f"image {name} must be floats in [0, 1], not {image.dtype}; divide grey levels by 255")
    return np.ascontiguousarray(check_finite(image[None].astype(np.float32)))
