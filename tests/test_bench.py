"""The benchmark suite: statistics against known values, what the ladder refuses, and one small run of everything.

Nothing here depends on how fast anything is.
"""

import dataclasses
import importlib.util
import itertools
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from siamese_np.bench import clocks, compare, end_to_end, idle, probe, report, sampling, suite
from siamese_np.bench.compare import read_results, timings
from siamese_np.cli import main
from siamese_np.datasets import Dataset, Split, load_dataset
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
    presets=(),
    peer_tasks=("step mlp 2", "embed cnn 4", "knn cnn 4"),  # the last is left out where nobody else can
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


@pytest.mark.parametrize(("seconds", "calls"), [(0.04, 3), (0.3, 1)])
def test_ours_and_peers_are_woken_alike(monkeypatch, seconds, calls):
    """Before what is timed: calls for a tenth of a second, and at least one."""
    spec = importlib.util.spec_from_file_location("worker", suite.PEERS / "worker.py")
    worker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(worker)
    clock, made = [0.0], []

    def call():
        clock[0] += seconds
        made.append(clock[0])

    theirs = worker.Worker(None, "", None, None)
    theirs.calls["task"] = call
    for module in (sampling, worker):
        monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: clock[0], sleep=lambda seconds: None))
    for run in (sampling.settled(call), lambda calls: theirs.sample("task", calls)["seconds"]):
        made.clear()
        assert run(2) == pytest.approx(2 * seconds) and len(made) == calls + 2


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
        ([0.8, 0.8, 0.8, 0.8, 1.0, 1.3, 1.3, 1.3, 1.3], "undecided", 0),  # not by enough, but as little surely the same
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
    said = capsys.readouterr().out
    assert "1 timings" in said and "moved by more than 60 %, and a rank test" in said


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
    assert "0 slower, 0 faster" in said and "Both runs: 2 cores, one CPU model: AMD EPYC" in said


def test_compare_says_first_what_speaks_against_it():
    old, new = (
        {**results_with(STEADY), "environment": {"processors": n, "model_name": "A", "versions": {"numba": str(n)}}}
        for n in (1, 2)
    )
    new["drift"] = {"L1": 0.2}
    new["idle"] = {"before": {"others": 0.4, "busy": True}, "after": {"others": 0.0, "busy": False}}
    said = compare.text(compare.compare(old, new, 0.05), old, new, 0.05).splitlines()
    assert said[:4] == [
        "The runs come from different machines, so the times say nothing about the code: "
        "1 core, one CPU model: A (old), 2 cores, one CPU model: A (new).",
        "The runs have different versions of numba: 1 (old), 2 (new).",
        "The machine drifted during the new run, as its report says: small changes mean little.",
        "The machine was busy before the new run: other processes took 40 % of the processors (idle is at most 5 %).",
    ]


def test_compare_names_what_vanished_and_what_is_new(tmp_path, capsys):
    row = results_with(STEADY)["end_to_end"]["steps"][0]
    for name, others in (("old", [2, 3]), ("new", [2, 8])):
        steps = [{**row, "pairs": pairs} for pairs in others]
        (tmp_path / f"{name}.json").write_text(json.dumps({**results_with(STEADY), "end_to_end": {"steps": steps}}))
    files = [str(tmp_path / "old.json"), str(tmp_path / "new.json")]
    assert main(["bench", "compare", *files]) == 0
    said = capsys.readouterr().out
    assert said.endswith("vanished: step: mlp, 3 pairs, 1 thread\nnew: step: mlp, 8 pairs, 1 thread\n")
    assert main(["bench", "compare", *files, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["vanished"] == ["step: mlp, 3 pairs, 1 thread"] and told["new"] == ["step: mlp, 8 pairs, 1 thread"]


def test_compare_reads_all_that_was_timed():
    timing = results_with(STEADY)["end_to_end"]["steps"][0]["timing"]
    point = {"tasks": {"mlp step": {"siamese_np": {"timing": timing}, "jax": {"timing": timing}}}}
    layer = {"operation": "dense", "shape": [3, 6], "kernel": [4], "stride": [1, 1], "pad": [0, 0], "name": ""}
    entry = {**layer, "direction": "forward", "candidates": {"siamese_np": {"timing": timing}}}
    found = {"peers": point, "dense_input": point, "avx2": point, "thread_counts": {"1": point, "2": point}}
    assert [*timings({**found, "op": [{**layer, "skipped": "too large"}, entry]})] == [
        *("beside peers: mlp step", "dense input: mlp step", "at most AVX2: mlp step"),
        *("1 thread: mlp step", "2 threads: mlp step", "op: dense 3x6, kernel 4, forward"),
    ]


def test_the_interval_of_a_ratio():
    rng = np.random.default_rng(0)
    pairs = [(rng.normal(6, 1, 15), rng.normal(5, 1, 15)) for _ in range(200)]
    covered = np.mean([low <= 1.2 <= high for low, high in (sampling.ratio_interval(*pair) for pair in pairs)])
    assert 0.9 < covered <= 1
    assert sampling.ratio_interval(np.full(5, 3.0), np.full(4, 2.0)) == (1.5, 1.5)


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


@pytest.mark.skipif(os.name == "nt", reason="a script is no program there")
@pytest.mark.parametrize("said", ["hello", "3", "[1]", "{}", '{"versions": 3}', "\\377"])
def test_a_peer_that_answers_something_else_is_told(tmp_path, said):
    peers, program = suite.load_peers(), tmp_path / "python"
    program.write_text(f"#!/bin/sh\nread command\nprintf '{said}\\n'\n")
    program.chmod(0o755)
    process = peers.Process(peers.KNOWN["jax"], str(program), tmp_path / "job.npz", 1)
    shown = re.escape(said).replace(r"\\377", ".")
    with pytest.raises(peers.PeerError, match=f"^its answer is not as agreed: '{shown}'$"):
        process.ask("hello")
    process.close()


@pytest.mark.parametrize(
    ("kind", "expected", "correct", "wrong", "says"),
    [
        ("step", [0.5, 0.4, 0.3], [0.50001, 0.401, 0.302], [0.501, 0.4, 0.3], "its losses"),
        ("step", [0.5, 0.4, 0.3], [0.5, 0.4, 0.3], [0.5, 0.405, 0.3], "its losses"),
        ("step", [0.5, 0.4, 0.3], [0.5, 0.4, 0.3], [0.5, 0.4, np.nan], "its losses"),
        ("embed", [[1.0, 2.0]], [[1.0, 2.0001]], [[1.0, 2.001]], "off by 5.0e-04"),
        ("embed", [[1.0, 2.0]], [[1.0, 2.0]], [[1.0, np.nan]], "off by inf"),
        ("embed", [[1.0, 2.0]], [[1.0, 2.0]], [1.0, 2.0], "the shape"),
        ("other", [[1.0, 2.0]], [[1.0, 2.1]], [[1.0, 2.3]], "off by"),
        ("knn", [[3, 1], [2, 0]], [[1, 3], [2, 0]], [[1, 3], [2, 2]], "only 75.0 % of its neighbours"),
        ("auc", 0.75, 0.75 + 1e-9, 0.7501, "its AUC"),
        ("auc", 0.75, 0.75, np.nan, "its AUC"),
    ],
)
def test_a_peer_that_computes_something_else_is_not_timed(kind, expected, correct, wrong, says):
    task = peers.Task("t", kind, "cnn", 2)
    assert peers.disagreement(task, np.array(correct), np.array(expected)) == ""
    assert says in peers.disagreement(task, np.array(wrong), np.array(expected))


def test_other_precision_is_told_with_its_errors():
    emb, classes = np.array([[0.0], [1.0], [4.0], [5.5]]), np.array([0, 0, 1, 1])
    coarse = np.array([[0.0], [1.0], [1.8], [5.5]])  # 5 of 8 similar pairs are closer than a dissimilar one, not all
    told = peers.quality(peers.Task("t", "other", "cnn", 4), coarse, emb, classes)
    assert told == {"embedding_error": pytest.approx(2.2 / 5.5), "auc_difference": pytest.approx(-3 / 8)}


FAKE_FRAMEWORK = """
import os
import with_siamese_np

def versions(variant):
    return {"fake": "1"}

class Model(with_siamese_np.Model):
    def nearest(self, query, gallery, k):
        return super().nearest(query, gallery, k)[:, ::-1]

    def auc(self, dist, label):
        raise MemoryError("no\\nroom")

def make(variant, preset, params, job):
    model = Model(preset, params)
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
    """One computes something else, one dies while it is timed, one cannot be imported; all are listed with why.

    One does all that the others do, and lacks the last operation. Its interpreter is the second of two.
    """
    (tmp_path / "with_fake.py").write_text(FAKE_FRAMEWORK)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    fakes = {
        name: peers.Known(name, "with_none" if name == "broken" else "with_fake", name, "fake")
        for name in ("wrong", "dies", "broken")
    }
    fakes["able"] = peers.Known("able", "with_fake", "", "fake", ("step", "knn", "other", "auc"))
    fakes["missing"] = peers.Known("missing", "with_fake", "", "fake", needs=("none",))
    monkeypatch.setattr(peers, "KNOWN", {"siamese_np": peers.KNOWN["siamese_np"], **fakes})
    monkeypatch.setattr(peers, "installed", {"/no/python": set(), sys.executable: {"fake"}}.get)
    part, sizes = Split(load_dataset().test.images[:50], load_dataset().test.classes[:50]), dataclasses.asdict(SMOKE)
    tasks = ("step mlp 8", "knn cnn 20", "other cnn 10", "auc cnn 100")
    sizes.update(repetitions=3, seconds=1e-3, peer_tasks=tasks, peers=())
    options = {**sizes, "threads": [1], "peer_python": ["/no/python", sys.executable]}
    found = peers.run(part, options, dataset=Dataset("50 images", part, part, part))
    status = {name: peer["status"] for name, peer in found["peers"].items()}
    assert status["siamese_np"] == "present" and status["missing"] == "absent"
    assert status["wrong"].startswith("failed: its losses")
    assert status["dies"] == "failed: no more memory"
    assert status["broken"] == "failed: ModuleNotFoundError: No module named 'with_none'"
    assert status["able"] == "failed: MemoryError: no room"
    assert found["peers"]["dies"]["versions"] == {"fake": "1"} and found["peers"]["able"]["seconds"] > 0
    step, knn, other, auc = found["tasks"].values()
    assert set(step) == set(knn) == set(other) == {"siamese_np", "able"} and set(auc) == {"siamese_np"}
    assert knn["able"]["equal_neighbours"] == 1 and knn["able"]["ratio"] > 0
    assert other["able"]["embedding_error"] < 1e-4 and abs(other["able"]["auc_difference"]) < 0.01
    said = "\n".join(report._lead({"environment": {}, "peers": found}))
    assert said.startswith("- mlp step, 8 pairs: able, the fastest peer") and "other precision" not in said


def test_a_reference_that_fails_is_one_sentence(tmp_path):
    (tmp_path / "job.npz").write_bytes(b"")
    with pytest.raises(OptionError, match=r"^siamese_np in float64, which all are compared with, failed: EOFError: "):
        peers.reference([peers.Task.of("step mlp 8")], tmp_path / "job.npz")


@pytest.mark.long
def test_all_peers_that_are_installed_here_agree():
    present = peers.installed(sys.executable)
    names = [name for name, known in peers.KNOWN.items() if peers._modules(known) <= present]
    if not names:
        pytest.skip("no framework is installed beside this package")
    part, sizes = Split(load_dataset().test.images[:300], load_dataset().test.classes[:300]), dataclasses.asdict(SMOKE)
    tasks = ("step cnn 4", "step mlp 4", "embed cnn 60", "other cnn 300", "knn cnn 50", "auc cnn 1000")
    options = {**sizes, "peer_tasks": tasks, "peers": ("siamese_np", *names), "threads": [1], "peer_python": []}
    found = peers.run(part, options, dataset=Dataset("300 images", part, part, part))
    assert {name: peer["status"] for name, peer in found["peers"].items()} == dict.fromkeys(found["peers"], "present")
    for task, rows in found["tasks"].items():
        assert len(rows) > 1 or task in ("cnn step, 4 pairs", "mlp step, 4 pairs", "cnn embedding, 60 images"), task


def test_peers_run_without_what_holds_blas_back(monkeypatch):
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    environment = suite.environment(2)
    assert "OPENBLAS_CORETYPE" not in environment
    assert environment["OMP_NUM_THREADS"] == environment["SIAMESE_NP_THREADS"] == "2"


def test_no_interpreter_for_peers(tmp_path):
    (program := tmp_path / "python").write_text("#!/bin/sh\necho 5\n")
    program.chmod(0o755)
    for python in ("/no/such/python", str(program)):
        with pytest.raises(OptionError, match="must name a Python interpreter"):
            peers.installed(python)


@pytest.mark.skipif(os.name == "nt", reason="a script is no program there")
def test_an_operation_whose_answer_is_no_file_is_told(tmp_path):
    answers = '{"versions": {}}', '{"first_call_seconds": 1}'
    (program := tmp_path / "python").write_text("#!/bin/sh\n" + "".join(f"read c\necho '{a}'\n" for a in answers))
    program.chmod(0o755)
    peer = peers.Operations("with_none", "", str(program), 1, tmp_path)
    assert "its answer is not as agreed: '{\"first_call_seconds\": 1}'" in peer.results({}, {})


# --- The idle gate --------------------------------------------------------------------------------------


@pytest.fixture
def processor_times(monkeypatch):
    """Sets what /proc/stat says from one look to the next: ticks of work, and idle ones."""

    def set_ticks(*ticks: tuple[int, int]) -> None:
        work, rest = np.cumsum([(0, 0), *ticks], axis=0).T
        looks = iter([[int(w), 0, 0, int(r - r // 2), int(r // 2), 0, 0, 0] for w, r in zip(work, rest, strict=True)])
        monkeypatch.setattr(idle, "_processor_times", lambda: next(looks))

    monkeypatch.setattr(idle, "SECONDS", 0)
    return set_ticks


def test_a_run_waits_for_an_idle_machine(processor_times):
    said = []
    processor_times((50, 50), (0, 0), (30, 70), (9, 9), (4, 96))  # looks are taken in pairs
    assert idle.wait_until_idle(said.append) == {"others": pytest.approx(0.04), "busy": False}
    assert said == []


def test_a_run_on_a_busy_machine_says_so_and_goes_on(processor_times):
    said = []
    processor_times(*[(40, 60), (0, 0)] * idle.TRIES)
    assert idle.wait_until_idle(said.append) == {"others": pytest.approx(0.4), "busy": True}
    assert said == ["other processes took 40 % of the processors (idle is at most 5 %): the results are marked as busy"]


def test_others_are_seen_at_work():
    if idle._processor_times() is None:
        pytest.skip("this system has no /proc/stat")
    command = [sys.executable, "-c", "print(1, flush=True)\nwhile True: pass"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        child.stdout.readline()
        try:
            assert idle.others()["others"] > 0.5 / os.cpu_count()
        finally:
            child.kill()


def test_systems_without_processor_times(monkeypatch):
    monkeypatch.setattr(idle, "SECONDS", 0)
    monkeypatch.setattr(idle, "_processor_times", lambda: None)
    monkeypatch.setattr(idle.os, "getloadavg", lambda: (3.0 * os.cpu_count(), 0, 0), raising=False)  # as on macOS
    assert idle.others() == {"others": 3.0, "busy": True}
    assert idle.others(ran=True) == {"others": None, "busy": False}  # it would be the run itself
    monkeypatch.delattr(idle.os, "getloadavg", raising=False)  # as on Windows
    assert idle.others() == {"others": None, "busy": False}
    looks = iter([[0] * 8, None])  # a second look that fails
    monkeypatch.setattr(idle, "_processor_times", lambda: next(looks))
    assert idle.others() == {"others": None, "busy": False}


# --- All of it ------------------------------------------------------------------------------------------


def kept_clocks(patch: pytest.MonkeyPatch) -> dict:
    """The clocks of `mlp` where the first process finds its folder empty, and the others what it left there.

    The processes themselves load the kernels of these tests: to compile takes ten seconds.
    """
    start, found = subprocess.run, []

    def run(command, env, **options):
        folder = Path(env["NUMBA_CACHE_DIR"])
        found.append((folder, sorted(path.name for path in folder.iterdir())))
        (folder / "kernel").touch()
        return start(command, **options)

    patch.setattr(clocks.subprocess, "run", run)
    measured = clocks.clocks(["mlp"], 1)
    assert [names for _, names in found] == [[], ["kernel"]] and found[0][0] == found[1][0]
    return measured


@pytest.fixture(scope="module")
def results() -> dict:
    """A run of the whole suite on next to nothing, with one peer absent and one that fails."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONWARNINGS", "ignore")
        patch.setattr(idle, "SECONDS", 0.01)
        return {**suite.run(SMOKE, threads=2), "clocks": kept_clocks(patch)}


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
    assert json.loads(json.dumps(results, allow_nan=False)) == results
    for name, samples in timings(results).items():
        taken = end_to_end.SAMPLED_STEPS if name.startswith("training") else SMOKE.repetitions
        assert len(samples) == taken and min(samples) > 0
    assert not any(str(Path.home()) in value for value in map(str, results["environment"].values()))


def documented() -> dict[str, bool]:
    """The paths that the page on benchmark.json lists, as regular expressions, and whether each may be missing."""
    page = (ROOT / "benchmarks" / "results" / "README.md").read_text(encoding="utf-8")
    fields, paths = (table.splitlines() for table in page.split("|---|---|---|")[1:])
    timing = "|".join(re.escape(line.split("`")[1]) for line in fields if line.startswith("| `"))
    found = {}
    for line in paths:
        cells = line.split("|")
        for path, optional in re.findall(r"`([^`]+)`(\??)", cells[1]) if len(cells) > 3 else ():
            pattern = re.escape(path).replace(r"\*\*", ".+").replace(r"\*", "[^/]+").replace(r"\.", "/")
            found[pattern + (f"/({timing.replace(chr(92) + '.', '/')})" * (cells[2].strip() == "T"))] = bool(optional)
    return found


def leaves(value, path: str = "") -> set[str]:
    if isinstance(value, dict):
        return set().union(*(leaves(below, f"{path}/{key}") for key, below in value.items()))
    if isinstance(value, list):
        return set().union(*(leaves(below, f"{path}/[]") for below in value))
    return {path[1:]}


def test_the_json_is_as_the_page_says(results, tmp_path):
    report.write(tmp_path, results)
    paths, patterns = leaves(json.loads((tmp_path / "benchmark.json").read_text())), documented()
    assert len(patterns) > 60
    assert [path for path in sorted(paths) if not any(re.fullmatch(pattern, path) for pattern in patterns)] == []
    for pattern, optional in patterns.items():
        assert optional or any(re.fullmatch(pattern, path) for path in paths), pattern


def test_memory_is_that_of_the_process_alone():
    """Not what the process before it had, as some systems count."""
    child = "from siamese_np.bench.end_to_end import peak_memory; print(peak_memory())"
    parent = (
        f"import numpy, subprocess, sys; big = numpy.ones(5 * 10**7); subprocess.run([sys.executable, '-c', {child!r}])"
    )
    done = subprocess.run([sys.executable, "-c", parent], capture_output=True, text=True, check=True)
    assert 10**7 < int(done.stdout) < 3 * 10**8


def test_free_memory(monkeypatch):
    """What the system would take back from its file caches is free, too."""
    lines = "MemTotal: 9 kB\nMemFree: 1 kB\nMemAvailable:       4 kB\n"
    monkeypatch.setattr(Path, "read_text", lambda path: lines)
    assert end_to_end.free_memory() == 4096
    monkeypatch.setattr(Path, "read_text", lambda path: "MemTotal: 9 kB\n")  # before Linux 3.14
    pages = {"SC_AVPHYS_PAGES": 3, "SC_PAGE_SIZE": 1000}
    monkeypatch.setattr(end_to_end.os, "sysconf", pages.__getitem__, raising=False)
    assert end_to_end.free_memory() == 3000
    monkeypatch.setattr(end_to_end.os, "sysconf", lambda name: int("?"), raising=False)
    assert end_to_end.free_memory() == float("inf")


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
    monkeypatch.setattr(idle, "SECONDS", 0)
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
        (["--rung", "x.py", "--peer-python", "python"], "--peer-python is for the sections peers"),
        (["--rung", "x.py", "--only", "clocks"], "--rung is for the section ladder; --only names what is run"),
        (["--out", "FILE/results"], "cannot be written"),
        (["--out", ""], "an argument is an empty word"),
        (["--rung", ""], "an argument is an empty word"),
        (["--peer-python", sys.executable, "--peer-python", ""], "an argument is an empty word"),
        (["--peer-python", sys.executable, "--peer-python", "/no/python"], "which /no/python is not"),
    ],
)
def test_the_command_line_refuses_in_one_sentence(tmp_path, capsys, arguments, says):
    (tmp_path / "file").touch()
    arguments = [argument.replace("FILE", str(tmp_path / "file")) for argument in arguments]
    assert main(["bench", *arguments]) == 2
    said = capsys.readouterr().err
    assert says in said and said.count("\n") == 1


def test_more_threads_than_processors_are_not_timed(monkeypatch, capsys):
    monkeypatch.setattr(scheduler, "get_threads", lambda: 3)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    assert main(["bench", "--quick"]) == 2
    assert "takes at most as many threads as there are processors, 2, not 3\n" in capsys.readouterr().err


def test_a_failed_section_loses_no_other(monkeypatch, tmp_path, capsys, results):
    def run_section(name, options, say):
        if name == "peers":
            raise OptionError("no peers today")
        return results[name.replace("-", "_")]

    monkeypatch.setattr(suite, "_section", run_section)
    monkeypatch.setattr(scheduler, "get_threads", lambda: max(results["threads"]))
    monkeypatch.setattr(idle, "SECONDS", 0)
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
