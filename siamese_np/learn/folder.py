"""The folder of a learner: the exercise files, and in ``progress.json`` how far they are."""

import json
from pathlib import Path
from typing import Any

from siamese_np.errors import DataError, OptionError
from siamese_np.learn.exercise import exercises
from siamese_np.reading import parse_json, read_whole

FILE = "progress.json"
MAX_BYTES = 1 << 16
Progress = dict[str, dict[str, Any]]


def start(folder: str | Path) -> list[Path]:
    """Write all exercise files into a new folder; OptionError if it holds anything: nothing is ever overwritten."""
    from siamese_np.run_folder import made_folder
    from siamese_np.storage import check_no_file

    folder = Path(folder)
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise OptionError(f"{folder} exists and is not an empty folder; name a new one, nothing is overwritten")
    check_no_file(folder, "start")
    texts = {folder / exercise.file: exercise.text for exercise in exercises().values()}
    with made_folder(folder):
        try:
            for path, text in texts.items():
                with path.open("x", encoding="utf-8") as file:
                    file.write(text)
            record(folder, {})
        except BaseException:  # a full disk: start would refuse what is left
            for path in texts:
                path.unlink(missing_ok=True)
            raise
    return list(texts)


def progress(folder: str | Path = ".") -> Progress:
    """What has been done in a folder of exercises: ``{"dense": {"passed": True, "hints": 1}, ...}``, all in order.

    Raises
    ------
    OptionError, DataError
        It is no folder of exercises; its ``progress.json`` is damaged.
    """
    path = Path(folder) / FILE
    if not path.exists():
        raise OptionError(f"there is no {path}: go to the folder that `siamese-np learn start FOLDER` has made")
    try:
        content = parse_json(read_whole(path, MAX_BYTES))
        kept = {name: (one["passed"] is True, int(one["hints"])) for name, one in content.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        raise DataError(f"{path} is damaged; to begin anew write {{}} into it, your files are not touched") from None
    return {name: dict(zip(("passed", "hints"), kept.get(name, (False, 0)), strict=True)) for name in exercises()}


def record(folder: str | Path, done: Progress) -> None:
    """Keep what has been done."""
    from siamese_np.storage import write_atomically

    write_atomically(Path(folder) / FILE, json.dumps(done, indent=1).encode())
