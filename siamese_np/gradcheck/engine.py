"""The check of one case from beginning to end, and of several into a report."""

import contextlib
import numbers
import sys
import time
import warnings
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from siamese_np.errors import OptionError
from siamese_np.gradcheck.budget import Meter, Stopped
from siamese_np.gradcheck.calls import seeded
from siamese_np.gradcheck.case import FAIL, INCONCLUSIVE, PASS, Broken, Case, Check, check_branches
from siamese_np.gradcheck.contract import check_contract
from siamese_np.gradcheck.entries import check_array
from siamese_np.gradcheck.hints import hint
from siamese_np.gradcheck.independent import SINGLE_ADJOINT, check_adjoint, check_complex, check_jvp, check_single
from siamese_np.gradcheck.kinks import check_directions
from siamese_np.gradcheck.measure import TOLERANCE
from siamese_np.gradcheck.point import SAME_BITS, Point
from siamese_np.gradcheck.report import CaseResult, Report
from siamese_np.gradcheck.structure import OTHERS, check_structure, start
from siamese_np.gradcheck.unchecked import check_owner

LARGEST_TOLERANCE = 0.1  # of the scale of a gradient: from here on a check says nothing


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
        seed, tolerance, entries = self.seed, self.tolerance, self.entries
        if not isinstance(seed, (int, np.integer)) or isinstance(seed, bool) or seed < 0:
            raise OptionError(f"the seed must be a whole number of at least 0, not {seed!r}")
        if not isinstance(tolerance, numbers.Real) or not 1e-9 <= tolerance < LARGEST_TOLERANCE:
            raise OptionError(
                f"the tolerance must be at least 1e-9 and below {LARGEST_TOLERANCE}, not {tolerance!r}: it is relative "
                "to the gradient, and from a tenth of it on nearly anything would pass"
            )
        if entries is not None and (isinstance(entries, bool) or int(entries) != entries or entries < 1):
            raise OptionError(f"entries must be a whole number of at least 1, not {entries}")
        if self.seconds is not None and not self.seconds > 0:
            raise OptionError(f"seconds must be more than 0, not {self.seconds}")

    def meter(self, cases: int = 1) -> Meter:
        return Meter(self.entries, self.seconds, self.progress, cases)


DEFAULT = Options()


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

    def run() -> None:
        # what the code prints must not mix with our output, and what it warns of, the checks find
        with (
            case.restored(),
            contextlib.redirect_stdout(sys.stderr),
            np.errstate(all="ignore"),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore", RuntimeWarning)  # as of the mean of an empty batch
            _check(meter.counted(case), rng, options, result, meter)

    try:
        if not meter.reached(run):
            remark = f"{meter.stopped}: the gradients were not reached"
            result.checks.append(Check("calls", INCONCLUSIVE, remark))
    except Broken as error:
        result.checks.append(Check("calls", error.verdict, str(error)))
    result.calls, result.seconds = meter.calls - calls, time.perf_counter() - start
    result.stopped = meter.stopped
    return result


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

    def directions() -> None:
        alone = all(array.verdict == PASS and array.checked == array.total for array in result.arrays)
        checks, result.taylor = check_directions(point, rng, alone)
        result.add(*checks)

    def adjoint() -> None:
        allowed = SINGLE_ADJOINT if point.single else SAME_BITS
        # other people's passes may be wrong by more where only rounding should be, by yet more if it was asked for
        others = options.tolerance if options.tolerance > TOLERANCE else OTHERS
        result.add(check_adjoint(case, rng, allowed, 0.0 if case.strict else others), check_jvp(point))

    stages: dict[str, Callable[[], None]] = {
        "directions through all arrays": directions,
        "structure": lambda: result.add(*check_structure(point), *check_contract(point)),
        "adjoint identity": adjoint,
        "complex step": lambda: result.add(check_complex(point)),
        "float32": lambda: result.add(*check_single(point, rng)),
        "further checks": lambda: result.add(*(case.extra() if case.extra else ())),
        "arrays of the layer": lambda: result.add(check_owner(point)),
    }
    missing = [name for name, stage in stages.items() if meter.stopped or not meter.reached(stage)]
    if missing:
        result.checks.append(Check("all reached", INCONCLUSIVE, f"{meter.stopped}: without {', '.join(missing)}"))
    for array in result.arrays:
        for entry in array.worst:
            if array.name in point.exact and not isinstance(entry.index, str):
                entry.complex_step = float(point.exact[array.name][entry.index])
        if array.verdict == FAIL:
            with contextlib.suppress(Stopped):
                array.hint = hint(point, array)


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
