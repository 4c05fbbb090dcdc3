"""Networks of one's own: described, saved, loaded, copied, replaced, shared, cut, frozen; each trains afterwards."""

import numpy as np
import pytest

from siamese_np import AllPairsContrastiveLoss, ContrastiveLoss, SiameseNetwork, cnn, mlp
from siamese_np.backend import BACKENDS, use_kernels
from siamese_np.errors import ShapeError


@pytest.fixture(params=BACKENDS, autouse=True)
def backend(request):
    with use_kernels(request.param):
        yield request.param


def random_images(N, shape=(8, 8, 1), seed=0, dtype=np.float32):
    return np.random.default_rng(seed).random((N, *shape)).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("make", [cnn, mlp])
def test_gradients_are_those_of_forward_loss_and_backward(make, dtype):
    network = make((8, 8, 1), dtype=dtype)
    siamese, images, classes = SiameseNetwork(network), random_images(6, dtype=dtype), np.arange(6) % 3
    loss = AllPairsContrastiveLoss()
    value = siamese.gradients(images, classes, loss)
    once = network.grads.copy()
    emb, caches = network.forward(images)
    expected, cache = loss.forward(emb, classes)
    network.zero_grads()
    network.backward(loss.backward(cache), caches)
    assert value == expected and once.any() and once.dtype == dtype
    np.testing.assert_array_equal(network.grads, once)
    siamese.gradients(images, classes, loss)  # adds
    np.testing.assert_allclose(network.grads, 2 * once, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_pair_gradients_are_those_of_forward_loss_and_backward(dtype):
    network = mlp((8, 8, 1), dtype=dtype)
    siamese, label, loss = SiameseNetwork(network), [0, 1, 1], ContrastiveLoss()
    a, b = random_images(3, dtype=dtype), random_images(3, seed=1, dtype=dtype)
    value = siamese.pair_gradients(a, b, label, loss)
    once = network.grads.copy()
    dist, caches = siamese.forward(a, b)
    expected, cache = loss.forward(dist, label)
    network.zero_grads()
    siamese.backward(loss.backward(cache), caches)
    assert value == expected and once.any()
    np.testing.assert_array_equal(network.grads, once)


class GivenLoss:
    """A loss that returns whatever it was made with."""

    def __init__(self, returned, gradient):
        self.returned, self.gradient = returned, gradient

    def forward(self, inputs, targets):
        return self.returned

    def backward(self, cache):
        return self.gradient


@pytest.mark.parametrize(
    ("returned", "gradient", "sentence"),
    [
        (1.0, None, "GivenLoss.forward must return the loss and a cache, not float"),
        ((1.0, None, None), None, "GivenLoss.forward must return the loss and a cache, not a tuple of 3"),
        ((np.ones(2), None), None, r"GivenLoss.forward must return the loss as one number, not ndarray \(2,\)"),
        ((1j, None), None, "GivenLoss.forward must return the loss as one number, not complex"),
        ((1.0, None), None, r"GivenLoss.backward must return {} as an array {} of float32, not NoneType"),
        ((1.0, None), np.ones(3, np.float32), r"must return {} as an array {} of float32, not ndarray \(3,\)"),
        ((1.0, None), "float64", "must return {} as an array {} of float32, not ndarray .* of float64"),
    ],
)
def test_what_a_loss_returns_is_checked(returned, gradient, sentence):
    siamese, images = SiameseNetwork(mlp((8, 8, 1))), random_images(2)
    for name, shape, call in (
        ("demb", (2, 128), lambda loss: siamese.gradients(images, [0, 1], loss)),
        ("ddist", (2,), lambda loss: siamese.pair_gradients(images, images, [0, 1], loss)),
    ):
        wrong = np.ones(shape) if isinstance(gradient, str) else gradient
        with pytest.raises(ShapeError, match=sentence.format(name, str(shape).replace("(", r"\(").replace(")", r"\)"))):
            call(GivenLoss(returned, wrong))
    assert not siamese.network.grads.any()


def test_a_loss_may_be_a_numpy_number_of_any_kind():
    siamese, images = SiameseNetwork(mlp((8, 8, 1))), random_images(2)
    for value in (np.float32(0.5), np.array(0.5), 0.5, np.array(0.5)[()]):
        found = siamese.gradients(images, [0, 1], GivenLoss((value, None), np.zeros((2, 128), np.float32)))
        assert found == 0.5 and type(found) is float
