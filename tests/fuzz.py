"""Damaged files of every format that is read: each must load, or be refused in one sentence, in little memory and time.

`FORMATS` makes the files and says how each is read; `damage` changes one; `attempt` reads it. test_fuzz.py does so with
the choices of hypothesis. For a long run, with the choices of a generator of random numbers:

    python tests/fuzz.py FORMAT COUNT [SEED]          or all of them: python -m pytest -m long tests/test_fuzz.py -s

Some formats have checksums, behind which damage to the file as it lies on the disk does not get. So one part of a file
(a member of an archive, an unpacked stream, a JSON value) may be damaged before the whole is made of it.
"""

import gzip
import io
import json
import math
import random
import struct
import sys
import tempfile
import time
import warnings
import zipfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from siamese_np import Dense, Flatten, Sequential, SiameseNetwork, load_dataset, load_model
from siamese_np.bench.compare import read_results
from siamese_np.checkpoint import save_checkpoint
from siamese_np.collection.store import Collection, Row, Writer
from siamese_np.config import TrainConfig
from siamese_np.datasets import Dataset, Split, read_idx, read_images
from siamese_np.datasets.input_form import DIGIT
from siamese_np.errors import SiameseError
from siamese_np.learn.folder import progress, record
from siamese_np.run import resumed
from siamese_np.storage import read_embeddings, write_embeddings
from siamese_np.training import Training

ROOT = Path(__file__).parent.parent
SECONDS = 5.0  # of processor time; a second is usual for none
HANGS = 120.0  # seconds after which the long run gives up
MEGABYTES = 200  # beyond twice the size of the file
Choose = Callable[[int], int]  # a whole number from 0 to below the one given


class Part(NamedTuple):
    """A part of the file `name` that is damaged: bytes, or a JSON value; `whole` makes the file of it."""

    name: str
    content: Any
    whole: Callable[[Any], bytes] = lambda content: content


class Format(NamedTuple):
    """Files of one format in a folder, the parts that are damaged, and what reads the folder."""

    files: dict[str, bytes]
    parts: list[Part]
    read: Callable[[Path], object]


class Outcome(NamedTuple):
    """What reading came to: the sentence of a refusal, or None; megabytes more than before, and processor time."""

    sentence: str | None
    megabytes: float
    seconds: float


# --- Damage -----------------------------------------------------------------------------------------------------------

NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, (1 << 63) - 1, (1 << 64) - 1)
VALUES = (None, True, -1, 0, 1, 2.5, 10**6, 10**18, 10**400, 1e308, math.nan, math.inf, "", "float16", "x" * 5000)
VALUES += ([], {}, [[]], [0] * 1000, {"class": "Dense"})


def damage(format: Format, choose: Choose) -> dict[str, bytes]:
    """The files of a format, one of them damaged."""
    part = format.parts[choose(len(format.parts))]
    changed = _bytes if isinstance(part.content, bytes) else _value
    return {**format.files, part.name: part.whole(changed(part.content, choose))}


def _bytes(content: bytes, choose: Choose) -> bytes:
    """One to four places changed, as often near the start, where formats say how much follows, as anywhere."""
    damaged = bytearray(content)
    for _ in range(1 + choose(4)):
        start = choose(1 + min(len(damaged), 64 if choose(2) else len(damaged)))
        way, length = choose(6), 1 + choose(32)
        if way == 0 and start < len(damaged):
            damaged[start] ^= 1 << choose(8)
        elif way == 1:
            damaged[start : start + 1] = bytes([choose(256)])
        elif way == 2:
            number, width = NUMBERS[choose(len(NUMBERS))], 1 << choose(4)
            order = ("little", "big")[choose(2)]
            damaged[start : start + width] = (number % (1 << 8 * width)).to_bytes(width, order)
        elif way == 3:
            del damaged[start : start + length]
        elif way == 4:
            source = choose(1 + len(damaged))
            damaged[start:start] = damaged[source : source + length] * (1 + choose(3))
        elif way == 5:
            del damaged[start:]
    return bytes(damaged)


def _value(value: Any, choose: Choose) -> Any:
    """A JSON value with one value in it, or a key, replaced or left out."""
    if isinstance(value, (dict, list)) and value and choose(8):
        keys = list(value) if isinstance(value, dict) else range(len(value))
        key, copy = keys[choose(len(keys))], value.copy()
        copy[key] = _value(value[key], choose)
        if not choose(8):
            del copy[key]
        return copy
    return VALUES[choose(len(VALUES))]


# --- Formats ----------------------------------------------------------------------------------------------------------


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


def _npz_parts(name: str, content: bytes) -> list[Part]:
    """The archive, each member, and the JSON of the header."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {member: archive.read(member) for member in archive.namelist()}

    def zipped(member: str, damaged: bytes) -> bytes:
        made = io.BytesIO()
        with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
            for other, unchanged in members.items():
                archive.writestr(other, damaged if other == member else unchanged)
        return made.getvalue()

    def headed(value: Any) -> bytes:
        header = io.BytesIO()
        np.save(header, np.array(json.dumps(value)))
        return zipped("header.npy", header.getvalue())

    parts = [Part(name, content)]
    parts += [
        Part(name, inner, lambda damaged, member=member: zipped(member, damaged)) for member, inner in members.items()
    ]
    if "header.npy" in members:
        header = json.loads(str(np.load(io.BytesIO(members["header.npy"]))))
        parts += [Part(name, header, headed)] * len(members)
    return parts


def _with_checksums(png: bytes) -> bytes:
    """A PNG file whose chunks have the checksums of what is in them."""
    made, start = bytearray(png), 8
    while start + 12 <= len(made):
        (length,) = struct.unpack_from(">I", made, start)
        end = start + 8 + length
        if end + 4 > len(made):
            break
        struct.pack_into(">I", made, end, zlib.crc32(made[start + 4 : end]))
        start = end + 4
    return bytes(made)


def _blobs(N: int) -> Split:
    images = np.arange(N * 16, dtype=np.float32).reshape(N, 4, 4, 1) % 7 / 28
    images[1::2, :2] += np.float32(0.5)
    return Split(images, np.arange(N) % 2)


BLOBS = Dataset("blobs", _blobs(64), _blobs(32), _blobs(32))


def _network() -> Sequential:
    return Sequential([Flatten(), Dense(16, 4, seed=0)], (4, 4, 1))


def _model(version: int) -> Format:
    content = (ROOT / "tests" / "data" / f"model-{version}.npz").read_bytes()
    return Format({"model.npz": content}, _npz_parts("model.npz", content), load_model)


def _made(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "lock"}


def _checkpoint(folder: Path) -> Format:
    save_checkpoint(folder, Training(TrainConfig(epochs=3, batch_size=16), BLOBS, network=_network()))
    files = _made(folder)
    parts = _npz_parts("checkpoint.npz", files["checkpoint.npz"])
    return Format(files, parts, lambda folder: resumed(folder, BLOBS, network=_network()))


def _embeddings(folder: Path) -> Format:
    write_embeddings(folder / "index.npz", np.eye(5, 4, dtype=np.float32), [f"{i}.png" for i in range(5)], "made by")
    files = _made(folder)
    return Format(files, _npz_parts("index.npz", files["index.npz"]), lambda at: read_embeddings(at / "index.npz", 4))


def _collection(folder: Path) -> Format:
    siamese = SiameseNetwork(_network())
    with Writer(folder, siamese, DIGIT) as writer:
        writer.append(np.eye(5, 4), [Row(f"{i}.png", "a", 0.5, [1, i]) for i in range(5)])

    def read(folder: Path) -> None:
        collection = Collection(folder)
        collection.check_made_by(siamese, DIGIT)
        for i in range(len(collection)):
            collection.row(i)

    files = _made(folder)
    parts = [Part(name, content) for name, content in files.items()]
    parts += [Part("state.json", json.loads(files["state.json"]), _json)] * 3
    first, *others = files["rows.jsonl"].splitlines(keepends=True)
    parts += [Part("rows.jsonl", json.loads(first), lambda row: b"".join([_json(row), b"\n", *others]))] * 2
    return Format(files, parts, read)


def _idx(zipped: bool) -> Format:
    parts = []
    for code, array in ((8, np.arange(50, dtype=">u1").reshape(2, 5, 5)), (0x0E, np.arange(6, dtype=">f8"))):
        content = struct.pack(f">HBB{array.ndim}I", 0, code, array.ndim, *array.shape) + array.tobytes()
        whole = (lambda damaged: gzip.compress(damaged, mtime=0)) if zipped else bytes
        parts += [Part("images-idx", content, whole), Part("images-idx", whole(content))]
    return Format({"images-idx": parts[1].content}, parts, lambda folder: read_idx(folder / "images-idx"))


def _picture(kind: str) -> Format:
    """Pictures of one kind, grey and in colour."""
    light = np.uint8(np.hypot(*np.mgrid[-24:24, -18:18]) < 14) * 200 + 20
    ways: list[dict[str, Any]] = [{}]
    if kind == "TIFF":
        ways += [{"compression": compression} for compression in ("tiff_lzw", "tiff_adobe_deflate", "packbits")]
    parts = []
    for mode in ("L", "RGB", "RGBA") if kind in ("PNG", "TIFF", "WEBP", "TGA") else ("L", "RGB"):
        for way in ways:
            made = io.BytesIO()
            Image.fromarray(light).convert(mode).save(made, kind, **way)
            parts.append(Part("picture.png", made.getvalue()))
            if kind == "PNG":
                parts.append(Part("picture.png", made.getvalue(), _with_checksums))
    return Format({"picture.png": parts[0].content}, parts, lambda folder: list(read_images([folder / "picture.png"])))


def _table(folder: Path) -> Format:
    images = np.tile(np.arange(48).reshape(3, 16) * 5, (20, 1))
    rows = [[i % 3, *image] for i, image in enumerate(images.tolist())]
    text = "\n".join(["label," + ",".join(f"pixel{i}" for i in range(16)), *(",".join(map(str, row)) for row in rows)])
    content = text.encode() + b"\n"
    return Format(
        {"digits.csv": content}, [Part("digits.csv", content)], lambda folder: load_dataset(folder / "digits.csv")
    )


def _arrays(folder: Path) -> Format:
    images, made = np.tile(np.arange(48, dtype=np.uint8).reshape(3, 4, 4) * 5, (20, 1, 1)), io.BytesIO()
    np.savez(made, x_train=images, y_train=np.arange(60) % 3, x_test=images, y_test=np.arange(60) % 3)
    content = made.getvalue()
    return Format(
        {"digits.npz": content}, _npz_parts("digits.npz", content), lambda folder: load_dataset(folder / "digits.npz")
    )


def _progress(folder: Path) -> Format:
    record(folder, {"dense": {"passed": True, "hints": 1}, "relu": {"passed": False, "hints": 0}})
    files = _made(folder)
    (content,) = files.values()
    parts = [Part("progress.json", content), Part("progress.json", json.loads(content), _json)]
    return Format(files, parts, progress)


def _benchmark(folder: Path) -> Format:
    def short(value: Any) -> Any:
        if isinstance(value, list):
            return [short(entry) for entry in value[:3]]
        return {key: short(entry) for key, entry in value.items()} if isinstance(value, dict) else value

    value = short(json.loads((ROOT / "benchmarks" / "results" / "bench" / "benchmark.json").read_bytes()))
    content = _json(value)
    parts = [Part("benchmark.json", content), Part("benchmark.json", value, _json)]
    return Format({"benchmark.json": content}, parts, read_results)


PICTURES = ("AVIF", "BMP", "DIB", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TGA", "TIFF", "WEBP")
FORMATS: dict[str, Callable[[Path], Format]] = {
    "model": lambda folder: _model(2),
    "model-1": lambda folder: _model(1),
    "checkpoint": _checkpoint,
    "embeddings": _embeddings,
    "collection": _collection,
    "idx": lambda folder: _idx(False),
    "idx-gz": lambda folder: _idx(True),
    **{kind.lower(): lambda folder, kind=kind: _picture(kind) for kind in PICTURES},
    "csv": _table,
    "npz": _arrays,
    "progress": _progress,
    "benchmark": _benchmark,
}


def make(name: str) -> Format:
    """The format of this name; LookupError where this Pillow cannot write it."""
    Image.init()
    if name.upper() in PICTURES and name.upper() not in Image.SAVE:
        raise LookupError(f"this Pillow writes no {name}")
    with tempfile.TemporaryDirectory() as folder:
        return FORMATS[name](Path(folder))


# --- Reading ----------------------------------------------------------------------------------------------------------


def _memory(name: str) -> float:
    """Megabytes now in use (VmRSS), or the most that were (VmHWM); 0 where the system does not say."""
    with suppress(OSError), open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(name)) / 1024
    return 0.0


def attempt(format: Format, files: dict[str, bytes], folder: Path) -> Outcome:
    """Read these files in a folder; AssertionError where that is not as it must be."""
    for name, content in files.items():
        (folder / name).write_bytes(content)
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # so that VmHWM starts anew
    before, start, sentence = _memory("VmRSS"), time.process_time(), None
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            format.read(folder)
        except SiameseError as error:
            sentence = str(error)
    outcome = Outcome(sentence, _memory("VmHWM") - before, time.process_time() - start)
    assert not [one for one in said if issubclass(one.category, RuntimeWarning)], f"warns: {said[0].message}"
    names = [str(folder), *(name.partition(".")[0] for name in format.files)]
    named = sentence is None or any(name in sentence for name in names)
    assert named and "\n" not in str(sentence), f"says {sentence!r}"
    assert outcome.megabytes < MEGABYTES + 2 * sum(map(len, files.values())) / 1e6, outcome
    assert outcome.seconds < SECONDS, outcome
    return outcome


def main(name: str, count: str, seed: str = "0") -> None:
    """Read so many damaged files, in limited memory and time, and print what was most; an error tells which it was."""
    import resource
    import signal

    format = make(name)
    loaded, most, longest = 0, 0.0, 0.0
    limit = int(_memory("VmSize") + 1024) << 20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    with tempfile.TemporaryDirectory() as folder:
        attempt(format, format.files, Path(folder))  # what is only done once
        for number in range(int(count)):
            rng = random.Random(f"{name} {seed} {number}")
            signal.setitimer(signal.ITIMER_REAL, HANGS)  # which ends the process
            try:
                outcome = attempt(format, damage(format, rng.randrange), Path(folder))
            except BaseException as error:
                error.args = (f"{name} {seed} {number}: {error}",)
                raise
            loaded += outcome.sentence is None
            most, longest = max(most, outcome.megabytes), max(longest, outcome.seconds)
    print(json.dumps({"format": name, "tried": int(count), "loaded": loaded, "megabytes": most, "seconds": longest}))


if __name__ == "__main__":
    main(*sys.argv[1:])
