"""The pictures that a command is given, as embedded batches: files, folders, patterns, names on standard input.

Memory does not grow with their number: each is read, embedded with at most 255 others, and let go.
"""

import argparse
import glob
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from siamese_np._process import printed
from siamese_np.collection.sheet import Sheet, thumbnail
from siamese_np.datasets import InputForm, Picture, form_of
from siamese_np.datasets.idx import idx_count
from siamese_np.datasets.images import image_files, is_idx
from siamese_np.errors import DataError
from siamese_np.network import SiameseNetwork
from siamese_np.storage import load_model

BATCH = 256
BATCH_SECONDS = 1.0  # of reading, after which a batch is embedded though it is not full
UNLIKE = "unlike anything it was trained on"


class Embedded(NamedTuple):
    """A picture that was read: of `picture` the original is at most a thumbnail."""

    picture: Picture
    emb: NDArray[np.floating]
    unlike: float | None  # share of the validation images that look more familiar; None where it is not known

    def verdict(self, siamese: SiameseNetwork) -> dict[str, Any]:
        """`unlike`, and what to say of it."""
        score, novelty = self.unlike, siamese.novelty
        far = score is not None and novelty is not None and score > novelty.limit
        return {"unlike": score, "verdict": UNLIKE if far else None}


def model_and_form(args: argparse.Namespace) -> tuple[SiameseNetwork, InputForm]:
    """The model that a command was given, and how pictures are read for it."""
    siamese = load_model(args.model)
    siamese.views = getattr(args, "views", False)
    form = form_of(siamese)
    return siamese, form if args.form is None else replace(form, kind=args.form)


def expanded(inputs: Iterable[str]) -> Iterator[str]:
    """The inputs, with the files of a pattern in its place, and for ``-`` the lines of standard input."""
    for given in inputs:
        if given == "-":
            yield from (os.fsdecode(line.rstrip(b"\r\n")) for line in sys.stdin.buffer if line.strip())
        else:
            yield from [given] if os.path.lexists(given) else sorted(glob.glob(given, recursive=True)) or [given]


def count(inputs: Sequence[str]) -> int | None:
    """How many pictures the inputs hold; None where only reading them tells."""
    try:
        return None if "-" in inputs else sum(map(_count, expanded(inputs)))
    except (DataError, OSError):  # reading will say what is wrong
        return None


def _count(name: str) -> int:
    return len(image_files(name)) if os.path.isdir(name) else idx_count(name) if is_idx(name) else 1


def embedded(siamese: SiameseNetwork, pictures: Iterable[Picture], sheet: Sheet) -> Iterator[list[Embedded]]:
    """Batches of embedded pictures; an original is only kept for a sheet that has room."""
    batch: list[Picture] = []
    start = time.monotonic()
    for picture in pictures:
        batch.append(picture._replace(original=None if sheet.full else thumbnail(picture.original)))
        if len(batch) == BATCH or time.monotonic() - start > BATCH_SECONDS:
            yield embed_batch(siamese, batch)
            batch, start = [], time.monotonic()
    if batch:
        yield embed_batch(siamese, batch)


def embed_batch(siamese: SiameseNetwork, batch: Sequence[Picture]) -> list[Embedded]:
    """The pictures, embedded together."""
    emb, unlike = siamese.embed_scored(np.stack([picture.image for picture in batch]))  # type: ignore[misc]
    scores = [None if np.isnan(score) else float(score) for score in unlike]
    return [Embedded(*parts) for parts in zip(batch, emb, scores, strict=True)]


def status_of(unreadable: Sequence[Picture], used: int) -> tuple[int, list[dict[str, Any]]]:
    """The exit status of a command that used so many pictures, and the others as JSON values; names them.

    DataError where none was used.
    """
    if not used:
        others = len(unreadable) - 1
        more = f" (nor can the other {others if others > 1 else 'one'} be used)" if others > 0 else ""
        raise DataError(f"{unreadable[0].error}{more}" if unreadable else "there is nothing to read: no input is named")
    for picture in unreadable:
        print(f"siamese-np: skipped: {printed(str(picture.error))}", file=sys.stderr)
    told = [{"path": picture.name, "error": picture.error} for picture in unreadable]
    return 1 if told else 0, told
