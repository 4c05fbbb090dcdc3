"""Finds the ink in a picture: on which side of its background it lies, and how strong it is at each pixel."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from siamese_np.errors import DataError

Float = NDArray[np.float32]
Array = NDArray[Any]
Border = tuple[float, float, float, float]  # first row, past the last row, first column, past the last column

SMALL = 64  # pixels of the longer side at which the background is found; it has no finer details
_WINDOW = 0.35  # of the longer side: wider than any stroke, so that no window holds ink alone
_RING = 0.45  # of the border's length: wider than the bar of a 7 that fills its side
_STEP = 0.3  # of the picture's range: a step of the border that high is the edge of a stroke that touches it
_LEAVES = 0.15  # of the picture's range: what leaves the border's running median that far is a stroke, too
_EDGE, _CLEAR_EDGE = 0.35, 0.5  # of the strongest steps of brightness: the edge of a sheet, and that of a stroke
_EVEN = 0.02  # difference, as a share of the picture's range, up to which a border is of one colour
_MARGIN = 0.25  # around what is left of a picture without its even border, as a share of its longer side
MEDIAN_STEP = 0.95  # median of |a - b| for two normal variables of deviation 1
_DARKEST = 0.05  # least brightness of the background that ink is divided by; below it only noise would grow


def on_its_ground(picture: Float) -> tuple[Float, Border]:
    """`picture` with dark ink, and with the same margin of background whatever margin it had; and its border in it."""
    contrast = float(np.ptp(picture))
    if ink_is_light(_without_even_border(picture, contrast)[2]):
        picture = 1 - picture
    height, width = picture.shape
    touching = _shows_strokes(border_of(picture), contrast)
    if touching:
        picture = _with_margin(picture, 2)
    top, left, picture = _without_even_border(picture, contrast)
    even = np.ptp(border_of(picture)) <= 2.1 * _EVEN * contrast  # each of its pixels is that near to the first
    margin = round(_MARGIN * max(picture.shape)) if touching or even else 0
    top, left = margin - top + 2 * touching, margin - left + 2 * touching
    return np.pad(picture, margin, mode="edge"), (top, top + height, left, left + width)


def ink_of(picture: Float) -> tuple[Float, float]:
    """Strength of the dark ink at each pixel, a share of the light there; and the standard deviation of its noise."""
    background = np.maximum(_background(picture), _DARKEST)
    ink = 1 - picture / background
    steps = np.concatenate((np.diff(ink[:, ::4], axis=0).ravel(), np.diff(ink[::4], axis=1).ravel()))
    noise = float(np.median(np.abs(steps))) / MEDIAN_STEP
    return (ink - max(0, np.median(ink[::2, ::2]))).astype(np.float32), noise


def resized(picture: Float, side: int) -> Float:
    """`picture` with a longer side of `side` pixels: averaged down, or interpolated."""
    height, width = (max(1, round(length * side / max(picture.shape))) for length in picture.shape)
    if (height, width) == picture.shape:
        return picture
    kind = Image.Resampling.BOX if side < max(picture.shape) else Image.Resampling.BICUBIC
    return np.asarray(Image.fromarray(picture).resize((width, height), kind))


def dilated(values: Array, size: int = 3) -> Array:
    """Grey dilation: each pixel becomes the largest in a window of odd `size` around it."""
    return running(running(values, size, np.maximum, 0), size, np.maximum, 1)


def running(values: Array, size: int, choose: Callable[..., Array], axis: int) -> Array:
    """Largest or smallest value in a window of odd `size` around each one, along `axis`."""
    values = np.moveaxis(values, axis, 0)
    length, half = len(values), size // 2
    values = np.concatenate((np.repeat(values[:1], half, 0), values, np.repeat(values[-1:], half, 0)))
    span = 1
    while 2 * span <= size:
        values = choose(values[:-span], values[span:])
        span *= 2
    return np.moveaxis(choose(values[:length], values[size - span : size - span + length]), 0, axis)


def ink_is_light(picture: Float) -> bool:
    """Whether the ink is lighter than its background. `picture` has no even border of more than one pixel."""
    small = resized(np.pad(picture, max(picture.shape) // 16 + 1, mode="edge"), SMALL)
    box = _outer_edges(small, _EDGE)[1]
    if box is not None:  # a sheet on a table, if what is in it is a digit and not the inner side of a frame
        within, inner = _outer_edges(small[box], _CLEAR_EDGE)
        if within and inner is None:
            return within > 0
    if _largest_step(border_of(picture)) <= _STEP * float(np.ptp(picture)):
        return _outer_edges(small, _CLEAR_EDGE)[0] > 0
    low, high = np.quantile(picture, [0.02, 0.98])
    share = np.clip((picture - low) / max(high - low, 1e-6), 0, 1)  # most of the border is background, and ink is
    inside = share[1:-1, 1:-1] if min(share.shape) > 2 else share
    return bool(inside.mean() - border_of(share).mean() + 0.5 - share.mean() > 0)  # rather inside, and rare


def _outer_edges(small: Float, share: float) -> tuple[float, tuple[slice, slice] | None]:
    """How much brightness rises at the first edge on the way in from each side; and the box inside those edges.

    An edge has the `share` of the strongest step. The rise is a sum of cubes, negative where most is a fall. The box
    is None unless the edges of each side are on a straight line.
    """
    if min(small.shape) < 8:
        return 0.0, None
    sides = [np.rot90(small, turns) for turns in range(4)]  # from the top, the right, the bottom, the left
    steps = [side[2:] - side[:-2] for side in sides]
    strong = share * max(np.quantile(np.abs(step), 0.995) for step in steps)
    rise, places, straight = 0.0, [], True
    for step in steps:
        edges = np.abs(step) >= max(strong, 1e-6)
        first, seen = edges.argmax(0), edges.any(0)
        rise += float((step[first, np.arange(first.size)][seen].astype(np.float64) ** 3).sum())
        place = int(np.median(first[seen])) if seen.any() else 0
        places.append(place)
        straight &= (np.abs(first - place) <= 1)[seen].sum() > 0.6 * seen.size
    if not straight:
        return rise, None
    top, right, bottom, left = (place + 4 for place in places)
    return rise, (slice(top, small.shape[0] - bottom), slice(left, small.shape[1] - right))


def border_of(picture: Array) -> Array:
    """The border's pixels in order, clockwise from the top left."""
    return np.concatenate((picture[0], picture[1:, -1], picture[-1, -2::-1], picture[-2:0:-1, 0]))


def _shows_strokes(ring: Float, contrast: float) -> bool:
    """Whether strokes touch the border: they leave its running median, which uneven light does not."""
    if _largest_step(ring) > _STEP * contrast:
        return True
    ring = _shortened(ring)
    half = max(1, ring.size // 32)
    around = np.concatenate((ring[-half:], ring, ring[:half]))  # the border is a loop
    away = np.abs(ring - np.median(np.lib.stride_tricks.sliding_window_view(around, 2 * half + 1), axis=-1))
    return bool(away.max() > max(_LEAVES * contrast, 8 * float(np.median(away))))


def _largest_step(ring: Float) -> float:
    ring = _shortened(ring)
    return float(np.abs(ring - np.roll(ring, 2)).max())


def _shortened(ring: Float) -> Float:
    return resized(ring[np.newaxis], min(4 * SMALL, ring.size))[0]


def _with_margin(picture: Float, margin: int) -> Float:
    """`picture` with `margin` pixels of background more on each side: what the border shows beside dark strokes."""
    ring = border_of(picture)
    half = int(_RING * ring.size) // 2
    around = np.concatenate((ring[-2 * half :], ring, ring[: 2 * half]))[:, np.newaxis]  # the border is a loop
    around = running(running(around, 2 * half + 1, np.maximum, 0), 2 * half + 1, np.minimum, 0)
    paper = picture.copy()
    paper.flat[border_of(np.arange(picture.size).reshape(picture.shape))] = around[2 * half : 2 * half + ring.size, 0]
    paper = np.pad(paper, margin, mode="edge")
    paper[margin:-margin, margin:-margin] = picture
    return paper


def _without_even_border(picture: Float, contrast: float) -> tuple[int, int, Float]:
    """`picture` cropped to one pixel around what differs from its border; before it the rows and columns cut off."""
    differs = np.abs(picture - picture[0, 0]) > _EVEN * contrast
    rows, columns = (np.flatnonzero(differs.any(axis)) for axis in (1, 0))
    if not rows.size:
        raise DataError("all its pixels have the same brightness")
    top, left = max(0, rows[0] - 1), max(0, columns[0] - 1)
    return top, left, picture[top : rows[-1] + 2, left : columns[-1] + 2]


def _background(picture: Float) -> Float:
    """Brightness of the paper: the closing, which fills what is darker and narrower than its window."""
    small = resized(picture, min(SMALL, max(picture.shape)))
    size = int(_WINDOW * max(small.shape)) | 1
    closed = -dilated(-dilated(np.pad(small, size, mode="edge"), size), size)[size:-size, size:-size]
    return np.asarray(Image.fromarray(closed).resize(picture.shape[::-1], Image.Resampling.BILINEAR))
