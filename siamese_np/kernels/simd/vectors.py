"""Lanes: a few neighbouring numbers as one value, which LLVM keeps in vector registers.

A loop over an array is vectorised by LLVM on its own, but its sums are read from memory and written back for
every product. A kernel that wants its sums to stay in registers names them: lanes are ordinary local variables.

    sums = load(out, start, like)                   out[start : start + count]
    sums = muladd(sums, factor, load(w, k, like))   sums + factor * w[k : k + count], rounded once
    store(out, start, sums)

`like` is any value with the wanted number of lanes, at first one of `zeros`: a function that takes it as an
argument is compiled once for each width. Arrays are flat and contiguous; a start is never negative. (Kernels pass
flat arrays and starts, not slices: each slice counts references, which takes as long as a hundred products.) Each
operation has its meaning in plain Python, which also runs under ``NUMBA_DISABLE_JIT=1``.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import binding, ir
from numba import config, types
from numba.core.cgutils import get_or_insert_function
from numba.core.datamodel import models
from numba.extending import intrinsic, register_model


def _vector_bytes() -> int:
    features = binding.get_host_cpu_features()
    return 64 if features.get("avx512f") else 32 if features.get("avx2") else 16


VECTOR_BYTES = _vector_bytes()
# Vectors side by side. About eight sums hide the latency of a multiply-add: eight vectors of one row, two of four rows.
# Where six rows share what is loaded, there may be more of them, as far as registers go: 32 with AVX-512, 16 with AVX2.
LONG, PAIR, WIDE = 8, 2, 4 if VECTOR_BYTES == 64 else 2

_int32, _int64 = ir.IntType(32), ir.IntType(64)


class Lanes(types.Type):  # type: ignore[misc]
    """Numba's type of `count` numbers of `dtype`."""

    def __init__(self, dtype: Any, count: int) -> None:
        self.dtype, self.count = dtype, count
        super().__init__(name=f"Lanes({dtype}, {count})")


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, lanes: Lanes) -> None:
        super().__init__(manager, lanes, ir.VectorType(manager[lanes.dtype].get_value_type(), lanes.count))


def _operation(typed: Callable[..., Any]) -> Callable[[Callable[..., Any]], Any]:
    """Replace a plain-Python meaning by the instructions that `typed` gives, where kernels are compiled."""

    def decorate(meaning: Callable[..., Any]) -> Any:
        return meaning if config.DISABLE_JIT else intrinsic(prefer_literal=True)(typed)

    return decorate


def _zeros(typing: Any, array: Any, vectors: Any) -> Any:
    lanes = Lanes(array.dtype, vectors.literal_value * VECTOR_BYTES * 8 // array.dtype.bitwidth)
    return lanes(array, vectors), lambda context, builder, signature, args: ir.Constant(_vector(context, lanes), None)


@_operation(_zeros)
def zeros(array: Any, vectors: int) -> Any:
    """`vectors` registers full of zeros of the array's type."""
    return np.zeros(vectors * VECTOR_BYTES // array.itemsize, array.dtype)


def _load(typing: Any, array: Any, start: Any, like: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _read(context, builder, array, args, like.count)

    return like(array, types.intp, like), generate


@_operation(_load)
def load(array: Any, start: int, like: Any) -> Any:
    """The lanes ``array[start]``, ``array[start + 1]``, ...; behind its end they may be anything."""
    lanes, there = np.zeros_like(like), array[start : start + len(like)]
    lanes[: len(there)] = there
    return lanes


def _item(typing: Any, array: Any, k: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load(builder.gep(context.make_array(array)(context, builder, args[0]).data, [args[1]]))

    return array.dtype(array, types.intp), generate


@_operation(_item)
def item(array: Any, k: int) -> Any:
    """``array[k]`` for k >= 0, without the test for a negative k that Numba makes for each."""
    return array[k]


def _put(typing: Any, array: Any, k: Any, value: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store(args[2], builder.gep(context.make_array(array)(context, builder, args[0]).data, [args[1]]))
        return context.get_dummy_value()

    return types.void(array, types.intp, array.dtype), generate


@_operation(_put)
def put(array: Any, k: int, value: Any) -> None:
    """``array[k] = value`` for k >= 0, without that test."""
    array[k] = value


def _store(typing: Any, array: Any, start: Any, lanes: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        _write(context, builder, array, args, args[2])
        return context.get_dummy_value()

    return types.void(array, types.intp, lanes), generate


@_operation(_store)
def store(array: Any, start: int, lanes: Any) -> None:
    """Write the lanes to ``array[start]``, ``array[start + 1]``, ..."""
    there = array[start : start + len(lanes)]
    there[:] = lanes[: len(there)]


def _muladd(typing: Any, sums: Any, factor: Any, lanes: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _fused(builder, _all(builder, args[1], args[0].type), args[2], args[0], lanes)

    return sums(sums, sums.dtype, sums), generate


@_operation(_muladd)
def muladd(sums: Any, factor: Any, lanes: Any) -> Any:
    """``sums + factor * lanes``, in one instruction and rounded once where the processor can."""
    return sums + factor * lanes


def _difference(typing: Any, factor: Any, lanes: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.fsub(_all(builder, args[0], args[1].type), args[1])

    return lanes(lanes.dtype, lanes), generate


@_operation(_difference)
def difference(factor: Any, lanes: Any) -> Any:
    """``factor - lanes``."""
    return factor - lanes


def _add_squares(typing: Any, sums: Any, lanes: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _fused(builder, args[1], args[1], args[0], lanes)

    return sums(sums, lanes), generate


@_operation(_add_squares)
def add_squares(sums: Any, lanes: Any) -> Any:
    """``sums + lanes * lanes``, in one instruction and rounded once where the processor can."""
    return sums + lanes * lanes


def _compare(typing: Any, a: Any, b: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.fcmp_ordered(">", *args)

    return Lanes(types.boolean, a.count)(a, a), generate


@_operation(_compare)
def above(a: Any, b: Any) -> Any:
    """Where a > b, lane by lane; nowhere where either is NaN."""
    return a > b


def _beats(typing: Any, a: Any, b: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        not_below = builder.fcmp_unordered(">", *args)
        return builder.and_(not_below, builder.fcmp_ordered("ord", args[1], args[1]))

    return Lanes(types.boolean, a.count)(a, a), generate


@_operation(_beats)
def beats(a: Any, b: Any) -> Any:
    """Where a > b, or a is NaN and b is not."""
    return ((a > b) | np.isnan(a)) & ~np.isnan(b)


def _select(typing: Any, where: Any, a: Any, b: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.select(*args)

    return a(where, a, a), generate


@_operation(_select)
def select(where: Any, a: Any, b: Any) -> Any:
    """a in those lanes, b in the others."""
    return np.where(where, a, b)


def _constant(typing: Any, array: Any, number: Any, like: Any) -> Any:
    lanes = Lanes(array.dtype, like.count)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _all(builder, args[1], _vector(context, lanes))

    return lanes(array, array.dtype, like), generate


@_operation(_constant)
def constant(array: Any, number: Any, like: Any) -> Any:
    """`number` in as many lanes as `like` has, of the array's type."""
    return np.full(len(like), number, array.dtype)


def _nonzero(typing: Any, array: Any, start: Any, like: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        values = _read(context, builder, array, args, like.count)
        return _bits(builder, builder.fcmp_unordered("!=", values, ir.Constant(values.type, None)))

    return types.uint64(array, types.intp, like), generate


@_operation(_nonzero)
def nonzero(array: Any, start: int, like: Any) -> Any:
    """Bit k is set where ``array[start + k]`` is not 0 (NaN is not): up to 64 lanes."""
    return np.uint64(sum(1 << k for k in range(len(like)) if array[start + k] != 0))


def _numbers(typing: Any, array: Any, first: Any, like: Any) -> Any:
    lanes = Lanes(array.dtype, like.count)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector = _vector(context, lanes)
        return builder.add(_all(builder, args[1], vector), ir.Constant(vector, list(range(lanes.count))))

    return lanes(array, array.dtype, like), generate


@_operation(_numbers)
def numbers(array: Any, first: int, like: Any) -> Any:
    """The lanes first, first + 1, ..., of the type of `array`, which holds whole numbers."""
    return np.arange(first, first + len(like), dtype=array.dtype)


def _pack(typing: Any, array: Any, start: Any, lanes: Any, bits: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector, truths = args[2].type, ir.VectorType(ir.IntType(1), lanes.count)
        chosen = builder.bitcast(builder.trunc(args[3], ir.IntType(lanes.count)), truths)
        kind = f"v{lanes.count}{'f' if isinstance(lanes.dtype, types.Float) else 'i'}{lanes.dtype.bitwidth}"
        if binding.llvm_version_info >= (19, 0, 0):
            name, of = f"llvm.experimental.vector.compress.{kind}", ir.FunctionType(vector, [vector, truths, vector])
            compress = get_or_insert_function(builder.module, of, name)
            packed = builder.call(compress, [args[2], chosen, ir.Constant(vector, ir.Undefined)])
            _write(context, builder, array, args, packed)
        else:  # slower on some processors
            address = builder.gep(context.make_array(array)(context, builder, args[0]).data, [args[1]])
            of = ir.FunctionType(ir.VoidType(), [vector, address.type, truths])
            compress = get_or_insert_function(builder.module, of, f"llvm.masked.compressstore.{kind}")
            builder.call(compress, [args[2], address, chosen])
        return context.get_dummy_value()

    return types.void(array, types.intp, lanes, types.uint64), generate


@_operation(_pack)
def pack(array: Any, start: int, lanes: Any, bits: Any) -> None:
    """Write those lanes whose bit is set to ``array[start]``, ``array[start + 1]``, ..., one beside the other.

    What lies behind them, as far as all lanes would reach, may be overwritten with anything.
    """
    chosen = [lane for k, lane in enumerate(lanes) if int(bits) >> k & 1]
    array[start : start + len(chosen)] = chosen


def _popcount(typing: Any, bits: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.ctpop(args[0])

    return types.int64(types.uint64), generate


@_operation(_popcount)
def popcount(bits: Any) -> int:
    """How many bits are set."""
    return int(bits).bit_count()


def _transpose(typing: Any, out: Any, to: Any, out_step: Any, x: Any, at: Any, x_step: Any, like: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        out, to, out_step, x, at, x_step, _ = args
        out_type, x_type, size = signature.args[0], signature.args[3], like.count

        def place(array: Any, start: Any, step: Any, row: int) -> Any:
            return array, builder.add(start, builder.mul(step, ir.Constant(_int64, row)))

        rows = [_read(context, builder, x_type, place(x, at, x_step, r), size) for r in range(size)]
        distance = 1
        while distance < size:  # rows r and r + distance swap their off-diagonal quarters, at distances 1, 2, 4, ...
            upper = [c if not c & distance else size + c - distance for c in range(size)]
            lower = [c + distance if not c & distance else size + c for c in range(size)]
            for r in range(size):
                if not r & distance:
                    pair = rows[r], rows[r + distance]
                    rows[r] = _shuffle(builder, *pair, upper)
                    rows[r + distance] = _shuffle(builder, *pair, lower)
            distance *= 2
        for r in range(size):
            _write(context, builder, out_type, place(out, to, out_step, r), rows[r])
        return context.get_dummy_value()

    return types.void(out, types.intp, types.intp, x, types.intp, types.intp, like), generate


@_operation(_transpose)
def transpose_square(out: Any, to: int, out_step: int, x: Any, at: int, x_step: int, like: Any) -> None:
    """``out[to + c * out_step + r] = x[at + r * x_step + c]`` for as many rows r and columns c as `like` has lanes."""
    for r in range(len(like)):
        for c in range(len(like)):
            out[to + c * out_step + r] = x[at + r * x_step + c]


def _rolled(typing: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        nothing = ir.InlineAsm(ir.FunctionType(ir.VoidType(), []), "", "", side_effect=True)
        builder.call(nothing, [], attrs=["convergent"])
        return context.get_dummy_value()

    return types.void(), generate


@_operation(_rolled)
def rolled() -> None:
    """Does nothing, but the loop it stands in is not unrolled.

    Of a short list of unknown length, an unrolled loop ends twice: each end is a branch that is often predicted wrong.
    """


def _vector(context: Any, lanes: Lanes) -> Any:
    return context.get_data_type(lanes)


def _address(context: Any, builder: Any, array: Any, args: Any, vector: Any) -> Any:
    data = context.make_array(array)(context, builder, args[0]).data
    return builder.bitcast(builder.gep(data, [args[1]]), vector.as_pointer())


def _read(context: Any, builder: Any, array: Any, args: Any, count: int) -> Any:
    vector = ir.VectorType(context.get_data_type(array.dtype), count)
    values = builder.load(_address(context, builder, array, args, vector))
    values.align = array.dtype.bitwidth // 8  # an array may start anywhere
    return values


def _write(context: Any, builder: Any, array: Any, args: Any, values: Any) -> None:
    stored = builder.store(values, _address(context, builder, array, args, values.type))
    stored.align = array.dtype.bitwidth // 8


def _all(builder: Any, scalar: Any, vector: Any) -> Any:
    """`scalar` in every lane."""
    undefined = ir.Constant(vector, ir.Undefined)
    first = builder.insert_element(undefined, scalar, ir.Constant(_int32, 0))
    return _shuffle(builder, first, undefined, [0] * vector.count)


def _shuffle(builder: Any, a: Any, b: Any, order: list[int]) -> Any:
    """The lanes `order` of a followed by b."""
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(_int32, len(order)), order))


def _fused(builder: Any, a: Any, b: Any, sums: Any, lanes: Lanes) -> Any:
    """LLVM's a * b + sums: one instruction where the processor has it."""
    vector = sums.type
    name = f"llvm.fmuladd.v{lanes.count}f{lanes.dtype.bitwidth}"
    function = get_or_insert_function(builder.module, ir.FunctionType(vector, [vector] * 3), name)
    return builder.call(function, [a, b, sums])


def _bits(builder: Any, truths: Any) -> Any:
    bits = builder.bitcast(truths, ir.IntType(truths.type.count))
    return bits if truths.type.count == 64 else builder.zext(bits, _int64)
