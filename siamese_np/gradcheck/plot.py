"""The V-curves and the Taylor remainders of a report as pictures: the one file of the checker that needs matplotlib."""

import os
from pathlib import Path

import numpy as np

from siamese_np._figure import BLUE, CLASS_COLOURS, GREY, ORANGE, VERMILLION, png_figure
from siamese_np.gradcheck.differences import RATIO
from siamese_np.gradcheck.report import Report

LINES = 8  # so many curves can be told apart, each in a colour of its own
COLOUR = {"PASS": BLUE, "INCONCLUSIVE": ORANGE, "FAIL": VERMILLION}


def plot(report: Report, path: str | os.PathLike[str]) -> Path:
    """Save the V-curves of all arrays of a report as a PNG picture, whatever the name of the file."""
    with png_figure(path, 8, 5, "gradcheck", layout="constrained") as fig:
        axes = fig.add_subplot(xscale="log", yscale="log")
        curves = [(case, array) for case, array in report.arrays if array.curve]
        few = len(curves) <= LINES
        for number, (case, array) in enumerate(curves):
            h, central, richardson = (np.array(column) for column in zip(*array.curve, strict=True))
            colour = CLASS_COLOURS[number] if few else COLOUR[array.verdict]
            label = f"{case.name}: {array.name}, {array.verdict}" if few or array.verdict != "PASS" else None
            shown = np.where(central > 0, central, np.nan)
            axes.plot(h, shown, color=colour, alpha=1 if few else 0.5, linewidth=1.8 if few else 1, label=label)
            if few:
                axes.plot(h, np.where(richardson > 0, richardson, np.nan), ":", color=colour, linewidth=1.2)
        h = np.array([1e-12, 1e-1])
        axes.plot(h, 1e-2 * h**2, "--", h, 1e-17 / h, "--", color=GREY, linewidth=0.8)
        axes.text(1e-7, 3e-16, " curvature, h\u00b2", color=GREY)
        axes.text(1e-12, 3e-7, " rounding, 1/h", color=GREY)
        axes.set(xlim=(3e-13, 1), ylim=(1e-16, 30), xlabel="step h", ylabel="error relative to the slope")
        title = f"Central differences against backward: {report.verdict}"
        axes.set_title(title + (" (dotted: Richardson)" if few else ""))
        handles, labels = axes.get_legend_handles_labels()
        if handles:
            fig.legend(handles[:LINES], labels[:LINES], fontsize=8, frameon=False, loc="outside lower center", ncols=2)
    return Path(path)


def plot_taylor(report: Report, path: str | os.PathLike[str]) -> Path:
    """Save the Taylor remainders of all cases of a report as a PNG picture, with lines of slope 1 and 2."""
    with png_figure(path, 8, 5, "gradcheck", layout="constrained") as fig:
        axes = fig.add_subplot(xscale="log", yscale="log")
        every = []
        for case in report.cases:
            points = [(h, r) for h, r in case.taylor.points if r > 0]
            every += points
            if points:
                rate = "" if case.taylor.rate is None else f", rate {case.taylor.rate:.2f}"
                label = f"{case.name}{rate}" if len(report.cases) <= LINES or case.gradient != "PASS" else None
                axes.plot(*zip(*points, strict=True), color=COLOUR[case.gradient], label=label)
        if every:
            h, top = np.array([RATIO**-6, 1]) * max(h for h, _ in every), max(r for _, r in every)
            for power in (1, 2):
                axes.plot(h, top * (h / h[1]) ** power, "--", color=GREY, linewidth=0.8)
                axes.text(h[0], top * (h[0] / h[1]) ** power, f"power {power} ", color=GREY, ha="right")
            handles, labels = axes.get_legend_handles_labels()
            axes.legend(handles[:LINES], labels[:LINES], fontsize=8, frameon=False)
        axes.set(xlabel="step h", ylabel="remainder", title=f"Taylor remainder: {report.gradient}")
    return Path(path)
