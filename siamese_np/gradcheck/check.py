"""The check of one case from beginning to end, and of several into a report."""

import contextlib
import sys
import zlib
from collections.abc import Iterable, Mapping

import numpy as np

from siamese_np.gradcheck.case import FAIL, INCONCLUSIVE, PASS, Broken, Case, Check
from siamese_np.gradcheck.entries import Point, check_tensor
from siamese_np.gradcheck.hints import hint
from siamese_np.gradcheck.kinks import check_directions
from siamese_np.gradcheck.measure import TOLERANCE, check_tolerance
from siamese_np.gradcheck.oracles import check_adjoint, check_complex, check_single
from siamese_np.gradcheck.results import CaseResult, Entry, Report
from siamese_np.gradcheck.structure import check_structure, start
from siamese_np.gradcheck.unchecked import check_owner


def check_case(case: Case, seed: int = 0, tolerance: float = TOLERANCE) -> CaseResult:
    """Check one case; what it draws at random depends on `seed` and its name alone."""
    rng = np.random.default_rng([seed, zlib.crc32(case.name.encode())])
    result = CaseResult(case.name)
    before = {name: array.copy() for name, array in case.arrays.items()}
    try:
        # what a person's code prints must not mix with our output, and its warnings are ours to judge
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
    if case.twin_backward is not None:
        point.convention = case.twin_backward(case.arrays, dout)
    if case.signature is not None:
        point.signature = case.signature(case.arrays)
        missing = [name for value, name in case.branches.items() if value not in point.signature]
        verdict = INCONCLUSIVE if missing else PASS
        result.checks.append(Check("all branches taken", verdict, f"never: {', '.join(missing)}" if missing else ""))

    result.tensors += [check_tensor(point, name, rng) for name in case.arrays]
    through_all, ties = check_directions(point, rng)
    result.checks.append(_directions("directions", through_all, len(through_all) // 2))
    if ties:
        result.checks.append(_directions("ties and kinks moved together", ties, 0))

    structure, result.notes = check_structure(point)
    complex_check, oracle = check_complex(point)
    found = [check_adjoint(case, rng), complex_check, *check_single(point, rng)]
    result.checks += structure + [check for check in found if check is not None]
    if case.extra is not None:
        result.checks += case.extra()
    if case.owner is not None:
        result.checks.append(check_owner(point))
    for tensor in result.tensors:
        for entry in tensor.worst:
            if tensor.name in oracle and not isinstance(entry.index, str):
                entry.oracle = float(oracle[tensor.name][entry.index])
        if tensor.verdict == FAIL:
            tensor.hint = hint(point, tensor)


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
