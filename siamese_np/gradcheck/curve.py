"""How the error of a difference changes with its step: the V-curve, and the Taylor remainder.

V-curve: a correct gradient shows a V, as `differences` explains, or its left arm alone where the function is linear.
A wrong one shows a flat line: no step makes the error go away.

Taylor remainder: what is left of the loss once its value and the slope that backward claims are taken off.

    R(h) = |loss(x + h v) - loss(x) - h <gradient, v>|

Along any direction v it falls with the square of h if the gradient is correct, and with h alone if it is wrong: no step
has to be chosen. For a straight line only rounding is left. A kink that v crosses looks like a wrong gradient, so
differences along v must disagree too.

Source: P. E. Farrell, D. A. Ham, S. W. Funke, M. E. Rognes, "Automated derivation of the adjoint of high-level
transient finite element programs", SIAM Journal on Scientific Computing 35, 2013, where adjoint codes are tested so.
"""

from dataclasses import dataclass, field

import numpy as np

from siamese_np.gradcheck.case import FAIL, PASS, Check
from siamese_np.gradcheck.differences import Slopes

Curve = list[tuple[float, float, float]]  # step, error of the central difference, error after Richardson

ROWS = range(1, -14, -1)  # powers of ten of the error
LAST = 6  # rates at the smallest steps that rounding lets show
SECOND, FIRST = 1.7, 1.3  # rates from which on the remainder is taken for one of second order, and up to for first


def arms(curve: Curve) -> tuple[float | None, float | None, float]:
    """Slopes of the right and of the left arm of a V-curve of central differences, and its floor.

    In powers of ten a power of ten: about 2 and -1 for a smooth function. None where an arm has fewer than
    three steps: the right arm of a linear function, both of a wrong gradient.
    """
    h, error = (np.array([point[k] for point in curve]) for k in (0, 1))
    seen = np.isfinite(error) & (error > 0)
    h, error = h[seen], error[seen]
    if len(h) < 3:
        return None, None, 0.0
    # rounding errors scatter: the bottom is where the median of three neighbours is least, not where one is by luck
    medians = np.median(np.stack([error[:-2], error[1:-1], error[2:]]), axis=0)
    bottom = int(medians.argmin()) + 1
    floor = float(medians[bottom - 1])
    place = np.arange(len(h))
    clear = (error > 10 * floor) & (error < 0.1)  # away from the bottom, and where the error is still small
    slopes = []
    for arm in (clear & (place < bottom), clear & (place > bottom)):
        fits = arm.sum() >= 3
        slopes.append(float(np.polyfit(np.log10(h[arm]), np.log10(error[arm]), 1)[0]) if fits else None)
    return slopes[0], slopes[1], floor


def text(curve: Curve) -> str:
    """The curve in characters: ``o`` central differences, ``+`` after Richardson."""
    columns = [[" "] * (2 * len(curve)) for _ in ROWS]
    for x, (_, *errors) in enumerate(curve):
        for mark, error in zip("o+", errors, strict=True):
            if np.isfinite(error):
                y = ROWS[0] - int(np.clip(round(np.log10(error)) if error > 0 else ROWS[-1], ROWS[-1], ROWS[0]))
                if columns[y][2 * x] == " ":
                    columns[y][2 * x] = mark
    lines = [f"    1e{power:+03d} |{''.join(row)}" for power, row in zip(ROWS, columns, strict=True)]
    first, last = curve[0][0], curve[-1][0]
    lines.append("          +" + "-" * (2 * len(curve)))
    lines.append(f"           {first:<.0e}{'step':^{2 * len(curve) - 11}}{last:>.0e}")
    right, left, floor = arms(curve)
    described = f"    error: o central, + after Richardson; floor {floor:.1e}"
    described += "" if right is None else f", falls with the step to the power {right:.1f}"
    described += "" if left is None else f", rises by rounding to the power {left:.1f}"
    return "\n".join([described, *lines])


@dataclass
class Taylor:
    """Remainders along one direction through all arrays."""

    rate: float | None = None  # the power of the step with which they fall; None where less than three steps show it
    rounding: float = 0.0  # what it may leave
    points: list[tuple[float, float]] = field(default_factory=list)  # steps and their remainders


def taylor(slopes: Slopes, claimed: float) -> Taylor:
    """The remainders along a direction whose slopes were measured, given the slope that backward claims."""
    h = slopes.steps
    with np.errstate(all="ignore"):
        remainder = h * abs(slopes.right @ slopes.dout - claimed)
        rounding = float(np.nanmax(slopes.noise * h, initial=0))
        seen = np.flatnonzero(np.isfinite(remainder) & (remainder > rounding))
    rate = None
    if len(seen) >= 3:
        seen = seen[-LAST:]
        rate = float(np.polyfit(np.log(h[seen]), np.log(remainder[seen]), 1)[0])
    points = [(float(step), float(r)) for step, r in zip(h, remainder, strict=True) if np.isfinite(r)]
    return Taylor(rate, rounding, points)


def check_taylor(found: Taylor, verdict: str) -> Check | None:
    """Whether the remainder falls as that of a correct gradient; None where it contradicts the `verdict` on the slope.

    Or where it falls neither way.
    """
    name = "Taylor remainder"
    if found.rate is None:
        return None if verdict == FAIL else Check(name, PASS, "nothing but rounding is left")
    remark = f"falls with the step to the power {found.rate:.2f}"
    if found.rate <= FIRST and verdict == FAIL:
        return Check(name, FAIL, f"{remark}, not 2")
    return Check(name, PASS, remark) if found.rate >= SECOND else None
