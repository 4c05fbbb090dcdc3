"""Files of embeddings: written by ``embed``, read back by ``search``."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from siamese_np.errors import DataError
from siamese_np.reading import Npz, one_line
from siamese_np.storage import write_atomically

FORMATS = (".npy", ".npz", ".csv")


def write_embeddings(path: Path, emb: NDArray[np.floating], paths: Sequence[str], model: str = "") -> None:
    """Write embeddings (N, E) of the images `paths` as ``.npy``, ``.npz`` (with paths) or ``.csv`` (with paths).

    An ``.npz`` also holds `model`, the fingerprint of the model that made them.
    """
    content = io.BytesIO()
    if path.suffix == ".npy":
        np.save(content, emb, allow_pickle=False)
    elif path.suffix == ".npz":
        np.savez(content, allow_pickle=False, embeddings=emb, paths=np.array(paths), model=np.array(model))
    else:
        lines = io.StringIO(newline="")
        writer = csv.writer(lines)
        writer.writerow(["path", *(f"e{e}" for e in range(emb.shape[1]))])
        writer.writerows([name, *row] for name, row in zip(paths, emb.tolist(), strict=True))
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
    try:
        with Npz(path) as archive:
            (shape, dtype), (paths_shape, paths_dtype) = archive.announced("embeddings"), archive.announced("paths")
            if (
                len(shape) != 2
                or dtype.kind != "f"
                or not shape[0]
                or paths_shape != shape[:1]
                or paths_dtype.kind != "U"
            ):
                raise DataError(
                    f"{path} must hold embeddings (N, E) and the paths (N,) of their images, "
                    f"not {dtype} {shape} and {paths_dtype} {paths_shape}"
                )
            if shape[1] != embedding_size:
                raise DataError(f"{path} holds embeddings of {shape[1]} numbers, but the model makes {embedding_size}")
            emb, paths = archive.read("embeddings"), archive.read("paths").tolist()
            made_by = str(archive.read("model")) if "model" in archive else ""
    except FileNotFoundError:
        raise DataError(f"there is no file {path}") from None
    except DataError:
        raise
    except Exception as error:  # zipfile, zlib and numpy fail in many ways on damaged bytes
        if isinstance(error, OSError) and error.errno is not None:
            raise DataError(f"cannot read {path}: {error.strerror}") from error
        raise DataError(
            f"{path} is damaged or not an .npz of embeddings and paths, as `siamese-np embed` writes it "
            f"({one_line(error)})"
        ) from error
    if not np.isfinite(emb).all():
        raise DataError(f"{path} holds embeddings with NaN or infinity")
    if model and made_by and model != made_by:
        raise DataError(f"{path} was made by another model: embed its images again with this one")
    return emb, paths
