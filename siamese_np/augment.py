"""Augmentation: training images changed at random, a new way each time.

An augmentation is a function ``augment(images, rng) -> images`` that returns a batch (N, H, W, C) of the same shape,
dtype and range [0, 1]. All that is random in it must come from ``rng``, a `numpy.random.Generator` made anew for each
step of a training from its seed, epoch and step: so a resumed training draws the same. `augmented` holds it to that.
"""

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siamese_np._checks import found, is_array, is_whole
from siamese_np.errors import OptionError, ShapeError

Images = NDArray[np.floating]
Augmentation = Callable[[Images, np.random.Generator], Images]


class RandomShift:
    """Shift each image by whole pixels, up and down and sideways; what comes in at the edge is 0, the background.

    Parameters
    ----------
    pixels : int, at least 0
        The largest shift, each way. All shifts from ``-pixels`` to ``pixels`` are equally likely.

    Raises
    ------
    OptionError
        `pixels` is no whole number of at least 0.

    Examples
    --------
    >>> image = np.eye(3, dtype=np.float32).reshape(1, 3, 3, 1)
    >>> RandomShift(1)(image, np.random.default_rng(0))[0, :, :, 0].tolist()
    [[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]]
    """

    def __init__(self, pixels: int) -> None:
        if not is_whole(pixels) or pixels < 0:
            raise OptionError(f"RandomShift needs a whole number of pixels of at least 0, not {pixels!r}")
        self.pixels = int(pixels)

    def __call__(self, images: Images, rng: np.random.Generator) -> Images:
        """The images (N, H, W, C), each shifted; OptionError where nothing might be left of one."""
        if not is_array(images) or images.ndim != 4:
            raise ShapeError(f"RandomShift needs an array of images (N, H, W, C), not {found(images)}")
        N, H, W, _ = images.shape
        most = self.pixels
        if most and most >= min(H, W):
            raise OptionError(f"{self} may leave nothing of images of {H}x{W} pixels: shift by less than {min(H, W)}")
        padded = np.pad(images, ((0, 0), (most, most), (most, most), (0, 0)))
        top, left = rng.integers(0, 2 * most + 1, (2, N, 1, 1))  # of the part of each padded image that is kept
        rows, columns = top + np.arange(H)[:, None], left + np.arange(W)
        return padded[np.arange(N)[:, None, None], rows, columns]

    def __repr__(self) -> str:
        return f"RandomShift({self.pixels})"


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
    out = augment(images, rng)
    wanted = f"an augmentation must return images {images.shape} of {images.dtype} in [0, 1], as it was given, but "
    if not is_array(out) or (out.shape, out.dtype) != (images.shape, images.dtype):
        raise OptionError(f"{wanted}{augment!r} returned {found(out)}")
    if out.size and not (out.min() >= 0 and out.max() <= 1):  # a NaN is neither
        raise OptionError(f"{wanted}{augment!r} returned numbers from {out.min():g} to {out.max():g}")
    return out
