"""Layers in a row, the two presets, and the Siamese network: two branches, one set of weights."""

import copy
import numbers
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from siamese_np._checks import as_array, cache_parts, found, is_array
from siamese_np.backend import ops
from siamese_np.errors import OptionError, ShapeError
from siamese_np.layers import Conv2D, ConvReLUPool, Dense, Flatten, Layer, MaxPool2D, ReLU, Shape
from siamese_np.losses import EuclideanDistance, check_margin
from siamese_np.runtime import scheduler
from siamese_np.runtime.scheduler import chunks_of

Array = NDArray[np.floating]

EMBED_BATCH = 256  # images embedded at a time: bounds the memory of the activations


class Sequential:
    """Layers applied one after another; all their parameters lie in one vector.

    The compiled back end computes convolution, ReLU and pooling in a row as one (`siamese_np.layers.ConvReLUPool`),
    with the same results as layer by layer; the textbook runs the layers.

    Parameters
    ----------
    layers : sequence of Layer
    input_shape : tuple of int
        Shape of one input, (H, W, C) or (D,).

    Attributes
    ----------
    params, grads : (P,) ndarray
        All parameters and their gradients; the arrays of the layers are views of these two.
    chunks : (S, 2) ndarray
        How threads share them (`siamese_np.runtime.scheduler.chunks_of`).
    output_shape : tuple of int
        Shape of one output.

    Raises
    ------
    ShapeError
        A layer does not fit the output of the one before; or, later, an array of a layer is no view any more, as it
        was replaced or went into another network.
    """

    def __init__(self, layers: Sequence[Layer], input_shape: Shape) -> None:
        self.layers = list(layers)
        self._fused = _fused(self.layers)
        self.input_shape = self.output_shape = tuple(input_shape)
        for layer in self.layers:
            self.output_shape = layer.output_shape(self.output_shape)
        self.params = _share([layer.params for layer in self.layers])
        self.grads = _share([layer.grads for layer in self.layers])
        self.chunks = chunks_of([array.size for layer in self.layers for array in layer.params.values()])

    def __deepcopy__(self, memo: dict[int, Any]) -> "Sequential":
        """A network of its own: the arrays of its layers are views of its own two vectors."""
        other = type(self)(copy.deepcopy(self.layers, memo), self.input_shape)
        memo[id(self.params)], memo[id(self.grads)] = other.params, other.grads  # of an optimizer copied with it
        return other

    def forward(self, x: Array) -> tuple[Array, Any]:
        """Output for a batch x (N, ...), and what backward needs to know."""
        self._check_views()
        steps: Sequence[Any] = self._fused if ops.name == "compiled" else self.layers
        out, caches = x, []
        for step in steps:
            out, cache = step.forward(out)
            caches.append(cache)
        return out, (steps, caches)

    def backward(self, dout: Array, cache: Any, need_dx: bool = True) -> Array | None:
        """Add to `grads`; return the gradient of the input (None unless `need_dx`)."""
        steps, caches = cache_parts("the network", cache, tuple, 2)
        if steps is not self._fused and steps is not self.layers:
            raise ShapeError("the network needs the cache that its own forward returned, not that of another network")
        cache_parts("the network", caches, list, len(steps))
        dx: Array | None = dout
        first = 0 if need_dx else next((i for i, step in enumerate(steps) if step.params), 0)
        for i in reversed(range(first, len(steps))):
            assert dx is not None
            dx = steps[i].backward(dx, caches[i], need_dx=need_dx or i > first)
        return dx if need_dx else None

    def zero_grads(self) -> None:
        """Set all gradients to 0, as before each training step."""
        self._check_views()
        scheduler.wake()
        ops.fill_zero(self.grads, self.chunks)

    def named_params(self) -> dict[str, Array]:
        """Every parameter array under a name such as ``conv2d_1.w``, numbered per kind of layer."""
        named, seen = {}, {}  # type: dict[str, Array], dict[str, int]
        for layer in self.layers:
            kind = type(layer).__name__.lower()
            seen[kind] = seen.get(kind, 0) + 1
            named.update({f"{kind}_{seen[kind]}.{name}": value for name, value in layer.params.items()})
        return named

    def _check_views(self) -> None:
        """Optimizers see the two vectors only: demand that the layers' arrays are views of them, or a ShapeError."""
        for layer in self.layers:
            for kind, arrays, vector in (("params", layer.params, self.params), ("grads", layer.grads, self.grads)):
                for name, array in arrays.items():
                    if getattr(array, "base", None) is not vector:
                        raise ShapeError(
                            f'{kind}["{name}"] of {layer} is no part of network.{kind} any more, so training would '
                            f'not reach it; copy values in with layer.{kind}["{name}"][:] = ..., and give every '
                            "network layers of its own"
                        )

    def __repr__(self) -> str:
        return "\n".join(repr(layer) for layer in self.layers)


def _fused(layers: Sequence[Layer]) -> list[Layer | ConvReLUPool]:
    """The steps that `layers` amount to: convolution, ReLU and pooling in a row are one."""
    steps: list[Layer | ConvReLUPool] = []
    i = 0
    while i < len(layers):
        if ConvReLUPool.fits(layers[i:]):
            steps.append(ConvReLUPool(layers[i], layers[i + 2]))  # type: ignore[arg-type]
            i += 3
        else:
            steps.append(layers[i])
            i += 1
    return steps


def _share(dicts: list[dict[str, Array]]) -> Array:
    """Move all arrays of `dicts` into one new vector, and leave views of it in their place."""
    arrays = [array for group in dicts for array in group.values()]
    vector = np.concatenate([array.ravel() for array in arrays]) if arrays else np.empty(0, np.float32)
    start = 0
    for group in dicts:
        for name, array in group.items():
            group[name] = vector[start : start + array.size].reshape(array.shape)
            start += array.size
    return vector


def cnn(
    input_shape: Shape = (28, 28, 1),
    embedding_size: int = 64,
    seed: int = 0,
    dtype: DTypeLike = np.float32,
) -> Sequential:
    """Convolutional embedding network: two blocks of 3x3 convolution, ReLU and 2x2 max-pooling, two dense layers.

    Parameters
    ----------
    input_shape : (int, int, int), default (28, 28, 1)
        H, W, C of one image.
    embedding_size : int, default 64
        Length E of an embedding.
    seed : int
        Seed of the weights.
    dtype : dtype, default float32
    """
    H, W, C = _image_shape(input_shape)
    if min(H, W) < 4:
        raise ShapeError(f"the cnn preset needs images of at least 4x4 pixels, not {H}x{W}")
    seeds = np.random.SeedSequence(seed).spawn(4)
    layers = [
        Conv2D(C, 32, 3, pad="same", seed=seeds[0], dtype=dtype),
        ReLU(),
        MaxPool2D(2),
        Conv2D(32, 64, 3, pad="same", seed=seeds[1], dtype=dtype),
        ReLU(),
        MaxPool2D(2),
        Flatten(),
        Dense((H // 4) * (W // 4) * 64, 128, seed=seeds[2], dtype=dtype),
        ReLU(),
        Dense(128, embedding_size, seed=seeds[3], dtype=dtype),
    ]
    return Sequential(layers, input_shape)


def mlp(
    input_shape: Shape = (28, 28, 1),
    embedding_size: int = 128,
    seed: int = 0,
    dtype: DTypeLike = np.float32,
) -> Sequential:
    """The network of the original notebook: 784-512-256-128, ReLU between, linear output.

    Parameters are those of `cnn`.
    """
    H, W, C = _image_shape(input_shape)
    sizes = [H * W * C, 512, 256, embedding_size]
    seeds = np.random.SeedSequence(seed).spawn(3)
    layers: list[Layer] = [Flatten()]
    for i in range(3):
        layers += [Dense(sizes[i], sizes[i + 1], seed=seeds[i], dtype=dtype), ReLU()]
    return Sequential(layers[:-1], input_shape)


PRESETS = {"cnn": cnn, "mlp": mlp}


def make_network(preset: str, **options: Any) -> Sequential:
    """The preset called `preset`, or an OptionError that names the presets there are."""
    if preset not in PRESETS:
        raise OptionError(f"there is no preset {preset!r}; choose one of {', '.join(sorted(PRESETS))}")
    return PRESETS[preset](**options)


class SiameseNetwork:
    """Two branches that share one embedding network; their distance says how alike two images are.

    Parameters
    ----------
    network : Sequential
        Maps images (N, H, W, C) to embeddings (N, E).
    margin : float, default 1.0
        Margin of the contrastive loss it is trained with.
    threshold : float, optional
        Two images closer than this count as similar; by default half the margin, until calibrated.
    preset : str, default "custom"
        Name of the preset the network was made by.
    """

    def __init__(
        self,
        network: Sequential,
        margin: float = 1.0,
        threshold: float | None = None,
        preset: str = "custom",
    ) -> None:
        if len(network.output_shape) != 1:
            raise ShapeError(f"an embedding network must end in vectors (N, E), not {network.output_shape}")
        self.network = network
        self.margin = check_margin(margin)
        self.threshold = self.margin / 2 if threshold is None else float(threshold)
        self.preset = preset
        self._distance = EuclideanDistance()

    def forward(self, images_a: Array, images_b: Array) -> tuple[Array, Any]:
        """Distances (N,) of two batches of images, and the cache; both branches run as one batch of 2N.

        ShapeError where the images do not fit, as in `embed`, or where one batch is longer than the other.
        """
        images_a, images_b = self._check_images(images_a), self._check_images(images_b)
        if len(images_a) != len(images_b):
            raise ShapeError(f"pairs need as many images_a as images_b, not {len(images_a)} and {len(images_b)}")
        emb, caches = self.network.forward(np.concatenate([images_a, images_b]))
        dist, cache = self._distance.forward(emb[: len(images_a)], emb[len(images_a) :])
        return dist, (caches, cache)

    def backward(self, ddist: Array, cache: Any) -> None:
        """Add the gradients of both branches to those of the shared weights."""
        caches, distance_cache = cache_parts("the Siamese network", cache, tuple, 2)
        demb = np.concatenate(self._distance.backward(ddist, distance_cache))
        self.network.backward(demb, caches, need_dx=False)

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
        emb, caches = self.network.forward(self._check_images(images))
        value, cache = _forward(loss, emb, classes)
        self.network.backward(_backward(loss, cache, "demb", emb), caches, need_dx=False)
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
        value, cache = _forward(loss, dist, label)
        self.backward(_backward(loss, cache, "ddist", dist), caches)
        return value

    def embed(self, images: Array) -> Array:
        """Embeddings (N, E) of images (N, H, W, C), float in [0, 1]; ShapeError where they do not fit.

        The result for an image does not depend on the other images of the batch.
        """
        images = self._check_images(images)
        emb = np.empty((len(images), *self.network.output_shape), self.network.params.dtype)
        for start in range(0, len(images), EMBED_BATCH):
            part = slice(start, start + EMBED_BATCH)
            emb[part] = self.network.forward(images[part])[0]
        return emb

    def distances(self, images_a: Array, images_b: Array) -> Array:
        """Distances (N,) between matching images of two batches (N, H, W, C)."""
        return self._distance.forward(self.embed(images_a), self.embed(images_b))[0]

    def similar(self, images_a: Array, images_b: Array) -> NDArray[np.bool_]:
        """Whether each two matching images are closer than the threshold."""
        return self.distances(images_a, images_b) < self.threshold

    def _check_images(self, images: Array) -> Array:
        images = as_array("images", images)
        shape = self.network.input_shape
        if images.shape[1:] != shape or images.ndim != len(shape) + 1:
            raise ShapeError(f"the model was made for images (N, {', '.join(map(str, shape))}), not {images.shape}")
        if not np.issubdtype(images.dtype, np.floating):
            raise ShapeError(f"images must be floats in [0, 1], not {images.dtype}; divide grey levels by 255")
        with np.errstate(over="ignore"):  # told as infinity
            images = images.astype(self.network.params.dtype, copy=False)
        finite = np.isfinite(images)
        if not finite.all():
            bad = int(finite.reshape(len(images), -1).all(axis=1).argmin())
            raise ShapeError(f"image {bad} holds NaN or infinity; every pixel must be a finite number")
        return images


def _image_shape(shape: Shape) -> tuple[int, int, int]:
    if len(shape) != 3 or min(shape) < 1:
        raise ShapeError(f"an image shape is (H, W, C), all at least 1, not {tuple(shape)}")
    return shape


def _forward(loss: Any, inputs: Array, targets: Any) -> tuple[float, Any]:
    """The value of `loss` and its cache, or a ShapeError where it returns anything else."""
    returned = loss.forward(inputs, targets)
    if not isinstance(returned, tuple) or len(returned) != 2:
        raise ShapeError(f"{type(loss).__name__}.forward must return the loss and a cache, not {found(returned)}")
    value, cache = returned
    if not isinstance(value, numbers.Real) and not (is_array(value) and value.ndim == 0 and value.dtype.kind in "iuf"):
        raise ShapeError(f"{type(loss).__name__}.forward must return the loss as one number, not {found(value)}")
    return float(value), cache


def _backward(loss: Any, cache: Any, name: str, like: Array) -> Array:
    """The gradient that `loss` returns, or a ShapeError unless it has the shape and dtype of `like`."""
    gradient = loss.backward(cache)
    if not is_array(gradient) or (gradient.shape, gradient.dtype) != (like.shape, like.dtype):
        raise ShapeError(
            f"{type(loss).__name__}.backward must return {name} as an array {like.shape} of {like.dtype}, "
            f"not {found(gradient)}"
        )
    return gradient
