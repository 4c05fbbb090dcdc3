"""Runs the shards of one operation on a few threads that stay alive between operations.

Kernels release the GIL, so plain Python threads are enough. How the work is cut into shards depends on the
work alone, never on the number of threads, and each shard writes memory of its own: the results are the same
to the last bit with 1, 2 or 8 threads.
"""

import itertools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from siamese_np.errors import OptionError

MOST_SHARDS = 16

_threads = 0  # 0: not decided yet
_pool: ThreadPoolExecutor | None = None


def get_threads() -> int:
    """Number of threads in use: as set, else ``SIAMESE_NP_THREADS``, else the processors of this process."""
    if not _threads:
        wanted = os.environ.get("SIAMESE_NP_THREADS", "")
        if not wanted:
            set_threads(_processors())
        elif wanted.isdigit():
            set_threads(int(wanted))
        else:
            raise OptionError(f"SIAMESE_NP_THREADS must be a whole number of at least 1, not {wanted!r}")
    return _threads


def set_threads(threads: int) -> None:
    """Use `threads` (at least 1) threads from now on; the results do not depend on it."""
    global _threads, _pool
    if threads < 1:
        raise OptionError(f"the number of threads must be at least 1, not {threads}")
    if _pool is not None:
        _pool.shutdown()
        _pool = None
    _threads = threads


def shards(length: int, smallest: int) -> list[slice]:
    """Cut ``range(length)`` into at most `MOST_SHARDS` slices of at least `smallest` (but for the last)."""
    size = max(smallest, -(-length // MOST_SHARDS))
    return [slice(start, min(start + size, length)) for start in range(0, length, size)]


def run(task: Callable[[int], None], count: int) -> None:
    """Call ``task(0)`` to ``task(count - 1)``, each once, on all threads; return when all are done."""
    global _pool
    helpers = min(get_threads(), count) - 1
    if helpers < 1:
        for index in range(count):
            task(index)
        return
    if _pool is None:
        _pool = ThreadPoolExecutor(_threads - 1, thread_name_prefix="siamese_np")
    numbers = itertools.count()

    def work() -> None:
        # next() on a counter is atomic: a free thread takes the next shard
        while (index := next(numbers)) < count:
            task(index)

    others = [_pool.submit(work) for _ in range(helpers)]
    try:
        work()
    finally:
        for other in others:
            other.result()


def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _forget_pool() -> None:
    """A forked child has none of its parent's threads: start its own when it needs them."""
    global _pool
    _pool = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)
