"""Finds the digit in a picture and brings it into MNIST's form: white on black, 20 pixels large, centred in 28x28."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from siamese_np.errors import DataError

SIDE = 28
BOX = 20  # the digit's longer side
CENTRE = 14  # pixel index of the centre of mass: its mean over MNIST's own files is 14.00

_BLANK_BORDER = 0.75  # least share of blank border pixels of a 28x28 picture in MNIST's form; MNIST's images have 0.94
_LIGHTEST = 0.5  # least maximum of a picture in MNIST's form; MNIST's images have 0.99

# Sides in pixels to which a picture is averaged down, which also reduces noise:
_FIND_SIDE = 256  # to find the digit: 5 percent of the side is 12 pixels
_SEE_SIDE = 128  # to extract the digit with its margin: four times the side of MNIST's form
_FIT_SIDE = 64  # to fit the background, which is smooth

_MARGIN = 0.25  # around the digit, as a share of its size
_DARKEST = 0.05  # least brightness of the background that ink is divided by; below it only noise would grow
_SIGNIFICANT = 5  # least brightness of ink, in standard deviations of the noise; noise alone does not reach it
_FAINTEST = 0.05  # least brightness of ink, of the picture's range; what is fainter comes from compression
_STROKE = 0.5  # of the strongest ink, later of full ink: strokes exceed it, edges of shadows seldom do
_SOFT = 0.1  # of full ink; below it the soft edge of a stroke is background
_SPECK = 0.05  # of the largest component's ink; smaller components are dirt
_SMALLEST = 0.05  # least size of the digit, as a share of the picture
_THINNEST = 1.4  # least width of strokes in MNIST's pixels; one in a hundred of MNIST's images has thinner ones

Float = NDArray[np.float32]


def to_mnist_form(grey: ArrayLike) -> Float:
    """Turn a picture of one digit into MNIST's form.

    As in LeCun, Bottou, Bengio and Haffner, "Gradient-based learning applied to document recognition" (1998),
    section III.A: the digit is fitted into a box of 20x20 pixels with its aspect kept, and its centre of mass is
    put at the centre of a 28x28 field. Before that the background is removed, which may be lit unevenly, and so is
    what touches the picture's edge. Strokes thinner than almost any in MNIST are thickened.

    Parameters
    ----------
    grey : array_like (H, W)
        Brightness, of any size; the ink may be darker or lighter than its background. Unsigned integers are
        divided by the largest value of their type; if values are then outside [0, 1], their range becomes [0, 1].

    Returns
    -------
    image : ndarray (28, 28) of float32 in [0, 1]
        Ink is near 1, background 0. A 28x28 picture that is light on a black border is in this form already and
        returned as it is; one that is dark on a white border is inverted.

    Raises
    ------
    DataError
        If `grey` is not a picture, or nothing is drawn on it.
    """
    picture = _checked(grey)
    if picture.shape == (SIDE, SIDE):
        border = np.concatenate((picture[0], picture[-1], picture[1:-1, 0], picture[1:-1, -1]))
        if (border <= _SOFT).mean() >= _BLANK_BORDER and picture.max() >= _LIGHTEST:
            return picture
        if (border >= 1 - _SOFT).mean() >= _BLANK_BORDER and picture.min() <= 1 - _LIGHTEST:
            return 1 - picture
    picture = _rescaled(picture)
    rows, columns = _bounding_box(_ink(_averaged_down(picture, _FIND_SIDE)))
    scale = max(1, max(picture.shape) / _FIND_SIDE)
    margin = _MARGIN * max(rows[1] - rows[0], columns[1] - columns[0]) + 1
    top, left = (max(0, int((span[0] - margin) * scale)) for span in (rows, columns))
    bottom, right = (int((span[1] + margin) * scale) for span in (rows, columns))
    closer = picture[top:bottom, left:right]  # at a higher resolution, and with a background that is easier to fit
    return _centred(_thickened(_ink(_averaged_down(closer, _SEE_SIDE))))


def _checked(grey: ArrayLike) -> Float:
    """`grey` as a picture in [0, 1], or a DataError."""
    array = np.asarray(grey)
    if array.ndim != 2 or array.size == 0 or array.dtype.kind not in "buif":
        raise DataError(f"a picture must be a 2-D array of numbers, not {array.dtype} of shape {array.shape}")
    if array.dtype.kind == "u":
        array = array / np.float32(np.iinfo(array.dtype).max)
    if not np.isfinite(array).all():
        raise DataError("it holds values that are not finite")
    if array.min() < 0 or array.max() > 1:
        array = _rescaled(array)
    return np.ascontiguousarray(array, np.float32)


def _rescaled(array: NDArray[Any]) -> Float:
    """`array` with its range made [0, 1]."""
    halves = array.astype(np.float64) / 2  # whose differences do not overflow
    low, high = halves.min(), halves.max()
    if low == high:
        raise DataError("all its pixels have the same brightness")
    return ((halves - low) / (high - low)).astype(np.float32)


def _ink(picture: Float) -> Float:
    """The digit alone: about 1 where there is ink, exactly 0 elsewhere."""
    background = _background(picture)
    residual = picture - background
    if (residual.astype(np.float64) ** 3).sum() < 0:  # ink is the heavier tail
        residual = -residual / np.maximum(background, _DARKEST)  # dark ink absorbs a share of the light
    steps = np.concatenate([np.diff(residual, axis=axis).ravel() for axis in (0, 1)])
    noise = np.median(np.abs(steps)) / 0.95  # the median of |a - b| for two normal variables of deviation 1
    strong = residual[residual > max(_SIGNIFICANT * noise, _STROKE * residual.max(), _FAINTEST)]
    if not strong.size:
        raise DataError("nothing on it stands out from the background")
    full = np.quantile(strong, 0.75)  # the middle of a stroke, without its soft edges
    ink = residual / full
    kept = _components(ink, max(_SIGNIFICANT * noise / full, _STROKE))
    for _ in range(2):
        kept = _dilated(kept)  # the soft edges of the strokes
    return np.where(kept, np.clip((ink - _SOFT) / (1 - _SOFT), 0, 1), 0).astype(np.float32)


def _background(picture: Float) -> Float:
    """A quadratic surface fitted by least absolute deviations, which ink hardly moves.

    By iteratively reweighted least squares (Schlossmacher, "An iterative technique for absolute deviations curve
    fitting", Journal of the American Statistical Association, 1973).
    """
    small = _averaged_down(picture, _FIT_SIDE)
    terms, values = _quadratic(*small.shape), small.ravel().astype(np.float64)
    weights = np.ones_like(values)
    for _ in range(20):
        weighted = terms * weights[:, np.newaxis]
        coefficients = np.linalg.lstsq(weighted.T @ terms, weighted.T @ values, rcond=None)[0]
        weights = 1 / np.maximum(np.abs(values - terms @ coefficients), 1e-3)
    surface: Float = (_quadratic(*picture.shape) @ coefficients).reshape(picture.shape).astype(np.float32)
    return surface


def _quadratic(height: int, width: int) -> NDArray[np.float64]:
    """The terms 1, x, y, x², xy, y² at each pixel of a picture that spans -1 to 1."""
    y, x = np.meshgrid(*((np.arange(n) + 0.5) / n * 2 - 1 for n in (height, width)), indexing="ij")
    return np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=-1).reshape(-1, 6)


def _components(ink: Float, floor: float) -> NDArray[np.bool_]:
    """Where the digit is: the connected components of `ink` above `floor`, without specks and what touches the edge."""
    values = np.pad(ink, 1)  # with a frame, neighbours do not wrap around
    width = values.shape[1]
    around = (-width - 1, -width, -width + 1, -1, 1, width - 1, width, width + 1)
    edge = np.ones_like(values, bool)
    edge[2:-2, 2:-2] = False
    values, edge = values.ravel(), edge.ravel()

    todo = set(np.flatnonzero(values > floor).tolist())
    components = []
    while todo:
        component = [todo.pop()]
        for pixel in component:  # the list grows during the loop
            for step in around:
                if pixel + step in todo:
                    todo.remove(pixel + step)
                    component.append(pixel + step)
        components.append(component)

    weights = np.array([values[component].sum() for component in components])
    spans = np.array([np.ptp(np.divmod(component, width), axis=1).max() for component in components])
    inside = np.array([not edge[component].any() for component in components])
    if spans[inside].max(initial=0) >= _SMALLEST * max(ink.shape):  # otherwise the digit itself touches the edge
        weights[~inside] = 0
    kept = np.zeros(values.size, bool)
    for component, weight in zip(components, weights, strict=True):
        if weight >= _SPECK * weights.max():
            kept[component] = True
    return kept.reshape(-1, width)[1:-1, 1:-1]


def _dilated(picture: NDArray[Any]) -> NDArray[Any]:
    """Grey dilation: each pixel becomes the largest of its 3x3 neighbourhood."""
    wide = np.pad(picture, 1)
    tall = np.maximum(np.maximum(wide[:-2], wide[1:-1]), wide[2:])
    return np.maximum(np.maximum(tall[:, :-2], tall[:, 1:-1]), tall[:, 2:])


def _bounding_box(ink: Float) -> tuple[tuple[int, int], tuple[int, int]]:
    """Bounding box of the digit: first row and row past the last, first column and column past the last."""
    rows, columns = (np.flatnonzero(ink.max(axis) > _SOFT) for axis in (1, 0))
    return (int(rows[0]), int(rows[-1]) + 1), (int(columns[0]), int(columns[-1]) + 1)


def _thickened(ink: Float) -> Float:
    """`ink` with strokes wide enough to stay visible when the digit is 20 pixels large."""
    while _stroke_width(ink) < _THINNEST * max(end - start for start, end in _bounding_box(ink)) / BOX:
        ink = _dilated(np.pad(ink, 1))
    return ink


def _stroke_width(ink: Float) -> float:
    """Mean width of the strokes: a long stroke of width w has the area w·length and the outline 2·length."""
    framed = np.pad(ink, 1)
    outline = np.hypot(np.diff(framed, axis=0)[:, :-1], np.diff(framed, axis=1)[:-1]).sum()
    return float(2 * ink.sum() / outline)


def _centred(ink: Float) -> Float:
    """The digit fitted into the box, its centre of mass at the centre of the field."""
    scale = max(end - start for start, end in _bounding_box(ink)) / BOX  # pixels of `ink` for one pixel of MNIST
    margin = int(np.ceil(SIDE * scale))
    starts = []
    for axis, (start, end) in enumerate(_bounding_box(ink)):
        mass = ink.sum(1 - axis)
        centre = float(mass @ (np.arange(len(mass)) + 0.5) / mass.sum())
        wanted = centre - (CENTRE + 0.5) * scale
        starts.append(margin + min(max(wanted, end - SIDE * scale), start))  # all of the digit stays in the field
    top, left = starts
    field = Image.fromarray(np.pad(ink, margin)).resize(
        (SIDE, SIDE), Image.Resampling.LANCZOS, box=(left, top, left + SIDE * scale, top + SIDE * scale)
    )
    image = np.clip(np.asarray(field), 0, 1)
    return image / image.max()


def _averaged_down(picture: Float, side: int) -> Float:
    """`picture`, averaged down until its longer side is at most `side`."""
    factor = max(picture.shape) / side
    if factor <= 1:
        return picture
    height, width = (max(1, round(length / factor)) for length in picture.shape)
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BOX))
