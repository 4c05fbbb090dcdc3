"""Finds the digit in a picture and brings it into MNIST's form: white on black, 20 pixels large, centred in 28x28."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from siamese_np.datasets.digit_ink import Float, border_of, dilated, ink_is_light, ink_of, on_its_ground, resized
from siamese_np.datasets.digit_pieces import digit_of
from siamese_np.datasets.input_form import as_pixels, scaled, stretched
from siamese_np.errors import DataError

SIDE = 28
BOX = 20  # the digit's longer side
CENTRE = 14  # pixel index of the centre of mass: between 13.5 and 14.5 in all of MNIST's own files

_FIND_SIDE = 256  # pixels of the longer side of the picture in which the digit is searched for
_FORM_SIDE = 128  # and of that from which its form is taken
_CLOSE = 0.5  # of that picture's side: a smaller digit is looked at again, closer
_AROUND = 0.25  # margin around the digit when it is looked at closer, as a share of its size
_FAINT = 0.08  # range of brightness below which a picture is stretched; others keep the share of light that ink takes
_BLANK_BORDER = 0.75  # least share of blank border pixels of a picture in MNIST's form; MNIST's images have 0.94
_SOFT = 0.1  # of full ink; below it the soft edge of a stroke is background
_EDGE = 2  # pixels around the digit in which a stroke may have its soft edge
_LIGHTEST = 0.5  # least maximum of a picture in MNIST's form; MNIST's images have 0.99
_CENTRED = 0.6  # pixels from the centre to the centre of mass, at most: 0.5 in MNIST's images
_BLACK, _DARK = 0.1, 0.02  # least share of black pixels in a picture that is only moved, and what is black
_THIN = 1.3  # width of strokes in MNIST's pixels; one in a thousand of MNIST's images has thinner ones
_THINNEST = 1.8  # what thinner strokes are thickened to


def to_mnist_form(grey: ArrayLike) -> Float:
    """Turn a picture of one digit into MNIST's form, whatever its margin, size, place, paper and light.

    As in LeCun, Bottou, Bengio and Haffner, "Gradient-based learning applied to document recognition" (1998),
    section III.A: the digit is fitted into a box of 20x20 pixels with its aspect kept, and its centre of mass is
    put at the centre of a 28x28 field. Before that the background is removed, with frames, ruled lines, underlines,
    specks and what comes in from outside. Strokes thinner than almost any in MNIST are thickened.

    Parameters
    ----------
    grey : array_like (H, W)
        Brightness, of any size and, as in `InputForm.picture`, of any range; the ink may be darker or lighter than
        its background.

    Returns
    -------
    image : ndarray (28, 28) of float32 in [0, 1]
        Ink is near 1, background 0. A picture whose digit has MNIST's size, light on black (or dark on white), is
        only moved: one in MNIST's form is returned as it is.

    Raises
    ------
    DataError
        If `grey` is not a picture, nothing is drawn on it, or several digits side by side.
    """
    picture = scaled(as_pixels(grey, (2,)))
    if min(picture.shape) < 3:
        picture = np.pad(picture, 1, mode="edge")
    for looked_at in (picture, 1 - picture):
        form = _shifted(looked_at)
        if form is not None:
            return form
    picture = stretched(picture) if np.ptp(picture) < _FAINT else picture / picture.max()
    picture, border = on_its_ground(picture)
    side = min(_FIND_SIDE, max(_FORM_SIDE, max(picture.shape)))
    small = resized(picture, side)
    scale = side / max(picture.shape)
    digit = digit_of(*ink_of(small), tuple(edge * scale for edge in border))
    spans = _bounding_box(digit)
    margin = _AROUND * max(end - start for start, end in spans)
    cut = tuple(slice(max(0, int(start - margin)), int(np.ceil(end + margin))) for start, end in spans)
    if max(digit[cut].shape) < _CLOSE * side:
        digit = _closer(picture, digit, cut)
    return _centred(_thickened(digit))


def as_mnist_form(stack: ArrayLike) -> Float:
    """Bring many pictures into MNIST's form: `to_mnist_form` of each, but at once those that are in it already.

    Parameters
    ----------
    stack : array_like (N, H, W)
        Pictures of one size, each as `to_mnist_form` takes it.

    Returns
    -------
    images : ndarray (N, 28, 28) of float32 in [0, 1]

    Raises
    ------
    DataError
        If `stack` is not such an array, or nothing is drawn on a picture; the sentence starts with its number.
    """
    array = np.asarray(stack)
    if array.ndim != 3 or array.dtype.kind not in "buif":
        raise DataError(f"pictures must be a 3-D array of numbers, not {array.dtype} of shape {array.shape}")
    if array.shape[1:] == (SIDE, SIDE) and array.dtype == np.uint8:
        images = np.divide(array, np.float32(255), dtype=np.float32)
        done = _in_form(images)
    else:
        images, done = np.empty((len(array), SIDE, SIDE), np.float32), np.zeros(len(array), bool)
    for i in np.flatnonzero(~done):
        try:
            images[i] = to_mnist_form(array[i])
        except DataError as error:
            raise DataError(f"picture {i}: {error}") from None
    return images


def _in_form(stack: Float) -> NDArray[Any]:
    """Which pictures (N, 28, 28) are in MNIST's form: light on black, of its size, at its place, not too thin."""
    ink = stack > _SOFT
    border = np.ones((SIDE, SIDE), bool)
    border[1:-1, 1:-1] = False
    found: NDArray[Any] = (ink[:, border].mean(1) <= 1 - _BLANK_BORDER) & (stack.max((1, 2)) >= _LIGHTEST)
    sizes = []
    mass = np.where(ink, stack, 0)
    total = np.maximum(mass.sum((1, 2)), 1e-6)
    for axis in (1, 2):
        lines = np.asarray(ink.any(axis))
        sizes.append(SIDE - lines[:, ::-1].argmax(1) - lines.argmax(1))
        found &= np.abs(mass.sum(axis) @ np.arange(SIDE, dtype=np.float32) / total - CENTRE) <= _CENTRED
    size = np.maximum(*sizes)
    return found & (size >= BOX - 1) & (size <= BOX) & (_stroke_width(stack) >= _THIN)


def _closer(picture: Float, digit: Float, cut: tuple[slice, ...]) -> Float:
    """The digit at a higher resolution."""
    scale = max(picture.shape) / max(digit.shape)
    close = picture[tuple(slice(int(part.start * scale), int(part.stop * scale)) for part in cut)]
    close = resized(close, _FORM_SIDE)
    near = Image.fromarray(dilated(digit[cut])).resize(close.shape[::-1], Image.Resampling.BILINEAR)
    ink, noise = ink_of(close)
    ink[np.asarray(near) <= 0] = 0
    border = (0, close.shape[0], 0, close.shape[1])
    return digit_of(ink, noise, border)


def _shifted(picture: Float) -> Float | None:
    """Light ink on black of MNIST's size, moved to its place without a change to any pixel; None if it is not that."""
    if picture.shape == (SIDE, SIDE) and _in_form(picture[np.newaxis])[0]:
        return picture
    if picture.max() < _LIGHTEST or (picture <= _DARK).mean() < _BLACK:
        return None
    box = _bounding_box(picture)
    if max(end - start for start, end in box) > BOX:
        return None
    if border_of(picture > _SOFT).mean() > 1 - _BLANK_BORDER and not ink_is_light(picture):
        return None
    digit = picture[tuple(slice(max(0, start - _EDGE), end + _EDGE) for start, end in box)]
    digit = digit[tuple(slice(*span) for span in _bounding_box(digit, 0))]  # soft edges belong to it
    places = []
    for axis, length in enumerate(digit.shape):
        mass = digit.sum(1 - axis)
        start = round(CENTRE - float(mass @ np.arange(length) / mass.sum()))
        places.append(slice(min(max(start, 0), SIDE - length), min(max(start, 0), SIDE - length) + length))
    form = np.zeros((SIDE, SIDE), np.float32)
    form[places[0], places[1]] = digit
    return form if _in_form(form[np.newaxis])[0] else None


def _bounding_box(ink: Float, least: float = _SOFT) -> tuple[tuple[int, int], tuple[int, int]]:
    """Bounding box of the digit: first row and row past the last, first column and column past the last."""
    rows, columns = (np.flatnonzero(ink.max(axis) > least) for axis in (1, 0))
    return (int(rows[0]), int(rows[-1]) + 1), (int(columns[0]), int(columns[-1]) + 1)


def _thickened(ink: Float) -> Float:
    """`ink` with strokes wide enough to stay visible when the digit is 20 pixels large."""
    least = _THIN
    while _stroke_width(ink[np.newaxis])[0] < least * max(end - start for start, end in _bounding_box(ink)) / BOX:
        ink, least = dilated(np.pad(ink, 1)), _THINNEST
    return ink


def _stroke_width(stack: Float) -> NDArray[np.float32]:
    """Mean width of the strokes of each picture: one of width w has the area w·length and the outline 2·length."""
    framed = np.pad(stack, ((0, 0), (1, 1), (1, 1)))
    outline = np.hypot(np.diff(framed, axis=1)[:, :, :-1], np.diff(framed, axis=2)[:, :-1]).sum((1, 2))
    return 2 * stack.sum((1, 2)) / np.maximum(outline, 1e-6)


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
