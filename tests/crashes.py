"""Ends short trainings in every way there is, and looks at what is left: run by test_kills.py in a process of its own.

    crashes.py FOLDER kill [NAME ...]       SIGKILL before each call of these functions of `os` in turn (all of them)
    crashes.py FOLDER ERRNO [NAME ...]      each call in turn fails with this error
    crashes.py FOLDER overwrite [NAME ...]  as kill, while a run is overwritten
    crashes.py FOLDER signals COUNT SEED    a random signal at a random moment

Forks once for each training, so that everything is imported and compiled once. Prints what became of how many, as JSON.
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
from siamese_np.storage import write_atomically

NAMES = ("mkdir", "open", "write", "fsync", "chmod", "replace", "unlink")
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


def fail_at(last, names, fail):
    """Let call number `last` of the functions `names` of `os` fail."""
    calls = iter(range(last + 1))

    def act(name):
        if name in names and next(calls, last + 1) == last:
            fail()

    def failing(name, function):
        def called(*arguments, **options):
            if name != "open" or arguments[1] & os.O_CREAT:  # what is only read is no matter
                act(name)
            return function(*arguments, **options)

        return called

    fdopen = os.fdopen
    os.fdopen = lambda *arguments, **options: File(fdopen(*arguments, **options), act)
    for name in set(names) - {"write"}:
        setattr(os, name, failing(name, getattr(os, name)))


def child(arguments, prepare=lambda: None):
    """The process id of a training, which logs to the file `log`."""
    signals = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)  # what comes while Python forks would be lost
    pid = os.fork()
    if pid:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
    else:
        status = 99
        try:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
            sys.stderr = open(LOG, "w")  # noqa: SIM115
            prepare()
            status = main(["train", *map(str, arguments)])
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


def reported(run):
    metrics = json.loads((run / "metrics.json").read_text())
    return {name: value for name, value in metrics.items() if name not in TIMES}


def check(run):
    """What is there is whole; with a report, it is of the model."""
    if (run / "model.npz").exists():
        load_model(run)
    if (run / "metrics.json").exists():
        assert {path.name for path in run.iterdir()} >= WHOLE, run
        assert load_model(run).threshold == reported(run)["threshold"], run


def finish(run, start):
    """Take the run to its end, as its user would."""
    if not (run / "checkpoint.npz").exists():
        assert ended(child(start)) == 0, LOG.read_text()
    elif not (run / "metrics.json").exists():
        assert ended(child(["--resume", run, "--quiet"])) == 0, LOG.read_text()


def same(run, *wholes):
    """The finished run is one of these, to the bit, and nothing lies beside it."""
    assert {path.name for path in run.iterdir()} - {"lock"} == WHOLE, sorted(run.iterdir())
    whole = next(whole for whole in wholes if reported(whole) == reported(run))
    for name in ("model.npz", "checkpoint.npz"):
        with np.load(run / name) as one, np.load(whole / name) as other:
            assert one.files == other.files
            assert all(np.array_equal(one[array], other[array]) for array in one.files if array != "header"), run


def each_call(way, names):
    kill, overwrite = way in ("kill", "overwrite"), way == "overwrite"

    def fail():
        if kill:
            os.kill(os.getpid(), signal.SIGKILL)
        raise OSError(getattr(errno, way), os.strerror(getattr(errno, way)))

    whole, other = FOLDER / "whole", FOLDER / "other"
    assert ended(child([*OPTIONS, "--out", whole])) == 0, LOG.read_text()
    if overwrite:
        assert ended(child([*OPTIONS, "--seed", "1", "--out", other])) == 0, LOG.read_text()
    told, last, failed = Counter(), 0, True
    while failed:
        run = FOLDER / str(last)
        if overwrite:
            shutil.copytree(other, run)
        start = [*OPTIONS, "--out", run, *["--overwrite"] * overwrite]
        status = ended(child(start, lambda: fail_at(last, names, fail)))  # noqa: B023
        failed = status != 0
        if not kill and status:
            *_, sentence = LOG.read_text().splitlines()
            assert status == 2 and sentence.startswith("siamese-np: ") and str(run) in sentence, LOG.read_text()
            assert "Traceback" not in LOG.read_text()
            assert not list(run.glob(".*")) and not (run / "lock").exists(), sorted(run.iterdir())
        assert status in ((-signal.SIGKILL, 0) if kill else (2, 0)), LOG.read_text()
        if run.exists():
            check(run)
        begun = (run / "checkpoint.npz").exists()
        complete = (run / "metrics.json").exists()
        told["complete" if complete else "to be resumed" if begun else "not begun"] += 1
        told["survived"] += status == 0
        finish(run, start)
        same(run, whole, *[other] * overwrite)
        if complete:  # a killed process may leave a lock, which does not matter
            (run / "lock").unlink(missing_ok=True)
        assert not (run / "lock").exists()
        shutil.rmtree(run)
        last += 1
    return told


def signals(count, seed):
    chance, whole = random.Random(seed), FOLDER / "whole"
    start = time.monotonic()
    assert ended(child([*OPTIONS, "--out", whole])) == 0, LOG.read_text()
    seconds, told = time.monotonic() - start, Counter()
    for number in range(count):
        run, kind = FOLDER / str(number), ("KILL", "TERM", "INT", "INT INT", "HUP")[number % 5]
        pid = child([*OPTIONS, "--out", run, "--checkpoint-every", chance.choice(["0.001", "60"])])
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
            check(run)
        if status == 130:
            said = LOG.read_text()  # of a weak reference's callback, Python tells what it could not raise
            assert "Traceback" not in said or "Exception ignored in" in said, said
            if (run / "checkpoint.npz").exists() and kind != "INT INT" and not (run / "metrics.json").exists():
                assert f"`siamese-np train --resume {run}` goes on" in LOG.read_text(), LOG.read_text()
        begun, complete = (run / "checkpoint.npz").exists(), (run / "metrics.json").exists()
        told[f"{kind}: " + ("complete" if complete else "to be resumed" if begun else "not begun")] += 1
        finish(run, [*OPTIONS, "--out", run])
        same(run, whole)
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
    run_folder.draw = draw
    FOLDER, (way, *rest) = Path(sys.argv[1]), sys.argv[2:]
    LOG = FOLDER / "log"
    data(FOLDER / "data.npz")
    OPTIONS = ["--data", FOLDER / "data.npz", "--preset", "mlp", "--epochs", "3", "--batch-size", "8", "--quiet"]
    main(["train", *map(str, OPTIONS), "--out", str(FOLDER / "warm"), "--epochs", "1"])  # compiles, for all children
    OPTIONS.remove("--quiet")
    print()
    print(json.dumps(signals(*map(int, rest)) if way == "signals" else each_call(way, rest or NAMES)))
