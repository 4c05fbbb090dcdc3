"""How a forward and a backward pass are called, and what they return.

What each argument is, is told by its kind: floats are checked, and all else (labels, settings, None) is handed on as
it is. What forward returns and backward takes is told by number and name, and tried once (`ways`).
"""

import contextlib
import inspect
import random
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from siamese_np.errors import ShapeError
from siamese_np.gradcheck.case import INCONCLUSIVE, Array, Broken, as_array, kind
from siamese_np.gradcheck.objects import arrays_of

WHAT = "out|in|val|loss|score|logit|pred|prob|hid|state|cell|next|prev|act|emb|dist"  # as in dout, dvalues, dnext_h
DOUT = re.compile(rf"_*(d$|d[A-Z_]|(?i:d(?!im)\w{{1,2}}$|d({WHAT})|grad|delta|err|upstream))")
CACHE = re.compile(r".*(cache|ctx|context|saved|memory|tape|residual|intermediate)", re.I)
LABELS = re.compile(
    r"(?!.*(pred|hat|score|prob|logit))(y|t|target|label|class|truth|ground|gt|one_?hot)(s|es)?(_\w+)?$", re.I
)
RATE = re.compile(r"(lr|eta|learning_?rate|step_?size)$", re.I)
OUT = ("out", "output", "outputs")

Key = tuple[Any, ...]  # where a gradient is in what backward returned


def arguments(forward: Callable[..., Any], values: Sequence[Any]) -> dict[str, Any]:
    """The arguments of `forward` by name; floating-point numbers, which are checked, as float64 arrays."""
    names = argument_names(forward, len(values))
    return {name: _argument(f"array {i}", v) for i, (name, v) in enumerate(zip(names, values, strict=True))}


def _argument(what: str, value: Any) -> Any:
    if isinstance(value, (bool, int)) or not (isinstance(value, (list, tuple, float)) or hasattr(value, "__array__")):
        return value
    if isinstance(value, (list, tuple)) and any(getattr(part, "ndim", 0) for part in value):
        return value  # parameters in a row
    array = as_array(f"{what} must hold numbers, but it", value)
    return value if array.dtype.kind in "iub" and array.size else floats(what, value)


def floats(what: str, array: Any) -> Array:
    """A float64 copy of `array`, or a ShapeError."""
    array = as_array(f"{what} must hold numbers, but it", array)
    if not (np.issubdtype(array.dtype, np.floating) or np.issubdtype(array.dtype, np.integer)):
        raise ShapeError(f"{what} must hold real numbers, not {array.dtype}")
    array = np.array(array, np.float64, order="C")
    if not np.isfinite(array).all():
        raise ShapeError(f"{what} must hold finite numbers, but it holds NaN or infinity")
    return array


def parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    """The parameters of `function`; none where Python does not know them."""
    try:
        return list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return []


def argument_names(function: Callable[..., Any], count: int) -> list[str]:
    """The names of the first `count` parameters of `function`, or x0, x1, ..."""
    named = [p.name for p in parameters(function) if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return named[:count] if len(named) >= count else [f"x{number}" for number in range(count)]


def is_checked(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype == np.float64


def is_box(value: Any) -> bool:
    """Whether an argument, or what backward returned, may hold several arrays: a dict, list or tuple."""
    return isinstance(value, (Mapping, list, tuple))


def not_checked(arrays: Mapping[str, Any]) -> list[str]:
    """The note on arguments that are handed on as they are."""
    names = [name for name, value in arrays.items() if not is_checked(value) and not arrays_of(value)]
    return [f"not checked, as they are no floating-point numbers: {', '.join(names)}"] if names else []


def _parts(outs: Any) -> list[Any] | None:
    """The arrays that several outputs are; None where there is one output."""
    if isinstance(outs, Mapping):
        return list(outs.values())
    if isinstance(outs, (tuple, list)) and any(getattr(part, "ndim", 0) for part in outs):
        return list(outs)
    return None


def joined(outs: Any) -> Any:
    """Several outputs as one vector; one output as it is."""
    parts = _parts(outs)
    if parts is None:
        return outs
    sentence = "forward must return arrays as its outputs, but one"
    return np.concatenate([np.ravel(as_array(sentence, part)) for part in parts])


def split(dout: Array, outs: Any) -> Any:
    """The vector `dout` as what `outs` is: an array, or a tuple, list or dict of arrays."""
    parts = _parts(outs)
    if parts is None:
        return dout
    ends = np.cumsum([np.size(part) for part in parts])
    each = [d.reshape(np.shape(part)) for d, part in zip(np.split(dout, ends[:-1]), parts, strict=True)]
    return dict(zip(outs, each, strict=True)) if isinstance(outs, Mapping) else type(outs)(each)


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """The global generators, which many layers draw their numbers from, seeded for a while."""
    state, other = np.random.get_state(), random.getstate()  # noqa: NPY002
    np.random.seed(seed % 2**32)  # noqa: NPY002
    random.seed(seed)
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "manual_seed"):
        torch.manual_seed(seed)
    try:
        yield
    finally:
        np.random.set_state(state)  # noqa: NPY002
        random.setstate(other)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """What the user's code prints goes to standard error, and what it draws at random is always the same."""
    with contextlib.redirect_stdout(sys.stderr), np.errstate(all="ignore"), seeded(0):
        yield


@dataclass(frozen=True)
class Way:
    """One way to read what forward returns, and to call backward.

    The first `outputs` of the parts that forward returned are outputs, and the cache comes after them; None: all is
    output, and there is no cache. `sources` are the arguments of backward: ``"dout"``, or its number where each output
    has its own, ``"cache"``, ``"out"``, ``"rate"`` (a learning rate), ``"=NAME"``, an argument of forward, or ``"="``,
    what the object keeps as its output.
    """

    outputs: int | None
    sources: tuple[str | int, ...]

    @property
    def uses_dout(self) -> bool:
        return any(source == "dout" or isinstance(source, int) for source in self.sources)

    def outs(self, result: Any) -> Any:
        if self.outputs is None:
            return result
        return result[0] if self.outputs == 1 else result[: self.outputs]

    def call(self, backward: Callable[..., Any], dout: Array, result: Any, arrays: Mapping[str, Any]) -> Any:
        outs = self.outs(result)
        douts = split(dout, outs)
        rest: Any = result[self.outputs :] if "cache" in self.sources else ()
        known = {"dout": douts, "out": outs, "rate": 1.0, "cache": rest[0] if len(rest) == 1 else rest}
        known |= {f"={name}": value for name, value in arrays.items()}
        return backward(*(douts[source] if isinstance(source, int) else known[source] for source in self.sources))

    def __str__(self) -> str:
        names = {"rate": "1.0", "=": "output"}
        given = [f"dout{s}" if isinstance(s, int) else names.get(s, s.removeprefix("=")) for s in self.sources]
        return f"({', '.join(given)})"


def ways(result: Any, backward: Callable[..., Any], names: Sequence[str]) -> Iterator[Way]:
    """The ways to call `backward` after forward, with arguments `names`, returned `result`; the likeliest first."""
    given = parameters(backward)
    wanted = [p.name for p in given if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    wanted = wanted or [p.name for p in given[:1] if p.kind != p.VAR_KEYWORD and DOUT.match(p.name)]
    n = len(result) if isinstance(result, tuple) else 0
    if any(p.kind == p.VAR_POSITIONAL for p in given) or not (given or hasattr(backward, "__code__")):
        wanted = ["dout", "cache"] if n == 2 else ["dout"]  # nobody knows what it takes
    keeps = bool(wanted) and _may_be_cache(wanted[-1])
    takes = len(wanted)
    of_several: list[tuple[Any, int | None, tuple[str | int, ...]]] = [
        (takes == 2 and keeps, n - 1, ("dout", "cache")),
        (takes == n > 2 and keeps, n - 1, (*range(n - 1), "cache")),
        (takes == 2 < n and keeps, 1, ("dout", "cache")),
        (takes == 1 and CACHE.match(wanted[0]), n - 1, ("cache",)),
        (takes == n, None, tuple(range(n))),
        (takes == 2 and not keeps, n - 1, ("dout", "cache")),
    ]
    yield from (Way(outputs, sources) for fits, outputs, sources in of_several if n > 1 and fits)
    sources = tuple(_source(name, names if i or _may_be_cache(name) else ()) for i, name in enumerate(wanted))
    if sources.count("dout") < 2:
        whole = (None, 1) if sources else (1, None)
        for outputs in whole if n > 1 else (None,):
            yield Way(outputs, sources)
        if sources[:1] == ("dout",) and names:  # losses whose backward begins with the predictions, given or kept
            for first in (f"={names[0]}", "="):
                yield Way(1 if n > 1 else None, (first, *sources[1:]))


def _may_be_cache(name: str) -> bool:
    return not DOUT.match(name) or bool(CACHE.match(name))


def _source(name: str, names: Sequence[str]) -> str:
    if name in names:
        return f"={name}"
    return "out" if name in OUT else "rate" if RATE.match(name) else "dout"


def leaves(returned: Any, key: Key = ()) -> Iterator[tuple[Key, Any]]:
    """Every gradient in what backward returned, and where it is."""
    if is_box(returned) and not _is_vector(returned):
        items: Iterable[tuple[Any, Any]] = returned.items() if isinstance(returned, Mapping) else enumerate(returned)
        yield from (leaf for name, part in items for leaf in leaves(part, (*key, name)))
    elif returned is not None:
        yield key, returned


def _is_vector(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(part, (float, np.floating)) for part in value)


def in_order(returned: Any, arrays: Mapping[str, Any]) -> tuple[dict[str, Key], list[tuple[Key, Any]]]:
    """Which gradient is that of which argument, as they are returned in order; and what is left over.

    None stands for no gradient, and may be left out for arguments that have none.
    """
    checked = [name for name, value in arrays.items() if is_checked(value)]
    alone = not is_box(returned) or (_is_vector(returned) and len(checked) == 1)
    if alone and returned is not None and checked:
        return {checked[0]: ()}, []
    if alone or isinstance(returned, Mapping):
        return {}, list(leaves(returned))
    every = len(returned) == len(arrays) and all(
        part is None or is_checked(value) or is_box(value) or (not is_box(part) and np.shape(part) == np.shape(value))
        for value, part in zip(arrays.values(), returned, strict=True)
    )
    order = list(arrays) if every else checked
    of = {i: n for i, (n, part) in enumerate(zip(order, returned, strict=False)) if n in checked and part is not None}
    rest = [leaf for leaf in leaves(returned) if leaf[0][0] >= len(order) or is_box(arrays[order[leaf[0][0]]])]
    return {name: (i,) for i, name in of.items()}, rest


def pick(returned: Any, key: Key) -> Any:
    """The gradient at `key`; Broken where it is no longer there."""
    try:
        for part in key:
            returned = returned[part]
    except (LookupError, TypeError):
        raise Broken(f"backward changed what it returns: now {kind(returned)}", INCONCLUSIVE) from None
    return returned
