"""The same training step and the same embedding in other frameworks, each in a process of its own.

`siamese-np bench` loads this file from a clone of the repository; `worker` and the ``with_*.py`` run in
the frameworks' processes. Each framework gets its best honest chance: the fastest layout and optimizer it offers,
inputs that already are its own tensors, compilation and warm-up before the clock starts, `threads` threads on as many
processors, and nothing in the environment that slows a BLAS library down. Same network, weights, pairs, loss and Adam:
the losses of four real steps must agree before anything is timed. This package runs under the same rules.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from siamese_np.bench.end_to_end import untrained
from siamese_np.bench.sampling import Run, measure
from siamese_np.bench.suite import environment
from siamese_np.datasets import Split
from siamese_np.errors import OptionError
from siamese_np.pairs import random_pairs

OURS = "siamese_np"
LOSS_TOLERANCE = 1e-4  # of the first loss
CHANGE_TOLERANCE = 0.02  # of what Adam has changed it by since: wrong gradients change it by something else
TIMEOUT = 300  # seconds a framework may take for one answer, compilation included
EMBEDDING_TOLERANCE = 1e-3  # of the largest entry
SETTINGS = {"TF_ENABLE_ONEDNN_OPTS": "1", "TF_CPP_MIN_LOG_LEVEL": "3", "JAX_PLATFORMS": "cpu"}


class Known(NamedTuple):
    """One way to run the network."""

    title: str
    module: str
    variant: str
    framework: str


KNOWN = {
    OURS: Known("siamese_np", "with_siamese_np", "float32", "siamese_np"),
    "tensorflow": Known("TensorFlow tf.function", "with_tensorflow", "function", "tensorflow"),
    "tensorflow-xla": Known("TensorFlow XLA", "with_tensorflow", "xla", "tensorflow"),
    "torch-nchw": Known("PyTorch eager NCHW", "with_torch", "nchw", "torch"),
    "torch-channels-last": Known("PyTorch eager channels_last", "with_torch", "channels_last", "torch"),
    "torch-compile": Known("PyTorch torch.compile", "with_torch", "compile", "torch"),
    "jax": Known("JAX jit", "with_jax", "jit", "jax"),
}
REFERENCE = Known("siamese_np in float64", "with_siamese_np", "float64", "siamese_np")


class Task(NamedTuple):
    """Something each framework does: a training step of `size` pairs, or the embedding of `size` images."""

    name: str
    kind: str
    preset: str
    size: int

    @classmethod
    def of(cls, text: str) -> "Task":
        """The task that ``"step cnn 16"`` or ``"embed cnn 10000"`` stands for."""
        kind, preset, size = text.split()
        name = f"{preset} step, {size} pairs" if kind == "step" else f"{preset} embedding, {int(size):,} images"
        return cls(name, kind, preset, int(size))


class PeerError(RuntimeError):
    """A framework's process failed; the message is the last line it wrote."""


class Process:
    """One framework's `worker` process."""

    def __init__(self, known: Known, python: str, job: Path, threads: int) -> None:
        worker = Path(__file__).with_name("worker.py")
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        self._process = subprocess.Popen(
            [python, str(worker), known.module, known.variant, str(job)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env={**environment(threads), **SETTINGS, **(_package_path() if known.framework == OURS else {})},
            preexec_fn=pinning(threads),
        )

    def ask(self, **command: Any) -> dict[str, Any]:
        """Send one command and wait for its answer; PeerError if the process ends instead."""
        assert self._process.stdin is not None and self._process.stdout is not None
        guard = threading.Timer(TIMEOUT, self._process.kill)
        guard.start()
        try:
            self._process.stdin.write(json.dumps(command) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            guard.cancel()
        if not line:
            self._process.wait()
            self._log.seek(0)
            written = self._log.read().decode(errors="replace").strip().splitlines()
            raise PeerError(written[-1] if written else f"exit status {self._process.returncode}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._log):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()


def _package_path() -> dict[str, str]:
    """Where a process finds this very package, which need not be installed."""
    import siamese_np

    found = [str(Path(siamese_np.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    return {"PYTHONPATH": os.pathsep.join(filter(None, found))}


def pinning(threads: int) -> Callable[[], None] | None:
    """What a child does first: keep to the first `threads` processors, where the system can do that."""
    if not hasattr(os, "sched_setaffinity"):
        return None
    processors = sorted(os.sched_getaffinity(0))[:threads]
    return lambda: os.sched_setaffinity(0, processors)


def installed(python: str) -> set[str]:
    """Which frameworks the interpreter `python` has; OptionError if it is no interpreter."""
    wanted = sorted({known.framework for name, known in KNOWN.items() if name != OURS})
    names = f"[name for name in {wanted} if find_spec(name)]"
    code = f"import json; from importlib.util import find_spec; print(json.dumps({names}))"
    try:
        done = subprocess.run([python, "-c", code], capture_output=True, text=True, timeout=120, check=True)
        found = set(json.loads(done.stdout))
    except (OSError, ValueError, subprocess.SubprocessError):
        raise OptionError(f"--peer-python must name a Python interpreter, which {python} is not") from None
    return found


def write_job(path: Path, split: Split) -> None:
    """Write the weights, images and pairs that all frameworks get."""
    arrays = {}
    for preset in ("cnn", "mlp"):
        arrays.update({f"{preset}/{name}": value for name, value in untrained(preset).named_params().items()})
    pairs, label = random_pairs(split.classes, np.random.default_rng(1))
    np.savez(path, allow_pickle=False, images=split.images, pairs=pairs, label=label, **arrays)


def run(split: Split, options: dict[str, Any], log: Callable[[str], None] = lambda line: None) -> dict[str, Any]:
    """Time the tasks in every framework that is there.

    Parameters
    ----------
    split : Split
    options : dict
        The fields of `siamese_np.bench.suite.Sizes`, with the numbers of ``"threads"`` and ``"peer_python"``.

    Returns
    -------
    dict
        ``"peers"``: for each name its title, and its versions or why it is missing. ``"tasks"``: for each
        task and peer the `Timing`, ``"ratio"`` (its median over ours), and what the warm-up took.
    """
    python, threads = options["peer_python"] or sys.executable, max(options["threads"])
    available = {OURS} | installed(python)
    processes: dict[str, Process] = {}
    peers: dict[str, Any] = {}
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        job = Path(folder) / "job.npz"
        write_job(job, split)
        tasks = [Task.of(text) for text in options["peer_tasks"]]
        expected = reference(tasks, job)
        stack.callback(lambda: [process.close() for process in processes.values()])
        for name in options["peers"] or KNOWN:
            known = KNOWN[name]
            peers[name] = {"title": known.title, "status": "present"}
            if known.framework not in available:
                peers[name]["status"] = "absent"
                log(f"{known.title}: absent")
                continue
            processes[name] = Process(known, sys.executable if name == OURS else python, job, threads)
        for name in list(processes):
            try:
                peers[name]["versions"] = processes[name].ask(do="hello")["versions"]
            except PeerError as error:
                _drop(name, str(error), peers, processes, log)
        for task in tasks:
            results[task.name] = _run_task(task, expected[task.name], peers, processes, options, log)
    return {"peers": peers, "tasks": results}


def reference(tasks: list[Task], job: Path) -> dict[str, np.ndarray]:
    """The losses, or the first embeddings, of each task, by this package in float64."""
    process, known = Process(REFERENCE, sys.executable, job, 1), {}
    try:
        for task in tasks:
            few = task if task.kind == "step" else task._replace(size=4)
            answer = process.ask(do="check", task=few._asdict())
            known[task.name] = np.array(answer["losses" if task.kind == "step" else "embeddings"])
    finally:
        process.close()
    return known


def _run_task(
    task: Task,
    expected: np.ndarray,
    peers: dict[str, Any],
    processes: dict[str, Process],
    options: dict[str, Any],
    log: Callable[[str], None],
) -> dict[str, Any]:
    answers: dict[str, Any] = {}
    for name in list(processes):
        log(f"{task.name}: {peers[name]['title']}")
        try:
            answers[name] = processes[name].ask(do="prepare", task=task._asdict())
            wrong = disagreement(task, answers[name], expected)
        except PeerError as error:
            wrong = str(error)
        if wrong:
            _drop(name, wrong, peers, processes, log)

    def runner(name: str) -> Run:
        def run(calls: int) -> float:
            try:
                return float(processes[name].ask(do="sample", name=task.name, calls=calls)["seconds"])
            except PeerError as error:
                _drop(name, str(error), peers, processes, log)
            except KeyError:  # it has been dropped
                pass
            return float("nan")

        return run

    timings = measure({name: runner(name) for name in processes}, options["repetitions"], options["seconds"])
    result = {}
    for name in processes:
        timing, answer = timings[name], answers[name]
        result[name] = {"timing": timing._asdict(), "prepare_seconds": answer["prepare_seconds"]}
        if "chunk" in answer:
            result[name]["chunk"] = answer["chunk"]
        if OURS in processes:
            result[name]["ratio"] = timing.median / timings[OURS].median
    return result


def _drop(
    name: str, why: str, peers: dict[str, Any], processes: dict[str, Process], log: Callable[[str], None]
) -> None:
    peers[name]["status"] = f"failed: {why}"
    log(f"{peers[name]['title']} failed: {why}")
    processes.pop(name).close()


def disagreement(task: Task, answer: dict[str, Any], expected: np.ndarray) -> str:
    """What is wrong with a framework's losses or embeddings; nothing if they are correct."""
    if task.kind == "embed":
        error = abs(np.array(answer["embeddings"]) - expected).max() / abs(expected).max()
        return f"its embeddings are off by {error:.1e} of the largest" if not error < EMBEDDING_TOLERANCE else ""
    errors = abs(np.array(answer["losses"]) - expected)
    allowed = LOSS_TOLERANCE * expected[0] + CHANGE_TOLERANCE * abs(expected - expected[0])
    return "" if (errors <= allowed).all() else f"its losses {answer['losses']} are not {expected.tolist()}"
