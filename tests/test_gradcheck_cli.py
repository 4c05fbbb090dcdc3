"""`siamese-np gradcheck` with its options: what each does, what is the user's mistake, and streams that end early."""

import json
import os
import subprocess
import sys

import pytest

from siamese_np.cli import main
from siamese_np.gradcheck import cases
from siamese_np.gradcheck.engine import Options
from siamese_np.gradcheck.report import Report

MODULE = '''
import numpy as np

class Layer:
    """out = x * x; its gradient is off by `off`, relatively."""
    off = 0.0

    def forward(self, x):
        return x * x, x

    def backward(self, dout, x):
        return 2 * x * dout * (1 + self.off)

class Slight(Layer):
    off = 1e-4

class Wrong(Layer):
    off = 1.0

class Rounds(Layer):
    def forward(self, x):
        return np.round(x), x

    def backward(self, dout, x):
        return 0 * dout

class Hangs(Layer):
    def forward(self, x):
        while True:
            pass
'''


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A file of a user in the current folder; its name is that of the folder, since modules are imported once."""
    name = f"own_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    yield f"{name}.py"
    sys.modules.pop(name, None)


def test_tolerance(own, capsys):
    arguments = ["gradcheck", f"{own}:Slight", "--shape", "2,3"]
    assert main(arguments) == 1
    assert main([*arguments, "--tolerance", "1e-3"]) == 0
    assert main([*arguments, "--tolerance", "1e-3", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["tolerance"] == 1e-3


def test_the_window_of_conv2d(capsys):
    arguments = ["--kernel", "2,3", "--stride", "2,1", "--pad", "1,0", "--shape", "1,4,4,1"]
    assert main(["gradcheck", "conv2d", *arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["operations"]["conv2d"]
    assert len(found) == 2  # as made, and with its parameters moved
    for case in found:
        assert "2x3, stride=(2, 1), pad=(1, 0)" in case["name"]
        assert [array["shape"] for array in case["tensors"]] == [[1, 4, 4, 1], [2, 3, 1, 3], [3]]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["conv2d", "--kernel", "3"], "argument --kernel: these are two whole numbers such as 3,2, not '3'"),
        (["conv2d", "--stride", "1,x"], "argument --stride: a shape is whole numbers"),
        (["conv2d", "--stride", "0,1"], "stride must be a whole number of at least 1, not 0"),
        (["conv2d", "--kernel", "9,9"], "is larger than its padded input"),
        (["relu", "--pad", "1,1"], "--pad is for conv2d alone"),
        (["--kernel", "3,3"], "--kernel is for conv2d alone"),
        (["relu", "--tolerance", "2"], "tolerance"),
        (["relu", "--tolerance", "small"], "argument --tolerance: invalid float value: 'small'"),
        (["relu", "--entrys", "3"], "there is no option --entrys; did you mean --entries?"),
        (["relu", "--shape=--"], "argument --shape: expected a value, not --"),
        (["nowhere.py:Layer", "--shape", "4"], "there is no module nowhere"),
    ],
)
def test_a_mistake_is_one_sentence_and_one_object_for_programs(arguments, sentence, capsys):
    assert main(["gradcheck", *arguments]) == 2
    printed = capsys.readouterr()
    assert not printed.out and printed.err.count("\n") == 1 and sentence in printed.err
    assert main(["gradcheck", *arguments, "--json"]) == 2
    printed = capsys.readouterr()
    error = json.loads(printed.out)
    assert list(error) == ["error"] and sentence in error["error"] and error["error"] in printed.err


@pytest.mark.skipif(os.name != "posix", reason="needs a shell")
def test_the_exit_status_survives_a_closed_pipe(own, tmp_path):
    environment = {**os.environ, "PYTHON": sys.executable, "PYTHONPATH": os.pathsep.join(sys.path)}
    for thing, status in (("Layer", 0), ("Wrong --json", 1), ("Rounds", 3), ("Missing --json", 2)):
        command = f'"$PYTHON" -m siamese_np gradcheck --shape 2,3 {own}:{thing}'
        script = f"{{ {command}; echo $? >status; }} 2>log | true"
        subprocess.run(["sh", "-c", script], env=environment, timeout=120, check=True)
        assert int((tmp_path / "status").read_text()) == status, thing
        assert "Traceback" not in (tmp_path / "log").read_text()


@pytest.mark.parametrize("option", ["", "--json"])
def test_a_forward_that_hangs_is_ended(own, option):
    call = (
        "import sys; from siamese_np import cli; from siamese_np.gradcheck import watchdog; "
        "watchdog.GRACE = 0.1; sys.exit(cli.main())"
    )
    arguments = ["gradcheck", f"{own}:Hangs", "--shape", "2,3", "--seconds", "0.5", *option.split()]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", call, *arguments], env=environment, capture_output=True, text=True, timeout=60
    )
    last = done.stderr.splitlines()[-1]
    assert done.returncode == 3 and "Hangs did not return" in last and "Traceback" not in done.stderr
    assert done.stdout == "" if not option else json.loads(done.stdout)["verdict"] == "INCONCLUSIVE"


@pytest.mark.parametrize(
    ("arguments", "name", "value"),
    [
        (["--tolerance", "1e-4"], "tolerance", 1e-4),
        (["--strict"], "strict", True),
        (["--entries", "7"], "entries", 7),
        (["--seconds", "2.5"], "seconds", 2.5),
        (["--reseed"], "reseed", True),
    ],
)
def test_options_reach_the_check(arguments, name, value, monkeypatch):
    found = []
    monkeypatch.setattr(cases, "check_cases", lambda operations, options: found.append(options) or Report({}, 0, 1e-6))
    main(["gradcheck", "flatten", *arguments])
    main(["gradcheck", "flatten"])
    assert getattr(found[0], name) == value and found[1] == Options(progress=True)
