"""What other systems lack is not asked for: the tests collect, kernels run and files are written without it."""

import json
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# As on Windows, as far as Python code can tell: modules and names that are not there. (`sitecustomize` runs at the
# start of every Python; subprocess and multiprocessing have what they need of the system by then.)
MISSING = """
import multiprocessing.util, os, signal, socket, subprocess, sys

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
    import numpy as np

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
