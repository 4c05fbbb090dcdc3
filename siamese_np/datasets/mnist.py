"""Loads MNIST, bundled with this package, or any folder of IDX files with MNIST's names."""

import hashlib
import os
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siamese_np._checks import check_classes, found, is_array
from siamese_np.datasets.idx import read_idx
from siamese_np.errors import DataError, OptionError, ShapeError

BUNDLED = Path(__file__).parent / "mnist_data"
SHA256 = {
    "train-images-idx3-ubyte.gz": "0b367032e93c5d0cea0925647cfdb18614af8ee15f83e6f2fc2ad904a6835971",
    "train-labels-idx1-ubyte.gz": "1787548bbe0bff1ec2ecdc0ef292b02df999e2d1a6002d27500982c652b17203",
    "t10k-images-idx3-ubyte.gz": "1a1a05eab793c14bb050b398624a11b0ffd1a2953baed553b1b9bd079e2a20be",
    "t10k-labels-idx1-ubyte.gz": "b91679a0acfe4ba0e50a2437a903084cba1f5f92592b016a25a7dfd00455798b",
}

_MAX_VALIDATION = 10_000
_VALIDATION_SHARE = 6  # one in six, as 10,000 of MNIST's 60,000
_PAIR = 2  # images of a class that a similar pair needs
_STEMS = {"train": ("train",), "test": ("t10k", "test")}


@dataclass(frozen=True, eq=False)
class Split:
    """Images and their classes.

    Attributes
    ----------
    images : ndarray (N, H, W, C) of float32 in [0, 1]
        Of loaded data each number is exactly its file's byte divided by 255, and C is 1.
    classes : ndarray (N,) of int64

    Raises
    ------
    ShapeError
        One is no array, or there are not as many images as classes.
    """

    images: NDArray[np.float32]
    classes: NDArray[np.int64]

    def __post_init__(self) -> None:
        for name, array in (("images", self.images), ("classes", self.classes)):
            if not is_array(array) or not array.ndim:
                raise ShapeError(f"a Split needs its {name} as an array (N, ...), not {found(array)}")
        check_classes(self.classes, len(self.images))

    def __len__(self) -> int:
        return len(self.classes)


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set in three parts, of which the test part is for the last measurement only.

    Attributes
    ----------
    name : str
    train, validation, test : Split

    Raises
    ------
    OptionError
        The name is no text, or a part no `Split`.
    """

    name: str
    train: Split
    validation: Split
    test: Split

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise OptionError(f"a Dataset needs a name, as text, not {found(self.name)}")
        for part in ("train", "validation", "test"):
            if not isinstance(getattr(self, part), Split):
                raise OptionError(f"a Dataset needs a Split as {part}, not {found(getattr(self, part))}")

    @cached_property
    def all_train(self) -> Split:
        """Train and validation together; for loaded data in the file's order."""
        return Split(
            np.concatenate((self.train.images, self.validation.images)),
            np.concatenate((self.train.classes, self.validation.classes)),
        )


def load_dataset(folder: str | os.PathLike[str] | None = None) -> Dataset:
    """Load the bundled MNIST, or a folder of IDX files.

    The last ``min(10_000, n // 6)`` of the n training images become the validation part. Where that would leave a class
    with fewer than two images in either part, as in a file sorted by class, the same share of each class is taken, at
    least two images. A class of fewer than four images cannot be in both parts and stays in the training part.

    Parameters
    ----------
    folder : str or path-like, optional
        Holds four IDX files of unsigned bytes, gzipped or not, named as MNIST's are:
        ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte``, ``t10k-images-idx3-ubyte``,
        ``t10k-labels-idx1-ubyte``, each with or without ``.gz``; ``test`` may stand for ``t10k``, ``.idx`` for
        ``-idx``, and a prefix such as ``emnist-digits-`` may come first. Of a file and its gzipped form, which
        torchvision leaves in one folder, the file is read. Pixels are taken as they are stored
        (EMNIST stores its images transposed). None means the bundled MNIST, whose checksums are verified.

    Returns
    -------
    dataset : Dataset
        Named ``"MNIST"``, or after the folder.

    Raises
    ------
    DataError
        If the folder or a file is missing, given twice or damaged, or the files do not fit each other.

    Examples
    --------
    >>> dataset = load_dataset()
    >>> dataset.train.images.shape, dataset.test.classes[:5].tolist()
    ((50000, 28, 28, 1), [7, 2, 1, 0, 4])
    """
    root = BUNDLED if folder is None else Path(folder)
    if not root.exists():
        raise DataError(f"there is no folder {root}")
    if not root.is_dir():
        raise DataError(f"{root} is not a folder, but a folder of IDX files is needed")
    paths = {(part, kind): _find(root, part, kind) for part in _STEMS for kind in ("images", "labels")}
    if folder is None:
        for path in paths.values():
            _verify(path)

    whole = _read_split(paths["train", "images"], paths["train", "labels"])
    test = _read_split(paths["test", "images"], paths["test", "labels"])
    size, test_size = whole.images.shape[1:3], test.images.shape[1:3]
    if size != test_size:
        raise DataError(
            f"the images in {root} must be of one size, but those for training are {size[0]}x{size[1]} "
            f"and those for testing {test_size[0]}x{test_size[1]}"
        )
    if len(whole) < _VALIDATION_SHARE:
        raise DataError(
            f"{paths['train', 'images']} holds {len(whole)} images, but it takes at least {_VALIDATION_SHARE} "
            "to set some aside for validation"
        )
    train, validation = _split(whole)
    dataset = Dataset("MNIST" if folder is None else root.resolve().name, train, validation, test)
    vars(dataset)["all_train"] = whole  # what the cached property would have to copy together
    return dataset


def _split(whole: Split) -> tuple[Split, Split]:
    """The training and the validation part: the last images, or the last of each class (see `load_dataset`)."""
    N = len(whole)
    count = min(_MAX_VALIDATION, N // _VALIDATION_SHARE)
    kinds, of_image, size = np.unique(whole.classes, return_inverse=True, return_counts=True)
    inside = np.bincount(of_image[N - count :], minlength=len(kinds))  # images of each class among the last ones
    divisible = size >= 2 * _PAIR
    if (np.minimum(inside, size - inside) >= _PAIR)[divisible].all():
        parts: tuple[Any, Any] = slice(N - count), slice(N - count, N)  # views
    else:
        share = np.where(divisible, np.maximum(_PAIR, size * count // N), 0)
        by_class = np.argsort(of_image, kind="stable")
        from_end = np.repeat(np.cumsum(size), size) - np.arange(N)  # 1 for the last image of a class
        aside = np.sort(by_class[from_end <= np.repeat(share, size)])
        parts = np.delete(np.arange(N), aside), aside
    train, validation = (Split(whole.images[part], whole.classes[part]) for part in parts)
    return train, validation


def _find(root: Path, part: str, kind: str) -> Path:
    """The one file in `root` with the `kind` ("images" or "labels") of `part` ("train" or "test")."""
    stems, suffix = _STEMS[part], {"images": "idx3-ubyte", "labels": "idx1-ubyte"}[kind]
    pattern = re.compile(rf"(.+-)?({'|'.join(stems)})-{kind}[-.]{suffix}(\.gz)?")
    matching = {path for path in root.iterdir() if pattern.fullmatch(path.name) and path.is_file()}
    found = sorted(path for path in matching if path.suffix != ".gz" or path.with_suffix("") not in matching)
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise DataError(f"{root} must hold one file with the {kind} for {part}, but holds {len(found)}: {names}")
    if not found:
        names = " or ".join(f"{stem}-{kind}-{suffix}" for stem in stems)
        raise DataError(
            f"{root} holds no file with the {kind} for {part}, which would be named {names} (with or without .gz)"
        )
    return found[0]


def _verify(path: Path) -> None:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != SHA256.get(path.name):
        raise DataError(f"{path} is not the file that came with this package: its SHA-256 is {digest}")


def _read_split(images_path: Path, labels_path: Path) -> Split:
    images = _read_bytes(images_path, "images", 3)
    labels = _read_bytes(labels_path, "labels", 1)
    if len(images) != len(labels):
        raise DataError(
            f"{images_path} holds {len(images)} images, but {labels_path} holds {len(labels)} labels, "
            "where each image has one label"
        )
    if images.size == 0:
        raise DataError(f"{images_path} holds no image: its shape is {images.shape}")
    scaled: NDArray[np.float32] = np.divide(images, np.float32(255), dtype=np.float32)  # one pass, no copy between
    return Split(scaled[..., np.newaxis], labels.astype(np.int64))


def _read_bytes(path: Path, kind: str, rank: int) -> NDArray[Any]:
    array = read_idx(path)
    if array.dtype != np.uint8 or array.ndim != rank:
        raise DataError(
            f"{path} holds {array.dtype} values in {array.ndim} dimensions, "
            f"but {kind} are uint8 values in {rank} dimensions"
        )
    return array
