"""Chooses, among the connected pieces of ink in a picture, those that make up the digit."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siamese_np.datasets.digit_ink import MEDIAN_STEP, SMALL, Border, Float, dilated, resized, running
from siamese_np.errors import DataError

Mask = NDArray[np.bool_]

_SIGNIFICANT = 5  # least strength of ink, in standard deviations of the noise; noise alone does not reach it
_FAINTEST = 0.04  # least strength of ink; what is fainter comes from compression
_STRONG = 0.5  # of the strongest ink: each piece has a pixel that strong
_WEAK = 0.25  # of the strongest ink: a piece goes on into what is that strong (double threshold)
_PALE, _DENSE = 0.15, 0.85  # of full ink: what is paler is background, what is denser a stroke; noise stays in neither
_LAG = 2  # pixels between two whose difference is texture, where the picture has 64
_CLEAR = 6  # times as strong as that texture is a digit, at least; pencil in a photograph is 16 times, noise 5
_ROUNDS = 6  # how often the strongest ink may turn out to be no digit
_SMALLEST = 0.06  # least span of a digit, as a share of the picture's longer side

_LINE = 0.6  # of the picture's side: a ruled line covers that much of it at least, and both its ends
_LINE_WIDTH = 0.05  # of the side: a line is thinner
_SLOPE = 7  # rows in which a line stays, more or less
_CROSSING = 1.4  # of a line's strength: what is stronger is a stroke that crosses it

_WHOLE_SIDE = 0.75  # what covers that share of a side of the picture lies behind the paper
_INSIDE = 0.3  # of the span of what comes in from outside: a piece that large is the digit
_FRAMED = 0.25  # of a frame's span: what is in it is at least that large
_FULL = 0.68  # of its box: what fills more, and is not long, is a blot; a disc fills 0.79
_FLAT = 5  # width of an underline, at least, for its height
_SPECK = 0.04  # of the digit's ink: a smaller piece is dirt
_NEAR = 0.35  # of the digit's span: a piece that near belongs to it
_NEARER = 0.08  # a blot belongs to it only so near; and two digits have more between them
_SECOND = 0.7  # of the digit's height: another piece that high which is not near is a second digit


@dataclass(frozen=True)
class Pieces:
    """The connected pieces of a mask, with their number at each pixel (0 outside), and facts by number."""

    labels: NDArray[np.intp]
    top: NDArray[np.intp]
    bottom: NDArray[np.intp]  # past the last row
    left: NDArray[np.intp]
    right: NDArray[np.intp]

    @property
    def span(self) -> NDArray[np.intp]:
        return np.maximum(self.bottom - self.top, self.right - self.left)

    def sums(self, values: NDArray[Any]) -> NDArray[Any]:
        """Sum of `values` over each piece, and 0 for what is in none."""
        sums = np.bincount(self.labels.ravel(), values.ravel(), len(self.top))
        sums[0] = 0
        return sums


def connected(mask: Mask) -> Pieces:
    """The 8-connected pieces of `mask`: its horizontal runs, joined where they meet."""
    height, width = mask.shape
    padded = np.zeros((height, width + 2), np.int8)
    padded[:, 1:-1] = mask
    steps = np.diff(padded.ravel(), prepend=np.int8(0))
    starts, ends = np.flatnonzero(steps == 1), np.flatnonzero(steps == -1)  # ends: past the last pixel
    stride = width + 2
    first = np.searchsorted(ends, starts + stride, "left")  # runs one row below that end at or after the start, and
    last = np.searchsorted(starts, ends + stride, "right")  # start at or before the end: diagonal neighbours count
    counts = np.maximum(last - first, 0)
    above = np.repeat(np.arange(len(starts)), counts)
    below = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts) + np.repeat(first, counts)
    roots = np.arange(len(starts))
    while True:  # each root takes the least root it meets, until none meets a lower one
        a, b = roots[above], roots[below]
        if np.array_equal(a, b):
            break
        np.minimum.at(roots, np.maximum(a, b), np.minimum(a, b))
        while not np.array_equal(roots, roots[roots]):
            roots = roots[roots]
    _, number = np.unique(roots, return_inverse=True)
    number = number + 1
    labels = np.zeros(mask.shape, np.intp)
    labels[mask] = np.repeat(number, ends - starts)
    row, left, right = starts // stride, starts % stride - 1, (ends - 1) % stride - 1
    count = number.max(initial=0) + 1
    least = np.full((4, count), max(mask.shape))
    for of_pieces, of_runs in zip(least, (row, -row - 1, left, -right - 1), strict=True):
        np.minimum.at(of_pieces, number, of_runs)
    return Pieces(labels, least[0], -least[1], least[2], -least[3])


def digit_of(ink: Float, noise: float, border: Border) -> Float:
    """The digit's ink alone: about 1 in its strokes, exactly 0 elsewhere. `border` is where the picture had its border.

    The strongest ink is taken first. If it is no digit (a dark table, specks), it is removed, and weaker ink is tried.
    What is left must be much stronger than the texture around it, or noise would have digits.
    """
    given, ink = ink, ink.copy()
    floor = max(_SIGNIFICANT * noise, _FAINTEST)
    for _ in range(_ROUNDS):
        peak = max(float(ink.max()), floor / _STRONG)
        ink = _without_lines(ink, _WEAK * peak, border)
        pieces = connected(ink > _WEAK * peak)
        strong = pieces.sums(ink > _STRONG * peak) > 0
        kept = _digit_among(pieces, strong, ink, border)[pieces.labels]
        if kept.any():
            full = np.quantile(ink[kept & (ink > _STRONG * peak)], 0.75)  # the middle of a stroke, not its soft edges
            near = dilated(kept, 5)
            if full < _CLEAR * _texture(given, near, border):
                break
            strength = np.clip((ink / full - _PALE) / (_DENSE - _PALE), 0, 1)
            return np.where(near, strength, 0).astype(np.float32)
        if peak * _STRONG <= floor:
            break
        ink[dilated(strong[pieces.labels])] = 0
    raise DataError("nothing on it stands out from the background")


def _texture(ink: Float, near: Mask, border: Border) -> float:
    """Standard deviation of the ink that is not near the digit: of a grain as coarse as strokes, no slow changes."""
    top, bottom, left, right = (max(round(edge), 0) for edge in border)
    coarse, used = (resized(values[top:bottom, left:right].astype(np.float32), SMALL) for values in (ink, near))
    coarse = np.where(used > 0, np.nan, coarse)
    steps = np.concatenate([np.abs(a[_LAG:] - a[:-_LAG]).ravel() for a in (coarse, coarse.T)])
    steps = steps[np.isfinite(steps)]
    return float(np.median(steps)) / MEDIAN_STEP if steps.size else 0.0


def _without_lines(ink: Float, weak: float, border: Border) -> Float:
    """`ink` without straight lines from side to side; strokes that cross one stay whole.

    One such line may be the bar of a 4 or 7 that fills its picture: it counts if the digit touches no side.
    """
    top, bottom, left, right = (round(edge) for edge in border)
    for _ in range(2):  # first those from left to right, then those from top to bottom
        mask = ink > weak
        start, end = max(left, 0), min(right, mask.shape[1])
        width, reach = end - start, 2 + (end - start) // 32
        thick = int(_LINE_WIDTH * width) | 1
        thin = mask & ~running(running(mask, thick, np.minimum, 0), thick, np.maximum, 0)
        seen = running(thin, _SLOPE, np.maximum, 0)
        rows = (
            (seen.sum(1) >= _LINE * width) & seen[:, start : start + reach].any(1) & seen[:, end - reach : end].any(1)
        )
        if rows.any():
            on = running(thin & running(rows, _SLOPE, np.maximum, 0)[:, np.newaxis], 3, np.maximum, 0)
            on &= ink < _CROSSING * np.median(ink[on & thin])
            rest = mask & ~on
            tops = np.flatnonzero(np.diff(rows.astype(np.int8)) == 1)
            inner = rest[max(top + 2, 0) : bottom - 2, max(left + 2, 0) : right - 2]
            if (tops > top + _SLOPE).sum() >= 2 or inner.sum() == rest.sum():
                joined = running(running(rest, thick, np.maximum, 0), thick, np.minimum, 0)
                ink = np.where(on & ~joined, 0, ink)
        ink = ink.T
        top, bottom, left, right = left, right, top, bottom
    return ink


def _digit_among(pieces: Pieces, strong: Mask, ink: Float, border: Border) -> Mask:
    """Which pieces are the digit, of those that are strong."""
    weight = pieces.sums(np.maximum(ink, 0)) * strong
    span, height, width = pieces.span, pieces.bottom - pieces.top, pieces.right - pieces.left
    area = pieces.sums(pieces.labels > 0)
    inside = ~_from_outside(pieces, border) & (weight > 0)
    large = inside & (span >= _SMALLEST * max(ink.shape))
    for number in np.flatnonzero(large):
        inside[number] = not _is_frame(pieces, int(number), large)
    large &= inside
    if not large.any():
        return large
    solid = (area >= _FULL * height * width) & (span < 2 * np.minimum(height, width))
    flat = (width >= _FLAT * height) & (area <= width * width / _FLAT)
    for odd in (solid, flat):
        if (large & ~odd).any():
            large &= ~odd
    main = int(np.argmax(weight * large))
    aside = np.maximum(pieces.left[main] - pieces.right, pieces.left - pieces.right[main])
    gap = np.maximum(aside, np.maximum(pieces.top[main] - pieces.bottom, pieces.top - pieces.bottom[main]))
    beside = gap > np.where(solid, _NEARER, _NEAR) * span[main]
    if (large & (gap > _NEARER * span[main]) & (aside > 0) & (height >= _SECOND * height[main])).any():
        raise DataError("there are several digits on it, but only one can be read: crop the picture")
    underline = flat & (pieces.top >= pieces.bottom[main]) & (width >= 0.7 * width[main])
    digit = inside & ~beside & ~underline & (weight >= _SPECK * weight[main])
    digit[main] = True
    return digit


def _from_outside(pieces: Pieces, border: Border) -> Mask:
    """Which pieces come in over the border: a table behind the paper, a thread, a neighbour's stroke.

    A digit that fills its picture touches the border, too, but two opposite sides of it.
    """
    top, bottom, left, right = (round(edge) for edge in border)
    above, below = pieces.top <= top + 1, pieces.bottom >= bottom - 1
    before, behind = pieces.left <= left + 1, pieces.right >= right - 1
    touching = above | below | before | behind
    if not touching.any():
        return touching
    rows = pieces.labels[max(top, 0) : bottom, max(left, 0) : right]

    def covers(line: NDArray[np.intp]) -> Mask:
        return np.bincount(line, minlength=len(pieces.top)) >= _WHOLE_SIDE * line.size

    first, last = covers(rows[1]), covers(rows[-2])
    start, end = covers(rows[:, 1]), covers(rows[:, -2])
    strip = (first & ~below) | (last & ~above) | (start & ~behind) | (end & ~before) | ((first | last) & (start | end))
    strip &= max(rows.shape) <= 2.5 * min(rows.shape)  # or it is as slim as a 1, which fills it
    through = (above & below) | (before & behind)
    largest = pieces.span[~touching].max(initial=0)
    return strip | (touching & ~through & (largest >= _INSIDE * pieces.span))


def _is_frame(pieces: Pieces, number: int, large: Mask) -> bool:
    """Whether a piece goes round another large one."""
    within = (
        large
        & (pieces.top > pieces.top[number]) & (pieces.bottom < pieces.bottom[number])
        & (pieces.left > pieces.left[number]) & (pieces.right < pieces.right[number])
        & (pieces.span >= _FRAMED * pieces.span[number])
    )  # fmt: skip
    for other in np.flatnonzero(within):
        rows, columns = slice(pieces.top[other], pieces.bottom[other]), slice(pieces.left[other], pieces.right[other])
        if not (pieces.labels[rows, columns] == number).any():
            return True
    return False
