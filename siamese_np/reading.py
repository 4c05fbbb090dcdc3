"""Reads files that others made: only regular files are opened, and none takes much more memory than its size."""

import errno
import json
import math
import os
import stat
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from siamese_np.errors import DataError, SiameseError

# What a compressed file may unpack to. MNIST's images are compressed to a fifth, drawings in two colours to a
# twentieth, a file made to fill the memory to a thousandth. MNIST's 60,000 training images are 47 MB even if blank.
MAX_EXPANSION = 32
ALWAYS_UNPACKED = 64 << 20

MAX_NPY_HEADER = 4096  # bytes; NumPy writes 128 for a plain array
MAX_READ = 1 << 20  # bytes read at a time, and the largest list of members of a zip file

_KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
_NPY_VERSIONS = {
    (1, 0): (2, np.lib.format.read_array_header_1_0),
    (2, 0): (4, np.lib.format.read_array_header_2_0),
}


def open_regular(path: str | os.PathLike[str]) -> IO[bytes]:
    """Open a file for reading; OSError if it is a folder, a pipe, a device or a socket, or cannot be opened.

    Opening a pipe without a writer would block, and a device may never end.
    """
    try:
        _check_regular(os.stat(path))  # before it is opened: some devices react to that
    except ValueError:  # a null byte in the name
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path) from None
    file = open(path, "rb", opener=_without_waiting)  # noqa: SIM115 (the caller closes it)
    try:
        _check_regular(os.fstat(file.fileno()))  # the path may name another file by now
    except BaseException:
        file.close()
        raise
    return file


def _check_regular(status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(status.st_mode):
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "something else")
        raise OSError(errno.EINVAL, f"it is {kind}, where a regular file is needed")


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def file_size(file: IO[bytes]) -> int:
    """Bytes of an open file."""
    return os.fstat(file.fileno()).st_size


def read_whole(path: str | os.PathLike[str], limit: int) -> bytes:
    """The content of a file; OSError as `open_regular`, and where it has more than `limit` bytes."""
    with open_regular(path) as file:
        if (size := file_size(file)) > limit:
            raise OSError(errno.EFBIG, f"it has {size} bytes, more than the {limit} that are read")
        return file.read(size)


def parse_json(content: str | bytes, finite: bool = True) -> Any:
    """The value of a JSON text.

    Raises
    ------
    ValueError
        It is no JSON, or no value can be made of it; a name is given twice in one object; unless `finite` is False, a
        number is NaN or infinity, which JSON has no words for but Python writes and reads.
    """
    try:
        return (_FINITE if finite else _ANY).decode(
            content if isinstance(content, str) else content.decode("utf-8-sig")
        )
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("it gives a name twice in one object")
    return values


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError(f"it holds {text[:20]}, where numbers must be finite")
    return number


_ANY = json.JSONDecoder(object_pairs_hook=_once_each)
_FINITE = json.JSONDecoder(object_pairs_hook=_once_each, parse_constant=_finite, parse_float=_finite)


def max_unpacked(packed: int) -> int:
    """Bytes that a compressed file of `packed` bytes may unpack to."""
    return max(ALWAYS_UNPACKED, MAX_EXPANSION * packed)


def one_line(error: BaseException) -> str:
    """The message of `error`, which may have several lines, in one."""
    return " ".join(str(error).split())


class Npz:
    """The arrays of an ``.npz`` file, each checked before it is read; nothing is ever unpickled.

    Parameters
    ----------
    path : str or path-like

    Raises
    ------
    OSError
        It cannot be opened, or is no regular file.
    Exception
        It is damaged, or would unpack to more than `max_unpacked`. Of many types, since zipfile, zlib and NumPy fail in
        many ways on damaged bytes. The methods raise the same.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._file = open_regular(path)
        try:
            self._zip = zipfile.ZipFile(_SmallReads(self._file))
            self._members = self._checked_members(max_unpacked(file_size(self._file)))
        except BaseException:
            self._file.close()
            raise

    def _checked_members(self, limit: int) -> dict[str, zipfile.ZipInfo]:
        members: dict[str, zipfile.ZipInfo] = {}
        for info in self._zip.infolist():
            if info.filename in members:
                raise ValueError(f"it holds {info.filename!r} twice")
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # others unpack without a limit
                raise ValueError(f"{info.filename!r} is compressed in a way that NumPy does not use")
            members[info.filename] = info
        total = sum(info.file_size for info in members.values())
        if total > limit:
            raise ValueError(
                f"it would unpack to {total} bytes, more than {limit}, which is {MAX_EXPANSION} times its size or "
                f"{ALWAYS_UNPACKED >> 20} MiB"
            )
        return members

    def __enter__(self) -> "Npz":
        return self

    def __exit__(self, *exception: object) -> None:
        self._zip.close()
        self._file.close()

    def __contains__(self, name: str) -> bool:
        return f"{name}.npy" in self._members

    def __iter__(self) -> Iterator[str]:
        return (name.removesuffix(".npy") for name in self._members if name.endswith(".npy"))

    def size(self, name: str) -> int:
        """Bytes of the array `name` with its header, as the archive announces them."""
        return self._member(name).file_size

    def announced(self, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
        """Shape and dtype of the array `name`, checked against its size."""
        with self._zip.open(self._member(name)) as file:
            shape, dtype, _ = self._header(file, name)
        return shape, dtype

    def read(self, name: str) -> NDArray[Any]:
        """The array `name`."""
        with self._zip.open(self._member(name)) as file:
            shape, dtype, order = self._header(file, name)
            content = np.empty(math.prod(shape) * dtype.itemsize, np.uint8)
            for start in range(0, content.size, MAX_READ):
                wanted = content[start : start + MAX_READ]
                block = file.read(wanted.size)
                if len(block) != wanted.size:
                    raise ValueError(f"the array {name!r} ends after {start + len(block)} bytes of {content.size}")
                wanted[:] = np.frombuffer(block, np.uint8)
            if file.read(1):  # which also checks the checksum
                raise ValueError(f"the array {name!r} is longer than it announces")
        array = content.view(dtype).reshape(shape, order=order)
        if (
            dtype.kind == "U"
            and content.view(np.dtype(np.uint32).newbyteorder(dtype.byteorder)).max(initial=0) > 0x10FFFF
        ):
            raise ValueError(f"the array {name!r} holds codes that are no characters")  # Python would crash on them
        return array

    def _member(self, name: str) -> zipfile.ZipInfo:
        if name not in self:
            raise ValueError(f"it lacks the array {name!r}")
        return self._members[f"{name}.npy"]

    def _header(self, file: IO[bytes], name: str) -> tuple[tuple[int, ...], np.dtype[Any], Any]:
        """Shape, dtype and order of the array that starts in `file`."""
        version = np.lib.format.read_magic(file)
        if version not in _NPY_VERSIONS:
            raise ValueError(f"the array {name!r} has the unknown .npy version {version}")
        width, parse = _NPY_VERSIONS[version]
        start = file.read(width)
        length = int.from_bytes(start, "little")
        if length > MAX_NPY_HEADER:
            raise ValueError(f"the array {name!r} has a header of {length} bytes, more than {MAX_NPY_HEADER}")
        shape, fortran_order, dtype = parse(BytesIO(start + file.read(length)))
        nbytes = math.prod(shape) * dtype.itemsize
        there = self.size(name) - len(np.lib.format.magic(*version)) - width - length
        if dtype.hasobject:
            raise ValueError(f"the array {name!r} holds Python objects")
        if nbytes != there:
            raise ValueError(f"the array {name!r} announces {shape} {dtype}, {nbytes} bytes, but has {there}")
        return shape, dtype, "F" if fortran_order else "C"


@contextmanager
def readable(path: str | os.PathLike[str], error: type[SiameseError] = DataError) -> Iterator[None]:
    """Make an `error` of what keeps the file `path` from being read within the block."""
    try:
        yield
    except FileNotFoundError:
        raise error(f"there is no file {path}") from None
    except OSError as failure:
        raise error(f"cannot read {path}: {failure.strerror or failure}") from None


@contextmanager
def open_npz(path: str | os.PathLike[str], error: type[SiameseError], kind: str) -> Iterator[Npz]:
    """The ``.npz`` file `path`, of some `kind`; whatever is wrong with it becomes an `error`, in one sentence."""
    try:
        with readable(path, error), Npz(path) as archive:
            yield archive
    except SiameseError:
        raise
    except Exception as failure:  # zipfile, zlib, json and numpy fail in many ways on damaged bytes
        raise error(f"{path} is damaged or not {kind} ({one_line(failure)})") from None


class _SmallReads:
    """A file that refuses large reads: zipfile reads the list of members in one go, however long it is."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def read(self, size: int = -1) -> bytes:
        if size > MAX_READ:
            raise ValueError(f"its list of members has {size} bytes, more than {MAX_READ}")
        return self._file.read(size)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)
