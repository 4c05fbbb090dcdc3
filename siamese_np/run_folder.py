"""What a run folder holds and shows: metrics, history, pictures, a page."""

import contextlib
import csv
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siamese_np._process import lock, to_json
from siamese_np.datasets import Dataset
from siamese_np.errors import ModelError
from siamese_np.evaluation import Evaluation
from siamese_np.metrics import nearest
from siamese_np.storage import check_no_file, write_atomically

# What overwriting removes, in this order: what is left when it is interrupted is a run that can be resumed, or none
PICTURES = ("embedding_map", "distances", "roc", "history", "pairs", "neighbours", "mistakes")
RUN_FILES = (
    *("metrics.json", "report.html", *(f"{name}.png" for name in PICTURES)),
    *("history.csv", "model.npz", "checkpoint.npz"),
)
LOCK = "lock"  # there while a process writes to the folder, or after one was killed


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
    write_atomically(folder / "metrics.json", (to_json(metrics, indent=2) + "\n").encode())


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
    """ModelError where `folder` is no place for a new run, for what it is or holds; changes nothing."""
    check_no_file(folder, "a run", ModelError)
    if "*" in folder.name or not folder.exists():
        return
    if not overwrite and set(folder.iterdir()) - {folder / LOCK, *_leftovers(folder)}:
        raise ModelError(f"{folder} is not empty; choose another folder, or overwrite the run in it (--overwrite)")


def make_folder(folder: Path) -> Path:
    """Make a run folder; a ``*`` in its name becomes the first number that no other run has taken, nor will take.

    ModelError where it, or what it would lie in, is no folder or cannot be made.
    """
    new, numbered = folder, 0
    while True:
        if "*" in folder.name:
            numbered += 1
            new = folder.with_name(folder.name.replace("*", str(numbered)))
        try:
            new.mkdir(parents=True, exist_ok=not numbered)
            return new
        except FileExistsError as error:
            if not numbered or Path(error.filename) != new:
                check_no_file(Path(error.filename), "a run", ModelError)
        except OSError as error:
            raise _unwritable(new, error) from None


@contextlib.contextmanager
def made_folder(folder: Path) -> Iterator[Path]:
    """Make a run folder as `make_folder`; what was made is removed again where it was left empty."""
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    new = make_folder(folder)
    try:
        yield new
    finally:
        with contextlib.suppress(OSError):  # the first that is not empty
            for one in missing:
                (new if one == folder else one).rmdir()


def clear_folder(folder: Path, overwrite: bool = False) -> None:
    """Empty `folder` for a new run, or raise as `check_folder`; with `overwrite` only files of a run are removed."""
    check_folder(folder, overwrite)
    for name in RUN_FILES:
        (folder / name).unlink(missing_ok=True)
    remove_leftovers(folder)


def remove_leftovers(folder: Path) -> None:
    """Remove what a killed run had begun to write."""
    for path in _leftovers(folder):
        path.unlink(missing_ok=True)


def _leftovers(folder: Path) -> Iterator[Path]:
    """The files beside those of a run, as `write_atomically` names them before they are whole."""
    for name in RUN_FILES:
        yield from folder.glob(f".{name}-????????")


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes from writing to the run folder; a lock that a killed process left does not matter.

    ModelError where another process has it, or it cannot be written.
    """
    path, held = folder / LOCK, -1
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    while held < 0:
        try:
            held = os.open(path, flags, 0o666)
        except OSError as error:
            raise _unwritable(folder, error) from None
        if not lock(held):
            os.close(held)
            raise ModelError(f"another process is writing to the run folder {folder}")
        if not _is_at(path, held):  # the process that had it has removed it, and a third may have made a new one
            os.close(held)
            held = -1
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink()
        os.close(held)


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.lstat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _unwritable(folder: Path, error: OSError) -> ModelError:
    why = error.strerror or error
    return ModelError(f"the run folder {folder} cannot be written: {why}; name another, or make this one writable")
