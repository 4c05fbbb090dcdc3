"""The V-curve: the error of a difference against its step, in the terminal and as a picture.

From the right, where steps are large, the error falls with the square of the step (with its fourth power after
Richardson). At the left it rises again as the step shrinks, by rounding. A right gradient shows a V, or its left
arm alone where the function is linear. A wrong one shows a flat line: no step makes the error go away.
"""

import os
from pathlib import Path

import numpy as np

from siamese_np.gradcheck.results import Curve, Report

ROWS = range(1, -14, -1)  # powers of ten of the error
LINES = 8  # of different colours that a picture can bear


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
    described = [f"floor {floor:.1e}"]
    described += [f"falls with the step to the power {right:.1f}"] if right is not None else []
    described += [f"rises by rounding to the power {left:.1f}"] if left is not None else []
    return "\n".join(["    error: o central, + after Richardson; " + ", ".join(described), *lines])


def plot(report: Report, path: str | os.PathLike[str]) -> Path:
    """Save the V-curves of all arrays of a report as a PNG picture.

    Parameters
    ----------
    report : Report
    path : path-like
        File to write; the picture is a PNG whatever its name.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from siamese_np.plots import BLUE, CLASS_COLOURS, GREY, ORANGE, STYLE, VERMILLION

    tensors = [(f"{case.name}: {t.name}", t) for case in report.cases for t in case.tensors if t.curve]
    of_verdict = {"PASS": BLUE, "FAIL": VERMILLION, "INCONCLUSIVE": ORANGE}
    with matplotlib.rc_context(STYLE):
        fig = Figure(figsize=(8, 5), layout="constrained")
        FigureCanvasAgg(fig)
        axes = fig.add_subplot(xscale="log", yscale="log")
        few = len(tensors) <= LINES
        for number, (name, tensor) in enumerate(tensors):
            h, central, richardson = (np.array(column) for column in zip(*tensor.curve, strict=True))
            colour = CLASS_COLOURS[number] if few else of_verdict[tensor.verdict]
            label = f"{name}, {tensor.verdict}" if few or tensor.verdict != "PASS" else None
            shown = np.where(central > 0, central, np.nan)
            axes.plot(h, shown, color=colour, alpha=1 if few else 0.5, linewidth=1.8 if few else 1, label=label)
            if few:
                axes.plot(h, np.where(richardson > 0, richardson, np.nan), ":", color=colour, linewidth=1.2)
        h = np.array([1e-12, 1e-1])
        axes.plot(h, 1e-2 * h**2, "--", color=GREY, linewidth=0.8)
        axes.plot(h, 1e-17 / h, "--", color=GREY, linewidth=0.8)
        axes.set(xlim=(3e-13, 1), ylim=(1e-16, 30))
        axes.set_xlabel("step h")
        axes.set_ylabel("error relative to the slope")
        axes.set_title(
            f"Central differences against backward: {report.verdict}" + (" (dotted: Richardson)" if few else "")
        )
        axes.text(1e-7, 3e-16, " curvature, h\u00b2", color=GREY)
        axes.text(1e-12, 3e-7, " rounding, 1/h", color=GREY)
        handles, labels = axes.get_legend_handles_labels()
        if handles:
            fig.legend(handles[:LINES], labels[:LINES], fontsize=8, frameon=False, loc="outside lower center", ncols=2)
        fig.savefig(path, format="png")
    return Path(path)
