"""faiss, scikit-learn and scors: neighbours and AUC from arrays that are there already. `variant` is the library."""

import os
from importlib import import_module, metadata
from typing import Any

import numpy as np


def versions(variant: str) -> dict[str, str]:
    """What runs here."""
    return {variant: getattr(import_module(variant), "__version__", None) or metadata.version(variant)}


def make(variant: str, preset: str, params: dict[str, np.ndarray], job: Any) -> Any:
    """What has `nearest` or `auc`."""
    return {"faiss": Faiss, "sklearn": ScikitLearn, "scors": Scors}[variant]()


class Faiss:
    """Brute force: squared distances by matrix multiplication."""

    def __init__(self) -> None:
        import faiss

        faiss.omp_set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
        self.index = faiss.IndexFlatL2

    def nearest(self, query: np.ndarray, gallery: np.ndarray, k: int) -> np.ndarray:
        """Rows of the gallery (Q, k), nearest first."""
        index = self.index(gallery.shape[1])
        index.add(gallery)
        return index.search(query, k)[1]


class ScikitLearn:
    """Brute force for neighbours, and AUC by sorting."""

    def __init__(self) -> None:
        from sklearn.metrics import roc_auc_score
        from sklearn.neighbors import NearestNeighbors

        self.neighbors, self.roc_auc_score = NearestNeighbors, roc_auc_score

    def nearest(self, query: np.ndarray, gallery: np.ndarray, k: int) -> np.ndarray:
        """Rows of the gallery (Q, k), nearest first."""
        return self.neighbors(n_neighbors=k, algorithm="brute").fit(gallery).kneighbors(query, return_distance=False)

    def auc(self, dist: np.ndarray, label: np.ndarray) -> float:
        """How often a dissimilar pair (label 1) is further apart than a similar one."""
        return float(self.roc_auc_score(label, dist))


class Scors:
    """AUC by sorting, in Rust."""

    def __init__(self) -> None:
        import scors

        self.roc_auc = scors.roc_auc

    def auc(self, dist: np.ndarray, label: np.ndarray) -> float:
        """How often a dissimilar pair (label 1) is further apart than a similar one."""
        return float(self.roc_auc(label, dist))
