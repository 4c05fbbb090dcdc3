"""A whole run: training with its checkpoints, evaluation, pictures, all in one folder.

A run goes through these states. The file named is the last one written on the way into its state, and written as a
whole or not at all; from each state `train_run` with ``resume=True`` goes on, to the same bits.

    started, trained to epoch k      checkpoint.npz, after model.npz and history.csv of the k epochs
    trained to a step of an epoch    checkpoint.npz, of a minute ago or of an interruption
    trained                          checkpoint.npz, of the last epoch
    able to tell what is unlike it   model.npz, with novelty
    evaluated                        none: the measurements are repeated
    drawn                            metrics.json, after the pictures and report.html

While a process writes to the folder, it holds the lock of a file in it. Ctrl-C, SIGTERM and SIGHUP interrupt alike.
"""

import contextlib
import dataclasses
import math
import shlex
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from siamese_np._checks import as_number, as_path, check_pairable
from siamese_np._process import on_interrupt
from siamese_np.augment import Augmentation
from siamese_np.checkpoint import check_saveable, describe, load_checkpoint, save_checkpoint
from siamese_np.config import TrainConfig
from siamese_np.datasets import Dataset
from siamese_np.distributed import communicator
from siamese_np.errors import OptionError
from siamese_np.evaluation import evaluate
from siamese_np.network import Sequential, SiameseNetwork
from siamese_np.novelty import Novelty
from siamese_np.report.health import health
from siamese_np.run_folder import (
    check_folder,
    clear_folder,
    locked,
    made_folder,
    remove_leftovers,
    write_history,
    write_run,
)
from siamese_np.storage import save_model, versions
from siamese_np.training import Training

FEW_STEPS = 100
CHECKPOINT_SECONDS = 60.0

Log = Callable[[str], None]


def resumed(
    folder: Path, dataset: Dataset, config: TrainConfig | None = None, log: Log = lambda line: None, **own: Any
) -> Training:
    """The training of the run in `folder`, after the last step of its checkpoint.

    Raises
    ------
    ModelError
        There is no checkpoint, it is damaged, the run had another configuration, data, network, loss or
        augmentation, or it is complete: trained, evaluated and drawn.
    """
    return load_checkpoint(
        folder, dataset, config, own, lambda options: Training(TrainConfig(**options), dataset, **own), log
    )


def train(
    training: Training,
    folder: Path | None = None,
    log: Log = lambda line: None,
    show_bar: bool = False,
    checkpoint_every: float = CHECKPOINT_SECONDS,
) -> bool:
    """Train to the last epoch, or until an interruption; then put the best weights into ``training.siamese``.

    Parameters
    ----------
    training : Training
    folder : Path, optional
        Run folder for model, history and checkpoint.
    log : callable
        Is given one line of text for each epoch.
    show_bar : bool
        Show a progress bar on standard error.
    checkpoint_every : float
        Seconds after which a checkpoint is written within an epoch.

    Returns
    -------
    bool
        False where Ctrl-C, SIGTERM or SIGHUP ended it.

    Raises
    ------
    TrainingError
        The loss is no longer finite; model and checkpoint of the last good epoch are kept.
    """
    from tqdm import tqdm

    if not training.compile_seconds:
        training.rehearse()
    _save(training, folder)  # from now on there is something to resume
    total, before = training.total_steps, training.optimizer.steps
    with on_interrupt() as signalled, tqdm(total=total, initial=before, disable=not show_bar, unit="step") as bar:

        def stop(due: float = math.inf) -> bool:
            return training.ranks.any(signalled.is_set() or time.monotonic() >= due)

        while len(training.history) < training.config.epochs and not stop():
            due = time.monotonic() + checkpoint_every
            training.train_epoch(partial(stop, due), _shown_on(bar, training))
            if len(training.losses) == training.protocol.steps:
                training.history.append({**training.validate(), **health(training)})
                training.losses = []
                _save(training, folder)
                _log_epoch(training, log)
                continue
            if folder is not None:
                save_checkpoint(folder, training)  # before these weights may become the best: no other run validates
            if stop():
                training.validate()
                _save_model(training, folder)
    training.use_best()
    return not stop()


def _shown_on(bar: Any, training: Training) -> Callable[[], None]:
    """What shows each step of an epoch on `bar`, and twice a second loss and speed."""
    validated = f", val {training.history[-1]['validation_pair_accuracy']:.4f}" if training.history else ""
    seen, seconds, shown = training.images_seen, training.seconds, 0.0

    def show() -> None:
        nonlocal shown
        bar.update()
        if time.perf_counter() - shown > 0.5:
            shown = time.perf_counter()
            rate = (training.images_seen - seen) / (training.seconds - seconds)
            bar.set_postfix_str(f"loss {np.mean(training.losses[-50:]):.4f}{validated}, {rate:,.0f} images/s")

    return show


def _save(training: Training, folder: Path | None) -> None:
    """Write model and history of the finished epochs, then the checkpoint that a resumed run goes on from."""
    if folder is not None:
        if training.history:
            _save_model(training, folder)
            write_history(folder, training.history)
        save_checkpoint(folder, training)


def _save_model(training: Training, folder: Path | None) -> None:
    """Write the best weights to ``model.npz``."""
    if folder is None:
        return
    network, data = training.siamese.network, training.dataset
    training.siamese.trained_on = data.source and {**data.source, "sha256": data.digests["all"]}
    now = network.params.copy()
    training.use_best()
    try:
        notes = {"options": describe(training.config, training.own), "epoch": training.best["epoch"]}
        save_model(folder / "model.npz", training.siamese, notes)
    finally:
        network.params[:] = now


def _log_epoch(training: Training, log: Log) -> None:
    row, config = training.history[-1], training.config
    log(
        f"epoch {row['epoch']}/{config.epochs}: loss {row['loss']:.4f}, "
        f"validation loss {row['validation_loss']:.4f}, "
        f"validation pair accuracy {row['validation_pair_accuracy']:.4f}, "
        f"{row['seconds']:.1f} s, {row['images_per_second']:,.0f} images/s"
    )
    collapsed_loss = config.margin**2 / 4  # dissimilar images, too, are (almost) at distance 0
    at_collapse = abs(row["validation_loss"] / collapsed_loss - 1) < 0.05
    if at_collapse and row["validation_dissimilar_distance"] < 0.05 * config.margin and not training.own:
        log(
            f"warning: the embedding has collapsed: the loss sits at margin^2/4 = {collapsed_loss:g} because all "
            "images get the same embedding; try a lower learning rate or another seed"
        )


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """What `train_run` leaves.

    Attributes
    ----------
    siamese : SiameseNetwork
        The trained network with the weights and the threshold that were kept.
    history : list of dict
        One row per finished epoch, as in ``history.csv``.
    metrics : dict
        What was measured on the test images, as in ``metrics.json``; empty where the training was interrupted.
    folder : Path or None
        The run folder.
    interrupted : bool
        Whether Ctrl-C, SIGTERM or SIGHUP ended the training; with ``resume=True`` it goes on.
    """

    siamese: SiameseNetwork
    history: list[dict[str, float]]
    metrics: dict[str, Any]
    folder: Path | None
    interrupted: bool


def train_run(
    config: TrainConfig | None,
    dataset: Dataset,
    folder: str | Path | None = None,
    *,
    network: Sequential | None = None,
    loss: Any = None,
    augment: Augmentation | None = None,
    resume: bool = False,
    overwrite: bool = False,
    checkpoint_every: float = CHECKPOINT_SECONDS,
    on_metrics: Callable[[dict[str, Any]], None] | None = None,
    log: Log | None = None,
    show_bar: bool = False,
    reduction: str = "in-order",
) -> Run:
    """Train, evaluate on the test images, draw and save: all that ``siamese-np train`` does.

    Layers, losses and augmentations must keep no state between their calls: a step is tried before the first one, and
    a resumed run knows only parameters. A dropout layer with a generator of its own would go on with other numbers.

    Parameters
    ----------
    config : TrainConfig
        With `resume` it may be None: the run's own.
    dataset : Dataset
    folder : path, optional
        Run folder to write, new or without a run in it; a ``*`` in its name becomes the first number that is free. By
        default nothing is written.
    network : Sequential, optional
        A network of your own in place of the preset's; it is trained itself, not a copy.
    loss : object, optional
        A loss of your own in place of the contrastive one, of the kind that the protocol takes (`siamese_np.losses`): a
        batch loss for ``batch``, a pair loss for ``notebook``. Validation loss and test loss stay contrastive; so does
        the choice of the epoch. The configuration's margin and negatives are not told to it.
    augment : callable, optional
        Changes the images of each step (`siamese_np.augment`), in place of the configuration's.
    resume : bool
        Go on with the run in `folder`, from whichever state it was left in. Data, network, loss and augmentation
        must be those of the run; a checkpoint knows a network by its ``config()`` and which of its layers are frozen,
        a loss and an augmentation by their ``repr``.
    overwrite : bool
        Replace the run in `folder`; not together with `resume`.
    checkpoint_every : float, default 60
        Seconds of training that a kill may cost: after as many a checkpoint is written within an epoch, too.
    on_metrics : callable, optional
        Is given the metrics as soon as they are known, before the pictures are drawn.
    log : callable, optional
        Is given one line of text for each event.
    show_bar : bool
        Show a progress bar on standard error.
    reduction : "in-order" or "allreduce"
        How ranks of MPI sum up their gradients (`siamese_np.distributed`). All ranks return the run, but the first
        alone is given a folder, logs and writes.

    Returns
    -------
    Run

    Raises
    ------
    OptionError, ShapeError, DataError
        Something given does not fit; nothing was written.
    ModelError
        The folder cannot be used, or not be resumed, another process writes to it, or the network cannot be saved.
    TrainingError
        The loss is not finite: from the start, and nothing was written, or no longer, and the run folder keeps the
        last good epoch.

    Examples
    --------
    The batch-hard loss with a soft margin (Hermans, Beyer & Leibe 2017, section 2): for each image the distance to the
    furthest one of its class, less that to the nearest one of another class.

    >>> import numpy as np
    >>> from siamese_np import Dataset, Distort, PairwiseDistances, Split, TrainConfig, train_run
    >>> class BatchHardLoss:
    ...     distances = PairwiseDistances()
    ...
    ...     def forward(self, emb, classes):
    ...         dist, cache = self.distances.forward(emb)
    ...         same, rows = classes[:, None] == classes, np.arange(len(emb))
    ...         far = np.where(same, dist, -1).argmax(axis=1)
    ...         near = np.where(same, np.inf, dist).argmin(axis=1)
    ...         gap = dist[rows, far] - dist[rows, near]
    ...         return float(np.logaddexp(0, gap).mean()), (gap, rows, far, near, cache)
    ...
    ...     def backward(self, cache):
    ...         gap, rows, far, near, cache = cache
    ...         slope = 1 / (1 + np.exp(-gap)) / len(gap)
    ...         ddist = np.zeros((len(gap), len(gap)), gap.dtype)
    ...         ddist[rows, far] += slope
    ...         ddist[rows, near] -= slope
    ...         return self.distances.backward(ddist, cache)
    >>> images = np.random.default_rng(0).random((60, 8, 8, 1), np.float32) / 4
    >>> images[::2, :4] += 0.5  # two classes, told apart by their upper halves
    >>> split = Split(images, np.arange(60) % 2)
    >>> config = TrainConfig(preset="mlp", epochs=3, batch_size=20)
    >>> run = train_run(config, Dataset("halves", split, split, split), loss=BatchHardLoss(), augment=Distort())
    >>> run.history[-1]["loss"] < run.history[0]["loss"], run.metrics["pair_accuracy"]
    (True, 1.0)
    """
    ranks = communicator(reduction)
    with ranks.together(), contextlib.ExitStack() as held:
        if log is None or ranks.rank:
            log = _no_log
        if not (isinstance(config, TrainConfig) or (config is None and resume)) or not isinstance(dataset, Dataset):
            given = f"{type(config).__name__} and {type(dataset).__name__}"
            raise OptionError(f"train_run needs a TrainConfig and a Dataset, not {given}")
        check_pairable(dataset.test.classes, f"test images of {dataset.name}")  # told before the training, not after it
        if not as_number(checkpoint_every) > 0:
            raise OptionError(f"checkpoint_every must be a number of seconds above 0, not {checkpoint_every!r}")
        path = None if folder is None or (ranks.rank and not resume) else as_path("a run folder", folder)
        if resume:
            if path is None:
                raise OptionError("a run is resumed from its folder, but no folder was given")
            if overwrite:
                raise OptionError("a run is resumed or overwritten, not both: leave out resume or overwrite")
            if (path / "checkpoint.npz").exists() and not ranks.rank:  # else `resumed` says so
                held.enter_context(locked(path))
            training = resumed(path, dataset, config, log, network=network, loss=loss, augment=augment)
            if ranks.rank:
                path = None  # read by all ranks, written by the first
            else:
                remove_leftovers(path)
            log(f"resuming {path} after {training.optimizer.steps} of {training.total_steps} steps")
        else:
            assert config is not None
            training = Training(config, dataset, network, loss, augment)
            if path is not None:
                check_folder(path, overwrite)
                if network is not None:
                    check_saveable(network)
        held.callback(setattr, training.siamese, "sharing", None)
        training.share(ranks, log)
        _log_start(training, log)
        training.rehearse()
        if path is not None and not resume:
            path = held.enter_context(made_folder(path))
            held.enter_context(locked(path))
            clear_folder(path, overwrite)
        if path is not None:
            log(f"run folder: {path}")
        on_metrics, show_bar = (None, False) if ranks.rank else (on_metrics, show_bar)
        try:
            return _carried_through(training, path, checkpoint_every, on_metrics, log, show_bar)
        except KeyboardInterrupt:
            if path is not None and (path / "checkpoint.npz").exists():
                log(f"interrupted; {_how_to_go_on(training, path)}")
            raise


def _no_log(line: str) -> None:
    pass


def _log_start(training: Training, log: Log) -> None:
    """Say what is trained on what, and warn of what promises little."""
    dataset, config = training.dataset, training.config
    log(f"{dataset.name}: training on {training.protocol.description}")
    log("options: " + ", ".join(f"{name} {value}" for name, value in describe(config, training.own).items()))
    classes = len(np.unique(dataset.train.classes))
    if (form := dataset.form) and dataset.source and dataset.source["source"]:
        H, W, C = form.shape
        log(f"data: {classes} classes, images of {H}x{W} {'colour' if C == 3 else 'grey'} pixels, read as {form.kind}")
        if training.total_steps < FEW_STEPS:
            log(f"warning: {training.total_steps} steps are few to learn from; more epochs may help (--epochs)")
    if training.protocol.loss_kind == "batch" and config.batch_size <= classes:
        log(f"warning: batches of {config.batch_size} images of {classes} classes hold hardly any similar pair")


def _how_to_go_on(training: Training, folder: Path) -> str:
    if training.own:
        return f"train_run with folder={str(folder)!r} and resume=True goes on"
    return f"`siamese-np train {shlex.join(['--resume', str(folder)])}` goes on"


def _carried_through(
    training: Training,
    folder: Path | None,
    checkpoint_every: float,
    on_metrics: Callable[[dict[str, Any]], None] | None,
    log: Log,
    show_bar: bool,
) -> Run:
    """Take a run from the state it is in to the last one."""
    done = train(training, folder, log, show_bar, checkpoint_every)
    siamese, history, dataset = training.siamese, training.history, training.dataset
    siamese.novelty = Novelty.fit(
        siamese.network, dataset.train.images, dataset.train.classes, dataset.validation.images
    )
    _save_model(training, folder)
    if not done:
        log(
            f"interrupted after {training.optimizer.steps} of {training.total_steps} steps; "
            f"the weights after {training.best_epoch:.3g} of {training.config.epochs} epochs are kept"
        )
        if folder is not None:
            log(_how_to_go_on(training, folder))
        return Run(siamese, history, {}, folder, interrupted=True)
    log(
        f"trained in {training.seconds:.1f} s; compiling or loading the kernels before took "
        f"{training.compile_seconds:.1f} s"
    )
    log("evaluating on the test images")
    evaluation = evaluate(siamese, dataset)
    metrics = {
        **evaluation.metrics,
        "seconds": training.seconds,
        "images_per_second": history[-1]["images_per_second"],
        "compile_seconds": training.compile_seconds,
        "epoch": training.best_epoch,
        "options": describe(training.config, training.own),
        "source": siamese.trained_on,
        "input": dataset.form and dataset.form.config(),
        "versions": versions(),
        "run": str(folder) if folder else None,
    }
    if on_metrics:
        on_metrics(metrics)
    if folder is not None:
        log("drawing")
        write_run(folder, evaluation, dataset, history, metrics)
        log(f"pictures and page: {folder / 'report.html'}")
    return Run(siamese, history, metrics, folder, interrupted=False)
