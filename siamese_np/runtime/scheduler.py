"""The threads that run shards (shards.py): how many there are, when they are started, woken and dismissed.

Kernels release the GIL, so plain Python threads are enough. How work is cut into shards depends on the work
alone, never on the number of threads, and each shard writes memory of its own: the results are the same to
the last bit with 1, 2 or 8 threads.

To wake a sleeping thread takes longer than many an operation. So a worker looks out for the next one for nearly a
millisecond after the last, and only then sleeps; an idle program uses no processor.
"""

import math
import os
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from siamese_np.errors import OptionError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAX_THREADS = 1024
DEFAULT_THREADS = 16  # at most, where nobody says: most operations have no more shards
CHUNK = 1 << 14
MEMBERSHIP, GROUPS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")  # Linux' control groups, as in containers
WORKER_SPIN_LIMIT = 1 << 15  # spins before a worker sleeps, some 25 ns each

_threads = 0  # 0: not decided yet
_workers: list["_Worker"] = []
_refused = 0  # workers that the system would not start
_starting = threading.Lock()


def get_threads() -> int:
    """Number of threads in use: as set, else ``SIAMESE_NP_THREADS``, else as many as processors, at most 16."""
    if not _threads:
        wanted = os.environ.get("SIAMESE_NP_THREADS", "")
        if not wanted:
            set_threads(min(processors(), DEFAULT_THREADS))
        elif wanted.isascii() and wanted.isdigit() and len(wanted) < 10:
            set_threads(int(wanted))
        else:
            raise OptionError(f"SIAMESE_NP_THREADS must be a whole number of at least 1, not {wanted[:20]!r}")
    return _threads


def set_threads(threads: int) -> None:
    """Use `threads` threads, 1 to 1024, from now on; OptionError for anything else. No result depends on it."""
    global _refused, _threads
    if not isinstance(threads, int) or threads < 1:
        raise OptionError(f"the number of threads must be at least 1, not {threads!r}")
    if threads > MAX_THREADS:
        raise OptionError(f"the number of threads must be at most {MAX_THREADS}")
    while _workers:
        _workers.pop().dismiss()
    _threads, _refused = threads, 0


def wake() -> None:
    """Have the workers look out for work: before each kernel that shares its own."""
    if len(_workers) + _refused < get_threads() - 1:
        with _starting:
            _start_workers()
    for worker in _workers:
        if not worker.awake.is_set():
            worker.awake.set()


def _start_workers() -> None:
    """Start those that are missing; as many as the system allows, for an operation works without any."""
    global _refused
    while (missing := get_threads() - 1 - len(_workers) - _refused) > 0:
        try:
            _workers.append(_Worker())
        except RuntimeError as error:
            _refused = missing
            started = f"only {len(_workers) + 1} of {get_threads()} threads are used"
            warnings.warn(f"{started}: {error}", RuntimeWarning, stacklevel=2)


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


class _Worker(threading.Thread):
    """A thread that takes part in whatever is shared, and sleeps when nothing has been for a while."""

    def __init__(self) -> None:
        super().__init__(name="siamese_np", daemon=True)
        self.awake = threading.Event()
        self.awake.set()
        self.wanted = True
        self.start()

    def run(self) -> None:
        from siamese_np.runtime.shards import worker_loop

        while self.wanted:
            worker_loop(WORKER_SPIN_LIMIT)
            self.awake.clear()
            # Who came before the line above found this thread awake, and does not wake it.
            if self.wanted and not worker_loop(1):
                self.awake.wait()

    def dismiss(self) -> None:
        self.wanted = False
        self.awake.set()
        self.join()


def processors() -> int:
    """Processors that this process may use; of a container, as many as its share of time makes up."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = [_quota(group) for group in _control_groups()]
    return max(1, min([count, *map(math.ceil, quotas)]))


def _control_groups() -> Iterator[Path]:
    """Folders of the control groups this process is in, from the inner to the outer; some are not to be seen."""
    with suppress(OSError, ValueError):
        for line in MEMBERSHIP.read_text(encoding="utf-8").splitlines():
            _, controllers, path = line.split(":", 2)
            root = GROUPS / "cpu" if "cpu" in controllers.split(",") else GROUPS  # of version 1, or 2
            group = root / path.lstrip("/")
            yield from (group, *(folder for folder in group.parents if folder.is_relative_to(root)))
    yield from (GROUPS, GROUPS / "cpu")


def _quota(group: Path) -> float:
    """How many processors' time a control group may use; the largest number where it has no limit."""
    with suppress(OSError, ValueError, ZeroDivisionError):  # no such file, or "max"
        quota, period = map(int, (group / "cpu.max").read_text(encoding="ascii").split())  # version 2
        return quota / period
    with suppress(OSError, ValueError, ZeroDivisionError):
        quota, period = (
            int((group / f"cpu.cfs_{name}_us").read_text(encoding="ascii")) for name in ("quota", "period")
        )
        if quota > 0:
            return quota / period
    return sys.maxsize


def _forget_workers() -> None:
    """A forked child has none of its parent's threads: start its own when it needs them."""
    global _refused, _starting
    _workers.clear()
    _refused = 0
    _starting = threading.Lock()  # another thread may have held it
    if (shards := sys.modules.get("siamese_np.runtime.shards")) is not None:
        shards.control[:] = 0  # the parent may have been in the middle of an operation


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_workers)
