"""The IDX reader: what it writes back, and every kind of damage to a file."""

import gzip
import struct
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from conftest import IRREGULAR, irregular_files, refusals
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from siamese_np.datasets import read_idx
from siamese_np.errors import DataError

READ = "from siamese_np.datasets import read_idx as read"


CODES = {"uint8": 0x08, "int8": 0x09, "int16": 0x0B, "int32": 0x0C, "float32": 0x0D, "float64": 0x0E}


def header(code: int, *shape: int) -> bytes:
    return bytes([0, 0, code, len(shape)]) + struct.pack(f">{len(shape)}I", *shape)


def encoded(array: np.ndarray) -> bytes:
    return header(CODES[array.dtype.name], *array.shape) + array.astype(array.dtype.newbyteorder(">")).tobytes()


SMALL = encoded(np.arange(12, dtype=np.int16).reshape(3, 4))


@pytest.fixture
def read(tmp_path):
    def read(content: bytes) -> np.ndarray:
        path = tmp_path / "some-idx"
        path.write_bytes(content)
        return read_idx(path)

    return read


@pytest.fixture
def fails(read):
    def fails(content: bytes, words: str) -> None:
        with pytest.raises(DataError, match=words) as caught:
            read(content)
        assert "some-idx" in str(caught.value)

    return fails


@given(st.data(), st.sampled_from(list(CODES)), st.booleans())
def test_round_trip(tmp_path_factory, data, dtype, zipped):
    shape = data.draw(hnp.array_shapes(min_dims=1, max_dims=5, min_side=0, max_side=5))
    array = data.draw(hnp.arrays(dtype, shape))
    path = tmp_path_factory.mktemp("idx") / "a"  # the name says nothing about gzip
    path.write_bytes(gzip.compress(encoded(array)) if zipped else encoded(array))
    found = read_idx(path)
    assert found.dtype == array.dtype and found.dtype.isnative and found.shape == array.shape
    assert found.tobytes() == array.tobytes()
    assert found.flags.c_contiguous and found.flags.writeable


@pytest.mark.parametrize("zipped", [False, True])
def test_truncated_anywhere(fails, zipped):
    content = gzip.compress(SMALL) if zipped else SMALL
    for length in range(len(content)):
        fails(content[:length], "empty|not an IDX file|ends inside|too short|truncated")


@given(st.integers(0, len(gzip.compress(SMALL, mtime=0)) * 8 - 1))
def test_a_flipped_bit_in_gzip_is_noticed(tmp_path_factory, bit):
    content = bytearray(gzip.compress(SMALL, mtime=0))
    content[bit // 8] ^= 1 << bit % 8
    path = tmp_path_factory.mktemp("idx") / "a"
    path.write_bytes(content)
    try:
        found = read_idx(path)
    except DataError:
        return
    assert found.tolist() == np.arange(12).reshape(3, 4).tolist()  # bytes 4 to 9, time and system, mean nothing
    assert 3 <= bit // 8 <= 9


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"label,pixel\n5,0\n", "not an IDX file: it starts with the bytes 6c 61 62 65"),
        (b"\0\1\x08\1\0\0\0\0", "not an IDX file"),
        (header(0x0A, 1) + b"\0", "unknown IDX type code 0x0a"),
        (bytes([0, 0, 8, 0]) + b"\0", "0 dimensions"),
        (SMALL + b"\0", "too long"),
        (gzip.compress(SMALL + b"\0", mtime=0), "too long"),
        (gzip.compress(b"label,pixel\n", mtime=0), "not an IDX file"),
        (gzip.compress(SMALL, mtime=0) + b"more", "damaged gzip"),
        (gzip.compress(gzip.compress(SMALL, mtime=0), mtime=0), "not an IDX file"),
        (header(8, *[1] * 255) + b"\0", "255 dimensions that no array can have"),
        (header(8, 0, *[2**32 - 1] * 5), "dimensions that no array can have"),
    ],
)
def test_damage(fails, content, words):
    fails(content, words)


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("shape", [(2**32 - 1,) * 4, (60_000, 28, 28), (2**31, 2)])
def test_announced_size_is_not_believed(fails, shape, zipped):
    content = header(8, *shape) + bytes(1_000)
    tracemalloc.start()
    try:
        fails(gzip.compress(content) if zipped else content, "too short|the most that a gzip file of its size")
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


def test_a_gzip_file_with_more_than_announced_is_not_unpacked(fails):
    bomb = gzip.compress(header(8, 3) + bytes(100_000_000), 9)
    tracemalloc.start()
    try:
        fails(bomb, "too long")
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


def test_a_small_file_takes_little_memory(tmp_path):
    """A gzip file of 2 MB that keeps what it promises, 300 MB, and a file that promises more than is there."""
    bomb, claim = tmp_path / "bomb.gz", tmp_path / "claim"
    with gzip.open(bomb, "wb", compresslevel=1) as file:
        file.write(header(8, 300, 1000, 1000))
        for _ in range(300):
            file.write(bytes(1_000_000))
    claim.write_bytes(header(0x0E, 2**31, 2**31) + bytes(1000))
    sentences = refusals(READ, [bomb, claim])
    assert "300x1000x1000 uint8 values" in sentences[0] and "64 MiB, or 32 times its size" in sentences[0]
    assert "too short" in sentences[1] and "1000 are there" in sentences[1]


def test_only_regular_files_are_read(tmp_path):
    """A pipe would be waited for, a device read for ever."""
    for sentence, words in zip(refusals(READ, irregular_files(tmp_path)), IRREGULAR, strict=True):
        assert f"{words}, where a regular file is needed" in sentence


def test_blank_images_of_mnists_size_are_read(read):
    assert read(gzip.compress(header(8, 60_000, 28, 28) + bytes(60_000 * 784), 1)).shape == (60_000, 28, 28)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(DataError, match=r"there is no file .*absent"):
        read_idx(tmp_path / "absent")
    with pytest.raises(DataError, match="is a folder"):
        read_idx(tmp_path)


def test_unreadable_file(tmp_path, monkeypatch):
    path = tmp_path / "secret"
    path.write_bytes(SMALL)

    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)  # the tests may run as a user who may read everything
    with pytest.raises(DataError, match=r"cannot read .*secret: Permission denied"):
        read_idx(Path(path))


def test_the_sentences_are_the_same_where_python_leaves_assertions_out(tmp_path):
    damaged = [
        SMALL[:-1],
        SMALL + b"x",
        b"\1" + SMALL[1:],
        header(0x0A, 3),
        header(0x08),
        header(0x0E, 2**32 - 1, 2**31),
    ]
    paths = [tmp_path / f"{i}-idx" for i in range(len(damaged))]
    for path, content in zip(paths, damaged, strict=True):
        path.write_bytes(content)
    code = """
import sys
from siamese_np.datasets import read_idx
for path in sys.argv[1:]:
    try:
        read_idx(path)
    except Exception as error:
        print(type(error).__name__, error)
"""
    said = []
    for option in ([], ["-O"]):
        command = [sys.executable, *option, "-c", code, *map(str, paths)]
        said.append(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines())
    assert said[0] == said[1] and len(said[0]) == len(damaged)
    assert all(line.startswith(f"DataError {path}") for line, path in zip(said[0], paths, strict=True)), said
