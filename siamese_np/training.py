"""The training loop: protocols, history, checkpoints, and what happens on Ctrl-C."""

import contextlib
import dataclasses
import hashlib
import json
import signal
import threading
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from siamese_np._checks import as_number, check_margin, is_whole
from siamese_np.datasets import Dataset, Split
from siamese_np.errors import ModelError, OptionError, TrainingError
from siamese_np.losses import AllPairsContrastiveLoss, ContrastiveLoss
from siamese_np.metrics import calibrate_threshold, pair_accuracy, pair_distances
from siamese_np.network import PRESETS, SiameseNetwork, make_network
from siamese_np.optimizers import OPTIMIZERS, SCHEDULES
from siamese_np.pairs import balanced_batches, check_pairable, random_pairs
from siamese_np.storage import load_arrays, save_arrays, save_model

EVALUATION_SEED = 20061  # evaluation pairs are the same for every run and every seed
CHECKPOINT_FORMAT = "siamese_np checkpoint 1"


@dataclasses.dataclass(frozen=True)
class Options:
    """How to train; together with the data and the versions of the packages it decides every number.

    Attributes
    ----------
    preset : "cnn" or "mlp"
    protocol : "batch" or "notebook"
        ``batch``: class-balanced batches of images, all pairs of a batch. ``notebook``: random pairs drawn
        once, as in the original notebook.
    epochs : int, at least 1
    batch_size : int, at least 2
        Images (batch) or pairs (notebook) per step.
    seed : int, at least 0
    margin : float, above 0
    learning_rate : float, above 0
        At the top of the schedule.
    optimizer : "adam" or "sgd"
    schedule : "constant", "cosine" or "one-cycle"
    """

    preset: str = "cnn"
    protocol: str = "batch"
    epochs: int = 4
    batch_size: int = 256
    seed: int = 0
    margin: float = 1.0
    learning_rate: float = 3e-3
    optimizer: str = "adam"
    schedule: str = "one-cycle"

    def __post_init__(self) -> None:
        known: dict[str, Collection[str]] = {
            "preset": PRESETS,
            "protocol": PROTOCOLS,
            "optimizer": OPTIMIZERS,
            "schedule": SCHEDULES,
        }
        for name, choices in known.items():
            value = getattr(self, name)
            if not isinstance(value, str) or value not in choices:
                raise OptionError(f"there is no {name} {value!r}; choose one of {', '.join(sorted(choices))}")
        for name, least in {"epochs": 1, "batch_size": 1, "seed": 0}.items():
            value = getattr(self, name)
            if not is_whole(value) or value < least:
                raise OptionError(f"{name} must be at least {least} and a whole number, not {value!r}")
            object.__setattr__(self, name, int(value))  # JSON knows no numbers of NumPy
        rate = as_number(self.learning_rate)
        if not 0 < rate < np.inf:
            raise OptionError(f"the learning rate must be a finite number above 0, not {self.learning_rate!r}")
        object.__setattr__(self, "margin", check_margin(self.margin))
        object.__setattr__(self, "learning_rate", rate)

    @classmethod
    def of(cls, protocol: str = "batch", **given: Any) -> "Options":
        """Options with the defaults of `protocol`, but for those given."""
        defaults = PROTOCOLS[protocol].defaults if protocol in PROTOCOLS else {}
        return cls(protocol=protocol, **{**defaults, **given})


class BatchProtocol:
    """Every training image once an epoch, in class-balanced batches; loss over all pairs of a batch."""

    defaults: ClassVar[dict[str, Any]] = {}
    keeps_best = True

    def __init__(self, dataset: Dataset, options: Options) -> None:
        self.split, self.options = dataset.train, options
        check_pairable(self.split.classes)
        self.loss = AllPairsContrastiveLoss(options.margin)
        self.steps = sum(1 for _ in self.batches(0))
        images = len(self.split.images)
        self.says = f"{images:,} images in class-balanced batches, all pairs of each batch"

    def batches(self, epoch: int) -> Iterator[NDArray[np.int64]]:
        """One epoch's batches of image indices."""
        rng = np.random.default_rng([self.options.seed, 1, epoch])
        return balanced_batches(self.split.classes, self.options.batch_size, rng)

    def gradients(self, siamese: SiameseNetwork, batch: NDArray[np.int64]) -> tuple[float, int]:
        """Add the batch's gradients; return its loss and the number of images embedded."""
        emb, caches = siamese.network.forward(self.split.images[batch])
        loss, cache = self.loss.forward(emb, self.split.classes[batch])
        siamese.network.backward(self.loss.backward(cache), caches, need_dx=False)
        return loss, len(batch)


class NotebookProtocol:
    """The original notebook: for every image one similar and one dissimilar pair, drawn once.

    As there, all training images take part, those of the validation split included. So validation figures
    are not of unseen images here; they choose no weights (the last epoch's are kept) but the threshold.
    """

    defaults: ClassVar[dict[str, Any]] = {"epochs": 5, "batch_size": 32, "learning_rate": 1e-3}
    keeps_best = False

    def __init__(self, dataset: Dataset, options: Options) -> None:
        self.images, self.options = dataset.all_train.images, options
        self.pairs, self.label = random_pairs(dataset.all_train.classes, np.random.default_rng([options.seed, 2]))
        if options.batch_size > len(self.label):
            pairs = len(self.label)
            raise OptionError(f"the batch size must be at most the {pairs} pairs there are, not {options.batch_size}")
        self.loss = ContrastiveLoss(options.margin)
        self.steps = -(-len(self.label) // options.batch_size)
        self.says = f"{len(self.label):,} random pairs of {len(self.images):,} images"

    def batches(self, epoch: int) -> Iterator[NDArray[np.int64]]:
        """One epoch's batches of pair numbers, shuffled."""
        order = np.random.default_rng([self.options.seed, 1, epoch]).permutation(len(self.label))
        size = self.options.batch_size
        return (order[start : start + size] for start in range(0, len(order), size))

    def gradients(self, siamese: SiameseNetwork, batch: NDArray[np.int64]) -> tuple[float, int]:
        """Add the batch's gradients; return its loss and the number of images embedded."""
        a, b = self.pairs[batch].T
        dist, cache = siamese.forward(self.images[a], self.images[b])
        loss, loss_cache = self.loss.forward(dist, self.label[batch])
        siamese.backward(self.loss.backward(loss_cache), cache)
        return loss, 2 * len(batch)


Protocol = BatchProtocol | NotebookProtocol
PROTOCOLS: dict[str, type[BatchProtocol] | type[NotebookProtocol]] = {
    "batch": BatchProtocol,
    "notebook": NotebookProtocol,
}


class Training:
    """One training run, from its first step to its last; a checkpoint holds all of its state.

    Parameters
    ----------
    dataset : Dataset
    options : Options
    folder : Path, optional
        Where ``checkpoint.npz`` and ``model.npz`` are written after each epoch; by default nowhere.

    Attributes
    ----------
    siamese : SiameseNetwork
        The network, with the best weights so far once `run` is over.
    history : list of dict
        One row per finished epoch.
    compile_seconds, seconds : float
        Time to compile (or load) the kernels, and time of the training steps, without validation.
    interrupted : bool
        Whether Ctrl-C ended the run.
    """

    def __init__(self, dataset: Dataset, options: Options, folder: Path | None = None) -> None:
        self.dataset, self.options, self.folder = dataset, options, folder
        shape = dataset.train.images.shape[1:]
        network = make_network(options.preset, input_shape=shape, seed=options.seed)
        self.siamese = SiameseNetwork(network, options.margin)
        self.optimizer = OPTIMIZERS[options.optimizer](network)
        self.protocol = PROTOCOLS[options.protocol](dataset, options)
        self.history: list[dict[str, float]] = []
        self.images_seen = 0
        self.seconds = 0.0
        self.compile_seconds = 0.0
        self.interrupted = False
        self._best_params = network.params.copy()
        self._best = {"accuracy": -1.0, "threshold": options.margin / 2, "epoch": 0}
        self._pairs = random_pairs(dataset.validation.classes, np.random.default_rng(EVALUATION_SEED))

    @classmethod
    def resume(cls, dataset: Dataset, folder: Path) -> "Training":
        """Take up the run in `folder` after its last finished epoch (from the start if there is none).

        Raises
        ------
        ModelError
            There is no checkpoint, it is damaged, it was trained on other data, or the run is complete: trained,
            judged and drawn.
        """
        path = folder / "checkpoint.npz"
        made: list[Training] = []

        def arrays_of(header: dict[str, Any]) -> dict[str, NDArray[Any]]:
            if header.get("data") != _fingerprint(dataset):
                raise ModelError(f"the run in {folder} was trained on other data than {dataset.name}")
            try:
                made.append(cls(dataset, Options(**header["options"]), folder))
            except (KeyError, TypeError) as error:
                raise ModelError(f"{path} has a header that describes no training run: {error}") from None
            return made[0]._arrays()

        if not path.exists():
            raise ModelError(f"there is nothing to resume in {folder}: it has no checkpoint.npz")
        header, arrays = load_arrays(path, CHECKPOINT_FORMAT, arrays_of)
        run = made[0]
        for name, array in run._arrays().items():
            array[:] = arrays[name]
        run.history, run._best = header["history"], header["best"]
        run.optimizer.steps = header["steps"]
        run.images_seen, run.seconds = header["images_seen"], header["seconds"]
        if len(run.history) >= run.options.epochs and (folder / "metrics.json").exists():
            raise ModelError(f"the run in {folder} is complete: all its {run.options.epochs} epochs are done")
        return run

    def run(self, say: Callable[[str], None] = lambda line: None, show_bar: bool = False) -> None:
        """Train to the last epoch, or until Ctrl-C; then put the best weights into `siamese`.

        Parameters
        ----------
        say : callable
            Is given one line of text for each epoch and each event.
        show_bar : bool
            Show a progress bar on standard error.

        Raises
        ------
        TrainingError
            The loss is no longer finite. Model and checkpoint of the last good epoch are kept.
        """
        from tqdm import tqdm

        self._compile()
        self._save_checkpoint()  # from now on there is something to resume
        if self.history:
            self._save_model()  # the run may have ended after its last checkpoint and before its model
        first, last = len(self.history), self.options.epochs
        total = last * self.protocol.steps
        with (
            _on_interrupt() as stop,
            tqdm(total=total, initial=first * self.protocol.steps, disable=not show_bar, unit="step") as bar,
        ):
            for epoch in range(first, last):
                loss = self._epoch(epoch, bar, stop)
                row = self._validate(epoch, loss)
                if stop.is_set():
                    self.interrupted = True
                    break
                self.history.append(row)
                say(_line(row, last))
                if _collapsed(row, self.options.margin):
                    say(
                        "warning: the embedding has collapsed: the loss sits at margin^2/4 = "
                        f"{self.options.margin**2 / 4:g} because all images get the same embedding; "
                        "try a lower learning rate or another seed"
                    )
                self._save_checkpoint()
                self._save_model()
        if self.interrupted:
            self._save_model()
        self.siamese.network.params[:] = self._best_params
        self.siamese.threshold = self._best["threshold"]

    @property
    def best_epoch(self) -> int:
        """Epoch (from 1) after which the kept weights stood."""
        return int(self._best["epoch"])

    def _compile(self) -> None:
        """Compile or load every kernel of a step before the clock of training starts."""
        start = time.perf_counter()
        few = np.arange(2)
        params = self.siamese.network.params.copy()
        optimizer = OPTIMIZERS[self.options.optimizer](params, np.zeros_like(params))
        self.protocol.gradients(self.siamese, few)
        optimizer.step(self.options.learning_rate)
        self.siamese.network.zero_grads()
        self.compile_seconds = time.perf_counter() - start

    def _epoch(self, epoch: int, bar: Any, stop: threading.Event) -> float:
        """Train one epoch, or part of it if `stop` is set; return the mean loss of its steps."""
        schedule = SCHEDULES[self.options.schedule]
        total = self.options.epochs * self.protocol.steps
        losses: list[float] = []
        validated = f", val {self.history[-1]['validation_pair_accuracy']:.4f}" if self.history else ""
        seen_before, start, shown = self.images_seen, time.perf_counter(), 0.0
        for number, batch in enumerate(self.protocol.batches(epoch)):
            if stop.is_set():
                break
            self.siamese.network.zero_grads()
            loss, images = self.protocol.gradients(self.siamese, batch)
            if not np.isfinite(loss):
                raise TrainingError(
                    f"the loss became {loss} in epoch {epoch + 1}, step {number + 1}; "
                    f"lower the learning rate (it is {self.options.learning_rate:g}) and start again, "
                    "in another run folder or with --overwrite"
                )
            self.optimizer.step(self.options.learning_rate * schedule(self.optimizer.steps / total))
            losses.append(loss)
            self.images_seen += images
            bar.update()
            if time.perf_counter() - shown > 0.5:
                shown = time.perf_counter()
                rate = (self.images_seen - seen_before) / (shown - start)
                bar.set_postfix_str(f"loss {np.mean(losses[-50:]):.4f}{validated}, {rate:,.0f} images/s")
        self.seconds += time.perf_counter() - start
        return float(np.mean(losses)) if losses else float("nan")

    def _validate(self, epoch: int, loss: float) -> dict[str, float]:
        """One row of history for the weights as they are; remember them if they are the best."""
        split: Split = self.dataset.validation
        pairs, label = self._pairs
        dist = pair_distances(self.siamese.embed(split.images), pairs)
        threshold = calibrate_threshold(dist, label)
        accuracy = pair_accuracy(dist, label, threshold)
        if not self.protocol.keeps_best or accuracy > self._best["accuracy"]:
            self._best = {"accuracy": accuracy, "threshold": threshold, "epoch": epoch + 1}
            self._best_params[:] = self.siamese.network.params
        return {
            "epoch": epoch + 1,
            "loss": loss,
            "validation_loss": ContrastiveLoss(self.options.margin).forward(dist, label)[0],
            "validation_pair_accuracy": accuracy,
            "validation_dissimilar_distance": float(dist[label == 1].mean()),
            "threshold": threshold,
            "seconds": self.seconds,
            "images_per_second": self.images_seen / self.seconds if self.seconds else 0.0,
        }

    def _arrays(self) -> dict[str, NDArray[Any]]:
        """Every array a checkpoint holds, as views of the run's own."""
        state = {f"optimizer.{name}": array for name, array in self.optimizer.state.items()}
        return {"params": self.siamese.network.params, "best_params": self._best_params, **state}

    def _save_checkpoint(self) -> None:
        if self.folder is None:
            return
        header = {
            "format": CHECKPOINT_FORMAT,
            "options": dataclasses.asdict(self.options),
            "data": _fingerprint(self.dataset),
            "history": self.history,
            "best": self._best,
            "steps": self.optimizer.steps,
            "images_seen": self.images_seen,
            "seconds": self.seconds,
        }
        save_arrays(self.folder / "checkpoint.npz", header, self._arrays())

    def _save_model(self) -> None:
        if self.folder is None:
            return
        notes = {"options": dataclasses.asdict(self.options), "epoch": self._best["epoch"]}
        now = self.siamese.network.params.copy()
        self.siamese.network.params[:] = self._best_params
        self.siamese.threshold = self._best["threshold"]
        try:
            save_model(self.folder / "model.npz", self.siamese, notes)
        finally:
            self.siamese.network.params[:] = now


def _line(row: dict[str, float], epochs: int) -> str:
    return (
        f"epoch {row['epoch']}/{epochs}: loss {row['loss']:.4f}, validation loss {row['validation_loss']:.4f}, "
        f"validation pair accuracy {row['validation_pair_accuracy']:.4f}, "
        f"{row['seconds']:.1f} s, {row['images_per_second']:,.0f} images/s"
    )


def _collapsed(row: dict[str, float], margin: float) -> bool:
    """Whether the loss sits at margin^2/4 because dissimilar images, too, are (almost) at distance 0."""
    at_collapse = abs(row["validation_loss"] / (margin**2 / 4) - 1) < 0.05
    return at_collapse and row["validation_dissimilar_distance"] < 0.05 * margin


def _fingerprint(dataset: Dataset) -> str:
    """Hash that tells data sets apart, of the training labels and the image size."""
    digest = hashlib.sha256(json.dumps(dataset.train.images.shape[1:]).encode())
    digest.update(dataset.all_train.classes.tobytes())
    return digest.hexdigest()


@contextlib.contextmanager
def _on_interrupt() -> Iterator[threading.Event]:
    """Ctrl-C sets the event that is given out, so that a step is never torn; a second one interrupts at once."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop  # only the main thread may handle signals
        return

    def handle(number: int, frame: Any) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = signal.signal(signal.SIGINT, handle)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)
