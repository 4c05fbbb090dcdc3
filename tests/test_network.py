"""Layers in a row and the Siamese network: shapes, shared parameters, checks, and sentences for mistakes."""

import copy
import pickle

import numpy as np
import pytest

from siamese_np import Conv2D, Dense, Flatten, MaxPool2D, ReLU, Sequential, SiameseNetwork, cnn, mlp
from siamese_np.errors import OptionError, ShapeError
from siamese_np.layers import ConvReLUPool
from siamese_np.losses import AllPairsContrastiveLoss
from siamese_np.network import make_network
from siamese_np.optimizers import Adam


def random_images(N, shape=(8, 8, 1), seed=0):
    return np.random.default_rng(seed).random((N, *shape)).astype(np.float32)


def test_the_presets_are_what_they_are_called():
    names = list(mlp().named_params())
    assert names == [f"dense_{i}.{p}" for i in (1, 2, 3) for p in "wb"]
    assert [mlp().named_params()[name].shape for name in names[::2]] == [(784, 512), (512, 256), (256, 128)]
    assert cnn().output_shape == (64,) and mlp().output_shape == (128,)
    assert cnn().named_params()["conv2d_2.w"].shape == (3, 3, 32, 64)


@pytest.mark.parametrize("make", [cnn, mlp])
def test_weights_are_glorot_uniform_and_seeded(make):
    network = make(seed=1)
    for name, w in network.named_params().items():
        if name.endswith("b"):
            assert not w.any()
            continue
        fan_in, fan_out = np.prod(w.shape[:-1]), np.prod(w.shape[:-2]) * w.shape[-1]
        limit = np.sqrt(6 / (fan_in + fan_out))
        assert abs(w).max() <= limit and w.std() == pytest.approx(limit / np.sqrt(3), rel=0.1)
    np.testing.assert_array_equal(network.params, make(seed=1).params)
    assert (network.params != make(seed=2).params).any()


def test_the_parameters_of_all_layers_lie_in_one_vector():
    network = cnn((8, 8, 1))
    network.params[:] = np.arange(network.params.size)
    flat = np.concatenate([param.ravel() for param in network.named_params().values()])
    np.testing.assert_array_equal(flat, network.params)
    for layer in network.layers:
        for name, param in layer.params.items():
            assert np.shares_memory(param, network.params)
            assert np.shares_memory(layer.grads[name], network.grads) and layer.grads[name].shape == param.shape


def test_gradients_add_up_until_they_are_zeroed():
    network = mlp((4, 4, 1), embedding_size=3)
    out, caches = network.forward(random_images(2, (4, 4, 1)))
    network.backward(np.ones_like(out), caches)
    once = network.grads.copy()
    network.backward(np.ones_like(out), caches)
    np.testing.assert_allclose(network.grads, 2 * once, rtol=1e-5, atol=1e-5)
    network.zero_grads()
    assert once.any() and not network.grads.any()


def test_nothing_is_kept_on_the_layers():
    """Two forward passes may be under way at once: each backward needs its own cache only."""
    network = cnn((8, 8, 1))
    a, b = random_images(3), random_images(5, seed=1)
    out, caches = network.forward(a)
    network.backward(np.ones_like(out), caches)
    alone = network.grads.copy()
    network.zero_grads()
    out, caches = network.forward(a)
    network.forward(b)
    network.backward(np.ones_like(out), caches)
    np.testing.assert_array_equal(network.grads, alone)


@pytest.mark.parametrize("make", [cnn, mlp])
def test_an_embedding_does_not_depend_on_its_company(make):
    siamese = SiameseNetwork(make((8, 8, 1)))
    images = random_images(300)
    together = siamese.embed(images)
    for part in (slice(0, 1), slice(7, 8), slice(100, 290)):
        np.testing.assert_array_equal(siamese.embed(images[part]), together[part])
    np.testing.assert_array_equal(siamese.embed(images[::-1])[::-1], together)
    assert siamese.embed(images[:0]).shape == (0, together.shape[1])


def test_distances_and_verdicts():
    siamese = SiameseNetwork(mlp((8, 8, 1)))
    a, b = random_images(4), random_images(4, seed=1)
    dist = siamese.distances(a, b)
    np.testing.assert_allclose(dist, np.linalg.norm(siamese.embed(a) - siamese.embed(b), axis=1), rtol=1e-5)
    siamese.threshold = float(np.sort(dist)[2])
    np.testing.assert_array_equal(siamese.similar(a, b), dist < siamese.threshold)
    assert siamese.similar(a, a).all() and (siamese.distances(a, a) == 0).all()


def test_float64_images_are_brought_to_the_network_dtype():
    siamese = SiameseNetwork(mlp((8, 8, 1)))
    np.testing.assert_array_equal(siamese.embed(random_images(2).astype(np.float64)), siamese.embed(random_images(2)))


@pytest.mark.parametrize(
    ("images", "sentence"),
    [
        (np.zeros((2, 28, 28), np.float32), r"made for images \(N, 8, 8, 1\), not \(2, 28, 28\)"),
        (np.zeros((8, 8, 1), np.float32), r"made for images \(N, 8, 8, 1\)"),
        (np.zeros((2, 8, 8, 1), np.uint8), r"floats in \[0, 1\], not uint8"),
        (np.full((2, 8, 8, 1), np.nan, np.float32), "image 0 holds NaN"),
        (np.concatenate([np.zeros((3, 8, 8, 1)), np.full((1, 8, 8, 1), np.inf)]), "image 3 holds NaN or infinity"),
        (np.full((2, 8, 8, 1), 1e300), "image 0 holds NaN or infinity"),  # as a float32
        (np.ma.zeros((2, 8, 8, 1), np.float32), "images must be an array without a mask"),
        ([np.zeros((8, 8, 1)), np.zeros((8, 9, 1))], "images must be an array, but a list that makes none"),
    ],
)
def test_images_the_network_was_not_made_for_are_refused(images, sentence):
    siamese, right = SiameseNetwork(mlp((8, 8, 1))), random_images(2)
    for call in (
        lambda: siamese.embed(images),
        lambda: siamese.forward(images, right),
        lambda: siamese.forward(right, images),
        lambda: siamese.distances(right, images),
    ):
        with pytest.raises(ShapeError, match=sentence):
            call()


def test_pairs_need_as_many_images_on_both_sides():
    with pytest.raises(ShapeError, match="as many images_a as images_b, not 3 and 5"):
        SiameseNetwork(mlp((8, 8, 1))).forward(random_images(3), random_images(5))


def test_forward_gives_the_distances_of_the_embeddings_in_any_float_dtype():
    siamese, a, b = SiameseNetwork(mlp((8, 8, 1))), random_images(3), random_images(3, seed=1)
    for dtype in (np.float32, np.float64, ">f4"):
        np.testing.assert_allclose(siamese.forward(a.astype(dtype), b)[0], siamese.distances(a, b), rtol=1e-6)


@pytest.mark.parametrize(
    ("make", "error", "sentence"),
    [
        (lambda: Sequential([Dense(5, 3)], (4,)), ShapeError, r"Dense\(5, 3\) needs vectors \(N, 5\)"),
        (lambda: Sequential([Flatten(), Conv2D(1, 2)], (8, 8, 1)), ShapeError, "needs images"),
        (lambda: Sequential([Conv2D(3, 2)], (8, 8, 1)), ShapeError, r"needs images \(N, H, W, 3\)"),
        (lambda: Sequential([Conv2D(1, 2, 9)], (8, 8, 1)), ShapeError, "larger than its padded input of 8x8"),
        (lambda: Sequential([MaxPool2D(9)], (8, 8, 1)), ShapeError, "larger than its input of 8x8"),
        (lambda: SiameseNetwork(Sequential([ReLU()], (8, 8, 1))), ShapeError, "must end in vectors"),
        (lambda: cnn((3, 8, 1)), ShapeError, "at least 4x4 pixels, not 3x8"),
        (lambda: mlp((8, 8)), ShapeError, r"an image shape is \(H, W, C\)"),
        (lambda: mlp(embedding_size=0), OptionError, "at least 1, not 0"),
        (lambda: Dense(0, 3), OptionError, "features must be a whole number of at least 1, not 0"),
        (lambda: Dense(3, 2.5), OptionError, "units must be a whole number of at least 1, not 2.5"),
        (lambda: Conv2D(1, 2, (3, 3, 3)), OptionError, "kernel_size must be one number or two"),
        (lambda: Conv2D(1, 2, stride=0), OptionError, "stride must be a whole number of at least 1, not 0"),
        (lambda: Conv2D(1, 2, pad=-1), OptionError, "pad must be a whole number of at least 0, not -1"),
        (lambda: Conv2D(1, 2, 2, pad="same"), OptionError, "odd kernels, stride 1 only"),
        (lambda: Conv2D(1, 2, pad="valid"), OptionError, 'pad must be a number, a pair, or "same"'),
        (lambda: Conv2D(1, 2, None), OptionError, "kernel_size must be a whole number of at least 1, not None"),
        (lambda: Dense(3, 2, dtype=np.int32), OptionError, "dtype must be float32 or float64, not int32"),
        (lambda: Dense(3, 2, dtype="flat32"), OptionError, "dtype must be float32 or float64, not 'flat32'"),
        (lambda: make_network("vgg"), OptionError, "there is no preset 'vgg'; choose one of cnn, mlp"),
    ],
)
def test_what_does_not_fit_is_refused_when_it_is_built(make, error, sentence):
    with pytest.raises(error, match=sentence):
        make()


@pytest.mark.parametrize(
    ("layer", "x"),
    [
        (Dense(3, 2), np.zeros((4, 5), np.float32)),
        (Dense(3, 2), np.zeros((4, 3))),
        (Dense(3, 2), np.zeros(3, np.float32)),
        (Conv2D(1, 2), np.zeros((4, 8, 8), np.float32)),
        (Conv2D(1, 2), np.zeros((4, 8, 8, 1), np.uint8)),
        (MaxPool2D(), np.zeros((4, 8), np.float32)),
        (MaxPool2D(), np.zeros((4, 1, 8, 1), np.float32)),
        (ReLU(), np.zeros((4, 8), np.int64)),
        (ReLU(), np.zeros((4, 8), np.float16)),
        (ReLU(), np.ma.zeros((4, 8), np.float32)),
        (Dense(3, 2), np.ma.zeros((4, 3), np.float32)),
        (Dense(2, 2), [[1.0, 2.0], [3.0]]),
    ],
)
def test_a_layer_refuses_what_does_not_fit(layer, x):
    with pytest.raises(ShapeError, match=type(layer).__name__):
        layer.forward(x)


@pytest.mark.parametrize("layer", [Dense(3, 2), Conv2D(1, 2), MaxPool2D(), ReLU(), Flatten()])
def test_a_layer_refuses_a_gradient_of_another_shape(layer):
    shape = {"Dense": (4, 3)}.get(type(layer).__name__, (4, 8, 8, 1))
    out, cache = layer.forward(np.ones(shape, np.float32))
    for wrong in (np.zeros((1, *out.shape), np.float32), out[:3], out.astype(int), out.astype(complex), None):
        with pytest.raises(ShapeError, match="needs dout of its output's shape"):
            layer.backward(wrong, cache)
    with pytest.raises(ShapeError, match="dout must be an array without a mask"):
        layer.backward(np.ma.masked_array(out), cache)
    layer.backward(out, cache)


@pytest.mark.parametrize("layer", [Dense(6, 2), Conv2D(2, 3), MaxPool2D(), ReLU(), Flatten()])
def test_any_memory_layout_gives_the_same(layer):
    shape = {"Dense": (4, 6)}.get(type(layer).__name__, (4, 7, 8, 2))
    x = np.random.default_rng(0).standard_normal((*shape[:-1], 2 * shape[-1])).astype(np.float32)[..., ::2]
    out, cache = layer.forward(np.ascontiguousarray(x))
    for same in (x, np.asfortranarray(x)):
        other, other_cache = layer.forward(same)
        np.testing.assert_array_equal(other, out)
        np.testing.assert_array_equal(layer.backward(np.asfortranarray(out), other_cache), layer.backward(out, cache))


@pytest.mark.parametrize("w", [np.ones((4, 6), np.float32).T, np.ones((3, 2), np.float32), np.ones((6, 4)), "w"])
def test_replaced_weights_must_be_as_they_were(w):
    layer = Dense(6, 4)
    layer.params["w"] = w
    with pytest.raises(ShapeError, match=r'needs params\["w"\] as a C-contiguous array \(6, 4\) of float32'):
        layer.forward(np.ones((2, 6), np.float32))


TORN = r'params\["w"\] of Dense\(16, 3\) is no part of network.params any more, so training would not reach it'


def small():
    return Sequential([Flatten(), Dense(16, 3, seed=0)], (4, 4, 1))


def torn():
    """Networks that an optimizer no longer reaches, each in its own way."""
    replaced = small()
    replaced.layers[1].params["w"] = replaced.layers[1].params["w"].copy()
    vector = small()
    vector.params = vector.params.copy()
    shared = small()
    Sequential(shared.layers[1:], (16,))
    return {"replaced": replaced, "vector": vector, "shared": shared, "pickled": pickle.loads(pickle.dumps(small()))}


@pytest.mark.parametrize("how", torn())
def test_a_network_that_training_would_not_reach_is_refused(how):
    x, network = random_images(2, (4, 4, 1)), torn()[how]
    for call in (
        lambda: network.forward(x),
        network.zero_grads,
        lambda: SiameseNetwork(network).embed(x),
    ):
        with pytest.raises(ShapeError, match=TORN):
            call()


def test_replaced_gradients_are_refused():
    network = small()
    network.layers[1].grads["b"] = np.zeros(3, np.float32)
    with pytest.raises(ShapeError, match=r'grads\["b"\] of Dense'):
        network.zero_grads()


@pytest.mark.parametrize("whole", [False, True])
def test_a_deep_copy_trains_like_its_original_and_apart_from_it(whole):
    network = cnn((8, 8, 1), embedding_size=4)
    optimizer = Adam(network.params, network.grads, chunks=network.chunks)
    other, own = copy.deepcopy((network, optimizer)) if whole else (copy.deepcopy(network), None)
    before = network.params.copy()
    own = own or Adam(other.params, other.grads)
    images, classes, loss = random_images(8), np.arange(8) % 2, AllPairsContrastiveLoss()

    def train(network, optimizer):
        losses = []
        for _ in range(20):
            emb, caches = network.forward(images)
            value, cache = loss.forward(emb, classes)
            network.zero_grads()
            network.backward(loss.backward(cache), caches, need_dx=False)
            optimizer.step(0.01)
            losses.append(value)
        return losses

    losses = train(other, own)
    assert losses[-1] < 0.5 * losses[0]
    np.testing.assert_array_equal(network.params, before)
    assert train(network, optimizer) == losses
    np.testing.assert_array_equal(network.params, other.params)


def frozen(array):
    array = array.copy()
    array.flags.writeable = False
    return array


@pytest.mark.parametrize(
    ("layer", "x"),
    [
        (Conv2D(2, 3, 3), np.ones((2, 6, 6, 2), np.float32)),
        (Dense(6, 4), np.ones((2, 6), np.float32)),
        (ConvReLUPool(Conv2D(2, 3, 3), MaxPool2D(2)), np.ones((2, 6, 6, 2), np.float32)),
    ],
)
def test_backward_trusts_no_more_than_forward(layer, x):
    """Else a kernel would read and write beyond the ends of arrays."""
    out, cache = layer.forward(x)
    weighted = layer.conv if isinstance(layer, ConvReLUPool) else layer
    for arrays in (weighted.grads, weighted.params):
        right = arrays["w"]
        for wrong in (np.zeros(5, np.float32), right.astype(np.float64), None):
            arrays["w"] = wrong
            with pytest.raises(ShapeError, match=r'\["w"\] as a C-contiguous array'):
                layer.backward(out, cache)
        arrays["w"] = right
    weighted.grads["b"] = frozen(weighted.grads["b"])
    with pytest.raises(ShapeError, match="that can be written"):
        layer.backward(out, cache)
    weighted.grads["b"] = np.zeros_like(weighted.params["b"])
    for wrong in (x[..., :1], x.astype(np.float64), None):
        with pytest.raises(ShapeError):
            layer.backward(out, (cache[0], wrong) if isinstance(layer, ConvReLUPool) else wrong)
    layer.backward(out, cache)
