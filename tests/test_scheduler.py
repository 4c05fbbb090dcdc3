"""The threads: the same bits for any number of them, errors, forks, idleness."""

import inspect
import os
import subprocess
import sys
import threading
import time
from typing import NamedTuple

import numpy as np
import pytest

from siamese_np import kernels
from siamese_np.augment import Distort
from siamese_np.errors import OptionError
from siamese_np.layers import AvgPool2D, Conv2D, Dense, GlobalAvgPool2D, MaxPool2D, ReLU
from siamese_np.losses import AllPairsContrastiveLoss, ContrastiveLoss
from siamese_np.network import SiameseNetwork
from siamese_np.optimizers import SGD, Adam
from siamese_np.presets import cnn, mlp
from siamese_np.runtime import scheduler
from siamese_np.runtime.jit import inlined, kernel
from siamese_np.runtime.numba_compat import SHARED
from siamese_np.runtime.shards import atomic_add, sharded

THREADS = (1, 2, 3, 8)
workers = pytest.mark.skipif(not SHARED, reason="without Numba's private names, shards run on the caller alone")


@pytest.fixture(autouse=True)
def _as_before():
    before = scheduler.get_threads()
    yield
    scheduler.set_threads(before)


def same_bits(compute) -> None:
    """Demand the same bytes from `compute` for any number of threads, and twice with the most."""
    results = []
    for threads in (*THREADS, THREADS[-1]):
        scheduler.set_threads(threads)
        results.append([array.tobytes() for array in compute()])
    assert all(result == results[0] for result in results)


def sparse(seed: int, *shape: int) -> np.ndarray:
    """Random numbers, a fifth of them not 0."""
    rng = np.random.default_rng(seed)
    return np.where(rng.random(shape) < 0.2, rng.standard_normal(shape), 0).astype(np.float32)


@pytest.mark.parametrize(
    ("layer", "x"),
    [
        (Dense(300, 200, seed=0), sparse(0, 70, 300)),  # zeros skipped, the sum in two halves
        (Dense(300, 33, seed=0), 1 + sparse(1, 130, 300)),  # nothing to skip, ragged
        (Conv2D(3, 32, 3, pad="same", seed=0), sparse(2, 9, 12, 12, 3)),
        (MaxPool2D(2), sparse(3, 9, 12, 12, 8)),
        (AvgPool2D(3, 2), sparse(3, 9, 12, 12, 8)),
        (GlobalAvgPool2D(), sparse(3, 9, 12, 12, 8)),
        (ReLU(), sparse(4, 300, 300)),
    ],
    ids=lambda value: "" if isinstance(value, np.ndarray) else str(value),
)
def test_layers_give_the_same_bits(layer, x):
    def compute():
        for grad in layer.grads.values():
            grad[:] = 0
        out, cache = layer.forward(x)
        dout = np.random.default_rng(9).standard_normal(out.shape).astype(np.float32)
        dout[::3] = 0  # as of pairs beyond the margin
        return [out, layer.backward(dout, cache), *layer.grads.values()]

    same_bits(compute)


def test_losses_give_the_same_bits():
    emb, classes = 0.3 * np.random.default_rng(0).standard_normal((300, 16)), np.arange(300) % 7

    def compute():
        loss, cache = AllPairsContrastiveLoss().forward(emb, classes)
        return [np.array(loss), AllPairsContrastiveLoss().backward(cache)]

    same_bits(compute)


@pytest.mark.parametrize("optimizer", [SGD, Adam])
def test_optimizers_give_the_same_bits(optimizer):
    rng = np.random.default_rng(0)
    start, grads = (rng.standard_normal(100_003).astype(np.float32) for _ in range(2))

    def compute():
        params = start.copy()
        chosen = optimizer(params, grads)
        for _ in range(3):
            chosen.step(0.01)
        return [params, *chosen.state.values()]

    same_bits(compute)


def test_distorted_images_are_the_same_bits():
    images = np.random.default_rng(0).random((70, 28, 28, 1), np.float32)
    same_bits(lambda: [Distort()(images, np.random.default_rng(1))])


@pytest.mark.parametrize("preset", [cnn, mlp])
def test_whole_training_steps_give_the_same_bits(preset):
    images = np.maximum(np.random.default_rng(0).standard_normal((64, 28, 28, 1)) - 0.8, 0).astype(np.float32)
    label = np.arange(32) % 2

    def compute():
        siamese, loss = SiameseNetwork(preset(seed=1)), ContrastiveLoss()
        network = siamese.network
        optimizer = Adam(network)
        for _ in range(3):
            network.zero_grads()
            dist, cache = siamese.forward(images[:32], images[32:])
            siamese.backward(loss.backward(loss.forward(dist, label)[1]), cache)
            optimizer.step(1e-2)
        return [network.params, siamese.embed(images)]

    same_bits(compute)


@pytest.mark.parametrize("sizes", [[], [1], [40_000, 16, 7, 20_000], [16_384]])
def test_chunks_cover_every_number_once(sizes):
    chunks = scheduler.chunks_of(sizes)
    numbers = [n for start, end in chunks for n in range(start, end)]
    assert sorted(numbers) == list(range(sum(sizes)))
    edges = set(np.cumsum([0, *sizes]))
    assert all(end - start <= scheduler.CHUNK and not edges & set(range(start + 1, end)) for start, end in chunks)


@sharded
@inlined
def _meet(arrived, met, s):
    atomic_add(arrived, 0, 1)
    for _ in range(100_000_000):
        atomic_add(arrived, 0, 0)  # so that the next line reads it anew
        if arrived[0] > 1:
            met[s] = True
            return


@kernel(shared=True)
def _meet_all(arrived, met):
    _meet((arrived, met), met.size)


@workers
def test_a_worker_takes_shards_while_the_caller_does():
    scheduler.set_threads(2)
    for _ in range(20):  # the worker must be compiled first, and the machine may be busy
        met = np.zeros(2, bool)
        _meet_all(np.zeros(1, np.int64), met)
        if met.all():
            return
    pytest.fail("the caller ran both shards, or waited for a worker that never came")


@workers
def test_kernels_that_share_their_work_wake_the_workers():
    x = np.zeros(100_000, np.float32)
    for kernel_, shared in ((kernels.relu_forward, True), (kernels.contrastive_forward, False)):
        scheduler.set_threads(3)
        kernel_(x.copy(), x, *(() if shared else (x, 1)))
        assert len(scheduler._workers) == (2 if shared else 0)
        assert list(inspect.signature(kernel_).parameters)[:1] == ["out" if shared else "loss"]


class Task(NamedTuple):
    out: np.ndarray
    start: int


@sharded
@inlined
def _number(task, more, s):
    task.out[s] = task.start + more * s


@kernel(shared=True)
def _number_all(out, start):
    _number((Task(out, start), 2), out.size)


def test_shards_take_named_tuples_and_literal_numbers():
    scheduler.set_threads(2)
    out = np.empty(9, np.int64)
    _number_all(out, 5)
    np.testing.assert_array_equal(out, 5 + 2 * np.arange(9))


def test_several_callers_at_once_do_not_disturb_each_other():
    scheduler.set_threads(3)
    layer = Dense(300, 64, seed=0)
    inputs = [sparse(seed, 100, 300) for seed in range(4)]
    wanted = [layer.forward(x)[0].tobytes() for x in inputs]
    wrong = []

    def caller(number: int) -> None:
        for _ in range(100):
            if layer.forward(inputs[number])[0].tobytes() != wanted[number]:
                wrong.append(number)

    callers = [threading.Thread(target=caller, args=(number,)) for number in range(4)]
    for each in callers:
        each.start()
    for each in callers:
        each.join()
    assert not wrong


@workers
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_starts_threads_of_its_own():
    scheduler.set_threads(2)
    layer, x = Dense(300, 64, seed=0), sparse(0, 100, 300)
    wanted = layer.forward(x)[0]
    child = os.fork()
    if child == 0:
        right = np.array_equal(layer.forward(x)[0], wanted) and len(scheduler._workers) == 1
        os._exit(0 if right else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@workers
@pytest.mark.parametrize("allowed", [0, 2])
def test_threads_that_cannot_be_started_are_done_without(allowed, monkeypatch):
    scheduler.set_threads(1)
    layer, x = Dense(300, 64, seed=0), sparse(0, 100, 300)
    wanted = layer.forward(x)[0]
    tried = []

    def start(worker):
        tried.append(worker)
        if len(tried) > allowed:
            raise RuntimeError("can't start new thread")
        threading.Thread.start(worker)

    monkeypatch.setattr(scheduler._Worker, "start", start)
    scheduler.set_threads(8)
    with pytest.warns(RuntimeWarning, match=f"only {allowed + 1} of 8 threads are used: can't start") as said:
        results = [layer.forward(x)[0] for _ in range(3)]
    assert all(np.array_equal(result, wanted) for result in results)
    assert len(said) == 1 and len(tried) == allowed + 1
    monkeypatch.undo()
    scheduler.set_threads(3)  # and they are tried again
    layer.forward(x)
    assert len(scheduler._workers) == 2


def test_an_idle_program_uses_no_processor():
    scheduler.set_threads(3)
    Dense(300, 64, seed=0).forward(sparse(0, 100, 300))
    time.sleep(0.2)
    before = time.process_time()  # of all threads
    time.sleep(0.5)
    assert time.process_time() - before < 0.1


def test_the_number_of_threads_comes_from_the_environment():
    code = "from siamese_np.runtime.scheduler import get_threads; print(get_threads())"
    environment = {**os.environ, "SIAMESE_NP_THREADS": "3"}
    assert subprocess.check_output([sys.executable, "-c", code], env=environment).strip() == b"3"


@pytest.mark.parametrize("wrong", ["0", "-1", "two", "1.5", "9" * 5000])
def test_a_wrong_number_in_the_environment_is_named(wrong, monkeypatch):
    monkeypatch.setenv("SIAMESE_NP_THREADS", wrong)
    monkeypatch.setattr(scheduler, "_threads", 0)
    with pytest.raises(OptionError, match="at least 1"):
        scheduler.get_threads()
    monkeypatch.undo()


@pytest.mark.parametrize(
    ("member", "files", "processors"),
    [
        ("", {}, 64),
        ("", {"cpu.max": "250000 100000"}, 3),  # no /proc
        ("0::/", {"cpu.max": "max 100000"}, 64),
        ("0::/", {"cpu.max": "50000 100000"}, 1),
        ("0::/", {"cpu.max": "9900000 100000"}, 64),
        ("0::/", {"cpu.max": "50000 0"}, 64),
        ("0::/", {"cpu.max": "damaged"}, 64),
        ("0::/a/b", {"a/b/cpu.max": "max 100000", "a/cpu.max": "400000 100000"}, 4),
        ("0::/a/b", {"a/b/cpu.max": "200000 100000", "a/cpu.max": "400000 100000"}, 2),
        ("0::/seen/outside/only", {"cpu.max": "200000 100000"}, 2),  # as in a container
        ("0::/../../other", {"cpu.max": "200000 100000"}, 2),
        ("4:cpu,cpuacct:/", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 64),
        ("4:cpuacct,cpu:/", {"cpu/cpu.cfs_quota_us": "150000", "cpu/cpu.cfs_period_us": "100000"}, 2),
        ("4:cpu:/docker/1", {"cpu/cpu.cfs_quota_us": "150000", "cpu/cpu.cfs_period_us": "100000"}, 2),
        (
            "9:memory:/b\n4:cpu:/a\n0::/",
            {"cpu/a/cpu.cfs_quota_us": "300000", "cpu/a/cpu.cfs_period_us": "100000"},
            3,
        ),
    ],
)
def test_a_container_counts_with_its_share_of_the_processors(member, files, processors, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(64), raising=False)
    monkeypatch.setattr(scheduler, "MEMBERSHIP", tmp_path / "member")
    monkeypatch.setattr(scheduler, "GROUPS", tmp_path / "groups")
    if member:
        (tmp_path / "member").write_text(member + "\n")
    for name, content in files.items():
        path = tmp_path / "groups" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content + "\n")
    assert scheduler.processors() == processors


def test_where_the_system_counts_no_processors_for_a_process_all_are_counted(monkeypatch):
    """As on macOS and Windows."""
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert scheduler.processors() == 1


def test_a_large_machine_gets_sixteen_threads_unless_told_otherwise(monkeypatch):
    monkeypatch.delenv("SIAMESE_NP_THREADS", raising=False)
    monkeypatch.setattr(scheduler, "_threads", 0)
    monkeypatch.setattr(scheduler, "processors", lambda: 64)
    assert scheduler.get_threads() == 16
    scheduler.set_threads(20)
    assert scheduler.get_threads() == 20


def test_at_least_one_thread_is_needed():
    with pytest.raises(OptionError, match="at least 1, not 0"):
        scheduler.set_threads(0)
    for wrong in (1.5, "2"):
        with pytest.raises(OptionError, match=f"at least 1, not {wrong!r}"):
            scheduler.set_threads(wrong)
    with pytest.raises(OptionError, match="at most 1024"):
        scheduler.set_threads(99999)


@sharded
@inlined(arrays=True)
def _fail_in_shard(out, last, s):
    out[s] = 1
    if s == last:
        raise MemoryError


@kernel(shared=True)
def _fail(out, last):
    _fail_in_shard((out, last), out.size)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("shards", [1, 8])
def test_a_shard_without_memory_is_told(threads, shards):
    scheduler.set_threads(threads)
    _fail(np.zeros(shards), shards)
    with pytest.raises(MemoryError):
        _fail(np.zeros(shards), shards - 1)
