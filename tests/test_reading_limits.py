"""Files that are read whole, and JSON: only regular files, of at most a size that is told, and nothing ambiguous."""

import gzip
import math

import pytest
from conftest import IRREGULAR, irregular_files, refusals

from siamese_np.collection.pictures import count
from siamese_np.datasets.idx import idx_count
from siamese_np.errors import DataError
from siamese_np.reading import parse_json, read_whole

READERS = {
    "results": "from pathlib import Path\nfrom siamese_np.bench.compare import read_results\n"
    "read = lambda path: read_results(Path(path))",
    "pairs": "from siamese_np.evaluation_pairs import load_evaluation_pairs\n"
    "read = lambda path: load_evaluation_pairs(file=path)",
    "measured": "from pathlib import Path\nfrom siamese_np.reproduce.command import _read\n"
    "read = lambda path: _read(Path(path), False)",
    "table": "from siamese_np.datasets.tables import csv_source as read",
    "archive": "from siamese_np.datasets.tables import npz_source as read",
}


@pytest.mark.parametrize("name", list(READERS))
def test_only_regular_files_are_read(name, tmp_path):
    """A pipe would be waited for, a device read for ever."""
    for sentence, words in zip(refusals(READERS[name], irregular_files(tmp_path)), IRREGULAR, strict=True):
        assert f"{words}, where a regular file is needed" in sentence


@pytest.mark.parametrize("name", ["results", "pairs", "measured"])
def test_a_large_file_is_not_read(name, tmp_path):
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(10**9)
    (sentence,) = refusals(READERS[name], [path])
    assert "it has 1000000000 bytes, more than the" in sentence


def test_a_wide_table_is_not_taken_apart(tmp_path):
    path = tmp_path / "wide.csv"
    path.write_bytes(b"0," * 8_000_000 + b"0\n")
    (sentence,) = refusals(READERS["table"], [path])
    assert "more than 1048576 columns" in sentence


def test_a_table_that_ends_each_line_with_a_carriage_return(tmp_path):
    (tmp_path / "old.csv").write_bytes(b"label,a\r1,2\r")
    (sentence,) = refusals(READERS["table"], [tmp_path / "old.csv"])
    assert "has a first line that is none of a table" in sentence


def test_a_file_of_the_largest_size_is_read(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    assert read_whole(path, 5) == b"12345"
    with pytest.raises(OSError, match="it has 5 bytes, more than the 4 that are read"):
        read_whole(path, 4)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"a": 1, "b": {"c": 2, "c": 2}}', "gives a name twice"),
        ('{"a": [NaN]}', "holds NaN, where numbers must be finite"),
        ("-Infinity", "holds -Infinity"),
        ("1e400", "holds 1e400"),
        ("[" * 100_000, "nested too deeply"),
        ("{", "Expecting"),
        (b"\xff", "decode"),
        ("", "Expecting"),
    ],
)
def test_what_is_no_plain_json(text, words):
    with pytest.raises(ValueError, match=words):
        parse_json(text)


def test_plain_json():
    assert parse_json(b'\xef\xbb\xbf{"a": [1, 2.5, "x", null], "b": {"a": 1}}') == {
        "a": [1, 2.5, "x", None],
        "b": {"a": 1},
    }
    assert math.isnan(parse_json("[NaN]", finite=False)[0])


@pytest.mark.parametrize("damage", [slice(0, 12), slice(0, 3)])
def test_images_of_a_damaged_file_cannot_be_counted(damage, tmp_path):
    path = tmp_path / "images"
    content = gzip.compress(bytes(100))
    for damaged in (content[damage], content[:10] + b"\xff" * 10):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match="images is a truncated or damaged gzip file"):
            idx_count(str(path))
        assert count([str(path)]) is None
