"""`siamese-np search`, `classify` and `compare`: questions about pictures, answered by distances."""

import argparse
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from siamese_np._process import printed
from siamese_np.collection.engines import Engine, open_engine
from siamese_np.collection.index import Index, ListIndex, nearest_rows, open_collection
from siamese_np.collection.pictures import Embedded, embedded, expanded, model_and_form, status_of
from siamese_np.collection.sheet import MAX_COLUMNS, MAX_ROWS, Cell, Sheet, original
from siamese_np.collection.store import Row
from siamese_np.datasets import InputForm, Picture, read_images
from siamese_np.datasets.images import read_picture
from siamese_np.distances import EuclideanDistance
from siamese_np.errors import DataError, ModelError
from siamese_np.network import SiameseNetwork

Answer = tuple[int, dict[str, Any], str]  # exit status, and what to say as JSON values and as text
Hits = list[tuple[Row, float]]
SIMILAR = {True: "  similar   ", False: "  dissimilar", None: ""}


def search(args: argparse.Namespace) -> Answer:
    """The nearest pictures of a collection, and the class that they vote for."""
    siamese, form = model_and_form(args)
    index = open_collection(Path(args.index), siamese, form)
    engine = open_engine(index, args.engine) if args.engine else None
    sheet = Sheet(args, ["query", "the network sees", "nearest", "the network sees"])
    queries, told, status = _read(siamese, args.query, form, sheet)
    threshold = None if siamese.views else siamese.threshold  # which is of single embeddings
    answers, lines = [], []
    for query, hits in zip(queries, _hits(queries, index, args.k, engine), strict=True):
        answer = {"query": query.picture.name, **_vote(hits), **query.verdict(siamese)}
        similar = [None if threshold is None else d < threshold for _, d in hits]
        if len(queries) > 1 or _summary(answer):
            lines.append(printed(query.picture.name) + ": " * bool(_summary(answer)) + _summary(answer))
        wide = max(len(row.class_name or "") for row, _ in hits)
        for (row, d), alike in zip(hits, similar, strict=True):
            kind = f"  {printed(row.class_name or ''):{wide}}" if wide else ""
            lines.append(f"{d:8.4f}{SIMILAR[alike]}{kind}  {printed(_from_here(row.path))}")
        answer["nearest"] = [
            {"path": row.path, "distance": d, "similar": alike, "class": row.class_name}
            for (row, d), alike in zip(hits, similar, strict=True)
        ]
        answers.append(answer)
        shown = [] if sheet.full else hits[: MAX_COLUMNS // 2 - 1]
        cells = [*_seen(query, _summary(answer))]
        for row, distance in shown:
            told_of = f"{distance:.4f}  {row.class_name or ''}", os.path.basename(row.path)
            cells += zip(original(row.path, form), told_of, strict=True)
        sheet.add(cells)
    result = {"threshold": threshold, "queries": answers, "unreadable": told}
    result |= answers[0] if len(answers) == 1 else {}
    return status, result, "\n".join(lines + sheet.save())


def classify(args: argparse.Namespace) -> Answer:
    """The class of pictures: that of most neighbours in a collection, or of the nearest of the model's class means."""
    siamese, form = model_and_form(args)
    index = open_collection(Path(args.index), siamese, form) if args.index else _class_means(args, siamese)
    engine = open_engine(index, args.engine) if args.engine else None
    sheet = Sheet(args, ["picture", "the network sees"])
    queries, told, status = _read(siamese, args.input, form, sheet)
    answers, lines = [], []
    for query, hits in zip(queries, _hits(queries, index, args.k if args.index else 1, engine), strict=True):
        vote = _vote(hits)
        if vote["class"] is None:
            raise DataError(f"{args.index} knows no classes: embed folders of one subfolder a class, or give --labels")
        if not args.index:
            vote["share"] = None
        distance = min(d for row, d in hits if row.class_name == vote["class"])
        answer = {"path": query.picture.name, **vote, "distance": distance, **query.verdict(siamese)}
        answers.append(answer)
        lines.append(f"{printed(query.picture.name)}: {_summary(answer)} (distance {distance:.4f})")
        sheet.add(_seen(query, _summary(answer)))
    return status, {"pictures": answers, "unreadable": told}, "\n".join(lines + sheet.save())


def compare(args: argparse.Namespace) -> Answer:
    """How far apart two pictures are, and whether they are similar."""
    siamese, form = model_and_form(args)
    sheet = Sheet(args, ["picture", "the network sees"])
    pictures = (read_picture(name, form) for name in (args.a, args.b))
    both = [one for batch in embedded(siamese, pictures, sheet) for one in batch]
    distance = float(EuclideanDistance().forward(both[0].emb[np.newaxis], both[1].emb[np.newaxis])[0][0])
    similar = distance < siamese.threshold
    result: dict[str, Any] = {"distance": distance, "threshold": siamese.threshold, "similar": similar}
    verdict, sign = ("similar", "below") if similar else ("dissimilar", "not below")
    lines = [f"{verdict}: distance {distance:.4f} is {sign} the threshold {siamese.threshold:.4f}"]
    verdicts = [one.verdict(siamese) for one in both]
    if verdicts[0]["unlike"] is not None:
        result |= {name: [said[name] for said in verdicts] for name in ("unlike", "verdict")}
    for one, said in zip(both, verdicts, strict=True):
        lines += [f"{printed(one.picture.name)} is {said['verdict']}"] if said["verdict"] else []
        sheet.add(_seen(one, said["verdict"] or ""))
    return 0, result, "\n".join(lines + sheet.save())


def _read(
    siamese: SiameseNetwork, inputs: Sequence[str], form: InputForm, sheet: Sheet
) -> tuple[list[Embedded], list[dict[str, Any]], int]:
    """The pictures that could be read, of which only the first keep their pixels; the others; and the exit status."""
    queries: list[Embedded] = []
    unreadable: list[Picture] = []
    for batch in embedded(siamese, read_images(expanded(inputs), form, unreadable.append), sheet):
        for one in batch:
            name_only = sheet.full or len(queries) >= MAX_ROWS
            queries.append(one._replace(picture=Picture(one.picture.name, None)) if name_only else one)
    status, told = status_of(unreadable, len(queries))
    return queries, told, status


def _hits(queries: Sequence[Embedded], index: Index, k: int, engine: Engine | None) -> Iterator[Hits]:
    """For each query its nearest rows and their distances."""
    emb = np.stack([one.emb for one in queries])
    near: Any = nearest_rows(emb, index, k) if engine is None else engine.nearest_rows(emb, k)
    for rows, distances in zip(*near, strict=True):
        yield [(index.row(i), float(d)) for i, d in zip(rows, distances, strict=True)]


def _seen(query: Embedded, text: str) -> list[Cell]:
    """The first two pictures of a row of the sheet."""
    return [(query.picture.original, os.path.basename(query.picture.name)), (query.picture.image, text)]


def _vote(hits: Hits) -> dict[str, Any]:
    """The class of most hits whose class is known, the nearest one's of equals, and its share of their votes."""
    kinds = Counter(row.class_name for row, _ in hits if row.class_name is not None)
    kind, votes = max(kinds.items(), key=lambda item: item[1], default=(None, 0))  # of equals the first, the nearest
    return {"class": kind, "share": votes / sum(kinds.values()) if kinds else None}


def _class_means(args: argparse.Namespace, siamese: SiameseNetwork) -> ListIndex:
    novelty = siamese.novelty
    if novelty is None or siamese.class_names is None or siamese.views:
        lacks = "--views has no means of classes" if siamese.views else f"{args.model} has no class names"
        raise ModelError(f"{lacks}: give --index, a collection of pictures whose classes are known")
    names = dict(enumerate(siamese.class_names))
    return ListIndex(novelty.class_means, [Row("", names.get(n, str(n))) for n in novelty.classes.tolist()])


def _summary(answer: dict[str, Any]) -> str:
    """Class, share of the vote and verdict, as far as they are known."""
    kind = "" if answer["class"] is None else f"class {printed(answer['class'])}"
    share = "" if answer["share"] is None else f" by {answer['share']:.0%} of the votes"
    return ", ".join(filter(None, [kind + share, answer["verdict"]]))


def _from_here(path: str) -> str:
    return path.removeprefix(os.path.join(os.getcwd(), ""))
