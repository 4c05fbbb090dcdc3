"""The exercises as they are shipped: one file each, whose docstring says all that is known about it."""

import ast
import difflib
from functools import cache
from pathlib import Path
from typing import NamedTuple

from siamese_np.errors import OptionError


class Exercise(NamedTuple):
    """One exercise."""

    name: str  # "dense"
    file: str  # "01_dense.py"
    title: str  # the first line of the docstring
    function: str  # what the learner writes, the last function of the file
    read: str  # where the derivation is
    kink: str  # what the docstring says of points without a slope
    hints: list[str]  # from a nudge to nearly everything; not in the learner's file
    text: str  # the learner's file


@cache
def exercises() -> dict[str, Exercise]:
    """All exercises by name, in their order."""
    paths = sorted((Path(__file__).parent / "exercises").glob("*.py"))
    return {exercise.name: exercise for exercise in map(_read, paths)}


def _read(path: Path) -> Exercise:
    source = path.read_text(encoding="utf-8")
    lines = source.splitlines(keepends=True)
    hints = [line.removeprefix("Hint: ").strip() for line in lines if line.startswith("Hint: ")]
    (read,) = (line.removeprefix("Read: ").strip() for line in lines if line.startswith("Read: "))
    kink = " ".join(source.partition("\nKink.")[2].partition("\n\n")[0].split())
    function = [node.name for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)][-1]
    text = "".join(line for line in lines if not line.startswith("Hint: "))
    name = path.stem.partition("_")[2]
    return Exercise(name, path.name, lines[0].strip('"\n'), function, read, kink, hints, text)


def find(name: str) -> Exercise:
    """The exercise of this name, number or file name, or OptionError."""
    for number, exercise in enumerate(exercises().values(), 1):
        if name in (exercise.name, exercise.file, exercise.file.removesuffix(".py"), str(number)):
            return exercise
    close = difflib.get_close_matches(name, exercises(), 1)
    meant = f" (did you mean {close[0]}?)" if close else ""
    raise OptionError(f"there is no exercise {name!r}{meant}; `siamese-np learn list` names them all")
