"""What ``siamese-np reproduce`` does: says how long it will take, trains what is not trained yet, measures, prints.

All is kept in a folder: a run folder for each training (without pictures), with its checkpoint, and ``measured.json``,
what was measured so far. So an interrupted command goes on where it was.
"""

import argparse
import dataclasses
import itertools
import time
from pathlib import Path
from typing import Any

import numpy as np

from siamese_np._process import log, to_json
from siamese_np.datasets import Dataset, load_dataset
from siamese_np.errors import DataError, ModelError, OptionError
from siamese_np.network import SiameseNetwork
from siamese_np.presets import make_network
from siamese_np.reading import parse_json, read_whole
from siamese_np.reproduce.picture import draw_record
from siamese_np.reproduce.tables import ACCURACY, FAST, TABLES, UNSEEN, Job, Metrics, Row, Table
from siamese_np.reproduce.unseen import seen_only, with_copies
from siamese_np.run import resumed, train
from siamese_np.run_folder import check_folder, locked, made_folder, remove_leftovers
from siamese_np.storage import check_no_file, check_output, png_mark, versions, write_atomically
from siamese_np.training import Training

QUICK_EPOCHS = 2
TIMED_STEPS = 5
MAX_SEEDS = 1000
MAX_BYTES = 1 << 22  # of measured.json, which has some 10,000
MEASURED = 4  # to be raised where measuring changes
NUMBERS = {key for columns in (ACCURACY, UNSEEN, FAST) for keys in columns for key in keys.split(" + ")}
MEASURING = 10.0  # seconds that measuring a row takes, about, on two cores


def run(args: argparse.Namespace) -> tuple[int, dict[str, Any], str]:
    """All tables that were asked for: the exit status, one JSON object, and Markdown."""
    if args.seeds is not None and not 1 <= args.seeds <= MAX_SEEDS:
        raise OptionError(f"--seeds must be from 1 to {MAX_SEEDS}, not {args.seeds}")
    folder, dataset = Path(args.out), load_dataset()
    known = _read(folder / "measured.json", quick=args.quick)
    if args.fast:
        check_output(folder / "fast.png", "--out", png_mark("reproduce"), args.overwrite)
    chosen = [name for name in TABLES if getattr(args, name, False)] or ["main"]
    tables = [_quick(make()) if args.quick else make() for name in chosen for make in TABLES[name]]
    seeds = {(table.title, row.name): _seeds(args, table, row) for table in tables for row in table.rows}
    work = [
        (table, row, seed) for table in tables for row in table.rows for seed in range(seeds[table.title, row.name])
    ]
    left = [step for step in work if known["rows"].get(_name(*step), {"of": None})["of"] != _made_by(*step[1:])]
    jobs = {(row.job.name, seed): row.job for _, row, seed in left if row.job.trained}
    trainings, seconds = _estimate(jobs, dataset, folder)
    seconds += MEASURING * len(left)
    log(f"{trainings} trainings and {len(left)} measurements, to do in about {seconds / 60:.0f} minutes")
    for table, row, seed in left:
        siamese, trained = _trained(row.job, seed, dataset, folder)
        measured = {**row.measure(siamese, dataset), "seconds": trained, "of": _made_by(row, seed)}
        known["rows"] |= _read(folder / "measured.json", quick=args.quick)["rows"]  # of another command, meanwhile
        known["rows"][_name(table, row, seed)] = measured
        log(f"{_name(table, row, seed)}: measured")
        write_atomically(folder / "measured.json", (to_json(known, indent=1) + "\n").encode())
    told = {
        table.title: {
            row.name: [known["rows"][_name(table, row, seed)] for seed in range(seeds[table.title, row.name])]
            for row in table.rows
        }
        for table in tables
    }
    lines = "\n\n".join(_markdown(table, told[table.title], args.quick) for table in tables)
    if args.fast:
        draw_record(folder / "fast.png", next(iter(told[TABLES["fast"][0]().title].values())))
    return 0, {"quick": args.quick, "tables": told}, lines


def _seeds(args: argparse.Namespace, table: Table, row: Row) -> int:
    return int(row.seeds or args.seeds or table.seeds)


def _name(table: Table, row: Row, seed: int) -> str:
    return f"{table.title}: {row.name}, seed {seed}"


def _made_by(row: Row, seed: int) -> dict[str, Any]:
    """What a kept row must be of, to be told again."""
    config = dataclasses.asdict(dataclasses.replace(row.job.config, seed=seed))
    return {"measuring": MEASURED, "options": config, "versions": versions()}


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
    check_no_file(path.parent, "--out")
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        try:
            known = parse_json(read_whole(path, MAX_BYTES), finite=False)  # of metrics, any may be NaN
            before = known["quick"]
            for row in known["rows"].values():
                _check(row)
        except OSError as error:
            raise DataError(f"cannot read {path}: {error.strerror}") from None
        except (ValueError, KeyError, TypeError, AttributeError):
            raise DataError(f"{path} is not what this command wrote: remove it, and rows are measured anew") from None
        if before != quick:
            raise OptionError(f"{path.parent} was begun {'with' if before else 'without'} --quick: use another --out")
    return known


def _check(row: dict[str, Any]) -> None:
    """ValueError, KeyError or TypeError if no table can be made of the row."""
    if "of" not in row:
        raise KeyError
    for key, value in row.items():
        if key in NUMBERS or key.endswith("_interval"):
            np.array(value, float).reshape(2 if key.endswith("_interval") else ())  # null is NaN


def _training(job: Job, seed: int, dataset: Dataset, own: Path) -> Training:
    """The training of a job, as far as it came in the folder `own`."""
    config = dataclasses.replace(job.config, seed=seed)
    parts = dict(job.parts(config))
    seen = seen_only(dataset, job.digits) if job.digits else dataset
    seen = with_copies(seen) if job.copies else seen
    try:
        if not (begun := (own / "checkpoint.npz").exists()):
            check_folder(own)
        return resumed(own, seen, config, **parts) if begun else Training(config, seen, **parts)
    except ModelError as error:
        raise DataError(f"{str(error).split(';')[0]}; remove {own}, and it is trained anew") from None


def _trained(job: Job, seed: int, dataset: Dataset, folder: Path) -> tuple[SiameseNetwork, float]:
    """The network of a job, trained as far as it is not yet, and the seconds of its steps."""
    if not job.trained:
        return SiameseNetwork(make_network(job.config.preset, seed=seed)), 0.0
    own = _folder(job, seed, folder)
    with made_folder(own), locked(own):
        remove_leftovers(own)
        training = _training(job, seed, dataset, own)
        if not train(training, own, log):
            raise KeyboardInterrupt
    if training.own:  # pairs of validation images, by distance, are no way to choose the epoch of a classifier
        return _training(job, seed, dataset, own).siamese, training.seconds  # as after the last step
    return training.siamese, training.seconds


def _folder(job: Job, seed: int, folder: Path) -> Path:
    return folder / f"{job.name.replace(' ', '-')}-seed-{seed}"


def _estimate(jobs: dict[tuple[str, int], Job], dataset: Dataset, folder: Path) -> tuple[int, float]:
    """How many trainings are not finished, and the seconds that they will take: a few steps of each kind are timed."""
    step_seconds: dict[str, float] = {}
    trainings, total = 0, 0.0
    for (name, seed), job in jobs.items():
        training = _training(job, seed, dataset, _folder(job, seed, folder))
        left = training.total_steps - training.optimizer.steps
        if left and name not in step_seconds:
            training.rehearse()
            batches = list(itertools.islice(training.protocol.batches(0), TIMED_STEPS))
            start = time.perf_counter()
            for step, batch in enumerate(batches):
                training.take_step(batch, step)
            step_seconds[name] = (time.perf_counter() - start) / len(batches)
        trainings += left > 0
        total += left * step_seconds.get(name, 0.0)
    return trainings, total


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
    # null, of what is not finite, is NaN
    numbers = [np.array([metrics[of] for of in keys], float) for metrics in seeds if metrics.keys() >= set(keys)]
    values = [factor * sum(row) for row in numbers]
    intervals = [np.array(metrics[f"{key}_interval"], float) for metrics in seeds if f"{key}_interval" in metrics]
    cell = f"{np.mean(values):{form}}" if values else ""
    if len(values) > 1:
        cell += f" ± {np.std(values, ddof=1):{form}}"
    if intervals:
        low, high = factor * np.mean(intervals, axis=0)
        cell += f" ({low:{form}} to {high:{form}})"
    return cell
