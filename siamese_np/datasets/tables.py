"""Data sets in one file: ``.npz`` archives of arrays, and CSV tables with one row of pixels for each picture."""

import csv
import math
import os
from collections.abc import Iterator
from itertools import islice
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from siamese_np._checks import are_levels
from siamese_np.datasets.pictures import Source, Stack, named
from siamese_np.errors import DataError
from siamese_np.reading import Npz, one_line, open_npz, open_regular, readable

_PARTS = {"train": ("train",), "validation": ("val", "valid", "validation"), "test": ("test",)}
_KEYS = ("x_{}", "y_{}"), ("X_{}", "y_{}"), ("{}_images", "{}_labels")
_WHOLE = ("x", "y"), ("X", "y"), ("images", "labels"), ("images", "classes")
_LABEL_COLUMNS = ("label", "class", "labels", "classes")
_BLOCK = 2048  # rows of a table converted at a time
_BLOCK_FIELDS = 1 << 22  # and at most so many fields, if more than one row
_MAX_COLUMNS = 1 << 20  # beside the label
_MAX_LINE = 1 << 24  # characters of a row of a table; a picture of 1024x1024 has at most 4 million

Size = tuple[int, int] | None


# --- .npz -------------------------------------------------------------------------------------------------------------


def npz_source(path: str, size: Size = None) -> Source:
    """The pictures of an archive with ``x_train, y_train, x_test, y_test``, or ``train_images, train_labels``, ...

    The test part may be missing, and a validation part there; ``x, y`` or ``images, labels`` are the whole.
    """
    arrays: dict[str, tuple[NDArray[Any], NDArray[Any]]] = {}
    with open_npz(path, DataError, "an .npz of arrays") as archive:
        for part, names in _PARTS.items():
            keys = [(x.format(name), y.format(name)) for name in names for x, y in _KEYS]
            _read_pair(archive, path, part, keys, arrays)
        if not arrays:
            _read_pair(archive, path, "train", list(_WHOLE), arrays)
        if "train" not in arrays:
            there = ", ".join(archive) or "none"
            raise DataError(
                f"{path} must hold the arrays x_train and y_train, and may hold x_test and y_test, not {there}"
            )
    images = {part: as_stack(f"{path}[{part}]", x, size) for part, (x, _) in arrays.items()}
    labels = {part: _as_labels(f"{path}[{part}]", y, len(images[part])) for part, (_, y) in arrays.items()}
    return _source(path, "npz", images, labels)


def _read_pair(archive: Npz, path: str, part: str, keys: list[tuple[str, str]], arrays: dict[str, Any]) -> None:
    for x, y in keys:
        if x in archive:
            if y not in archive:
                raise DataError(f"{path} holds the array {x}, but no array {y} with the classes of its images")
            arrays[part] = archive.read(x), archive.read(y)
            return


def as_stack(name: str, array: NDArray[Any], size: Size = None) -> Stack:
    """An array of pictures as a `Stack`, or a DataError.

    It may be (N, H, W), (N, H, W, C), (N, C, H, W) or, of square pictures or of pictures of this `size`, (N, D).
    Fractions are brightness up to 1, or levels up to 255 where the brightest is above 16; between, they are refused.
    """
    if array.dtype.kind not in "buif" or array.size == 0 or array.ndim not in (2, 3, 4):
        raise DataError(
            f"{name} holds {array.dtype} values of shape {array.shape}, but images are numbers (N, H, W, C)"
        )
    if array.ndim == 2:
        array = array.reshape(len(array), *_shape_of(name, array.shape[1], size))
    elif array.ndim == 4 and array.shape[3] not in (1, 3) and array.shape[1] in (1, 3):
        array = np.moveaxis(array, 1, 3)
    if array.ndim == 4 and array.shape[3] not in (1, 3):
        raise DataError(f"{name} holds images of {array.shape[3]} channels, but grey ones have 1 and colour ones 3")
    low, high = float(array.min()), float(array.max())
    if not (low >= 0 and high <= (255 if array.dtype.kind == "f" else 65535)):  # NaN is told too
        raise DataError(
            f"{name} holds values from {low:g} to {high:g}, but brightness goes from 0 to 1, to 255, or to 65535"
        )
    if high <= 1:
        return Stack(name, array.astype(np.float32))
    if not are_levels(array, high):
        raise DataError(
            f"{name} holds fractions up to {high:g}, neither brightness from 0 to 1 nor levels up to 255: divide or "
            "clip them to [0, 1]"
        )
    if array.dtype.kind == "f" and (array != np.rint(array)).any():
        return Stack(name, array.astype(np.float32) / np.float32(255))
    return Stack(name, array.astype(np.uint8 if high <= 255 else np.uint16))


def _shape_of(name: str, pixels: int, size: Size) -> tuple[int, int, int]:
    """Height, width and channels of pictures of so many numbers."""
    if size is not None:
        for channels in (1, 3):
            if size[0] * size[1] * channels == pixels:
                return (*size, channels)
    for channels in (1, 3):
        side = math.isqrt(pixels // channels)
        if side * side * channels == pixels:
            return side, side, channels
    raise DataError(
        f"{name} has {pixels} numbers for each picture, which make no square; say its height and width (--size)"
    )


def _as_labels(name: str, labels: NDArray[Any], count: int) -> list[str]:
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    whole = labels.dtype.kind in "iubU" or (labels.dtype.kind == "f" and np.array_equal(labels, np.rint(labels)))
    if labels.ndim != 1 or not whole:
        raise DataError(
            f"{name} has labels of {labels.dtype} {labels.shape}, but they are whole numbers or text, one a picture"
        )
    if len(labels) != count:
        raise DataError(f"{name} holds {count} images, but {len(labels)} labels, where each image has one label")
    return [str(label) for label in (labels.astype(np.int64) if labels.dtype.kind in "fb" else labels).tolist()]


# --- CSV --------------------------------------------------------------------------------------------------------------


def csv_source(path: str, size: Size = None) -> Source:
    """The pictures of a table with a column ``label`` and one column for each pixel, row by row, as Kaggle has them.

    Without a header the first column is the label. In a folder ``train.csv`` and ``test.csv`` are two parts.
    """
    paths = {"train": path}
    if os.path.isdir(path):
        there = {name.lower(): os.path.join(path, name) for name in sorted(os.listdir(path))}
        paths = {part: there[f"{part}.csv"] for part in ("train", "test") if f"{part}.csv" in there}
        if "train" not in paths:
            raise DataError(f"{path} holds no train.csv")
    images, labels = {}, {}
    for part, place in paths.items():
        try:
            with readable(place), open_regular(place) as file:
                array, labels[part] = _parsed(place, _lines(file, place))
        except DataError as error:
            alone = f"; {paths['train']} alone can be trained on, part of it for testing" if part == "test" else ""
            raise DataError(f"{error}{alone}") from None
        images[part] = as_stack(place, array, size)
    return _source(path, "csv", images, labels)


def _source(path: str, kind: str, images: dict[str, Stack], labels: dict[str, list[str]]) -> Source:
    """What was read; without a test part the validation part is for testing, and without both nothing is said."""
    if "test" not in images:
        renamed = {"validation": "test"} if "validation" in images else {"train": "all"}
        images = {renamed.get(part, part): stack for part, stack in images.items()}
        labels = {renamed.get(part, part): own for part, own in labels.items()}
    classes, names = named(labels)
    name = os.path.splitext(os.path.basename(os.path.realpath(path)))[0]
    return Source(name, kind, dict(images), classes, names, strict="all" in images)


def _lines(file: IO[bytes], path: str) -> Iterator[str]:
    while line := file.readline(_MAX_LINE):
        if len(line) == _MAX_LINE:
            raise DataError(f"{path} has a line of {_MAX_LINE} bytes or more, longer than that of any picture")
        if line.strip():
            yield line.decode("utf-8", "surrogateescape").removeprefix("\ufeff")


def _parsed(path: str, lines: Iterator[str]) -> tuple[NDArray[Any], list[str]]:
    """Pixels (N, D) and labels of the table in a file."""
    first = next(lines, "")
    if first.count(",") > _MAX_COLUMNS:
        raise DataError(f"{path} has more than {_MAX_COLUMNS} columns, those of a picture of 1024x1024")
    try:
        header = [name.strip() for name in next(csv.reader([first]), [])]
    except csv.Error as error:
        raise DataError(f"{path} has a first line that is none of a table ({error})") from None
    if len(header) < 2:
        raise DataError(f"{path} is no table of a label and pixels, separated by commas, for each picture")
    column = 0
    if any(not _is_number(name) for name in header[1:]):
        columns = [i for i, name in enumerate(header) if name.lower() in _LABEL_COLUMNS]
        if len(columns) != 1:
            raise DataError(f"{path} has no column called label, so it does not say what its pictures show")
        column = columns[0]
    else:
        lines = iter([first, *lines])
    pixels = [i for i in range(len(header)) if i != column]
    blocks: list[NDArray[Any]] = []
    labels: list[str] = []
    while block := list(islice(lines, max(1, min(_BLOCK, _BLOCK_FIELDS // len(header))))):
        values = _pixels(path, block, len(labels), len(header), pixels)
        whole = values.min() >= 0 and values.max() <= 255 and (values == np.rint(values)).all()
        blocks.append(values.astype(np.uint8) if whole else values)
        labels += [line.split(",", column + 1)[column].strip().strip('"') for line in block]
    if not labels:
        raise DataError(f"{path} holds no picture, only its header")
    return np.concatenate(blocks), labels


def _pixels(path: str, block: list[str], before: int, width: int, columns: list[int]) -> NDArray[np.float32]:
    """The pixels in these columns of a block of rows, each `width` columns wide, with so many rows before it."""
    for number, line in enumerate(block, before + 1):
        if line.count(",") + 1 != width:
            raise DataError(
                f"{path}, picture {number}: its row has {line.count(',') + 1} columns, but the first has {width}"
            )

    def parsed(lines: list[str]) -> NDArray[np.float32]:
        return np.loadtxt(lines, np.float32, delimiter=",", usecols=columns, ndmin=2, comments=None)

    try:
        return parsed(block)
    except ValueError as error:
        if len(block) > 1:  # once more row by row, which finds the one
            for number, line in enumerate(block, before):
                _pixels(path, [line], number, width, columns)
        raise DataError(f"{path}, picture {before + 1}: {one_line(error).split(' at row ')[0]}") from None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
