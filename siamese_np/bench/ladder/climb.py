"""Verify every rung, then time all rungs of an operation together."""

import time
from collections.abc import Callable, Sequence
from typing import Any

from siamese_np import _threads
from siamese_np.bench.ladder.assembly import multiply_adds, widest
from siamese_np.bench.ladder.operations import OPERATIONS, Problem, Work, check, truth
from siamese_np.bench.ladder.rung import Rung
from siamese_np.bench.sampling import measure, timed
from siamese_np.errors import OptionError


def climb(
    rungs: Sequence[Rung],
    problem: Problem,
    small: Problem,
    threads: Sequence[int],
    repetitions: int = 9,
    seconds: float = 0.02,
    say: Callable[[str], None] = lambda line: None,
) -> list[dict[str, Any]]:
    """Time `rungs` on `problem` (slow ones on `small`), with each of `threads` numbers of threads.

    Returns
    -------
    list of dict
        One entry for each rung that is right, with ``"compile_seconds"``, ``"error"``, ``"multiply_adds"`` and,
        for each number of threads, the timing.

    Raises
    ------
    OptionError
        A rung computes something else than the reference; the sentence says which and how far off it is.
    """
    entries = []
    for operation in OPERATIONS:
        of_operation = [rung for rung in rungs if rung.operation == operation]
        if not of_operation:
            continue
        say(f"ladder: {OPERATIONS[operation].title}")
        rights = {id(p): truth(operation, p) for p in (problem, small)}
        works = {}
        for rung in of_operation:
            entry = _verify(rung, problem, small, rights)
            entries.append(entry)
            works[rung.name] = (rung, entry)
        for count in threads:
            _threads.set_threads(count)
            calls = {
                name: Work(operation, rung.function, small if rung.small else problem, count, rung.shares)
                for name, (rung, _) in works.items()
                if not rung.small or count == 1
            }
            timings = measure({name: timed(call) for name, call in calls.items()}, repetitions, seconds)
            for name, timing in timings.items():
                works[name][1]["timings"][str(count)] = timing.as_dict()
    return entries


def _verify(rung: Rung, problem: Problem, small: Problem, rights: dict[int, Any]) -> dict[str, Any]:
    start = time.perf_counter()
    wrong, error = check(rung.operation, rung.function, small, rights[id(small)])
    first = time.perf_counter() - start
    if not wrong and not rung.small:
        wrong, error = check(rung.operation, rung.function, problem, rights[id(problem)])
    if wrong:
        raise OptionError(f"the rung {rung.name!r} of {rung.operation} is refused: {wrong}")
    timed_problem = small if rung.small else problem
    operation = OPERATIONS[rung.operation]
    flops = operation.flops(timed_problem)
    counts = multiply_adds(rung.code or rung.function)
    return {
        "operation": rung.operation,
        "rung": rung.name,
        "own": rung.own,
        "images": len(timed_problem.x),
        "shape": list(timed_problem.x.shape),
        "error": error,
        "first_call_seconds": first,
        "flops": flops,
        "executed_flops": rung.executed(timed_problem) if rung.executed else flops,
        "bytes": operation.bytes(timed_problem) + (rung.scratch(timed_problem) if rung.scratch else 0),
        "multiply_adds": counts,
        "vector_bits": widest(counts),
        "timings": {},
    }


def rate(entry: dict[str, Any], threads: int, flops: str = "flops") -> float:
    """GFLOP/s of an entry of `climb`: dense-equivalent, or with ``"executed_flops"`` those really done."""
    return float(entry[flops]) / float(entry["timings"][str(threads)]["median"]) / 1e9
