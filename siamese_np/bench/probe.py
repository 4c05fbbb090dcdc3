"""What this machine can do: the roofs that everything else is measured against.

- **Arithmetic**: fused multiply-adds a second, for each vector width and number of threads. The loop is given
  to LLVM as vector instructions, so no optimiser decides the width: twelve independent sums hide the latency
  of the multiply-add (four cycles times two units on current processors, so eight would do).
- **Memory**: bytes a second of ``a += s * b``, two reads and a write, with both arrays in the L1, L2 or L3 cache
  or in main memory; each thread has its own.

A roof is the best of its samples: whatever disturbs a sample only lowers it.
"""

import ctypes
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from siamese_np.bench.kernels import axpy
from siamese_np.bench.sampling import measure, timed
from siamese_np.bench.words import threads_text
from siamese_np.runtime import scheduler

SUMS = 12
ROUNDS, NUMBERS = 2_000_000, 1 << 26  # of one call: milliseconds, so that waking a thread does not count
CACHES = {"L1": 32 << 10, "L2": 512 << 10, "L3": 8 << 20}  # bytes, where the system does not tell
DRIFT = 0.03  # of a roof, from which on the machine counts as unsteady

FMA_LOOP = """
declare <{lanes} x float> @llvm.fma.v{lanes}f32(<{lanes} x float>, <{lanes} x float>, <{lanes} x float>)
define float @fma_loop(i64 %count, float %m) {{
entry:
  %m1 = insertelement <{lanes} x float> undef, float %m, i32 0
  %factor = shufflevector <{lanes} x float> %m1, <{lanes} x float> undef, <{lanes} x i32> zeroinitializer
  br label %loop
loop:
  %i = phi i64 [0, %entry], [%next, %loop]
{phis}
{fmas}
  %next = add i64 %i, 1
  %more = icmp ult i64 %next, %count
  br i1 %more, label %loop, label %done
done:
{total}
  %first = extractelement <{lanes} x float> %t{last}, i32 0
  ret float %first
}}
"""


def probe(threads: Sequence[int], seconds: float = 0.02, repetitions: int = 9) -> dict[str, Any]:
    """Measure the roofs for each of `threads` numbers of threads.

    Returns
    -------
    dict
        ``"fma_gflops"``: by lanes, then threads, GFLOP/s (a multiply-add is two). ``"gbytes_per_second"``: by
        cache level, then threads, GB/s. ``"cache_bytes"``: the caches' sizes. Keys are strings, as in JSON.
    """
    runs: dict[tuple[str, str, int], Any] = {}
    work: dict[tuple[str, str, int], float] = {}
    sizes = cache_sizes()
    for count in threads:
        for lanes in lane_widths():
            key = ("fma_gflops", str(lanes), count)
            fma_loop(lanes)  # compile
            runs[key] = _on_threads(count, [partial(_multiply_add, lanes)] * count)
            work[key] = 2e-9 * SUMS * lanes * ROUNDS * count
        for level, size in {**sizes, "DRAM": 8 * sizes["L3"]}.items():
            key = ("gbytes_per_second", level, count)
            # both arrays of all threads fill half of the cache; the L3 cache is shared
            numbers = max(1024, min(size, 256 << 20) // 2 // 8 // (count if level in ("L3", "DRAM") else 1))
            passes = max(1, NUMBERS // numbers)
            runs[key] = _on_threads(count, [_stream(numbers, passes) for _ in range(count)])
            work[key] = 12e-9 * numbers * passes * count
    timings = measure({str(key): run for key, run in runs.items()}, repetitions, seconds)
    roofs: dict[str, Any] = {"cache_bytes": sizes, "fma_gflops": {}, "gbytes_per_second": {}}
    for key in runs:
        kind, name, count = key
        best = work[key] / min(timings[str(key)].samples)
        roofs[kind].setdefault(name, {})[str(count)] = best
    return roofs


def peak(roofs: dict[str, Any], threads: int) -> float:
    """The highest measured GFLOP/s of `threads` threads, over all vector widths."""
    return max(by_threads[str(threads)] for by_threads in roofs["fma_gflops"].values())


def drift(before: dict[str, Any], after: dict[str, Any]) -> dict[str, float]:
    """How far each roof moved between two probes, as a share of the first; by ``"L1, 2 threads"`` and the like."""
    moved = {}
    for kind in ("fma_gflops", "gbytes_per_second"):
        for name, by_threads in before[kind].items():
            for count, value in by_threads.items():
                roof = name if kind == "gbytes_per_second" else f"FMA, {32 * int(name)}-bit vectors"
                label = f"{roof}, {threads_text(count)}"
                moved[label] = after[kind][name][count] / value - 1
    return moved


def lane_widths() -> list[int]:
    """Widths of float32 vectors this processor has, in numbers."""
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

    for start in ("initialize_native_target", "initialize_native_asmprinter"):
        getattr(binding, start)()
    vector = f"<{lanes} x float>"

    def splat(number: int) -> str:
        return "<" + ", ".join([f"float {number}.0"] * lanes) + ">"

    phis = [f"  %a{s} = phi {vector} [{splat(s + 1)}, %entry], [%b{s}, %loop]" for s in range(SUMS)]
    fmas = [
        f"  %b{s} = call {vector} @llvm.fma.v{lanes}f32({vector} %a{s}, {vector} %factor, {vector} {splat(1)})"
        for s in range(SUMS)
    ]
    names = ["%b0", *(f"%t{s}" for s in range(1, SUMS))]
    total = [f"  %t{s} = fadd {vector} {names[s - 1]}, %b{s}" for s in range(1, SUMS)]
    text = FMA_LOOP.format(
        lanes=lanes, phis="\n".join(phis), fmas="\n".join(fmas), total="\n".join(total), last=SUMS - 1
    )
    module = binding.parse_assembly(text)
    machine = binding.Target.from_default_triple().create_target_machine(
        cpu=binding.get_host_cpu_name(), features=binding.get_host_cpu_features().flatten(), opt=2
    )
    engine = binding.create_mcjit_compiler(module, machine)
    engine.finalize_object()
    function: Any = ctypes.CFUNCTYPE(ctypes.c_float, ctypes.c_int64, ctypes.c_float)(
        engine.get_function_address("fma_loop")
    )
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


def _on_threads(count: int, tasks: list[Callable[[int], Any]]) -> Any:
    """Something to measure: all `tasks` at once, on `count` threads."""

    def run() -> None:
        if scheduler.get_threads() != count:
            scheduler.set_threads(count)
        scheduler.run(lambda i: tasks[i](i), len(tasks))

    return timed(run)


def _multiply_add(lanes: int, i: int) -> None:
    fma_loop(lanes)(ROUNDS, 0.5)


def _stream(numbers: int, passes: int) -> Callable[[int], None]:
    a, b = two_arrays(numbers)
    scale = np.float32(1e-3)
    return lambda i: axpy(a, b, scale, passes)


def two_arrays(numbers: int) -> tuple[np.ndarray, np.ndarray]:
    """Two arrays of `numbers` float32 ones, that begin at multiples of 64 bytes and 1 kB apart modulo 4 kB.

    Where a store and a later load agree in the last 12 bits of their addresses, the load waits in vain.
    """
    page, apart = 1024, 256  # numbers in 4 kB and in 1 kB
    second = -(-numbers // page) * page + apart
    room = np.ones(second + numbers + 16, np.float32)
    start = (-room.ctypes.data % 64) // 4
    return room[start : start + numbers], room[start + second : start + second + numbers]
