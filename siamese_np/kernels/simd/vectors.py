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
Whether an offset lies in the array is tested only with ``SIAMESE_NP_CHECK=1``.
"""

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import binding, ir
from numba import config, types
from numba.core.cgutils import get_or_insert_function
from numba.extending import intrinsic, models, register_model

from siamese_np.runtime.numba_compat import CHECKED, check_bounds


def _vector_bytes() -> int:
    given = config.CPU_FEATURES  # NUMBA_CPU_FEATURES: code for less than this processor can do
    features = (binding.get_host_cpu_features().flatten() if given is None else given).split(",")
    return 64 if "+avx512f" in features else 32 if "+avx2" in features else 16


VECTOR_BYTES = _vector_bytes()
# Vectors side by side. About eight sums hide the latency of a multiply-add: eight vectors of one row, two of four rows.
# Where six rows share what is loaded, there may be more of them, as far as registers go: 32 with AVX-512, 16 with AVX2.
LONG, PAIR, WIDE = 8, 2, 4 if VECTOR_BYTES == 64 else 2

intp, void = types.intp, types.void
_int32 = ir.IntType(32)


class Vector(types.Type):  # type: ignore[misc]
    """Numba's type of `count` numbers of `dtype`."""

    def __init__(self, dtype: Any, count: int) -> None:
        self.dtype, self.count = dtype, count
        super().__init__(name=f"Vector({dtype}, {count})")


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, vector: Vector) -> None:
        super().__init__(manager, vector, ir.VectorType(manager[vector.dtype].get_value_type(), vector.count))


def _operation(typed: Callable[..., Any], emit: Callable[..., Any]) -> Callable[[Callable[..., Any]], Any]:
    """Where code is compiled, replace a Python function by LLVM's instructions.

    `typed` makes Numba's signature from the types of the arguments. `emit` gets LLVM's builder b, the type of the
    result and the arguments; of an array, a function that gives the address of a number in it.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        def definition(typing: Any, *arguments: Any) -> Any:
            def generate(context: Any, b: Any, signature: Any, values: Any) -> Any:
                given = [
                    _addresses_in(context, b, kind, value) if isinstance(kind, types.Array) else value
                    for kind, value in zip(signature.args, values, strict=True)
                ]
                result = emit(b, context.get_value_type(signature.return_type), *given)
                return result if signature.return_type != void else context.get_dummy_value()

            return typed(*arguments), generate

        typing = inspect.signature(definition).parameters["typing"]
        parameters = [typing, *inspect.signature(function).parameters.values()]
        definition.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        return intrinsic(prefer_literal=True)(definition)

    return (lambda function: function) if config.DISABLE_JIT else decorate


def _addresses_in(context: Any, b: Any, kind: Any, value: Any) -> Callable[..., Any]:
    """What gives the address of number k of an array, the first of `count` that are touched."""
    array = context.make_array(kind)(context, b, value)
    data = array.data

    def address(k: Any, count: int = 1) -> Any:
        if CHECKED:
            check_bounds(context, b, array, k, count)
        return b.gep(data, [k])

    return address


def _type_of_zeros(array: Any, vectors: Any) -> Any:
    count = vectors.literal_value * VECTOR_BYTES * 8 // array.dtype.bitwidth
    return Vector(array.dtype, max(count, 1))(array, vectors)


@_operation(_type_of_zeros, lambda b, of, array, vectors: ir.Constant(of, None))
def zeros(array: Any, vectors: int) -> Any:
    """As many zeros of the array's type as fill `vectors` registers; a single one for 0."""
    return np.zeros(max(vectors * VECTOR_BYTES // array.itemsize, 1), array.dtype)


@_operation(lambda vector: intp(vector), lambda b, of, vector: ir.Constant(of, vector.type.count))
def length(vector: Any) -> int:
    """Number of entries."""
    return len(vector)


@_operation(lambda array, k, like: like(array, intp, like), lambda b, of, array, k, like: _read(b, array, k, of))
def load(array: Any, k: int, like: Any) -> Any:
    """The vector ``array[k]``, ``array[k + 1]``, ...; past the end of the array it may be anything."""
    vector, inside = np.zeros_like(like), array[k : k + len(like)]
    vector[: len(inside)] = inside
    return vector


@_operation(lambda array, k, vector: void(array, intp, vector), lambda b, of, *args: _write(b, *args))
def store(array: Any, k: int, vector: Any) -> None:
    """Write the vector to ``array[k]``, ``array[k + 1]``, ..."""
    inside = array[k : k + len(vector)]
    inside[:] = vector[: len(inside)]


@_operation(lambda array, k: array.dtype(array, intp), lambda b, of, array, k: b.load(array(k)))
def load_scalar(array: Any, k: int) -> Any:
    """``array[k]`` for k >= 0, without the test for a negative k that Numba makes each time."""
    return array[k]


@_operation(
    lambda array, k, value: void(array, intp, array.dtype),
    lambda b, of, array, k, value: b.store(value, array(k)),
)
def store_scalar(array: Any, k: int, value: Any) -> None:
    """``array[k] = value`` for k >= 0, without that test."""
    array[k] = value


def _type_of_splat(array: Any, number: Any, like: Any) -> Any:
    return Vector(array.dtype, like.count)(array, array.dtype, like)


@_operation(_type_of_splat, lambda b, of, array, number, like: _splat(b, number, of))
def splat(array: Any, number: Any, like: Any) -> Any:
    """`number`, of the array's type, as often as `like` has entries."""
    return np.full(len(like), number, array.dtype)


@_operation(
    _type_of_splat,
    lambda b, of, array, first, like: b.add(_splat(b, first, of), ir.Constant(of, list(range(of.count)))),
)
def iota(array: Any, first: int, like: Any) -> Any:
    """first, first + 1, ..., of the array's type (integers), as many as `like` has entries."""
    return np.arange(first, first + len(like), dtype=array.dtype)


@_operation(
    lambda sums, factor, vector: sums(sums, sums.dtype, sums),
    lambda b, of, sums, factor, vector: _fused(b, _splat(b, factor, of), vector, sums),
)
def muladd(sums: Any, factor: Any, vector: Any) -> Any:
    """``sums + factor * vector``, in one instruction and rounded once where the processor can."""
    return sums + factor * vector


@_operation(
    lambda sums, number, vector: sums(sums, sums.dtype, sums),
    lambda b, of, sums, number, vector: _squared(b, b.fsub(_splat(b, number, of), vector), sums),
)
def add_squares(sums: Any, number: Any, vector: Any) -> Any:
    """``sums + (number - vector) ** 2``: the product is rounded only with the sum where the processor can."""
    return sums + (number - vector) * (number - vector)


def _type_of_greater(x: Any, y: Any) -> Any:
    return Vector(types.boolean, x.count)(x, x)


@_operation(_type_of_greater, lambda b, of, x, y: b.fcmp_ordered(">", x, y))
def greater(x: Any, y: Any) -> Any:
    """Where x > y, entry by entry; nowhere where either is NaN."""
    return x > y


@_operation(_type_of_greater, lambda b, of, x, y: b.and_(b.fcmp_unordered(">", x, y), b.fcmp_ordered("ord", y, y)))
def greater_or_nan(x: Any, y: Any) -> Any:
    """Where x > y, or x is NaN and y is not."""
    return ((x > y) | np.isnan(x)) & ~np.isnan(y)


@_operation(lambda where, x, y: x(where, x, x), lambda b, of, where, x, y: b.select(where, x, y))
def select(where: Any, x: Any, y: Any) -> Any:
    """The entries of x there, those of y elsewhere."""
    return np.where(where, x, y)


def _emit_nonzero_mask(b: Any, of: Any, array: Any, k: Any, like: Any) -> Any:
    values = _read(b, array, k, like.type)
    flags = b.fcmp_unordered("!=", values, ir.Constant(values.type, None))
    mask = b.bitcast(flags, ir.IntType(flags.type.count))
    return mask if flags.type.count == 64 else b.zext(mask, of)


@_operation(lambda array, k, like: types.uint64(array, intp, like), _emit_nonzero_mask)
def nonzero_mask(array: Any, k: int, like: Any) -> Any:
    """An integer whose bit e is set where ``array[k + e]`` is not 0 (NaN is not): up to 64 entries."""
    return np.uint64(sum(1 << e for e in range(len(like)) if array[k + e] != 0))


def _emit_compress_store(b: Any, of: Any, array: Any, k: Any, vector: Any, mask: Any) -> None:
    flags = b.bitcast(b.trunc(mask, ir.IntType(vector.type.count)), ir.VectorType(ir.IntType(1), vector.type.count))
    if binding.llvm_version_info >= (19, 0, 0):
        name, undefined = "llvm.experimental.vector.compress", ir.Constant(vector.type, ir.Undefined)
        _write(b, array, k, _call(b, name, vector.type, vector.type, vector, flags, undefined))
    else:  # slower on some processors
        address = array(k, vector.type.count)
        _call(b, "llvm.masked.compressstore", vector.type, ir.VoidType(), vector, address, flags)


@_operation(lambda array, k, vector, mask: void(array, intp, vector, types.uint64), _emit_compress_store)
def compress_store(array: Any, k: int, vector: Any, mask: Any) -> None:
    """Write only the entries whose bit is set in `mask` to ``array[k]``, ``array[k + 1]``, ...

    The entries after them, up to one vector, may be overwritten with anything.
    """
    chosen = [entry for e, entry in enumerate(vector) if int(mask) >> e & 1]
    array[k : k + len(chosen)] = chosen


@_operation(lambda mask: types.int64(types.uint64), lambda b, of, mask: b.ctpop(mask))
def popcount(mask: Any) -> int:
    """How many bits are set."""
    return int(mask).bit_count()


def _type_of_transpose(out: Any, dst: Any, out_step: Any, x: Any, src: Any, x_step: Any, like: Any) -> Any:
    return void(out, intp, intp, x, intp, intp, like)


def _emit_transpose(b: Any, of: Any, out: Any, dst: Any, out_step: Any, *rest: Any) -> None:
    x, src, x_step, like = rest
    size = like.type.count

    def row(first: Any, step: Any, r: int) -> Any:
        return b.add(first, b.mul(step, ir.Constant(step.type, r)))

    rows = [_read(b, x, row(src, x_step, r), like.type) for r in range(size)]
    distance = 1
    while distance < size:  # rows r and r + distance swap their off-diagonal quarters, at distances 1, 2, 4, ...
        upper = [c if not c & distance else size + c - distance for c in range(size)]
        lower = [c + distance if not c & distance else size + c for c in range(size)]
        for r in range(size):
            if not r & distance:
                pair = rows[r], rows[r + distance]
                rows[r] = _shuffle(b, *pair, upper)
                rows[r + distance] = _shuffle(b, *pair, lower)
        distance *= 2
    for r in range(size):
        _write(b, out, row(dst, out_step, r), rows[r])


@_operation(_type_of_transpose, _emit_transpose)
def transpose_square(out: Any, dst: int, out_step: int, x: Any, src: int, x_step: int, like: Any) -> None:
    """``out[dst + c * out_step + r] = x[src + r * x_step + c]`` for as many r and c as `like` has entries."""
    for r in range(len(like)):
        for c in range(len(like)):
            out[dst + c * out_step + r] = x[src + r * x_step + c]


def _emit_no_unroll(b: Any, of: Any) -> None:
    b.call(ir.InlineAsm(ir.FunctionType(ir.VoidType(), []), "", "", side_effect=True), [], attrs=["convergent"])


@_operation(lambda: void(), _emit_no_unroll)
def no_unroll() -> None:
    """Keep LLVM from unrolling the loop that this stands in.

    An unrolled loop over a short list of unknown length ends twice; each end is a branch that is often mispredicted.
    """


def _read(b: Any, array: Any, k: Any, vector: Any) -> Any:
    values = b.load(b.bitcast(array(k, vector.count), vector.as_pointer()))
    values.align = _bits(vector) // 8  # an array may start anywhere
    return values


def _write(b: Any, array: Any, k: Any, values: Any) -> None:
    address = b.bitcast(array(k, values.type.count), values.type.as_pointer())
    b.store(values, address).align = _bits(values.type) // 8


def _splat(b: Any, scalar: Any, vector: Any) -> Any:
    undefined = ir.Constant(vector, ir.Undefined)
    first = b.insert_element(undefined, scalar, ir.Constant(_int32, 0))
    return _shuffle(b, first, undefined, [0] * vector.count)


def _shuffle(b: Any, x: Any, y: Any, order: list[int]) -> Any:
    """The entries `order` of x followed by y."""
    return b.shuffle_vector(x, y, ir.Constant(ir.VectorType(_int32, len(order)), order))


def _fused(b: Any, x: Any, y: Any, sums: Any) -> Any:
    """LLVM's x * y + sums: one instruction where the processor has it."""
    return _call(b, "llvm.fmuladd", sums.type, sums.type, x, y, sums)


def _squared(b: Any, x: Any, sums: Any) -> Any:
    return _fused(b, x, x, sums)


def _call(b: Any, name: str, vector: Any, of: Any, *arguments: Any) -> Any:
    """Call an intrinsic of LLVM, which has one version for each type of vectors."""
    kind = "i" if isinstance(vector.element, ir.IntType) else "f"
    function = ir.FunctionType(of, [argument.type for argument in arguments])
    name = f"{name}.v{vector.count}{kind}{_bits(vector)}"
    return b.call(get_or_insert_function(b.module, function, name), arguments)


def _bits(vector: Any) -> int:
    """Bits of an entry."""
    entry = vector.element
    return entry.width if isinstance(entry, ir.IntType) else 32 if isinstance(entry, ir.FloatType) else 64
