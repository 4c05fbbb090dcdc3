"""How wrong a gradient is, and when that is too much: the same answer for a loss of any size.

The error of an entry is relative to the larger of the two slopes, analytic and numeric, but never to less
than a tenth of the largest slope in its array:

    error = |analytic - numeric| / max(|analytic|, |numeric|, FLOOR * largest of the array)

There is no floor of 1 and no absolute tolerance, which would pass any gradient that is small enough.

An entry below that tenth which passes is then compared at its own size, as far as differences can tell:

    FAIL where |analytic - numeric| / max(|analytic|, |numeric|) exceeds the tolerance and what is uncertain
    PASS where it does not, and both agree to the tolerance, or to a thousandth (ENOUGH)
    PASS also where backward says 0 (to the last digits of the largest) and nothing else can be measured
    else it is too small to judge: INCONCLUSIVE

So of entries that were compared, there passes what is wrong by less than the tolerance of itself, or of a tenth of the
largest; a small one that rounding hides in part, by less than a thousandth; and a 0 in place of what rounding hides
altogether. Outputs in float32 are uncertain by more than any tolerance: there passes what is wrong by no more than
twice that uncertainty, which must be below 3e-3.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from siamese_np.gradcheck.case import ENOUGH, FAIL, INCONCLUSIVE, PASS
from siamese_np.gradcheck.differences import EPS, SINGLE_EPS, Estimate

TOLERANCE = 1e-6
FLOOR = 0.1
ROUNDING = 1e-13  # of the loss, or of the largest of an array: what its summation may cost
ZERO = 4 * EPS / ROUNDING  # so much of that is the last digits of the largest
SINGLE_TOLERANCE = 64 * SINGLE_EPS  # of gradients in float32: their own rounding
SINGLE_ENOUGH = 3e-3  # of slopes of outputs in float32, which differences cannot tell much better
TINY = float(np.finfo(float).tiny)
SMALLEST = float(np.finfo(float).smallest_subnormal)


def error(analytic: float, numeric: float, scale: float) -> float:
    """Error of one entry, as above; `scale` is the largest slope of its array."""
    size = max(abs(analytic), abs(numeric), FLOOR * scale)
    return abs(analytic - numeric) / size if size > 0 else 0.0


def evaluate(analytic: float, estimate: Estimate, scale: float, tolerance: float, enough: float) -> tuple[str, float]:
    """PASS, FAIL, or INCONCLUSIVE where the estimate is too unsure to say which; and the error.

    An estimate may be as uncertain as `enough`. Where that is more than the tolerance, as in float32, what is wrong by
    no more than is uncertain passes.
    """
    if not np.isfinite(analytic):
        return FAIL, np.inf
    nearest = estimate.nearest(analytic)
    unsure = doubt(analytic, estimate, scale)
    if not (np.isfinite(nearest) and np.isfinite(unsure)):
        return INCONCLUSIVE, np.nan
    wrong = error(analytic, nearest, scale)
    if wrong > tolerance + 2 * unsure:
        return FAIL, wrong
    passed = unsure <= enough and (wrong <= tolerance or enough > tolerance)
    return (PASS if passed else INCONCLUSIVE), wrong


def doubt(analytic: float, estimate: Estimate, scale: float) -> float:
    """How unsure an estimate is, in the units of `error`."""
    return estimate.uncertainty / max(abs(analytic), abs(estimate.low), abs(estimate.high), FLOOR * scale, SMALLEST)


def evaluate_small(
    analytic: float, estimate: Estimate, rounding: float, tolerance: float, enough: float
) -> tuple[str, float]:
    """The same for an entry at its own size, where INCONCLUSIVE is too small to judge; sums cost it `rounding`."""
    noisy = replace(estimate, uncertainty=estimate.uncertainty + rounding)
    verdict, wrong = evaluate(analytic, noisy, 0.0, tolerance, enough)
    alike = wrong <= max(enough, ENOUGH) or abs(analytic) <= ZERO * rounding
    return (PASS if verdict != FAIL and alike else verdict), wrong


def norm(array: NDArray[np.float64]) -> float:
    """Euclidean norm that neither overflows nor underflows."""
    largest = float(abs(array).max(initial=0))
    return largest * float(np.linalg.norm(array / largest)) if 0 < largest < np.inf else largest


KINK = "a kink lies close by"
SIDES = "the slopes of the two sides of a kink are unsure"
HIDDEN = "rounding hides it"
NO_STEPS = "no two steps agree"
BENDS = "it bends too much for small steps to agree"
BORDER = "its error is as large as the tolerance"

OTHER_VALUES = "other values (on the command line: another --seed)"
AWAY = "move {0} away from kinks, zeros and ties; try " + OTHER_VALUES
ADVICE = {
    KINK: AWAY,
    SIDES: AWAY,
    HIDDEN: "the output is large beside what a step in {0} changes: check it without offsets, at numbers around 1",
    NO_STEPS: "around these values of {0} the function is rough, or has no value; try " + OTHER_VALUES,
    BENDS: "try smaller values of {0}, or " + OTHER_VALUES,
    BORDER: "a larger or smaller tolerance would decide",
}


def why(estimate: Estimate, doubt: float, tolerance: float) -> str:
    """The reason, one of the above, for a slope whose relative `doubt` is too large beside the tolerance."""
    if doubt <= tolerance:
        return BORDER
    if estimate.kink:
        return SIDES if estimate.kink == "at" else KINK
    if not np.isfinite(estimate.value):
        return NO_STEPS
    return HIDDEN if estimate.rounding >= estimate.uncertainty / 4 else BENDS


def reasons(remarks: Iterable[str], what: str) -> str:
    """The reasons among `remarks`, the commonest first, and what to do with the array (or arrays) `what`."""
    counts = Counter(remarks)
    found = sorted((reason for reason in ADVICE if counts[reason]), key=lambda reason: -counts[reason])
    return f"{', '.join(found)}; {ADVICE[found[0]].format(what)}" if found else next(iter(counts), "")
