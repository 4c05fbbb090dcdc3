"""Brings a person's own pictures into MNIST's form: a white digit on black, 20 pixels large, centred in 28x28."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from siamese_np.errors import DataError

SIDE = 28
BOX = 20  # the digit's longer side
CENTRE = 14  # pixel index of the centre of mass in MNIST's own files

EXTENSIONS = (
    ".avif", ".bmp", ".gif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm",
    ".tga", ".tif", ".tiff", ".webp",
)  # fmt: skip

_BLANK_BORDER = 0.75  # of the outermost pixels; a few of MNIST's own digits touch the border
_FIND_SIDE = 256  # a picture is shrunk to this to find the digit, which averages noise away
_SEE_SIDE = 128  # the digit's surroundings are shrunk to this
_FIT_SIDE = 64
_LOW = 0.1
_EDGE = 0.1
_SPECK = 0.05
_THINNEST = 1.0

Float = NDArray[np.float32]


def to_mnist_form(grey: ArrayLike) -> Float:
    """Turn a picture of one digit into MNIST's form.

    As in LeCun, Bottou, Bengio and Haffner, "Gradient-based learning applied to document recognition" (1998),
    section III.A: the digit is fitted into a box of 20x20 pixels with its aspect kept, and its centre of mass is
    put at the centre of a 28x28 field. Before that the background, which may be lit unevenly, is removed, and
    strokes thinner than almost any in MNIST are thickened.

    Parameters
    ----------
    grey : array_like (H, W)
        Brightness, of any size; the ink may be darker or lighter than its background. Unsigned integers are
        divided by the largest value of their type; values outside of [0, 1] are then stretched to it.

    Returns
    -------
    image : ndarray (28, 28) of float32 in [0, 1]
        Ink is near 1, background exactly 0. A 28x28 picture that is light on a black border is in this form
        already and returned as it is; one on a white border is inverted.

    Raises
    ------
    DataError
        If `grey` is not a picture, or nothing is drawn on it.
    """
    picture = _checked(grey)
    if picture.shape == (SIDE, SIDE):
        border = np.concatenate((picture[0], picture[-1], picture[1:-1, 0], picture[1:-1, -1]))
        if (border == 0).mean() >= _BLANK_BORDER:
            return picture
        if (border == 1).mean() >= _BLANK_BORDER:
            return 1 - picture
    rows, columns = _extent(_ink(_shrunk(picture, _FIND_SIDE)))
    factor = max(1, max(picture.shape) / _FIND_SIDE)
    margin = 0.25 * max(rows[1] - rows[0], columns[1] - columns[0]) + 1
    top, left = (max(0, int((span[0] - margin) * factor)) for span in (rows, columns))
    bottom, right = (int((span[1] + margin) * factor) for span in (rows, columns))
    closer = picture[top:bottom, left:right]  # looked at again: the background of less paper is simpler
    return _placed(_thickened(_ink(_shrunk(closer, _SEE_SIDE))))


def _checked(grey: ArrayLike) -> Float:
    """`grey` as a picture in [0, 1], or the reason why it is none."""
    array = np.asarray(grey)
    if array.ndim != 2 or array.size == 0 or array.dtype.kind not in "buif":
        raise DataError(f"a picture must be a 2-D array of numbers, not {array.dtype} of shape {array.shape}")
    if array.dtype.kind == "u":
        array = array / np.float32(np.iinfo(array.dtype).max)
    low, high = float(array.min()), float(array.max())
    if not np.isfinite(high - low):
        raise DataError("it holds values that are not finite")
    if low == high:
        raise DataError("nothing is drawn on it: all its pixels have the same brightness")
    if low < 0 or high > 1:
        array = (array - low) / (high - low)
    return np.ascontiguousarray(array, np.float32)


def _ink(picture: Float) -> Float:
    """The digit alone: about 1 where there is ink, exactly 0 elsewhere."""
    background = _background(picture)
    residual = picture - background
    if (residual.astype(np.float64) ** 3).sum() < 0:  # ink is the heavier tail
        residual = -residual / np.maximum(background, 0.05)  # ink takes away a share of the light
    noise = np.quantile(np.abs(residual), 0.25) / 0.32  # this quantile of normal noise; ink may cover half
    floor = max(5 * noise, 0.25 * residual.max())
    full = np.quantile(residual[residual > floor], 0.75) if (residual > floor).any() else 0
    if full <= 0:
        raise DataError("nothing is drawn on it that stands out from its background")
    ink = residual / full
    kept = _pieces(ink, max(5 * noise / full, 0.3))
    for _ in range(2):
        kept = _grown(kept)  # the soft edges of the strokes
    return np.where(kept, np.clip((ink - _LOW) / (1 - _LOW), 0, 1), 0).astype(np.float32)


def _background(picture: Float) -> Float:
    """A quadratic surface fitted to the background by least absolute deviations, which ink hardly moves."""
    small = _shrunk(picture, _FIT_SIDE)
    terms, values = _quadratic(*small.shape), small.ravel().astype(np.float64)
    # Ink is seldom at the border of a picture, so the border counts more.
    prior = 0.1 + np.abs(terms[:, 1:3]).max(1) ** 2
    weights = prior
    for _ in range(20):
        weighted = terms * weights[:, np.newaxis]
        coefficients = np.linalg.lstsq(weighted.T @ terms, weighted.T @ values, rcond=None)[0]
        weights = prior / np.maximum(np.abs(values - terms @ coefficients), 1e-3)
    return (_quadratic(*picture.shape) @ coefficients).reshape(picture.shape).astype(np.float32)


def _quadratic(height: int, width: int) -> NDArray[np.float64]:
    """The terms 1, x, y, x², xy, y² at each pixel of a picture that spans -1 to 1."""
    y, x = np.meshgrid(*((np.arange(n) + 0.5) / n * 2 - 1 for n in (height, width)), indexing="ij")
    return np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=-1).reshape(-1, 6)


def _pieces(ink: Float, floor: float) -> NDArray[np.bool_]:
    """Where the digit is: connected pieces of `ink` above `floor` without specks and what enters from outside."""
    values = np.pad(ink, 1)  # the frame keeps neighbours from wrapping around
    stride = values.shape[1]
    around = (-stride - 1, -stride, -stride + 1, -1, 1, stride - 1, stride, stride + 1)
    edge = np.ones_like(values, bool)
    edge[2:-2, 2:-2] = False
    values, edge = values.ravel(), edge.ravel()

    todo = set(np.flatnonzero(values > floor).tolist())
    pieces = []
    while todo:
        piece = [todo.pop()]
        for pixel in piece:  # which grows meanwhile
            for step in around:
                if pixel + step in todo:
                    todo.remove(pixel + step)
                    piece.append(pixel + step)
        pieces.append(piece)

    weights = np.array([values[piece].sum() for piece in pieces])
    inside = np.array([not edge[piece].any() for piece in pieces])
    if weights[inside].max(initial=0) > 0.25 * weights.max():
        weights[~inside] = 0
    kept = np.zeros(values.size, bool)
    for piece, weight in zip(pieces, weights, strict=True):
        if weight >= _SPECK * weights.max():
            kept[piece] = True
    return kept.reshape(-1, stride)[1:-1, 1:-1]


def _grown(picture: NDArray[Any]) -> NDArray[Any]:
    """Each pixel becomes the largest of its 3x3 neighbourhood."""
    wide = np.pad(picture, 1)
    tall = np.maximum(np.maximum(wide[:-2], wide[1:-1]), wide[2:])
    return np.maximum(np.maximum(tall[:, :-2], tall[:, 1:-1]), tall[:, 2:])


def _extent(ink: Float) -> tuple[tuple[int, int], tuple[int, int]]:
    """First and past-the-last row of the digit, and column."""
    rows, columns = (np.flatnonzero(ink.max(axis) > _EDGE) for axis in (1, 0))
    return (int(rows[0]), int(rows[-1]) + 1), (int(columns[0]), int(columns[-1]) + 1)


def _thickened(ink: Float) -> Float:
    """`ink` with strokes that remain visible when the digit is 20 pixels large."""
    for _ in range(_SEE_SIDE):
        rows, columns = _extent(ink)
        size = max(rows[1] - rows[0], columns[1] - columns[0])
        if _stroke(ink) >= _THINNEST * size / BOX:
            break
        ink = np.pad(ink, 1)
        ink = _grown(ink)
    return ink


def _stroke(ink: Float) -> float:
    """Mean width of the strokes: a long stroke of width w has the area w·length and the outline 2·length."""
    framed = np.pad(ink, 1)
    outline = np.hypot(np.diff(framed, axis=0)[:, :-1], np.diff(framed, axis=1)[:-1]).sum()
    return float(2 * ink.sum() / outline)


def _placed(ink: Float) -> Float:
    """The digit fitted into the box, its centre of mass at the centre of the field."""
    scale = max(end - start for start, end in _extent(ink)) / BOX  # pixels of `ink` for one of MNIST's
    margin = int(np.ceil(SIDE * scale))
    starts = []
    for axis, (start, end) in enumerate(_extent(ink)):
        mass = ink.sum(1 - axis)
        centre = float(mass @ (np.arange(len(mass)) + 0.5) / mass.sum())
        wished = centre - (CENTRE + 0.5) * scale
        starts.append(margin + min(max(wished, end - SIDE * scale), start))  # all of the digit stays in the field
    top, left = starts
    field = Image.fromarray(np.pad(ink, margin)).resize(
        (SIDE, SIDE), Image.Resampling.LANCZOS, box=(left, top, left + SIDE * scale, top + SIDE * scale)
    )
    image = np.clip(np.asarray(field), 0, None)
    return image / image.max()


def _shrunk(picture: Float, side: int) -> Float:
    """`picture`, averaged down until its longer side is at most `side`."""
    factor = max(picture.shape) / side
    if factor <= 1:
        return picture
    height, width = (max(1, round(length / factor)) for length in picture.shape)
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BOX))
