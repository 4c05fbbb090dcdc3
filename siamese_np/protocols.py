"""What a training step compares: all pairs of a batch of images, or given pairs as in the original notebook."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siamese_np._checks import check_pairable
from siamese_np.config import TrainConfig
from siamese_np.datasets import Dataset
from siamese_np.errors import OptionError
from siamese_np.losses import AllPairsContrastiveLoss, ContrastiveLoss
from siamese_np.network import SiameseNetwork
from siamese_np.pairs import balanced_batches, random_pairs

Images = NDArray[np.floating]
Change = Callable[[Images], Images]


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
        self.loss = AllPairsContrastiveLoss(config.margin, config.negatives) if loss is None else loss
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
