"""What ``siamese-np learn`` does: each function returns the exit status, an object for JSON, and lines for people."""

import argparse
import shlex
from pathlib import Path
from typing import Any

from siamese_np import learn
from siamese_np.errors import OptionError
from siamese_np.learn.exercise import exercises, find
from siamese_np.learn.folder import FILE, Progress, progress, record, start

Result = tuple[int, dict[str, Any], list[str]]


def run(args: argparse.Namespace) -> tuple[int, dict[str, Any], str]:
    """One of the actions; the exit status, and what to say as JSON values and as text."""
    needs = {"start": "a new folder, such as exercises", "hint": "an exercise", "solution": "an exercise"}
    if args.action in needs and not args.name:
        raise OptionError(f"`siamese-np learn {args.action}` needs the name of {needs[args.action]}")
    actions = {"list": _list, "start": _start, "check": _check, "hint": _hint, "solution": _solution}
    status, result, lines = actions.get(args.action, _progress)(args.name)
    return status, result, "\n".join(lines)


def _list(_: Any) -> Result:
    shown = [{"exercise": e.name, "file": e.file, "title": e.title} for e in exercises().values()]
    return 0, {"exercises": shown}, [f"{e.file:26}  {e.title}" for e in exercises().values()]


def _start(folder: str) -> Result:
    paths = start(folder)
    line = (
        f"{len(paths)} exercises. Begin: cd {shlex.quote(folder)}, edit {paths[0].name}, then `siamese-np learn check`"
    )
    return 0, {"folder": folder, "exercises": len(paths)}, [line]


def _check(name: str | None) -> Result:
    """A file wherever it is, or an exercise of the current folder; by default the first that is not yet passed."""
    path = Path(name) if name and name.endswith(".py") else None
    folder = path.parent if path else Path()
    done = progress(folder) if not path or (folder / FILE).exists() else {}
    if path is None:
        name = name or next((name for name, one in done.items() if not one["passed"]), None)
        if name is None:
            return 0, learn.Outcome("", True, [], "")._asdict(), [f"all {len(done)} exercises are passed"]
        path = Path(find(name).file)
    outcome = learn.check(path)
    lines = [*(f"  | {line}" for line in outcome.printed.splitlines()), repr(outcome)]
    if done and outcome.passed:
        done[outcome.exercise]["passed"] = True
        lines += [*_kept(folder, done), _standing(done)]
    return 0 if outcome.passed else 1, outcome._asdict(), lines


def _hint(name: str) -> Result:
    """One hint more each time; all of them outside a folder of exercises, where nothing is kept."""
    exercise = find(name)
    shown, told = len(exercise.hints), []
    if Path(FILE).exists():
        done = progress()
        shown = done[exercise.name]["hints"] = min(done[exercise.name]["hints"] + 1, shown)
        told = _kept(Path(), done)
    hints, more = exercise.hints[:shown], len(exercise.hints) - shown
    lines = [*(f"{number}. {hint}" for number, hint in enumerate(hints, 1)), *[f"({more} more)"] * bool(more)]
    return 0, {"exercise": exercise.name, "hints": hints, "more": more}, [*lines, *told, f"read {exercise.read}"]


def _solution(name: str) -> Result:
    source = learn.solution(name).rstrip()
    return 0, {"exercise": find(name).name, "solution": source}, [source]


def _progress(_: Any) -> Result:
    done = progress()
    lines = [f"{'passed' * one['passed']:8}{find(name).file:26}  {find(name).title}" for name, one in done.items()]
    passed = sum(one["passed"] for one in done.values())
    return 0, {"passed": passed, "exercises": done}, [*lines, _standing(done)]


def _kept(folder: Path, done: Progress) -> list[str]:
    try:
        record(folder, done)
    except OSError as error:
        return [f"this is not kept: {folder / FILE} cannot be written ({error.strerror})"]
    return []


def _standing(done: Progress) -> str:
    left = [find(name).file for name, one in done.items() if not one["passed"]]
    return f"{len(done) - len(left)} of {len(done)} passed, {f'next: {left[0]}' if left else 'all of them'}"
