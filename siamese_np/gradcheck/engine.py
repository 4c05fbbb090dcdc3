"""The check of one case from beginning to end, and of several into a report."""

import contextlib
import sys
import time
import warnings
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from siamese_np.gradcheck import budget
from siamese_np.gradcheck.budget import Meter, Stopped
from siamese_np.gradcheck.calls import seeded
from siamese_np.gradcheck.case import FAIL, INCONCLUSIVE, PASS, Arrays, Broken, Case, Check, check_branches
from siamese_np.gradcheck.contract import check_contract
from siamese_np.gradcheck.entries import check_array
from siamese_np.gradcheck.hints import hint
from siamese_np.gradcheck.independent import SINGLE_ADJOINT, check_adjoint, check_complex, check_jvp, check_single
from siamese_np.gradcheck.kinks import check_directions
from siamese_np.gradcheck.measure import TOLERANCE, check_seed, check_tolerance
from siamese_np.gradcheck.point import SAME_BITS, Point
from siamese_np.gradcheck.report import CaseResult, Entry, Report
from siamese_np.gradcheck.structure import OTHERS, check_structure, start
from siamese_np.gradcheck.taylor import check_taylor
from siamese_np.gradcheck.unchecked import check_owner
from siamese_np.gradcheck.undecided import reasons


@dataclass(frozen=True)
class Options:
    """How to check; fields are as the parameters of `siamese_np.gradcheck.check_gradients`."""

    seed: int = 0
    tolerance: float = TOLERANCE
    strict: bool = False
    reseed: bool = False
    entries: int | None = None
    seconds: float | None = None
    progress: bool = False

    def __post_init__(self) -> None:
        check_tolerance(self.tolerance)
        check_seed(self.seed)
        budget.check_limits(self.entries, self.seconds)

    def meter(self, cases: int = 1) -> Meter:
        """What counts the calls of so many cases, and limits them."""
        return Meter(self.entries, self.seconds, self.progress, cases)


DEFAULT = Options()


def estimate(case: Case, options: Options = DEFAULT) -> budget.Expected:
    """How many forward calls the check of `case` takes, and how many seconds, estimated from one call."""
    case.run()  # the first may compile something
    start = time.perf_counter()
    out = case.run()[0]
    return budget.expected(case, out.size, options.entries, time.perf_counter() - start)


def check_case(case: Case, options: Options = DEFAULT, meter: Meter | None = None) -> CaseResult:
    """Check one case; what it draws at random depends on the seed and its name alone.

    Ctrl-C, or the end of the time given, ends the check: what was found until then is the result.
    """
    meter = meter or options.meter()
    calls, start = meter.calls, time.perf_counter()
    rng = np.random.default_rng([options.seed, zlib.crc32(case.name.encode())])
    if options.reseed:
        case = replace(case, forward=seeded(options.seed)(case.forward))
    case = replace(case, strict=case.strict or options.strict)
    result = CaseResult(case.name, case.strict, notes=list(case.notes))
    try:
        # what the code prints must not mix with our output, and what it warns of, the checks find
        with (
            case.restored(),
            contextlib.redirect_stdout(sys.stderr),
            np.errstate(all="ignore"),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore", RuntimeWarning)  # as of the mean of an empty batch
            _check(meter.counted(case), rng, options, result, meter)
    except Broken as error:
        result.checks.append(Check("calls", error.verdict, str(error)))
    except (Stopped, KeyboardInterrupt) as error:
        result.checks.append(Check("calls", INCONCLUSIVE, f"{meter.stop(error)}: the gradients were not reached"))
    result.calls, result.seconds = meter.calls - calls, time.perf_counter() - start
    result.stopped = meter.stopped
    return result


def _adjoint_tolerance(case: Case, options: Options) -> float:
    """What other people's passes may be wrong by where only rounding should be: more if more was asked for."""
    if case.strict:
        return 0.0
    return options.tolerance if options.tolerance > TOLERANCE else OTHERS


def _check(case: Case, rng: np.random.Generator, options: Options, result: CaseResult, meter: Meter) -> None:
    if not any(array.size for array in case.arrays.values()):
        raise Broken("there is nothing to check: no numbers that the output could depend on", INCONCLUSIVE)
    out, dout, gradients, left_alone = start(case, rng)
    result.add(left_alone)
    point = Point(case, out, dout, gradients, options.tolerance)
    if point.single:
        result.precision = "float32"
        result.notes.append(f"in float32: errors up to {point.tolerance:.1g}, or up to its rounding, pass")
    if case.reference_backward is not None:
        point.convention = case.reference_backward(case.arrays, dout)
    if case.signature is not None:
        point.signature = case.signature(case.arrays)
        result.checks.append(check_branches(point.signature, case.branches))

    meter.show(case, out)
    result.arrays += [check_array(point, name, rng, meter) for name in case.arrays]
    exact: Arrays = {}

    def directions() -> list[Check | None]:
        alone = all(array.verdict == PASS and array.checked == array.total for array in result.arrays)
        through_all, ties, result.taylor = check_directions(point, rng)
        return [
            _directions("directions", through_all, len(through_all) // 2, alone),
            _directions("ties and kinks moved together", ties, 0) if ties else None,
            check_taylor(result.taylor, through_all[0]),
        ]

    def complex_step() -> list[Check | None]:
        check, found = check_complex(point)
        exact.update(found)
        return [check]

    stages: dict[str, Callable[[], Sequence[Check | None]]] = {
        "directions through all arrays": directions,
        "structure": lambda: [*check_structure(point), *check_contract(point)],
        "adjoint identity": lambda: [
            check_adjoint(case, rng, SINGLE_ADJOINT if point.single else SAME_BITS, _adjoint_tolerance(case, options)),
            check_jvp(point),
        ],
        "complex step": complex_step,
        "float32": lambda: check_single(point, rng),
        "further checks": case.extra or list,
        "arrays of the layer": lambda: [check_owner(point)] if case.owner is not None else [],
    }
    missing = []
    for name, stage in stages.items():
        try:
            if meter.stopped:
                raise Stopped
            result.add(*filter(None, stage()))
        except (Stopped, KeyboardInterrupt) as error:
            meter.stop(error)
            missing.append(name)
    if missing:
        result.checks.append(Check("all reached", INCONCLUSIVE, f"{meter.stopped}: without {', '.join(missing)}"))
    for array in result.arrays:
        for entry in array.worst:
            if array.name in exact and not isinstance(entry.index, str):
                entry.complex_step = float(exact[array.name][entry.index])
        if array.verdict == FAIL:
            with contextlib.suppress(Stopped):
                array.hint = hint(point, array)


def _directions(name: str, entries: list[Entry], may_skip: int, alone: bool = False) -> Check:
    """One check of many directions, of which so many may remain undecided.

    Those that are right to a thousandth do not count where each entry was compared alone.
    """
    wrong = [entry for entry in entries if entry.verdict == FAIL]
    undecided = [entry for entry in entries if entry.verdict == INCONCLUSIVE and not (alone and entry.nearly)]
    if not wrong and len(undecided) <= may_skip:
        return Check(name, PASS)
    worst = (wrong or undecided)[0]
    said, slope = worst.numbers(6)
    remark = f"{len(wrong or undecided)} of {len(entries)}; along {worst.index}: {said}, measured {slope}"
    if wrong:
        return Check(name, FAIL, remark)
    return Check(name, INCONCLUSIVE, f"{remark}: {reasons([e.remark for e in undecided], 'the arrays')}")


def check_cases(operations: Mapping[str, Iterable[Case]], options: Options = DEFAULT) -> Report:
    """Check the cases of each operation, in order, into one report."""
    cases = [(name, case) for name, found in operations.items() for case in found]
    results: dict[str, list[CaseResult]] = {name: [] for name in operations}
    meter = options.meter(len(cases))
    try:
        for name, case in cases:
            results[name].append(check_case(case, options, meter))
            meter.cases -= 1
    finally:
        meter.close()
    return Report(results, options.seed, options.tolerance)
