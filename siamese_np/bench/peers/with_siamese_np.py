"""This package, in a process of its own and under the same rules as the others."""

from typing import Any

import numpy as np

from siamese_np import storage
from siamese_np.losses import ContrastiveLoss
from siamese_np.network import Sequential, SiameseNetwork, make_network
from siamese_np.optimizers import Adam


def versions() -> dict[str, str]:
    """What runs here."""
    return storage.versions()


def untrained(preset: str, input_shape: tuple[int, ...]) -> Sequential:
    """The preset with seed 1, and with biases up to 0.05 as after some training.

    With biases of 0, black pixels would stay black through all layers; skipping them would look faster than it is.
    """
    network = make_network(preset, input_shape=input_shape, seed=1)
    rng = np.random.default_rng(1)
    for name, value in network.named_params().items():
        if name.endswith(".b"):
            value[:] = rng.uniform(-0.05, 0.05, value.shape)
    return network


def make(variant: str, preset: str, params: dict[str, np.ndarray]) -> "Model":
    """A model with these weights; `variant` is the dtype."""
    return Model(preset, params, variant)


class Model:
    """One network with its optimizer."""

    def __init__(self, preset: str, params: dict[str, np.ndarray], dtype: str = "float32") -> None:
        network = make_network(preset, dtype=dtype)
        for name, value in network.named_params().items():
            value[:] = params[name]
        self.siamese, self.loss = SiameseNetwork(network), ContrastiveLoss()
        self.optimizer = Adam(network)

    def load_images(self, images: np.ndarray) -> np.ndarray:
        """Images (N, H, W, C) as the network takes them."""
        return images.astype(self.siamese.network.params.dtype)

    def load(self, images: np.ndarray, label: np.ndarray) -> Any:
        """A batch for `step`."""
        a, b = np.split(self.load_images(images), 2)
        return a, b, label

    def step(self, batch: Any, rate: float) -> float:
        """One training step; returns the loss."""
        a, b, label = batch
        self.siamese.network.zero_grads()
        dist, cache = self.siamese.forward(a, b)
        loss, loss_cache = self.loss.forward(dist, label)
        self.siamese.backward(self.loss.backward(loss_cache), cache)
        self.optimizer.step(rate)
        return loss

    def embed(self, images: np.ndarray) -> np.ndarray:
        """Embeddings (N, E)."""
        return self.siamese.embed(images)
