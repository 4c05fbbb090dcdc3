"""Limits: forward calls are bounded, predicted, counted, and no longer made once time is up.

An entry costs 4 calls where the function is smooth, and up to 96 where it is not. An array may take 16,000 calls for
its entries, in a case of up to 4,000 numbers (arrays and output). Each call of a larger case takes longer, so there are
fewer of them in proportion: no size is much dearer than the next. Where calls do not suffice for all entries, a random
sample is checked, of at least 32, and 8 directions through all of them.

Calls are counted, seconds are not: the same seed checks the same entries on any machine, unless there is a time limit.
"""

import dataclasses
import math
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from siamese_np.gradcheck.case import Array, Arrays, Case
from siamese_np.gradcheck.differences import QUICK, SWEEP

CALLS, NUMBERS = 16_000, 4_000  # an array's entries may take so many calls, in a case of so many numbers
MIN_ENTRIES, DIRECTIONS = 32, 8  # at least, of an array of which only a sample is checked
PER_ENTRY, PER_DIRECTION = 2 * len(QUICK), 2 * len(SWEEP)
MAX_PER_ENTRY = PER_ENTRY + 2 * PER_DIRECTION  # an entry that the quick steps leave in doubt, and that is small
ONCE, PER_ARRAY = 54 + 4 * PER_DIRECTION, 12  # rounding, structure, directions through all arrays; adjoint identity
SHOWN = 2.0  # seconds: a shorter check shows no progress
INTERRUPTED, TIME_UP = "interrupted", "time is up"


class Stopped(BaseException):
    """No further call is made. Like KeyboardInterrupt, it passes through what catches mistakes of a pass."""


class Sample(NamedTuple):
    """How many entries of an array are checked one by one, and how many calls they may take."""

    entries: int
    calls: float


class Expected(NamedTuple):
    """What a check takes: forward calls if the function is smooth, calls at most, and seconds for `calls` of them."""

    calls: int
    most: int
    seconds: float

    def __str__(self) -> str:
        return f"about {self.calls:,} forward calls, at most {self.most:,}; about {self.seconds:.2g} s"


def sample(case: Case, name: str, outputs: int, entries: int | None, limit: float = math.inf) -> Sample:
    """How much of the array `name` to check: `entries` of it if given, in no more than `limit` calls."""
    size = case.arrays[name].size
    numbers = outputs + sum(array.size for array in case.arrays.values())
    calls = CALLS / max(1.0, numbers / NUMBERS) if entries is None else float(MAX_PER_ENTRY * entries)
    calls = min(calls, limit)
    # a sample must save more than its directions cost
    if size <= (entries or MIN_ENTRIES) or (
        entries is None and PER_ENTRY * size <= calls + PER_DIRECTION * (DIRECTIONS - 1)
    ):
        return Sample(size, calls)
    most = int(calls / PER_ENTRY)
    return Sample(min(size, max(MIN_ENTRIES, most) if entries is None else max(1, min(entries, most))), calls)


def expected(case: Case, outputs: int, entries: int | None, seconds: float) -> Expected:
    """What the check of `case` takes, whose forward takes so many `seconds`."""
    calls, most = ONCE, ONCE + 70 * PER_DIRECTION  # ties and kinks
    for name, array in case.arrays.items():
        if array.size:
            planned = sample(case, name, outputs, entries)
            directions = 1 if planned.entries == array.size else DIRECTIONS
            calls += PER_ARRAY + PER_DIRECTION * directions + PER_ENTRY * planned.entries
            each = MAX_PER_ENTRY * min(planned.entries, MIN_ENTRIES) + 2 * planned.calls
            through_all = PER_DIRECTION * (DIRECTIONS + math.ceil(math.log2(array.size) + 2))  # and halves of them
            hints = 1_000 * len(case.arrays)
            most += math.ceil(PER_ARRAY + through_all + each + hints)
    return Expected(calls, most, calls * seconds)


class Meter:
    """Counts the forward calls of the cases of a report, shows how far it is, and ends it when time is up."""

    def __init__(self, entries: int | None, seconds: float | None, progress: bool, cases: int = 1) -> None:
        self.entries, self.progress = entries, progress
        self.start = time.perf_counter()
        self.deadline = math.inf if seconds is None else self.start + seconds
        self.calls, self.last = 0, 0.0  # so far; seconds that the last call took
        self.cases = cases  # the current one, and those to come
        self.stopped = ""  # why no further call is made
        self._case = (0, self.start)  # calls and time when the current case began
        self._bar: Any = None

    def counted(self, case: Case) -> Case:
        """`case` with a forward that is counted, and refused once time is up."""
        forward = case.forward
        self._case = (self.calls, time.perf_counter())

        def count(arrays: Arrays) -> tuple[Any, Any]:
            before = time.perf_counter()
            if self.stopped or before >= self.deadline:
                raise Stopped
            self.calls += 1
            try:
                return forward(arrays)
            finally:
                self.last = time.perf_counter() - before
                if self._bar is not None:
                    self._bar.update()

        return dataclasses.replace(case, forward=count)

    def reached(self, stage: Callable[[], object]) -> bool:
        """Run a stage of a check; False where Ctrl-C or the time limit ended it, from when on no call is made."""
        try:
            stage()
        except (Stopped, KeyboardInterrupt) as error:
            self.stopped = self.stopped or (INTERRUPTED if isinstance(error, KeyboardInterrupt) else TIME_UP)
            return False
        return True

    def sample(self, case: Case, name: str, out: Array) -> Sample:
        """How much of the array `name` to check, in its share of the time left."""
        limit = math.inf
        if self.deadline < math.inf:
            now = time.perf_counter()
            per_call = (now - self._case[1]) / max(1, self.calls - self._case[0])
            to_come = list(case.arrays)[list(case.arrays).index(name) :]
            calls = (self.deadline - now) / self.cases / per_call
            calls -= ONCE + PER_ARRAY * len(case.arrays) + PER_DIRECTION * DIRECTIONS * len(to_come)
            limit = max(0.0, calls) * case.arrays[name].size / sum(case.arrays[other].size for other in to_come)
        return sample(case, name, out.size, self.entries, limit)

    def show(self, case: Case, out: Array) -> None:
        """Say what is to come, if asked for and if it takes longer than a moment: as a bar, or in a sentence."""
        if not self.progress:
            return
        coming = expected(case, out.size, self.entries, self.last)
        if self._bar is None and coming.seconds * self.cases <= SHOWN:
            return
        total = self.calls + coming.calls * self.cases
        if self._bar is not None:
            self._bar.total = total
        else:
            try:
                from tqdm import tqdm
            except ImportError:
                self.progress = False
                print(f"{case.name}: {coming}", file=sys.stderr, flush=True)
                return
            self._bar = tqdm(total=total, initial=self.calls, unit=" calls", file=sys.stderr, leave=False)
        self._bar.set_description(case.name)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
