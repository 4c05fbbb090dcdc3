"""The Taylor remainder: what is left of the loss once its value and the slope that backward claims are taken off.

    R(h) = |loss(x + h v) - loss(x) - h <gradient, v>|

Along any direction v it falls with the square of h if the gradient is correct, and with h alone if it is wrong: no step
has to be chosen. For a straight line only rounding is left. A kink that v crosses looks like a wrong gradient, so
differences along v must disagree too.

Source: P. E. Farrell, D. A. Ham, S. W. Funke, M. E. Rognes, "Automated derivation of the adjoint of high-level
transient finite element programs", SIAM Journal on Scientific Computing 35, 2013, where adjoint codes are tested so.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from siamese_np.gradcheck.case import FAIL, PASS, Check
from siamese_np.gradcheck.differences import RATIO, Slopes

if TYPE_CHECKING:
    from siamese_np.gradcheck.report import Entry, Report

LINES = 8  # named in the picture
LAST = 6  # rates at the smallest steps that rounding lets show
SECOND, FIRST = 1.7, 1.3  # rates from which on the remainder is taken for one of second order, and up to for first


@dataclass
class Taylor:
    """Remainders along one direction through all arrays.

    `points` are pairs of a step and its remainder, `rounding` what rounding may leave, `rate` the power of the step
    with which the remainder falls, None where less than three steps show it.
    """

    rate: float | None = None
    rounding: float = 0.0
    points: list[tuple[float, float]] = field(default_factory=list)


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


def check_taylor(found: Taylor, entry: "Entry") -> Check | None:
    """Whether the remainder falls as that of a correct gradient; None where rounding hides it."""
    name = "Taylor remainder"
    if found.rate is None:
        return None if entry.verdict == FAIL else Check(name, PASS, "nothing but rounding is left")
    remark = f"falls with the step to the power {found.rate:.2f}"
    if found.rate <= FIRST and entry.verdict == FAIL:
        return Check(name, FAIL, f"{remark}, not 2")
    return Check(name, PASS, remark) if found.rate >= SECOND else None


def plot(report: "Report", path: str | os.PathLike[str]) -> Path:
    """Save the Taylor remainders of a report as a PNG picture (whatever its name), with lines of slope 1 and 2."""
    from siamese_np._figure import BLUE, GREY, ORANGE, VERMILLION, png_figure

    of_verdict = {"PASS": BLUE, "INCONCLUSIVE": ORANGE, "FAIL": VERMILLION}
    with png_figure(path, 8, 5, layout="constrained") as fig:
        axes = fig.add_subplot(xscale="log", yscale="log")
        for case in report.cases:
            points = [(h, r) for h, r in case.taylor.points if r > 0]
            if points:
                rate = "" if case.taylor.rate is None else f", rate {case.taylor.rate:.2f}"
                label = f"{case.name}{rate}" if len(report.cases) <= LINES or case.gradient != "PASS" else None
                axes.plot(*zip(*points, strict=True), color=of_verdict[case.gradient], label=label)
        lines = [(h, r) for case in report.cases for h, r in case.taylor.points if r > 0]
        if lines:
            h, top = np.array([RATIO**-6, 1]) * max(h for h, _ in lines), max(r for _, r in lines)
            for power in (1, 2):
                axes.plot(h, top * (h / h[1]) ** power, "--", color=GREY, linewidth=0.8)
                axes.text(h[0], top * (h[0] / h[1]) ** power, f"power {power} ", color=GREY, ha="right")
            handles, labels = axes.get_legend_handles_labels()
            axes.legend(handles[:LINES], labels[:LINES], fontsize=8, frameon=False)
        axes.set(xlabel="step h", ylabel="remainder", title=f"Taylor remainder: {report.gradient}")
    return Path(path)
