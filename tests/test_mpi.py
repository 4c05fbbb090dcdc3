"""Training on the ranks of MPI: the same bits however many there are, and what becomes of all when one fails."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mpi4py")
MPIEXEC = shutil.which("mpiexec", path=str(Path(sys.executable).parent)) or shutil.which("mpiexec")
SCRIPT = str(Path(__file__).with_name("ranks.py"))
long = pytest.mark.long
SECONDS = 120  # much more than anything here takes: a rank that waits for ever fails


def python(*command: str, start=(), kernels: str = "textbook", **variables: str) -> subprocess.CompletedProcess[str]:
    """A `command` of Python, started by `start`; the textbook's kernels are there at once."""
    alone = {name: value for name, value in os.environ.items() if not name.startswith("SIAMESE_NP")}
    package = str(Path(__file__).parent.parent)
    alone |= {"PYTHONPATH": package, "SIAMESE_NP_KERNELS": kernels, "OPENBLAS_NUM_THREADS": "1", **variables}
    line = [*start, sys.executable, *command]
    return subprocess.run(line, env=alone, capture_output=True, text=True, timeout=SECONDS, check=False)


def mpiexec(count: int, *command: str, kernels: str = "textbook") -> subprocess.CompletedProcess[str]:
    """The same on each of `count` ranks."""
    return python(*command, start=[MPIEXEC, "-n", str(count)], kernels=kernels)


@pytest.fixture(scope="module", autouse=True)
def mpi() -> None:
    """Skip the tests where mpiexec is missing, cannot start two ranks here, or is of another MPI than mpi4py."""
    if MPIEXEC is None:
        pytest.skip("there is no mpiexec")
    done = mpiexec(2, "-c", "from mpi4py.MPI import COMM_WORLD as c; c.rank or print(c.size)")
    if done.stdout.strip() != "2":
        pytest.skip("mpiexec and mpi4py are not of one MPI")


def ranks(count: int, *arguments: object, kernels: str = "textbook"):
    """What the first of `count` ranks returns, see `ranks.py`."""
    done = mpiexec(count, SCRIPT, *map(str, arguments), kernels=kernels)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def bits_of_one(mpi):
    return ranks(1, "bits")


@pytest.mark.parametrize("count", [3, *(pytest.param(count, marks=long) for count in (2, 4, 12))])
def test_any_number_of_ranks_ends_with_the_same_bits(count, bits_of_one):
    """Of both protocols, of parts of the user's, and of batches with fewer images than shards."""
    assert ranks(count, "bits") == bits_of_one
    assert len({training["bits"] for training in bits_of_one.values()}) == 4


@pytest.mark.parametrize("count", [3, pytest.param(4, marks=long)])
def test_the_compiled_kernels_do_as_well(count):
    assert ranks(count, "bits", "batch", kernels="compiled") == ranks(1, "bits", "batch", kernels="compiled")


@pytest.mark.parametrize("count", [3, pytest.param(1, marks=long), pytest.param(5, marks=long)])
def test_the_gradient_is_that_of_the_whole_batch(count):
    """To the rounding of float64: of both protocols, and of MPI's own sum."""
    told = ranks(count, "gradients")
    assert told["ranks"] == count
    assert len(told["far"]) == 4 and max(told["far"].values()) < 1e-13


def test_a_killed_rank_ends_all_and_other_numbers_of_ranks_go_on_to_the_same_bits(tmp_path, bits_of_one):
    folder = tmp_path / "run"
    killed = mpiexec(2, SCRIPT, "ending", "1", "3", "SIGKILL", str(folder), "new")
    assert killed.returncode != 0 and "bits" not in killed.stdout
    assert not (folder / "model.npz").exists()  # in the first epoch

    stopped = ranks(3, "ending", 2, 4, "SIGTERM", folder, "resume")
    assert stopped["interrupted"] and (folder / "model.npz").exists()
    ended = ranks(1, "ending", 2, 0, "SIGTERM", folder, "resume")
    assert ended.pop("interrupted") is False and ended == bits_of_one["batch"]
    assert (folder / "metrics.json").exists()


MISTAKES = {
    "data": "rank 2 has other data than rank 0, but all ranks need the same",
    "options": "rank 1 has other options than rank 0",
    "reduction": "rank 1 has other options than rank 0",
    "weights": "rank 1 has other weights (a layer without a seed draws its own) than rank 0",
    "augmentation": "rank 1 has other network, loss or augmentation than rank 0",
    "versions": "rank 1 has other versions of the program than rank 0",
    "ranks": "a batch has 2 shards, so at most 2 ranks can share it, not 3",
    "all": "the batch size must be from 2 to the 53 images there are, not 1000",
    "not finite": "lower the learning rate",
    "disk": "No space left on device",
}
FAILURES = {  # rank, exception and status that the others end with
    "layer": (1, "TypeError", "1"),
    "loss": (2, "ZeroDivisionError", "1"),
    "exit": (1, "SystemExit", "7"),
    "exit below 0": (1, "SystemExit", "255"),
    "interrupted": (1, "KeyboardInterrupt", "130"),
    "other folder": (0, "ModelError", "2"),
}


def test_a_mistake_is_told_by_one_rank_and_ends_all(tmp_path):
    ranks(1, "ending", 1, 0, "SIGKILL", tmp_path / "done", "new")
    had = ranks(3, "mistakes", tmp_path, *MISTAKES, *FAILURES)
    for what, sentence in MISTAKES.items():
        (kind, told), *others = had[what]
        assert kind.endswith("Error") and sentence in told, had[what]
        assert others == [["SystemExit", "2"]] * 2
    for what, (rank, kind, status) in FAILURES.items():
        assert had[what][rank][0] == kind, had[what]
        assert [each for i, each in enumerate(had[what]) if i != rank] == [["SystemExit", status]] * 2


@pytest.mark.parametrize(
    ("what", "sentence"), [("no mpi4py", 'pip install "siamese_np[mpi]"'), ("preset", "there is no preset 'foo'")]
)
def test_the_command_tells_a_mistake_once_and_ends_with_status_2(what, sentence):
    done = mpiexec(2, SCRIPT, "command", what)
    assert done.returncode == 2 and not done.stdout
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("siamese-np: ") and sentence in done.stderr


@pytest.mark.parametrize("rank", [0, 1])
def test_ranks_started_by_another_mpi_are_noticed(rank):
    """Each is alone in the eyes of mpi4py, and would train for itself; the second is silent."""
    names = {"SIZE": 2, "RANK": rank, "LOCAL_RANK": rank}
    started = {f"OMPI_COMM_WORLD_{name}": str(value) for name, value in names.items()}
    done = python(SCRIPT, "command", "nothing", **started)
    assert done.returncode == 2 and not done.stdout
    assert ("mpiexec started 2 ranks, but mpi4py sees 1" in done.stderr) is (rank == 0)


def test_the_command_trains_and_the_first_rank_alone_tells_and_writes(small_mnist, tmp_path):
    command = ["-m", "siamese_np", "train", "--data", str(small_mnist), "--preset", "mlp", "--epochs", "1", "--json"]
    done = mpiexec(2, *command, "--out", str(tmp_path / "run"), kernels="compiled")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["run"] == str(tmp_path / "run")  # one object
    assert done.stderr.count("epoch 1/1") == done.stderr.count("drawing") == 1
    assert {path.name for path in tmp_path.iterdir()} == {"run"} and (tmp_path / "run" / "report.html").exists()


def test_the_help_is_printed_once():
    done = mpiexec(2, "-m", "siamese_np", "train", "--help")
    assert done.returncode == 0 and done.stdout.count("usage: ") == 1


def test_allreduce_needs_ranks():
    from siamese_np.distributed import communicator
    from siamese_np.errors import OptionError

    with pytest.raises(OptionError, match="mpiexec starts"):
        communicator("allreduce")
    with pytest.raises(OptionError, match="in-order or allreduce, not 'mean'"):
        communicator("mean")
