"""What kernels execute, single operations beside others, and the points beyond the first: nothing depends on speed."""

import dataclasses
import inspect
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from test_bench import documented, leaves

from siamese_np import cnn, kernels
from siamese_np.backend import ops
from siamese_np.bench import end_to_end, executed, op, pictures, points, probe, report, sampling, suite
from siamese_np.cli import main
from siamese_np.datasets import Split, load_dataset
from siamese_np.errors import OptionError

ROOT = Path(__file__).parent.parent

# --- What kernels execute -------------------------------------------------------------------------------

COUNTED = """
import json
import numpy as np
from siamese_np import kernels
from siamese_np.bench import executed
from siamese_np.kernels.conv import direct, sparse_backward
from siamese_np.kernels.simd import gemm, sparse

made = [0]

def counting(muladd):
    def call(sums, factor, vector):
        made[0] += 2 * np.size(vector) * (type(factor) is not int)  # the literal 0 asks whether the vector is finite
        return muladd(sums, factor, vector)
    return call

for module in (direct, sparse_backward, gemm, sparse):
    module.muladd = counting(module.muladd)
rng = np.random.default_rng(0)
pairs = []

def array(*shape, zeros=0.0):
    return (rng.standard_normal(shape) * (rng.random(shape) >= zeros)).astype(np.float32)

def run(name, *arguments):
    made[0] = 0
    getattr(kernels, name)(*arguments)
    pairs.append((name, made[0], executed.count(name, arguments).executed))

V, one, two = 64, (1, 1), (2, 2)  # F is a whole number of vectors of any processor
digit, b = np.zeros((2, 10, 10, 1), np.float32), array(V)
digit[:, 3:6, 4:8] = array(2, 3, 4, 1)
w, dw, db = array(2, 3, 1, V), np.zeros((2, 3, 1, V), np.float32), np.zeros(V, np.float32)
run("conv2d_forward", array(2, 11, 10, V), digit, w, b, one, one)
run("conv2d_forward", array(2, 4, 5, V), array(2, 9, 9, 3), array(3, 2, 3, V), b, two, (0, 1))
argmax = np.empty((2, 5, 5, V), np.uint8)
run("conv_relu_pool_forward", array(2, 5, 5, V), argmax, digit, w, b, one, one)
run("conv_relu_pool_backward", digit[:0], dw, db, array(2, 5, 5, V), argmax, digit, w, one, one)
run("conv2d_backward", digit[:0], dw, db, array(2, 11, 10, V), digit, w, one, one)
x, w, dw = array(1, 6, 8, V), array(3, 3, V, V), np.zeros((3, 3, V, V), np.float32)
run("conv2d_forward", np.empty_like(x), x, w, b, one, one)
run("conv2d_backward", np.empty_like(x), dw, db, array(1, 6, 8, V, zeros=0.8), x, w, one, one)
for shape, pad in (((3, 3, 96, V), one), ((1, 1, 96, V), (0, 0))):  # whole blocks of six rows in both directions
    x, w, dw = array(1, 6, 8, 96), array(*shape), np.zeros(shape, np.float32)
    run("conv2d_backward", np.empty_like(x), dw, db, array(1, 6, 8, V), x, w, one, pad)
w, dw = array(48, V), np.zeros((48, V), np.float32)  # rows in blocks of six, which are not filled up
for zeros in (0, 0.8):
    x, dout = array(13, 48, zeros=zeros), array(13, V, zeros=zeros)
    dout[3] = 0
    run("dense_forward", array(12, V), x[:12], w, b)
    run("dense_backward", np.empty_like(x), dw, db, dout, x, w)
    run("dense_backward", x[:0], dw, db, dout, x, w)
print(json.dumps(pairs))
"""


def test_counts_are_what_the_kernels_multiply():
    """In plain Python every multiply-add of the sums can be counted."""
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", COUNTED], env=environment, capture_output=True, text=True, check=True)
    pairs = json.loads(done.stdout)
    assert len(pairs) == 15
    for name, made, counted in pairs:
        assert made == counted > 0, name


def test_dense_counts_are_those_by_hand():
    x, w, b = np.ones((2, 5, 6, 3), np.float32), np.ones((3, 3, 3, 4), np.float32), np.ones(4, np.float32)
    out, argmax = np.ones((2, 5, 6, 4), np.float32), np.zeros((2, 2, 3, 4), np.uint8)
    dense = 2 * out.size * 27
    assert executed.count("conv2d_forward", (out, x, w, b, (1, 1), (1, 1))).dense == dense
    gradients = (x, w, b, out, x, w, (1, 1), (1, 1))
    assert executed.count("conv2d_backward", gradients)[:2] == (2 * dense, 2 * dense)
    pooled = (np.ones_like(argmax, np.float32), argmax, x, w, b, (1, 1), (1, 1))
    assert executed.count("conv_relu_pool_forward", pooled).dense == dense
    assert executed.count("relu_forward", (x, x)) == (0, 0, 2 * x.nbytes)


def test_the_parts_of_a_step_are_all_of_it():
    model = end_to_end.Model("cnn")
    images = load_dataset().test.images
    batch = model.load(images[:8], np.arange(4) % 2)
    before = dict(vars(ops))
    rows = executed.parts(lambda: model.step(batch, 1e-3), 2, 2)
    assert vars(ops) == before
    total = executed.step_count(lambda: model.step(batch, 1e-3), 2)
    assert total.dense == sum(row["flops"] for row in rows)
    ledger = cnn().summary(images[:8])  # counts the same sums, and what is not a sum
    forward = sum(row.flops for row in ledger.rows if row.name.startswith(("conv2d", "dense")))
    first = next(row.flops for row in ledger.rows if row.name == "conv2d_1")
    assert total.dense == 3 * forward - first
    assert 0 < total.executed < total.dense
    assert rows[-1]["part"] == "all else" and all(row["seconds"] > 0 for row in rows)
    assert "conv_relu_pool_backward 3x3x32x64" in [row["part"] for row in rows]


def test_the_instrument_is_not_among_the_parts(monkeypatch):
    """By a clock that passes in kernels, between them, and while a call is written down."""
    now, label, signature = [0.0], executed._label, inspect.signature
    asked: list[str] = []

    def passes(seconds):
        now[0] += seconds

    def slow_label(*call):
        passes(100)
        return label(*call)

    def slow_signature(kernel):
        asked.append(kernel.__name__)
        return signature(kernel)

    def step():
        ops.relu_forward(x, x)
        passes(2)
        ops.relu_forward(x, x)

    x = np.ones(2, np.float32)
    executed._parameters.cache_clear()
    monkeypatch.setattr(executed, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    monkeypatch.setattr(executed, "inspect", SimpleNamespace(signature=slow_signature))
    monkeypatch.setattr(executed, "_label", slow_label)
    monkeypatch.setattr(ops, "relu_forward", lambda out, x: passes(3))
    rows = executed.parts(step, 1, 2)
    assert [(row["part"], row["seconds"]) for row in rows] == [("relu_forward 2", 6), ("all else", 2)]
    assert asked == ["relu_forward"]


def test_the_roof_is_the_peak_or_the_memory_that_holds_the_arrays():
    bandwidths = {"L1": {"2": 100.0}, "L3": {"2": 10.0}, "DRAM": {"2": 1.0}}
    limits = {"fma_gflops": {"8": {"2": 50.0}}, "gbytes_per_second": bandwidths, "cache_bytes": {"L1": 10, "L3": 1000}}
    assert probe.least_seconds(limits, 2, 50e9, 20) == pytest.approx(1)
    assert probe.least_seconds(limits, 2, 0, 20) == pytest.approx(20 / 100e9)  # both first caches
    assert probe.least_seconds(limits, 2, 0, 1000) == pytest.approx(1000 / 10e9)
    assert probe.least_seconds(limits, 2, 0, 2000) == pytest.approx(2000 / 1e9)


# --- Single operations ----------------------------------------------------------------------------------

OPTIONS = {"threads": [1, 2], "peer_python": [], "repetitions": 2, "seconds": 1e-6}
FAKE = """
import os
from siamese_np import textbook

def versions(variant):
    return {"fake": "1"}

def operation(task, arrays):
    stride, pad = task["stride"], task["pad"]
    out, cache = textbook.conv2d_forward(arrays["x"], arrays["w"], arrays["b"], stride, pad)
    results = [out] if task["direction"] == "forward" else list(textbook.conv2d_backward(arrays["dout"], cache))
    if task["variant"] == "packed":
        raise NotImplementedError("no such layout\\nand more")
    if task["variant"] == "channels_last" and task["direction"] == "forward":
        results[0][0, 0, 0, 0] += 1
    if task["variant"] == "channels_last" and task["direction"] == "backward":
        os._exit(3)
    return (lambda: results), list
"""


@pytest.fixture(scope="module")
def entries(tmp_path_factory) -> list:
    """All operations at tiny sizes, as JSON gives them back; a framework that gets some of it wrong stands beside."""
    folder = tmp_path_factory.mktemp("fake")
    (folder / "fake_op.py").write_text(FAKE)
    peers = suite.load_peers()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sampling, "SETTLE_SECONDS", 0)
        patch.setattr(sampling, "WAKE_SECONDS", 0)
        patch.setattr(op, "PEER", "fake_op")
        patch.setattr(peers, "installed", lambda python: {"torch"})
        patch.setattr(suite, "load_peers", lambda: peers)
        patch.setenv("PYTHONPATH", os.pathsep.join([str(folder), str(ROOT)]))
        layers = op.parse("conv2d", (4, 5, 5, 2), (3, 3), (2, 1), (1, 0))
        found = op.run({**OPTIONS, "layers": layers}, lambda line: None)
        patch.setattr(peers, "installed", lambda python: set())
        layers = op.parse("dense", (3, 6), (4,), None, None) + op.parse("maxpool2d", (2, 5, 5, 3), (2,), None, None)
        layers += op.parse("conv2d", (2, 6, 6, 8), (3, 4), None, (1, 1))
        found += op.run({**OPTIONS, "layers": layers}, lambda line: None)
    return json.loads(json.dumps(found))


def test_every_operation_is_verified_and_timed_beside_others(entries):
    assert [entry["direction"] for entry in entries] == [*op.DIRECTIONS] * 4
    for entry in entries:
        ours, blas = (entry["candidates"][who] for who in (op.OURS, op.NUMPY))
        assert ours["ratio"] == 1 and blas["ratio"] > 0 and max(ours["error"], blas["error"]) < op.TOLERANCE
    assert entries[-2]["executed_flops"] == 2 * 16 * 2 * 9 * 8 * 4  # Winograd's


def test_a_peer_that_is_wrong_or_dies_or_cannot_do_a_shape_is_told_and_not_timed(entries):
    forward, backward = entries[:2]
    assert set(forward["candidates"]) == {op.OURS, op.NUMPY, "nchw"}
    assert forward["failed"]["channels_last"].startswith("its result is wrong, off by")
    assert forward["failed"]["packed"] == "it cannot do this: NotImplementedError: no such layout"
    assert set(backward["candidates"]) == {op.OURS, op.NUMPY, "nchw"}
    assert backward["failed"]["channels_last"].startswith("it ended early")


def test_a_peer_that_dies_while_it_is_timed_is_told():
    problem = op.Problem(op.parse("dense", (3, 6), (4,), None, None)[0])
    dies = SimpleNamespace(results=lambda *task: problem.expected["forward"], run=lambda calls: float("nan"))
    dies.versions, dies.refusal = {}, ""
    entry = op._entry(problem, "forward", {"nchw": dies}, OPTIONS, print)
    assert entry["failed"] == {"nchw": "it ended early"} and set(entry["candidates"]) == {op.OURS, op.NUMPY}


@pytest.mark.parametrize("kernel", ["dense_forward", "maxpool2d_forward"])
def test_our_own_wrong_result_ends_the_section(monkeypatch, kernel):
    """Of pooling, where the maxima are counts as well."""
    right = getattr(kernels, kernel)

    def wrong(*arguments):
        right(*arguments)
        arguments[kernel == "maxpool2d_forward"][:] = 0

    wrong.__signature__ = inspect.signature(right)
    monkeypatch.setattr(kernels, kernel, wrong)
    layers = op.parse("dense", (3, 6), (4,), None, None)
    if kernel == "maxpool2d_forward":
        layers = op.parse("maxpool2d", (2, 5, 5, 3), (2,), None, None)
    with pytest.raises(OptionError, match=r"siamese_np fails at .*, forward: its result is wrong, off by"):
        op.run({**OPTIONS, "layers": layers}, lambda line: None)


def test_what_is_wrong_beside_us_is_told_and_we_are_timed(monkeypatch):
    monkeypatch.setattr(sampling, "SETTLE_SECONDS", 0)
    monkeypatch.setattr(sampling, "WAKE_SECONDS", 0)
    monkeypatch.setattr(op.im2col, "conv2d_forward", lambda out, *arguments: out.fill(0))
    problem = op.Problem(op.parse("conv2d", (1, 4, 4, 1), (3, 2), None, None)[0])
    entry = op._entry(problem, "forward", {}, OPTIONS, print)
    assert entry["failed"] == {op.NUMPY: "its result is wrong, off by 1.0e+00 of the largest entry"}
    assert set(entry["candidates"]) == {op.OURS}


def test_a_peer_that_cannot_start_is_told_once(monkeypatch):
    monkeypatch.setattr(sampling, "SETTLE_SECONDS", 0)
    monkeypatch.setattr(sampling, "WAKE_SECONDS", 0)
    monkeypatch.setattr(op, "PEER", "with_none")
    peers = suite.load_peers()
    monkeypatch.setattr(peers, "installed", lambda python: {"torch"})
    monkeypatch.setattr(suite, "load_peers", lambda: peers)
    layers = op.parse("dense", (3, 6), (4,), None, None)
    forward, backward = op.run({**OPTIONS, "layers": layers}, lambda line: None)
    assert forward["failed"] == {"nchw": "it cannot start: ModuleNotFoundError: No module named 'with_none'"}
    assert backward["failed"] == {}


def test_a_layer_that_does_not_fit_is_skipped_and_the_others_go_on(monkeypatch, tmp_path):
    monkeypatch.setattr(sampling, "SETTLE_SECONDS", 0)
    monkeypatch.setattr(sampling, "WAKE_SECONDS", 0)
    monkeypatch.setattr(suite, "PEERS", tmp_path)
    said, small = [], op.parse("dense", (3, 6), (4,), None, None)
    large = op.parse("dense", (10**7, 10**7), (10**7,), None, None)
    skipped, *others = found = json.loads(json.dumps(op.run({**OPTIONS, "layers": large + small}, said.append)))
    assert skipped["skipped"].startswith("dense 10000000x10000000, kernel 10000000 needs about")
    assert [entry["direction"] for entry in others] == [*op.DIRECTIONS] and f"skipped: {skipped['skipped']}" in said
    assert said[0] == suite.NO_PEERS and not any("--peer-python" in line for line in said)
    assert f"Skipped: {skipped['skipped']}." in report.text(results_with(op=found))
    assert pictures.draw(tmp_path, results_with(op=found)) == ["layers"]
    assert pictures.draw(tmp_path, results_with(op=[skipped])) == []
    assert not undocumented(found)


def undocumented(entries: list) -> list[str]:
    """What the page on benchmark.json does not have."""
    paths, patterns = leaves({"op": entries}), documented()
    return [path for path in sorted(paths) if not any(re.fullmatch(pattern, path) for pattern in patterns)]


def test_the_json_is_as_the_page_says(entries):
    assert entries[0]["candidates"]["nchw"]["versions"] == {"fake": "1"}
    assert undocumented(entries) == []


def test_the_memory_of_what_is_freed_is_kept(monkeypatch):
    """In the section op, and in its peers, whose environment is that section's."""
    children = []

    def started(command, env, **how):
        children.append(env)
        Path(command[-1]).write_text('{"result": []}')

    monkeypatch.setattr(suite.subprocess, "run", started)
    for name in ("op", "peers"):
        suite._section(name, {"threads": [1], "ladder_cold": False, "user_file": None}, lambda line: None)
    assert suite.KEEP_MEMORY.items() <= children[0].items() and not suite.KEEP_MEMORY.keys() & children[1].keys()
    for name, value in children[0].items():
        monkeypatch.setenv(name, value)
    assert suite.KEEP_MEMORY.items() <= suite.environment(2).items()


def test_the_grid_has_20_layers_that_fit_and_each_network_names_its_source():
    families = [layer.name.split()[0].split("-")[0] for layer in op.GRID]
    for family in set(families):
        assert op.GRID[families.index(family)].name.endswith(")")
    assert len(op.GRID) == len({layer.name for layer in op.GRID}) == 20
    assert all(min(layer.output) >= 1 for layer in op.GRID)


def results_with(**sections):
    limits = {"cache_bytes": {"L1": 1 << 15}, "fma_gflops": {"16": {"2": 100.0}}}
    limits["gbytes_per_second"] = {"L1": {"2": 100.0}, "DRAM": {"2": 10.0}}
    facts = {"date": "today", "versions": {}, "processors": 2, "processor": "A"}
    run = {"environment": facts, "threads": [2], "sizes": "smoke", "seconds": 1.0, "probe": limits}
    run |= {"drift": {}, "idle": {}}
    return {**run, **sections}


def test_layers_are_shown_with_what_failed(entries, tmp_path):
    said = report.text(results_with(op=entries))
    assert "## Published layers, dense input, 2 threads\n\nOn 2 cores, one CPU model: A." in said
    assert (
        "oneDNN (PyTorch, packed weights), conv2d 4x5x5x2, kernel 3x3x3, stride 2x1, pad 1x0, forward: it cannot"
        in said
    )
    ratios = [{"nchw": {"ratio": 2.0}}, {"nchw": {"ratio": 0.5}, "packed": {"ratio": 0.7}}, {}]
    beside = [{**entries[0], "candidates": found} for found in ratios]
    (lead,) = report._lead(results_with(op=beside))
    assert lead == (
        "- forward: faster than oneDNN's fastest layout on 1 of 2 layers, 1.5 times on 1 (2 cores, one CPU model)"
    )
    one = report.text(results_with(op=entries[:2]))
    assert "| im2col + BLAS (NumPy) " in one and "backward, 2 threads" in one
    assert report.READING in said and report.READING in one
    *_, table, _ = report.tables(results_with(op=entries[:2]))
    shares = {row[0]: row[table.heads.index("% of peak")] for row in table.rows}
    assert float(shares.pop("siamese_np")) > 0 and set(shares.values()) == {"-"}  # what others execute is not known
    assert pictures.draw(tmp_path, results_with(op=entries)) == ["layers"]
    assert (tmp_path / "layers.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("--op conv3d", "--op must be conv2d, dense, maxpool2d or grid, not 'conv3d'"),
        ("--op conv2d", "needs --shape N,H,W,C and --kernel K,F"),
        ("--op conv2d --shape 8,9,9,3", "needs --shape N,H,W,C and --kernel K,F"),
        ("--op conv2d --shape 8,9,9 --kernel 3,4", "takes --shape N,H,W,C"),
        ("--op conv2d --shape 8,0,9,1 --kernel 3,4", "from 1 on"),
        ("--op conv2d --shape 8,9,9,1 --kernel 3,4 --stride 0,1", "--stride is numbers from 1 on, not 0,1"),
        ("--op conv2d --shape 8,9,9,1 --kernel 3,4 --pad 1,-1", "--pad is numbers from 0 on, not 1,-1"),
        ("--op conv2d --shape 8,9,9,1 --kernel 11,4", "is larger than the image with its padding"),
        ("--op dense --shape 8,9 --kernel 3 --pad 1,1", "--op dense has no --pad"),
        ("--op maxpool2d --shape 8,9,9,1 --kernel 2 --pad 1,1", "--op maxpool2d has no --pad"),
        ("--op grid --shape 8,9", "--op grid has its own shapes"),
        ("--op grid --only ladder", "--op is for the section op"),
        ("--shape 8,9", "are of an operation, which --op names"),
        ("--op dense --shape 8,x --kernel 3", "a shape is whole numbers"),
        ("--op dense --shape 9999999,9999999 --kernel 9", "GB are free: take a smaller batch"),
        ("--op grid --peer-python /no/such/python", "must name a Python interpreter"),
    ],
)
def test_the_command_line_refuses_in_one_sentence(capsys, arguments, says):
    assert main(["bench", "--quick", *arguments.split()]) == 2
    said = capsys.readouterr().err
    assert says in said and said.count("\n") == 1


def test_a_layer_that_does_not_fit_into_memory_is_refused():
    for layer in (("dense", (10**7, 10**7), (10**7,)), ("conv2d", (100, 300, 300, 64), (200, 2))):  # its patches
        with pytest.raises(OptionError, match=r"needs about .* GB, and .* GB are free: take a smaller batch"):
            op.Problem(op.parse(*layer, None, None)[0])


def test_windows_of_more_entries_than_a_byte_counts():
    problem = op.Problem(op.parse("maxpool2d", (1, 17, 17, 2), (17,), None, None)[0])
    call, outputs, _ = problem.candidate(kernels.maxpool2d_forward, "forward")
    call()
    assert problem.argmax.dtype == np.int32 and problem.error(outputs, "forward") == 0


# --- Other points ---------------------------------------------------------------------------------------


def test_numba_is_held_to_avx2():
    """Vectors have 32 bytes then, and the code that Numba makes has no wider ones."""
    code = """
import numpy as np
from numba import njit
from siamese_np.kernels.simd.vectors import VECTOR_BYTES

@njit
def double(x):
    for m in range(x.size):
        x[m] = 2 * x[m]

double(np.ones(64, np.float32))
print(VECTOR_BYTES, "zmm" in "".join(double.inspect_asm().values()))
"""
    try:
        environment = {**os.environ, **points.avx2_environment(), "PYTHONPATH": str(ROOT)}
    except OptionError:
        pytest.skip("this processor has no AVX2")
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["32", "False"]


def test_each_point_runs_the_peers_there(monkeypatch):
    calls = []

    peers = suite.load_peers()

    class Peers:
        KNOWN = peers.KNOWN | {"other": peers.Known("Other", "m", "v", "no switch")}
        UNTRAINED = peers.UNTRAINED

        @staticmethod
        def run(split, options, log):
            calls.append((split, options))
            return {"peers": {}, "tasks": {}}

    monkeypatch.setattr(suite, "load_peers", lambda: Peers)
    split = Split(load_dataset().test.images[:50], load_dataset().test.classes[:50])
    options = {"threads": [1, 2], "peers": ()}
    found = points.run("thread-counts", split, options, print)
    assert list(found) == ["1", "2"] and [options["threads"] for _, options in calls] == [[1], [2]]
    found = points.run("avx2", split, options, print)
    assert found["left_out"][-1] == "Other" and "JAX jit" not in found["left_out"]
    assert not {"faiss IndexFlatL2", "OpenVINO int8"} & {*found["left_out"]}  # they have nothing to do there
    assert "other" not in calls[-1][1]["peers"]
    found = points.run("dense-input", split, options, print)
    noise = calls[-1][0]
    assert noise.images.shape == split.images.shape and (noise.images > 0).mean() > 0.999
    zeros = found["zeros"]
    assert zeros["data"]["mlp"]["dense_1"] > 0.7 > 0.01 > zeros["noise"]["mlp"]["dense_1"]
    assert [*zeros["data"]["cnn"]] == ["conv2d_1", "conv2d_2", "dense_1", "dense_2"]


def test_the_points_are_shown_and_the_head_says_where_each_figure_holds():
    timing = {"median": 1e-3, "low": 1e-3, "high": 1e-3, "samples": [1e-3]}
    ours, theirs = ({"timing": timing, "ratio": ratio, "prepare_seconds": 0.0} for ratio in (1.0, 2.5))
    names = {"siamese_np": {"title": "siamese_np", "status": "present"}, "jax": {"title": "JAX", "status": "present"}}
    names["torch"] = {"title": "PyTorch", "status": "failed: no more memory"}
    found = {"peers": names, "tasks": {"mlp step, 2 pairs": {"siamese_np": ours, "jax": theirs}}}
    shares = {kind: {"mlp": {"dense_1": share}} for kind, share in (("data", 0.81), ("noise", 0.0))}
    points_of = {"dense_input": {**found, "zeros": shares}, "avx2": {**found, "left_out": ["Other"]}}
    cost = {"flops": 4e6, "executed_flops": 2e6, "bytes": 1e3}
    row = {"preset": "mlp", "pairs": 2, "threads": 2}
    step = {**row, "timing": timing, "images_per_second": 1.0, "dense_gflops": 40.0, "executed_gflops": 20.0, **cost}
    parts = [{"part": "dense_forward 3x4", "seconds": 1e-4, **cost}, {"part": "all else", "seconds": 1e-4, **cost}]
    whole = {"steps": [step], "parts": [{**row, "parts": parts}], "embeddings": [], "cost_per_image": []}
    shown = results_with(peers=found, thread_counts={"1": found}, end_to_end=whole, **points_of)
    said = report.text(shown)
    table = next(table for table in report.tables(shown) if table.title == "Training step")
    assert table.rows[0][table.heads.index("% of roof")] == "-"  # its bytes are those of all calls
    for words in (
        "- mlp step, 2 pairs, 2 threads: operations executed at 20 % of the measured FMA peak; "
        "algorithmic speed-up over dense 2.00 (2 cores, one CPU model)",
        "- mlp step, 2 pairs: JAX, the fastest peer, takes 2.50 times our time (2 cores, one CPU model)",
        "Engines without a switch that holds them to AVX2, left out there: Other.",
        "At most AVX2 on both sides: PyTorch failed: no more memory.",
        "## Dense input (uniform noise), beside peers",
        "## At most AVX2 on both sides, beside peers",
        "## 1 thread, beside peers",
        "## Parts of a step: mlp, 2 pairs, 2 threads",
    ):
        assert words in said
    zeros = said.split("## Zeros in a layer's input")[1]
    assert "mlp, dense_1" in zeros and "81.0" in zeros


def test_the_points_run_only_where_they_are_asked_for(monkeypatch):
    ran = []
    monkeypatch.setattr(suite, "_section", lambda name, options, log: ran.append(name) or {})
    monkeypatch.setattr(probe, "drift", lambda before, after: {})
    monkeypatch.setattr(suite.idle, "SECONDS", 0)
    sizes = dataclasses.replace(suite.QUICK, pair_counts=())
    suite.run(sizes, 1)
    assert not set(ran) & set(suite.POINTS)
    suite.run(sizes, 1, only=["avx2", "op"], layers=op.GRID[:1])
    assert ran[-4:] == ["probe", "avx2", "op", "probe"]
