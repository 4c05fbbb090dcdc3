"""All of it in one run: the sections in order, each in a process of its own, and the numbers they give.

In their environment BLAS libraries are not held back, and the ladder has an empty folder for compiled kernels, so that
every first call compiles. ``python -m siamese_np.bench.suite SECTION OPTIONS ANSWER`` is such a process: OPTIONS is a
JSON object, and it writes ``{"result": ...}`` or ``{"error": "one sentence"}`` to the file ANSWER.
"""

import contextlib
import dataclasses
import importlib.util
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from siamese_np.bench import idle, points, probe
from siamese_np.bench.compare import FORMAT
from siamese_np.bench.sampling import Log
from siamese_np.datasets import Dataset, Split, load_dataset
from siamese_np.errors import OptionError, SiameseError
from siamese_np.ladder.operations import OPERATIONS, make_problem

SECTIONS = ("probe", "clocks", "ladder", "end-to-end", "peers")
POINTS = ("dense-input", "avx2", "thread-counts", "op")  # run only where they are asked for
WITH_PEERS = ("peers", *POINTS)
PEERS = Path(__file__).parents[2] / "benchmarks" / "peers"  # in a clone of the repository
NO_PEERS = "peers need the folder benchmarks/peers of the repository, which is not beside this package"
# glibc keeps freed memory for the next arrays, as this package keeps its own: a peer that allocates its output in each
# call does not wait for the system to clear pages.
KEEP_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(1 << 36)}


@dataclasses.dataclass(frozen=True)
class Sizes:
    """How much of everything; by default, a full run."""

    name: str = "full"
    repetitions: int = 11
    seconds: float = 0.04  # of a sample, at least
    operations: tuple[str, ...] = tuple(OPERATIONS)  # on the ladder
    ladder_images: int = 64
    ladder_sweep: bool = True  # over all numbers of threads, else one thread
    ladder_cold: bool = True  # everything is compiled anew
    pairs: tuple[int, ...] = (8, 16, 32, 64, 128, 256)
    embedded: int = 10_000
    exact: bool = True  # train an epoch, and then time exact metrics over all pairs
    data_sets: tuple[int, ...] = (6_000, 60_000, 600_000)
    pair_counts: tuple[int, ...] = (100_000, 1_000_000, 10_000_000)
    presets: tuple[str, ...] = ("cnn", "mlp")  # of the clocks
    processes: int = 5  # started for each of them
    # kind, preset and size, as benchmarks/peers/run.py explains
    peer_tasks: tuple[str, ...] = (
        *("step cnn 16", "step cnn 32", "step cnn 128", "step mlp 32", "embed cnn 10000"),
        *("other cnn 10000", "knn cnn 10000", "auc cnn 10000000"),
    )
    peers: tuple[str, ...] = ()  # all
    data: int | None = None  # images of each part of the data; None: all


FULL = Sizes()
QUICK = Sizes(
    name="quick",
    repetitions=9,
    seconds=0.02,
    operations=("conv2d_forward",),
    ladder_images=8,
    ladder_sweep=False,
    pairs=(128,),
    embedded=1_000,
    exact=False,
    data_sets=(6_000,),
    pair_counts=(),
    presets=("mlp",),
    processes=1,
    peer_tasks=("step cnn 32",),
    peers=("siamese_np", "tensorflow"),  # the fastest of the others
)


def run(
    sizes: Sizes,
    threads: int,
    only: Sequence[str] | None = None,
    peer_python: Sequence[str] = (),
    user_file: Path | None = None,
    log: Log = lambda line: None,
    layers: Sequence[Any] | None = None,
) -> dict[str, Any]:
    """Run the sections `only`, by default all but `POINTS`; the probe always runs first, and once more at the end.

    A section that fails does not end the run: ``failed`` in the result says which did, and why, in a sentence each.
    `threads` is the most that anything uses; sweeps go 1, 2, 4, ... up to it. `peer_python` are interpreters that have
    the other frameworks, by default this one; `user_file` has a user's rungs; `layers` are those of the section op, by
    default `siamese_np.bench.op.GRID`. ``idle`` in the result says what other processes took of the machine before and
    after; a run on a busy one goes on.

    Raises
    ------
    OptionError
        There is no such section, or none gave a result: one of the user's kernels is wrong, say.
    """
    for name in only or ():
        if name not in (*SECTIONS, *POINTS):
            raise OptionError(f"the benchmark has no section {name!r}; choose of {', '.join((*SECTIONS, *POINTS))}")
    counts = sorted({threads, *(1 << bit for bit in range(threads.bit_length()))})
    options = {**dataclasses.asdict(sizes), "threads": counts, "peer_python": list(peer_python)}
    options.update(user_file=str(user_file) if user_file else None, layers=layers)
    chosen = [name for name in (*SECTIONS[1:], *POINTS) if name in (only or SECTIONS)]
    result: dict[str, Any] = {"format": FORMAT, "sizes": sizes.name, "threads": counts, "failed": {}, "skipped": {}}
    if only is None and not (PEERS / "run.py").is_file():
        chosen.remove("peers")
        result["skipped"]["peers"] = NO_PEERS
        log(NO_PEERS)
    started, result["environment"] = time.time(), environment_facts()
    result["idle"] = {"before": idle.wait_until_idle(log)}
    result["probe"] = _section("probe", options, log)
    for name in chosen:
        try:
            result[name.replace("-", "_")] = _section(name, options, log)
            if name == "end-to-end":
                counted = ({**options, "pair_count": count} for count in sizes.pair_counts)
                result["end_to_end"]["memory"] = [_section("memory", one, log) for one in counted]
        except OptionError as error:
            result["failed"][name] = str(error)
            log(f"{name}: {error}")
    if chosen and len(result["failed"]) == len(chosen):
        raise OptionError("; ".join(result["failed"].values()))
    result["probe_at_end"] = _section("probe", options, log)
    result["idle"]["after"] = idle.others(ran=True)
    result["drift"] = probe.drift(result["probe"], result["probe_at_end"])
    result["seconds"] = time.time() - started
    return result


def load_peers() -> Any:
    """The module that runs the peers, from the repository; OptionError where it is missing."""
    if not (PEERS / "run.py").is_file():
        raise OptionError(NO_PEERS)
    spec = importlib.util.spec_from_file_location("siamese_np_peers", PEERS / "run.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def environment(threads: int) -> dict[str, str]:
    """This process' environment with `threads` threads for everything, and nothing that slows a BLAS down."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OPENBLAS_")}
    pools = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "SIAMESE_NP_THREADS", "NPROC")
    return {**kept, **dict.fromkeys(pools, str(threads))}


def environment_facts() -> dict[str, Any]:
    """What the numbers depend on, as far as the system tells."""
    from llvmlite import binding

    from siamese_np.storage import versions

    facts: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "versions": versions(),
        **{name: getattr(platform, name)() for name in ("system", "release", "machine")},
        "processor": platform.processor() or platform.machine(),
        "processors": os.cpu_count(),
        "llvm_processor": binding.get_host_cpu_name(),
    }
    if hasattr(os, "getloadavg"):  # not on Windows
        facts["load_average"] = list(os.getloadavg())
    with contextlib.suppress(OSError):  # not Linux
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            name, _, value = (part.strip() for part in line.partition(":"))
            if name in ("model name", "cpu family", "model"):
                facts.setdefault(name.replace(" ", "_"), value)
        governor = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
        facts["governor"] = governor.read_text().strip() if governor.exists() else None
    return facts


def _section(name: str, options: dict[str, Any], log: Log) -> Any:
    """The result of section `name`, from a process of its own."""
    log(f"{name} ...")
    with tempfile.TemporaryDirectory() as folder:
        child = environment(max(options["threads"]))
        child.update(KEEP_MEMORY if name == "op" else {"OPENBLAS_NUM_THREADS": "1"})
        if name == "ladder" and options["ladder_cold"]:
            child["NUMBA_CACHE_DIR"] = folder
        if name == "avx2":
            child.update(points.avx2_environment())
        answer = Path(folder) / "answer.json"
        command = [sys.executable, "-m", "siamese_np.bench.suite", name, json.dumps(options), str(answer)]
        done = subprocess.run(command, env=child, stdout=sys.stderr, stderr=sys.stderr)
        if not answer.exists():
            how = f"signal {-done.returncode}" if done.returncode < 0 else f"exit status {done.returncode}"
            whose = f", in a kernel of {options['user_file']} perhaps" if options["user_file"] else ""
            raise OptionError(f"the benchmark's section {name} ended early with {how}{whose}")
        content = json.loads(answer.read_text())
    if "error" in content:
        raise OptionError(content["error"])
    return content["result"]


def _measure(name: str, options: dict[str, Any]) -> Any:
    """Section `name`, in this process."""
    how = options["repetitions"], options["seconds"], _log
    if name == "probe":
        return probe.probe(options["threads"], options["seconds"], options["repetitions"])
    if name == "clocks":
        from siamese_np.bench.clocks import clocks

        return clocks(options["presets"], options["processes"])
    if name == "op":
        from siamese_np.bench import op

        return op.run(options, _log)
    dataset = load_dataset()
    if count := options["data"]:
        parts = (dataset.train, dataset.validation, dataset.test)
        train, validation, test = (Split(part.images[:count], part.classes[:count]) for part in parts)
        dataset = Dataset(dataset.name, train, validation, test)
    if name == "ladder":
        from siamese_np.ladder import climb, rung

        rungs = rung.load_rungs(Path(options["user_file"]) if options["user_file"] else None)
        # with a user's kernels, the operations that these are rungs of
        chosen = {one.operation for one in rungs if one.user} or options["operations"]
        images = dataset.test.images
        problem, small = make_problem(images[: options["ladder_images"]]), make_problem(images[:1], crop=4)
        threads = options["threads"] if options["ladder_sweep"] else [1]
        return climb.climb([one for one in rungs if one.operation in chosen], problem, small, threads, *how)
    if name == "peers":
        return load_peers().run(dataset.test, options, _log, dataset)
    if name in POINTS:
        return points.run(name, dataset.test, options, _log)
    from siamese_np.bench import end_to_end

    if name == "memory":
        return end_to_end.memory(dataset.train, options["pair_count"], _log)
    result: dict[str, Any] = {
        "steps": end_to_end.steps(dataset.test, options["pairs"], options["threads"], *how),
        "parts": end_to_end.step_parts(dataset.test, options["pairs"], max(options["threads"]), options["seconds"]),
        "embeddings": end_to_end.embeddings(dataset.test, options["embedded"], options["threads"], *how),
        "cost_per_image": end_to_end.cost_per_image(dataset.train, options["data_sets"], _log),
    }
    if options["exact"]:
        result["exact"] = end_to_end.exact(dataset, *how)
    return result


def _log(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _answer(name: str, options: str, answer: str) -> None:
    try:
        content = {"result": _measure(name, json.loads(options))}
    except SiameseError as error:
        content = {"error": str(error)}
    Path(answer).write_text(json.dumps(content))


if __name__ == "__main__":
    try:
        _answer(*sys.argv[1:])
    except KeyboardInterrupt:  # the command got it too, and says so
        sys.exit(130)
