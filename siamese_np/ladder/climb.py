"""Verify every rung, then time all rungs of an operation together, then verify them once more."""

import time
from collections.abc import Callable, Sequence
from typing import Any

from siamese_np.bench.sampling import measure, timed
from siamese_np.ladder.operations import OPERATIONS, Problem, Work, check, expected, refusal
from siamese_np.ladder.rung import Rung, error_text
from siamese_np.runtime import scheduler

Place = tuple[Problem, dict[str, Any]]  # a problem and what must come out


def climb(
    rungs: Sequence[Rung],
    problem: Problem,
    small: Problem,
    threads: Sequence[int],
    repetitions: int = 9,
    seconds: float = 0.02,
    log: Callable[[str], None] = lambda line: None,
) -> list[dict[str, Any]]:
    """Time `rungs` on `problem`, slow ones on `small`; those that share their work with each of `threads` threads.

    Each gets an entry with its error, operations and bytes, and for each number of threads the timing.

    Raises
    ------
    OptionError
        A rung fails, or computes something else than the reference, with any number of threads, before or after
        it was timed; the sentence says which and how far off it is.
    """
    entries: list[dict[str, Any]] = []
    for operation, details in OPERATIONS.items():
        chosen = {rung.name: rung for rung in rungs if rung.operation == operation}
        if not chosen:
            continue
        log(f"ladder: {details.title}")
        on_small, on_problem = ((p, expected(operation, p)) for p in (small, problem))
        places = {name: on_small if rung.small else on_problem for name, rung in chosen.items()}
        found = {name: _verified(rung, on_small, places[name]) for name, rung in chosen.items()}
        for count in threads:
            scheduler.set_threads(count)
            used = {name: rung for name, rung in chosen.items() if rung.shares or count == 1}
            runs = {name: timed(Work(rung, places[name][0])) for name, rung in used.items()}
            for name, timing in measure(runs, repetitions, seconds).items():
                check(used[name], *places[name])
                found[name]["timings"][str(count)] = timing._asdict()
        entries += found.values()
    return entries


def _verified(rung: Rung, small: Place, place: Place) -> dict[str, Any]:
    """Check `rung` on the small problem, where it is compiled, and on its own: the entry, still without timings."""
    start = time.perf_counter()
    check(rung, *small)
    first_call_seconds = time.perf_counter() - start
    error, problem, operation = check(rung, *place), place[0], OPERATIONS[rung.operation]
    flops = operation.flops(problem)
    try:
        executed = float(rung.executed(problem)) if rung.executed else flops
        scratch = float(rung.scratch(problem)) if rung.scratch else 0.0
    except Exception as failure:
        raise refusal(rung, f"of its `executed` or `scratch`, it raises {error_text(failure)}") from failure
    return {
        "operation": rung.operation,
        "rung": rung.name,
        "own": rung.user,
        "images": len(problem.x),
        "shape": list(problem.x.shape),
        "error": error,
        "first_call_seconds": first_call_seconds,
        "flops": flops,
        "executed_flops": executed,
        "bytes": operation.bytes(problem) + scratch,
        "timings": {},
    }


def rate(entry: dict[str, Any], threads: int, flops: str = "flops") -> float:
    """GFLOP/s of an entry of `climb`: dense-equivalent, or with ``"executed_flops"`` those really done."""
    return float(entry[flops]) / float(entry["timings"][str(threads)]["median"]) / 1e9
