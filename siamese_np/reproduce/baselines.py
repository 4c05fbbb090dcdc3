"""What a contrastive embedding is compared with: pixels, principal components, no training, and a classifier."""

import copy
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siamese_np.datasets import Dataset
from siamese_np.layers import Dense, ReLU
from siamese_np.network import Sequential
from siamese_np.presets import make_network

Floats = NDArray[np.floating[Any]]


class CrossEntropy:
    """Cross-entropy of the softmax of logits (N, K), as a batch loss; class number k belongs to column k.

    Its gradient is (softmax - one-hot) / N (Bishop, "Pattern Recognition and Machine Learning", 2006, equation 4.109).
    """

    def forward(self, emb: Floats, classes: NDArray[np.int64]) -> tuple[float, Any]:
        """The mean loss of the batch, and what `backward` needs."""
        shifted = emb - emb.max(axis=1, keepdims=True)
        log_softmax = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        return float(-log_softmax[np.arange(len(emb)), classes].mean()), (log_softmax, classes)

    def backward(self, cache: Any) -> Floats:
        """The gradient with respect to the logits (N, K)."""
        log_softmax, classes = cache
        demb = np.exp(log_softmax)
        demb[np.arange(len(demb)), classes] -= 1
        return demb / len(demb)

    def __repr__(self) -> str:
        return "CrossEntropy()"


def classifier(preset: str, seed: int) -> Sequential:
    """The network of `preset` for digits of 28x28 pixels, a ReLU, and a dense layer with a logit for each class."""
    network = make_network(preset, seed=seed)
    head = Dense(network.output_shape[0], 10, seed=np.random.SeedSequence([seed, 4]))
    return Sequential([*copy.deepcopy(network.layers), ReLU(), head], network.input_shape)


def pixels(images: Floats) -> Floats:
    """Each image as a row of numbers, as it is."""
    return images.reshape(len(images), -1)


def components(dataset: Dataset, count: int) -> Any:
    """What projects images onto the `count` directions in which the training images vary most."""
    rows = pixels(dataset.train.images).astype(np.float64)
    mean = rows.mean(axis=0)
    _, directions = np.linalg.eigh(np.cov(rows - mean, rowvar=False))
    return lambda images: (pixels(images) - mean) @ directions[:, ::-1][:, :count]
