"""Peer: the notebook's Siamese MLP, trained in Keras on the same kind of pairs, timed and scored.

Run: ``pip install tensorflow``, then ``python benchmarks/keras_mlp.py``; compare with
``siamese-np train --preset mlp --protocol notebook --epochs 5 --batch-size 32``.

Network, loss, optimizer, pairs and batches of 32 are those of that command. TensorFlow trains the network
twice, from the same initial weights and on the same pairs: as people do, and as fast as it can.

- ``fit``: ``model.fit`` on two arrays of images held in memory, as the original notebook does it.
- ``step``: a hand-written step in a `tf.function`, the fastest way found. The images stay one tensor from
  which a batch gathers its rows, both branches go through the network as one batch of 64, and XLA compiles
  the step together with the loop over all batches of an epoch.

Only training is timed, not drawing the pairs or testing. The first epoch stands apart: it includes tracing
and compiling, and in ``fit`` copying the arrays into tensors.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

BATCH = 32
MARGIN = 1.0
LEARNING_RATE = 1e-3
WIDTHS = (512, 256, 128)  # hidden, hidden, embedding


class Pairs(NamedTuple):
    """Images, and which two of them make a pair."""

    images: np.ndarray  # (N, 784) float32 in [0, 1]
    pairs: np.ndarray  # (P, 2) int64, rows of images
    label: np.ndarray  # (P,) float32, 0 = similar, 1 = dissimilar


class Trained(NamedTuple):
    """What one way of training gave."""

    first_epoch_seconds: float
    seconds_per_epoch: float | None  # mean of the later epochs
    test_loss: float
    test_pair_accuracy: float  # at distance < MARGIN / 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Train both ways and print what came out; returns the exit status."""
    options = parse(arguments)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ["KERAS_BACKEND"] = "tensorflow"
    try:
        import keras
        import tensorflow as tf
    except ImportError:
        print("This benchmark needs TensorFlow: pip install tensorflow", file=sys.stderr)
        return 2
    tf.config.threading.set_intra_op_parallelism_threads(options.threads)
    tf.config.threading.set_inter_op_parallelism_threads(options.threads)

    train, test = load_pairs(options.seed)
    results = {}
    for name, run in (("fit", train_with_fit), ("step", train_with_step)):
        keras.utils.set_random_seed(options.seed)
        network = build_network()
        seconds = run(network, train, options.epochs)
        later = float(np.mean(seconds[1:])) if seconds[1:] else None
        results[name] = Trained(seconds[0], later, *score(network, test))

    if options.json:
        versions = {"tensorflow": tf.__version__, "keras": keras.__version__}
        settings = {key: value for key, value in vars(options).items() if key != "json"}
        ways = {name: result._asdict() for name, result in results.items()}
        print(json.dumps({**versions, **settings, "batch_size": BATCH, **ways}))
        return 0
    print(f"TensorFlow {tf.__version__}, Keras {keras.__version__}, threads: {options.threads}")
    print(f"{'':14}{'first epoch s':>14}{'later epochs s':>15}{'test loss':>11}{'pair accuracy':>15}")
    for name, title in (("fit", "keras fit()"), ("step", "tf.function")):
        first, later, loss, accuracy = results[name]
        shown = "-" if later is None else f"{later:.2f}"
        print(f"{title:14}{first:>14.2f}{shown:>15}{loss:>11.5f}{accuracy:>15.4f}")
    return 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""

    def positive(text: str) -> int:
        if (number := int(text)) < 1:
            raise ValueError
        return number

    parser = argparse.ArgumentParser(description="Train the notebook's Siamese MLP in Keras and time it.")
    parser.add_argument("--epochs", type=positive, default=5, help="times 120,000 pairs (default: 5)")
    parser.add_argument("--seed", type=int, default=0, help="of pairs, weights and order (default: 0)")
    parser.add_argument("--threads", type=positive, default=2, help="TensorFlow may use (default: 2)")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    return parser.parse_args(arguments)


def load_pairs(seed: int) -> tuple[Pairs, Pairs]:
    """MNIST in pairs: every image with one random similar and one random dissimilar partner."""
    from siamese_np.datasets import load_dataset
    from siamese_np.pairs import random_pairs

    def draw(part: Any, sequence: np.random.SeedSequence) -> Pairs:
        pairs, label = random_pairs(part.classes, np.random.default_rng(sequence))
        return Pairs(part.images.reshape(len(part.images), -1), pairs, label.astype(np.float32))

    dataset = load_dataset()
    for_training, for_test = np.random.SeedSequence(seed).spawn(2)
    return draw(dataset.all_train, for_training), draw(dataset.test, for_test)


def build_network() -> Any:
    """The shared branch 784-512-256-128, ReLU between; Keras draws Glorot-uniform weights and zero biases."""
    import keras

    hidden = [keras.layers.Dense(width, activation="relu") for width in WIDTHS[:-1]]
    return keras.Sequential([keras.Input((784,)), *hidden, keras.layers.Dense(WIDTHS[-1])])


def euclidean_distance(branches: Sequence[Any]) -> Any:
    """Distance of each pair of embeddings (N, E) as (N, 1); its gradient is zero where the two are equal."""
    from keras import ops

    a, b = branches
    squared = ops.sum(ops.square(a - b), axis=1, keepdims=True)
    return ops.sqrt(ops.maximum(squared, 1e-12))  # a bare sqrt(0) would send NaN back


def contrastive_loss(label: Any, distance: Any) -> Any:
    """Mean of 1/2 (1 - label) d^2 + 1/2 label max(0, margin - d)^2, label 0 = similar."""
    from keras import ops

    similar = (1.0 - label) * ops.square(distance)
    dissimilar = label * ops.square(ops.maximum(MARGIN - distance, 0.0))
    return ops.mean(similar + dissimilar) / 2.0


def train_with_fit(network: Any, train: Pairs, epochs: int) -> list[float]:
    """Train `network` with ``model.fit`` and return the seconds of each epoch."""
    import keras

    a, b = keras.Input((784,)), keras.Input((784,))
    distance = keras.layers.Lambda(euclidean_distance, output_shape=(1,))([network(a), network(b)])
    model = keras.Model([a, b], distance)
    model.compile(optimizer=keras.optimizers.Adam(LEARNING_RATE), loss=contrastive_loss)
    images = [train.images[train.pairs[:, 0]], train.images[train.pairs[:, 1]]]
    label = train.label[:, np.newaxis]
    watch = Stopwatch("keras fit()")
    each_epoch = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: watch.lap())
    model.fit(images, label, batch_size=BATCH, epochs=epochs, verbose=0, callbacks=[each_epoch])
    return watch.seconds


def train_with_step(network: Any, train: Pairs, epochs: int) -> list[float]:
    """Train `network` with a hand-written step inside one graph and return the seconds of each epoch."""
    import keras
    import tensorflow as tf

    optimizer = keras.optimizers.Adam(LEARNING_RATE)
    optimizer.build(network.trainable_variables)
    images, pairs, label = (tf.constant(array) for array in train)

    def epoch(batches: Any) -> None:
        for number in tf.range(len(batches)):
            chosen = batches[number]
            rows = tf.transpose(tf.gather(pairs, chosen))  # (2, BATCH): first the a's, then the b's
            with tf.GradientTape() as tape:
                embeddings = network(tf.gather(images, tf.reshape(rows, [-1])), training=True)
                distance = euclidean_distance(tf.split(embeddings, 2))
                loss = contrastive_loss(tf.gather(label, chosen)[:, tf.newaxis], distance)
            gradients = tape.gradient(loss, network.trainable_variables)
            optimizer.apply_gradients(zip(gradients, network.trainable_variables, strict=True))

    compiled = tf.function(epoch, jit_compile=True)
    watch = Stopwatch("tf.function")
    for _ in range(epochs):
        order = tf.random.shuffle(tf.range(len(train.label)))
        compiled(tf.reshape(order, [-1, BATCH]))
        watch.lap()
    return watch.seconds


class Stopwatch:
    """The seconds of each epoch, shown on standard error as they come."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.seconds: list[float] = []
        self._last = time.perf_counter()

    def lap(self) -> None:
        """End one epoch and begin the next."""
        now = time.perf_counter()
        self.seconds.append(now - self._last)
        self._last = now
        print(f"{self.name}: epoch {len(self.seconds)} took {self.seconds[-1]:.2f} s", file=sys.stderr)


def score(network: Any, test: Pairs) -> tuple[float, float]:
    """Mean loss of the test pairs, and the share of them decided rightly at half the margin."""
    embedding = network.predict(test.images, batch_size=1000, verbose=0).astype(np.float64)
    difference = embedding[test.pairs[:, 0]] - embedding[test.pairs[:, 1]]
    distance = np.linalg.norm(difference, axis=1)
    loss = ((1 - test.label) * distance**2 + test.label * np.maximum(MARGIN - distance, 0) ** 2) / 2
    right = (distance < MARGIN / 2) == (test.label == 0)
    return float(loss.mean()), float(right.mean())


if __name__ == "__main__":
    sys.exit(main())
