"""Shared by all tests: hypothesis profiles, and small data sets on disk."""

import gzip
import io
import json
import os
import socket
import struct
import subprocess
import sys
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

# "ci" draws the same examples each time; HYPOTHESIS_PROFILE=long looks further
settings.register_profile("ci", derandomize=True, deadline=None, max_examples=30)
settings.register_profile("long", deadline=None, max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

FAST = {
    "test_backend.py",
    "test_caches.py",
    "test_contributing.py",
    "test_conv_relu_pool.py",
    "test_embeddings.py",
    "test_gradients.py",
    "test_idx.py",
    "test_kernels.py",
    "test_losses.py",
    "test_network.py",
    "test_optimizers.py",
    "test_options.py",
    "test_pairs.py",
    "test_public_names.py",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of the files in `FAST`, unless they are long."""
    for item in items:
        if item.path.name in FAST and not item.get_closest_marker("long"):
            item.add_marker(pytest.mark.fast)


def write_idx(path: Path, array: np.ndarray) -> None:
    """Write an array of bytes as an IDX file, gzipped if its name says so."""
    content = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(content, 1) if path.suffix == ".gz" else content)


_READ_HOSTILE = """
import json, sys, time
from siamese_np.errors import SiameseError
{setup}

def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024

for path in sys.argv[1:]:
    before, start = peak(), time.perf_counter()
    try:
        read(path)
        sentence = None
    except SiameseError as error:
        sentence = str(error)
    print(json.dumps([sentence, peak() - before, time.perf_counter() - start]), flush=True)
"""


def refusals(setup: str, paths: Iterable[Path]) -> list[str | None]:
    """What the function `read` that `setup` defines says of each file, in less than 200 MB and 4 seconds.

    In a process of its own, whose peak memory is that of the files; None where one is read. A file alone takes less
    than a second, but the machine may be busy.
    """
    if not os.path.exists("/proc/self/status"):
        pytest.skip("peak memory is read from /proc")
    command = [sys.executable, "-c", _READ_HOSTILE.format(setup=setup), *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and not done.stderr, done.stderr
    sentences = []
    for path, line in zip(paths, done.stdout.splitlines(), strict=True):
        sentence, megabytes, seconds = json.loads(line)
        assert megabytes < 200 and seconds < 4, f"{path.name}: {megabytes:.0f} MB, {seconds:.1f} s, {sentence}"
        assert sentence is None or (path.name in sentence and "\n" not in sentence)
        sentences.append(sentence)
    return sentences


def irregular_files(folder: Path) -> list[Path]:
    """A pipe, a socket, and links to a pipe and to devices that never end or have no content."""
    if not hasattr(os, "mkfifo"):
        pytest.skip("this system has no pipes in folders")
    os.mkfifo(folder / "pipe.png")
    with socket.socket(socket.AF_UNIX) as server:
        here = os.getcwd()
        os.chdir(folder)  # a socket's path must be short
        try:
            server.bind("socket.png")
        finally:
            os.chdir(here)
    for name, target in (("link.png", "pipe.png"), ("zero.png", "/dev/zero"), ("null.png", "/dev/null")):
        (folder / name).symlink_to(target)
    return [folder / f"{name}.png" for name in ("pipe", "socket", "link", "zero", "null")]


IRREGULAR = ["it is a pipe", "it is a socket", "it is a pipe", "it is a device", "it is a device"]


def write_npz(path: Path, **members: np.ndarray | bytes) -> None:
    """Write a compressed .npz of arrays, or of whatever bytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, member in members.items():
            content = io.BytesIO()
            if isinstance(member, bytes):
                content.write(member)
            else:
                np.save(content, member)
            archive.writestr(f"{name}.npy", content.getvalue())


def long_npy_header(length: int) -> bytes:
    """An array whose header has `length` bytes."""
    return b"\x93NUMPY\x02\0" + struct.pack("<I", length) + b" " * length


@pytest.fixture(scope="session")
def small_mnist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the first 1,800 training and 300 test images of the bundled MNIST."""
    from siamese_np.datasets import load_dataset

    mnist = load_dataset()
    folder = tmp_path_factory.mktemp("small-mnist")
    for name, split, count in (("train", mnist.all_train, 1800), ("t10k", mnist.test, 300)):
        images = np.rint(split.images[:count, :, :, 0] * 255)
        write_idx(folder / f"{name}-images-idx3-ubyte.gz", images)
        write_idx(folder / f"{name}-labels-idx1-ubyte", split.classes[:count])
    return folder


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves the pictures of a run folder undrawn, which take a second, where a test is of something else."""
    monkeypatch.setattr("siamese_np.run_folder.draw", lambda *arguments: None)


@pytest.fixture(params=["compiled", "textbook"])
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    """Runs a test on both back ends; `pytestmark = pytest.mark.usefixtures("backend")` all of a file."""
    from siamese_np.backend import use_kernels

    with use_kernels(request.param):
        yield request.param
