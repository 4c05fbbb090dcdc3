"""The same training step and the same embedding in other frameworks, each in a process of its own.

Each gets its best honest chance: the fastest layout and optimizer it offers, inputs that already are its own
tensors, compilation and warm-up before the clock starts, `threads` threads on as many processors, and none of
this process' environment that slows a BLAS library down. Same network, weights, pairs, loss and Adam: the
losses of four real steps must agree before anything is timed. This package runs under the same rules.
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

from siamese_np.bench.sampling import Run, Timing, measure
from siamese_np.errors import OptionError

OURS = "siamese_np"
LOSS_TOLERANCE = 1e-4  # of the first loss
CHANGE_TOLERANCE = 0.02  # of what Adam has changed it by since: wrong gradients change it by something else
PATIENCE = 300  # seconds a framework may take for one answer, compilation included
EMBEDDING_TOLERANCE = 1e-3  # of the largest entry


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


class Task(NamedTuple):
    """Something each framework does: a training step of `size` pairs, or the embedding of `size` images."""

    name: str
    kind: str
    preset: str
    size: int


TASKS = (
    Task("cnn step, 16 pairs", "step", "cnn", 16),
    Task("cnn step, 32 pairs", "step", "cnn", 32),
    Task("cnn step, 128 pairs", "step", "cnn", 128),
    Task("mlp step, 32 pairs", "step", "mlp", 32),
    Task("cnn embedding, 10,000 images", "embed", "cnn", 10_000),
)


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
            env=environment(threads),
            preexec_fn=pinning(threads),
        )

    def ask(self, **command: Any) -> dict[str, Any]:
        """Send one command and wait for its answer; PeerError if the process ends instead."""
        assert self._process.stdin is not None and self._process.stdout is not None
        guard = threading.Timer(PATIENCE, self._process.kill)
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
            said = self._log.read().decode(errors="replace").strip().splitlines()
            raise PeerError(said[-1] if said else f"exit status {self._process.returncode}")
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


def environment(threads: int) -> dict[str, str]:
    """This process' environment with `threads` threads for everything, and nothing that slows a BLAS down."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OPENBLAS_")}
    pools = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "SIAMESE_NP_THREADS", "NPROC")
    chosen = {"TF_ENABLE_ONEDNN_OPTS": "1", "TF_CPP_MIN_LOG_LEVEL": "3", "JAX_PLATFORMS": "cpu"}
    return {**kept, **dict.fromkeys(pools, str(threads)), **chosen}


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


def write_job(path: Path, images: np.ndarray, labels: np.ndarray) -> None:
    """Write the weights, images and pairs that all frameworks get."""
    from siamese_np.bench.peers.with_siamese_np import untrained
    from siamese_np.pairs import random_pairs

    arrays = {}
    for preset in ("cnn", "mlp"):
        network = untrained(preset, images.shape[1:])
        arrays.update({f"{preset}/{name}": value for name, value in network.named_params().items()})
    pairs, label = random_pairs(labels, np.random.default_rng(1))
    np.savez(path, allow_pickle=False, images=images, pairs=pairs, label=label, **arrays)


def run(
    images: np.ndarray,
    labels: np.ndarray,
    threads: int,
    peer_python: str | None = None,
    tasks: tuple[Task, ...] = TASKS,
    names: tuple[str, ...] = tuple(KNOWN),
    repetitions: int = 9,
    seconds: float = 0.05,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Time `tasks` in every framework that is there.

    Returns
    -------
    dict
        ``"peers"``: for each name its title, and its versions or why it is missing. ``"tasks"``: for each
        task and peer the `Timing`, ``"ratio"`` (its median over ours), and what the warm-up took.
    """
    python = peer_python or sys.executable
    there = {OURS} | installed(python)
    processes: dict[str, Process] = {}
    peers: dict[str, Any] = {}
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        job = Path(folder) / "job.npz"
        write_job(job, images, labels)
        truth = _truth(job)
        try:
            for name in names:
                known = KNOWN[name]
                peers[name] = {"title": known.title, "status": "present"}
                if known.framework not in there:
                    peers[name]["status"] = "absent"
                    say(f"{known.title}: absent")
                    continue
                processes[name] = Process(known, sys.executable if name == OURS else python, job, threads)
            for name in list(processes):
                try:
                    peers[name]["versions"] = processes[name].ask(do="hello")["versions"]
                except PeerError as error:
                    _drop(name, str(error), peers, processes, say)
            for task in tasks:
                results[task.name] = _run_task(task, truth, peers, processes, repetitions, seconds, say)
        finally:
            for process in processes.values():
                process.close()
    return {"peers": peers, "tasks": results}


def _run_task(
    task: Task,
    truth: Callable[[Task], np.ndarray],
    peers: dict[str, Any],
    processes: dict[str, Process],
    repetitions: int,
    seconds: float,
    say: Callable[[str], None],
) -> dict[str, Any]:
    answers: dict[str, Any] = {}
    for name in list(processes):
        say(f"{task.name}: {peers[name]['title']}")
        try:
            answer = processes[name].ask(do="prepare", task=task._asdict())
        except PeerError as error:
            _drop(name, str(error), peers, processes, say)
            continue
        if wrong := _disagrees(task, answer, truth(task)):
            _drop(name, wrong, peers, processes, say)
            continue
        answers[name] = answer

    def runner(name: str) -> Run:
        def run(calls: int) -> float:
            try:
                return float(processes[name].ask(do="sample", name=task.name, calls=calls)["seconds"])
            except PeerError as error:
                _drop(name, str(error), peers, processes, say)
            except KeyError:  # it has been dropped
                pass
            return float("nan")

        return run

    timings: dict[str, Timing] = measure({name: runner(name) for name in answers}, repetitions, seconds)
    result = {}
    for name, timing in timings.items():
        if name not in processes:
            continue
        result[name] = {"timing": timing.as_dict(), "prepare_seconds": answers[name]["prepare_seconds"]}
        if "chunk" in answers[name]:
            result[name]["chunk"] = answers[name]["chunk"]
        if OURS in processes:
            result[name]["ratio"] = timing.median / timings[OURS].median
    return result


def _drop(
    name: str, why: str, peers: dict[str, Any], processes: dict[str, Process], say: Callable[[str], None]
) -> None:
    peers[name]["status"] = f"failed: {why}"
    say(f"{peers[name]['title']} failed: {why}")
    processes.pop(name).close()


def _truth(job: Path) -> Callable[[Task], np.ndarray]:
    """The right losses or embeddings of a task, by this package in float64."""
    from siamese_np.bench.peers import with_siamese_np
    from siamese_np.bench.peers.worker import Worker

    with np.load(job, allow_pickle=False) as file:
        worker = Worker(with_siamese_np, "float64", dict(file))
    known: dict[Task, np.ndarray] = {}

    def truth(task: Task) -> np.ndarray:
        if task not in known:
            answer = worker.check(task._asdict())
            known[task] = np.array(answer["losses"] if task.kind == "step" else answer["embeddings"])
        return known[task]

    return truth


def _disagrees(task: Task, answer: dict[str, Any], truth: np.ndarray) -> str:
    """What is wrong with a framework's losses or embeddings; nothing if they are right."""
    if task.kind == "embed":
        error = abs(np.array(answer["embeddings"]) - truth).max() / abs(truth).max()
        return f"its embeddings are off by {error:.1e} of the largest" if not error < EMBEDDING_TOLERANCE else ""
    errors = abs(np.array(answer["losses"]) - truth)
    allowed = LOSS_TOLERANCE * truth[0] + CHANGE_TOLERANCE * abs(truth - truth[0])
    return "" if (errors <= allowed).all() else f"its losses {answer['losses']} are not {truth.tolist()}"
