"""A collection: a folder of embeddings that is appended to, and searched without being read whole.

    embeddings.f32   little-endian float32 (N, E) and nothing else, so that it can be mapped into memory
    rows.jsonl       one JSON object for each: path, class, unlike, stamp (size and time of the file)
    state.json       how many rows are whole, and which model made them
    lock             held by the one process that writes

Rows are appended first and the state is replaced after them, so a kill at any point leaves all that the state counts
whole. What lies behind is cut off by the next writer. A picture that has changed, or whose class has, is appended
again, and the state lists its old row as replaced.
"""

import contextlib
import errno
import json
import os
import sqlite3
import stat
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from siamese_np._process import lock, to_json
from siamese_np.datasets import InputForm
from siamese_np.errors import DataError, ModelError
from siamese_np.network import SiameseNetwork
from siamese_np.reading import file_size, open_regular, parse_json, read_whole
from siamese_np.storage import check_no_file, fingerprint, versions, write_atomically

FORMAT = "siamese_np collection 1"
EMBEDDINGS, ROWS, STATE, LOCK = "embeddings.f32", "rows.jsonl", "state.json", "lock"
COMMIT_SECONDS = 5.0  # of work that a kill may cost; to be safe on the disk costs up to a tenth of a second
DTYPE = np.dtype("<f4")
_MAX_STATE = 64 << 20
_SCAN = 1 << 24  # bytes searched for line ends at a time


class Row(NamedTuple):
    """What is known of a picture: `unlike` is None where the model cannot tell, `stamp` changes with the file."""

    path: str
    class_name: str | None = None
    unlike: float | None = None
    stamp: Sequence[int] = ()


class Collection:
    """What a folder holds, as far as its state goes; DataError where it is damaged or no collection.

    Attributes
    ----------
    emb : (N, E) array of float32
        Mapped into memory: what is not looked at is not read.
    replaced : list of int
        Rows of which there are newer ones.
    state : dict
        What ``state.json`` holds.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.state = folder, _read_state(folder)
        rows, E, self.replaced = (self.state[name] for name in ("rows", "embedding_size", "replaced"))
        self.emb = _mapped(folder / EMBEDDINGS, DTYPE, rows * E).reshape(rows, E)
        self._lines = _mapped(folder / ROWS, np.dtype(np.uint8), self.state["row_bytes"])
        ends = [
            start + 1 + np.flatnonzero(self._lines[start : start + _SCAN] == ord("\n"))
            for start in range(0, len(self._lines), _SCAN)
        ]
        self._starts = np.concatenate([np.zeros(1, np.int64), *ends])
        if len(self._starts) != rows + 1 or self._starts[-1] != len(self._lines):
            raise DataError(f"{folder / ROWS} was changed: its lines are not the {rows} that its state counts")

    def __len__(self) -> int:
        return len(self.emb)

    def row(self, i: int) -> Row:
        """Row number `i`."""
        with contextlib.suppress(ValueError, TypeError, KeyError):
            line = parse_json(self._lines[self._starts[i] : self._starts[i + 1]].tobytes())
            row = Row(line["path"], line["class"], line["unlike"], line["stamp"])
            if isinstance(row.path, str) and isinstance(row.class_name, str | None) and isinstance(row.stamp, list):
                return row
        raise DataError(f"{self.folder / ROWS} was changed: line {i + 1} describes no picture")

    def check_made_by(self, siamese: SiameseNetwork, form: InputForm) -> None:
        """DataError unless this model made it, and from pictures read so."""
        how = {
            "views": f"with{'' if self.state['views'] else 'out'} --views",
            "model": "by another model: embed its pictures again with this one",
            "input": f"of pictures read in another way, --as {self.state['input'].get('kind')}",
        }
        for name, value in _made_by(siamese, form).items():
            if self.state[name] != value:
                raise DataError(f"{self.folder} was made {how[name]}")


class Writer:
    """Appends to a collection, or makes one in a new or empty folder. Use it in ``with``: it keeps what was appended.

    Attributes
    ----------
    state : dict
        As of a `Collection`, with what was appended.

    Raises
    ------
    DataError
        The folder holds other things, another process writes to it, a file in it is a link, or the collection is
        damaged, of another model, or of pictures read in another way.
    """

    def __init__(self, folder: Path, siamese: SiameseNetwork, form: InputForm) -> None:
        self.folder, self._made, self._new = folder, not folder.exists(), False
        self._files: list[Any] = []
        with contextlib.ExitStack() as opened:
            opened.callback(self._remove_empty)
            _make_folder(folder)
            opened.callback(os.close, locked(folder))
            if not (folder / STATE).exists():
                self.state = {"format": FORMAT, "versions": versions(), **_made_by(siamese, form)}
                self.state |= {"embedding_size": siamese.network.output_shape[0]}
                self.state |= {"rows": 0, "row_bytes": 0, "replaced": []}
                self._new = True
                self._commit()
            there = Collection(folder)
            there.check_made_by(siamese, form)
            self._files = [
                opened.enter_context(open(folder / name, "r+b", buffering=0, opener=_open_own))
                for name in (EMBEDDINGS, ROWS)
            ]
            self.state, sizes = there.state, (there.emb.nbytes, there.state["row_bytes"])
            self._there = opened.enter_context(contextlib.closing(_Known()))
            for i in range(len(there)):
                self._there.keep(i, there.row(i))
            del there  # a file that is mapped cannot be cut on every system
            for file, size in zip(self._files, sizes, strict=True):
                with _named(file):
                    file.truncate(size)
                file.seek(size)
            self._open = opened.pop_all()
            self._committed = time.monotonic()

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, *exception: object) -> None:
        with self._open:
            if self.state["rows"] or not self._new:
                self._commit()

    def _remove_empty(self) -> None:
        """Where nothing came there is no collection, and where none could be begun nothing is left of it."""
        if self._new and not self.state["rows"]:
            for name in (EMBEDDINGS, ROWS, STATE, LOCK):
                (self.folder / name).unlink(missing_ok=True)
        if self._made:
            with contextlib.suppress(OSError):  # not empty
                self.folder.rmdir()

    def holds(self, row: Row) -> bool:
        """Whether this picture is there, of the file as it is now, and with its class where that is known."""
        _, class_name, stamp = self._there.of(row.path)
        return stamp == list(row.stamp) and row.class_name in (None, class_name)

    def append(self, emb: NDArray[np.floating], rows: Sequence[Row]) -> None:
        """Append embeddings (N, E) and their rows; ModelError where one is NaN or infinity."""
        values = np.ascontiguousarray(emb, DTYPE)
        if not np.isfinite(values).all():
            bad = int(np.isfinite(values).all(axis=1).argmin())
            raise ModelError(f"the model's embedding of {rows[bad].path} is NaN or infinity")
        lines = [dict(zip(("path", "class", "unlike", "stamp"), row, strict=True)) for row in rows]
        content = "".join(to_json(line) + "\n" for line in lines).encode()
        _write(self._files[0], values.tobytes())
        _write(self._files[1], content)
        first, replaced = self.state["rows"], list(self.state["replaced"])
        for i, row in enumerate(rows, first):
            before = self._there.of(row.path)[0]
            replaced += [] if before is None else [before]
            self._there.keep(i, row)
        counts = {"rows": first + len(rows), "row_bytes": self.state["row_bytes"] + len(content)}
        self.state = {**self.state, **counts, "replaced": replaced}  # in one go: Ctrl-C may come
        if time.monotonic() - self._committed >= COMMIT_SECONDS:
            self._commit()

    def _commit(self) -> None:
        for file in self._files:
            with _named(file):
                os.fsync(file.fileno())
        write_atomically(self.folder / STATE, (to_json(self.state, indent=1) + "\n").encode())
        self._committed = time.monotonic()


class _Known:
    """Number, class and stamp of each path, in a temporary file: memory does not grow with the collection.

    All text is JSON there, for a path may hold what is no Unicode. DataError where the file cannot be written.
    """

    def __init__(self) -> None:
        self._rows = sqlite3.connect("", isolation_level=None)
        self._run("PRAGMA journal_mode = OFF")
        self._run("CREATE TABLE rows (path TEXT PRIMARY KEY, number INTEGER, class_and_stamp TEXT) WITHOUT ROWID")

    def close(self) -> None:
        self._rows.close()

    def of(self, path: str) -> tuple[int | None, str | None, list[int] | None]:
        """The newest row of a path; Nones where there is none."""
        found = self._run("SELECT number, class_and_stamp FROM rows WHERE path = ?", to_json(path)).fetchone()
        return (found[0], *json.loads(found[1])) if found else (None, None, None)

    def keep(self, i: int, row: Row) -> None:
        known = to_json([row.class_name, list(row.stamp)])
        self._run("INSERT OR REPLACE INTO rows VALUES (?, ?, ?)", to_json(row.path), i, known)

    def _run(self, command: str, *values: Any) -> sqlite3.Cursor:
        try:
            return self._rows.execute(command, values)
        except sqlite3.Error as error:
            raise DataError(f"cannot note in a temporary file which pictures are there: {error}") from None


def _made_by(siamese: SiameseNetwork, form: InputForm) -> dict[str, Any]:
    return {"views": siamese.views, "model": fingerprint(siamese), "input": form.config()}


def _read_state(folder: Path) -> dict[str, Any]:
    if not (folder / STATE).exists():
        raise DataError(f"{folder} is no collection, a folder with a {STATE}, as `siamese-np embed` writes it")
    try:
        content = read_whole(folder / STATE, _MAX_STATE)
    except OSError as error:
        raise DataError(f"cannot read {folder / STATE}: {error.strerror}") from None
    with contextlib.suppress(ValueError, TypeError, KeyError):
        state = parse_json(content)
        counts = [state["rows"], state["row_bytes"], E := state["embedding_size"], *state["replaced"]]
        right = E and all(type(count) is int and 0 <= count < 1 << 48 for count in counts)
        right = right and all(row < state["rows"] for row in state["replaced"]) and state["format"] == FORMAT
        if right and {"views", "model"} <= set(state) and isinstance(state["input"], dict):
            return dict(state)
    raise DataError(f"{folder / STATE} is damaged, or not of the format {FORMAT!r}")


def _mapped(path: Path, dtype: np.dtype[Any], count: int) -> NDArray[Any]:
    """The first `count` numbers of a file, mapped into memory."""
    if not count:
        return np.empty(0, dtype)
    with _reading(path) as file:
        if (size := file_size(file)) < count * dtype.itemsize:
            raise DataError(f"{path} is truncated: it has {size} bytes, but its state counts {count * dtype.itemsize}")
        return np.asarray(np.memmap(file, dtype, "r", shape=(count,)))


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[IO[bytes]]:
    try:
        with open_regular(path) as file:
            yield file
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from None


def _make_folder(folder: Path) -> None:
    check_no_file(folder, "a collection", DataError)
    folder.mkdir(exist_ok=True)
    left = {path.name for path in folder.iterdir()} - {LOCK}  # where a kill came before the first state
    if STATE not in left and any(not name.startswith(f".{STATE}-") for name in left):
        raise DataError(f"{folder} holds other files, but no {STATE}: a collection needs a folder of its own")


def locked(folder: Path) -> int:
    """The descriptor of the lock file, locked while it is open."""
    try:
        descriptor = _open_own(folder / LOCK)
    except OSError as error:
        why = error.strerror
        raise DataError(f"the collection {folder} cannot be written: {why}; copy it to where it can be") from None
    if not lock(descriptor):
        os.close(descriptor)
        raise DataError(f"another process is writing to {folder}")
    for left in folder.glob(f".{STATE}-????????"):  # by a writer that was killed
        left.unlink(missing_ok=True)
    return descriptor


def _open_own(path: str | Path, flags: int = 0) -> int:
    """Open or make a file of the collection, to write; never what a link of its name leads to."""
    flags = os.O_RDWR | os.O_CREAT | sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"))
    try:
        descriptor = os.open(path, flags, 0o666)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise DataError(f"{path} is a link, but a collection writes only to files of its own") from None
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise DataError(f"{path} is no regular file")
    return descriptor


def _write(file: Any, content: bytes) -> None:
    """All of `content`: one write may take a part."""
    left = memoryview(content)
    with _named(file):
        while left:
            left = left[file.write(left) :]


@contextlib.contextmanager
def _named(file: Any) -> Iterator[None]:
    """An OSError of what is done with `file` names it."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(file.name)) from None
