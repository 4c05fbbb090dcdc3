"""Damaged files of every format: read, or refused in one sentence (fuzz.py says how they are damaged)."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import fuzz
import guided_fuzz
import pytest
from hypothesis import given
from hypothesis import strategies as st

ROOT = Path(__file__).parent.parent
LONG = 10_000


@pytest.fixture(scope="module", params=list(fuzz.FORMATS))
def format(request):
    try:
        return fuzz.make(request.param)
    except LookupError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


def test_an_undamaged_file_loads(format, folder):
    assert fuzz.attempt(format, format.files, folder).sentence is None


@given(st.data())
def test_a_damaged_file_loads_or_is_refused(format, folder, data):
    fuzz.attempt(format, fuzz.damage(format, lambda below: data.draw(st.integers(0, below - 1))), folder)


@pytest.mark.parametrize("fault", ["raises", "warns", "names no file", "takes memory", "takes time"])
def test_what_must_not_be_is_noticed(fault, folder):
    """The fuzzer can fail."""
    if fault == "takes memory" and not fuzz._memory("VmHWM"):
        pytest.skip("this system does not say how much memory was used")

    def read(folder):
        if fault == "raises":
            raise ValueError("of the wrong kind")
        if fault == "warns":
            fuzz.warnings.warn("overflow", RuntimeWarning, stacklevel=1)
        if fault == "names no file":
            raise fuzz.SiameseError("something is wrong")
        if fault == "takes memory":
            bytearray(b"x") * (300 << 20)
        if fault == "takes time":
            start = fuzz.time.process_time()
            while fuzz.time.process_time() < start + 2 * seconds:
                pass

    seconds, before = 0.1, fuzz.SECONDS
    fuzz.SECONDS = seconds if fault == "takes time" else before
    try:
        with pytest.raises(ValueError if fault == "raises" else AssertionError):
            fuzz.attempt(fuzz.Format({}, [], read), {}, folder)
    finally:
        fuzz.SECONDS = before


@pytest.mark.long
@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="memory is read from /proc, and limited")
@pytest.mark.parametrize("name", list(fuzz.FORMATS))
def test_many_damaged_files(name):
    """In a process of its own with a limit of memory; -s shows what was most."""
    try:
        fuzz.make(name)
    except LookupError as error:
        pytest.skip(str(error))
    command = [sys.executable, str(ROOT / "tests" / "fuzz.py"), name, str(LONG)]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    print(done.stdout, end="")


def test_every_format_has_a_group_that_is_fuzzed_by_coverage():
    assert sorted(name for group in guided_fuzz.GROUPS.values() for name in group) == sorted(fuzz.FORMATS)


@pytest.mark.long
@pytest.mark.skipif(find_spec("atheris") is None, reason="needs atheris")
@pytest.mark.parametrize("group", list(guided_fuzz.GROUPS))
def test_files_damaged_guided_by_coverage(group, tmp_path):
    """Three minutes for each group; -s shows what was tried, reached and most."""
    command = [sys.executable, str(ROOT / "tests" / "guided_fuzz.py"), group, "180"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    print(done.stdout, end="")
