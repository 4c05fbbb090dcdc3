"""One framework in a process of its own: ``python worker.py MODULE VARIANT JOB.npz`` beside ``with_*.py``.

Needs NumPy and the framework and nothing else, so it also runs under an interpreter that lacks siamese_np.
It reads one JSON command a line from standard input and answers each with one line on standard output::

    {"do": "hello"}                        versions
    {"do": "check", "task": {...}}         the file of the result: a few losses, embeddings, neighbours, an AUC
    {"do": "prepare", "task": {...}}       the same, after the best batch has been found; compiled and warmed up
    {"do": "sample", "name": N, "calls": n}   seconds of n calls

What goes wrong is answered as ``{"failed": "one line"}``. A task is ``{"name", "kind", "preset", "size"}``: see
`run.Task`; that of a single operation has ``"kind": "operation"``, the files "arrays" and "answer", and what its module
wants to know. All processes of a task stay alive, and the parent asks one at a time in random order: a slow minute of
the machine affects all alike.
"""

import importlib
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

BATCHES = 6  # different batches, taken in turn
CHECKED_STEPS = 4  # on one batch, with CHECKED_RATE, to compare the losses of all frameworks
CHECKED_RATE = 1e-3
# While the clock runs the weights do not change: a network that has learnt its few batches sends no gradients
# back, and skipping zeros would look faster than it is.
TIMED_RATE = 1e-8
WARM_UP_SECONDS, WARM_UP_CALLS = 0.5, 3
# Before a sample a pause, and then calls for so long, at least one: the same as in siamese_np/bench/sampling.py.
SETTLE_SECONDS, WAKE_SECONDS = 0.05, 0.1
CHUNKS = (25, 50, 100, 250, 1000, 2500)  # images embedded at a time: each framework gets the size it is fastest with
CHUNK_TRIES = 3
NEIGHBOURS = 5
ERROR_LENGTH = 300

Call = Callable[[], Any]


class Worker:
    """The tasks of one framework."""

    def __init__(self, module: Any, variant: str, job: Any, answer: Path) -> None:
        self.module, self.variant, self.job, self.answer = module, variant, job, answer
        self.calls: dict[str, Call] = {}

    def prepare(self, task: dict[str, Any]) -> dict[str, Any]:
        """Build and warm up `task`; what is compiled on the way is not timed later."""
        start = time.perf_counter()
        answer = self.check(task, CHUNKS)
        if "error" in answer:
            return answer
        call, calls, first = self.calls[task["name"]], 0, time.perf_counter()
        while calls < WARM_UP_CALLS or time.perf_counter() - first < WARM_UP_SECONDS:
            call()
            calls += 1
        answer["prepare_seconds"] = first - start
        return answer

    def check(self, task: dict[str, Any], chunks: tuple[int, ...] = CHUNKS[-1:]) -> dict[str, Any]:
        """Build `task` and run it a little; the result goes to a file, to be verified."""
        if task["kind"] == "operation":
            return self._operation(task)
        weights = "trained" if task["kind"] == "other" else task["preset"]
        params = {name.split("/")[1]: self.job[name] for name in self.job if name.startswith(weights + "/")}
        model, size, answer = self.module.make(self.variant, task["preset"], params, self.job), task["size"], {}
        if task["kind"] == "step":
            result, call = self._step(model, size)
        elif task["kind"] == "knn":
            query, gallery = self.job["query"], self.job["gallery"]
            query = query[np.arange(size) % len(query)]
            call = lambda: model.nearest(query, gallery, min(NEIGHBOURS, len(gallery)))  # noqa: E731
            result = call()
        elif task["kind"] == "auc":
            dist, label = self.job["dist"], self.job["dist_label"]
            call = lambda: model.auc(dist, label)  # noqa: E731
            result = call()
        else:
            result, call, answer["chunk"] = self._embed(model, size, chunks)
        np.save(self.answer, result, allow_pickle=False)
        self.calls[task["name"]] = call
        return {**answer, "result": str(self.answer)}

    def _step(self, model: Any, B: int) -> tuple[Any, Call]:
        pairs, label, images, batches = self.job["pairs"], self.job["label"], self.job["images"], []
        for number in range(BATCHES):
            chosen = np.arange(number * B, (number + 1) * B) % len(pairs)
            rows = np.concatenate([pairs[chosen, 0], pairs[chosen, 1]])
            batches.append(model.load(images[rows], label[chosen]))
        losses = [float(model.step(batches[0], CHECKED_RATE)) for _ in range(CHECKED_STEPS)]
        turn = iter(range(sys.maxsize))
        return losses, lambda: model.step(batches[next(turn) % BATCHES], TIMED_RATE)

    def _embed(self, model: Any, count: int, sizes: tuple[int, ...]) -> tuple[Any, Call, int]:
        images = self.job["images"]
        images = images[np.arange(count) % len(images)]
        embed_all = getattr(model, "embed_all", lambda chunks: [model.embed(chunk) for chunk in chunks])
        best = None
        for size in sizes:
            chunks = [model.load_images(images[start : start + size]) for start in range(0, count, size)]
            emb = np.concatenate(embed_all(chunks))  # compiles
            seconds = float("inf")
            for _ in range(CHUNK_TRIES):
                start = time.perf_counter()
                embed_all(chunks)
                seconds = min(seconds, time.perf_counter() - start)
            if best is None or seconds < best[0]:
                best = seconds, min(size, count), chunks, emb
            if size >= count:
                break
        assert best is not None
        return best[3], lambda: embed_all(best[2]), best[1]

    def _operation(self, task: dict[str, Any]) -> dict[str, Any]:
        """The results of one operation go to a file; what it cannot do is an answer, too, and others may follow."""
        with np.load(task["arrays"], allow_pickle=False) as file:
            arrays = dict(file)
        try:
            call, read = self.module.operation(task, arrays)
            start = time.perf_counter()
            given = call()
            seconds = time.perf_counter() - start
            np.savez(task["answer"], *read(given))
        except Exception as error:
            return {"error": f"{type(error).__name__}: {(str(error).strip() or 'no message').splitlines()[0]}"}
        self.calls[task["name"]] = call
        return {"first_call_seconds": seconds}

    def sample(self, name: str, calls: int) -> dict[str, float]:
        """Seconds of `calls` calls of a prepared task, after some that bring threads and caches back."""
        call = self.calls[name]
        time.sleep(SETTLE_SECONDS)
        start = time.perf_counter()
        call()
        while time.perf_counter() - start < WAKE_SECONDS:
            call()
        start = time.perf_counter()
        for _ in range(calls):
            call()
        return {"seconds": time.perf_counter() - start}


def main() -> None:
    """Answer commands until standard input ends, or one fails."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a framework prints must not get between the answers
    try:
        module = importlib.import_module(sys.argv[1])
        with np.load(sys.argv[3], allow_pickle=False) as job:
            worker = Worker(module, sys.argv[2], job, Path(sys.argv[3]).with_name(f"answer-{os.getpid()}.npy"))
            for line in sys.stdin:
                command = json.loads(line)
                if command["do"] == "hello":
                    answer: dict[str, Any] = {"versions": module.versions(sys.argv[2])}
                elif command["do"] == "check":
                    answer = worker.check(command["task"])
                elif command["do"] == "prepare":
                    answer = worker.prepare(command["task"])
                else:
                    answer = worker.sample(command["name"], command["calls"])
                print(json.dumps(answer), file=answers, flush=True)
    except Exception as error:
        words = " ".join(str(error).split())[:ERROR_LENGTH]
        print(json.dumps({"failed": f"{type(error).__name__}: {words}"}), file=answers, flush=True)
        sys.exit(1)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:  # the parent got it too, and says so
        sys.exit(130)
