"""How anything is timed: enough calls a sample, samples of all candidates in random order, robust statistics.

A machine has slow minutes. A candidate that is measured in one of them alone looks slow, so every round times
all candidates once, in a new random order. Ratios of medians within one run are what can be relied on.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

Run = Callable[[int], float]  # given a number of calls, makes them and returns the seconds they took
Log = Callable[[str], None]

CONFIDENCE = 0.95
RESAMPLES = 2000
# Before a sample, of peers too: a pause, in which threads of the candidate measured before may still spin, and then a
# call, or calls for so long, since others have used the caches meanwhile.
SETTLE_SECONDS, WAKE_SECONDS = 0.05, 0.1


class Timing(NamedTuple):
    """Seconds of one call, from the samples of one candidate."""

    median: float
    low: float  # 95 % bootstrap confidence interval of the median
    high: float
    calls: int  # in one sample
    samples: list[float]  # in the order they were taken

    @classmethod
    def of(cls, samples: list[float], calls: int = 1) -> "Timing":
        """The statistics of `samples`."""
        return cls(float(np.median(samples)), *bootstrap(np.array(samples)), calls, samples)


def bootstrap(values: np.ndarray) -> tuple[float, float]:
    """95 % confidence interval of the median of `values`, by the percentile bootstrap (Efron 1979).

    The resamples are drawn with a fixed seed: the same values always give the same interval.
    """
    return _middle(_medians(np.random.default_rng(0), values))


def ratio_interval(values: np.ndarray, base: np.ndarray) -> tuple[float, float]:
    """As `bootstrap`, of the median of `values` over the median of `base`."""
    rng = np.random.default_rng(0)
    return _middle(_medians(rng, values) / _medians(rng, base))


def _medians(rng: np.random.Generator, values: np.ndarray) -> np.ndarray:
    return np.median(rng.choice(values, (RESAMPLES, len(values))), axis=1)


def _middle(values: np.ndarray) -> tuple[float, float]:
    low, high = np.percentile(values, [50 - 50 * CONFIDENCE, 50 + 50 * CONFIDENCE])
    return float(low), float(high)


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference, as a share of the largest entry; infinite for another shape, or where any is NaN."""
    if found.shape != expected.shape:
        return float("inf")
    off = float(abs(found - expected).max() / (abs(expected).max() or 1.0))
    return off if off == off else float("inf")


def timed(function: Callable[[], Any]) -> Run:
    """`function` as something to measure."""

    def run(calls: int) -> float:
        start = time.perf_counter()
        for _ in range(calls):
            function()
        return time.perf_counter() - start

    return run


def settled(function: Callable[[], Any]) -> Run:
    """`function` as something to measure beside others that have threads of their own."""
    run = timed(function)

    def after_a_pause(calls: int) -> float:
        time.sleep(SETTLE_SECONDS)
        start = time.perf_counter()
        function()
        while time.perf_counter() - start < WAKE_SECONDS:
            function()
        return run(calls)

    return after_a_pause


def calibrate(run: Run, seconds: float) -> int:
    """Calls after which `run` takes at least `seconds`; makes (and warms up) a few on the way."""
    run(1)
    calls = 1
    while (took := run(calls)) < seconds:
        calls = max(calls + 1, min(10 * calls, int(1.2 * calls * seconds / max(took, 1e-9))))
    return calls


def measure(runs: Mapping[Any, Run], repetitions: int, seconds: float, seed: int = 0) -> dict[Any, Timing]:
    """Time all of `runs`, each `repetitions` times for at least `seconds`, interleaved at random."""
    rng = np.random.default_rng(seed)
    calls = {name: calibrate(run, seconds) for name, run in runs.items()}
    samples: dict[Any, list[float]] = {name: [] for name in runs}
    names = list(runs)
    for _ in range(repetitions):
        for number in rng.permutation(len(names)):
            name = names[number]
            samples[name].append(runs[name](calls[name]) / calls[name])
    return {name: Timing.of(samples[name], calls[name]) for name in names}
