"""The fused block against the three layers it stands for, and how `Sequential` makes it."""

import numpy as np
import pytest

from siamese_np import Conv2D, Dense, Flatten, MaxPool2D, ReLU, Sequential, cnn
from siamese_np.fusion import ConvReLUPool
from siamese_np.runtime import scheduler


@pytest.fixture
def any_threads():
    """Puts the number of threads back after a test that changes it."""
    before = scheduler.get_threads()
    yield
    scheduler.set_threads(before)


def block(C=3, F=20, kernel=3, stride=1, pad=1, window=2, dtype=np.float64):
    return [Conv2D(C, F, kernel, stride, pad, seed=1, dtype=dtype), ReLU(), MaxPool2D(window)]


def images(N=5, side=12, C=3, dtype=np.float64):
    rng = np.random.default_rng(0)
    return (rng.standard_normal((N, side, side, C)) * (rng.random((N, side, side, C)) < 0.5)).astype(dtype)


def one_by_one(layers, x, dout):
    """Output, gradient of the input, and of w and b, layer by layer."""
    caches = []
    for layer in layers:
        x, cache = layer.forward(x)
        caches.append(cache)
    layers[0].grads["w"][:], layers[0].grads["b"][:] = 0, 0
    for layer, cache in zip(layers[::-1], caches[::-1], strict=True):
        dout = layer.backward(dout, cache)
    return x, dout, layers[0].grads["w"].copy(), layers[0].grads["b"].copy()


def as_one(layers, x, dout):
    fused = ConvReLUPool(layers[0], layers[2])
    layers[0].grads["w"][:], layers[0].grads["b"][:] = 0, 0
    out, cache = fused.forward(x)
    return out, fused.backward(dout, cache), layers[0].grads["w"].copy(), layers[0].grads["b"].copy()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"kernel": 5, "pad": 2},
        {"kernel": (2, 4), "stride": (2, 1), "pad": (1, 3)},
        {"pad": 0, "F": 64},
        {"C": 9, "F": 33},
        {"C": 32, "F": 64, "pad": (0, 2)},
        {"C": 8, "F": 70, "kernel": 5},
    ],
)
def test_fused_is_the_three_layers(options, dtype):
    layers = block(**options, dtype=dtype)
    for side in (12, 11):  # 11: the pooling leaves a row and a column out
        x = images(side=side, C=layers[0].channels, dtype=dtype)
        shape = layers[2].output_shape(layers[0].output_shape(x.shape[1:]))
        dout = np.random.default_rng(1).standard_normal((len(x), *shape)).astype(dtype)
        three, one = one_by_one(layers, x, dout), as_one(layers, x, dout)
        np.testing.assert_array_equal(one[0], three[0])  # to the bit: both sum in the same order
        for ours, theirs in zip(one[1:], three[1:], strict=True):
            tolerance = (2e-6 if dtype == np.float32 else 1e-14) * abs(theirs).max()
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance)


def test_ties_and_zeros_follow_the_convention():
    layers = block(C=1, F=1, kernel=1, pad=0)
    layers[0].params["w"][:] = 1
    x = np.array([[1.0, 1, 0, 0], [1, 1, 0, -1]]).reshape(1, 2, 4, 1)
    out, dx, dw, db = as_one(layers, x, np.full((1, 1, 2, 1), 5.0))
    np.testing.assert_array_equal(out.ravel(), [1, 0])
    np.testing.assert_array_equal(dx.ravel(), [5, 0, 0, 0, 0, 0, 0, 0])  # first of a tie; nothing at ReLU's kink
    assert (dw.item(), db.item()) == (5, 5)


def test_nan_stays_visible():
    layers = block()
    x = images()
    x[2, 4, 4, 1] = np.nan
    out = ConvReLUPool(layers[0], layers[2]).forward(x)[0]
    np.testing.assert_array_equal(np.isnan(out), np.isnan(one_by_one(layers, x, np.zeros_like(out))[0]))
    assert np.isnan(out[2]).any() and not np.isnan(out[[0, 1, 3, 4]]).any()


def test_images_without_gradient_get_exactly_none():
    layers = block()
    x = images()
    dout = np.random.default_rng(1).standard_normal((5, 6, 6, 20))
    dout[[0, 3]] = 0
    dx = as_one(layers, x, dout)[1]
    assert not dx[[0, 3]].any() and dx[[1, 2, 4]].any(axis=(1, 2, 3)).all()
    zeros = as_one(layers, x, np.zeros_like(dout))
    assert not any(gradient.any() for gradient in zeros[1:])


def test_the_same_bits_with_any_number_of_threads(any_threads):
    x, layers = images(N=37, dtype=np.float32), block(dtype=np.float32)
    dout = np.random.default_rng(1).standard_normal((37, 6, 6, 20)).astype(np.float32)
    results = []
    for threads in (1, 2, 3, 8):
        scheduler.set_threads(threads)
        results.append(as_one(layers, x, dout))
    for result in results[1:]:
        for ours, theirs in zip(result, results[0], strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_sequential_makes_the_block_by_itself_and_still_lists_the_layers():
    network = cnn((8, 8, 1))
    assert [type(step) for step in network._fused].count(ConvReLUPool) == 2
    assert [type(layer) for layer in network.layers[:3]] == [Conv2D, ReLU, MaxPool2D]
    x = images(4, 8, 1, np.float32)
    out, stepped = network.forward(x)[0], x
    for layer in network.layers:
        stepped, _ = layer.forward(stepped)
    np.testing.assert_array_equal(out, stepped)


@pytest.mark.parametrize(
    "layers",
    [
        [Conv2D(1, 2), ReLU(), MaxPool2D(2, stride=1)],  # windows overlap
        [Conv2D(1, 2), ReLU(), MaxPool2D(2, stride=3)],
        [Conv2D(1, 2), MaxPool2D(2), ReLU()],
        [Conv2D(1, 2), ReLU(), MaxPool2D(3)],
        [Conv2D(1, 2), ReLU()],
        [ReLU(), MaxPool2D(2)],
        [Flatten(), Dense(64, 2), ReLU()],
    ],
)
def test_other_layers_stay_apart(layers):
    assert Sequential(layers, (8, 8, 1))._fused == tuple(layers)


def test_winograds_rounding_is_not_larger_than_that_of_the_plain_sum():
    x = images(N=8, side=14, C=32, dtype=np.float32)
    three = Conv2D(32, 64, 3, pad="same", seed=1)
    five = Conv2D(32, 64, 5, pad=2, seed=1)  # the same weights between zeros: the plain sum
    five.params["w"][:] = 0
    five.params["w"][1:-1, 1:-1] = three.params["w"]
    exact = Conv2D(32, 64, 3, pad="same", dtype=np.float64)
    exact.params["w"][:] = three.params["w"]
    right = exact.forward(x.astype(np.float64))[0]
    tiles, plain = (abs(layer.forward(x)[0] - right) for layer in (three, five))
    assert tiles.max() < 1.5 * plain.max() and np.sqrt((tiles**2).mean()) < 1.2 * np.sqrt((plain**2).mean())
