"""What a person waits for: training steps, an epoch, embeddings, an accuracy, and exact figures over all pairs."""

import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from siamese_np.bench.peers.with_siamese_np import Model, untrained
from siamese_np.bench.peers.worker import TIMED_RATE
from siamese_np.bench.sampling import Run, Timing, measure, timed
from siamese_np.datasets import Dataset, Split
from siamese_np.network import SiameseNetwork, make_network
from siamese_np.pairs import random_pairs
from siamese_np.runtime import scheduler

Say = Callable[[str], None]

STEP_PAIRS = 128  # of the thread sweep, and of the step whose rate is compared with the machine's peak


def step_flops(preset: str, input_shape: tuple[int, ...] = (28, 28, 1)) -> float:
    """Operations of the dense work of one image's training step: forward, dw, and dx of all but the first layer.

    A multiply-add is two operations; biases, ReLU, pooling, loss and optimizer are not counted.
    """
    network = make_network(preset, input_shape=input_shape)
    shape, total, first = tuple(input_shape), 0.0, True
    for layer in network.layers:
        out_shape = layer.output_shape(shape)
        if "w" in layer.params:
            w = layer.params["w"]
            pixels = out_shape[0] * out_shape[1] if w.ndim == 4 else 1
            total += 2.0 * w.size * pixels * (2 if first else 3)
            first = False
        shape = out_shape
    return total


def steps(
    split: Split, pairs: Sequence[int], threads: Sequence[int], repetitions: int, seconds: float, say: Say
) -> list[dict[str, Any]]:
    """Training steps of both presets at several batch sizes, each with several numbers of threads.

    Most work on all threads; the sweep over threads is at `STEP_PAIRS` pairs, or the largest size there is.
    """
    most, swept = max(threads), STEP_PAIRS if STEP_PAIRS in pairs else max(pairs)
    cases = [(preset, B, most) for preset in ("cnn", "mlp") for B in pairs]
    cases += [(preset, swept, count) for preset in ("cnn", "mlp") for count in threads if count != most]
    say(f"end to end: {len(cases)} training steps")
    runs = {case: _step_run(split, *case) for case in cases}
    timings = measure({str(case): run for case, run in runs.items()}, repetitions, seconds)
    rows = []
    for preset, B, count in cases:
        timing = timings[str((preset, B, count))]
        rows.append(
            {
                "preset": preset,
                "pairs": B,
                "threads": count,
                "timing": timing.as_dict(),
                "images_per_second": 2 * B / timing.median,
                "dense_gflops": step_flops(preset, split.images.shape[1:]) * 2 * B / timing.median / 1e9,
            }
        )
    return rows


def _step_run(split: Split, preset: str, B: int, count: int) -> Run:
    model = _model(preset, split)
    pairs, label = random_pairs(split.classes, np.random.default_rng(1))
    batches = []
    for number in range(4):
        chosen = np.arange(number * B, (number + 1) * B) % len(pairs)
        batches.append(model.load(split.images[np.concatenate([pairs[chosen, 0], pairs[chosen, 1]])], label[chosen]))
    turn = 0

    def step() -> None:
        nonlocal turn
        model.step(batches[turn % 4], TIMED_RATE)
        turn += 1

    return on_threads(count, step)


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
    split: Split, images: int, threads: Sequence[int], repetitions: int, seconds: float, say: Say
) -> list[dict[str, Any]]:
    """Embedding `images` images with both presets."""
    say(f"end to end: embedding {images:,} images")
    chosen = split.images[np.arange(images) % len(split.images)]
    runs = {}
    for preset in ("cnn", "mlp"):
        siamese = SiameseNetwork(untrained(preset, chosen.shape[1:]))
        for count in threads:
            runs[preset, count] = on_threads(count, partial(siamese.embed, chosen))
    timings = measure({str(case): run for case, run in runs.items()}, repetitions, seconds)
    scheduler.set_threads(max(threads))  # in whatever order they were measured, the next section has all
    rows = []
    for preset, count in runs:
        timing = timings[str((preset, count))]
        rate = images / timing.median
        rows.append(
            {
                "preset": preset,
                "images": images,
                "threads": count,
                "timing": timing.as_dict(),
                "images_per_second": rate,
            }
        )
    return rows


def exact(dataset: Dataset, siamese: SiameseNetwork, repetitions: int, seconds: float, say: Say) -> dict[str, Any]:
    """Exact figures of a trained network over all pairs of test images, and their neighbours among training images."""
    from siamese_np.metrics import all_pairs_metrics, nearest

    emb, gallery = siamese.embed(dataset.test.images), siamese.embed(dataset.all_train.images)
    say(f"end to end: exact figures of {len(emb):,} and {len(gallery):,} embeddings")
    k, pairs = min(5, len(gallery)), len(emb) * (len(emb) - 1) // 2
    runs = {
        f"AUC and EER of all {pairs:,} pairs": timed(partial(all_pairs_metrics, emb, dataset.test.classes)),
        f"{k} nearest of {len(gallery):,} for {len(emb):,} images": timed(partial(nearest, emb, gallery, k)),
    }
    timings = measure(runs, repetitions, seconds)
    return {name: {"timing": timing.as_dict()} for name, timing in timings.items()}


def time_to_accuracy(dataset: Dataset, epochs: int, say: Say) -> tuple[SiameseNetwork, dict[str, Any]]:
    """Train the default way: the network, and seconds (without validation) and validation accuracy of each epoch."""
    from siamese_np.training import TrainConfig, Training

    say(f"end to end: training {epochs} epochs")
    run = Training(TrainConfig(epochs=epochs, batch_size=min(256, len(dataset.train))), dataset)
    run.run()
    rows = [{"seconds": row["seconds"], "pair_accuracy": row["validation_pair_accuracy"]} for row in run.history]
    # a row's seconds go on from the row before
    return run.siamese, {
        "images": len(dataset.train),
        "epochs": rows,
        "epoch_seconds": rows[-1]["seconds"] / len(rows),
        "seconds_to": {
            f"{mark}": next((row["seconds"] for row in rows if row["pair_accuracy"] >= mark), None)
            for mark in (0.97, 0.98, 0.99, 0.995)
        },
    }


def cost_per_image(split: Split, sizes: Sequence[int], sampled_steps: int, say: Say) -> list[dict[str, Any]]:
    """Microseconds of training for one image, for data sets from small to large, made by repeating images.

    A whole epoch's batches are drawn, and `sampled_steps` of them, spread over the epoch, are trained, now of one data
    set, now of another. Sizes that would take more than half of the free memory are left out.
    """
    from siamese_np.training import BatchProtocol, TrainConfig

    sets: dict[int, Any] = {}
    for size in sizes:
        if size * split.images[0].nbytes > free_memory() / 2:
            say(f"end to end: too little memory for {size:,} images")
            continue
        say(f"end to end: cost per image of {size:,} images")
        repeated = np.arange(size) % len(split)
        large = Split(split.images[repeated], split.classes[repeated])
        protocol = BatchProtocol(TrainConfig(batch_size=min(256, size // 2)), Dataset("repeated", large, split, split))
        start = time.perf_counter()
        batches = list(protocol.batches(0))
        drawing = (time.perf_counter() - start) / size
        chosen = [batches[number] for number in np.linspace(0, len(batches) - 1, sampled_steps + 1).astype(int)]
        sets[size] = protocol, _model("cnn", split), chosen, drawing
    samples: dict[int, list[float]] = {size: [] for size in sets}
    for number in range(sampled_steps + 1):
        for size in np.random.default_rng(number).permutation(list(sets)).tolist():
            protocol, model, chosen, _ = sets[size]
            start = time.perf_counter()
            model.siamese.network.zero_grads()
            protocol.gradients(model.siamese, chosen[number])
            model.optimizer.step(TIMED_RATE)
            samples[size].append((time.perf_counter() - start) / len(chosen[number]))
    rows = []
    for size, (*_, drawing) in sets.items():
        timing = Timing.of(samples[size][1:])
        rows.append(
            {
                "images": size,
                "microseconds_per_image": 1e6 * (timing.median + drawing),
                "drawing_microseconds": 1e6 * drawing,
                "timing": timing.as_dict(),
            }
        )
    return rows


def free_memory() -> float:
    """Bytes of free memory, or infinity where the system does not tell."""
    try:
        return float(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, ValueError, OSError):
        return float("inf")


def highest_memory() -> int:
    """Most bytes of memory this process has had at a time.

    Linux' `getrusage` begins with what the process had that started this one; ``VmHWM`` does not.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return 1024 * int(line.split()[1])
    import resource  # in bytes on macOS

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def memory(split: Split, protocol: str, pairs: int) -> dict[str, Any]:
    """Highest memory of this process after training on `pairs` pairs; for a process started for it.

    Parameters
    ----------
    split : Split
    protocol : "batch" or "notebook"
        ``batch``: all pairs of each batch, which are nowhere stored. ``notebook``: pairs drawn beforehand, two row
        numbers and a label each (``"pair_bytes"``); copies of their pixels would take ``"as_copies"``.
    pairs : int
    """
    train = _train_on_all_pairs if protocol == "batch" else _train_on_given_pairs
    return {
        "protocol": protocol,
        "pairs": pairs,
        "pair_bytes": train(split, pairs),
        "peak_bytes": highest_memory(),
        "as_copies": 2 * pairs * split.images[0].nbytes,
    }


def _train_on_all_pairs(split: Split, pairs: int) -> int:
    from siamese_np.training import BatchProtocol, TrainConfig

    config = TrainConfig(batch_size=min(256, len(split)))
    protocol = BatchProtocol(config, Dataset("", split, split, split))
    model = _model("cnn", split)
    done = epoch = 0
    while done < pairs:
        for batch in protocol.batches(epoch):
            protocol.gradients(model.siamese, batch)
            done += len(batch) * (len(batch) - 1) // 2
            if done >= pairs:
                break
        epoch += 1
    return 0


def _train_on_given_pairs(split: Split, pairs: int) -> int:
    model, batch = _model("mlp", split), 32
    rows, label = np.empty((pairs, 2), np.int64), np.empty(pairs, np.int64)
    for number, start in enumerate(range(0, pairs, 2 * len(split))):
        drawn, labels = random_pairs(split.classes, np.random.default_rng(number))
        rows[start : start + len(drawn)], label[start : start + len(drawn)] = (
            drawn[: pairs - start],
            labels[: pairs - start],
        )
    order = np.random.default_rng(0).permutation(pairs)
    for start in range(0, min(pairs, 100 * batch), batch):
        chosen = order[start : start + batch]
        images = split.images[np.concatenate([rows[chosen, 0], rows[chosen, 1]])]
        model.step(model.load(images, label[chosen]), 1e-3)
    return rows.nbytes + label.nbytes + order.nbytes


def _model(preset: str, split: Split) -> Model:
    params = untrained(preset, split.images.shape[1:]).named_params()
    return Model(preset, params)
