"""Files of embeddings: written by ``embed``, read back by ``search``."""

import csv
import io
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from siamese_np.errors import DataError
from siamese_np.files import write_atomically

FORMATS = (".npy", ".npz", ".csv")


def write_embeddings(path: Path, emb: NDArray[np.floating], paths: Sequence[str]) -> None:
    """Write embeddings (N, E) of the images `paths` as ``.npy``, ``.npz`` (with paths) or ``.csv`` (with paths)."""
    content = io.BytesIO()
    if path.suffix == ".npy":
        np.save(content, emb, allow_pickle=False)
    elif path.suffix == ".npz":
        np.savez(content, allow_pickle=False, embeddings=emb, paths=np.array(paths))
    else:
        lines = io.StringIO(newline="")
        writer = csv.writer(lines)
        writer.writerow(["path", *(f"e{e}" for e in range(emb.shape[1]))])
        writer.writerows([name, *row] for name, row in zip(paths, emb.tolist(), strict=True))
        content.write(lines.getvalue().encode("utf-8"))
    write_atomically(path, content.getvalue())


def read_embeddings(path: Path, embedding_size: int) -> tuple[NDArray[np.floating], list[str]]:
    """Read the embeddings and paths of an ``.npz`` that `write_embeddings` wrote.

    Raises
    ------
    DataError
        The file is missing, damaged, of another kind, or its embeddings have not `embedding_size` numbers.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            emb, paths = archive["embeddings"], archive["paths"].tolist()
    except FileNotFoundError:
        raise DataError(f"there is no file {path}") from None
    except (OSError, ValueError, KeyError, AttributeError, zipfile.BadZipFile, EOFError):
        raise DataError(f"{path} is not an .npz of embeddings and paths, as `siamese-np embed` writes it") from None
    if emb.ndim != 2 or len(emb) != len(paths) or not np.issubdtype(emb.dtype, np.floating) or not len(emb):
        raise DataError(f"{path} must hold embeddings (N, E) and N paths, not {emb.shape} and {len(paths)}")
    if emb.shape[1] != embedding_size:
        raise DataError(f"{path} holds embeddings of {emb.shape[1]} numbers, but the model makes {embedding_size}")
    return emb, paths
