"""The pictures of a run: where each rung stands under the machine's limits, and how high it has climbed."""

from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np

from siamese_np._figure import BLUE, GREY, ORANGE, png_figure
from siamese_np.bench.compare import machine
from siamese_np.bench.op import NUMPY, TORCH, layer_of, timed
from siamese_np.bench.probe import peak, threads_text
from siamese_np.ladder.climb import rate
from siamese_np.ladder.operations import OPERATIONS

COLUMNS = 3  # operations in a row


def draw(folder: Path, results: dict[str, Any]) -> list[str]:
    """Draw the ladder into ``roofline.png`` and ``ladder.png``, layers into ``layers.png``; returns the names."""
    drawn: list[str] = []
    by_operation: dict[str, list[dict[str, Any]]] = {}
    for entry in results.get("ladder", ()):
        by_operation.setdefault(entry["operation"], []).append(entry)
    columns = min(COLUMNS, len(by_operation))
    for name, panel in {"roofline": _roofline, "ladder": _ladder}.items() if by_operation else ():
        rows = (len(by_operation) + columns - 1) // columns
        with png_figure(folder / f"{name}.png", 5 * columns, 0.5 + 3.8 * rows, "bench", layout="constrained") as fig:
            where = f"{name.capitalize()}, one thread, on {machine(results)}"
            fig.suptitle(fill(where, 55 * columns), fontsize=10)
            for number, (operation, entries) in enumerate(by_operation.items(), 1):
                axes = fig.add_subplot(rows, columns, number, title=OPERATIONS[operation].title)
                panel(axes, entries, results["probe"])
        drawn.append(name)
    if timed(results):
        _layers(folder / "layers.png", results)
        drawn.append("layers")
    return drawn


def _layers(path: Path, results: dict[str, Any]) -> None:
    """How many times as fast as others each layer is, forward and backward; what is slower is on the left."""
    entries = timed(results)
    names = list(dict.fromkeys(str(layer_of(entry)) for entry in entries))
    threads = threads_text(max(results["threads"]))
    with png_figure(path, 10, 1.6 + 0.34 * len(names), "bench", layout="constrained") as fig:
        fig.suptitle(f"Times as fast as others, dense input, {threads}, on {machine(results)}", fontsize=10)
        axes = fig.add_subplot()
        kinds = {"oneDNN": (tuple(TORCH), 45, 1.0), "BLAS": ((NUMPY,), 18, 0.45)}
        for (direction, colour), lift in zip({"forward": BLUE, "backward": ORANGE}.items(), (-0.16, 0.16), strict=True):
            for kind, (peers, size, alpha) in kinds.items():
                points = []
                for entry in entries:
                    ratios = [entry["candidates"][who]["ratio"] for who in peers if who in entry["candidates"]]
                    if ratios and entry["direction"] == direction:
                        points.append((min(ratios), names.index(str(layer_of(entry))) + lift))
                if points:
                    style: Any = {"s": size, "alpha": alpha, "color": colour, "label": f"{direction}, over {kind}"}
                    axes.scatter(*zip(*points, strict=True), zorder=3, marker="o" if kind == "oneDNN" else "D", **style)
        axes.axvline(1, color=GREY, lw=1, zorder=0)
        axes.set_xscale("log")
        low, high = axes.get_xlim()
        low, high = min(low, 0.5), max(high, 2)
        axes.axvspan(low, 1, color=GREY, alpha=0.12, lw=0, zorder=0)
        ticks = [tick for tick in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100) if low <= tick <= high]
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.set_xticks([], minor=True)
        axes.set_yticks(range(len(names)), names, fontsize=7)
        axes.set(xlim=(low, high), ylim=(len(names) - 0.4, -0.6))
        axes.set_xlabel("median time of the other / ours; grey: we are slower")
        axes.grid(axis="x", color=GREY, alpha=0.25, lw=0.6)
        fig.legend(fontsize=8, loc="outside lower center", ncols=4, frameon=False)


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
    """The rate that every rung executes, and behind it in pale what dense sums would have to run at."""
    top, names = peak(limits, 1), [entry["rung"] for entry in entries]
    dense, done = ([rate(entry, 1, kind) for entry in entries] for kind in ("flops", "executed_flops"))
    axes.barh(names, dense, color=BLUE, alpha=0.3)
    axes.barh(names, done, color=BLUE)
    for height, (whole, value) in enumerate(zip(dense, done, strict=True)):
        label = f"{value:.0f} ({100 * value / top:.0f} %)" if value >= 1 else f"{value:.3f}"
        label += f", {whole / value:.1f}x over dense" if whole > 1.05 * value else ""
        clear = {"facecolor": "white", "edgecolor": "none", "pad": 0.6}  # of the dashed line
        style: Any = {"xytext": (3, 0), "textcoords": "offset points", "va": "center", "fontsize": 8}
        axes.annotate(label, (max(whole, value), height), bbox=clear, **style)
    axes.axvline(top, color=GREY, lw=1, ls="--", zorder=0)
    axes.set(xlim=(0, 1.6 * max(top, *dense)), ylim=(-0.6, max(2.4, len(names) - 0.4)))
    axes.set_xlabel("GFLOP/s executed; pale: dense-equivalent\ndashed: FMA peak")
