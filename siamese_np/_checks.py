"""What users hand in, checked in one place: arrays, the caches of backward passes, and numbers."""

import math
import numbers
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from siamese_np.errors import DataError, OptionError, ShapeError

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
Seeded = TypeVar("Seeded")
RANDOM = (np.random.SeedSequence, np.random.BitGenerator, np.random.Generator)
INT64 = np.dtype(np.int64)  # quicker to compare with than np.int64
MAX_COORDINATE = 1e140  # of an embedding, so that no square or sum of squares overflows
MAX_FRACTION = 16  # of brightness, standardised or too bright: above it fractions are levels of 0 to 255
MIN_MARGIN, MAX_MARGIN = 1e-15, 1e15  # far within the range in which float32 holds squares


# --- Arrays -----------------------------------------------------------------------------------------------


def as_array(name: str, value: Any) -> NDArray[Any]:
    """`value` as an array; ShapeError where it makes none, or has a mask, which NumPy would drop silently."""
    if type(value) is np.ndarray:
        return value
    if isinstance(value, np.ma.MaskedArray):
        raise ShapeError(f"{name} must be an array without a mask; fill or leave out what is masked")
    try:
        return np.asarray(value)
    except Exception:  # of an array of another library, anything
        raise ShapeError(f"{name} must be an array, but a {type(value).__name__} that makes none was given") from None


def as_flag(name: str, value: Any) -> bool:
    """`value` as a bool, if it is one of Python or NumPy; else an OptionError."""
    if value is True or value is False:
        return value
    if not isinstance(value, np.bool_):
        raise OptionError(f"{name} must be True or False, not {value!r:.100}")
    return bool(value)


def check_kind(name: str, value: Any, kind: type[Any]) -> None:
    """OptionError unless `value` is a `kind`."""
    if not isinstance(value, kind):
        raise OptionError(f"{name} must be a {kind.__name__}, not {found(value)}")


def check_lengths(shape: Any) -> tuple[int, ...]:
    """`shape`, of one input, as a tuple of whole numbers, or a ShapeError; part of every step."""
    if type(shape) is tuple:
        for length in shape:
            if type(length) is not int or length < 0:
                break
        else:
            return shape
    return as_shape(shape)


def is_array(value: Any) -> bool:
    """Whether `value` is an array, and one without a mask."""
    return type(value) is np.ndarray or (isinstance(value, np.ndarray) and not isinstance(value, np.ma.MaskedArray))


def as_dtype(dtype: Any) -> np.dtype[Any]:
    """`dtype`, if it is float32 or float64; else an OptionError."""
    try:
        given = np.dtype(dtype)
    except Exception:  # as a structured one that is none
        raise OptionError(f"dtype must be float32 or float64, not {dtype!r:.200}") from None
    if given not in FLOATS:
        raise OptionError(f"dtype must be float32 or float64, not {given}")
    return given


def kernel_input(array: NDArray[Any]) -> NDArray[Any]:
    """`array` C-contiguous, and writeable though no kernel writes it: for others Numba would compile anew."""
    array = np.ascontiguousarray(array)
    return array if array.flags.writeable else np.asarray(_Unlocked(array))


class _Unlocked:
    """The memory of a read-only array."""

    def __init__(self, array: NDArray[Any]) -> None:
        self.array = array  # which must live as long
        form = array.__array_interface__
        self.__array_interface__ = {**form, "data": (form["data"][0], False)}


def seeded(make: Callable[[Any], Seeded], seed: Any) -> Seeded:
    """What `make`, of NumPy, makes of `seed`, or an OptionError."""
    several = seed if isinstance(seed, (list, tuple)) else [seed]
    try:
        # NumPy crashes where lists lie in lists
        if seed is not None and not isinstance(seed, RANDOM) and not all(map(is_whole, several)):
            raise TypeError
        return make(seed)
    except (TypeError, ValueError, OverflowError):
        raise OptionError(f"a seed must be a whole number of at least 0, not {seed!r:.200}") from None


def found(value: Any) -> str:
    """What `value` is, in a few words, for the end of a sentence."""
    if isinstance(value, np.ndarray):
        layout = "" if value.flags.c_contiguous else ", not C-contiguous"
        return f"{type(value).__name__} {value.shape} of {value.dtype}{layout}"
    return f"a {type(value).__name__} of {len(value)}" if isinstance(value, (tuple, list)) else type(value).__name__


def as_path(name: str, value: Any) -> Path:
    """`value`, a str, bytes or path-like object, as a path; else an OptionError."""
    try:
        path = Path(os.fsdecode(value))
    except TypeError:
        raise OptionError(f"{name} must be a path, as text or path-like object, not {found(value)}") from None
    if "\0" in str(path):
        raise OptionError(f"{name} must not have a null byte in its path, as {str(path)!r:.100} has")
    return path


# --- Numbers ------------------------------------------------------------------------------------------------


def as_number(value: Any) -> float:
    """`value` as a float; NaN, which no range includes, where it is no real number (a bool is none)."""
    if type(value) is float:  # the usual case: to ask for a Real takes a microsecond
        return value
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        return np.nan
    try:
        return float(value)
    except OverflowError:
        return np.inf


def is_whole(value: Any) -> bool:
    """Whether `value` is an int, of Python or NumPy (a bool is none)."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def check_margin(margin: Any) -> float:
    """`margin` as a finite number above 0, or an OptionError; its square must not leave the range of float32."""
    number = as_number(margin)
    if not 0 < number < np.inf:
        raise OptionError(f"the margin must be a finite number above 0, not {margin!r:.200}")
    if not MIN_MARGIN <= number <= MAX_MARGIN:
        raise OptionError(f"the margin must be from {MIN_MARGIN:g} to {MAX_MARGIN:g}, not {margin!r:.200}")
    return number


def check_weight_decay(decay: Any, learning_rate: float = 0.0) -> float:
    """`decay` as a finite number of at least 0, or an OptionError; a step at `learning_rate` must turn no sign."""
    number = as_number(decay)
    if not 0 <= number < np.inf:
        raise OptionError(f"the weight decay must be a finite number of at least 0, not {decay!r:.200}")
    if number * learning_rate > 1:
        raise OptionError(
            f"learning rate times weight decay must be at most 1, else weights change their sign: {learning_rate:g} "
            f"times {number:g} is more"
        )
    return number


def check_threshold(threshold: Any) -> float:
    """`threshold` as a number that is not NaN, or an OptionError."""
    number = as_number(threshold)
    if np.isnan(number):
        raise OptionError(f"the threshold must be a number in the units of the distances, not {threshold!r:.200}")
    return number


def check_saved_threshold(threshold: Any) -> float:
    """`threshold` as one that a model can keep, a finite number of at least 0, or an OptionError."""
    number = as_number(threshold)
    if not 0 <= number < np.inf:
        raise OptionError(f"threshold must be a finite number of at least 0, not {threshold!r:.200}")
    return number


def check_class_names(names: Any) -> list[str] | None:
    """`names` as a list, or an OptionError unless all are text; None where there are none."""
    if names is None:
        return None
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
        raise OptionError(f"class names must be a list of text, not {names!r:.200}")
    return list(names)


def as_shape(shape: Any, name: str = "an input shape") -> tuple[int, ...]:
    """`shape` as a tuple, or a ShapeError unless it is one of whole numbers of at least 1."""
    if not isinstance(shape, (list, tuple)) or not shape or not all(is_whole(n) and n >= 1 for n in shape):
        raise ShapeError(f"{name} is (H, W, C) or (D,), whole numbers of at least 1, not {shape!r:.200}")
    return tuple(int(length) for length in shape)


# --- Images, embeddings, classes and pairs --------------------------------------------------------------------


def as_images(images: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """`images` as an array (N, *shape) of `dtype`, or a ShapeError where they have no such shape or are no floats."""
    images = as_array("images", images)
    if images.shape[1:] != shape or images.ndim != len(shape) + 1:
        raise ShapeError(f"the model was made for images (N, {', '.join(map(str, shape))}), not {images.shape}")
    if images.dtype.kind != "f":
        raise ShapeError(f"images must be floats in [0, 1], not {images.dtype}; divide grey levels by 255")
    if images.dtype == dtype:
        return images
    with np.errstate(over="ignore"):  # told as infinity
        return images.astype(dtype)


def are_levels(values: NDArray[Any], high: float) -> bool:
    """Whether numbers of at least 0, up to `high` > 1, are levels of 0 to 255 rather than brightness that exceeds 1."""
    return high > MAX_FRACTION or bool((values == np.rint(values)).all())


def check_finite(images: NDArray[Any], count: int | None = None) -> NDArray[Any]:
    """`images`, batches of `count` (None: one batch), or a ShapeError where one is not finite, or all are grey levels.

    Images may leave [0, 1], as standardised ones do; but with none below 0, whole numbers above 2, or any numbers above
    `MAX_FRACTION`, are levels that were not divided by 255.
    """
    if not images.size:
        return images
    # part of every step: the extremes show a NaN or infinity, and need no array of booleans
    high, low = images.max(), images.min()
    if not (math.isfinite(high) and math.isfinite(low)):
        bad = int(np.isfinite(images.reshape(len(images), -1)).all(axis=1).argmin()) % (count or len(images))
        raise ShapeError(f"image {bad} holds NaN or infinity; every pixel must be a finite number")
    if 2 < high <= 65535 and low >= 0 and images.ndim == 4 and are_levels(images, high):
        raise ShapeError(f"images must be in [0, 1], but these are grey levels up to {high:g}: divide them by 255")
    return images


def check_embeddings(name: str, emb: Any, for_loss: bool = False) -> NDArray[Any]:
    """`emb` as an array of embeddings (N, E), or a ShapeError.

    Real numbers of any dtype will do, if they are finite and their squares do not overflow, and E is at least 1. For a
    loss they must be float32 or float64 and are made C-contiguous; a NaN stays visible in the loss.
    """
    emb = as_array(name, emb)
    if emb.ndim != 2 or (emb.dtype not in FLOATS if for_loss else emb.dtype.kind not in "iuf"):
        numbers_of = "float32 or float64" if for_loss else "real numbers"
        raise ShapeError(f"{name} must be an array (N, E) of {numbers_of}, not {emb.dtype} {emb.shape}")
    if for_loss:
        return kernel_input(emb)
    if emb.shape[1] == 0:
        raise ShapeError(f"{name} must hold at least one number for each embedding, but has the shape {emb.shape}")
    # a NaN or infinity shows in the extremes, which need no array of booleans as large as the embeddings
    if len(emb) and not (float(emb.min()) >= -MAX_COORDINATE and float(emb.max()) <= MAX_COORDINATE):
        row = int((~(np.abs(emb.astype(np.float64)) <= MAX_COORDINATE)).any(axis=1).argmax())
        raise ShapeError(
            f"{name} must hold finite numbers whose squares do not overflow, but {name}[{row}] holds another"
        )
    return emb


def check_classes(classes: Any, count: int | None = None, name: str = "classes", text: bool = False) -> NDArray[Any]:
    """`classes` as an array (N,) of int64, or a ShapeError unless there are `count` (None: any number).

    With `text` they may also be text or bools, and keep their dtype.
    """
    classes = as_array(name, classes)
    if classes.ndim != 1 or classes.dtype.kind not in ("iubSU" if text else "iu"):
        kinds = "whole numbers or text" if text else "whole numbers"
        raise ShapeError(f"{name} must be a 1-D array of {kinds}, not {classes.ndim}-D of {classes.dtype}")
    if count is not None and len(classes) != count:
        raise ShapeError(f"{name} must have {count} entries, one for each image or embedding, not {len(classes)}")
    return classes if text else kernel_input(classes.astype(np.int64, copy=False))


def check_pairable(classes: ArrayLike, images: str = "images") -> NDArray[np.int64]:
    """`classes`, if every image has a similar and a dissimilar partner, or a DataError that names the `images`."""
    classes = check_classes(classes)
    kinds, count = np.unique(classes, return_counts=True)
    if len(kinds) < 2:
        raise DataError(
            f"dissimilar pairs need at least two classes, but the {len(classes)} {images} have {len(kinds)}"
        )
    if count.min() < 2:
        raise DataError(
            f"class {kinds[count.argmin()]} has a single image among the {len(classes)} {images}, "
            "but a similar pair needs two of the same class"
        )
    return classes


def check_pair_labels(label: Any) -> NDArray[np.int64]:
    """`label` as an array (P,) of 0 (similar) and 1 (dissimilar), or a ShapeError."""
    label = as_array("pair labels", label)
    if label.ndim != 1 or label.dtype.kind not in "biuf":
        raise ShapeError(f"pair labels must be a 1-D array of numbers, not {label.ndim}-D of {label.dtype}")
    wrong = (label != 0) & (label != 1)
    if np.count_nonzero(wrong):  # quicker than any
        at = int(wrong.argmax())
        raise ShapeError(f"pair labels must be 0 (similar) or 1 (dissimilar), but label[{at}] is {label[at]}")
    return label.astype(np.int64)


def check_pairs(dist: Any, label: Any, for_loss: bool = False) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Distances (P,), finite and as float64, and labels (P,) of at least one pair, or a ShapeError.

    For a loss float32 stays float32, and NaN and infinity stay visible in the loss.
    """
    dist, label = as_array("dist", dist), check_pair_labels(label)
    if dist.dtype.kind not in "iuf":
        raise ShapeError(f"dist must hold distances as real numbers, not {dist.dtype}")
    if dist.shape != label.shape or not dist.size:
        raise ShapeError(f"dist and label must be equally long and not empty, not {dist.shape} and {label.shape}")
    dist = np.ascontiguousarray(dist, dist.dtype if for_loss and dist.dtype in FLOATS else np.float64)
    wrong = dist < 0 if for_loss else ~((dist >= 0) & (dist < np.inf))
    if np.count_nonzero(wrong):
        at = int(wrong.argmax())
        raise ShapeError(f"a distance must be a finite number of at least 0, but dist[{at}] is {dist[at]}")
    return dist, label


def fits(given: tuple[int, ...], shape: Sequence[int | None] | None) -> bool:
    """Whether a shape is `shape`, in which None stands for any length; None itself is any shape."""
    if shape is None:
        return True
    if len(given) != len(shape):
        return False
    for wanted, length in zip(shape, given, strict=True):  # noqa: SIM110 - quicker than any or all, in every step
        if wanted is not None and wanted != length:
            return False
    return True


def check_rows(name: str, rows: Any, shape: tuple[int | None, ...], count: int) -> NDArray[Any]:
    """`rows` as an array of `shape` (None: any length) of row numbers from 0 to `count` - 1, or a ShapeError."""
    rows = as_array(name, rows)
    if not fits(rows.shape, shape) or rows.dtype.kind not in "iu":
        lengths = ", ".join("any" if length is None else str(length) for length in shape)
        raise ShapeError(f"{name} must be an array ({lengths}) of row numbers, not {rows.dtype} {rows.shape}")
    wrong = np.argwhere((rows < 0) | (rows >= count))
    if len(wrong):
        at = wrong[0].tolist()
        raise ShapeError(f"{name} must hold row numbers from 0 to {count - 1}, but {name}{at} is {rows[tuple(at)]}")
    return rows
