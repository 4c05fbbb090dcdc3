"""What other systems lack is not asked for: the tests collect, kernels run and files are written without it."""

import io
import json
import multiprocessing
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from siamese_np import _process
from siamese_np.cli import main
from siamese_np.runtime import cache, jit

ROOT = Path(__file__).parent.parent

# As on Windows, as far as Python code can tell: modules and names that are not there. (`sitecustomize` runs at the
# start of every Python; subprocess and multiprocessing have what they need of the system by then.)
MISSING = """
import multiprocessing.util, os, signal, socket, subprocess, sys, tempfile, types

sys.modules["msvcrt"] = types.SimpleNamespace(LK_NBLCK=2, locking=lambda *_: None)
for name in ("fcntl", "grp", "pty", "pwd", "resource", "termios", "tty"):
    sys.modules[name] = None  # importing it is an ImportError
for module, names in {
    os: "fork forkpty geteuid getloadavg killpg mkfifo register_at_fork sched_getaffinity",
    signal: "SIGKILL SIGHUP SIGUSR1 SIGALRM alarm setitimer",
    socket: "AF_UNIX",
}.items():
    for name in names.split():
        if hasattr(module, name):
            delattr(module, name)
"""


def python(tmp_path, *arguments, **environment):
    """A Python of a system that lacks these things; its standard output."""
    (tmp_path / "sitecustomize.py").write_text(MISSING)
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    done = subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", **environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def test_the_tests_can_be_collected(tmp_path):
    collected = python(tmp_path, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider")
    for path in sorted((ROOT / "tests").glob("test_*.py")):
        if path.name not in ("test_docs.py", "test_estimator.py", "test_export.py", "test_notebooks.py"):  # optional
            assert f"tests/{path.name}" in collected


def test_a_network_is_trained_and_kept(tmp_path):
    """Threads, the cache of machine code, and files that are written."""
    code = """
import numpy as np, sys
from siamese_np import Dense, Flatten, Sequential, SiameseNetwork, load_model, save_model
from siamese_np.bench.suite import environment_facts
network = Sequential([Flatten(), Dense(16, 4, seed=0)], (4, 4, 1))
x = np.ones((3, 4, 4, 1), np.float32)
network.backward(network.forward(x)[0], network.forward(x)[1])
save_model(sys.argv[1], SiameseNetwork(network))
print(load_model(sys.argv[1]).embed(x).shape, "load_average" in environment_facts())
"""
    out = python(tmp_path, "-c", code, str(tmp_path / "model.npz"), NUMBA_CACHE_DIR=str(tmp_path / "cache"))
    assert out == "(3, 4) False\n"
    assert list((tmp_path / "cache").rglob("*.nbc"))


def test_a_run_is_trained_evaluated_and_drawn(small_mnist, tmp_path):
    """Signals, the lock of its folder, files that replace others, pictures."""
    code = """
import sys
from siamese_np.cli import main
data, run = sys.argv[1:]
assert main(["train", "--data", data, "--preset", "mlp", "--epochs", "1", "--out", run, "--quiet"]) == 0
assert main(["train", "--resume", run, "--quiet"]) == 2  # it is complete
assert main(["evaluate", run, "--quiet"]) == 0
"""
    run = tmp_path / "run"
    assert "pair accuracy" in python(tmp_path, "-c", code, str(small_mnist), str(run))
    assert (run / "report.html").exists()


@pytest.mark.parametrize(
    ("system", "environment", "folder"),
    [
        ("win32", {"LOCALAPPDATA": "C:/Users/me/Local"}, Path("C:/Users/me/Local/siamese_np")),
        ("win32", {}, Path.home() / "AppData" / "Local" / "siamese_np"),
        ("darwin", {"XDG_CACHE_HOME": "/elsewhere"}, Path.home() / "Library" / "Caches" / "siamese_np"),
    ],
)
def test_machine_code_is_kept_where_each_system_keeps_such(system, environment, folder, monkeypatch):
    monkeypatch.delenv("LOCALAPPDATA", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(cache.numba.config, "CACHE_DIR", "")
    monkeypatch.setattr(cache, "sys", SimpleNamespace(platform=system))
    assert cache._root() == folder


@pytest.mark.parametrize(("number", "locked"), [(None, True), ("EACCES", False), ("EDEADLK", False), ("ENOLCK", True)])
def test_a_file_is_locked_as_windows_does_it(number, locked, monkeypatch):
    asked = []

    def locking(*arguments):
        asked.append(arguments)
        if number:
            raise OSError(getattr(_process.errno, number), "no")

    monkeypatch.setitem(sys.modules, "fcntl", None)
    monkeypatch.setitem(sys.modules, "msvcrt", SimpleNamespace(locking=locking, LK_NBLCK=2))
    assert _process.lock(7) is locked and asked == [(7, 2, 1)]


@pytest.mark.parametrize("page", ["cp1252", "cp437", "ascii"])
def test_a_terminal_of_any_code_page_is_told_everything(page, tmp_path, monkeypatch):
    """Names of files, too, that it has no characters for."""
    names = ["za\u017c\u00f3\u0142\u0107.png", "\u6570\u5b57.png", "\U0001f600.png"]
    digit = np.zeros((28, 28), np.uint8)
    digit[4:24, 12:15] = 255
    for name in names:
        Image.fromarray(digit).save(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(jit._FirstCompile, "told", True)

    def said(encoding, *command):
        out, log = (io.TextIOWrapper(io.BytesIO(), encoding, errors) for errors in ("strict", "backslashreplace"))
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", out)
            patch.setattr(sys, "stderr", log)
            status = main(list(command))
        return status, *(stream.buffer.getvalue().decode(encoding) for stream in (out, log))

    for command in (
        ["info"],
        ["compare", "mnist", *names[:2]],
        ["classify", "mnist", *names],
        ["classify", "mnist", *names, "--json"],
        ["embed", "mnist", names[2], "-o", f"{names[1]}.csv"],
        ["compare", "mnist", names[0], f"no {names[2]}"],
        ["gradcheck", "relu"],
        ["train", "--data", names[1]],
    ):
        status, out, log = said(page, *command)
        everywhere, all_of_it, log_of_it = said("utf-8", *command)
        assert status == everywhere, (command, log)
        shown = all_of_it.encode(page, "backslashreplace").decode(page)
        if command[0] not in ("gradcheck", "info"):  # which tell seconds
            assert (out, log) == (shown, log_of_it.encode(page, "backslashreplace").decode(page))


def test_the_readme_tells_the_commands_of_windows():
    """Those that it gives first, for a shell."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    shells = [line for line in re.findall(r"```sh\n(.*?)```", readme, re.DOTALL)[:2]]
    windows = re.findall(r"```bat\n(.*?)```", readme, re.DOTALL)
    assert len(windows) == 1
    for shell in shells:
        for command in shell.strip().split(" && "):
            assert command.replace("python3 ", "py ").replace(".venv/bin/", ".venv\\Scripts\\") in windows[0]


def test_files_are_written_and_read_in_the_same_encoding_everywhere(tmp_path):
    """A code page is the encoding of files that are opened without one, which Python can warn of."""
    code = """
import json, sys, warnings
from pathlib import Path
warnings.filterwarnings("error", category=EncodingWarning, module="siamese_np")
from siamese_np.bench.compare import read_results
from siamese_np.learn import folder
at = Path(sys.argv[1])
folder.start(at / "exercises")
folder.progress(at / "exercises")
text = json.dumps({"format": "siamese_np benchmark 1", "environment": {"é": "😀"}}, ensure_ascii=False)
(at / "b.json").write_text(text, encoding="utf-8")
print(read_results(at / "b.json")["environment"]["é"] == "😀")
"""
    arguments = ("-X", "utf8=0", "-X", "warn_default_encoding")
    (tmp_path / "script.py").write_text(code, encoding="utf-8")
    environment = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"}
    assert python(tmp_path, *arguments, str(tmp_path / "script.py"), str(tmp_path), **environment) == "True\n"


def _embedded(seed):
    from siamese_np import mlp

    return mlp((4, 4, 1), embedding_size=3, seed=seed).forward(np.ones((2, 4, 4, 1), np.float32))[0].tolist()


def test_a_process_that_is_spawned_computes_the_same():
    """As on macOS and Windows, where no process is forked."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert json.dumps(pool.map(_embedded, [0, 1])) == json.dumps([_embedded(0), _embedded(1)])


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can become another user")
def test_an_arbitrary_user_with_a_home_that_is_read_only(tmp_path):
    """As in a container that was started with any number for the user: without a name, and nothing to write to."""
    code = """
import os
os.setgid(54321)
os.setuid(54321)
import numpy as np
from siamese_np import Dense
print(Dense(3, 4, seed=0).forward(np.ones((2, 3), np.float32))[0].shape)
"""
    environment = {**os.environ, "HOME": "/proc", "PYTHONPATH": str(ROOT), "MPLCONFIGDIR": "/proc"}
    for name in ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME"):
        environment.pop(name, None)
    become = code.partition("import numpy")[0]

    def run(code):
        return subprocess.run([sys.executable, "-c", code], env=environment, cwd="/", capture_output=True, text=True)

    if run(become + "import datetime, numba, siamese_np").returncode:
        pytest.skip("other users may not read this Python")
    done = run(code)
    assert done.stdout == "(2, 4)\n", done.stderr
    assert done.stderr.count("compiled kernels are not kept") == 1
