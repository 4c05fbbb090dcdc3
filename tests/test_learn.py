"""The exercises: templates, solutions, typical mistakes and what is said of them, files that misbehave, progress."""

import json
import re
import sys
from pathlib import Path

import numba
import numpy as np
import pytest

from siamese_np import learn, textbook
from siamese_np.cli import main
from siamese_np.errors import DataError, OptionError
from siamese_np.learn import checking, solutions
from siamese_np.learn.checking import check_function
from siamese_np.learn.exercise import find
from siamese_np.learn.tasks import TASKS, rows_alone

ROOT = Path(__file__).parent.parent
NAMES = list(learn.exercises())
RNG = np.random.default_rng(0)
DENSE = "def dense_backward(dout, cache):\n    x, w = cache\n    "


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A fresh folder of exercises, the current folder."""
    learn.start(tmp_path / "exercises")
    monkeypatch.chdir(tmp_path / "exercises")
    return tmp_path / "exercises"


def test_a_full_disk_leaves_nothing_that_start_would_refuse(tmp_path, monkeypatch):
    def full(folder, done):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("siamese_np.learn.folder.record", full)
    with pytest.raises(OSError, match="No space left"):
        learn.start(tmp_path / "exercises")
    assert not list(tmp_path.iterdir())


def run(capsys, *arguments) -> tuple[int, str]:
    """Exit status and standard output of ``siamese-np learn``."""
    capsys.readouterr()
    status = main(["learn", *map(str, arguments)])
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    return status, out if status != 2 else err


# --- the exercises ----------------------------------------------------------------------------------------------


def test_there_are_enough_exercises_and_each_has_a_task_hints_and_a_signature():
    assert len(NAMES) >= 15 and list(TASKS) == NAMES
    for number, exercise in enumerate(learn.exercises().values(), 1):
        assert exercise.file == f"{number:02}_{exercise.name}.py"
        assert exercise.hints and "Hint: " not in exercise.text and "Read: " in exercise.text
        assert exercise.title.endswith((".", "?")) and "Shapes." in exercise.text
        assert [find(name) for name in (str(number), exercise.file, exercise.name)] == [exercise] * 3


def test_what_is_to_be_read_exists():
    for exercise in learn.exercises().values():
        path, _, section = exercise.read.partition(", ")
        text = (ROOT / path).read_text(encoding="utf-8")
        if path.endswith(".ipynb"):
            heading = re.fullmatch(r'section "(.+)"', section)[1]
            sources = ["".join(cell["source"]) for cell in json.loads(text)["cells"] if cell["cell_type"] == "markdown"]
            assert re.search(rf"^#+ {re.escape(heading)}$", "\n".join(sources), re.MULTILINE), exercise.name


@pytest.mark.parametrize("name", NAMES)
def test_no_template_passes(name, folder, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setitem(sys.modules, "exercise", None)
    monkeypatch.setattr("siamese_np.ladder.rung.RUNGS", [])
    exercise = find(name)
    outcome = check_function(exercise, checking._load(exercise.function, str(folder / exercise.file)))
    assert not outcome.passed and outcome.findings and outcome.exercise == name
    assert ("is still empty" in outcome.findings[0]) == (not name.startswith("bug"))
    assert "likely: " in repr(outcome) or not name.startswith("bug")


ONCE = [*{id(task): name for name, task in reversed(TASKS.items())}.values()]  # a bug to be found has another's task


@pytest.mark.parametrize("name", ONCE)
def test_every_solution_passes(name):
    if "kernel" in name and numba.config.DISABLE_JIT:
        pytest.skip("a kernel that is not compiled is not fast")
    task = TASKS[name]
    solution = numba.njit(task.shown[0]) if "kernel" in name else task.solution
    outcome = check_function(find(name), solution)
    assert outcome.passed and outcome, outcome


@pytest.mark.parametrize("name", NAMES)
def test_every_solution_is_shown(name):
    assert learn.solution(name).count("def ") >= 1


# --- what is said of mistakes -----------------------------------------------------------------------------------


def pool(choose):
    """Max-pooling's backward pass with another choice of who gets the gradient."""

    def maxpool2d_backward(dout, cache):
        x, (KH, KW), (sh, sw) = cache
        dx = np.zeros_like(x)
        for n, i, j, c in np.ndindex(dout.shape):
            seen = n, slice(i * sh, i * sh + KH), slice(j * sw, j * sw + KW), c
            dx[seen] += choose(x[seen]) * dout[n, i, j, c]
        return dx

    return maxpool2d_backward


def dense(change):
    return lambda dout, cache: change(*textbook.dense_backward(dout, cache))


def distance(scale, sign=-1):
    def euclidean_backward(ddist, cache):
        emb_a, emb_b, dist = cache
        with np.errstate(all="ignore"):
            demb_a = (ddist / scale(dist))[:, None] * (emb_a - emb_b)
        return demb_a, sign * demb_a

    return euclidean_backward


def overwritten(dout, cache):
    x, w = cache
    _, OH, OW, _ = dout.shape
    dx = np.zeros_like(x)
    for p, q in np.ndindex(w.shape[:2]):
        dx[:, p : p + OH, q : q + OW] = dout @ w[p, q].T
    return dx


def one_branch(ddist, cache):
    dx_a, dx_b, _, _ = solutions.siamese_backward(ddist, cache)
    dout = textbook.relu_backward(textbook.euclidean_backward(ddist, cache[4])[0], cache[2])
    return dx_a, dx_b, *textbook.dense_backward(dout, cache[0])[1:]


def one_sided(function, x):
    steps = 1e-7 * np.eye(x.size).reshape(x.size, *x.shape)
    return np.array([(function(x + step) - function(x)) / 1e-7 for step in steps]).reshape(x.shape)


def elementwise(dout, cache):
    x, w = cache
    return dout * w, x * dout, dout


def mask_in_place(dout, cache):
    cache[0][cache[0] > 0] = 1
    return dout * cache[0]


def pooled_with_strides_swapped(dout, cache):
    x, window, (sh, sw) = cache
    return solutions.maxpool2d_backward(dout, (x, window, (sw, sh)))


def pooled_over_channels(dout, cache):
    x, (KH, KW), (sh, sw) = cache
    dx = np.zeros_like(x)
    for n, i, j in np.ndindex(dout.shape[:3]):
        seen = n, slice(i * sh, i * sh + KH), slice(j * sw, j * sw + KW)
        dx[seen] += (x[seen] == x[seen].max()) * dout[n, i, j]
    return dx


def padded_wrong(dout, cache):
    x, w, stride, (ph, pw) = cache
    return textbook.conv2d_backward(dout, (x, w, stride, (pw, ph)))


def conv_overwritten(dout, cache):
    x, w, (sh, sw), (ph, pw) = cache
    (_, OH, OW, _), (_, H, W, _) = dout.shape, x.shape
    dx = np.pad(np.zeros_like(x), ((0, 0), (ph, ph), (pw, pw), (0, 0)))
    for p, q in np.ndindex(w.shape[:2]):
        dx[:, p : p + OH * sh : sh, q : q + OW * sw : sw] = dout @ w[p, q].T
    return dx[:, ph : ph + H, pw : pw + W], *textbook.conv2d_backward(dout, cache)[1:]


def conv(change):
    return lambda dout, cache: change(*textbook.conv2d_backward(dout, cache))


def pairs_of_one_half(ddist, cache):
    dist, emb = cache
    demb = np.zeros_like(emb)
    for i, j in np.argwhere(np.tril(dist) > 0):
        g = ddist[i, j] * (emb[i] - emb[j]) / dist[i, j]
        demb[i] += g
        demb[j] -= g
    return demb


def same_sign_for_both(ddist, cache):
    dist, emb = cache
    demb = np.zeros_like(emb)
    for i, j in np.argwhere(dist > 0):
        g = ddist[i, j] * (emb[i] - emb[j]) / dist[i, j]
        demb[i] += g
        demb[j] += g
    return demb


WRONG = [
    ("dense", dense(lambda dx, dw, db: (-dx, dw, db)), "every entry has the wrong sign"),
    ("dense", dense(lambda dx, dw, db: (dx, dw)), "\n  it must return dx and dw and db, not 2 values\n"),
    ("dense", lambda dout, cache: dout @ cache[1], r"raises ValueError: .* \(line \d+\)"),
    ("relu", lambda dout, cache: dout, "all of dout goes through"),
    ("dense", lambda dout, cache: None, "\n  it must return dx and dw and db, not None\n"),
    ("dense", lambda dout, cache: (None, None, None), "dx must be an array of float64, as x is, not None"),
    ("dense", lambda dout, cache: {"x": dout, "w": dout, "b": dout}, "must return dx and dw and db, not a dict"),
    (
        "dense",
        elementwise,
        r"\(line \d+\); there dout \(5, 4\); x \(5, 3\); w \(3, 4\)\n",
    ),
    ("dense", dense(lambda dx, dw, db: (dx, dw.T, db)), "dw has shape .*\n +likely: it is transposed"),
    ("dense", dense(lambda dx, dw, db: (dw, dx, db)), "dx has shape .*\n +likely: that is the shape of w"),
    ("dense", lambda dout, cache: (dout @ cache[1].T, cache[0].T @ dout, dout.sum(1)), "likely: .* the wrong axis"),
    ("dense", lambda dout, cache: (dout @ cache[1].T, cache[0].T @ dout, dout), "not yet summed over the first axis"),
    ("dense", dense(lambda dx, dw, db: (dx, dw, db.sum())), "db has shape .*\n +likely: it is summed over all axes"),
    (
        "dense",
        dense(lambda dx, dw, db: (dx, dw, db[None])),
        r"db has shape \(1, 4\), but b has shape \(4,\)\n +likely: .*keepdims=True",
    ),
    (
        "dense",
        dense(lambda dx, dw, db: (dx.astype(int), dw, db)),
        "dx must be an array of float64, as x is, not .*int64",
    ),
    (
        "dense",
        dense(lambda dx, dw, db: (dx, dw / 5, db)),
        "dw: 12 of 12 entries are wrong\n(.*\n)*.*divided by 5, the batch size N",
    ),
    ("relu", mask_in_place, "it changes an array of its cache"),
    ("relu", lambda dout, cache: np.where(cache[0] > 0, 1.0, 0.0), "dout is not used"),
    ("pooling", pooled_with_strides_swapped, "raises|wrong"),
    ("pooling", pooled_over_channels, "dx: .* entries are wrong"),
    ("conv_stride", conv_overwritten, r"dx: (.*\n)*.*only one of them arrives: = for \+="),
    ("conv_stride", padded_wrong, r"conv2d_backward raises ValueError: .* \(line \d+\); there dout .*; ph 1; pw 0"),
    ("conv_stride", conv(lambda dx, dw, db: (np.pad(dx, ((0, 0), (1, 1), (0, 0), (0, 0))), dw, db)), "is not cut off"),
    ("conv_stride", conv(lambda dx, dw, db: (dx[:, :0], dw, db)), "likely: it is empty"),
    ("pooling", pool(lambda window: window == window.max()), "this is a kink\n.* first of them in row-major order"),
    ("pooling", pool(lambda w: (w == w.max()) / (w == w.max()).sum()), "this is a kink\n.* first of them"),
    ("pooling", pool(lambda window: np.ones(window.shape) / window.size), "goes where nothing should arrive"),
    ("conv_dw", lambda dout, cache: solutions.conv2d_backward_w(dout, cache) / len(dout), "the batch size N"),
    ("conv_dw", lambda dout, cache: solutions.conv2d_backward_w(dout[:1], (cache[0][:1], cache[1])), r"= for \+="),
    ("conv_dx", overwritten, r"only one of them arrives: = for \+="),
    (
        "relu",
        lambda dout, cache: dout * (cache[0] > 0) * (1 + 1e-7 * RNG.random()),
        "called again with the same arguments, it gives another gradient",
    ),
    ("relu", lambda dout, cache: np.multiply(dout, cache[0] > 0, out=dout), "it changes dout"),
    ("distance", distance(lambda dist: dist), "yours nan, should be 0\n.* exactly 0, not NaN"),
    ("distance", distance(lambda dist: dist + 1e-6), "an epsilon"),
    ("distance", distance(lambda dist: np.where(dist == 0, 1, dist), sign=1), "demb_b: .*\n(.*\n)*.*wrong sign"),
    ("distance", distance(lambda dist: np.ones_like(dist)), "a factor of the chain rule is missing"),
    (
        "contrastive",
        lambda dloss, cache: dloss * abs(cache[0] - cache[1] * cache[2]),
        "wrong; there, every entry has the wrong sign",
    ),
    ("contrastive", lambda dloss, cache: textbook.contrastive_backward(dloss, cache) / len(dloss), "the batch size N"),
    ("contrastive", lambda dloss, cache: dloss * (cache[0] - cache[1] * cache[2]), "a condition is missing"),
    ("contrastive", lambda d, c: textbook.contrastive_backward(d, (c[0], c[1], 1.0)), "margin is not always 1"),
    ("contrastive", lambda d, c: d * textbook.contrastive_forward(*c)[0], "it is the loss itself, not its slope"),
    (
        "shared_weights",
        one_branch,
        "dw: .*\n(.*\n)*?.*branch b is lost in the sum\n +db: .*\n(.*\n)*?.*branch b is lost",
    ),
    (
        "all_pairs",
        lambda d, c: textbook.pairwise_backward(d, (c[0] + 1e-6, c[1])),
        r"yours -?0\.\d{8,9}, should(.*\n)*.*likely: an epsilon, or",
    ),
    ("all_pairs", pairs_of_one_half, "only .* with i > j counts"),
    ("all_pairs", same_sign_for_both, "column i of ddist arrives with the wrong sign"),
    ("all_pairs", rows_alone, "only the output of the same index counts"),
    ("all_pairs", lambda ddist, cache: rows_alone(ddist.T, cache), "the output of the same index, .* is missing"),
    ("all_pairs", lambda ddist, cache: textbook.pairwise_backward(ddist, cache) / 2, "divided by 2"),
    ("momentum", lambda w, v, dw, rate, kept: (w + rate * (kept * v + dw), kept * v + dw), "must be subtracted"),
    ("momentum", lambda w, v, dw, rate, kept: (w - rate * dw, dw), "velocity is not kept"),
    ("momentum", lambda w, v, dw, rate, kept: w, "must return w and velocity, not 1"),
    ("momentum", lambda w, v, dw, rate, _: textbook.sgd_step(w, v, dw, rate, 0.9), "should be"),
    ("adam", lambda *a: textbook.adam_step(*a[:5], 0.9, *a[6:]), "should be"),
    ("adam", lambda *a: textbook.adam_step(*a[:7], 1e-3, *a[8:]), "should be"),
    ("momentum", lambda w, v, dw, *_: (np.subtract(w, dw, out=w), v), "changes its arguments"),
    ("adam", lambda *a: textbook.adam_step(*a[:8], 1, 1), "the corrections are forgotten"),
    ("numeric_derivative", one_sided, "digits are right"),
    ("numeric_derivative", lambda f, x: 2 * solutions.numeric_gradient(f, x), "2 h is meant"),
    ("numeric_derivative", lambda function, x: 0.0, r"must be an array \(3,\) of floats, not a float"),
]


@pytest.mark.parametrize(("name", "wrong", "said"), WRONG, ids=[f"{n}-{i}" for i, (n, *_) in enumerate(WRONG)])
def test_a_typical_mistake_is_named(name, wrong, said):
    outcome = learn.check(wrong, name)
    assert not outcome.passed and not outcome
    assert re.search(said, repr(outcome)), outcome


@pytest.mark.parametrize("name", [name for name in ONCE if getattr(TASKS[name], "mistakes", None)])
def test_a_known_mistake_is_told_by_its_sentence(name):
    for sentence, mistake in TASKS[name].mistakes.items():
        assert f"likely: {sentence}\n" in repr(learn.check(mistake, name))


KERNEL = """
from numba import njit
from siamese_np.ladder.rung import rung

@rung("conv2d_forward", name="mine")
@njit
def conv2d_forward(out, x, w, b, stride, pad):
    N, H, W, F = out.shape
    C = x.shape[3]
    for n in range(N):
        for i in range(H):
            for j in range(W):
                for f in range(F):
                    total = b[f]
                    for p in range(3):
                        for q in range(3):
                            row, column = i + p - 1, j + q - 1
                            if INSIDE:
                                for c in range(C):
                                    total += x[n, row, column, c] * w[p, q, c, f]
                    out[n, i, j, f] = total
"""


@pytest.mark.parametrize(
    ("inside", "said"),
    [
        ("0 <= row < H and 0 <= column < W", "times as fast as the plain loops; 3 times is asked for"),
        ("0 < row < H and 0 < column < W", "outside the image x is 0|off by"),
        ("True", r"raises IndexError: .* \(line 20\)"),
    ],
)
def test_a_kernel_that_is_slow_or_wrong(inside, said, folder):
    path = folder / "21_fast_kernel.py"
    path.write_text(KERNEL.replace("INSIDE", inside))
    outcome = learn.check(path)
    assert not outcome.passed and re.search(said, repr(outcome)), outcome


# --- files that cannot be checked -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("def dense_backward(dout, cache:\n    pass\n", "has a syntax error in line 1"),
        ("x = 1\x00", "null bytes"),
        ("import nowhere_to_be_found\n", r"ModuleNotFoundError: .* \(line 1\)"),
        ("raise SystemExit(3)\n", "SystemExit: 3"),
        ("def dense_backwards(dout, cache):\n    pass\n", "there is no function dense_backward in"),
        (DENSE + "while True: pass\n", "does not end within 2 seconds"),
        ("while True: pass\n", "does not end within 2 seconds"),
        (DENSE + "while True: print('x' * 1000)\n", "prints more than 1 MB"),
        (DENSE + "import os; os._exit(0)\n", "ends its process before the check is over"),
        (DENSE + "import os; os.abort()\n", "ends its process with status -6"),
    ],
    ids=lambda value: None if "\n" in value or "\0" in value else value[:20],
)
def test_a_file_that_cannot_be_checked_earns_one_sentence(source, said, folder):
    path = folder / "01_dense.py"
    path.write_text(source)
    with pytest.raises(OptionError, match=said) as refused:
        learn.check(path, seconds=2 if "while True: pass" in source else None)
    assert "\n" not in str(refused.value) and "01_dense.py" in str(refused.value)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="only some systems say how much memory is in use")
def test_a_file_that_fills_the_memory_earns_one_sentence(folder, monkeypatch):
    monkeypatch.setattr(checking, "MAX_MEMORY", 1 << 30)
    (folder / "01_dense.py").write_text(DENSE + "big = []\n    while True: big.append('x' * (1 << 20))\n")
    with pytest.raises(OptionError, match="takes more than 1 GB of memory: is there a loop without an end"):
        learn.check(folder / "01_dense.py")


def test_what_the_first_call_prints_is_shown_and_the_rest_is_not(folder, capsys):
    path = folder / "01_dense.py"
    path.write_text("print('read')\n" + DENSE + "print('called', dout.shape)\n    raise ValueError('no idea')\n")
    status, out = run(capsys, "check", path)
    assert status == 1
    assert "  | read\n  | called (5, 4)\n" in out and "dense_backward raises ValueError: no idea (line 5)" in out
    path.write_text(DENSE + "print('called')\n    return dout @ w.T, x.T @ dout, dout.sum(axis=0)\n")
    status, out = run(capsys, "check", path)
    assert status == 0 and out.count("called") == 1


def test_input_and_exit_are_mistakes_of_the_function(folder, capsys):
    for call in ("input()", "raise SystemExit"):
        (folder / "01_dense.py").write_text(DENSE + call + "\n")
        status, out = run(capsys, "check", "dense")
        assert status == 1 and re.search(r"raises (EOFError|SystemExit): .* \(line 3\)", out)


# --- the command and the folder ---------------------------------------------------------------------------------


def test_an_exercise_folder_is_never_overwritten(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    full, file = tmp_path / "full", tmp_path / "file"
    full.mkdir()
    (full / "mine.txt").write_text("mine")
    file.write_text("mine")
    for place in (full, file):
        status, sentence = run(capsys, "start", place)
        assert status == 2 and "exists and is not an empty folder" in sentence
    assert [path.name for path in full.iterdir()] == ["mine.txt"] and file.read_text() == "mine"
    (tmp_path / "empty").mkdir()
    assert run(capsys, "start", tmp_path / "empty")[0] == run(capsys, "start", tmp_path / "a" / "new")[0] == 0
    assert run(capsys, "start", tmp_path / "empty")[0] == 2
    assert "cd 'a folder'," in run(capsys, "start", "a folder")[1]


def test_from_the_first_exercise_to_the_next_without_the_later_files(folder, capsys):
    for path in sorted(folder.glob("*.py"))[1:]:
        path.unlink()
    status, out = run(capsys, "check")
    assert status == 1 and "dense: not yet right" in out and 'section "Dense layer"' in out
    (folder / "01_dense.py").write_text(DENSE + "return dout @ w.T, x.T @ dout, dout.sum(axis=0)\n")
    status, out = run(capsys, "check")
    assert (status, out) == (0, f"dense: passed\n1 of {len(NAMES)} passed, next: 02_relu.py\n")
    assert learn.progress(folder)["dense"] == {"passed": True, "hints": 0}
    status, sentence = run(capsys, "check")
    assert status == 2 and "there is no file 02_relu.py" in sentence
    assert "`siamese-np learn start NEW_FOLDER` writes fresh ones" in sentence
    out = run(capsys, "progress")[1]
    assert out.startswith("passed  01_dense.py") and out.endswith(f"1 of {len(NAMES)} passed, next: 02_relu.py\n")
    (folder / "progress.json").write_text(json.dumps({name: {"passed": True, "hints": 0} for name in NAMES}))
    assert run(capsys, "check") == (0, f"all {len(NAMES)} exercises are passed\n")


def test_what_cannot_be_kept_is_told_all_the_same(folder, monkeypatch, capsys):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("siamese_np.storage.write_atomically", refuse)
    (folder / "01_dense.py").write_text(DENSE + "return dout @ w.T, x.T @ dout, dout.sum(axis=0)\n")
    told = "this is not kept: progress.json cannot be written (Permission denied)\n"
    assert run(capsys, "check") == (0, f"dense: passed\n{told}1 of {len(NAMES)} passed, next: 02_relu.py\n")
    status, out = run(capsys, "hint", "dense")
    assert status == 0 and out.startswith("1. ") and told in out


def test_a_file_elsewhere_is_checked_without_progress(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "01_dense.py").write_text((folder / "01_dense.py").read_text())
    assert run(capsys, "check", "01_dense.py")[0] == run(capsys, "check", "exercises/01_dense.py")[0] == 1
    assert not (tmp_path / "progress.json").exists()
    for arguments in (["check"], ["check", "dense"], ["progress"]):
        status, sentence = run(capsys, *arguments)
        assert status == 2 and "go to the folder that `siamese-np learn start FOLDER` has made" in sentence


def test_hints_come_one_by_one_and_the_solution_is_the_textbooks(folder, tmp_path, monkeypatch, capsys):
    hints = learn.hints("dense")
    for shown in (1, 2, 3, 3):
        out = run(capsys, "hint", "dense")[1]
        assert [hint for hint in hints if hint in out] == hints[:shown]
    monkeypatch.chdir(tmp_path)
    assert json.loads(run(capsys, "hint", "dense", "--json")[1]) == {"exercise": "dense", "hints": hints, "more": 0}
    assert "return dout @ w.T, x.T @ dout, dout.sum(axis=0)" in run(capsys, "solution", "1")[1]
    assert "def _hinge(" in run(capsys, "solution", "contrastive")[1]


def test_json(folder, capsys):
    told = {name: json.loads(run(capsys, name, "--json")[1]) for name in ("list", "check", "progress")}
    assert [one["exercise"] for one in told["list"]["exercises"]] == list(told["progress"]["exercises"]) == NAMES
    assert told["check"]["exercise"] == "dense" and told["check"]["passed"] is False
    assert told["check"].keys() == {"exercise", "passed", "findings", "read", "printed"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["check", "dens"], "did you mean dense"),
        (["check", "99"], "there is no exercise '99'"),
        (["check", "missing.py"], "there is no exercise 'missing.py'"),
        (["check", "nowhere/01_dense.py"], "there is no file nowhere/01_dense.py"),
        (["check", "folder/01_dense.py"], "cannot read folder/01_dense.py: Is a directory"),
        (["hint"], "needs the name of an exercise"),
        (["start"], "needs the name of a new folder"),
        (["solution", "x"], "there is no exercise 'x'"),
    ],
)
def test_a_users_mistake_earns_a_sentence(arguments, said, folder, capsys):
    (folder / "folder" / "01_dense.py").mkdir(parents=True)
    status, sentence = run(capsys, *arguments)
    assert status == 2 and said in sentence


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"\xff", b'{"dense": 1}', b'{"dense": {"passed": true}}', b"[" * 10**5]
)
def test_a_damaged_progress_file_earns_a_sentence(content, folder):
    (folder / "progress.json").write_bytes(content)
    with pytest.raises(DataError, match=r"progress\.json is damaged"):
        learn.progress(folder)
    (folder / "progress.json").unlink()
    (folder / "progress.json").mkdir()
    with pytest.raises(DataError, match=r"progress\.json is damaged"):
        learn.progress(folder)
    (folder / "progress.json").rmdir()
    (folder / "progress.json").write_text("{}")
    assert not any(one["passed"] for one in learn.progress(folder).values())


# --- in a notebook ----------------------------------------------------------------------------------------------


def test_a_function_is_checked_by_its_name():
    def relu_backward(dout, cache):
        return np.where(cache[0] > 0, dout, 0)

    assert repr(learn.check(relu_backward)) == "relu: passed"
    assert learn.check(relu_backward, "bug_relu").passed
    with pytest.raises(OptionError, match="no exercise asks for a function <lambda>"):
        learn.check(lambda dout, cache: dout)
