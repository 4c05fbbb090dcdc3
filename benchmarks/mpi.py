"""A training step on ranks of MPI: its time and its bytes by the number of ranks, and a model of both.

``python benchmarks/mpi.py`` starts 1 to 4 ranks of one thread with mpiexec, and one process with one and two threads
beside them, one after another (about two minutes). The model of a step on R ranks is

    serial + parallel / min(R, processors) + messages * latency + bytes / bandwidth

Serial is what each rank does of the whole batch: the loss and the step of the optimizer. Parallel is the rest of the
step on one rank. Latency and bandwidth are of the communicator, measured with messages of 8 bytes and of a whole
gradient. The last table asks the model for more ranks, each with a processor of its own.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from siamese_np import AllPairsContrastiveLoss, TrainConfig, load_dataset
from siamese_np.distributed import SHARDS, MPICommunicator, communicator
from siamese_np.optimizers import OPTIMIZERS
from siamese_np.runtime.scheduler import get_threads, processors
from siamese_np.training import Training

STEPS, RANKS = 30, (1, 2, 3, 4)
MESSAGES = 6  # of a step in order: three meetings, embeddings, slices, sums
MORE = (2, 3, 4, 6, 12)
WORTH = 0.7  # of the time of a rank
ETHERNET = {"latency": 30e-6, "bandwidth": 1.1e9}  # 10 Gbit/s, on paper


def median(call: Callable[[], object], times: int = STEPS) -> float:
    """Seconds of one call."""
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def bytes_of_step(ranks: int, gradient: int, embeddings: int, in_order: bool) -> float:
    """What the first rank receives: embeddings of the others, slices of their partial gradients, sums of slices."""
    others = (ranks - 1) / ranks
    if not in_order:  # an Allreduce in slices: once to sum up, once to gather
        return others * (embeddings + 2 * gradient)
    return others * (embeddings + (SHARDS / ranks + 1) * gradient)


def measure() -> dict[str, float]:
    """One process of some: what its steps take, and on ranks also what the communicator takes."""
    training = Training(TrainConfig(epochs=100), load_dataset())
    batches, network = iter(training.protocol.batches(0)), training.siamese.network
    ranks = communicator()
    told: dict[str, float] = {"threads": get_threads()}
    for reduction in ("in-order", "allreduce") if isinstance(ranks, MPICommunicator) else ("in-order",):
        training.share(communicator(reduction), lambda line: None)
        training.rehearse()
        told[reduction] = median(lambda: training.take_step(next(batches), 0))
    images = training.dataset.train.images[next(batches)]
    emb, classes = training.siamese.network.forward(images)[0], np.arange(len(images)) % 10
    loss = AllPairsContrastiveLoss()
    optimizer = OPTIMIZERS["adam"](network.params.copy(), np.zeros_like(network.grads))
    told["serial"] = median(lambda: loss.backward(loss.forward(emb, classes)[1])) + median(lambda: optimizer.step(1e-3))
    told |= {"gradient": network.grads.nbytes, "embeddings": emb.nbytes}
    if isinstance(ranks, MPICommunicator):
        told["latency"] = median(ranks.meet, 200)
        if ranks.size > 1:
            received, sent = np.empty((ranks.size, network.grads.size), np.float32), network.grads
            seconds = median(lambda: ranks.world.Allgather(sent, received), 50)
            told["bandwidth"] = (ranks.size - 1) * sent.nbytes / max(seconds - told["latency"], 1e-9)
    return told


def started(ranks: int, threads: int) -> dict[str, float]:
    """What the first of so many ranks measures; of 0 ranks, one process without MPI."""
    mpiexec = shutil.which("mpiexec", path=str(Path(sys.executable).parent)) or shutil.which("mpiexec") or "mpiexec"
    start = [mpiexec, "-n", str(ranks)] if ranks else []
    environment = {**os.environ, "SIAMESE_NP_THREADS": str(threads)}
    command = [*start, sys.executable, __file__, "--measure"]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        why = (getattr(error, "stderr", None) or str(error)).strip().splitlines()[-1]
        sys.exit(f"mpi: {ranks} ranks do not run here: {why}")
    return json.loads(done.stdout)


def predicted(ranks: int, one: dict[str, float], link: dict[str, float], cores: int, in_order: bool = True) -> float:
    """Seconds of a step by the model, from the step of one rank."""
    kind = "in-order" if in_order else "allreduce"
    told = bytes_of_step(ranks, int(one["gradient"]), int(one["embeddings"]), in_order)
    parallel = one[kind] - one["serial"]
    speaking = (MESSAGES * link["latency"] + told / link["bandwidth"]) if ranks > 1 else 0
    return one["serial"] + parallel / min(ranks, cores) + speaking


def main() -> None:
    """Start all, and print the tables."""
    alone = {threads: started(0, threads) for threads in (1, 2)}
    on = {ranks: started(ranks, 1) for ranks in RANKS}
    one, cores = on[1], processors()
    print(f"cnn3, batches of 256, {one['gradient'] / 1e6:.2f} MB of gradients, {cores} processors; a step in ms")
    for threads, told in alone.items():
        print(f"one process, {threads} thread{'s'[: threads - 1]}: {told['in-order'] * 1e3:6.1f}")
    print(
        f"{'ranks':>5} {'in order':>9} {'model':>6} {'speed-up':>9} {'MB':>5} {'allreduce':>10} {'model':>6} {'MB':>5}",
        end="",
    )
    print(f" {'latency':>8} {'bandwidth':>10}")
    for ranks, told in on.items():
        link = told if ranks > 1 else {**told, "bandwidth": np.inf}
        sizes = [
            bytes_of_step(ranks, int(one["gradient"]), int(one["embeddings"]), in_order) / 1e6
            for in_order in (True, False)
        ]
        model = [predicted(ranks, one, link, cores, in_order) * 1e3 for in_order in (True, False)]
        print(
            f"{ranks:5} {told['in-order'] * 1e3:9.1f} {model[0]:6.1f} {one['in-order'] / told['in-order']:9.2f} "
            f"{sizes[0]:5.1f} {told['allreduce'] * 1e3:10.1f} {model[1]:6.1f} {sizes[1]:5.1f} "
            f"{told['latency'] * 1e6:5.0f} us {link['bandwidth'] / 1e9:5.1f} GB/s"
        )
    two, best = on[2]["in-order"], alone[2]["in-order"]
    print(f"2 ranks of one thread against one process of two threads: {two / best:.2f} times the time")
    print(f"by the model, a processor for each rank: speed-up, and up to where each rank earns {WORTH:.0%} of its keep")
    for name, link in (("this machine", on[2]), ("10 Gbit/s Ethernet", ETHERNET)):
        gains = {ranks: one["in-order"] / predicted(ranks, one, link, ranks) for ranks in MORE}
        worth = max((ranks for ranks, gain in gains.items() if gain / ranks >= WORTH), default=1)
        print(f"  {name}: {', '.join(f'{ranks} ranks {gain:.2f}' for ranks, gain in gains.items())}; up to {worth}")


if __name__ == "__main__":
    if sys.argv[1:] == ["--measure"]:
        result = measure()
        if communicator().rank == 0:
            print(json.dumps(result))
    elif sys.argv[1:]:
        print(__doc__)
    else:
        main()
