"""Data-parallel training: the ranks of MPI compute the gradient of one batch together, with the same bits however many.

``mpiexec -n 4 siamese-np train`` starts four processes, called ranks. Each goes through the whole training, on the same
data and with the same weights, and only the network is shared out:

    forward    A batch is cut into `SHARDS` shards, whatever the number of ranks. Each rank runs its own, one by one.
               All embeddings are gathered, so every rank has those of the whole batch.
    loss       Each rank computes the loss of the whole batch, all its pairs, and the gradient of all embeddings.
    backward   Each rank goes back through its own shards, with their rows of that gradient. What each shard adds to
               the weights, its partial gradient, is kept apart; but the first rank adds its own up as they come.
    exchange   Each rank is sent one slice of every partial gradient. It adds the slices up in the order of the shards,
               and the sums are gathered.
    step       Each rank takes the same step of the optimizer.

No sum depends on the number of ranks, so no bit does. MPI's own sum, ``Allreduce``, moves less but adds in an order of
its own choosing: with it the bits are those of one number of ranks.

All that ranks tell each other goes through `MPICommunicator.meet` first. A rank that has failed goes there too, and
that is how the others know: nobody waits for a rank that never comes. (Only MPI itself does, as it starts: all ranks
must be trainings.)
"""

import contextlib
import functools
import hashlib
import itertools
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siamese_np._process import mpi_size, tells
from siamese_np.errors import OptionError, SiameseError
from siamese_np.runtime.scheduler import DEFAULT_THREADS, get_threads, processors, set_threads

Array = NDArray[np.floating]
SHARDS = 12  # of a batch: 1, 2, 3, 4, 6 or 12 ranks have equally many
REDUCTIONS = ("in-order", "allreduce")
FAILED = 256  # plus the exit status: the word of a rank that has failed
SPIN_SECONDS = 1e-3  # seconds that a rank looks out for the others before it sleeps in between


def cuts(length: int, parts: int) -> list[int]:
    """Where `length` things are cut into `parts` of nearly equal size: part i is from the i-th cut to the next."""
    return [length * i // parts for i in range(parts + 1)]


class Communicator:
    """One process, which has nobody to tell anything."""

    rank, size = 0, 1
    summed = "one process"  # how the gradient of a batch is summed up: what the bits depend on

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """What the ranks do together: one that fails ends all. The first to fail tells why, the others are silent."""
        yield

    def any(self, wanted: bool) -> bool:
        """Whether any rank wants it, which all ranks are told alike."""
        return wanted

    def check_same(self, facts: Callable[[], dict[str, Any]]) -> None:
        """OptionError, which names one that differs, unless what `facts` returns is the same on all ranks."""

    def sharing(self, network: Any) -> Any:
        """What runs `network` with all ranks, as `SiameseNetwork.sharing`; None where it runs itself."""
        return None


class MPICommunicator(Communicator):
    """The ranks that mpiexec has started; `world` is mpi4py's communicator of all of them.

    A process has one, which `communicator` returns.
    """

    def __init__(self, mpi: Any) -> None:
        self.mpi, self.world = mpi, mpi.COMM_WORLD
        self.rank, self.size = self.world.rank, self.world.size
        self.reduction = "in-order"
        self._status: int | None = None  # of the rank that failed, once all know
        self._talking = False
        self._share_processors()

    @property
    def summed(self) -> str:  # type: ignore[override]
        return f"{SHARDS} shards" if self.reduction == "in-order" else f"allreduce of {self.size} ranks"

    def _share_processors(self) -> None:
        """Use as many threads as there are processors for each rank of this machine, unless somebody said how many."""
        node = self.world.Split_type(self.mpi.COMM_TYPE_SHARED)
        mine = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        all_of_node = np.empty((node.size, 32), np.uint8)
        node.Allgather(np.frombuffer(hashlib.sha256(repr(mine).encode()).digest(), np.uint8), all_of_node)
        sharers = int((all_of_node == all_of_node[node.rank]).all(axis=1).sum())  # the rest are bound to others
        node.Free()
        if not os.environ.get("SIAMESE_NP_THREADS") and get_threads() == min(processors(), DEFAULT_THREADS):
            set_threads(max(1, min(processors() // sharers, DEFAULT_THREADS)))

    def meet(self, word: int = 0) -> NDArray[np.int64]:
        """Wait for all ranks, and return the word of each; where one has failed, end with its status.

        Who waits for long sleeps in between: the first rank may be drawing.
        """
        words = self._words(word)
        if (words >= FAILED).any():
            self._status = int(words[words >= FAILED][0]) - FAILED
            raise SystemExit(self._status)
        return words

    def _words(self, word: int) -> NDArray[np.int64]:
        if self._status is not None:
            raise OptionError("a rank has failed, which ended all ranks: start them again with mpiexec")
        words = np.empty(self.size, np.int64)
        with self.conversation():
            request = self.world.Iallgather(np.array([word]), words)
            start = time.perf_counter()
            while not request.Test():
                if (waited := time.perf_counter() - start) > SPIN_SECONDS:
                    time.sleep(min(waited / 20, 0.01))
        return words

    @contextlib.contextmanager
    def conversation(self) -> Iterator[Any]:
        """While ranks tell each other something, which cannot be left in the middle but by ending all."""
        self._talking = True
        yield self.world
        self._talking = False

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        try:
            yield
            self.meet()
        except BaseException as error:
            if self._status is not None:  # all know
                raise
            status = _exit_status(error)
            if self._talking:
                self.world.Abort(status)
            words = self._words(FAILED + status)
            failed = np.flatnonzero(words >= FAILED)[0]
            self._status = int(words[failed]) - FAILED
            if failed == self.rank:
                raise
            raise SystemExit(self._status) from None

    def any(self, wanted: bool) -> bool:
        return bool(self.meet(int(wanted)).any())

    def check_same(self, facts: Callable[[], dict[str, Any]]) -> None:
        if self.size > SHARDS:
            raise OptionError(f"a batch has {SHARDS} shards, so at most {SHARDS} ranks can share it, not {self.size}")
        mine = {**facts(), "versions of the program": _program()}
        digests = b"".join(hashlib.sha256(_bytes(fact)).digest() for fact in mine.values())
        all_digests = np.empty((self.size, len(mine), 32), np.uint8)
        self.meet()
        with self.conversation():
            self.world.Allgather(np.frombuffer(digests, np.uint8), all_digests)
        other = np.argwhere((all_digests != all_digests[0]).any(axis=2))
        if len(other):
            rank, fact = other[0]
            raise OptionError(f"rank {rank} has other {list(mine)[fact]} than rank 0, but all ranks need the same")

    def sharing(self, network: Any) -> "SharedNetwork":
        return SharedNetwork(network, self)


class SharedNetwork:
    """A network whose batches all ranks run together; `forward` and `backward` are called on all of them alike.

    As those of `Sequential`, but that no gradient of the input can be had.
    """

    def __init__(self, network: Any, ranks: MPICommunicator) -> None:
        self.network, self.ranks = network, ranks
        self._in_order = ranks.reduction == "in-order"
        counts = np.diff(cuts(SHARDS, ranks.size)) if self._in_order else np.ones(ranks.size, np.int64)
        self._shards = np.cumsum([0, *counts])  # the first of each rank
        counts[0] = 1  # the first rank adds its own up as they come
        self._partials = counts  # how many partial gradients each rank sends
        self._slices = cuts(len(network.grads), ranks.size)  # of the gradient, one for each rank
        count, dtype = counts[ranks.rank], network.grads.dtype
        self._sent = np.empty(count * len(network.grads), dtype)  # for each rank its slice of all partial gradients
        at = [count * start for start in self._slices]
        self._sent_to = [self._sent[a:b].reshape(count, -1) for a, b in itertools.pairwise(at)]
        self._received = np.empty((counts.sum(), self._sent_to[ranks.rank].shape[1]), dtype)

    def forward(self, x: Array) -> tuple[Array, Any]:
        """Embeddings of the whole batch, and the caches of this rank's shards."""
        at = np.array(cuts(len(x), SHARDS))
        if not self._in_order:
            at = at[cuts(SHARDS, self.ranks.size)]  # the shards of a rank are one
        first, end = self._shards[self.ranks.rank : self.ranks.rank + 2]
        shards = [slice(at[i], at[i + 1]) for i in range(first, end)]
        width = self.network.output_shape
        out = np.empty((len(x), *width), self.network.params.dtype)
        parts = [self.network.forward(x[shard]) if shard.stop > shard.start else (out[:0], None) for shard in shards]
        numbers = np.diff(at[self._shards]) * int(np.prod(width))  # of each rank's embeddings
        self.ranks.meet()
        with self.ranks.conversation() as world:
            world.Allgatherv(np.concatenate([part for part, _ in parts]), [out, numbers])
        return out, [(shard, cache) for shard, (_, cache) in zip(shards, parts, strict=True)]

    def backward(self, dout: Array, caches: Any, need_dx: bool = False) -> None:
        """Add the gradient of the whole batch to the network's on every rank."""
        grads = self.network.grads
        before = grads.copy()
        self._sent[:] = 0
        for i, (shard, cache) in enumerate(caches):
            if cache is not None:
                self.network.zero_grads()
                self.network.backward(dout[shard], cache, need_dx=False)
                for partials, start, end in zip(self._sent_to, self._slices, self._slices[1:], strict=False):
                    partials[min(i, len(partials) - 1)] += grads[start:end]
        self._sum_into(grads)
        grads += before

    def _sum_into(self, out: Array) -> None:
        """Sum up the partial gradients of all ranks."""
        rank, slices = self.ranks.rank, np.diff(self._slices)
        self.ranks.meet()
        with self.ranks.conversation() as world:
            if not self._in_order:
                world.Allreduce(self._sent, out)
                return
            sent = [self._sent, slices * self._partials[rank]]
            world.Alltoallv(sent, [self._received, slices[rank] * self._partials])
            total = self._received[0].copy()
            for partial in self._received[1:]:
                total += partial
            world.Allgatherv(total, [out, slices])


def communicator(reduction: str = "in-order") -> Communicator:
    """The ranks that mpiexec started this process with, or this process alone.

    OptionError where mpi4py is missing, or where it is of another MPI than mpiexec.
    """
    if not isinstance(reduction, str) or reduction not in REDUCTIONS:
        raise OptionError(f"gradients are reduced {' or '.join(REDUCTIONS)}, not {reduction!r:.200}")
    if mpi_size() is None:
        if reduction != "in-order":
            raise OptionError(
                f"{reduction} is how ranks sum up, which mpiexec starts (`mpiexec -n 2 siamese-np train`)"
            )
        return Communicator()
    ranks = _world()
    ranks.reduction = reduction
    return ranks


@functools.cache
def _world() -> MPICommunicator:
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        raise _told_once(
            f"mpiexec started this process, which needs mpi4py and its MPI ({error}): "
            'pip install "siamese_np[mpi]", and on a laptop mpich'
        ) from None
    started = mpi_size()
    if started and MPI.COMM_WORLD.size != started:
        library = MPI.Get_library_version().split("\n")[0].strip("\0 ")
        raise _told_once(
            f"mpiexec started {started} ranks, but mpi4py sees {MPI.COMM_WORLD.size}: it uses {library}, "
            "and mpiexec is of another MPI"
        )
    return MPICommunicator(MPI)


def _told_once(sentence: str) -> BaseException:
    """An OptionError on the first rank of each machine; the others cannot ask who tells it, and end in silence."""
    return OptionError(sentence) if tells() else SystemExit(2)


def _exit_status(error: BaseException) -> int:
    if isinstance(error, SystemExit):
        return error.code & 255 if isinstance(error.code, int) else int(error.code is not None)
    return 130 if isinstance(error, KeyboardInterrupt) else 2 if isinstance(error, (SiameseError, OSError)) else 1


def _bytes(fact: Any) -> Any:
    return np.ascontiguousarray(fact).data if isinstance(fact, np.ndarray) else repr(fact).encode()


def _program() -> list[Any]:
    """All of the program that decides bits: the source of this package, the packages it computes with, the back end."""
    from siamese_np.backend import ops
    from siamese_np.storage import versions

    package = Path(__file__).parent
    source = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(package.rglob("*.py"))))
    return [source.hexdigest(), versions(), ops.name]
