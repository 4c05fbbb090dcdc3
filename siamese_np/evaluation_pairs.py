"""The pairs that models are evaluated on: the same for every model and seed.

Those of MNIST are shipped as a file, with its checksum, so that others can evaluate on the same pairs without this
package or its random numbers: ``datasets/mnist_data/evaluation_pairs.npz``. For the ``test`` and the ``validation``
images (the last 10,000 training images) it holds ``PART_pairs`` (P, 2), the numbers of the two images within their
part, and ``PART_label`` (P,), 0 = similar, 1 = dissimilar; ``PART_confusable_pairs`` and ``PART_confusable_label``
likewise, where dissimilar are digits that look alike (4 and 9, 3 and 5, 7 and 9, 3 and 8).
``tests/test_evaluation_pairs.py`` draws all of them anew.
"""

import hashlib
import io
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from siamese_np._checks import as_flag, check_classes, found
from siamese_np.datasets.mnist import BUNDLED
from siamese_np.errors import DataError, OptionError
from siamese_np.pairs import random_pairs
from siamese_np.reading import read_whole

Pairs = tuple[NDArray[np.int64], NDArray[np.int64]]

EVALUATION_SEED = 20061
MAX_BYTES = 1 << 20  # of the file, which has a quarter
FILE = BUNDLED / "evaluation_pairs.npz"
SHA256 = "64f1f125135dcb4385f8c664cebbadff5e15f8088a6fb7315cfc004554c597ae"
# Of the classes of MNIST's images, as little-endian int64, by which a split is known to be MNIST's
CLASSES_SHA256 = {
    "2fd8de6bdb8d11780b4b96dc57847bcfe6953f7c32aa48bfcd8237c3b7847243": "test",
    "bfddcd2fec1923668512623a71a47033ec687581bc04ac5708c8857aa0193630": "validation",
}


def mnist_part(classes: ArrayLike) -> str | None:
    """Which part of the bundled MNIST has these classes: "test", "validation" or neither, None."""
    return CLASSES_SHA256.get(hashlib.sha256(check_classes(classes).astype("<i8").tobytes()).hexdigest())


def evaluation_pairs(classes: ArrayLike) -> Pairs:
    """`random_pairs` of the classes, drawn with a fixed seed: one similar and one dissimilar pair for each image."""
    return random_pairs(classes, np.random.default_rng(EVALUATION_SEED))


def load_evaluation_pairs(part: str = "test", confusable: bool = False, file: str | Path = FILE) -> Pairs:
    """The shipped pairs of the bundled MNIST.

    Parameters
    ----------
    part : {"test", "validation"}
        The images that the pairs number.
    confusable : bool, default False
        Whether to load the pairs of digits that look alike.
    file : path, optional

    Returns
    -------
    pairs : (P, 2) array of int64
    label : (P,) array of int64
        0 = similar, 1 = dissimilar.

    Raises
    ------
    DataError
        The file cannot be read, or its checksum is not that of the published pairs.
    """
    if not isinstance(part, str) or part not in ("test", "validation"):
        raise OptionError(f"evaluation pairs are of the part test or validation, not {part!r:.200}")
    if not isinstance(file, (str, Path)):
        raise OptionError(f"evaluation pairs are read from a path, not from {found(file)}")
    confusable = as_flag("confusable", confusable)
    try:
        content = read_whole(file, MAX_BYTES)
    except (OSError, ValueError) as error:
        raise DataError(
            f"the evaluation pairs in {file} cannot be read: {getattr(error, 'strerror', None) or error}"
        ) from None
    if (checksum := hashlib.sha256(content).hexdigest()) != SHA256:
        raise DataError(
            f"{file} does not hold the published evaluation pairs: its SHA-256 is {checksum}, not {SHA256}; "
            "install the package again"
        )
    name = f"{part}_confusable" if confusable else part
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        return arrays[f"{name}_pairs"].astype(np.int64), arrays[f"{name}_label"].astype(np.int64)
