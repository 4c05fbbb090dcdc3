"""Heavy use: many threads, forks, many processes, long runs. Nothing crashes or hangs, bits stay equal, memory flat.

``SIAMESE_NP_LOAD=full python -m pytest -m long tests/test_load.py -s`` trains for an hour and embeds a million images.
Without the setting, the long tests do a part of that.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from conftest import write_idx

from siamese_np import AllPairsContrastiveLoss, SiameseNetwork, load_dataset, metrics, mlp
from siamese_np.runtime import buffers, scheduler
from siamese_np.runtime.numba_compat import PRIVATE

FULL = os.environ.get("SIAMESE_NP_LOAD") == "full"
linux = pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="memory is read from /proc")

rng = np.random.default_rng(0)
IMAGES, CLASSES = rng.random((40, 8, 8, 1), np.float32), np.arange(40) % 4
SIAMESE, LOSS = SiameseNetwork(mlp((8, 8, 1), seed=0)), AllPairsContrastiveLoss()


@pytest.fixture(autouse=True)
def _threads():
    before = scheduler.get_threads()
    scheduler.set_threads(3)
    yield
    scheduler.set_threads(before)


def computed() -> list[bytes]:
    """The bits of an embedding by a network that all share, of a search, and of the gradients of an own network."""
    emb = SIAMESE.embed(IMAGES)
    own = SiameseNetwork(mlp((8, 8, 1), seed=1))
    own.gradients(IMAGES, CLASSES, LOSS)
    return [array.tobytes() for array in (emb, *metrics.nearest(emb, emb, 3), own.network.grads)]


def test_fifty_threads_at_once_get_the_same_bits():
    expected = computed()
    with ThreadPoolExecutor(50) as pool:
        assert all(result == expected for result in pool.map(lambda _: computed(), range(200)))


forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")


def forked(right) -> int:
    """Exit status of a child: 0 if `right()` or it raises, -SIGALRM after a minute."""
    child = os.fork()
    if child == 0:
        signal.alarm(60)
        try:
            os._exit(0 if right() else 1)
        except Exception:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@forks
def test_a_fork_while_memory_is_given_out_does_not_hang():
    with buffers._lock:
        assert forked(lambda: len(buffers.empty((buffers.MIN_BYTES,), np.uint8)) == buffers.MIN_BYTES) == 0


@forks
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_fork_while_threads_are_busy_gives_the_right_answer_or_an_exception():
    expected, stop = computed(), threading.Event()

    def work():
        while not stop.is_set():
            computed()

    with ThreadPoolExecutor(3) as pool:
        for _ in range(3):
            pool.submit(work)
        try:
            for _ in range(10):
                assert forked(lambda: computed() == expected) == 0
        finally:
            stop.set()


FEW_KERNELS = """
import hashlib, numpy as np
from siamese_np import ContrastiveLoss, Dense, EuclideanDistance, ReLU, SGD, Sequential, metrics
rng = np.random.default_rng(0)
x, network = rng.random((9, 30), np.float32), Sequential([Dense(30, 20, seed=0), ReLU(), Dense(20, 3, seed=1)], (30,))
distance, loss, optimizer = EuclideanDistance(), ContrastiveLoss(), SGD(network)
for _ in range(3):
    network.zero_grads()
    emb, caches = network.forward(x)
    dist, cache = distance.forward(emb, emb[::-1].copy())
    demb, _ = distance.backward(loss.backward(loss.forward(dist, np.arange(9) % 2)[1]), cache)
    network.backward(demb, caches)
    optimizer.step(0.1)
found = metrics.nearest(emb, emb, 2)
print(hashlib.sha256(b"".join(array.tobytes() for array in (network.params, *found))).hexdigest())
"""


@pytest.mark.long
def test_sixteen_processes_on_one_cold_cache_get_the_same_bits(tmp_path):
    settings = {"NUMBA_CACHE_DIR": str(tmp_path), "SIAMESE_NP_NUMBA": "private" if PRIVATE else "public"}
    start = time.monotonic()
    processes = [
        subprocess.Popen([sys.executable, "-c", FEW_KERNELS], env={**os.environ, **settings}, stdout=subprocess.PIPE)
        for _ in range(16)
    ]
    said = {process.communicate()[0] for process in processes}
    assert [process.returncode for process in processes] == [0] * 16 and len(said) == 1
    warm = subprocess.run([sys.executable, "-c", FEW_KERNELS], env={**os.environ, **settings}, capture_output=True)
    assert {warm.stdout} == said and not warm.stderr
    print(f"16 processes, {time.monotonic() - start:.0f} s")


SIXTEEN = """
import os, sys
import numpy as np
from siamese_np import Dense, EuclideanDistance, ReLU
x, dense, distance = np.linspace(0, 1, 270, dtype=np.float32).reshape(9, 30), Dense(30, 20, seed=0), EuclideanDistance()
def bits():
    emb, _ = ReLU().forward(dense.forward(x)[0])
    return emb.tobytes() + distance.forward(emb, emb[::-1].copy())[0].tobytes()
ready, go = os.pipe()
children, pipes = [], []
for _ in range(16):  # nothing is compiled yet, so each does what a process of its own would
    out, into = os.pipe()
    if not (child := os.fork()):
        os.close(go)
        os.read(ready, 1)
        os.write(into, bits())
        os._exit(0)
    os.close(into)
    children.append(child)
    pipes.append(out)
os.close(go)  # all at once
said = [open(out, "rb").read() for out in pipes]
status = [os.waitpid(child, 0)[1] for child in children]
assert status == [0] * 16 and len(set(said)) == 1 and said[0] == bits(), status  # read from the cache
"""


@forks
@pytest.mark.long
def test_sixteen_processes_on_a_cold_cache_twenty_times(tmp_path):
    """Each time on a new cache, with few kernels."""
    start = time.monotonic()
    for turn in range(20):
        settings = {
            "NUMBA_CACHE_DIR": str(tmp_path / str(turn)),
            "SIAMESE_NP_NUMBA": "private" if PRIVATE else "public",
        }
        command = [sys.executable, "-c", SIXTEEN]
        done = subprocess.run(command, env={**os.environ, **settings}, capture_output=True, timeout=600, check=False)
        assert done.returncode == 0 and not done.stderr, done.stderr
        assert len(list((tmp_path / str(turn)).rglob("*.nbc"))) >= 3, turn
    print(f"20 times 16 processes, {time.monotonic() - start:.0f} s")


TRAIN_AND_EMBED = """
import sys, time
from siamese_np import Dataset, Split, TrainConfig, load_dataset, load_model, train_run

def memory():
    status = open("/proc/self/status").read()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024

folder, seconds, mnist = sys.argv[1], float(sys.argv[2]), load_dataset()
parts = [Split(split.images[:n], split.classes[:n])
         for split, n in ((mnist.train, 6000), (mnist.validation, 1000), (mnist.test, 1000))]
start, rounds, flat = time.monotonic(), 0, None
while rounds < 4 or time.monotonic() - start < seconds:
    config = TrainConfig(preset=("cnn3", "cnn", "mlp")[rounds % 3], epochs=1)
    train_run(config, Dataset("a part", *parts), folder, overwrite=rounds > 0)
    load_model(f"{folder}/model.npz").embed(mnist.test.images)
    rounds += 1
    if rounds == 3:
        flat = memory()
print(time.monotonic() - start, rounds, flat, memory())
"""


@linux
@pytest.mark.long
def test_training_and_embedding_for_long_take_no_more_memory(tmp_path):
    command = [sys.executable, "-c", TRAIN_AND_EMBED, tmp_path / "run", str(3600 if FULL else 60)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    seconds, rounds, before, after = map(float, done.stdout.split())
    print(f"{seconds / 60:.0f} minutes, {rounds:.0f} runs: {before:.0f} MB after the third, {after:.0f} MB at the end")
    assert after < before + 40


EMBED = """
import sys
from siamese_np.cli import main
assert main(sys.argv[1:]) == 0
print(int(open("/proc/self/status").read().partition("VmHWM:")[2].split()[0]) / 1024)
"""


@linux
@pytest.mark.long
def test_memory_does_not_grow_with_the_images_that_are_embedded(tmp_path):
    """But for the pages of files in it, which the system takes back when it wants them."""
    peaks = []
    write_idx(tmp_path / "0.idx", np.rint(load_dataset().test.images[..., 0] * 255))
    counts = 1, 100 if FULL else 5  # files of 10,000 images
    for count in counts:
        files = [tmp_path / f"{n}.idx" for n in range(count)]
        for file in files:
            if not file.exists():
                os.link(files[0], file)
        command = [sys.executable, "-c", EMBED, "embed", "--json", "mnist", *files, "-o", tmp_path / f"of {count}"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        peaks.append(float(done.stdout.splitlines()[-1]))
        print(f"{count * 10_000:,} images: {peaks[-1]:.0f} MB at most")
    assert peaks[1] - peaks[0] < 20
