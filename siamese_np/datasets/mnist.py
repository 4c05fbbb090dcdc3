"""Finds MNIST, bundled with this package, and any folder of IDX files named as MNIST's are."""

import hashlib
import re
import string
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siamese_np.datasets.idx import read_idx
from siamese_np.datasets.pictures import Rows, Source, Stack
from siamese_np.errors import DataError

BUNDLED = Path(__file__).parent / "mnist_data"
SHA256 = {
    "train-images-idx3-ubyte.gz": "0b367032e93c5d0cea0925647cfdb18614af8ee15f83e6f2fc2ad904a6835971",
    "train-labels-idx1-ubyte.gz": "1787548bbe0bff1ec2ecdc0ef292b02df999e2d1a6002d27500982c652b17203",
    "t10k-images-idx3-ubyte.gz": "1a1a05eab793c14bb050b398624a11b0ffd1a2953baed553b1b9bd079e2a20be",
    "t10k-labels-idx1-ubyte.gz": "b91679a0acfe4ba0e50a2437a903084cba1f5f92592b016a25a7dfd00455798b",
}

_STEMS = {"train": ("train",), "test": ("t10k", "test")}
_IDX_NAME = re.compile(r".+-(images|labels)[-.]idx\d-(ubyte|int)(\.gz)?")
_QMNIST_COLUMNS = 8  # of a row of its labels; the first is the class

_LIKE_CAPITALS = "CIJKLMOPSUVWXYZ"  # small letters that EMNIST's splits balanced and bymerge count among the capitals
_MERGED = (
    string.digits
    + string.ascii_uppercase
    + "".join(c for c in string.ascii_lowercase if c.upper() not in _LIKE_CAPITALS)
)
_EMNIST = {
    "byclass": string.digits + string.ascii_uppercase + string.ascii_lowercase,
    "bymerge": _MERGED,
    "balanced": _MERGED,
    "letters": string.ascii_uppercase,
}


def idx_folder(root: Path) -> Path | None:
    """The folder at `root` that holds IDX files: itself, or ``raw`` in it, as torchvision makes it; or None."""
    for folder in (root, root / "raw", root / root.name / "raw", root / "gzip"):
        if folder.is_dir() and any(_IDX_NAME.fullmatch(path.name) for path in folder.iterdir()):
            return folder
    return None


def idx_source(folder: Path | None, split: str | None = None) -> Source:
    """The four IDX files in a folder, or the bundled MNIST's, whose checksums are verified.

    Raises
    ------
    DataError
        If a file is missing, given twice or damaged, or the files do not fit each other.
    """
    root = BUNDLED if folder is None else folder
    pictures: dict[str, Any] = {}
    classes: dict[str, Rows] = {}
    for part in _STEMS:
        images_path, labels_path = (_find(root, part, kind, split) for kind in ("images", "labels"))
        if folder is None:
            _verify(images_path)
            _verify(labels_path)
        pictures[part], classes[part] = _read_part(images_path, labels_path)
    size, test_size = (pictures[part].array.shape[1:] for part in ("train", "test"))
    if size != test_size:
        train, test = ("x".join(map(str, shape[: 2 + (shape[2] > 1)])) for shape in (size, test_size))
        raise DataError(
            f"the images in {root} must be of one size, but those for training are {train} and those for testing {test}"
        )
    count = max(int(own.max()) for own in classes.values()) + 1
    names = [str(number) for number in range(count)]
    emnist = re.match(r"emnist-(\w+)-", images_path.name)
    if emnist and emnist[1] in _EMNIST:
        names = list(_EMNIST[emnist[1]])
        first = int(emnist[1] == "letters" and all(own.min() > 0 for own in classes.values()))
        classes = {part: own - first for part, own in classes.items()}  # letters are numbered from 1
        if count - first > len(names):
            raise DataError(
                f"{labels_path} has the label {count - 1}, but EMNIST's {emnist[1]} has {len(names)} classes"
            )
    name = root.resolve()
    called = "MNIST" if folder is None else name.parent.name if name.name in ("raw", "gzip") else name.name
    return Source(called, "idx", pictures, classes, names, strict=False)


def _find(root: Path, part: str, kind: str, split: str | None) -> Path:
    """The one file in `root` with the `kind` ("images" or "labels") of `part` ("train" or "test")."""
    stems, suffixes = _STEMS[part], {"images": "idx[34]-ubyte", "labels": "idx(1-ubyte|2-int)"}[kind]
    prefix = "(.+-)?" if split is None else f"(.+-)?{re.escape(split)}-"
    pattern = re.compile(rf"{prefix}({'|'.join(stems)})-{kind}[-.]{suffixes}(\.gz)?")
    matching = {path for path in root.iterdir() if pattern.fullmatch(path.name) and path.is_file()}
    found = sorted(path for path in matching if path.suffix != ".gz" or path.with_suffix("") not in matching)
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise DataError(
            f"{root} must hold one file with the {kind} for {part}, but holds {len(found)}: {names}; "
            "choose by what is before the part's name (--split)"
        )
    if not found:
        suffix = {"images": "idx3-ubyte", "labels": "idx1-ubyte"}[kind]
        names = " or ".join(f"{'' if split is None else f'{split}-'}{stem}-{kind}-{suffix}" for stem in stems)
        raise DataError(
            f"{root} holds no file with the {kind} for {part}, which would be named {names} (with or without .gz)"
        )
    return found[0]


def _verify(path: Path) -> None:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != SHA256.get(path.name):
        raise DataError(f"{path} is not the file that came with this package: its SHA-256 is {digest}")


def _read_part(images_path: Path, labels_path: Path) -> tuple[Stack, Rows]:
    images, labels = read_idx(images_path), read_idx(labels_path)
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or images.shape[3:] not in ((), (1,), (3,)):
        raise _wrong(images_path, images, "images are uint8 values in 3 dimensions, or in 4 if in colour")
    if labels.dtype == np.int32 and labels.ndim == 2 and labels.shape[1] == _QMNIST_COLUMNS:
        labels = labels[:, 0]
        if not ((labels >= 0) & (labels <= 255)).all():
            raise DataError(f"{labels_path} holds a class beyond 0 to 255 in the first of its columns")
    elif labels.dtype != np.uint8 or labels.ndim != 1:
        raise _wrong(labels_path, labels, "labels are uint8 values in 1 dimensions")
    if len(images) != len(labels):
        raise DataError(
            f"{images_path} holds {len(images)} images, but {labels_path} holds {len(labels)} labels, "
            "where each image has one label"
        )
    if images.size == 0:
        raise DataError(f"{images_path} holds no image: its shape is {images.shape}")
    if images_path.name.startswith("emnist-"):  # whose images are stored column by column
        images = np.ascontiguousarray(images.swapaxes(1, 2))
    return Stack(str(images_path), images), labels.astype(np.int64)


def _wrong(path: Path, array: NDArray[Any], wanted: str) -> DataError:
    held = f"of shape {array.shape}" if array.ndim == 4 else f"in {array.ndim} dimensions"
    return DataError(f"{path} holds {array.dtype} values {held}, but {wanted}")
