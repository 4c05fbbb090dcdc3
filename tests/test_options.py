"""The configuration of a training: what is refused, and what is kept of a number."""

import dataclasses
import json

import numpy as np
import pytest

from siamese_np.config import TrainConfig
from siamese_np.errors import OptionError
from siamese_np.protocols import PROTOCOLS
from siamese_np.recipes import recipe

CHOICES = ("preset", "protocol", "optimizer", "schedule", "augment", "negatives")


@pytest.mark.parametrize(
    "options",
    [
        *({name: wrong} for name in ("epochs", "batch_size") for wrong in (np.nan, 2.5, 2.0, np.inf, True, "2", 0)),
        *({"seed": wrong} for wrong in (-1, 0.0, np.nan, False, None)),
        *({name: wrong} for name in ("margin", "learning_rate") for wrong in (np.nan, np.inf, 0, -1, True, "1", 1e300)),
        *({"margin": wrong} for wrong in (None, 1e-300, 1e25)),
        *({"weight_decay": wrong} for wrong in (np.nan, np.inf, -1, True, "1", 1000)),
        *({name: wrong} for name in CHOICES for wrong in ([], 3, "x")),
        *({name: None} for name in CHOICES if name != "preset"),
    ],
)
def test_options_that_make_no_training_are_refused(options):
    with pytest.raises(OptionError, match=r"must be|there is no"):
        TrainConfig(**options)


def test_options_take_numbers_of_numpy_and_can_be_saved():
    options = TrainConfig(epochs=np.int64(2), seed=np.uint8(1), margin=np.float32(0.5), learning_rate=1)
    assert json.loads(json.dumps(dataclasses.asdict(options)))["epochs"] == 2
    assert options == TrainConfig(epochs=2, seed=1, margin=0.5, learning_rate=1.0)


def test_what_is_not_given_is_the_protocols():
    told = {"preset": "cnn3", "epochs": 3, "batch_size": 256, "learning_rate": 3e-3, "weight_decay": 0.1}
    assert TrainConfig() == TrainConfig(protocol="batch", **told)
    assert TrainConfig(protocol="notebook") == TrainConfig("cnn", "notebook", 5, 32, learning_rate=1e-3, weight_decay=0)
    assert TrainConfig(protocol="notebook", batch_size=5).batch_size == 5
    assert list(PROTOCOLS) == ["batch", "notebook"]
    with pytest.raises(dataclasses.FrozenInstanceError):
        TrainConfig().epochs = 3


def test_active_negatives_are_of_a_batch():
    assert TrainConfig(negatives="active").negatives == "active"
    with pytest.raises(OptionError, match="negatives 'active' need the protocol batch, not notebook"):
        TrainConfig(protocol="notebook", negatives="active")


def test_a_recipe_is_changed_by_the_options_given():
    assert recipe() == recipe("default") == TrainConfig()
    best = recipe("best", seed=3, epochs=2)
    assert (best.seed, best.epochs, best.augment, best.preset) == (3, 2, "mild", "cnn3")
    assert recipe(protocol="notebook") == TrainConfig(protocol="notebook")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"name": ["best"]}, "no recipe .'best'.; choose one of"),
        ({"name": "better"}, "no recipe 'better'; choose one of best, default, fast"),
        ({"name": "best", "protocol": "notebook"}, "the recipe best is for the protocol batch, not for notebook"),
        ({"name": "best", "protocol": "x"}, "the recipe best is for the protocol batch, not for x"),
        ({"name": "best", "epochs": 0}, "epochs must be at least 1"),
    ],
)
def test_a_recipe_that_does_not_fit_is_refused(arguments, sentence):
    with pytest.raises(OptionError, match=sentence):
        recipe(**arguments)
