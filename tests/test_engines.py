"""Approximate engines: what they find, and that a stale, foreign or damaged one is told in a sentence."""

import errno
import json
import os
import re
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from conftest import write_idx
from test_collection import TEST, make, mistake, save_digit, told

from siamese_np import SiameseNetwork, load_model, mlp, save_model
from siamese_np.cli import main
from siamese_np.collection import engines
from siamese_np.collection import index as index_module
from siamese_np.collection.engines import build, open_engine
from siamese_np.collection.index import ListIndex, nearest_rows, open_collection
from siamese_np.collection.store import Collection, Row, Writer
from siamese_np.datasets import DIGIT
from siamese_np.errors import DataError, OptionError

ROOT = Path(__file__).parent.parent
N = 300


@pytest.fixture(params=["faiss", "usearch"])
def name(request) -> str:
    """An engine whose library is installed."""
    pytest.importorskip(request.param)
    return request.param


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """A model without any training."""
    path = tmp_path_factory.mktemp("model") / "model.npz"
    save_model(path, SiameseNetwork(mlp(embedding_size=16, seed=0)))
    return path


@pytest.fixture
def collection(model, tmp_path) -> Path:
    """A collection of random embeddings, of which rows 3 and 7 are replaced, with their embeddings as they were."""
    folder, siamese = tmp_path / "collection", load_model(model)
    emb = make(folder, siamese, [Row(f"{i}", str(i % 3)) for i in range(N)])
    with Writer(folder, siamese, DIGIT) as writer:
        writer.append(emb[[3, 7]], [Row("3", "0", None, [1, 1]), Row("7", "1", None, [1, 1])])
    return folder


def test_an_engine_finds_what_exact_search_finds_and_no_replaced_row(name, collection, model, capsys):
    said = told(capsys, "index", collection, "--engine", name, "--ef-search", 400)
    assert (said["engine"], said["rows"], said["k"], said["queries"]) == (name, N, 10, 256)
    assert said["recall"] == 1 and said["seconds"] > 0 and said["parameters"]["ef_search"] == 400
    files = [path for path in collection.iterdir() if path.name.startswith(name)]
    assert sorted(path.stat().st_size for path in files)[-1] == said["bytes"] and len(files) == 2
    index = open_collection(collection, load_model(model))
    query = np.array(index.emb[:20])
    for k in (1, 5, N, N + 50):
        rows, distances = open_engine(index, name).nearest_rows(query, k)
        exact_rows, exact = nearest_rows(query, index, k)
        np.testing.assert_array_equal(rows, exact_rows)
        np.testing.assert_array_equal(distances, exact)  # to the last bit
    assert rows[3][0] == N and not {3, 7} & set(np.concatenate(rows))
    for one in (query[:1], query[:0]):
        assert len(open_engine(index, name).nearest_rows(one, 2)[0]) == len(one)
    with pytest.raises(OptionError, match="k must be a whole number from 1 to the 300 pictures, not 0"):
        open_engine(index, name).nearest_rows(query, 0)


def test_recall_is_measured_and_printed_with_every_build(name, model, tmp_path, capsys):
    folder = tmp_path / "collection"
    make(folder, load_model(model), [Row(f"{i}") for i in range(3000)])
    shown = []
    for effort in (2, 200):
        given = ["--m", effort // 10 + 2, "--ef-construction", effort, "--ef-search", effort]
        assert main([*map(str, ["index", folder, "--engine", name, *given])]) == 0
        shown.append(capsys.readouterr().out)
    recalls = [float(text.partition("recall@10 ")[2].split()[0]) for text in shown]
    assert recalls[0] < 0.9 < 0.99 < recalls[1] <= 1
    assert "against exact search, of 256 queries" in shown[0] and "built in " in shown[0] and " bytes" in shown[0]
    # the same figure by another way: neighbours that both found
    index = open_collection(folder, load_model(model))
    told(capsys, "index", folder, "--engine", name, "--m", 2, "--ef-construction", 2, "--ef-search", 2)
    recall = json.loads((folder / f"{name}.json").read_text())["recall"]
    own = np.sort(np.random.default_rng(0).choice(3000, 256, replace=False))
    found = open_engine(index, name).nearest_rows(index.emb[own], 11)[0]
    exact = nearest_rows(index.emb[own], index, 11)[0]
    hits = [len((set(near) & set(right)) - {row}) for near, right, row in zip(found, exact, own, strict=True)]
    assert recall == pytest.approx(np.mean(hits) / 10)


def test_search_and_classify_use_it(name, model, tmp_path, capsys):
    for i in range(12):
        (tmp_path / "digits" / str(TEST.classes[i])).mkdir(parents=True, exist_ok=True)
        save_digit(tmp_path / "digits" / str(TEST.classes[i]) / f"{i}.png", i)
    out = tmp_path / "collection"
    told(capsys, "embed", model, tmp_path / "digits", "-o", out)
    told(capsys, "index", out, "--engine", name)
    for command in (["search", model, tmp_path / "digits"], ["classify", model, tmp_path / "digits"]):
        exact = told(capsys, *command, "--index", out, "-k", 3)
        assert told(capsys, *command, "--index", out, "-k", 3, "--engine", name) == exact
    wrong = mistake(capsys, "search", model, tmp_path / "digits", "--index", out, "-k", 0, "--engine", name)
    assert "k must be a whole number from 1 to the 12 pictures, not 0" in wrong
    wrong = mistake(capsys, "classify", model, tmp_path / "digits", "--index", out, "--engine", "hnswlib")
    assert "argument --engine: invalid choice: 'hnswlib'" in wrong
    told(capsys, "embed", model, tmp_path / "digits", "-o", tmp_path / "e.npz")
    wrong = mistake(capsys, "search", model, tmp_path / "digits", "--index", tmp_path / "e.npz", "--engine", name)
    assert "--engine needs a collection, a folder that `siamese-np embed` wrote, as --index" in wrong


def change(folder: Path, name: str, **values) -> None:
    path = folder / f"{name}.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def file_of(folder: Path, name: str) -> Path:
    return next(folder.glob(f"{name}-*.index"))


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGED = "truncated or damaged"


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda folder, name: file_of(folder, name).write_bytes(b""), DAMAGED),
        (lambda folder, name: os.truncate(path := file_of(folder, name), path.stat().st_size - 1), DAMAGED),
        (lambda folder, name: flip(file_of(folder, name)), DAMAGED),
        (lambda folder, name: file_of(folder, name).unlink(), "No such file"),
        (lambda folder, name: (folder / f"{name}.json").unlink(), "has no engine"),
        (lambda folder, name: os.truncate(folder / f"{name}.json", 40), "is damaged, or not of the format"),
        (lambda folder, name: (folder / f"{name}.json").write_text("[" * 60_000), "is damaged"),
        (lambda folder, name: (folder / f"{name}.json").write_text(" " * 70_000), "more than the 65536"),
        (lambda folder, name: change(folder, name, sha256="../../" + "0" * 58), "is damaged"),
        (lambda folder, name: change(folder, name, parameters={"m": 1 << 40}), "is damaged"),
        (lambda folder, name: change(folder, name, bytes=True), "is damaged"),
        (lambda folder, name: change(folder, name, rows=1.0), "is damaged"),
        (lambda folder, name: change(folder, name, rows=7), "is of other rows than are there now"),
        (lambda folder, name: change(folder, name, model="0" * 64), "is of another model"),
        (lambda folder, name: change(folder, name, embedding_size=17), "is of 17 numbers an embedding"),
    ],
)
def test_a_damaged_or_foreign_engine_is_told(damage, words, name, collection, model):
    index = open_collection(collection, load_model(model))
    build(Collection(collection), name, {})
    damage(collection, name)
    with pytest.raises(DataError, match=words) as error:
        open_engine(index, name)
    again = f"build it with `siamese-np index {collection} --engine {name}`"
    assert str(error.value).count("\n") == 0 and (again in str(error.value) or "more than" in words)
    build(Collection(collection), name, {})  # which mends all of them
    assert len(open_engine(index, name).nearest_rows(index.emb[:1], 3)[0][0]) == 3


def test_an_engine_of_a_collection_that_grew_is_stale(name, collection, model, capsys):
    index, siamese = open_collection(collection, load_model(model)), load_model(model)
    build(Collection(collection), name, {})
    with Writer(collection, siamese, DIGIT):
        pass  # nothing new
    open_engine(open_collection(collection, siamese), name)
    with Writer(collection, siamese, DIGIT) as writer:
        writer.append(index.emb[:1], [Row("0", "0", None, [1, 1])])  # as many pictures as before
    with pytest.raises(DataError, match="is of other rows than are there now: build it with"):
        open_engine(open_collection(collection, siamese), name)
    first = file_of(collection, name)
    build(Collection(collection), name, {})
    assert not first.exists()
    open_engine(open_collection(collection, siamese), name)


def test_a_full_disk_or_a_kill_leaves_the_former_engine(name, collection, model, monkeypatch):
    index = open_collection(collection, load_model(model))
    build(Collection(collection), name, {})
    before = {path.name: path.read_bytes() for path in collection.iterdir()}

    def full(path, content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    def whole() -> bool:
        open_engine(index, name)
        return {path.name: path.read_bytes() for path in collection.iterdir()} == before

    other, saved = {"m": 5}, engines.ENGINES[name].save
    with monkeypatch.context() as patch:  # when the second file is written
        patch.setattr(engines, "write_atomically", full)
        with pytest.raises(OSError, match="No space left"):
            build(Collection(collection), name, other)
    assert whole()
    with monkeypatch.context() as patch:  # in the middle of the library's own
        patch.setattr(engines.ENGINES[name], "save", lambda self, path: (Path(path).touch(), saved(self, "/dev/full")))
        if os.path.exists("/dev/full"):
            with pytest.raises(DataError, match=f"{name} could not write its engine into"):
                build(Collection(collection), name, other)
    assert whole()
    (collection / f".{name}.index").symlink_to(model)  # by a kill, or by somebody else
    (collection / f"{name}-0000000000000000.index").write_text("left")
    kept = model.read_bytes()
    build(Collection(collection), name, other)
    assert model.read_bytes() == kept and len(list(collection.glob(f"*{name}*"))) == 2
    assert open_engine(index, name).graph.parameters["m"] == 5


def test_what_cannot_be_built_is_told(name, collection, model, tmp_path, capsys):
    small = tmp_path / "small"
    make(small, load_model(model), [Row("a")])
    assert "holds 1 embeddings, and an engine needs at least 2" in mistake(capsys, "index", small, "--engine", name)
    assert "is no collection" in mistake(capsys, "index", tmp_path, "--engine", name)
    for option in ("--m", "--ef-construction", "--ef-search"):
        wrong = mistake(capsys, "index", collection, "--engine", name, option, 1)
        assert f"{option} must be from 2 to 4096, not 1" in wrong
    with Writer(collection, load_model(model), DIGIT):
        assert "another process is writing to" in mistake(capsys, "index", collection, "--engine", name)
    values = np.fromfile(collection / "embeddings.f32", "<f4")
    values[20] = np.nan
    values.tofile(collection / "embeddings.f32")
    assert "NaN or infinity" in mistake(capsys, "index", collection, "--engine", name)


@pytest.mark.parametrize("name", ["faiss", "usearch"])
@pytest.mark.parametrize("source", [None, "", "raise RuntimeError('no AVX2\\nhere')", "raise OSError('no libgomp')"])
def test_a_library_that_is_not_installed_or_cannot_be_loaded_is_told(source, name, collection, monkeypatch, capsys):
    for module in (name, f"{name}.index"):
        monkeypatch.delitem(sys.modules, module, raising=False)
        if source is None:
            monkeypatch.setitem(sys.modules, module, None)
    if source is not None:
        (collection.parent / name).mkdir()
        (collection.parent / name / "__init__.py").write_text(source)
        monkeypatch.syspath_prepend(collection.parent)
    wrong = mistake(capsys, "index", collection, "--engine", name)
    assert wrong.startswith(f"siamese-np: --engine {name} needs a library (") and wrong.count("\n") == 1
    assert wrong.endswith("): pip install 'siamese_np[engines]'\n")
    for module in (name, f"{name}.index"):
        sys.modules.pop(module, None)


def test_exact_search_holds_no_copy_of_the_collection(monkeypatch):
    emb, query = np.random.default_rng(0).normal(size=(100_000, 16)).astype(np.float32), np.zeros((3, 16), np.float32)
    index = ListIndex(emb, [Row("")] * len(emb), range(0, len(emb), 7))
    monkeypatch.setattr(index_module, "BLOCK_NUMBERS", 1 << 15)
    nearest_rows(query, index, 5)
    tracemalloc.start()
    try:
        nearest_rows(query, index, 5)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < emb.nbytes / 4  # 6 MB; a block in both kinds is 0.4 MB


def test_the_page_s_way_into_lancedb(tmp_path, monkeypatch, capsys):
    """The code of the page, as it is; its hits are those of `search`."""
    pytest.importorskip("lancedb")
    page = (ROOT / "docs" / "collections.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    write_idx(Path("images.idx"), np.rint(TEST.images[:300, :, :, 0] * 255))
    save_digit(Path("photo.png"), 3)
    told(capsys, "embed", "mnist", "photo.png", "images.idx", "-o", "collected")
    save_digit(Path("photo.png"), 4)
    told(capsys, "embed", "mnist", "photo.png", "-o", "collected")  # which replaces the first row
    exec(compile(code, "docs/collections.md", "exec"), {})
    hits = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [kind for _, kind, _ in hits] == ["None"] * 3
    exact = told(capsys, "search", "mnist", "photo.png", "--index", "collected", "-k", 3)["nearest"]
    assert [path for _, _, path in hits] == [one["path"] for one in exact]
    np.testing.assert_allclose(
        [float(distance) for distance, _, _ in hits], [one["distance"] for one in exact], atol=1e-3
    )


def test_the_benchmark_needs_as_many_embeddings_as_neighbours():
    command = [sys.executable, str(ROOT / "benchmarks" / "engines.py"), "--count", "9"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 2 and "--count must be at least the 10 neighbours" in done.stderr


def test_the_benchmark_runs_at_a_small_size(tmp_path):
    command = [sys.executable, str(ROOT / "benchmarks" / "engines.py"), "--count", "600", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "engines.json").read_text())
    assert result["engines"]["exact"]["search"]["recall"] == 1 and done.stdout == (tmp_path / "engines.md").read_text()
    for one in result["engines"].values():
        assert one["search"]["recall"] > 0.9 and one["search"]["batch_queries_per_second"] > 0
