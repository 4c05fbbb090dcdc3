"""The textbook as a back end: the whole package runs on it, with the same numbers as on the compiled kernels."""

import os
import subprocess
import sys

import numpy as np
import pytest

from siamese_np import Adam, AllPairsContrastiveLoss, SiameseNetwork, cnn, mlp
from siamese_np.backend import ops, use_kernels
from siamese_np.errors import OptionError


@pytest.fixture(autouse=True)
def compiled_before_and_after():
    use_kernels("compiled")
    yield
    use_kernels("compiled")


def losses_of_steps(name, make, dtype, steps=20):
    """Losses of the first training steps of a preset on random images."""
    rng = np.random.default_rng(0)
    images, classes = rng.random((32, 8, 8, 1)).astype(dtype), np.arange(32) % 4
    with use_kernels(name):
        siamese, loss = SiameseNetwork(make((8, 8, 1), dtype=dtype)), AllPairsContrastiveLoss()
        network = siamese.network
        optimizer, losses = Adam(network.params, network.grads), []
        for _ in range(steps):
            network.zero_grads()
            emb, cache = network.forward(images)
            value, loss_cache = loss.forward(emb, classes)
            network.backward(loss.backward(loss_cache), cache, need_dx=False)
            optimizer.step(1e-3)
            losses.append(value)
    return np.array(losses)


@pytest.mark.parametrize("make", [cnn, mlp])
def test_twenty_steps_on_the_textbook_are_those_of_the_kernels(make):
    textbook, compiled = (losses_of_steps(name, make, np.float64) for name in ("textbook", "compiled"))
    np.testing.assert_allclose(textbook, compiled, rtol=1e-12)
    assert textbook[-1] < textbook[0]
    textbook, compiled = (losses_of_steps(name, make, np.float32, steps=1) for name in ("textbook", "compiled"))
    np.testing.assert_allclose(textbook, compiled, rtol=1e-6)


def test_it_is_chosen_for_a_block_or_for_good():
    kernel = ops.dense_forward
    with use_kernels("textbook"):
        assert ops.name == "textbook" and ops.dense_forward is not kernel
        with use_kernels("compiled"):
            assert ops.dense_forward is kernel
        assert ops.name == "textbook"
    assert ops.dense_forward is kernel
    use_kernels("textbook")
    assert ops.name == "textbook"


def test_a_block_that_fails_ends_it_as_well():
    with pytest.raises(ZeroDivisionError), use_kernels("textbook"):
        raise ZeroDivisionError
    assert ops.name == "compiled"


def test_an_unknown_one_earns_a_sentence():
    with pytest.raises(OptionError, match="no back end 'fast'; choose compiled or textbook"):
        use_kernels("fast")
    assert ops.name == "compiled"


def test_a_forward_pass_goes_back_on_either():
    network, images = cnn((8, 8, 1), dtype=np.float64), np.random.default_rng(0).random((3, 8, 8, 1))
    gradients = []
    for forward, backward in (("compiled", "textbook"), ("textbook", "compiled"), ("compiled", "compiled")):
        network.zero_grads()
        with use_kernels(forward):
            out, cache = network.forward(images)
        with use_kernels(backward):
            network.backward(np.ones_like(out), cache)
        gradients.append(network.grads.copy())
    for gradient in gradients[:2]:
        np.testing.assert_allclose(gradient, gradients[2], rtol=0, atol=1e-12 * abs(gradients[2]).max())


@pytest.mark.parametrize(
    ("chosen", "says"),
    [("textbook", "textbook"), ("", "compiled"), ("slow", "no back end 'slow'; choose compiled or textbook")],
)
def test_the_environment_chooses(chosen, says):
    done = subprocess.run(
        [sys.executable, "-c", "from siamese_np.backend import ops; print(ops.name)"],
        env={**os.environ, "SIAMESE_NP_KERNELS": chosen},
        capture_output=True,
        text=True,
        check=False,
    )
    assert says in done.stdout + done.stderr
