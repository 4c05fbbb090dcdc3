"""A NaN or infinity in a training step is told with its layer, pass, step and first index; the weights stay."""

import numpy as np
import pytest

from siamese_np import Conv2D, Dataset, Dense, Flatten, MaxPool2D, ReLU, Sequential, Split, TrainConfig
from siamese_np.errors import TrainingError
from siamese_np.losses import AllPairsContrastiveLoss
from siamese_np.training import Training

pytestmark = pytest.mark.usefixtures("backend")


class BadLayer(ReLU):
    """Puts `value` at an index of what one of its passes returns."""

    def __init__(self, direction="", value=np.nan):
        super().__init__()
        self.direction, self.value = direction, value

    def forward(self, x):
        out, cache = super().forward(x)
        if self.direction == "forward":
            out = out.copy()
            out[1, 2] = self.value
        return out, cache

    def backward(self, dout, cache, need_dx=True):
        dx = super().backward(dout, cache, need_dx)
        if self.direction == "backward":
            dx[1, 2] = self.value
        return dx


class BadLoss(AllPairsContrastiveLoss):
    def __init__(self, forward=0.0, backward=0.0):
        super().__init__()
        self.added, self.gradient = forward, np.float32(backward)

    def forward(self, emb, classes):
        value, cache = super().forward(emb, classes)
        return value + self.added, cache

    def backward(self, cache, dloss=1.0):
        demb = super().backward(cache, dloss)
        demb[0, 1] += self.gradient
        return demb


def training(bad=None, loss=None):
    rng = np.random.default_rng(0)
    split = Split(rng.random((16, 6, 6, 1), np.float32), np.arange(16) % 2)
    layers = [Conv2D(1, 4, pad="same", seed=0), ReLU(), MaxPool2D(2), Flatten(), Dense(36, 5, seed=1)]
    network = Sequential([*layers, bad or BadLayer(), Dense(5, 3, seed=2)], (6, 6, 1))
    config = TrainConfig(epochs=1, batch_size=8)
    return Training(config, Dataset("two", split, split, split), network, loss or BadLoss())


AT = r", (nan|inf) at \["
CASES = {
    "forward": (lambda v: (BadLayer("forward", v), None), rf"the output of badlayer_1{AT}1, 2\], in the forward"),
    "backward": (lambda v: (BadLayer("backward", v), None), rf"input of badlayer_1{AT}1, 2\], in the backward"),
    "loss": (lambda v: (None, BadLoss(forward=v)), r"the loss, (nan|inf), in the forward"),
    "its gradient": (lambda v: (None, BadLoss(backward=v)), rf"output of dense_2{AT}0, 1\], in the backward"),
}


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("case", CASES)
def test_a_number_that_is_not_finite_is_found(case, value):
    make, told = CASES[case]
    run = training(*make(value))
    before = run.siamese.network.params.copy()
    with pytest.raises(TrainingError, match=rf"in epoch 1, step 2; .*the first to hold it: .*{told}"):
        run.take_step(np.arange(8), 1)
    np.testing.assert_array_equal(run.siamese.network.params, before)
    assert run.optimizer.steps == 0 and not any("forward" in vars(step) for step in run.siamese.network._fused)


@pytest.mark.parametrize("name", ["conv2d_1.w", "dense_2.b"])
def test_a_parameter_that_is_not_finite_is_found(name):
    run = training()
    run.siamese.network.named_params()[name].flat[-1] = np.nan
    with pytest.raises(TrainingError, match=rf"the first to hold it: parameter {name}, nan at \["):
        run.take_step(np.arange(8), 0)


def test_large_gradients_whose_squares_overflow_are_taken():
    run = training(loss=BadLoss(backward=1e30))
    run.take_step(np.arange(8), 0)
    assert run.optimizer.steps == 1
