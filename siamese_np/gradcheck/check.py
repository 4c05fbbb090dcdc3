"""The check of one case from beginning to end, of several into a report; and of a layer, a loss or functions."""

import contextlib
import sys
import zlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from siamese_np.errors import OptionError
from siamese_np.gradcheck.adapters import (
    expect_float64,
    floats,
    function_case,
    is_loss,
    layer_case,
    loss_case,
    parameters,
)
from siamese_np.gradcheck.case import FAIL, INCONCLUSIVE, PASS, Broken, Case, Check, check_branches
from siamese_np.gradcheck.entries import Point, check_array
from siamese_np.gradcheck.hints import hint
from siamese_np.gradcheck.independent import check_adjoint, check_complex, check_single
from siamese_np.gradcheck.kinks import check_directions
from siamese_np.gradcheck.measure import TOLERANCE, check_tolerance
from siamese_np.gradcheck.report import CaseResult, Entry, Report
from siamese_np.gradcheck.structure import check_structure, start
from siamese_np.gradcheck.unchecked import check_owner


def check_gradients(
    target: Any,
    *arrays: ArrayLike,
    backward: Callable[..., Any] | None = None,
    seed: int = 0,
    tolerance: float = TOLERANCE,
) -> Report:
    """Check the backward pass of a layer, of a loss or of a pair of functions at the point `arrays`.

    Parameters
    ----------
    target : object or callable
        A layer: ``forward(x) -> (out, cache)``, ``backward(dout, cache) -> dx`` and, where it has parameters,
        ``params`` and ``grads``, dicts (or lists) of float64 arrays; backward adds into grads, or writes them. Other
        arrays of the layer that the output depends on are named, and the verdict is at best INCONCLUSIVE. Or a loss:
        ``forward(emb, classes) -> (value, cache)`` or ``forward(dist, label)``, and ``backward(cache)``. Or,
        together with `backward`, a function ``target(*arrays) -> (out, cache)``; all else it uses is constant.
    *arrays : array_like
        The input of the layer, its first axis the batch; or the two arguments of the loss, of which the second is
        constant; or the arguments of the function. Real numbers, copied as float64.
    backward : callable, optional
        ``backward(dout, cache)`` returns the gradient of each of the arrays.
    seed : int
        Of the upstream gradient and all directions: the same seed gives the same report.
    tolerance : float, default 1e-6
        Largest error that passes, in [1e-9, 0.1): relative to the larger of the analytic and the numeric slope.
        Entries below a tenth of the largest in their array are held to it as far as differences can tell; those
        too small to be told to a thousandth are counted, and more than 5 % of them make INCONCLUSIVE.

    Returns
    -------
    Report
        Printed, it is a table; ``report.verdict`` is ``"PASS"``, ``"FAIL"`` or ``"INCONCLUSIVE"``.

    Raises
    ------
    OptionError, ShapeError
        The arguments are not as above. A fault of the pass itself is never raised but reported.

    Examples
    --------
    >>> import numpy as np
    >>> from siamese_np.gradcheck import check_gradients
    >>> check_gradients(lambda x: (np.sin(x), x), [0.1, 2.0], backward=lambda dout, x: dout * np.cos(x)).verdict
    'PASS'
    """
    if backward is None and is_loss(target):
        name = type(target).__name__
        if len(arrays) != 2:
            form = ", ".join(p.name for p in parameters(target.forward))
            raise OptionError(
                f"the loss {name} is checked at the two arrays of its forward({form}), not at {len(arrays)}"
            )
        case = loss_case(name, target, floats("array 0", arrays[0]), np.array(arrays[1]))
        return check_cases({name: [case]}, seed, tolerance)
    values = [floats(f"array {number}", array) for number, array in enumerate(arrays)]
    if backward is not None:
        name = getattr(target, "__name__", type(target).__name__).strip("<>")
        if not values:
            raise OptionError(f"there is nothing to check {name} at: give the arrays it is called with")
        case = function_case(name, target, backward, values)
    else:
        name = type(target).__name__
        if not (hasattr(target, "forward") and hasattr(target, "backward")):
            raise OptionError(f"a {name} has no methods forward and backward; give a function's backward as backward=")
        if len(values) != 1:
            raise OptionError(f"a layer is checked at one array, its input, not at {len(values)}")
        expect_float64(name, target)
        case = layer_case(name, target, values[0])
    return check_cases({name: [case]}, seed, tolerance)


def assert_gradients(
    target: Any,
    *arrays: ArrayLike,
    backward: Callable[..., Any] | None = None,
    seed: int = 0,
    tolerance: float = TOLERANCE,
) -> Report:
    """`check_gradients` for tests: anything but PASS is an AssertionError with the table of the worst entries.

    Parameters and return value are those of `check_gradients`.

    Raises
    ------
    AssertionError
        The verdict is FAIL or INCONCLUSIVE; the message is the report.
    """
    report = check_gradients(target, *arrays, backward=backward, seed=seed, tolerance=tolerance)
    if not report.passed:
        raise AssertionError(f"gradient check: {report.verdict}\n{report}")
    return report


def check_case(case: Case, seed: int = 0, tolerance: float = TOLERANCE) -> CaseResult:
    """Check one case; what it draws at random depends on `seed` and its name alone."""
    rng = np.random.default_rng([seed, zlib.crc32(case.name.encode())])
    result = CaseResult(case.name)
    before = {name: array.copy() for name, array in case.arrays.items()}
    try:
        # what the code prints must not mix with our output, and what it warns of, the checks find
        with contextlib.redirect_stdout(sys.stderr), np.errstate(all="ignore"):
            _check(case, rng, tolerance, result)
    except Broken as error:
        result.checks.append(Check("calls", error.verdict, str(error)))
    finally:
        for name, array in before.items():
            case.arrays[name][...] = array
    return result


def _check(case: Case, rng: np.random.Generator, tolerance: float, result: CaseResult) -> None:
    if not any(array.size for array in case.arrays.values()):
        raise Broken("there is nothing to check: no numbers that the output could depend on", INCONCLUSIVE)
    out, dout, gradients = start(case, rng)
    point = Point(case, out, dout, gradients, tolerance)
    if case.reference_backward is not None:
        point.convention = case.reference_backward(case.arrays, dout)
    if case.signature is not None:
        point.signature = case.signature(case.arrays)
        result.checks.append(check_branches(point.signature, case.branches))

    result.arrays += [check_array(point, name, rng) for name in case.arrays]
    through_all, ties = check_directions(point, rng)
    result.checks.append(_directions("directions", through_all, len(through_all) // 2))
    if ties:
        result.checks.append(_directions("ties and kinks moved together", ties, 0))

    structure, result.notes = check_structure(point)
    complex_check, exact = check_complex(point)
    found = [check_adjoint(case, rng), complex_check, *check_single(point, rng)]
    result.checks += structure + [check for check in found if check is not None]
    if case.extra is not None:
        result.checks += case.extra()
    if case.owner is not None:
        result.checks.append(check_owner(point))
    for array in result.arrays:
        for entry in array.worst:
            if array.name in exact and not isinstance(entry.index, str):
                entry.complex_step = float(exact[array.name][entry.index])
        if array.verdict == FAIL:
            array.hint = hint(point, array)


def _directions(name: str, entries: list[Entry], may_skip: int) -> Check:
    """One check of many directions, of which so many may remain undecided."""
    wrong = [entry for entry in entries if entry.verdict == FAIL]
    undecided = [entry for entry in entries if entry.verdict == INCONCLUSIVE]
    if not wrong and len(undecided) <= may_skip:
        return Check(name, PASS)
    worst = (wrong or undecided)[0]
    slope = f"{worst.numeric:.6g}" if worst.low is None else f"in [{worst.low:.6g}, {worst.high:.6g}]"
    remark = f"{len(wrong or undecided)} of {len(entries)}; along {worst.index}: {worst.analytic:.6g}, measured {slope}"
    return Check(name, FAIL if wrong else INCONCLUSIVE, remark)


def check_cases(operations: Mapping[str, Iterable[Case]], seed: int = 0, tolerance: float = TOLERANCE) -> Report:
    """Check the cases of each operation, in order, into one report."""
    check_tolerance(tolerance)
    found = {name: [check_case(case, seed, tolerance) for case in cases] for name, cases in operations.items()}
    return Report(found, seed, tolerance)
