"""How kernels are compiled, and where their machine code is kept (see also inline.py and team.py).

Numba's own cache does not notice an edit in another file and fails on a damaged entry. So the cache
folder carries a hash of all kernel sources in its name, and a damaged entry is compiled again.
"""

import gc
import hashlib
import os
import stat
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import numba
from numba.core.caching import FunctionCache

Function = TypeVar("Function", bound=Callable[..., Any])


def kernel(function: Function) -> Function:
    """Compile `function` on its first call and keep the machine code for the next process.

    It is compiled to the letter of IEEE 754; where a multiply-add is to be fused, the kernel says so. With LLVM's
    "reassoc" or "contract" it would be decided anew each time the code is optimised, and a kernel that was just
    compiled would give other bits than the same one loaded from the cache.

    Parameters
    ----------
    function : callable
        Loops over NumPy arrays. It may call other kernels. Its arguments are trusted.

    Returns
    -------
    callable
        The compiled function. It releases the GIL; with ``NUMBA_DISABLE_JIT=1`` it is `function` itself.
    """
    return _kept(function, fastmath=False)


def loose_kernel(function: Function) -> Function:
    """As `kernel`, but LLVM may fuse and reorder sums: what plain loops reach, for the ladder of the benchmark."""
    return _kept(function, fastmath={"contract", "reassoc"})


def _kept(function: Function, **options: Any) -> Function:
    compiled: Any = numba.njit(nogil=True, error_model="numpy", no_cfunc_wrapper=True, **options)(function)
    if numba.config.DISABLE_JIT:
        return compiled
    compile_once = compiled.compile

    def compile_faster(signature: Any) -> Any:
        with _no_collection():
            return compile_once(signature)

    compiled.compile = compile_faster
    folder = cache_folder()
    cache = _cache_in(folder, function) if folder is not None else None
    if cache is not None:
        compiled._cache = cache
    return compiled


@contextmanager
def _no_collection() -> Iterator[None]:
    """Look for no unreachable objects meanwhile: Numba makes so many that it would take a tenth of its time."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


class _RepairingCache(FunctionCache):  # type: ignore[misc]
    """Numba's file cache, where a damaged file means a recompile and a full disk means no cache."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)
        except Exception:  # unpickling damaged bytes can raise anything
            self._forget()
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)
        except OSError as error:
            self.disable()
            warnings.warn(f"compiled kernels are not kept: {error}", RuntimeWarning, stacklevel=2)

    def _forget(self) -> None:
        try:
            self.flush()
        except OSError:
            self.disable()


def _cache_in(folder: Path, function: Any) -> _RepairingCache | None:
    """Cache of a function's machine code in `folder`; None where Numba cannot use it and goes to others, unchecked."""
    before = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = str(folder)  # read only while the next line runs: other packages keep theirs
    try:
        cache = _RepairingCache(function)
        if folder in Path(cache.cache_path).parents:
            return cache
    except RuntimeError:  # nor any other
        pass
    finally:
        numba.config.CACHE_DIR = before
    _warn_not_kept(f"Numba cannot use {folder} for some of them")
    return None


def _warn_not_kept(reason: object) -> None:
    warnings.warn(f"compiled kernels are not kept, every start compiles anew: {reason}", RuntimeWarning, stacklevel=2)


@lru_cache(maxsize=1)
def cache_folder() -> Path | None:
    """Folder of the compiled kernels, named after a hash of their sources; None where none is safe.

    It lies in ``NUMBA_CACHE_DIR`` where that is set, else in the user's cache folder. Cached machine code is
    as trusted as the program itself, so nobody but this user and root may be able to replace it.
    """
    package = Path(__file__).parent.parent
    try:
        sources = sorted([*(package / "runtime").rglob("*.py"), *(package / "kernels").rglob("*.py")])
        # which cannot be read from a zip file, nor where only .pyc files are
        digest = hashlib.sha256(b"\0".join(source.read_bytes() for source in sources)).hexdigest()[:16]
        folder = _safe_folder(_cache_root().absolute() / f"kernels-{digest}")
        if not os.access(folder, os.W_OK):
            raise PermissionError(f"{folder} is not writable")
    except (OSError, RuntimeError) as error:
        _warn_not_kept(error)
        return None
    return folder


def _cache_root() -> Path:
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


def _safe_folder(path: Path) -> Path:
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
