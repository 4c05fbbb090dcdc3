"""Files that are read back: arrays with a JSON header in one ``.npz``, models and checkpoints made of them.

A file is written beside its final name and then renamed, so there is always a whole old one or a whole new
one. Reading never unpickles, and an array is read only after its announced shape has been found right.
"""

import hashlib
import json
import os
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from siamese_np.errors import ModelError, SiameseError
from siamese_np.network import PRESETS, SiameseNetwork, make_network

LARGEST_HEADER = 1 << 20
MODEL_FORMAT = "siamese_np model 1"


def write_atomically(path: Path, content: bytes) -> None:
    """Write `content` to `path`: afterwards it holds all of it, or what it held before."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o666 & ~_umask())
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


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
        Given the header, the names, shapes and dtypes that the file must hold, as a dict of arrays.

    Raises
    ------
    ModelError
        In one sentence: the file is missing, damaged, of another kind, or holds other arrays.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            header = _read_header(archive, path, kind)
            expected = shapes(header)
            return header, {name: _read_array(archive, path, name, like) for name, like in expected.items()}
    except FileNotFoundError:
        raise ModelError(f"there is no file {path}") from None
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror or error}") from None
    except SiameseError:
        raise
    except Exception as error:  # zipfile, zlib, json and numpy fail in many ways on damaged bytes
        raise ModelError(f"{path} is damaged or not a file that siamese_np wrote ({error})") from None


def _read_header(archive: zipfile.ZipFile, path: Path, kind: str) -> dict[str, Any]:
    info = archive.getinfo("header.npy")
    if info.file_size > LARGEST_HEADER:
        raise ModelError(f"{path} has a header of {info.file_size} bytes, more than any siamese_np wrote")
    with archive.open(info) as file:
        header = json.loads(str(np.lib.format.read_array(file, allow_pickle=False)))
    if not isinstance(header, dict) or header.get("format") != kind:
        found = header.get("format") if isinstance(header, dict) else header
        raise ModelError(f"{path} is not a {kind!r} file, its header says {found!r}")
    return header


def _read_array(archive: zipfile.ZipFile, path: Path, name: str, like: NDArray[Any]) -> NDArray[Any]:
    if f"{name}.npy" not in archive.namelist():
        raise ModelError(f"{path} lacks the array {name!r}")
    with archive.open(f"{name}.npy") as file:
        shape, dtype = _announced(file)
        if shape != like.shape or dtype != like.dtype:
            raise ModelError(
                f"{path} holds {name!r} as {shape} {dtype}, but its network has {like.shape} {like.dtype} there"
            )
    with archive.open(f"{name}.npy") as file:
        array: NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
    if not np.isfinite(array).all():
        raise ModelError(f"{path} holds NaN or infinity in {name!r}")
    return array


def _announced(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    return shape, dtype


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
    made: list[SiameseNetwork] = []

    def network_of(header: dict[str, Any]) -> dict[str, NDArray[Any]]:
        try:
            network = make_network(
                header["preset"],
                input_shape=tuple(header["input_shape"]),
                embedding_size=header["embedding_size"],
                dtype=header["dtype"],
            )
            made.append(SiameseNetwork(network, header["margin"], header["threshold"], header["preset"]))
        except (KeyError, TypeError, SiameseError) as error:
            raise ModelError(f"{path} has a header that describes no network: {error}") from None
        return network.named_params()

    _, arrays = load_arrays(path, MODEL_FORMAT, network_of)
    for name, param in made[0].network.named_params().items():
        param[:] = arrays[name]
    return made[0]


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
