"""Recipes: how to train for a purpose, each a row of options with where they come from.

All were chosen on the validation images, the last 10,000 of the training images, by a pilot with these layers; no test
image chose anything. What a row leaves out is the default of `TrainConfig`, which is the recipe ``default``.
"""

from typing import Any

from siamese_np.config import TrainConfig
from siamese_np.errors import OptionError

RECIPES: dict[str, dict[str, Any]] = {
    # The best within a few minutes. A third block, a long schedule, mild augmentation and weight decay each lowered the
    # error on validation; averaged weights, wider layers, stronger augmentation and smaller batches did not.
    "best": {"preset": "cnn3", "epochs": 36, "weight_decay": 0.1, "augment": "mild"},
    "default": {},
    # 99 % of validation images have the class of the nearest class mean after a second. A rate twice the usual, few
    # filters, no padding and active negatives each helped at one epoch; a third block and a higher rate did not.
    "fast": {
        "preset": "slim",
        "epochs": 1,
        "batch_size": 128,
        "learning_rate": 6e-3,
        "weight_decay": 0.0,
        "negatives": "active",
    },
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
    if name not in RECIPES:
        raise OptionError(f"there is no recipe {name!r}; choose one of {', '.join(sorted(RECIPES))}")
    if RECIPES[name] and (protocol := options.get("protocol", "batch")) != "batch":
        raise OptionError(f"the recipe {name} is for the protocol batch, not for {protocol}")
    return TrainConfig(**{**RECIPES[name], **options})
