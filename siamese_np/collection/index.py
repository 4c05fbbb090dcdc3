"""Exact search for the nearest embeddings of a collection, in blocks, so that it may be larger than the memory."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siamese_np.collection.store import Collection, Row
from siamese_np.datasets import InputForm, form_of
from siamese_np.errors import DataError, OptionError
from siamese_np.metrics import nearest
from siamese_np.network import SiameseNetwork
from siamese_np.storage import fingerprint, read_embeddings

BLOCK_NUMBERS = 1 << 22  # of embeddings looked at together: 32 MB in float64


@dataclass
class ListIndex:
    """Embeddings (N, E) and their rows in memory, used as a `Collection` is."""

    emb: NDArray[np.floating]
    rows: Sequence[Row]
    replaced: Sequence[int] = ()

    def __len__(self) -> int:
        return len(self.rows)

    def row(self, i: int) -> Row:
        """Row number `i`."""
        return self.rows[i]


Index = Collection | ListIndex


def open_collection(path: Path, siamese: SiameseNetwork, form: InputForm | None = None) -> Index:
    """Open a collection, or an ``.npz`` file of embeddings, that this model made, to search in it.

    DataError where it is missing, damaged or empty, or was made otherwise. The queries are read as `form`, if not as
    the model's own form.
    """
    if not path.is_dir():
        emb, paths = read_embeddings(path, siamese.network.output_shape[0], fingerprint(siamese))
        return ListIndex(emb, [Row(name) for name in paths])
    collection = Collection(path)
    collection.check_made_by(siamese, form or form_of(siamese))
    if len(collection) == 0:
        raise DataError(f"{path} holds no embedding yet")
    return collection


def is_live(index: Index) -> NDArray[np.bool_]:
    """Which rows (N,) are not replaced by newer ones."""
    live = np.ones(len(index), bool)
    live[list(index.replaced)] = False
    return live


def nearest_rows(query: NDArray[np.floating], index: Index, k: int) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Rows and distances (Q, k) of the embeddings nearest to each query (Q, E), exactly, as `metrics.nearest`.

    Where there are fewer than k, all. OptionError where k is less than 1, DataError where an embedding is not finite.
    """
    if k < 1:
        raise OptionError(f"k must be a whole number from 1 to the {len(index)} rows of the gallery, not {k!r}")
    query = query.astype(index.emb.dtype, copy=False)  # so that a picture is at distance 0 of itself
    indices: NDArray[Any] = np.empty((len(query), 0), np.intp)
    distances: NDArray[Any] = np.empty((len(query), 0))
    live = is_live(index)
    step = max(1, BLOCK_NUMBERS // index.emb.shape[1])
    for start in range(0, len(index), step):
        rows = start + np.flatnonzero(live[start : start + step])
        if not len(rows):
            continue
        block = index.emb[rows]
        if not np.isfinite(block).all():
            raise DataError("the index was changed: it holds embeddings with NaN or infinity")
        new, dist = nearest(query, block, min(k, len(rows)))
        indices, distances = np.hstack([indices, rows[new]]), np.hstack([distances, dist])
        best = np.argsort(distances, axis=1, kind="stable")[:, :k]  # of equals the lower row, as it came first
        indices, distances = (np.take_along_axis(array, best, axis=1) for array in (indices, distances))
    return indices, distances
