"""Recipes: how to train for a purpose, each a row of options with where they come from.

All were chosen on the validation images, the last 10,000 of the training images, by a pilot with these layers; no test
image chose anything. What a row leaves out is the default of `TrainConfig`, which is the recipe ``default``.
"""

from collections.abc import Collection
from dataclasses import replace
from typing import Any

import numpy as np

from siamese_np.config import TrainConfig
from siamese_np.datasets import Dataset
from siamese_np.errors import OptionError
from siamese_np.presets import fitting

RECIPES: dict[str, dict[str, Any]] = {
    # The best within a few minutes. A third block, a long schedule, mild augmentation and weight decay each lowered the
    # error; averaged weights, wider layers, stronger augmentation and smaller batches did not. EER 0.25 to 0.29 %.
    "best": {"preset": "cnn3", "epochs": 36, "augment": "mild"},
    # A few seconds: EER 0.50 % after 3 epochs (mean of 2 seeds), 0.57 % after 4 of the preset cnn without weight decay,
    # which take as long. With augmentation it is 0.58 %: so short a training does not see enough of each image.
    "default": {},
    # A second or two: 99.06 % of the images are nearest to the mean of their class (mean of 20 seeds). Few filters, not
    # padded, save time; active negatives, a falling rate and 128 hidden units (98.98 % with 64, 12 seeds) are worth
    # theirs. Half the rate or a higher one, no weight decay, and embeddings of 16 or 64 numbers make no difference.
    "fast": {"preset": "slim", "epochs": 1, "batch_size": 128, "learning_rate": 6e-3, "negatives": "active"},
}


def recipe(name: str = "default", **options: Any) -> TrainConfig:
    """The configuration of a recipe, changed by `options`, which are fields of `TrainConfig`.

    Raises
    ------
    OptionError
        There is no such recipe, it is for another protocol, or an option is wrong.

    Examples
    --------
    >>> recipe("best", epochs=20).augment
    'mild'
    """
    if not isinstance(name, str) or name not in RECIPES:
        raise OptionError(f"there is no recipe {name!r}; choose one of {', '.join(sorted(RECIPES))}")
    if RECIPES[name] and (protocol := options.get("protocol", "batch")) != "batch":
        raise OptionError(f"the recipe {name} is for the protocol batch, not for {protocol}")
    return TrainConfig(**{**RECIPES[name], **options})


def fitted(config: TrainConfig, dataset: Dataset, given: Collection[str] = ()) -> TrainConfig:
    """`config` with a smaller preset for small images and smaller batches for few, but for the options `given`."""
    train = dataset.train
    fit: dict[str, Any] = {"preset": fitting(config.preset, train.images.shape[1:])}
    if config.protocol == "batch":
        few = max(2 * len(np.unique(train.classes)), len(train) // 4)
        fit["batch_size"] = min(config.batch_size, few, len(train))
    return replace(config, **{name: value for name, value in fit.items() if name not in given})
