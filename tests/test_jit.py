"""Compiled kernels and their cache: the same bits just compiled and loaded, and no harm from a damaged cache."""

import compileall
import gc
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from numba.core import event
from numba.core.errors import TypingError

import siamese_np
from siamese_np._jit import kernel, loose_kernel
from siamese_np._parts import part

PACKAGE = Path(siamese_np.__file__).parent

SCRIPT = """
import hashlib, numpy as np
from siamese_np import Adam, AllPairsContrastiveLoss, mlp
rng = np.random.default_rng(0)
network = mlp((6, 6, 1), embedding_size=7)
optimizer, loss = Adam(network.params, network.grads), AllPairsContrastiveLoss()
x, classes = rng.random((37, 6, 6, 1)).astype(np.float32), rng.integers(0, 3, 37)
for _ in range(3):
    network.zero_grads()
    emb, caches = network.forward(x)
    network.backward(loss.backward(loss.forward(emb, classes)[1]), caches, need_dx=False)
    optimizer.step(1e-2)
print(hashlib.sha256(network.params.tobytes()).hexdigest())
"""


def train(cache, **environment):
    """Hash of the weights after three steps in a process of its own, and what it said."""
    settings = {**os.environ, "NUMBA_CACHE_DIR": str(cache), **environment}
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=settings, capture_output=True, text=True, check=True)
    return done.stdout, done.stderr


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    """A cache folder, and what the process that filled it computed."""
    cache = tmp_path_factory.mktemp("cache")
    return cache, train(cache)[0]


def test_loaded_kernels_give_the_bits_of_those_just_compiled(fresh):
    cache, result = fresh
    assert list(cache.rglob("*.nbc"))
    assert train(cache) == (result, "")


def test_a_damaged_cache_is_compiled_anew(fresh):
    cache, result = fresh
    for number, path in enumerate(sorted(cache.rglob("*.nb*"))):
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2] if number % 2 else b"")
    assert train(cache)[0] == result


def python(code, folder=None, **environment):
    """What `code` prints, and what it says on standard error, in a process of its own that runs in `folder`."""
    settings = {**os.environ, "PYTHONPATH": str(PACKAGE.parent), **environment}
    settings = {name: value for name, value in settings.items() if value is not None}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=settings, cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout, done.stderr


def test_without_a_home_kernels_are_compiled_and_not_kept():
    code = """
import os, pathlib
def fail(*args): raise RuntimeError("Could not determine home directory.")
pathlib.Path.home = fail  # as for a user without HOME and without an entry in the list of users
import numpy as np
from siamese_np import Dense
print(Dense(3, 4, seed=0).forward(np.ones((2, 3), np.float32))[0].shape)
"""
    out, said = python(code, NUMBA_CACHE_DIR=None, XDG_CACHE_HOME=None, LOCALAPPDATA=None)
    assert out == "(2, 4)\n"
    assert said.count("compiled kernels are not kept") == 1 and "Could not determine home directory" in said


def test_a_relative_cache_folder_stays_where_it_was(tmp_path):
    here, elsewhere = tmp_path / "here", tmp_path / "elsewhere"
    here.mkdir()
    elsewhere.mkdir()
    code = f"""
import os, numpy as np
from siamese_np import Dense
dense = Dense(3, 4, seed=0)
os.chdir({str(elsewhere)!r})
dense.forward(np.ones((2, 3), np.float32))
"""
    assert python(code, here, NUMBA_CACHE_DIR="cache") == ("", "")
    assert list((here / "cache").rglob("*.nbc")) and not list(elsewhere.iterdir())


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="other folders there")
def test_the_cache_of_the_xdg_specification(tmp_path):
    code = "from siamese_np._jit import cache_folder; print(cache_folder().parent)"
    home, cache = tmp_path / "home", tmp_path / "cache"
    for wanted, given in ((cache / "siamese_np", str(cache)), (home / ".cache" / "siamese_np", "relative")):
        out, said = python(code, tmp_path, NUMBA_CACHE_DIR=None, HOME=str(home), XDG_CACHE_HOME=given)
        assert (out, said) == (f"{wanted}\n", "")


def _without_sources(folder):
    """Make a copy of the package that is compiled to .pyc files only; the path to import it from."""
    shutil.copytree(PACKAGE, folder / "siamese_np", ignore=shutil.ignore_patterns("__pycache__", "mnist_data"))
    compileall.compile_dir(folder, quiet=1, legacy=True)
    for source in folder.rglob("*.py"):
        source.unlink()
    return folder


def _in_a_zip(folder):
    """Make a copy of the package in a zip file; the path to import it from."""
    target = folder / "package.zip"
    with zipfile.ZipFile(target, "w") as package:
        for source in PACKAGE.rglob("*.py"):
            package.write(source, source.relative_to(PACKAGE.parent))
    return target


@pytest.mark.parametrize("packed", [_without_sources, _in_a_zip])
def test_a_package_without_sources_compiles_its_kernels_and_keeps_none(packed, tmp_path):
    path, cache = packed(tmp_path), tmp_path / "cache"
    code = """
import numpy as np, siamese_np
print(siamese_np.__file__, siamese_np.Dense(3, 4, seed=0).forward(np.ones((2, 3), np.float32))[0].shape)
"""
    out, said = python(code, tmp_path, PYTHONPATH=str(path), NUMBA_CACHE_DIR=str(cache), HOME=str(tmp_path / "home"))
    assert out.startswith(str(path)) and out.endswith(" (2, 4)\n")
    assert said.count("compiled kernels are not kept") == 1
    assert not list(tmp_path.rglob("*.nb[ci]"))


@pytest.mark.parametrize("others", [True, False])
def test_a_kernel_is_kept_in_no_other_folder(others, tmp_path):
    """Where Numba cannot use the folder it is given, it goes on to others, which nobody has checked."""
    code = f"""
import numpy as np
from numba.core import caching
caching.UserProvidedCacheLocator.from_function = classmethod(lambda *args: None)
if not {others}:
    caching.CacheImpl._locator_classes = []
from siamese_np import Dense
print(Dense(3, 4, seed=0).forward(np.ones((2, 3), np.float32))[0].shape)
"""
    copy = tmp_path / "siamese_np"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__", "mnist_data"))
    out, said = python(code, tmp_path, PYTHONPATH=str(tmp_path), NUMBA_CACHE_DIR=str(tmp_path / "cache"))
    assert out == "(2, 4)\n" and said.count("compiled kernels are not kept") == 1
    assert not list(tmp_path.rglob("*.nb[ci]"))


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="rights are those of POSIX")
def test_a_cache_that_others_can_write_is_not_trusted(tmp_path):
    tmp_path.chmod(0o777)
    script = "from siamese_np._jit import cache_folder; folder = cache_folder(); folder.chmod(0o777); print(folder)"
    settings = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", script], env=settings, check=True, capture_output=True)
    again = "from siamese_np._jit import cache_folder; print(cache_folder())"
    done = subprocess.run([sys.executable, "-c", again], env=settings, check=True, capture_output=True, text=True)
    assert done.stdout == "None\n" and "writable by nobody else" in done.stderr


def test_kernels_run_as_plain_python():
    """The same code without compilation, where lanes reach over the end of an array."""
    code = """
import numpy as np
from siamese_np import kernels, reference
rng = np.random.default_rng(0)
for C, F in ((1, 3), (8, 5)):
    x, w, dout = (rng.standard_normal(shape) for shape in ((1, 5, 6, C), (3, 3, C, F), (1, 5, 6, F)))
    ours, right = ([np.empty_like(x), np.zeros_like(w), np.zeros(F)] for _ in range(2))
    kernels.conv2d_backward(*ours, dout, x, w, (1, 1), (1, 1))
    reference.conv2d_backward(*right, dout, x, w, (1, 1), (1, 1))
    for one, other in zip(ours, right):
        np.testing.assert_allclose(one, other, atol=1e-12)
"""
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "NUMBA_DISABLE_JIT": "1"})


@part
def _product_and_sum(a, b, c):
    return a * b + c


@loose_kernel
def _loosely(out, a, b, c):
    out[0] = _product_and_sum(a, b, c)


@kernel
def _strictly(out, a, b, c):
    out[0] = _product_and_sum(a, b, c)


def test_a_part_is_strict_whoever_calls_it_first():
    a, c = 1 + 2.0**-30, -(1 + 2.0**-29)  # rounded, a * a is -c; as one with the sum, it is a little more
    for function in (_loosely, _strictly):
        out = np.empty(1)
        function(out, a, a, c)
        assert out[0] == 0


@pytest.mark.parametrize("collecting", [True, False])
def test_garbage_waits_while_a_kernel_is_compiled(collecting):
    seen = []

    class Watch(event.Listener):
        def on_start(self, event):
            seen.append(gc.isenabled())

        def on_end(self, event):
            pass

    @kernel
    def wrong(x):
        return x.there_is_no_such_thing

    before = gc.isenabled()
    try:
        (gc.enable if collecting else gc.disable)()
        with event.install_listener("numba:compile", Watch()), pytest.raises(TypingError):
            wrong(np.zeros(1))
        assert seen and not any(seen) and gc.isenabled() == collecting
    finally:
        (gc.enable if before else gc.disable)()
