"""Why a slope could not be decided, and what would decide it."""

from collections import Counter
from collections.abc import Iterable

import numpy as np

from siamese_np.gradcheck.differences import Estimate

KINK = "a kink lies close by"
SIDES = "the slopes of the two sides of a kink are unsure"
ROUNDING = "rounding hides it"
NO_STEPS = "no two steps agree"
BENDS = "it bends too much for small steps to agree"
BORDER = "its error is as large as the tolerance"

OTHER_VALUES = "other values (on the command line: another --seed)"
AWAY = "move {0} away from kinks, zeros and ties; try " + OTHER_VALUES
ADVICE = {
    KINK: AWAY,
    SIDES: AWAY,
    ROUNDING: "the output is large beside what a step in {0} changes: check it without offsets, at numbers around 1",
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
    return ROUNDING if estimate.rounding >= estimate.uncertainty / 4 else BENDS


def reasons(remarks: Iterable[str], what: str) -> str:
    """The reasons among `remarks`, the commonest first, and what to do with the array (or arrays) `what`."""
    counts = Counter(remarks)
    found = sorted((reason for reason in ADVICE if counts[reason]), key=lambda reason: -counts[reason])
    return f"{', '.join(found)}; {ADVICE[found[0]].format(what)}" if found else next(iter(counts), "")
