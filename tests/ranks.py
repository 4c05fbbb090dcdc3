"""What the ranks of `test_mpi.py` do: ``mpiexec -n N python ranks.py WHAT ...``, on data that take a moment.

The first rank prints one JSON object.
"""

import contextlib
import hashlib
import json
import os
import signal
import sys
from pathlib import Path
from unittest import mock

import numpy as np

from siamese_np import (
    ContrastiveLoss,
    Dataset,
    Dense,
    Distort,
    Flatten,
    ReLU,
    Sequential,
    SiameseNetwork,
    Split,
    SupConLoss,
    TrainConfig,
    cnn,
    train_run,
)
from siamese_np.cli import main
from siamese_np.distributed import Communicator, MPICommunicator, communicator
from siamese_np.layers import Layer
from siamese_np.losses import AllPairsContrastiveLoss
from siamese_np.run import Run
from siamese_np.runtime.scheduler import get_threads

RANK = int(os.environ.get("PMI_RANK", os.environ.get("OMPI_COMM_WORLD_RANK", "0")))
STEPS = 4  # of an epoch


def blobs(seed: int = 0) -> Dataset:
    """Images of three classes, each with a bar of its own; 53 are for training, in four batches of 13 or 14."""
    rng = np.random.default_rng(seed)

    def split(N: int) -> Split:
        classes, images = np.arange(N) % 3, 0.3 * rng.random((N, 8, 8, 1))
        for k in range(3):
            images[classes == k, 2 * k : 2 * k + 2] += 0.7
        return Split(images.astype(np.float32), classes)

    return Dataset("blobs", split(53), split(25), split(31))


def own_network(seed: int | None = 0) -> Sequential:
    seeds = [None] * 2 if seed is None else [seed, seed + 1]
    return Sequential([Flatten(), Dense(64, 9, seeds[0]), ReLU(), Dense(9, 5, seeds[1])], (8, 8, 1))


def config(**given) -> TrainConfig:
    return TrainConfig(**{"preset": "mlp", "epochs": 2, "batch_size": 14, **given})


TRAININGS = {
    "batch": lambda: ((config(), blobs()), {}),
    "notebook": lambda: ((config(protocol="notebook", batch_size=17, epochs=1), blobs()), {}),
    "of the user": lambda: (
        (config(), blobs()),
        {"network": own_network(), "loss": SupConLoss(), "augment": Distort(elastic=0.2)},
    ),
    "few": lambda: ((config(batch_size=7, epochs=1), blobs()), {}),  # fewer images than shards
}


def told(run: Run) -> dict:
    """What must be the same for any number of ranks; no time."""
    history = [[row[name] for name in row if name not in ("seconds", "images_per_second")] for row in run.history]
    digest = hashlib.sha256(run.siamese.network.params.tobytes()).hexdigest()
    return {"bits": digest, "history": history, "metrics": [run.metrics.get("auc"), run.siamese.threshold]}


def bits(*names: str) -> dict:
    """Of these trainings, or all."""
    result = {}
    for name in names or TRAININGS:
        given, parts = TRAININGS[name]()
        result[name] = told(train_run(*given, **parts))
    return result


def gradients() -> dict:
    """How far the shared gradient is from that of one process, relative, by protocol; how far allreduce's is."""
    siamese = SiameseNetwork(cnn((8, 8, 1), 6, dtype=np.float64))
    network, split = siamese.network, blobs().train
    images, classes = split.images.astype(np.float64), split.classes

    def gradient(protocol: str, ranks: Communicator) -> np.ndarray:
        siamese.sharing = ranks.sharing(network)
        network.grads[:] = 1  # to which it is added
        if protocol == "batch":
            siamese.gradients(images, classes, AllPairsContrastiveLoss())
        else:
            siamese.pair_gradients(images[:20], images[20:40], classes[:20] != classes[20:40], ContrastiveLoss())
        return network.grads - 1

    far = {}
    for protocol in ("batch", "notebook"):
        alone = gradient(protocol, Communicator())
        for reduction in ("in-order", "allreduce"):
            difference = abs(gradient(protocol, communicator(reduction)) - alone).max()
            far[f"{protocol}, {reduction}"] = float(difference / abs(alone).max())
    return {"far": far, "threads": get_threads(), "ranks": communicator().size}


class At:
    """A loss that calls a function on one rank at its n-th step; the first is the rehearsal."""

    def __init__(self, rank: int, step: int, call) -> None:
        self.loss, self.left, self.call = AllPairsContrastiveLoss(), step if rank == RANK else -1, call

    def forward(self, emb, classes):
        if self.left == 0:
            self.call()
        self.left -= 1
        return self.loss.forward(emb, classes)

    def backward(self, cache):
        return self.loss.backward(cache)

    def __repr__(self) -> str:
        return "At"


def ending(rank: str, step: str, how: str, folder: str, resume: str) -> dict:
    """A run in `folder` that the signal `how` comes to, on one rank in one step."""
    loss = At(int(rank), int(step), lambda: os.kill(os.getpid(), getattr(signal, how)))
    run = train_run(config(), blobs(), folder, loss=loss, resume=resume == "resume", checkpoint_every=1e-9)
    return {"interrupted": run.interrupted, **told(run)}


class Failing(Layer):
    """Cannot run on one rank."""

    def forward(self, x):
        if RANK == 1:
            raise TypeError("this layer is wrong")
        return x, None

    def backward(self, dout, cache):
        return dout


def run_with(what: str, folder: str) -> None:
    """A run with a mistake on some rank, or on all."""
    data, parts, options = blobs(), {}, config()
    if what == "data":
        data = blobs(seed=int(RANK == 2))
    elif what == "options":
        options = config(learning_rate=0.003 if RANK == 1 else 0.004)
    elif what == "reduction":
        parts["reduction"] = "allreduce" if RANK == 1 else "in-order"
    elif what == "weights":
        parts["network"] = own_network(None)
    elif what == "augmentation":
        parts["augment"] = Distort(rotation=3 + RANK)
    elif what == "all":
        options = config(batch_size=1000)
    elif what == "layer":
        parts["network"] = Sequential([Flatten(), Failing(), Dense(64, 5, 0)], (8, 8, 1))
    elif what == "loss":
        parts["loss"] = At(2, 3, lambda: 1 / 0)
    elif what == "exit":
        parts["loss"] = At(1, 3, lambda: sys.exit(7))
    elif what == "exit below 0":
        parts["loss"] = At(1, 3, lambda: sys.exit(-1))
    elif what == "interrupted":
        parts["loss"] = At(1, 0, interrupt)
    elif what == "not finite":
        options = config(learning_rate=1e30, weight_decay=0)
    with contextlib.ExitStack() as stack:
        if what == "versions":
            stack.enter_context(mock.patch("siamese_np.storage.versions", return_value={"numpy": f"0.{RANK}"}))
        elif what == "ranks":
            stack.enter_context(mock.patch("siamese_np.distributed.SHARDS", 2))
        elif what == "disk":
            full = OSError(28, "No space left on device")
            stack.enter_context(mock.patch("siamese_np.run.save_checkpoint", side_effect=full))
            parts["folder"] = Path(folder) / "new"
        elif what == "other folder":
            parts |= {"folder": Path(folder) / ("done" if RANK else "gone"), "resume": True}
        train_run(options, data, **parts)


def interrupt() -> None:
    raise KeyboardInterrupt


def mistakes(folder: str, *whats: str) -> dict:
    """What each rank had of each mistake: an exception and its sentence."""
    from mpi4py import MPI

    had = {}
    for what in whats:
        try:
            run_with(what, folder)
            mine = ["nothing", ""]
        except BaseException as error:
            mine = [type(error).__name__, str(error)]
        ranks = communicator()
        ranks._status = None  # the ranks have ended, but here they start again
        had[what] = MPI.COMM_WORLD.gather(mine)
    return had


def command(what: str) -> None:
    """The command line with a mistake, perhaps one found before the ranks can speak to each other."""
    if what == "no mpi4py":
        sys.modules["mpi4py"] = None
    sys.exit(main(["train", *(["--preset", "foo"] if what == "preset" else [])]))


if __name__ == "__main__":
    result = globals()[sys.argv[1]](*sys.argv[2:])
    if RANK == 0:
        print(json.dumps(result), flush=True)
    assert isinstance(communicator(), MPICommunicator)
