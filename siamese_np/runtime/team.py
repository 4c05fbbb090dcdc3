"""Shares the shards of one compiled operation among threads, none of which needs the GIL to take one.

An operation lasts some ten millionths of a second. A thread that sleeps takes longer than that to wake, and so
does one that waits for the GIL. So a helping thread stays inside compiled code between operations and looks
out for the next; after a short while without any it goes to sleep (`siamese_np.runtime.scheduler`).

A kernel decorated with `sharded` runs one shard, ``function(*arguments, s)``; what comes out runs them all,
``run(arguments, count)``: s = 0 .. count - 1 in any order, each once, on any thread, and returns when all are
done. The caller takes part; it never waits for a helper to come, only for one that has begun, so it also works
without any.

The caller takes shards from the first on, helpers from the last back. So for arrays that are used again and
again, parameters above all, each thread finds in its processor's cache most of what it needs: to fetch what
another processor has just written takes several times as long.

All is agreed in a few words of memory, the board. A ticket holds, in one word, the number of the operation and
the first and last of the shards that are left. Whoever swaps it for one with a shard less has taken that shard;
this fails where somebody else was faster, and also where the operation is over and another has begun, so nobody
runs a shard with the arguments of another operation.
"""

import ctypes
import sys
from typing import Any

import numba
import numpy as np
from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from siamese_np.runtime.inline import part
from siamese_np.runtime.jit import kernel

BOARD = "siamese_np_board"
YIELD = "siamese_np_yield"
# Words of the board; those that different threads write lie in cache lines of their own.
TICKET, FUNCTION, ARGUMENTS, DONE, FAILED, TAKEN, CALLED = 0, 16, 17, 32, 33, 48, 64
# A ticket is number << 32 | first << 16 | end: the shards first .. end - 1 are left.
MOST_SHARDS = (1 << 16) - 1
PATIENCE = 1 << 11  # looks before a thread that waits lets others have the processor

board = np.zeros(128, np.int64)  # found by its name from compiled code, wherever that was compiled

if sys.platform == "win32":
    _yield: Any = ctypes.windll.kernel32.SwitchToThread
else:
    _yield = ctypes.CDLL(None).sched_yield

binding.add_symbol(BOARD, board.ctypes.data)
binding.add_symbol(YIELD, ctypes.cast(_yield, ctypes.c_void_p).value)

_WORD = ir.IntType(64)
_ADDRESS = ir.IntType(8).as_pointer()


def _word(builder: Any, index: Any) -> Any:
    """Address of a word of the board."""
    module = builder.module
    try:
        words = module.get_global(BOARD)
    except KeyError:
        words = ir.GlobalVariable(module, ir.ArrayType(_WORD, len(board)), BOARD)
        words.linkage = "external"
    return builder.gep(words, [ir.Constant(_WORD, 0), index])


@intrinsic
def load(typing_context, index):  # type: ignore[no-untyped-def]
    """board[index], and nothing that follows is read earlier."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.load_atomic(_word(builder, arguments[0]), "acquire", 8)

    return types.int64(types.int64), generate


@intrinsic
def store(typing_context, index, value):  # type: ignore[no-untyped-def]
    """board[index] = value, and nothing that precedes is written later."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        builder.store_atomic(arguments[1], _word(builder, arguments[0]), "release", 8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


@intrinsic
def swap(typing_context, index, old, new):  # type: ignore[no-untyped-def]
    """Replace board[index] by `new` if it is `old`, in one; whether it was."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        index, old, new = arguments
        result = builder.cmpxchg(_word(builder, index), old, new, "acq_rel", "acquire")
        return builder.extract_value(result, 1)

    return types.boolean(types.int64, types.int64, types.int64), generate


@intrinsic
def add(typing_context, index, value):  # type: ignore[no-untyped-def]
    """board[index] += value, in one."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.atomic_rmw("add", _word(builder, arguments[0]), arguments[1], "acq_rel")

    return types.int64(types.int64, types.int64), generate


def _count(counts, index, more):  # type: ignore[no-untyped-def]
    counts[index] += more


@intrinsic
def _count_compiled(typing_context, counts, index, more):  # type: ignore[no-untyped-def]
    """counts[index] += more, in one, so that several threads can count in one array (N,) of int64."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        builder.atomic_rmw("add", builder.gep(data, [arguments[1]]), arguments[2], "monotonic")
        return context.get_dummy_value()

    return types.void(counts, types.int64, types.int64), generate


count = _count if numba.config.DISABLE_JIT else _count_compiled


@intrinsic
def pause(typing_context):  # type: ignore[no-untyped-def]
    """Tell the processor that this is a waiting loop."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        if binding.get_default_triple().startswith("x86_64"):
            nothing = ir.FunctionType(ir.VoidType(), [])
            builder.call(cgutils.get_or_insert_function(builder.module, nothing, "llvm.x86.sse2.pause"), [])
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def give_way(typing_context):  # type: ignore[no-untyped-def]
    """Let another thread have this processor."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        function = ir.FunctionType(ir.IntType(32), [])
        builder.call(cgutils.get_or_insert_function(builder.module, function, YIELD), [])
        return context.get_dummy_value()

    return types.void(), generate


def _packing(function: Any) -> Any:
    """Addresses of code that runs one shard of `function`, and of a record of its arguments on this stack."""

    @intrinsic
    def pack(typing_context, arguments):  # type: ignore[no-untyped-def]
        function_type = types.Dispatcher(function)
        of_function = function_type.get_call_type(typing_context, (*arguments.types, types.int64), {})

        def generate(context, builder, signature, values):  # type: ignore[no-untyped-def]
            each = [
                context.cast(builder, value, given, wanted)
                for value, given, wanted in zip(
                    cgutils.unpack_tuple(builder, values[0], len(arguments)),
                    arguments.types,
                    of_function.args,  # and a shard
                    strict=False,
                )
            ]
            record_type = ir.LiteralStructType([value.type for value in each])
            record = cgutils.alloca_once(builder, record_type)
            for i, value in enumerate(each):
                builder.store(value, cgutils.gep_inbounds(builder, record, 0, i))

            compiled = function.overloads[tuple(of_function.args)]
            context.active_code_library.add_linking_library(compiled.library)
            shard_type = ir.FunctionType(_WORD, [_ADDRESS, _WORD])
            name = builder.module.get_unique_name(f"{builder.function.name}.shard")
            shard = ir.Function(builder.module, shard_type, name)
            shard.linkage = "internal"
            body = ir.IRBuilder(shard.append_basic_block())
            there = body.bitcast(shard.args[0], record_type.as_pointer())
            loaded = [body.load(cgutils.gep_inbounds(body, there, 0, i)) for i in range(len(each))]
            callee = context.declare_function(builder.module, compiled.fndesc)
            status, _ = context.call_conv.call_function(
                body, callee, of_function.return_type, of_function.args, [*loaded, shard.args[1]]
            )
            body.ret(body.zext(status.is_error, _WORD))
            addresses = [builder.ptrtoint(shard, _WORD), builder.ptrtoint(record, _WORD)]
            return context.make_tuple(builder, signature.return_type, addresses)

        return types.UniTuple(types.int64, 2)(arguments), generate

    return pack


@intrinsic
def call(typing_context, function, arguments, shard):  # type: ignore[no-untyped-def]
    """Run one shard, from the two addresses that `pack` gave; 1 if it failed, else 0."""

    def generate(context, builder, signature, values):  # type: ignore[no-untyped-def]
        shard_type = ir.FunctionType(_WORD, [_ADDRESS, _WORD])
        function = builder.inttoptr(values[0], shard_type.as_pointer())
        return builder.call(function, [builder.inttoptr(values[1], _ADDRESS), values[2]])

    return types.int64(types.int64, types.int64, types.int64), generate


@intrinsic
def keep(typing_context, arguments):  # type: ignore[no-untyped-def]
    """Does nothing with the arguments, but where it stands they are still needed, and so not freed before."""

    def generate(context, builder, signature, values):  # type: ignore[no-untyped-def]
        return context.get_dummy_value()

    return types.void(arguments), generate


@part
def take_part(helper):  # type: ignore[no-untyped-def]
    """Run shards of the present operation while there are any; whether there was one."""
    worked = False
    while True:
        ticket = load(TICKET)
        first, end = (ticket >> 16) & MOST_SHARDS, ticket & MOST_SHARDS
        if first == end:
            return worked
        function, arguments = load(FUNCTION), load(ARGUMENTS)
        if swap(TICKET, ticket, ticket - 1 if helper else ticket + (1 << 16)):
            if call(function, arguments, end - 1 if helper else first):
                store(FAILED, 1)
            add(DONE, 1)
            worked = True


@kernel
def help_out(patience, seen):  # type: ignore[no-untyped-def]
    """Take part in one operation after the other, until none has come for `patience` looks, or Python calls.

    Returns whether there was one.
    """
    looks, worked = 0, False
    while looks < patience and load(CALLED) == seen:
        if take_part(True):
            looks, worked = 0, True
        looks += 1
        if looks % 256 == 0:
            give_way()
        pause()
    return worked


@part
def share(function, arguments, count):  # type: ignore[no-untyped-def]
    """Run all `count` shards, given by the two addresses from `pack`, with whoever helps; whether one has failed."""
    if not 1 < count <= MOST_SHARDS or not swap(TAKEN, 0, 1):  # or the board is in use by another caller
        failures = 0
        for s in range(count):
            failures += call(function, arguments, s)
        return failures > 0
    store(FUNCTION, function)
    store(ARGUMENTS, arguments)
    store(DONE, 0)
    store(FAILED, 0)
    store(TICKET, (((load(TICKET) >> 32) + 1) << 32) | count)
    take_part(False)
    looks = 0
    while load(DONE) < count:
        pause()
        looks += 1
        if looks > PATIENCE:
            give_way()
    failed = load(FAILED) != 0
    store(TAKEN, 0)
    return failed


def sharded(function: Any) -> Any:
    """Of a kernel ``function(*arguments, s)``, which runs shard s, make ``run(arguments, count)``, which runs all."""

    if numba.config.DISABLE_JIT:

        def one_by_one(arguments, count):  # type: ignore[no-untyped-def]
            for s in range(count):
                function(*arguments, s)

        return one_by_one
    pack = _packing(function)

    @numba.njit(inline="always")  # into its caller, on whose stack the arguments lie
    def run(arguments, count):  # type: ignore[no-untyped-def]
        address, record = pack(arguments)
        failed = share(address, record, count)
        keep(arguments)
        if failed:
            raise MemoryError  # the only error that a kernel can meet

    return run
