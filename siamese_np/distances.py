"""Distances of embeddings, of given pairs of rows or between all rows; the gradient at distance 0 is 0."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from siamese_np._checks import check_embeddings
from siamese_np._contract import cache_array, cache_parts, check_gradient
from siamese_np.backend import ops
from siamese_np.errors import ShapeError
from siamese_np.runtime import buffers

Array = NDArray[np.floating]


class EuclideanDistance:
    """Distance between matching rows of two arrays of embeddings; its gradient at distance 0 is 0.

    Examples
    --------
    >>> EuclideanDistance().forward(np.array([[0.0, 0.0]]), np.array([[3.0, 4.0]]))[0].tolist()
    [5.0]
    """

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
