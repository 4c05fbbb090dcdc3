"""Options of a training: what is refused, and what is kept of a number."""

import dataclasses
import json

import numpy as np
import pytest

from siamese_np.errors import OptionError
from siamese_np.training import Options


@pytest.mark.parametrize(
    "options",
    [
        *(
            {name: wrong}
            for name in ("epochs", "batch_size")
            for wrong in (np.nan, 2.5, 2.0, np.inf, True, None, "2", 0)
        ),
        *({"seed": wrong} for wrong in (-1, 0.0, np.nan, False, None)),
        *({name: wrong} for name in ("margin", "learning_rate") for wrong in (np.nan, np.inf, 0, -1, True, None, "1")),
        *({name: wrong} for name in ("preset", "protocol", "optimizer", "schedule") for wrong in (None, [], 3, "x")),
    ],
)
def test_options_that_make_no_training_are_refused(options):
    with pytest.raises(OptionError, match=r"must be|there is no"):
        Options(**options)


def test_options_take_numbers_of_numpy_and_can_be_saved():
    options = Options(epochs=np.int64(2), seed=np.uint8(1), margin=np.float32(0.5), learning_rate=1)
    assert json.loads(json.dumps(dataclasses.asdict(options)))["epochs"] == 2
    assert options == Options(epochs=2, seed=1, margin=0.5, learning_rate=1.0)
