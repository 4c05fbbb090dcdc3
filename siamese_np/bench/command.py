"""What ``siamese-np bench`` and ``siamese-np bench compare`` do; both return the exit status."""

import argparse
import json
import shlex
import sys
import time
from pathlib import Path
from typing import Any

from siamese_np.bench.compare import compare as compare_results
from siamese_np.bench.compare import parse_limit, text
from siamese_np.bench.results import read_results
from siamese_np.errors import OptionError


def run(args: argparse.Namespace) -> int:
    """Run the suite, print its tables or JSON, write its files."""
    import numba

    from siamese_np.bench import report, suite
    from siamese_np.bench.peers import installed
    from siamese_np.ladder.rung import load_rungs
    from siamese_np.runtime.scheduler import get_threads

    if numba.config.DISABLE_JIT:
        raise OptionError("the benchmark times compiled kernels: unset NUMBA_DISABLE_JIT")
    for option in ("rung", "peer_python", "out"):
        if getattr(args, option) == "":
            raise OptionError(f"--{option.replace('_', '-')} needs a path, not an empty word")
    own = Path(args.rung) if args.rung else None
    if args.peer_python and not any(name == "peers" for name in args.only or suite.SECTIONS):
        raise OptionError("--peer-python is for the section peers, which --only leaves out")
    # what is wrong with these ends the run here, not after the sections before
    if args.peer_python:
        installed(args.peer_python)
    if own is not None:
        load_rungs(own)
    folder = Path(args.out) if args.out else None
    if folder is not None:
        report.check_folder(folder)
    start = time.perf_counter()

    def say(line: str) -> None:
        print(f"[{time.perf_counter() - start:5.0f} s] {line}", file=sys.stderr, flush=True)

    # a person who brings a kernel wants to see it on the ladder
    only = args.only or (["ladder"] if own else suite.SECTIONS)
    sizes = suite.QUICK if args.quick else suite.FULL
    results = suite.run(sizes, get_threads(), only, args.peer_python, own, say)
    if folder is not None:
        report.write(folder, results, _command(args))
        say(f"written: {folder / 'benchmark.json'}, benchmark.md and the pictures")
    print(json.dumps(results) if args.json else report.text(results))
    if results["failed"]:
        raise OptionError("; ".join(results["failed"].values()))
    # beside its peers this package is checked like them, against itself in float64
    ours = results.get("peers", {}).get("peers", {}).get("siamese_np", {})
    return 0 if ours.get("status", "present") == "present" else 1


def compare(args: argparse.Namespace) -> int:
    """Compare two result files; 1 if anything became slower."""
    limit = parse_limit(args.fail_over)
    old, new = (read_results(Path(path)) for path in (args.old, args.new))
    rows = compare_results(old, new, limit)
    slower = [row for row in rows if row.verdict == "slower"]
    if args.json:
        print(json.dumps({"limit": limit, "slower": len(slower), "timings": [row._asdict() for row in rows]}))
    else:
        print(text(rows, old, new, limit))
    return 1 if slower else 0


def _command(args: argparse.Namespace) -> str:
    """The command line again, without what belongs to one machine."""
    words: list[Any] = ["siamese-np", "bench"]
    words += ["--quick"] if args.quick else []
    words += ["--only", *args.only] if args.only else []
    words += ["--threads", args.threads] if args.threads else []
    words += ["--rung", Path(args.rung).name] if args.rung else []
    words += ["--peer-python", "PYTHON"] if args.peer_python else []
    words += ["--out", Path(args.out).name if Path(args.out).is_absolute() else args.out]
    return shlex.join(str(word) for word in words)
