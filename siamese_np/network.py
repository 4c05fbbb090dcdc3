"""Layers in a row, and the Siamese network: two branches, one set of weights."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from siamese_np._arrays import assign
from siamese_np._checks import (
    as_array,
    as_flag,
    as_images,
    as_shape,
    check_class_names,
    check_finite,
    check_kind,
    check_margin,
    check_saved_threshold,
    found,
    is_whole,
)
from siamese_np._contract import (
    cache_parts,
    cache_shape,
    call_backward,
    call_forward,
    check_gradient,
    loss_backward,
    loss_forward,
)
from siamese_np._ownership import check_layers, join_arrays, move_arrays
from siamese_np.augment import views
from siamese_np.backend import ops
from siamese_np.datasets.input_form import InputForm, default_form
from siamese_np.description import described, layer_config, load_params, make_layers, numbered
from siamese_np.distances import EuclideanDistance
from siamese_np.errors import OptionError, ShapeError
from siamese_np.fusion import fused
from siamese_np.layer import Array, Layer, Shape
from siamese_np.runtime.scheduler import chunks_of

if TYPE_CHECKING:
    from siamese_np.ledger import Ledger
    from siamese_np.novelty import Novelty

EMBED_BATCH = 256  # images embedded at a time: bounds the memory of the activations


class Sequential:
    """Layers applied one after another; all their parameters lie in one vector.

    The compiled back end computes convolution, ReLU and pooling in a row as one (`siamese_np.fusion.ConvReLUPool`),
    with the same results as layer by layer; the textbook runs the layers.

    Parameters
    ----------
    layers : sequence of Layer
        From now on they belong to this network.
    input_shape : tuple of int
        Shape of one input, (H, W, C) or (D,).

    Attributes
    ----------
    layers : tuple of Layer
    params, grads : (P,) ndarray
        All parameters and their gradients; the arrays of the layers are views of these two. To assign to one copies
        the values; ShapeError where they do not fit.
    trainable : bool
        Whether any layer is; to assign to it freezes or thaws all.
    output_shape : tuple of int
        Shape of one output.

    Raises
    ------
    OptionError
        A layer is no `Layer`, belongs to another network, or is given twice.
    ShapeError
        A layer does not fit the output of the one before, or its arrays do not fit one another.

    Examples
    --------
    >>> network = Sequential([Dense(4, 3, seed=0), ReLU(), Dense(3, 2, seed=1)], (4,))
    >>> out, cache = network.forward(np.ones((5, 4), np.float32))
    >>> network.backward(np.ones_like(out), cache).shape, list(network.named_params())
    ((5, 4), ['dense_1.w', 'dense_1.b', 'dense_2.w', 'dense_2.b'])
    """

    def __init__(self, layers: Sequence[Layer], input_shape: Shape) -> None:
        if not isinstance(layers, Iterable) or isinstance(layers, np.ndarray):
            raise OptionError(f"a network is made of a list of layers, not {found(layers)}")
        self.layers = tuple(layers)
        check_layers(self.layers)
        self.input_shape = as_shape(input_shape)
        self._fused = fused(self.layers)
        self._shapes = tuple(_shapes(steps, self.input_shape) for steps in (self.layers, self._fused))
        self._weighted = tuple(_weighted(steps) for steps in (self.layers, self._fused))
        self.output_shape = self._shapes[0][-1]
        self._params, self._grads = join_arrays(self.layers)
        self._chunks = chunks_of([array.size for layer in self.layers for array in layer.params.values()])
        self._own_layers()

    def _own_layers(self) -> None:
        move_arrays(self.layers, self._params, self._grads)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Of a copy, or from a pickle, where the arrays of the layers are arrays of their own."""
        self.__dict__.update(state)
        self._own_layers()

    @property
    def params(self) -> Array:
        return self._params

    @params.setter
    def params(self, values: Any) -> None:
        assign("network.params", self._params, values)

    @property
    def grads(self) -> Array:
        return self._grads

    @grads.setter
    def grads(self, values: Any) -> None:
        assign("network.grads", self._grads, values)

    @property
    def trainable(self) -> bool:
        return any(layer.trainable for layer in self.layers)

    @trainable.setter
    def trainable(self, trainable: bool) -> None:
        for layer in self.layers:
            layer.trainable = trainable

    def forward(self, x: Array) -> tuple[Array, Any]:
        """Output for a batch x (N, ...), and what backward needs to know."""
        steps: Sequence[Any] = self._fused if ops.name == "compiled" else self.layers
        out, caches = as_array("the input of the network", x), []
        for step, shape in zip(steps, self._shapes_of(steps, out.shape[1:])[1:], strict=True):
            out, cache = call_forward(step, out, shape)
            caches.append(cache)
        return out, (steps, caches, np.shape(x))

    def forward_with_inputs(self, x: Array) -> tuple[Array, list[Array]]:
        """Output for a batch x (N, ...), with the bits of `forward`, and what each layer with weights was given."""
        steps: Sequence[Any] = self._fused if ops.name == "compiled" else self.layers
        out, inputs = as_array("the input of the network", x), []
        for step, shape in zip(steps, self._shapes_of(steps, out.shape[1:])[1:], strict=True):
            if step.params:
                inputs.append(out)
            out, _ = call_forward(step, out, shape)
        return out, inputs

    @property
    def weighted_shapes(self) -> list[Shape]:
        """The shape of one input of each layer with weights."""
        return [self._shapes[0][i] for i in self._weighted[0]]

    def backward(self, dout: Array, cache: Any, need_dx: bool = True) -> Array | None:
        """Add to `grads`; return the gradient of the input (None unless `need_dx`)."""
        need_dx = as_flag("need_dx", need_dx)
        steps, caches, x_shape = cache_parts("the network", cache, tuple, 3)
        if steps is not self._fused and steps is not self.layers:
            raise ShapeError("the network needs the cache that its own forward returned, not that of another network")
        cache_parts("the network", caches, list, len(steps))
        N, *shape = cache_shape("the network", x_shape)
        shapes = self._shapes_of(steps, tuple(shape))
        dx: Array | None = check_gradient("the network", dout, (N, *shapes[-1]))
        trained = (i for i in self._weighted[steps is self._fused] if steps[i].trainable)
        first = 0 if need_dx else next(trained, len(steps))
        for i in reversed(range(first, len(steps))):
            kept = {} if steps[i].trainable else {name: grad.copy() for name, grad in steps[i].grads.items()}
            dx = call_backward(steps[i], dx, caches[i], (N, *shapes[i]), need_dx or i > first)
            if kept:  # a class of one's own may have added to them
                steps[i].grads.update(kept)
        return dx if need_dx else None

    def _shapes_of(self, steps: Sequence[Any], shape: Shape) -> tuple[Shape, ...]:
        return self._shapes[steps is self._fused] if shape == self.input_shape else _shapes(steps, shape)

    def zero_grads(self) -> None:
        """Set all gradients to 0, as before each training step."""
        ops.fill_zero(self._grads, self._chunks)

    def upto(self, count: int) -> "Sequential":
        """The network of the first `count` layers, which stay this network's: its output is their feature maps.

        Weights are shared, so either network trains both.
        """
        if not is_whole(count) or not 1 <= count <= len(self.layers):
            raise OptionError(
                f"a network of {len(self.layers)} layers can be cut after 1 to all of them, not {count!r}"
            )
        return _Cut(self, int(count))

    def named_params(self) -> dict[str, Array]:
        """Every parameter array under a name such as ``conv2d_1.w``, numbered per kind of layer."""
        return numbered((type(layer).__name__, layer.params) for layer in self.layers)

    def summary(self, x: Array) -> "Ledger":
        """What each layer costs on a batch x (N, ...), and the share of zeros in what it gives.

        Printed, the `siamese_np.ledger.Ledger` is a table: shapes, parameters, FLOPs and bytes forward and backward.
        The layers run one by one, none fused. ShapeError where x does not fit.

        Examples
        --------
        >>> import numpy as np
        >>> from siamese_np import Dense, Sequential
        >>> network = Sequential([Dense(4, 3, seed=0)], (4,))
        >>> network.summary(np.ones((2, 4), np.float32)).total("flops")
        48
        """
        from siamese_np.ledger import summary  # which knows the layers

        return summary(self, x)

    def load_params(self, params: Mapping[str, Any] | str | Path) -> None:
        """Copy in parameters by the names of `named_params`, all or none.

        Parameters
        ----------
        params : mapping of str to array, or path
            Of any real dtype. A path is of an ``.npz`` file; a model file is one.

        Raises
        ------
        ModelError
            A name is missing or not of this network, or the file cannot be read.
        ShapeError
            An array has another shape, or holds NaN or infinity.
        """
        load_params(self.named_params(), params)

    def config(self) -> dict[str, Any]:
        """All that makes such a network with other weights, as JSON values: layers and input_shape.

        ModelError where a layer cannot be described, or its description makes another layer.
        """
        return {"layers": [layer_config(layer) for layer in self.layers], "input_shape": list(self.input_shape)}

    @staticmethod
    def from_config(config: Mapping[str, Any]) -> "Sequential":
        """A network such as the one that `config` is of, with weights of its own.

        Raises
        ------
        ModelError
            `config` describes no network, or a layer of it is of an unknown class (see `register_layer`).
        """
        layers = make_layers(config)
        with described("the network"):
            return Sequential(layers, config["input_shape"])

    def __repr__(self) -> str:
        return "\n".join(repr(layer) for layer in self.layers)


class _Cut(Sequential):
    """The first layers of another network, which they belong to. It never fuses, so its last layer may be any."""

    def __init__(self, whole: Sequential, count: int) -> None:
        self._whole = whole
        self.layers = whole.layers[:count]
        self._fused = self.layers
        self.input_shape = whole.input_shape
        self._shapes = (whole._shapes[0][: count + 1],) * 2
        self._weighted = (_weighted(self.layers),) * 2
        self.output_shape = self._shapes[0][-1]
        self._chunks = chunks_of([array.size for layer in self.layers for array in layer.params.values()])
        self._own_layers()

    def _own_layers(self) -> None:
        size = sum(array.size for layer in self.layers for array in layer.params.values())
        self._params, self._grads = self._whole.params[:size], self._whole.grads[:size]


def _weighted(steps: Sequence[Any]) -> list[int]:
    """Which steps have parameters."""
    return [i for i, step in enumerate(steps) if step.params]


def _shapes(steps: Sequence[Any], shape: Shape) -> tuple[Shape, ...]:
    """The shape of the input of each step, and of the output of the last."""
    shapes = [shape]
    for step in steps:
        shapes.append(as_shape(step.output_shape(shapes[-1]), f"the output_shape of {step}"))
    return tuple(shapes)


class SiameseNetwork:
    """Two branches that share one embedding network; their distance says how alike two images are.

    Parameters
    ----------
    network : Sequential
        Maps images (N, H, W, C) to embeddings (N, E).
    margin : float, default 1.0
        Margin of the contrastive loss it is trained with.
    threshold : float, optional
        Two images closer than this count as similar, finite and at least 0; by default half the margin, until
        calibrated.
    class_names : sequence of str, optional
        What the classes are called, in the order of their numbers; kept in model files.
    input_form : InputForm, optional
        How pictures become images of this network (`siamese_np.datasets.InputForm`); kept in model files. By default
        a network for 28x28 grey images reads digits, and others read pictures of just their size.

    Attributes
    ----------
    trained_on : dict or None
        The data that it was trained on, if `load_dataset` loaded them: ``source``, ``split`` and ``seed`` are its
        arguments, ``sha256`` is the hash of all images. Kept in model files.
    views : bool, False at first
        Embed each image as the mean of seven embeddings: of itself, shifted and turned a little
        (`siamese_np.augment.views`). It takes seven times as long, makes fewer mistakes, and wants a threshold of its
        own. No model file keeps it.
    novelty : Novelty or None, None at first
        What `embed_scored` scores by (`siamese_np.novelty.Novelty.fit`), kept in model files.

    Examples
    --------
    >>> siamese, images = SiameseNetwork(cnn(seed=0)), load_dataset().test.images
    >>> siamese.embed(images[:3]).shape, siamese.distances(images[:1], images[:1]).tolist()
    ((3, 64), [0.0])
    """

    views = False
    sharing: Any = None  # what runs batches of `network` in its place: `siamese_np.distributed.SharedNetwork`
    novelty: "Novelty | None" = None

    def __init__(
        self,
        network: Sequential,
        margin: float = 1.0,
        threshold: float | None = None,
        class_names: Sequence[str] | None = None,
        input_form: InputForm | None = None,
    ) -> None:
        if not isinstance(network, Sequential):
            raise OptionError(f"a SiameseNetwork is made of a network, as Sequential, cnn or mlp, not {found(network)}")
        if len(network.output_shape) != 1:
            raise ShapeError(f"an embedding network must end in vectors (N, E), not {network.output_shape}")
        self.network = network
        self.margin = check_margin(margin)
        self.threshold = self.margin / 2 if threshold is None else check_saved_threshold(threshold)
        self.class_names = check_class_names(class_names)
        self.input_form = default_form(network.input_shape) if input_form is None else input_form
        if self.input_form is not None:
            check_kind("input_form", self.input_form, InputForm)
        if self.input_form is not None and self.input_form.shape != network.input_shape:
            raise ShapeError(f"pictures of {self.input_form.shape} are no input of a network of {network.input_shape}")
        self.trained_on: dict[str, Any] | None = None
        self._distance = EuclideanDistance()

    @property
    def _runner(self) -> Any:
        return self.network if self.sharing is None else self.sharing

    def forward(self, images_a: Array, images_b: Array) -> tuple[Array, Any]:
        """Distances (N,) of two batches of images, and the cache; both branches run as one batch of 2N.

        ShapeError where the images do not fit, as in `embed`, or where one batch is longer than the other.
        """
        images_a, images_b = self._images(images_a), self._images(images_b)
        if len(images_a) != len(images_b):
            raise ShapeError(f"pairs need as many images_a as images_b, not {len(images_a)} and {len(images_b)}")
        images = check_finite(np.concatenate([images_a, images_b]), len(images_a))
        emb, caches = self._runner.forward(images)
        dist, cache = self._distance.forward(emb[: len(images_a)], emb[len(images_a) :])
        return dist, (caches, cache)

    def backward(self, ddist: Array, cache: Any) -> None:
        """Add the gradients of both branches to those of the shared weights."""
        caches, distance_cache = cache_parts("the Siamese network", cache, tuple, 2)
        demb = np.concatenate(self._distance.backward(ddist, distance_cache))
        self._runner.backward(demb, caches, need_dx=False)

    def gradients(self, images: Array, classes: Any, loss: Any) -> float:
        """Add the gradients of a loss over a whole batch, as `AllPairsContrastiveLoss`; return the loss.

        Parameters
        ----------
        images : (N, H, W, C) array
            Float in [0, 1].
        classes : (N,) array of int
        loss : object
            ``forward(emb, classes) -> (value, cache)`` and ``backward(cache) -> demb``.

        Raises
        ------
        ShapeError
            The images do not fit, or `loss` returns no number or no gradient of the embeddings.
        """
        emb, caches = self._runner.forward(check_finite(self._images(images)))
        value, cache = loss_forward(loss, emb, classes)
        self._runner.backward(loss_backward(loss, cache, "demb", emb), caches, need_dx=False)
        return value

    def pair_gradients(self, images_a: Array, images_b: Array, label: Any, loss: Any) -> float:
        """Add the gradients of a loss over given pairs, as `ContrastiveLoss`; return the loss.

        Parameters
        ----------
        images_a, images_b : (N, H, W, C) arrays
            Float in [0, 1].
        label : (N,) array of int
            0 = similar, 1 = dissimilar.
        loss : object
            ``forward(dist, label) -> (value, cache)`` and ``backward(cache) -> ddist``.

        Raises
        ------
        ShapeError
            The images do not fit, or `loss` returns no number or no gradient of the distances.
        """
        dist, caches = self.forward(images_a, images_b)
        value, cache = loss_forward(loss, dist, label)
        self.backward(loss_backward(loss, cache, "ddist", dist), caches)
        return value

    def embed(self, images: Array) -> Array:
        """Embeddings (N, E) of images (N, H, W, C), float in [0, 1]; ShapeError where they do not fit.

        The result for an image does not depend on the other images of the batch.
        """
        images = check_finite(self._images(images))
        emb = np.empty((len(images), *self.network.output_shape), self.network.params.dtype)
        for start in range(0, len(images), EMBED_BATCH):
            part = slice(start, start + EMBED_BATCH)
            emb[part] = self._embed(images[part])
        return emb

    def _embed(self, images: Array) -> Array:
        if not self.views:
            return self._runner.forward(images)[0]
        return np.mean([self._runner.forward(view)[0] for view in views(images)], axis=0)

    def embed_scored(self, images: Array) -> tuple[Array, NDArray[np.float64]]:
        """Embeddings (N, E), as `embed`, and how unlike the training images each image is (N,), in one pass.

        The second is the share of validation images that look more familiar, from 0 to 1; an image beyond
        ``novelty.limit`` is unlike anything the network was trained on. It is NaN where `novelty` is None.
        """
        if self.novelty is None:
            emb = self.embed(images)
            return emb, np.full(len(emb), np.nan)
        images = check_finite(self._images(images))
        emb, unlike = np.empty((len(images), *self.network.output_shape), self.network.params.dtype), []
        for start in range(0, len(images), EMBED_BATCH):
            part = slice(start, start + EMBED_BATCH)
            out, inputs = self.network.forward_with_inputs(images[part])
            unlike.append(self.novelty.unlike(out, inputs))
            emb[part] = self._embed(images[part]) if self.views else out
        return emb, np.concatenate([np.empty(0), *unlike])

    def distances(self, images_a: Array, images_b: Array) -> Array:
        """Distances (N,) between matching images of two batches (N, H, W, C)."""
        return self._distance.forward(self.embed(images_a), self.embed(images_b))[0]

    def similar(self, images_a: Array, images_b: Array) -> NDArray[np.bool_]:
        """Whether each two matching images are closer than the threshold."""
        return self.distances(images_a, images_b) < self.threshold

    def _images(self, images: Array) -> Array:
        return as_images(images, self.network.input_shape, self.network.params.dtype)
