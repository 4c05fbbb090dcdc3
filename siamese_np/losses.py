"""Distances of embeddings, and the contrastive loss: of given pairs, and of all pairs of a batch.

A loss is an object with two methods, of one of two kinds, told by the names of forward's parameters:

- a pair loss: ``forward(dist, label) -> (value, cache)``, ``backward(cache) -> ddist``
- a batch loss: ``forward(emb, classes) -> (value, cache)``, ``backward(cache) -> demb``

A new batch loss is some NumPy between the two methods of `PairwiseDistances`; `train_run` shows one.
"""

import inspect
import math
import numbers
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from siamese_np._checks import (
    INT64,
    as_number,
    cache_array,
    cache_parts,
    check_classes,
    check_embeddings,
    check_gradient,
    check_margin,
    check_pairs,
    found,
    is_array,
)
from siamese_np.backend import ops
from siamese_np.errors import OptionError, ShapeError
from siamese_np.runtime import buffers

Array = NDArray[np.floating]


class EuclideanDistance:
    """Distance between matching rows of two arrays of embeddings; its gradient at distance 0 is 0."""

    def forward(self, emb_a: Array, emb_b: Array) -> tuple[Array, Any]:
        """Distances (N,) between emb_a (N, E) and emb_b (N, E), and the cache for backward."""
        emb_a = check_embeddings("emb_a", emb_a, for_loss=True)
        emb_b = check_embeddings("emb_b", emb_b, for_loss=True)
        if emb_a.shape != emb_b.shape or emb_a.dtype != emb_b.dtype:
            raise ShapeError(
                f"emb_a and emb_b must have the same shape and dtype, not {emb_a.shape} {emb_a.dtype} "
                f"and {emb_b.shape} {emb_b.dtype}"
            )
        dist = np.empty(len(emb_a), emb_a.dtype)
        ops.euclidean_forward(dist, emb_a, emb_b)
        return dist, (emb_a, emb_b, dist)

    def backward(self, ddist: Array, cache: Any) -> tuple[Array, Array]:
        """Gradients (demb_a, demb_b) of the embeddings from those of the distances, ddist (N,)."""
        emb_a, emb_b, dist = cache_parts("EuclideanDistance", cache, tuple, 3)
        emb_a = cache_array("EuclideanDistance", "emb_a", emb_a, (None, None))
        emb_b = cache_array("EuclideanDistance", "emb_b", emb_b, emb_a.shape, emb_a.dtype)
        dist = cache_array("EuclideanDistance", "dist", dist, (len(emb_a),), emb_a.dtype)
        ddist = check_gradient("EuclideanDistance", ddist, dist.shape, dist.dtype, "ddist")
        demb_a, demb_b = np.empty_like(emb_a), np.empty_like(emb_b)
        ops.euclidean_backward(demb_a, demb_b, ddist, emb_a, emb_b, dist)
        return demb_a, demb_b


class ContrastiveLoss:
    """Mean contrastive loss of given pairs (Hadsell, Chopra & LeCun 2006, eq. 4).

    ``1/2 (1 - label) dist^2 + 1/2 label max(0, margin - dist)^2`` with label 0 = similar, 1 = dissimilar.

    Parameters
    ----------
    margin : float, default 1.0
        Distance from which on a dissimilar pair is far enough; in units of the distance, > 0.
    """

    def __init__(self, margin: float = 1.0) -> None:
        self.margin = check_margin(margin)

    def forward(self, dist: Array, label: ArrayLike) -> tuple[float, Any]:
        """Mean loss over the pairs with distances dist (N,) and label (N,), and the cache for backward.

        Distances that are neither float32 nor float64 are converted to float64. ShapeError where they are no real
        numbers of at least 0, or where dist and label differ in length or are empty.
        """
        dist, label = check_pairs(dist, label, for_loss=True)
        loss = np.empty_like(dist)
        ops.contrastive_forward(loss, dist, label, dist.dtype.type(self.margin))
        return float(loss.mean()), (dist, label)

    def backward(self, cache: Any, dloss: float = 1.0) -> Array:
        """Gradient of the distances, ddist (N,)."""
        dist, label = cache_parts("ContrastiveLoss", cache, tuple, 2)
        dist = cache_array("ContrastiveLoss", "dist", dist, (None,))
        label = cache_array("ContrastiveLoss", "label", label, dist.shape, INT64)
        ddist, each = np.empty_like(dist), np.full_like(dist, _factor(dloss) / max(len(dist), 1))
        ops.contrastive_backward(ddist, each, dist, label, dist.dtype.type(self.margin))
        return ddist


class PairwiseDistances:
    """Distances between all rows of an array of embeddings; the gradient at distance 0 is 0.

    Examples
    --------
    >>> import numpy as np
    >>> distances = PairwiseDistances()
    >>> dist, cache = distances.forward(np.array([[0.0, 0.0], [3.0, 4.0]]))
    >>> dist.tolist()
    [[0.0, 5.0], [5.0, 0.0]]
    >>> distances.backward(np.array([[0.0, 1.0], [0.0, 0.0]]), cache).tolist()
    [[-0.6, -0.8], [0.6, 0.8]]
    """

    def forward(self, emb: Array) -> tuple[Array, Any]:
        """Distances (N, N) of the embeddings emb (N, E), and the cache for backward.

        ShapeError unless emb is a float32 or float64 array of two dimensions.
        """
        emb = check_embeddings("emb", emb, for_loss=True)
        dist = buffers.empty((len(emb), len(emb)), emb.dtype)
        ops.pairwise_forward(dist, emb)
        return dist, (dist, emb)

    def backward(self, ddist: Array, cache: Any) -> Array:
        """Gradient demb (N, E) of the embeddings from that of the distances, ddist (N, N).

        A loss that uses dist[i, j] but not dist[j, i] has its gradient in ddist[i, j] alone. ShapeError where ddist
        or the cache does not fit.
        """
        dist, emb = cache_parts("PairwiseDistances", cache, tuple, 2)
        emb = cache_array("PairwiseDistances", "emb", emb, (None, None))
        dist = cache_array("PairwiseDistances", "dist", dist, (len(emb), len(emb)), emb.dtype)
        ddist = check_gradient("PairwiseDistances", ddist, dist.shape, dist.dtype, "ddist")
        demb = np.empty_like(emb)
        ops.pairwise_backward(demb, ddist, dist, emb)
        return demb


class AllPairsContrastiveLoss:
    """Contrastive loss over all pairs of a batch, similar and dissimilar ones weighing the same.

    ``(mean over similar pairs + mean over dissimilar pairs) / 2``: the value that class-balanced random pairs
    of the batch have on average. A kind of pair that the batch lacks counts 0.

    Parameters
    ----------
    margin : float, default 1.0
        As in `ContrastiveLoss`.
    """

    def __init__(self, margin: float = 1.0) -> None:
        self.margin = check_margin(margin)

    def forward(self, emb: Array, classes: ArrayLike) -> tuple[float, Any]:
        """Loss of the embeddings emb (N, E) with classes (N,), and the cache for backward."""
        emb = check_embeddings("emb", emb, for_loss=True)
        N = len(emb)
        classes = check_classes(classes, N)
        dist, sums = buffers.empty((N, N), emb.dtype), np.empty((N, 2), emb.dtype)
        ops.all_pairs_forward(sums, dist, emb, classes, emb.dtype.type(self.margin))
        similar = int((np.unique(classes, return_counts=True)[1] ** 2).sum()) - N
        counts = np.array([similar, N * N - N - similar])  # each pair twice, as in the sums
        weight = 0.5 / np.maximum(counts, 1)
        # each pair (i, j) is also (j, i): both rows hold its loss, each row gives one side of its gradient
        return float(sums.sum(axis=0, dtype=np.float64) @ weight), (dist, emb, classes, 2 * weight)

    def backward(self, cache: Any, dloss: float = 1.0) -> Array:
        """Gradient of the embeddings, demb (N, E)."""
        dist, emb, classes, weight = cache_parts("AllPairsContrastiveLoss", cache, tuple, 4)
        emb = cache_array("AllPairsContrastiveLoss", "emb", emb, (None, None))
        dist = cache_array("AllPairsContrastiveLoss", "dist", dist, (len(emb), len(emb)), emb.dtype)
        classes = cache_array("AllPairsContrastiveLoss", "classes", classes, (len(emb),), INT64)
        weight = cache_array("AllPairsContrastiveLoss", "weight", weight, (2,), np.float64)
        demb = np.empty_like(emb)
        weight = (_factor(dloss) * weight).astype(emb.dtype)
        ops.all_pairs_backward(demb, weight, dist, emb, classes, emb.dtype.type(self.margin))
        return demb


LOSS_FORMS = {"pairs": ("dist", "label"), "batch": ("emb", "classes")}  # kind of loss: parameters of its forward


def loss_kind(loss: Any) -> str:
    """Whether `loss` is a loss of given "pairs" or of a "batch", or an OptionError where it is neither."""
    try:
        names = list(inspect.signature(loss.forward).parameters)
    except (AttributeError, TypeError, ValueError):
        names = []
    backward = isinstance(loss, type) or _takes(loss, "backward", 1)
    for kind, form in LOSS_FORMS.items():
        if tuple(names[:2]) == form and _takes(loss, "forward", 2) and backward:
            return kind
    has = (f"forward({', '.join(names)})" if names else "no forward") + ("" if backward else " and no backward(cache)")
    raise OptionError(
        "a loss has forward(dist, label), for given pairs, or forward(emb, classes), for a batch, and "
        f"backward(cache), but {loss!r:.100} has {has}"
    )


def _takes(loss: Any, method: str, count: int) -> bool:
    """Whether `method` of `loss` can be called with `count` arguments."""
    try:
        inspect.signature(getattr(loss, method)).bind(*[None] * count)
    except (AttributeError, TypeError, ValueError):
        return False
    return True


def _call(loss: Any, method: str, *arguments: Any) -> Any:
    try:
        return getattr(loss, method)(*arguments)
    except (AttributeError, TypeError):
        if not _takes(loss, method, len(arguments)):
            takes = {"forward": "forward(inputs, targets)", "backward": "backward(cache)"}[method]
            raise OptionError(f"a loss is called as loss.{takes}, which {loss!r:.100} does not take") from None
        raise


def loss_forward(loss: Any, inputs: Array, targets: Any) -> tuple[float, Any]:
    """The value of `loss` and its cache, or a ShapeError where it returns anything else."""
    returned = _call(loss, "forward", inputs, targets)
    if not isinstance(returned, tuple) or len(returned) != 2:
        raise ShapeError(f"{type(loss).__name__}.forward must return the loss and a cache, not {found(returned)}")
    value, cache = returned
    if not isinstance(value, (float, numbers.Real)) and not (
        is_array(value) and value.ndim == 0 and value.dtype.kind in "iuf"
    ):
        raise ShapeError(f"{type(loss).__name__}.forward must return the loss as one number, not {found(value)}")
    return float(value), cache


def loss_backward(loss: Any, cache: Any, name: str, like: Array) -> Array:
    """The gradient that `loss` returns, or a ShapeError unless it has the shape and dtype of `like`."""
    gradient = _call(loss, "backward", cache)
    if not is_array(gradient) or (gradient.shape, gradient.dtype) != (like.shape, like.dtype):
        raise ShapeError(
            f"{type(loss).__name__}.backward must return {name} as an array {like.shape} of {like.dtype}, "
            f"not {found(gradient)}"
        )
    return gradient


def _factor(dloss: float) -> float:
    """`dloss` as a finite number, or an OptionError."""
    number = as_number(dloss)
    if not math.isfinite(number):
        raise OptionError(f"dloss must be a finite number, not {dloss!r}")
    return number
