"""JAX: loss, gradients and Adam in one ``jit``, whose old state is donated to the new.

The maximum of a 2x2 window is taken over two axes of a reshaped array: much faster on a CPU, forward and
backward, than ``lax.reduce_window``. Gradients of ties are shared there, which this network's loss does not see.
"""

from typing import Any

import jax
import numpy as np
from jax import lax
from jax import numpy as jnp


def versions(variant: str) -> dict[str, str]:
    """What runs here."""
    return {"jax": jax.__version__}


def make(variant: str, preset: str, params: dict[str, np.ndarray], job: Any) -> "Model":
    """A model with these weights; there is one variant."""
    return Model(preset == "cnn", params)


class Model:
    """One network with its optimizer; the weights fit as they are."""

    def __init__(self, cnn: bool, params: dict[str, np.ndarray]) -> None:
        self.cnn = cnn
        params = {name: jnp.array(value) for name, value in params.items()}
        zeros = jax.tree.map(jnp.zeros_like, params)
        self.state = (params, zeros, jax.tree.map(jnp.copy, zeros), jnp.float32(0))
        self._step = jax.jit(self._train, donate_argnums=0)
        self._embed = jax.jit(self._forward)

    def _forward(self, p: dict[str, Any], x: Any) -> Any:
        if self.cnn:
            for name in ("conv2d_1", "conv2d_2"):
                x = lax.conv_general_dilated(
                    x, p[name + ".w"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
                )
                x = jax.nn.relu(x + p[name + ".b"])
                N, H, W, C = x.shape
                x = x.reshape(N, H // 2, 2, W // 2, 2, C).max(axis=(2, 4))
        x = x.reshape(x.shape[0], -1)
        dense = sum(name.startswith("dense") for name in p) // 2
        for number in range(1, dense + 1):
            x = x @ p[f"dense_{number}.w"] + p[f"dense_{number}.b"]
            if number < dense:
                x = jax.nn.relu(x)
        return x

    def _loss(self, p: dict[str, Any], x: Any, label: Any) -> Any:
        a, b = jnp.split(self._forward(p, x), 2)
        dist = jnp.sqrt(jnp.maximum(((a - b) ** 2).sum(axis=1), 1e-12))
        return ((1 - label) * dist**2 + label * jax.nn.relu(1 - dist) ** 2).mean() / 2

    def _train(self, state: Any, x: Any, label: Any, rate: Any) -> Any:
        p, m, v, t = state
        loss, grads = jax.value_and_grad(self._loss)(p, x, label)
        t = t + 1
        m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, grads)
        v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, v, grads)
        scale1, scale2 = 1 / (1 - 0.9**t), 1 / (1 - 0.999**t)
        p = jax.tree.map(lambda p, m, v: p - rate * (m * scale1) / (jnp.sqrt(v * scale2) + 1e-7), p, m, v)
        return (p, m, v, t), loss

    def load_images(self, images: np.ndarray) -> Any:
        """Images (N, H, W, C) as the array the network takes."""
        return jnp.array(images)

    def load(self, images: np.ndarray, label: np.ndarray) -> Any:
        """A batch for `step`."""
        return jnp.array(images), jnp.array(label, jnp.float32)

    def step(self, batch: Any, rate: float) -> float:
        """One training step; returns the loss."""
        self.state, loss = self._step(self.state, *batch, jnp.float32(rate))
        return float(loss)

    def embed(self, x: Any) -> np.ndarray:
        """Embeddings (N, E)."""
        return np.asarray(self._embed(self.state[0], x))
