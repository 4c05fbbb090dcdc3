"""SIMD vectors as values: neighbouring numbers that stay in registers from one operation to the next.

LLVM vectorises plain loops on its own, but reads each sum from memory and writes it back for every product. A kernel
that wants its sums to stay in registers keeps them in local variables of the type `Vector`:

    sums = load(out, start, like)                   out[start : start + n]
    sums = muladd(sums, factor, load(w, k, like))   sums + factor * w[k : k + n], rounded once
    store(out, start, sums)

`like` is any vector with the wanted number n of entries, at first one of `zeros`: a function that takes it as an
argument is compiled once for each n. Arrays are flat and contiguous; an offset is never negative. (Kernels pass flat
arrays and offsets, not slices: each slice counts references, which takes as long as a hundred products.) Each
operation is a plain Python function, used under ``NUMBA_DISABLE_JIT=1``, beside the LLVM instructions that replace it.
"""

import inspect
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


class Vector(types.Type):  # type: ignore[misc]
    """Numba's type of `count` numbers of `dtype`."""

    def __init__(self, dtype: Any, count: int) -> None:
        self.dtype, self.count = dtype, count
        super().__init__(name=f"Vector({dtype}, {count})")


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, vector: Vector) -> None:
        super().__init__(manager, vector, ir.VectorType(manager[vector.dtype].get_value_type(), vector.count))


def _operation(typed: Callable[..., Any], instructions: Callable[..., Any]) -> Callable[[Callable[..., Any]], Any]:
    """Replace a Python function by `instructions`, where it is compiled.

    `typed` makes Numba's signature from the types of the arguments. `instructions` gets LLVM's builder, the type of
    the result, and the arguments; of an array, the address of its data.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        def definition(typing: Any, *arguments: Any) -> Any:
            def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
                result = context.get_value_type(signature.return_type)
                given = [
                    context.make_array(kind)(context, builder, value).data if isinstance(kind, types.Array) else value
                    for kind, value in zip(signature.args, values, strict=True)
                ]
                done = instructions(builder, result, *given)
                return done if signature.return_type != types.void else context.get_dummy_value()

            return typed(*arguments), generate

        parameters = [*inspect.signature(definition).parameters.values()][:1]
        parameters += inspect.signature(function).parameters.values()
        definition.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        return intrinsic(prefer_literal=True)(definition)

    return (lambda function: function) if config.DISABLE_JIT else decorate


def _type_of_zeros(array: Any, vectors: Any) -> Any:
    return Vector(array.dtype, vectors.literal_value * VECTOR_BYTES * 8 // array.dtype.bitwidth)(array, vectors)


@_operation(_type_of_zeros, lambda builder, result, data, vectors: ir.Constant(result, None))
def zeros(array: Any, vectors: int) -> Any:
    """As many zeros of the array's type as fill `vectors` registers."""
    return np.zeros(vectors * VECTOR_BYTES // array.itemsize, array.dtype)


@_operation(
    lambda vector: types.intp(vector),
    lambda builder, result, vector: ir.Constant(result, vector.type.count),
)
def length(vector: Any) -> int:
    """Number of its entries."""
    return len(vector)


@_operation(
    lambda array, start, like: like(array, types.intp, like),
    lambda builder, result, data, start, like: _read(builder, data, start, result),
)
def load(array: Any, start: int, like: Any) -> Any:
    """The vector ``array[start]``, ``array[start + 1]``, ...; past the end of the array it may be anything."""
    vector = np.zeros_like(like)
    there = array[start : start + len(like)]
    vector[: len(there)] = there
    return vector


@_operation(
    lambda array, start, vector: types.void(array, types.intp, vector),
    lambda builder, result, data, start, vector: _write(builder, data, start, vector),
)
def store(array: Any, start: int, vector: Any) -> None:
    """Write the vector to ``array[start]``, ``array[start + 1]``, ..."""
    there = array[start : start + len(vector)]
    there[:] = vector[: len(there)]


@_operation(
    lambda array, k: array.dtype(array, types.intp),
    lambda builder, result, data, k: builder.load(builder.gep(data, [k])),
)
def load_scalar(array: Any, k: int) -> Any:
    """``array[k]`` for k >= 0, without the test for a negative k that Numba makes each time."""
    return array[k]


@_operation(
    lambda array, k, value: types.void(array, types.intp, array.dtype),
    lambda builder, result, data, k, value: builder.store(value, builder.gep(data, [k])),
)
def store_scalar(array: Any, k: int, value: Any) -> None:
    """``array[k] = value`` for k >= 0, without that test."""
    array[k] = value


@_operation(
    lambda array, number, like: Vector(array.dtype, like.count)(array, array.dtype, like),
    lambda builder, result, data, number, like: _splat(builder, number, result),
)
def splat(array: Any, number: Any, like: Any) -> Any:
    """`number`, of the array's type, as often as `like` has entries."""
    return np.full(len(like), number, array.dtype)


def _emit_iota(builder: Any, result: Any, data: Any, first: Any, like: Any) -> Any:
    return builder.add(_splat(builder, first, result), ir.Constant(result, list(range(result.count))))


@_operation(lambda array, first, like: Vector(array.dtype, like.count)(array, array.dtype, like), _emit_iota)
def iota(array: Any, first: int, like: Any) -> Any:
    """first, first + 1, ..., of the array's type (integers), as many as `like` has entries."""
    return np.arange(first, first + len(like), dtype=array.dtype)


@_operation(
    lambda sums, factor, vector: sums(sums, sums.dtype, sums),
    lambda builder, result, sums, factor, vector: _fused(builder, _splat(builder, factor, result), vector, sums),
)
def muladd(sums: Any, factor: Any, vector: Any) -> Any:
    """``sums + factor * vector``, in one instruction and rounded once where the processor can."""
    return sums + factor * vector


@_operation(
    lambda sums, vector: sums(sums, vector),
    lambda builder, result, sums, vector: _fused(builder, vector, vector, sums),
)
def add_squares(sums: Any, vector: Any) -> Any:
    """``sums + vector * vector``, in one instruction and rounded once where the processor can."""
    return sums + vector * vector


@_operation(
    lambda number, vector: vector(vector.dtype, vector),
    lambda builder, result, number, vector: builder.fsub(_splat(builder, number, result), vector),
)
def difference(number: Any, vector: Any) -> Any:
    """``number - vector``."""
    return number - vector


@_operation(
    lambda a, b: Vector(types.boolean, a.count)(a, a),
    lambda builder, result, a, b: builder.fcmp_ordered(">", a, b),
)
def greater(a: Any, b: Any) -> Any:
    """Where a > b, entry by entry; nowhere where either is NaN."""
    return a > b


def _emit_greater_or_nan(builder: Any, result: Any, a: Any, b: Any) -> Any:
    return builder.and_(builder.fcmp_unordered(">", a, b), builder.fcmp_ordered("ord", b, b))


@_operation(lambda a, b: Vector(types.boolean, a.count)(a, a), _emit_greater_or_nan)
def greater_or_nan(a: Any, b: Any) -> Any:
    """Where a > b, or a is NaN and b is not."""
    return ((a > b) | np.isnan(a)) & ~np.isnan(b)


@_operation(
    lambda where, a, b: a(where, a, a),
    lambda builder, result, where, a, b: builder.select(where, a, b),
)
def select(where: Any, a: Any, b: Any) -> Any:
    """The entries of a there, those of b elsewhere."""
    return np.where(where, a, b)


def _emit_nonzero_mask(builder: Any, result: Any, data: Any, start: Any, like: Any) -> Any:
    values = _read(builder, data, start, like.type)
    flags = builder.fcmp_unordered("!=", values, ir.Constant(values.type, None))
    bits = builder.bitcast(flags, ir.IntType(flags.type.count))
    return bits if flags.type.count == 64 else builder.zext(bits, result)


@_operation(lambda array, start, like: types.uint64(array, types.intp, like), _emit_nonzero_mask)
def nonzero_mask(array: Any, start: int, like: Any) -> Any:
    """An integer whose bit k is set where ``array[start + k]`` is not 0 (NaN is not): up to 64 entries."""
    return np.uint64(sum(1 << k for k in range(len(like)) if array[start + k] != 0))


def _emit_compress_store(builder: Any, result: Any, data: Any, start: Any, vector: Any, mask: Any) -> None:
    count, kind = vector.type.count, _suffix(vector.type)
    flags = builder.bitcast(builder.trunc(mask, ir.IntType(count)), ir.VectorType(ir.IntType(1), count))
    if binding.llvm_version_info >= (19, 0, 0):
        of = ir.FunctionType(vector.type, [vector.type, flags.type, vector.type])
        compress = get_or_insert_function(builder.module, of, f"llvm.experimental.vector.compress.{kind}")
        packed = builder.call(compress, [vector, flags, ir.Constant(vector.type, ir.Undefined)])
        _write(builder, data, start, packed)
    else:  # slower on some processors
        address = builder.gep(data, [start])
        of = ir.FunctionType(ir.VoidType(), [vector.type, address.type, flags.type])
        compress = get_or_insert_function(builder.module, of, f"llvm.masked.compressstore.{kind}")
        builder.call(compress, [vector, address, flags])


@_operation(
    lambda array, start, vector, mask: types.void(array, types.intp, vector, types.uint64), _emit_compress_store
)
def compress_store(array: Any, start: int, vector: Any, mask: Any) -> None:
    """Write only the entries whose bit is set in `mask` to ``array[start]``, ``array[start + 1]``, ...

    What lies behind them, up to one vector, may be overwritten with anything.
    """
    chosen = [entry for k, entry in enumerate(vector) if int(mask) >> k & 1]
    array[start : start + len(chosen)] = chosen


@_operation(lambda mask: types.int64(types.uint64), lambda builder, result, mask: builder.ctpop(mask))
def popcount(mask: Any) -> int:
    """How many bits are set."""
    return int(mask).bit_count()


def _emit_transpose(
    builder: Any, result: Any, out: Any, dst: Any, out_step: Any, x: Any, src: Any, x_step: Any, like: Any
) -> None:
    size = like.type.count

    def row(first: Any, step: Any, r: int) -> Any:
        return builder.add(first, builder.mul(step, ir.Constant(_int64, r)))

    rows = [_read(builder, x, row(src, x_step, r), like.type) for r in range(size)]
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
        _write(builder, out, row(dst, out_step, r), rows[r])


@_operation(
    lambda out, dst, out_step, x, src, x_step, like: types.void(
        out, types.intp, types.intp, x, types.intp, types.intp, like
    ),
    _emit_transpose,
)
def transpose_square(out: Any, dst: int, out_step: int, x: Any, src: int, x_step: int, like: Any) -> None:
    """``out[dst + c * out_step + r] = x[src + r * x_step + c]`` for as many r and c as `like` has entries."""
    for r in range(len(like)):
        for c in range(len(like)):
            out[dst + c * out_step + r] = x[src + r * x_step + c]


def _emit_no_unroll(builder: Any, result: Any) -> None:
    nothing = ir.InlineAsm(ir.FunctionType(ir.VoidType(), []), "", "", side_effect=True)
    builder.call(nothing, [], attrs=["convergent"])


@_operation(lambda: types.void(), _emit_no_unroll)
def no_unroll() -> None:
    """Keep LLVM from unrolling the loop that this stands in.

    An unrolled loop over a short list of unknown length ends twice; each end is a branch that is often mispredicted.
    """


def _read(builder: Any, data: Any, start: Any, vector: Any) -> Any:
    values = builder.load(builder.bitcast(builder.gep(data, [start]), vector.as_pointer()))
    values.align = _bits(vector) // 8  # an array may start anywhere
    return values


def _write(builder: Any, data: Any, start: Any, values: Any) -> None:
    address = builder.bitcast(builder.gep(data, [start]), values.type.as_pointer())
    builder.store(values, address).align = _bits(values.type) // 8


def _splat(builder: Any, scalar: Any, vector: Any) -> Any:
    undefined = ir.Constant(vector, ir.Undefined)
    first = builder.insert_element(undefined, scalar, ir.Constant(_int32, 0))
    return _shuffle(builder, first, undefined, [0] * vector.count)


def _shuffle(builder: Any, a: Any, b: Any, order: list[int]) -> Any:
    """The entries `order` of a followed by b."""
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(_int32, len(order)), order))


def _fused(builder: Any, a: Any, b: Any, sums: Any) -> Any:
    """LLVM's a * b + sums: one instruction where the processor has it."""
    of = ir.FunctionType(sums.type, [sums.type] * 3)
    function = get_or_insert_function(builder.module, of, f"llvm.fmuladd.{_suffix(sums.type)}")
    return builder.call(function, [a, b, sums])


def _bits(vector: Any) -> int:
    """Bits of an entry."""
    entry = vector.element
    return entry.width if isinstance(entry, ir.IntType) else 32 if isinstance(entry, ir.FloatType) else 64


def _suffix(vector: Any) -> str:
    """How LLVM's intrinsics call a type of vectors."""
    return f"v{vector.count}{'i' if isinstance(vector.element, ir.IntType) else 'f'}{_bits(vector)}"
