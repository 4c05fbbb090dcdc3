"""What is checked: one forward and backward pass, the arrays it depends on, and what else is known about it.

Whatever a user's code may do wrong before its numbers can be compared is caught here, each with a sentence of its
own: it raises, returns the wrong number of arrays, a wrong shape or dtype, NaN.
"""

import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siamese_np.errors import ShapeError

PASS, FAIL, INCONCLUSIVE = "PASS", "FAIL", "INCONCLUSIVE"
ENOUGH = 1e-3  # an error so small shows that a slope is right, where nothing finer can be measured
TOO_COARSE = "too coarse for differences: it must keep its input's dtype"

Array = NDArray[Any]
Arrays = dict[str, Array]
Floats = NDArray[np.float64]
Shape = tuple[int, ...]


def worst_verdict(verdicts: Iterable[str]) -> str:
    """FAIL before INCONCLUSIVE before PASS; nothing checked is inconclusive."""
    verdicts = list(verdicts)
    if FAIL in verdicts:
        return FAIL
    return INCONCLUSIVE if INCONCLUSIVE in verdicts or not verdicts else PASS


class Broken(Exception):
    """The pass is at fault (FAIL), or cannot be checked further (INCONCLUSIVE); the message is one sentence on why."""

    def __init__(self, sentence: str, verdict: str = FAIL) -> None:
        super().__init__(sentence)
        self.verdict = verdict


@dataclass
class Check:
    """The outcome of a check of something else than entries: structure, adjoint, complex step, float32 ..."""

    name: str
    verdict: str
    remark: str = ""
    contract: bool = False  # says nothing about the numbers: counts where a case is strict, and is a note elsewhere


def check_branches(taken: Array, branches: Mapping[int, str]) -> Check:
    """Whether each of `branches` is taken somewhere; else it was not checked."""
    missing = [name for value, name in branches.items() if value not in taken]
    remark = f"never: {', '.join(missing)}; other values take them" if missing else ""
    return Check("all branches taken", INCONCLUSIVE if missing else PASS, remark)


@dataclass
class Case:
    """One pass at one point. `arrays` are live: the checks change them in place and put them back."""

    name: str  # what is checked and where, such as "conv2d stride (2, 1)"
    arrays: Arrays  # float64: all that the output depends on
    forward: Callable[[Arrays], tuple[Any, Any]]  # takes a dict like `arrays`, returns (out, cache)
    backward: Callable[[Array, Any], Mapping[str, Any]]  # takes (dout, cache), returns the gradients by name
    zero: Callable[[], None] = lambda: None  # called before each `backward`, for gradients that are added to
    inputs: tuple[str, ...] = ()  # what `forward` is given copies of; the others, parameters, live on the layer
    batch: bool = False  # whether the first axis of the inputs, and of the output, is the batch
    strict: bool = False  # whether contract.py is required, and what is computed twice must have the same bits
    # an independent pass, safe for complex numbers; at kinks its gradients are the declared convention
    reference: Callable[[Arrays], Array] | None = None
    reference_backward: Callable[[Arrays, Array], Arrays] | None = None  # takes dout too
    # the branch of each element: the function is smooth where it does not change; and names of those that must be taken
    signature: Callable[[Arrays], NDArray[np.integer]] | None = None
    branches: Mapping[int, str] = field(default_factory=dict)
    reductions: Mapping[str, int] = field(default_factory=dict)  # terms added up in each entry of "out", of a gradient
    single: "Callable[[Arrays], Case] | None" = None  # makes the same pass in float32
    invariant: tuple[str, ...] = ()  # arrays that the output is known not to depend on: their gradient is 0
    extra: Callable[[], list[Check]] | None = None  # further checks of this case alone, run at its point
    jvp: Callable[[tuple[Array, ...], tuple[Array, ...]], Any] | None = None  # J v, of arrays and directions
    owner: Any = None  # the layer: other arrays of it that the output depends on are named as not checked
    fresh: bool = False  # whether each forward pass is made with a copy of the layer: branches share no gradients
    notes: list[str] = field(default_factory=list)  # said in any event: how it was found, what is not checked

    def run(self, arrays: Arrays | None = None) -> tuple[Array, Any]:
        """Output and cache for `arrays` (by default those of the point, with inputs copied)."""
        result = _call("forward", self.forward, self.with_inputs() if arrays is None else arrays)
        if not (isinstance(result, tuple) and len(result) == 2):
            raise Broken(f"forward must return (out, cache), but it returned {kind(result)}", INCONCLUSIVE)
        out = as_array("forward must return one NumPy array as its output, but it", result[0])
        if not np.issubdtype(out.dtype, np.floating):
            raise Broken(f"forward must return floating-point numbers, but its output is {kind(result[0])}")
        return out if self.strict else as_double(out), result[1]

    def with_inputs(self, change: Callable[[Array], Array] = lambda array: array.copy()) -> Arrays:
        """What `forward` is given: its inputs changed, or else copied, for it may write into them."""
        return {name: change(array) if name in self.inputs else array for name, array in self.arrays.items()}

    @contextmanager
    def restored(self) -> Iterator[Arrays]:
        """Put the arrays back in the end; copies of them."""
        saved = {name: array.copy() for name, array in self.arrays.items()}
        try:
            yield saved
        finally:
            for name, array in saved.items():
                self.arrays[name][...] = array

    def gradients(self, dout: Array, cache: Any, zero: bool = True, lay: Callable[[Array], Array] = np.array) -> Arrays:
        """The gradients of all arrays, after those that are added to were set to zero (unless not `zero`).

        `backward` is given a copy of `dout`, made by `lay`.
        """
        if zero:
            _call("backward", self.zero)
        gradients, checked = _call("backward", self.backward, lay(dout), cache), {}
        for name in self.arrays:
            if name not in gradients:
                raise Broken(f"backward left no gradient of {name}")
            # a copy: the array may be added to by the next call
            gradient = as_array(f"the gradient of {name} must be a NumPy array, but it", gradients[name]).copy()
            checked[name] = gradient if self.strict else as_double(gradient)
        for name in gradients:
            if name not in self.arrays:
                raise Broken(f"backward left a gradient of {name}, but there is no array of that name")
        return checked


def _call(which: str, function: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return function(*arguments)
    except Broken:
        raise
    except (Exception, SystemExit) as error:
        verdict = INCONCLUSIVE if isinstance(error, MemoryError) else FAIL  # which says nothing of the gradient
        raise Broken(f"{which} raised {describe(error)}", verdict) from error


def expect_gradients(gradients: Arrays, arrays: Arrays, strict: bool) -> None:
    """Demand of every gradient the shape and dtype of its array, and finite numbers."""
    for name, gradient in gradients.items():
        array = arrays[name]
        if gradient.shape != array.shape:
            raise Broken(f"the gradient of {name} has shape {gradient.shape}, but {name} has shape {array.shape}")
        if gradient.dtype != array.dtype and (strict or gradient.dtype != np.float32):
            what = f"the gradient of {name} is {gradient.dtype}, but {name} is {array.dtype}"
            raise Broken(what) if strict else Broken(f"{what}, {TOO_COARSE}", INCONCLUSIVE)
        expect_finite(f"the gradient of {name}", gradient)


def as_double(array: Array) -> Array:
    """What float64 holds to its last digit (whole numbers) or beyond it (long double) as float64, all else as it is."""
    coarse = array.dtype in (np.float16, np.float32)
    return array if coarse or array.dtype.kind not in "biuf" else array.astype(np.float64, copy=False)


def expect_finite(what: str, array: Array, verdict: str = FAIL) -> None:
    """Demand finite numbers, else the `verdict`."""
    bad = ~np.isfinite(array)
    if bad.any():
        at = tuple(int(i) for i in np.argwhere(bad)[0]) if array.ndim else ()
        value = "NaN" if np.isnan(array[at]) else "infinity"
        where = f" at {list(at)}" if at else ""
        raise Broken(f"{what} holds {value}{where} ({int(bad.sum())} of {array.size} entries are not finite)", verdict)


def two(ours: float, expected: float, digits: int = 6) -> tuple[str, str]:
    """Two numbers in words, with as many digits as tell them apart."""
    while digits < 17 and ours != expected and f"{ours:.{digits}g}" == f"{expected:.{digits}g}":
        digits += 1
    return f"{ours:.{digits}g}", f"{expected:.{digits}g}"


def as_array(sentence: str, value: Any) -> Array:
    """`value` as an array, or a ShapeError that begins with `sentence`: parts of many shapes, a foreign tensor."""
    try:
        return np.asarray(value)
    except Exception as error:
        what = f"that NumPy cannot read ({describe(error)})"
        if "inhomogeneous" in str(error):
            what = "whose parts have different shapes: flatten them and concatenate them"
        raise ShapeError(f"{sentence} is {kind(value)} {what}") from error


def kind(value: Any) -> str:
    """What `value` is, in a few words."""
    if isinstance(value, np.ndarray):
        return f"an array {value.shape} of {value.dtype}"
    if isinstance(value, (tuple, list)):
        return f"a {type(value).__name__} of {len(value)}"
    return "None" if value is None else f"a {type(value).__name__}"


def describe(error: BaseException) -> str:
    """An exception in one line, and where in the user's code it came from, outside installed packages."""
    message = f"{type(error).__name__}: {error}".splitlines()[0].rstrip(": ")
    here = str(Path(__file__).parent)
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if "site-packages" not in frame.filename and not frame.filename.startswith((here, "<")):
            return f"{message} ({Path(frame.filename).name}, line {frame.lineno})"
    return message
