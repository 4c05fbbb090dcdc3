"""The pictures of a run: roofline and ladder. Colours and style are those of `siamese_np.plots`."""

from pathlib import Path
from textwrap import fill
from typing import Any

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from siamese_np.bench.compare import machine
from siamese_np.bench.probe import peak
from siamese_np.ladder.climb import rate
from siamese_np.ladder.operations import OPERATIONS
from siamese_np.plots import BLUE, GREEN, GREY, ORANGE, STYLE

# The convolution in the roofline.
COLOURS = {"conv2d_forward": BLUE, "conv2d_backward_x": ORANGE, "conv2d_backward_w": GREEN}
COLUMNS = 4  # operations in a row


def draw(folder: Path, results: dict[str, Any]) -> None:
    """Draw what the sections in `results` allow, into ``roofline.png`` and ``ladder.png``."""
    by_operation: dict[str, list[dict[str, Any]]] = {name: [] for name in OPERATIONS}
    for entry in results.get("ladder", ()):
        if "1" in entry["timings"]:
            by_operation[entry["operation"]].append(entry)
    by_operation = {name: entries for name, entries in by_operation.items() if entries}
    if by_operation:
        with matplotlib.rc_context(STYLE):
            _roofline(folder / "roofline.png", results, by_operation)
            _ladder(folder / "ladder.png", results, by_operation)


def _roofline(path: Path, results: dict[str, Any], by_operation: dict[str, list[dict[str, Any]]]) -> None:
    """Rate against arithmetic intensity on one thread, under the measured limits (Williams et al. 2009)."""
    shown = {name: by_operation[name] for name in COLOURS if name in by_operation} or {"conv2d_forward": []}
    figure, panels = _figure(1, len(shown), (5.2, 5.2), sharey=True)
    limits, top, intensity = results["probe"], peak(results["probe"], 1), np.logspace(-1, 3, 200)
    bandwidths = {level: by_threads["1"] for level, by_threads in limits["gbytes_per_second"].items()}
    listed = "\n".join(f"{level} {bandwidth:.0f} GB/s" for level, bandwidth in bandwidths.items())
    for axes, (operation, entries) in zip(panels, shown.items(), strict=True):
        for bandwidth in bandwidths.values():
            axes.plot(intensity, np.minimum(top, bandwidth * intensity), color=GREY, lw=0.9)
        axes.annotate(listed, (0.1, min(bandwidths.values()) * 0.06), fontsize=7.5, color=GREY, va="top")
        axes.annotate(f"FMA peak {top:.0f} GFLOP/s", (950, top * 1.08), ha="right", va="bottom", color=GREY, fontsize=8)
        axes.set(xscale="log", yscale="log", xlim=(0.06, 5e3), ylim=(3e-3, 3 * top), title=OPERATIONS[operation].title)
        _label_rungs(axes, entries, COLOURS[operation])
    panels[0].set_ylabel("executed GFLOP/s, one thread")
    figure.supxlabel("executed FLOP per byte of arguments and result", fontsize=10)
    _save(figure, path, "Roofline, from measured limits", results)


def _label_rungs(axes: Any, entries: list[dict[str, Any]], colour: str) -> None:
    """A point for each rung, and the names in a column on their right, from the fastest down."""
    points = [(entry["executed_flops"] / entry["bytes"], rate(entry, 1, "executed_flops")) for entry in entries]
    column, free = 2.2 * max((x for x, _ in points), default=1), np.inf
    for (x, y), entry in sorted(zip(points, entries, strict=True), key=lambda pair: -pair[0][1]):
        axes.plot(x, y, "o", color=colour, ms=6)
        height = min(y, free)
        free = height / 1.6
        line = {"arrowstyle": "-", "color": GREY, "lw": 0.6, "relpos": (0, 0.5)}
        axes.annotate(entry["rung"], (x, y), (column, height), va="center", fontsize=7.5, color=colour, arrowprops=line)


def _ladder(path: Path, results: dict[str, Any], by_operation: dict[str, list[dict[str, Any]]]) -> None:
    """Dense-equivalent rate of every rung on one thread, as a share of the measured peak."""
    top, columns = peak(results["probe"], 1), min(COLUMNS, len(by_operation))
    highest = max(top, *(rate(entry, 1) for entries in by_operation.values() for entry in entries))
    figure, panels = _figure((len(by_operation) + columns - 1) // columns, columns, (4.6, 3.6))
    for axes in panels[len(by_operation) :]:
        axes.set_axis_off()
    for axes, (operation, entries) in zip(panels, by_operation.items(), strict=False):
        rates, heights = [rate(entry, 1) for entry in entries], np.arange(len(entries))
        axes.barh(heights, rates, color=COLOURS.get(operation, GREY))
        for height, value in zip(heights, rates, strict=True):
            label = f"{value:.0f} ({100 * value / top:.0f} %)" if value >= 1 else f"{value:.3f}"
            style: Any = {"xytext": (3, 0), "textcoords": "offset points", "va": "center", "fontsize": 8}
            clear = {"facecolor": "white", "edgecolor": "none", "pad": 0.6}  # of the dashed line
            axes.annotate(label, (value, height), bbox=clear, **style)
        axes.axvline(top, color=GREY, lw=1, ls="--", zorder=0)
        axes.set_yticks(heights, [entry["rung"] for entry in entries], fontsize=8)
        axes.set_title(OPERATIONS[operation].title, fontsize=9)
        axes.set(xlim=(0, 1.35 * highest), ylim=(-0.6, max(2.4, len(rates) - 0.4)))
        axes.set_xlabel("GFLOP/s, dense-equivalent")
    _save(figure, path, f"The ladder on one thread; dashed: measured peak of {top:.0f} GFLOP/s", results)


def _figure(rows: int, columns: int, size: tuple[float, float], **options: Any) -> tuple[Figure, Any]:
    figure = Figure(figsize=(columns * size[0], rows * size[1]), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False, **options).ravel()


def _save(figure: Figure, path: Path, title: str, results: dict[str, Any]) -> None:
    width = int(11 * figure.get_figwidth())  # of a line, in letters
    figure.suptitle(fill(title, width) + "\n" + fill(machine(results), width), fontsize=10)
    figure.savefig(path)
