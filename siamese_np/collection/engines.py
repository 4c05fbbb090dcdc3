"""Approximate engines over a collection: graphs (HNSW) that faiss or usearch build, and search in their stead.

    ENGINE.json        which library made it, of which rows of which model, and the SHA-256 of
    ENGINE-HASH.index  the library's own file

The JSON file is replaced last, so a kill or a full disk leaves the engine that was there. The library is given no file
whose bytes are not those that it wrote. An engine only proposes rows; their distances are those of exact search.
"""

import argparse
import contextlib
import hashlib
import json
import os
import re
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from siamese_np._process import printed, to_json
from siamese_np.collection.index import Index, is_live, nearest_rows
from siamese_np.collection.store import Collection, locked
from siamese_np.errors import DataError, OptionError
from siamese_np.metrics import nearest
from siamese_np.reading import file_size, one_line, open_regular, parse_json, read_whole
from siamese_np.runtime.scheduler import get_threads
from siamese_np.storage import write_atomically

FORMAT = "siamese_np engine 1"
BLOCK = 1 << 14  # rows that a library is given at a time
QUERIES, K, SEED = 256, 10, 0  # what recall is measured with: rows of the collection, each without itself
_MAX_JSON = 1 << 16
_MAX_PARAMETER = 4096

Nearest = tuple[list[NDArray[np.intp]], list[NDArray[np.float64]]]


class Faiss:
    """`IndexHNSWFlat` with its 32 links, which faiss advises where memory is no concern.

    By its own 40 candidates while building, 16 while searching, a fifth of the neighbours was not reached in 100,000
    embeddings of digits, whose classes are tight; so it keeps as many as usearch.
    """

    package = "faiss"
    defaults: ClassVar = {"m": 32, "ef_construction": 128, "ef_search": 64}

    def __init__(self, library: Any, E: int, parameters: dict[str, int]) -> None:
        self.library, self.parameters = library, parameters
        self._index = library.IndexHNSWFlat(E, parameters["m"])
        self._index.hnsw.efConstruction = parameters["ef_construction"]

    def add(self, emb: NDArray[np.float32]) -> None:
        self.library.omp_set_num_threads(get_threads())
        self._index.add(emb)

    def save(self, path: str) -> None:
        self.library.write_index(self._index, path)

    def load(self, path: str) -> tuple[int, int]:
        self._index = self.library.read_index(path, self.library.IO_FLAG_MMAP_IFC)
        return self._index.ntotal, self._index.d

    def search(self, query: NDArray[np.float32], k: int) -> list[NDArray[Any]]:
        self.library.omp_set_num_threads(get_threads())
        self._index.hnsw.efSearch = max(k, self.parameters["ef_search"])
        return [rows[rows >= 0] for rows in self._index.search(query, k)[1]]


class Usearch:
    """usearch's `Index` of float32 numbers; its defaults are the library's."""

    package = "usearch.index"
    defaults: ClassVar = {"m": 16, "ef_construction": 128, "ef_search": 64}

    def __init__(self, library: Any, E: int, parameters: dict[str, int]) -> None:
        self.library, self.parameters = library, parameters
        names = {"m": "connectivity", "ef_construction": "expansion_add", "ef_search": "expansion_search"}
        given = {names[name]: value for name, value in parameters.items()}
        self._index = library.Index(ndim=E, metric="l2sq", dtype="f32", **given)

    def add(self, emb: NDArray[np.float32]) -> None:
        rows = np.arange(len(self._index), len(self._index) + len(emb), dtype=np.uint64)
        self._index.add(rows, emb, threads=get_threads())

    def save(self, path: str) -> None:
        self._index.save(path)

    def load(self, path: str) -> tuple[int, int]:
        self._index.view(path)
        return len(self._index), self._index.ndim

    def search(self, query: NDArray[np.float32], k: int) -> list[NDArray[Any]]:
        self._index.expansion_search = max(k, self.parameters["ef_search"])
        found = self._index.search(query, k, threads=get_threads())
        return [one.keys.astype(np.intp) for one in ([found] if len(query) == 1 else found)]


ENGINES: dict[str, type[Faiss] | type[Usearch]] = {"faiss": Faiss, "usearch": Usearch}


class Engine:
    """An engine over a collection as it is now; use it as `nearest_rows`."""

    def __init__(self, collection: Collection, graph: Faiss | Usearch) -> None:
        self.collection, self.graph = collection, graph
        self._rows = np.flatnonzero(is_live(collection))  # that the library knows as 0, 1, 2...

    def nearest_rows(self, query: NDArray[np.floating], k: int) -> Nearest:
        """Rows and exact distances, nearest first, of at most `k` embeddings near each query (Q, E)."""
        if k < 1:
            raise OptionError(f"k must be a whole number from 1 to the {len(self._rows)} pictures, not {k!r}")
        query = np.ascontiguousarray(query, np.float32)
        found = []
        for one, near in zip(query, self.graph.search(query, min(k, len(self._rows))), strict=True):
            rows = np.sort(self._rows[near])
            order, distances = nearest(one[np.newaxis], self.collection.emb[rows], len(rows))
            found.append((rows[order[0]], distances[0]))
        return [rows for rows, _ in found], [distances for _, distances in found]


def run(args: argparse.Namespace) -> tuple[int, dict[str, Any], str]:
    """Build the engine that `args` ask for; the exit status, and what to say as JSON values and as text."""
    given = {name: value for name in Faiss.defaults if (value := getattr(args, name)) is not None}
    collection = Collection(Path(args.collection))
    quiet = args.json or not sys.stderr.isatty()
    with tqdm(total=len(collection) - len(collection.replaced), unit=" rows", disable=quiet) as bar:
        result = build(collection, args.engine, given, bar.update)
    options = ", ".join(f"{name} {value}" for name, value in result["parameters"].items())
    lines = [
        f"{result['engine']} {result['version']} over {result['rows']:,} rows of {printed(args.collection)}: {options}",
        f"built in {result['seconds']:.1f} s, {result['bytes']:,} bytes",
        f"recall@{result['k']} {result['recall']:.4f} against exact search, of {result['queries']} queries; "
        f"{result['ms_per_query']:.3f} ms a query, exact {result['exact_ms_per_query']:.3f} ms",
    ]
    return 0, result, "\n".join(lines)


def build(
    collection: Collection, name: str, parameters: dict[str, int], told: Callable[[int], object] = lambda rows: None
) -> dict[str, Any]:
    """Build an engine, measure it and write it into the folder of its collection; what its JSON file holds.

    OptionError where its library is not installed or a parameter is out of range, DataError where there are less than
    two rows, or the library fails.
    """
    parameters = ENGINES[name].defaults | parameters
    for option, value in parameters.items():
        if not 2 <= value <= _MAX_PARAMETER:
            raise OptionError(f"--{option.replace('_', '-')} must be from 2 to {_MAX_PARAMETER}, not {value}")
    folder, rows = collection.folder, np.flatnonzero(is_live(collection))
    if len(rows) < 2:
        raise DataError(f"{folder} holds {len(rows)} embeddings, and an engine needs at least 2")
    graph = _graph(name, len(collection.emb[0]), parameters)
    start = time.perf_counter()
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, locked(folder))
        for i in range(0, len(rows), BLOCK):
            block = collection.emb[rows[i : i + BLOCK]]
            if not np.isfinite(block).all():
                raise DataError(f"{folder} was changed: it holds embeddings with NaN or infinity")
            graph.add(block)
            told(len(block))
        seconds = time.perf_counter() - start
        measured = _recall(Engine(collection, graph), rows)
        for left in folder.glob(f".{name}*"):  # by a build that was killed; no library is to follow a link
            left.unlink()
        temporary = made = folder / f".{name}.index"
        try:
            graph.save(str(temporary))
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())
                described = {"bytes": file_size(file), "sha256": _sha256(file)}
            result: dict[str, Any] = {"format": FORMAT, "engine": name, "version": _version(name)}
            result |= {"parameters": parameters, **_of(collection), **described, "seconds": seconds, **measured}
            path = _file(folder, name, described)
            made = temporary if path.exists() else path
            temporary.replace(path)
            write_atomically(folder / f"{name}.json", (to_json(result, indent=1) + "\n").encode())
            made = temporary
        except RuntimeError as error:  # which both libraries raise for anything
            reason = one_line(error).rpartition("failed: ")[2]
            raise DataError(f"{name} could not write its engine into {folder}: {reason}") from None
        finally:
            made.unlink(missing_ok=True)  # what no JSON file tells of
        for old in set(folder.glob(f"{name}-*.index")) - {path}:
            with contextlib.suppress(OSError):  # on Windows while it is searched
                old.unlink()
    return result


def open_engine(index: Index, name: str) -> Engine:
    """The engine of a collection that was opened.

    DataError where there is none, or it is damaged, or of other rows, another model or another embedding size;
    OptionError where its library is not installed, or `index` is no collection.
    """
    if not isinstance(index, Collection):
        raise OptionError("--engine needs a collection, a folder that `siamese-np embed` wrote, as --index")
    folder = index.folder
    again = f"build it with `siamese-np index {folder} --engine {name}`"
    known = _described(folder, name, again)
    for key, value in _of(index).items():
        if known[key] != value:
            what = {"model": "another model", "embedding_size": f"{known[key]} numbers an embedding"}
            wrong = what.get(key, "other rows than are there now")
            raise DataError(f"the engine {name} of {folder} is of {wrong}: {again}")
    path = _file(folder, name, known)
    damaged = DataError(f"the engine {name} of {folder} is truncated or damaged: {again}")
    graph = _graph(name, known["embedding_size"], known["parameters"])
    try:
        with open_regular(path) as file:
            if file_size(file) != known["bytes"] or _sha256(file) != known["sha256"]:
                raise damaged
        size = graph.load(str(path))
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}; {again}") from None
    except RuntimeError as error:
        raise DataError(
            f"{name} {_version(name)} cannot read what {known['version']} wrote: {one_line(error)}; {again}"
        ) from None
    if size != (known["rows"], known["embedding_size"]):
        raise damaged
    return Engine(index, graph)


def _graph(name: str, E: int, parameters: dict[str, int]) -> Faiss | Usearch:
    kind = ENGINES[name]
    try:
        return kind(import_module(kind.package), E, parameters)
    except (ImportError, AttributeError, OSError, RuntimeError) as error:  # missing, another of its name, or broken
        raise OptionError(
            f"--engine {name} needs a library ({one_line(error)}): pip install 'siamese_np[engines]'"
        ) from None


def _version(name: str) -> str:
    return str(import_module(name).__version__)


def _of(collection: Collection) -> dict[str, Any]:
    """What an engine is of: where one of these has changed, it is stale."""
    state = collection.state
    whole = hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()
    same = {name: state[name] for name in ("model", "embedding_size")}
    return {**same, "rows": len(collection) - len(collection.replaced), "state": whole}


def _described(folder: Path, name: str, again: str) -> dict[str, Any]:
    path = folder / f"{name}.json"
    try:
        content = read_whole(path, _MAX_JSON)
    except FileNotFoundError:
        raise DataError(f"{folder} has no engine {name}: {again}") from None
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from None
    with contextlib.suppress(ValueError, TypeError, KeyError):
        known = parse_json(content)
        parameters = known["parameters"]
        counts = [known["rows"], known["embedding_size"], known["bytes"], *parameters.values()]
        right = known["format"] == FORMAT and set(parameters) == set(Faiss.defaults)
        right = right and all(type(count) is int and 0 < count < 1 << 48 for count in counts)
        right = right and max(parameters.values()) <= _MAX_PARAMETER and isinstance(known["version"], str)
        if right and re.fullmatch("[0-9a-f]{64}", known["sha256"]) and {"model", "state"} <= set(known):
            return dict(known)
    raise DataError(f"{path} is damaged, or not of the format {FORMAT!r}: {again}")


def _file(folder: Path, name: str, known: dict[str, Any]) -> Path:
    return folder / f"{name}-{known['sha256'][:16]}.index"


def _sha256(file: Any) -> str:
    total = hashlib.sha256()
    while block := file.read(1 << 20):
        total.update(block)
    return total.hexdigest()


def _recall(engine: Engine, rows: NDArray[np.intp]) -> dict[str, Any]:
    """Which share of the true neighbours an engine finds, of rows drawn with a seed; equal distances are equal."""
    own = np.sort(np.random.default_rng(SEED).choice(rows, min(QUERIES, len(rows)), replace=False))
    query, k = np.array(engine.collection.emb[own]), min(K, len(rows) - 1)
    clock = [time.perf_counter()]
    _, exact = nearest_rows(query, engine.collection, k + 1)
    clock.append(time.perf_counter())
    found = engine.nearest_rows(query, k + 1)
    clock.append(time.perf_counter())
    hits = [
        min(k, int(np.count_nonzero((near != row) & (distances <= limit))))
        for row, near, distances, limit in zip(own, *found, (one[k] for one in exact), strict=True)
    ]
    exact_ms, ms = np.diff(clock) * 1000 / len(own)
    result = {"recall": float(np.mean(hits) / k), "k": k, "queries": len(own)}
    return {**result, "ms_per_query": float(ms), "exact_ms_per_query": float(exact_ms)}
