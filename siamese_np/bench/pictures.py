"""The pictures of a run: roofline, ladder, scaling. Colours and style are those of `siamese_np.plots`."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from siamese_np.bench.probe import peak
from siamese_np.ladder.climb import rate
from siamese_np.ladder.operations import OPERATIONS
from siamese_np.plots import BLUE, GREEN, GREY, ORANGE, STYLE

# The convolution in the roofline, and one preset after the other in the scaling picture.
COLOURS = {"conv2d_forward": BLUE, "conv2d_backward_x": ORANGE, "conv2d_backward_w": GREEN}
PRESETS = {"cnn": (BLUE, "o"), "mlp": (ORANGE, "s")}
COLUMNS = 4  # operations side by side


def draw(folder: Path, results: dict[str, Any]) -> list[Path]:
    """Draw what the sections in `results` allow; the paths written."""
    written = []
    if results.get("ladder"):
        written += [roofline(folder / "roofline.png", results), ladder(folder / "ladder.png", results)]
    if "end_to_end" in results:
        written.append(scaling(folder / "scaling.png", results))
    return written


def roofline(path: Path, results: dict[str, Any]) -> Path:
    """Rate against arithmetic intensity on one thread, under the measured roofs (Williams et al. 2009)."""
    shown = {operation: entries for operation in COLOURS if (entries := _entries(results, operation))} or {
        "conv2d_forward": []
    }
    with _figure(path, (5.2 * len(shown), 5.2)) as figure:
        panels = figure.subplots(1, len(shown), sharey=True, squeeze=False).ravel()
        for axes, (operation, entries) in zip(panels, shown.items(), strict=True):
            _draw_roofs(axes, results["probe"])
            _draw_rungs(axes, entries, COLOURS[operation])
            axes.set_title(OPERATIONS[operation].title)
        panels[0].set_ylabel("executed GFLOP/s, one thread")
        figure.supxlabel("executed FLOP per byte of arguments and result", fontsize=10)
        figure.suptitle("Roofline, from measured roofs")
    return path


def _draw_roofs(axes: Any, roofs: dict[str, Any]) -> None:
    intensity, top = np.logspace(-1, 3, 200), peak(roofs, 1)
    bandwidths = {level: by_threads["1"] for level, by_threads in roofs["gbytes_per_second"].items()}
    for bandwidth in bandwidths.values():
        axes.plot(intensity, np.minimum(top, bandwidth * intensity), color=GREY, lw=0.9)
    listed = "\n".join(f"{level} {bandwidth:.0f} GB/s" for level, bandwidth in bandwidths.items())
    axes.annotate(listed, (0.1, min(bandwidths.values()) * 0.06), fontsize=7.5, color=GREY, va="top")
    axes.annotate(f"FMA peak {top:.0f} GFLOP/s", (950, top * 1.08), ha="right", va="bottom", color=GREY, fontsize=8)
    axes.set(xscale="log", yscale="log", xlim=(0.06, 5e3), ylim=(3e-3, 3 * top))


def _draw_rungs(axes: Any, entries: list[dict[str, Any]], colour: str) -> None:
    """A point for each rung, and the names in a column beside them, from the fastest down."""
    places = [(entry["executed_flops"] / entry["bytes"], rate(entry, 1, "executed_flops")) for entry in entries]
    beside, free = 2.2 * max((x for x, _ in places), default=1), np.inf
    for (x, y), entry in sorted(zip(places, entries, strict=True), key=lambda pair: -pair[0][1]):
        axes.plot(x, y, "o", color=colour, ms=6)
        height = min(y, free)
        free = height / 1.6
        line = {"arrowstyle": "-", "color": GREY, "lw": 0.6}
        axes.annotate(entry["rung"], (x, y), (beside, height), va="center", fontsize=7.5, color=colour, arrowprops=line)


def _entries(results: dict[str, Any], operation: str) -> list[dict[str, Any]]:
    """The rungs of an operation that were timed on one thread."""
    return [e for e in results["ladder"] if e["operation"] == operation and "1" in e["timings"]]


def ladder(path: Path, results: dict[str, Any]) -> Path:
    """Dense-equivalent rate of every rung on one thread, as a share of the measured peak."""
    top = peak(results["probe"], 1)
    operations = [name for name in OPERATIONS if any(e["operation"] == name for e in results["ladder"])]
    columns = min(COLUMNS, len(operations))
    lines = -(-len(operations) // columns)
    highest = max(top, *(rate(entry, 1) for entry in results["ladder"] if "1" in entry["timings"]))
    with _figure(path, (4.6 * columns, 3.6 * lines)) as figure:
        panels = figure.subplots(lines, columns, squeeze=False).ravel()
        for axes in panels[len(operations) :]:
            axes.set_axis_off()
        for axes, operation in zip(panels, operations, strict=False):
            entries = _entries(results, operation)
            rates = [rate(entry, 1) for entry in entries]
            places = np.arange(len(entries))
            axes.barh(places, rates, color=COLOURS.get(operation, GREY))
            for place, value in zip(places, rates, strict=True):
                label = f"{value:.0f} ({100 * value / top:.0f} %)" if value >= 1 else f"{value:.3f}"
                beside: Any = {"xytext": (3, 0), "textcoords": "offset points", "va": "center", "fontsize": 8}
                clear = {"facecolor": "white", "edgecolor": "none", "pad": 0.6}  # of the dashed line
                axes.annotate(label, (value, place), bbox=clear, **beside)
            axes.axvline(top, color=GREY, lw=1, ls="--", zorder=0)
            axes.set_yticks(places, [entry["rung"] for entry in entries], fontsize=8)
            axes.set_title(OPERATIONS[operation].title, fontsize=9)
            axes.set(
                xlabel="GFLOP/s, dense-equivalent", xlim=(0, 1.35 * highest), ylim=(-0.6, max(2.4, len(rates) - 0.4))
            )
        title = "The ladder on one thread", f"dashed: measured peak of {top:.0f} GFLOP/s"
        figure.suptitle("; ".join(title) if columns > 1 else "\n".join(title))
    return path


def scaling(path: Path, results: dict[str, Any]) -> Path:
    """Images a second against batch size, speed-up against threads, and cost of an image against data-set size."""
    whole = results["end_to_end"]
    most = max(results["threads"])
    with _figure(path, (12, 3.8)) as figure:
        by_batch, by_threads, by_size = figure.subplots(1, 3)
        for preset, (colour, mark) in PRESETS.items():
            rows = [row for row in whole["steps"] if row["preset"] == preset and row["threads"] == most]
            pairs, speed = [row["pairs"] for row in rows], [row["images_per_second"] for row in rows]
            by_batch.plot(pairs, speed, mark + "-", color=colour, label=preset)
            sizes = [row["pairs"] for row in whole["steps"] if row["preset"] == preset and row["threads"] == 1]
            swept = [row for row in whole["steps"] if row["preset"] == preset and row["pairs"] in sizes]
            swept.sort(key=lambda row: row["threads"])
            if len(swept) > 1:
                gain = [swept[0]["timing"]["median"] / row["timing"]["median"] for row in swept]
                by_threads.plot([row["threads"] for row in swept], gain, mark + "-", color=colour, label=preset)
        by_batch.set(
            xscale="log", yscale="log", xlabel="pairs in a batch", ylabel="images/s", title=f"Training, {most} threads"
        )
        by_threads.plot([1, most], [1, most], "--", color=GREY, lw=1, label="ideal")
        by_threads.set(xlabel="threads", ylabel="times faster than one", title="Threads")
        by_threads.set_xticks(results["threads"])
        sizes = [row["images"] for row in whole["cost_per_image"]]
        costs = [row["microseconds_per_image"] for row in whole["cost_per_image"]]
        by_size.plot(sizes, costs, "o-", color=BLUE)
        by_size.set(
            xscale="log", xlabel="images in the data set", ylabel="µs per image", title="Cost of training an image"
        )
        by_size.set_ylim(0, 1.2 * max(costs, default=1))
        for axes in (by_batch, by_threads):
            axes.legend(frameon=False)
    return path


@contextmanager
def _figure(path: Path, size: tuple[float, float]) -> Iterator[Figure]:
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasAgg(figure)
        yield figure
        figure.savefig(path)
