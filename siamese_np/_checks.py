"""What users hand in, checked in one place: arrays, the caches of backward passes, and numbers."""

import functools
import inspect
import math
import numbers
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from types import ModuleType
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from siamese_np.errors import DataError, OptionError, ShapeError

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
Seeded = TypeVar("Seeded")
INT64 = np.dtype(np.int64)  # quicker to compare with than np.int64
MAX_COORDINATE = 1e140  # of an embedding, so that no square or sum of squares overflows
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
    except (TypeError, ValueError, OverflowError):
        raise ShapeError(f"{name} must be an array, but a {type(value).__name__} that makes none was given") from None


def is_array(value: Any) -> bool:
    """Whether `value` is an array, and one without a mask."""
    return isinstance(value, np.ndarray) and not isinstance(value, np.ma.MaskedArray)


def as_dtype(dtype: Any) -> np.dtype[Any]:
    """`dtype`, if it is float32 or float64; else an OptionError."""
    try:
        given = np.dtype(dtype)
    except TypeError:
        raise OptionError(f"dtype must be float32 or float64, not {dtype!r}") from None
    if given not in FLOATS:
        raise OptionError(f"dtype must be float32 or float64, not {given}")
    return given


def check_gradient(
    owner: object, dout: Any, shape: tuple[int, ...], dtype: DTypeLike | None = None, name: str = "dout"
) -> NDArray[Any]:
    """`dout` as a C-contiguous array of `shape` and `dtype` (None: float32 or float64), or a ShapeError."""
    dout = as_array(name, dout)
    if dout.shape != shape or (dout.dtype not in FLOATS if dtype is None else dout.dtype != dtype):
        dtypes = FLOATS if dtype is None else (np.dtype(dtype),)
        raise ShapeError(
            f"{owner} needs {name} of its output's shape {shape} and dtype {_names(dtypes)}, "
            f"not {dout.shape} and {dout.dtype}"
        )
    return kernel_input(dout)


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
    try:
        return make(seed)
    except (TypeError, ValueError):
        raise OptionError(f"a seed must be a whole number of at least 0, not {seed!r}") from None


def assign(name: str, array: NDArray[Any], values: Any) -> None:
    """Copy `values` into `array`, or ShapeError unless they are real numbers of its shape."""
    if values is array:
        return
    values = as_array(name, values)
    if values.shape != array.shape or values.dtype.kind not in "iuf":
        raise ShapeError(f"{name} takes real numbers of shape {array.shape}, not {found(values)}")
    with np.errstate(over="ignore"):  # infinity stays visible
        array[...] = values


def check_vectors(params: Any, grads: Any) -> None:
    """ShapeError unless both vectors of an optimizer are as the kernels trust them to be."""
    for name, array in (("params", params), ("grads", grads)):
        if not is_array(array) or array.ndim != 1 or array.dtype not in FLOATS:
            raise ShapeError(f"an optimizer needs {name} as a vector (P,) of float32 or float64, not {found(array)}")
        if not array.flags.c_contiguous or not (array.flags.writeable or array is grads):
            raise ShapeError(f"an optimizer needs {name} contiguous, and params writeable")
    if (params.shape, params.dtype) != (grads.shape, grads.dtype):
        raise ShapeError(
            f"an optimizer needs params and grads of one shape and dtype, not {params.shape} of {params.dtype} "
            f"and {grads.shape} of {grads.dtype}"
        )


class Arrays(MutableMapping[str, NDArray[Any]]):
    """Arrays by name, which stay the same arrays: to assign to a name copies the values into its array.

    So nothing tears an array off the vector that it is a part of, and kernels can trust its shape and dtype. What is
    handed out is a view, for the shape of an array can be changed in place.

    Parameters
    ----------
    arrays : mapping of str to ndarray
    owner : str, optional
        Who owns the arrays, as a sentence calls it; then no names can be added.
    """

    def __init__(self, arrays: Mapping[str, Any] | None = None, owner: str = "") -> None:
        self.owner = owner
        self.kept: dict[str, NDArray[Any]] = {}
        for name, array in (arrays or {}).items():
            self._add(name, array)

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self.kept[name].view()

    def __setitem__(self, name: str, values: Any) -> None:
        if name in self.kept:
            assign(f"the array {name!r}", self.kept[name], values)
        elif self.owner:
            raise self._unknown(repr(name))
        else:
            self._add(name, values)

    def __delitem__(self, name: str) -> None:
        raise ShapeError(f"the array {name!r} can be overwritten, but not taken away")

    def __iter__(self) -> Iterator[str]:
        return iter(self.kept)

    def __len__(self) -> int:
        return len(self.kept)

    def __repr__(self) -> str:
        return repr(self.kept)

    def __reduce__(self) -> Any:
        return Arrays, (self.kept,)  # a copy has no owner

    @classmethod
    def of(cls, arrays: Any) -> "Arrays":
        """`arrays`, a mapping, as `Arrays`: itself, where it is one."""
        if not isinstance(arrays, Mapping):
            raise ShapeError(f"params and grads are mappings of names to arrays, not {found(arrays)}")
        return arrays if isinstance(arrays, Arrays) else cls(arrays)

    def assign(self, name: str, arrays: Any) -> None:
        """Copy in the values of `arrays`, all of them; ShapeError, which calls these `name`, where they do not fit."""
        if arrays is self:
            return
        if self.owner and not self.kept and isinstance(arrays, Mapping) and arrays:
            raise self._unknown(", ".join(map(repr, arrays)))
        if not isinstance(arrays, Mapping) or set(arrays) != set(self):
            names = ", ".join(arrays) if isinstance(arrays, Mapping) else found(arrays)
            raise ShapeError(f"{name} are the arrays {', '.join(self) or 'of no name'}, not {names}")
        self.update(arrays)

    def can_hold_gradients(self, params: "Arrays") -> bool:
        """Whether these are arrays of the names, shapes, dtypes and layout of `params`, and can be written."""
        return self.forms() == params.forms() and all(array.flags.writeable for array in self.kept.values())

    def forms(self) -> dict[str, str]:
        """Shape, dtype and layout of each array."""
        return {name: found(array) for name, array in self.kept.items()}

    def _unknown(self, names: str) -> ShapeError:
        if self.kept:
            return ShapeError(f"{self.owner} has the arrays {', '.join(self.kept)}, but no {names}")
        return ShapeError(
            f"{self.owner} had no arrays when its network was made, so it cannot have {names} now: "
            "set self.params in the constructor"
        )

    def _add(self, name: str, array: Any) -> None:
        if not isinstance(name, str) or not is_array(array):
            raise ShapeError(f"arrays are kept under names, not {found(array)} under {name!r}")
        self.kept[name] = array


def walk(value: Any, visit: Callable[[Any], Any], seen: dict[int, Any]) -> Any:
    """`value`, with each array that it leads to, by containers and attributes, replaced by what `visit` returns.

    `visit` is also shown each container and object on the way.
    """
    if isinstance(value, np.ndarray):
        return visit(value)
    inside: Any = value if isinstance(value, (dict, list, tuple, set)) else getattr(value, "__dict__", None)
    if not isinstance(inside, (dict, list, tuple, set)) or isinstance(value, ModuleType):
        return value
    if id(value) not in seen:
        seen[id(value)] = value, value  # the first, so that no other object has its id
        visit(value)
        parts = list(inside.items() if isinstance(inside, dict) else enumerate(inside))
        changed = {key: new for key, part in parts if (new := walk(part, visit, seen)) is not part}
        if changed and isinstance(inside, tuple):
            new = [changed.get(i, part) for i, part in parts]
            seen[id(value)] = value, value._make(new) if hasattr(value, "_make") else tuple(new)
        else:
            for key, part in changed.items():
                inside[key] = part  # type: ignore[index]
    return seen[id(value)][1]


# --- What layers return, which users write ------------------------------------------------------------------


def call_forward(layer: Any, x: NDArray[Any], shape: tuple[int, ...]) -> tuple[NDArray[Any], Any]:
    """``layer.forward(x)``, or a ShapeError unless that is an array (N, *shape) and a cache."""
    returned = layer.forward(x) if _is_ours(layer.__class__) else _forward_of_user(layer, x)
    out: Any = returned[0] if type(returned) is tuple and len(returned) == 2 else None
    if not is_array(out) or out.shape != (len(x), *shape):
        wanted = f"(out, cache), with out of its output_shape, an array {(len(x), *shape)}"
        raise ShapeError(f"{layer}.forward must return {wanted}, not {found(returned if out is None else out)}")
    return returned


def _forward_of_user(layer: Any, x: NDArray[Any]) -> Any:
    """``layer.forward(x)``, which may not write into the images or into what the layer before keeps for backward."""
    x = x.view()
    x.flags.writeable = False
    try:
        return layer.forward(x)
    except ValueError as error:
        if "read-only" not in str(error):
            raise
        raise ShapeError(f"{layer}.forward must not write into its input: make a new array") from error


def call_backward(layer: Any, dout: Any, cache: Any, shape: tuple[int, ...], need_dx: bool) -> Any:
    """``layer.backward(dout, cache)``, or with `need_dx` a ShapeError unless that is an array of `shape`."""
    dx = layer.backward(dout, cache, **({"need_dx": need_dx} if _takes_need_dx(layer.__class__) else {}))
    if need_dx and (not is_array(dx) or dx.shape != shape):
        raise ShapeError(f"{layer}.backward must return dx of the shape of x, an array {shape}, not {found(dx)}")
    return dx


@functools.cache
def _is_ours(kind: Any) -> bool:
    return bool(kind.__module__ == "siamese_np.layers")


@functools.cache
def _takes_need_dx(kind: Any) -> bool:
    parameters = inspect.signature(kind.backward).parameters.values()
    return any(parameter.name == "need_dx" or parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)


# --- Caches: what backward is given must be what the owner's own forward makes, for kernels trust it --------


def cache_parts(owner: object, cache: Any, kind: type[tuple[Any, ...]] | type[list[Any]], count: int) -> Any:
    """`cache`, if it is a `kind` (tuple or list) of `count` parts; else a ShapeError."""
    if type(cache) is not kind or len(cache) != count:
        raise ShapeError(f"{_needs(owner)}, a {kind.__name__} of {count}, not {found(cache)}")
    return cache


def cache_array(
    owner: object,
    name: str,
    array: Any,
    shape: Sequence[int | None] | None,
    dtype: DTypeLike | None = None,
) -> NDArray[Any]:
    """`array`, if C-contiguous and of `shape` and `dtype` (None: float32 or float64).

    None for `shape` admits any, None within it any length.
    """
    if (
        type(array) is not np.ndarray
        or (array.dtype not in FLOATS if dtype is None else array.dtype != dtype)
        or (array.shape != shape and not _fits(array.shape, shape))
        or not array.flags.c_contiguous
    ):
        dtypes = FLOATS if dtype is None else (np.dtype(dtype),)
        lengths = "" if shape is None else f" ({', '.join('any' if n is None else str(n) for n in shape)})"
        wanted = f"{name} a C-contiguous array{lengths} of {_names(dtypes)}"
        raise ShapeError(f"{_needs(owner)}, with {wanted}, not {found(array)}")
    return array


def cache_shape(owner: object, cache: Any) -> tuple[int, ...]:
    """`cache`, if it is the shape of a batch."""
    if type(cache) is not tuple or len(cache) < 2 or any(type(length) is not int or length < 0 for length in cache):
        raise ShapeError(f"{_needs(owner)}, with the shape of its input, not {found(cache)}")
    return cache


def cache_argmax(owner: object, argmax: Any, shape: tuple[int, ...], dtype: DTypeLike, count: int) -> NDArray[Any]:
    """`argmax`, if it is such an array of numbers from 0 to `count` - 1."""
    argmax = cache_array(owner, "argmax", argmax, shape, dtype)
    signed = argmax.dtype.kind == "i"
    if argmax.size and (argmax.max() >= count or (signed and argmax.min() < 0)):
        raise ShapeError(f"{_needs(owner)}, with every argmax below {count}, not from {argmax.min()} to {argmax.max()}")
    return argmax


def _fits(given: tuple[int, ...], shape: Sequence[int | None] | None) -> bool:
    if shape is None:
        return True
    differing = [n for n, length in zip(shape, given, strict=False) if n not in (None, length)]
    return len(given) == len(shape) and not differing


def _needs(owner: object) -> str:
    return f"{owner} needs the cache that its own forward returned"


def _names(dtypes: Sequence[np.dtype[Any]]) -> str:
    return " or ".join(str(dtype) for dtype in dtypes)


def found(value: Any) -> str:
    """What `value` is, in a few words, for the end of a sentence."""
    if isinstance(value, np.ndarray):
        layout = "" if value.flags.c_contiguous else ", not C-contiguous"
        return f"{type(value).__name__} {value.shape} of {value.dtype}{layout}"
    return f"a {type(value).__name__} of {len(value)}" if isinstance(value, (tuple, list)) else type(value).__name__


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
        raise OptionError(f"the margin must be a finite number above 0, not {margin!r}")
    if not MIN_MARGIN <= number <= MAX_MARGIN:
        raise OptionError(f"the margin must be from {MIN_MARGIN:g} to {MAX_MARGIN:g}, not {margin!r}")
    return number


def check_threshold(threshold: Any) -> float:
    """`threshold` as a number that is not NaN, or an OptionError."""
    number = as_number(threshold)
    if np.isnan(number):
        raise OptionError(f"the threshold must be a number in the units of the distances, not {threshold!r}")
    return number


def check_saved_threshold(threshold: Any) -> float:
    """`threshold` as one that a model can keep, a finite number of at least 0, or an OptionError."""
    number = as_number(threshold)
    if not 0 <= number < np.inf:
        raise OptionError(f"threshold must be a finite number of at least 0, not {threshold!r}")
    return number


def check_class_names(names: Any) -> list[str] | None:
    """`names` as a list, or an OptionError unless all are text; None where there are none."""
    if names is None:
        return None
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
        raise OptionError(f"class names must be a list of text, not {names!r}")
    return list(names)


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


def check_finite(images: NDArray[Any], count: int | None = None) -> NDArray[Any]:
    """`images`, batches of `count` (None: one batch), or a ShapeError where one is not finite."""
    # part of every step: the extremes show a NaN or infinity, and need no array of booleans
    if images.size and not (math.isfinite(images.max()) and math.isfinite(images.min())):
        bad = int(np.isfinite(images.reshape(len(images), -1)).all(axis=1).argmin()) % (count or len(images))
        raise ShapeError(f"image {bad} holds NaN or infinity; every pixel must be a finite number")
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
    return classes if text else np.ascontiguousarray(classes, np.int64)


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


def check_rows(name: str, rows: Any, shape: tuple[int | None, ...], count: int) -> NDArray[Any]:
    """`rows` as an array of `shape` (None: any length) of row numbers from 0 to `count` - 1, or a ShapeError."""
    rows = as_array(name, rows)
    if not _fits(rows.shape, shape) or rows.dtype.kind not in "iu":
        lengths = ", ".join("any" if length is None else str(length) for length in shape)
        raise ShapeError(f"{name} must be an array ({lengths}) of row numbers, not {rows.dtype} {rows.shape}")
    wrong = np.argwhere((rows < 0) | (rows >= count))
    if len(wrong):
        at = wrong[0].tolist()
        raise ShapeError(f"{name} must hold row numbers from 0 to {count - 1}, but {name}{at} is {rows[tuple(at)]}")
    return rows
