"""Augmentation: training images changed at random, a new way each time.

An augmentation is a function ``augment(images, rng) -> images`` that returns a batch (N, H, W, C) of the same shape,
dtype and range [0, 1]. All that is random in it must come from ``rng``, a `numpy.random.Generator` made anew for each
step of a training from its seed, epoch and step: so a resumed training draws the same. `augmented` checks what it
returns: shape, dtype and range.
"""

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siamese_np._checks import FLOATS, as_array, as_number, check_kind, found, is_array, kernel_input
from siamese_np.backend import ops
from siamese_np.errors import OptionError, ShapeError

Images = NDArray[np.floating]
Augmentation = Callable[[Images, np.random.Generator], Images]
KNOTS = 5  # along each side of an image
MAX_PIXELS = 1e6
VIEWS = [(0.0, down, right) for down in (-0.8, 0.8) for right in (-0.8, 0.8)] + [(-8.0, 0.0, 0.0), (8.0, 0.0, 0.0)]


class Distort:
    """Turn, stretch, shift and bend each image a little, another way each time (`siamese_np.textbook.distort`).

    What comes in at the edge is 0, the background. Rotation, stretch and shift are drawn evenly.

    Parameters
    ----------
    rotation : float, default 8
        The largest angle, either way, in degrees.
    scale : float, default 0.08
        Rows and columns are stretched by factors from ``1 - scale`` to ``1 + scale``, each by its own.
    shift : float, default 1
        The largest shift up or down and sideways, in pixels, also parts of them.
    elastic : float, default 0.45
        Spread of the normal displacements, in pixels, of 5x5 knots across the image.

    Raises
    ------
    OptionError
        One of them is out of range.

    Examples
    --------
    >>> image = np.eye(3, dtype=np.float32).reshape(1, 3, 3, 1)
    >>> turned = Distort(rotation=90, scale=0, shift=0, elastic=0)(image, np.random.default_rng(0))
    >>> turned.shape, bool(turned[0, 1, 1, 0] > 0.99)  # the centre stays
    ((1, 3, 3, 1), True)
    """

    def __init__(self, rotation: float = 8, scale: float = 0.08, shift: float = 1, elastic: float = 0.45) -> None:
        limits = {"rotation": 180.0, "scale": 0.99, "shift": MAX_PIXELS, "elastic": MAX_PIXELS}
        for (name, most), value in zip(limits.items(), (rotation, scale, shift, elastic), strict=True):
            if not 0 <= as_number(value) <= most:
                raise OptionError(f"{name} of Distort must be from 0 to {most:g}, not {value!r:.200}")
        self.rotation, self.scale, self.shift, self.elastic = map(float, (rotation, scale, shift, elastic))

    def __call__(self, images: Images, rng: np.random.Generator) -> Images:
        """The images (N, H, W, C), each distorted; OptionError where nothing might be left of one."""
        if not is_array(images) or images.ndim != 4 or images.dtype.kind not in "iuf":
            raise ShapeError(f"Distort needs an array of images (N, H, W, C) of real numbers, not {found(images)}")
        check_kind("rng", rng, np.random.Generator)
        N, H, W, _ = images.shape
        least = max(2, int(self.shift) + 1, int(self.elastic) + 1)
        if min(H, W) < least:
            raise OptionError(f"{self} needs images of at least {least}x{least} pixels, not {H}x{W}")
        turn, rows, columns, down, right = rng.uniform(-1, 1, (5, N))
        grid = self.elastic * rng.standard_normal((N, KNOTS, KNOTS, 2))
        stretch = 1 + self.scale * np.stack([rows, columns], axis=1)
        return resample(images, self.rotation * turn, stretch, self.shift * np.stack([down, right], axis=1), grid)

    def __repr__(self) -> str:
        return f"Distort({', '.join(f'{name}={value:.12g}' for name, value in vars(self).items())})"


# What `TrainConfig.augment` chooses among; a checkpoint holds the name.
AUGMENTATIONS: dict[str, Augmentation | None] = {"none": None, "mild": Distort()}


def resample(images: Images, angle: Any, stretch: Any, shift: Any, grid: Any) -> Images:
    """Images (N, H, W, C) looked up where these lead from each pixel, about the centre of the image.

    angle (N,) in degrees, stretch (N, 2) of rows and columns, shift (N, 2) and grid (N, G, G, 2) in pixels; ShapeError
    where they are not.
    """
    images, grid = as_array("images", images), as_array("grid", grid)
    N, G = len(images) if images.ndim else 0, grid.shape[1] if grid.ndim == 4 else 0
    angle, stretch, shift = as_array("angle", angle), as_array("stretch", stretch), as_array("shift", shift)
    parts = {
        "angle": (angle, (N,)),
        "stretch": (stretch, (N, 2)),
        "shift": (shift, (N, 2)),
        "grid": (grid, (N, G, G, 2)),
    }
    if images.ndim != 4 or images.dtype.kind not in "iuf":
        raise ShapeError(f"only images (N, H, W, C) of real numbers can be resampled, not {found(images)}")
    for name, (array, shape) in parts.items():
        if array.shape != shape or array.dtype.kind not in "iuf" or (name == "grid" and G < 2):
            raise ShapeError(f"{name} must be an array {shape} of real numbers, not {found(array)}")
    work = kernel_input(images if images.dtype in FLOATS else images.astype(np.float32))
    N, H, W, _ = work.shape
    turn, matrix = np.deg2rad(angle), np.empty((N, 2, 3))
    matrix[:, 0, 0] = matrix[:, 1, 1] = np.cos(turn)
    matrix[:, 1, 0] = np.sin(turn)
    matrix[:, 0, 1] = -matrix[:, 1, 0]
    matrix[:, :, :2] *= stretch[:, None]
    centre = np.array([H - 1, W - 1]) / 2
    matrix[:, :, 2] = centre + shift - matrix[:, :, :2] @ centre
    out = np.empty_like(work)
    ops.distort(out, work, matrix.astype(work.dtype), kernel_input(grid.astype(work.dtype)))
    return out.astype(images.dtype, copy=False)


def views(images: Images) -> Iterator[Images]:
    """The images (N, H, W, C) themselves, shifted four ways, and turned two ways: what `SiameseNetwork.views` averages.

    ShapeError where they are no images of at least 2x2 pixels.
    """
    if not is_array(images) or images.ndim != 4 or min(images.shape[1:3]) < 2 or images.dtype.kind not in "iuf":
        given = images.shape if is_array(images) else found(images)
        raise ShapeError(f"views need images (N, H, W, C) of at least 2x2 pixels, not {given}")
    yield images
    N = len(images)
    for angle, down, right in VIEWS:
        yield resample(
            images, np.full(N, angle), np.ones((N, 2)), np.full((N, 2), [down, right]), np.zeros((N, 2, 2, 2))
        )


def check_augmentation(augment: Any) -> None:
    """OptionError unless `augment` is a function of images and rng."""
    wanted = "an augmentation must be a function of images and rng"
    if isinstance(augment, type):
        raise OptionError(f"{wanted}, not a class; make one of it, {augment.__name__}(...)")
    if not callable(augment):
        raise OptionError(f"{wanted}, not {augment!r}")
    try:
        signature = inspect.signature(augment)
    except ValueError:  # a function written in C may tell none
        return
    try:
        signature.bind("images", "rng")
    except TypeError:
        raise OptionError(f"{wanted}, not of {signature}, as {augment!r} is") from None


def augmented(augment: Augmentation, images: Images, rng: np.random.Generator) -> Images:
    """What `augment` makes of `images`, or an OptionError that says what it may not have changed."""
    if not callable(augment) or not is_array(images) or images.dtype.kind not in "iuf":
        raise OptionError(f"a function augments an array of images, not {found(augment)} {found(images)}")
    out = augment(images, rng)
    wanted = f"an augmentation must return images {images.shape} of {images.dtype} in [0, 1], as it was given, but "
    if not is_array(out) or (out.shape, out.dtype) != (images.shape, images.dtype):
        raise OptionError(f"{wanted}{augment!r} returned {found(out)}")
    if out.size and not (out.min() >= 0 and out.max() <= 1):  # a NaN is neither
        raise OptionError(f"{wanted}{augment!r} returned numbers from {out.min():g} to {out.max():g}")
    return out
