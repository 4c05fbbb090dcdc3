"""What this machine can do: the limits (the "roofs" of the roofline model) that all rates are compared with.

- **Arithmetic**: fused multiply-adds a second, for each vector width and number of threads. LLVM gets the loop as
  vector instructions, so no optimiser decides the width. Twelve independent sums hide the latency of the
  multiply-add (four cycles times two units on current processors, so eight would do).
- **Memory**: bytes a second of ``a += s * b``, two reads and a write, with both arrays in the L1, L2 or L3 cache
  or in main memory; each thread has its own.

Each limit is the best of its samples: disturbances only lower a sample.
"""

import ctypes
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from siamese_np.bench.sampling import measure, timed
from siamese_np.runtime.jit import kernel

SUMS = 12
ROUNDS, NUMBERS = 2_000_000, 1 << 26  # of one call: milliseconds, so that waking a thread does not count
CACHES = {"L1": 32 << 10, "L2": 512 << 10, "L3": 8 << 20}  # bytes, where the system does not tell
DRIFT = 0.03  # relative change of a limit from which on the machine counts as unsteady

FMA_LOOP = """
declare {vector} @llvm.fma.v{lanes}f32({vector}, {vector}, {vector})
define float @fma_loop(i64 %count, float %m) {{
entry:
  %m1 = insertelement {vector} undef, float %m, i32 0
  %factor = shufflevector {vector} %m1, {vector} undef, <{lanes} x i32> zeroinitializer
  br label %loop
loop:
  %i = phi i64 [0, %entry], [%next, %loop]
{loop}
  %next = add i64 %i, 1
  %more = icmp ult i64 %next, %count
  br i1 %more, label %loop, label %done
done:
{total}
  %first = extractelement {vector} %t{last}, i32 0
  ret float %first
}}
"""


def probe(threads: Sequence[int], seconds: float = 0.02, repetitions: int = 9) -> dict[str, Any]:
    """Measure the limits for each of `threads` numbers of threads.

    Returns
    -------
    dict
        ``"fma_gflops"``: by vector width in numbers, then threads, GFLOP/s (a multiply-add is two).
        ``"gbytes_per_second"``: by cache level, then threads, GB/s. ``"cache_bytes"``: the caches' sizes. Keys are
        strings, as in JSON.
    """
    runs: dict[tuple[str, str, int], Any] = {}
    work: dict[tuple[str, str, int], float] = {}
    sizes = cache_sizes()
    for count in threads:
        for lanes in vector_widths():
            key = ("fma_gflops", str(lanes), count)
            runs[key] = _together([_multiply_adds(lanes)] * count)
            work[key] = 2e-9 * SUMS * lanes * ROUNDS * count
        for level, size in {**sizes, "DRAM": 8 * sizes["L3"]}.items():
            key = ("gbytes_per_second", level, count)
            # both arrays of all threads fill half of the cache; the L3 cache is shared
            numbers = max(1024, min(size, 256 << 20) // 2 // 8 // (count if level in ("L3", "DRAM") else 1))
            passes = max(1, NUMBERS // numbers)
            runs[key] = _together([_stream(numbers, passes) for _ in range(count)])
            work[key] = 12e-9 * numbers * passes * count
    limits: dict[str, Any] = {"cache_bytes": sizes, "fma_gflops": {}, "gbytes_per_second": {}}
    for (kind, name, count), timing in measure(runs, repetitions, seconds).items():
        limits[kind].setdefault(name, {})[str(count)] = work[kind, name, count] / min(timing.samples)
    return limits


def peak(limits: dict[str, Any], threads: int) -> float:
    """The highest measured GFLOP/s of `threads` threads, over all vector widths."""
    return max(by_threads[str(threads)] for by_threads in limits["fma_gflops"].values())


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


def vector_widths() -> list[int]:
    """Widths of the float32 vectors this processor has, in numbers."""
    from llvmlite import binding

    try:
        features = binding.get_host_cpu_features()
    except RuntimeError:
        features = {}
    return [4, *([8] if features.get("avx2") else []), *([16] if features.get("avx512f") else [])]


@cache
def fma_loop(lanes: int) -> Callable[[int, float], float]:
    """A compiled loop over `SUMS` multiply-adds of vectors of `lanes` numbers; it releases the GIL."""
    from llvmlite import binding

    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    vector = f"<{lanes} x float>"

    def splat(number: int) -> str:
        return "<" + ", ".join([f"float {number}.0"] * lanes) + ">"

    fma = f"call {vector} @llvm.fma.v{lanes}f32({vector}"
    loop = [f"  %a{s} = phi {vector} [{splat(s + 1)}, %entry], [%b{s}, %loop]" for s in range(SUMS)]
    loop += [f"  %b{s} = {fma} %a{s}, {vector} %factor, {vector} {splat(1)})" for s in range(SUMS)]
    names = ["%b0", *(f"%t{s}" for s in range(1, SUMS))]
    total = [f"  %t{s} = fadd {vector} {names[s - 1]}, %b{s}" for s in range(1, SUMS)]
    parts = {"loop": "\n".join(loop), "total": "\n".join(total), "last": SUMS - 1}
    module = binding.parse_assembly(FMA_LOOP.format(vector=vector, lanes=lanes, **parts))
    machine = binding.Target.from_default_triple().create_target_machine(
        cpu=binding.get_host_cpu_name(), features=binding.get_host_cpu_features().flatten(), opt=2
    )
    engine = binding.create_mcjit_compiler(module, machine)
    engine.finalize_object()
    address = engine.get_function_address("fma_loop")
    function: Any = ctypes.CFUNCTYPE(ctypes.c_float, ctypes.c_int64, ctypes.c_float)(address)
    function.engine = engine  # the code lives as long as its engine
    return function


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


def _together(tasks: list[Callable[[], Any]]) -> Any:
    """Something to measure: all `tasks` at once, each in a thread of its own, which is kept for the next call."""
    if len(tasks) == 1:
        return timed(tasks[0])
    pool = ThreadPoolExecutor(len(tasks))
    return timed(lambda: list(pool.map(lambda task: task(), tasks)))


def _multiply_adds(lanes: int) -> Callable[[], Any]:
    loop = fma_loop(lanes)
    return lambda: loop(ROUNDS, 0.5)


def _stream(numbers: int, passes: int) -> Callable[[], Any]:
    a, b = two_arrays(numbers)
    return lambda: axpy(a, b, np.float32(1e-3), passes)


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
