"""The fast record's distribution over seeds, as a picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from siamese_np._figure import BLUE, GREY, ORANGE, png_figure

KINDS = {"mean_accuracy": "nearest class mean", "knn_accuracy": "5 neighbours"}
PARTS = {"": ("test images", BLUE), "_validation": ("validation images", ORANGE)}


def draw_record(path: Path, seeds: Sequence[Mapping[str, Any]]) -> None:
    """Draw accuracy against seconds, one point for each seed, and the mean of each kind as a line."""
    with png_figure(path, 8, 4, "reproduce") as figure:
        for axes, (kind, title) in zip(figure.subplots(1, 2, sharey=True), KINDS.items(), strict=True):
            for part, (name, colour) in PARTS.items():
                values = 100 * np.array([seed.get(kind + part) for seed in seeds], float)
                seconds = [seed["seconds"] for seed in seeds]
                axes.plot(seconds, values, "o", color=colour, alpha=0.7, label=f"{name}, mean {values.mean():.2f} %")
                axes.axhline(values.mean(), color=colour, linewidth=1)
            axes.axhline(99, color=GREY, linewidth=1, linestyle=":")
            axes.set(title=title, xlabel="seconds of training")
            axes.margins(y=0.25)  # room for the legend above all points
            axes.legend(frameon=False, fontsize=8, loc="upper left")
        figure.axes[0].set_ylabel("accuracy, %")
