"""The three clocks of compiled code: cold (everything is compiled), cached (loaded from disk), steady (just runs).

Each is taken on whole processes: the first has an empty folder for compiled kernels, the others the folder it leaves.
``python -m siamese_np.bench.clocks PRESET SECONDS`` is one; SECONDS is `time.time()` just before it was started.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any


def clocks(presets: Sequence[str], repetitions: int) -> dict[str, Any]:
    """Seconds from process start to the first training steps, by preset: ``"cold"``, and ``"cached"`` (a median).

    ``"compile_seconds"`` is the first cold step less the second.
    """
    result: dict[str, Any] = {}
    for preset in presets:
        with tempfile.TemporaryDirectory() as folder:
            cold, *cached = (_process(preset, folder) for _ in range(1 + repetitions))
        steps = 2 * cold["first_step"] - cold["second_step"]
        middle = {name: statistics.median(moments[name] for moments in cached) for name in cold}
        result[preset] = {"cold": cold, "cached": middle, "compile_seconds": steps - cold["imports"]}
    return result


def _process(preset: str, folder: str) -> Any:
    command = [sys.executable, "-m", "siamese_np.bench.clocks", preset, repr(time.time())]
    environment = {**os.environ, "NUMBA_CACHE_DIR": folder}
    return json.loads(subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout)


def two_steps(preset: str, started: float) -> dict[str, float]:
    """Train two steps on random images: the seconds since `started` when each thing was done."""
    moments = {"interpreter": time.time() - started}
    import numpy as np

    from siamese_np.bench.end_to_end import Model

    moments["imports"] = time.time() - started
    model = Model(preset)
    batch = model.load(np.random.default_rng(0).random((32, 28, 28, 1), np.float32), np.arange(16) % 2)
    for name in ("first_step", "second_step"):
        model.step(batch, 1e-3)
        moments[name] = time.time() - started
    return moments


if __name__ == "__main__":
    print(json.dumps(two_steps(sys.argv[1], float(sys.argv[2]))))
