"""Loads a data set from wherever it is: finds out what is there, divides it, chooses size and colour, reads it."""

import math
import os
import unicodedata
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from siamese_np._checks import as_path, is_whole
from siamese_np.datasets.dataset import PARTS, Dataset, Split
from siamese_np.datasets.input_form import DIGIT, KINDS, InputForm
from siamese_np.datasets.mnist import idx_folder, idx_source
from siamese_np.datasets.pictures import LOOKED_AT, Files, Rows, Source, sampled
from siamese_np.errors import DataError, OptionError

_MAX_VALIDATION = 10_000
_SHARE = 6  # one in six is for validation, as 10,000 of MNIST's 60,000; of what is undivided, another for testing
_PAIR = 2  # images of a class that a similar pair needs
_LONGEST = 64  # side of images of a size that is chosen here
_NAMED = 10  # pictures that cannot be read named, if there are more
_MAX_MEMORY = 0.8  # share of the machine's memory that images may take

Path_ = str | os.PathLike[str]


def load_dataset(
    source: Path_ | Iterable[Path_] | None = None,
    split: str | None = None,
    size: tuple[int, int] | None = None,
    channels: int | None = None,
    form: InputForm | str | None = None,
    seed: int = 0,
) -> Dataset:
    """Load the bundled MNIST, or your own data.

    Parameters
    ----------
    source : path, or several, optional
        None means the bundled MNIST, whose checksums are verified. Else each is one of these; several become one data
        set, in which classes of the same name are one class.

        - A folder with one subfolder for each class, named after it, of image files of any kind that `read_image`
          takes; or with such folders in ``train``, ``val`` and ``test`` (without ``test``, ``val`` is for testing).
        - A folder of four IDX files of unsigned bytes, gzipped or not, named as MNIST's are:
          ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte``, ``t10k-images-idx3-ubyte``,
          ``t10k-labels-idx1-ubyte``; ``test`` may stand for ``t10k``, ``.idx`` for ``-idx``, and a prefix such as
          ``emnist-digits-`` may come first. Images in colour are ``idx4`` (N, H, W, 3). Of a file and its gzipped form
          the file is read. torchvision's folders ``NAME/raw`` will do, QMNIST's labels too. EMNIST's images, which are
          stored transposed, are turned upright where the file's name starts with ``emnist-``.
        - An ``.npz`` file with ``x_train, y_train, x_test, y_test``, or ``train_images, train_labels, ...``; the
          test part may be missing.
        - A CSV file with a column ``label`` and one for each pixel, or a folder of ``train.csv`` and ``test.csv``.
    split : str, optional
        Which of several data sets in a folder of IDX files: the end of the prefix, as ``letters`` of EMNIST.
    size : (int, int), optional
        Height and width. By default that of the images, or of files the median, made at most 64.
    channels : int, optional
        1 for grey, 3 for colour. By default 3 if any picture has colour; of more than 256 files a sample decides.
    form : InputForm or str, optional
        A model's form, or the kind of one: ``digit``, ``resize`` or ``as-is``. By default ``digit`` for 28x28 images
        that have MNIST's form, else ``resize``. Files are read in the form that later pictures will be.
    seed : int
        Of the division of what is undivided: of each class a sixth, at least two images, is for validation, another
        for testing. Of IDX files, and other arrays with a test part, the last ``min(10_000, n // 6)`` of the n training
        images are for validation. Where that would leave a class with fewer than two images in either part, as in a
        file sorted by class, the same share of each class is taken, at least two images; a class of fewer than four
        images stays in the training part.

    Returns
    -------
    dataset : Dataset
        Named ``"MNIST"``, or after the folder or file.

    Raises
    ------
    DataError
        In one sentence: what is missing, unreadable, damaged, too small or does not fit. All is looked at before.
    OptionError
        An option is not as above.

    Examples
    --------
    >>> dataset = load_dataset()
    >>> dataset.train.images.shape, dataset.test.classes[:5].tolist()
    ((50000, 28, 28, 1), [7, 2, 1, 0, 4])
    """
    _check_options(split, size, channels, form, seed)
    paths = _paths(source)
    found = [idx_source(None, split)] if paths is None else [_found(path, split, size) for path in paths]
    names = _one_numbering(found)
    rows = [_divided(one, seed) for one in found]
    chosen = form if isinstance(form, InputForm) else _chosen(found, rows, size, channels, form)
    splits = _read(found, rows, chosen)
    here = {
        "source": None if paths is None else [os.path.abspath(path) for path in paths],
        "split": split,
        "seed": int(seed),
    }
    dataset = Dataset(" + ".join(one.name for one in found), *splits[:3], names, chosen, here)
    vars(dataset)["all_train"] = splits[3]  # what the cached property would have to copy together
    return dataset


def load_data_of(
    siamese: Any, source: Path_ | Iterable[Path_] | None = None, split: str | None = None, log: Any = None
) -> Dataset:
    """The data that a `SiameseNetwork` was trained on, or other data, as its input.

    Parameters
    ----------
    siamese : SiameseNetwork
    source, split
        As `load_dataset` takes them; other data than the model's own.
    log : callable, optional
        Is given a line of text where a model for digits does not say what it was trained on: it gets MNIST.

    Raises
    ------
    DataError
        The model does not say what it was trained on, or that is gone, or has changed.
    """
    if source is not None or split is not None:
        return load_dataset(source, split, form=siamese.input_form)
    origin, other = siamese.trained_on, "name the data to use (--data)"
    if origin is None:
        if siamese.input_form != DIGIT:
            raise DataError(f"the model does not say what it was trained on; {other}")
        if log:
            log("the model does not say what it was trained on: the bundled MNIST is used")
        return load_dataset()
    for path in origin["source"] or []:
        if not os.path.exists(path):
            raise DataError(f"the model was trained on {path}, which is gone; {other}")
    changed = (
        f"the model was trained on {', '.join(origin['source'] or ['the bundled MNIST'])}, which has changed since"
    )
    try:
        dataset = load_dataset(origin["source"], origin["split"], form=siamese.input_form, seed=origin["seed"])
    except DataError as error:
        raise DataError(f"{changed}: {error}; {other}") from None
    if origin["sha256"] not in (None, dataset.digests["all"]):
        raise DataError(f"{changed}; {other}")
    return dataset


def _paths(source: Any) -> list[str] | None:
    """The paths of `source`, as `load_dataset` takes it."""
    if source is None:
        return None
    try:
        paths = [str(as_path("a source", p)) for p in ([source] if isinstance(source, (str, os.PathLike)) else source)]
    except TypeError:
        raise OptionError(f"a data set is loaded from a path, or from several in a list, not {source!r}") from None
    if not paths:
        raise OptionError("a data set needs a source, but the list of sources is empty")
    real = [os.path.realpath(path) for path in paths]
    for i, path in enumerate(real):
        if path in real[:i]:  # its pictures would be for training and testing at once
            raise OptionError(f"{paths[i]} is given twice: name each source of data once")
    return paths


def _check_options(split: Any, size: Any, channels: Any, form: Any, seed: Any) -> None:
    if split is not None and not isinstance(split, str):
        raise OptionError(f"a split is named by text, not {split!r}")
    if not is_whole(seed) or seed < 0:
        raise OptionError(f"seed must be a whole number of at least 0, not {seed!r}")
    whole = isinstance(size, (tuple, list)) and len(size) == 2 and all(is_whole(n) and n >= 1 for n in size)
    if size is not None and not whole:
        raise OptionError(f"the size of images is a height and a width, such as (60, 40), not {size!r}")
    if channels not in (None, 1, 3):
        raise OptionError(f"images have 1 channel, grey, or 3, colour, not {channels!r}")
    if isinstance(form, InputForm):
        if size is not None or channels is not None:
            raise OptionError("a form has its own size and channels: give no others beside it")
    elif form is not None and (not isinstance(form, str) or form not in KINDS):
        raise OptionError(f"there is no input form {form!r}; choose one of {', '.join(KINDS)}")
    elif form == "digit" and (size not in (None, DIGIT.shape[:2]) or channels == 3):
        raise OptionError("pictures of digits are made 28x28 and grey: give no other size or colour")


def _found(path: str, split: str | None, size: tuple[int, int] | None) -> Source:
    """What is at `path`."""
    from siamese_np.datasets.tables import csv_source, npz_source

    if not os.path.exists(path):
        raise DataError(f"there is no file or folder {path}")
    if os.path.isdir(path):
        try:
            folder, names = idx_folder(Path(path)), {name.lower() for name in os.listdir(path)}
        except OSError as error:
            raise DataError(f"cannot read {error.filename or path}: {error.strerror}") from error
        if folder is not None:
            return idx_source(folder, split)
    if split is not None:
        raise OptionError(f"a split is chosen of a folder of IDX files, but {path} is none")
    if not os.path.isdir(path):
        if path.lower().endswith(".npz"):
            return npz_source(path, size)
        if path.lower().endswith(".csv"):
            return csv_source(path, size)
        raise DataError(f"{path} is not a folder, nor an .npz or .csv file of images and labels")
    if "train.csv" in names:
        return csv_source(path, size)
    from siamese_np.datasets.folders import class_folders  # with Pillow

    return class_folders(path)


def _one_numbering(found: list[Source]) -> list[str]:
    """Number the classes of all sources alike, in place; return their names. DataError where two are hardly two."""
    names = list(dict.fromkeys(name for one in found for name in one.class_names))
    if len(found) > 1:
        names = sorted(names, key=lambda name: (not name.isdecimal(), int(name) if name.isdecimal() else 0, name))
    same: dict[str, str] = {}
    for name in names:
        other = same.setdefault(unicodedata.normalize("NFC", name).casefold(), name)
        if other != name and any(one.kind == "folder" for one in found):
            raise DataError(
                f"the classes {other!r} and {name!r} have the same name but for capitals or accents: rename one"
            )
    places = {name: i for i, name in enumerate(names)}
    for i, one in enumerate(found):
        number = np.array([places[name] for name in one.class_names], np.int64)
        found[i] = replace(one, classes={part: number[own] for part, own in one.classes.items()}, class_names=names)
    return names


# --- Division into parts ----------------------------------------------------------------------------------------------


Divided = dict[str, tuple[str, Rows]]  # for each part: in which pictures of the source, and which rows of them


def _divided(source: Source, seed: int) -> Divided:
    """Which pictures of a source are for training, validation and testing; DataError where a class has too few."""
    if "all" in source.classes:
        _check_sizes(source, {"all": 3 * _PAIR}, f"{_PAIR} for each of training, validation and testing")
        classes, rng = source.classes["all"], np.random.default_rng(seed)
        rows: dict[str, list[Rows]] = {part: [] for part in PARTS}
        by_class = np.argsort(classes, kind="stable")
        for of_class in np.split(by_class, np.flatnonzero(np.diff(classes[by_class])) + 1):
            own = rng.permutation(of_class)
            aside = max(_PAIR, len(own) // _SHARE)
            for part, chosen in zip(PARTS, np.split(own, [len(own) - 2 * aside, len(own) - aside]), strict=True):
                rows[part].append(chosen)
        return {part: ("all", np.sort(np.concatenate(rows[part]))) for part in PARTS}
    whole = {part: np.arange(len(own)) for part, own in source.classes.items()}
    if "validation" in source.classes:
        if source.strict:
            _check_sizes(source, dict.fromkeys(PARTS, _PAIR), "a similar pair needs 2")
        return {part: (part, whole[part]) for part in PARTS}
    if source.strict:
        _check_sizes(
            source, {"train": 2 * _PAIR, "test": _PAIR}, "2 for each of training and validation, 2 for testing"
        )
    train, validation = _split(source.classes["train"], source.name)
    return {"train": ("train", train), "validation": ("train", validation), "test": ("test", whole["test"])}


def _check_sizes(source: Source, needed: dict[str, int], why: str) -> None:
    present = np.unique(np.concatenate(list(source.classes.values())))
    if len(present) < 2:
        raise DataError(f"{source.name} has one class, {source.class_names[present[0]]!r}, but two are needed")
    for part, least in needed.items():
        counts = np.bincount(source.classes[part], minlength=len(source.class_names))
        small = [f"{source.class_names[kind]!r} has {counts[kind]}" for kind in present if counts[kind] < least]
        if small:
            among = source.name if part == "all" else f"{source.name}, {part},"
            more = f" and {len(small) - _NAMED} more" if len(small) > _NAMED else ""
            said = f"class {', '.join(small[:_NAMED])}{more}"
            raise DataError(f"{among} has too few pictures of a class: {said}, but at least {least} are needed: {why}")


def _split(classes: Rows, name: str) -> tuple[Rows, Rows]:
    """Rows of the training and of the validation part: the last images, or the last of each class."""
    N = len(classes)
    if N < _SHARE:
        raise DataError(f"{name} holds {N} images, but it takes at least {_SHARE} to set some aside for validation")
    count = min(_MAX_VALIDATION, N // _SHARE)
    kinds, of_image, size = np.unique(classes, return_inverse=True, return_counts=True)
    inside = np.bincount(of_image[N - count :], minlength=len(kinds))  # images of each class among the last ones
    divisible = size >= 2 * _PAIR
    if (np.minimum(inside, size - inside) >= _PAIR)[divisible].all():
        return np.arange(N - count), np.arange(N - count, N)
    share = np.where(divisible, np.maximum(_PAIR, size * count // N), 0)
    by_class = np.argsort(of_image, kind="stable")
    from_end = np.repeat(np.cumsum(size), size) - np.arange(N)  # 1 for the last image of a class
    aside = np.sort(by_class[from_end <= np.repeat(share, size)])
    return np.delete(np.arange(N), aside), aside


# --- Size and colour --------------------------------------------------------------------------------------------------


def _chosen(
    found: list[Source], rows: list[Divided], size: tuple[int, int] | None, channels: int | None, kind: str | None
) -> InputForm:
    """The form of the network's input that follows the training pictures, where the options leave it open."""
    everything = [pictures for one in found for pictures in one.pictures.values()]
    _refuse([wrong for pictures in everything if isinstance(pictures, Files) for wrong in pictures.look()])
    if kind == "digit":
        return DIGIT
    if channels is None:
        channels = 3 if any(pictures.colour for pictures in everything) else 1
    if size is None:
        sizes = np.concatenate([pictures.sizes for pictures in everything])
        height, width = np.median(sizes, axis=0)
        shrunk = min(1.0, _LONGEST / max(height, width)) if any(isinstance(p, Files) for p in everything) else 1.0
        size = (height, width) if kind == "as-is" else (max(1, round(height * shrunk)), max(1, round(width * shrunk)))
    shape = (int(size[0]), int(size[1]), channels)
    _check_memory(rows, shape)
    if kind == "as-is":
        return InputForm("as-is", shape)
    training = [(one.pictures[own["train"][0]], own["train"][1]) for one, own in zip(found, rows, strict=True)]
    looked_at = [(pictures, row) for pictures, own in training for row in sampled(own, LOOKED_AT // len(training) or 1)]
    plain, wrong, sample = InputForm("resize", shape), [], []
    for pictures, row in looked_at:
        try:
            sample.append(plain.picture(pictures.picture(int(row), channels)))
        except DataError as error:
            wrong.append(str(error))
    _refuse(wrong)
    return InputForm.like(np.stack(sample), kind)


def _refuse(wrong: list[str]) -> None:
    """DataError if something is `wrong` with some pictures."""
    if len(wrong) == 1:
        raise DataError(wrong[0])
    if wrong:
        more = f"; and {len(wrong) - _NAMED} more" if len(wrong) > _NAMED else ""
        raise DataError(f"{len(wrong)} pictures cannot be used: {'; '.join(wrong[:_NAMED])}{more}")


# --- Reading ----------------------------------------------------------------------------------------------------------


def _read(found: list[Source], rows: list[Divided], form: InputForm) -> tuple[Split, Split, Split, Split]:
    """The three parts, and training and validation together, all in one array."""
    _check_memory(rows, form.shape)
    counts = {part: sum(len(own[part][1]) for own in rows) for part in PARTS}
    images = np.empty((sum(counts.values()), *form.shape), np.float32)
    classes, wrong, start = np.empty(len(images), np.int64), [], 0
    for part in PARTS:
        for one, own in zip(found, rows, strict=True):
            of, chosen = own[part]
            end = start + len(chosen)
            wrong += one.pictures[of].put(images[start:end], chosen, form)
            classes[start:end] = one.classes[of][chosen]
            start = end
    _refuse(wrong)
    first, second = counts["train"], counts["train"] + counts["validation"]
    train, validation, test, both = (
        Split(images[part], classes[part])
        for part in (slice(first), slice(first, second), slice(second, None), slice(second))
    )
    if len(found) == 1 and rows[0]["validation"][0] == "train":  # in the file's order
        order = np.argsort(np.concatenate([rows[0]["train"][1], rows[0]["validation"][1]]))
        if (np.diff(order) != 1).any():
            both = Split(images[order], classes[order])
    return train, validation, test, both


def _check_memory(rows: list[Divided], shape: tuple[int, ...]) -> None:
    """DataError where so many images of this shape would not fit into this machine's memory, as far as it is known."""
    count = sum(len(chosen) for own in rows for _, chosen in own.values())
    nbytes = 4 * count * math.prod(shape)
    try:
        memory = float(os.sysconf("SC_PAGE_SIZE")) * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return
    if nbytes > _MAX_MEMORY * memory:
        raise DataError(
            f"the {count:,} images of shape {shape} would take {nbytes / 1e9:,.1f} GB, "
            f"but this machine has {memory / 1e9:,.1f} GB: choose a smaller size (--size)"
        )
