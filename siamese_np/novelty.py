"""Says how unlike the training images an image is: how far its features, at several depths, are from every class.

The features of a layer with weights are what the layer is given, averaged over the positions of the image. Their
distance to the nearest class mean is measured in units of the spread within classes, one covariance for all classes
(Mahalanobis; Lee, Lee, Lee & Shin, "A simple unified framework for detecting out-of-distribution samples", NeurIPS
2018). Shallow layers know noise and filled shapes, deep ones letters and scribbles. The score is the sum of the
logarithms of the distances, each over its standard deviation on validation images: no layer outweighs the others.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siamese_np._checks import as_array, as_images, as_number, check_classes, check_finite, check_kind, is_whole
from siamese_np.errors import ModelError, ShapeError
from siamese_np.network import EMBED_BATCH, Sequential

LIMIT = 0.99  # one in a hundred of the validation images is more unlike
WIDEST = 256  # features of a layer, of which the covariance has the square
MOST_TRAINING, MOST_VALIDATION = 10_000, 5_000  # images that are looked at
SHRINKAGE = 1e-3  # share of the variance that is added to each feature's own
LARGEST, SMALLEST = 1e15, 1e-60  # feature whose square float32 can hold; variance and distance that are above 0

FLOAT32 = np.dtype(np.float32)
Float = NDArray[np.floating]


@dataclass(eq=False)
class Novelty:
    """What it takes to score images as unlike those that a network was trained on; of no use once its weights change.

    Attributes
    ----------
    widths : list of int
        D, the number of features, of each of the L layers.
    classes : (K,) ndarray of int64
        Of the training images.
    class_means : (K, E) ndarray of float32
        Means of the training embeddings.
    means : (K, sum of D) ndarray of float32
        Means of the features of each class.
    whitening : (sum of D^2,) ndarray of float32
        For each layer the matrix (D, D) that makes the covariance within classes the identity.
    deviation : (L,) ndarray of float32
        Of the log distances of validation images.
    familiar : (V,) ndarray of float32
        Scores of validation images, sorted.
    limit : float
        An image that is more unlike than this is "unlike anything it was trained on".
    """

    widths: list[int]
    classes: NDArray[np.int64]
    class_means: Float
    means: Float
    whitening: Float
    deviation: Float
    familiar: Float
    limit: float = LIMIT

    @classmethod
    def fit(cls, network: Sequential, train_images: Any, train_classes: Any, validation_images: Any) -> "Novelty":
        """Of a trained network; at most 10,000 training and 5,000 validation images are looked at, evenly chosen.

        Parameters
        ----------
        network : Sequential
        train_images, validation_images : (N, H, W, C) arrays
            Float in [0, 1], at least one of each.
        train_classes : (N,) array of int

        Raises
        ------
        OptionError
            `network` is no Sequential.
        ShapeError
            Images or classes do not fit.
        """
        check_kind("network", network, Sequential)
        shape, dtype = network.input_shape, network.params.dtype
        images, others = (as_images(each, shape, dtype) for each in (train_images, validation_images))
        if not len(images) or not len(others):
            raise ShapeError("novelty needs at least one training image and one validation image")
        classes, of_image = np.unique(check_classes(train_classes, len(images)), return_inverse=True)
        share = max(1, MOST_TRAINING // len(classes))
        rows = np.concatenate([_spaced(np.flatnonzero(of_image == k), share) for k in range(len(classes))])
        emb, features = _embedded(network, images[rows])
        of_image = of_image[rows]
        class_means, means = (_class_means(each, of_image) for each in (emb, features))
        widths = feature_widths(network)
        parts = zip(_split(features - means[of_image], widths), _split(features, widths), strict=True)
        whitening = np.concatenate([_whitening(within, z).ravel() for within, z in parts])
        class_means, means, whitening = (each.astype(FLOAT32) for each in (class_means, means, whitening))
        unit, none = np.ones(len(widths), FLOAT32), np.zeros(1, FLOAT32)
        novelty = cls(widths, classes, class_means, means, whitening, unit, none)
        seen = _embedded(network, others[_spaced(np.arange(len(others)), MOST_VALIDATION)])[1]
        deviation = novelty._log_distances(seen).std(axis=0)
        novelty.deviation = np.where(deviation > 1e-6, deviation, 1).astype(np.float32)
        novelty.familiar = np.sort(novelty._scores(seen))
        return novelty

    def unlike(self, emb: Float, inputs: Sequence[Float]) -> NDArray[np.float64]:
        """The share (N,) of validation images that look more familiar, of what `forward_with_inputs` returned.

        ShapeError where it is not of a network such as this was fitted to.
        """
        given = inputs if isinstance(inputs, (list, tuple)) else [inputs]
        arrays = [as_array("emb", emb), *(as_array("the input of a layer", x) for x in given)]
        if not all(x.ndim >= 2 and len(x) == len(arrays[0]) and x.dtype.kind == "f" for x in arrays) or [
            width for x in arrays[2:] if (width := x.shape[-1]) <= WIDEST
        ] + [min(WIDEST, arrays[0].shape[-1])] != list(self.widths):
            raise ShapeError(
                "novelty scores the embeddings and inputs that the forward_with_inputs of its network returned"
            )
        emb, *inputs = arrays
        return np.searchsorted(self.familiar, self._scores(_features(emb, inputs))) / len(self.familiar)

    def _scores(self, features: Float) -> Float:
        return (self._log_distances(features) / self.deviation).sum(axis=1).astype(np.float32)

    def _log_distances(self, features: Float) -> Float:
        """Log of the squared distance to the nearest class mean, (N, L)."""
        columns, start = [], 0
        for z, means in zip(_split(features, self.widths), _split(self.means, self.widths), strict=True):
            D = z.shape[1]
            white = self.whitening[start : start + D * D].reshape(D, D)
            start += D * D
            z, centres = z @ white, means.astype(np.float64) @ white
            squares = [np.square(z - centre).sum(axis=1) for centre in centres]
            columns.append(np.log(np.min(squares, axis=0) + SMALLEST))
        return np.stack(columns, axis=1)

    def config(self) -> dict[str, Any]:
        """What the header of a model file says of it."""
        (K, E), V = self.class_means.shape, len(self.familiar)
        return {"limit": as_number(self.limit), "widths": self.widths, "classes": K, "embedding_size": E, "familiar": V}


def array_forms(config: Any) -> dict[str, tuple[tuple[int, ...], Any]]:
    """Shape and dtype of the arrays of a Novelty of this `config`, or a ModelError."""
    given: Mapping[str, Any] = config if isinstance(config, Mapping) else {}
    widths: Any = given.get("widths")
    sizes: list[Any] = [given.get(name) for name in ("classes", "embedding_size", "familiar")]
    sizes += widths if isinstance(widths, list) and widths else [None]
    if not all(is_whole(n) and 0 < n < 1 << 31 for n in sizes) or not 0 <= as_number(given.get("limit")) <= 1:
        raise ModelError(f"novelty has a limit from 0 to 1, and sizes of at least 1, not {config!r:.120}")
    K, E, V, *D = sizes
    return {
        "classes": ((K,), np.dtype(np.int64)),
        "class_means": ((K, E), FLOAT32),
        "means": ((K, sum(D)), FLOAT32),
        "whitening": ((sum(d * d for d in D),), FLOAT32),
        "deviation": ((len(D),), FLOAT32),
        "familiar": ((V,), FLOAT32),
    }


def from_arrays(config: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], network: Sequential) -> Novelty:
    """The Novelty of a model file; ModelError where it is of another network, or its numbers cannot be."""
    theirs, ours = (config["widths"], config["embedding_size"]), (feature_widths(network), *network.output_shape)
    if theirs != ours:
        raise ModelError(f"novelty is of layers and embeddings of {theirs} numbers, but the network has {ours}")
    if not (arrays["deviation"] > 0).all() or (np.diff(arrays["familiar"]) < 0).any():
        raise ModelError("novelty has a deviation that is not above 0, or scores that are not sorted")
    return Novelty(config["widths"], **arrays, limit=float(config["limit"]))


def feature_widths(network: Sequential) -> list[int]:
    """The number of features of each layer that is used: all but the first with weights, and the embedding."""
    widths = [shape[-1] for shape in network.weighted_shapes[1:]]
    return [width for width in widths if width <= WIDEST] + [min(WIDEST, *network.output_shape)]


def _features(emb: Float, inputs: Sequence[Float]) -> Float:
    """All features (N, sum of D), of what `Sequential.forward_with_inputs` returned."""
    averaged = [z.reshape(len(z), -1, z.shape[-1]).mean(axis=1) for z in inputs[1:] if z.shape[-1] <= WIDEST]
    return np.clip(np.concatenate([*averaged, emb[:, :WIDEST]], axis=1).astype(np.float64), -LARGEST, LARGEST)


def _embedded(network: Sequential, images: NDArray[Any]) -> tuple[Float, Float]:
    """Embeddings (N, E) and features of all images."""
    parts: list[tuple[Float, Float]] = []
    for start in range(0, len(images), EMBED_BATCH):
        emb, inputs = network.forward_with_inputs(check_finite(images[start : start + EMBED_BATCH]))
        parts.append((np.clip(emb.astype(np.float64), -LARGEST, LARGEST), _features(emb, inputs)))
    embs, features = zip(*parts, strict=True)
    return np.concatenate(embs), np.concatenate(features)


def _spaced(rows: NDArray[np.intp], most: int) -> NDArray[np.intp]:
    """At most `most` of `rows`, at equal steps."""
    return rows[:: (len(rows) - 1) // most + 1]


def _split(features: Float, widths: Sequence[int]) -> list[Float]:
    return np.split(features, np.cumsum(widths)[:-1], axis=1)


def _class_means(z: Float, of_image: NDArray[np.intp]) -> Float:
    return np.stack([z[of_image == k].mean(axis=0) for k in range(of_image.max() + 1)])


def _whitening(within: Float, z: Float) -> Float:
    """What gives the deviations `within` classes, or, where there are none, those of all z, covariance 1."""
    spread = max(SMALLEST, np.square(within).mean())
    if spread == SMALLEST:  # each class has one image
        within = z - z.mean(axis=0)
        spread = np.square(within).mean() or 1.0
    covariance = within.T @ within / len(within) + SHRINKAGE * max(SMALLEST, spread) * np.eye(within.shape[1])
    return np.linalg.inv(np.linalg.cholesky(covariance)).T
