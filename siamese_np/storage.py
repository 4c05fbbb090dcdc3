"""Files that are read back: arrays with a JSON header in one ``.npz``, models and checkpoints made of them.

A file is written beside its final name and then renamed, so there is always a whole old one or a whole new
one. Reading never unpickles, and an array is read only after its announced shape has been found right.
"""

import contextlib
import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from siamese_np.errors import ModelError, SiameseError
from siamese_np.network import PRESETS, SiameseNetwork, make_network
from siamese_np.reading import Npz, one_line

LARGEST_HEADER = 1 << 20
MODEL_FORMAT = "siamese_np model 1"


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


def save_arrays(path: Path, header: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write `arrays` and a JSON `header` to the ``.npz`` file `path`."""
    import io

    content = io.BytesIO()
    np.savez(content, allow_pickle=False, header=np.array(json.dumps(header)), **arrays)
    write_atomically(path, content.getvalue())


def load_arrays(path: Path, kind: str, shapes: Any = None) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Read what `save_arrays` wrote.

    Parameters
    ----------
    path : Path
    kind : str
        The header's ``"format"`` must be this.
    shapes : callable
        Given the header, the names, shapes and dtypes that the file must hold, as a dict of arrays or `ArraySpec`.

    Raises
    ------
    ModelError
        In one sentence: the file is missing, damaged, of another kind, or holds other arrays.
    """
    try:
        with Npz(path) as archive:
            header = _read_header(archive, path, kind)
            expected = shapes(header)
            for name, like in expected.items():  # all, before the first is read
                _check_announced(archive, path, name, like)
            return header, {name: _read_array(archive, path, name) for name in expected}
    except FileNotFoundError:
        raise ModelError(f"there is no file {path}") from None
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror or error}") from None
    except SiameseError:
        raise
    except Exception as error:  # zipfile, zlib, json and numpy fail in many ways on damaged bytes
        raise ModelError(f"{path} is damaged or not a file that siamese_np wrote ({one_line(error)})") from None


class ArraySpec(NamedTuple):
    """What an array in a file must be."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]


def _read_header(archive: Npz, path: Path, kind: str) -> dict[str, Any]:
    size = archive.size("header")
    if size > LARGEST_HEADER:
        raise ModelError(f"{path} has a header of {size} bytes, more than any siamese_np wrote")
    header = json.loads(str(archive.read("header")))
    if not isinstance(header, dict) or header.get("format") != kind:
        found = header.get("format") if isinstance(header, dict) else header
        raise ModelError(f"{path} is not a {kind!r} file, its header says {found!r}")
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


def save_model(path: Path, siamese: SiameseNetwork, notes: Mapping[str, Any] | None = None) -> None:
    """Write the weights and all that is needed to use them to the ``.npz`` file `path`.

    Parameters
    ----------
    path : Path
    siamese : SiameseNetwork
        Made of one of the presets.
    notes : mapping, optional
        Anything JSON can hold, kept in the header: seed, versions, how it was trained.
    """
    if siamese.preset not in PRESETS:
        presets = ", ".join(sorted(PRESETS))
        raise ModelError(f"only networks made by a preset ({presets}) can be saved, not {siamese.preset!r}")
    network = siamese.network
    params = network.named_params()
    header = {
        "format": MODEL_FORMAT,
        "preset": siamese.preset,
        "input_shape": network.input_shape,
        "embedding_size": network.output_shape[0],
        "dtype": network.params.dtype.name,
        "shapes": {name: value.shape for name, value in params.items()},
        "margin": siamese.margin,
        "threshold": siamese.threshold,
        **(notes or {}),
    }
    save_arrays(path, header, params)


def fingerprint(siamese: SiameseNetwork) -> str:
    """Hash of a model's weights: embeddings of two models cannot be compared."""
    return hashlib.sha256(siamese.network.params.tobytes()).hexdigest()


def load_model(model: str | Path) -> SiameseNetwork:
    """Read a model from a ``model.npz`` or from the run folder that holds one.

    Raises
    ------
    ModelError
        In one sentence: what is wrong with the file.
    """
    path = Path(model)
    if path.is_dir():
        path = path / "model.npz"

    def params_of(header: dict[str, Any]) -> dict[str, ArraySpec]:
        with _described_by(path):
            dtype = make_network(header["preset"], input_shape=(4, 4, 1), dtype=header["dtype"]).params.dtype
            return _param_specs(header["preset"], header["input_shape"], header["embedding_size"], dtype)

    header, arrays = load_arrays(path, MODEL_FORMAT, params_of)
    with _described_by(path):
        network = make_network(
            header["preset"],
            input_shape=tuple(header["input_shape"]),
            embedding_size=header["embedding_size"],
            dtype=header["dtype"],
        )
        margin, threshold = (_distance(name, header[name]) for name in ("margin", "threshold"))
        siamese = SiameseNetwork(network, margin, threshold, header["preset"])
    for name, param in network.named_params().items():
        param[:] = arrays[name]
    return siamese


@contextmanager
def _described_by(path: Path) -> Iterator[None]:
    """Turns what a wrong header leads to into one sentence."""
    try:
        yield
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{path} has a header that describes no network: {error}") from None


def _param_specs(preset: str, input_shape: Any, embedding_size: Any, dtype: np.dtype[Any]) -> dict[str, ArraySpec]:
    """What the parameters of a preset are, without making any: a file can claim a network of any size."""
    if not isinstance(input_shape, list) or len(input_shape) != 3:
        raise ModelError(f"input_shape must be [H, W, C], not {input_shape!r}")
    H, W, C = (_size("each number of input_shape", length) for length in input_shape)
    E = _size("embedding_size", embedding_size)
    weights: dict[str, tuple[int, ...]] = {}
    if preset == "cnn":
        weights = {"conv2d_1": (3, 3, C, 32), "conv2d_2": (3, 3, 32, 64)}
        sizes = [(H // 4) * (W // 4) * 64, 128, E]
    else:
        sizes = [H * W * C, 512, 256, E]
    weights.update({f"dense_{i}": shape for i, shape in enumerate(pairwise(sizes), 1)})
    specs = {}
    for layer, shape in weights.items():
        specs[f"{layer}.w"] = ArraySpec(shape, dtype)
        specs[f"{layer}.b"] = ArraySpec(shape[-1:], dtype)
    return specs


def _size(name: str, value: Any) -> int:
    if type(value) is not int or value < 1:
        raise ModelError(f"{name} must be a whole number of at least 1, not {value!r}")
    return value


def _distance(name: str, value: Any) -> float:
    if type(value) not in (int, float) or not 0 <= value <= sys.float_info.max:
        raise ModelError(f"{name} must be a finite number of at least 0, not {value!r}")
    return float(value)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
