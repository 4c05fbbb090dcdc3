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

import numbers
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siamese_np.errors import OptionError
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
LARGEST_TOLERANCE = 0.1  # of the scale of a gradient: from here on a check says nothing


def check_tolerance(tolerance: float) -> float:
    """`tolerance` as a number that lets a check mean something, or an OptionError."""
    if not isinstance(tolerance, numbers.Real) or not 1e-9 <= tolerance < LARGEST_TOLERANCE:
        raise OptionError(
            f"the tolerance must be at least 1e-9 and below {LARGEST_TOLERANCE}, not {tolerance!r}: it is relative "
            "to the gradient, and from a tenth of it on nearly anything would pass"
        )
    return float(tolerance)


def check_seed(seed: Any) -> int:
    """`seed` as a whole number that NumPy's generators take, or an OptionError."""
    if not isinstance(seed, (int, np.integer)) or isinstance(seed, bool) or seed < 0:
        raise OptionError(f"the seed must be a whole number of at least 0, not {seed!r}")
    return int(seed)


def error(analytic: float, numeric: float, scale: float) -> float:
    """Error of one entry, as above; `scale` is the largest slope of its array."""
    size = max(abs(analytic), abs(numeric), FLOOR * scale)
    return abs(analytic - numeric) / size if size > 0 else 0.0


def evaluate(analytic: float, estimate: Estimate, scale: float, tolerance: float, enough: float) -> tuple[str, float]:
    """PASS, FAIL, or INCONCLUSIVE where the estimate is too unsure to say which; and the error.

    An estimate may be as uncertain as `enough`. Where that is more than the tolerance, as in float32, what is wrong by
    no more than is uncertain passes. At a kink, the error is that to the interval between the slopes of both sides.
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
    """PASS, FAIL, or INCONCLUSIVE (too small to judge) for an entry at its own size; and the error relative to it.

    `rounding` is what sums in backward may cost it.
    """
    noisy = replace(estimate, uncertainty=estimate.uncertainty + rounding)
    verdict, wrong = evaluate(analytic, noisy, 0.0, tolerance, enough)
    alike = wrong <= max(enough, ENOUGH) or abs(analytic) <= ZERO * rounding
    return (PASS if verdict != FAIL and alike else verdict), wrong


def norm(array: NDArray[np.float64]) -> float:
    """Euclidean norm that neither overflows nor underflows."""
    largest = float(abs(array).max(initial=0))
    return largest * float(np.linalg.norm(array / largest)) if 0 < largest < np.inf else largest
