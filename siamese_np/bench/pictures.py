"""The pictures of a run: where each rung stands under the machine's limits, and how high it has climbed."""

from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np

from siamese_np._figure import BLUE, GREY, png_figure
from siamese_np.bench.compare import machine
from siamese_np.bench.probe import peak
from siamese_np.ladder.climb import rate
from siamese_np.ladder.operations import OPERATIONS

COLUMNS = 3  # operations in a row


def draw(folder: Path, results: dict[str, Any]) -> None:
    """Draw the ladder in `results`, if there is one, into ``roofline.png`` and ``ladder.png``: a panel an operation."""
    by_operation: dict[str, list[dict[str, Any]]] = {}
    for entry in results.get("ladder", ()):
        by_operation.setdefault(entry["operation"], []).append(entry)
    columns = min(COLUMNS, len(by_operation))
    for name, panel in {"roofline": _roofline, "ladder": _ladder}.items() if by_operation else ():
        rows = (len(by_operation) + columns - 1) // columns
        with png_figure(folder / f"{name}.png", 5 * columns, 0.5 + 3.8 * rows, layout="constrained") as fig:
            where = f"{name.capitalize()}, one thread, on {machine(results)}"
            fig.suptitle(fill(where, 55 * columns), fontsize=10)
            for number, (operation, entries) in enumerate(by_operation.items(), 1):
                axes = fig.add_subplot(rows, columns, number, title=OPERATIONS[operation].title)
                panel(axes, entries, results["probe"])


def _roofline(axes: Any, entries: list[dict[str, Any]], limits: dict[str, Any]) -> None:
    """Rate against arithmetic intensity under the measured limits (Williams et al. 2009)."""
    top, intensity = peak(limits, 1), np.logspace(-1, 3, 200)
    bandwidths = {level: by_threads["1"] for level, by_threads in limits["gbytes_per_second"].items()}
    for bandwidth in bandwidths.values():
        axes.plot(intensity, np.minimum(top, bandwidth * intensity), color=GREY, lw=0.9)
    listed = "\n".join(f"{level} {bandwidth:.0f} GB/s" for level, bandwidth in bandwidths.items())
    axes.annotate(listed, (0.1, min(bandwidths.values()) * 0.06), fontsize=7.5, color=GREY, va="top")
    axes.annotate(f"FMA peak {top:.0f} GFLOP/s", (950, top * 1.08), ha="right", va="bottom", color=GREY, fontsize=8)
    # the names stand in a column on the right of the points, from the fastest down
    points = [(rate(entry, 1, "executed_flops"), entry["executed_flops"] / entry["bytes"]) for entry in entries]
    column, free = 2.2 * max(x for _, x in points), np.inf
    line = {"arrowstyle": "-", "color": GREY, "lw": 0.6, "relpos": (0, 0.5)}
    for (y, x), entry in sorted(zip(points, entries, strict=True), key=lambda pair: -pair[0][0]):
        axes.plot(x, y, "o", color=BLUE, ms=6)
        height = min(y, free)
        free = height / 2
        axes.annotate(entry["rung"], (x, y), (column, height), va="center", fontsize=7.5, arrowprops=line)
    axes.set(xscale="log", yscale="log", xlim=(0.06, 5e3), ylim=(3e-3, 3 * top))
    axes.set(xlabel="executed FLOP per byte of arguments and result", ylabel="executed GFLOP/s")


def _ladder(axes: Any, entries: list[dict[str, Any]], limits: dict[str, Any]) -> None:
    """Dense-equivalent rate of every rung, as a share of the measured peak."""
    top, rates = peak(limits, 1), [rate(entry, 1) for entry in entries]
    axes.barh([entry["rung"] for entry in entries], rates, color=BLUE)
    for height, value in enumerate(rates):
        label = f"{value:.0f} ({100 * value / top:.0f} %)" if value >= 1 else f"{value:.3f}"
        clear = {"facecolor": "white", "edgecolor": "none", "pad": 0.6}  # of the dashed line
        style: Any = {"xytext": (3, 0), "textcoords": "offset points", "va": "center", "fontsize": 8}
        axes.annotate(label, (value, height), bbox=clear, **style)
    axes.axvline(top, color=GREY, lw=1, ls="--", zorder=0)
    axes.set(xlim=(0, 1.35 * max(top, *rates)), ylim=(-0.6, max(2.4, len(rates) - 0.4)))
    axes.set_xlabel("GFLOP/s, dense-equivalent; dashed: FMA peak")
