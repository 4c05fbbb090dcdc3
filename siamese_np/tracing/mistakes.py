"""Five mistakes in backward passes of Siamese networks, planted on purpose, and what the checker says of each."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from siamese_np.gradcheck import Report, check_gradients
from siamese_np.layer import Array, Layer, Shape
from siamese_np.layers import Conv2D, Dense, MaxPool2D, ReLU
from siamese_np.textbook import distance
from siamese_np.tracing.record import BRANCHES, backward, forward

# Of each: what it is called, and what is written instead of what
MISTAKES = {
    "branch": ("lost branch", "the second branch's gradient overwrites the first's: grads = dw_b, not grads += dw_b"),
    "mask": ("forgotten mask", "ReLU's backward returns dout everywhere, not only where out > 0"),
    "sign": ("sign", "the distance returns demb for both embeddings, not -demb for the second"),
    "mean": ("1/N", "the gradients of weights are means over the batch of both branches' images, not sums"),
    "stride": ("stride", "backward takes the stride for 1: window i begins at pixel i, not at i * stride"),
}
_PAIRS = 3  # in the checker's batch


class PlantedNetwork:
    """Two branches on the textbook, in float64, with one of `MISTAKES` in backward, or none: a layer to be checked.

    ``forward(pairs) -> (dist, cache)`` takes pairs of images (N, 2, H, W, C); ``backward(ddist, cache)`` adds to
    `grads` and returns the gradient of the pairs.
    """

    adds_gradients = True

    def __init__(self, layers: Mapping[str, Layer], mistake: str = "") -> None:
        self.layers_by_name, self.mistake = dict(layers), mistake
        self.params = {
            f"{name}.{key}": array.astype(np.float64) for name in layers for key, array in layers[name].params.items()
        }
        self.grads = {name: np.zeros_like(array) for name, array in self.params.items()}

    def forward(self, pairs: Array) -> tuple[Array, Any]:
        emb, caches = [], []
        for branch in range(len(BRANCHES)):
            x = pairs[:, branch]
            kept = []
            for name, layer in self.layers_by_name.items():
                x, cache = forward(layer, x, {key: self.params[f"{name}.{key}"] for key in layer.params})
                kept.append(cache)
            emb.append(x.reshape(len(x), math.prod(x.shape[1:])))
            caches.append(kept)
        dist, distance_cache = distance.euclidean_forward(*emb)
        return dist, (caches, distance_cache, x.shape[1:])

    def backward(self, ddist: Array, cache: Any) -> Array:
        caches, distance_cache, shape = cache
        demb_a, demb_b = distance.euclidean_backward(ddist, distance_cache)
        if self.mistake == "sign":
            demb_b = demb_a
        of_branches: list[dict[str, Array]] = []
        dpairs = []
        for dout, kept in zip((demb_a, demb_b), caches, strict=True):
            of_branches.append({})
            dout = dout.reshape(-1, *shape)
            for (name, layer), of_layer in zip(reversed(self.layers_by_name.items()), reversed(kept), strict=True):
                dout, grads = self._layer_backward(layer, dout, of_layer)
                of_branches[-1] |= {f"{name}.{key}": grad for key, grad in grads.items()}
            dpairs.append(dout)
        for name, grad in self.grads.items():
            of_a, of_b = (grads[name] for grads in of_branches)
            if self.mistake == "branch":
                grad[...] = of_b
            else:
                grad += (of_a + of_b) / max(2 * len(ddist), 1) if self.mistake == "mean" else of_a + of_b
        return np.stack(dpairs, axis=1)

    def _layer_backward(self, layer: Layer, dout: Array, cache: Any) -> tuple[Array, dict[str, Array]]:
        if self.mistake == "mask" and isinstance(layer, ReLU):
            return dout, {}
        if self.mistake == "stride" and isinstance(layer, Conv2D):
            x, w, _, pad = cache
            cache = x, w, (1, 1), pad
        if self.mistake == "stride" and isinstance(layer, MaxPool2D):
            argmax, x_shape, window, _ = cache
            cache = argmax, x_shape, window, (1, 1)
        return backward(layer, dout, cache)


def place(layers: Mapping[str, Layer], mistake: str) -> str | None:
    """The name of the first layer that can have the mistake; empty for the distance, None where there is none."""
    if mistake == "sign":
        return ""
    for name, layer in layers.items():
        strided = isinstance(layer, (Conv2D, MaxPool2D)) and layer.stride != (1, 1)
        if {"mask": isinstance(layer, ReLU), "stride": strided}.get(mistake, bool(layer.params)):
            return name
    return None


def check(layers: Mapping[str, Layer], mistake: str, seed: int = 0) -> Report:
    """What the gradient checker says of two branches with `mistake`, each a corner of the layer at its `place`."""
    name = place(layers, mistake)
    shape: Shape = (4,)
    part: dict[str, Layer] = {}
    if name:
        part[name], shape = _corner(layers[name])
    pairs = np.random.default_rng(seed).normal(size=(_PAIRS, len(BRANCHES), *shape))
    return check_gradients(PlantedNetwork(part, mistake), pairs, seed=seed)


def _corner(layer: Layer) -> tuple[Layer, Shape]:
    """Some channels and units of `layer` with their weights, since to check all takes minutes; the input's shape."""
    if isinstance(layer, MaxPool2D):
        return layer, (*(k + s for k, s in zip(layer.window, layer.stride, strict=True)), 1)
    if not isinstance(layer, (Conv2D, Dense)):
        return layer, (4,)
    corner: Layer
    if isinstance(layer, Conv2D):
        w = layer.params["w"][:, :, :1, :2]
        corner = Conv2D(w.shape[2], w.shape[3], layer.kernel_size, layer.stride, layer.pad, seed=0, dtype=np.float64)
        shape: Shape = (*(k + s for k, s in zip(layer.kernel_size, layer.stride, strict=True)), w.shape[2])
    else:
        w = layer.params["w"][:4, :3]
        corner, shape = Dense(w.shape[0], w.shape[1], seed=0, dtype=np.float64), w.shape[:1]
    corner.params = {"w": w, "b": layer.params["b"][: w.shape[-1]]}
    return corner, shape


def said(report: Report) -> list[str]:
    """The verdict, and what the checker says of each check and of each array that is wrong."""
    lines: list[str] = [report.verdict]
    directions: list[str] = []
    for case in report.cases:
        for test in case.checks:
            if test.verdict != "PASS":  # that of random directions says least, so it comes last
                (directions if test.name == "directions" else lines).append(f"{test.name}: {test.remark}")
        for array in case.arrays:
            if array.verdict != "PASS":
                lines.append(f"{array.name}: {array.remark}")
                lines += [f"    hint: {array.hint}"] if array.hint else []
    return lines + directions
