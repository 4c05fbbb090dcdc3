"""What this machine can do: the limits (the "roofs" of the roofline model) that all rates are compared with.

- **Arithmetic**: fused multiply-adds a second, on the vectors that kernels use. Twelve independent sums hide the
  latency of the multiply-add (four cycles times two units on current processors, so eight would do).
- **Memory**: bytes a second of ``a += s * b``, two reads and a write, with both arrays in the L1, L2 or L3 cache
  or in main memory; each thread has its own.

Each limit is the best of its samples: disturbances only lower a sample.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from siamese_np.bench.sampling import Run, measure, timed
from siamese_np.kernels.simd.vectors import VECTOR_BYTES, length, load, muladd, splat, store, zeros
from siamese_np.runtime.jit import kernel

LANES = VECTOR_BYTES // 4
FIRST, OTHERS = 8, 4  # of twelve sums: LLVM splits a power of two of vectors well
SUMS = FIRST + OTHERS
# of one call, for samples of 20 ms or more: milliseconds, so that waking a thread does not count
ROUNDS, NUMBERS = 2_000_000, 1 << 26
CACHES = {"L1": 32 << 10, "L2": 512 << 10, "L3": 8 << 20}  # bytes, where the system does not tell
DRIFT = 0.03  # relative change of a limit from which on the machine counts as unsteady


def probe(threads: Sequence[int], seconds: float = 0.02, repetitions: int = 9) -> dict[str, Any]:
    """Measure the limits for each of `threads` numbers of threads.

    ``"fma_gflops"`` has them by vector width in numbers, then threads (a multiply-add is two operations), and
    ``"gbytes_per_second"`` by cache level, then threads. All keys are strings, as in JSON.
    """
    sizes, scale = cache_sizes(), min(1.0, seconds / 0.02)
    rounds = max(1, int(scale * ROUNDS))
    limits: dict[str, Any] = {"cache_bytes": sizes, "fma_gflops": {str(LANES): {}}, "gbytes_per_second": {}}
    runs: dict[tuple[str, str, int], Run] = {}
    work: dict[tuple[str, str, int], float] = {}
    for count in threads:
        key = ("fma_gflops", str(LANES), count)
        x = [np.ones(SUMS * LANES, np.float32) for _ in range(count)]
        runs[key] = _together([partial(fma_loop, own, np.float32(0.5), rounds) for own in x])
        work[key] = 2e-9 * SUMS * LANES * rounds * count
        for level, size in {**sizes, "DRAM": 8 * sizes["L3"]}.items():
            key = ("gbytes_per_second", level, count)
            # both arrays of all threads fill half of the cache; the L3 cache is shared
            numbers = max(1024, min(size, 256 << 20) // 2 // 8 // (count if level in ("L3", "DRAM") else 1))
            passes = max(1, int(scale * NUMBERS) // numbers)
            runs[key] = _together([partial(axpy, *two_arrays(numbers), np.float32(1e-3), passes) for _ in range(count)])
            work[key] = 12e-9 * numbers * passes * count
    for (kind, name, count), timing in measure(runs, repetitions, seconds).items():
        limits[kind].setdefault(name, {})[str(count)] = work[kind, name, count] / min(timing.samples)
    return limits


def peak(limits: dict[str, Any], threads: int) -> float:
    """The measured GFLOP/s of `threads` threads; the highest, where there are several widths of vectors."""
    return max(by_threads[str(threads)] for by_threads in limits["fma_gflops"].values())


def least_seconds(limits: dict[str, Any], threads: int, flops: float, bytes: float) -> float:
    """The roof: what `flops` take at the peak, or `bytes` from the memory that holds them all, whichever is longer."""
    sizes = limits["cache_bytes"]
    level = next((name for name in sizes if bytes <= sizes[name] * (1 if name == "L3" else threads)), "DRAM")
    bandwidth = limits["gbytes_per_second"][level][str(threads)]
    return 1e-9 * max(flops / peak(limits, threads), bytes / bandwidth)


def drift(before: dict[str, Any], after: dict[str, Any]) -> dict[str, float]:
    """Relative change of each limit between two probes, by ``"L1, 2 threads"`` and the like."""
    moved = {}
    for kind in ("fma_gflops", "gbytes_per_second"):
        for name, by_threads in before[kind].items():
            title = name if kind == "gbytes_per_second" else f"FMA, {32 * int(name)}-bit vectors"
            for count, value in by_threads.items():
                moved[f"{title}, {threads_text(count)}"] = after[kind][name][count] / value - 1
    return moved


def threads_text(count: int | str) -> str:
    """``"1 thread"``, ``"2 threads"``."""
    return f"{count} thread" if int(count) == 1 else f"{count} threads"


def cache_sizes() -> dict[str, int]:
    """Bytes of the data caches of the first processor."""
    sizes = dict(CACHES)
    for folder in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        try:
            level, kind, size = ((folder / name).read_text().strip() for name in ("level", "type", "size"))
        except OSError:
            continue
        if kind != "Instruction" and f"L{level}" in sizes and size.endswith("K"):
            sizes[f"L{level}"] = int(size[:-1]) << 10
    return sizes


def _together(tasks: list[Callable[[], Any]]) -> Run:
    """Something to measure: all `tasks` at once, each in a thread of its own, which is kept for the next call."""
    if len(tasks) == 1:
        return timed(tasks[0])
    pool = ThreadPoolExecutor(len(tasks))
    return timed(lambda: list(pool.map(lambda task: task(), tasks)))


@kernel
def fma_loop(x: Any, factor: Any, rounds: Any) -> None:
    """x, which fills `SUMS` vectors, = x * factor + 1, `rounds` times: all sums stay in registers."""
    a = load(x, 0, zeros(x, FIRST))
    b = load(x, length(a), zeros(x, OTHERS))
    one = x.dtype.type(1)
    ones_a, ones_b = splat(x, one, a), splat(x, one, b)
    for _ in range(rounds):
        a, b = muladd(ones_a, factor, a), muladd(ones_b, factor, b)
    store(x, 0, a)
    store(x, length(a), b)


@kernel
def axpy(a: Any, b: Any, scale: Any, passes: Any) -> None:
    """a (M,) += scale * b (M,), `passes` times."""
    for _ in range(passes):
        for m in range(a.size):
            a[m] += scale * b[m]


def two_arrays(numbers: int) -> tuple[np.ndarray, np.ndarray]:
    """Two arrays of `numbers` float32 ones, aligned to 64 bytes and 1 kB apart modulo 4 kB.

    If a store and a later load agree in the last 12 bits of their addresses, the load waits for nothing (4K aliasing).
    """
    page, apart = 1024, 256  # numbers in 4 kB and in 1 kB
    second = (numbers + page - 1) // page * page + apart
    memory = np.ones(second + numbers + 16, np.float32)
    start = (-memory.ctypes.data % 64) // 4
    return memory[start : start + numbers], memory[start + second : start + second + numbers]
