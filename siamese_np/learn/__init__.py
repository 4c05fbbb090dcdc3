"""Exercises: write the backward passes yourself, and be told what is wrong. ``siamese-np learn``, and in Python:

    from siamese_np import learn
    learn.check(dense_backward)    # a function of yours, by its name; or a file

exercises/    the files that a learner gets; each begins a derivation and leaves a hole
exercise.py   reads them;  tasks.py  what each asks for;  solutions.py  what the textbook has not
comparing.py  a learner's function and the solution;  checking.py  the check of a function, or of a file with limits
folder.py     a learner's files and progress;  command.py  the command line
"""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from siamese_np.errors import OptionError
from siamese_np.learn.checking import Outcome, check_file, check_function
from siamese_np.learn.exercise import exercises, find
from siamese_np.learn.folder import progress, start

__all__ = ["Outcome", "check", "exercises", "hints", "progress", "solution", "start"]


def check(
    target: Callable[..., Any] | str | Path, exercise: str | None = None, seconds: float | None = None
) -> Outcome:
    """Check a function, here, or an exercise file, in a process of its own.

    Parameters
    ----------
    target : callable, str or path-like
        A function, or a file.
    exercise : str, optional
        Its name or number; by default the first exercise with a function, or a file, of this name.
    seconds : float, optional
        How long a file may take (20; 120 for a kernel).

    Returns
    -------
    Outcome
        Printed, it says what is wrong; ``outcome.passed`` is a bool.

    Raises
    ------
    OptionError
        There is no such exercise, or the file cannot be checked: a syntax error, a loop without an end ...
    """
    if not callable(target):
        return check_file(find(exercise or Path(target).name), Path(target), seconds)
    name = getattr(target, "__name__", type(target).__name__)
    exercise = exercise or next((one.name for one in exercises().values() if one.function == name), None)
    if exercise is None:
        raise OptionError(f"no exercise asks for a function {name}; say which one is meant: exercise=")
    return check_function(find(exercise), target)


def hints(exercise: str) -> list[str]:
    """The hints to an exercise, from a nudge to nearly everything."""
    return find(exercise).hints


def solution(exercise: str) -> str:
    """The source of the functions that solve an exercise: the textbook's."""
    from siamese_np.learn.tasks import TASKS

    shown = TASKS[find(exercise).name].shown
    helpers = [f.__globals__.get(name) for f in shown for name in f.__code__.co_names if name.startswith("_")]
    functions: list[Any] = [*filter(inspect.isfunction, helpers), *shown]
    return "\n\n".join(f"# {function.__module__}\n{inspect.getsource(function)}" for function in functions)
