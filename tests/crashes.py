"""Ends short commands in every way there is, and looks at what is left: run by test_kills.py in a process of its own.

    crashes.py FOLDER COMMAND kill [NAME ...]       SIGKILL before each call of these functions in turn (all of NAMES)
    crashes.py FOLDER COMMAND ERRNO [NAME ...]      each call in turn fails with this error
    crashes.py FOLDER COMMAND gone [NAME ...]       before each call in turn the folder that is written is removed
    crashes.py FOLDER COMMAND again [NAME ...]      as kill, while a run is overwritten, or a collection appended to
    crashes.py FOLDER COMMAND signals COUNT SEED    a random signal at a random moment

WAY/N is every Nth call only. COMMAND is train or embed. Forks once for each command, so that everything is imported
and compiled once. Prints what became of how many, as JSON.
"""

import errno
import json
import os
import random
import shutil
import signal
import sys
import time
import traceback
from collections import Counter
from pathlib import Path

import numpy as np

from siamese_np import load_model, run_folder
from siamese_np.cli import main
from siamese_np.collection import pictures, store
from siamese_np.report import page
from siamese_np.storage import write_atomically

NAMES = ("mkdir", "open", "write", "fsync", "chmod", "replace", "unlink", "truncate")
TIMES = {"seconds", "images_per_second", "embeddings_per_second", "compile_seconds", "run"}
WHOLE = {"metrics.json", "report.html", "history.csv", "model.npz", "checkpoint.npz"}
WHOLE |= {f"{name}.png" for name in run_folder.PICTURES}


def draw(folder, *rest):
    """Files like pictures, which take time and are not what this is about."""
    for name in run_folder.PICTURES:
        write_atomically(folder / f"{name}.png", b"picture")


class File:
    """An open file that may fail in the middle of what is written to it."""

    def __init__(self, file, act):
        self.file, self.act = file, act

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.file.close()

    def __getattr__(self, name):
        return getattr(self.file, name)

    def write(self, content):
        half = len(content) // 2
        self.file.write(content[:half])
        self.file.flush()
        self.act("write")
        self.file.write(content[half:])
        return len(content)

    def truncate(self, size):
        self.act("truncate")
        self.file.truncate(size)


def fail_at(last, names, fail):
    """Let call number `last` of the functions `names` of `os`, and of files, fail; the file `fired` tells of it."""
    calls = iter(range(last + 1))

    def act(name, path=None):
        if name in names and next(calls, last + 1) == last:
            FIRED.touch()
            fail(path)

    def failing(name, function):
        def called(*arguments, **options):
            if name != "open" or arguments[1] & os.O_CREAT:  # what is only read is no matter
                act(name, arguments[0] if isinstance(arguments[0], str | Path) else None)
            return function(*arguments, **options)

        return called

    fdopen = os.fdopen
    os.fdopen = lambda *arguments, **options: File(fdopen(*arguments, **options), act)
    store.open = lambda *arguments, **options: File(open(*arguments, **options), act)  # noqa: SIM115
    for name in set(names) - {"write", "truncate"}:
        setattr(os, name, failing(name, getattr(os, name)))


def child(arguments, prepare=lambda: None):
    """The process id of a command, which logs to the file `log`."""
    signals = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)  # what comes while Python forks would be lost
    pid = os.fork()
    if pid:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
    else:
        status = 99
        try:
            for number in signals:  # a shell has its background ignore some
                signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
            sys.stderr = open(LOG, "w")  # noqa: SIM115
            prepare()
            status = main([*map(str, arguments)])
        except KeyboardInterrupt:  # before the command began
            status = 130
        except BaseException:
            signal.pthread_sigmask(signal.SIG_BLOCK, signals)
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    return pid


def ended(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


class Training:
    """A training, and what its run folder must hold."""

    done = "metrics.json"  # the last file that is written
    locks = False  # whether the lock stays when the command has ended

    def __init__(self):
        self.options = ["--data", FOLDER / "data.npz", "--preset", "mlp", "--epochs", "3", "--batch-size", "8"]

    def start(self, run, *more):
        return ["train", *self.options, "--out", run, *more]

    def prepare(self, other):
        """Make the run that is overwritten; what is to be said then."""
        assert ended(child(self.start(other, "--seed", "1"))) == 0, LOG.read_text()
        return ["--overwrite"]

    def often(self, chance):
        return ["--checkpoint-every", chance.choice(["0.001", "60"])]

    def goes_on(self, run):
        return f"`siamese-np train --resume {run}` goes on"

    def state(self, run):
        begun = (run / "checkpoint.npz").exists()
        return "complete" if (run / self.done).exists() else "to be resumed" if begun else "not begun"

    def check(self, run):
        """What is there is whole; with a report, it is of the model."""
        if (run / "model.npz").exists():
            load_model(run)
        if (run / "metrics.json").exists():
            assert {path.name for path in run.iterdir()} >= WHOLE, run
            assert load_model(run).threshold == self.reported(run)["threshold"], run

    def finish(self, run, start):
        """Take the run to its end, as its user would."""
        if self.state(run) != "complete":
            resume = ["train", "--resume", run, "--quiet"]
            assert ended(child(start if self.state(run) == "not begun" else resume)) == 0, LOG.read_text()

    def same(self, run, *wholes):
        """The finished run is one of these, to the bit, and no other file is there."""
        assert {path.name for path in run.iterdir()} - {"lock"} == WHOLE, sorted(run.iterdir())
        whole = next(whole for whole in wholes if self.reported(whole) == self.reported(run))
        for name in ("model.npz", "checkpoint.npz"):
            with np.load(run / name) as one, np.load(whole / name) as other:
                assert one.files == other.files
                assert all(np.array_equal(one[array], other[array]) for array in one.files if array != "header"), run

    def reported(self, run):
        metrics = json.loads((run / "metrics.json").read_text())
        return {name: value for name, value in metrics.items() if name not in TIMES}


class Embedding:
    """A collection that is written, in batches of 8 images."""

    done = store.STATE
    locks = True
    files = frozenset({store.EMBEDDINGS, store.ROWS, store.STATE, store.LOCK})

    def __init__(self):
        pictures.BATCH, store.COMMIT_SECONDS = 8, 0
        self.inputs = [FOLDER / "first.idx", FOLDER / "second.idx"]
        for seed, path in enumerate(self.inputs):
            images = np.random.default_rng(seed).integers(0, 256, (20, 4, 4), np.uint8)
            path.write_bytes(bytes([0, 0, 8, 3]) + np.array(images.shape, ">i4").tobytes() + images.tobytes())
        self.count = 40

    def start(self, run, *more):
        return ["embed", FOLDER / "warm", *(more or self.inputs), "-o", run]

    def prepare(self, other):
        """Make the collection that is appended to."""
        assert ended(child(self.start(other, self.inputs[0]))) == 0, LOG.read_text()
        return []

    def often(self, chance):
        return []

    def goes_on(self, run):
        return "interrupted; the same command goes on where it stopped"

    def state(self, run):
        rows = len(store.Collection(run)) if (run / self.done).exists() else -1
        return "complete" if rows == self.count else "not begun" if rows < 0 else "to be resumed"

    def check(self, run):
        """All rows that the state counts are there, and are those of the whole collection."""
        if (run / self.done).exists():
            one, whole = store.Collection(run), store.Collection(FOLDER / "whole")
            assert [one.row(i) for i in range(len(one))] == [whole.row(i) for i in range(len(one))]
            assert np.array_equal(one.emb, whole.emb[: len(one)])

    def finish(self, run, start):
        """The same command again, also where all is there."""
        assert ended(child(start)) == 0, LOG.read_text()

    def same(self, run, whole, *_):
        """The finished collection is this one, to the bit, and no other file is there."""
        assert {path.name for path in run.iterdir()} == self.files, sorted(run.iterdir())
        for name in self.files:
            assert (run / name).read_bytes() == (whole / name).read_bytes(), name


def each_call(command, way, step, names):
    again, kill = way == "again", way in ("kill", "again")
    whole, other, told, last = FOLDER / "whole", FOLDER / "other", Counter(), 0
    assert ended(child(command.start(whole))) == 0, LOG.read_text()
    more = command.prepare(other) if again else []
    FIRED.touch()
    while FIRED.exists():
        FIRED.unlink()
        run = FOLDER / str(last)
        if again:
            shutil.copytree(other, run)
        start = command.start(run, *more)

        def fail(path):
            if kill:
                os.kill(os.getpid(), signal.SIGKILL)
            if way != "gone":
                raise OSError(getattr(errno, way), os.strerror(getattr(errno, way)), path)
            shutil.rmtree(run, ignore_errors=True)  # noqa: B023

        status = ended(child(start, lambda: fail_at(last, names, fail)))  # noqa: B023
        if status == 2:
            *_, sentence = LOG.read_text().splitlines()
            assert sentence.startswith("siamese-np: ") and str(run) in sentence, LOG.read_text()
            assert "Traceback" not in LOG.read_text()
            assert not list(run.glob(".*")) and (command.locks or not (run / "lock").exists()), sorted(run.iterdir())
        assert status in (-signal.SIGKILL if kill and FIRED.exists() else 0, 0 if kill else 2), LOG.read_text()
        if run.exists():
            command.check(run)
        state = command.state(run)
        assert status != 2 or state != "not begun" or not run.exists(), sorted(run.iterdir())
        told[state] += 1
        told["survived"] += status == 0
        command.finish(run, start)
        command.same(run, whole, *[other] * again)
        if state == "complete" and not command.locks:  # a killed process may leave a lock, which does not matter
            (run / "lock").unlink(missing_ok=True)
        assert command.locks or not (run / "lock").exists()
        shutil.rmtree(run)
        last += step
    return told


def signals(command, count, seed):
    chance, whole = random.Random(seed), FOLDER / "whole"
    start = time.monotonic()
    assert ended(child(command.start(whole))) == 0, LOG.read_text()
    seconds, told = time.monotonic() - start, Counter()
    for number in range(count):
        run, kind = FOLDER / str(number), ("KILL", "TERM", "INT", "INT INT", "HUP")[number % 5]
        pid = child(command.start(run, *command.often(chance)))
        time.sleep(chance.uniform(0, seconds))
        for name in kind.split():
            os.kill(pid, getattr(signal, f"SIG{name}"))
            time.sleep(chance.uniform(0, 0.03))
        status = ended(pid)
        before_the_command = not run.exists() and status == -getattr(signal, f"SIG{kind.split()[0]}")
        assert before_the_command or status in (0, -signal.SIGKILL if kind == "KILL" else 130), (
            status,
            LOG.read_text(),
        )
        if run.exists():
            command.check(run)
        state = command.state(run)
        if status == 130:
            said = LOG.read_text()  # of a weak reference's callback, Python tells what it could not raise
            assert "Traceback" not in said or "Exception ignored in" in said, said
            if state == "to be resumed" and kind != "INT INT":
                assert command.goes_on(run) in said, said
        told[f"{kind}: {state}"] += 1
        command.finish(run, command.start(run))
        command.same(run, whole)
        shutil.rmtree(run)
    return told


def data(path):
    """Images of two classes that anything can tell apart."""
    rng = np.random.default_rng(0)
    arrays = {}
    for part, count in (("train", 80), ("test", 16)):
        arrays[f"y_{part}"] = np.arange(count) % 2
        arrays[f"x_{part}"] = rng.integers(0, 90, (count, 4, 4), np.uint8)
        arrays[f"x_{part}"][arrays[f"y_{part}"] == 1, :2] += 120
    np.savez(path, **arrays)


if __name__ == "__main__":
    run_folder.draw, page.tsne_2d = draw, lambda *_: None
    FOLDER, (command, way, *rest) = Path(sys.argv[1]), sys.argv[2:]
    LOG, FIRED = FOLDER / "log", FOLDER / "fired"
    data(FOLDER / "data.npz")
    warm = [*map(str, Training().start(FOLDER / "warm", "--epochs", "1", "--quiet"))]
    main(warm)  # compiles, for all children
    command = {"train": Training, "embed": Embedding}[command]()
    print()
    if way == "signals":
        told = signals(command, *map(int, rest))
    else:
        way, _, step = way.partition("/")
        told = each_call(command, way, int(step or 1), rest or NAMES)
    print(json.dumps(told))
