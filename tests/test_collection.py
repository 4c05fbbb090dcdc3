"""Collections: appended to, killed, searched; and no file of one is believed that its state does not count."""

import contextlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import write_idx
from PIL import Image

from siamese_np import SiameseNetwork, load_dataset, load_model, mlp, save_model
from siamese_np.backend import use_kernels
from siamese_np.cli import main
from siamese_np.collection import index as index_module
from siamese_np.collection import store
from siamese_np.collection.index import ListIndex, nearest_rows, open_collection
from siamese_np.collection.pictures import count
from siamese_np.collection.store import Collection, Row, Writer
from siamese_np.datasets import DIGIT, InputForm, read_image
from siamese_np.errors import DataError, ModelError
from siamese_np.metrics import nearest

TEST = load_dataset().test


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """A model without any training."""
    path = tmp_path_factory.mktemp("model") / "model.npz"
    save_model(path, SiameseNetwork(mlp(embedding_size=16, seed=0)))
    return path


def save_digit(path: Path, index: int) -> None:
    Image.fromarray(np.rint(TEST.images[index, :, :, 0] * 255).astype(np.uint8)).save(path)


@pytest.fixture
def digits(tmp_path) -> Path:
    """A folder of the folders 0, 1 and 2, each with four pictures of that digit."""
    for digit in range(3):
        folder = tmp_path / "digits" / str(digit)
        folder.mkdir(parents=True)
        for index in np.flatnonzero(TEST.classes == digit)[:4]:
            save_digit(folder / f"{index}.png", index)
    return tmp_path / "digits"


def told(capsys, *arguments, status: int = 0) -> dict:
    """The JSON object of a command that ends with this status."""
    capsys.readouterr()
    assert main([*map(str, arguments), "--json"]) == status
    return json.loads(capsys.readouterr().out)


def mistake(capsys, *arguments) -> str:
    """The one sentence that a command ends with, as the user's mistake."""
    capsys.readouterr()
    assert main([*map(str, arguments)]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("siamese-np: ") and err.count("\n") == 1
    return err


def rows_of(folder: Path) -> list[Row]:
    collection = Collection(folder)
    return [collection.row(i) for i in range(len(collection)) if i not in collection.state["replaced"]]


def make(folder: Path, siamese: SiameseNetwork, rows: list[Row], seed: int = 0) -> np.ndarray:
    """A collection of random embeddings."""
    emb = np.random.default_rng(seed).normal(size=(len(rows), 16)).astype(np.float32)
    with Writer(folder, siamese, DIGIT) as writer:
        writer.append(emb, rows)
    return emb


# --- embed --------------------------------------------------------------------------------------------------


def test_a_collection_holds_embeddings_paths_and_classes_and_is_appended_to(model, digits, tmp_path, capsys):
    out = tmp_path / "collection"
    assert told(capsys, "embed", model, *sorted((digits / "0").iterdir()), "-o", out)["images"] == 4
    first = (out / "embeddings.f32").read_bytes()
    said = told(capsys, "embed", model, digits / "0", digits / "1", digits / "2", digits / "1" / "2.png", "-o", out)
    assert (said["images"], said["already_there"], said["rows"]) == (8, 5, 12)
    collection = Collection(out)
    assert (out / "embeddings.f32").read_bytes().startswith(first)
    paths = [*sorted((digits / "0").iterdir()), *sorted((digits / "1").iterdir()), *sorted((digits / "2").iterdir())]
    rows = [collection.row(i) for i in range(12)]
    assert [row.path for row in rows] == [str(path) for path in paths]
    assert {row.class_name for row in rows} == {None}
    expected = load_model(model).embed(np.stack([read_image(path) for path in paths]))
    np.testing.assert_array_equal(collection.emb, expected)
    for images in (12, 0):  # now their classes are known, so the new rows replace the old ones
        said = told(capsys, "embed", model, digits, "-o", out)
        assert (said["images"], said["already_there"], said["rows"]) == (images, 12 - images, 12)
        assert [row.class_name for row in rows_of(out)] == ["0"] * 4 + ["1"] * 4 + ["2"] * 4
    assert told(capsys, "embed", model, digits / "1", "-o", out)["images"] == 0  # though it tells no class
    assert main(["embed", str(model), str(digits), "-o", str(out)]) == 0
    assert "which holds 12; 12 were there already" in capsys.readouterr().out


def test_a_picture_that_changed_takes_the_place_of_the_old_one(model, digits, tmp_path, capsys):
    out, changed = tmp_path / "collection", next((digits / "0").iterdir())
    told(capsys, "embed", model, digits, "-o", out)
    old = next(i for i, row in enumerate(rows_of(out)) if row.path == str(changed))
    save_digit(changed, np.flatnonzero(TEST.classes == 0)[10])
    said = told(capsys, "embed", model, digits, "-o", out)
    assert (said["images"], said["rows"]) == (1, 12) and Collection(out).state["replaced"] == [old]
    found = told(capsys, "search", model, changed, "--index", out, "-k", 20)["nearest"]
    assert len(found) == 12 and found[0]["path"] == str(changed) and found[0]["distance"] == 0
    assert len({hit["path"] for hit in found}) == 12


def test_one_picture_that_cannot_be_read_loses_no_other(model, digits, tmp_path, capsys):
    for name in ("bad.png", "worse.png"):
        (digits / name).write_text("no picture")
    for out in (tmp_path / "collection", tmp_path / "e.npz"):
        assert main(["embed", str(model), str(digits), "-o", str(out)]) == 1
        said, log = capsys.readouterr()
        assert said.startswith("12 embeddings of 16 numbers written") and "2 could not be read" in said
        assert "skipped: " in log and "bad.png" in log and "worse.png" in log
    said = told(capsys, "embed", model, digits / "bad.png", digits / "0", "-o", tmp_path / "other", status=1)
    assert said["images"] == 4 and [one["path"] for one in said["unreadable"]] == [str(digits / "bad.png")]


def test_where_nothing_can_be_read_nothing_is_written(model, digits, tmp_path, capsys):
    (digits / "bad.png").write_text("no picture")
    for out in (tmp_path / "collection", tmp_path / "e.csv"):
        assert "bad.png is not an image file" in mistake(capsys, "embed", model, digits / "bad.png", "-o", out)
        both = [digits / "bad.png", digits / "absent.png"]
        assert "nor can the other one be used" in mistake(capsys, "embed", model, *both, "-o", out)
        assert not out.exists()


@pytest.mark.parametrize("labels", ["labels.idx", "labels.csv", "heading.csv"])
def test_images_of_an_idx_file_get_their_classes_from_another(labels, model, tmp_path, capsys):
    images = tmp_path / "images.idx.gz"
    write_idx(images, np.rint(TEST.images[:7, :, :, 0] * 255))
    write_idx(tmp_path / "labels.idx", TEST.classes[:7])
    lines = [f"{i},{digit}" for i, digit in enumerate(TEST.classes[:7])]
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    (tmp_path / "heading.csv").write_text("\n".join(["number,label", *lines]) + "\n")
    told(capsys, "embed", model, images, "--labels", tmp_path / labels, "-o", tmp_path / "collection")
    assert [row.class_name for row in rows_of(tmp_path / "collection")] == [str(digit) for digit in TEST.classes[:7]]
    assert rows_of(tmp_path / "collection")[3].path == f"{images}#3"


def test_labels_that_do_not_fit(model, digits, tmp_path, capsys):
    images, labels, out = tmp_path / "images.idx", tmp_path / "labels.csv", tmp_path / "collection"
    write_idx(images, np.rint(TEST.images[:3, :, :, 0] * 255))
    labels.write_text("a\nb\n")
    assert "holds 2 labels, but" in mistake(capsys, "embed", model, images, "--labels", labels, "-o", out)
    assert "is no CSV file" in mistake(capsys, "embed", model, images, "--labels", tmp_path / "no.csv", "-o", out)
    assert "labels are whole numbers" in mistake(capsys, "embed", model, images, "--labels", images, "-o", out)
    assert "the only INPUT" in mistake(capsys, "embed", model, digits, "--labels", labels, "-o", out)
    assert not out.exists()


def test_class_names_of_the_model_are_used(tmp_path, capsys):
    names = ["zero", "one", "two"]
    save_model(tmp_path / "m.npz", SiameseNetwork(mlp(seed=0), class_names=names))
    write_idx(tmp_path / "images.idx", np.rint(TEST.images[:4, :, :, 0] * 255))
    write_idx(tmp_path / "labels.idx", np.arange(4))
    given = [tmp_path / "images.idx", "--labels", tmp_path / "labels.idx", "-o", tmp_path / "collection"]
    told(capsys, "embed", tmp_path / "m.npz", *given)
    assert [row.class_name for row in rows_of(tmp_path / "collection")] == [*names, "3"]


def test_links_and_any_file_name_are_read(model, tmp_path, capsys):
    save_digit(tmp_path / "real.png", 0)
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in ("new\nline.png", "bell\x07.png", os.fsdecode(b"\xe9.png"), "link.png"):
        (folder / name).symlink_to(tmp_path / "real.png")
    assert told(capsys, "embed", model, folder, "-o", tmp_path / "collection")["images"] == 4
    command = [sys.executable, "-m", "siamese_np", "search", model, folder / "link.png"]
    done = subprocess.run([*command, "--index", tmp_path / "collection"], capture_output=True, check=True)
    names = [line.rpartition(b"/")[2] for line in done.stdout.splitlines()]
    assert names == [b"bell\\x07.png", b"link.png", b"new\\nline.png", b"\xe9.png"]
    assert {row.path for row in rows_of(tmp_path / "collection")} == {str(path) for path in folder.iterdir()}


def test_names_on_standard_input_and_patterns(model, digits, tmp_path):
    command = [sys.executable, "-m", "siamese_np", "embed", str(model), "--json", "-o", str(tmp_path / "collection")]
    names = "\n".join(str(path) for path in (digits / "1").iterdir())
    done = subprocess.run([*command, "-", f"{digits}/*/3.png"], input=names, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["images"] == 5


@pytest.mark.long
@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="peak memory is read from /proc")
def test_a_hundred_thousand_pictures_in_little_memory_killed_on_the_way(model, tmp_path):
    """Of an IDX file of 78 MB, which is read whole; what was embedded before the kill is not embedded again."""
    images = np.rint(load_dataset().all_train.images[..., 0] * 255).astype(np.uint8)
    write_idx(tmp_path / "large.idx", np.concatenate([images, images[:40_000]]))
    write_idx(tmp_path / "small.idx", images[:1000])
    script = """if True:
        import sys
        from siamese_np.cli import main
        assert main(sys.argv[1:]) == 0
        status = open("/proc/self/status").read()
        print(int(status.partition("VmHWM:")[2].split()[0]) / 1024)"""

    def command(name: str) -> list[str]:
        given = ["embed", "--json", model, tmp_path / f"{name}.idx", "-o", tmp_path / name]
        return [sys.executable, "-c", script, *map(str, given)]

    def embed(name: str) -> tuple[dict, float]:
        done = subprocess.run(command(name), capture_output=True, text=True, check=True)
        said, megabytes = done.stdout.splitlines()
        return json.loads(said), float(megabytes)

    process = subprocess.Popen(command("large"), stdout=subprocess.DEVNULL)
    while not (tmp_path / "large" / "state.json").exists() or len(Collection(tmp_path / "large")) == 0:
        assert process.poll() is None
        time.sleep(0.02)
    process.kill()
    process.wait()
    there = len(Collection(tmp_path / "large"))
    (_, less), (large, more) = embed("small"), embed("large")
    assert (large["already_there"], large["images"], large["rows"]) == (there, 100_000 - there, 100_000)
    print(f"{there} before the kill, then {large['images_per_second']:.0f} a second; {less:.0f} and {more:.0f} MB")
    assert more - less < 78 + 80
    collection = Collection(tmp_path / "large")
    assert [collection.row(i).path for i in (0, 99_999)] == [f"{tmp_path}/large.idx#{i}" for i in (0, 99_999)]
    some = np.arange(0, 100_000, 997)
    expected = load_model(model).embed(np.float32(images[some % 60_000, ..., None]) / np.float32(255))
    np.testing.assert_array_equal(collection.emb[some], expected)


# --- kills, Ctrl-C, and other writers -----------------------------------------------------------------------

# Kills itself before, in or after the write of a given number; each batch is one commit.
KILLED = """
import os, signal, sys
from siamese_np.cli import main
from siamese_np.collection import embed, pictures, store

at, where = int(sys.argv[1]), sys.argv[2]
os.fsync = lambda descriptor: None  # which takes long, and is for a loss of power
store.COMMIT_SECONDS, pictures.BATCH = 0, 2
count = iter(range(1000))

def killing(function):
    def write(target, content):
        if next(count) == at:
            if where == "in" and function is write_data:
                write_data(target, content[: len(content) // 2])
            elif where == "after":
                function(target, content)
            os.kill(os.getpid(), signal.SIGKILL)
        function(target, content)
    return write

write_data = store._write
store._write, store.write_atomically = killing(write_data), killing(store.write_atomically)

for at in range(int(sys.argv[1]), 100):
    if not os.fork():
        count, folder = iter(range(1000)), f"{sys.argv[4]}/{where}-{at}"
        sys.exit(main(["embed", sys.argv[3], *sys.argv[5:], "-o", folder]))
    if os.waitstatus_to_exitcode(os.wait()[1]) == 0:
        break
print(at)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")
@pytest.mark.parametrize("where", ["before", "in", "after"])
def test_a_kill_at_any_write_leaves_a_whole_collection_that_goes_on(
    where, model, digits, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    monkeypatch.setenv("SIAMESE_NP_KERNELS", "textbook")  # no kernel is loaded in the many processes
    with use_kernels("textbook"):
        _kill_at_any_write(where, model, digits, tmp_path, capsys)


def _kill_at_any_write(where, model, digits, tmp_path, capsys):
    out = tmp_path / "collections"
    out.mkdir()
    command = [sys.executable, "-c", KILLED, "0", where, str(model), str(out), str(digits / "0"), str(digits / "1")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    writes = int(done.stdout.split()[-1])
    assert writes > 10  # the first state, then two files and a state for each of four batches
    paths = [*sorted((digits / "0").iterdir()), *sorted((digits / "1").iterdir())]
    expected = load_model(model).embed(np.stack([read_image(path) for path in paths]))
    kept = []
    for at in range(writes + 1):
        folder = out / f"{where}-{at}"
        if (folder / "state.json").exists():
            there = Collection(folder)  # whole, as it is
            np.testing.assert_allclose(there.emb, expected[: len(there)], atol=1e-5)
            assert [there.row(i).path for i in range(len(there))] == [str(path) for path in paths[: len(there)]]
            kept.append(len(there))
        said = told(capsys, "embed", model, digits / "0", digits / "1", "-o", folder)
        assert said["already_there"] == (kept[-1] if kept else 0) and said["rows"] == 8
        np.testing.assert_allclose(Collection(folder).emb, expected, atol=1e-5)
        assert [row.path for row in rows_of(folder)] == [str(path) for path in paths]
        assert sorted(path.name for path in folder.iterdir()) == sorted(
            [store.EMBEDDINGS, store.ROWS, store.STATE, store.LOCK]
        )
    assert kept == sorted(kept) and {2, 4, 6, 8} <= set(kept)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="signals")
def test_ctrl_c_keeps_what_is_done_and_the_same_command_goes_on(model, digits, tmp_path, capsys):
    out, paths = tmp_path / "collection", [str(path) for path in sorted((digits / "0").iterdir())]
    command = [sys.executable, "-m", "siamese_np", "embed", str(model), "-", "-o", str(out)]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    process.stdin.write("".join(path + "\n" for path in paths[:3]))
    process.stdin.flush()
    while not (out / "state.json").exists():
        assert process.poll() is None
        time.sleep(0.05)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    log = process.communicate(paths[3] + "\n", timeout=60)[1]
    assert process.returncode == 130 and "the same command goes on" in log and "Traceback" not in log
    there = len(Collection(out))
    assert there < 4
    said = told(capsys, "embed", model, *paths, "-o", out)
    assert (said["images"], said["already_there"], said["rows"]) == (4 - there, there, 4)


def test_an_interrupt_leaves_no_part_of_one_file(model, digits, tmp_path, monkeypatch, capsys):
    def interrupted(*arguments):
        os.kill(os.getpid(), signal.SIGINT)
        return iter(())

    monkeypatch.setattr("siamese_np.collection.embed.embedded", interrupted)
    assert main(["embed", str(model), str(digits), "-o", str(tmp_path / "e.npz"), "--json"]) == 130
    assert json.loads(capsys.readouterr().out) == {"error": "interrupted"}
    assert main(["embed", str(model), str(digits), "-o", str(tmp_path / "collection")]) == 130
    assert sorted(path.name for path in tmp_path.iterdir()) == ["digits"]


def test_only_one_process_writes(model, tmp_path):
    siamese = load_model(model)
    with Writer(tmp_path / "c", siamese, DIGIT) as writer:
        with pytest.raises(DataError, match="another process is writing to"):
            Writer(tmp_path / "c", siamese, DIGIT)
        writer.append(np.zeros((1, 16)), [Row("a")])
    make(tmp_path / "c", siamese, [Row("b")])
    assert [row.path for row in rows_of(tmp_path / "c")] == ["a", "b"]


def test_a_full_disk_keeps_what_was_whole(model, tmp_path, monkeypatch):
    siamese, write, left = load_model(model), store._write, iter([True, True, True, False])

    def full(file, content):
        if not next(left):
            write(file, content[:5])
            raise OSError(28, "No space left on device", str(file.name))
        write(file, content)

    monkeypatch.setattr(store, "_write", full)
    with Writer(tmp_path / "c", siamese, DIGIT) as writer:
        writer.append(np.ones((2, 16)), [Row("a"), Row("b")])
        with pytest.raises(OSError, match="No space left"):
            writer.append(np.ones((1, 16)), [Row("c")])
    assert [row.path for row in rows_of(tmp_path / "c")] == ["a", "b"]
    monkeypatch.undo()
    make(tmp_path / "c", siamese, [Row("c")])
    assert [row.path for row in rows_of(tmp_path / "c")] == ["a", "b", "c"]


@pytest.mark.parametrize("call", ["fsync", "open", "replace"])
def test_a_full_disk_before_the_first_state_leaves_nothing(call, model, tmp_path, monkeypatch):
    siamese, function = load_model(model), getattr(os, call)

    def full(path, *rest, **options):
        if call != "open" or str(path).endswith(store.LOCK):
            raise OSError(28, "No space left on device")
        return function(path, *rest, **options)

    monkeypatch.setattr(os, call, full)
    with pytest.raises((OSError, DataError), match="No space left"):
        Writer(tmp_path / "c", siamese, DIGIT)
    assert not (tmp_path / "c").exists()


def test_a_collection_that_cannot_be_written_is_named_and_what_to_do(model, digits, tmp_path, monkeypatch, capsys):
    make(tmp_path / "c", load_model(model), [Row("a")])
    before, open_file = sorted((tmp_path / "c").iterdir()), os.open

    def read_only(path, flags, *rest, **options):
        if flags & os.O_CREAT and str(path).startswith(str(tmp_path / "c")):
            raise OSError(30, "Read-only file system", str(path))
        return open_file(path, flags, *rest, **options)

    monkeypatch.setattr(os, "open", read_only)
    sentence = mistake(capsys, "embed", model, digits, "-o", tmp_path / "c")
    where = f"the collection {tmp_path / 'c'} cannot be written: Read-only file system"
    assert f"{where}; copy it to where it can be" in sentence
    assert sorted((tmp_path / "c").iterdir()) == before


def test_a_link_that_leads_nowhere_is_named(model, digits, tmp_path, capsys):
    (tmp_path / "link").symlink_to(tmp_path / "absent")
    for command in (["embed", model, digits, "-o"], ["learn", "start"], ["reproduce", "--quick", "--out"]):
        assert "link is a link that leads nowhere, but" in mistake(capsys, *command, tmp_path / "link")
    assert [path.name for path in tmp_path.iterdir() if path.name == "absent"] == []


# --- several processes --------------------------------------------------------------------------------------


def test_several_processes_write_the_bytes_of_one(model, digits, tmp_path, capsys):
    write_idx(tmp_path / "images.idx", np.rint(TEST.images[:9, :, :, 0] * 255))
    for name in ("0/bad.png", "2/worse.png"):
        (digits / name).write_text("no picture")
    again = [digits / "1" / "2.png"] * 40  # more than a chunk
    given = [*again, tmp_path / "absent.png", digits, tmp_path / "images.idx", digits / "0", *again]
    said, files = [], []
    for n in (1, 2):
        out, sheet = tmp_path / f"collection{n}", tmp_path / f"sheet{n}.png"
        said.append(told(capsys, "embed", model, *given, "-o", out, "--show", sheet, "--processes", n, status=1))
        files.append([path.read_bytes() for path in (out / store.EMBEDDINGS, out / store.ROWS, sheet)])
        del said[-1]["output"], said[-1]["seconds"], said[-1]["images_per_second"]
    assert said[0] == said[1] and files[0] == files[1]
    names = [one["path"] for one in said[0]["unreadable"]]
    assert [Path(name).name for name in names] == ["absent.png", "bad.png", "worse.png"]
    assert [row.class_name for row in rows_of(out) if row.path.endswith("2.png")] == ["1"]  # not lost by the last ones
    assert "a whole number from 1 to 61, not 0" in mistake(capsys, "embed", model, digits, "-o", out, "--processes", 0)


def test_a_process_that_is_killed_costs_no_picture(model, digits, tmp_path, monkeypatch, capsys):
    paths, out = [str(path) for path in sorted(digits.rglob("*.png"))], tmp_path / "collection"

    def names(inputs):
        yield from paths
        for i in range(100):
            if len(Collection(out)):  # which is committed with each batch
                break
            time.sleep(0.3)
            yield str(tmp_path / f"absent{i}.png")  # which ends chunk and batch
        process, other = multiprocessing.active_children()
        if hasattr(signal, "SIGSTOP"):
            os.kill(other.pid, signal.SIGSTOP)  # as where it waits for a lock that the first one held
        process.kill()
        process.join()
        late.start()
        yield from [str(tmp_path / f"{i}.png") for i in range(99)]

    late = threading.Timer(30, lambda: [process.kill() for process in multiprocessing.active_children()])

    monkeypatch.setattr(store, "COMMIT_SECONDS", 0)
    monkeypatch.setattr("siamese_np.collection.processes.CHUNK", 4)  # of which each process is given one
    with monkeypatch.context() as patch:
        patch.setattr("siamese_np.collection.embed.expanded", names)
        wrong = mistake(capsys, "embed", model, "-", "-o", out, "--processes", 2)
    assert late.is_alive(), "the command waited for a process that nobody ended"
    late.cancel()
    assert "a process that read pictures was killed" in wrong and "goes on where it stopped" in wrong
    there = len(Collection(out))
    said = told(capsys, "embed", model, *paths, "-o", out, "--processes", 2)
    assert (said["already_there"], said["rows"]) == (there, 12) and there
    expected = load_model(model).embed(np.stack([read_image(path) for path in paths]))
    np.testing.assert_array_equal(Collection(out).emb, expected)


FED = """
import sys
from siamese_np.cli import main
from siamese_np.collection import pictures, processes, store

store.COMMIT_SECONDS, pictures.BATCH, processes.CHUNK = 0, 4, 4
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs groups of processes")
@pytest.mark.parametrize("name", ["SIGINT", "SIGKILL"])
def test_a_signal_in_the_middle_leaves_no_process_and_the_command_goes_on(name, model, digits, tmp_path, capsys):
    number = getattr(signal, name)
    out, paths = tmp_path / "collection", [str(path) for path in sorted(digits.rglob("*.png"))]
    command = [sys.executable, "-c", FED, "embed", str(model), "-", "-o", str(out), "--processes", "2"]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    process = subprocess.Popen(command, **pipes, text=True, start_new_session=True)
    process.stdin.write("".join(path + "\n" for path in paths[:8]))
    process.stdin.flush()
    while not (out / "state.json").exists() or not len(Collection(out)):
        assert process.poll() is None
        time.sleep(0.3)
        process.stdin.write(f"{tmp_path / str(time.monotonic())}.png\n")  # absent; it ends chunk and batch
        process.stdin.flush()
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # as the terminal does
    else:
        process.kill()
    log = process.communicate("\n".join(paths[8:]), timeout=60)[1]
    assert process.returncode == (130 if number == signal.SIGINT else -number)
    assert ("the same command goes on" in log) == (number == signal.SIGINT) and "Traceback" not in log
    ended = time.monotonic() + 60
    with contextlib.suppress(ProcessLookupError):
        while os.killpg(process.pid, 0) is None:
            assert time.monotonic() < ended, "a process is left"
            time.sleep(0.1)
    there = len(Collection(out))
    said = told(capsys, "embed", model, *paths, "-o", out, "--processes", 2)
    assert (said["already_there"], said["images"], said["rows"]) == (there, 12 - there, 12) and 0 < there < 12
    expected = load_model(model).embed(np.stack([read_image(path) for path in paths]))
    np.testing.assert_array_equal(Collection(out).emb, expected)


# --- what is refused ----------------------------------------------------------------------------------------


def cut(path: Path, count: int = 1) -> None:
    path.write_bytes(path.read_bytes()[:-count])


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda folder: cut(folder / store.EMBEDDINGS), "embeddings.f32 is truncated: it has 127 bytes"),
        (lambda folder: cut(folder / store.ROWS), "rows.jsonl is truncated"),
        (lambda folder: (folder / store.EMBEDDINGS).unlink(), "cannot read .*embeddings.f32: No such file"),
        (lambda folder: change(folder / store.ROWS, "{", "\n"), "rows.jsonl was changed: its lines"),
        (lambda folder: change(folder / store.ROWS, '"path"', '"htap"'), "line 1 describes no picture"),
        (lambda folder: change(folder / store.ROWS, '"path": "a"', '"path": [1]'), "line 1 describes no picture"),
        (lambda folder: change(folder / store.STATE, '"rows": 2', '"rows": 1'), "rows.jsonl was changed"),
        (lambda folder: change(folder / store.STATE, '"rows": 2', '"rows": -2'), "state.json is damaged"),
        (lambda folder: change(folder / store.STATE, '"rows": 2', '"rows": 2e0'), "state.json is damaged"),
        (lambda folder: change(folder / store.STATE, '"rows": 2', f'"rows": {10**40}'), "state.json is damaged"),
        (lambda folder: change(folder / store.ROWS, "[1, 2]", "   1.0"), "line 1 describes no picture"),
        (lambda folder: change(folder / store.STATE, '"replaced": []', '"replaced": [2]'), "state.json is damaged"),
        (
            lambda folder: change(folder / store.STATE, '"embedding_size": ', '"embedding_size": true, "was": '),
            "damaged",
        ),
        (lambda folder: change(folder / store.STATE, "collection 1", "collection 9"), "state.json is damaged"),
        (lambda folder: change(folder / store.STATE, "{", "[" * 100_000), "state.json is damaged"),
        (lambda folder: cut(folder / store.STATE, 9), "state.json is damaged"),
        (lambda folder: (folder / store.STATE).unlink(), "is no collection|holds other files"),
    ],
)
def test_a_damaged_collection_is_refused(damage, words, model, tmp_path):
    siamese, folder = load_model(model), tmp_path / "c"
    make(folder, siamese, [Row("a", "0", 0.5, [1, 2]), Row("b", "1", None, [3, 4])])
    damage(folder)
    with pytest.raises(DataError, match=words):
        [open_collection(folder, siamese).row(i) for i in range(2)]
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(DataError, match=words):
        Writer(folder, siamese, DIGIT)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_what_lies_behind_the_state_is_cut_off(model, tmp_path):
    siamese, folder = load_model(model), tmp_path / "c"
    first = make(folder, siamese, [Row("a")])
    for name in (store.EMBEDDINGS, store.ROWS):
        with open(folder / name, "ab") as file:
            file.write(b'{"path": "torn' * 100)
    assert len(Collection(folder)) == 1
    second = make(folder, siamese, [Row("b")], seed=1)
    np.testing.assert_array_equal(np.fromfile(folder / store.EMBEDDINGS, "<f4").reshape(2, 16), [*first, *second])
    assert [json.loads(line)["path"] for line in (folder / store.ROWS).read_text().splitlines()] == ["a", "b"]


def test_embeddings_that_are_not_finite_are_neither_written_nor_searched(model, tmp_path):
    siamese, folder = load_model(model), tmp_path / "c"
    make(folder, siamese, [Row("a")])
    with pytest.raises(ModelError, match="embedding of c is NaN"), Writer(folder, siamese, DIGIT) as writer:
        writer.append(np.array([[0.0] * 16, [np.nan] * 16]), [Row("b"), Row("c")])
    (folder / store.EMBEDDINGS).write_bytes(np.full(16, np.nan, "<f4").tobytes())
    with pytest.raises(DataError, match="NaN or infinity"):
        nearest_rows(np.zeros((1, 16), np.float32), open_collection(folder, siamese), 1)


def test_a_collection_of_another_model_views_or_form_is_refused(model, digits, tmp_path, capsys):
    out = tmp_path / "collection"
    told(capsys, "embed", model, digits, "-o", out)
    save_model(tmp_path / "other.npz", SiameseNetwork(mlp(embedding_size=16, seed=1)))
    query = next((digits / "0").iterdir())
    for extra in ([], ["--views"]):
        words = "made without --views" if extra else "made by another model"
        other = model if extra else tmp_path / "other.npz"
        for command in (["embed", other, query, "-o", out], *([name, other, query, "--index", out] for name in ASK)):
            assert words in mistake(capsys, *command, *extra)
    siamese = load_model(model)
    for form in (InputForm("as-is", (28, 28, 1)), InputForm("resize", (28, 28, 1), 0.0)):
        with pytest.raises(DataError, match="was made of pictures read in another way, --as digit"):
            open_collection(out, siamese, form)
        with pytest.raises(DataError, match="was made of pictures read in another way, --as digit"):
            Writer(out, siamese, form)


ASK = ("search", "classify")


def test_a_folder_of_other_things_is_left_alone(model, digits, tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    before = sorted(digits.rglob("*"))
    assert "holds other files, but no state.json" in mistake(capsys, "embed", model, digits, "-o", digits)
    assert "must end in one of" in mistake(capsys, "embed", model, digits, "-o", tmp_path / "e.txt")
    assert "is a file, but a collection needs" in mistake(capsys, "embed", model, digits, "-o", tmp_path / "file")
    assert sorted(digits.rglob("*")) == before and (tmp_path / "file").read_text() == "mine"
    assert "is no collection" in mistake(capsys, "search", model, digits, "--index", digits)


@pytest.mark.skipif(not hasattr(os, "O_NOFOLLOW"), reason="needs O_NOFOLLOW")
@pytest.mark.parametrize("name", [store.EMBEDDINGS, store.ROWS, store.LOCK, store.STATE])
def test_a_link_in_a_collection_is_not_written_through(name, model, tmp_path):
    siamese, folder, outside = load_model(model), tmp_path / "c", tmp_path / "outside"
    make(folder, siamese, [Row("a")])
    outside.write_bytes((folder / name).read_bytes() + b"more")
    before = outside.read_bytes()
    (folder / name).unlink()
    (folder / name).symlink_to(outside)
    with pytest.raises(DataError, match=r"is a link, but|is damaged"):
        make(folder, siamese, [Row("b")])
    assert outside.read_bytes() == before


def test_pipes_are_not_waited_for(model, tmp_path):
    siamese, folder = load_model(model), tmp_path / "c"
    make(folder, siamese, [Row("a")])
    for name in (store.ROWS, store.EMBEDDINGS, store.STATE):
        (folder / name).unlink()
        os.mkfifo(folder / name)
        with pytest.raises(DataError, match="it is a pipe"):
            open_collection(folder, siamese)
        with pytest.raises(DataError, match=r"no regular file|it is a pipe"):
            Writer(folder, siamese, DIGIT)


# --- search and classify ------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 3, 7, 40, 100])
def test_search_in_blocks_is_exact(k, monkeypatch):
    rng = np.random.default_rng(0)
    emb = rng.integers(-2, 3, size=(40, 4)).astype(np.float32)  # with many equal distances
    query, replaced = rng.integers(-2, 3, size=(9, 4)).astype(np.float32), [0, 5, 6, 7, 8, 9, 39]
    monkeypatch.setattr(index_module, "BLOCK_NUMBERS", 5 * 4)
    live = np.setdiff1d(np.arange(40), replaced)
    for rows, gone in ((np.arange(40), ()), (live, replaced)):
        found = nearest_rows(query, ListIndex(emb, [Row(str(i)) for i in range(40)], gone), k)
        indices, distances = nearest(query, emb[rows], min(k, len(rows)))
        np.testing.assert_array_equal(found[0], rows[indices])
        np.testing.assert_array_equal(found[1], distances)


def test_search_for_many_says_class_vote_and_what_cannot_be_read(model, digits, tmp_path, capsys):
    out = tmp_path / "collection"
    told(capsys, "embed", model, digits, "-o", out)
    (digits / "0" / "bad.png").write_text("no picture")
    said = told(capsys, "search", model, digits / "0", f"{digits}/1/*.png", "--index", out, "-k", 3, status=1)
    assert len(said["queries"]) == 8 and [one["path"] for one in said["unreadable"]] == [str(digits / "0" / "bad.png")]
    for query in said["queries"]:
        first, kinds = query["nearest"][0], [hit["class"] for hit in query["nearest"]]
        assert first["path"] == query["query"] and first["distance"] == 0 and first["similar"]
        assert first["class"] == Path(query["query"]).parent.name and len(kinds) == 3
        assert kinds.count(query["class"]) == max(map(kinds.count, kinds)) == round(3 * query["share"])
        assert query["unlike"] is None and query["verdict"] is None
    assert main(["search", str(model), str(digits / "1"), "--index", str(out), "-k", "3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 16 and "png: class " in lines[0] and "% of the votes" in lines[0] and "  1  " in lines[1]


def test_the_json_of_one_query_has_the_keys_it_had(model, digits, tmp_path, capsys):
    query = next((digits / "2").iterdir())
    for out in (tmp_path / "collection", tmp_path / "e.npz"):
        told(capsys, "embed", model, digits, "-o", out)
        said = told(capsys, "search", model, query, "--index", out)
        assert said["threshold"] == 0.5 and len(said["nearest"]) == 5
        assert said["nearest"][0] | {"class": ""} == {"path": str(query), "distance": 0, "similar": True, "class": ""}
        assert said["class"] == ("2" if out.suffix == "" else None)


def test_equal_votes_go_to_the_nearest_and_unknown_classes_have_none(model, digits, tmp_path, capsys):
    paths = [next((digits / name).iterdir()) for name in "012"]
    siamese = load_model(model)
    emb = siamese.embed(np.stack([read_image(paths[0])] * 5)) + np.arange(5)[:, None] * np.float32(0.001)
    kinds = [None, "b", "a", "a", "b"]
    with Writer(tmp_path / "c", siamese, DIGIT) as writer:
        writer.append(emb, [Row(f"{i}", kind) for i, kind in enumerate(kinds)])
    said = told(capsys, "search", model, paths[0], "--index", tmp_path / "c")
    assert (said["class"], said["share"]) == ("b", 0.5)
    said = told(capsys, "classify", model, paths[0], "--index", tmp_path / "c", "-k", 4)["pictures"]
    assert (said[0]["class"], said[0]["share"]) == ("a", 2 / 3)
    assert said[0]["distance"] == pytest.approx(0.002 * 4, rel=0.01)
    assert "knows no classes" in mistake(capsys, "classify", model, paths[0], "--index", tmp_path / "c", "-k", 1)


def test_pictures_are_read_in_the_form_that_is_asked_for(model, digits, tmp_path, capsys):
    query, form = digits / "1" / "2.png", InputForm("as-is", (28, 28, 1))
    Image.fromarray(255 - np.asarray(Image.open(query))).save(query)  # a digit is inverted, as-is it is not
    told(capsys, "embed", model, query, "-o", tmp_path / "c", "--as", "as-is")
    expected = load_model(model).embed(read_image(query, form)[np.newaxis])
    np.testing.assert_array_equal(Collection(tmp_path / "c").emb, expected)
    assert "read in another way, --as as-is" in mistake(capsys, "search", model, query, "--index", tmp_path / "c")
    found = told(capsys, "search", model, query, "--index", tmp_path / "c", "--as", "as-is")
    assert found["nearest"][0]["distance"] == 0
    assert "no input form 'photo'" in mistake(capsys, "compare", model, query, query, "--as", "photo")


def test_a_model_without_classes_cannot_classify(model, digits, capsys):
    assert "has no class names: give --index" in mistake(capsys, "classify", model, digits / "0")


@pytest.fixture
def knowing(model, monkeypatch) -> SiameseNetwork:
    """The model with class names, class means and a calibration by which an image is the more unlike, the darker."""
    siamese = load_model(model)
    siamese.class_names = ["zero", "one", "two"]
    means = [siamese.embed(TEST.images[TEST.classes == digit]).mean(axis=0) for digit in range(3)]
    novelty = SimpleNamespace(limit=0.9, class_means=np.stack(means), classes=np.arange(3))
    monkeypatch.setattr(siamese, "novelty", novelty)
    unlike = lambda images: 1.0 - images.mean(axis=(1, 2, 3))  # noqa: E731
    monkeypatch.setattr(siamese, "embed_scored", lambda images: (siamese.embed(images), unlike(images)))
    monkeypatch.setattr("siamese_np.collection.pictures.load_model", lambda path: siamese)
    return siamese


def test_a_model_that_knows_its_classes_classifies_by_their_means(knowing, model, digits, capsys):
    paths = sorted((digits / "1").iterdir())
    said = told(capsys, "classify", model, digits / "1")["pictures"]
    images = np.stack([read_image(path) for path in paths])
    indices, distances = nearest(knowing.embed(images), knowing.novelty.class_means, 1)
    assert [one["class"] for one in said] == [knowing.class_names[i] for i in indices[:, 0]]
    assert [one["distance"] for one in said] == list(distances[:, 0]) and said[0]["share"] is None
    assert "--views has no means of classes" in mistake(capsys, "classify", model, digits / "1", "--views")


def test_what_is_unlike_anything_gets_a_verdict(knowing, model, digits, tmp_path, capsys):
    (one, zero), out = (sorted((digits / name).iterdir())[0] for name in "10"), tmp_path / "c"
    told(capsys, "embed", model, digits, "-o", out)
    said = {row.path: row.unlike for row in rows_of(out)}
    assert said[str(one)] > 0.9 > said[str(zero)] == pytest.approx(1 - read_image(zero).mean(), abs=1e-6)
    for query, verdict in ((one, "unlike anything it was trained on"), (zero, None)):
        found = told(capsys, "search", model, query, "--index", out)
        assert (found["unlike"], found["verdict"]) == (said[str(query)], verdict)
        assert told(capsys, "classify", model, query)["pictures"][0]["verdict"] == verdict
    both = told(capsys, "compare", model, one, zero)
    assert both["unlike"] == [said[str(one)], said[str(zero)]] and both["verdict"][1] is None
    for command in (["search", model, one, "--index", out], ["compare", model, one, zero], ["classify", model, one]):
        assert main([*map(str, command)]) == 0
        assert capsys.readouterr().out.count("unlike anything it was trained on") == 1


def test_the_model_that_comes_along_classifies_and_knows_what_is_no_digit(digits, tmp_path, capsys):
    noise = np.random.default_rng(0).integers(0, 256, (28, 28), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    paths = [*sorted(digits.rglob("*.png")), tmp_path / "noise.png"]
    *said, last = told(capsys, "classify", "mnist", *paths, "--as", "as-is")["pictures"]
    assert [one["class"] for one in said] == [path.parent.name for path in paths[:-1]]
    assert sum(one["verdict"] is not None for one in said) <= 2 and last["verdict"] is not None
    told(capsys, "embed", "mnist", digits, "-o", tmp_path / "c")
    assert {row.class_name: row.unlike is None for row in rows_of(tmp_path / "c")} == dict.fromkeys("012", False)
    found = told(capsys, "search", "mnist", *paths[:-1], "--index", tmp_path / "c", "-k", 3)["queries"]
    assert [one["class"] for one in found] == [path.parent.name for path in paths[:-1]]


def test_k_that_is_no_number_of_rows(model, digits, tmp_path, capsys):
    told(capsys, "embed", model, digits, "-o", tmp_path / "c")
    for k in (0, -1):
        wrong = mistake(capsys, "search", model, digits / "0", "--index", tmp_path / "c", "-k", k)
        assert f"k must be a whole number from 1 to the 12 rows of the gallery, not {k}" in wrong


def test_an_empty_collection_cannot_be_searched(model, tmp_path):
    siamese = load_model(model)
    with Writer(tmp_path / "c", siamese, DIGIT), pytest.raises(DataError, match="holds no embedding yet"):
        open_collection(tmp_path / "c", siamese)
    assert not (tmp_path / "c").exists()


def test_the_bar_knows_how_many_pictures_come(digits, tmp_path):
    for name in ("images.idx", "images.idx.gz"):
        write_idx(tmp_path / name, np.zeros((7, 3, 3)))
    given = [digits, digits / "0" / "3.png", tmp_path / "images.idx", tmp_path / "images.idx.gz", f"{digits}/1/*.png"]
    assert count([str(name) for name in given]) == 12 + 1 + 7 + 7 + 4
    assert count([str(digits), "-"]) is None and count([str(tmp_path / "empty")]) == 1


# --- the sheet ----------------------------------------------------------------------------------------------


def test_the_sheet_shows_pictures_beside_what_the_network_saw(model, digits, tmp_path, capsys):
    from siamese_np.collection.sheet import GAP, SIDE

    picture = next((digits / "2").iterdir())
    Image.fromarray(255 - np.asarray(Image.open(picture))).resize((280, 140)).save(picture)
    out, png = tmp_path / "collection", tmp_path / "sheet.png"
    commands = {
        "embed": ["embed", model, picture, digits / "1", "-o", out, "--show", png],
        "search": ["search", model, picture, "--index", out, "-k", "3", "--show", png],
        "compare": ["compare", model, picture, digits / "1" / "2.png", "--show", png],
    }
    columns, rows = {"embed": 2, "search": 8, "compare": 2}, {"embed": 5, "search": 1, "compare": 2}
    form = np.rint(255 * read_image(picture)[..., 0]).astype(np.uint8)
    for name, command in commands.items():
        assert main([str(part) for part in command]) == 0
        assert f"sheet: {png}" in capsys.readouterr().out
        sheet = np.asarray(Image.open(png))
        assert sheet.shape[1] == GAP // 2 + columns[name] * (SIDE + GAP)
        top, left = 26, GAP // 2 + SIDE + GAP
        assert (sheet.shape[0] - top) % rows[name] == 0
        shown = sheet[top : top + SIDE, left : left + SIDE, 0]
        np.testing.assert_array_equal(shown[2::4, 2::4], form)
        before = sheet[top : top + SIDE // 2, GAP // 2 : GAP // 2 + SIDE, 0]
        assert before[0, 0] == 255 and before.min() < 50
        if name == "search":  # the nearest is the query itself, shown in the same way
            hit = sheet[top : top + SIDE, GAP // 2 + 3 * (SIDE + GAP) : GAP // 2 + 3 * (SIDE + GAP) + SIDE, 0]
            np.testing.assert_array_equal(hit, shown)


def test_a_sheet_without_the_pictures_that_are_gone(model, digits, tmp_path, capsys):
    first, *others = sorted((digits / "0").iterdir())
    told(capsys, "embed", model, digits / "0", "-o", tmp_path / "c")
    for path in others:
        path.unlink()
    said = told(capsys, "search", model, first, "--index", tmp_path / "c", "--show", tmp_path / "s.png")
    assert len(said["nearest"]) == 4 and (tmp_path / "s.png").exists()


def test_a_long_sheet_is_cut_with_a_sentence(model, tmp_path, capsys):
    write_idx(tmp_path / "images.idx", np.rint(TEST.images[:300, :, :, 0] * 255))
    given = [model, tmp_path / "images.idx", "-o", tmp_path / "c", "--show", tmp_path / "s.png"]
    assert main(["embed", *map(str, given)]) == 0
    assert "the first 64 of 300 pictures" in capsys.readouterr().out


def test_a_sheet_replaces_sheets_only(model, digits, tmp_path, capsys):
    picture = next((digits / "0").iterdir())
    before = picture.read_bytes()
    words = "was not written by --show, and is not replaced"
    assert words in mistake(capsys, "compare", model, picture, picture, "--show", picture)
    (tmp_path / "text.png").write_text("mine")
    assert words in mistake(capsys, "embed", model, picture, "-o", tmp_path / "c", "--show", tmp_path / "text.png")
    (tmp_path / "link.png").symlink_to(picture)
    assert words in mistake(capsys, "compare", model, picture, picture, "--show", tmp_path / "link.png")
    assert "must end in .png" in mistake(capsys, "compare", model, picture, picture, "--show", tmp_path / "s.jpg")
    assert "no folder" in mistake(capsys, "compare", model, picture, picture, "--show", tmp_path / "no" / "s.png")
    assert picture.read_bytes() == before and not (tmp_path / "c").exists()
    for _ in range(2):
        assert main(["compare", str(model), str(picture), str(picture), "--show", str(tmp_path / "s.png")]) == 0
