"""How a learner's function is compared with the solution: gradients, values, kernels.

``first(function)`` calls it once and raises what it raises. ``findings(function, kink)`` returns what is wrong, line by
line; `kink` is what the exercise says of points without a slope. ``shown`` are the functions that the solution shows.
"""

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from inspect import signature
from pickle import dumps
from typing import Any

import numpy as np

from siamese_np.errors import OptionError
from siamese_np.gradcheck import check_gradients
from siamese_np.gradcheck.case import FAIL, PASS, kind
from siamese_np.gradcheck.report import ArrayResult

Function = Callable[..., Any]
MAX_ENTRIES = 3  # shown of a wrong gradient
AT_KINKS = {"calls", "directions", "ties and kinks moved together"}  # the checks that a wrong value at a kink fails
Mistakes = Mapping[str, Function]
NONE: Mistakes = {}
NEARLY = "an epsilon, or a constant with too few digits"


class Gradient:
    """A backward pass: each point is ``(forward, *arrays)``, the solution a correct ``backward(dout, cache)``.

    `mistakes` are wrong ones that the checker has no hint for, by the sentence that says what is wrong.
    """

    def __init__(self, solution: Function, *points: Any, mistakes: Mistakes = NONE, shown: Sequence[Function] = ()):
        self.solution, self.points, self.mistakes, self.shown = solution, points, mistakes, [solution, *shown]

    def first(self, function: Function) -> None:
        """With the dout of all comparisons."""
        function(*_passed(self.points[0]))

    def findings(self, function: Function, kink: str) -> list[str]:
        """What the gradient checker says; at kinks, where it accepts all that is possible, what the solution says."""
        for point in self.points:
            if unfit := _unfit(function, point):
                return unfit
            (case,) = check_gradients(*point, backward=function).cases
            failed = {check.name: check.remark for check in case.checks if check.verdict == FAIL}
            if wrong := [array for array in case.arrays if array.verdict == FAIL]:
                lines = [line for array in wrong for line in self._told(array, function, point)]
                right = [f"d{array.name}" for array in case.arrays if array.verdict == PASS]
                return [*lines, *[f"right already: {', '.join(right)}"] * bool(right)]
            lines = self._compared(function, point, kink) if failed.keys() <= AT_KINKS else []
            if lines or failed:
                return lines or list(failed.values())
        return []

    def _told(self, array: ArrayResult, function: Function, point: Any) -> list[str]:
        """What is wrong with one gradient: some of the numbers, and the likely mistake."""
        entries = [entry for entry in array.worst if isinstance(entry.index, tuple)][:MAX_ENTRIES]  # no directions
        k = _names(point).index(array.name)
        mine, right = (_at(point, f)[k] for f in (function, self.solution))
        lines = [f"  d{entry.where}: yours {entry.analytic:.9g}, should be {entry.numeric:.9g}" for entry in entries]
        wrong = ~np.isclose(mine, right, rtol=1e-9, atol=1e-12)  # the checker also counts directions, as slopes
        told = f"{wrong.sum()} of {wrong.size} entries are wrong" if wrong.any() else array.remark
        hints = [sentence for sentence, f in self.mistakes.items() if np.allclose(mine, _at(point, f)[k], rtol=1e-9)]
        hints = hints or [array.hint] * (bool(array.hint) and "no simple cause" not in array.hint)
        hints = hints or [NEARLY] * np.allclose(mine, right, rtol=1e-3)
        return [f"d{array.name}: {told}", *lines, *(f"  likely: {hint}" for hint in hints)]

    def _compared(self, function: Function, point: Any, kink: str) -> list[str]:
        """The first entry that differs from the solution."""
        given, again, wanted = (_at(point, f) for f in (function, function, self.solution))
        if any(not np.array_equal(*both, equal_nan=True) for both in zip(given, again, strict=True)):
            return ["called again with the same arguments, it gives another gradient"]
        for name, mine, right in zip(_names(point), given, wanted, strict=True):
            for index in map(tuple, np.argwhere(~np.isclose(mine, right, rtol=1e-9, atol=1e-12)).tolist()):
                entry = f"d{name}{list(index)}: yours {mine[index]:.9g}, should be {right[index] + 0.0:.9g}"  # no -0
                if np.isclose(mine[index], right[index], rtol=1e-3):
                    return [entry, f"  likely: {NEARLY}"]
                where = ["  elsewhere it is right; this is a kink"] * bool(np.isfinite(mine[index]))
                return [entry, *where, *[f"  the file says: {kink}"] * bool(kink)]
        return []


def _names(point: Any) -> list[str]:
    return list(signature(point[0]).parameters)[: len(point) - 1]


def _at(point: Any, backward: Function) -> Sequence[Any]:
    """The gradients at a point, for a dout that is always the same."""
    return list(map(np.asarray, _several(backward(*_passed(point)))))


def _passed(point: Any) -> tuple[Any, Any]:
    """What backward is given at a point: a dout that is always the same, and the cache."""
    forward, *arrays = point
    out, cache = forward(*arrays)
    return np.random.default_rng(0).standard_normal(np.shape(out)), cache


def _unfit(function: Function, point: Any) -> list[str]:
    """What is wrong with the results, and with the arguments afterwards, before any number is compared."""
    arrays = dict(zip(_names(point), point[1:], strict=True))
    dout, cache = _passed(point)
    before = dumps(dout), dumps(cache)
    result = function(dout, cache)
    found = _several(result)
    if len(found) != len(arrays):
        returned = f"{len(found)} values" if isinstance(result, (tuple, list)) else kind(result)
        return [f"it must return {' and '.join(f'd{name}' for name in arrays)}, not {returned}"]
    for (name, array), gradient in zip(arrays.items(), found, strict=True):
        mine = np.asarray(gradient)
        if mine.dtype != array.dtype:
            return [f"d{name} must be an array of {array.dtype}, as {name} is, not {kind(gradient)}"]
        if mine.shape != array.shape:
            likely = _misshapen(mine.shape, array.shape, {n: a.shape for n, a in arrays.items()})
            return [f"d{name} has shape {mine.shape}, but {name} has shape {array.shape}", *likely]
    changes = "an array of its cache" if before[1] != dumps(cache) else "dout" if before[0] != dumps(dout) else ""
    return [f"it changes {changes}, which others may still need: make a new array, or work on a copy"] * bool(changes)


def _misshapen(mine: Sequence[int], right: Sequence[int], shapes: Mapping[str, Sequence[int]]) -> list[str]:
    """What a wrong shape of a gradient tells."""
    more = len(mine) - len(right)
    signs = {
        "an axis of length 1 is too many: keepdims=True, or a bracket": [n for n in mine if n != 1] == [*right],
        "it is transposed": sorted(mine) == sorted(right),
        "it is summed over all axes": not mine,
        f"it is not yet summed over the first {'axis' if more == 1 else f'{more} axes'}": tuple(mine[more:]) == right,
        "it is summed over the wrong axis": len(mine) == len(right) == 1,
        "it is empty: a slice that ends at -0 is": 0 in mine,
        "the padding is not cut off": len(mine) == len(right) == 4,
        **{f"that is the shape of {name}: the wrong order?": tuple(mine) == shape for name, shape in shapes.items()},
    }
    return [f"  likely: {sign}" for sign, seen in signs.items() if seen][:1]


class Values:
    """Any function: it returns what the solution returns, to a relative tolerance, and leaves its arguments alone."""

    def __init__(self, solution: Function, names: str, calls: Any, mistakes: Mistakes, tolerance: float = 1e-12):
        self.solution, self.shown, self.names = solution, [solution], names.split()
        self.calls, self.mistakes, self.tolerance = calls, mistakes, tolerance

    def first(self, function: Function) -> None:
        """At the first of the calls."""
        function(*map(_copy, self.calls[0]))

    def findings(self, function: Function, kink: str) -> list[str]:
        """The first result that is wrong, beginning with the last of `names`, of which the others are made."""
        for call in self.calls:
            given = [_copy(argument) for argument in call]
            found, wanted = _several(function(*given)), _several(self.solution(*call))
            if not all(np.array_equal(*both) for both in zip(call, given, strict=True)):
                return ["it changes its arguments: make new arrays, or work on a copy"]
            if len(found) != len(wanted):
                return [f"it must return {' and '.join(self.names)}, not {len(found)} values"]
            for k, name in reversed(list(enumerate(self.names))):
                mine, right = found[k], wanted[k]
                if np.shape(mine) != right.shape or not np.issubdtype(np.asarray(mine).dtype, np.floating):
                    return [f"{name} must be an array {right.shape} of floats, not {kind(mine)}"]
                off = np.nan_to_num(abs(mine - right) / abs(right).max(), nan=np.inf)
                if off.max() > self.tolerance:
                    at = np.unravel_index(off.argmax(), off.shape)
                    likely = (s for s, f in self.mistakes.items() if np.allclose(mine, _several(f(*call))[k]))
                    line = f"{name}{[int(i) for i in at]}: yours {mine[at]:.12g}, should be {right[at]:.12g}"
                    digits = f"  about {-np.log10(off.max()):.0f} digits are right"
                    return [line, *[digits] * bool(off.max() < 1e-2), *(f"  likely: {s}" for s in likely)]
        return []


def _several(result: Any) -> Sequence[Any]:
    return result if isinstance(result, (tuple, list)) else (result,)


def _copy(argument: Any) -> Any:
    return argument.copy() if isinstance(argument, np.ndarray) else argument


class Kernel:
    """A convolution for the ladder: right, and at least so many times as fast as the plain loops there."""

    def __init__(self, solution: str, times: float) -> None:
        self.solution, self.times = solution, times

    @property
    def shown(self) -> list[Function]:
        """The rung of the package; loaded only when asked for, since it needs numba."""
        function = import_module(f"siamese_np.ladder.rungs.{self.solution}").conv2d_forward
        return [getattr(function, "py_func", function)]

    def first(self, function: Function) -> None:
        """As plain Python, which says more about a mistake than compiled code and never reads beyond an array."""
        work = _work(getattr(function, "py_func", function), 4)
        work.rung.function(*work.arguments)

    def findings(self, function: Function, kink: str) -> list[str]:
        """What the ladder says of the result and of the speed."""
        from siamese_np.bench.sampling import measure, timed
        from siamese_np.ladder import operations, rung

        work, expected = _work(function, 4), operations.expected("conv2d_forward", _problem(4))
        work.rung.function(*work.arguments)  # compiled, it may raise something else
        try:
            operations.check(work.rung, _problem(4), expected)
        except OptionError as error:
            right = np.isclose(work.outputs["out"], expected["out"], rtol=1e-3, atol=1e-3)
            at_border = ["  likely: only pixels at the border are wrong; outside the image x is 0"]
            return [str(error).partition("refused: ")[2], *at_border * bool(right[:, 1:-1, 1:-1].all())]
        if not self.times:
            return []
        (plain,) = (r for r in rung.load_rungs() if (r.operation, r.name) == ("conv2d_forward", "naive njit"))
        runs = {name: timed(_work(f, None)) for name, f in (("yours", function), ("plain", plain.function))}
        timings = measure(runs, repetitions=60, seconds=0.001)
        took = {name: min(timing.samples) for name, timing in timings.items()}  # a busy machine only adds to a time
        ratio = took["plain"] / took["yours"]
        told = f"right, and {ratio:.1f} times as fast as the plain loops; {self.times:g} times is asked for"
        return [told] * (ratio < self.times)


def _problem(crop: int | None) -> Any:
    """One image for a convolution, four pixels in five of it black."""
    from siamese_np.ladder.operations import make_problem

    rng = np.random.default_rng(0)
    return make_problem(rng.random((1, 28, 28, 1)) * (rng.random((1, 28, 28, 1)) > 0.8), crop)


def _work(function: Function, crop: int | None) -> Any:
    from siamese_np.ladder.operations import Work
    from siamese_np.ladder.rung import Rung

    return Work(Rung("conv2d_forward", "yours", function), _problem(crop))
