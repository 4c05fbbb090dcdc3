"""How a picture becomes a network's input: its digit is found, it is resized as the training images were, or as it is.

A model file keeps this, so that pictures are read later as the training images were.
"""

from dataclasses import asdict, dataclass
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from siamese_np._checks import are_levels, as_number, as_shape
from siamese_np.errors import DataError, ModelError, OptionError, ShapeError

Float = NDArray[np.float32]

KINDS = ("digit", "resize", "as-is")

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # brightness of red, green and blue (ITU-R BT.601), as in Pillow
EVEN = 0.02  # range of brightness below which a coloured picture shows at most a difference in colour
_COLOURED = 0.2  # least range of a channel that shows one
_NEAR = 0.15  # of a level: brightness that is of the background
_EXACT = 0.02  # up to this a background has its level already
_CONTENT = 0.1  # least difference from the background
_CORNER = 5  # the background is looked for in this share of each side, at its ends
_ALIKE = 0.8  # share of the training images that must agree on a background, or on how the object fills the field
_FILL = 0.08  # how far they may differ in it, as a share of the field
_BOX_SIDE = 128  # pixels to which a picture is averaged down before its object is found, which reduces noise


@dataclass(frozen=True)
class InputForm:
    """How pictures become the input of a network.

    Attributes
    ----------
    kind : str
        ``"digit"``: the digit is found and brought to MNIST's form. ``"resize"``: a picture is brought to the size and
        background of the training images, its aspect kept. ``"as-is"``: pictures must have exactly this size.
    shape : (int, int, int)
        H, W, C of the network's input; C is 1 for grey and 3 for colour.
    background : float, optional
        Of ``resize``: the brightness of the background that the training images share. A grey picture on the opposite
        background is inverted.
    fill : float, optional
        Of ``resize``: the share of the field that the object fills, where all training images are cropped alike. The
        object of a picture is then cut out and fitted into the field so.

    Raises
    ------
    OptionError
        In one sentence: which of them is wrong.
    """

    kind: str
    shape: tuple[int, int, int]
    background: float | None = None
    fill: float | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise OptionError(f"there is no input form {self.kind!r}; choose one of {', '.join(KINDS)}")
        try:
            shape: tuple[int, ...] = as_shape(self.shape)
        except ShapeError as error:
            raise OptionError(str(error)) from None
        if len(shape) != 3 or (self.kind == "digit" and shape != (28, 28, 1)):
            wanted = "(28, 28, 1)" if self.kind == "digit" else "(H, W, C)"
            raise OptionError(f"pictures of the form {self.kind} have the shape {wanted}, not {shape}")
        object.__setattr__(self, "shape", shape)
        for name in ("background", "fill"):
            value = getattr(self, name)
            if value is not None and not 0 <= as_number(value) <= 1:
                raise OptionError(f"{name} must be a number from 0 to 1, not {value!r}")

    def picture(self, pixels: ArrayLike) -> Float:
        """A picture (h, w) or (h, w, 1 or 3) in this form.

        Parameters
        ----------
        pixels : array_like
            Unsigned integers are divided by the largest value of their type. Other numbers are brightness up to 1, or
            levels up to 255: whole numbers, or fractions of which one is above 16. Any other range becomes [0, 1].

        Returns
        -------
        image : ndarray (H, W, C) of float32 in [0, 1]

        Raises
        ------
        DataError
            If `pixels` are no picture, no digit is found, or the size is not that of the form ``as-is``.
        """
        if self.kind == "digit":
            from siamese_np.datasets.mnist_form import to_mnist_form  # with Pillow, which training does without

            pixels = np.asarray(pixels)
            if pixels.ndim == 3:
                pixels = with_channels(scaled(pixels), 1)[..., 0]
            return to_mnist_form(pixels)[..., np.newaxis]
        H, W, C = self.shape
        picture = with_channels(scaled(pixels), C)
        if self.kind == "resize":
            return self._like_training(picture)
        if picture.shape != self.shape:
            h, w, _ = picture.shape
            raise DataError(f"it has {h}x{w} pixels (height x width), but the model takes {H}x{W}, as they are")
        return picture

    def _like_training(self, picture: Float) -> Float:
        if self.background is not None and picture.shape[2] == 1:
            picture = _on_background(picture, self.background)
        level = _background_of(picture)
        box = _content_box(picture, level) if self.fill is not None else None
        fill = 1.0 if box is None or self.fill is None else self.fill
        if picture.shape == self.shape and (box is None or abs(_fill(box, picture.shape) - fill) <= _FILL):
            return picture
        whole = (0, picture.shape[0]), (0, picture.shape[1])
        return _fitted(picture, box or whole, self.shape, fill, level)

    def config(self) -> dict[str, Any]:
        """All of it, as JSON values."""
        return {**asdict(self), "shape": list(self.shape)}

    @classmethod
    def from_config(cls, config: Any) -> "InputForm":
        """The form that `config` describes; ModelError where it describes none."""
        try:
            return cls(**config)
        except (TypeError, OptionError) as error:
            raise ModelError(f"it describes no form of pictures: {error}") from None

    @classmethod
    def like(cls, images: Float, kind: str | None = None) -> "InputForm":
        """The form that makes pictures like the training images (N, H, W, C), or like a sample of them.

        By default ``digit`` where the images have MNIST's form, else ``resize``.
        """
        shape = images.shape[1:]
        if kind == "digit" or (kind is None and shape == DIGIT.shape and _are_digits(images[..., 0])):
            return DIGIT
        if kind == "as-is":
            return cls("as-is", shape)
        levels = np.array([_commonest(_corners(_grey(image))) for image in images])
        background = float(np.median(levels))
        common = (np.abs(levels - background) <= _NEAR).mean() >= _ALIKE and abs(background - 0.5) > _NEAR
        return cls(kind or "resize", shape, background if common else None, _common_fill(images) if common else None)

    def holds(self, array: NDArray[Any]) -> bool:
        """Whether images (N, H, W) or (N, H, W, C) are in this form already: of its size, on its background.

        The images as a whole decide: some garments fill the border of their image.
        """
        shape = array.shape[1:] if array.ndim == 4 else (*array.shape[1:], 1)
        if shape != self.shape or (self.kind == "digit" and array.dtype != np.uint8):
            return False
        background = 0.0 if self.kind == "digit" else self.background
        if background is None or shape[2] != 1:
            return True
        border = np.ones(shape[:2], bool)
        border[1:-1, 1:-1] = False
        level = float(np.median(array[:: max(1, len(array) // 1000), border])) / (
            np.iinfo(array.dtype).max if array.dtype.kind == "u" else 1
        )
        return level == 0 if self.kind == "digit" else abs(level - background) <= abs(level - 1 + background)


DIGIT = InputForm("digit", (28, 28, 1))


def default_form(shape: tuple[int, ...]) -> InputForm | None:
    """The form of a network of whose training images nothing is known; None if it takes no pictures."""
    if len(shape) != 3:
        return None
    return DIGIT if shape == DIGIT.shape else InputForm("as-is", (shape[0], shape[1], shape[2]))


def form_of(siamese: Any) -> InputForm:
    """The form in which a `SiameseNetwork` takes pictures, or a ModelError."""
    form: InputForm | None = siamese.input_form
    if form is None:
        raise ModelError(f"the model takes arrays of shape {siamese.network.input_shape}, not pictures")
    return form


def scaled(pixels: ArrayLike) -> Float:
    """Pixels (h, w) or (h, w, C) as float32 in [0, 1] (see `InputForm.picture`), or a DataError."""
    array = as_pixels(pixels, (2, 3))
    if array.dtype.kind == "u":
        return np.divide(array, np.float32(np.iinfo(array.dtype).max), dtype=np.float32)
    high = array.max()
    if array.min() < 0 or high > 255 or (high > 1 and not are_levels(array, high)):
        return stretched(array)
    return array.astype(np.float32) / np.float32(255 if high > 1 else 1)


def as_pixels(pixels: ArrayLike, ndims: tuple[int, ...]) -> NDArray[Any]:
    """`pixels` as an array of finite numbers with so many axes, or a DataError."""
    array = np.asarray(pixels)
    if array.ndim not in ndims or array.size == 0 or array.dtype.kind not in "buif":
        wanted = " or ".join(f"{ndim}-D" for ndim in ndims)
        raise DataError(f"a picture must be a {wanted} array of numbers, not {array.dtype} of shape {array.shape}")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise DataError("it holds values that are not finite")
    return array


def stretched(array: NDArray[Any]) -> Float:
    """`array` with its range made [0, 1]; all 0 where it has none."""
    halves = array.astype(np.float64) / 2  # whose differences do not overflow
    low = halves.min()
    return ((halves - low) / (halves.max() - low or 1)).astype(np.float32)


def with_channels(picture: Float, channels: int) -> Float:
    """A picture (h, w) or (h, w, C) with this many channels, C-contiguous: colour becomes brightness, grey is repeated.

    Where colours are equally bright, the channel in which they differ most is taken for brightness.

    DataError where the picture has neither 1 nor 3 channels, nor as many as are wanted.
    """
    if picture.ndim == 2:
        picture = picture[..., np.newaxis]
    if picture.shape[2] == channels:
        return np.ascontiguousarray(picture)
    if {picture.shape[2], channels} != {1, 3}:
        raise DataError(f"it has {picture.shape[2]} channels, but the model takes {channels}")
    if channels == 3:
        return np.repeat(picture, 3, axis=2)
    grey, ranges = _grey(picture), np.ptp(picture, axis=(0, 1))
    if np.ptp(grey) < EVEN and ranges.max() >= _COLOURED:
        grey = picture[..., ranges.argmax()]
    return np.ascontiguousarray(grey[..., np.newaxis])


def _are_digits(images: Float) -> bool:
    """Whether images (N, 28, 28) are in MNIST's form: 20 pixels large, the centre of mass in the middle."""
    mass, places = images.sum(axis=(1, 2)), np.arange(28)
    sizes, centred = np.zeros(len(images)), mass > 0
    for axis in (1, 2):
        seen = images.max(axis=axis) > 0
        sizes = np.maximum(sizes, 28 - seen.argmax(axis=1) - seen[:, ::-1].argmax(axis=1))
        centre = (images.sum(axis=axis) * places).sum(axis=1) / np.maximum(mass, 1e-9)
        centred &= np.abs(centre - 14) <= 1
    return bool((centred & (np.abs(sizes - 20) <= 1)).mean() >= 0.9)


def _grey(picture: Float) -> Float:
    return picture @ _LUMA if picture.shape[2] == 3 else picture.mean(axis=2)


def _corners(array: NDArray[Any]) -> NDArray[Any]:
    """The pixels (n, ...) of an array (h, w, ...) along its edges, near the corners: objects seldom reach these."""
    h, w = array.shape[:2]
    thick, tall, wide = max(1, min(h, w) // 32), ceil(h / _CORNER), ceil(w / _CORNER)
    edge = np.zeros((h, w), bool)
    edge[:thick] = edge[-thick:] = edge[:, :thick] = edge[:, -thick:] = True
    edge[:, wide : w - wide] = edge[tall : h - tall] = False
    return array[edge]


def _commonest(values: Float) -> float:
    """The level around which most of `values` lie, as the mean of these."""
    counts = np.bincount((np.clip(values, 0, 1) * 19.99).astype(np.int64), minlength=20)
    level = (int(counts.argmax()) + 0.5) / 20
    return float(values[np.abs(values - level) <= 0.06].mean())


def _on_background(picture: Float, background: float) -> Float:
    """A grey picture with its background at this level: inverted where it is on the opposite one."""
    corners = _corners(picture[..., 0])
    own, opposite = ((np.abs(corners - level) <= _NEAR).mean() for level in (background, 1 - background))
    if own == opposite:  # neither is there, as on grey paper
        level = _commonest(corners)
        own, opposite = -abs(level - background), -abs(level - 1 + background)
    if opposite > own:
        picture, corners = 1 - picture, 1 - corners
    here = corners[np.abs(corners - background) < 0.5]
    level = _commonest(here) if here.size else background
    if abs(level - background) <= _EXACT:
        return picture
    far = np.float32(background < 0.5)  # what is as far from the background as can be stays where it is
    moved = background + (picture - np.float32(level)) * np.float32((far - background) / (far - level))
    return np.clip(moved, 0, 1).astype(np.float32)


def _background_of(picture: Float) -> Float:
    """The colour (C,) of the commonest brightness near the corners."""
    corners = _corners(picture)
    brightness = _grey(corners[:, np.newaxis])[:, 0]
    near = np.abs(brightness - _commonest(brightness)) <= 0.06
    return np.asarray(np.median(corners[near], axis=0), np.float32)


Box = tuple[tuple[int, int], tuple[int, int]]


def _content_box(picture: Float, level: Float) -> Box | None:
    """First row and row past the last, first and past the last column of what differs from the background."""
    h, w = picture.shape[:2]
    different = np.abs(picture - level).max(axis=2)
    factor = max(h, w) / _BOX_SIDE
    if factor > 1:
        different = _resized(different, (max(1, round(h / factor)), max(1, round(w / factor))))
    seen = different > _CONTENT
    if not seen.any():
        return None
    spans = []
    for axis, length in enumerate((h, w)):
        places, scale = np.flatnonzero(seen.any(axis=1 - axis)), length / seen.shape[axis]
        spans.append((int(places[0] * scale), min(length, ceil((places[-1] + 1) * scale))))
    return spans[0], spans[1]


def _fill(box: Box, shape: tuple[int, ...]) -> float:
    """The share of the field that a box takes, of its height or width, whichever is larger."""
    return max((end - start) / length for (start, end), length in zip(box, shape, strict=False))


def _common_fill(images: Float) -> float | None:
    """The share of the field that the objects of `images` fill, if they fill it alike and sit in its middle."""
    boxes = [_content_box(image, _background_of(image)) for image in images]
    fills = np.array([np.nan if box is None else _fill(box, images.shape[1:]) for box in boxes])
    fill = float(np.nanmedian(fills)) if np.isfinite(fills).any() else np.nan
    off = [
        1.0 if box is None else max(abs(start + end - n) / n for (start, end), n in zip(box, image.shape, strict=False))
        for box, image in zip(boxes, images, strict=True)
    ]
    alike = (np.abs(fills - fill) <= _FILL) & (np.array(off) <= 2 * _FILL)
    return fill if alike.mean() >= _ALIKE else None


def _fitted(picture: Float, box: Box, shape: tuple[int, int, int], fill: float, level: Float) -> Float:
    """The `box` of a picture in the middle of a field of this shape and level, its aspect kept."""
    scale = _fill(box, shape) / fill  # pixels of the picture for one of the field
    spans = [
        ((start + end - length * scale) / 2, (start + end + length * scale) / 2)
        for (start, end), length in zip(box, shape, strict=False)
    ]
    pads = [
        (max(0, ceil(-start)), max(0, ceil(end - length)))
        for (start, end), length in zip(spans, picture.shape, strict=False)
    ]
    (top, bottom), (left, right) = (
        (start + before, min(end + before, length + before + after))  # min: rounding
        for (start, end), (before, after), length in zip(spans, pads, picture.shape, strict=False)
    )
    channels = [
        _resized(np.pad(channel, pads, constant_values=colour), (shape[0], shape[1]), (left, top, right, bottom))
        for channel, colour in zip(np.moveaxis(picture, 2, 0), level, strict=True)
    ]
    return np.clip(np.stack(channels, axis=2), 0, 1)


def _resized(channel: Float, size: tuple[int, int], box: tuple[float, float, float, float] | None = None) -> Float:
    """A channel (h, w), or a box of it, brought to this height and width."""
    from PIL import Image  # which training does without

    image = Image.fromarray(np.ascontiguousarray(channel))
    return np.asarray(image.resize((size[1], size[0]), Image.Resampling.BICUBIC, box=box))
