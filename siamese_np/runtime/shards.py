"""Shares the shards of one compiled operation among threads, none of which needs the GIL to take one.

An operation takes about 10 µs. A thread that sleeps takes longer than that to wake, and so does one that waits for
the GIL. So a worker stays inside compiled code and looks out for the next operation; after a short while without any
it goes to sleep (scheduler.py). The caller takes part, and waits only for shards that workers have already taken.

The caller takes shards from the first on, workers from the last back. So of arrays that are used again and again,
parameters above all, each thread finds most of what it needs in its processor's cache.

Threads coordinate through a small shared control block. Its work word holds the number of the operation and the first
and the last of the shards that are left. Whoever swaps it for one with a shard less has taken that shard. This fails
where somebody else was faster, and also where the operation is over and another has begun, so nobody runs a shard with
the arguments of another operation.
"""

import ctypes
import inspect
import sys

import numba
import numpy as np
from llvmlite import binding, ir
from numba import int64, types
from numba.core.cgutils import get_or_insert_function
from numba.extending import intrinsic

from siamese_np.runtime.jit import inlined, kernel
from siamese_np.runtime.numba_compat import ADDRESS, CHECKED, SHARD, SHARED, WORD, check_bounds, pack_shards

CONTROL = "siamese_np_control"
YIELD = "siamese_np_yield"
# Words of the control block; those that different threads write lie in cache lines of their own.
WORK, FUNCTION, ARGUMENTS, FINISHED, FAILED, OWNED = 0, 16, 17, 32, 33, 48
# A work word is number << 32 | first << 16 | end: the shards first .. end - 1 are left.
MAX_SHARDS = (1 << 16) - 1
WAIT_SPIN_LIMIT = 1 << 11  # spins before a thread that waits lets others have the processor

control = np.zeros(64, np.int64)  # compiled code finds it by its name, wherever that was compiled

if sys.platform == "win32":
    _yield = ctypes.windll.kernel32.SwitchToThread
else:
    _yield = ctypes.CDLL(None).sched_yield

binding.add_symbol(CONTROL, control.ctypes.data)
binding.add_symbol(YIELD, ctypes.cast(_yield, ctypes.c_void_p).value)


def _word(builder, index):
    """Address of a word of the control block."""
    words = builder.module.globals.get(CONTROL)
    if words is None:
        words = ir.GlobalVariable(builder.module, ir.ArrayType(WORD, len(control)), CONTROL)
        words.linkage = "external"
    return builder.gep(words, [ir.Constant(WORD, 0), index])


def _instruction(signature):
    """For compiled code, a function of that signature: the instructions that the decorated one emits."""

    def decorate(emit):
        def generate(context, builder, signature, values):
            value = emit(builder, *values)
            return context.get_dummy_value() if signature.return_type == types.void else value

        def typed(typing_context, *given):
            return signature, generate

        typed.__dict__.update(__signature__=inspect.signature(emit))
        return intrinsic(typed)

    return decorate


@_instruction(int64(int64))
def load(builder, index):
    """control[index], and nothing that follows is read earlier."""
    return builder.load_atomic(_word(builder, index), "acquire", 8)


@_instruction(types.void(int64, int64))
def store(builder, index, value):
    """control[index] = value, and nothing that precedes is written later."""
    builder.store_atomic(value, _word(builder, index), "release", 8)


@_instruction(types.boolean(int64, int64, int64))
def swap(builder, index, old, new):
    """Replace control[index] by `new` if it is `old`, in one; whether it was."""
    return builder.extract_value(builder.cmpxchg(_word(builder, index), old, new, "acq_rel", "acquire"), 1)


@_instruction(int64(int64, int64))
def add(builder, index, value):
    """control[index] += value, in one."""
    return builder.atomic_rmw("add", _word(builder, index), value, "acq_rel")


@_instruction(types.void())
def pause(builder):
    """Tell the processor that this is a waiting loop."""
    if binding.get_default_triple().startswith("x86_64"):
        nothing = ir.FunctionType(ir.VoidType(), [])
        builder.call(get_or_insert_function(builder.module, nothing, "llvm.x86.sse2.pause"), [])


@_instruction(types.void())
def yield_thread(builder):
    """Let another thread have this processor."""
    builder.call(get_or_insert_function(builder.module, ir.FunctionType(ir.IntType(32), []), YIELD), [])


@_instruction(int64(int64, int64, int64))
def call(builder, function, record, shard):
    """Run one shard, from the two addresses that `pack_shards` gives; 1 if it failed, else 0."""
    function = builder.inttoptr(function, SHARD.as_pointer())
    return builder.call(function, [builder.inttoptr(record, ADDRESS), shard])


@intrinsic
def keep_alive(typing_context, arguments):
    """Does nothing with the arguments, but where it stands they are still needed, and so not freed before."""
    return types.void(arguments), lambda context, builder, signature, values: context.get_dummy_value()


def atomic_add(counts, index, more):
    """counts[index] += more, in one, so that several shards can count in one array (N,) of int64."""
    counts[index] += more


@intrinsic
def _atomic_add(typing_context, counts, index, more):
    def generate(context, builder, signature, arguments):
        array = context.make_array(counts)(context, builder, arguments[0])
        if CHECKED:
            check_bounds(context, builder, array, arguments[1], 1)
        builder.atomic_rmw("add", builder.gep(array.data, [arguments[1]]), arguments[2], "monotonic")
        return context.get_dummy_value()

    return types.void(counts, int64, int64), generate


if not numba.config.DISABLE_JIT:
    atomic_add = _atomic_add


@inlined
def run_shards(worker):
    """Run shards of the present operation while there are any; whether there was one."""
    worked = False
    while True:
        work = load(WORK)
        first, end = (work >> 16) & MAX_SHARDS, work & MAX_SHARDS
        if first == end:
            return worked
        function, arguments = load(FUNCTION), load(ARGUMENTS)
        if swap(WORK, work, work - 1 if worker else work + (1 << 16)):
            if call(function, arguments, end - 1 if worker else first):
                store(FAILED, 1)
            add(FINISHED, 1)
            worked = True


@kernel
def worker_loop(spin_limit):
    """Take part in one operation after the other, until none has come for `spin_limit` spins; whether there was one."""
    spins, worked = 0, False
    while spins < spin_limit:
        if run_shards(True):
            spins, worked = 0, True
        spins += 1
        if spins % 256 == 0:
            yield_thread()
        pause()
    return worked


@inlined
def run_shared(function, arguments, count):
    """Run all `count` shards, given by the addresses from `pack_shards`, with whoever helps; whether one has failed."""
    if not 1 < count <= MAX_SHARDS or not swap(OWNED, 0, 1):  # or another caller uses the control block
        failures = 0
        for s in range(count):
            failures += call(function, arguments, s)
        return failures > 0
    store(FUNCTION, function)
    store(ARGUMENTS, arguments)
    store(FINISHED, 0)
    store(FAILED, 0)
    store(WORK, (((load(WORK) >> 32) + 1) << 32) | count)
    run_shards(False)
    spins = 0
    while load(FINISHED) < count:
        pause()
        spins += 1
        if spins > WAIT_SPIN_LIMIT:
            yield_thread()
    failed = load(FAILED) != 0
    store(OWNED, 0)
    return failed


def sharded(function):
    """Of an inlined ``function(*arguments, s)``, which runs shard s, make ``run(arguments, count)``.

    It runs s = 0 .. count - 1 in any order, each once, on any thread, and returns when all are done; MemoryError if one
    has failed, for it is the only error that a kernel can meet.
    """
    if not SHARED:

        @numba.njit(inline="always")
        def one_by_one(arguments, count):
            for s in range(count):
                function(*(arguments + (s,)))  # noqa: RUF005  (compiled code cannot unpack into a tuple)

        return one_by_one
    pack = pack_shards(function)

    @numba.njit(inline="always")  # into its caller, on whose stack the arguments lie
    def run(arguments, count):
        address, record = pack(arguments)
        failed = run_shared(address, record, count)
        keep_alive(arguments)
        if failed:
            raise MemoryError

    return run
