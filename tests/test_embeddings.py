"""Files of embeddings: what is written is read back, and nothing else is believed."""

import csv
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from conftest import IRREGULAR, irregular_files, long_npy_header, refusals, write_npz

from siamese_np.errors import DataError
from siamese_np.storage import EMBEDDING_MARKS, read_embeddings, write_embeddings

READ = "from siamese_np.storage import read_embeddings\ndef read(p): read_embeddings(p, 3)"


EMB = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
PATHS = ["a.png", 'sub, "folder"/b.png', "ziffer-ä-数.png", "digits-idx3-ubyte.gz#12", "new\nline.png"]


def fails(path, words, embedding_size=3):
    with pytest.raises(DataError, match=words) as caught:
        read_embeddings(path, embedding_size)
    assert path.name in str(caught.value)


def test_npz(tmp_path):
    path = tmp_path / "e.npz"
    write_embeddings(path, EMB, PATHS)
    emb, paths = read_embeddings(path, 3)
    assert emb.dtype == np.float32 and np.array_equal(emb, EMB) and paths == PATHS
    with np.load(path, allow_pickle=False) as archive:  # as anybody would read it
        assert archive["embeddings"].shape == (5, 3) and archive["paths"].tolist() == PATHS


def test_npy(tmp_path):
    write_embeddings(tmp_path / "e.npy", EMB, PATHS)
    assert np.array_equal(np.load(tmp_path / "e.npy", allow_pickle=False), EMB)


def test_csv(tmp_path):
    write_embeddings(tmp_path / "e.csv", EMB, PATHS)
    with open(tmp_path / "e.csv", newline="", encoding="utf-8") as file:
        head, *rows = csv.reader(file)
    assert head == ["path", "e0", "e1", "e2"]
    assert [row[0] for row in rows] == PATHS
    assert np.array_equal(np.array([row[1:] for row in rows], float).astype(np.float32), EMB)


@pytest.mark.parametrize("suffix", EMBEDDING_MARKS)
def test_a_file_name_that_is_no_text(tmp_path, suffix):
    """A file of another era's encoding has a name of bytes that are not UTF-8."""
    name = os.fsdecode(b"ziffer-\xe4.png")
    write_embeddings(tmp_path / f"e{suffix}", EMB[:1], [name])
    if suffix == ".csv":
        assert b"\nziffer-\xe4.png," in (tmp_path / "e.csv").read_bytes().replace(b"\r", b"")
    if suffix == ".npz":
        assert read_embeddings(tmp_path / "e.npz", 3)[1] == [name]


@pytest.mark.parametrize("suffix", EMBEDDING_MARKS)
def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch, suffix):
    path = tmp_path / f"e{suffix}"
    write_embeddings(path, EMB, PATHS)
    before = path.read_bytes()

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_embeddings(path, EMB + 1, PATHS)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_missing_file_and_folder(tmp_path):
    fails(tmp_path / "absent.npz", "there is no file")
    fails(tmp_path, "cannot read .*: Is a directory")


def test_no_file_cut_or_changed_is_believed(tmp_path):
    path = tmp_path / "e.npz"
    write_embeddings(path, EMB, PATHS)
    content = path.read_bytes()
    for length in range(0, len(content), 7):
        path.write_bytes(content[:length])
        fails(path, "is damaged or not an .npz")
    rng = np.random.default_rng(0)
    for place in rng.integers(len(content), size=300):
        changed = bytearray(content)
        changed[place] ^= 1 << rng.integers(8)
        path.write_bytes(changed)
        try:
            emb, paths = read_embeddings(path, 3)
        except DataError:
            continue
        assert np.array_equal(emb, EMB) and paths == PATHS  # in the archive's times and the like


def test_a_compressed_archive_with_damage(tmp_path):
    path = tmp_path / "e.npz"
    np.savez_compressed(path, embeddings=np.zeros((500, 3), np.float32), paths=np.array(["a"] * 500))
    assert len(read_embeddings(path, 3)[0]) == 500
    content = bytearray(path.read_bytes())
    start = content.index(b"embeddings.npy") + 60
    content[start : start + 20] = bytes(20)
    path.write_bytes(content)
    fails(path, "is damaged or not an .npz")


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"embeddings": EMB}, "not an .npz of embeddings and paths"),
        ({"emb": EMB, "paths": PATHS}, "not an .npz of embeddings and paths"),
        ({"embeddings": EMB, "paths": PATHS[:4]}, r"not float32 \(5, 3\) and <U\d+ \(4,\)"),
        ({"embeddings": EMB[0], "paths": PATHS[:3]}, r"not float32 \(3,\)"),
        ({"embeddings": EMB[:0], "paths": np.array([], str)}, r"not float32 \(0, 3\)"),
        ({"embeddings": EMB.astype(int), "paths": PATHS}, "not int64"),
        ({"embeddings": EMB, "paths": np.arange(5)}, "and int64"),
        ({"embeddings": EMB, "paths": [PATHS] * 5}, r"and <U\d+ \(5, 5\)"),
        ({"embeddings": np.where(EMB > 0, np.nan, EMB), "paths": PATHS}, "NaN or infinity"),
        ({"embeddings": np.where(EMB > 0, np.inf, EMB), "paths": PATHS}, "NaN or infinity"),
        ({"embeddings": EMB[:, :2], "paths": PATHS}, "embeddings of 2 numbers, but the model makes 3"),
    ],
)
def test_other_arrays(tmp_path, arrays, words):
    np.savez(tmp_path / "e.npz", **arrays)
    fails(tmp_path / "e.npz", words)


def test_a_small_file_takes_little_memory(tmp_path):
    zeros = np.zeros((20_000_000, 3), np.float32)
    bombs = {
        "embeddings": {"embeddings": zeros, "paths": np.array(PATHS)},
        "beside": {"embeddings": EMB, "paths": np.array(PATHS), "more": zeros[:7_000_000]},
        "npy-header": {"embeddings": EMB, "paths": long_npy_header(60_000_000)},
    }
    paths = [tmp_path / f"{name}.npz" for name in bombs]
    for path, members in zip(paths, bombs.values(), strict=True):
        write_npz(path, **members)
    sentences = refusals(READ, paths)
    assert "32 times its size or 64 MiB" in sentences[0] and "64 MiB" in sentences[1]
    assert "'paths' has a header of 60000000 bytes, more than 4096" in sentences[2]


def test_only_regular_files_are_read(tmp_path):
    """A pipe would be waited for, a device read for ever."""
    for sentence, words in zip(refusals(READ, irregular_files(tmp_path)), IRREGULAR, strict=True):
        assert f"{words}, where a regular file is needed" in sentence


def test_arrays_in_another_order(tmp_path):
    np.savez(tmp_path / "e.npz", embeddings=np.asfortranarray(EMB), paths=np.array(PATHS))
    assert np.array_equal(read_embeddings(tmp_path / "e.npz", 3)[0], EMB)


def test_a_path_that_is_no_text(tmp_path):
    paths = np.array(PATHS)
    paths.view(np.uint32)[0] = 0x110000  # above the last code point
    np.savez(tmp_path / "e.npz", embeddings=EMB, paths=paths)
    fails(tmp_path / "e.npz", "is damaged or not an .npz")


class Bomb:
    def __reduce__(self):
        return Path.touch, (Path("unpickled"),)


@pytest.mark.parametrize("name", ["e.npy", "e.npz", "e.pickle", "embeddings.npz"])
def test_nothing_is_unpickled(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    bombs, path = np.array([Bomb()] * 5), tmp_path / name
    if name == "e.npy":
        np.save(path, bombs, allow_pickle=True)
    elif name == "e.npz":
        np.savez(path, embeddings=EMB, paths=bombs)
    elif name == "embeddings.npz":
        np.savez(path, embeddings=bombs, paths=PATHS)
    else:
        path.write_bytes(pickle.dumps(bombs))
    fails(path, "is damaged or not an .npz")
    assert not Path("unpickled").exists()


def test_other_formats_are_told_apart(tmp_path):
    for suffix in (".npy", ".csv"):
        write_embeddings(tmp_path / f"e{suffix}", EMB, PATHS)
        fails(tmp_path / f"e{suffix}", "not an .npz of embeddings and paths")
