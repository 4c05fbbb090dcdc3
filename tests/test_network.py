"""Layers in a row and the Siamese network: shapes, shared parameters, checks, and sentences for mistakes."""

import numpy as np
import pytest

from siamese_np import (
    AvgPool2D,
    Conv2D,
    Dense,
    Flatten,
    GlobalAvgPool2D,
    MaxPool2D,
    ReLU,
    Sequential,
    SiameseNetwork,
    cnn,
    cnn3,
    mlp,
    slim,
)
from siamese_np.augment import views
from siamese_np.errors import OptionError, ShapeError
from siamese_np.fusion import ConvReLUPool
from siamese_np.presets import make_network

pytestmark = pytest.mark.usefixtures("backend")


def random_images(N, shape=(8, 8, 1), seed=0):
    return np.random.default_rng(seed).random((N, *shape)).astype(np.float32)


def test_the_presets_are_what_they_are_called():
    names = list(mlp().named_params())
    assert names == [f"dense_{i}.{p}" for i in (1, 2, 3) for p in "wb"]
    assert [mlp().named_params()[name].shape for name in names[::2]] == [(784, 512), (512, 256), (256, 128)]
    assert cnn().output_shape == (64,) and mlp().output_shape == (128,)
    assert cnn().named_params()["conv2d_2.w"].shape == (3, 3, 32, 64)
    assert cnn3().output_shape == (64,) and cnn3().params.size == 248_512
    assert slim().output_shape == (32,) and slim().upto(6).output_shape == (5, 5, 48)
    assert slim((10, 11, 2)).upto(6).output_shape == (1, 1, 48) and cnn3((8, 8, 1)).upto(9).output_shape[0] == 1
    assert cnn3().upto(9).output_shape == (3, 3, 128)  # of 28, 14 and 7 pixels


@pytest.mark.parametrize("make", [cnn, cnn3, mlp, slim])
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
def test_an_embedding_does_not_depend_on_its_company(make, backend):
    tolerance = 0 if backend == "compiled" else 1e-5  # the order of BLAS's sums depends on the size of the batch
    siamese = SiameseNetwork(make((8, 8, 1)))
    images = random_images(300)
    together = siamese.embed(images)
    for part in (slice(0, 1), slice(7, 8), slice(100, 290)):
        np.testing.assert_allclose(siamese.embed(images[part]), together[part], rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(siamese.embed(images[::-1])[::-1], together, rtol=tolerance, atol=tolerance)
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
        (np.concatenate([np.zeros((1, 8, 8, 1)), np.full((1, 8, 8, 1), np.inf)]), "image 1 holds NaN or infinity"),
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
        (lambda: Sequential([AvgPool2D(9)], (8, 8, 1)), ShapeError, "AvgPool2D.9x9.* larger than its input of 8x8"),
        (lambda: AvgPool2D(0), OptionError, "window must be a whole number of at least 1, not 0"),
        (lambda: SiameseNetwork(Sequential([ReLU()], (8, 8, 1))), ShapeError, "must end in vectors"),
        (lambda: cnn((3, 8, 1)), ShapeError, "cnn preset needs images of at least 4x4 pixels, not 3x8"),
        (lambda: slim((28, 9, 1)), ShapeError, "slim preset needs images of at least 10x10 pixels, not 28x9"),
        (lambda: cnn3((8, 7, 1)), ShapeError, "cnn3 preset needs images of at least 8x8 pixels, not 8x7"),
        (lambda: mlp((8, 8)), ShapeError, r"an image shape is \(H, W, C\)"),
        (lambda: mlp(embedding_size=0), OptionError, "at least 1, not 0"),
        (lambda: Dense(0, 3), OptionError, "features must be a whole number of at least 1, not 0"),
        (lambda: Dense(3, 2.5), OptionError, "units must be a whole number of at least 1, not 2.5"),
        (lambda: Conv2D(1, 2, (3, 3, 3)), OptionError, "kernel_size must be one number or two"),
        (lambda: Conv2D(1, 2, stride=0), OptionError, "stride must be a whole number of at least 1, not 0"),
        (lambda: Conv2D(1, 2, stride=1 << 70), OptionError, "stride must be at most 2147483647, not 1180591"),
        (lambda: MaxPool2D(2, 1 << 31), OptionError, "stride must be at most 2147483647"),
        (lambda: Conv2D(1, 2, pad=-1), OptionError, "pad must be a whole number of at least 0, not -1"),
        (lambda: Conv2D(1, 2, 2, pad="same"), OptionError, "odd kernels, stride 1 only"),
        (lambda: Conv2D(1, 2, pad="valid"), OptionError, 'pad must be a number, a pair, or "same"'),
        (lambda: Conv2D(1, 2, None), OptionError, "kernel_size must be a whole number of at least 1, not None"),
        (lambda: Dense(3, 2, dtype=np.int32), OptionError, "dtype must be float32 or float64, not int32"),
        (lambda: Dense(3, 2, dtype="flat32"), OptionError, "dtype must be float32 or float64, not 'flat32'"),
        (lambda: Sequential([Dense(5, 3)], ("5",)), ShapeError, "whole numbers of at least 1, not"),
        (lambda: Sequential([Dense(5, 3)], 5), ShapeError, r"an input shape is \(H, W, C\) or \(D,\)"),
        (lambda: Sequential([Dense], (5,)), OptionError, "a network is made of layers, objects .* not type"),
        (lambda: Sequential([mlp()], (28, 28, 1)), OptionError, "a network is made of layers, .* not Sequential"),
        (
            lambda: Sequential([Dense(5, 3), Dense(3, 2, dtype=float)], (5,)),
            ShapeError,
            r"must have one dtype, but Dense\(5, 3\) has float32 and Dense\(3, 2\) has float64",
        ),
        (
            lambda: SiameseNetwork(mlp(), threshold=np.nan),
            OptionError,
            "threshold must be a finite number of at least 0",
        ),
        (
            lambda: SiameseNetwork(mlp(), threshold="0.5"),
            OptionError,
            "threshold must be a finite number of at least 0",
        ),
        (lambda: SiameseNetwork(mlp(), class_names="ab"), OptionError, "class names must be a list of text, not 'ab'"),
        (lambda: SiameseNetwork(mlp(), class_names=[0, 1]), OptionError, "class names must be a list of text"),
        (lambda: make_network("vgg"), OptionError, "there is no preset 'vgg'; choose one of cnn, cnn3, mlp, slim"),
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
        (AvgPool2D(), np.zeros((4, 8), np.float32)),
        (AvgPool2D(), np.zeros((4, 8, 1, 1), np.float32)),
        (AvgPool2D(), np.zeros((4, 8, 8, 1), np.int32)),
        (GlobalAvgPool2D(), np.zeros((4, 8, 8), np.float32)),
        (GlobalAvgPool2D(), np.zeros((4, 0, 8, 1), np.float32)),
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


@pytest.mark.parametrize(
    "layer", [Dense(3, 2), Conv2D(1, 2), MaxPool2D(), AvgPool2D(), GlobalAvgPool2D(), ReLU(), Flatten()]
)
def test_a_layer_refuses_a_gradient_of_another_shape(layer):
    shape = {"Dense": (4, 3)}.get(type(layer).__name__, (4, 8, 8, 1))
    out, cache = layer.forward(np.ones(shape, np.float32))
    for wrong in (np.zeros((1, *out.shape), np.float32), out[:3], out.astype(int), out.astype(complex), None):
        with pytest.raises(ShapeError, match="needs dout of its output's shape"):
            layer.backward(wrong, cache)
    with pytest.raises(ShapeError, match="dout must be an array without a mask"):
        layer.backward(np.ma.masked_array(out), cache)
    layer.backward(out, cache)


@pytest.mark.parametrize(
    "layer", [Dense(6, 2), Conv2D(2, 3), MaxPool2D(), AvgPool2D(), GlobalAvgPool2D(), ReLU(), Flatten()]
)
def test_any_memory_layout_gives_the_same(layer):
    shape = {"Dense": (4, 6)}.get(type(layer).__name__, (4, 7, 8, 2))
    x = np.random.default_rng(0).standard_normal((*shape[:-1], 2 * shape[-1])).astype(np.float32)[..., ::2]
    out, cache = layer.forward(np.ascontiguousarray(x))
    for same in (x, np.asfortranarray(x)):
        other, other_cache = layer.forward(same)
        np.testing.assert_array_equal(other, out)
        np.testing.assert_array_equal(layer.backward(np.asfortranarray(out), other_cache), layer.backward(out, cache))


@pytest.mark.parametrize(
    ("layer", "x"),
    [
        (Conv2D(2, 3, 3), np.ones((2, 6, 6, 2), np.float32)),
        (Dense(6, 4), np.ones((2, 6), np.float32)),
        (ConvReLUPool(Conv2D(2, 3, 3), MaxPool2D(2)), np.ones((2, 6, 6, 2), np.float32)),
    ],
)
def test_the_arrays_of_a_layer_stay_as_kernels_trust_them_to_be(layer, x):
    """Else a kernel would read and write beyond the ends of arrays."""
    out, cache = layer.forward(x)
    weighted = layer.conv if isinstance(layer, ConvReLUPool) else layer
    for kind in ("params", "grads"):
        arrays = getattr(weighted, kind)
        w = arrays["w"]
        for wrong in (np.zeros(5, np.float32), w[..., 0], np.float32(1), w.astype(complex), w > 0, None, "w", w.T):
            with pytest.raises(ShapeError, match=r"'w' takes real numbers of shape|'w' must be an array"):
                arrays["w"] = wrong
            with pytest.raises(ShapeError):
                setattr(weighted, kind, {"w": wrong, "b": arrays["b"]})
        with pytest.raises(ShapeError, match="must be an array without a mask"):
            arrays["w"] = np.ma.ones(w.shape)
        for change in (lambda arrays: arrays.pop("b"), lambda arrays: arrays.clear(), lambda arrays: arrays.popitem()):
            with pytest.raises(ShapeError, match="can be overwritten, but not taken away"):
                change(arrays)
        arrays["w"].flags.writeable = False  # of a view, that nobody keeps
        arrays["w"] = w.astype(np.float64) + 1
        assert (arrays["w"] == w).all() and w.dtype == np.float32
        arrays.update(w=w - 1)
    for wrong in (x[..., :1], x.astype(np.float64), None):
        with pytest.raises(ShapeError):
            layer.backward(out, (cache[0], wrong) if isinstance(layer, ConvReLUPool) else wrong)
    layer.backward(out, cache)


@pytest.mark.parametrize("kind", ["params", "grads"])
def test_all_arrays_of_a_layer_can_be_assigned_at_once(kind):
    layer = Dense(2, 1)
    before = getattr(layer, kind)
    setattr(layer, kind, {"w": np.array([[1], [2]]), "b": np.array([3])})
    assert getattr(layer, kind) is before or kind == "grads"
    assert [array.tolist() for array in getattr(layer, kind).values()] == [[[1], [2]], [3]]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_views_are_averaged(dtype):
    siamese = SiameseNetwork(cnn((8, 8, 1), 4, dtype=dtype))
    image = np.zeros((1, 8, 8, 1), dtype)
    image[0, 3:5, 3:5] = 1  # a square in the middle: shifted by 0.8, a fifth of its first row and column stays
    single, shown = siamese.embed(image), list(views(image))
    assert len(shown) == 7 and not siamese.views
    np.testing.assert_array_equal(shown[0], image)
    np.testing.assert_allclose(shown[1][0, 3:6, 3, 0], [0.04, 0.2, 0.16], atol=1e-6)
    for view in shown[1:]:
        assert view.sum() == pytest.approx(4, abs=0.1) and view.dtype == dtype
    siamese.views = True
    emb = siamese.embed(np.concatenate([image] * 300))
    expected = np.mean([siamese.network.forward(view)[0] for view in shown], axis=0)
    assert emb.dtype == dtype and (abs(emb - single) > 1e-4).any()
    np.testing.assert_allclose(emb, np.repeat(expected, 300, axis=0), rtol=1e-4, atol=1e-6)
    assert siamese.distances(image, image)[0] == 0


def test_views_need_images():
    siamese = SiameseNetwork(Sequential([Dense(3, 2, seed=0)], (3,)))
    siamese.views = True
    with pytest.raises(ShapeError, match=r"views need images \(N, H, W, C\) of at least 2x2 pixels, not \(1, 3\)"):
        siamese.embed(np.ones((1, 3)))
