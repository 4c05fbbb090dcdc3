"""One section of the suite: ``python -m siamese_np.bench.section NAME OPTIONS ANSWER``; writes the file ANSWER.

OPTIONS is a JSON object with the fields of `suite.Sizes`, and ``threads``, ``own``, ``peer_python``. The answer
is ``{"result": ...}`` or ``{"error": "one sentence"}``.
"""

import json
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from siamese_np.datasets import Dataset, Split, load_dataset
from siamese_np.errors import SiameseError

Options = dict[str, Any]


def probe(options: Options) -> Any:
    """The machine's roofs."""
    from siamese_np.bench.probe import probe

    return probe(options["threads"], options["seconds"], options["repetitions"])


def clocks(options: Options) -> Any:
    """Cold, cached and steady starts."""
    from siamese_np.bench.clocks import clocks

    return clocks(max(options["threads"]), options["presets"], repetitions=options["processes"])


def ladder(options: Options) -> Any:
    """All rungs; with a person's own, those they stand beside."""
    from siamese_np.ladder.climb import climb
    from siamese_np.ladder.operations import make_problem
    from siamese_np.ladder.rung import load_rungs

    images = _data(options).test.images
    problem = make_problem(images[: options["ladder_images"]])
    small = make_problem(images[:1], crop=4)
    rungs = load_rungs(Path(options["own"]) if options["own"] else None)
    # with a person's own kernels, the operations that these are rungs of
    operations = {rung.operation for rung in rungs if rung.own} or options["operations"]
    rungs = [rung for rung in rungs if rung.operation in operations]
    threads = options["threads"] if options["ladder_sweep"] else [1]
    return climb(rungs, problem, small, threads, options["repetitions"], options["seconds"], _say)


def end_to_end(options: Options) -> Any:
    """What a person waits for."""
    from siamese_np.bench import end_to_end

    data, threads = _data(options), options["threads"]
    how = (threads, options["repetitions"], options["seconds"], _say)
    result: dict[str, Any] = {
        "steps": end_to_end.steps(data.test, options["pairs"], *how),
        "embeddings": end_to_end.embeddings(data.test, options["embedded"], *how),
        "cost_per_image": end_to_end.cost_per_image(data.train, options["data_sets"], options["sampled_steps"], _say),
        "memory": [],
    }
    if find_spec("resource"):  # not on Windows
        result["memory"] = [
            _in_process("memory", {**options, "protocol": protocol, "pair_count": count})
            for protocol in ("batch", "notebook")
            for count in options["pair_counts"]
        ]
    if options["epochs"]:
        siamese, result["training"] = end_to_end.time_to_accuracy(data, options["epochs"], _say)
        result["exact"] = end_to_end.exact(data, siamese, options["repetitions"], options["seconds"], _say)
    return result


def memory(options: Options) -> Any:
    """Highest memory with one number of pairs."""
    from siamese_np.bench.end_to_end import memory

    _say(f"end to end: memory with {options['pair_count']:,} pairs, protocol {options['protocol']}")
    return memory(_data(options).train, options["protocol"], options["pair_count"])


def peers(options: Options) -> Any:
    """The same work in other frameworks."""
    from siamese_np.bench import peers

    test = _data(options).test
    return peers.run(
        test.images,
        test.classes,
        max(options["threads"]),
        options["peer_python"],
        tuple(peers.Task(*task) for task in options["peer_tasks"]),
        tuple(options["peers"]),
        repetitions=options["repetitions"],
        seconds=options["seconds"],
        say=_say,
    )


SECTIONS = {
    "probe": probe,
    "clocks": clocks,
    "ladder": ladder,
    "end-to-end": end_to_end,
    "memory": memory,
    "peers": peers,
}


def _data(options: Options) -> Dataset:
    """The bundled MNIST, or the first images of each of its parts."""
    dataset = load_dataset()
    count = options["data"]
    if count is None:
        return dataset
    parts = (
        Split(part.images[:count], part.classes[:count]) for part in (dataset.train, dataset.validation, dataset.test)
    )
    return Dataset(f"{count} images of {dataset.name}", *parts)


def _in_process(name: str, options: Options) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer.json"
        command = [sys.executable, "-m", "siamese_np.bench.section", name, json.dumps(options), str(answer)]
        subprocess.run(command, check=True)
        return json.loads(answer.read_text())["result"]


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main(name: str, options: str, answer: str) -> None:
    """Run one section and write its answer."""
    content: dict[str, Any]
    try:
        content = {"result": SECTIONS[name](json.loads(options))}
    except SiameseError as error:
        content = {"error": str(error)}
    Path(answer).write_text(json.dumps(content))


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except KeyboardInterrupt:  # the command got it too, and says so
        sys.exit(130)
