"""Exact search beside faiss and usearch, over a million embeddings of augmented MNIST digits.

    python benchmarks/engines.py --out results/engines          (--count 20000 for a small one)

Embeddings are those of the model that comes with the package, of training images distorted with a seed; queries are
distorted test images. Each engine is built in one process and searched in another, so a peak is of that alone.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

K, BLOCK, QUERIES = 10, 4096, 1000
SINGLE, SECONDS = 200, 10.0  # queries that are asked one at a time, and how long at most


def make(folder: Path, count: int) -> dict[str, Any]:
    """The collection and its queries, streamed."""
    from siamese_np import load_dataset, load_model
    from siamese_np.augment import Distort
    from siamese_np.collection import Row, Writer
    from siamese_np.datasets import form_of

    siamese, dataset, distort = load_model("mnist"), load_dataset(), Distort()
    start = time.perf_counter()
    train, test = dataset.all_train, dataset.test
    with Writer(folder / "collection", siamese, form_of(siamese)) as writer:
        for first in range(0, count, BLOCK):
            numbers = np.arange(first, min(first + BLOCK, count))
            images = distort(train.images[numbers % len(train.images)], np.random.default_rng([0, first]))
            classes = train.classes[numbers % len(train.classes)]
            writer.append(siamese.embed(images), [Row(f"{n}", str(c)) for n, c in zip(numbers, classes, strict=True)])
    images = distort(test.images[:QUERIES], np.random.default_rng([1, 0]))
    np.save(folder / "queries.npy", siamese.embed(images))
    return {"seconds": time.perf_counter() - start}


def build(folder: Path, name: str) -> dict[str, Any]:
    """Build an engine, with what it measures itself."""
    from siamese_np.collection import Collection
    from siamese_np.collection.engines import build

    return build(Collection(folder / "collection"), name, {})


def search(folder: Path, name: str) -> dict[str, Any]:
    """Queries a second, one at a time and all at once, and recall, against the distances that `exact` found first."""
    from siamese_np.collection import Collection, nearest_rows
    from siamese_np.collection.engines import open_engine

    start = time.perf_counter()
    collection, query = Collection(folder / "collection"), np.load(folder / "queries.npy")
    ask: Callable[[Any], Any] = lambda some: nearest_rows(some, collection, K)  # noqa: E731
    if name != "exact":
        engine = open_engine(collection, name)
        ask = lambda some: engine.nearest_rows(some, K)  # noqa: E731
    ask(query[:1])
    opened = time.perf_counter() - start
    start, asked = time.perf_counter(), 0
    while asked < SINGLE and (asked < 5 or time.perf_counter() - start < SECONDS):
        ask(query[asked : asked + 1])
        asked += 1
    single = (time.perf_counter() - start) / asked
    start = time.perf_counter()
    distances = np.stack(ask(query)[1])
    batch = (time.perf_counter() - start) / len(query)
    if name == "exact":
        np.save(folder / "exact.npy", distances)
    limit = np.load(folder / "exact.npy")[:, -1:]
    told = {"opened_seconds": opened, "queries_per_second": 1 / single, "batch_queries_per_second": 1 / batch}
    return told | {"recall": float(np.mean(distances <= limit))}


def _memory() -> dict[str, float]:
    """Peak of this process, with the pages of mapped files that are in memory; and what is its own now, in MB."""
    if not os.path.exists("/proc/self/status"):
        return {}
    lines = (line.split() for line in Path("/proc/self/status").read_text().splitlines())
    kilobytes = {words[0]: int(words[1]) for words in lines if words[0] in ("VmHWM:", "RssAnon:")}
    return {"peak_mb": kilobytes["VmHWM:"] / 1000, "own_mb": kilobytes["RssAnon:"] / 1000}


def _stage(folder: Path, stage: str, *given: str) -> dict[str, Any]:
    """What one stage tells, run in a process of its own."""
    command = [sys.executable, __file__, "--stage", stage, *given, "--folder", str(folder)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(f"{stage} {' '.join(given)}: {result}", file=sys.stderr, flush=True)
    return result


def measured(folder: Path, count: int) -> dict[str, Any]:
    """All figures."""
    result: dict[str, Any] = {"count": count, "queries": QUERIES, "k": K, "cpus": os.cpu_count()}
    result |= {"machine": platform.processor() or platform.machine(), "load": list(os.getloadavg())}
    result["made"] = _stage(folder, "make", "--count", str(count))
    result["engines"] = {"exact": {"search": _stage(folder, "search", "--engine", "exact")}}
    result["embeddings_bytes"] = (folder / "collection" / "embeddings.f32").stat().st_size
    for name in ("faiss", "usearch"):
        if find_spec(name) is None:
            print(f"{name} is not installed: left out", file=sys.stderr)
            continue
        built = _stage(folder, "build", "--engine", name)
        result["engines"][name] = {"build": built, "search": _stage(folder, "search", "--engine", name)}
    return result


def table(result: dict[str, Any]) -> str:
    """The figures as a table in Markdown."""
    heads = ["", "build s", "build peak MB", "bytes", "one at a time /s", "batch /s", f"recall@{K}", "search peak MB"]
    lines = [" | ".join(heads), " | ".join(["---"] * len(heads))]
    for name, one in result["engines"].items():
        built, asked = one.get("build", {}), one["search"]
        size = result["embeddings_bytes"] + built.get("bytes", 0)
        cells = [f"{built[key]:.0f}" if key in built else "-" for key in ("seconds", "peak_mb")]
        cells += [f"{size:,}", *(f"{asked[key]:.0f}" for key in ("queries_per_second", "batch_queries_per_second"))]
        cells += [f"{asked['recall']:.4f}", f"{asked['peak_mb']:.0f}" if "peak_mb" in asked else "-"]
        lines.append(" | ".join([name, *cells]))
    return "\n".join(f"| {line} |" for line in lines)


def main() -> None:
    """Measure, or run one stage of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1_000_000, help="embeddings (1,000,000)")
    parser.add_argument("--out", type=Path, help="folder for engines.json and engines.md (none)")
    parser.add_argument("--folder", type=Path, help="folder to work in, kept (a temporary one)")
    parser.add_argument("--stage", choices=("make", "build", "search"), help=argparse.SUPPRESS)
    parser.add_argument("--engine", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.count < K:
        parser.error(f"--count must be at least the {K} neighbours that are searched, not {args.count}")
    if args.stage == "make":
        print(json.dumps(make(args.folder, args.count) | _memory()))
    elif args.stage:
        print(json.dumps({"build": build, "search": search}[args.stage](args.folder, args.engine) | _memory()))
    else:
        with tempfile.TemporaryDirectory() as temporary:
            result = measured(args.folder or Path(temporary), args.count)
        print(table(result))
        if args.out:
            args.out.mkdir(parents=True, exist_ok=True)
            (args.out / "engines.json").write_text(json.dumps(result, indent=1) + "\n")
            (args.out / "engines.md").write_text(table(result) + "\n")


if __name__ == "__main__":
    main()
