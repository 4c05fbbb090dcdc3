"""`siamese-np embed`: the embeddings of pictures, into a collection or one file."""

import argparse
import contextlib
import csv
import os
import sys
import time
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from siamese_np._process import on_interrupt, printed
from siamese_np.collection.pictures import count, embedded, expanded, model_and_form, status_of
from siamese_np.collection.processes import mapped_in
from siamese_np.collection.sheet import Sheet
from siamese_np.collection.store import Row, Writer
from siamese_np.datasets import Picture, read_idx, read_images
from siamese_np.datasets.idx import idx_count
from siamese_np.datasets.images import is_idx
from siamese_np.errors import DataError, OptionError
from siamese_np.network import SiameseNetwork
from siamese_np.reading import read_whole
from siamese_np.storage import EMBEDDING_MARKS, check_output, fingerprint, write_embeddings

MAX_LABELS = 1 << 24  # bytes of a file of labels


def run(args: argparse.Namespace) -> tuple[int, dict[str, Any], str]:
    """Embed what `args` name; the exit status, and what to say as JSON values and as text."""
    output = Path(args.output)
    one_file = output.suffix in EMBEDDING_MARKS and not output.is_dir()
    if output.suffix and not one_file and not output.is_dir():
        wanted = ", ".join(EMBEDDING_MARKS)
        raise OptionError(f"--output must end in one of {wanted}, or be a folder (no ending), not {output.name!r}")
    if one_file:
        check_output(output, "--output", EMBEDDING_MARKS[output.suffix], args.overwrite, args.model)
    elif not output.parent.is_dir():
        raise OptionError(f"there is no folder {output.parent} for --output")
    siamese, form = model_and_form(args)
    sheet = Sheet(args, ["picture", "the network sees"])
    labels = _labels(args, siamese) if args.labels else None
    unreadable: list[Picture] = []
    pending: dict[str, dict[str | None, Row]] = {}  # of what is being read, by path and class
    names, parts, done, there, start = [], [], 0, 0, time.perf_counter()

    with contextlib.ExitStack() as stack:
        stop = stack.enter_context(on_interrupt())
        writer = None if one_file else stack.enter_context(Writer(output, siamese, form))
        quiet = args.json or not sys.stderr.isatty()
        bar = stack.enter_context(tqdm(total=None if quiet else count(args.input), unit=" pictures", disable=quiet))

        def known(name: str, kind: str | None) -> bool:
            """Whether the collection has it already."""
            nonlocal there
            label = kind if labels is None else labels[int(name.rpartition("#")[2])]
            row = Row(os.path.abspath(name), label, None, _stamp(name))
            same = pending.get(row.path, {})
            if writer is not None and (kind in same or (kind is None and same) or writer.holds(row)):
                there += 1
                bar.update()
                return True
            pending.setdefault(row.path, {})[kind] = row
            return False

        mapped = stack.enter_context(mapped_in(args.processes, lambda: not sheet.full))
        pictures = read_images(expanded(args.input), form, unreadable.append, known, mapped)
        for batch in embedded(siamese, takewhile(lambda _: not stop.is_set(), pictures), sheet):
            rows = []
            for picture, _, unlike in batch:
                rows.append(pending[os.path.abspath(picture.name)][picture.class_name]._replace(unlike=unlike))
                name, kind = os.path.basename(picture.name), rows[-1].class_name
                sheet.add([(picture.original, name), (picture.image, kind or "")])
            emb = np.stack([one.emb for one in batch])
            if writer is None:
                names += [one.picture.name for one in batch]
                parts.append(emb)
            else:
                writer.append(emb, rows)
                for row, one in zip(rows, batch, strict=True):
                    del pending[row.path][one.picture.class_name]
                    if not pending[row.path]:
                        del pending[row.path]
            bar.update(len(rows))
            done += len(rows)
    if one_file and stop.is_set():
        raise KeyboardInterrupt
    status, told = status_of(unreadable, done + there + stop.is_set())
    if one_file:
        write_embeddings(output, np.concatenate(parts), names, fingerprint(siamese))

    seconds = time.perf_counter() - start
    result = {
        "images": done,
        "embedding_size": siamese.network.output_shape[0],
        "output": str(output),
        "seconds": seconds,
        "images_per_second": done / seconds,
        "already_there": there,
        "unreadable": told,
    }
    text = (
        f"{done:,} embedding{'s' * (done != 1)} of {result['embedding_size']} numbers written to {printed(args.output)}"
    )
    if writer is not None:
        result["rows"] = writer.state["rows"] - len(writer.state["replaced"])
        text += f", which holds {result['rows']:,}"
    if there:
        text += f"; {there:,} {'were' if there > 1 else 'was'} there already"
    if unreadable:
        text += f"; {len(unreadable):,} could not be read"
    if stop.is_set():
        print("siamese-np: interrupted; the same command goes on where it stopped", file=sys.stderr)
    return 130 if stop.is_set() else status, result, "\n".join([text, *sheet.save()])


def _stamp(name: str) -> list[int]:
    """Size and time of change of a picture's file."""
    try:
        status = os.stat(name if os.path.lexists(name) else name.rpartition("#")[0])
    except (OSError, ValueError):
        return []  # reading will say what is wrong
    return [status.st_size, status.st_mtime_ns]


def _labels(args: argparse.Namespace, siamese: SiameseNetwork) -> list[str]:
    """The class of each image of the one IDX file that is embedded."""
    if len(args.input) != 1 or not is_idx(args.input[0]):
        raise OptionError("--labels needs one IDX file of images as the only INPUT")
    images, path = idx_count(args.input[0]), args.labels
    if is_idx(path):
        numbers, names = read_idx(path), siamese.class_names or []
        if numbers.ndim != 1 or numbers.dtype.kind not in "iu":
            raise DataError(f"{path} holds {numbers.dtype} {numbers.shape}, but labels are whole numbers (N,)")
        labels = [names[n] if 0 <= n < len(names) else str(n) for n in numbers.tolist()]
    else:
        try:
            lines = read_whole(path, MAX_LABELS).decode("utf-8-sig").splitlines()
            labels = [row[-1].strip() for row in csv.reader(lines) if row]
        except (OSError, UnicodeError, csv.Error) as error:
            raise DataError(f"{path} is no CSV file with the class in its last column ({error})") from None
        labels = labels[1:] if len(labels) == images + 1 else labels  # below a heading
    if len(labels) != images:
        raise DataError(f"{path} holds {len(labels)} labels, but {args.input[0]} holds {images} images")
    return labels
