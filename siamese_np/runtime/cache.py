"""Folders for compiled code, named after what it was compiled from, and the files in them.

Cached machine code is as trusted as the program itself: nobody but this user and root may be able to replace it.
"""

import hashlib
import os
import pickle
import stat
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numba

PACKAGE = Path(__file__).parent.parent


def folder_for(name: str, *folders: str, also: object = None) -> Path:
    """A safe folder for what comes from the sources in `folders` of this package, and from `also`.

    It lies in ``NUMBA_CACHE_DIR`` where that is set, else in the user's cache folder.

    Raises
    ------
    OSError, RuntimeError
        There are no sources (only .pyc files, or a zip file), there is no home, or the folder is not safe.
    """
    sources = [source for folder in folders for source in sorted((PACKAGE / folder).rglob("*.py"))]
    if not sources:
        raise FileNotFoundError(f"there are no sources in {PACKAGE}")
    digest = hashlib.sha256(repr(also).encode())
    for source in sources:
        content = source.read_bytes()
        digest.update(f"\n{source.relative_to(PACKAGE).as_posix()} {len(content)}\n".encode() + content)
    folder = safe_folder(_root().absolute() / f"{name}-{digest.hexdigest()[:16]}")
    if not os.access(folder, os.W_OK):
        raise PermissionError(f"{folder} is not writable")
    return folder


def _root() -> Path:
    if numba.config.CACHE_DIR:
        return Path(numba.config.CACHE_DIR)
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "siamese_np"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "siamese_np"
    folder = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not folder.is_absolute():  # to be ignored then, says the XDG specification
        folder = Path.home() / ".cache"
    return folder / "siamese_np"


def safe_folder(path: Path) -> Path:
    """The real path of folder `path`, made where it is missing; PermissionError if others can change what is in it.

    (Not checked on Windows, whose rights are of another kind.)
    """
    if not hasattr(os, "geteuid"):
        path.mkdir(parents=True, exist_ok=True)
        return path
    folder = _safe_path(path)
    if folder.stat().st_mode & 0o022:
        raise PermissionError(f"{folder} must be writable by nobody but its owner")
    with suppress(OSError):  # some file systems refuse
        folder.chmod(0o700)  # whatever rights Numba gives to what it makes in there
    return folder


def _safe_path(path: Path) -> Path:
    """`path`, without links, if nobody but this user and root can make it lead elsewhere; missing folders are made.

    The files are opened later, by their paths, so each folder and link on the way counts. They are checked from the
    root on: nobody else can replace what lies in a folder that has passed, or in a sticky one what is not theirs.
    """
    if path.name == "..":
        return _safe_path(path.parent).parent
    entry = path if path == path.parent else _safe_path(path.parent) / path.name
    try:
        status = entry.lstat()
    except FileNotFoundError:
        with suppress(FileExistsError):  # another process was faster
            entry.mkdir(mode=0o700)
        status = entry.lstat()
    if status.st_uid not in (0, os.geteuid()):
        raise PermissionError(f"{entry} must belong to this user or to root (NUMBA_CACHE_DIR can name another folder)")
    if stat.S_ISLNK(status.st_mode):
        entry.stat()  # OSError if it leads nowhere, or in a circle
        return _safe_path(entry.parent / entry.readlink())
    if not stat.S_ISDIR(status.st_mode):
        raise NotADirectoryError(f"{entry} is not a folder")
    others = 0o002 if status.st_gid == _own_group() else 0o022
    if status.st_mode & others and not status.st_mode & stat.S_ISVTX:
        raise PermissionError(f"{entry} must be writable by nobody else (NUMBA_CACHE_DIR can name another folder)")
    return entry


def _own_group() -> int | None:
    """This user's group if nobody else is in it: where every user has such a one, new folders are writable by it."""
    import grp
    import pwd

    try:
        user = pwd.getpwuid(os.geteuid())
        group = grp.getgrgid(user.pw_gid)
    except KeyError:
        return None
    private = group.gr_name == user.pw_name and set(group.gr_mem) <= {user.pw_name}
    return user.pw_gid if private else None


class Entries:
    """The machine code of one function, a file for each signature: a checksum, then the pickled key and code.

    It takes the place of Numba's files, which have no checksum: a flipped bit in one would be executed. Nor is there an
    index, in which two processes that write at once may name each other's code.

    Parameters
    ----------
    folder : Path
    name : str
        Of the function: what its files' names start with.
    made_from : str
        Code that was made from something else, another version of Numba or of the source, is not loaded.
    dumps : callable
        Numba's way to pickle.
    """

    def __init__(self, folder: Path, name: str, made_from: str, dumps: Callable[[Any], bytes]) -> None:
        self._folder, self._name, self._made_from, self._dumps = folder, name, made_from.encode(), dumps

    def load(self, key: Any) -> Any:
        """What was saved under `key`; None where there is nothing, or it is damaged."""
        with suppress(OSError):
            content = memoryview(self._path(key).read_bytes())
            checksum, pickled = content[:32], content[32:]
            if checksum == self._checksum(pickled):
                of, data = pickle.loads(pickled)
                return data if of == key else None
        return None

    def save(self, key: Any, data: Any) -> None:
        """Keep `data` under `key`, whole or not at all."""
        pickled = self._dumps((key, data))
        handle, name = tempfile.mkstemp(dir=self._folder, prefix=f"{self._name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(self._checksum(pickled) + pickled)
            os.replace(name, self._path(key))
        except BaseException:
            os.unlink(name)
            raise

    def flush(self) -> None:
        """Remove all that was saved."""
        for path in self._folder.glob(f"{self._name}.*.nbc"):
            path.unlink(missing_ok=True)

    def _checksum(self, pickled: "bytes | memoryview") -> bytes:
        digest = hashlib.sha256(self._made_from)
        digest.update(pickled)
        return digest.digest()

    def _path(self, key: Any) -> Path:
        signature, machine, *_ = key
        digest = hashlib.sha256(repr((signature, machine)).encode()).hexdigest()
        return self._folder / f"{self._name}.{digest[:16]}.nbc"
