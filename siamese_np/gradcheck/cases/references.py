"""The independent twin of a layer or loss: the same pass in plain NumPy, for real and for complex numbers.

Put together from `siamese_np.reference`; the twin's gradients hold the conventions at kinks. The signature of an
operation says which branch each of its elements takes.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from siamese_np import reference
from siamese_np.gradcheck.case import Array, Arrays
from siamese_np.layers import Conv2D, Dense, MaxPool2D

Forward = Callable[[Arrays], Array]
Backward = Callable[[Arrays, Array], Arrays]
Twin = tuple[Forward, Backward]
Labels = NDArray[np.integer]


def conv2d(layer: Conv2D) -> Twin:
    """Convolution and its three gradients."""

    def forward(arrays: Arrays) -> Array:
        x, w, b = arrays["x"], arrays["w"], arrays["b"]
        out = np.empty((len(x), *layer.output_shape(x.shape[1:])), np.result_type(x, w, b))
        reference.conv2d_forward(out, x, w, b, layer.stride, layer.pad)
        return out

    def backward(arrays: Arrays, dout: Array) -> Arrays:
        x, w, b = arrays["x"], arrays["w"], arrays["b"]
        dx, dw, db = np.empty_like(x), np.zeros_like(w), np.zeros_like(b)
        reference.conv2d_backward(dx, dw, db, dout, x, w, layer.stride, layer.pad)
        return {"x": dx, "w": dw, "b": db}

    return forward, backward


def dense(layer: Dense) -> Twin:
    """Matrix product and its three gradients."""

    def forward(arrays: Arrays) -> Array:
        x, w, b = arrays["x"], arrays["w"], arrays["b"]
        out = np.empty((len(x), w.shape[1]), np.result_type(x, w, b))
        reference.dense_forward(out, x, w, b)
        return out

    def backward(arrays: Arrays, dout: Array) -> Arrays:
        x, w, b = arrays["x"], arrays["w"], arrays["b"]
        dx, dw, db = np.empty_like(x), np.zeros_like(w), np.zeros_like(b)
        reference.dense_backward(dx, dw, db, dout, x, w)
        return {"x": dx, "w": dw, "b": db}

    return forward, backward


def conv_relu_pool(conv: Conv2D, pool: MaxPool2D) -> Twin:
    """The three in a row, under the names that a network gives their arrays."""
    steps = [conv2d(conv), relu(), maxpool2d(pool)]
    names = {"x": "x", "w": "conv2d_1.w", "b": "conv2d_1.b"}

    def run(arrays: Arrays) -> list[Arrays]:
        """What goes into each step, and what comes out of the last."""
        inputs: list[Arrays] = [{short: arrays[name] for short, name in names.items()}]
        for forward, _ in steps:
            inputs.append({"x": forward(inputs[-1])})
        return inputs

    def backward(arrays: Arrays, dout: Array) -> Arrays:
        gradients = {"x": dout}
        for (_, back), given in zip(reversed(steps), reversed(run(arrays)[:-1]), strict=True):
            gradients = back(given, gradients["x"])
        return {names[short]: gradient for short, gradient in gradients.items()}

    return lambda arrays: run(arrays)[-1]["x"], backward


def maxpool2d(layer: MaxPool2D) -> Twin:
    """Maximum and where it came from."""

    def forward(arrays: Arrays) -> Array:
        return _pool(layer, arrays["x"])[0]

    def backward(arrays: Arrays, dout: Array) -> Arrays:
        dx = np.empty_like(arrays["x"])
        reference.maxpool2d_backward(dx, dout, _pool(layer, arrays["x"])[1], layer.window, layer.stride)
        return {"x": dx}

    return forward, backward


def winners(layer: MaxPool2D, arrays: Arrays) -> Labels:
    """Which entry wins each window."""
    return _pool(layer, arrays["x"])[1]


def _pool(layer: MaxPool2D, x: Array) -> tuple[Array, Labels]:
    out = np.empty((len(x), *layer.output_shape(x.shape[1:])), x.dtype)
    argmax = np.empty(out.shape, np.int64)
    reference.maxpool2d_forward(out, argmax, x, layer.window, layer.stride)
    return out, argmax


def relu() -> Twin:
    """The positive part."""

    def forward(arrays: Arrays) -> Array:
        out = np.empty_like(arrays["x"])
        reference.relu_forward(out, arrays["x"])
        return out

    def backward(arrays: Arrays, dout: Array) -> Arrays:
        dx = np.empty_like(dout)
        reference.relu_backward(dx, dout, forward(arrays))
        return {"x": dx}

    return forward, backward


def flatten() -> Twin:
    """Rows of numbers."""
    return (
        lambda arrays: arrays["x"].reshape(len(arrays["x"]), -1),
        lambda arrays, dout: {"x": dout.reshape(arrays["x"].shape)},
    )


def distance() -> Twin:
    """Distances of the rows of emb_a and emb_b."""

    def forward(arrays: Arrays) -> Array:
        a, b = arrays["emb_a"], arrays["emb_b"]
        dist = np.empty(len(a), np.result_type(a, b))
        reference.euclidean_forward(dist, a, b)
        return dist

    def backward(arrays: Arrays, ddist: Array) -> Arrays:
        a, b = arrays["emb_a"], arrays["emb_b"]
        gradients = {"emb_a": np.empty_like(a), "emb_b": np.empty_like(b)}
        reference.euclidean_backward(gradients["emb_a"], gradients["emb_b"], ddist, a, b, forward(arrays))
        return gradients

    return forward, backward


def contrastive(label: Labels, margin: float) -> Twin:
    """Mean loss of pairs with these labels."""

    def forward(arrays: Arrays) -> Array:
        loss = np.empty_like(arrays["dist"])
        reference.contrastive_forward(loss, arrays["dist"], label, margin)
        return loss.mean()

    def backward(arrays: Arrays, dout: Array) -> Arrays:
        dist = arrays["dist"]
        ddist = np.empty_like(dist)
        reference.contrastive_backward(ddist, np.full_like(dist, dout / len(dist)), dist, label, margin)
        return {"dist": ddist}

    return forward, backward


def all_pairs(classes: Labels, margin: float) -> Twin:
    """Loss over all pairs, similar and dissimilar ones weighing the same: pair by pair from distance and loss."""
    i, j = np.triu_indices(len(classes), 1)
    label = (classes[i] != classes[j]).astype(int)
    weight = 0.5 / np.maximum(np.bincount(label, minlength=2), 1)[label]
    apart, together = distance()

    def forward(arrays: Arrays) -> Array:
        dist = apart({"emb_a": arrays["emb"][i], "emb_b": arrays["emb"][j]})
        loss = np.empty_like(dist)
        reference.contrastive_forward(loss, dist, label, margin)
        return np.asarray((loss * weight).sum())

    def backward(arrays: Arrays, dout: Array) -> Arrays:
        rows = {"emb_a": arrays["emb"][i], "emb_b": arrays["emb"][j]}
        dist, demb = apart(rows), np.zeros_like(arrays["emb"])
        ddist = np.empty_like(dist)
        reference.contrastive_backward(ddist, dout * weight, dist, label, margin)
        gradients = together(rows, ddist)
        np.add.at(demb, i, gradients["emb_a"])
        np.add.at(demb, j, gradients["emb_b"])
        return {"emb": demb}

    return forward, backward


PAIR_BRANCHES = {0: "similar", 1: "dissimilar, within the margin", 2: "dissimilar, beyond the margin"}


def pair_branches(dist: Array, label: Labels, margin: float) -> Labels:
    """Which of `PAIR_BRANCHES` each pair takes; at the margin a pair counts as beyond it."""
    return np.where(label == 0, 0, np.where(dist < margin, 1, 2))
