"""NPBench's deep-learning cases in NumPy, in its style of Numba, in JAX where that is installed, and with our kernels.

``python benchmarks/npbench/run.py --size S [--peer-python PYTHON]`` prints a table. Each version is compared with the
textbook in float64 first, on NPBench's inputs and on inputs of both signs; what is wrong is named and not timed. The
first call, which compiles, stands apart: unless NUMBA_CACHE_DIR is set, everything is compiled anew. All take the
same number of threads, NumPy's BLAS too. ``--checks`` shows which wrong versions NPBench's own verification accepts.
"""

import argparse
import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # what NumPy and Numba read when they are imported
    if "NUMBA_CACHE_DIR" not in os.environ:
        _folder = tempfile.TemporaryDirectory()
        os.environ["NUMBA_CACHE_DIR"] = _folder.name
    _processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    _threads = os.environ.setdefault("SIAMESE_NP_THREADS", str(min(_processors, 16)))
    os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), _threads))

import cases
import numba
import numpy as np
import with_kernels
import with_numba

from siamese_np import textbook
from siamese_np.bench.compare import machine
from siamese_np.bench.end_to_end import free_memory
from siamese_np.bench.probe import threads_text
from siamese_np.bench.report import Table, markdown
from siamese_np.bench.sampling import Run, measure, relative_error, settled
from siamese_np.bench.suite import environment_facts, load_peers
from siamese_np.errors import OptionError, SiameseError
from siamese_np.runtime.scheduler import get_threads

Array = np.ndarray[Any, Any]
HERE = Path(__file__).parent
OURS, TOLERANCE = "siamese_np", 1e-4  # of the largest entry
LIKELY_COPIES = 5  # of all inputs, in two processes
INPUTS = {"signed": cases.signed, "uniform": cases.uniform}  # the last is the one that is timed


def reference(name: str, arrays: dict[str, Array]) -> Array:
    """The case by the textbook, in float64; weights are converted one by one."""
    x, *parameters = arrays.values()
    x = x.astype(np.float64)
    layers = list(zip(parameters[::2], parameters[1::2], strict=True))
    for number, (w, b) in enumerate(layers):
        w, b = w.astype(np.float64), b.astype(np.float64)
        if w.ndim == 4:
            x, _ = textbook.conv2d_forward(x, w, b, (1, 1), (0, 0))
        else:
            x, _ = textbook.dense_forward(x.reshape(len(x), -1), w, b)
        if number < len(layers) - 1:
            x, _ = textbook.relu_forward(x)
        if name == "lenet" and w.ndim == 4:
            x, _ = textbook.maxpool2d_forward(x, (2, 2), (2, 2))
    return cases.softmax(x) if name == "mlp" else x


def versions(name: str) -> dict[str, Callable[..., Array]]:
    """The case in this process."""
    function = cases.CASES[name].function
    modules = {"Numba, their style": with_numba, OURS: with_kernels}
    return {"NumPy": function, **{title: getattr(module, function.__name__) for title, module in modules.items()}}


def run(name: str, shapes: cases.Shapes, peer: Any, repeat: int, seconds: float = 0.02) -> dict[str, Any]:
    """Verify all versions of a case, then time those that are right; by title a timing, or why there is none."""
    numbers = [np.prod(shape, dtype=float) for shape in shapes.values()]
    if (needed := 4 * LIKELY_COPIES * sum(numbers) + 8 * max(numbers)) > (free := free_memory()):
        raise OptionError(f"{name} needs about {needed / 1e9:.1f} GB at this size, and {free / 1e9:.1f} GB are free")
    here = versions(name)
    runs: dict[str, Run] = {}
    rows: dict[str, dict[str, Any]] = {title: {"error": 0.0} for title in (*here, *(["JAX jit"] if peer else []))}
    for draw in INPUTS.values():
        arrays = draw(shapes)
        expected = reference(name, arrays)
        for title, row in rows.items():
            if "failed" in row:
                continue
            start = time.perf_counter()
            try:
                if title in here:
                    call = partial(here[title], *arrays.values())
                    found, runs[title] = call(), settled(call)
                    row.setdefault("first_call_seconds", time.perf_counter() - start)
                else:
                    results = peer.results({"case": name}, arrays)
                    if isinstance(results, str):
                        row["failed"] = results
                        continue
                    found, runs[title], row["versions"] = results[0], peer.run, peer.versions
                    row.setdefault("first_call_seconds", peer.first_call_seconds)
            except Exception as failure:
                row["failed"] = f"it raises {type(failure).__name__}: {(str(failure) or 'no message').splitlines()[0]}"
                continue
            row["error"] = max(row["error"], relative_error(found, expected))
            if not row["error"] <= TOLERANCE:
                row["failed"] = f"its result is wrong, off by {row['error']:.1e} of the largest entry"
    good = {title: runs[title] for title, row in rows.items() if "failed" not in row}
    for title, timing in measure(good, repeat, seconds).items():
        if timing.median == timing.median:
            rows[title]["timing"] = timing._asdict()
        else:
            rows[title]["failed"] = "it ended early"
    ours = rows[OURS].get("timing")
    for row in rows.values():
        if ours and "timing" in row:
            row["ratio"] = row["timing"]["median"] / ours["median"]
    return {"flops": cases.products(shapes), "versions": rows}


# --- NPBench's own verification -------------------------------------------------------------------------


def accepts(expected: list[Array], found: list[Array]) -> bool:
    """Its rule: entries close to 1e-5, or the norm of the difference below 1e-5 of the norm; nothing equals nothing."""
    for a, b in zip(expected, found, strict=False):
        with contextlib.suppress(ValueError):
            if np.allclose(a, b, rtol=1e-5, atol=1e-8) or np.linalg.norm(a - b) / np.linalg.norm(a) < 1e-5:
                continue
        return False
    return True


def wrong_versions() -> dict[str, dict[str, Callable[..., Array]]]:
    """For each case, versions with one mistake."""

    def replaced(function: Callable[..., Array], **others: Callable[..., Array]) -> Callable[..., Array]:
        """A version that calls `others` in place of functions of `cases`."""

        def call(*arrays: Array) -> Array:
            kept = {name: getattr(cases, name) for name in others}
            vars(cases).update(others)
            try:
                return function(*arrays)
            finally:
                vars(cases).update(kept)

        return call

    def without_biases(function: Callable[..., Array]) -> Callable[..., Array]:
        return lambda x, *p: function(x, *(0 * array if array.ndim == 1 else array for array in p))

    def other_maximum(x: Array) -> Array:  # of the first row, for all rows
        shifted = np.exp(x - x[0].max())
        return shifted / shifted.sum(axis=-1, keepdims=True)

    def largest_only(*arrays: Array) -> Array:
        out = cases.mlp(*arrays)
        return np.equal(out, out.max(axis=-1, keepdims=True)).astype(out.dtype)

    found: dict[str, dict[str, Callable[..., Array]]] = {}
    for name, case in cases.CASES.items():
        mistakes = found[name] = {"without biases": without_biases(case.function)}
        if name != "conv2d_bias":
            mistakes["without ReLU"] = replaced(case.function, relu=lambda x: x)
    found["conv2d_bias"]["filters flipped"] = lambda x, w, b: cases.conv2d_bias(x, w[::-1, ::-1], b)
    found["mlp"]["softmax shifted by another row's maximum"] = replaced(cases.mlp, softmax=other_maximum)
    found["mlp"]["1 for the largest, instead of softmax"] = largest_only
    return found


def checks(shapes: dict[str, cases.Shapes]) -> list[dict[str, Any]]:
    """Which wrong versions pass: NPBench's rule on its inputs, and ours."""
    rows = []
    for name, mistakes in wrong_versions().items():
        data = {kind: draw(shapes[name]) for kind, draw in INPUTS.items()}
        exact = {kind: reference(name, arrays) for kind, arrays in data.items()}
        theirs = cases.CASES[name].function(*data["uniform"].values())
        for mistake, wrong in mistakes.items():
            with np.errstate(all="ignore"):
                found = {kind: wrong(*arrays.values()) for kind, arrays in data.items()}
            ours = all(relative_error(found[kind], exact[kind]) <= TOLERANCE for kind in INPUTS)
            rule = accepts([theirs], [found["uniform"]])
            rows.append({"case": name, "mistake": mistake, "rule": rule, "ours": ours})
    return rows


FOOTNOTE = """What is written into an argument, as by conv2d_bias and mlp since NPBench's commit 2a065ab,
it does not compare: its harness reads "out_args" where the files say "output_args", and finds two empty lists equal."""


# --- The command ----------------------------------------------------------------------------------------


def main(arguments: list[str] | None = None, shapes: dict[str, cases.Shapes] | None = None) -> int:
    """Run the command; `shapes` are other ones than those of ``--size``. Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=cases.SIZES, default="S", help="of all cases (S)")
    parser.add_argument("--case", choices=tuple(cases.CASES), nargs="+", help="only these")
    parser.add_argument("--repeat", type=int, default=10, metavar="N", help="samples of each version (10)")
    parser.add_argument("--peer-python", metavar="PYTHON", help="interpreter that has JAX (this one)")
    parser.add_argument(
        "--checks", action="store_true", help="show which wrong versions NPBench's verification accepts"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    args = parser.parse_args(arguments)
    chosen = (
        {name: case.shapes(*case.sizes[args.size]) for name, case in cases.CASES.items()} if shapes is None else shapes
    )
    try:
        if args.repeat < 1:
            raise OptionError(f"--repeat must be at least 1, not {args.repeat}")
        if args.checks:
            result: dict[str, Any] = {"size": args.size, "checks": checks(chosen)}
            shown = [_checks_table(result["checks"])]
        else:
            facts = {"environment": environment_facts(), "threads": get_threads(), "size": args.size}
            numba.set_num_threads(min(get_threads(), numba.config.NUMBA_NUM_THREADS))
            with _jax(args.peer_python) as peer:
                found = {n: run(n, chosen[n], peer, args.repeat) for n in args.case or cases.CASES}
            result = {**facts, "cases": found}
            shown = list(_tables(result))
    except SiameseError as failure:
        if args.json:
            print(json.dumps({"error": str(failure)}))
        else:
            print(f"npbench: {failure}", file=sys.stderr)
        return 2
    print(json.dumps(result) if args.json else "\n\n".join(shown))
    return int(any("failed" in found["versions"][OURS] for found in result.get("cases", {}).values()))


@contextlib.contextmanager
def _jax(python: str | None) -> Iterator[Any]:
    with load_peers().operations("npbench_jax", "jax", ["jit"], [python] if python else [], get_threads()) as peers:
        if peers:
            os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH")]))
        else:
            print("no JAX; --peer-python names an interpreter that has it", file=sys.stderr)
        yield peers.get("jit")


def _tables(result: dict[str, Any]) -> Iterator[str]:
    yield f"NPBench's cases, size {result['size']}, {threads_text(result['threads'])}, on {machine(result)}"
    heads = ["version", "median ms", "95 % interval", "GFLOP/s", "times siamese_np", "first call, s", "error"]
    for name, found in result["cases"].items():
        rows, failed = [], []
        for title, row in found["versions"].items():
            if "failed" in row:
                failed.append(f"{title}: {row['failed']}.")
                continue
            median, low, high = (1e3 * row["timing"][figure] for figure in ("median", "low", "high"))
            shown = [f"{median:.3f}", f"{low:.3f} to {high:.3f}", f"{found['flops'] / median / 1e6:.3g}"]
            ratio = f"{row['ratio']:.2f}" if "ratio" in row else "-"
            rows.append([title, *shown, ratio, f"{row['first_call_seconds']:.2f}", f"{row['error']:.0e}"])
        yield "\n".join([*markdown(Table(name, heads, rows)), *failed])


def _checks_table(rows: list[dict[str, Any]]) -> str:
    said = {True: "accepted", False: "found"}
    shown = [[f"{row['case']}, {row['mistake']}", said[row["rule"]], said[row["ours"]]] for row in rows]
    heads = ["wrong version", "NPBench, on returned values", "here"]
    return "\n".join([*markdown(Table("Wrong versions", heads, shown)), "", FOOTNOTE])


if __name__ == "__main__":
    sys.exit(main())
