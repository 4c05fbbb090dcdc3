"""Arrays by name that stay the same arrays, and the walk through all that an object holds."""

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siamese_np._checks import FLOATS, as_array, found, is_array
from siamese_np.errors import ShapeError


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
            names = ", ".join(map(str, arrays)) if isinstance(arrays, Mapping) else found(arrays)
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
