"""All of it in one run: the sections in order, each in a process of its own, and the numbers they give.

Each section's process gets an environment in which BLAS libraries are not held back, and the ladder one with an
empty folder for compiled kernels, because code from the cache cannot be inspected.
"""

import dataclasses
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from siamese_np.bench.peers import KNOWN, OURS, TASKS, Task, environment
from siamese_np.errors import OptionError
from siamese_np.ladder.operations import OPERATIONS

FORMAT = "siamese_np benchmark 1"


@dataclasses.dataclass(frozen=True)
class Sizes:
    """How much of everything."""

    name: str
    repetitions: int
    seconds: float  # of a sample, at least
    operations: tuple[str, ...]  # on the ladder
    ladder_images: int
    ladder_sweep: bool  # over all numbers of threads, else one thread
    pairs: tuple[int, ...]
    embedded: int
    epochs: int  # of training, with exact figures over all pairs afterwards; 0: none
    data_sets: tuple[int, ...]
    sampled_steps: int
    pair_counts: tuple[int, ...]
    presets: tuple[str, ...]  # of the clocks
    processes: int  # started for each of them
    peer_tasks: tuple[Task, ...]
    peers: tuple[str, ...]
    data: int | None = None  # images of each part of the data; None: all


FULL = Sizes(
    name="full",
    repetitions=11,
    seconds=0.04,
    operations=tuple(OPERATIONS),
    ladder_images=64,
    ladder_sweep=True,
    pairs=(8, 16, 32, 64, 128, 256),
    embedded=10_000,
    epochs=4,
    data_sets=(6_000, 60_000, 600_000),
    sampled_steps=30,
    pair_counts=(100_000, 1_000_000, 10_000_000),
    presets=("cnn", "mlp"),
    processes=5,
    peer_tasks=TASKS,
    peers=tuple(KNOWN),
)
QUICK = Sizes(
    name="quick",
    repetitions=9,
    seconds=0.02,
    operations=("conv2d_forward",),
    ladder_images=8,
    ladder_sweep=False,
    pairs=(128,),
    embedded=1_000,
    epochs=0,
    data_sets=(6_000,),
    sampled_steps=10,
    pair_counts=(),
    presets=("mlp",),
    processes=1,
    peer_tasks=(TASKS[1],),
    peers=(OURS, "tensorflow"),  # the fastest of the others
)

SECTIONS = ("probe", "clocks", "ladder", "end-to-end", "peers")


def run(
    sizes: Sizes,
    threads: int,
    only: Sequence[str] = SECTIONS,
    peer_python: str | None = None,
    own: Path | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Run the sections `only`; the probe runs first and once more at the end, whatever is chosen.

    A section that fails does not end the run: ``failed`` in the result says which did, and why, in a sentence each.

    Parameters
    ----------
    sizes : Sizes
    threads : int
        The most threads anything uses; sweeps go 1, 2, 4, ... up to it.
    only : sequence of str
        Of `SECTIONS`.
    peer_python : str, optional
        Interpreter that has the other frameworks; by default this one.
    own : Path, optional
        Python file with a person's own rungs.

    Raises
    ------
    OptionError
        There is no such section, or none gave a result: one of the person's kernels is wrong, say.
    """
    for name in only:
        if name not in SECTIONS:
            raise OptionError(f"the benchmark has no section {name!r}; choose of {', '.join(SECTIONS)}")
    counts = sorted({1, threads, *(1 << bit for bit in range(threads.bit_length()) if 1 << bit < threads)})
    options = {**dataclasses.asdict(sizes), "threads": counts, "peer_python": peer_python}
    started = time.time()
    result: dict[str, Any] = {
        "format": FORMAT,
        "sizes": sizes.name,
        "threads": counts,
        "environment": environment_facts(),
        "probe": _section("probe", options, say),
    }
    chosen, failed = [name for name in SECTIONS[1:] if name in only], {}
    for name in chosen:
        try:
            result[name.replace("-", "_")] = _section(name, {**options, "own": str(own) if own else None}, say)
        except OptionError as error:
            failed[name] = str(error)
            say(f"{name}: {error}")
    if chosen and len(failed) == len(chosen):
        raise OptionError("; ".join(failed.values()))
    result["failed"] = failed
    from siamese_np.bench.probe import drift

    after = _section("probe", options, say)
    result["probe_at_end"], result["drift"] = after, drift(result["probe"], after)
    result["seconds"] = time.time() - started
    return result


def _section(name: str, options: dict[str, Any], say: Callable[[str], None]) -> Any:
    """What `section` prints for `name`, as run by a fresh interpreter."""
    say(f"{name} ...")
    with tempfile.TemporaryDirectory() as folder:
        child = {**environment(max(options["threads"])), "OPENBLAS_NUM_THREADS": "1"}
        if name == "ladder":
            child["NUMBA_CACHE_DIR"] = folder
        answer = Path(folder) / "answer.json"
        command = [sys.executable, "-m", "siamese_np.bench.section", name, json.dumps(options), str(answer)]
        done = subprocess.run(command, env=child, stdout=sys.stderr)
        if not answer.exists():
            how = f"signal {-done.returncode}" if done.returncode < 0 else f"exit status {done.returncode}"
            whose = f", in a kernel of {options['own']} perhaps" if options.get("own") else ""
            raise OptionError(f"the benchmark's section {name} ended early with {how}{whose}")
        content = json.loads(answer.read_text())
    if "error" in content:
        raise OptionError(content["error"])
    return content["result"]


def environment_facts() -> dict[str, Any]:
    """What the numbers depend on, as far as the system tells."""
    from siamese_np.storage import versions

    facts: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "versions": versions(),
        "system": platform.system(),
        "release": platform.release(),
        "machine": platform.machine(),
        "processor": platform.processor() or platform.machine(),
        "processors": os.cpu_count(),
    }
    try:
        from llvmlite import binding

        facts["llvm_processor"] = binding.get_host_cpu_name()
        facts["load_average"] = os.getloadavg()
    except (ImportError, AttributeError, OSError):  # Windows has no load average
        pass
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            name, _, value = (part.strip() for part in line.partition(":"))
            if name in ("model name", "cpu family", "model") and name.replace(" ", "_") not in facts:
                facts[name.replace(" ", "_")] = value
        governor = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
        facts["governor"] = governor.read_text().strip() if governor.exists() else None
    except OSError:
        pass
    return facts
