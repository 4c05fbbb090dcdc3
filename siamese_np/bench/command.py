"""What ``siamese-np bench`` and ``siamese-np bench compare`` do; both return the exit status."""

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from siamese_np._process import printed
from siamese_np.bench import compare as comparison
from siamese_np.errors import OptionError

Tell = Callable[[argparse.Namespace, dict[str, Any], str], None]  # prints a result, as JSON or as text


def run(args: argparse.Namespace, tell: Tell) -> int:
    """Run the suite, print its tables or JSON, write its files."""
    import numba

    from siamese_np.bench import op, report, suite
    from siamese_np.ladder.rung import load_rungs
    from siamese_np.runtime.scheduler import get_threads

    if numba.config.DISABLE_JIT:
        raise OptionError("the benchmark times compiled kernels: unset NUMBA_DISABLE_JIT")
    # what is wrong with the options ends the run here, not after minutes
    if (threads := get_threads()) > (most := os.cpu_count() or threads):
        raise OptionError(f"the benchmark takes at most as many threads as there are processors, {most}, not {threads}")
    if args.op is None and any((args.shape, args.kernel, args.stride, args.pad)):
        raise OptionError("--shape, --kernel, --stride and --pad are of an operation, which --op names")
    layers = None if args.op is None else op.parse(args.op, args.shape, args.kernel, args.stride, args.pad)
    if layers and len(layers) == 1:
        op.check_memory(layers[0])
    # whoever brings a shape, or a kernel, wants to see that
    only = args.only or [*(["ladder"] if args.rung else []), *(["op"] if layers else [])] or None
    wanted: dict[str, Any] = {"rung": (args.rung, ("ladder",)), "op": (layers, ("op",))}
    wanted["peer-python"] = args.peer_python, suite.WITH_PEERS
    for option, (given, sections) in wanted.items():
        if given and only and not set(only) & set(sections):
            plural = "s" * (len(sections) > 1)
            raise OptionError(f"--{option} is for the section{plural} {', '.join(sections)}; --only names what is run")
    if args.peer_python or "peers" in (args.only or ()):
        peers = suite.load_peers()
        for python in args.peer_python:
            peers.installed(python)
    user_file = Path(args.rung) if args.rung else None
    if user_file is not None:
        load_rungs(user_file)
    folder = Path(args.out) if args.out else None
    if folder is not None:
        report.check_folder(folder, args.overwrite)
    start = time.perf_counter()

    def log(line: str) -> None:
        print(f"[{time.perf_counter() - start:5.0f} s] {printed(line)}", file=sys.stderr, flush=True)

    sizes = suite.QUICK if args.quick else suite.FULL
    results = suite.run(sizes, threads, only, args.peer_python, user_file, log, layers)
    if folder is not None:
        report.write(folder, results)
        log(f"written: {folder / 'benchmark.json'}, benchmark.md and the pictures")
    tell(args, results, report.text(results))
    if results["failed"]:
        raise OptionError("; ".join(results["failed"].values()))
    # this package is checked like its peers, against itself in float64
    ours = results.get("peers", {}).get("peers", {}).get("siamese_np", {})
    return 0 if ours.get("status", "present") == "present" else 1


def compare(args: argparse.Namespace, tell: Tell) -> int:
    """Compare two result files; 1 if anything is slower."""
    limit = comparison.parse_limit(args.fail_over)
    old, new = (comparison.read_results(Path(path)) for path in (args.old, args.new))
    rows = comparison.compare(old, new, limit)
    slower = sum(row.verdict == "slower" for row in rows)
    vanished, added = comparison.unmatched(old, new)
    told = {"limit": limit, "slower": slower, "timings": [row._asdict() for row in rows]}
    told.update(vanished=vanished, new=added, differences=comparison.differences(old, new))
    tell(args, told, comparison.text(rows, old, new, limit))
    return 1 if slower else 0
