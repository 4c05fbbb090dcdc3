"""Reads IDX, the file format of MNIST, strictly: a file is valid to the last byte, or a `DataError` says what is wrong.

The format, from http://yann.lecun.com/exdb/mnist/: two zero bytes, one byte for the type of the values, one byte
for the number of dimensions, each dimension as a big-endian 32-bit integer, then the values, big-endian, the
last dimension changing fastest.
"""

import gzip
import math
import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from siamese_np._checks import as_path
from siamese_np.errors import DataError
from siamese_np.reading import ALWAYS_UNPACKED, MAX_EXPANSION, MAX_READ, file_size, max_unpacked, open_regular, readable

GZIP_MAGIC = b"\x1f\x8b"
DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def read_idx(path: str | os.PathLike[str]) -> NDArray[Any]:
    """Read one IDX file, gzipped or not (its first bytes decide, not its name).

    Parameters
    ----------
    path : str or path-like
        The file.

    Returns
    -------
    array : ndarray
        Of the file's shape and type (uint8, int8, int16, int32, float32 or float64), in native byte order,
        C-contiguous and writeable.

    Raises
    ------
    DataError
        If there is no such file, it is no regular file, or it is not exactly one IDX array. Memory grows with what is
        read, not with what the header announces, and a gzipped file must not unpack to far more than its size
        (`siamese_np.reading.max_unpacked`).
    """
    name = str(as_path("an IDX file", path))
    if os.path.isdir(name):
        raise DataError(f"{name} is a folder, not an IDX file")
    with _opened(name) as (stream, size, zipped):
        return _parse(stream, name, size, zipped)


def idx_count(path: str) -> int:
    """How many images an IDX file announces."""
    with _opened(path) as (stream, _, _):
        return int.from_bytes(stream.read(8)[4:], "big")


@contextmanager
def _opened(name: str) -> Iterator[tuple[IO[bytes] | gzip.GzipFile, int, bool]]:
    """The bytes of a file, unpacked; its size, and whether it is zipped. A DataError where it cannot be read."""
    with readable(name), open_regular(name) as file:
        zipped = file.read(2) == GZIP_MAGIC
        file.seek(0)
        try:
            yield gzip.GzipFile(fileobj=file) if zipped else file, file_size(file), zipped
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise DataError(f"{name} is a truncated or damaged gzip file ({error})") from error


def _parse(stream: IO[bytes] | gzip.GzipFile, name: str, size: int, zipped: bool) -> NDArray[Any]:
    """The array in `stream`, which unpacks a file of `size` bytes if it is `zipped`."""
    magic = stream.read(4)
    if not magic:
        raise DataError(f"{name} is empty, but an IDX file starts with a magic number of 4 bytes")
    if len(magic) < 4 or magic[:2] != b"\0\0":
        raise DataError(
            f"{name} is not an IDX file: it starts with the bytes {magic.hex(' ')}, but must start with 00 00, "
            "a type code and the number of dimensions"
        )
    code, rank = magic[2], magic[3]
    if code not in DTYPES:
        known = ", ".join(f"0x{known:02x}" for known in DTYPES)
        raise DataError(f"{name} has the unknown IDX type code 0x{code:02x}, where one of {known} would be right")
    if rank == 0:
        raise DataError(f"{name} announces 0 dimensions, but an IDX file has at least 1")

    header = stream.read(4 * rank)
    if len(header) < 4 * rank:
        raise DataError(
            f"{name} ends inside its header: {rank} dimensions take {4 * rank} bytes, but {len(header)} are there"
        )
    shape = struct.unpack(f">{rank}I", header)
    dtype = np.dtype(DTYPES[code])
    nbytes = math.prod(shape) * dtype.itemsize
    announced = f"its header announces {'x'.join(map(str, shape))} {dtype.name} values, {nbytes} bytes"
    if not zipped and nbytes > size - 4 - len(header):
        raise DataError(f"{name} is too short: {announced}, but {size - 4 - len(header)} are there")
    if zipped and nbytes > max_unpacked(size):
        raise DataError(
            f"{name} has {size} bytes, but {announced}, more than {max_unpacked(size)}, the most that a gzip file of "
            f"its size may unpack to ({ALWAYS_UNPACKED >> 20} MiB, or {MAX_EXPANSION} times its size); "
            "if this is intended, unpack it first"
        )

    payload = bytearray()  # grows with what is read; writeable, so the array can use its memory
    while len(payload) < nbytes:
        block = stream.read(min(MAX_READ, nbytes - len(payload)))
        if not block:
            raise DataError(f"{name} is too short: {announced}, but {len(payload)} are there")
        payload += block
    if stream.read(1):  # in a gzip file this read also checks the checksum
        raise DataError(f"{name} is too long: {announced}, but more follow")
    try:
        array = np.frombuffer(payload, dtype).reshape(shape)
    except ValueError as error:
        raise DataError(f"{name} announces {rank} dimensions that no array can have ({error})") from error
    return array.astype(dtype.newbyteorder("="), copy=False)
