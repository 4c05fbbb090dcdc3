"""faiss, scikit-learn and scors: neighbours and AUC from arrays that are there already. `variant` is the library."""

import os
from importlib import import_module, metadata
from types import SimpleNamespace
from typing import Any

import numpy as np


def versions(variant: str) -> dict[str, str]:
    """What runs here."""
    return {variant: getattr(import_module(variant), "__version__", None) or metadata.version(variant)}


def make(variant: str, preset: str, params: dict[str, np.ndarray], job: Any) -> SimpleNamespace:
    """What has `nearest`, rows of a gallery (Q, k), nearest first, or `auc` of distances; label 1 is dissimilar."""
    return {"faiss": _faiss, "sklearn": _sklearn, "scors": _scors}[variant]()


def _faiss() -> SimpleNamespace:
    """Brute force: squared distances by matrix multiplication."""
    import faiss

    faiss.omp_set_num_threads(int(os.environ["OMP_NUM_THREADS"]))

    def nearest(query: np.ndarray, gallery: np.ndarray, k: int) -> np.ndarray:
        index = faiss.IndexFlatL2(gallery.shape[1])
        index.add(gallery)
        return index.search(query, k)[1]

    return SimpleNamespace(nearest=nearest)


def _sklearn() -> SimpleNamespace:
    """Brute force for neighbours, and AUC by sorting."""
    from sklearn.metrics import roc_auc_score
    from sklearn.neighbors import NearestNeighbors

    def nearest(query: np.ndarray, gallery: np.ndarray, k: int) -> np.ndarray:
        return NearestNeighbors(n_neighbors=k, algorithm="brute").fit(gallery).kneighbors(query, return_distance=False)

    return SimpleNamespace(nearest=nearest, auc=lambda dist, label: float(roc_auc_score(label, dist)))


def _scors() -> SimpleNamespace:
    """AUC by sorting, in Rust."""
    import scors

    return SimpleNamespace(auc=lambda dist, label: float(scors.roc_auc(label, dist)))
