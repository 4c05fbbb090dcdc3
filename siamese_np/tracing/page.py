"""The trace of some pairs as one HTML page, complete in itself: numbers, textbook and program, no other file.

The page holds the textbook's float32 numbers. What only copies numbers (ReLU, flatten, pooling without overlap), and
products and sums of two of them (a dense layer's dw for one image, the sum of both branches), are made in the page.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from siamese_np.errors import ModelError, OptionError
from siamese_np.layer import Array, Layer
from siamese_np.layers import Conv2D, Dense, Flatten, GlobalAvgPool2D, MaxPool2D, ReLU
from siamese_np.ledger import flops
from siamese_np.network import SiameseNetwork
from siamese_np.pages import asset, filled
from siamese_np.tracing.mistakes import MISTAKES, check, place, said
from siamese_np.tracing.record import BRANCHES, TEXTBOOK_LAYERS, Trace

MAX_BYTES = 8_000_000  # of a page of several pairs
MAX_BYTES_OF_ONE = 100_000_000  # of a page of the first pair alone: a browser takes seconds to open it, and a GB

# Of each kind of layer: the page of the textbook, and how the line begins that computes an array
LINES = {
    "Conv2D": (
        "conv2d",
        {
            "out": "out = out + padded[",
            "dx": "dpadded[seen] +=",
            "dw": "dw[p, q] = np.",
            "db": "return dx, dw, dout.sum",
        },
    ),
    "Dense": (
        "dense",
        {"out": "return x @ w + b", "dx": "return dout @", "dw": "return dout @", "db": "return dout @"},
    ),
    "ReLU": ("relu", {"out": "out = np.where(x.real", "dx": "return np.where(out"}),
    "MaxPool2D": ("maxpool2d", {"out": "out = np.take_along_axis(", "dx": "dx[windows.seen_by("}),
    "AvgPool2D": ("avgpool2d", {"out": "return total / ", "dx": "dx[windows.seen_by("}),
    "GlobalAvgPool2D": ("avgpool2d", {"out": "return total / ", "dx": "dx[windows.seen_by("}),
    "distance": ("distance", {"dist": "dist = scale * np", "demb": "demb_a = ddist"}),
    "loss": ("contrastive", {"loss": "loss = np.where(", "ddist": "return dloss *"}),
    "step": ("sgd", {"w": "w = w - learning_rate"}),
}
_SCRIPTS = ("ops.js", "terms.js", "view.js", "page.js", "cell.js", "whatif.js")


class Pair(NamedTuple):
    """A pair to be shown: its trace, a title, and what the two images are."""

    trace: Trace
    title: str
    of_a: str
    of_b: str


def page(siamese: SiameseNetwork, pairs: Sequence[Pair]) -> str:
    """The page of `pairs`; after the first, those that would make it larger than `MAX_BYTES` are left out.

    Raises
    ------
    OptionError
        A layer has no page in the textbook, or the page of the first pair alone has more than `MAX_BYTES_OF_ONE`.
    ModelError
        A number on the way is not finite.
    """
    layers = pairs[0].trace.layers
    for name, layer in layers.items():
        if type(layer) not in TEXTBOOK_LAYERS:
            raise OptionError(
                f"{name}, {layer}, has no page in the textbook to show beside its numbers; siamese_np.trace gives them "
                "in Python"
            )
    data = {
        "layers": [_layer(name, layer, pairs[0].trace) for name, layer in layers.items()],
        "threshold": siamese.threshold,
        "parameters": sum(array.size for layer in layers.values() for array in layer.params.values()),
        "lines": {kind: {array: _line(file, text) for array, text in of.items()} for kind, (file, of) in LINES.items()},
        "sources": {file: _source(file).splitlines() for file, _ in LINES.values()},
        "mistakes": [
            {"name": name, "title": title, "text": text, "place": where, "said": said(check(layers, name))}
            for name, (title, text) in MISTAKES.items()
            if (where := place(layers, name)) is not None
        ],
        "pairs": [],
    }
    weights = {f"{name}.{key}": array for name, layer in layers.items() for key, array in layer.params.items()}
    data["weights"], blob = _packed(weights)
    blobs = [_blob("weights", blob)]
    room = MAX_BYTES - len(_fill(data, blobs))
    for number, pair in enumerate(pairs):
        stored = _stored(pair.trace)
        infinite = next((name for name, array in stored.items() if not np.isfinite(array).all()), None)
        if infinite:
            raise ModelError(f"{infinite} holds NaN or infinity: the model's weights are too large for float32")
        (about, blob), t = _packed(stored), pair.trace
        numbers = {name: float(t[name][0]) for name in ("dist", "loss", "ddist")}
        of = {"title": pair.title, "of_a": pair.of_a, "of_b": pair.of_b, "label": t.label, "margin": t.margin}
        room -= len(blob) + len(json.dumps(about)) + 500
        if not number and room < MAX_BYTES - MAX_BYTES_OF_ONE:
            raise OptionError(
                f"the page would have more than {MAX_BYTES_OF_ONE:,} bytes: the weights and one pair of this network "
                "are too many numbers for it; siamese_np.trace gives them in Python"
            )
        if room >= 0 or not number:
            data["pairs"].append({**of, **numbers, "arrays": about})
            blobs.append(_blob(f"pair{len(data['pairs']) - 1}", blob))
    return _fill(data, blobs)


def _layer(name: str, layer: Layer, t: Trace) -> dict[str, Any]:
    """What the page has to know of a layer."""
    shape, out = (t[f"a.{name}.{key}"].shape[1:] for key in ("x", "out"))
    window: Sequence[int] = getattr(layer, "window", (1, 1))
    if isinstance(layer, Conv2D):
        window = layer.kernel_size
    elif isinstance(layer, GlobalAvgPool2D):
        window = shape[:2]
    return {
        "name": name,
        "kind": type(layer).__name__,
        "text": repr(layer),
        "in": shape,
        "out": out,
        "window": window,
        "stride": getattr(layer, "stride", (1, 1)),
        "pad": getattr(layer, "pad", (0, 0)),
        "params": sum(array.size for array in layer.params.values()),
        "shape": layer.params["w"].shape if layer.params else None,
        "flops": flops(layer, shape, out),
    }


def _stored(t: Trace) -> dict[str, Array]:
    """The arrays of a trace that the page cannot copy or multiply out of others."""
    names = [*t.layers]
    stored = {f"{branch}.x": t[f"{branch}.{names[0]}.x"] for branch in BRANCHES}  # first: the page's little pictures
    for branch in BRANCHES:
        stored[f"{branch}.demb"] = t[f"{branch}.{names[-1]}.dout"]
        for name, layer in t.layers.items():
            if isinstance(layer, (ReLU, Flatten)):
                continue
            copies = isinstance(layer, MaxPool2D)
            overlap = copies and any(s < w for s, w in zip(layer.stride, layer.window, strict=True))  # type: ignore[attr-defined]
            keys = [*([] if copies else ["out"]), *([] if copies and not overlap else ["dx"])]
            keys += ["dw", "db"] if layer.params and not isinstance(layer, Dense) else []
            stored |= {f"{branch}.{name}.{key}": t[f"{branch}.{name}.{key}"] for key in keys}
    return stored


def _packed(arrays: Mapping[str, Array]) -> tuple[list[tuple[str, int]], str]:
    """Names and lengths, and all numbers in a row as base64 of little-endian float32."""
    numbers = np.concatenate([array.ravel().astype("<f4") for array in arrays.values()] or [np.empty(0, "<f4")])
    return [(name, array.size) for name, array in arrays.items()], base64.b64encode(numbers.tobytes()).decode()


def _blob(name: str, blob: str) -> str:
    return f'<script type="text/plain" id="{name}">{blob}</script>'


def _fill(data: Mapping[str, Any], blobs: Sequence[str]) -> str:
    """The page with its style, numbers and program in it."""
    name = "A pair of images and its gradient: siamese_np trace"
    return filled(__package__, name, data, _SCRIPTS, blobs, {"PARAMETERS": f"{data['parameters']:,}"})


def _source(file: str) -> str:
    return asset("siamese_np.textbook", f"{file}.py")


def _line(file: str, text: str) -> tuple[str, int]:
    """The file and the number of its line that begins with `text`."""
    lines = [line.strip() for line in _source(file).splitlines()]
    (number,) = (number for number, line in enumerate(lines, 1) if line.startswith(text))
    return file, number
