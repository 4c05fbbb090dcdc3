"""What the process around a command brings: streams that cannot be written to, signals, other processes."""

import codecs
import contextlib
import errno
import io
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, cast


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
    out, log = sys.stdout, sys.stderr
    try:
        with contextlib.redirect_stderr(cast(Any, _Log(log))):
            yield
    finally:
        for stream in (out, log):
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


def printed(text: str) -> str:
    """`text` with each control character as an escape: the name of a file may hold new lines, or move the cursor."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", lambda found: ascii(found[0])[1:-1], text)


def _interrupt(number: int, frame: Any) -> None:
    raise KeyboardInterrupt


_ENDING = (signal.SIG_DFL, signal.default_int_handler, _interrupt)


@contextlib.contextmanager
def on_signal(handle: Callable[[int, Any], None] = _interrupt) -> Iterator[None]:
    """Give `handle` what would end the process: Ctrl-C, SIGTERM, and SIGHUP of a terminal that closes.

    By default it is KeyboardInterrupt. What the caller of the process ignores stays ignored, as under nohup; a handler
    of somebody else's stays too. Only the main thread may handle signals.
    """
    before = {}
    if threading.current_thread() is threading.main_thread():
        numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
        before = {number: handler for number in numbers if (handler := signal.getsignal(number)) in _ENDING}
    try:
        for number in before:
            signal.signal(number, handle)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def on_interrupt() -> Iterator[threading.Event]:
    """A first signal sets the event that is given out, so that a step is never torn; a second one ends at once."""
    stop = threading.Event()

    def handle(number: int, frame: Any) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    with on_signal(handle):
        yield stop


def lock(descriptor: int) -> bool:
    """Lock an open file until it is closed, if only by a kill; False where another process has it.

    Where the file system knows no locks, it is True without one.
    """
    try:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined, unused-ignore]
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in (errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK)
    return True
