"""The same work in other frameworks and libraries, each in a process of its own.

`siamese-np bench` loads this file from a clone of the repository; `worker` and the ``with_*.py`` run in
the frameworks' processes. Each framework gets its best honest chance: the fastest layout and optimizer it offers,
inputs that already are its own tensors, its best number of images at a time, compilation and warm-up before the clock
starts, `threads` threads on as many processors, and nothing in the environment that slows a BLAS library down. This
package runs under the same rules. Nothing is timed that was not verified: the losses of four real steps, every
embedding, every neighbour and the AUC are first held against this package's in float64.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from siamese_np import TrainConfig, train_run
from siamese_np.bench.end_to_end import untrained
from siamese_np.bench.sampling import Log, Run, measure, relative_error
from siamese_np.bench.suite import environment
from siamese_np.datasets import Dataset, Split
from siamese_np.errors import OptionError
from siamese_np.metrics import all_pairs_metrics, pair_distances
from siamese_np.pairs import random_pairs

OURS = "siamese_np"
LOSS_TOLERANCE = 1e-4  # of the first loss
CHANGE_TOLERANCE = 0.02  # of what Adam has changed it by since: wrong gradients change it by something else
EMBEDDING_TOLERANCE = 1e-4  # of the largest entry; bfloat16 that passes for float32 is further off
OTHER_TOLERANCE = 0.1  # the same, in other precision
EQUAL_NEIGHBOURS = 0.99  # the least share: expanded squares cancel in float32
AUC_TOLERANCE = 1e-6
TIMEOUT = 600  # seconds a framework may take for one answer, compilation included
CALIBRATION_IMAGES = 500
READ = {"hello": lambda said: dict(said["versions"]), "sample": lambda said: float(said["seconds"])}  # answers
SETTINGS = {"TF_ENABLE_ONEDNN_OPTS": "1", "TF_CPP_MIN_LOG_LEVEL": "3", "JAX_PLATFORMS": "cpu"}


class Known(NamedTuple):
    """One way to do some kinds of tasks; its interpreter must have the modules `framework` and `needs`."""

    title: str
    module: str
    variant: str
    framework: str
    does: tuple[str, ...] = ("step", "embed")
    needs: tuple[str, ...] = ()


EMBED, OTHER = ("embed",), ("other",)
UNTRAINED = ("step", "embed")  # the kinds that this package is timed at alone, too
KNOWN = {
    OURS: Known("siamese_np", "with_siamese_np", "float32", "siamese_np", ("step", "embed", "other", "knn", "auc")),
    "tensorflow": Known("TensorFlow tf.function", "with_tensorflow", "function", "tensorflow"),
    "tensorflow-xla": Known("TensorFlow XLA", "with_tensorflow", "xla", "tensorflow"),
    "torch-nchw": Known("PyTorch eager NCHW", "with_torch", "nchw", "torch"),
    "torch-channels-last": Known("PyTorch eager channels_last", "with_torch", "channels_last", "torch"),
    "torch-compile": Known("PyTorch torch.compile", "with_torch", "compile", "torch"),
    "torch-compile-step": Known("PyTorch torch.compile, Adam too", "with_torch", "compile-step", "torch", ("step",)),
    "torch-frozen": Known("PyTorch frozen TorchScript", "with_torch", "frozen", "torch", EMBED),
    "torch-compile-frozen": Known("PyTorch torch.compile, frozen", "with_torch", "compile-frozen", "torch", EMBED),
    "jax": Known("JAX jit", "with_jax", "jit", "jax"),
    "onnxruntime": Known("ONNX Runtime", "with_onnx", "onnxruntime f32", "onnxruntime", EMBED, ("onnx",)),
    "openvino": Known("OpenVINO, one stream", "with_onnx", "openvino f32 1", "openvino", EMBED, ("onnx",)),
    "openvino-streams": Known("OpenVINO, all streams", "with_onnx", "openvino f32 0", "openvino", EMBED, ("onnx",)),
    "openvino-bf16": Known("OpenVINO bfloat16", "with_onnx", "openvino bf16 1", "openvino", OTHER, ("onnx",)),
    "openvino-int8": Known("OpenVINO int8", "with_onnx", "openvino int8 1", "openvino", OTHER, ("onnx", "onnxruntime")),
    "onnxruntime-int8": Known("ONNX Runtime int8", "with_onnx", "onnxruntime int8", "onnxruntime", OTHER, ("onnx",)),
    "faiss": Known("faiss IndexFlatL2", "with_arrays", "faiss", "faiss", ("knn",)),
    "scikit-learn": Known("scikit-learn", "with_arrays", "sklearn", "sklearn", ("knn", "auc")),
    "scors": Known("scors", "with_arrays", "scors", "scors", ("auc",)),
}
REFERENCE = Known("siamese_np in float64", "with_siamese_np", "float64", "siamese_np")


class Task(NamedTuple):
    """Something that several do, by `kind`.

    - ``"step"``: a training step of `size` pairs.
    - ``"embed"``: the embedding of `size` images.
    - ``"other"``: the same in less than 32 bits, with weights of a short training, whose AUC means something.
    - ``"knn"``: the nearest training images of `size` embeddings, exactly.
    - ``"auc"``: the AUC of `size` given distances of pairs.
    """

    name: str
    kind: str
    preset: str
    size: int

    @classmethod
    def of(cls, text: str) -> "Task":
        """The task that ``"step cnn 16"`` or ``"embed cnn 10000"`` stands for."""
        kind, preset, size = text.split()
        count = f"{int(size):,}"
        names = {
            "step": f"{preset} step, {size} pairs",
            "embed": f"{preset} embedding, {count} images",
            "other": f"{preset} embedding, {count} images, other precision",
            "knn": f"5 nearest training images, {count} embeddings",
            "auc": f"AUC of {count} given distances",
        }
        return cls(names[kind], kind, preset, int(size))


class PeerError(RuntimeError):
    """A framework's process failed; the message is one line."""


class Process:
    """One framework's `worker` process."""

    def __init__(self, known: Known, python: str, job: Path, threads: int) -> None:
        worker = Path(__file__).with_name("worker.py")
        self.seconds = 0.0  # that it was waited for
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        self._process = subprocess.Popen(
            [python, str(worker), known.module, known.variant, str(job)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            errors="replace",
            env={**environment(threads), **SETTINGS, **_package_path()},
            preexec_fn=pinning(threads),
        )

    def ask(self, do: str, read: Callable[[dict[str, Any]], Any] | None = None, **command: Any) -> Any:
        """Send one command and `read` what is answered; PeerError if that fails or the process ends instead."""
        assert self._process.stdin is not None and self._process.stdout is not None
        start = time.perf_counter()
        guard = threading.Timer(TIMEOUT, self._process.kill)
        guard.start()
        try:
            self._process.stdin.write(json.dumps({"do": do, **command}) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = self._process.stdout.readline()  # why it ended
        finally:
            guard.cancel()
            self.seconds += time.perf_counter() - start
        if not line:
            if time.perf_counter() - start >= TIMEOUT:
                raise PeerError(f"no answer within {TIMEOUT} seconds")
            self._process.wait()
            self._log.seek(0)
            written = self._log.read().decode(errors="replace").strip().splitlines()
            raise PeerError(written[-1] if written else f"exit status {self._process.returncode}")
        with contextlib.suppress(LookupError, TypeError, ValueError, OSError, EOFError):  # a program may say anything
            answer: dict[str, Any] = dict(json.loads(line))
            if "failed" in answer:
                raise PeerError(answer["failed"])
            return (read or READ[do])(answer)
        raise PeerError(f"its answer is not as agreed: {line.strip()[:80]!r}")

    def result_of(self, task: Task, do: str) -> tuple[dict[str, Any], np.ndarray]:
        """The answer to `do` with `task`, and the result to be verified."""
        return self.ask(do, lambda said: (said, np.load(said["result"], allow_pickle=False)), task=task._asdict())

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._log):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()


def _package_path() -> dict[str, str]:
    """Where a process finds this very package, which its interpreter need not have; of it peers use the ONNX writer."""
    found = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    return {"PYTHONPATH": os.pathsep.join(filter(None, found))}


def pinning(threads: int) -> Callable[[], None] | None:
    """What a child does first: keep to the first `threads` processors, where the system can do that."""
    if not hasattr(os, "sched_setaffinity"):
        return None
    processors = sorted(os.sched_getaffinity(0))[:threads]
    return lambda: os.sched_setaffinity(0, processors)


def _modules(known: Known) -> set[str]:
    return {known.framework, *known.needs}


def installed(python: str) -> set[str]:
    """Which modules of the frameworks the interpreter `python` has; OptionError if it is no interpreter."""
    wanted = sorted({module for name, known in KNOWN.items() if name != OURS for module in _modules(known)})
    names = f"[name for name in {wanted} if find_spec(name)]"
    code = f"import json; from importlib.util import find_spec; print(json.dumps({names}))"
    try:
        done = subprocess.run([python, "-c", code], capture_output=True, text=True, timeout=120, check=True)
        return set(json.loads(done.stdout))
    except (OSError, TypeError, ValueError, subprocess.SubprocessError):
        raise OptionError(f"--peer-python must name a Python interpreter, which {python} is not") from None


class Operations:
    """A module of single operations in a process, which is started when it is needed, and again after it died.

    Once it runs, `versions` are those of its libraries; if it cannot start, `refusal` says why.
    """

    def __init__(self, module: str, variant: str, python: str, threads: int, folder: Path) -> None:
        self.variant, self.folder, self.first_call_seconds, self.refusal = variant, folder, 0.0, ""
        self.versions: dict[str, str] = {}
        self._process: Process | None = None
        np.savez(folder / "job.npz")
        self._start = partial(Process, Known(module, module, variant, ""), python, folder / "job.npz", threads)

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.close()
            self._process = None

    def results(self, task: dict[str, Any], arrays: dict[str, np.ndarray]) -> list[np.ndarray] | str:
        """Prepare a task: what it gives, or a sentence why it gives nothing."""
        if self.refusal:
            return self.refusal
        given, answer = (str(self.folder / f"{name}.npz") for name in ("arrays", "answer"))
        np.savez(given, **arrays)
        task = {**task, "kind": "operation", "variant": self.variant, "name": "op", "arrays": given, "answer": answer}
        try:
            if self._process is None:
                self._process = self._start()
                self.versions = self._process.ask("hello")
            return self._process.ask("prepare", partial(self._read, answer), task=task)
        except PeerError as error:
            self.close()
            self.refusal = "" if self.versions else f"it cannot start: {error}"
            return self.refusal or f"it ended early: {error}"

    def _read(self, answer: str, said: dict[str, Any]) -> list[np.ndarray] | str:
        if "error" in said:
            return f"it cannot do this: {said['error']}"
        self.first_call_seconds = float(said["first_call_seconds"])
        with np.load(answer, allow_pickle=False) as file:
            return [file[f"arr_{number}"] for number in range(len(file.files))]

    def run(self, calls: int) -> float:
        """Seconds of calls of what was prepared last; NaN once the process has died."""
        if self._process is not None:
            with contextlib.suppress(PeerError):
                return self._process.ask("sample", name="op", calls=calls)
            self.close()
        return float("nan")


@contextlib.contextmanager
def operations(
    module: str, framework: str, variants: Iterable[str], pythons: Sequence[str], threads: int
) -> Iterator[dict[str, Operations]]:
    """The `Operations` of each variant; none where none of `pythons` (by default this one) has `framework`."""
    python = next((python for python in pythons or [sys.executable] if framework in installed(python)), None)
    with tempfile.TemporaryDirectory() as folder:
        peers = {variant: Operations(module, variant, python, threads, Path(folder)) for variant in variants if python}
        try:
            yield peers
        finally:
            for peer in peers.values():
                peer.close()


def write_job(path: Path, split: Split, dataset: Dataset | None, distances: int) -> None:
    """Write the weights, images and pairs that all frameworks get.

    With `dataset` also what is made with a network that was trained for an epoch: its weights, the embeddings of
    `split` and of the training images, and so many distances between the former.
    """
    networks = {preset: untrained(preset) for preset in ("cnn", "mlp")}
    pairs, label = random_pairs(split.classes, np.random.default_rng(1))
    arrays: dict[str, Any] = {"images": split.images, "pairs": pairs, "label": label}
    arrays["config"] = json.dumps({preset: network.config() for preset, network in networks.items()})
    if dataset is not None:
        config = TrainConfig(preset="cnn", epochs=1, batch_size=min(256, len(dataset.train)))
        siamese = train_run(config, dataset).siamese
        networks["trained"] = siamese.network
        query, gallery = siamese.embed(split.images), siamese.embed(dataset.all_train.images)
        ends = np.random.default_rng(2).integers(0, len(split), (distances, 2))
        arrays.update(query=query, gallery=gallery, calibration=dataset.train.images[:CALIBRATION_IMAGES])
        arrays["dist"] = pair_distances(query, ends)
        arrays["dist_label"] = (split.classes[ends[:, 0]] != split.classes[ends[:, 1]]).astype(np.int64)
    for name, network in networks.items():
        arrays.update({f"{name}/{of}": value for of, value in network.named_params().items()})
    np.savez(path, **arrays)


def run(
    split: Split, options: dict[str, Any], log: Log = lambda line: None, dataset: Dataset | None = None
) -> dict[str, Any]:
    """Time the tasks in every framework that is there.

    Parameters
    ----------
    split : Split
    options : dict
        The fields of `siamese_np.bench.suite.Sizes`, with the numbers of ``"threads"``, and in ``"peer_python"`` the
        interpreters: the first that has what a framework needs runs it.
    dataset : Dataset, optional
        What `split` is of. Tasks that need a trained network are left out without it, or where no peer does them.

    Returns
    -------
    dict
        ``"peers"``: for each name its title, its versions or why it is missing, and the seconds it took in all.
        ``"tasks"``: for each task and peer the `Timing`, ``"ratio"`` (its median over ours), what the warm-up took,
        and how its result compares with ours in float64.
    """
    pythons = {python: installed(python) for python in options["peer_python"] or [sys.executable]}
    tasks = [Task.of(text) for text in options["peer_tasks"]]
    tasks = [task for task in tasks if dataset is not None or task.kind in UNTRAINED]
    session = Session(options, log)
    for name in options["peers"] or KNOWN:
        known = KNOWN[name]
        able = [python for python, has in pythons.items() if _modules(known) <= has]
        if {task.kind for task in tasks}.intersection(known.does):
            session.add(name, known, [sys.executable] if name == OURS else able)
    tasks = [task for task in tasks if task.kind in UNTRAINED or len(session.able_to(task)) > 1]
    if all(task.kind in UNTRAINED for task in tasks):
        dataset = None
    else:
        log("an epoch of training, for the tasks that need its network")
    with tempfile.TemporaryDirectory() as folder, contextlib.closing(session):
        session.job = Path(folder) / "job.npz"
        write_job(session.job, split, dataset, max([task.size for task in tasks if task.kind == "auc"], default=0))
        expected = reference(tasks, session.job)
        timed = {}
        for number, task in enumerate(tasks):
            session.start(task)
            timed[task.name] = session.time(task, expected[task.name], split.classes)
            session.end_all_but({later.kind for later in tasks[number + 1 :]})
    return {"peers": session.peers, "tasks": timed}


def reference(tasks: Sequence[Task], job: Path) -> dict[str, np.ndarray]:
    """The result of each task, by this package in float64; OptionError where that fails."""
    process = Process(REFERENCE, sys.executable, job, 1)
    try:
        return {task.name: process.result_of(task, "check")[1] for task in tasks}
    except PeerError as error:
        raise OptionError(f"{REFERENCE.title}, which all are compared with, failed: {error}") from None
    finally:
        process.close()


class Session:
    """The peers of a run, and the processes of those that have something to do."""

    job: Path

    def __init__(self, options: dict[str, Any], log: Log) -> None:
        self.options, self.log = options, log
        self.peers: dict[str, Any] = {}
        self.processes: dict[str, Process] = {}
        self._known: dict[str, tuple[Known, str]] = {}  # of those present, with the interpreter

    def add(self, name: str, known: Known, able: Sequence[str]) -> None:
        """List a peer, which the first of the interpreters `able` runs."""
        self.peers[name] = {"title": known.title, "status": "present" if able else "absent"}
        if able:
            self._known[name] = known, able[0]
        else:
            self.log(f"{known.title}: absent")

    def able_to(self, task: Task) -> list[str]:
        """The peers that do such tasks and have not failed."""
        return [name for name, (known, _) in self._known.items() if task.kind in known.does]

    def start(self, task: Task) -> None:
        """Start the processes that `task` needs and that do not run yet."""
        for name in self.able_to(task):
            if name not in self.processes:
                self.processes[name] = Process(*self._known[name], self.job, max(self.options["threads"]))
                with self._may_fail(name):
                    self.peers[name]["versions"] = self.processes[name].ask("hello")

    def end_all_but(self, kinds: set[str]) -> None:
        """End the processes that do none of `kinds` of tasks."""
        for name in [name for name in self.processes if not kinds.intersection(self._known[name][0].does)]:
            self._end(name)

    def close(self) -> None:
        """End all processes."""
        self.end_all_but(set())

    def _end(self, name: str) -> None:
        process = self.processes.pop(name)
        self.peers[name]["seconds"] = self.peers[name].get("seconds", 0.0) + process.seconds
        process.close()

    @contextlib.contextmanager
    def _may_fail(self, name: str) -> Iterator[None]:
        """What the peer cannot do is said in one sentence, and ends its part in the run."""
        try:
            yield
        except PeerError as error:
            self.peers[name]["status"] = f"failed: {error}"
            self.log(f"{self.peers[name]['title']} failed: {error}")
            self._end(name)
            del self._known[name]

    def time(self, task: Task, expected: np.ndarray, classes: np.ndarray) -> dict[str, Any]:
        """The row of each peer that does `task` correctly."""
        answers: dict[str, Any] = {}
        for name in self.able_to(task):
            self.log(f"{task.name}: {self.peers[name]['title']}")
            with self._may_fail(name):
                answers[name], result = self.processes[name].result_of(task, "prepare")
                if wrong := disagreement(task, result, expected):
                    raise PeerError(wrong)
                answers[name].update(quality(task, result, expected, classes))

        def runner(name: str) -> Run:
            def run(calls: int) -> float:
                if name in self.processes:
                    with self._may_fail(name):
                        return self.processes[name].ask("sample", name=task.name, calls=calls)
                return float("nan")

            return run

        runs = {name: runner(name) for name in self.able_to(task)}
        timings = measure(runs, self.options["repetitions"], self.options["seconds"])
        rows = {}
        for name in self.able_to(task):
            rows[name] = {"timing": timings[name]._asdict(), **answers[name]}
            del rows[name]["result"]
            if OURS in self.processes:
                rows[name]["ratio"] = timings[name].median / timings[OURS].median
        return rows


def disagreement(task: Task, result: np.ndarray, expected: np.ndarray) -> str:
    """What is wrong with a framework's result; nothing if it is correct."""
    if result.shape != expected.shape:
        return f"its result has the shape {result.shape}, not {expected.shape}"
    if task.kind == "step":
        errors = abs(result - expected)
        allowed = LOSS_TOLERANCE * expected[0] + CHANGE_TOLERANCE * abs(expected - expected[0])
        return "" if (errors <= allowed).all() else f"its losses {result.tolist()} are not {expected.tolist()}"
    if task.kind == "knn":
        share = equal_neighbours(result, expected)
        return "" if share >= EQUAL_NEIGHBOURS else f"only {100 * share:.1f} % of its neighbours are the nearest"
    if task.kind == "auc":
        return "" if abs(result - expected) <= AUC_TOLERANCE else f"its AUC {result} is not {expected}"
    error, allowed = relative_error(result, expected), OTHER_TOLERANCE if task.kind == "other" else EMBEDDING_TOLERANCE
    return "" if error <= allowed else f"its embeddings are off by {error:.1e} of the largest"


def quality(task: Task, result: np.ndarray, expected: np.ndarray, classes: np.ndarray) -> dict[str, float]:
    """How a correct result compares with ours in float64, as far as that differs between peers."""
    if task.kind == "knn":
        return {"equal_neighbours": equal_neighbours(result, expected)}
    if task.kind not in ("embed", "other"):
        return {}
    found = {"embedding_error": relative_error(result, expected)}
    if task.kind == "other":
        classes = classes[np.arange(task.size) % len(classes)]
        lower, exact = (all_pairs_metrics(emb, classes)["auc"] for emb in (result, expected))
        found["auc_difference"] = lower - exact
    return found


def equal_neighbours(result: np.ndarray, expected: np.ndarray) -> float:
    """The share of the nearest (Q, k) that are among those found, in whatever order."""
    return float((expected[:, :, None] == result[:, None, :]).any(axis=2).mean())
