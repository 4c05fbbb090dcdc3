"""Pictures of a trained network, saved as PNG: one function per picture, a path and arrays in, the path out.

The arguments mean the same in all functions:

- ``path``: where the PNG is written, whatever the name ends in; it is returned.
- ``dist`` (P,) and ``label`` (P,): distances of P >= 1 pairs, finite and at least 0; 0 = similar, 1 = dissimilar.
- ``threshold``: a pair is accepted as similar if its distance is below it; any number but NaN.
- ``emb`` (N, E): embeddings, finite.
- ``images`` (N, H, W), (N, H, W, 1) or (N, H, W, 3): uint8 in [0, 255] or float in [0, 1].
- ``classes`` (N,): the class of each image or embedding, whole numbers or text.

An array of another shape, dtype or value is a `ShapeError`, a number outside its range an `OptionError`; then nothing
is written. Where a colour carries a verdict, a tick or a cross says the same.
"""

import contextlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from siamese_np._checks import as_array, check_classes, check_margin, check_pairs, check_rows, check_threshold
from siamese_np._figure import BLUE, CLASS_COLOURS, GREEN, GREY, ORANGE, VERMILLION, PathLike, drawn, png_figure
from siamese_np.errors import ShapeError
from siamese_np.metrics import equal_error_rate, pca_2d, roc_auc, roc_curve, tar_at_far

# isort: split

from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator, PercentFormatter

Floats = NDArray[np.float64]

SIMILAR_COLOUR, DISSIMILAR_COLOUR = BLUE, ORANGE
RIGHT, WRONG = (GREEN, "\u2713"), (VERMILLION, "\u2717")  # colour and mark

_Curve = tuple[Floats, str, str]  # a value for each epoch, the text at its end (with a place for that value), colour


def plot_history(path: PathLike, history: Sequence[Mapping[str, Any]]) -> Path:
    """Training and validation loss, and validation pair accuracy, by epoch.

    Parameters
    ----------
    path : path
    history : sequence of dict
        One per epoch, at least one, with the keys `epoch`, `loss`, `validation_loss` and `validation_pair_accuracy`
        (in [0, 1]). A value that is missing or None is left out of its curve.
    """
    if len(history) == 0:
        raise ShapeError("history must hold at least one epoch, but is empty")
    epoch, accuracy = _column(history, "epoch"), _column(history, "validation_pair_accuracy")
    losses = (("loss", "training", GREY), ("validation_loss", "validation", BLUE))
    with png_figure(path, 9.6, 3.6) as fig:
        loss_ax, accuracy_ax = fig.subplots(1, 2)
        fig.subplots_adjust(left=0.07, right=0.88, bottom=0.14, top=0.88, wspace=0.55)
        curves = [(_column(history, key), f"{name}\n{{:.3g}}", colour) for key, name, colour in losses]
        _, high = _draw_curves(loss_ax, epoch, curves)
        if np.isfinite(high):
            loss_ax.set_ylim(0, 1.2 * high or 1.0)
        _label_line_ends(loss_ax, epoch, curves)
        loss_ax.set_title("Contrastive loss")

        curves = [(accuracy, "validation\n{:.2%}", BLUE)]
        low, high = _draw_curves(accuracy_ax, epoch, curves)
        title = "Pair accuracy"
        if np.isfinite(high):
            space = 0.08 * (high - low) or 0.01
            accuracy_ax.set_ylim(low - space, min(high + space, 1.001))
            title += f", best {high:.2%} at epoch {epoch[np.nanargmax(accuracy)]:g}"
        _label_line_ends(accuracy_ax, epoch, curves)
        accuracy_ax.yaxis.set_major_formatter(PercentFormatter(1.0))
        accuracy_ax.set_title(title)
    return Path(path)


def plot_distances(path: PathLike, dist: ArrayLike, label: ArrayLike, threshold: float, margin: float) -> Path:
    """Histograms of the similar and the dissimilar pairs' distances, with the threshold between them.

    Each histogram has area 1 in the plain sense; the vertical axis is a square-root scale, on which the few pairs on
    the wrong side can still be seen. `margin` is that of the loss.
    """
    dist, label = check_pairs(dist, label)
    threshold, margin = check_threshold(threshold), check_margin(margin)
    similar, accepted = label == 0, dist < threshold
    right_end = 1.02 * max(float(dist.max()), margin, threshold if np.isfinite(threshold) else 0.0)
    bins = np.linspace(0, right_end, 81).tolist()
    with png_figure(path, 8.4, 4.4) as fig:
        fig.subplots_adjust(left=0.08, right=0.97, bottom=0.13, top=0.76)
        ax = fig.subplots()
        ax.set_yscale("function", functions=(lambda y: np.sqrt(np.maximum(y, 0)), np.square))
        kinds = (
            ("similar", similar, SIMILAR_COLOUR, "at or above"),
            ("dissimilar", ~similar, DISSIMILAR_COLOUR, "below"),
        )
        for line, (name, kind, colour, where) in enumerate(kinds):
            wrong, share = accepted[kind] != similar[kind], ""
            if len(wrong):
                ax.hist(dist[kind], bins, density=True, histtype="stepfilled", color=colour, alpha=0.35)
                ax.hist(dist[kind], bins, density=True, histtype="step", color=colour, linewidth=1.6)
                share = f" ({wrong.mean():.2%})"
            y = 0.885 - 0.055 * line
            fig.text(0.08, y, "\u25a0", color=colour, fontsize=13, va="center")
            count = f"{int(wrong.sum()):,} of {len(wrong):,} {name} pairs {where} the threshold{share}"
            fig.text(0.105, y, count, va="center", color="#333333")

        ax.set_ylim(0, 1.3 * ax.get_ylim()[1])  # room for the two labels above the bars
        for x, text, height, linestyle in (
            (threshold, f"threshold {threshold:.3g}", 0.985, "-"),
            (margin, f"margin {margin:.3g}", 0.925, ":"),
        ):
            if not np.isfinite(x):
                continue
            ax.axvline(x, color="#333333", linewidth=1.2, linestyle=linestyle)
            # Away from the other line, unless the text would not fit there.
            at_left = x > 0.8 * right_end or (x > 0.2 * right_end and x == min(threshold, margin))
            ax.annotate(
                text, (x, height), xycoords=("data", "axes fraction"), xytext=(-5 if at_left else 5, 0),
                textcoords="offset points", ha="right" if at_left else "left", va="top",
                path_effects=[withStroke(linewidth=3, foreground="white")],
            )  # fmt: skip
        ax.set_xlim(0, right_end)
        ax.set_xlabel("distance between the two embeddings")
        ax.set_ylabel("density (square-root scale)")
        ax.yaxis.set_major_locator(MaxNLocator(6))
        title = f"Distances of {len(dist):,} pairs: {np.mean(accepted == similar):.2%} decided rightly"
        fig.text(0.08, 0.95, title, fontsize=11, va="center")
    return Path(path)


def plot_roc(path: PathLike, dist: ArrayLike, label: ArrayLike) -> Path:
    """The ROC of accepting pairs as similar, with its area, equal error rate and TAR at FAR 0.001.

    Both kinds of pairs are needed. The false accept rate is logarithmic, from 1e-4: in verification it is the rare
    false accepts that count.
    """
    far, tar, _ = roc_curve(dist, label)
    eer, tar_at_1e3 = equal_error_rate(dist, label), tar_at_far(dist, label, 1e-3)
    with png_figure(path, 6.6, 4.8, layout="constrained") as fig:
        ax = fig.subplots()
        ax.set_xscale("log")
        # FAR 0 has no place on this axis: its point is drawn left of the edge, so the line enters from there.
        ax.step(np.maximum(far, 1e-5), tar, where="post", color=BLUE, clip_on=True)
        left_end = float(tar[far <= 1e-4][-1])
        bottom = max(0.0, left_end - 0.15 * (1 - left_end) - 0.01)
        ax.set_ylim(bottom, 1 + 0.04 * (1 - bottom))
        ax.set_xlim(1e-4, 1)

        eer_point = float(np.clip(eer, 1e-4, 1)), max(1 - eer, bottom)
        # Under the other text if both marks are at about the same height, as with a very good network.
        eer_line = 2 if abs(eer_point[1] - tar_at_1e3) < 0.15 * (1 - bottom) else 1
        marks = (
            ((1e-3, tar_at_1e3), "o", 1, f"TAR {tar_at_1e3:.2%} at FAR 0.1%"),
            (eer_point, "D", eer_line, f"equal error rate {eer:.2%}"),
        )
        for (x, y), marker, line, text in marks:
            ax.plot(x, y, marker, color=VERMILLION, markersize=7, zorder=3, clip_on=False)
            # A rising curve leaves room below right of each point and above left of it.
            below_right = x < 0.05 and y - bottom > 0.2 * (1 - bottom)
            ax.annotate(
                text, (x, y), xytext=(8, -15 * line) if below_right else (-8, 12), textcoords="offset points",
                ha="left" if below_right or x < 0.05 else "right", va="center",
                path_effects=[withStroke(linewidth=3, foreground="white")],
            )  # fmt: skip
        ax.set_xlabel("false accept rate (dissimilar pairs accepted)")
        ax.set_ylabel("true accept rate (similar pairs accepted)")
        ax.yaxis.set_major_formatter(PercentFormatter(1.0))
        ax.grid(color="#E5E5E5", linewidth=0.8)
        ax.set_axisbelow(True)
        ax.set_title(f"ROC of {len(np.asarray(dist)):,} pairs: area under the curve {roc_auc(dist, label):.5f}")
    return Path(path)


def plot_embedding_map(path: PathLike, emb: ArrayLike, classes: ArrayLike) -> Path:
    """A flat map of N >= 1 embeddings by `metrics.pca_2d`, each class in its colour with its name at its centre."""
    coordinates, explained = pca_2d(emb)
    names, of_class = np.unique(check_classes(classes, len(coordinates), text=True), return_inverse=True)
    with png_figure(path, 7.0, 6.4, layout="constrained") as fig:
        ax = fig.subplots()
        # In random order, or the last class would cover the others wherever they overlap.
        order = np.random.default_rng(0).permutation(len(coordinates))
        colours = np.array(CLASS_COLOURS)[of_class % len(CLASS_COLOURS)]
        size = float(np.clip(12_000 / len(coordinates), 3, 24))
        horizontal, vertical = coordinates[order].T
        ax.scatter(horizontal, vertical, s=size, c=colours[order].tolist(), alpha=0.6, linewidths=0)
        for c, name in enumerate(names):
            x, y = np.median(coordinates[of_class == c], axis=0).tolist()
            ax.text(
                x, y, drawn(str(name)), ha="center", va="center", fontweight="bold",
                fontsize=9 if len(names) > 15 else 14,
                color="#222222", parse_math=False, path_effects=[withStroke(linewidth=3, foreground="white")],
            )  # fmt: skip
        ax.set_aspect("equal", adjustable="datalim")
        ax.set_xlabel(f"first principal direction ({explained[0]:.0%} of the variance)")
        ax.set_ylabel(f"second principal direction ({explained[1]:.0%})")
        ax.set_title(f"{len(coordinates):,} embeddings of {len(names)} classes in their two widest directions")
    return Path(path)


def plot_pairs(
    path: PathLike,
    images: ArrayLike,
    pairs: ArrayLike,
    dist: ArrayLike,
    label: ArrayLike,
    threshold: float,
    classes: ArrayLike | None = None,
) -> Path:
    """Sixteen pairs with the verdict on each: similar ones in the upper half, dissimilar ones below.

    The first of each kind are shown; if any verdicts are wrong, up to two of each kind are wrong ones.

    Parameters
    ----------
    path, images, dist, label, threshold
    pairs : (P, 2) array of int
        Row numbers of `images`.
    classes : (N,) array, optional
        Class of each image, written below the pair.
    """
    decided = _DecidedPairs(images, pairs, dist, label, threshold, classes)
    halves = []
    for kind in (decided.similar, ~decided.similar):
        right, wrong = np.flatnonzero(kind & decided.correct), np.flatnonzero(kind & ~decided.correct)
        wrong = wrong[: max(2, 8 - len(right))]
        halves.append(np.concatenate([right[: 8 - len(wrong)], wrong]))
    title = f"Pairs at threshold {threshold:.3g}: {decided.correct.mean():.2%} of {len(decided.dist):,} decided rightly"
    upper, lower = (math.ceil(len(half) / 4) for half in halves)
    with _grid(path, [2.3] * 4, upper + lower, 1.72, title) as axes:
        decided.show(axes, halves[0])
        decided.show(axes[4 * upper :], halves[1])
    return Path(path)


def plot_mistakes(
    path: PathLike,
    images: ArrayLike,
    pairs: ArrayLike,
    dist: ArrayLike,
    label: ArrayLike,
    threshold: float,
    classes: ArrayLike | None = None,
) -> Path:
    """The pairs furthest on the wrong side of the threshold, the furthest first, at most twenty-four.

    The arguments are those of `plot_pairs`.
    """
    decided = _DecidedPairs(images, pairs, dist, label, threshold, classes)
    wrong, P = np.flatnonzero(~decided.correct), len(decided.dist)
    if len(wrong) == 0:
        colour, mark = RIGHT
        text = f"{mark} no mistakes among {P:,} pairs at threshold {threshold:.3g}"
        with png_figure(path, 6.0, 1.6) as fig:
            fig.text(0.5, 0.5, text, color=colour, fontsize=13, ha="center", va="center")
        return Path(path)
    hardest = wrong[np.argsort(-np.abs(decided.dist[wrong] - threshold), kind="stable")][:24]
    title = f"{len(wrong):,} of {P:,} pairs decided wrongly at threshold {threshold:.3g}"
    if len(wrong) > 1:
        title += f", the {len(hardest)} worst first" if len(wrong) > len(hardest) else ", the worst first"
    columns = min(6, len(hardest))
    with _grid(path, [1.95] * columns, math.ceil(len(hardest) / columns), 1.55, title) as axes:
        decided.show(axes, hardest)
    return Path(path)


def plot_neighbours(
    path: PathLike,
    query_images: ArrayLike,
    query_classes: ArrayLike,
    gallery_images: ArrayLike,
    gallery_classes: ArrayLike,
    indices: ArrayLike,
    distances: ArrayLike,
) -> Path:
    """The first query of each class, at most ten, and its nearest gallery images, at most eight.

    Parameters
    ----------
    path, query_images, query_classes, gallery_images, gallery_classes
    indices, distances : (Q, k) array
        Rows of the gallery, nearest first, and their distances, from `metrics.nearest`.
    """
    queries, gallery = _images("query_images", query_images), _images("gallery_images", gallery_images)
    expected = check_classes(query_classes, len(queries), "query_classes", text=True)
    classes = check_classes(gallery_classes, len(gallery), "gallery_classes", text=True)
    index = check_rows("indices", indices, (len(queries), None), len(gallery))
    dist = as_array("distances", distances)
    if dist.shape != index.shape or not dist.size:
        raise ShapeError(
            f"indices and distances must be of one shape and not empty, not {index.shape} and {dist.shape}"
        )
    _, first = np.unique(expected, return_index=True)
    if len(first) > 10:
        first = first[np.linspace(0, len(first) - 1, 10).astype(int)]
    shown = min(8, index.shape[1])
    agree = float(np.mean(classes[index] == expected[:, None]))
    title = f"Nearest neighbours: {agree:.2%} of all {index.size:,} are of the query's class"
    # An empty, narrow column sets the query apart from its neighbours.
    with _grid(path, [1.0, 0.2] + [1.0] * shown, len(first), 1.36, title) as axes:
        for row, query in enumerate(first):
            cells = axes[row * (shown + 2) : (row + 1) * (shown + 2)]
            _show(cells[0], _rgb(queries[query]), GREY, below=f"query: {expected[query]}", width=1.0)
            for ax, neighbour, distance in zip(cells[2:], index[query], dist[query], strict=False):
                colour, mark = RIGHT if classes[neighbour] == expected[query] else WRONG
                _show(ax, _rgb(gallery[neighbour]), colour, below=f"{mark} {classes[neighbour]}  {distance:.3f}")
                ax.xaxis.label.set_color(colour)
    return Path(path)


class _DecidedPairs:
    """Pairs of images, the decision on each, and whether it is correct."""

    def __init__(
        self,
        images: ArrayLike,
        pairs: ArrayLike,
        dist: ArrayLike,
        label: ArrayLike,
        threshold: float,
        classes: ArrayLike | None,
    ) -> None:
        self.dist, label = check_pairs(dist, label)
        self.images = _images("images", images)
        self.pairs = check_rows("pairs", pairs, (len(self.dist), 2), len(self.images))
        self.classes = None if classes is None else check_classes(classes, len(self.images), text=True)
        self.similar = label == 0
        self.accepted = self.dist < check_threshold(threshold)
        self.correct = self.accepted == self.similar

    def show(self, axes: Iterable[Axes], chosen: NDArray[np.intp]) -> None:
        """Each chosen pair side by side in one frame, with the verdict, the distance and the two classes."""
        for ax, pair in zip(axes, chosen, strict=False):
            first, second = self.pairs[pair]
            a, b = _rgb(self.images[first]), _rgb(self.images[second])
            gap = np.ones((a.shape[0], max(1, a.shape[1] // 14), 3))
            colour, mark = RIGHT if self.correct[pair] else WRONG
            verdict = "same" if self.accepted[pair] else "different"
            below = "" if self.classes is None else f"{self.classes[first]} and {self.classes[second]}"
            picture = np.concatenate([a, gap, b], axis=1)
            _show(ax, picture, colour, f"{mark} {verdict}  {self.dist[pair]:.3f}", below)


def _images(name: str, images: ArrayLike) -> NDArray[Any]:
    """`images` as an array (N, H, W, 1 or 3) with N >= 1, or a ShapeError."""
    array = as_array(name, images)
    array = array[..., np.newaxis] if array.ndim == 3 else array
    if array.ndim != 4 or array.shape[3] not in (1, 3) or 0 in array.shape or array.dtype.kind not in "uif":
        shapes = "(N, H, W), (N, H, W, 1) or (N, H, W, 3)"
        raise ShapeError(f"{name} must be numbers of shape {shapes}, not {array.dtype} of shape {np.shape(images)}")
    return array


def _column(history: Sequence[Mapping[str, Any]], key: str) -> Floats:
    """One value per epoch; NaN, which is not drawn, where an epoch has none."""
    values = [row.get(key) for row in history]
    return np.array([np.nan if value is None else float(value) for value in values])


def _draw_curves(ax: Axes, epoch: Floats, curves: Sequence[_Curve]) -> tuple[float, float]:
    """Draw values by epoch; their smallest and their largest, NaN where there is none."""
    for values, _, colour in curves:
        ax.plot(epoch, values, color=colour, marker="o" if len(epoch) <= 30 else "", markersize=3.5)
    ax.set_xlabel("epoch")
    ax.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True, min_n_ticks=1))
    if len(epoch) == 1:
        ax.set_xlim(epoch[0] - 1, epoch[0] + 1)
        ax.set_xticks(epoch)
    drawn = np.concatenate([values[np.isfinite(values)] for values, _, _ in curves])
    return (float(drawn.min()), float(drawn.max())) if len(drawn) else (np.nan, np.nan)


def _label_line_ends(ax: Axes, epoch: Floats, curves: Sequence[_Curve]) -> None:
    """Write each curve's text right of its last value, shifted up if it would touch the one below."""
    lasts = [(values, np.flatnonzero(np.isfinite(values))[-1:], text, colour) for values, text, colour in curves]
    ends = [(epoch[at], values[at], text, colour) for values, last, text, colour in lasts for at in last]
    points_per_pixel = 72 / ax.get_figure().dpi  # type: ignore[union-attr]
    lowest = ax.bbox.y0 * points_per_pixel + 13  # clear of the horizontal axis
    for x, y, text, colour in sorted(ends, key=lambda end: end[1]):
        height = ax.transData.transform((x, y))[1] * points_per_pixel
        shift = max(0.0, lowest - height)
        lowest = height + shift + 26  # two lines of text
        ax.annotate(
            text.format(y), (x, y), xytext=(8, shift), textcoords="offset points", va="center", color=colour,
            annotation_clip=False,
        )  # fmt: skip


def _rgb(image: NDArray[Any]) -> Floats:
    """One image (H, W, 1 or 3) as (H, W, 3) in [0, 1]; floats outside [0, 1] are stretched to fit."""
    values = image.astype(np.float64)
    low, high = (0.0, 255.0) if image.dtype == np.uint8 else (min(0.0, values.min()), max(1.0, values.max()))
    return np.broadcast_to((values - low) / (high - low), (*image.shape[:2], 3))


def _show(ax: Axes, picture: Floats, colour: str, title: str = "", below: str = "", width: float = 2.5) -> None:
    """A picture without axes in a frame, one line above it in the frame's colour and one below in grey."""
    ax.imshow(picture, interpolation="nearest")
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set(visible=True, color=colour, linewidth=width)
    if title:
        ax.set_title(title, color=colour, fontsize=10, loc="center", pad=5)
    if below:
        ax.set_xlabel(drawn(below), color="#555555", fontsize=9, labelpad=4, parse_math=False)  # "$" is a fine class


@contextlib.contextmanager
def _grid(path: PathLike, columns: Sequence[float], rows: int, height: float, title: str) -> Iterator[list[Axes]]:
    """A PNG file of cells in reading order, below `title`; a cell without an image is hidden. All sizes in inches."""
    full_width, full_height = max(sum(columns), 6.0), rows * height + 0.55
    with png_figure(path, full_width, full_height) as fig:
        right, bottom, top = 0.98 * (sum(columns) / full_width), 0.3 / full_height, 1 - 0.85 / full_height
        fig.subplots_adjust(left=0.02, right=right, bottom=bottom, top=top, wspace=0.14, hspace=0.5)
        fig.text(0.02, 1 - 0.28 / full_height, title, fontsize=12, va="center")
        axes = list(fig.subplots(rows, len(columns), squeeze=False, width_ratios=columns).flat)
        yield axes
        for ax in axes:
            if not ax.images:
                ax.set_axis_off()
