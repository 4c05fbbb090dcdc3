"""What ``siamese-np reproduce`` does: says how long it will take, trains what is not trained yet, measures, prints.

All is kept in a folder: a run folder for each training (without pictures), with its checkpoint, and ``measured.json``,
what was measured so far. So an interrupted command goes on where it was.
"""

import argparse
import dataclasses
import itertools
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from siamese_np.datasets import Dataset, load_dataset
from siamese_np.errors import DataError, OptionError
from siamese_np.network import SiameseNetwork
from siamese_np.presets import make_network
from siamese_np.reproduce.picture import draw_record
from siamese_np.reproduce.tables import TABLES, Job, Metrics, Row, Table
from siamese_np.reproduce.unseen import seen_only
from siamese_np.run import resumed, train
from siamese_np.storage import write_atomically
from siamese_np.training import Training

QUICK_EPOCHS = 2
TIMED_STEPS = 5
MEASURING = 10.0  # seconds that measuring a row takes, about, on two cores


def run(args: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """All tables that were asked for, as one JSON object and as Markdown."""
    if args.seeds is not None and args.seeds < 1:
        raise OptionError(f"--seeds must be at least 1, not {args.seeds}")
    folder, dataset = Path(args.out), load_dataset()
    known = _read(folder / "measured.json", quick=args.quick)
    tables = [make() for name, make in TABLES.items() if getattr(args, name, False)] or [TABLES["main"]()]
    if args.quick:
        tables = [_quick(table) for table in tables]
    seeds = {table.title: table.seeds if args.seeds is None else args.seeds for table in tables}
    work = [(table, row, seed) for table in tables for row in table.rows for seed in range(seeds[table.title])]
    left = [step for step in work if _name(*step) not in known["rows"]]
    jobs = {(row.job.name, seed): row.job for _, row, seed in left}
    seconds = _estimate(jobs, dataset) + MEASURING * len(left)
    _log(f"{len(jobs)} trainings and {len(left)} measurements to do, about {seconds / 60:.0f} minutes")
    for table, row, seed in left:
        siamese, trained = _trained(row.job, seed, dataset, folder)
        known["rows"][_name(table, row, seed)] = {**row.measure(siamese, dataset), "seconds": trained}
        _log(f"{_name(table, row, seed)}: measured")
        write_atomically(folder / "measured.json", (json.dumps(known, indent=1) + "\n").encode())
    told = {
        table.title: {
            row.name: [known["rows"][_name(table, row, seed)] for seed in range(seeds[table.title])]
            for row in table.rows
        }
        for table in tables
    }
    lines = "\n\n".join(_markdown(table, told[table.title], args.quick) for table in tables)
    if args.fast:
        draw_record(folder / "fast.png", next(iter(told[TABLES["fast"]().title].values())))
    return {"quick": args.quick, "tables": told}, lines


def _name(table: Table, row: Row, seed: int) -> str:
    return f"{table.title}: {row.name}, seed {seed}"


def _log(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _quick(table: Table) -> Table:
    """The same rows after hardly any training."""
    rows = []
    for row in table.rows:
        config = dataclasses.replace(row.job.config, epochs=min(QUICK_EPOCHS, row.job.config.epochs))
        rows.append(dataclasses.replace(row, job=dataclasses.replace(row.job, config=config)))
    return dataclasses.replace(table, rows=rows, seeds=1)


def _read(path: Path, quick: bool) -> dict[str, Any]:
    """What was measured so far."""
    known: dict[str, Any] = {"quick": quick, "rows": {}}
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        try:
            known = json.loads(path.read_bytes())
            before, _ = known["quick"], known["rows"].keys()
        except (ValueError, KeyError, TypeError, AttributeError):
            raise DataError(f"{path} is not what this command wrote: remove it, and rows are measured anew") from None
        if before != quick:
            raise OptionError(f"{path.parent} was begun {'with' if before else 'without'} --quick: use another --out")
    return known


def _training(job: Job, seed: int, dataset: Dataset) -> tuple[Training, dict[str, Any], Dataset]:
    config = dataclasses.replace(job.config, seed=seed)
    parts = dict(job.parts(config))
    seen = seen_only(dataset, job.digits) if job.digits else dataset
    return Training(config, seen, **parts), parts, seen


def _trained(job: Job, seed: int, dataset: Dataset, folder: Path) -> tuple[SiameseNetwork, float]:
    """The network of a job, trained as far as it is not yet, and the seconds of its steps."""
    if not job.trained:
        return SiameseNetwork(make_network(job.config.preset, seed=seed)), 0.0
    training, parts, seen = _training(job, seed, dataset)
    own = folder / f"{job.name.replace(' ', '-')}-seed-{seed}"
    own.mkdir(exist_ok=True)
    if (own / "checkpoint.npz").exists():
        training = resumed(own, seen, training.config, **parts)
    if not train(training, own, _log):
        raise KeyboardInterrupt
    return training.siamese, training.seconds


def _estimate(jobs: dict[tuple[str, int], Job], dataset: Dataset) -> float:
    """Seconds that the trainings will take: a few steps of each are timed."""
    seconds = 0.0
    for _, group in itertools.groupby(sorted(jobs.items(), key=lambda item: item[0][0]), key=lambda item: item[0][0]):
        (_, job), *others = group
        if job.trained:
            training, *_ = _training(job, 0, dataset)
            training.rehearse()
            batches = list(itertools.islice(training.protocol.batches(0), TIMED_STEPS))
            start = time.perf_counter()
            for step, batch in enumerate(batches):
                training.take_step(batch, step)
            seconds += (1 + len(others)) * training.total_steps * (time.perf_counter() - start) / len(batches)
    return seconds


def _markdown(table: Table, told: dict[str, list[Metrics]], quick: bool) -> str:
    """The mean of the seeds, their standard deviation, and of their 95 % intervals the mean bounds."""
    heading = table.title + (f", QUICK: at most {QUICK_EPOCHS} epochs" if quick else "")
    head = ["", *(title for title, _, _ in table.columns.values())]
    rows = [
        [name, *(_cell(seeds, key, factor, form) for key, (_, factor, form) in table.columns.items())]
        for name, seeds in told.items()
    ]
    return f"**{heading}**\n\n" + "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows])


def _cell(seeds: list[Metrics], key: str, factor: float, form: str) -> str:
    keys = key.split(" + ")
    values = [factor * sum(metrics[of] for of in keys) for metrics in seeds if metrics.keys() >= set(keys)]
    intervals = [metrics[f"{key}_interval"] for metrics in seeds if f"{key}_interval" in metrics]
    cell = f"{np.mean(values):{form}}" if values else ""
    if len(values) > 1:
        cell += f" ± {np.std(values, ddof=1):{form}}"
    if intervals:
        low, high = factor * np.mean(intervals, axis=0)
        cell += f" ({low:{form}} to {high:{form}})"
    return cell
