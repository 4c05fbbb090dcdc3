"""TensorFlow: a hand-written step in one `tf.function`, with and without XLA. Adam is the fused operation."""

import os
from typing import Any

import numpy as np
import tensorflow as tf

threads = int(os.environ["OMP_NUM_THREADS"])
tf.config.threading.set_intra_op_parallelism_threads(threads)
# operations in turn, each on all threads: faster than two at once
tf.config.threading.set_inter_op_parallelism_threads(1)


def versions(variant: str) -> dict[str, str]:
    """What runs here."""
    return {"tensorflow": tf.__version__}


def make(variant: str, preset: str, params: dict[str, np.ndarray], job: Any) -> "Model":
    """A model with these weights; `variant` is "function" or "xla"."""
    return Model(variant == "xla", preset, params)


class Model:
    """One network with its optimizer; the weights fit as they are."""

    def __init__(self, xla: bool, preset: str, params: dict[str, np.ndarray]) -> None:
        self.cnn = preset == "cnn"
        self.params = {name: tf.Variable(value) for name, value in params.items()}
        self.m = {name: tf.Variable(tf.zeros_like(value)) for name, value in params.items()}
        self.v = {name: tf.Variable(tf.zeros_like(value)) for name, value in params.items()}
        self.beta1_power, self.beta2_power = tf.Variable(0.9), tf.Variable(0.999)
        self.rates: dict[float, tf.Tensor] = {}
        self._step = tf.function(self._train, jit_compile=xla)
        self._embed = tf.function(self._forward, jit_compile=xla)

    def _forward(self, x: Any) -> Any:
        p = self.params
        if self.cnn:
            for name in ("conv2d_1", "conv2d_2"):
                x = tf.nn.bias_add(tf.nn.conv2d(x, p[name + ".w"], 1, "SAME"), p[name + ".b"])
                x = tf.nn.max_pool2d(tf.nn.relu(x), 2, 2, "VALID")
        x = tf.reshape(x, [x.shape[0], -1])
        dense = sum(name.startswith("dense") for name in p) // 2
        for number in range(1, dense + 1):
            x = tf.nn.bias_add(tf.matmul(x, p[f"dense_{number}.w"]), p[f"dense_{number}.b"])
            if number < dense:
                x = tf.nn.relu(x)
        return x

    def _train(self, x: Any, label: Any, rate: Any) -> Any:
        with tf.GradientTape() as tape:
            a, b = tf.split(self._forward(x), 2)
            dist = tf.sqrt(tf.maximum(tf.reduce_sum(tf.square(a - b), 1), 1e-12))
            hinge = tf.nn.relu(1 - dist)
            loss = tf.reduce_mean((1 - label) * tf.square(dist) + label * tf.square(hinge)) / 2
        settings = {"lr": rate, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-7}
        settings.update(beta1_power=self.beta1_power, beta2_power=self.beta2_power)
        for name, grad in tape.gradient(loss, self.params).items():
            handles = {"var": self.params[name].handle, "m": self.m[name].handle, "v": self.v[name].handle}
            tf.raw_ops.ResourceApplyAdam(**handles, **settings, grad=grad)
        self.beta1_power.assign(self.beta1_power * 0.9)
        self.beta2_power.assign(self.beta2_power * 0.999)
        return loss

    def load_images(self, images: np.ndarray) -> Any:
        """Images (N, H, W, C) as the tensor the network takes."""
        return tf.constant(images)

    def load(self, images: np.ndarray, label: np.ndarray) -> Any:
        """A batch for `step`."""
        return tf.constant(images), tf.constant(label, tf.float32)

    def step(self, batch: Any, rate: float) -> float:
        """One training step; returns the loss."""
        if rate not in self.rates:
            self.rates[rate] = tf.constant(rate, tf.float32)
        return float(self._step(*batch, self.rates[rate]).numpy())

    def embed(self, x: Any) -> np.ndarray:
        """Embeddings (N, E)."""
        return self._embed(x).numpy()
