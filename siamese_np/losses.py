"""The contrastive loss of given pairs and of all pairs of a batch, and the supervised contrastive loss of a batch.

A loss is an object with two methods, of one of two kinds, told by the names of forward's parameters:

- a pair loss: ``forward(dist, label) -> (value, cache)``, ``backward(cache) -> ddist``
- a batch loss: ``forward(emb, classes) -> (value, cache)``, ``backward(cache) -> demb``

A new batch loss is some NumPy between the two methods of `siamese_np.PairwiseDistances`; `train_run` shows one.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from siamese_np._checks import (
    INT64,
    as_number,
    check_classes,
    check_embeddings,
    check_margin,
    check_pairs,
)
from siamese_np._contract import cache_array, cache_parts
from siamese_np.backend import ops
from siamese_np.errors import OptionError
from siamese_np.runtime import buffers

Array = NDArray[np.floating]
NEGATIVES = ("all", "active")


class ContrastiveLoss:
    """Mean contrastive loss of given pairs (Hadsell, Chopra & LeCun 2006, eq. 4).

    ``1/2 (1 - label) dist^2 + 1/2 label max(0, margin - dist)^2`` with label 0 = similar, 1 = dissimilar.

    Parameters
    ----------
    margin : float, default 1.0
        Distance from which on a dissimilar pair is far enough; in units of the distance, > 0.

    Examples
    --------
    >>> loss = ContrastiveLoss(margin=1.0)
    >>> value, cache = loss.forward(np.array([0.5, 0.5]), [0, 1])
    >>> value, loss.backward(cache).tolist()
    (0.125, [0.25, -0.25])
    """

    def __init__(self, margin: float = 1.0) -> None:
        self.margin = check_margin(margin)

    def __repr__(self) -> str:
        return f"ContrastiveLoss({self.margin!r})"

    def forward(self, dist: Array, label: ArrayLike) -> tuple[float, Any]:
        """Mean loss over the pairs with distances dist (N,) and label (N,), and the cache for backward.

        Distances that are neither float32 nor float64 are converted to float64. ShapeError where they are no real
        numbers of at least 0, or where dist and label differ in length or are empty.
        """
        dist, label = check_pairs(dist, label, for_loss=True)
        loss = np.empty_like(dist)
        ops.contrastive_forward(loss, dist, label, dist.dtype.type(self.margin))
        # the mean, in a third of the time that loss.mean() takes in each step
        return float(np.add.reduce(loss) / loss.dtype.type(len(loss))), (dist, label)

    def backward(self, cache: Any, dloss: float = 1.0) -> Array:
        """Gradient of the distances, ddist (N,)."""
        dist, label = cache_parts("ContrastiveLoss", cache, tuple, 2)
        dist = cache_array("ContrastiveLoss", "dist", dist, (None,))
        label = cache_array("ContrastiveLoss", "label", label, dist.shape, INT64)
        ddist, each = np.empty_like(dist), np.full_like(dist, _factor(dloss) / max(len(dist), 1))
        ops.contrastive_backward(ddist, each, dist, label, dist.dtype.type(self.margin))
        return ddist


class AllPairsContrastiveLoss:
    """Contrastive loss over all pairs of a batch, similar and dissimilar ones weighing the same.

    ``(mean over similar pairs + mean over dissimilar pairs) / 2``: the value that class-balanced random pairs
    of the batch have on average. A kind of pair that the batch lacks counts 0.

    Parameters
    ----------
    margin : float, default 1.0
        As in `ContrastiveLoss`.
    negatives : "all" or "active"
        Which dissimilar pairs the mean is over: all, or those within the margin. Of these few are left late in a
        training, and only they push.

    Examples
    --------
    >>> value, cache = AllPairsContrastiveLoss().forward(np.array([[0.0], [0.4], [1.0]]), [0, 0, 1])
    >>> round(value, 6)
    0.06
    """

    def __init__(self, margin: float = 1.0, negatives: str = "all") -> None:
        self.margin = check_margin(margin)
        if not isinstance(negatives, str) or negatives not in NEGATIVES:
            raise OptionError(f"negatives are {' or '.join(NEGATIVES)}, not {negatives!r:.200}")
        self.negatives = negatives

    def __repr__(self) -> str:
        return f"AllPairsContrastiveLoss({self.margin!r}, {self.negatives!r})"

    def forward(self, emb: Array, classes: ArrayLike) -> tuple[float, Any]:
        """Loss of the embeddings emb (N, E) with classes (N,), and the cache for backward."""
        emb = check_embeddings("emb", emb, for_loss=True)
        N = len(emb)
        classes = check_classes(classes, N)
        dist, sums = buffers.empty((N, N), emb.dtype), np.empty((N, 3), emb.dtype)
        ops.all_pairs_forward(sums, dist, emb, classes, emb.dtype.type(self.margin))
        similar = np.count_nonzero(classes[:, None] == classes) - N
        *total, active = sums.sum(axis=0, dtype=np.float64)
        dissimilar = N * N - N - similar if self.negatives == "all" else active
        weight = 0.5 / np.maximum([similar, dissimilar], 1)  # each pair twice, as in the sums
        # each pair (i, j) is also (j, i): both rows hold its loss, each row gives one side of its gradient
        return float(np.array(total) @ weight), (dist, emb, classes, 2 * weight)

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


class SupConLoss:
    """Supervised contrastive loss of a batch (Khosla et al. 2020, eq. 2), on embeddings brought to length 1.

    With ``u = emb / |emb|``, a softmax of ``u_i . u_j / temperature`` over all j but i says how likely image i picks
    image j. The loss is ``-log`` of it, averaged over the others of its class, then over the images that have any; 0
    where none has. The gradient of an embedding of length 0, which has no direction, is 0. Compare embeddings by their
    directions after training: divide each by its length. What `train_run` and the commands measure is of embeddings as
    they are.

    Parameters
    ----------
    temperature : float, default 0.05
        From 0.01 to 100; the smaller, the more the nearest images of other classes count.

    Examples
    --------
    >>> round(SupConLoss().forward(np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]), [0, 1, 0])[0], 6)
    0.0
    """

    def __init__(self, temperature: float = 0.05) -> None:
        self.temperature = as_number(temperature)
        if not 0.01 <= self.temperature <= 100:
            raise OptionError(f"the temperature must be from 0.01 to 100, not {temperature!r:.200}")

    def __repr__(self) -> str:
        return f"SupConLoss({self.temperature!r})"

    def forward(self, emb: Array, classes: ArrayLike) -> tuple[float, Any]:
        """Loss of the embeddings emb (N, E) with classes (N,), and the cache for backward."""
        emb = check_embeddings("emb", emb, for_loss=True)
        classes = check_classes(classes, len(emb))
        largest = abs(emb).max(axis=1, keepdims=True, initial=0)  # first, so that no square overflows or vanishes
        unit = np.divide(emb, largest, out=np.zeros_like(emb), where=largest != 0)
        length = np.linalg.norm(unit, axis=1, keepdims=True)
        unit, length = np.divide(unit, length, out=unit, where=length != 0), length * largest
        same = classes[:, None] == classes
        np.fill_diagonal(same, False)
        others = same.sum(axis=1, keepdims=True)
        weight = (same / np.maximum(others, 1) / max(np.count_nonzero(others), 1)).astype(emb.dtype)
        if not others.any():
            return 0.0, (unit, length, weight)
        logits = unit @ unit.T / emb.dtype.type(self.temperature)
        np.fill_diagonal(logits, -np.inf)
        logits -= logits.max(axis=1, keepdims=True)
        picked = np.exp(logits)
        total = picked.sum(axis=1, keepdims=True)
        loss = np.where(same, np.log(total) - logits, 0) * weight
        return float(loss.sum()), (unit, length, picked / total * weight.sum(axis=1, keepdims=True) - weight)

    def backward(self, cache: Any, dloss: float = 1.0) -> Array:
        """Gradient of the embeddings, demb (N, E)."""
        unit, length, dlogits = cache_parts("SupConLoss", cache, tuple, 3)
        unit = cache_array("SupConLoss", "unit", unit, (None, None))
        length = cache_array("SupConLoss", "length", length, (len(unit), 1), unit.dtype)
        dlogits = cache_array("SupConLoss", "dlogits", dlogits, (len(unit), len(unit)), unit.dtype)
        dunit = (dlogits + dlogits.T) @ unit * unit.dtype.type(_factor(dloss) / self.temperature)
        along = (unit * dunit).sum(axis=1, keepdims=True) * unit  # a longer embedding has the same direction
        return np.divide(dunit - along, length, out=np.zeros_like(unit), where=length != 0)


def _factor(dloss: float) -> float:
    """`dloss` as a finite number, or an OptionError."""
    number = as_number(dloss)
    if not math.isfinite(number):
        raise OptionError(f"dloss must be a finite number, not {dloss!r:.200}")
    return number
