"""`siamese-np export`: a saved model for other tools."""

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from siamese_np._process import log
from siamese_np.collection.index import open_collection
from siamese_np.collection.pictures import expanded, status_of
from siamese_np.datasets import Picture, form_of, load_data_of, read_images
from siamese_np.errors import OptionError
from siamese_np.export import export_npz, export_onnx
from siamese_np.network import SiameseNetwork
from siamese_np.projector import export_projector
from siamese_np.storage import check_output, load_model


def run(args: argparse.Namespace) -> tuple[int, dict[str, Any], str]:
    """Write an ONNX file, plain arrays, or the projector's files; the exit status, and what to say."""
    output = Path(args.output)
    kind = args.to or ("npz" if output.suffix == ".npz" else "onnx")
    if kind != "projector" and (args.input or args.index or args.data):
        raise OptionError(f"images, --index and --data go with --to projector, not with --to {kind}")
    siamese = load_model(args.model)
    mark = rb".{2}\x12\nsiamese_np" if kind == "onnx" else None
    check_output(output, "--output", mark, args.overwrite, args.model, folder=kind == "projector")
    status, end = 0, ""
    if kind == "onnx":
        told = export_onnx(siamese, output)
        images, emb = (", ".join(map(str, told[end]["shape"])) for end in ("input", "output"))
        what, end = f"network of {told['parameters']:,} parameters", f": images ({images}) in, embeddings ({emb}) out"
    elif kind == "npz":
        told = export_npz(siamese, output, args.overwrite)
        what = f"{len(told['arrays'])} arrays of {told['parameters']:,} parameters"
    else:
        status, told = _project(args, siamese, output)
        what = f"{told['embeddings']:,} embeddings"
        end = f": `tensorboard --logdir {shlex.quote(str(output))}` shows it"
    return status, {"file": args.output, "to": kind, **told}, f"{what} written to {args.output}{end}"


def _project(args: argparse.Namespace, siamese: SiameseNetwork, output: Path) -> tuple[int, dict[str, Any]]:
    """Write the projector's files of an index, of given images, or of the test images; exit status, and what to say."""
    if (args.input != []) + (args.index is not None) + (args.data is not None) > 1:
        raise OptionError("choose one: images, --index or --data")
    if args.index is not None:
        index = open_collection(Path(args.index), siamese)
        rows = sorted(set(range(len(index))) - set(index.replaced))
        found = [index.row(i) for i in rows]
        columns = _columns([row.path for row in found], [row.class_name for row in found])
        return 0, export_projector(index.emb[rows], output, columns=columns, overwrite=args.overwrite)
    status, skipped = 0, {}
    if args.input:
        unreadable: list[Picture] = []
        pictures = list(read_images(expanded(args.input), form_of(siamese), unreadable.append))
        status, skipped["unreadable"] = status_of(unreadable, len(pictures))
        images = np.stack([picture.image for picture in pictures])  # type: ignore[misc]
        columns = _columns([picture.name for picture in pictures], [picture.class_name for picture in pictures])
    else:
        dataset = load_data_of(siamese, args.data, log=log)
        images, classes = dataset.test.images, dataset.test.classes.tolist()
        kinds = [dataset.class_names[number] for number in classes] if dataset.class_names else classes
        columns = _columns([f"test image {number}" for number in range(len(images))], kinds)
    return status, export_projector(siamese.embed(images), output, images, columns, args.overwrite) | skipped


def _columns(names: Sequence[str], kinds: Sequence[Any]) -> dict[str, Sequence[Any]]:
    """Names, and classes where any is known."""
    known = any(kind is not None for kind in kinds)
    return {"name": names} | ({"class": ["" if kind is None else kind for kind in kinds]} if known else {})
