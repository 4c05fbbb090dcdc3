"""Reads the user's own pictures: image files of any size and kind, folders of them, and IDX files.

A file is first decoded to brightness or colour (`decoded`); an `InputForm` then makes it the input of a network.
"""

import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from itertools import islice
from typing import Any, Literal, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from siamese_np._checks import as_path, found
from siamese_np.datasets.idx import DTYPES, GZIP_MAGIC, read_idx
from siamese_np.datasets.input_form import DIGIT, EVEN, InputForm, scaled, with_channels
from siamese_np.datasets.mnist_form import as_mnist_form
from siamese_np.errors import DataError, OptionError
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
_BLOCK = 1024  # images of an IDX file that are looked for digits at a time
_ONE_COLOUR = 0.1  # standard deviation of brightness up to which all that is visible is taken for ink

_ORIENTATION = 0x0112  # EXIF tag: how the camera was held. The turns undo it
_UPRIGHT: dict[int, Callable[[NDArray[Any]], NDArray[Any]]] = {
    2: np.fliplr,
    3: lambda picture: np.rot90(picture, 2),
    4: np.flipud,
    5: lambda picture: picture.swapaxes(0, 1),
    6: lambda picture: np.rot90(picture, -1),
    7: lambda picture: np.rot90(picture, 2).swapaxes(0, 1),
    8: np.rot90,
}
PART_FOLDERS = {"train": "train", "training": "train", "val": "validation", "valid": "validation"}
PART_FOLDERS |= {"validation": "validation", "test": "test", "testing": "test"}  # folders, and what is in them

Float = NDArray[np.float32]


class Picture(NamedTuple):
    """One picture that was read, or could not be.

    Attributes
    ----------
    name : str
        Its path; of an image in an IDX file followed by ``#`` and its number, from 0.
    image : ndarray (H, W, C) of float32, or None where it could not be read
        In the form asked for.
    original : ndarray (h, w) or (h, w, C), or None
        As it was decoded; a large picture is averaged down.
    class_name : str or None
        The subfolder of the folder given that it was found in (`class_of`).
    error : str or None
        Why it could not be read, in one sentence.
    """

    name: str
    image: Float | None
    original: NDArray[Any] | None = None
    class_name: str | None = None
    error: str | None = None


def load_images(inputs: Iterable[str | os.PathLike[str]], form: InputForm = DIGIT) -> tuple[Float, list[str]]:
    """Read pictures and bring each to the form of a network's input, by default MNIST's.

    Parameters
    ----------
    inputs : iterable of str or path-like
        As `read_images` takes them.
    form : InputForm
        Of a model: its ``input_form``.

    Returns
    -------
    images : ndarray (N, H, W, C) of float32 in [0, 1]
    names : list of str
        The path of each image; those of an IDX file are followed by ``#`` and the number of the image, from 0.

    Raises
    ------
    DataError
        If an input is missing, unreadable, damaged or blank, or a folder holds no image.
    OptionError
        `inputs` is a single path, or holds what is none.
    """
    try:
        if isinstance(inputs, (str, bytes, os.PathLike)):  # a word would be taken for its letters
            raise TypeError
        paths = [str(as_path("a picture", path)) for path in inputs]
    except TypeError:
        raise OptionError(f"pictures are loaded from paths in a list, not {found(inputs)}") from None
    images, names = [], []
    for picture in read_images(paths, form):
        images.append(picture.image)
        names.append(picture.name)
    if not images:
        raise DataError("there is nothing to read: at least one image file, folder or IDX file is needed")
    return np.stack(images), names  # type: ignore[arg-type]


def read_images(
    inputs: Iterable[str | os.PathLike[str]],
    form: InputForm = DIGIT,
    on_unreadable: Literal["raise"] | Callable[[Picture], object] = "raise",
    skip: Callable[[str, str | None], bool] = lambda name, class_name: False,
    mapped: Callable[[Callable[[Picture], Picture], Iterator[Picture]], Iterator[Picture]] = map,
) -> Iterator[Picture]:
    """Read pictures one after the other, in constant memory.

    Parameters
    ----------
    inputs : iterable of str or path-like
        Image files (see `read_image`); folders, of which every image file is taken, also from folders inside, in
        sorted order, but nothing hidden, links followed; and IDX files of images (N, H, W) or (N, H, W, C), gzipped or
        not. Images of an IDX file that are in the form already are only divided by 255: each digit by itself is, others
        are where the file has the form's size and background.
    form : InputForm
    on_unreadable : "raise" or callable
        A callable is given each `Picture` that cannot be read, without image, and the next ones follow.
    skip : callable
        Given name and class name of each picture before it is decoded; where it says True, the picture is left out.
    mapped : callable
        Used as `map`: it may call what it is given for several pictures at a time, in other processes, too.

    Yields
    ------
    Picture
        Each that could be read.

    Raises
    ------
    DataError
        A picture cannot be read, or a folder holds none; only with ``"raise"``.
    """
    for picture in mapped(partial(_if_listed, form=form), _listed(inputs, form, skip)):
        if picture.error is None:
            yield picture
        elif callable(on_unreadable):
            on_unreadable(picture)
        else:
            raise DataError(picture.error)


def _listed(
    inputs: Iterable[str | os.PathLike[str]], form: InputForm, skip: Callable[[str, str | None], bool]
) -> Iterator[Picture]:
    """The pictures that are there: those of image files without image, as they are not read yet."""
    for given in inputs:
        name = os.fspath(given)
        try:
            paths = image_files(name) if os.path.isdir(name) else [name]
        except DataError as error:
            yield Picture(name, None, error=str(error))
            continue
        for path in paths:
            kind = class_of(path, name)
            if not is_idx(path):
                if not skip(path, kind):
                    yield Picture(path, None, class_name=kind)
                continue
            try:
                found = _idx_pictures(path, form, kind, skip)
            except DataError as error:
                yield Picture(path, None, class_name=kind, error=str(error))
                continue
            for picture in found:
                yield picture._replace(class_name=kind)


def _if_listed(picture: Picture, form: InputForm) -> Picture:
    """A picture that was only listed, read from its file; any other as it is."""
    if picture.image is not None or picture.error is not None:
        return picture
    try:
        return read_picture(picture.name, form)._replace(class_name=picture.class_name)
    except DataError as error:
        return picture._replace(error=str(error))


def class_of(path: str, folder: str) -> str | None:
    """The subfolder of `folder` that `path` is in; of folders ``train``, ``val`` and ``test`` the one below them."""
    parts = os.path.relpath(path, folder).split(os.sep)[:-1]
    if len(parts) > 1 and parts[0].casefold() in PART_FOLDERS:
        parts = parts[1:]
    return parts[0] if parts and parts[0] != os.pardir else None


def read_image(path: str | os.PathLike[str], form: InputForm = DIGIT) -> Float:
    """Read a picture from an image file and bring it to the form of a network's input, by default MNIST's.

    Parameters
    ----------
    path : str or path-like
        A file in any of the formats AVIF, BMP, GIF, JPEG, JPEG 2000, PNG, PPM, TGA, TIFF and WebP, of any mode and
        size; for MNIST's form dark ink on light paper or light ink on dark. Transparent pixels are taken for
        background: the paper's colour, or, where only ink is visible, black or white, whichever contrasts more. Only
        the first frame of an animation is read. EXIF orientation is applied. Of colours that are equally bright, a
        grey form shows the channel in which they differ most.
    form : InputForm
        Of a model: its ``input_form``.

    Returns
    -------
    image : ndarray (H, W, C) of float32 in [0, 1]
        See `InputForm.picture`.

    Raises
    ------
    DataError
        If the file is missing, unreadable, damaged or no image, or shows nothing. If it has too many pixels for Pillow
        (about 179 million), more than 40 million in less than 0.01 bytes each, or one side more than 100 times as
        long as the other.
    """
    return cast(Float, read_picture(str(as_path("a picture", path)), form).image)


def read_picture(name: str, form: InputForm) -> Picture:
    """As `read_image`, with the picture as it was decoded."""
    original = decoded(name, form.shape[2])
    return Picture(name, _in_form(original, form, name), original)


def decoded(name: str, channels: int) -> Float:
    """The picture in an image file: brightness (h, w), or colour (h, w, 3); upright, and averaged down if large.

    Raises are those of `read_image`.
    """
    if channels not in (1, 3):
        raise DataError(f"{name} cannot be read for a model of {channels} channels: pictures have 1 or 3")
    if os.path.isdir(name):
        raise DataError(f"{name} is a folder, but one image file is needed")
    with open_image(name) as (image, size):
        coloured = _may_have_colour(image)  # asked first: a JPEG is then decoded as grey
        light = _light_of(image, size, channels)
    if channels == 3:
        return light
    if coloured and np.ptp(light) < EVEN:  # what is seen may differ in colour alone
        light = with_channels(decoded(name, 3), 1)
    return light[..., 0]


def header(name: str) -> tuple[tuple[int, int], bool]:
    """Height and width of the picture in an image file, upright, and whether it may have colour; nothing is decoded."""
    with open_image(name) as (image, size):
        _check_size(image, size)
        turned = image.format in ("JPEG", "WEBP") and image.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8)
        shape = image.size if turned else image.size[::-1]
        return shape, _may_have_colour(image)


def _may_have_colour(image: Image.Image) -> bool:
    return image.mode not in ("1", "L", "LA", "La", "F") and image.mode[0] != "I"


@contextmanager
def open_image(name: str) -> Iterator[tuple[Image.Image, int]]:
    """The image file `name`, opened, and its bytes; what is wrong with it, then or later, becomes a DataError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of large pictures and odd metadata; both can be read
            # Given a path, Pillow 13 maps uncompressed TIFF files into memory and mixes up rotated ones.
            with open_regular(name) as file, Image.open(file, formats=_formats()) as image:
                yield image, file_size(file)
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


def _formats() -> list[str]:
    """Those of `_FORMATS` that this Pillow was built with."""
    Image.init()
    return [name for name in _FORMATS if name in Image.OPEN]


def _in_form(picture: NDArray[Any], form: InputForm, name: str) -> Float:
    try:
        return form.picture(picture)
    except DataError as error:
        wrong = "cannot be read as a digit" if form.kind == "digit" else "cannot be used"
        raise DataError(f"{name} {wrong}: {error}") from None


def image_files(folder: str, none: bool = False) -> list[str]:
    """The image files in `folder` and the folders inside it, sorted; a folder that links lead to twice is read once.

    DataError where there is none, unless `none` is allowed.
    """

    def unreadable(error: OSError) -> None:
        raise DataError(f"cannot read {error.filename}: {error.strerror}") from error

    found, seen = [], set()
    for parent, folders, files in os.walk(folder, onerror=unreadable, followlinks=True):
        status = os.stat(parent)
        if (status.st_dev, status.st_ino) in seen:
            folders[:] = []
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [
            os.path.join(parent, name)
            for name in files
            if name.lower().endswith(EXTENSIONS) and not name.startswith(".")  # macOS adds ._name.png
        ]
    if not found and not none:
        raise DataError(f"{folder} holds no image file, whose name would end in one of {' '.join(EXTENSIONS)}")
    return sorted(found)


def is_idx(path: str) -> bool:
    """Whether a file starts like an IDX or a gzip file, as no image does."""
    try:
        with open_regular(path) as file:
            start = file.read(4)
    except OSError:
        return False  # `read_image` will say why
    return start[:2] == GZIP_MAGIC or (start[:2] == b"\0\0" and len(start) == 4 and start[2] in DTYPES and start[3] > 0)


def _idx_pictures(
    path: str, form: InputForm, kind: str | None, skip: Callable[[str, str | None], bool]
) -> Iterator[Picture]:
    """The images of an IDX file."""
    array = read_idx(path)
    if array.ndim not in (3, 4) or array.size == 0 or array.shape[3:] not in ((), (1,), (3,), form.shape[2:]):
        raise DataError(
            f"{path} holds an array of shape {array.shape}, but images have the shape (N, H, W) or (N, H, W, 3)"
        )
    height, width = array.shape[1:3]
    if height * width > _MAX_IDX_PIXELS:
        raise DataError(f"{path} holds images of {width}x{height} pixels, more than the {_MAX_IDX_PIXELS} one may have")
    rows = (row for row in range(len(array)) if not skip(f"{path}#{row}", kind))
    in_form = form.kind != "digit" and form.holds(array)
    blocks = iter(lambda: list(islice(rows, _BLOCK)), [])
    return (picture for block in blocks for picture in _idx_block(path, array, block, form, in_form))


def _idx_block(path: str, array: NDArray[Any], rows: list[int], form: InputForm, in_form: bool) -> Iterator[Picture]:
    """The images `rows` of an IDX file."""
    made = None
    if form.kind == "digit" and array.ndim == 3:
        with suppress(DataError):  # one of them; each is read by itself, then
            made = as_mnist_form(array[rows])
    for i, row in enumerate(rows):
        name, pixels = f"{path}#{row}", array[row]
        try:
            if made is not None:
                image = made[i][..., np.newaxis]
            else:
                image = scaled(pixels).reshape(form.shape) if in_form else _in_form(pixels, form, name)
        except DataError as error:
            yield Picture(name, None, pixels, error=str(error))
        else:
            yield Picture(name, image, pixels)


def _light_of(image: Image.Image, size: int, channels: int) -> Float:
    """The light (h, w, 1 or 3) of an opened image file of `size` bytes, upright and averaged down.

    It is in [0, 1], unless the file holds 32-bit numbers.
    """
    step = max(1, max(image.size) // _WORK_SIDE)
    mode = "L" if channels == 1 else "RGB"
    image.draft(mode, (max(1, image.width // step), max(1, image.height // step)))  # a JPEG at lower resolution
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
            tiles.append([_averaged(values, step) for values in _light(image.crop(box), channels)])
        strips.append([np.concatenate(parts, axis=1) for parts in zip(*tiles, strict=True)])
    light, opacity = (np.concatenate(parts) for parts in zip(*strips, strict=True))
    if image.mode.startswith("I"):  # integers, of 8 bits if all fit, else of 16
        light /= np.float32(255 if light.max() <= 255 else 65535)
    if opacity.min() < 1:
        visible = opacity[..., 0] > 0.5 * opacity.max()
        colours = light[visible] / opacity[visible]
        if colours.size:
            # the background of ink alone contrasts with it; that of ink on paper is the paper's colour
            ink_alone = colours.std(axis=0).max() < _ONE_COLOUR
            background = np.float32(colours.mean() < 0.5) if ink_alone else np.median(colours, axis=0)
            light = light + (1 - opacity) * np.asarray(background, np.float32)
    upright = None if image.format == "TIFF" else _upright(image)
    return light if upright is None else np.ascontiguousarray(upright(light))


def _upright(image: Image.Image) -> Callable[[NDArray[Any]], NDArray[Any]] | None:
    """What turns the pixels of `image` upright; None where its EXIF block is damaged, for they may be intact."""
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


def _light(tile: Image.Image, channels: int) -> tuple[Float, Float]:
    """Light times opacity (h, w, channels), and opacity (h, w, 1), in [0, 1] unless the mode is I or F."""
    if tile.mode[0] in "IF":  # I, I;16, F: more than 8 bits, which the conversion below would clip
        values = np.asarray(tile).astype(np.float32)[..., np.newaxis]
        return np.repeat(values, channels, axis=2), np.ones_like(values)
    mode = "LA" if channels == 1 else "RGBA"
    values = np.divide(np.asarray(tile.convert(mode)), np.float32(255), dtype=np.float32)
    return values[..., :-1] * values[..., -1:], values[..., -1:]


def _averaged(values: Float, step: int) -> Float:
    """The mean of each square of `step` x `step` pixels of an array (h, w, C)."""
    if step == 1:
        return values
    height, width = (length // step for length in values.shape[:2])
    squares = values[: height * step, : width * step].reshape(height, step, width, step, values.shape[2])
    return squares.mean(axis=(1, 3))
