"""Whether the machine is idle: what other processes take of the processors before a run, and after it.

A run that begins on a busy machine is not refused: it says so, and its results carry it.
"""

import os
import time
from pathlib import Path
from typing import Any

from siamese_np.bench.sampling import Log

LIMIT = 0.05  # share of all processors from which on the machine counts as busy
SECONDS, TRIES = 1.0, 5  # of one sample, and how many a run waits for the machine to become idle
IDLE_FIELDS = (3, 4)  # of a line of /proc/stat: idle, and waiting for a disk
GUEST_FIELDS = 8  # the time of guests, from here on, is counted in other fields too


def wait_until_idle(log: Log) -> dict[str, Any]:
    """Wait a few seconds for an idle machine; ``"others"``, the share that others took then, and ``"busy"``."""
    for _ in range(TRIES):
        found = others()
        if not found["busy"]:
            return found
    log(f"{sentence(found['others'])}: the results are marked as busy")
    return found


def others(ran: bool = False) -> dict[str, Any]:
    """The share of all processors that others took during a second in which this process slept.

    Without Linux' /proc/stat it is the load average of the last minute a processor; None where there is neither, and
    once a benchmark `ran`, whose own load that would be.
    """
    before = _processor_times()
    time.sleep(SECONDS)
    after, share = _processor_times(), None
    if before is not None and after is not None:
        passed = [new - old for old, new in zip(before, after, strict=True)]
        share = 1 - sum(passed[field] for field in IDLE_FIELDS) / max(1, sum(passed))
    elif before is None and not ran and hasattr(os, "getloadavg"):  # not on Windows
        share = os.getloadavg()[0] / (os.cpu_count() or 1)
    return {"others": share, "busy": share is not None and share > LIMIT}


def sentence(share: float) -> str:
    """What is said of a busy machine."""
    return f"other processes took {100 * share:.0f} % of the processors (idle is at most {100 * LIMIT:.0f} %)"


def _processor_times() -> list[int] | None:
    """Ticks of all processors together, by what they did since the system began."""
    try:
        first = Path("/proc/stat").read_text().splitlines()[0]
        return [int(ticks) for ticks in first.split()[1 : 1 + GUEST_FIELDS]]
    except (OSError, ValueError, IndexError):
        return None
