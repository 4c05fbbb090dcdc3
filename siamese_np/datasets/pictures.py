"""What a source of data holds before it is read as images: arrays or files, and their classes."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siamese_np.datasets.input_form import Float, InputForm, with_channels
from siamese_np.errors import DataError

Rows = NDArray[np.int64]


class Stack:
    """Pictures of one size in an array (N, H, W, C) of unsigned integers, or of floats in [0, 1]."""

    def __init__(self, name: str, array: NDArray[Any]) -> None:
        self.name, self.array = name, array if array.ndim == 4 else array[..., np.newaxis]
        self.colour = self.array.shape[3] == 3

    def __len__(self) -> int:
        return len(self.array)

    @property
    def sizes(self) -> NDArray[np.int64]:
        """The different heights and widths (n, 2)."""
        return np.array([self.array.shape[1:3]])

    def picture(self, row: int, channels: int) -> Float:
        """One picture, as float32."""
        return with_channels(self._scaled(self.array[row]), channels)

    def put(self, images: Float, rows: Rows, form: InputForm) -> list[str]:
        """Write these pictures into `images`, in `form`; what is wrong with those that cannot be."""
        if form.holds(self.array):
            in_order = np.array_equal(rows, np.arange(rows[0], rows[0] + len(rows))) if len(rows) else True
            block = len(rows) if in_order else 1024  # at a time, so that no copy of all is made
            for start in range(0, len(rows), max(1, block)):
                part = rows[start : start + block]
                self._scaled(self.array[part[0] : part[-1] + 1] if in_order else self.array[part], images[start:])
            return []
        wrong: list[str] = []
        for image, row in zip(images, rows.tolist(), strict=True):
            if wrong and form.kind == "as-is":  # all are of the same wrong size
                break
            try:
                image[...] = form.picture(self.picture(row, form.shape[2]))
            except DataError as error:
                wrong.append(f"{self.name}#{row}: {error}")
        return wrong

    def _scaled(self, array: NDArray[Any], out: Float | None = None) -> Float:
        out = np.empty(array.shape, np.float32) if out is None else out[: len(array)]
        if array.dtype.kind == "u":
            return np.divide(array, np.float32(np.iinfo(array.dtype).max), out=out, dtype=np.float32)
        out[...] = array
        return out


class Files:
    """Image files of any format, size and colour."""

    def __init__(self, paths: Sequence[str]) -> None:
        self.paths = paths
        self.colour = False  # until `look` has found any

    def __len__(self) -> int:
        return len(self.paths)

    def look(self) -> list[str]:
        """Find sizes and colour, without decoding all; what is wrong with files that cannot be opened."""
        from siamese_np.datasets.images import decoded, header

        sizes, coloured, wrong = [], [], []
        for row, path in enumerate(self.paths):
            try:
                size, may_be_coloured = header(path)
            except DataError as error:
                wrong.append(str(error))
                continue
            sizes.append(size)
            if may_be_coloured:
                coloured.append(row)
        self.sizes = np.array(sizes, np.int64).reshape(-1, 2)
        for row in sampled(np.array(coloured, np.int64), LOOKED_AT).tolist() if not wrong else []:
            with suppress(DataError):  # `put` will say so
                self.colour = self.colour or bool(np.ptp(decoded(self.paths[row], 3), axis=2).max() > COLOURED)
        return wrong

    def picture(self, row: int, channels: int) -> Float:
        """One picture, as float32."""
        from siamese_np.datasets.images import decoded

        return with_channels(decoded(self.paths[row], channels), channels)

    def put(self, images: Float, rows: Rows, form: InputForm) -> list[str]:
        """Write these pictures into `images`, in `form`; what is wrong with those that cannot be."""
        from siamese_np.datasets.images import read_image

        wrong = []
        for image, row in zip(images, rows.tolist(), strict=True):
            try:
                image[...] = read_image(self.paths[row], form)
            except DataError as error:
                wrong.append(str(error))
        return wrong


LOOKED_AT = 256  # pictures that size, colour and background are chosen by, if there are more
COLOURED = 0.1  # largest difference between red, green and blue of a grey picture; compression makes some


def sampled(rows: Rows, count: int) -> Rows:
    """At most `count` of `rows`, evenly spread."""
    return rows if len(rows) <= count else rows[np.linspace(0, len(rows) - 1, count).astype(np.int64)]


@dataclass(frozen=True)
class Source:
    """What one place holds.

    `pictures` and `classes` have the keys ``train`` and ``test``, perhaps ``validation``; or ``all`` where nothing says
    which picture is for what. Classes are numbers of `class_names`. A `strict` source must have enough pictures of
    each class for all parts.
    """

    name: str
    kind: str
    pictures: dict[str, Stack | Files]
    classes: dict[str, Rows]
    class_names: list[str]
    strict: bool = True


def named(labels: dict[str, list[str]]) -> tuple[dict[str, Rows], list[str]]:
    """The labels of each part as numbers of classes, and the names of these: numbers in their order, or text sorted."""
    names = {name for part in labels.values() for name in part}
    ordered = sorted(names, key=int) if all(name.isdecimal() for name in names) else sorted(names)
    number = {name: i for i, name in enumerate(ordered)}
    return {part: np.array([number[name] for name in own], np.int64) for part, own in labels.items()}, ordered
