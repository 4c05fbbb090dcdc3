"""Pictures of a trained network, saved as PNG: one function per picture, arrays and a path in, the path out.

Drawn on matplotlib's Figure objects directly, never through pyplot, so nothing global changes: no backend is
chosen and no figure stays open. The colours are those of Okabe & Ito and of Paul Tol, which colour-blind
readers tell apart too; where a colour carries a verdict, a tick or a cross says the same.

Pair labels are 0 = similar, 1 = dissimilar, and a pair is accepted as similar if its distance is below the
threshold, as in `evaluation`.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import ArrayLike, NDArray

from siamese_np._checks import as_array
from siamese_np.errors import ShapeError
from siamese_np.metrics import (
    check_embeddings,
    check_pairs,
    equal_error_rate,
    pair_accuracy,
    roc_auc,
    roc_curve,
    tar_at_far,
)
from siamese_np.storage import write_atomically

PathLike = str | os.PathLike[str]
Floats = NDArray[np.float64]

# Okabe & Ito, "Color Universal Design", 2008.
BLUE, ORANGE, GREEN, VERMILLION, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#767676"
SIMILAR_COLOUR, DISSIMILAR_COLOUR = BLUE, ORANGE
RIGHT, WRONG = (GREEN, "\u2713"), (VERMILLION, "\u2717")  # colour and mark

# Ten classes: Paul Tol's "muted" scheme, its pale grey darkened. More classes start again from the first.
CLASS_COLOURS = (
    "#332288", "#88CCEE", "#44AA99", "#117733", "#999933",
    "#DDCC77", "#CC6677", "#882255", "#AA4499", "#888888",
)  # fmt: skip

STYLE: Any = {
    "figure.facecolor": "white",
    "figure.dpi": 130,
    "figure.constrained_layout.w_pad": 0.12,
    "figure.constrained_layout.h_pad": 0.12,
    "text.usetex": False,
    "savefig.dpi": 130,
    "font.family": "DejaVu Sans",  # comes with matplotlib and has the tick and the cross
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.labelcolor": "#333333",
    "xtick.color": "#333333",
    "ytick.color": "#333333",
    "lines.linewidth": 1.8,
}
_styled = matplotlib.rc_context(STYLE)  # as a decorator it opens anew at each call


def _figure(width: float, height: float, **layout: Any) -> Figure:
    """An empty figure of so many inches."""
    fig = Figure(figsize=(width, height), **layout)
    FigureCanvasAgg(fig)
    return fig


def _saved(fig: Figure, path: PathLike) -> Path:
    """Write `fig` as PNG whatever the name ends in."""
    content = io.BytesIO()
    fig.savefig(content, format="png")
    write_atomically(Path(path), content.getvalue())
    return Path(path)


# --- Curves ---------------------------------------------------------------------------------------------


def _column(history: Sequence[Mapping[str, Any]], key: str) -> Floats:
    """One value per epoch; NaN, which is not drawn, where an epoch has none."""
    values = [row.get(key) for row in history]
    return np.array([np.nan if value is None else float(value) for value in values])


def _label_line_ends(ax: Axes, lines: Iterable[tuple[float, float, str, str]]) -> None:
    """Write each (x, y, text, colour) right of its point, shifted up if it would touch the one below."""
    points_per_pixel = 72 / ax.get_figure().dpi  # type: ignore[union-attr]
    lowest = ax.bbox.y0 * points_per_pixel + 13  # clear of the horizontal axis
    for x, y, text, colour in sorted(lines, key=lambda line: line[1]):
        at = ax.transData.transform((x, y))[1] * points_per_pixel
        shift = max(0.0, lowest - at)
        lowest = at + shift + 26  # two lines of text
        ax.annotate(
            text, (x, y), xytext=(8, shift), textcoords="offset points", va="center", color=colour,
            annotation_clip=False,
        )  # fmt: skip


@_styled
def plot_history(path: PathLike, history: Sequence[Mapping[str, Any]]) -> Path:
    """Training and validation loss, and validation pair accuracy, by epoch.

    Parameters
    ----------
    path : path
        Where to write the PNG.
    history : sequence of dict
        One per epoch, with the keys `epoch`, `loss`, `validation_loss` and `validation_pair_accuracy` (in
        [0, 1]). A value that is missing or None is left out of its curve.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    ShapeError
        If there is no epoch.
    """
    if len(history) == 0:
        raise ShapeError("history is empty; at least one epoch is needed for a picture.")
    epoch = _column(history, "epoch")
    fig = _figure(9.6, 3.6)
    loss_ax, accuracy_ax = fig.subplots(1, 2)
    fig.subplots_adjust(left=0.07, right=0.88, bottom=0.14, top=0.88, wspace=0.55)
    curves = {
        loss_ax: (("loss", "training", GREY), ("validation_loss", "validation", BLUE)),
        accuracy_ax: (("validation_pair_accuracy", "validation", BLUE),),
    }
    marker = "o" if len(epoch) <= 30 else ""
    for ax, keys in curves.items():
        ends = []
        for key, name, colour in keys:
            value = _column(history, key)
            ax.plot(epoch, value, color=colour, marker=marker, markersize=3.5)
            drawn = np.flatnonzero(np.isfinite(value))
            if len(drawn):
                last = drawn[-1]
                figure = f"{value[last]:.3g}" if ax is loss_ax else f"{value[last]:.2%}"
                ends.append((epoch[last], value[last], f"{name}\n{figure}", colour))
        ax.set_xlabel("epoch")
        ax.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True, min_n_ticks=1))
        if len(epoch) == 1:
            ax.set_xlim(epoch[0] - 1, epoch[0] + 1)
            ax.set_xticks(epoch)
        values = np.concatenate([_column(history, key) for key, _, _ in keys])
        if np.isfinite(values).any():
            low, high = float(np.nanmin(values)), float(np.nanmax(values))
            if ax is loss_ax:
                ax.set_ylim(0, 1.2 * high or 1.0)
            else:
                room = 0.08 * (high - low) or 0.01
                ax.set_ylim(low - room, min(high + room, 1.001))
        _label_line_ends(ax, ends)

    loss_ax.set_title("Contrastive loss")
    accuracy_ax.yaxis.set_major_formatter(PercentFormatter(1.0))
    accuracy = _column(history, "validation_pair_accuracy")
    title = "Pair accuracy"
    if np.isfinite(accuracy).any():
        best = int(np.nanargmax(accuracy))
        title += f", best {accuracy[best]:.2%} at epoch {epoch[best]:g}"
    accuracy_ax.set_title(title)
    return _saved(fig, path)


@_styled
def plot_distances(path: PathLike, dist: ArrayLike, label: ArrayLike, threshold: float, margin: float) -> Path:
    """Histograms of the similar and the dissimilar pairs' distances, with the threshold between them.

    Each histogram has area 1 in the plain sense; the vertical axis is a square-root scale, on which the few
    pairs on the wrong side can still be seen.

    Parameters
    ----------
    path : path
        Where to write the PNG.
    dist : (P,) array of float
        Distances, finite and at least 0.
    label : (P,) array of int
        0 = similar, 1 = dissimilar.
    threshold, margin : float
        The decision threshold and the margin of the loss, in the units of `dist`.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    ShapeError
        If an array has the wrong shape, dtype or values.
    OptionError
        If the threshold is NaN.
    """
    d, similar = check_pairs(dist, label)
    accuracy = pair_accuracy(d, label, threshold)
    right_end = 1.02 * max(float(d.max()), threshold, margin)
    bins = np.linspace(0, right_end, 81).tolist()
    fig = _figure(8.4, 4.4)
    fig.subplots_adjust(left=0.08, right=0.97, bottom=0.13, top=0.76)
    ax = fig.subplots()
    ax.set_yscale("function", functions=(lambda y: np.sqrt(np.maximum(y, 0)), np.square))

    sides = (
        ("similar", d[similar], SIMILAR_COLOUR, "at or above", d[similar] >= threshold),
        ("dissimilar", d[~similar], DISSIMILAR_COLOUR, "below", d[~similar] < threshold),
    )
    for line, (name, part, colour, where, wrong) in enumerate(sides):
        if len(part):
            ax.hist(part, bins, density=True, histtype="stepfilled", color=colour, alpha=0.35)
            ax.hist(part, bins, density=True, histtype="step", color=colour, linewidth=1.6)
            share = f" ({wrong.mean():.2%})"
        else:
            share = ""
        y = 0.885 - 0.055 * line
        fig.text(0.08, y, "\u25a0", color=colour, fontsize=13, va="center")
        count = f"{int(wrong.sum()):,} of {len(part):,} {name} pairs {where} the threshold{share}"
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
    title = f"Distances of {len(d):,} pairs: {accuracy:.2%} decided rightly"
    fig.text(0.08, 0.95, title, fontsize=11, va="center")
    return _saved(fig, path)


@_styled
def plot_roc(path: PathLike, dist: ArrayLike, label: ArrayLike) -> Path:
    """The ROC of accepting pairs as similar, with its area, equal error rate and TAR at FAR 0.001.

    The false accept rate is logarithmic, from 1e-4: what verification is judged by are rare false accepts.

    Parameters
    ----------
    path : path
        Where to write the PNG.
    dist : (P,) array of float
        Distances, finite and at least 0.
    label : (P,) array of int
        0 = similar, 1 = dissimilar; both must occur.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    ShapeError
        If an array has the wrong shape, dtype or values, or one kind of pair is missing.
    """
    far, tar, _ = roc_curve(dist, label)
    eer, tar_at_1e3 = equal_error_rate(dist, label), tar_at_far(dist, label, 1e-3)
    fig = _figure(6.6, 4.8, layout="constrained")
    ax = fig.subplots()
    ax.set_xscale("log")
    # FAR 0 has no place on this axis: its point is drawn left of the edge, so the line enters from there.
    ax.step(np.maximum(far, 1e-5), tar, where="post", color=BLUE, clip_on=True)
    left_end = float(tar[far <= 1e-4][-1])
    bottom = max(0.0, left_end - 0.15 * (1 - left_end) - 0.01)
    ax.set_ylim(bottom, 1 + 0.04 * (1 - bottom))
    ax.set_xlim(1e-4, 1)

    eer_at = float(np.clip(eer, 1e-4, 1)), max(1 - eer, bottom)
    # Under the other text if both marks are at about the same height, as with a very good network.
    eer_line = 2 if abs(eer_at[1] - tar_at_1e3) < 0.15 * (1 - bottom) else 1
    marks = (
        ((1e-3, tar_at_1e3), "o", 1, f"TAR {tar_at_1e3:.2%} at FAR 0.1%"),
        (eer_at, "D", eer_line, f"equal error rate {eer:.2%}"),
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
    return _saved(fig, path)


# --- The embedding space --------------------------------------------------------------------------------


def pca_2d(emb: ArrayLike) -> tuple[Floats, Floats]:
    """The two directions in which embeddings vary most, by singular value decomposition.

    A singular vector's sign is arbitrary; here its largest entry in absolute value is positive (the first of
    equals), so the same embeddings always give the same map.

    Parameters
    ----------
    emb : (N, E) array of float
        Embeddings, finite; N is at least 1.

    Returns
    -------
    coordinates : (N, 2) array of float64
        The centred embeddings in these directions; 0 in a direction that does not exist (E = 1 or N = 1).
    explained : (2,) array of float64
        Share of the total variance in each direction, in [0, 1]; 0 if there is no variance.

    Raises
    ------
    ShapeError
        If `emb` has the wrong shape, dtype or values.
    """
    values = check_embeddings("emb", emb).astype(np.float64)
    if len(values) == 0:
        raise ShapeError("emb is empty; at least one embedding is needed for a map.")
    centred = values - values.mean(axis=0)
    _, singular, directions = np.linalg.svd(centred, full_matrices=False)
    directions = directions[:2]
    largest = np.abs(directions).argmax(axis=1)[:, None]
    directions *= np.where(np.take_along_axis(directions, largest, axis=1) < 0, -1.0, 1.0)
    coordinates, explained = np.zeros((len(values), 2)), np.zeros(2)
    coordinates[:, : len(directions)] = centred @ directions.T
    total = float(np.sum(singular**2))
    if total > 0:
        explained[: len(directions)] = singular[:2] ** 2 / total
    return coordinates, explained


@_styled
def plot_embedding_map(path: PathLike, emb: ArrayLike, labels: ArrayLike) -> Path:
    """A flat map of the embeddings by `pca_2d`, each class in its colour with its name at its centre.

    Parameters
    ----------
    path : path
        Where to write the PNG.
    emb : (N, E) array of float
        Embeddings, finite; N is at least 1.
    labels : (N,) array of int or str
        Class of each embedding; its text is the name written.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    ShapeError
        If an array has the wrong shape, dtype or values, or the lengths differ.
    """
    coordinates, explained = pca_2d(emb)
    names = _check_classes("labels", labels, len(coordinates))
    classes, of_class = np.unique(names, return_inverse=True)
    fig = _figure(7.0, 6.4, layout="constrained")
    ax = fig.subplots()
    # In random order, or the last class would cover the others wherever they overlap.
    order = np.random.default_rng(0).permutation(len(coordinates))
    colours = np.array(CLASS_COLOURS)[of_class % len(CLASS_COLOURS)]
    size = float(np.clip(12_000 / len(coordinates), 3, 24))
    horizontal, vertical = coordinates[order].T
    ax.scatter(horizontal, vertical, s=size, c=colours[order].tolist(), alpha=0.6, linewidths=0)
    crowded = len(classes) > 15
    for c, name in enumerate(classes):
        x, y = np.median(coordinates[of_class == c], axis=0).tolist()
        ax.text(
            x, y, str(name), ha="center", va="center", fontsize=9 if crowded else 14, fontweight="bold",
            color="#222222", parse_math=False, path_effects=[withStroke(linewidth=3, foreground="white")],
        )  # fmt: skip
    ax.set_aspect("equal", adjustable="datalim")
    ax.set_xlabel(f"first principal direction ({explained[0]:.0%} of the variance)")
    ax.set_ylabel(f"second principal direction ({explained[1]:.0%})")
    ax.set_title(f"{len(coordinates):,} embeddings of {len(classes)} classes in their two widest directions")
    return _saved(fig, path)


# --- Galleries ------------------------------------------------------------------------------------------


def _check_classes(name: str, labels: ArrayLike, wanted: int) -> NDArray[Any]:
    """`labels` as a 1-D array with `wanted` entries, or a `ShapeError`."""
    array = as_array(name, labels)
    if array.shape != (wanted,):
        raise ShapeError(f"{name} has shape {array.shape}; it must be ({wanted},), one class per picture.")
    return array


def _check_images(name: str, images: ArrayLike) -> NDArray[Any]:
    """`images` as an array (N, H, W, 1 or 3), or a `ShapeError`."""
    array = as_array(name, images)
    if array.ndim == 3:
        array = array[..., None]
    if array.ndim != 4 or array.shape[3] not in (1, 3) or 0 in array.shape or array.dtype.kind not in "uif":
        raise ShapeError(
            f"{name} must be numbers of shape (N, H, W), (N, H, W, 1) or (N, H, W, 3), "
            f"not {array.dtype} of shape {np.shape(images)}."
        )
    return array


def _check_image_pairs(pairs: ArrayLike, images: NDArray[Any], wanted: int) -> NDArray[np.intp]:
    """`pairs` as (wanted, 2) row numbers into `images`, or a `ShapeError`."""
    array = as_array("pairs", pairs)
    if array.shape != (wanted, 2) or array.dtype.kind not in "iu":
        raise ShapeError(
            f"pairs must be whole numbers of shape ({wanted}, 2), two images per distance, "
            f"not {array.dtype} of shape {array.shape}."
        )
    if array.min() < 0 or array.max() >= len(images):
        raise ShapeError(f"pairs must hold row numbers of images from 0 to {len(images) - 1}.")
    return array


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
        ax.set_xlabel(below, color="#555555", fontsize=9, labelpad=4, parse_math=False)  # "$" is a fine class


def _show_pairs(
    axes: Iterable[Axes],
    chosen: NDArray[np.intp],
    images: NDArray[Any],
    pairs: NDArray[np.intp],
    dist: Floats,
    accepted: NDArray[np.bool_],
    similar: NDArray[np.bool_],
    labels: NDArray[Any] | None,
) -> None:
    """Each chosen pair side by side in one frame, with the verdict, the distance and the two classes."""
    for ax, pair in zip(axes, chosen, strict=False):
        a, b = _rgb(images[pairs[pair, 0]]), _rgb(images[pairs[pair, 1]])
        gap = np.ones((a.shape[0], max(1, a.shape[1] // 14), 3))
        colour, mark = RIGHT if accepted[pair] == similar[pair] else WRONG
        verdict = "same" if accepted[pair] else "different"
        below = "" if labels is None else f"{labels[pairs[pair, 0]]} and {labels[pairs[pair, 1]]}"
        _show(ax, np.concatenate([a, gap, b], axis=1), colour, f"{mark} {verdict}  {dist[pair]:.3f}", below)


def _grid(columns: Sequence[float], rows: int, cell_height: float, title: str) -> tuple[Figure, list[Axes]]:
    """A figure with `title` above a grid of cells, and the cells in reading order; all sizes in inches."""
    width, height = max(sum(columns), 6.0), rows * cell_height + 0.55
    fig = _figure(width, height)
    used = sum(columns) / width
    fig.subplots_adjust(
        left=0.02, right=0.98 * used, bottom=0.3 / height, top=1 - 0.85 / height, wspace=0.14, hspace=0.5
    )
    fig.text(0.02, 1 - 0.28 / height, title, fontsize=12, va="center")
    axes = list(fig.subplots(rows, len(columns), squeeze=False, width_ratios=columns).flat)
    return fig, axes


def _hide_unused(axes: Sequence[Axes]) -> None:
    for ax in axes:
        if not ax.images:
            ax.set_axis_off()


@_styled
def plot_pairs(
    path: PathLike,
    images: ArrayLike,
    pairs: ArrayLike,
    dist: ArrayLike,
    label: ArrayLike,
    threshold: float,
    labels: ArrayLike | None = None,
) -> Path:
    """Sixteen pairs with the verdict on each: similar ones in the upper half, dissimilar ones below.

    The first of each kind are shown; if any verdicts are wrong, up to two of each kind are wrong ones.

    Parameters
    ----------
    path : path
        Where to write the PNG.
    images : (N, H, W), (N, H, W, 1) or (N, H, W, 3) array
        uint8 in [0, 255] or float in [0, 1].
    pairs : (P, 2) array of int
        Row numbers into `images`.
    dist : (P,) array of float
        Distances, finite and at least 0; P is at least 1.
    label : (P,) array of int
        0 = similar, 1 = dissimilar.
    threshold : float
        A distance below it means "same".
    labels : (N,) array of int or str, optional
        Class of each image, written below the pair.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    ShapeError
        If an array has the wrong shape, dtype or values, or the lengths differ.
    OptionError
        If the threshold is NaN.
    """
    d, similar = check_pairs(dist, label)
    accuracy = pair_accuracy(d, label, threshold)
    pictures = _check_images("images", images)
    rows = _check_image_pairs(pairs, pictures, len(d))
    classes = None if labels is None else _check_classes("labels", labels, len(pictures))
    accepted = d < threshold
    halves = []
    for kind in (similar, ~similar):
        right = np.flatnonzero(kind & (accepted == similar))
        wrong = np.flatnonzero(kind & (accepted != similar))
        show_wrong = wrong[: max(2, 8 - len(right))]
        halves.append(np.concatenate([right[: 8 - len(show_wrong)], show_wrong]))
    title = f"Pairs at threshold {threshold:.3g}: {accuracy:.2%} of {len(d):,} decided rightly"
    grid_rows = [-(-len(half) // 4) for half in halves]
    fig, axes = _grid([2.3] * 4, sum(grid_rows), 1.72, title)
    for first, half in zip((0, 4 * grid_rows[0]), halves, strict=True):
        _show_pairs(axes[first:], half, pictures, rows, d, accepted, similar, classes)
    _hide_unused(axes)
    return _saved(fig, path)


@_styled
def plot_mistakes(
    path: PathLike,
    images: ArrayLike,
    pairs: ArrayLike,
    dist: ArrayLike,
    label: ArrayLike,
    threshold: float,
    labels: ArrayLike | None = None,
) -> Path:
    """The pairs furthest on the wrong side of the threshold, the furthest first, at most twenty-four.

    Parameters
    ----------
    path, images, pairs, dist, label, threshold, labels
        As in `plot_pairs`.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    ShapeError
        If an array has the wrong shape, dtype or values, or the lengths differ.
    OptionError
        If the threshold is NaN.
    """
    d, similar = check_pairs(dist, label)
    pair_accuracy(d, label, threshold)  # refuses a threshold that is not a number
    pictures = _check_images("images", images)
    rows = _check_image_pairs(pairs, pictures, len(d))
    classes = None if labels is None else _check_classes("labels", labels, len(pictures))
    accepted = d < threshold
    wrong = np.flatnonzero(accepted != similar)
    if len(wrong) == 0:
        fig = _figure(6.0, 1.6)
        colour, mark = RIGHT
        text = f"{mark} no mistakes among {len(d):,} pairs at threshold {threshold:.3g}"
        fig.text(0.5, 0.5, text, color=colour, fontsize=13, ha="center", va="center")
        return _saved(fig, path)
    hardest = wrong[np.argsort(-np.abs(d[wrong] - threshold), kind="stable")][:24]
    title = f"{len(wrong):,} of {len(d):,} pairs decided wrongly at threshold {threshold:.3g}"
    if len(wrong) > 1:
        title += f", the {len(hardest)} worst first" if len(wrong) > len(hardest) else ", the worst first"
    columns = min(6, len(hardest))
    fig, axes = _grid([1.95] * columns, -(-len(hardest) // columns), 1.55, title)
    _show_pairs(axes, hardest, pictures, rows, d, accepted, similar, classes)
    _hide_unused(axes)
    return _saved(fig, path)


@_styled
def plot_neighbours(
    path: PathLike,
    query_images: ArrayLike,
    query_labels: ArrayLike,
    gallery_images: ArrayLike,
    gallery_labels: ArrayLike,
    indices: ArrayLike,
    distances: ArrayLike,
) -> Path:
    """The first query of each class, at most ten, and its nearest gallery images, at most eight.

    Parameters
    ----------
    path : path
        Where to write the PNG.
    query_images, gallery_images : (Q or G, H, W), (Q or G, H, W, 1) or (Q or G, H, W, 3) array
        uint8 in [0, 255] or float in [0, 1]; Q is at least 1.
    query_labels, gallery_labels : (Q,) and (G,) array of int or str
        Class of each image.
    indices : (Q, k) array of int
        Rows of the gallery, nearest first, from `metrics.nearest`.
    distances : (Q, k) array of float
        Their distances.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    ShapeError
        If an array has the wrong shape, dtype or values, or the lengths differ.
    """
    queries = _check_images("query_images", query_images)
    gallery = _check_images("gallery_images", gallery_images)
    truth = _check_classes("query_labels", query_labels, len(queries))
    classes = _check_classes("gallery_labels", gallery_labels, len(gallery))
    index, dist = as_array("indices", indices), as_array("distances", distances)
    if index.shape != dist.shape or index.ndim != 2 or len(index) != len(queries) or index.size == 0:
        raise ShapeError(
            f"indices and distances must be of shape ({len(queries)}, k), one row per query, "
            f"not {index.shape} and {dist.shape}."
        )
    if index.dtype.kind not in "iu" or index.min() < 0 or index.max() >= len(gallery):
        raise ShapeError(f"indices must be whole numbers from 0 to {len(gallery) - 1}, rows of the gallery.")
    _, first = np.unique(truth, return_index=True)
    if len(first) > 10:
        first = first[np.linspace(0, len(first) - 1, 10).astype(int)]
    shown = min(8, index.shape[1])
    agree = float(np.mean(classes[index] == truth[:, None]))
    title = f"Nearest neighbours: {agree:.2%} of all {index.size:,} are of the query's class"
    # An empty, narrow column sets the query apart from its neighbours.
    fig, axes = _grid([1.0, 0.2] + [1.0] * shown, len(first), 1.36, title)
    for row, query in enumerate(first):
        cells = axes[row * (shown + 2) : (row + 1) * (shown + 2)]
        _show(cells[0], _rgb(queries[query]), GREY, below=f"query: {truth[query]}", width=1.0)
        for ax, neighbour, distance in zip(cells[2:], index[query], dist[query], strict=False):
            colour, mark = RIGHT if classes[neighbour] == truth[query] else WRONG
            _show(ax, _rgb(gallery[neighbour]), colour, below=f"{mark} {classes[neighbour]}  {distance:.3f}")
            ax.xaxis.label.set_color(colour)
    _hide_unused(axes)
    return _saved(fig, path)
