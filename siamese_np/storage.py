"""Files that are read back: models and checkpoints, which are arrays with a JSON header, and embeddings.

A file is written beside its final name and then renamed, so there is always a whole old one or a whole new
one. Reading never unpickles, and an array is read only after its announced shape has been found right.
"""

import contextlib
import csv
import hashlib
import io
import json
import os
import re
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module, metadata
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from siamese_np._checks import as_dtype, as_path, check_class_names, check_margin, check_saved_threshold, found
from siamese_np._process import to_json
from siamese_np.datasets.dataset import check_trained_on
from siamese_np.datasets.input_form import InputForm
from siamese_np.description import param_shapes, registered_layer
from siamese_np.errors import DataError, ModelError, OptionError, SiameseError
from siamese_np.models import SHIPPED, shipped
from siamese_np.network import Sequential, SiameseNetwork
from siamese_np.novelty import array_forms, from_arrays
from siamese_np.reading import Npz, open_npz, open_regular, parse_json

LARGEST_HEADER = 1 << 20
NOVELTY = "novelty."  # starts the names of its arrays
MODEL_FORMAT, OLD_MODEL_FORMAT = "siamese_np model 2", "siamese_np model 1"
# Endings of files of embeddings, and the pattern of what each begins with
EMBEDDING_MARKS = {
    ".npy": rb"\x93NUMPY.{4}\{'descr': '<f[48]', 'fortran_order': False, 'shape': \(\d+, \d+\)",
    ".npz": rb"PK.{28}embeddings\.npy",
    ".csv": rb"path,e0",
}
MARKED = 1 << 10  # bytes of a file that are looked at


def write_atomically(path: Path, content: bytes) -> None:
    """Write `content` to `path`: afterwards it holds all of it, or what it held before.

    A link of that name is replaced, never followed: a run folder from elsewhere cannot have other files overwritten.

    Raises
    ------
    OSError
        With `path` as its file name.
    """
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            with contextlib.suppress(OSError):  # some file systems have no modes to change
                os.chmod(name, 0o666 & ~_umask())
            os.replace(name, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(name)
            raise
    except OSError as error:  # say which file was to be written, not the temporary name
        raise OSError(error.errno, error.strerror, str(path)) from error


def check_output(
    path: Path,
    option: str,
    mark: bytes | None = None,
    overwrite: bool = False,
    model: str | Path | None = None,
    folder: bool = False,
) -> None:
    """Check that a command may write to `path` what `option` names, a file or a `folder`, before it works for minutes.

    A file that begins with the pattern `mark` is of the command's own kind, and replaced. Anything else is only with
    `overwrite`: of a link the link itself; but never a pipe, a device, or the file of the `model` that is read.

    Raises
    ------
    OptionError
        There is no folder for it, or it is there and not to be replaced.
    """
    if not path.parent.is_dir():
        raise OptionError(f"there is no folder {path.parent} for {option}")
    if not os.path.lexists(path):
        return
    if model is not None and path.exists() and (file := model_file(model)).exists() and path.samefile(file):
        raise OptionError(f"{path} is the model itself: choose another name")
    if mark is None and not overwrite:
        raise OptionError(f"{path} exists already: choose another name, or overwrite it with --overwrite")
    mode, start = os.lstat(path).st_mode, b""
    if folder != path.is_dir() or not (folder or stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
        raise OptionError(f"{path} is no {'folder' if folder else 'file'}, which {option} writes")
    if mark is not None and not overwrite:
        if stat.S_ISREG(mode):
            with open_regular(path) as there:
                start = there.read(MARKED)
        if not re.match(mark, start, re.DOTALL):
            raise OptionError(f"{path} was not written by {option}, and is not replaced; --overwrite replaces it")


def check_no_file(path: Path, user: str, error: type[SiameseError] = OptionError) -> None:
    """Raise an `error` where `path`, which `user` makes a folder, is there and is none."""
    if os.path.lexists(path) and not path.is_dir():
        what = "a file" if path.exists() else "a link that leads nowhere"
        raise error(f"{path} is {what}, but {user} needs a folder")


def png_mark(kind: str) -> bytes:
    """The pattern of what a PNG picture begins with whose Software is ``siamese-np KIND``."""
    return rb"\x89PNG\r\n\x1a\n.{0,99}tEXtSoftware\0siamese-np " + kind.encode()


def save_arrays(path: Path, header: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write `arrays` and a JSON `header` to the ``.npz`` file `path`."""
    text = np.array(to_json(header))
    if text.nbytes > LARGEST_HEADER - 1024:  # what NumPy writes before it
        raise ModelError(f"{path} would have a header of {text.nbytes} bytes, more than can be read again")
    content = io.BytesIO()
    np.savez(content, header=text, **arrays)  # type: ignore[arg-type]
    write_atomically(path, content.getvalue())


def load_arrays(
    path: Path,
    kind: str | Sequence[str],
    shapes: Callable[[dict[str, Any]], Mapping[str, Any]],
    finite: bool = True,
) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Read what `save_arrays` wrote.

    Parameters
    ----------
    path : Path
    kind : str or sequence of str
        The header's ``"format"`` must be this, or one of these.
    shapes : callable
        Given the header, the names, shapes and dtypes that the file must hold, as a dict of arrays or `ArraySpec`.
    finite : bool
        Whether a NaN or an infinity in the header is refused; those in arrays always are.

    Raises
    ------
    ModelError
        In one sentence: the file is missing, damaged, of another kind, or holds other arrays.
    """
    with open_npz(path, ModelError, "a file that siamese_np wrote") as archive:
        header = _read_header(archive, path, (kind,) if isinstance(kind, str) else kind, finite)
        expected = shapes(header)
        for name, like in expected.items():  # all, before the first is read
            _check_announced(archive, path, name, like)
        return header, {name: _read_array(archive, path, name) for name in expected}


class ArraySpec(NamedTuple):
    """What an array in a file must be."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]


def _read_header(archive: Npz, path: Path, kinds: Sequence[str], finite: bool) -> dict[str, Any]:
    size = archive.size("header")
    if size > LARGEST_HEADER:
        raise ModelError(f"{path} has a header of {size} bytes, more than any siamese_np wrote")
    header = parse_json(str(archive.read("header")), finite)
    if not isinstance(header, dict) or header.get("format") not in kinds:
        found = header.get("format") if isinstance(header, dict) else header
        wanted = " or ".join(map(repr, kinds))
        raise ModelError(f"{path} is not a {wanted} file, its header says {found!r}")
    return header


def _check_announced(archive: Npz, path: Path, name: str, like: Any) -> None:
    if name not in archive:
        raise ModelError(f"{path} lacks the array {name!r}")
    shape, dtype = archive.announced(name)
    if shape != like.shape or dtype != like.dtype:
        raise ModelError(
            f"{path} holds {name!r} as {shape} {dtype}, but its network has {like.shape} {like.dtype} there"
        )


def _read_array(archive: Npz, path: Path, name: str) -> NDArray[Any]:
    array = archive.read(name)
    if not np.isfinite(array).all():
        raise ModelError(f"{path} holds NaN or infinity in {name!r}")
    return array


# --- Models -------------------------------------------------------------------------------------------------


def save_model(path: str | Path, siamese: SiameseNetwork, notes: Mapping[str, Any] | None = None) -> None:
    """Write the weights and all that is needed to use them to the ``.npz`` file `path`.

    Parameters
    ----------
    path : str or Path
    siamese : SiameseNetwork
        Of layers whose classes are registered (`siamese_np.register_layer`).
    notes : mapping, optional
        Anything JSON can hold, no NaN or infinity, kept in the header: seed, how it was trained.

    Raises
    ------
    ModelError
        What would be saved could not be loaded: a layer cannot be described or its class is not registered, JSON
        cannot hold the notes, or a weight is NaN or infinity.
    OptionError
        `path` is none, or the margin, the threshold or a class name is not as `SiameseNetwork` takes it.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_model(f"{folder}/model.npz", SiameseNetwork(mlp(seed=0), margin=2.0))
    ...     load_model(folder).margin
    2.0
    """
    path = as_path("a model file", path)
    if not isinstance(siamese, SiameseNetwork):
        raise OptionError(f"save_model takes a SiameseNetwork, as SiameseNetwork(network), not {found(siamese)}")
    try:
        notes = json.loads(json.dumps(dict(notes or {}), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ModelError(f"notes must be a mapping of what JSON can hold: {error}") from None
    network = siamese.network
    novelty, known = siamese.novelty, {}
    if novelty is not None:
        known = {name: getattr(novelty, name) for name in array_forms(novelty.config())}
    arrays = {**network.named_params(), **{f"{NOVELTY}{name}": array for name, array in known.items()}}
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise ModelError(f"a model cannot be saved with NaN or infinity in {name!r}")
    for layer in network.layers:
        if registered_layer(type(layer).__name__) is not type(layer):
            raise ModelError(
                f"{layer} is of another class than the registered {type(layer).__name__}: make the network again"
            )
    header = {
        "format": MODEL_FORMAT,
        **network.config(),
        "dtype": network.params.dtype.name,
        "class_names": check_class_names(siamese.class_names),
        "input": siamese.input_form and siamese.input_form.config(),
        "trained_on": check_trained_on(siamese.trained_on),
        "margin": check_margin(siamese.margin),
        "threshold": check_saved_threshold(siamese.threshold),
        "novelty": None if novelty is None else novelty.config(),
        "versions": versions(),
        "notes": notes,
    }
    save_arrays(path, header, arrays)


def model_file(model: str | Path) -> Path:
    """The file that `load_model` reads; ModelError where nothing has that name."""
    path = as_path("a model", model)
    if path.is_dir():
        return path / "model.npz"
    if str(model) in SHIPPED and not path.exists():
        return shipped(str(model))
    if not os.path.lexists(path):
        raise ModelError(f"there is no file {path}: a model is a run folder, a model.npz, or {' or '.join(SHIPPED)}")
    return path


def load_model(model: str | Path) -> SiameseNetwork:
    """Read a model from a ``model.npz``, from the run folder that holds one, or by the name of a shipped one, "mnist".

    A file or folder of that name in the current folder comes first.

    Of the file's header, ``format``, ``layers``, ``input_shape``, ``dtype``, ``margin`` and ``threshold`` must be there
    and right, ``class_names``, ``input``, ``trained_on`` and ``novelty`` right where they are. All else is ignored:
    ``versions``, ``notes``, what a later version may add, and arrays that the layers do not have.

    Raises
    ------
    ModelError
        In one sentence: what is wrong with the file.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as run:
    ...     save_model(f"{run}/model.npz", SiameseNetwork(cnn(seed=0)))
    ...     load_model(run).network.output_shape
    (64,)
    """
    path = model_file(model)

    def arrays_of(header: dict[str, Any]) -> dict[str, ArraySpec]:
        with _described_by(path):
            if header["format"] == OLD_MODEL_FORMAT:
                header.update(_preset_config(**{name: header[name] for name in _PRESET_KEYS}))
            dtype = as_dtype(header["dtype"])
            specs = {name: ArraySpec(shape, dtype) for name, shape in param_shapes(header).items()}
            if header.get("novelty") is not None:
                forms = array_forms(header["novelty"])
                specs |= {f"{NOVELTY}{name}": ArraySpec(*form) for name, form in forms.items()}
            return specs

    header, arrays = load_arrays(path, (MODEL_FORMAT, OLD_MODEL_FORMAT), arrays_of)
    known = {name.removeprefix(NOVELTY): arrays.pop(name) for name in [*arrays] if name.startswith(NOVELTY)}
    with _described_by(path):
        network = Sequential.from_config(header)
        network.load_params(arrays)
        if network.params.dtype != header["dtype"]:
            raise ModelError(f"dtype is {header['dtype']}, but its layers have {network.params.dtype}")
        threshold = check_saved_threshold(header["threshold"])  # None would be one by default
        form = None if header.get("input") is None else InputForm.from_config(header["input"])
        siamese = SiameseNetwork(network, header["margin"], threshold, header.get("class_names"), form)
        siamese.trained_on = check_trained_on(header.get("trained_on"))
        siamese.novelty = from_arrays(header["novelty"], known, network) if known else None
        return siamese


def fingerprint(siamese: SiameseNetwork) -> str:
    """Hash of a model's weights and of its `views`: embeddings of two models cannot be compared."""
    return hashlib.sha256(siamese.network.params.tobytes() + b"views" * siamese.views).hexdigest()


@contextmanager
def _described_by(path: Path) -> Iterator[None]:
    """Turns what a wrong header leads to into one sentence."""
    try:
        yield
    except KeyError as error:
        raise ModelError(f"{path} has a header that describes no network: it lacks {error}") from None
    except (TypeError, ValueError) as error:
        raise ModelError(f"{path} has a header that describes no network: {error}") from None


_PRESET_KEYS = ("preset", "input_shape", "embedding_size", "dtype")


def _preset_config(preset: Any, input_shape: Any, embedding_size: Any, dtype: Any) -> dict[str, Any]:
    """What `Sequential.config` says of a preset: files of format 1 only name it."""
    if not isinstance(input_shape, list) or len(input_shape) != 3:
        raise ModelError(f"input_shape must be [H, W, C], not {input_shape!r}")
    H, W, C = (_size("each number of input_shape", length) for length in input_shape)
    E = _size("embedding_size", embedding_size)
    layers: list[dict[str, Any]] = []
    if preset == "cnn":
        for channels, filters in ((C, 32), (32, 64)):
            conv = {"channels": channels, "filters": filters, "kernel_size": 3, "pad": "same", "dtype": dtype}
            layers += [{"class": "Conv2D", **conv}, {"class": "ReLU"}, {"class": "MaxPool2D"}]
        sizes = [(H // 4) * (W // 4) * 64, 128, E]
    elif preset == "mlp":
        sizes = [H * W * C, 512, 256, E]
    else:
        raise ModelError(f"there is no preset {preset!r}; siamese_np knew cnn and mlp")
    layers.append({"class": "Flatten"})
    for features, units in pairwise(sizes):
        layers += [{"class": "Dense", "features": features, "units": units, "dtype": dtype}, {"class": "ReLU"}]
    return {"layers": layers[:-1], "input_shape": input_shape}


def _size(name: str, value: Any) -> int:
    if type(value) is not int or value < 1:
        raise ModelError(f"{name} must be a whole number of at least 1, not {value!r}")
    return value


# --- Embeddings ---------------------------------------------------------------------------------------------


def write_embeddings(path: Path, emb: NDArray[np.floating], paths: Sequence[str], model: str = "") -> None:
    """Write embeddings (N, E) of the images `paths` as ``.npy``, ``.npz`` (with paths) or ``.csv`` (with paths).

    An ``.npz`` also holds `model`, the fingerprint of the model that made them. In a ``.csv`` a path that a spreadsheet
    would take for a formula (it begins with ``=``, ``+``, ``-`` or ``@``) has ``./`` before it, which is the same path.
    """
    content = io.BytesIO()
    if path.suffix == ".npy":
        np.save(content, emb, allow_pickle=False)
    elif path.suffix == ".npz":
        np.savez(content, embeddings=emb, paths=np.array(paths), model=np.array(model))
    else:
        lines = io.StringIO(newline="")
        writer = csv.writer(lines)
        writer.writerow(["path", *(f"e{e}" for e in range(emb.shape[1]))])
        safe = [f"./{name}" if name.startswith(("=", "+", "-", "@", "\t", "\r")) else name for name in paths]
        writer.writerows([name, *row] for name, row in zip(safe, emb.tolist(), strict=True))
        content.write(lines.getvalue().encode("utf-8", "surrogateescape"))  # the bytes of any file name
    write_atomically(path, content.getvalue())


def read_embeddings(path: Path, embedding_size: int, model: str = "") -> tuple[NDArray[np.floating], list[str]]:
    """Read the embeddings and paths of an ``.npz`` that `write_embeddings` wrote.

    Raises
    ------
    DataError
        The file is missing, damaged, of another kind, its embeddings are not finite or have not `embedding_size`
        numbers, or they were made by another model than `model`.
    """
    kind = "an .npz of embeddings and paths, as `siamese-np embed` writes it"
    with open_npz(path, DataError, kind) as archive:
        (shape, dtype), (paths_shape, paths_dtype) = archive.announced("embeddings"), archive.announced("paths")
        if len(shape) != 2 or dtype.kind != "f" or not shape[0] or paths_shape != shape[:1] or paths_dtype.kind != "U":
            raise DataError(
                f"{path} must hold embeddings (N, E) and the paths (N,) of their images, "
                f"not {dtype} {shape} and {paths_dtype} {paths_shape}"
            )
        if shape[1] != embedding_size:
            raise DataError(f"{path} holds embeddings of {shape[1]} numbers, but the model makes {embedding_size}")
        emb, paths = archive.read("embeddings"), archive.read("paths").tolist()
        made_by = str(archive.read("model")) if "model" in archive else ""
    if not np.isfinite(emb).all():
        raise DataError(f"{path} holds embeddings with NaN or infinity")
    if model and made_by and model != made_by:
        raise DataError(f"{path} was made by another model: embed its images again with this one")
    return emb, paths


def versions() -> dict[str, str]:
    """Versions of what decides a run's numbers."""
    return {"python": sys.version.split()[0], **{name: _version(name) for name in ("siamese_np", "numpy", "numba")}}


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:  # on the path, but not installed
        return str(getattr(import_module(name), "__version__", "unknown"))


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
