"""What ends a check on the command line whose forward or backward hangs: the check looks at the time between calls."""

import contextlib
import json
import os
import sys
import threading
from collections.abc import Iterator

GRACE = 10.0  # seconds by which a check may be late before it counts as hanging
EXIT = 3  # as for INCONCLUSIVE


@contextlib.contextmanager
def no_longer_than(seconds: float | None, name: str, as_json: bool) -> Iterator[None]:
    """End the process with one sentence if what is done within takes far longer than `seconds`."""
    if seconds is None or not 0 < seconds < 1e6:  # what is no time is told by the check
        yield
        return
    out = sys.stdout  # which the check redirects

    def end() -> None:
        sentence = f"a call of {name} did not return: --seconds {seconds:g} are long over"
        with contextlib.suppress(OSError):
            if as_json:
                print(json.dumps({"verdict": "INCONCLUSIVE", "error": sentence}), file=out, flush=True)
        print(f"siamese-np: {sentence}", file=sys.stderr, flush=True)
        os._exit(EXIT)

    timer = threading.Timer(2 * seconds + GRACE, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
