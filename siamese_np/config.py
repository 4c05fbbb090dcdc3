"""How to train: one frozen record, of which the command line's options are made."""

import dataclasses
from collections.abc import Collection
from typing import Any

import numpy as np

from siamese_np._checks import as_number, check_margin, check_weight_decay, is_whole
from siamese_np.augment import AUGMENTATIONS
from siamese_np.errors import OptionError
from siamese_np.losses import NEGATIVES
from siamese_np.optimizers import OPTIMIZERS, SCHEDULES
from siamese_np.presets import PRESETS

PROTOCOL_DEFAULTS: dict[str, dict[str, Any]] = {
    "batch": {"preset": "cnn3", "epochs": 3, "batch_size": 256, "learning_rate": 3e-3, "weight_decay": 0.1},
    "notebook": {"preset": "cnn", "epochs": 5, "batch_size": 32, "learning_rate": 1e-3, "weight_decay": 0.0},
}


def _option(default: Any, metavar: str, about: str, choices: Collection[str] = ()) -> Any:
    """A field of `TrainConfig`, with what the command line says of it; the default None is the protocol's."""
    return dataclasses.field(default=default, metadata={"metavar": metavar, "help": about, "choices": choices})


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """How to train; together with the data and the versions of the packages it decides every number.

    Each field's metadata hold its help text. None stands for what `PROTOCOL_DEFAULTS` has for the protocol: ``batch``,
    class-balanced batches of images and all pairs of a batch, or ``notebook``, random pairs drawn once, as in the
    original notebook. `siamese_np.recipe` makes configurations for a purpose.

    Raises
    ------
    OptionError
        In one sentence: which field is wrong, and what would be right.

    Examples
    --------
    >>> TrainConfig(epochs=1).learning_rate, TrainConfig(protocol="notebook").learning_rate
    (0.003, 0.001)
    """

    preset: str = _option(None, "P", "network to train", PRESETS)
    protocol: str = _option("batch", "P", "what a step compares", PROTOCOL_DEFAULTS)
    epochs: int = _option(None, "N", "passes over the data")
    batch_size: int = _option(None, "B", "images (batch) or pairs (notebook) a step")
    seed: int = _option(0, "S", "seed of everything random")
    margin: float = _option(1.0, "M", "margin of the contrastive loss")
    negatives: str = _option("all", "N", "dissimilar pairs that the mean is over", NEGATIVES)
    learning_rate: float = _option(None, "R", "at the top of the schedule")
    weight_decay: float = _option(None, "D", "after a step at rate r, weights are multiplied by 1 - r D")
    augment: str = _option("none", "A", "change of the images in each step", AUGMENTATIONS)
    optimizer: str = _option("adam", "O", "rule of a step", OPTIMIZERS)
    schedule: str = _option("one-cycle", "S", "course of the learning rate", SCHEDULES)

    def __post_init__(self) -> None:
        self._check_choice("protocol", PROTOCOL_DEFAULTS)
        for name, default in PROTOCOL_DEFAULTS[self.protocol].items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, default)
        for field in dataclasses.fields(self):
            self._check_choice(field.name, field.metadata["choices"])
        for name, least in {"epochs": 1, "batch_size": 1, "seed": 0}.items():
            value = getattr(self, name)
            if not is_whole(value) or value < least:
                raise OptionError(f"{name} must be at least {least} and a whole number, not {value!r:.200}")
            object.__setattr__(self, name, int(value))  # JSON knows no numbers of NumPy
        if self.protocol != "batch" and self.negatives != "all":
            raise OptionError(f"negatives {self.negatives!r} need the protocol batch, not {self.protocol}")
        rate, largest = as_number(self.learning_rate), float(np.finfo(np.float32).max)
        if not 0 < rate <= largest:
            raise OptionError(
                f"the learning rate must be a finite number above 0, at most {largest:.2g}, not {self.learning_rate!r}"
            )
        object.__setattr__(self, "margin", check_margin(self.margin))
        object.__setattr__(self, "learning_rate", rate)
        object.__setattr__(self, "weight_decay", check_weight_decay(self.weight_decay, rate))

    def _check_choice(self, name: str, choices: Collection[str]) -> None:
        value = getattr(self, name)
        if choices and (not isinstance(value, str) or value not in choices):
            raise OptionError(f"there is no {name} {value!r:.200}; choose one of {', '.join(sorted(choices))}")
