"""Memory safety: with SIAMESE_NP_CHECK=1 an index outside of its array is an error, and no kernel has such an index.

The switch is read when the package is imported. So tests that need it run in a process of their own.
"""

import os
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest

from siamese_np import AvgPool2D, Conv2D, Dense, Flatten, MaxPool2D, ReLU, use_kernels
from siamese_np.errors import OptionError, SiameseError
from siamese_np.kernels.simd.scratch import empty_aligned
from siamese_np.kernels.simd.vectors import (
    PAIR,
    VECTOR_BYTES,
    compress_store,
    load,
    load_scalar,
    nonzero_mask,
    store,
    store_scalar,
    transpose_square,
    zeros,
)
from siamese_np.runtime import numba_compat
from siamese_np.runtime.jit import cache_folder, inlined, kernel
from siamese_np.runtime.numba_compat import CHECKED, PRIVATE
from siamese_np.runtime.shards import atomic_add, sharded

ROOT = Path(__file__).parent.parent
VECTOR = VECTOR_BYTES // 4  # of float32
SQUARE = VECTOR * VECTOR
SIZE = 2 * SQUARE  # of x below
ROOM = SIZE + PAIR * VECTOR  # what may be touched of an array that kernels make
CORE = "is_an_error or test_dense or test_black_pixels"


@kernel
def read_vector(x, k):
    store(x, 0, load(x, k, zeros(x, 1)))


@kernel
def write_vector(x, k):
    store(x, k, zeros(x, 1))


@kernel
def read_scalar(x, k):
    x[0] = load_scalar(x, k)


@kernel
def write_scalar(x, k):
    store_scalar(x, k, x[0])


@kernel
def read_mask(x, k):
    x[0] = nonzero_mask(x, k, zeros(x, 1))


@kernel
def write_compressed(x, k):
    compress_store(x, k, zeros(x, 1), np.uint64(1))


@kernel
def read_square(x, k):
    transpose_square(x, 0, VECTOR, x, k, VECTOR, zeros(x, 1))


@kernel
def write_square(x, k):
    transpose_square(x, k, VECTOR, x, 0, VECTOR, zeros(x, 1))


@kernel
def count_atomically(x, k):
    counts = np.zeros(x.size, np.int64)
    atomic_add(counts, k, 1)


@kernel
def read_scratch(x, k):
    scratch = empty_aligned(x.size, x)
    store(x, 0, load(scratch, k, zeros(x, 1)))


@kernel
def read_indexed(x, k):
    x[0] = x[k]


@kernel
def write_indexed(x, k):
    x[k] = x[0]


@sharded
@inlined
def read_shard(x, k, s):
    store(x, 0, load(x, k, zeros(x, 1)))


@kernel(shared=True)
def read_shards(x, k):
    read_shard((x, k), 3)


LAST = {  # index of each that is right
    read_vector: SIZE - VECTOR,
    write_vector: SIZE - VECTOR,
    read_scalar: SIZE - 1,
    write_scalar: SIZE - 1,
    read_mask: SIZE - VECTOR,
    write_compressed: SIZE - VECTOR,
    read_square: SIZE - SQUARE,
    write_square: SIZE - SQUARE,
    count_atomically: SIZE - 1,
    read_scratch: ROOM - VECTOR,
    read_indexed: SIZE - 1,
    write_indexed: SIZE - 1,
    read_shards: SIZE - VECTOR,
}


unchecked = pytest.mark.skipif(CHECKED or numba.config.DISABLE_JIT, reason="of compiled code without the switch")


@pytest.mark.skipif(not CHECKED, reason="runs with SIAMESE_NP_CHECK=1, in the processes of the tests below")
@pytest.mark.parametrize("access", LAST, ids=lambda access: access.__name__)
def test_an_index_outside_of_its_array_is_an_error(access):
    x, last = np.arange(3 * SIZE, dtype=np.float32), LAST[access]
    inside = x[SIZE : 2 * SIZE]  # what is around it is another's
    for k in (0, last // 2, last):
        access(inside, k)
    around = np.delete(x, slice(SIZE, 2 * SIZE))
    assert (around == np.delete(np.arange(3 * SIZE), slice(SIZE, 2 * SIZE))).all()
    beyond = [ROOM + VECTOR] if access is read_scratch else [last + 1, SIZE]  # its ends are aligned somehow
    before = [-SIZE - 1] if "indexed" in access.__name__ else [-1]  # where -1 is the last
    for k in (*beyond, *before, 1 << 40, -(1 << 62)):
        with pytest.raises(IndexError, match=r"reaches outside of an array|index is out of bounds"):
            access(inside, k)
    assert (np.delete(x, slice(SIZE, 2 * SIZE)) == around).all()


@unchecked
def test_without_the_switch_no_test_is_compiled():
    access = kernel(lambda x, k: store(x, 0, load(x, k, zeros(x, 1))))
    access(np.zeros(SIZE, np.float32), 0)
    (code,) = access.inspect_llvm().values()
    assert "IndexError" not in code


def test_the_machine_code_of_the_switch_has_a_folder_of_its_own(monkeypatch):
    if cache_folder() is None:
        pytest.skip("no machine code is kept here")
    folders = {cache_folder()}
    for name, module, value in (("CHECKED", numba_compat, not CHECKED), ("BOUNDSCHECK", numba_compat.numba.config, 7)):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, value)
            folders.add(numba_compat.kernels_folder(numba_compat.PRIVATE))
    assert len(folders) == 3


HUGE = """
import resource, sys
import numpy as np
from siamese_np import *
from siamese_np.errors import SiameseError

resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))
rows = (1 << 28) + 1  # of 8 numbers each: more than 2**31 in all, which take no memory yet
images, vectors = (np.broadcast_to(np.float32(0.5), shape) for shape in ((rows // 8, 8, 8, 1), (rows, 8)))
wide, classes = np.broadcast_to(np.float32(0.5), (1, 1, rows * 8, 1)), np.broadcast_to(np.int64(1), (rows,))
calls = [
    lambda: Dense(8, 4, seed=0).forward(vectors),
    lambda: Conv2D(1, 8, seed=0).forward(images),
    lambda: Conv2D(1, 8, pad=1, stride=1 << 30, seed=0).forward(wide),
    lambda: MaxPool2D(2).forward(images),
    lambda: MaxPool2D(1, (1 << 31) - 1).forward(wide),
    lambda: AvgPool2D(2).forward(images),
    lambda: GlobalAvgPool2D().forward(images),
    lambda: ReLU().forward(vectors),
    lambda: Flatten().forward(images),
    lambda: EuclideanDistance().forward(vectors, vectors),
    lambda: PairwiseDistances().forward(vectors),
    lambda: AllPairsContrastiveLoss().forward(vectors, classes),
    lambda: SupConLoss().forward(vectors, classes),
    lambda: Adam(vectors[:, 0], vectors[:, 0]),
    lambda: SGD(vectors[:, 0], vectors[:, 0]),
    lambda: random_pairs(classes, np.random.default_rng(0)),
]
for call in calls:
    try:
        call()
    except (MemoryError, SiameseError):
        continue
    sys.exit("it was taken")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the memory of a process is limited as Linux does it")
def test_more_numbers_than_fit_32_bits_are_refused_where_they_do_not_fit_the_memory():
    done = subprocess.run([sys.executable, "-c", HUGE], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("stride", [(1 << 31) - 1, ((1 << 31) - 1, 1), (1 << 30, (1 << 31) - 1)])
@pytest.mark.parametrize("make", [MaxPool2D, AvgPool2D, lambda *window: Conv2D(2, 3, *window, seed=0)])
def test_the_largest_strides_give_what_the_textbook_gives(make, stride):
    x, found = np.random.default_rng(0).random((2, 5, 4, 2), np.float32), []
    for kernels in ("compiled", "textbook"):
        layer = make(2, stride)
        with use_kernels(kernels):
            out, cache = layer.forward(x)
            found.append((out, layer.backward(np.ones_like(out), cache)))
    for ours, theirs in zip(*found, strict=True):
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="memory is read from /proc")
def test_refused_calls_leave_nothing():
    """What compiled code allocates before it raises is never freed; so layers refuse before."""
    layers = [Conv2D(1, 4, seed=0), MaxPool2D(2), AvgPool2D(2), Dense(9, 4, seed=0), ReLU(), Flatten()]
    wrong = np.ones((2, 100, 100, 7), complex), [[1], [1, 2]], "text", None

    def resident():
        return int(Path("/proc/self/status").read_text().partition("VmRSS:")[2].split()[0]) / 1024

    for round in range(440):
        if round == 20:
            before = resident()
        for layer in layers:
            for value in wrong:
                with pytest.raises(SiameseError):
                    layer.forward(value)
    assert resident() - before < 5


@pytest.mark.parametrize("wrong", ["yes", "2", "-1", "9" * 5000])
def test_a_wrong_switch_is_named(wrong, monkeypatch):
    monkeypatch.setenv("SIAMESE_NP_CHECK", wrong)
    with pytest.raises(OptionError, match=f"SIAMESE_NP_CHECK must be 0 or 1, not '{wrong[:20]}'$"):
        numba_compat.checked()


def run_tests(*arguments, timeout=None, **environment):
    """Run tests in a process of their own; what it says of them."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *arguments]
    settings = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    done = subprocess.run(command, env=settings, cwd=ROOT, capture_output=True, text=True, timeout=timeout)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    return done.stdout.splitlines()[-1]


@unchecked
def test_a_core_of_the_kernels_reaches_outside_of_no_array():
    mode = "private" if PRIVATE else "public"
    said = run_tests(__file__, "tests/test_kernels.py", "-k", CORE, SIAMESE_NP_CHECK="1", SIAMESE_NP_NUMBA=mode)
    assert f"{len(LAST) + 18} passed" in said


OTHER_FILES = ["buffers", "caches", "conv_relu_pool", "embeddings", "gradients", "input_form", "ledger", "losses"]
OTHER_FILES += ["metrics", "network", "optimizers", "own_networks", "scheduler", "storage"]
FILES = [f"tests/test_{name}.py" for name in ("bounds", "kernels", *OTHER_FILES)]
WITHOUT_JIT = [f"tests/test_{name}.py" for name in ("bounds", "caches", "kernels", "losses", "network", "optimizers")]


@pytest.mark.long
@pytest.mark.parametrize(
    ("switch", "files"),
    [("SIAMESE_NP_CHECK", FILES), ("NUMBA_BOUNDSCHECK", FILES), ("NUMBA_DISABLE_JIT", WITHOUT_JIT)],
)
def test_all_that_runs_kernels(switch, files):
    assert " passed" in run_tests(*files, **{switch: "1"})
