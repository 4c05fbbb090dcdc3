"""Compiled kernels and their cache: the same bits just compiled and loaded, and no harm from a damaged cache."""

import compileall
import errno
import gc
import importlib
import os
import pickle
import pkgutil
import shutil
import subprocess
import sys
import threading
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import numba
import numpy as np
import pytest
from numba.core import event
from numba.core.errors import TypingError

import siamese_np.kernels
from siamese_np.errors import OptionError
from siamese_np.runtime import cache, numba_compat
from siamese_np.runtime.cache import folder_for, safe_folder
from siamese_np.runtime.jit import inlined, kernel
from siamese_np.runtime.numba_compat import (
    PASSED,
    PRIVATE,
    compile_in_two_processes,
    private_names_work,
    run_self_test,
)

PACKAGE = Path(siamese_np.__file__).parent
MODE = "private" if PRIVATE else "public"
private = pytest.mark.skipif(not PRIVATE, reason="needs Numba's private names")

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
    settings = {**os.environ, "SIAMESE_NP_NUMBA": MODE, "NUMBA_CACHE_DIR": str(cache), **environment}
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


@private
def test_a_damaged_cache_is_compiled_anew(fresh):
    cache, result = fresh
    damaged = {}
    for number, path in enumerate(sorted(cache.rglob("*.nbc"))):
        content = path.read_bytes()
        middle = len(content) // 2
        flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        damaged[path] = (flipped, content[:middle], b"")[number % 3]
        path.write_bytes(damaged[path])
    assert train(cache) == (result, "")
    kept = [path.name for path, content in damaged.items() if path.read_bytes() == content]
    assert all(name.startswith("shards.worker_loop") for name in kept)  # whose thread may end before it is written
    assert train(cache) == (result, "")


KEY = ("signature", "machine", "code")


@pytest.fixture
def entries(tmp_path):
    """The files of a function, and one that is saved."""
    entries = cache.Entries(tmp_path, "function", "source 1", pickle.dumps)
    entries.save(KEY, b"code")
    (path,) = tmp_path.glob("function.*.nbc")
    return entries, path


def test_no_damaged_entry_is_loaded(entries):
    entries, path = entries
    content = path.read_bytes()
    assert entries.load(KEY) == b"code"
    for damaged in (
        *(content[:i] + bytes([content[i] ^ 0x10]) + content[i + 1 :] for i in range(len(content))),
        *(content[:length] for length in range(len(content))),
        content + b"\0",
    ):
        path.write_bytes(damaged)
        assert entries.load(KEY) is None
    entries.save(KEY, b"again")
    assert entries.load(KEY) == b"again" and list(path.parent.iterdir()) == [path]


def test_an_entry_is_loaded_only_for_what_it_was_made_from(entries, tmp_path):
    entries, path = entries
    assert entries.load(("other", *KEY[1:])) is None
    assert entries.load((*KEY[:2], "edited")) is None
    assert cache.Entries(tmp_path, "function", "source 2", pickle.dumps).load(KEY) is None
    assert cache.Entries(tmp_path, "other", "source 1", pickle.dumps).load(KEY) is None
    entries.save(("other", *KEY[1:]), b"other")
    assert (entries.load(KEY), entries.load(("other", *KEY[1:]))) == (b"code", b"other")
    entries.flush()
    assert not list(path.parent.iterdir()) and entries.load(KEY) is None


def test_an_entry_that_cannot_be_written_leaves_nothing(entries, monkeypatch):
    entries, path = entries

    def full(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        entries.save(KEY, b"again")
    assert list(path.parent.iterdir()) == [path] and entries.load(KEY) == b"code"


@private
def test_a_full_disk_is_told_once_and_not_for_each_kernel(fresh, tmp_path):
    """`sitecustomize` runs at the start of every Python."""
    (tmp_path / "sitecustomize.py").write_text("""
import errno, tempfile

made = tempfile.mkstemp

def full(*, dir=None, prefix=None, **others):
    if dir is not None and "kernels-" in str(dir):
        raise OSError(errno.ENOSPC, "No space left on device", f"{dir}/{prefix}")
    return made(dir=dir, prefix=prefix, **others)

tempfile.mkstemp = full
""")
    out, said = train(tmp_path / "cache", PYTHONPATH=os.pathsep.join([str(tmp_path), str(PACKAGE.parent)]))
    assert out == fresh[1] and said.count("compiled kernels are not kept") == said.count("No space left") == 1
    assert not list((tmp_path / "cache").rglob("*.nb*"))


def python(code, folder=None, **environment):
    """What `code` prints, and what it says on standard error, in a process of its own that runs in `folder`."""
    settings = {**os.environ, "SIAMESE_NP_NUMBA": MODE, "PYTHONPATH": str(PACKAGE.parent), **environment}
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
    code = "from siamese_np.runtime.jit import cache_folder; print(cache_folder().parent)"
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


posix = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="rights are those of POSIX")
NOBODY = 65534


def _give_away(*paths):
    """Let the files, folders and links belong to another user."""
    if os.geteuid() != 0:
        pytest.skip("only root can give files away")
    for path in paths:
        os.chown(path, NOBODY, NOBODY, follow_symlinks=False)


@pytest.fixture
def ours(tmp_path):
    """A folder of ours, by its real path."""
    folder = tmp_path.resolve() / "ours"
    folder.mkdir(mode=0o755)
    return folder


@posix
def test_missing_folders_of_the_cache_are_closed_to_others(ours):
    before = os.umask(0)
    try:
        folder = safe_folder(ours / "a" / "b")
    finally:
        os.umask(before)
    assert folder == ours / "a" / "b"
    assert [path.stat().st_mode & 0o777 for path in (folder, folder.parent)] == [0o700, 0o700]


@posix
def test_a_safe_cache_folder_is_told_by_its_real_path(ours, tmp_path):
    sticky = ours / "sticky"
    inner = sticky / "inner"
    inner.mkdir(parents=True)
    sticky.chmod(0o1777)  # as the folder of temporary files
    (ours / "link").symlink_to(sticky, target_is_directory=True)
    (inner / "back").symlink_to("../../link/inner", target_is_directory=True)
    assert safe_folder(ours / "link" / "inner" / "back") == inner
    assert safe_folder(ours / "sticky" / ".." / "other") == ours / "other"
    assert inner.stat().st_mode & 0o777 == 0o700  # and nobody can write to what Numba makes in it


@posix
@pytest.mark.parametrize("mode", [0o777, 0o757, 0o1777])
def test_a_cache_that_others_can_write_is_not_trusted(mode, ours):
    ours.chmod(mode)
    with pytest.raises(PermissionError, match="writable by nobody"):
        safe_folder(ours)
    (ours / "a").mkdir()
    if mode != 0o1777:
        with pytest.raises(PermissionError, match=f"{ours} must be writable by nobody else"):
            safe_folder(ours / "a")


@posix
def test_only_a_group_of_ones_own_may_write(ours, monkeypatch):
    import grp
    import pwd

    ours.chmod(0o775)
    user = pwd.struct_passwd(("me", "", os.geteuid(), ours.stat().st_gid, "", "", ""))
    monkeypatch.setattr(pwd, "getpwuid", lambda _: user)
    for name, members, safe in (("me", [], True), ("me", ["me"], True), ("me", ["you"], False), ("us", [], False)):
        group = grp.struct_group((name, "", user.pw_gid, members))
        monkeypatch.setattr(grp, "getgrgid", lambda _, group=group: group)
        if safe:
            assert safe_folder(ours / "a") == ours / "a"
        else:
            with pytest.raises(PermissionError, match=f"{ours} must be writable by nobody else"):
                safe_folder(ours / "a")


@posix
def test_a_cache_that_leads_nowhere_is_refused(ours):
    (ours / "circle").symlink_to("circle")
    (ours / "dangling").symlink_to("nothing")
    (ours / "file").touch()
    for name in ("circle", "dangling", "file", "file/folder"):
        with pytest.raises(OSError, match=name.split("/")[0]):
            safe_folder(ours / name)


@posix
def test_a_cache_that_others_can_replace_is_not_trusted(ours, tmp_path):
    """Of all that leads to the folder, one folder or link belongs to somebody else."""
    theirs = tmp_path.resolve() / "theirs"
    (theirs / "inner").mkdir(parents=True)
    (theirs / "to_ours").symlink_to(ours, target_is_directory=True)
    (tmp_path / "link").symlink_to(ours, target_is_directory=True)
    (ours / "over_theirs").symlink_to(theirs / "to_ours" / "a", target_is_directory=True)
    (ours / "a").mkdir()
    ways = [theirs / "inner", theirs / "new", theirs / "to_ours" / "a", ours / "over_theirs", tmp_path / "link" / "a"]
    _give_away(theirs, tmp_path / "link")
    for mode in (0o755, 0o1777):
        theirs.chmod(mode)
        for way in ways:
            with pytest.raises(PermissionError, match=r"(theirs|link) must belong to this user or to root"):
                safe_folder(way)
    assert not (theirs / "new").exists()
    assert safe_folder(ours / "a") == ours / "a"


@posix
def test_machine_code_of_another_user_is_not_run(ours, tmp_path):
    """They put a link to a folder of ours where the cache will be, to let it lead to theirs once it is trusted."""
    name = python(
        "from siamese_np.runtime.jit import cache_folder; print(cache_folder().name)", NUMBA_CACHE_DIR=str(ours)
    )[0]
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    link = theirs / name.strip()
    link.symlink_to(ours / name.strip(), target_is_directory=True)
    _give_away(link, theirs)
    code = """
import numpy as np
from siamese_np import Dense
from siamese_np.runtime import jit
print(jit.cache_folder(), Dense(3, 4, seed=0).forward(np.ones((2, 3), np.float32))[0].shape)
"""
    out, said = python(code, NUMBA_CACHE_DIR=str(theirs))
    assert out == "None (2, 4)\n" and said.count("compiled kernels are not kept") == 1
    assert not list(ours.rglob("*.nb[ci]"))


def test_an_edit_of_any_source_names_another_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "PACKAGE", tmp_path / "package")
    for folder in ("kernels", "runtime"):
        shutil.copytree(PACKAGE / folder, tmp_path / "package" / folder)
    sources = [path for path in (tmp_path / "package").rglob("*.py") if path.read_bytes()]
    names = {folder_for("kernels", "runtime", "kernels").name, folder_for("kernels", "runtime", "kernels", also=1).name}
    for source in sources:
        content = source.read_bytes()
        source.write_bytes(content + b"#")
        names.add(folder_for("kernels", "runtime", "kernels").name)
        source.write_bytes(content)
    (tmp_path / "package" / "kernels" / "zero.py").rename(tmp_path / "package" / "kernels" / "zeros.py")
    names.add(folder_for("kernels", "runtime", "kernels").name)
    assert len(names) == 3 + len(sources) > 20


def test_kernels_run_as_plain_python():
    """The same code without compilation, where vectors reach past the end of an array."""
    code = """
import numpy as np
from siamese_np import kernels, textbook
rng = np.random.default_rng(0)
for C, F in ((1, 3), (8, 5)):
    x, w, dout = (rng.standard_normal(shape) for shape in ((1, 5, 6, C), (3, 3, C, F), (1, 5, 6, F)))
    ours = [np.empty_like(x), np.zeros_like(w), np.zeros(F)]
    kernels.conv2d_backward(*ours, dout, x, w, (1, 1), (1, 1))
    for one, other in zip(ours, textbook.conv2d_backward(dout, (x, w, (1, 1), (1, 1)))):
        np.testing.assert_allclose(one, other, atol=1e-12)
"""
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "NUMBA_DISABLE_JIT": "1"})


@inlined
def _product_and_sum(a, b, c):
    return a * b + c


@kernel(reassociate=True)
def _loosely(out, a, b, c):
    out[0] = _product_and_sum(a, b, c)


@kernel
def _strictly(out, a, b, c):
    out[0] = _product_and_sum(a, b, c)


def test_an_inlined_function_is_strict_whoever_calls_it_first():
    a, c = 1 + 2.0**-30, -(1 + 2.0**-29)  # rounded, a * a is -c; as one with the sum, it is a little more
    for function in (_loosely, _strictly):
        out = np.empty(1)
        function(out, a, a, c)
        assert out[0] == 0


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="nothing is compiled")
def test_no_kernel_may_take_nan_or_infinity_for_impossible():
    found = {}
    for module in pkgutil.walk_packages(siamese_np.kernels.__path__, "siamese_np.kernels."):
        for name, thing in vars(importlib.import_module(module.name)).items():
            options = getattr(getattr(thing, "compiled", thing), "targetoptions", {})
            if "fastmath" in options:
                found[name] = options["fastmath"] or set()
    assert len(found) > 100 and set().union(*found.values()) == {"contract", "reassoc"}


class Line(NamedTuple):
    slope: float
    start: float


@inlined
def _value(line, x):
    return line.slope * x + line.start


@kernel
def _values(out, a):
    out[0] = _value(Line(1, 0.5), 2)
    out[1] = _value(Line(a, 2), 2)
    out[2] = _value(Line(3, 4), 2)
    out[3] = _value(Line(a, a), 2)
    out[4] = _value(Line(a, a * 0.5), 2)
    out[5] = _value(Line(1, a * 0.5), 2)


def test_an_inlined_function_takes_named_tuples_of_numbers_known_ahead_or_not():
    out = np.empty(6)
    _values(out, 3.0)
    np.testing.assert_array_equal(out, [2.5, 8, 10, 9, 7.5, 3.5])


@inlined
def _twice(pair):
    return 2 * pair[0] + pair[1]


@numba.njit
def _twice_of_literals(out):  # not from a cache
    out[0] = _twice((1, 2))
    out[1] = _twice((3, 4))


@private
def test_an_inlined_function_is_compiled_once_for_all_literal_numbers():
    out = np.empty(2)
    _twice_of_literals(out)
    np.testing.assert_array_equal(out, [4, 10])
    assert len(_twice.overloads) == 1


@private
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


@private
def test_the_self_test_passes():
    assert run_self_test() == PASSED


@pytest.fixture
def self_test(tmp_path, monkeypatch):
    """Put other code in place of the self-test, whose outcome is not known yet."""
    monkeypatch.delenv("SIAMESE_NP_NUMBA", raising=False)
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(numba_compat, "SECONDS", 20)

    def replace(code):
        monkeypatch.setattr(numba_compat, "CHILD", code)

    return replace


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("raise AttributeError('no _nrt')", r"status 1: .*AttributeError: no _nrt"),
        ("import os; os.abort()", "status -?[0-9]+: "),
        ("import ctypes; ctypes.string_at(8)", "status -?[0-9]+: "),
        ("import time; time.sleep(60)", "takes more than 2 s"),
    ],
    ids=["fails", "aborts", "crashes", "hangs"],
)
def test_public_names_do_where_the_self_test(code, says, self_test, tmp_path, monkeypatch):
    self_test(code)
    monkeypatch.setattr(numba_compat, "SECONDS", 2)
    with pytest.warns(RuntimeWarning, match=rf"(?s)Numba {numba.__version__} does not work.*{says}") as said:
        assert not private_names_work()
    self_test("pass")
    with pytest.warns(RuntimeWarning) as again:  # it is not run at each start
        assert not private_names_work()
    assert [str(warning.message) for warning in again] == [str(said[0].message)] and len(said) == 1
    (kept,) = tmp_path.rglob("self-test")
    assert str(kept) in str(said[0].message)
    kept.unlink()
    assert private_names_work()


@pytest.mark.parametrize(("program", "says"), [("", "cannot start another"), ("/no/such/python", "no/such/python")])
def test_public_names_do_where_no_child_can_be_started(program, says, self_test, tmp_path, monkeypatch):
    self_test("pass")
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", program)
        with pytest.warns(RuntimeWarning, match=says):
            assert not private_names_work()
    assert not list(tmp_path.rglob("self-test"))
    assert private_names_work() and list(tmp_path.rglob("self-test"))


def test_a_good_outcome_is_kept_and_an_empty_file_is_none(self_test, tmp_path):
    self_test("pass")
    assert private_names_work()
    self_test("raise SystemExit(1)")
    assert private_names_work()
    next(tmp_path.rglob("self-test")).write_text("")
    with pytest.warns(RuntimeWarning, match="status 1"):
        assert not private_names_work()


def test_a_second_process_compiles_where_nothing_is_compiled_yet(self_test, tmp_path, monkeypatch):
    started = []

    def start(args, env, **_):
        started.append((args[-1], env["SIAMESE_NP_NUMBA"]))
        return SimpleNamespace(kill=lambda: None)

    monkeypatch.setattr(subprocess, "Popen", start)
    monkeypatch.setattr(numba_compat, "processors", lambda: 2)
    compile_in_two_processes()
    ((code, names),) = started
    assert code.endswith("compile_ahead()") and names == "private"
    for setting in ("private", "public"):  # as in that process itself, and in the self-test
        with monkeypatch.context() as patch:
            patch.setenv("SIAMESE_NP_NUMBA", setting)
            compile_in_two_processes()
    with monkeypatch.context() as patch:
        patch.setattr(numba_compat, "processors", lambda: 1)
        compile_in_two_processes()
    (kernels,) = tmp_path.glob("kernels-*")
    (kernels / "adam_step.lock").touch()
    compile_in_two_processes()
    assert len(started) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="no fcntl")
def test_a_kernel_is_compiled_by_one_process_at_a_time(tmp_path, monkeypatch):
    path, entered = tmp_path / "scale.lock", threading.Event()

    def enter():
        with numba_compat._locked(path):
            entered.set()

    with numba_compat._locked(path):
        waiting = threading.Thread(target=enter)
        waiting.start()
        assert not entered.wait(0.2)
        with numba_compat._locked(tmp_path / "other.lock"), numba_compat._locked(None):
            pass
    waiting.join(10)
    assert entered.is_set()
    monkeypatch.setattr(numba_compat, "TURN_SECONDS", 0.1)
    with numba_compat._locked(path), numba_compat._locked(path):  # the other never ends
        pass
    with numba_compat._locked(tmp_path / "no folder" / "scale.lock"):
        pass


AHEAD = """
import numpy as np
from siamese_np import kernels
from siamese_np.bench.end_to_end import Model
from siamese_np.warm_up import compile_ahead
compiled = {name: getattr(kernels, name) for name in kernels.__all__}
versions = lambda: {name: len(getattr(k, "compiled", k).signatures) for name, k in compiled.items()}
compile_ahead()
before = versions()
Model("cnn").all_pairs_step(np.ones((4, 28, 28, 1), np.float32), np.arange(4) % 2, 1e-3)
after = versions()
print(*sorted(name for name in compiled if before[name] and before[name] == after[name] == 1))
print(*sorted(name for name in compiled if before[name] != after[name]))
"""


@private
def test_what_is_compiled_ahead_is_what_a_training_step_needs():
    ahead, first = python(AHEAD)[0].splitlines()
    assert {"conv_relu_pool_backward", "dense_forward", "dense_backward", "all_pairs_backward"} < set(ahead.split())
    assert first == "adam_step conv_relu_pool_forward"


def test_where_no_folder_is_safe_each_start_tests(self_test, tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "PACKAGE", tmp_path)  # without sources
    self_test("pass")
    assert private_names_work()
    self_test("raise SystemExit(1)")
    with pytest.warns(RuntimeWarning, match="status 1"):
        assert not private_names_work()


def test_the_environment_chooses_the_names(monkeypatch):
    monkeypatch.setenv("SIAMESE_NP_NUMBA", "public")
    assert not private_names_work()
    monkeypatch.setenv("SIAMESE_NP_NUMBA", "both")
    with pytest.raises(OptionError, match="must be private or public, not 'both'"):
        private_names_work()


@private
def test_a_numba_without_the_private_names_gives_the_same_bits(fresh, tmp_path):
    """`sitecustomize` runs at the start of every Python, so both this process and its self-test lack them."""
    (tmp_path / "sitecustomize.py").write_text("from numba.core import codegen\ndel codegen.JITCodeLibrary\n")
    path = os.pathsep.join([str(tmp_path), str(PACKAGE.parent)])
    out, said = train(tmp_path / "cache", PYTHONPATH=path, SIAMESE_NP_NUMBA="")
    assert out == fresh[1] and said.count("cannot import name 'JITCodeLibrary'") == 1
