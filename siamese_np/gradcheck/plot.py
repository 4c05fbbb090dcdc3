"""The V-curves of a report as a picture: the one file of the checker that needs matplotlib."""

import os
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from siamese_np.gradcheck.report import Report

# M. Okabe, K. Ito, "Color Universal Design", 2008: told apart by the colour-blind too
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#000000", "#999999")
OF_VERDICT = {"PASS": COLOURS[0], "INCONCLUSIVE": COLOURS[1], "FAIL": COLOURS[3]}
GREY = "#666666"
STYLE = {
    "figure.facecolor": "white",
    "savefig.dpi": 130,
    "text.usetex": False,
    "font.family": "DejaVu Sans",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
}


@matplotlib.rc_context(STYLE)  # type: ignore[arg-type]
def plot(report: Report, path: str | os.PathLike[str]) -> Path:
    """Save the V-curves of all arrays of a report as a PNG picture.

    Parameters
    ----------
    report : Report
    path : path-like
        File to write; the picture is a PNG whatever its name.
    """
    fig = Figure(figsize=(8, 5), layout="constrained")
    FigureCanvasAgg(fig)
    axes = fig.add_subplot(xscale="log", yscale="log")
    curves = [(case, array) for case, array in report.arrays if array.curve]
    few = len(curves) <= len(COLOURS)  # each has a colour of its own
    for number, (case, array) in enumerate(curves):
        h, central, richardson = (np.array(column) for column in zip(*array.curve, strict=True))
        colour = COLOURS[number] if few else OF_VERDICT[array.verdict]
        label = f"{case.name}: {array.name}, {array.verdict}" if few or array.verdict != "PASS" else None
        shown = np.where(central > 0, central, np.nan)
        axes.plot(h, shown, color=colour, alpha=1 if few else 0.5, linewidth=1.8 if few else 1, label=label)
        if few:
            axes.plot(h, np.where(richardson > 0, richardson, np.nan), ":", color=colour, linewidth=1.2)
    h = np.array([1e-12, 1e-1])
    axes.plot(h, 1e-2 * h**2, "--", color=GREY, linewidth=0.8)
    axes.plot(h, 1e-17 / h, "--", color=GREY, linewidth=0.8)
    axes.text(1e-7, 3e-16, " curvature, h\u00b2", color=GREY)
    axes.text(1e-12, 3e-7, " rounding, 1/h", color=GREY)
    axes.set(xlim=(3e-13, 1), ylim=(1e-16, 30), xlabel="step h", ylabel="error relative to the slope")
    title = f"Central differences against backward: {report.verdict}"
    axes.set_title(title + (" (dotted: Richardson)" if few else ""))
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        fig.legend(handles[:8], labels[:8], fontsize=8, frameon=False, loc="outside lower center", ncols=2)
    fig.savefig(path, format="png")
    return Path(path)
