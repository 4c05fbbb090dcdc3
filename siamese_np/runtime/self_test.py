"""Whether the private names of Numba do what the package needs of them; run in a child process (numba_compat.py)."""

import threading
from typing import NamedTuple

import numpy as np

from siamese_np.runtime import scheduler
from siamese_np.runtime.jit import cache_folder, inlined, kernel
from siamese_np.runtime.shards import atomic_add, sharded


class Line(NamedTuple):
    slope: float
    start: float


@inlined(arrays=True)
def _points(x, line):
    y = np.empty(x.size)
    for m in range(x.size):
        y[m] = line.slope * x[m] + line.start
    return y


@kernel(reassociate=True)
def _loose(out, x, a, b):
    out[:] = _points(x, Line(a, b))


@kernel
def _strict(out, x, a, b):
    out[:] = _points(x, Line(a, b))


@kernel(shared=True)
def count_shards(counts, total, bad):
    _count_shard((counts, total, bad), counts.size)


@sharded
@inlined(arrays=True)
def _count_shard(counts, total, bad, s):
    if s == bad:
        raise MemoryError
    counts[s] += 1
    atomic_add(total, 0, s)


def main() -> None:
    """Raise AssertionError, or whatever else, if something is wrong; or crash."""
    x, out = np.full(3, 1 + 2.0**-30), np.empty(3)
    for function in (_loose, _strict):
        function(out, x, x[0], -(1 + 2.0**-29))
        assert (out == 0).all()  # with the product rounded; as one with the sum, it is a little more
    scheduler.set_threads(2)
    counts, total = np.zeros((2, 64), np.int64), np.zeros(1, np.int64)
    callers = [threading.Thread(target=_count_often, args=(row, total)) for row in counts]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert (counts == 200).all() and total[0] == 2 * 200 * 63 * 32
    try:
        count_shards(counts[0], total, 63)
    except MemoryError:
        counts[:] = 0
    assert counts[0, 63] == 0
    _reload(counts[0], total)


def _count_often(counts, total):
    for _ in range(200):
        count_shards(counts, total, -1)


def _reload(counts, total):
    """Load what the cache has, and once more when it is damaged."""
    folder = cache_folder()
    files = list(folder.rglob("*.nbi")) if folder else []
    for hits in (1, 0) if files else ():
        again = kernel(count_shards.compiled.py_func)
        again(counts, total, -1)
        assert counts.min() == counts.max() == 2 - hits and sum(again.stats.cache_hits.values()) == hits
        for file in files:
            file.write_bytes(file.read_bytes()[:-9])
