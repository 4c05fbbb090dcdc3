"""This package, in a process of its own and under the same rules as the others."""

from typing import Any

import numpy as np

from siamese_np import metrics, storage
from siamese_np.bench import end_to_end


def versions(variant: str) -> dict[str, str]:
    """What runs here."""
    return storage.versions()


def make(variant: str, preset: str, params: dict[str, np.ndarray], job: Any) -> "Model":
    """A model with these weights; `variant` is the dtype."""
    return Model(preset, params, variant)


class Model(end_to_end.Model):
    """One network with its optimizer, and the metrics."""

    def load_images(self, images: np.ndarray) -> Any:
        """Images (N, H, W, C) as the network takes them."""
        return images.astype(self.siamese.network.params.dtype)

    def embed(self, images: np.ndarray) -> np.ndarray:
        """Embeddings (N, E)."""
        return self.siamese.embed(images)

    def nearest(self, query: np.ndarray, gallery: np.ndarray, k: int) -> np.ndarray:
        """Rows of the gallery (Q, k), nearest first."""
        return metrics.nearest(query, gallery, k)[0]

    def auc(self, dist: np.ndarray, label: np.ndarray) -> float:
        """How often a similar pair (label 0) is closer than a dissimilar one."""
        return metrics.roc_auc(dist, label)
