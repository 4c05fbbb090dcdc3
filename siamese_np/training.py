"""Training: its configuration, its two protocols, the loop with its checkpoints, and a whole run of it all.

A run goes through these states. The file named is the last one written on the way into its state, and written as a
whole or not at all; from each state `train_run` with ``resume=True`` goes on, to the same bits.

    started, trained to epoch k      checkpoint.npz, after model.npz and history.csv of the k epochs
    interrupted by Ctrl-C            checkpoint.npz, in the middle of an epoch
    trained                          checkpoint.npz, of the last epoch
    evaluated                        none: the measurements are repeated
    drawn                            metrics.json, after the pictures and report.html
"""

import dataclasses
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import cached_property, partial
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siamese_np._checks import as_images, as_number, check_finite, check_margin, check_pairable, is_whole
from siamese_np._process import on_interrupt
from siamese_np.augment import Augmentation, augmented
from siamese_np.checkpoint import check_saveable, describe, identity, load_checkpoint, own_parts, save_checkpoint
from siamese_np.datasets import Dataset
from siamese_np.errors import OptionError, ShapeError, TrainingError
from siamese_np.losses import LOSS_FORMS, AllPairsContrastiveLoss, ContrastiveLoss, loss_kind
from siamese_np.metrics import calibrate_threshold, pair_accuracy, pair_distances
from siamese_np.network import PRESETS, Sequential, SiameseNetwork, make_network
from siamese_np.optimizers import OPTIMIZERS, SCHEDULES
from siamese_np.pairs import balanced_batches, random_pairs
from siamese_np.run_folder import (
    EVALUATION_SEED,
    check_folder,
    evaluate,
    make_folder,
    remove_leftovers,
    write_history,
    write_run,
)
from siamese_np.storage import save_model, versions

Images = NDArray[np.floating]
Change = Callable[[Images], Images]
Log = Callable[[str], None]

REHEARSED = 8  # validation images, before the first step

PROTOCOL_DEFAULTS: dict[str, dict[str, Any]] = {
    "batch": {"epochs": 4, "batch_size": 256, "learning_rate": 3e-3},
    "notebook": {"epochs": 5, "batch_size": 32, "learning_rate": 1e-3},
}


def _option(default: Any, metavar: str, about: str, choices: Collection[str] = ()) -> Any:
    """A field of `TrainConfig`, with what the command line says of it; the default None is the protocol's."""
    return dataclasses.field(default=default, metadata={"metavar": metavar, "help": about, "choices": choices})


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """How to train; together with the data and the versions of the packages it decides every number.

    Each field's metadata hold its help text. None for `epochs`, `batch_size` and `learning_rate` stands for what
    `PROTOCOL_DEFAULTS` has for the protocol: ``batch``, class-balanced batches of images and all pairs of a batch, or
    ``notebook``, random pairs drawn once, as in the original notebook.

    Raises
    ------
    OptionError
        In one sentence: which field is wrong, and what would be right.
    """

    preset: str = _option("cnn", "P", "network to train", PRESETS)
    protocol: str = _option("batch", "P", "what a step compares", PROTOCOL_DEFAULTS)
    epochs: int = _option(None, "N", "passes over the data")
    batch_size: int = _option(None, "B", "images (batch) or pairs (notebook) a step")
    seed: int = _option(0, "S", "seed of everything random")
    margin: float = _option(1.0, "M", "margin of the contrastive loss")
    learning_rate: float = _option(None, "R", "at the top of the schedule")
    optimizer: str = _option("adam", "O", "rule of a step", OPTIMIZERS)
    schedule: str = _option("one-cycle", "S", "course of the learning rate", SCHEDULES)

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value, choices = getattr(self, field.name), field.metadata["choices"]
            if choices and (not isinstance(value, str) or value not in choices):
                raise OptionError(f"there is no {field.name} {value!r}; choose one of {', '.join(sorted(choices))}")
        for name, default in PROTOCOL_DEFAULTS[self.protocol].items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, default)
        for name, least in {"epochs": 1, "batch_size": 1, "seed": 0}.items():
            value = getattr(self, name)
            if not is_whole(value) or value < least:
                raise OptionError(f"{name} must be at least {least} and a whole number, not {value!r}")
            object.__setattr__(self, name, int(value))  # JSON knows no numbers of NumPy
        rate, largest = as_number(self.learning_rate), float(np.finfo(np.float32).max)
        if not 0 < rate <= largest:
            raise OptionError(
                f"the learning rate must be a finite number above 0, at most {largest:.2g}, not {self.learning_rate!r}"
            )
        object.__setattr__(self, "margin", check_margin(self.margin))
        object.__setattr__(self, "learning_rate", rate)


def _check_images(dataset: Dataset, network: Sequential) -> None:
    """ShapeError, which names the part, unless `network` takes all images of `dataset`."""
    for part in ("train", "validation", "test"):
        try:
            check_finite(as_images(getattr(dataset, part).images, network.input_shape, network.params.dtype))
        except ShapeError as error:
            raise ShapeError(f"the {part} images of {dataset.name} cannot be used: {error}") from None


def unchanged(images: Images) -> Images:
    """The images of a step without augmentation."""
    return images


class BatchProtocol:
    """Every training image once an epoch, in class-balanced batches; the loss is that of a whole batch."""

    loss_kind = "batch"
    keeps_best = True

    def __init__(self, config: TrainConfig, dataset: Dataset, loss: Any = None) -> None:
        self.split, self.config = dataset.train, config
        check_pairable(self.split.classes)
        self.loss = AllPairsContrastiveLoss(config.margin) if loss is None else loss
        self.steps = sum(1 for _ in self.batches(0))
        self.description = f"{len(self.split):,} images in class-balanced batches, all pairs of each batch"

    def batches(self, epoch: int) -> Iterator[NDArray[np.int64]]:
        """One epoch's batches of image indices."""
        rng = np.random.default_rng([self.config.seed, 1, epoch])
        return balanced_batches(self.split.classes, self.config.batch_size, rng)

    def images_in(self, steps: int) -> int:
        """How many images the first `steps` of an epoch embed."""
        size, larger = divmod(len(self.split), self.steps)  # the first batches hold one image more
        return steps * size + min(steps, larger)

    def gradients(self, siamese: SiameseNetwork, batch: NDArray[np.int64], change: Change = unchanged) -> float:
        """Add the gradients of a batch, of images as `change` returns them; return its loss."""
        return siamese.gradients(change(self.split.images[batch]), self.split.classes[batch], self.loss)


class NotebookProtocol:
    """The original notebook: for every image one similar and one dissimilar pair, drawn once.

    As there, all training images take part, those of the validation split included. So validation metrics
    are not of unseen images here; they choose no weights (the last epoch's are kept) but the threshold.
    """

    loss_kind = "pairs"
    keeps_best = False

    def __init__(self, config: TrainConfig, dataset: Dataset, loss: Any = None) -> None:
        self.images, self.config = dataset.all_train.images, config
        self.pairs, self.label = random_pairs(dataset.all_train.classes, np.random.default_rng([config.seed, 2]))
        pairs = len(self.label)
        if config.batch_size > pairs:
            raise OptionError(f"the batch size must be at most the {pairs} pairs there are, not {config.batch_size}")
        self.loss = ContrastiveLoss(config.margin) if loss is None else loss
        self.steps = (pairs + config.batch_size - 1) // config.batch_size
        self.description = f"{pairs:,} random pairs of {len(self.images):,} images"

    def batches(self, epoch: int) -> Iterator[NDArray[np.int64]]:
        """One epoch's batches of pair numbers, shuffled."""
        order = np.random.default_rng([self.config.seed, 1, epoch]).permutation(len(self.label))
        size = self.config.batch_size
        return (order[start : start + size] for start in range(0, len(order), size))

    def images_in(self, steps: int) -> int:
        """How many images the first `steps` of an epoch embed."""
        return 2 * min(steps * self.config.batch_size, len(self.label))

    def gradients(self, siamese: SiameseNetwork, batch: NDArray[np.int64], change: Change = unchanged) -> float:
        """As `BatchProtocol.gradients`, of a batch of pairs."""
        images_a, images_b = (change(self.images[side]) for side in self.pairs[batch].T)
        return siamese.pair_gradients(images_a, images_b, self.label[batch], self.loss)


PROTOCOLS: dict[str, type[BatchProtocol] | type[NotebookProtocol]] = {
    "batch": BatchProtocol,
    "notebook": NotebookProtocol,
}


class Training:
    """The training of a run, from its first step to its last; its checkpoint holds all of its state.

    Parameters are those of `train_run`. `siamese` has the best weights so far once `run` is over; `history` has one row
    for each finished epoch, `losses` one number for each step of the epoch after them.
    """

    folder: Path | None = None
    seconds = compile_seconds = 0.0  # of the steps, without validation; of compiling or loading the kernels before
    interrupted = False

    def __init__(
        self, config: TrainConfig, dataset: Dataset, network: Any = None, loss: Any = None, augment: Any = None
    ) -> None:
        self.config, self.dataset, self.augment = config, dataset, augment
        self.own = own_parts(network, loss, augment)
        protocol, shape = PROTOCOLS[config.protocol], dataset.train.images.shape[1:]
        if loss is not None and loss_kind(loss) != protocol.loss_kind:
            wanted = f"forward({', '.join(LOSS_FORMS[protocol.loss_kind])})"
            raise OptionError(
                f"the {config.protocol} protocol needs a loss with {wanted}, but {type(loss).__name__} has another"
            )
        if network is None:
            network = make_network(config.preset, input_shape=shape, seed=config.seed)
        elif network.input_shape != shape:
            raise ShapeError(f"the images of {dataset.name} are {shape}, but the network takes {network.input_shape}")
        self.siamese = SiameseNetwork(network, config.margin)
        _check_images(dataset, network)
        check_pairable(dataset.validation.classes, f"validation images of {dataset.name}")
        self.optimizer = OPTIMIZERS[config.optimizer](network)
        self.protocol = protocol(config, dataset, loss)
        self.history: list[dict[str, float]] = []
        self.losses: list[float] = []
        self.best_params, self.best = network.params.copy(), self.best_of([])
        self._pairs = random_pairs(dataset.validation.classes, np.random.default_rng(EVALUATION_SEED))

    @classmethod
    def resume(cls, dataset: Dataset, folder: Path, config: TrainConfig | None = None, **own: Any) -> "Training":
        """Take up the run in `folder` after the last step of its checkpoint.

        Raises
        ------
        ModelError
            There is no checkpoint, it is damaged, the run had another configuration, data, network, loss or
            augmentation, or it is complete: trained, evaluated and drawn.
        """
        return load_checkpoint(
            folder, dataset, config, own, lambda options: cls(TrainConfig(**options), dataset, **own)
        )

    def run(self, log: Log = lambda line: None, show_bar: bool = False) -> None:
        """Train to the last epoch, or until Ctrl-C; then put the best weights into `siamese`.

        TrainingError where the loss is no longer finite; model and checkpoint of the last good epoch are kept.
        """
        from tqdm import tqdm

        if not self.compile_seconds:
            self.rehearse()
        self._save()  # from now on there is something to resume
        with (
            on_interrupt() as stop,
            tqdm(total=self.total_steps, initial=self.optimizer.steps, disable=not show_bar, unit="step") as bar,
        ):
            while len(self.history) < self.config.epochs and not stop.is_set():
                self._train_epoch(bar, stop)
                if len(self.losses) < self.protocol.steps:
                    self._save()  # before these weights may become the best: no other run looks at them
                    self._validate()
                    self._save_model()
                else:
                    row = self._validate()
                    self.history.append(row)
                    self.losses = []
                    self._save()
                    self._log_epoch(row, log)
            self.interrupted = stop.is_set()
        self._use_best()

    @property
    def best_epoch(self) -> float:
        """Passes over the data after which the kept weights stood; no whole number where Ctrl-C came between."""
        return self.best["epoch"]

    @property
    def total_steps(self) -> int:
        """Steps of all epochs."""
        return self.config.epochs * self.protocol.steps

    @property
    def images_seen(self) -> int:
        """Images embedded in all steps so far."""
        whole, part = (self.protocol.images_in(steps) for steps in (self.protocol.steps, len(self.losses)))
        return len(self.history) * whole + part

    def rehearse(self) -> None:
        """Take the first step and validate a few images, but leave network and data as they are.

        It compiles or loads every kernel before the clock of training starts, and tells what cannot be trained with.

        Raises
        ------
        OptionError, ShapeError
            Network, loss or augmentation return what they may not, or a layer writes into its input.
        TrainingError
            The loss or a gradient is not finite.
        """
        start, network = time.perf_counter(), self.siamese.network
        params, grads = network.params.copy(), network.grads.copy()
        try:
            network.zero_grads()
            batch = next(iter(self.protocol.batches(0)))
            loss = self.protocol.gradients(self.siamese, batch, self._change(0, 0))
            finite = np.isfinite(network.grads).all()
            self.siamese.embed(self.dataset.validation.images[:REHEARSED])
            OPTIMIZERS[self.config.optimizer](params.copy(), np.zeros_like(params)).step(self.config.learning_rate)
        finally:
            network.params[:], network.grads[:] = params, grads
        if not np.isfinite(loss) or not finite:
            what = "a gradient holds NaN or infinity" if np.isfinite(loss) else f"the loss is {loss}"
            raise TrainingError(
                f"a step was tried on the first batch, and {what}: look at the weights, at the range of the images and "
                "at each layer and loss of your own with the gradient checker"
            )
        self.compile_seconds = time.perf_counter() - start

    def _train_epoch(self, bar: Any, stop: threading.Event) -> None:
        """Train what is left of an epoch, or part of it if `stop` is set."""
        epoch, config = len(self.history), self.config
        schedule = SCHEDULES[config.schedule]
        validated = f", val {self.history[-1]['validation_pair_accuracy']:.4f}" if self.history else ""
        seen_before, start, shown = self.images_seen, time.perf_counter(), 0.0
        for step, batch in islice(enumerate(self.protocol.batches(epoch)), len(self.losses), None):
            if stop.is_set():
                break
            self.siamese.network.zero_grads()
            loss = self.protocol.gradients(self.siamese, batch, self._change(epoch, step))
            if not np.isfinite(loss):
                raise self._diverged(f"the loss became {loss} in epoch {epoch + 1}, step {step + 1}")
            self.optimizer.step(config.learning_rate * schedule(self.optimizer.steps / self.total_steps))
            self.losses.append(loss)
            bar.update()
            if time.perf_counter() - shown > 0.5:
                shown = time.perf_counter()
                rate = (self.images_seen - seen_before) / (shown - start)
                bar.set_postfix_str(f"loss {np.mean(self.losses[-50:]):.4f}{validated}, {rate:,.0f} images/s")
        self.seconds += time.perf_counter() - start

    def _change(self, epoch: int, step: int) -> Change:
        """The augmentation of one step: a resumed run draws the same."""
        if self.augment is None:
            return unchanged
        return partial(augmented, self.augment, rng=np.random.default_rng([self.config.seed, 3, epoch, step]))

    def _validate(self) -> dict[str, float]:
        """One row of history for the weights as they are; remember them if they are the best."""
        epoch, steps = len(self.history), len(self.losses)
        pairs, label = self._pairs
        emb = self.siamese.embed(self.dataset.validation.images)
        try:
            dist = pair_distances(emb, pairs)
            validation_loss = ContrastiveLoss(self.config.margin).forward(dist, label)[0]
        except ShapeError:
            raise self._diverged(f"the embeddings became too large to be measured in epoch {epoch + 1}") from None
        threshold = calibrate_threshold(dist, label)
        row = {
            "epoch": epoch + 1 if steps == self.protocol.steps else epoch + steps / self.protocol.steps,
            "loss": float(np.mean(self.losses)) if self.losses else float("nan"),
            "validation_loss": validation_loss,
            "validation_pair_accuracy": pair_accuracy(dist, label, threshold),
            "validation_dissimilar_distance": float(dist[label == 1].mean()),
            "threshold": threshold,
            "seconds": self.seconds,
            "images_per_second": self.images_seen / self.seconds if self.seconds else 0.0,
        }
        best = self.best_of([*self.history, row])
        if best["epoch"] == row["epoch"]:
            self.best = best
            self.best_params[:] = self.siamese.network.params
        return row

    def best_of(self, history: Sequence[dict[str, float]]) -> dict[str, float]:
        """Accuracy, threshold and epoch of the row whose weights are kept: the first of the best, or the last."""
        if not history:
            return {"accuracy": -1.0, "threshold": self.config.margin / 2, "epoch": 0}
        row = max(history, key=itemgetter("validation_pair_accuracy")) if self.protocol.keeps_best else history[-1]
        return {"accuracy": row["validation_pair_accuracy"], "threshold": row["threshold"], "epoch": row["epoch"]}

    def _diverged(self, what: str) -> TrainingError:
        cause = ""
        if {"network", "loss"} & set(self.own) and any(np.isnan(kept).any() for kept in self.optimizer.state.values()):
            what = "a gradient held NaN"  # which the optimizer keeps
            cause = "check the backward passes of your own layers and loss with the gradient checker, or "
        return TrainingError(
            f"{what}; {cause}lower the learning rate (it is {self.config.learning_rate:g}) and start again, "
            "in another run folder or with --overwrite"
        )

    def _log_epoch(self, row: dict[str, float], log: Log) -> None:
        log(
            f"epoch {row['epoch']}/{self.config.epochs}: loss {row['loss']:.4f}, "
            f"validation loss {row['validation_loss']:.4f}, "
            f"validation pair accuracy {row['validation_pair_accuracy']:.4f}, "
            f"{row['seconds']:.1f} s, {row['images_per_second']:,.0f} images/s"
        )
        collapsed_loss = self.config.margin**2 / 4  # dissimilar images, too, are (almost) at distance 0
        at_collapse = abs(row["validation_loss"] / collapsed_loss - 1) < 0.05
        if at_collapse and row["validation_dissimilar_distance"] < 0.05 * self.config.margin and not self.own:
            log(
                f"warning: the embedding has collapsed: the loss sits at margin^2/4 = {collapsed_loss:g} because all "
                "images get the same embedding; try a lower learning rate or another seed"
            )

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What a checkpoint says of the training from its first step to its last."""
        return identity(self.config, self.dataset, self.own, self.siamese.network)

    def _save(self) -> None:
        """Write model and history of the finished epochs, then the checkpoint that a resumed run goes on from."""
        if self.folder is not None:
            if self.history:
                self._save_model()
            write_history(self.folder, self.history)
            save_checkpoint(self.folder, self)

    def _save_model(self) -> None:
        """Write the best weights to ``model.npz``."""
        if self.folder is None:
            return
        now = self.siamese.network.params.copy()
        self._use_best()
        try:
            notes = {"options": describe(self.config, self.own), "epoch": self.best["epoch"]}
            save_model(self.folder / "model.npz", self.siamese, notes)
        finally:
            self.siamese.network.params[:] = now

    def _use_best(self) -> None:
        self.siamese.network.params[:] = self.best_params
        self.siamese.threshold = self.best["threshold"]


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
        Whether Ctrl-C ended the training; with ``resume=True`` it goes on.
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
    on_metrics: Callable[[dict[str, Any]], None] | None = None,
    log: Log | None = None,
    show_bar: bool = False,
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
        batch loss for ``batch``, a pair loss for ``notebook``. Validation loss and test loss stay contrastive.
    augment : callable, optional
        Changes the images of each step (`siamese_np.augment`).
    resume : bool
        Go on with the run in `folder`, from whichever state it was left in. Data, network, loss and augmentation
        must be those of the run; a checkpoint knows a network by its ``config()`` and which of its layers are frozen,
        a loss and an augmentation by their ``repr``.
    overwrite : bool
        Replace the run in `folder`; not together with `resume`.
    on_metrics : callable, optional
        Is given the metrics as soon as they are known, before the pictures are drawn.
    log : callable, optional
        Is given one line of text for each event.
    show_bar : bool
        Show a progress bar on standard error.

    Returns
    -------
    Run

    Raises
    ------
    OptionError, ShapeError, DataError
        Something given does not fit; nothing was written.
    ModelError
        The folder cannot be used, or not be resumed, or the network cannot be saved in it.
    TrainingError
        The loss is not finite: from the start, and nothing was written, or no longer, and the run folder keeps the
        last good epoch.

    Examples
    --------
    The batch-hard loss with a soft margin (Hermans, Beyer & Leibe 2017, section 2): for each image the distance to the
    furthest one of its class, less that to the nearest one of another class.

    >>> import numpy as np
    >>> from siamese_np import Dataset, PairwiseDistances, RandomShift, Split, TrainConfig, train_run
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
    >>> run = train_run(config, Dataset("halves", split, split, split), loss=BatchHardLoss(), augment=RandomShift(1))
    >>> run.history[-1]["loss"] < run.history[0]["loss"], run.metrics["pair_accuracy"]
    (True, 1.0)
    """
    log = log or (lambda line: None)
    if not (isinstance(config, TrainConfig) or (config is None and resume)) or not isinstance(dataset, Dataset):
        given = f"{type(config).__name__} and {type(dataset).__name__}"
        raise OptionError(f"train_run needs a TrainConfig and a Dataset, not {given}")
    check_pairable(dataset.test.classes, f"test images of {dataset.name}")  # told before the training, not after it
    if resume:
        if folder is None:
            raise OptionError("a run is resumed from its folder, but no folder was given")
        if overwrite:
            raise OptionError("a run is resumed or overwritten, not both: leave out resume or overwrite")
        training = Training.resume(dataset, Path(folder), config, network=network, loss=loss, augment=augment)
        remove_leftovers(Path(folder))
        log(f"resuming {folder} after {training.optimizer.steps} of {training.total_steps} steps")
    else:
        assert config is not None
        training = Training(config, dataset, network, loss, augment)
        if folder is not None:
            check_folder(Path(folder), overwrite)
            if network is not None:
                check_saveable(network)
    log(f"{dataset.name}: training on {training.protocol.description}")
    options = describe(training.config, training.own)
    log("options: " + ", ".join(f"{name} {value}" for name, value in options.items()))
    classes = len(np.unique(dataset.train.classes))
    if training.protocol.loss_kind == "batch" and training.config.batch_size <= classes:
        log(
            f"warning: batches of {training.config.batch_size} images of {classes} classes hold hardly any similar pair"
        )

    training.rehearse()
    if folder is not None and not resume:
        training.folder = make_folder(Path(folder), overwrite)
    if training.folder:
        log(f"run folder: {training.folder}")
    training.run(log, show_bar)
    siamese, history = training.siamese, training.history
    if training.interrupted:
        log(
            f"interrupted after {training.optimizer.steps} of {training.total_steps} steps; "
            f"the weights after {training.best_epoch:.3g} of {training.config.epochs} epochs are kept"
        )
        return Run(siamese, history, {}, training.folder, interrupted=True)
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
        "options": options,
        "versions": versions(),
        "run": str(training.folder) if training.folder else None,
    }
    if on_metrics:
        on_metrics(metrics)
    if training.folder:
        log("drawing")
        write_run(training.folder, evaluation, dataset, history, metrics)
        log(f"pictures and page: {training.folder / 'report.html'}")
    return Run(siamese, history, metrics, training.folder, interrupted=False)
