"""Networks of one's own: described, saved, loaded, copied, replaced, shared, cut, frozen; each trains afterwards."""

import copy
import json
import pickle

import numpy as np
import pytest

from siamese_np import (
    SGD,
    Adam,
    AllPairsContrastiveLoss,
    AvgPool2D,
    ContrastiveLoss,
    Conv2D,
    Dense,
    Flatten,
    GlobalAvgPool2D,
    Layer,
    MaxPool2D,
    PairwiseDistances,
    ReLU,
    Sequential,
    SiameseNetwork,
    cnn,
    load_model,
    mlp,
    register_layer,
    save_model,
)
from siamese_np._contract import loss_kind
from siamese_np.backend import ops
from siamese_np.description import _REGISTERED
from siamese_np.errors import ModelError, OptionError, ShapeError, SiameseError
from siamese_np.storage import fingerprint

pytestmark = pytest.mark.usefixtures("backend")


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


# --- A network of one's own, with a layer of one's own ------------------------------------------------------


@register_layer
class Scale(Layer):
    """Multiplies each feature by a weight; written as a user would."""

    def __init__(self, features, start=1.0, dtype=np.float32):
        self.features, self.start, self.dtype = features, start, dtype
        self.w = np.full(features, start, dtype)
        self.params = {"w": self.w}

    def forward(self, x):
        return x * self.w, x

    def backward(self, dout, cache, need_dx=True):
        self.grads["w"] += (dout * cache).sum(axis=0)
        return dout * self.w


def own(dtype=np.float32):
    """A small network of all kinds of layers."""
    layers = [
        Conv2D(1, 4, 3, pad="same", seed=0, dtype=dtype),
        ReLU(),
        MaxPool2D(2),
        Flatten(),
        Dense(64, 8, seed=1, dtype=dtype),
        Scale(8, dtype=dtype),
        Dense(8, 3, seed=2, dtype=dtype),
    ]
    return Sequential(layers, (8, 8, 1))


IMAGES, CLASSES = random_images(12), np.arange(12) % 3


def losses(network, optimizer=None, steps=15):
    """The losses of some training steps."""
    siamese, optimizer = SiameseNetwork(network), optimizer or Adam(network)
    found = []
    for _ in range(steps):
        network.zero_grads()
        found.append(siamese.gradients(IMAGES, CLASSES, AllPairsContrastiveLoss()))
        optimizer.step(0.01)
    return found


def trains(network, optimizer=None):
    """The loss falls, and every weight that is not frozen has a part in it."""
    before = network.named_params()
    before = {name: array.copy() for name, array in before.items()}
    found = losses(network, optimizer)
    assert found[-1] < 0.9 * found[0]
    last = list(before)[-1]  # the last bias moves all embeddings alike
    return {name for name, array in network.named_params().items() if name != last and (array == before[name]).all()}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_own_network_trains(dtype):
    network = own(dtype)
    assert network.params.dtype == dtype and trains(network) == set()
    scale = network.layers[5]
    assert (scale.w != 1).all() and scale.w.base is network.params


def test_described(tmp_path):
    network = own()
    config = network.config()
    assert json.loads(json.dumps(config)) == config
    assert config["layers"][0]["pad"] == [1, 1] and config["layers"][5] == {
        "class": "Scale", "features": 8, "start": 1.0, "dtype": "float32"
    }  # fmt: skip
    again = Sequential.from_config(config)
    assert again.config() == config and trains(again) == set()
    for layer in network.layers:
        assert type(layer).from_config(layer.config()).config() == layer.config()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_saved_and_loaded(tmp_path, dtype):
    network = own(dtype)
    losses(network)
    siamese = SiameseNetwork(network, 2.0, 0.25, ["a", "b", "c"])
    save_model(tmp_path / "model.npz", siamese)
    again = load_model(tmp_path)
    assert (again.margin, again.threshold, again.class_names) == (2.0, 0.25, ["a", "b", "c"])
    assert fingerprint(again) == fingerprint(siamese)
    np.testing.assert_array_equal(again.embed(IMAGES), siamese.embed(IMAGES))
    assert trains(again.network) == set() and fingerprint(again) != fingerprint(siamese)


def averaging():
    """A network that ends in the mean of each channel."""
    layers = [Conv2D(1, 6, 3, seed=0), ReLU(), AvgPool2D(2, (1, 2)), Conv2D(6, 8, 2, seed=1), GlobalAvgPool2D()]
    return Sequential([*layers, Dense(8, 3, seed=2)], (8, 8, 1))


def test_a_network_of_averages_is_described_saved_and_loaded(tmp_path):
    network = averaging()
    losses(network)
    pool = network.config()["layers"][2]
    assert pool == {"class": "AvgPool2D", "window": [2, 2], "stride": [1, 2]}
    save_model(tmp_path / "model.npz", SiameseNetwork(network))
    again = load_model(tmp_path).network
    assert again.config() == network.config()
    np.testing.assert_array_equal(again.forward(IMAGES)[0], network.forward(IMAGES)[0])
    assert trains(again) == set()


COPIES = {"copied": copy.deepcopy, "pickled": lambda thing: pickle.loads(pickle.dumps(thing))}


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
@pytest.mark.parametrize("make", [own, averaging, lambda: cnn((8, 8, 1), 4), lambda: mlp((8, 8, 1), 4)])
def test_a_copy_trains_like_its_original_and_apart_from_it(make, copied):
    network = make()
    losses(network, steps=2)
    other, before = copied(network), network.params.copy()
    np.testing.assert_array_equal(other.params, before)
    assert trains(other) == set()
    np.testing.assert_array_equal(network.params, before)
    losses(network)
    np.testing.assert_array_equal(network.params, other.params)


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
@pytest.mark.parametrize("optimizer", [Adam, SGD])
@pytest.mark.parametrize("vectors", [False, True])
def test_a_copy_with_its_optimizer(copied, optimizer, vectors):
    network = own()
    made = optimizer(network.params, network.grads) if vectors else optimizer(network)
    losses(network, made, steps=3)
    other, other_made, siamese = copied((network, made, SiameseNetwork(network)))
    assert siamese.network is other
    assert losses(other, other_made) == losses(network, made)
    np.testing.assert_array_equal(other.params, network.params)
    assert not np.shares_memory(other.params, network.params)


def test_a_shallow_copy_shares_the_weights():
    network = own()
    other = copy.copy(network)
    assert trains(other) == set()
    np.testing.assert_array_equal(network.params, other.params)
    assert trains(network) == set() and np.shares_memory(network.params, other.params)


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
def test_copied_layers_may_go_into_another_network(copied):
    network = own()
    before = network.params.copy()
    other = Sequential(copied(network.layers[:5]), (8, 8, 1))
    np.testing.assert_array_equal(other.params, before[: other.params.size])
    assert trains(other) == set()
    np.testing.assert_array_equal(network.params, before)
    assert trains(network) == set()


def test_replaced_weights_train():
    network = own()
    pretrained = np.random.default_rng(3).standard_normal((64, 8))
    network.layers[4].params["w"] = pretrained
    network.layers[6].params = {"w": np.ones((8, 3)) / 8 + np.eye(8, 3), "b": [0, 0, 0]}
    np.testing.assert_array_equal(network.named_params()["dense_1.w"], pretrained.astype(np.float32))
    assert network.params.sum() == pytest.approx(
        sum(array.sum() for array in network.named_params().values()), rel=1e-5
    )
    assert trains(network) == set()
    network.params = np.arange(network.params.size)
    np.testing.assert_array_equal(network.layers[0].params["w"].ravel(), np.arange(36))
    with pytest.raises(ShapeError, match=r"network.params takes real numbers of shape \(595,\), not ndarray \(5,\)"):
        network.params = np.zeros(5)
    with pytest.raises(ShapeError, match=r"Dense\(64, 8\) has the arrays w, b, but no 'v'"):
        network.layers[4].params["v"] = np.ones(3)
    with pytest.raises(ShapeError, match=r"the params of Dense\(64, 8\) are the arrays w, b, not w"):
        network.layers[4].params = {"w": pretrained}
    network.layers[4].grads = {"w": pretrained, "b": np.zeros(8)}
    network.zero_grads()
    assert not network.layers[4].grads["w"].any() and pretrained.any()


def test_shared_networks_train_together():
    network = own()
    first, second = SiameseNetwork(network), SiameseNetwork(network, 2.0)
    assert trains(first.network) == set() and trains(second.network) == set()
    np.testing.assert_array_equal(first.embed(IMAGES), second.embed(IMAGES))


NAMES_BOTH = r"belongs to a network.*copy\.deepcopy\(layer\).*network\.upto\(k\)"


def test_layers_of_another_network_are_refused():
    network = own()
    before = network.params.copy()
    for layers in (network.layers, network.layers[3:5], [Flatten(), network.layers[4]]):
        with pytest.raises(OptionError, match=NAMES_BOTH):
            Sequential(layers, (8, 8, 1))
    np.testing.assert_array_equal(network.params, before)
    assert trains(network) == set()
    Sequential([network.layers[3], ReLU()], (8, 8, 1))  # they have no weights


def test_a_layer_given_twice_is_refused():
    for again in (lambda layer: layer, copy.copy):
        layer, relu = Dense(3, 3), ReLU()
        with pytest.raises(
            OptionError, match=r"Dense\(3, 3\) is given twice, or shares an array: .*copy\.deepcopy\(layer\)"
        ):
            Sequential([layer, relu, again(layer)], (3,))
        assert Sequential([layer, relu, copy.deepcopy(layer), relu], (3,)).params.size == 24


def test_a_layer_of_a_network_that_could_not_be_made_is_free():
    layer = Dense(3, 2)
    with pytest.raises(ShapeError):
        Sequential([layer, Dense(3, 2)], (3,))
    assert Sequential([layer], (3,)).params.size == 8


# --- Cut ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [own, lambda: cnn((8, 8, 1), 4)])
def test_a_cut_gives_the_feature_maps(make):
    network, maps = make(), IMAGES
    for count, layer in enumerate(network.layers, 1):
        maps, _ = layer.forward(maps)
        cut = network.upto(count)
        assert cut.output_shape == maps.shape[1:] and cut.layers == network.layers[:count]
        out, (steps, *_) = cut.forward(IMAGES)
        np.testing.assert_array_equal(out, maps)
        assert steps is cut.layers  # none fused
        assert list(cut.named_params()) == list(network.named_params())[: len(cut.named_params())]
    assert network.upto(4).upto(2).output_shape == network.upto(2).output_shape
    for count in (0, -1, len(network.layers) + 1, 1.0, True, None):
        with pytest.raises(OptionError, match=f"cut after 1 to all of them, not {count!r}"):
            network.upto(count)


def test_a_cut_shares_its_weights_and_trains():
    network = own()
    cut = network.upto(6)
    rest = {"dense_2.w", "dense_2.b"}
    before = network.named_params()["dense_2.w"].copy()
    assert trains(cut) == set()
    np.testing.assert_array_equal(cut.params, network.params[: cut.params.size])
    np.testing.assert_array_equal(network.named_params()["dense_2.w"], before)
    assert trains(network) == set()
    np.testing.assert_array_equal(cut.params, network.params[: cut.params.size])
    assert set(network.named_params()) - set(cut.named_params()) == rest


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
def test_a_cut_is_copied_alone_and_with_its_network(copied):
    network = own()
    network, cut = copied((network, network.upto(6)))
    assert trains(cut) == set() and trains(network) == set()
    np.testing.assert_array_equal(cut.params, network.params[: cut.params.size])
    alone, before = copied(cut), cut.params.copy()
    assert trains(alone) == set()
    np.testing.assert_array_equal(cut.params, before)


def test_a_cut_is_saved(tmp_path):
    cut = own().upto(5)
    save_model(tmp_path / "cut.npz", SiameseNetwork(cut))
    again = load_model(tmp_path / "cut.npz")
    np.testing.assert_allclose(again.embed(IMAGES), SiameseNetwork(cut).embed(IMAGES), rtol=1e-6)
    assert trains(again.network) == set()


# --- Frozen -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["network", "vectors"])
@pytest.mark.parametrize("frozen", [(0,), (4,), (5,), (0, 5), (4, 5), (0, 4, 5)])
def test_frozen_layers_stay_and_the_rest_trains(frozen, form):
    network = own()
    for i in frozen:
        network.layers[i].trainable = False
    names = {0: {"conv2d_1.w", "conv2d_1.b"}, 4: {"dense_1.w", "dense_1.b"}, 5: {"scale_1.w"}}
    optimizer = Adam(network) if form == "network" else Adam(network.params, network.grads)
    assert trains(network, optimizer) == set.union(*(names[i] for i in frozen))


def test_a_frozen_layer_adds_nothing_and_still_passes_the_gradient_on():
    network = own()
    out, cache = network.forward(IMAGES)
    dx = network.backward(np.ones_like(out), cache)
    grads = network.grads.copy()
    for layer in network.layers:
        layer.trainable = False
    np.testing.assert_array_equal(network.backward(np.ones_like(out), cache), dx)
    np.testing.assert_array_equal(network.grads, grads)
    assert network.backward(out, cache, need_dx=False) is None
    np.testing.assert_array_equal(network.grads, grads)
    for layer in (Conv2D(1, 2), Dense(3, 2)):
        layer.trainable = False
        out, cache = layer.forward(np.ones((2, 4, 4, 1) if isinstance(layer, Conv2D) else (2, 3), np.float32))
        assert layer.backward(out, cache).any() and not any(array.any() for array in layer.grads.values())


def test_a_thawed_layer_trains_again():
    network = own()
    optimizer = Adam(network)
    network.layers[0].trainable = False
    assert trains(network, optimizer) == {"conv2d_1.w", "conv2d_1.b"}
    network.layers[0].trainable = True
    assert trains(network, optimizer) == set()


# --- Weights by name ----------------------------------------------------------------------------------------


def test_weights_by_name(tmp_path):
    network, other = own(), own()
    losses(network)
    arrays = {name: array.astype(np.float64) for name, array in network.named_params().items()}
    np.savez(tmp_path / "arrays.npz", **arrays)
    save_model(tmp_path / "model.npz", SiameseNetwork(network))
    for source in (arrays, network.named_params(), tmp_path / "arrays.npz", str(tmp_path / "model.npz")):
        other.zero_grads()
        other.params = np.zeros(other.params.size)
        other.load_params(source)
        np.testing.assert_array_equal(other.params, network.params)
    assert trains(other) == set()
    third = own()
    third.upto(1).load_params({name: arrays[name] for name in ("conv2d_1.b", "conv2d_1.w")})
    np.testing.assert_array_equal(third.params[:40], network.params[:40])


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"dense_1.w": None}, "the array 'dense_1.w' is missing; the network has conv2d_1.w, conv2d_1.b, dense_1.w"),
        ({"dense_9.w": np.ones(3)}, "the network has no 'dense_9.w', only conv2d_1.w"),
        ({"dense_1.w": np.ones((8, 64))}, r"'dense_1.w' must have the shape \(64, 8\), not \(8, 64\)"),
        ({"scale_1.w": np.full(8, np.nan)}, "'scale_1.w' must hold finite real numbers of float32"),
        ({"scale_1.w": np.full(8, 1e300)}, "'scale_1.w' must hold finite real numbers of float32"),
        ({"scale_1.w": np.full(8, 1j)}, "'scale_1.w' must hold finite real numbers"),
        ({"scale_1.w": np.full(8, "a")}, "'scale_1.w' must hold finite real numbers"),
    ],
)
def test_weights_that_do_not_fit_change_nothing(changes, sentence, tmp_path):
    network = own()
    before = network.params.copy()
    arrays = {name: array + 1 for name, array in network.named_params().items()} | changes
    arrays = {name: array for name, array in arrays.items() if array is not None}
    np.savez(tmp_path / "arrays.npz", **arrays)
    for source in (arrays, tmp_path / "arrays.npz"):
        with pytest.raises(SiameseError, match=sentence):
            network.load_params(source)
        np.testing.assert_array_equal(network.params, before)


def test_files_that_hold_no_weights(tmp_path):
    network = own()
    (tmp_path / "text.npz").write_text("no")
    np.savez(tmp_path / "objects.npz", **network.named_params() | {"scale_1.w": np.array([print] * 8)})
    for path, sentence in (
        (tmp_path / "none.npz", "there is no file .*none.npz"),
        (tmp_path / "text.npz", "text.npz is damaged or not an .npz file of arrays"),
        (tmp_path / "objects.npz", "holds Python objects"),
        (tmp_path, "cannot read .*directory"),
    ):
        with pytest.raises(ModelError, match=sentence):
            network.load_params(path)


# --- Classes of one's own -----------------------------------------------------------------------------------


def test_another_class_of_the_same_name_is_refused(monkeypatch):
    def define(module):
        return type("Scale", (Layer,), {"__module__": module, "__qualname__": "Scale"})

    assert register_layer(Scale) is Scale
    for module in (__name__, "__main__"):
        with pytest.raises(OptionError, match=f"there is another layer called Scale, {__name__}.Scale"):
            register_layer(define(module))
    for wrong in (print, Dense(2, 2), int, "Scale"):
        with pytest.raises(OptionError, match="only classes derived from Layer can be registered"):
            register_layer(wrong)
    monkeypatch.setitem(_REGISTERED, "Scale", define("__main__"))
    again = define("__main__")  # as when a notebook's cell runs again
    assert register_layer(again) is again and _REGISTERED["Scale"] is again


def test_a_class_that_is_not_registered(tmp_path, monkeypatch):
    siamese = SiameseNetwork(own())
    save_model(tmp_path / "model.npz", siamese)
    monkeypatch.delitem(_REGISTERED, "Scale")
    for call in (
        lambda: save_model(tmp_path / "other.npz", siamese),
        lambda: load_model(tmp_path / "model.npz"),
        lambda: Sequential.from_config(siamese.network.config()),
    ):
        with pytest.raises(ModelError, match=r"there is no layer 'Scale'; .*with @register_layer above it"):
            call()
    register_layer(type("Scale", (Layer,), {}))
    with pytest.raises(ModelError, match="is of another class than the registered Scale"):
        save_model(tmp_path / "other.npz", siamese)
    assert not (tmp_path / "other.npz").exists()


class Forgetful(Layer):
    def __init__(self, size=3, rate=None):
        self.rate = rate
        self.kept = size


def test_what_cannot_be_described_earns_a_sentence():
    with pytest.raises(ModelError, match="Forgetful keeps its argument 'size' in no attribute of that name"):
        Forgetful().config()
    for rate in (np.ones(3), np.nan, print, {1j}):
        layer = Forgetful(3, rate)
        layer.size = 3
        with pytest.raises(ModelError, match="Forgetful has an argument that JSON cannot hold"):
            layer.config()
    layer = Forgetful(3, np.float32(0.5))
    layer.size = np.int64(3)
    assert layer.config() == {"size": 3, "rate": 0.5}


def test_a_class_that_fails_when_made_from_its_description(monkeypatch):
    monkeypatch.setitem(_REGISTERED, "Forgetful", Forgetful)
    config = {"layers": [{"class": "Forgetful", "colour": 1}], "input_shape": [3]}
    with pytest.raises(ModelError, match=r"Forgetful cannot be made from its description: .*'colour'"):
        Sequential.from_config(config)
    monkeypatch.setattr(Forgetful, "from_config", classmethod(lambda cls, config: 1 / 0))
    with pytest.raises(ModelError, match="Forgetful cannot be made from its description: division by zero"):
        Sequential.from_config(config)


class Gradients(Layer):
    """A layer that makes its gradients itself, in either order."""

    def __init__(self, first):
        self.w, self.dw = np.ones(3, np.float32), np.zeros(3, np.float32)
        if first == "grads":
            self.grads = {"w": self.dw}
        self.params = {"w": self.w}
        if first == "params":
            self.grads = {"w": self.dw}

    def forward(self, x):
        return x * self.w, x

    def backward(self, dout, cache, need_dx=True):
        self.dw += (dout * cache).sum(axis=0)
        return dout * self.w


@pytest.mark.parametrize("first", ["grads", "params"])
@pytest.mark.parametrize("copied", [lambda thing: thing, *COPIES.values()])
def test_a_layer_with_gradients_of_its_own_trains(first, copied):
    network = copied(Sequential([Flatten(), Dense(64, 3, seed=0), Gradients(first)], (8, 8, 1)))
    last = network.layers[2]
    before = last.w.copy()
    losses(network)
    assert (last.w != before).all() and np.shares_memory(last.dw, network.grads)


class Around(Layer):
    """A layer with another one inside."""

    def __init__(self, inner, shared):
        super().__init__()
        self.inner = inner
        if shared:
            self.params, self.grads = inner.params, inner.grads

    def forward(self, x):
        return self.inner.forward(x)

    def backward(self, dout, cache, need_dx=True):
        return self.inner.backward(dout, cache, need_dx)


def test_a_layer_within_a_layer():
    for inner in (Dense(4, 4, seed=1), Scale(4), Around(Scale(4), True)):
        layers = [Flatten(), Dense(64, 4, seed=0), Around(inner, True), Dense(4, 3, seed=2)]
        network = Sequential(layers, (8, 8, 1))
        before = network.layers[2].forward(np.ones((1, 4), np.float32))[0]
        assert trains(network) == set() and trains(copy.deepcopy(network)) == set()
        assert (network.layers[2].forward(np.ones((1, 4), np.float32))[0] != before).all()
    for inner in (Dense(64, 3), [Dense(64, 3)]):
        with pytest.raises(
            OptionError, match=r"Around\(\) holds Dense\(64, 3\), which the network would not train: give it to"
        ):
            Sequential([Flatten(), Around(inner, False)], (8, 8, 1))


class Odd(Layer):
    def __init__(self, params, grads=None):
        super().__init__()
        self.params = params
        if grads:
            self.grads.update(grads)
            self._grads = type(self._grads)(grads)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Odd({"w": np.ones(3, int)}), r"needs params\['w'\] of float32 or float64, not int64"),
        (lambda: Odd({"w": np.ones(3, np.float16)}), "float32 or float64, not float16"),
        (lambda: Odd({"w": [1.0]}), "arrays are kept under names, not a list of 1 under 'w'"),
        (lambda: Odd({1: np.ones(3)}), "arrays are kept under names, not .* under 1"),
        (lambda: Odd(np.ones(3)), "params and grads are mappings of names to arrays, not ndarray"),
        (lambda: Odd({"w": np.ones(3)}, {"v": np.ones(3)}), "needs grads like its params"),
    ],
)
def test_arrays_that_no_network_can_own(make, sentence):
    with pytest.raises(ShapeError, match=sentence):
        Sequential([make()], (3,))


def test_params_that_are_a_property_are_refused():
    class Computed(Layer):
        params = property(lambda self: {"w": np.ones(3)})

    with pytest.raises(OptionError, match="must keep its arrays in the params and grads that Layer gives it"):
        Sequential([Computed()], (3,))


def test_a_layer_that_does_not_call_super_needs_no_weights():
    class Twice(Layer):
        def __init__(self):
            pass

        def forward(self, x):
            return 2 * x, None

        def backward(self, dout, cache, need_dx=True):
            return 2 * dout

    network = Sequential([Flatten(), Dense(64, 3, seed=0), Twice()], (8, 8, 1))
    found = losses(network)
    assert found[-1] < 0.9 * found[0]


# --- Whatever keeps an array of a layer, follows it into the network ------------------------------------------


class Box:
    """A plain object of a user."""


def boxed(value):
    box = Box()
    box.inner = [{"w": (value, 1)}]
    return box


WHOLE = {
    "view": (lambda s: s.params["w"], lambda s: s.kept),
    "mapping": (lambda s: s.p, lambda s: s.kept["w"]),
    "list": (lambda s: [s.params["w"]], lambda s: s.kept[0]),
    "tuple": (lambda s: (1, s.p["w"]), lambda s: s.kept[1]),
    "nested": (lambda s: boxed(s.params["w"]), lambda s: s.kept.inner[0]["w"][0]),
    "params": (lambda s: s.params, lambda s: s.kept["w"]),
}


class Kept(Layer):
    """Scales by an array that its constructor keeps somewhere; adds to a gradient that it keeps."""

    def __init__(self, name):
        super().__init__()
        self.p = {"w": np.ones(3, np.float32)}
        self.params = self.p
        self.name, self.kept, self.dw, self.fixed = name, WHOLE[name][0](self), self.grads["w"], np.ones(3, np.float32)
        self.loop = [self]

    @property
    def w(self):
        return WHOLE[self.name][1](self)

    def forward(self, x):
        return x * self.w * self.fixed, x

    def backward(self, dout, cache):
        self.dw += (dout * cache).sum(axis=0)
        return dout * self.w


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("copied", [lambda thing: thing, *COPIES.values()])
@pytest.mark.parametrize("first", [True, False], ids=["layer", "network"])
def test_whatever_keeps_a_whole_array_trains(name, copied, first):
    layer = copied(Kept(name)) if first else Kept(name)
    network = Sequential([Flatten(), Dense(64, 3, seed=0), layer], (8, 8, 1))
    network = network if first else copied(network)
    losses(network)
    layer = network.layers[2]
    assert (layer.w != 1).all() and (layer.fixed == 1).all()
    assert np.shares_memory(layer.w, network.params) and np.shares_memory(layer.dw, network.grads)


@pytest.mark.parametrize(
    "keep",
    [
        lambda w: w[:2],
        lambda w: w.reshape(3, 1),
        lambda w: w[::-1],
        lambda w: [{"a": (w[1:],)}],
        lambda w: boxed(w[1:]),
    ],
)
@pytest.mark.parametrize("kind", ["params", "grads"])
def test_a_part_of_an_array_that_a_layer_keeps_is_refused(keep, kind):
    for given_away in (lambda layer: Sequential([layer], (3,)), copy.deepcopy, pickle.dumps):
        layer = Kept("view")
        layer.part = keep(getattr(layer, kind)["w"])
        with pytest.raises(OptionError, match=rf"keeps a view of {kind}\['w'\] .* read self.{kind}\['w'\] in forward"):
            given_away(layer)
    network = Sequential([Kept("view")], (3,))
    network.layers[0].part = keep(getattr(network.layers[0], kind)["w"])  # as of one step
    copy.deepcopy(network)


def test_an_array_that_two_layers_share_is_refused():
    first, second = Scale(3), Scale(3)
    second._params.kept["w"] = first.w
    with pytest.raises(OptionError, match="is given twice, or shares an array"):
        Sequential([first, second], (3,))


@pytest.mark.parametrize(
    "inside",
    [
        lambda: Sequential([Dense(64, 3)], (64,)),
        lambda: SiameseNetwork(Sequential([Dense(64, 3)], (64,))),
        lambda: {"a": Dense(64, 3)},
        lambda: boxed(Dense(64, 3)),
        lambda: {Dense(64, 3)},
        lambda: ((Dense(64, 3),),),
    ],
)
def test_layers_anywhere_within_a_layer_are_found(inside):
    with pytest.raises(OptionError, match=r"Around\(\) holds Dense\(64, 3\), which the network would not train"):
        Sequential([Flatten(), Around(inside(), False)], (8, 8, 1))
    Sequential([Flatten(), Around([boxed(ReLU()), Sequential([ReLU()], (3,)), np, Dense], False)], (8, 8, 1))


# --- Parameters come in the constructor ---------------------------------------------------------------------


class Late(Layer):
    """Makes its parameters where they are first needed."""

    def forward(self, x):
        self.params = {"w": np.ones(3, np.float32)}
        return x, None


def test_parameters_that_come_too_late_are_refused():
    network = Sequential([Dense(3, 3), Late()], (3,))
    dense, late = network.layers
    sentence = r"Late\(\) had no arrays when its network was made.* 'w' now: set self.params in the constructor"

    def add():
        late.params["w"] = np.ones(3)

    for call in (add, lambda: network.forward(np.ones((2, 3), np.float32))):
        with pytest.raises(ShapeError, match=sentence):
            call()
    with pytest.raises(ShapeError, match=r"Dense\(3, 3\) has the arrays w, b, but no 'v'"):
        dense.params["v"] = np.ones(3)
    late.params = {}
    assert len(late.params) == 0
    free = copy.deepcopy(late)
    free.params = {"w": np.ones(3, np.float32)}
    assert Sequential([free], (3,)).params.size == 3


@pytest.mark.parametrize("calls", [0, 1, 2])
def test_the_constructor_of_layer_may_be_called_first_last_or_never(calls):
    class Own(Scale):
        def __init__(self):
            if calls == 1:
                Layer.__init__(self)
            super().__init__(3)
            if calls == 2:
                Layer.__init__(self)

    network = Sequential([Flatten(), Dense(64, 3, seed=0), Own()], (8, 8, 1))
    assert network.params.size == 64 * 3 + 3 + 3 and trains(network) == set()
    assert Twice().params is not Twice().params  # no class has them for all


# --- What a layer of a user returns ---------------------------------------------------------------------------


class Twice(Layer):
    """As plain as the contract: no constructor, no need_dx."""

    def forward(self, x):
        return 2 * x, None

    def backward(self, dout, cache):
        return 2 * dout


class Returns(Twice):
    def __init__(self, out=lambda x: (x, None), dx=lambda dout: dout, shape=lambda shape: shape):
        self.out, self.dx, self.output_shape = out, dx, shape

    def forward(self, x):
        return self.out(x)

    def backward(self, dout, cache):
        return self.dx(dout)


def test_the_plain_contract_is_enough():
    for place in (0, 3):  # first, where dx is not needed, and last
        layers = [Flatten(), Dense(64, 8, seed=0), Dense(8, 3, seed=1)]
        layers.insert(place, Twice())
        assert trains(Sequential(layers, (8, 8, 1))) == set()


X = np.ones((2, 4), np.float32)


@pytest.mark.parametrize(
    ("layer", "sentence"),
    [
        (Returns(lambda x: x), r"forward must return \(out, cache\), .* not ndarray \(2, 4\)"),
        (Returns(lambda x: None), r"forward must return \(out, cache\), .* not NoneType"),
        (Returns(lambda x: (x, x, x)), r"forward must return \(out, cache\), .* not a tuple of 3"),
        (Returns(lambda x: (x.tolist(), None)), r"with out of its output_shape, an array \(2, 4\), not a list of 2"),
        (Returns(lambda x: (x[:, :1], None)), r"with out of its output_shape, an array \(2, 4\), not ndarray \(2, 1\)"),
        (Returns(lambda x: (x[:1], None)), r"with out of its output_shape, an array \(2, 4\), not ndarray \(1, 4\)"),
        (Returns(lambda x: (np.float32(1), None)), r"with out of its output_shape, an array \(2, 4\), not float32"),
        (Returns(dx=lambda dout: dout[:1]), r"dx of the shape of x, an array \(2, 4\), not ndarray \(1, 4\)"),
        (Returns(dx=lambda dout: None), r"dx of the shape of x, an array \(2, 4\), not NoneType"),
        (Returns(dx=lambda dout: (dout, 1)), r"dx of the shape of x, an array \(2, 4\), not a tuple of 2"),
    ],
)
def test_what_a_layer_returns_is_checked(layer, sentence):
    for layers in ([layer], [Returns(), layer, Returns()]):
        network = Sequential(layers, (4,))
        with pytest.raises(
            ShapeError, match=rf"Returns\(\)\.(for|back)ward must return.*{sentence.split('return ')[-1]}"
        ):
            network.backward(*network.forward(X))


@pytest.mark.parametrize("shape", [lambda shape: None, lambda shape: 4, lambda shape: (4.5,), lambda shape: ()])
def test_an_output_shape_is_checked(shape):
    with pytest.raises(ShapeError, match=r"the output_shape of Returns\(\) is \(H, W, C\) or \(D,\)"):
        Sequential([Returns(shape=shape)], (4,))


def test_images_of_another_size_pass_where_every_layer_takes_them():
    network = averaging()
    images = random_images(3, (9, 10, 1))
    out, cache = network.forward(images)
    assert out.shape == (3, 3) and network.backward(out, cache).shape == images.shape
    with pytest.raises(ShapeError, match="the network needs dout of its output's shape"):
        network.backward(out[:2], cache)


def subtracts(x):
    x -= 0.5
    return x, None


def test_a_layer_that_writes_into_its_input_is_refused():
    """Else it would change the images of the caller, or what the layer before keeps for backward."""
    images = IMAGES.copy()
    for first in ([], [Flatten()], [ReLU()]):
        siamese = SiameseNetwork(Sequential([*first, Returns(subtracts), Flatten()], (8, 8, 1)))
        for call in (siamese.embed, siamese.network.forward, lambda x, siamese=siamese: siamese.forward(x, x)):
            with pytest.raises(
                ShapeError, match=r"Returns\(\)\.forward must not write into its input: make a new array"
            ):
                call(images)
    np.testing.assert_array_equal(images, IMAGES)
    with pytest.raises(ValueError, match="of my own"):
        Sequential([Returns(lambda x: int("of my own"))], (4,)).forward(X)


def test_no_kernel_is_compiled_for_read_only_arrays():
    kernels = [getattr(kernel, "compiled", kernel) for kernel in vars(ops).values()]
    kernels = [kernel for kernel in kernels if hasattr(kernel, "signatures")]  # none of the textbook

    def read_only():
        types = (type for kernel in kernels for signature in kernel.signatures for type in signature)
        return sum(str(type).startswith("readonly") for type in types)

    layers = [
        Conv2D(1, 1, 1, seed=0, dtype=float),
        Flatten(),
        Returns(),
        Dense(64, 3, seed=0, dtype=float),
        ReLU(),
        Returns(),
    ]
    before, images = read_only(), random_images(12, dtype=np.float64)
    images.flags.writeable = False
    siamese = SiameseNetwork(Sequential(layers, (8, 8, 1)))
    for loss in (AllPairsContrastiveLoss(), OfDistances()):
        assert siamese.gradients(images, CLASSES, loss) > 0
    siamese.distances(images, images)
    assert read_only() == before


def test_no_images_at_all():
    siamese = SiameseNetwork(mlp((8, 8, 1)))
    for loss in (AllPairsContrastiveLoss(), OfDistances()):
        assert siamese.gradients(IMAGES[:0], CLASSES[:0], loss) == 0
    assert not siamese.network.grads.any()


class OfDistances:
    """The mean distance, by `PairwiseDistances`."""

    def forward(self, emb, classes):
        dist, cache = PairwiseDistances().forward(emb)
        return dist.sum(), (dist, cache)

    def backward(self, cache):
        dist, cache = cache
        return PairwiseDistances().backward(np.ones_like(dist), cache)


# --- Described as they are ------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["layer", "network", "cut"])
def test_frozen_layers_are_described_saved_and_loaded(form, tmp_path):
    network = own()
    frozen = {"layer": range(4, 5), "network": range(7), "cut": range(5)}[form]
    if form == "layer":
        network.layers[4].trainable = False
    else:
        (network if form == "network" else network.upto(5)).trainable = False
    assert network.trainable == (form != "network")
    save_model(tmp_path / "model.npz", SiameseNetwork(network))
    for again in (network, load_model(tmp_path).network, Sequential.from_config(network.config())):
        assert [i for i, layer in enumerate(again.layers) if not layer.trainable] == list(frozen)
        assert [i for i, layer in enumerate(again.config()["layers"]) if layer.get("trainable") is False] == list(
            frozen
        )
    network.trainable = True
    assert network.config() == own().config() and trains(network) == set()
    config = network.config()
    config["layers"][0]["trainable"] = "no"
    with pytest.raises(ModelError, match="trainable is true or false, not 'no'"):
        Sequential.from_config(config)


@register_layer
class Freezable(Scale):
    def __init__(self, features, trainable):
        super().__init__(features)
        self.trainable = trainable


def test_a_class_may_take_trainable_itself():
    for trainable in (True, False):
        config = Sequential([Freezable(3, trainable)], (3,)).config()
        assert config["layers"] == [{"class": "Freezable", "features": 3, "trainable": trainable}]
        assert Sequential.from_config(config).layers[0].trainable is trainable


class Misdescribed(Scale):
    def __init__(self, features=8, scale=2, change=""):
        super().__init__(features)
        self.scale, self.change = 2 * scale if change == "config" else scale, change

    def config(self):
        if self.change == "json":
            return {"scale": np.ones(3)}
        if self.change == "argument":
            return {"colour": 1}
        return {"features": 9 if self.change == "shape" else self.features, "scale": self.scale, "change": self.change}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("config", r"Misdescribed\(\) is not what its description makes"),
        ("shape", r"is not what its description makes, .*'w': \(\(9,\)"),
        ("json", r"Misdescribed.config\(\) must return what JSON can hold"),
        ("argument", "Misdescribed cannot be made from its description: .*'colour'"),
    ],
)
def test_a_network_that_would_not_load_as_it_is_is_not_saved(change, sentence, tmp_path, monkeypatch):
    monkeypatch.setitem(_REGISTERED, "Misdescribed", Misdescribed)
    network = Sequential([Flatten(), Dense(64, 8), Misdescribed(8, 3, change)], (8, 8, 1))
    for call in (network.config, lambda: save_model(tmp_path / "model.npz", SiameseNetwork(network))):
        with pytest.raises(ModelError, match=sentence):
            call()
    assert not any(tmp_path.iterdir())
    save_model(tmp_path / "model.npz", SiameseNetwork(Sequential([Flatten(), Dense(64, 8), Misdescribed()], (8, 8, 1))))


# --- Mistakes -------------------------------------------------------------------------------------------------


class Third(OfDistances):
    def forward(self, emb, classes, margin):
        return 0.0, None


class NoCache(OfDistances):
    def backward(self):
        return None


class Fails(OfDistances):
    def forward(self, emb, classes):
        return None + 1, None


def test_a_loss_of_another_form_earns_a_sentence():
    siamese = SiameseNetwork(mlp((8, 8, 1)))
    for loss, wrong in ((Third(), "forward"), (NoCache(), "backward"), (None, "forward"), (Third, "forward")):
        with pytest.raises(OptionError, match=rf"a loss is called as loss.{wrong}\(.*\), which .* does not take"):
            siamese.gradients(IMAGES, CLASSES, loss)
        with pytest.raises(OptionError, match=r"a loss has forward\(dist, label\).* has (no )?forward"):
            loss_kind(loss)
    with pytest.raises(TypeError, match="unsupported operand"):  # not of the form
        siamese.gradients(IMAGES, CLASSES, Fails())


@pytest.mark.parametrize(
    ("call", "error", "sentence"),
    [
        (
            lambda path: SiameseNetwork(None),
            OptionError,
            "is made of a network, as Sequential, cnn or mlp, not NoneType",
        ),
        (lambda path: Sequential(Dense(3, 3), (3,)), OptionError, "is made of a list of layers, not Dense"),
        (
            lambda path: own().load_params(None),
            OptionError,
            "takes arrays by name, or the path of a file, not NoneType",
        ),
        (lambda path: save_model(path, own()), OptionError, r"SiameseNetwork\(network\), not Sequential"),
        (lambda path: cnn(None), ShapeError, r"an image shape is \(H, W, C\), not None"),
        (lambda path: mlp((8, "8", 1)), ShapeError, "an image shape is .* whole numbers of at least 1"),
        (lambda path: cnn(seed=-1), OptionError, "a seed must be a whole number of at least 0, not -1"),
        (lambda path: mlp(seed="x"), OptionError, "a seed must be a whole number of at least 0, not 'x'"),
        (lambda path: Dense(2, 2, seed=-1), OptionError, "a seed must be a whole number of at least 0, not -1"),
        *[
            (lambda path, notes=notes: save_model(path, SiameseNetwork(own()), notes), ModelError, "what JSON can hold")
            for notes in ({"a": np.ones(3)}, 5, {(1, 2): 3})
        ],
        (
            lambda path: save_model(path, SiameseNetwork(own()), {"a": "x" * (1 << 20)}),
            ModelError,
            "a header of .* more than can be read again",
        ),
    ],
)
def test_mistakes_earn_a_sentence(call, error, sentence, tmp_path):
    with pytest.raises(error, match=sentence):
        call(tmp_path / "model.npz")
    assert not any(tmp_path.iterdir())


def test_what_could_not_be_loaded_is_not_saved(tmp_path):
    siamese = SiameseNetwork(own())
    siamese.network.layers[5].params["w"] = np.full(8, np.nan)
    with pytest.raises(ModelError, match=r"cannot be saved with NaN or infinity in 'scale_1\.w'"):
        save_model(tmp_path / "model.npz", siamese)
    siamese = SiameseNetwork(own())
    siamese.margin = -1
    with pytest.raises(OptionError, match="the margin must be a finite number above 0"):
        save_model(tmp_path / "model.npz", siamese)
    assert not any(tmp_path.iterdir())
