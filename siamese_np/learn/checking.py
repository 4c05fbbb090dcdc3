"""The check of one exercise: of a function, here and now; or of a file, in a process of its own with limits."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from siamese_np.errors import OptionError
from siamese_np.learn.exercise import Exercise, find
from siamese_np.reading import open_regular

MAX_PRINTED, MAX_MEMORY = 1 << 20, 2 << 30  # bytes
MAX_SHOWN = 2000  # characters of what a file prints


class Outcome(NamedTuple):
    """What a check found; printed, it says what is wrong; it is true if the exercise is passed."""

    exercise: str
    passed: bool
    findings: list[str]
    read: str  # where the derivation is
    printed: str = ""  # by the first call of the function

    def __bool__(self) -> bool:
        return self.passed

    def __repr__(self) -> str:
        if self.passed:
            return f"{self.exercise}: passed"
        return "\n  ".join([f"{self.exercise}: not yet right", *self.findings, f"read {self.read}"])


def check_function(
    exercise: Exercise, function: Callable[..., Any], after_first: Callable[[], None] = lambda: None
) -> Outcome:
    """Check `function` in this process."""
    from siamese_np.learn.tasks import TASKS

    task = TASKS[exercise.name]
    try:
        task.first(function)
        after_first()
        findings = task.findings(function, exercise.kink)
    except NotImplementedError:
        findings = [f"{exercise.function} is still empty: write it in place of raise NotImplementedError"]
    except OptionError as error:  # what the checker says of a function that it cannot check
        findings = [str(error)]
    except (Exception, SystemExit) as error:
        code = getattr(getattr(function, "py_func", function), "__code__", None)
        findings = [f"{exercise.function} raises {_described(error, getattr(code, 'co_filename', ''))}"]
    return Outcome(exercise.name, not findings, findings, exercise.read)


def _described(error: BaseException, file: str) -> str:
    """An exception in one line, with the last line of `file` that it came through, and what arrays there were."""
    message = [line.strip() for line in str(error).splitlines() if line.strip()] or ["no message"]
    frames = [(f, n) for f, n in traceback.walk_tb(error.__traceback__) if f.f_code.co_filename == file]
    where = f" (line {frames[-1][1]})" if frames else ""
    if isinstance(error, (ValueError, IndexError)) and frames and frames[-1][0].f_code.co_name != "<module>":
        values = {name: getattr(value, "shape", value) for name, value in frames[-1][0].f_locals.items()}
        shown = [f"{name} {value}" for name, value in values.items() if re.fullmatch(r"[-\d(), ]+", str(value))]
        where += f"; there {'; '.join(shown)}" * bool(shown)
    return f"{type(error).__name__}: {' '.join(message[:2])}{where}"  # Numba says in the second line what is wrong


def check_file(exercise: Exercise, path: Path, seconds: float | None = None) -> Outcome:
    """Check the file `path` in a process of its own, for at most so many seconds (20; 120 for a kernel).

    Raises
    ------
    OptionError
        It cannot be checked: it has a syntax error, lacks the function, does not end, prints without end ...
    """
    try:
        open_regular(path).close()
    except FileNotFoundError:
        raise OptionError(f"there is no file {path}; `siamese-np learn start NEW_FOLDER` writes fresh ones") from None
    except OSError as error:
        raise OptionError(f"cannot read {path}: {error.strerror}") from None
    with tempfile.TemporaryDirectory() as folder:
        result, printed = Path(folder, "result.json"), Path(folder, "printed.txt")
        code = f"import sys; sys.path[:] = {sys.path!r}; from siamese_np.learn.checking import child; child()"
        command = [sys.executable, "-c", code, exercise.name, str(path), str(result)]
        with printed.open("wb") as output:
            fault = _run(command, output.fileno(), seconds or (120 if "kernel" in exercise.name else 20))
        if fault or not result.exists():
            raise OptionError(f"{path} {fault or 'ends its process before the check is over'}")
        found = json.loads(result.read_bytes())
        if "error" in found:
            raise OptionError(found["error"])
        return Outcome(**{**found, "printed": printed.read_bytes()[:MAX_SHOWN].decode(errors="replace")})


def _run(command: list[str], output: int, limit: float) -> str:
    """Run a command; what it does beyond its limits, or an empty string."""
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8", "NUMBA_DISABLE_JIT": "0"}  # kernels are timed
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment, start_new_session=True
    )
    end = time.monotonic() + limit
    try:
        while process.poll() is None:
            if time.monotonic() > end:
                return f"does not end within {limit:g} seconds: is there a loop without an end?"
            if os.fstat(output).st_size > MAX_PRINTED:
                return f"prints more than {MAX_PRINTED >> 20} MB when it is called once: print less"
            if _memory(process.pid) > MAX_MEMORY:
                return f"takes more than {MAX_MEMORY >> 30} GB of memory: is there a loop without an end?"
            time.sleep(0.02)
        return f"ends its process with status {process.returncode}" if process.returncode else ""
    finally:
        with suppress(OSError):  # it may be gone
            os.killpg(process.pid, signal.SIGKILL) if hasattr(os, "killpg") else process.kill()
        process.wait()


def _memory(pid: int) -> int:
    """Bytes that a process has in memory; 0 where the system does not say."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


def child() -> None:
    """In the process of its own: check one file, write the outcome or ``{"error": sentence}`` as JSON."""
    name, path, result = sys.argv[1:]
    exercise = find(name)
    try:
        found = check_function(exercise, _load(exercise.function, path), _print_nowhere)._asdict()
    except OptionError as error:
        found = {"error": str(error)}
    Path(result).write_text(json.dumps(found))
    sys.stdout.flush()
    os._exit(0)  # whatever threads the file has started


def _load(function: str, path: str) -> Any:
    """A function from a file, or OptionError."""
    module = sys.modules["exercise"] = ModuleType("exercise")
    module.__file__ = path
    sys.path.append(str(Path(path).parent))
    try:
        exec(compile(Path(path).read_bytes(), path, "exec"), vars(module))
    except SyntaxError as error:
        where = f" in line {error.lineno}" if error.lineno else ""
        raise OptionError(f"{path} has a syntax error{where}: {error.msg}") from None
    except (Exception, SystemExit) as error:
        raise OptionError(f"{path} cannot be run: {_described(error, path)}") from None
    if not callable(getattr(module, function, None)):
        raise OptionError(f"there is no function {function} in {path}; keep its name")
    return getattr(module, function)


def _print_nowhere() -> None:
    """The checker calls a function hundreds of times: what it prints is shown of the first call alone."""
    sys.stdout.flush()
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
