"""Checkpoints of a training: written, and taken up by a training that must be the same, with progress that can be.

A checkpoint's header is JSON that anyone can have changed, or a fault: it is checked whole before any of it is used.
Older checkpoints lack "own", "network", "dataset", or hashes of images. They go on as well, with a warning where it
cannot be told whether the images are the same.
"""

import dataclasses
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from siamese_np._checks import as_number
from siamese_np.augment import check_augmentation
from siamese_np.datasets import Dataset, InputForm, load_dataset
from siamese_np.datasets.dataset import check_trained_on
from siamese_np.description import registered_layer
from siamese_np.errors import DataError, ModelError, OptionError, ShapeError
from siamese_np.network import Sequential
from siamese_np.report.health import columns
from siamese_np.storage import load_arrays, save_arrays

if TYPE_CHECKING:
    from siamese_np.config import TrainConfig
    from siamese_np.training import Training

# Options that older checkpoints lack, and what their trainings did.
LATER_OPTIONS = {"weight_decay": 0.0, "augment": "none", "negatives": "all"}
# Hashes that older checkpoints lack, and of what they are.
LATER_HASHES = {"images": "the images", "test": "the test images"}
CHECKPOINT_FORMAT = "siamese_np checkpoint 1"
ROW = {"epoch", "loss", "validation_loss", "validation_pair_accuracy", "validation_dissimilar_distance"}
ROW |= {"threshold", "seconds", "images_per_second"}


def save_checkpoint(folder: Path, training: "Training") -> None:
    """Write all of the state of `training` to ``checkpoint.npz``."""
    header = {
        "format": CHECKPOINT_FORMAT,
        **training.identity,
        "history": training.history,
        "best": training.best,
        "steps": training.optimizer.steps,
        "images_seen": training.images_seen,
        "seconds": training.seconds,
        "summed": training.summed,
    }
    save_arrays(folder / "checkpoint.npz", header, _arrays(training))


def load_checkpoint(
    folder: Path,
    dataset: Dataset,
    config: "TrainConfig | None",
    own: Mapping[str, Any],
    make: Callable[[dict[str, Any]], "Training"],
    log: Callable[[str], None],
) -> "Training":
    """The training that `make` makes of the options of the checkpoint in `folder`, in the state it was left in.

    Raises are those of `siamese_np.run.resumed`; `own` are the network, the loss and the augmentation of the user.
    """
    path = folder / "checkpoint.npz"
    made: list[Training] = []
    unknown: list[str] = []

    def arrays_of(header: dict[str, Any]) -> dict[str, NDArray[Any]]:
        unknown.extend(words for name, words in LATER_HASHES.items() if name not in header)
        check_identity(path, header, dataset, own_parts(**own), own.get("network"))
        try:
            training = make({**LATER_OPTIONS, **header["options"]})
            if dataclasses.asdict(training.config) != {**LATER_OPTIONS, **header["options"]}:
                raise OptionError("its options are not all there")
        except (KeyError, TypeError, OptionError, ShapeError) as error:
            raise ModelError(f"{path} has a header that describes no training: {error}") from None
        if config not in (None, training.config):
            raise ModelError(f"the run in {folder} keeps its configuration: {training.config}")
        check_progress(path, header, training)
        training.history = [{k: np.nan if v is None else v for k, v in row.items()} for row in header["history"]]
        training.best, training.optimizer.steps, training.seconds = (header[k] for k in ("best", "steps", "seconds"))
        training.summed = str(header.get("summed", training.summed))[:80]
        training.losses = [0.0] * (header["steps"] - len(training.history) * training.protocol.steps)
        made.append(training)
        return _arrays(training)

    if not path.exists():
        raise ModelError(f"there is nothing to resume in {folder}: it has no checkpoint.npz")
    _, arrays = load_arrays(path, CHECKPOINT_FORMAT, arrays_of, finite=False)  # a norm may be NaN
    training = made[0]
    for name, array in _arrays(training).items():
        array[:] = arrays[name]
    if training.losses:
        training.losses = arrays["losses"].tolist()
    if len(training.history) == training.config.epochs and (folder / "metrics.json").exists():
        raise ModelError(f"the run in {folder} is complete: all its {training.config.epochs} epochs are done")
    if unknown:
        log(f"warning: {path} is of an older version: whether {unknown[0]} are those of the run cannot be checked")
    return training


def load_data_of_run(folder: Path, source: Any = None, split: str | None = None) -> Dataset:
    """The data that the run in `folder` was trained on, or those of `source` and `split`, where they are now.

    They are divided and read in the form that the run remembers.

    Raises
    ------
    DataError, ModelError
        The checkpoint is damaged, or its data are gone or cannot be loaded.
    """
    if not (folder / "checkpoint.npz").exists():  # `load_checkpoint` will say so
        return load_dataset(source, split)
    header, _ = load_arrays(folder / "checkpoint.npz", CHECKPOINT_FORMAT, lambda header: {}, finite=False)
    form = None if header.get("input") is None else InputForm.from_config(header["input"])
    origin = header.get("source")
    if origin is None:  # an older run, or one of data made in Python
        return load_dataset(source, split, form=form)
    check_trained_on({**origin, "sha256": None} if isinstance(origin, dict) else origin)
    if source is None:
        for path in origin["source"] or []:
            if not os.path.exists(path):
                raise DataError(f"the run was trained on {path}, which is gone; say where it is now (--data)")
        source = origin["source"]
    return load_dataset(source, split or origin["split"], form=form, seed=origin["seed"])


def _arrays(training: "Training") -> dict[str, NDArray[Any]]:
    """Every array a checkpoint holds, as views of the training's own."""
    arrays = {"params": training.siamese.network.params, "best_params": training.best_params}
    arrays.update({f"optimizer.{name}": array for name, array in training.optimizer.state.items()})
    if training.losses:
        arrays["losses"] = np.array(training.losses)
    return arrays


def own_parts(network: Any = None, loss: Any = None, augment: Any = None) -> dict[str, Any]:
    """The user's own network, loss and augmentation as JSON; what is the default is left out."""
    parts: dict[str, Any] = {}
    if augment is not None:
        check_augmentation(augment)
    if network is not None:
        if not isinstance(network, Sequential):
            raise OptionError(f"a network must be a Sequential, not {network!r}")
        arrays = {name: list(array.shape) for name, array in network.named_params().items()}
        parts["network"] = [[type(layer).__name__ for layer in network.layers], arrays]
    for name, part in (("loss", loss), ("augment", augment)):
        if part is not None:
            parts[name] = re.sub(" at 0x[0-9a-fA-F]+", "", repr(part))  # an address is another in each process
    return parts


def network_config(network: Sequential) -> dict[str, Any]:
    """`Sequential.config` as JSON gives it back, or a ModelError."""
    try:
        config: dict[str, Any] = json.loads(json.dumps(network.config(), allow_nan=False))
    except (TypeError, ValueError) as error:
        if isinstance(error, ModelError):
            raise
        raise ModelError(f"the network cannot be saved, its config() must be JSON values: {error}") from None
    return config


def check_saveable(network: Sequential) -> None:
    """ModelError unless the same network can be made again of what a model file says of `network`."""
    network_config(network)  # makes each layer again of its description, and compares
    for layer in network.layers:
        if registered_layer(type(layer).__name__) is not type(layer):
            raise ModelError(f"{layer} is of another class than the registered {type(layer).__name__}")


def first_difference(theirs: Any, ours: Any, name: str = "") -> str:
    """What differs first between two JSON values, as "`name` was this, not that"; nothing where they are equal."""
    if theirs == ours:
        return ""
    keys: Any = ()
    if isinstance(theirs, dict) and isinstance(ours, dict):
        keys = [(f"{name}.{key}" if name else key, theirs.get(key), ours.get(key)) for key in {**theirs, **ours}]
    elif isinstance(theirs, list) and isinstance(ours, list) and len(theirs) == len(ours):
        keys = [(f"{name}[{i}]", *each) for i, each in enumerate(zip(theirs, ours, strict=True))]
    for key, a, b in keys:
        if difference := first_difference(a, b, key):
            return difference
    texts = repr(theirs), repr(ours)
    same = next((i for i, (a, b) in enumerate(zip(*texts, strict=False)) if a != b), min(map(len, texts)))
    start = max(0, same - 60)  # what is equal for long is left out
    was, now = (
        f"{'...' if start else ''}{text[start : start + 120]}{'...' if len(text) > start + 120 else ''}"
        for text in texts
    )
    return f"{name or 'its record'} was {was}, not {now}"


def describe(config: "TrainConfig", own: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration as JSON, with the user's own parts by name; an own network takes the preset's place."""
    told = {**dataclasses.asdict(config), **own}
    if "network" in own:
        del told["preset"]
        told["network"] = ", ".join(own["network"][0])
    return told


def identity(config: "TrainConfig", dataset: Dataset, own: Mapping[str, Any], network: Sequential) -> dict[str, Any]:
    """The part of a header that stays the same from the first step to the last."""
    same: dict[str, Any] = {
        "options": dataclasses.asdict(config),
        "own": own,
        "dataset": dataset.name,
        **_digests(dataset),
    }
    same |= {"source": dataset.source, "input": dataset.form and dataset.form.config()}
    return {**same, "network": _network_identity(network)} if "network" in own else same


def _network_identity(network: Sequential) -> dict[str, Any]:
    """All that makes `network` and its training what they are, but its weights."""
    config = network_config(network)
    layers = [{key: value for key, value in layer.items() if key != "trainable"} for layer in config["layers"]]
    return {**config, "layers": layers, "trainable": [bool(layer.trainable) for layer in network.layers]}


def check_identity(
    path: Path, header: Mapping[str, Any], dataset: Dataset, own: Mapping[str, Any], network: Sequential | None
) -> None:
    """A ModelError where the checkpoint `path` is of a training with other data or other parts of the user's."""
    run = f"the run in {path.parent}"
    for name, digest in _digests(dataset).items():
        if header.get(name, digest if name in LATER_HASHES else None) != digest:
            called = f", {header['dataset']!r}" if "dataset" in header else ""
            raise ModelError(f"{run} was trained on other data than {dataset.name}; go on with its own{called}")
    different = ""
    if network is not None and "network" in header:
        different = first_difference(header["network"], _network_identity(network), "network")
    different = different or first_difference(header.get("own", {}), own, "")
    if different:
        raise ModelError(f"{run} was trained with another network, loss or augmentation of the user's: {different}")


def check_progress(path: Path, header: Mapping[str, Any], training: "Training") -> None:
    """A ModelError that names the entry of the header that a training like `training` cannot have written."""
    for name, fits in _progress(header, training):
        if not fits:
            raise ModelError(f"{path} has a header that no training wrote: {name} cannot be {header.get(name)!r:.80}")


def _progress(header: Mapping[str, Any], training: "Training") -> Iterator[tuple[str, Any]]:
    """Names of entries, each with whether it fits; one may rely on those before it."""
    history, steps, seconds = (header.get(name) for name in ("history", "steps", "seconds"))
    epochs, protocol, health = training.config.epochs, training.protocol, columns(training.siamese.network)
    yield "history", isinstance(history, list) and len(history) <= epochs and _is_history(history, health)
    assert isinstance(history, list)
    in_epoch = steps - len(history) * protocol.steps if type(steps) is int else -1
    yield "steps", 0 <= in_epoch < (protocol.steps if len(history) < epochs else 1)
    images = len(history) * protocol.images_in(protocol.steps) + protocol.images_in(in_epoch)
    yield "images_seen", header.get("images_seen") == images
    yield "seconds", (history[-1]["seconds"] if history else 0) <= as_number(seconds) < np.inf
    yield "best", header.get("best") == training.best_of(history)


def _is_history(rows: list[Any], health: list[str]) -> bool:
    """Whether these can be the rows of `Training.history`; older ones lack the columns `health`."""
    return all(
        isinstance(row, dict)
        and set(row) in (ROW, {*ROW, *health})
        and all(np.isfinite(as_number(row[name])) for name in ROW)
        and all(type(v := row.get(name)) in (float, type(None)) and not (v or 0.0) < 0 for name in health)  # or NaN
        and all(row[name] >= 0 for name in ROW - {"loss"})  # a loss of the user's may be below 0
        and row["epoch"] == number
        and row["validation_pair_accuracy"] <= 1
        for number, row in enumerate(rows, 1)
    )


def _digests(dataset: Dataset) -> dict[str, str]:
    return {"data": dataset.digests["data"], "images": dataset.digests["images"], "test": dataset.digests["all"]}
