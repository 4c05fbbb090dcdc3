"""The three clocks of compiled code: cold (everything is compiled), cached (loaded from disk), steady (just runs).

Cold and cached are taken on whole processes, started for the purpose: the first with an empty folder for
compiled kernels, the others with the folder it leaves behind.
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


def clocks(threads: int, presets: Sequence[str], repetitions: int) -> dict[str, Any]:
    """Seconds from process start to the first training step, cold and cached, by preset.

    Returns
    -------
    dict
        For each preset ``"cold"`` and ``"cached"`` (median of `repetitions` processes): the moments of
        `first_step`; ``"compile_seconds"``, the first cold step less the second; and ``"kernels"``, the seconds
        each took to compile and to load (a kernel two threads wait for counts twice). Besides,
        ``"import_seconds"`` and ``"help_seconds"``: processes that only import the package, or only show the
        command line's help.
    """
    result: dict[str, Any] = {}
    for preset in presets:
        with tempfile.TemporaryDirectory() as folder:
            cold = _first_step(preset, folder, threads)
            cached = [_first_step(preset, folder, threads) for _ in range(repetitions)]
        moments = cold["moments"]
        steady = moments["second_step"] - moments["first_step"]
        result[preset] = {
            "cold": moments,
            "cached": {name: statistics.median(one["moments"][name] for one in cached) for name in moments},
            "compile_seconds": moments["first_step"] - moments["imports"] - steady,
            "kernels": {
                name: {"cold": seconds, "cached": cached[-1]["kernels"].get(name)}
                for name, seconds in cold["kernels"].items()
            },
        }
    result["import_seconds"] = _seconds(["-c", "import siamese_np"], repetitions)
    result["help_seconds"] = _seconds(["-m", "siamese_np", "--help"], repetitions)
    return result


def _first_step(preset: str, folder: str, threads: int) -> dict[str, Any]:
    environment = {**os.environ, "NUMBA_CACHE_DIR": folder, "SIAMESE_NP_THREADS": str(threads)}
    command = [sys.executable, "-m", "siamese_np.bench.first_step", preset, repr(time.time())]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def _seconds(arguments: list[str], repetitions: int) -> float:
    taken = []
    for _ in range(repetitions):
        start = time.perf_counter()
        subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)
