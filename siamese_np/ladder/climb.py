"""Verify every rung, then time all rungs of an operation together."""

import time
from collections.abc import Callable, Sequence
from typing import Any

from siamese_np.bench.sampling import measure, timed
from siamese_np.errors import OptionError
from siamese_np.ladder.assembly import multiply_adds, widest
from siamese_np.ladder.operations import OPERATIONS, Problem, Work, check, failure, truth
from siamese_np.ladder.rung import Rung
from siamese_np.runtime import scheduler


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
        A rung fails, or computes something else than the reference, with any of the numbers of threads, before or
        after it was timed; the sentence says which and how far off it is.
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
            scheduler.set_threads(count)
            used = {
                name: small if rung.small else problem
                for name, (rung, _) in works.items()
                if not rung.small or count == 1
            }
            calls = {name: timed(_call(works[name][0], its, count)) for name, its in used.items()}
            timings = measure(calls, repetitions, seconds)
            for name, its in used.items():
                rung, entry = works[name]
                wrong, _ = check(operation, rung.function, its, rights[id(its)], count, rung.shares)
                if wrong:
                    raise _refusal(rung, wrong)
                entry["timings"][str(count)] = timings[name].as_dict()
    return entries


def _call(rung: Rung, problem: Problem, threads: int) -> Callable[[], None]:
    """The rung at work; what it raises becomes a refusal."""
    work = Work(rung.operation, rung.function, problem, threads, rung.shares)

    def call() -> None:
        try:
            work()
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise _refusal(rung, failure(error)) from error

    return call


def _refusal(rung: Rung, wrong: str) -> OptionError:
    return OptionError(f"the rung {rung.name!r} of {rung.operation} is refused: {wrong}")


def _verify(rung: Rung, problem: Problem, small: Problem, rights: dict[int, Any]) -> dict[str, Any]:
    start = time.perf_counter()
    wrong, error = check(rung.operation, rung.function, small, rights[id(small)])
    first = time.perf_counter() - start
    if not wrong and not rung.small:
        wrong, error = check(rung.operation, rung.function, problem, rights[id(problem)])
    if wrong:
        raise _refusal(rung, wrong)
    timed_problem = small if rung.small else problem
    operation = OPERATIONS[rung.operation]
    flops = operation.flops(timed_problem)
    counts = multiply_adds(rung.code or rung.function)
    try:
        executed = float(rung.executed(timed_problem)) if rung.executed else flops
        scratch = float(rung.scratch(timed_problem)) if rung.scratch else 0.0
    except Exception as error:
        raise _refusal(rung, f"of its `executed` or `scratch`, {failure(error)}") from error
    return {
        "operation": rung.operation,
        "rung": rung.name,
        "own": rung.own,
        "images": len(timed_problem.x),
        "shape": list(timed_problem.x.shape),
        "error": error,
        "first_call_seconds": first,
        "flops": flops,
        "executed_flops": executed,
        "bytes": operation.bytes(timed_problem) + scratch,
        "multiply_adds": counts,
        "vector_bits": widest(counts),
        "timings": {},
    }


def rate(entry: dict[str, Any], threads: int, flops: str = "flops") -> float:
    """GFLOP/s of an entry of `climb`: dense-equivalent, or with ``"executed_flops"`` those really done."""
    return float(entry[flops]) / float(entry["timings"][str(threads)]["median"]) / 1e9
