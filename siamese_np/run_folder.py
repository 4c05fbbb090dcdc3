"""What a run folder holds and shows: metrics, history, pictures, a page."""

import csv
import io
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siamese_np.datasets import Dataset
from siamese_np.errors import ModelError
from siamese_np.evaluation import Evaluation
from siamese_np.metrics import nearest
from siamese_np.storage import write_atomically

# What overwriting removes, in this order: what is left when it is interrupted is a run that can be resumed, or none
RUN_FILES = ("metrics.json", "report.html", "history.csv", "model.npz", "checkpoint.npz")


def write_run(
    folder: Path,
    evaluation: Evaluation,
    dataset: Dataset,
    history: Sequence[Mapping[str, float]],
    metrics: Mapping[str, Any],
) -> None:
    """Write ``history.csv``, the pictures and ``report.html`` to the run folder, then ``metrics.json``.

    ``metrics.json`` comes last because it marks the run as complete: until then the run can be resumed.
    """
    from siamese_np.report.page import page  # which shows what is defined here

    write_history(folder, history)
    draw(folder, evaluation, dataset, history)
    # a file name in it may hold bytes that are no UTF-8
    content = page(evaluation, dataset, history, metrics).encode(errors="backslashreplace")
    write_atomically(folder / "report.html", content)
    write_atomically(folder / "metrics.json", (json.dumps(metrics, indent=2) + "\n").encode())


def write_history(folder: Path, history: Sequence[Mapping[str, float]]) -> None:
    """Write one row per epoch to ``history.csv``; a column that an older run did not measure is empty in its rows."""
    content = io.StringIO(newline="")
    writer = csv.DictWriter(content, list(dict.fromkeys(name for row in history for name in row)) or ["epoch"])
    writer.writeheader()
    writer.writerows(history)
    write_atomically(folder / "history.csv", content.getvalue().encode())


def drawable(images: NDArray[Any]) -> NDArray[Any]:
    """`images` as pictures take them: of channels that are no grey and no colours the first, of vectors one row."""
    if images.ndim not in (3, 4):
        images = images.reshape(len(images), 1, -1)
    return images[..., :1] if images.ndim == 4 and images.shape[3] not in (1, 3) else images


def draw(folder: Path, evaluation: Evaluation, dataset: Dataset, history: Sequence[Mapping[str, float]]) -> None:
    """Draw the pictures of a run: embeddings, distances, ROC, history, some pairs, some neighbours, the worst pairs."""
    from siamese_np import plots

    e, test, threshold = evaluation, dataset.test, evaluation.metrics["threshold"]
    shown = np.sort(np.unique(test.classes, return_index=True)[1])
    indices, distances = nearest(e.emb[shown], e.gallery, min(8, len(e.gallery)))
    names, gallery_names = dataset.named(test.classes), dataset.named(dataset.train.classes)
    pair_arrays = (drawable(test.images), e.pairs, e.dist, e.label, threshold, names)
    plots.plot_embedding_map(folder / "embedding_map.png", e.emb, names)
    plots.plot_distances(folder / "distances.png", e.dist, e.label, threshold, e.metrics["margin"])
    plots.plot_roc(folder / "roc.png", e.dist, e.label)
    plots.plot_history(folder / "history.png", history)
    plots.plot_pairs(folder / "pairs.png", *pair_arrays)
    plots.plot_neighbours(
        folder / "neighbours.png",
        drawable(test.images[shown]),
        names[shown],
        drawable(dataset.train.images),
        gallery_names,
        indices,
        distances,
    )
    plots.plot_mistakes(folder / "mistakes.png", *pair_arrays)


def check_folder(folder: Path, overwrite: bool = False) -> None:
    """ModelError where `make_folder` would refuse `folder` for what it is or holds; changes nothing."""
    if "*" in folder.name or not folder.exists():
        return
    if not folder.is_dir():
        raise ModelError(f"{folder} is a file, but a run needs a folder")
    if not overwrite and any(folder.iterdir()):
        raise ModelError(f"{folder} is not empty; choose another folder, or overwrite the run in it (--overwrite)")


def make_folder(folder: Path, overwrite: bool = False) -> Path:
    """Make a new run folder; a ``*`` in its name becomes the first number that no other run has taken.

    Raises
    ------
    ModelError
        It is a file, cannot be written, or is not empty; with `overwrite` the files of a run in it are removed.
    """
    check_folder(folder, overwrite)
    new, numbered = folder, 0
    while True:
        if "*" in folder.name:
            numbered += 1
            new = folder.with_name(folder.name.replace("*", str(numbered)))
        try:
            new.mkdir(parents=True, exist_ok=not numbered)
            tempfile.TemporaryFile(dir=new).close()
            break
        except FileExistsError:
            continue
        except OSError as error:
            raise ModelError(f"the run folder {new} cannot be written: {error.strerror or error}") from None
    if overwrite:
        for name in RUN_FILES:
            (new / name).unlink(missing_ok=True)
        remove_leftovers(new)
    return new


def remove_leftovers(folder: Path) -> None:
    """Remove what a killed run had begun to write: files beside those of a run, as `write_atomically` names them."""
    for name in (*RUN_FILES, "*.png"):
        for path in folder.glob(f".{name}-????????"):
            path.unlink(missing_ok=True)
