"""Files for TensorBoard's Embedding Projector: vectors, what each is of, and a sheet of small pictures."""

import io
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from siamese_np._checks import as_array, check_embeddings, found
from siamese_np.errors import ShapeError
from siamese_np.storage import check_output

MAX_SHEET = 8192  # pixels of a side; the projector takes no more


def export_projector(
    emb: ArrayLike,
    folder: str | Path,
    images: ArrayLike | None = None,
    columns: Mapping[str, Sequence[object]] | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write embeddings as a folder that ``tensorboard --logdir FOLDER`` shows.

    It gets ``vectors.tsv``, ``metadata.tsv`` with `columns`, ``sprite.png`` with `images`, and
    ``projector_config.pbtxt``, which names them; all of them, or none.

    Parameters
    ----------
    emb : (N, E) array
    folder : str or Path
    images : (N, H, W, C) array, optional
        In [0, 1], C 1 or 3. They are made smaller where the sheet would be larger than the projector takes.
    columns : mapping of str to sequence, optional
        What is known of each embedding, such as its name and class.
    overwrite : bool, default False
        Replace the files of these names in a folder that exists.

    Returns
    -------
    dict
        ``"embeddings"``, ``"embedding_size"`` and ``"files"``.

    Raises
    ------
    OptionError
        The folder exists.
    ShapeError
        An array or a column does not fit.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> emb, images = np.eye(3, dtype=np.float32), np.zeros((3, 8, 8, 1), np.float32)
    >>> with tempfile.TemporaryDirectory() as place:
    ...     told = export_projector(emb, Path(place) / "projector", images, {"class": ["a", "b", "c"]})
    >>> told["files"]
    ['vectors.tsv', 'metadata.tsv', 'sprite.png', 'projector_config.pbtxt']
    """
    emb = check_embeddings("emb", emb)
    if not len(emb):
        raise ShapeError("there is nothing to project: emb holds no embedding")
    folder = Path(folder)
    check_output(folder, "export_projector", overwrite=overwrite, folder=True)
    lines = io.StringIO()
    np.savetxt(lines, emb, fmt="%.9g", delimiter="\t")
    config = ['tensor_name: "embeddings"', 'tensor_path: "vectors.tsv"']
    files = {"vectors.tsv": lines.getvalue().encode()}
    if columns:
        files["metadata.tsv"] = _table(columns, len(emb))
        config.append('metadata_path: "metadata.tsv"')
    if images is not None:
        files["sprite.png"], width, height = _sheet(images, len(emb))
        sizes = f"single_image_dim: {width} single_image_dim: {height}"
        config.append(f'sprite {{ image_path: "sprite.png" {sizes} }}')
    files["projector_config.pbtxt"] = "\n  ".join(["embeddings {", *config]).encode() + b"\n}\n"
    _write(folder, files)
    return {"embeddings": len(emb), "embedding_size": emb.shape[1], "files": list(files)}


def _table(columns: Mapping[str, Sequence[object]], count: int) -> bytes:
    """Columns as lines with tabs; the projector wants names above them where there is more than one."""
    for name, column in columns.items():
        if len(column) != count:
            raise ShapeError(f"the column {name!r} must have {count} entries, one an embedding, not {len(column)}")
    rows: list[Any] = [*([columns] if len(columns) > 1 else []), *zip(*columns.values(), strict=True)]
    lines = ["\t".join(" ".join(str(cell).split()) for cell in row) + "\n" for row in rows]
    return "".join(lines).encode("utf-8", "backslashreplace")  # a file's name may be no text


def _sheet(images: ArrayLike, count: int) -> tuple[bytes, int, int]:
    """All images in rows, as the bytes of a PNG, and the width and height of each there."""
    images = as_array("images", images)
    if images.ndim != 4 or len(images) != count or images.shape[3] not in (1, 3) or images.dtype.kind != "f":
        raise ShapeError(f"images are floats ({count}, H, W, C) in [0, 1] with 1 or 3 channels, not {found(images)}")
    across = int(np.ceil(np.sqrt(count)))
    _, H, W, C = images.shape
    shrink = min(1.0, MAX_SHEET // across / max(H, W))
    width, height = max(1, int(W * shrink)), max(1, int(H * shrink))
    sheet = Image.new("L" if C == 1 else "RGB", (across * width, (count + across - 1) // across * height))
    for i, image in enumerate(images):
        pixels: NDArray[np.uint8] = np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
        small = Image.fromarray(pixels[:, :, 0] if C == 1 else pixels)
        if shrink < 1:
            small = small.resize((width, height), Image.Resampling.BOX)
        sheet.paste(small, (i % across * width, i // across * height))
    content = io.BytesIO()
    sheet.save(content, "PNG")
    return content.getvalue(), width, height


def _write(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write all files beside `folder`, then move them into it: a full disk leaves nothing there."""
    try:
        with tempfile.TemporaryDirectory(dir=folder.absolute().parent, prefix=f".{folder.name}-") as name:
            for file, content in files.items():
                (Path(name) / file).write_bytes(content)
            folder.mkdir(exist_ok=True)
            for file in files:
                os.replace(Path(name) / file, folder / file)
    except OSError as error:  # say which folder was to be written, not the temporary name
        raise OSError(error.errno, error.strerror, str(folder)) from error
