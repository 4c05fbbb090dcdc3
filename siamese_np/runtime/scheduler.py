"""The threads that help: kernels share their shards with them (team.py), and `run` shares calls of a function.

Kernels release the GIL, so plain Python threads are enough. How work is cut into shards depends on the work
alone, never on the number of threads, and each shard writes memory of its own: the results are the same to
the last bit with 1, 2 or 8 threads.

To wake a sleeping thread takes longer than many an operation. So a helper looks out for the next piece of work
for nearly a millisecond after the last, and only then sleeps; an idle program uses no processor.
"""

import itertools
import os
import threading
import warnings
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from siamese_np.errors import OptionError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MOST_SHARDS = 16
MOST_THREADS = 1024
CHUNK = 1 << 14
PATIENCE = 1 << 15  # looks before a helper sleeps, some 25 ns each

_threads = 0  # 0: not decided yet
_helpers: list["_Helper"] = []
_refused = 0  # helpers that the system would not start
_starting = threading.Lock()
_job: "_Job | None" = None


def get_threads() -> int:
    """Number of threads in use: as set, else ``SIAMESE_NP_THREADS``, else the processors of this process."""
    if not _threads:
        wanted = os.environ.get("SIAMESE_NP_THREADS", "")
        if not wanted:
            set_threads(_processors())
        elif wanted.isascii() and wanted.isdigit() and len(wanted) < 10:
            set_threads(int(wanted))
        else:
            raise OptionError(f"SIAMESE_NP_THREADS must be a whole number of at least 1, not {wanted[:20]!r}")
    return _threads


def set_threads(threads: int) -> None:
    """Use `threads` (1 to `MOST_THREADS`) threads from now on; the results do not depend on it."""
    global _refused, _threads
    if not isinstance(threads, int) or threads < 1:
        raise OptionError(f"the number of threads must be at least 1, not {threads!r}")
    if threads > MOST_THREADS:
        raise OptionError(f"the number of threads must be at most {MOST_THREADS}")
    while _helpers:
        _helpers.pop().dismiss()
    _threads, _refused = threads, 0


def wake() -> None:
    """Have the helpers look out for work: called before each kernel that shares its work."""
    if len(_helpers) + _refused < get_threads() - 1:
        with _starting:
            _start_helpers()
    for helper in _helpers:
        if not helper.awake.is_set():
            helper.awake.set()


def _start_helpers() -> None:
    """Start those that are missing; as many as the system allows, for an operation works without any."""
    global _refused
    while (missing := get_threads() - 1 - len(_helpers) - _refused) > 0:
        try:
            _helpers.append(_Helper())
        except RuntimeError as error:
            _refused = missing
            started = f"only {len(_helpers) + 1} of {get_threads()} threads are used"
            warnings.warn(f"{started}: {error}", RuntimeWarning, stacklevel=2)


def shards(length: int, smallest: int) -> list[slice]:
    """Cut ``range(length)`` into at most `MOST_SHARDS` slices of at least `smallest` (but for the last)."""
    size = max(smallest, -(-length // MOST_SHARDS))
    return [slice(start, min(start + size, length)) for start in range(0, length, size)]


def chunks_of(sizes: Sequence[int]) -> "NDArray[np.int64]":
    """Cut arrays of `sizes`, one after another in a vector, into chunks (start, end) of at most `CHUNK` numbers.

    They are in order of their place within their array. Threads take shards from both ends, and a layer's
    kernels share its weights from both ends as well: so a thread updates those weights that it also uses.
    """
    import numpy as np

    chunks, first = [], 0
    for size in sizes:
        for start in range(0, size, CHUNK):
            chunks.append((start / size, first + start, first + min(start + CHUNK, size)))
        first += size
    return np.array([chunk[1:] for chunk in sorted(chunks)], np.int64).reshape(-1, 2)


def run(task: Callable[[int], None], count: int) -> None:
    """Call ``task(0)`` to ``task(count - 1)``, each once, on all threads; return when all are done.

    If a call raises, no further ones are begun, and the first exception is raised here.
    """
    global _job
    if count < 2 or get_threads() == 1:
        for index in range(count):
            task(index)
        return
    from siamese_np.runtime import team

    job = _job = _Job(task, count)
    team.board[team.CALLED] += 1
    wake()
    job.work(helper=False)
    job.done.wait()
    _job = None
    if job.error is not None:
        raise job.error


class _Job:
    """One call of `run`."""

    def __init__(self, task: Callable[[int], None], count: int) -> None:
        self.task, self.count = task, count
        # Taken from the left by the caller and from the right by helpers: so a thread mostly gets the shards it
        # had the last time, whose numbers are still in its processor's cache.
        self.left = deque(range(count))
        self.ended = itertools.count()  # next() on a counter is atomic, and so is taking from a deque
        self.error: BaseException | None = None
        self.done = threading.Event()

    def work(self, helper: bool) -> None:
        take = self.left.pop if helper else self.left.popleft
        while True:
            try:
                index = take()
            except IndexError:
                return
            try:
                if self.error is None:
                    self.task(index)
            except BaseException as error:
                self.error = self.error or error
            if next(self.ended) == self.count - 1:
                self.done.set()


class _Helper(threading.Thread):
    """A thread that takes part in whatever is shared, and sleeps when nothing has been for a while."""

    def __init__(self) -> None:
        super().__init__(name="siamese_np", daemon=True)
        self.awake = threading.Event()
        self.awake.set()
        self.wanted = True
        self.start()

    def run(self) -> None:
        import numba

        if numba.config.DISABLE_JIT:  # plain Python shares nothing
            return
        from siamese_np.runtime.team import CALLED, board, help_out

        seen = -1  # a call that came before this thread ran is for it too
        while self.wanted:
            help_out(PATIENCE, seen)
            if board[CALLED] != seen:
                seen = board[CALLED]
                if (job := _job) is not None:
                    job.work(helper=True)
            else:
                self.awake.clear()
                # What came before the line above found this thread awake, and does not wake it.
                if self.wanted and not help_out(1, seen) and board[CALLED] == seen:
                    self.awake.wait()

    def dismiss(self) -> None:
        self.wanted = False
        self.awake.set()
        self.join()


def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _forget_helpers() -> None:
    """A forked child has none of its parent's threads: start its own when it needs them."""
    import sys

    global _job, _refused, _starting
    _helpers.clear()
    _refused = 0
    _starting = threading.Lock()  # another thread may have held it
    _job = None
    if (team := sys.modules.get("siamese_np.runtime.team")) is not None:
        team.board[:] = 0  # the parent may have been in the middle of an operation


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_helpers)
