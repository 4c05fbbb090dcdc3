"""How much a reader has to read: two walks through a training step, and the size of each room of the package.

A number here is a limit, not a goal. What outgrows it means that something else goes out.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import siamese_np

PACKAGE = Path(siamese_np.__file__).parent

STEP = """
import json, sys
from pathlib import Path
import numpy as np
import siamese_np
from siamese_np import Dataset, Split, TrainConfig
from siamese_np.training import Training

root = Path(siamese_np.__file__).parent
images = np.random.default_rng(0).random((4, 8, 8, 1), np.float32)
split = Split(images, np.arange(4) % 2)
training = Training(TrainConfig(batch_size=4), Dataset("four images", split, split, split))
batch = next(training.protocol.batches(0))
entered = {}

def profile(frame, event, argument):
    code = frame.f_code
    if event == "call" and (path := Path(code.co_filename)).is_relative_to(root):
        entered.setdefault(path.relative_to(root).as_posix(), set()).add(code)

training.take_step(batch, 0)  # what is imported or kept at the first is not of the step
sys.setprofile(profile)
training.take_step(batch, 1)
sys.setprofile(None)

def lines_of(code):
    numbers = [number for *_, number in code.co_lines() if number]
    return range(code.co_firstlineno, max(numbers, default=code.co_firstlineno) + 1)

print(json.dumps({name: len({n for code in codes for n in lines_of(code)}) for name, codes in entered.items()}))
"""


def walk(**environment: str) -> dict[str, int]:
    """The files of the package that one step of the default training enters, and the lines of the functions in each."""
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent), **environment}
    done = subprocess.run([sys.executable, "-c", STEP], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def lines(*paths: Path) -> int:
    return sum(len(path.read_text(encoding="utf-8").splitlines()) for path in paths)


TEXTBOOK_ROUTE = [
    *("training.py", "protocols.py", "network.py", "layer.py", "layers.py", "losses.py", "optimizers.py"),
    *("backend.py", "_contract.py", "_checks.py", "runtime/buffers.py"),
    *("textbook/conv2d.py", "textbook/relu.py", "textbook/maxpool2d.py", "textbook/windows.py", "textbook/dense.py"),
    *("textbook/all_pairs.py", "textbook/distance.py", "textbook/contrastive.py"),
    *("textbook/adam.py", "textbook/zero.py"),
]


def test_the_textbook_route_is_these_files():
    functions = walk(SIAMESE_NP_KERNELS="textbook")
    assert sorted(functions) == sorted(TEXTBOOK_ROUTE)
    assert lines(*(PACKAGE / name for name in functions)) <= 2_830
    assert sum(functions.values()) <= 690


def test_the_compiled_step():
    functions = walk(SIAMESE_NP_KERNELS="compiled", NUMBA_DISABLE_JIT="1")
    assert {"kernels/conv/winograd.py", "kernels/conv/sparse_backward.py", "kernels/dense.py"} < set(functions)
    assert not any(name.startswith("textbook/") for name in functions)
    assert lines(*(PACKAGE / name for name in functions)) <= 4_990
    assert sum(functions.values()) <= 1_690


# The files and folders of each room, and how many lines of Python it may have.
ROOMS = {
    "front rooms and textbook": (
        4_570,
        *("layers.py", "fusion.py", "network.py", "presets.py", "losses.py", "distances.py", "optimizers.py"),
        *(
            "pairs.py",
            "augment.py",
            "config.py",
            "recipes.py",
            "protocols.py",
            "training.py",
            "run.py",
            "layer.py",
            "_arrays.py",
        ),
        *("_ownership.py", "_contract.py", "backend.py", "_checks.py", "errors.py", "__init__.py", "textbook"),
    ),
    "kernels": (2_960, "kernels", "warm_up.py"),
    "runtime": (1_165, "runtime"),
    "gradient checker": (6_010, "gradcheck"),
    "benchmark and ladder": (3_015, "bench", "ladder"),
    "measurements and pictures": (
        1_580,
        "metrics.py",
        "bootstrap.py",
        "evaluation.py",
        "evaluation_pairs.py",
        "plots.py",
        "run_folder.py",
        "_figure.py",
    ),
    "data sets and reading": (2_910, "datasets", "reading.py"),
    "files and command line": (
        2_260,
        "storage.py",
        "export.py",
        "export_command.py",
        "description.py",
        "checkpoint.py",
        "cli.py",
        "options.py",
        "__main__.py",
        "_process.py",
    ),
    "ranks of MPI": (300, "distributed.py"),
    "collections": (1_365, "collection"),
    "what the network does not know": (275, "novelty.py", "models"),
    "what went wrong in a step": (70, "diagnosis.py"),
    "for other tools": (370, "estimator.py", "projector.py"),
    "accuracy tables": (720, "reproduce"),
    "report": (390, "report", "pages"),
    "trace and learn": (1_715, "learn", "tracing", "ledger.py"),
    "benchmarks": (2_130, str(Path(__file__).parent.parent / "benchmarks")),
}
ALL = 29_655  # of the package


EXERCISES = PACKAGE / "learn" / "exercises"  # files for the user to fill in, not code of the package


def sources(*names: str) -> list[Path]:
    places = [PACKAGE / name for name in names]
    paths = [path for place in places for path in (sorted(place.rglob("*.py")) if place.is_dir() else [place])]
    return [path for path in paths if path.parent != EXERCISES]


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_keeps_to_its_size(room):
    limit, *names = ROOMS[room]
    assert 0 < lines(*sources(*names)) <= limit


def test_every_file_has_one_room_and_all_are_few_enough():
    rooms = [path for _, *names in ROOMS.values() for path in sources(*names) if PACKAGE in path.parents]
    assert sorted(rooms) == sorted(sources(""))
    assert lines(*rooms) <= ALL
