"""What the process around a command brings: streams that cannot be written to, signals, other processes."""

import _thread
import codecs
import contextlib
import errno
import io
import json
import math
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, cast

# What starters of MPI tell a process: its rank, the number of ranks, its rank among those of its machine
MPI_VARIABLES = (
    ("PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID"),  # MPICH and its kin
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"),
    ("PMIX_RANK", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID"),
)


def _of_mpi(which: int) -> int | None:
    """One of `MPI_VARIABLES`: None where no MPI started this process, 0 where it does not tell."""
    for names in MPI_VARIABLES:
        if names[0] in os.environ:
            value = os.environ.get(names[which], "")
            return int(value) if value.isdecimal() else 0
    return None


def mpi_rank() -> int | None:
    """The number of this process among the ranks that mpiexec started; None where it did not."""
    return _of_mpi(0)


def mpi_size() -> int | None:
    """How many ranks mpiexec started, 0 where that is not known; None where it started none."""
    return _of_mpi(1)


def tells() -> bool:
    """Whether this process tells what all ranks of its machine would: the first of them, or the only one."""
    return not _of_mpi(2)


class _Log:
    """Standard error for the time of a command: what cannot be written to it is dropped, and ends nothing."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def to_json(value: Any, indent: int | None = None) -> str:
    """`value` as JSON, which has no NaN and no infinity: they become null."""
    try:
        return json.dumps(value, indent=indent, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(value), indent=indent, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@contextlib.contextmanager
def safe_streams() -> Iterator[None]:
    """Make standard output and standard error safe to write to, whatever the caller of the command made of them.

    A reader of the log may leave, its disk may be full, or there may be no stream at all: that is no reason to
    end a training. Python itself writes what is left in its buffers at exit, and failing there changes the exit
    status, so such a stream is turned to nowhere.
    """
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:  # closed; its descriptor must not become that of a file we write
            setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w"))  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="siamese_np.escape")
    out, err = sys.stdout, sys.stderr
    try:
        with contextlib.redirect_stderr(cast(Any, _Log(err))):
            yield
    finally:
        for stream in (out, err):
            try:
                stream.flush()
            except (OSError, ValueError):
                discard(stream)


def discard(stream: Any) -> None:
    """Let all that is still written to `stream` go nowhere."""
    with contextlib.suppress(OSError, ValueError), open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), stream.fileno())


def _escape(error: UnicodeError) -> tuple[str | bytes, int]:
    """Encode what a stream cannot: a file name's bytes as they are, any other character as an escape."""
    try:
        return codecs.lookup_error("surrogateescape")(error)
    except UnicodeError:
        return codecs.backslashreplace_errors(error)


codecs.register_error("siamese_np.escape", _escape)


_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def printed(text: str, keep: str = "") -> str:
    """`text` with an escape for each control character that is not to be kept: the name of a file may hold any."""
    return _CONTROLS.sub(lambda found: found[0] if found[0] in keep else ascii(found[0])[1:-1], text)


def log(line: str, keep: str = "") -> None:
    """Write a line to standard error, `printed`."""
    print(printed(line, keep), file=sys.stderr, flush=True)


# Functions of llvmlite that C calls while a kernel is compiled or loaded: what they raise is printed and lost.
_CALLED_BY_C = ("_raw_object_cache_notify", "_raw_object_cache_getbuffer")


_last = 0  # signal that KeyboardInterrupt was raised for


def _interrupt(number: int, frame: Any) -> None:
    global _last
    _last, caller = number, frame
    while caller is not None:
        if caller.f_code.co_name in _CALLED_BY_C:
            _thread.start_new_thread(_send, (number,))  # a Thread of Python's takes locks, which may be held here
            return
        caller = caller.f_back
    raise KeyboardInterrupt


def _send(number: int) -> None:
    """Give the main thread a signal in a moment; where the system can, also while it sleeps."""
    time.sleep(0.05)
    if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):  # the command has ended
        return
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(cast(int, threading.main_thread().ident), number)
    else:
        signal.raise_signal(number)


_ENDING = (signal.SIG_DFL, signal.default_int_handler, _interrupt)


@contextlib.contextmanager
def on_signal(handle: Callable[[int, Any], None] = _interrupt) -> Iterator[None]:
    """Give `handle` what would end the process: Ctrl-C, SIGTERM, and SIGHUP of a terminal that closes.

    By default it is KeyboardInterrupt, which comes again where Python could not raise it, as in a ``__del__``. What the
    caller of the process ignores stays ignored, as under nohup; a handler of somebody else's stays too. Only the main
    thread may handle signals.
    """
    before, unraisable = {}, sys.unraisablehook

    def send_again(lost: Any) -> None:
        if lost.exc_type is KeyboardInterrupt and _last:
            _thread.start_new_thread(_send, (_last,))
        else:
            unraisable(lost)

    if threading.current_thread() is threading.main_thread():
        numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
        before = {number: handler for number in numbers if (handler := signal.getsignal(number)) in _ENDING}
    try:
        for number in before:
            signal.signal(number, handle)
        if before:
            sys.unraisablehook = send_again
        yield
    except Exception as error:
        if _began_with_interrupt(error):
            raise KeyboardInterrupt from error
        raise
    finally:
        if before:
            sys.unraisablehook = unraisable
        for number, handler in before.items():
            signal.signal(number, handler)


def _began_with_interrupt(error: BaseException | None) -> bool:
    """Whether `error` came while KeyboardInterrupt was on its way: a zip file that is cut off refuses to be closed."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error is not None


class Stop:
    """Whether a signal has come. No Event: to set one takes a lock, for which a second signal meanwhile would wait."""

    came = False

    def is_set(self) -> bool:
        return self.came


@contextlib.contextmanager
def on_interrupt() -> Iterator[Stop]:
    """A first signal sets what is given out, so that a step is never torn; a second one ends at once."""
    stop = Stop()

    def handle(number: int, frame: Any) -> None:
        if stop.came:
            _interrupt(number, frame)
        stop.came = True

    with on_signal(handle):
        yield stop


def lock(descriptor: int) -> bool:
    """Lock an open file until it is closed, if only by a kill; False where another process has it.

    Where the file system knows no locks, it is True without one.
    """
    try:
        try:
            import fcntl
        except ImportError:  # as on Windows
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined, unused-ignore]
        else:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in (errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK)
    return True
