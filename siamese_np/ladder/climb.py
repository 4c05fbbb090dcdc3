"""Verify every rung, then time all rungs of an operation together."""

import time
from collections.abc import Callable, Sequence
from typing import Any

from siamese_np.bench.sampling import measure, timed
from siamese_np.errors import OptionError
from siamese_np.ladder.operations import OPERATIONS, Problem, Work, check, expected
from siamese_np.ladder.rung import Rung, error_text
from siamese_np.runtime import scheduler


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

    Returns
    -------
    list of dict
        One entry for each rung: ``"error"``, operations and bytes, ``"first_call_seconds"`` and, for each number of
        threads, the timing.

    Raises
    ------
    OptionError
        A rung fails, or computes something else than the reference, with any number of threads, before or after
        it was timed; the sentence says which and how far off it is.
    """
    entries: list[dict[str, Any]] = []
    for operation, details in OPERATIONS.items():
        chosen = [rung for rung in rungs if rung.operation == operation]
        if not chosen:
            continue
        log(f"ladder: {details.title}")
        on_small, on_problem = ((p, expected(operation, p)) for p in (small, problem))
        places = {rung.name: on_small if rung.small else on_problem for rung in chosen}
        described = {rung.name: _verified(rung, on_small, places[rung.name]) for rung in chosen}
        for count in threads:
            scheduler.set_threads(count)
            used = [rung for rung in chosen if rung.shares or count == 1]
            calls = {rung.name: timed(_call(rung, places[rung.name][0])) for rung in used}
            timings = measure(calls, repetitions, seconds)
            for rung in used:
                _check(rung, places[rung.name])
                described[rung.name]["timings"][str(count)] = timings[rung.name]._asdict()
        entries += described.values()
    return entries


def _call(rung: Rung, problem: Problem) -> Callable[[], None]:
    """The rung at work; what it raises becomes a refusal."""
    work = Work(rung.operation, rung.function, problem)

    def call() -> None:
        try:
            work()
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise _refusal(rung, f"it raises {error_text(error)}") from error

    return call


def _check(rung: Rung, place: tuple[Problem, Any]) -> float:
    """The rung's error; a refusal where it is too large."""
    wrong, error = check(rung.operation, rung.function, *place)
    if wrong:
        raise _refusal(rung, wrong)
    return error


def _refusal(rung: Rung, wrong: str) -> OptionError:
    return OptionError(f"the rung {rung.name!r} of {rung.operation} is refused: {wrong}")


def _verified(rung: Rung, small: tuple[Problem, Any], place: tuple[Problem, Any]) -> dict[str, Any]:
    """Check `rung` on the small problem, where it is compiled, and on its own: the entry, still without timings."""
    start = time.perf_counter()
    _check(rung, small)
    first_call_seconds = time.perf_counter() - start
    error, problem, operation = _check(rung, place), place[0], OPERATIONS[rung.operation]
    flops = operation.flops(problem)
    try:
        executed = float(rung.executed(problem)) if rung.executed else flops
        scratch = float(rung.scratch(problem)) if rung.scratch else 0.0
    except Exception as failure:
        raise _refusal(rung, f"of its `executed` or `scratch`, it raises {error_text(failure)}") from failure
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
