"""What each layer of a network costs: shapes, parameters, operations, memory, and zeros on given data."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from siamese_np._checks import as_array
from siamese_np.description import numbered
from siamese_np.errors import ShapeError
from siamese_np.layer import Array, Layer, Shape
from siamese_np.layers import AvgPool2D, Conv2D, Dense, Flatten, GlobalAvgPool2D, MaxPool2D, ReLU

if TYPE_CHECKING:
    from siamese_np.network import Sequential

_HEAD = ("layer", "output", "parameters", "FLOPs forward", "backward", "bytes forward", "backward", "zeros")


@dataclass(frozen=True)
class Row:
    """One layer. Operations and bytes are of the whole batch.

    Attributes
    ----------
    name : str
        As in `Sequential.named_params`, ``"conv2d_1"``; ``"input"`` for the images.
    layer : str
    shape : tuple of int
        Of one output.
    params : int
        Numbers that are trained.
    flops, backward_flops : int or None
        Additions, multiplications and comparisons as the formulas are written; zeros are not skipped. A first layer
        needs no gradient of its input. None for the layer of a user.
    bytes, backward_bytes : int
        Forward: the output, which backward needs again. Backward: the gradients of input and parameters.
    zeros : float
        Share of zeros in the output.
    """

    name: str
    layer: str
    shape: Shape
    params: int
    flops: int | None
    backward_flops: int | None
    bytes: int
    backward_bytes: int
    zeros: float


@dataclass(frozen=True, repr=False)
class Ledger:
    """The cost of a network, layer by layer; printed, it is a table.

    Attributes
    ----------
    rows : tuple of Row
        The input, then the layers.
    N : int
        Images in the batch.
    """

    rows: tuple[Row, ...]
    N: int

    def total(self, name: str) -> int:
        """The sum of a column, ``"params"``, ``"flops"`` ...; unknown numbers count 0."""
        return sum(getattr(row, name) or 0 for row in self.rows)

    def __repr__(self) -> str:
        columns = ("params", "flops", "backward_flops", "bytes", "backward_bytes")
        table: list[tuple[str, ...]] = [_HEAD]
        for row in self.rows:
            numbers = ["?" if (n := getattr(row, name)) is None else f"{n:,}" for name in columns]
            table.append((row.name, "x".join(map(str, row.shape)), *numbers, f"{row.zeros:.1%}"))
        table.append((f"{self.N} in all", "", *(f"{self.total(name):,}" for name in columns), ""))
        return "\n".join(aligned(table, left=2))


def summary(network: "Sequential", x: Any) -> Ledger:
    """See `Sequential.summary`."""
    x = as_array("the input of the network", x)
    if x.ndim != len(network.input_shape) + 1 or not len(x):
        raise ShapeError(f"a summary needs a batch ('N', {', '.join(map(str, network.input_shape))}), not {x.shape}")
    rows = [Row("input", "", x.shape[1:], 0, 0, 0, x.nbytes, 0, _zeros(x))]
    for name, layer in zip(layer_names(network.layers), network.layers, strict=True):
        out, _ = layer.forward(x)
        forward, backward = flops(layer, x.shape[1:], out.shape[1:], need_dx=len(rows) > 1)
        params = sum(array.size for array in layer.params.values())
        rows.append(
            Row(
                name=name,
                layer=repr(layer),
                shape=out.shape[1:],
                params=params if layer.trainable else 0,
                flops=None if forward is None else len(x) * forward,
                backward_flops=None if backward is None else len(x) * backward,
                bytes=0 if isinstance(layer, Flatten) else out.nbytes,
                backward_bytes=(0 if isinstance(layer, Flatten) else x.nbytes) * (len(rows) > 1)
                + sum(array.nbytes for array in layer.params.values()),
                zeros=_zeros(out),
            )
        )
        x = out
    return Ledger(tuple(rows), len(x))


def flops(layer: Layer, shape: Shape, out: Shape, need_dx: bool = True) -> tuple[int | None, int | None]:
    """Operations of one input of `shape`, forward and backward; None where the layer is a user's."""
    size, window = math.prod(out), 1
    if isinstance(layer, (Conv2D, Dense)):
        macs = math.prod(layer.params["w"].shape) * math.prod(out[:-1])
        return 2 * macs, 2 * macs * (1 + need_dx) + size  # dw and dx, each as long as forward, and db
    if isinstance(layer, (MaxPool2D, AvgPool2D)):
        window = math.prod(layer.window)
    if isinstance(layer, GlobalAvgPool2D):
        window = math.prod(shape[:2])
    if isinstance(layer, Flatten):
        return 0, 0
    if isinstance(layer, MaxPool2D):
        return size * (window - 1), size * need_dx
    if isinstance(layer, (AvgPool2D, GlobalAvgPool2D)):
        return size * window, size * window * need_dx
    return (size, size * need_dx) if isinstance(layer, ReLU) else (None, None)


def layer_names(layers: Sequence[Layer]) -> list[str]:
    """``conv2d_1``, ``relu_1``, ...: what `Sequential.named_params` calls the layers."""
    return [name.removesuffix(".") for name in numbered((type(layer).__name__, {"": None}) for layer in layers)]


def aligned(table: Sequence[Sequence[str]], left: int) -> list[str]:
    """The rows of a table as lines, its first `left` columns set to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if number < left else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    ]


def _zeros(array: Array) -> float:
    return 1 - np.count_nonzero(array) / max(array.size, 1)
