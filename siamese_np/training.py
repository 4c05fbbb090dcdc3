"""Training: the steps from the first to the last, and what is measured on the validation images between epochs.

No file is written here: `siamese_np.run` keeps checkpoints, models and pictures.
"""

import math
import time
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from itertools import islice
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siamese_np._checks import as_images, check_finite, check_pairable
from siamese_np._contract import LOSS_FORMS, loss_kind
from siamese_np.augment import AUGMENTATIONS, augmented
from siamese_np.checkpoint import identity, own_parts
from siamese_np.config import TrainConfig
from siamese_np.datasets import Dataset
from siamese_np.diagnosis import first_not_finite
from siamese_np.distributed import Communicator
from siamese_np.errors import OptionError, ShapeError, TrainingError
from siamese_np.evaluation_pairs import evaluation_pairs
from siamese_np.losses import ContrastiveLoss
from siamese_np.metrics import calibrate_threshold, pair_accuracy, pair_distances
from siamese_np.network import Sequential, SiameseNetwork
from siamese_np.optimizers import OPTIMIZERS, SCHEDULES
from siamese_np.presets import make_network
from siamese_np.protocols import PROTOCOLS, Change, unchanged

REHEARSED = 8  # validation images, before the first step


def _check_images(dataset: Dataset, network: Sequential) -> None:
    """ShapeError, which names the part, unless `network` takes all images of `dataset`."""
    for part in ("train", "validation", "test"):
        try:
            check_finite(as_images(getattr(dataset, part).images, network.input_shape, network.params.dtype))
        except ShapeError as error:
            raise ShapeError(f"the {part} images of {dataset.name} cannot be used: {error}") from None


class Training:
    """A training and its state, which a checkpoint holds whole.

    Parameters are those of `siamese_np.train_run`. `history` has one row for each finished epoch, `losses` one number
    for each step of the epoch after them; `best` and `best_params` are of the best row.
    """

    seconds = compile_seconds = 0.0  # of the steps, without validation; of compiling or loading the kernels before
    ranks = Communicator()  # that train together
    summed = "one process"  # how gradients were summed up before a checkpoint

    def __init__(
        self, config: TrainConfig, dataset: Dataset, network: Any = None, loss: Any = None, augment: Any = None
    ) -> None:
        self.config, self.dataset = config, dataset
        self.augment = AUGMENTATIONS[config.augment] if augment is None else augment
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
        form = dataset.form if shape == network.input_shape else None
        self.siamese = SiameseNetwork(network, config.margin, None, dataset.class_names, form)
        self.siamese.trained_on = dataset.source and {**dataset.source, "sha256": None}
        _check_images(dataset, network)
        check_pairable(dataset.validation.classes, f"validation images of {dataset.name}")
        self.optimizer = OPTIMIZERS[config.optimizer](network, weight_decay=config.weight_decay)
        self.protocol = protocol(config, dataset, loss)
        self.history: list[dict[str, float]] = []
        self.losses: list[float] = []
        self.best_params, self.best = network.params.copy(), self.best_of([])
        self._pairs = evaluation_pairs(dataset.validation.classes)

    def share(self, ranks: Communicator, log: Callable[[str], None]) -> None:
        """Share the network out among `ranks`; OptionError unless all of them have the same before them."""

        def facts() -> dict[str, Any]:
            state = [self.optimizer.steps, self.history, *(array.tobytes() for array in self.optimizer.state.values())]
            return {
                "options": [self.config, ranks.summed],
                "data": self.dataset.digests,
                "network, loss or augmentation": self.own,
                "weights (a layer without a seed draws its own)": self.siamese.network.params,
                "checkpoint": state,
            }

        ranks.check_same(facts)
        if self.optimizer.steps and self.summed != ranks.summed:
            log(
                f"warning: gradients were summed by {self.summed}, and now by {ranks.summed}: the bits change from here"
            )
        self.ranks, self.siamese.sharing = ranks, ranks.sharing(self.siamese.network)
        self.summed = ranks.summed

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

    def train_epoch(self, stop: Callable[[], bool], on_step: Callable[[], None] = lambda: None) -> None:
        """Train what is left of an epoch, or the steps after which `stop` first says so."""
        start, before = time.perf_counter(), self.seconds
        for step, batch in islice(enumerate(self.protocol.batches(len(self.history))), len(self.losses), None):
            self.take_step(batch, step)
            self.seconds = before + time.perf_counter() - start
            on_step()
            if stop():
                break

    def take_step(self, batch: NDArray[np.int64], step: int) -> None:
        """Forward, backward, and a step of the optimizer, with batch number `step` of the epoch.

        TrainingError where the loss or a gradient is not finite, and the weights stay as they were before the step.
        """
        config, epoch, network = self.config, len(self.history), self.siamese.network

        def gradients() -> float:
            network.zero_grads()
            return self.protocol.gradients(self.siamese, batch, self._change(epoch, step))

        loss = gradients()
        with np.errstate(over="ignore", invalid="ignore"):
            squares = network.grads @ network.grads  # quicker than to look at each, but may overflow
        finite = math.isfinite(squares) or bool(np.isfinite(network.grads).all())
        if not (math.isfinite(loss) and finite):
            what = "a gradient held NaN or infinity" if math.isfinite(loss) else f"the loss became {loss}"
            where = first_not_finite(network, gradients)
            raise self._diverged(f"{what} in epoch {epoch + 1}, step {step + 1}", where, math.isfinite(loss))
        self.optimizer.step(config.learning_rate * SCHEDULES[config.schedule](self.optimizer.steps / self.total_steps))
        self.losses.append(loss)

    def _change(self, epoch: int, step: int) -> Change:
        """The augmentation of one step: a resumed run draws the same."""
        if self.augment is None:
            return unchanged
        return partial(augmented, self.augment, rng=np.random.default_rng([self.config.seed, 3, epoch, step]))

    def validate(self) -> dict[str, float]:
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

    def _diverged(self, what: str, where: str = "", in_backward: bool = False) -> TrainingError:
        cause = ""
        if in_backward and {"network", "loss"} & set(self.own):
            cause = "check the backward passes of your own layers and loss with the gradient checker, or "
        return TrainingError(
            f"{what}; {cause}lower the learning rate (it is {self.config.learning_rate:g}) and start again, "
            "in another run folder or with --overwrite" + (f"; the first to hold it: {where}" if where else "")
        )

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What a checkpoint says of the training from its first step to its last."""
        return identity(self.config, self.dataset, self.own, self.siamese.network)

    def use_best(self) -> None:
        """Put the best weights so far, and the threshold that was calibrated with them, into `siamese`."""
        self.siamese.network.params[:] = self.best_params
        self.siamese.threshold = self.best["threshold"]
