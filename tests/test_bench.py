"""The benchmark suite: statistics against known values, what the ladder refuses, and one small run of everything.

Nothing here depends on how fast anything is.
"""

import dataclasses
import importlib.util
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from siamese_np.bench import compare, end_to_end, probe, report, sampling, suite
from siamese_np.bench.compare import read_results, timings
from siamese_np.cli import main
from siamese_np.datasets import Split, load_dataset
from siamese_np.errors import DataError, OptionError
from siamese_np.ladder import climb, operations
from siamese_np.ladder import rung as rungs
from siamese_np.runtime import scheduler

ROOT = Path(__file__).parent.parent
peers = suite.load_peers()

SMOKE = suite.Sizes(
    name="smoke",
    repetitions=2,
    seconds=1e-4,
    operations=("conv2d_backward_w",),
    ladder_images=1,
    ladder_sweep=True,
    ladder_cold=False,
    pairs=(2,),
    embedded=4,
    data_sets=(40, 80),
    pair_counts=(100,),
    presets=("mlp",),
    processes=1,
    peer_tasks=("step mlp 2", "embed cnn 4"),
    peers=("siamese_np", "jax"),
    data=200,
)


# --- Sampling -------------------------------------------------------------------------------------------


def test_timing_of_known_samples():
    timing = sampling.Timing.of([1.0, 2.0, 3.0, 4.0, 100.0], calls=7)
    assert timing.median == 3.0 and timing.calls == 7
    assert 1.0 <= timing.low <= 3.0 <= timing.high <= 100.0


def test_bootstrap_interval_covers_the_true_median():
    rng = np.random.default_rng(0)
    intervals = [sampling.bootstrap(rng.normal(5, 1, 15)) for _ in range(200)]
    covered = np.mean([low <= 5 <= high for low, high in intervals])
    assert 0.9 < covered <= 1
    assert sampling.bootstrap(np.ones(9)) == (1.0, 1.0)


def test_candidates_are_interleaved_and_long_enough():
    order = []

    def candidate(name, seconds):
        def run(calls):
            order.append(name)
            return calls * seconds

        return run

    timings = sampling.measure({"a": candidate("a", 0.001), "b": candidate("b", 0.1)}, 50, 0.02)
    assert timings["a"].calls >= 20 and timings["b"].calls == 1
    assert timings["a"].median == pytest.approx(0.001) and timings["b"].median == pytest.approx(0.1)
    rounds = ["".join(order[-100:][i : i + 2]) for i in range(0, 100, 2)]
    assert {"ab", "ba"} == set(rounds)  # every round has both, in either order


# --- The rank test and the comparison -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("a", "b", "p"),
    [
        ([1, 2, 3], [4, 5, 6], 0.1),  # 2 / C(6, 3)
        ([1, 2, 3, 4, 5], [6, 7, 8, 9, 10], 2 / 252),
        ([1, 3, 5], [2, 4, 6], 0.7),  # U = 6: 14 of 20 orders are as far from the middle
        ([1, 4], [2, 3], 1.0),
        # Mann & Whitney's table gives P(U <= 3) = 0.028 for n = m = 5
        ([1, 2, 3, 4, 8], [5, 6, 7, 9, 10], 2 * 7 / 252),
    ],
)
def test_mann_whitney_exact(a, b, p):
    assert compare.mann_whitney(a, b) == pytest.approx(p)
    assert compare.mann_whitney(b, a) == pytest.approx(p)


def test_mann_whitney_of_equal_samples():
    assert compare.mann_whitney([1, 1, 1], [1, 1, 1]) == 1


@given(st.lists(st.integers(0, 10), min_size=4, max_size=9), st.integers(1, 3))
def test_mann_whitney_counts_all_orders(values, first):
    """The p-value is what enumerating every split of the samples gives, also where some are equal."""

    def distance(chosen):
        rest = set(range(len(values))) - set(chosen)
        u = sum((values[y] > values[x]) + 0.5 * (values[y] == values[x]) for x in chosen for y in rest)
        return abs(u - len(chosen) * len(rest) / 2)

    splits = [distance(split) for split in itertools.combinations(range(len(values)), first)]
    far = np.mean([d >= distance(range(first)) for d in splits])
    assert compare.mann_whitney(values[:first], values[first:]) == pytest.approx(far)


def results_with(samples: list[float], name: str = "mlp") -> dict:
    timing = sampling.Timing.of(samples)._asdict()
    row = {"preset": name, "pairs": 32, "threads": 1, "timing": timing, "images_per_second": 1.0, "dense_gflops": 1.0}
    return {"format": compare.FORMAT, "environment": {}, "end_to_end": {"steps": [row]}}


STEADY = [1.0 + 0.001 * i for i in range(9)]


@pytest.mark.parametrize(
    ("new", "verdict", "status"),
    [
        (STEADY, "same", 0),
        ([1.1 * s for s in STEADY], "slower", 1),
        ([0.9 * s for s in STEADY], "faster", 0),
        ([1.02 * s for s in STEADY], "same", 0),  # surely slower, but not by enough to matter
        ([0.5, 0.9, 1.0, 1.0, 1.2, 1.3, 1.3, 1.4, 1.5], "undecided", 0),  # by enough, but perhaps by chance
    ],
)
def test_compare_exit_status(tmp_path, capsys, new, verdict, status):
    for name, samples in (("old", STEADY), ("new", new)):
        (tmp_path / f"{name}.json").write_text(json.dumps(results_with(samples)))
    files = [str(tmp_path / "old.json"), str(tmp_path / "new.json")]
    assert main(["bench", "compare", *files, "--json"]) == status
    printed = json.loads(capsys.readouterr().out)
    assert [row["verdict"] for row in printed["timings"]] == [verdict]
    assert main(["bench", "compare", *files, "--fail-over", "60%"]) == 0
    assert "1 timings" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "there is no file"),
        ("{", "is damaged or no JSON"),
        ("[]", "is not a 'siamese_np benchmark 1' file"),
        ('{"format": "siamese_np benchmark 1", "ladder": [1]}', "its contents are not those of one"),
        (json.dumps(results_with(STEADY, name="other")), "nothing to compare"),
    ],
)
def test_compare_refuses_in_one_sentence(tmp_path, capsys, content, says):
    good, bad = tmp_path / "good.json", tmp_path / "bad.json"
    good.write_text(json.dumps(results_with(STEADY)))
    if content is not None:
        bad.write_text(content)
    assert main(["bench", "compare", str(good), str(bad)]) == 2
    said = capsys.readouterr().err
    assert says in said and said.count("\n") == 1


def test_the_results_in_the_repository_can_be_compared(capsys):
    path = str(ROOT / "benchmarks" / "results" / "bench")
    assert main(["bench", "compare", path, path]) == 0
    said = capsys.readouterr().out
    assert "0 slower, 0 faster" in said and "both runs: 2 cores, one CPU model: AMD EPYC" in said


def test_compare_names_both_machines():
    old, new = ({**results_with(STEADY), "environment": {"processors": n, "model_name": "A"}} for n in (1, 2))
    said = compare.text(compare.compare(old, new, 0.05), old, new, 0.05)
    assert "old run: 1 core, one CPU model: A; new run: 2 cores, one CPU model: A" in said
    assert "different machines" in said


@pytest.mark.parametrize("limit", ["x", "-1%", "nan", "inf"])
def test_compare_refuses_a_limit(tmp_path, capsys, limit):
    (tmp_path / "a.json").write_text(json.dumps(results_with(STEADY)))
    assert main(["bench", "compare", *[str(tmp_path / "a.json")] * 2, f"--fail-over={limit}"]) == 2
    assert "--fail-over must be a percentage" in capsys.readouterr().err


# --- The ladder -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def problem() -> operations.Problem:
    return operations.make_problem(load_dataset().test.images[:2], crop=4, channels=8, filters=16)


@pytest.fixture
def empty_ladder(monkeypatch):
    monkeypatch.setattr(rungs, "RUNGS", [])


def test_the_problem_is_what_training_sees(problem):
    assert problem.x.shape == (2, 4, 4, 8) and problem.dout.shape == (2, 4, 4, 16)
    assert (problem.x >= 0).all() and (problem.x > 0).any()  # it has been through ReLU and pooling
    windows = problem.dout.reshape(2, 2, 2, 2, 2, 16)
    assert (np.count_nonzero(windows, axis=(2, 4)) <= 1).all()
    assert operations.OPERATIONS["conv2d_forward"].flops(problem) == 2 * 2 * 4 * 4 * 16 * 9 * 8


def kernel_of(operation: str):
    """The reference itself as a kernel: correct, and not compiled."""
    return operations.OPERATIONS[operation].reference


def check(operation: str, function, problem, expected) -> float:
    return operations.check(rungs.Rung(operation, "r", function), problem, expected)


@pytest.mark.parametrize("operation", operations.OPERATIONS)
def test_wrong_kernels_are_found(problem, operation):
    expected, function = operations.expected(operation, problem), kernel_of(operation)
    check(operation, function, problem, expected)
    written = len(expected)

    def off_by_little(*arguments):
        function(*arguments)
        arguments[0].flat[0] += 1e-3 * max(abs(array).max() for array in expected.values())

    def changes_arguments(*arguments):
        function(*arguments)
        arguments[written].flat[-1] += 1

    def raises(*arguments):
        raise ZeroDivisionError("division by zero")

    def incomplete(*arguments):
        whole = [np.zeros_like(array) for array in arguments[:written]]
        function(*whole, *arguments[written:])
        for array, values in zip(arguments[:written], whole, strict=True):
            array[1:] += values[1:]

    def overwrites(*arguments):
        for array in arguments[:written]:
            array[:] = 0
        function(*arguments)

    for wrong, says in (
        (off_by_little, "is off by"),
        (changes_arguments, "changes its argument"),
        (raises, "raises ZeroDivisionError: division by zero"),
        (incomplete, "is off by"),
    ):
        with pytest.raises(OptionError, match=f"the rung 'r' of {operation} is refused: it.* {says}"):
            check(operation, wrong, problem, expected)
    if {"dw", "db"} & set(expected):
        with pytest.raises(OptionError, match="is off by"):
            check(operation, overwrites, problem, expected)


def test_maxima_elsewhere_are_found(problem):
    def first_wins(out, argmax, *arguments):
        kernel_of("conv_relu_pool_forward")(out, argmax, *arguments)
        argmax[:] = 0

    expected = operations.expected("conv_relu_pool_forward", problem)
    with pytest.raises(OptionError, match="of its maxima"):
        check("conv_relu_pool_forward", first_wins, problem, expected)


def test_the_references_of_dx_and_dw_apart_are_those_of_both(problem):
    apart = {f"d{of}": operations.expected(f"conv2d_backward_{of}", problem)[f"d{of}"] for of in "xw"}
    both = operations.expected("conv_relu_pool_backward", problem)
    for name, array in apart.items():
        np.testing.assert_allclose(array, both[name], rtol=1e-6, atol=1e-6)


def test_climb_times_the_correct_and_refuses_the_wrong(problem, empty_ladder):
    rungs.rung("conv2d_forward", "slow", small=True)(conv2d_reference)
    rungs.rung("conv2d_forward", "fast", shares=True, executed=lambda p: p.dout.size * p.wT[0].size)(conv2d_reference)
    entries = climb.climb(rungs.RUNGS, problem, problem, [1, 2], 2, 1e-4)
    assert [(entry["rung"], sorted(entry["timings"])) for entry in entries] == [("slow", ["1"]), ("fast", ["1", "2"])]
    assert climb.rate(entries[1], 2) == pytest.approx(2 * climb.rate(entries[1], 2, "executed_flops"))
    rungs.rung("conv2d_forward", "wrong")(lambda out, *arguments: out.fill(0))
    with pytest.raises(OptionError, match="the rung 'wrong' of conv2d_forward is refused: its result is off by"):
        climb.climb(rungs.RUNGS, problem, problem, [1], 1, 1e-4)


conv2d_reference = operations.OPERATIONS["conv2d_forward"].reference


def only_at_first(times):
    calls = itertools.count()
    return lambda *arguments: next(calls) < times and conv2d_reference(*arguments)


def tired(*arguments):
    raise SystemExit("tired")


def one_thread_only(*arguments):
    if scheduler.get_threads() == 1:
        conv2d_reference(*arguments)


@pytest.mark.parametrize(
    ("function", "options", "says"),
    [
        (only_at_first(4), {}, "its result is off by"),  # after it was timed
        (one_thread_only, {"shares": True}, "its result is off by"),
        (tired, {}, "it raises SystemExit: tired"),
        (conv2d_reference, {"executed": lambda p: 1 / 0}, "it raises ZeroDivisionError"),
    ],
)
def test_climb_refuses_what_is_wrong_only_later(problem, empty_ladder, function, options, says):
    rungs.rung("conv2d_forward", "mine", **options)(function)
    with pytest.raises(OptionError, match=f"the rung 'mine' of conv2d_forward is refused: .*{says}"):
        climb.climb(rungs.RUNGS, problem, problem, [1, 2], 2, 1e-4)


def test_a_rung_that_fails_while_timed_is_named(problem, empty_ladder):
    calls = itertools.count()

    def fails(*arguments):
        if next(calls) == 3:
            raise RuntimeError("no more\nlines")
        conv2d_reference(*arguments)

    rungs.rung("conv2d_forward", "mine")(fails)
    with pytest.raises(
        OptionError, match=r"the rung 'mine' of conv2d_forward is refused: it raises RuntimeError: no more$"
    ):
        climb.climb(rungs.RUNGS, problem, problem, [1], 2, 1e-4)


def test_every_rung_is_correct(problem):
    """Also those that the small run leaves out; the unrolled and the fused ones are compiled for it."""
    for one in rungs.load_rungs():
        assert operations.check(one, problem, operations.expected(one.operation, problem)) < operations.TOLERANCE
    assert {one.operation for one in rungs.RUNGS} == set(operations.OPERATIONS)
    assert {"Winograd + BLAS", "zero-skipping"} <= {one.name for one in rungs.RUNGS}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "puts no kernel on the ladder"),
        ("1/0", "fails with ZeroDivisionError"),
        ("syntax error", "fails with SyntaxError"),
        ("import sys; sys.exit(0)", "fails with SystemExit: 0$"),
        ("raise RuntimeError('one\\ntwo')", "fails with RuntimeError: one$"),
        (
            'from siamese_np.ladder.rung import rung\nrung("conv2d_forward", name=7)',
            "must be a string that is not empty, not 7",
        ),
        ('from siamese_np.ladder.rung import rung\n@rung("matmul", name="m")\ndef f(): ...', "has no operation"),
        (
            'from siamese_np.ladder.rung import rung\n@rung("conv2d_forward", name="unrolled")\ndef f(): ...',
            "already has a rung 'unrolled'",
        ),
    ],
)
def test_a_users_file_is_refused_in_one_sentence(tmp_path, content, says):
    file = tmp_path / "my_kernel.py"
    file.write_text(content)
    with pytest.raises(OptionError, match=says):
        rungs.load_rungs(file)


def test_a_users_file_takes_no_place_and_prints_nothing(tmp_path, capsys, empty_ladder):
    file = tmp_path / "subprocess.py"
    file.write_text(
        'from siamese_np.ladder.rung import rung\nprint("hello")\n'
        '@rung("conv2d_forward", name="mine")\ndef f(*arguments): ...\n'
    )
    before = sys.modules["subprocess"]
    assert rungs.load_rungs(file)[-1].name == "mine"
    assert sys.modules["subprocess"] is before and capsys.readouterr() == ("", "hello\n")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("1/0", r"my_kernel\.py fails with ZeroDivisionError: division by zero$"),
        ("import os; os._exit(7)", r"section ladder ended early with exit status 7, in a kernel of .*my_kernel\.py"),
    ],
)
def test_a_users_file_that_fails_ends_the_section_in_one_sentence(tmp_path, content, says):
    file = tmp_path / "my_kernel.py"
    file.write_text(content)
    options = {**dataclasses.asdict(SMOKE), "threads": [1], "user_file": str(file)}
    with pytest.raises(OptionError, match=says):
        suite._section("ladder", options, lambda line: None)


def test_the_example_kernel_is_correct(problem, empty_ladder):
    (mine,) = [one for one in rungs.load_rungs(ROOT / "benchmarks" / "my_kernel.py") if one.user]
    expected = operations.expected(mine.operation, problem)
    check(mine.operation, mine.function.py_func, problem, expected)


# --- Probe and peers ------------------------------------------------------------------------------------


def test_fma_loop_computes_what_it_says():
    """Each round makes x * factor + 1 of every number: of 2, with factor 3, first 7 and then 22."""
    x = np.arange(probe.SUMS * probe.LANES, dtype=np.float32)
    first = x.copy()
    probe.fma_loop(x, np.float32(3), 2)
    assert x[2] == 22
    np.testing.assert_array_equal(x, (first * 3 + 1) * 3 + 1)


@pytest.mark.parametrize("numbers", [1, 1000, 3072, 4096])
def test_streamed_arrays_do_not_collide(numbers):
    a, b = probe.two_arrays(numbers)
    assert a.size == b.size == numbers and not np.shares_memory(a, b)
    assert a.ctypes.data % 64 == b.ctypes.data % 64 == 0
    assert (b.ctypes.data - a.ctypes.data) % 4096 == 1024


def test_drift():
    before = {"fma_gflops": {"8": {"1": 100.0}}, "gbytes_per_second": {"L1": {"1": 50.0}}}
    after = {"fma_gflops": {"8": {"1": 90.0}}, "gbytes_per_second": {"L1": {"1": 50.0}}}
    moved = probe.drift(before, after)
    assert moved == {"FMA, 256-bit vectors, 1 thread": pytest.approx(-0.1), "L1, 1 thread": 0}


def test_what_follows_a_sweep_has_all_threads():
    before = scheduler.get_threads()
    try:
        for _ in range(3):  # measured in random order
            end_to_end.embeddings(load_dataset().test, 2, [1, 2], 2, 1e-6, lambda line: None)
            assert scheduler.get_threads() == 2
    finally:
        scheduler.set_threads(before)


def test_a_peer_that_computes_something_else_is_not_timed():
    task = peers.Task("t", "step", "cnn", 2)
    expected = np.array([0.5, 0.4, 0.3])
    assert peers.disagreement(task, {"losses": [0.50001, 0.401, 0.302]}, expected) == ""
    assert "its losses" in peers.disagreement(task, {"losses": [0.501, 0.4, 0.3]}, expected)
    assert "its losses" in peers.disagreement(task, {"losses": [0.5, 0.405, 0.3]}, expected)
    assert "its losses" in peers.disagreement(task, {"losses": [0.5, 0.4, float("nan")]}, expected)
    embed = peers.Task("e", "embed", "cnn", 2)
    assert peers.disagreement(embed, {"embeddings": [[1.0, 2.0]]}, np.array([[1.0, 2.0005]])) == ""
    assert "off by" in peers.disagreement(embed, {"embeddings": [[1.0, 2.0]]}, np.array([[1.0, 2.1]]))


FAKE_FRAMEWORK = """
import os
import with_siamese_np

def versions():
    return {"fake": "1"}

def make(variant, preset, params):
    model = with_siamese_np.Model(preset, params)
    if variant == "wrong":
        model.optimizer.step = lambda rate: None
    step, steps = model.step, iter(range(1000))
    def dying(batch, rate):
        if variant == "dies" and next(steps) > 20:
            print("no more memory", flush=True)
            os._exit(1)
        return step(batch, rate)
    model.step = dying
    return model
"""


def test_peers_that_fail_are_told_and_the_others_go_on(tmp_path, monkeypatch):
    """One computes something else, one dies while it is timed, one cannot be imported; all are listed with why."""
    (tmp_path / "with_fake.py").write_text(FAKE_FRAMEWORK)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    fakes = {
        name: peers.Known(name, "with_fake" if name != "broken" else "with_none", name, "siamese_np")
        for name in ("wrong", "dies", "broken")
    }
    monkeypatch.setattr(peers, "KNOWN", {"siamese_np": peers.KNOWN["siamese_np"], **fakes})
    monkeypatch.setattr(peers, "installed", lambda python: {"siamese_np"})
    split, sizes = Split(load_dataset().test.images[:50], load_dataset().test.classes[:50]), dataclasses.asdict(SMOKE)
    sizes.update(repetitions=3, seconds=1e-3, peer_tasks=("step mlp 8",), peers=())
    found = peers.run(split, {**sizes, "threads": [1], "peer_python": None})
    status = {name: peer["status"] for name, peer in found["peers"].items()}
    assert status["siamese_np"] == "present"
    assert status["wrong"].startswith("failed: its losses")
    assert status["dies"] == "failed: no more memory"
    assert status["broken"] == "failed: ModuleNotFoundError: No module named 'with_none'"
    assert set(found["tasks"]["mlp step, 8 pairs"]) == {"siamese_np"}
    assert found["peers"]["dies"]["versions"] == {"fake": "1"}


def test_peers_run_without_what_holds_blas_back(monkeypatch):
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    environment = suite.environment(2)
    assert "OPENBLAS_CORETYPE" not in environment
    assert environment["OMP_NUM_THREADS"] == environment["SIAMESE_NP_THREADS"] == "2"


def test_no_interpreter_for_peers():
    with pytest.raises(OptionError, match="must name a Python interpreter"):
        peers.installed("/no/such/python")


# --- All of it ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def results() -> dict:
    """A run of the whole suite on next to nothing, with one peer absent and one that fails."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONWARNINGS", "ignore")
        return suite.run(SMOKE, threads=2)


def test_every_section_is_in_the_results(results):
    assert results["format"] == compare.FORMAT and results["threads"] == [1, 2]
    assert {"probe", "clocks", "ladder", "end_to_end", "peers", "probe_at_end", "drift"} <= set(results)
    assert results["clocks"]["mlp"]["cold"]["first_step"] > results["clocks"]["mlp"]["cold"]["imports"] > 0
    on_ladder = {(entry["operation"], entry["rung"]) for entry in results["ladder"]}
    for name in ("Python loops", "naive njit", "im2col + BLAS", "zero-skipping", "siamese_np"):
        assert ("conv2d_backward_w", name) in on_ladder
    skipping = next(entry for entry in results["ladder"] if entry["rung"] == "zero-skipping")
    assert skipping["error"] < operations.TOLERANCE and skipping["executed_flops"] < skipping["flops"]
    assert set(results["end_to_end"]["exact"]) == {
        "AUC and EER of all 19,900 pairs",
        "5 nearest of 400 for 200 images",
    }
    memory = results["end_to_end"]["memory"]
    assert [(row["protocol"], row["pairs"]) for row in memory] == [("batch", 100)]
    assert memory[0]["as_copies"] == 2 * 100 * 784 * 4


def test_absent_peers_are_listed(results):
    found = results["peers"]["peers"]
    assert found["siamese_np"]["status"] == "present"
    if subprocess.run([sys.executable, "-c", "import jax"], capture_output=True).returncode:
        assert found["jax"] == {"title": "JAX jit", "status": "absent"}
        assert "JAX jit" in report.text(results) and "absent" in report.text(results)


def test_results_are_plain_json(results):
    """What is written is what is read: no NaN, no types of NumPy's, no tuples in disguise."""
    assert json.loads(json.dumps(results, allow_nan=False)) == json.loads(json.dumps(results))
    for samples in timings(results).values():
        assert len(samples) == SMOKE.repetitions and min(samples) > 0
    assert not any(str(Path.home()) in value for value in map(str, results["environment"].values()))


def test_memory_is_that_of_the_process_alone():
    """Not what the process before it had, as some systems count."""
    child = "from siamese_np.bench.end_to_end import peak_memory; print(peak_memory())"
    parent = (
        f"import numpy, subprocess, sys; big = numpy.ones(10**8); subprocess.run([sys.executable, '-c', {child!r}])"
    )
    done = subprocess.run([sys.executable, "-c", parent], capture_output=True, text=True, check=True)
    assert 10**7 < int(done.stdout) < 7 * 10**8


def test_memory_of_a_system_that_does_not_tell(monkeypatch):
    monkeypatch.setattr(Path, "exists", lambda path: False)  # as on Windows
    monkeypatch.setitem(sys.modules, "resource", None)
    assert end_to_end.peak_memory() is None


def test_files_of_a_run(results, tmp_path, capsys):
    report.check_folder(tmp_path / "new")
    report.write(tmp_path / "new", results)
    names = {path.name for path in (tmp_path / "new").iterdir()}
    assert names == {"benchmark.json", "benchmark.md", "roofline.png", "ladder.png"}
    assert read_results(tmp_path / "new")["sizes"] == "smoke"
    page = (tmp_path / "new" / "benchmark.md").read_text()
    for words in (
        "Machine probe",
        "Ladder: convolution backward, dw",
        "naive njit",
        "![roofline](roofline.png)",
    ):
        assert words in page
    assert report.text(results) in page
    for section in page.split("\n## ")[1:]:  # all rows of a table are as long as its head
        assert len({(len(line), line.count("|")) for line in section.splitlines() if line.startswith("|")}) == 1
    assert main(["bench", "compare", str(tmp_path / "new"), str(tmp_path / "new")]) == 0
    assert "0 slower, 0 faster" in capsys.readouterr().out


DRAW = """
import sys
from pathlib import Path
from siamese_np.bench import compare, pictures

pictures.draw(Path(sys.argv[2]), compare.read_results(Path(sys.argv[1])))
"""


def test_pictures_are_drawn_with_any_backend(results, tmp_path):
    """matplotlib refuses to be imported where MPLBACKEND names a backend that it does not have."""
    (tmp_path / "benchmark.json").write_text(json.dumps(results))
    command = [sys.executable, "-c", DRAW, str(tmp_path), str(tmp_path)]
    environment = {**os.environ, "MPLBACKEND": "Qt4Agg"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for name in ("roofline.png", "ladder.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_targets_are_read_from_the_results(results, tmp_path, capsys):
    spec = importlib.util.spec_from_file_location("targets", ROOT / "benchmarks" / "targets.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    rows = module.targets(results)
    assert [row.number for row in rows] == sorted(row.number for row in rows)
    forged = json.loads(json.dumps(results))
    task = forged["peers"]["tasks"]["mlp step, 2 pairs"]
    forged["peers"]["peers"]["jax"] = {"title": "JAX jit", "status": "present"}
    task["jax"] = {**task["siamese_np"], "ratio": 2.5}
    first = module.targets(forged)[0]
    assert (first.number, first.measured, first.reached) == (2, 2.5, True)
    assert not first._replace(measured=1.9).reached
    assert first._replace(measured=1.9, at_most=True).reached
    for ratio, status, verdict in ((2.5, 0, ": reached"), (1.5, 1, ": NOT REACHED")):
        only = {"peers": {**forged["peers"], "tasks": {"mlp step, 2 pairs": {**task, "jax": {"ratio": ratio}}}}}
        parts = {name: forged[name] for name in ("format", "threads", "environment")}
        (tmp_path / "benchmark.json").write_text(json.dumps({**parts, **only}))
        assert module.main([str(tmp_path)]) == status
        assert verdict in capsys.readouterr().out
    assert module.main([str(tmp_path / "nothing.json")]) == 2
    assert "there is no file" in capsys.readouterr().err


def test_every_ratio_names_the_machine(results):
    where = f"{results['environment']['processors']} core"
    page = report.text(results)
    for section in page.split("\n## ")[1:]:
        if "% of peak" in section or "times siamese_np" in section:
            assert section.splitlines()[2].startswith(f"On {where}"), section
    assert "wanted" not in page and "reached" not in page


def test_without_the_repository_the_peers_are_skipped_or_refused(monkeypatch, tmp_path, capsys, results):
    """An installed package has no peers; all else runs."""
    monkeypatch.setattr(suite, "PEERS", tmp_path / "benchmarks" / "peers")
    monkeypatch.setattr(suite, "_section", lambda name, options, log: results[name.replace("-", "_")])
    monkeypatch.setattr(scheduler, "get_threads", lambda: max(results["threads"]))
    assert main(["bench", "--quick"]) == 0
    said = capsys.readouterr()
    assert suite.NO_PEERS in said.err
    assert f"The section peers is missing: {suite.NO_PEERS}." in said.out and "first training step" in said.out
    for arguments in (["--only", "peers"], ["--peer-python", sys.executable]):
        assert main(["bench", "--quick", *arguments]) == 2
        assert capsys.readouterr().err == f"siamese-np: {suite.NO_PEERS}\n"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--only", "probes"], "no section 'probes'"),
        (["--rung", "nothing.py"], "there is no file nothing.py"),
        (["--threads", "0"], "must be at least 1"),
        (["--only", "ladder", "--peer-python", "python"], "--peer-python is for the sections peers"),
        (["--out", "FILE/results"], "cannot be written"),
        (["--out", ""], "--out needs a path"),
        (["--rung", ""], "--rung needs a path"),
        (["--peer-python", ""], "--peer-python needs a path"),
    ],
)
def test_the_command_line_refuses_in_one_sentence(tmp_path, capsys, arguments, says):
    (tmp_path / "file").touch()
    arguments = [argument.replace("FILE", str(tmp_path / "file")) for argument in arguments]
    assert main(["bench", *arguments]) == 2
    said = capsys.readouterr().err
    assert says in said and said.count("\n") == 1


def test_a_failed_section_loses_no_other(monkeypatch, tmp_path, capsys, results):
    def run_section(name, options, say):
        if name == "peers":
            raise OptionError("no peers today")
        return results[name.replace("-", "_")]

    monkeypatch.setattr(suite, "_section", run_section)
    monkeypatch.setattr(scheduler, "get_threads", lambda: max(results["threads"]))
    assert main(["bench", "--quick", "--only", "clocks", "peers", "--out", str(tmp_path)]) == 2
    said = capsys.readouterr()
    assert said.err.rstrip().endswith("siamese-np: no peers today") and "first training step" in said.out
    assert read_results(tmp_path)["clocks"] == results["clocks"]
    assert "The section peers is missing: no peers today." in (tmp_path / "benchmark.md").read_text()
    with pytest.raises(OptionError, match="no peers today"):
        suite.run(SMOKE, 1, only=["peers"])


def test_the_benchmark_needs_compiled_kernels(monkeypatch, capsys):
    monkeypatch.setattr(numba.config, "DISABLE_JIT", 1)
    assert main(["bench", "--quick"]) == 2
    assert "unset NUMBA_DISABLE_JIT" in capsys.readouterr().err


@pytest.mark.parametrize(
    "change",
    [
        {"drift": [1]},
        {"drift": {"a": "x"}},
        {"environment": None},
        {"end_to_end": {"exact": {"a": {"timing": {"samples": "123"}}}}},
        {"end_to_end": {"exact": {"a": {"timing": {"samples": [10**400]}}}}},
    ],
)
def test_damaged_results(tmp_path, change):
    path = tmp_path / "benchmark.json"
    path.write_text(json.dumps({"format": compare.FORMAT, **change}))
    with pytest.raises(DataError, match="contents are not those of one"):
        read_results(path)
    path.write_text("[" * 100_000)
    with pytest.raises(DataError, match="damaged"):
        read_results(path)


def test_unreadable_results(tmp_path):
    with pytest.raises(DataError, match="there is no file"):
        read_results(tmp_path)


def test_the_environment_of_a_system_without_a_load_average(monkeypatch):
    monkeypatch.delattr(suite.os, "getloadavg", raising=False)  # as on Windows
    assert "load_average" not in suite.environment_facts()
