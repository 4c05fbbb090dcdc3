"""Pictures read in several processes: to find and decode a picture takes far longer than to embed it.

One process still lists, embeds and writes, with all threads. So embeddings, their order, what is skipped and what a
kill leaves are those of one process.
"""

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing.context import SpawnContext, SpawnProcess
from typing import Any

from siamese_np.collection.sheet import thumbnail
from siamese_np.datasets import Picture
from siamese_np.errors import DataError, OptionError

CHUNK = 16  # pictures that are sent to a process at a time
CHUNK_SECONDS = 1.0  # of listing, after which they are sent though they are fewer
AHEAD = 4  # chunks of each process that may wait to be embedded: memory does not grow with the number of pictures
MAX_PROCESSES = 61  # that Windows can wait for

Map = Callable[[Callable[[Picture], Picture], Iterator[Picture]], Iterator[Picture]]


class _Reader(SpawnProcess):
    """A process that reads; it sees no SIGTERM, with which the pool ends the others where one was killed."""

    def terminate(self) -> None:
        self.kill()


class _Context(SpawnContext):
    """A fork would copy threads that hold locks."""

    Process = _Reader  # type: ignore[assignment, unused-ignore]


@contextlib.contextmanager
def mapped_in(processes: int, with_original: Callable[[], bool]) -> Iterator[Map]:
    """`map` for `read_images` that reads in so many processes; of an original at most a thumbnail comes back.

    OptionError where `processes` is not from 1 to 61. The map raises DataError where one of them was killed.
    """
    if not 1 <= processes <= MAX_PROCESSES:
        raise OptionError(f"--processes must be a whole number from 1 to {MAX_PROCESSES}, not {processes}")
    if processes == 1:
        yield map
        return
    with ProcessPoolExecutor(processes, _Context(), _start) as pool:
        try:
            yield partial(_mapped, pool, processes * AHEAD, with_original)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _mapped(
    pool: ProcessPoolExecutor,
    ahead: int,
    with_original: Callable[[], bool],
    function: Callable[[Picture], Picture],
    pictures: Iterator[Picture],
) -> Iterator[Picture]:
    waiting: deque[Future[list[Picture]]] = deque()
    try:
        for chunk in _chunks(pictures):
            with _signals_held():
                waiting.append(pool.submit(_read, function, chunk, with_original()))
            while waiting and (len(waiting) > ahead or waiting[0].done()):
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()
    except BrokenProcessPool:
        raise DataError(
            "a process that read pictures was killed, perhaps for lack of memory; "
            "the same command goes on where it stopped, --processes 1 needs the least memory"
        ) from None


def _chunks(pictures: Iterator[Picture]) -> Iterator[list[Picture]]:
    chunk: list[Picture] = []
    start = time.monotonic()
    for picture in pictures:
        chunk.append(picture)
        if len(chunk) == CHUNK or time.monotonic() - start > CHUNK_SECONDS:
            yield chunk
            chunk, start = [], time.monotonic()
    if chunk:
        yield chunk


def _read(function: Callable[[Picture], Picture], chunk: list[Picture], with_original: bool) -> list[Picture]:
    read = [function(picture) for picture in chunk]
    shown = [picture.original if with_original and picture.error is None else None for picture in read]
    small = [None if original is None else thumbnail(original) for original in shown]
    return [picture._replace(original=original) for picture, original in zip(read, small, strict=True)]


@contextlib.contextmanager
def _signals_held() -> Iterator[None]:
    """A process that is started here never sees Ctrl-C or SIGTERM, which are for the one that started it."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM, signal.SIGHUP))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start() -> None:
    """What each process does first: leave signals to the one that started it, and end where that is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent: Any = multiprocessing.parent_process()

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
