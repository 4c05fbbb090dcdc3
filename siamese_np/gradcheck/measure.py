"""How wrong a gradient is, and when that is too much: the same answer for a loss of any size.

The error of an entry is relative to the larger of the two slopes, analytic and numeric, but never to less
than a tenth of the largest slope in its array:

    error = |analytic - numeric| / max(|analytic|, |numeric|, FLOOR * largest of the array)

There is no floor of 1 and no absolute tolerance, which would pass any gradient that is small enough.
"""

from collections.abc import Iterable

import numpy as np

from siamese_np.errors import OptionError
from siamese_np.gradcheck.case import FAIL, INCONCLUSIVE, PASS
from siamese_np.gradcheck.differences import Estimate

TOLERANCE = 1e-6
FLOOR = 0.1
TINY = np.finfo(float).tiny
LARGEST_TOLERANCE = 0.1  # of the scale of a gradient: from here on a check says nothing


def check_tolerance(tolerance: float) -> float:
    """`tolerance` as a number that lets a check mean something, or an OptionError."""
    if not 1e-9 <= tolerance < LARGEST_TOLERANCE:
        raise OptionError(
            f"the tolerance must be at least 1e-9 and below {LARGEST_TOLERANCE}, not {tolerance}: it is relative "
            "to the gradient, and from a tenth of it on nearly anything would pass"
        )
    return float(tolerance)


def error(analytic: float, numeric: float, scale: float) -> float:
    """Error of one entry, as above; `scale` is the largest slope of its array."""
    size = max(abs(analytic), abs(numeric), FLOOR * scale)
    return abs(analytic - numeric) / size if size > 0 else 0.0


def judge(analytic: float, estimate: Estimate, scale: float, tolerance: float) -> tuple[str, float]:
    """PASS, FAIL, or INCONCLUSIVE where the estimate is too unsure to say which; and the error.

    At a kink, the error is that to the nearest end of the interval between the slopes of both sides.
    """
    if not np.isfinite(analytic):
        return FAIL, np.inf
    nearest = min(max(analytic, estimate.low), estimate.high) if estimate.kink == "at" else estimate.value
    doubt = estimate.uncertainty / max(abs(analytic), abs(estimate.low), abs(estimate.high), FLOOR * scale, TINY)
    if not (np.isfinite(nearest) and np.isfinite(doubt)):
        return INCONCLUSIVE, np.nan
    wrong = error(analytic, nearest, scale)
    if wrong > tolerance + 2 * doubt:
        return FAIL, wrong
    return (PASS if wrong <= tolerance and doubt <= tolerance else INCONCLUSIVE), wrong


def worst_verdict(verdicts: Iterable[str]) -> str:
    """FAIL before INCONCLUSIVE before PASS; nothing checked is inconclusive."""
    verdicts = list(verdicts)
    if FAIL in verdicts:
        return FAIL
    return INCONCLUSIVE if INCONCLUSIVE in verdicts or not verdicts else PASS
