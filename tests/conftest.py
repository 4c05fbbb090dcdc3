"""Shared by all tests: hypothesis profiles, and small data sets on disk."""

import gzip
import os
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

# "ci" draws the same examples each time; HYPOTHESIS_PROFILE=long looks further
settings.register_profile("ci", derandomize=True, deadline=None, max_examples=30)
settings.register_profile("long", deadline=None, max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


def write_idx(path: Path, array: np.ndarray) -> None:
    """Write an array of bytes as an IDX file, gzipped if its name says so."""
    content = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(content, 1) if path.suffix == ".gz" else content)


@pytest.fixture(scope="session")
def small_mnist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the first 1,800 training and 300 test images of the bundled MNIST."""
    from siamese_np.datasets import load_dataset

    mnist = load_dataset()
    folder = tmp_path_factory.mktemp("small-mnist")
    for name, split, count in (("train", mnist.all_train, 1800), ("t10k", mnist.test, 300)):
        images = np.rint(split.images[:count, :, :, 0] * 255)
        write_idx(folder / f"{name}-images-idx3-ubyte.gz", images)
        write_idx(folder / f"{name}-labels-idx1-ubyte", split.labels[:count])
    return folder
