"""A data set in memory: images and classes in three parts, what the classes are called, and where it came from."""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siamese_np._checks import check_class_names, check_classes, found, is_array
from siamese_np.datasets.input_form import InputForm, default_form
from siamese_np.errors import ModelError, OptionError, ShapeError

PARTS = ("train", "validation", "test")


@dataclass(frozen=True, eq=False)
class Split:
    """Images and their classes.

    Attributes
    ----------
    images : ndarray (N, H, W, C) of float32 in [0, 1]
        Of IDX files each number is exactly its file's byte divided by 255.
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
    class_names : list of str, optional
        What the classes are called, in the order of their numbers.
    form : InputForm, optional
        How pictures become images like these; by default that of a network for images of this shape.
    source : dict, optional
        The arguments ``source``, ``split`` and ``seed`` of `load_dataset` that load it again; JSON values.

    Raises
    ------
    OptionError
        The name is no text, a part no `Split`, or the class names are not text or fewer than the classes.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    class_names: list[str] | None = None
    form: InputForm | None = None
    source: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise OptionError(f"a Dataset needs a name, as text, not {found(self.name)}")
        for part in PARTS:
            if not isinstance(getattr(self, part), Split):
                raise OptionError(f"a Dataset needs a Split as {part}, not {found(getattr(self, part))}")
        object.__setattr__(self, "class_names", check_class_names(self.class_names))
        if self.class_names is not None:
            for part in PARTS:
                classes = getattr(self, part).classes
                if len(classes) and not 0 <= classes.min() <= classes.max() < len(self.class_names):
                    raise OptionError(f"a Dataset with {len(self.class_names)} class names has another class in {part}")
        if self.form is None:
            object.__setattr__(self, "form", default_form(self.train.images.shape[1:]))

    @cached_property
    def all_train(self) -> Split:
        """Train and validation together; for loaded data in the file's order."""
        return Split(
            np.concatenate((self.train.images, self.validation.images)),
            np.concatenate((self.train.classes, self.validation.classes)),
        )

    def named(self, classes: NDArray[np.int64]) -> NDArray[Any]:
        """What these classes are called, or their numbers if all are called by them."""
        if self.class_names is None or self.class_names == [str(i) for i in range(len(self.class_names))]:
            return classes
        return np.array(self.class_names)[classes]

    @cached_property
    def digests(self) -> dict[str, str]:
        """Hashes (SHA-256) of the classes, with the image size, and of the pixels, for training and validation.

        ``"all"`` is that of all pixels, those of the test part included, and of the test part's classes.
        """
        data, pixels = hashlib.sha256(json.dumps(self.train.images.shape[1:]).encode()), hashlib.sha256()
        for split in (self.train, self.validation):
            data.update(np.ascontiguousarray(split.classes).data)
            pixels.update(np.ascontiguousarray(split.images).data)
        digests = {"data": data.hexdigest(), "images": pixels.hexdigest()}
        pixels.update(data.digest())
        pixels.update(np.ascontiguousarray(self.test.classes).data)
        pixels.update(np.ascontiguousarray(self.test.images).data)
        return {**digests, "all": pixels.hexdigest()}


def check_trained_on(origin: Any) -> dict[str, Any] | None:
    """`origin`, if it can be the `trained_on` of a `SiameseNetwork`; else a ModelError."""
    if origin is None:
        return None
    kinds: dict[str, Any] = {
        "source": (list, type(None)),
        "split": (str, type(None)),
        "seed": int,
        "sha256": (str, type(None)),
    }
    fits = isinstance(origin, dict) and set(origin) == set(kinds)
    if not fits or not all(isinstance(origin[name], kind) for name, kind in kinds.items()):
        raise ModelError(f"trained_on must have {', '.join(kinds)}, as load_dataset takes them, not {origin!r:.200}")
    if not all(isinstance(path, str) for path in origin["source"] or []):
        raise ModelError(f"trained_on must hold the paths of its data as text, not {origin['source']!r:.200}")
    return dict(origin)
