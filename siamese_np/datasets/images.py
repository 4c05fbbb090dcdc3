"""Reads the user's own pictures: image files of any size and kind, folders of them, and IDX files.

A file is first decoded to brightness (`_grey`); `siamese_np.datasets.mnist_form` then finds the digit.
"""

import os
import warnings
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from siamese_np.datasets.idx import DTYPES, GZIP_MAGIC, read_idx
from siamese_np.datasets.mnist_form import SIDE, to_mnist_form
from siamese_np.errors import DataError
from siamese_np.reading import file_size, open_regular

EXTENSIONS = (
    ".avif", ".bmp", ".gif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm",
    ".tga", ".tif", ".tiff", ".webp",
)  # fmt: skip

# Formats that Pillow decodes itself: for EPS it would start Ghostscript.
_FORMATS = ("AVIF", "BMP", "DIB", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TGA", "TIFF", "WEBP")

_WORK_SIDE = 1024  # larger pictures are averaged down to 1 to 2 times this: a digit of 2 percent still has 20 pixels
_TILE = 1 << 20  # pixels converted at a time, so only Pillow's copy of a large picture is in memory
_MAX_ASPECT = 100  # longer side to shorter, or a picture of 1x100,000,000 pixels would not be averaged down
_MAX_SPARSE_PIXELS = 40_000_000  # Pillow needs up to 4 bytes for each; more are read only from files with at least
_MIN_DENSITY = 0.01  # bytes for each pixel; photographs have at least 0.1
_MAX_IDX_PIXELS = (2 * _WORK_SIDE) ** 2  # of one image in an IDX file: what other pictures are averaged down to
_ONE_COLOUR = 0.1  # standard deviation of brightness up to which all that is visible is taken for ink

_ORIENTATION = 0x0112  # EXIF tag: how the camera was held. The transpositions undo it
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

Float = NDArray[np.float32]


def load_images(inputs: Iterable[str | os.PathLike[str]]) -> tuple[Float, list[str]]:
    """Read pictures of single digits and bring each to MNIST's form.

    Parameters
    ----------
    inputs : iterable of str or path-like
        Image files (see `read_image`); folders, of which every image file is taken, also from folders inside, in
        sorted order, but nothing hidden; and IDX files of images (N, H, W), gzipped or not. An IDX file of 28x28
        bytes is in MNIST's form already if most of its border pixels are 0; its bytes are only divided by 255.

    Returns
    -------
    images : ndarray (N, 28, 28, 1) of float32 in [0, 1]
    names : list of str
        The path of each image; those of an IDX file are followed by ``#`` and the number of the image, from 0.

    Raises
    ------
    DataError
        If an input is missing, unreadable, damaged or blank, or a folder holds no image.
    """
    images, names = [], []
    for given in inputs:
        name = os.fspath(given)
        for path in _image_files(name) if os.path.isdir(name) else [name]:
            if _is_idx(path):
                found = _idx_images(path)
                names += [f"{path}#{i}" for i in range(len(found))]
            else:
                found = read_image(path)[np.newaxis]
                names.append(path)
            images.append(found)
    if not images:
        raise DataError("there is nothing to read: at least one image file, folder or IDX file is needed")
    return np.concatenate(images)[..., np.newaxis], names


def read_image(path: str | os.PathLike[str]) -> Float:
    """Read the picture of a digit from an image file and bring it to MNIST's form.

    Parameters
    ----------
    path : str or path-like
        A file in any of the formats AVIF, BMP, GIF, JPEG, JPEG 2000, PNG, PPM, TGA, TIFF and WebP, of any mode and
        size; dark ink on light paper or light ink on dark. Transparent pixels are taken for background: the paper's
        colour, or, where only ink is visible, black or white, whichever contrasts more. Only the first frame of an
        animation is read. EXIF orientation is applied.

    Returns
    -------
    image : ndarray (28, 28) of float32 in [0, 1]
        See `siamese_np.datasets.mnist_form.to_mnist_form`.

    Raises
    ------
    DataError
        If the file is missing, unreadable, damaged or no image, or shows nothing. If it has too many pixels for Pillow
        (about 179 million), more than 40 million in less than 0.01 bytes each, or one side more than 100 times as
        long as the other.
    """
    name = os.fspath(path)
    if os.path.isdir(name):
        raise DataError(f"{name} is a folder, but one image file is needed")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of large pictures and odd metadata; both can be read
            # Given a path, Pillow 13 maps uncompressed TIFF files into memory and mixes up rotated ones.
            with open_regular(name) as file, Image.open(file, formats=_formats()) as image:
                picture = _grey(image, file_size(file))
    except FileNotFoundError:
        raise DataError(f"there is no file {name}") from None
    except DataError as error:
        raise DataError(f"{name} {error}") from None
    except UnidentifiedImageError:
        raise DataError(f"{name} is not an image file of a known kind ({', '.join(_formats())})") from None
    except Image.DecompressionBombError as error:
        raise DataError(f"{name} is too large a picture ({error})") from None
    except Exception as error:  # Pillow's decoders fail in many ways on damaged bytes
        if isinstance(error, OSError) and error.errno is not None:
            raise DataError(f"cannot read {name}: {error.strerror}") from error
        raise DataError(f"{name} is a damaged image file, or of a rare kind ({error})") from error
    return _in_mnist_form(picture, name)


def _formats() -> list[str]:
    """Those of `_FORMATS` that this Pillow was built with."""
    Image.init()
    return [name for name in _FORMATS if name in Image.OPEN]


def _in_mnist_form(picture: NDArray[Any], name: str) -> Float:
    try:
        return to_mnist_form(picture)
    except DataError as error:
        raise DataError(f"{name} shows no digit: {error}") from None


def _image_files(folder: str) -> list[str]:
    """The image files in `folder` and the folders inside it, sorted."""

    def unreadable(error: OSError) -> None:
        raise DataError(f"cannot read {error.filename}: {error.strerror}") from error

    found = []
    for parent, folders, files in os.walk(folder, onerror=unreadable):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [
            os.path.join(parent, name)
            for name in files
            if name.lower().endswith(EXTENSIONS) and not name.startswith(".")  # macOS adds ._name.png
        ]
    if not found:
        raise DataError(f"{folder} holds no image file, whose name would end in one of {' '.join(EXTENSIONS)}")
    return sorted(found)


def _is_idx(path: str) -> bool:
    """Whether a file starts like an IDX or a gzip file, as no image does."""
    try:
        with open_regular(path) as file:
            start = file.read(4)
    except OSError:
        return False  # `read_image` will say why
    return start[:2] == GZIP_MAGIC or (start[:2] == b"\0\0" and len(start) == 4 and start[2] in DTYPES and start[3] > 0)


def _idx_images(path: str) -> Float:
    """The images (N, 28, 28) of an IDX file."""
    array = read_idx(path)
    if array.ndim != 3 or array.size == 0:
        raise DataError(f"{path} holds an array of shape {array.shape}, but images have the shape (N, H, W)")
    height, width = array.shape[1:]
    if height * width > _MAX_IDX_PIXELS:
        raise DataError(f"{path} holds images of {width}x{height} pixels, more than the {_MAX_IDX_PIXELS} one may have")
    if array.dtype == np.uint8 and array.shape[1:] == (SIDE, SIDE):
        border = np.ones((SIDE, SIDE), bool)
        border[1:-1, 1:-1] = False
        if np.median(array[:, border]) == 0:
            scaled: Float = np.divide(array, np.float32(255), dtype=np.float32)
            return scaled
    return np.stack([_in_mnist_form(image, f"{path}#{i}") for i, image in enumerate(array)])


def _grey(image: Image.Image, size: int) -> Float:
    """The brightness of an opened image file of `size` bytes, upright and averaged down.

    It is in [0, 1], unless the file holds 32-bit numbers.
    """
    step = max(1, max(image.size) // _WORK_SIDE)
    image.draft("L", (max(1, image.width // step), max(1, image.height // step)))  # decodes a JPEG at lower resolution
    _check_size(image, size)
    image.load()  # this turns a TIFF picture upright: width and height may change
    step = max(1, min(max(image.size) // _WORK_SIDE, *image.size))
    columns = step * max(1, min(image.width // step, _TILE // step**2))
    rows = step * max(1, _TILE // (step * columns))
    strips = []
    for top in range(0, image.height - step + 1, rows):
        tiles = []
        for left in range(0, image.width - step + 1, columns):
            box = (left, top, min(left + columns, image.width), min(top + rows, image.height))
            tiles.append([_averaged(values, step) for values in _light(image.crop(box))])
        strips.append([np.concatenate(parts, axis=1) for parts in zip(*tiles, strict=True)])
    light, opacity = (np.concatenate(parts) for parts in zip(*strips, strict=True))
    if image.mode.startswith("I"):  # integers, of 8 bits if all fit, else of 16
        light /= np.float32(255 if light.max() <= 255 else 65535)
    if opacity.min() < 1:
        visible = opacity > 0.5 * opacity.max()
        colours = light[visible] / opacity[visible]
        if colours.size:
            # the background of ink alone contrasts with it; that of ink on paper is the paper's colour
            background = colours.mean() < 0.5 if colours.std() < _ONE_COLOUR else np.median(colours)
            light = light + (1 - opacity) * np.float32(background)
    upright = None if image.format == "TIFF" else _upright(image)
    return light if upright is None else np.asarray(Image.fromarray(light).transpose(upright))


def _upright(image: Image.Image) -> Image.Transpose | None:
    """What turns `image` upright; None where its EXIF block is damaged, for its pixels may be intact."""
    try:
        return _UPRIGHT.get(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # Pillow fails in many ways on damaged EXIF
        return None


def _check_size(image: Image.Image, size: int) -> None:
    """Refuse a picture that would take much more memory than its file has bytes, before it is decoded."""
    width, height = image.size
    if max(image.size) > _MAX_ASPECT * min(image.size):
        raise DataError(f"has {width}x{height} pixels, but one side may be at most {_MAX_ASPECT} times the other")
    if width * height > max(_MAX_SPARSE_PIXELS, size / _MIN_DENSITY):
        raise DataError(
            f"has {width}x{height} pixels in {size} bytes; a picture of more than {_MAX_SPARSE_PIXELS} pixels must "
            f"have at least {_MIN_DENSITY} bytes for each"
        )


def _light(tile: Image.Image) -> tuple[Float, Float]:
    """Brightness times opacity, and opacity, of each pixel, in [0, 1] unless the mode is I or F."""
    if tile.mode[0] in "IF":  # I, I;16, F: more than 8 bits, which the conversion below would clip
        values = np.asarray(tile).astype(np.float32)
        return values, np.ones_like(values)
    grey, opacity = np.moveaxis(np.divide(np.asarray(tile.convert("LA")), np.float32(255), dtype=np.float32), -1, 0)
    return grey * opacity, opacity


def _averaged(values: Float, step: int) -> Float:
    """The mean of each square of `step` x `step` values."""
    if step == 1:
        return values
    height, width = (length // step for length in values.shape)
    squares = values[: height * step, : width * step].reshape(height, step, width, step)
    return squares.mean(axis=(1, 3))
