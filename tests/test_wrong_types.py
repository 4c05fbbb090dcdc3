"""Every public call, with each argument replaced by some eighty odd values: it works, or refuses in one sentence.

What works with the same numbers in another form (a list, a view, another byte order) gives what the plain array gives.
No call changes what it is given, whether it works or not.
"""

import warnings
from fractions import Fraction

import numpy as np
import pytest

import siamese_np
from siamese_np import (
    SGD,
    Adam,
    AllPairsContrastiveLoss,
    AvgPool2D,
    ContrastiveLoss,
    Conv2D,
    Dataset,
    Dense,
    Distort,
    EuclideanDistance,
    Flatten,
    GlobalAvgPool2D,
    Layer,
    MaxPool2D,
    PairwiseDistances,
    ReLU,
    Sequential,
    SiameseNetwork,
    Split,
    SupConLoss,
    TrainConfig,
    augment,
    bootstrap,
    evaluation,
    evaluation_pairs,
    metrics,
    optimizers,
    pairs,
    presets,
)
from siamese_np.datasets import InputForm
from siamese_np.errors import SiameseError
from siamese_np.novelty import Novelty

STRIDE = 23  # of the product, every such call is made; a prime, so that all arguments and all values have their turn
OF_FILES = {"load_dataset", "load_images", "load_model", "read_idx", "read_image", "save_model"}  # tests of their own


class Duck:
    """An array of another library."""

    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.array, dtype)


class Refusing:
    """An object that makes no array."""

    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("on another device")


class Unhashable:
    __hash__ = None


def object_array():
    return np.array([None, "a", 1.5], object)


def recursive():
    values = []
    values.append(values)
    return values


# Made anew for each call, for a call may change it
VALUES = {
    **{f"{value!r}": (lambda value=value: value) for value in (None, "", "text", "0", "same", b"bytes", True, False)},
    **{f"{value!r}": (lambda value=value: value) for value in (0, 1, -1, 2.5, 1e-320, 1e308, 2**31, 2**63, -(2**63))},
    "nan": lambda: float("nan"),
    "inf": lambda: float("inf"),
    "-inf": lambda: float("-inf"),
    "10**400": lambda: 10**400,
    "complex": lambda: 1 + 2j,
    "fraction": lambda: Fraction(1, 3),
    "np.float16": lambda: np.float16(0.5),
    "np.longdouble": lambda: np.longdouble(0.5),
    "np.uint8": lambda: np.uint8(2),
    "np.bool": lambda: np.bool_(True),
    "np.datetime64": lambda: np.datetime64("2020-01-01"),
    "np.str": lambda: np.str_("text"),
    "0-d": lambda: np.array(1.0),
    "0-d int": lambda: np.array(2),
    "0-d object": lambda: np.array(None),
    "[]": list,
    "()": tuple,
    "{}": dict,
    "set": lambda: {1, 2},
    "[1, 2]": lambda: [1, 2],
    "(2, 2)": lambda: (2, 2),
    "(0, 0, 0)": lambda: (0, 0, 0),
    "(-1, 4, 1)": lambda: (-1, 4, 1),
    "(2**40,) * 3": lambda: (2**40,) * 3,
    "(1.5, 'a')": lambda: (1.5, "a"),
    "ragged": lambda: [[1.0, 2.0], [3.0]],
    "list of text": lambda: ["a", "b"],
    "list of None": lambda: [None, None],
    "recursive": recursive,
    "nested": lambda: [[[[[[[1.0]]]]]]],
    "dict": lambda: {"a": 1},
    "dict of arrays": lambda: {"w": np.ones((2, 2))},
    "dict of numbers": lambda: {1: 2},
    "generator": lambda: (n for n in range(3)),
    "range": lambda: range(3),
    "function": lambda: max,
    "lambda": lambda: lambda *_: None,
    "class": lambda: int,
    "object": object,
    "unhashable": Unhashable,
    "module": lambda: np,
    "refusing": Refusing,
    "bytearray": lambda: bytearray(8),
    "object array": object_array,
    "array of text": lambda: np.array(["a", "b"]),
    "array of dates": lambda: np.zeros(2, "M8[D]"),
    "structured": lambda: np.zeros(2, [("a", "f4"), ("b", "i4")]),
    "record": lambda: np.rec.array([(1.0, 2)], dtype=[("a", "f4"), ("b", "i4")]),
    "empty": lambda: np.empty(0),
    "empty 2-D": lambda: np.empty((0, 3), np.float32),
    "empty width": lambda: np.empty((3, 0), np.float32),
    "5-D": lambda: np.zeros((1, 1, 1, 1, 1), np.float32),
    "32-D": lambda: np.zeros((1,) * 32, np.float32),
    "uint8 images": lambda: np.full((4, 6, 6, 1), 200, np.uint8),
    "grey levels": lambda: np.full((4, 6, 6, 1), 200.0, np.float32),
    "complex array": lambda: np.ones((4, 3), complex),
    "another cache": lambda: Dense(3, 2, seed=0).forward(np.ones((4, 3), np.float32))[1],
    "pooling cache": lambda: MaxPool2D(2).forward(np.ones((4, 6, 6, 1), np.float32))[1],
    "layer": lambda: ReLU(),
    "loss": lambda: ContrastiveLoss(),
}


def per_entry(change):
    """`change` of the array, where the argument is one."""
    return lambda good: change(good) if isinstance(good, np.ndarray) and good.ndim else None


def with_first(value):
    def change(array):
        if array.dtype.kind != "f":
            return None
        array = array.copy()
        array.flat[0] = value
        return array

    return change


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


def strided(array):
    twice = np.zeros((2 * len(array), *array.shape[1:]), array.dtype)
    twice[::2] = array
    return twice[::2]


def unaligned(array):
    room = np.zeros(array.nbytes + 1, np.uint8)[1:].view(array.dtype).reshape(array.shape)
    room[...] = array
    return room


def subclass(array):
    class Mine(np.ndarray):
        pass

    return array.view(Mine)


# The same numbers in another form: refused, or the same result
SAME = {
    "read-only": per_entry(read_only),
    "strided": per_entry(strided),
    "Fortran": per_entry(np.asfortranarray),
    "reversed twice": per_entry(lambda array: array[::-1].copy()[::-1]),
    "unaligned": per_entry(unaligned),
    "swapped bytes": per_entry(lambda array: array.astype(array.dtype.newbyteorder("S"))),
    "tolist": per_entry(lambda array: array.tolist()),
    "tuple": per_entry(lambda array: tuple(array)),
    "memoryview": per_entry(lambda array: memoryview(np.ascontiguousarray(array))),
    "matrix": per_entry(lambda array: np.matrix(array) if array.ndim == 2 else None),
    "subclass": per_entry(subclass),
    "duck": per_entry(Duck),
    "mask of none": per_entry(lambda array: np.ma.array(array)),
    "as objects": per_entry(lambda array: array.astype(object)),
    "longdouble": per_entry(lambda array: array.astype(np.longdouble)),
    "float64": per_entry(lambda array: array.astype(np.float64)),
    "int64": per_entry(lambda array: array.astype(np.int64) if array.dtype.kind in "iu" else None),
    "uint8": per_entry(lambda array: array.astype(np.uint8) if array.dtype.kind in "iu" else None),
    "uint64": per_entry(lambda array: array.astype(np.uint64) if array.dtype.kind in "iu" else None),
}
# Other numbers: refused, or any result
OTHER = {
    "masked": per_entry(lambda array: np.ma.array(array, mask=True)),
    "one masked": per_entry(lambda array: np.ma.array(array, mask=np.arange(array.size).reshape(array.shape) == 0)),
    "float16": per_entry(lambda array: array.astype(np.float16)),
    "complex": per_entry(lambda array: array.astype(complex)),
    "text": per_entry(lambda array: array.astype(str)),
    "bools": per_entry(lambda array: array.astype(bool)),
    "halves": per_entry(lambda array: array + 0.5),
    "negative": per_entry(lambda array: -array - 1),
    "shorter": per_entry(lambda array: array[:-1]),
    "longer": per_entry(lambda array: np.concatenate([array, array])),
    "none": per_entry(lambda array: array[:0]),
    "one axis more": per_entry(lambda array: array[None]),
    "one axis less": per_entry(lambda array: array[0]),
    "flat": per_entry(np.ravel),
    "transposed": per_entry(np.transpose),
    "stride 0": per_entry(lambda array: np.broadcast_to(array[:1], array.shape)),
    "NaN": per_entry(with_first(np.nan)),
    "inf": per_entry(with_first(np.inf)),
    "huge": per_entry(with_first(3e38)),
    "times 255": per_entry(lambda array: np.rint(array * 255)),
}

rng = np.random.default_rng(0)
X4 = rng.random((4, 6, 6, 1), np.float32)
X2 = rng.random((4, 3), np.float32)
EMB = rng.random((6, 3), np.float32)
CLASSES = np.array([0, 0, 1, 1, 2, 2])
DIST, LABEL = rng.random(6), np.array([0, 1, 0, 1, 1, 0])


def network():
    return Sequential([Flatten(), Dense(36, 4, seed=0), ReLU(), Dense(4, 3, seed=1)], (6, 6, 1))


def convolutions():
    layers = [Conv2D(1, 4, pad="same", seed=0), ReLU(), MaxPool2D(2), Flatten(), Dense(36, 3, seed=1)]
    return Sequential(layers, (6, 6, 1))


def split(name="split"):
    return Split(np.repeat(X4, 3, axis=0), np.arange(12) % 2)


def assign(obj, name):
    """A call that assigns to an attribute."""
    return lambda value: setattr(obj, name, value)


def of_method(make, method, *fixed):
    """A call of a method of an object made for it, of which all but its result is thrown away."""

    def call(**arguments):
        return getattr(make(), method)(*fixed, **arguments)

    return call


def passes(make, x, loss=False):
    """The calls of an object's forward and backward."""
    out, cache = make().forward(**x)
    yield "forward", of_method(make, "forward"), x
    if loss:
        yield "backward", of_method(make, "backward"), {"cache": cache, "dloss": 1.0}
    else:
        gradient = "dout" if isinstance(make(), (Layer, Sequential)) else "ddist"
        more = {"need_dx": True} if gradient == "dout" else {}
        yield "backward", of_method(make, "backward"), {gradient: np.ones_like(out), "cache": cache, **more}
    # each part of a cache by itself
    if isinstance(cache, tuple) and any(isinstance(part, np.ndarray) for part in cache):
        for i, part in enumerate(cache):
            if isinstance(part, np.ndarray):

                def call(part, i=i):
                    parts = (*cache[:i], part, *cache[i + 1 :])
                    return make().backward(*([parts] if loss else [np.ones_like(out), parts]))

                yield f"backward, part {i} of the cache", call, {"part": part}


def fresh(rng):
    """A new generator in place of the word "fresh"."""
    return np.random.default_rng(0) if isinstance(rng, str) and rng == "fresh" else rng


def calls():
    """All calls: a name, what is called with keyword arguments, and these, which are right."""
    layers = {
        "Conv2D": (lambda: Conv2D(1, 2, 3, seed=0), X4),
        "Dense": (lambda: Dense(3, 2, seed=0), X2),
        "MaxPool2D": (lambda: MaxPool2D(2), X4),
        "AvgPool2D": (lambda: AvgPool2D(2), X4),
        "GlobalAvgPool2D": (GlobalAvgPool2D, X4),
        "ReLU": (ReLU, X2),
        "Flatten": (Flatten, X4),
    }
    arguments = {
        "Conv2D": {"channels": 1, "filters": 2, "kernel_size": 3, "stride": 1, "pad": 0},
        "Dense": {"features": 3, "units": 2},
        "MaxPool2D": {"window": 2, "stride": 2},
        "AvgPool2D": {"window": 2, "stride": 2},
    }
    for name, (make, x) in layers.items():
        given = arguments.get(name, {})
        drawn = {"seed": 0, "dtype": "float32"} if name in ("Conv2D", "Dense") else {}
        yield name, getattr(siamese_np, name), {**given, **drawn}
        yield f"{name}.param_shapes", getattr(siamese_np, name).param_shapes, given
        yield f"{name}.from_config", getattr(siamese_np, name).from_config, {"config": make().config()}
        for method, call, right in passes(make, {"x": x}):
            yield f"{name}.{method}", call, right
        yield f"{name}.output_shape", of_method(make, "output_shape"), {"shape": x.shape[1:]}
        for attribute in ("params", "grads"):
            kept = {key: np.asarray(array) for key, array in getattr(make(), attribute).items()}
            yield f"{name}.{attribute}", lambda value, m=make, a=attribute: assign(m(), a)(value), {"value": kept}
            for key, array in kept.items():

                def set_array(value, m=make, a=attribute, key=key):
                    getattr(m(), a)[key] = value

                yield f"{name}.{attribute}[{key}]", set_array, {"value": array}
        yield f"{name}.trainable", lambda value, m=make: assign(m(), "trainable")(value), {"value": True}
    mine = {"value": {"w": np.ones((2, 2), np.float32)}}
    yield "Layer.params", lambda value: assign(Layer(), "params")(value), mine
    yield "Layer.grads", lambda value: assign(Layer(), "grads")(value), mine
    yield "Layer.from_config", Layer.from_config, {"config": {}}
    yield "register_layer", siamese_np.register_layer, {"cls": Dense}

    for name, make in {"Sequential": network, "Sequential of convolutions": convolutions}.items():
        for method, call, right in passes(make, {"x": X4}):
            yield f"{name}.{method}", call, right
    yield (
        "Sequential",
        lambda layers, input_shape: Sequential(layers, input_shape).config(),
        {
            "layers": [Flatten(), ReLU()],
            "input_shape": (6, 6, 1),
        },
    )
    yield "Sequential, a layer", lambda layer: Sequential([Flatten(), layer], (6, 6, 1)).config(), {"layer": ReLU()}
    yield "Sequential.forward_with_inputs", of_method(network, "forward_with_inputs"), {"x": X4}
    yield "Sequential.upto", lambda count: network().upto(count).output_shape, {"count": 2}
    yield "Sequential.summary", lambda x: repr(network().summary(x)), {"x": X4}
    named = {name: np.asarray(array) for name, array in network().named_params().items()}
    yield "Sequential.load_params", of_method(network, "load_params"), {"params": named}
    yield (
        "Sequential.load_params, an array",
        lambda array: network().load_params({**named, "dense_2.w": array}),
        {"array": named["dense_2.w"]},
    )
    yield (
        "Sequential.from_config",
        lambda config: Sequential.from_config(config).config(),
        {"config": network().config()},
    )
    for attribute in ("params", "grads"):
        vector = np.asarray(getattr(network(), attribute))
        yield f"Sequential.{attribute}", lambda value, a=attribute: assign(network(), a)(value), {"value": vector}
    yield "Sequential.trainable", lambda value: assign(network(), "trainable")(value), {"value": True}

    def siamese():
        return SiameseNetwork(network())

    def made(network, margin, threshold, class_names, input_form):
        made = SiameseNetwork(network, margin, threshold, class_names, input_form)
        return made.margin, made.threshold, made.class_names

    yield (
        "SiameseNetwork",
        made,
        {
            "network": network(),
            "margin": 1.0,
            "threshold": 0.5,
            "class_names": ["a", "b"],
            "input_form": InputForm("resize", (6, 6, 1)),
        },
    )
    ddist, cache = np.ones(4, np.float32), siamese().forward(X4, X4[::-1])[1]
    yield "SiameseNetwork.forward", of_method(siamese, "forward"), {"images_a": X4, "images_b": X4[::-1].copy()}

    def siamese_backward(ddist, cache):
        model = siamese()
        caches = (model.network.forward(np.concatenate([X4, X4[::-1]]))[1], cache[1]) if cache is right_cache else cache
        return model.backward(ddist, caches)

    right_cache = cache
    yield "SiameseNetwork.backward", siamese_backward, {"ddist": ddist, "cache": cache}
    yield (
        "SiameseNetwork.gradients",
        of_method(siamese, "gradients"),
        {
            "images": X4,
            "classes": np.array([0, 0, 1, 1]),
            "loss": AllPairsContrastiveLoss(),
        },
    )
    yield (
        "SiameseNetwork.pair_gradients",
        of_method(siamese, "pair_gradients"),
        {
            "images_a": X4,
            "images_b": X4[::-1].copy(),
            "label": np.array([0, 0, 1, 1]),
            "loss": ContrastiveLoss(),
        },
    )
    for method in ("embed", "embed_scored"):
        yield f"SiameseNetwork.{method}", of_method(siamese, method), {"images": X4}
    yield "SiameseNetwork.distances", of_method(siamese, "distances"), {"images_a": X4, "images_b": X4[::-1].copy()}

    for method, call, right in passes(EuclideanDistance, {"emb_a": EMB, "emb_b": EMB[::-1].copy()}):
        yield f"EuclideanDistance.{method}", call, right
    for method, call, right in passes(PairwiseDistances, {"emb": EMB}):
        yield f"PairwiseDistances.{method}", call, right
    yield "ContrastiveLoss", lambda margin: ContrastiveLoss(margin).margin, {"margin": 1.0}
    yield (
        "AllPairsContrastiveLoss",
        lambda margin, negatives: repr(AllPairsContrastiveLoss(margin, negatives)),
        {"margin": 1.0, "negatives": "all"},
    )
    yield "SupConLoss", lambda temperature: SupConLoss(temperature).temperature, {"temperature": 0.05}
    for method, call, right in passes(ContrastiveLoss, {"dist": DIST, "label": LABEL}, loss=True):
        yield f"ContrastiveLoss.{method}", call, right
    for make in (AllPairsContrastiveLoss, SupConLoss):
        for method, call, right in passes(make, {"emb": EMB, "classes": CLASSES}, loss=True):
            yield f"{make.__name__}.{method}", call, right

    vector = {"params": np.ones(3), "grads": np.ones(3)}
    yield "SGD", lambda **given: SGD(**given).momentum, {**vector, "momentum": 0.9, "weight_decay": 0.0}
    yield (
        "Adam",
        lambda **given: Adam(**given).beta1,
        {
            **vector,
            "beta1": 0.9,
            "beta2": 0.999,
            "epsilon": 1e-7,
            "weight_decay": 0.0,
        },
    )
    for kind in (SGD, Adam):

        def step(learning_rate, kind=kind):
            optimizer = kind(np.ones(3), np.ones(3))
            optimizer.step(learning_rate)
            return optimizer.params

        yield f"{kind.__name__}.step", step, {"learning_rate": 0.1}
        yield (
            f"{kind.__name__}.rate",
            of_method(lambda k=kind: k(np.ones(3), np.ones(3)), "rate"),
            {"learning_rate": 0.1},
        )
    for schedule in ("constant", "cosine"):
        yield f"optimizers.{schedule}", getattr(optimizers, schedule), {"progress": 0.5}
    yield "optimizers.one_cycle", optimizers.one_cycle, {"progress": 0.5, "warm_up": 0.25, "start": 0.04}

    both = {"dist": DIST, "label": LABEL}
    for name in ("calibrate_threshold", "roc_curve", "roc_auc", "equal_error_rate"):
        yield f"metrics.{name}", getattr(metrics, name), both
    yield "metrics.pair_accuracy", metrics.pair_accuracy, {**both, "threshold": 0.5}
    yield "metrics.tar_at_far", metrics.tar_at_far, {**both, "far": 0.1}
    yield "metrics.pair_metrics", metrics.pair_metrics, {**both, "threshold": 0.5, "margin": 1.0}
    yield "metrics.pair_distances", metrics.pair_distances, {"emb": EMB, "pairs": np.array([[0, 1], [2, 5]])}
    yield "metrics.all_pairs_metrics", metrics.all_pairs_metrics, {"emb": EMB, "classes": CLASSES}
    yield "metrics.nearest", metrics.nearest, {"query": EMB[:2], "gallery": EMB, "k": 2}
    yield "metrics.knn_vote", metrics.knn_vote, {"voted": np.array([[1, 2, 2], [0, 1, 2]])}
    yield (
        "metrics.knn_accuracy",
        metrics.knn_accuracy,
        {
            "query": EMB,
            "query_classes": CLASSES,
            "gallery": EMB,
            "gallery_classes": CLASSES,
            "k": 2,
        },
    )
    yield "metrics.map_at_r", metrics.map_at_r, {"emb": EMB, "classes": CLASSES}
    yield (
        "bootstrap.all_pairs_intervals",
        bootstrap.all_pairs_intervals,
        {
            "emb": EMB,
            "classes": CLASSES,
            "threshold": 0.5,
            "resamples": 3,
            "seed": 0,
        },
    )
    for name in ("mnist_part", "evaluation_pairs"):
        yield f"evaluation_pairs.{name}", getattr(evaluation_pairs, name), {"classes": CLASSES}
    yield (
        "evaluation_pairs.load_evaluation_pairs",
        evaluation_pairs.load_evaluation_pairs,
        {
            "part": "test",
            "confusable": False,
            "file": evaluation_pairs.FILE,
        },
    )
    part = split()
    data = Dataset("halves", part, part, part)
    yield (
        "evaluation.evaluate",
        lambda siamese, dataset: evaluation.evaluate(siamese, dataset).metrics["eer"],
        {
            "siamese": siamese(),
            "dataset": data,
        },
    )
    yield "evaluation.calibrated", evaluation.calibrated, {"embed": siamese().embed, "dataset": data}
    emb = siamese().embed(part.images)
    yield (
        "evaluation.measure",
        lambda **given: evaluation.measure(**given).metrics["eer"],
        {
            "emb": emb,
            "gallery": emb,
            "dataset": data,
            "threshold": 0.5,
            "margin": 1.0,
        },
    )
    fit = {"network": network(), "train_images": part.images, "train_classes": part.classes}
    yield "Novelty.fit", lambda **given: Novelty.fit(**given).familiar, {**fit, "validation_images": part.images}
    novelty = Novelty.fit(**fit, validation_images=part.images)
    out, inputs = network().forward_with_inputs(X4)
    yield "Novelty.unlike", novelty.unlike, {"emb": out, "inputs": inputs}

    for name, given in {"random_pairs": {}, "balanced_batches": {"batch_size": 3}}.items():

        def draw(rng, name=name, **given):
            drawn = getattr(pairs, name)(
                rng=np.random.default_rng(0) if isinstance(rng, str) and rng == "fresh" else rng, **given
            )
            return drawn if isinstance(drawn, tuple) else list(drawn)

        yield name, draw, {"classes": CLASSES, **given, "rng": "fresh"}
    yield "Distort", lambda **given: repr(Distort(**given)), {"rotation": 8, "scale": 0.1, "shift": 1, "elastic": 0.4}

    def distort(images, rng):
        return Distort()(images, fresh(rng))

    yield "Distort.__call__", distort, {"images": X4, "rng": "fresh"}
    yield "augment.views", lambda images: list(augment.views(images)), {"images": X4}
    yield (
        "augment.resample",
        augment.resample,
        {
            "images": X4,
            "angle": np.zeros(4),
            "stretch": np.ones((4, 2)),
            "shift": np.zeros((4, 2)),
            "grid": np.zeros((4, 5, 5, 2)),
        },
    )
    yield "augment.check_augmentation", augment.check_augmentation, {"augment": Distort()}
    yield (
        "augment.augmented",
        augment.augmented,
        {
            "augment": lambda images, rng: images,
            "images": X4,
            "rng": np.random.default_rng(0),
        },
    )

    config = vars(TrainConfig(epochs=1))
    yield "TrainConfig", lambda **given: vars(TrainConfig(**given)), config
    yield "recipe", lambda name, epochs: vars(siamese_np.recipe(name, epochs=epochs)), {"name": "fast", "epochs": 1}
    shape = {"input_shape": (14, 14, 1), "embedding_size": 4, "seed": 0, "dtype": "float32"}
    for preset in presets.PRESETS:
        yield preset, lambda preset=preset, **given: presets.PRESETS[preset](**given).params[:9], shape
    yield (
        "presets.make_network",
        lambda preset: presets.make_network(preset, input_shape=(14, 14, 1)).params[:9],
        {"preset": "slim"},
    )
    yield "presets.fitting", presets.fitting, {"preset": "cnn", "shape": (14, 14, 1)}

    yield "Split", lambda images, classes: len(Split(images, classes)), {"images": X4, "classes": np.arange(4)}
    yield (
        "Dataset",
        lambda **given: Dataset(**given).name,
        {
            "name": "n",
            "train": part,
            "validation": part,
            "test": part,
            "class_names": ["a", "b"],
            "form": None,
            "source": None,
        },
    )
    quick = TrainConfig(preset="mlp", epochs=1, batch_size=12)
    yield (
        "train_run, refused",
        lambda **given: siamese_np.train_run(**given).history[0]["loss"],
        {
            "config": quick,
            "dataset": data,
            "network": None,
            "loss": None,
            "augment": None,
        },
    )
    yield "set_threads", set_threads_and_back, {"threads": 2}
    yield "use_kernels", use_kernels_and_back, {"name": "textbook"}
    yield (
        "trace",
        lambda **given: siamese_np.trace(**given)["dist"],
        {
            "siamese": siamese(),
            "a": X4[0],
            "b": X4[1],
            "label": 1,
        },
    )


def set_threads_and_back(threads):
    from siamese_np.runtime.scheduler import get_threads

    before = get_threads()
    try:
        siamese_np.set_threads(threads)
    finally:
        siamese_np.set_threads(before)


def use_kernels_and_back(name):
    with siamese_np.use_kernels(name):
        pass


def product():
    """Name, call, right arguments, the one that is replaced, and by what: the whole product."""
    for name, call, right in calls():
        for argument, good in right.items():
            for oddity, make in VALUES.items():
                if argument in ("embed", "augment") and oddity in ("function", "lambda", "class"):
                    continue  # what a function of the user raises is not ours
                yield name, call, right, argument, oddity, make(), False
            for kind, same in ((SAME, True), (OTHER, False)):
                for oddity, change in kind.items():
                    if (value := change(good)) is not None:
                        yield name, call, right, argument, oddity, value, same


def bits(value):
    """What `value` holds, to see that it is not changed; None where that cannot be seen."""
    if isinstance(value, np.ndarray):
        return value.shape, value.dtype, value.tobytes() if value.nbytes < 1 << 20 and not value.dtype.hasobject else 0
    if isinstance(value, (list, tuple)) and not any(part is value for part in value):
        return [bits(part) for part in value]
    if isinstance(value, dict):
        return {key: bits(part) for key, part in value.items()}
    return None


def equal(one, other):
    """Whether two results are the same, to the precision of float32."""
    if isinstance(one, (tuple, list)):
        return len(one) == len(other) and all(map(equal, one, other))
    if isinstance(one, dict):
        return all(equal(one[key], other[key]) for key in one)
    if isinstance(one, (float, np.ndarray)):
        return np.shape(one) == np.shape(other) and np.allclose(one, other, rtol=1e-4, atol=1e-6, equal_nan=True)
    return isinstance(one, (str, int)) is False or one == other


def fault(name, call, right, argument, value, same):
    """What is wrong with the call, or None."""
    given = {**right, argument: value}
    before = {key: bits(part) for key, part in given.items()}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            returned = call(**given)
    except SiameseError as error:
        if "\n" in str(error) or not str(error):
            return f"says {str(error)!r}"
    except Exception as error:
        return f"raises {type(error).__name__}: {str(error)[:80]!r}"
    else:
        if same and not equal(call(**right), returned):
            return "gives another result than the plain array"
    if {key: bits(part) for key, part in given.items()} != before:
        return "changes what it is given"
    return None


def faults(stride):
    """The faults of every `stride`th call, and the number of calls."""
    found, count = [], 0
    for i, (name, call, right, argument, oddity, value, same) in enumerate(product()):
        if i % stride == 0:
            count += 1
            if wrong := fault(name, call, right, argument, value, same):
                found.append(f"{name}({argument}={oddity}) {wrong}")
    return found, count


def test_every_public_name_is_tried():
    tried = {name.split(".")[0].split(",")[0].removesuffix(" of convolutions") for name, _, _ in calls()}
    assert set(siamese_np.__all__) - tried == OF_FILES | {"Run", "SiameseError"}  # which only come back


@pytest.mark.filterwarnings("ignore:the matrix subclass")
def test_each_call_works_or_is_refused_in_one_sentence():
    found, count = faults(STRIDE)
    assert count > 500
    assert not found, "\n".join(found)


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:the matrix subclass")
def test_each_call_with_each_value_works_or_is_refused_in_one_sentence():
    found, count = faults(1)
    assert count > 15_000
    assert not found, "\n".join(found)


@pytest.mark.parametrize("levels", [lambda x: np.rint(x * 255), lambda x: 0.5 + 254.2 * x], ids=["whole", "fractions"])
@pytest.mark.parametrize("call", ["embed", "forward", "gradients", "distances", "train_run", "fit"])
def test_grey_levels_given_as_images_are_refused_by_name(call, levels):
    grey, model = levels(X4).astype(np.float32), SiameseNetwork(network())
    part = Split(np.repeat(grey, 3, axis=0), np.arange(12) % 2)
    calls = {
        "embed": lambda: model.embed(grey),
        "forward": lambda: model.forward(grey, grey),
        "gradients": lambda: model.gradients(grey, np.array([0, 0, 1, 1]), AllPairsContrastiveLoss()),
        "distances": lambda: model.distances(grey, grey),
        "train_run": lambda: siamese_np.train_run(TrainConfig(preset="mlp"), Dataset("grey", part, part, part)),
        "fit": lambda: Novelty.fit(model.network, part.images, part.classes, part.images),
    }
    with pytest.raises(
        SiameseError, match=r"must be in \[0, 1\], but these are grey levels up to [\d.]+: divide them by 255"
    ):
        calls[call]()


@pytest.mark.parametrize("scale", [(3.0, -1.5), (200.0, -100.0), (15.0, 0.25), (1.0, 0.0)])
def test_images_may_leave_0_to_1(scale):
    assert np.isfinite(SiameseNetwork(network()).embed(X4 * np.float32(scale[0]) + np.float32(scale[1]))).all()


OF_PATHS = {
    "load_dataset": lambda path: siamese_np.load_dataset(path),
    "load_images": lambda path: siamese_np.load_images(path),
    "load_images of one": lambda path: siamese_np.load_images([path]),
    "load_model": lambda path: siamese_np.load_model(path),
    "read_idx": lambda path: siamese_np.read_idx(path),
    "read_image": lambda path: siamese_np.read_image(path),
    "save_model": lambda path: siamese_np.save_model(path, SiameseNetwork(network())),
    "train_run": lambda path: siamese_np.train_run(TrainConfig(preset="mlp", batch_size=4), halves(), path),
}


def halves():
    part = Split(np.repeat(X4, 3, axis=0), np.arange(12) % 2)
    return Dataset("halves", part, part, part)


@pytest.mark.parametrize("name", OF_PATHS)
@pytest.mark.parametrize(
    "path", [7, 1.5, object(), np.array(3), np.ma.masked, "a\0b"], ids=lambda path: type(path).__name__
)
def test_what_is_no_path_is_refused_in_one_sentence(name, path):
    with pytest.raises(SiameseError, match=r"\bpaths?\b") as refused:
        OF_PATHS[name](path)
    assert "\n" not in str(refused.value) and "\0" not in str(refused.value)


def test_a_path_may_be_bytes(tmp_path):
    file = tmp_path / "model.npz"
    siamese_np.save_model(bytes(file), SiameseNetwork(network()))
    assert siamese_np.load_model(bytes(file)).network.output_shape == siamese_np.load_model(file).network.output_shape
