"""What a user waits for: training steps, embeddings, and exact metrics over all pairs; and how all of it grows."""

import contextlib
import itertools
import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from siamese_np.bench.executed import parts, step_count
from siamese_np.bench.sampling import Log, Run, Timing, calibrate, measure, timed
from siamese_np.datasets import Dataset, Split
from siamese_np.losses import AllPairsContrastiveLoss, ContrastiveLoss
from siamese_np.network import Sequential, SiameseNetwork
from siamese_np.optimizers import Adam
from siamese_np.pairs import balanced_batches, random_pairs
from siamese_np.presets import make_network
from siamese_np.runtime import scheduler

PRESETS = ("cnn", "mlp")
STEP_PAIRS = 128  # of the thread sweep, and of the step whose rate is compared with the machine's peak
# While the clock runs the weights do not change: a network that has learnt its few batches sends no gradients back,
# and skipping zeros would look faster than it is.
TIMED_RATE = 1e-8
BATCHES = 4  # that a timed step takes in turn
SAMPLED_STEPS = 30  # of an epoch


def untrained(preset: str) -> Sequential:
    """The preset with seed 1, and with biases up to 0.05 as after some training.

    With biases of 0, black pixels would stay black through all layers; skipping them would look faster than it is.
    """
    network = make_network(preset, seed=1)
    rng = np.random.default_rng(1)
    for name, value in network.named_params().items():
        if name.endswith(".b"):
            value[:] = rng.uniform(-0.05, 0.05, value.shape)
    return network


class Model:
    """A preset with its optimizer; `params` are the weights it begins with, by default those of `untrained`."""

    def __init__(self, preset: str, params: dict[str, np.ndarray] | None = None, dtype: str = "float32") -> None:
        network, params = make_network(preset, dtype=dtype), params or untrained(preset).named_params()
        for name, value in network.named_params().items():
            value[:] = params[name]
        self.siamese, self.loss, self.all_pairs = SiameseNetwork(network), ContrastiveLoss(), AllPairsContrastiveLoss()
        self.optimizer = Adam(network)

    def load(self, images: np.ndarray, label: np.ndarray) -> Any:
        """A batch for `step`; `images` are the first of all pairs and then the second."""
        a, b = np.split(images.astype(self.siamese.network.params.dtype), 2)
        return a, b, label

    def step(self, batch: Any, rate: float) -> float:
        """One training step on pairs; returns the loss."""
        self.siamese.network.zero_grads()
        a, b, label = batch
        loss = self.siamese.pair_gradients(a, b, label, self.loss)
        self.optimizer.step(rate)
        return loss

    def all_pairs_step(self, images: np.ndarray, classes: np.ndarray, rate: float) -> None:
        """One training step on all pairs of a batch, as in training by default."""
        self.siamese.network.zero_grads()
        self.siamese.gradients(images, classes, self.all_pairs)
        self.optimizer.step(rate)


def steps(
    split: Split, pairs: Sequence[int], threads: Sequence[int], repetitions: int, seconds: float, log: Log
) -> list[dict[str, Any]]:
    """Training steps of both presets at several batch sizes, each with several numbers of threads.

    Most work on all threads; the sweep over threads is at `STEP_PAIRS` pairs, or the largest size there is.
    """
    most, swept = max(threads), STEP_PAIRS if STEP_PAIRS in pairs else max(pairs)
    cases = [(preset, B, most) for preset in PRESETS for B in pairs]
    cases += [(preset, swept, count) for preset in PRESETS for count in threads if count != most]
    log(f"end to end: {len(cases)} training steps")
    work = {case: _step_of(split, *case[:2]) for case in cases}
    counts = {case: step_count(work[case], BATCHES) for case in cases}
    runs = {case: on_threads(case[2], step) for case, step in work.items()}
    rows = []
    for case, timing in measure(runs, repetitions, seconds).items():
        count = counts[case]
        row = {**dict(zip(("preset", "pairs", "threads"), case, strict=True)), **_timed_images(timing, 2 * case[1])}
        rates = {"dense_gflops": count.dense, "executed_gflops": count.executed}
        row.update({name: total / timing.median / 1e9 for name, total in rates.items()})
        rows.append({**row, "flops": count.dense, "executed_flops": count.executed, "bytes": count.bytes})
    return rows


def step_parts(split: Split, pairs: Sequence[int], threads: int, seconds: float) -> list[dict[str, Any]]:
    """Where the time of a step goes: the operations of `cnn` at `STEP_PAIRS` pairs and `mlp` at 32, or the most."""
    scheduler.set_threads(threads)
    found = []
    for preset, wanted in zip(PRESETS, (STEP_PAIRS, 32), strict=True):
        B = wanted if wanted in pairs else max(pairs)
        step = _step_of(split, preset, B)
        steps = max(BATCHES, min(200, calibrate(timed(step), 10 * seconds)))
        found.append({"preset": preset, "pairs": B, "threads": threads, "parts": parts(step, BATCHES, steps)})
    return found


def _timed_images(timing: Timing, images: int) -> dict[str, Any]:
    return {"timing": timing._asdict(), "images_per_second": images / timing.median}


def _step_of(split: Split, preset: str, B: int) -> Callable[[], Any]:
    """A training step on `BATCHES` batches in turn."""
    model = Model(preset)
    pairs, label = random_pairs(split.classes, np.random.default_rng(1))
    chosen = np.arange(BATCHES * B).reshape(BATCHES, B) % len(pairs)
    batches = itertools.cycle([model.load(split.images[pairs[rows].T.ravel()], label[rows]) for rows in chosen])
    return lambda: model.step(next(batches), TIMED_RATE)


def on_threads(count: int, function: Callable[[], Any]) -> Run:
    """`function` as something to measure with `count` threads."""
    run = timed(function)

    def with_threads(calls: int) -> float:
        if scheduler.get_threads() != count:
            scheduler.set_threads(count)
        if calls > 1:  # where one call is long, waking the threads does not count
            function()
        return run(calls)

    return with_threads


def embeddings(
    split: Split, images: int, threads: Sequence[int], repetitions: int, seconds: float, log: Log
) -> list[dict[str, Any]]:
    """Embedding `images` images with both presets."""
    log(f"end to end: embedding {images:,} images")
    chosen = split.images[np.arange(images) % len(split.images)]
    runs = {}
    for preset in PRESETS:
        embed = partial(SiameseNetwork(untrained(preset)).embed, chosen)
        runs.update({(preset, count): on_threads(count, embed) for count in threads})
    timings = measure(runs, repetitions, seconds)
    scheduler.set_threads(max(threads))  # in whatever order they were measured, what follows has all
    return [
        {"preset": preset, "images": images, "threads": count, **_timed_images(timing, images)}
        for (preset, count), timing in timings.items()
    ]


def exact(dataset: Dataset, repetitions: int, seconds: float, log: Log) -> dict[str, Any]:
    """Exact metrics over all pairs of test images, and their neighbours among training images, after one epoch."""
    from siamese_np import TrainConfig, train_run
    from siamese_np.metrics import all_pairs_metrics, nearest

    log("end to end: an epoch of training, then exact metrics")
    config = TrainConfig(preset="cnn", epochs=1, batch_size=min(256, len(dataset.train)))
    siamese = train_run(config, dataset).siamese
    emb, gallery = (siamese.embed(split.images) for split in (dataset.test, dataset.all_train))
    k, pairs = min(5, len(gallery)), len(emb) * (len(emb) - 1) // 2
    runs = {
        f"AUC and EER of all {pairs:,} pairs": timed(partial(all_pairs_metrics, emb, dataset.test.classes)),
        f"{k} nearest of {len(gallery):,} for {len(emb):,} images": timed(partial(nearest, emb, gallery, k)),
    }
    return {name: {"timing": timing._asdict()} for name, timing in measure(runs, repetitions, seconds).items()}


def cost_per_image(split: Split, sizes: Sequence[int], log: Log) -> list[dict[str, Any]]:
    """Microseconds of training for one image, for data sets from small to large, made by repeating images.

    A whole epoch's batches are drawn, and `SAMPLED_STEPS` of them, spread over the epoch, are trained, alternating
    between the data sets. Sizes that would take more than half of the free memory are left out.
    """
    sets, drawing = {}, {}
    for size in sizes:
        if size * split.images[0].nbytes > free_memory() / 2:
            log(f"end to end: too little memory for {size:,} images")
            continue
        log(f"end to end: cost per image of {size:,} images")
        repeated = np.arange(size) % len(split)
        large = Split(split.images[repeated], split.classes[repeated])
        start = time.perf_counter()
        batches = list(balanced_batches(large.classes, min(256, size // 2), np.random.default_rng([0, 1, 0])))
        drawing[size] = (time.perf_counter() - start) / size
        spread = np.linspace(0, len(batches) - 1, SAMPLED_STEPS + 1).astype(int)
        sets[size] = large, Model("cnn"), [batches[number] for number in spread]
    samples: dict[int, list[float]] = {size: [] for size in sets}
    for number in range(SAMPLED_STEPS + 1):  # the first warms up
        for size in np.random.default_rng(number).permutation(list(sets)).tolist():
            large, model, chosen = sets[size]
            batch = chosen[number]
            start = time.perf_counter()
            model.all_pairs_step(large.images[batch], large.classes[batch], TIMED_RATE)
            samples[size].append((time.perf_counter() - start) / len(batch))
    rows = []
    for size, drawn in drawing.items():
        timing = Timing.of(samples[size][1:])
        costs = {"microseconds_per_image": 1e6 * (timing.median + drawn), "drawing_microseconds": 1e6 * drawn}
        rows.append({"images": size, **costs, "timing": timing._asdict()})
    return rows


def free_memory() -> float:
    """Bytes of memory that can be had, file caches included; infinity where the system does not tell."""
    with contextlib.suppress(OSError, StopIteration):  # not Linux
        lines = Path("/proc/meminfo").read_text().splitlines()
        return 1024.0 * next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    try:
        return float(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, ValueError, OSError):
        return float("inf")


def peak_memory() -> int | None:
    """Most bytes of memory this process has had at a time; None where the system does not tell, as on Windows.

    Linux' `getrusage` begins with what the process had that started this one; ``VmHWM`` does not.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return 1024 * int(line.split()[1])
    try:
        import resource
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # in bytes on macOS


def memory(split: Split, pairs: int, log: Log) -> dict[str, Any]:
    """Peak memory of this process after training on `pairs` pairs; for a process started for it.

    All pairs of each batch are trained and none is stored; copies of their pixels would take ``"as_copies"``.
    """
    log(f"end to end: memory with {pairs:,} pairs")
    model, left = Model("cnn"), pairs
    rngs = (np.random.default_rng([0, 1, epoch]) for epoch in itertools.count())
    epochs = (balanced_batches(split.classes, min(256, len(split)), rng) for rng in rngs)
    for batch in itertools.chain.from_iterable(epochs):
        model.all_pairs_step(split.images[batch], split.classes[batch], TIMED_RATE)
        left -= len(batch) * (len(batch) - 1) // 2
        if left <= 0:
            break
    copies = 2 * pairs * split.images[0].nbytes
    return {"protocol": "batch", "pairs": pairs, "peak_bytes": peak_memory(), "as_copies": copies}
