"""The pieces of work that LLVM does not find in plain loops, written in its own instructions: four tiles.

    dense       out[i + r, f + c] += sum over k of x[i + r, k] w[k, f + c]             r < rows, c < columns
    listed      the same for k = index[0], ..., index[count - 1] only
    squares     out[i + r, f + c]  = sum over k of (x[i + r, k] - w[k, f + c])^2
    transposed  out[j + c, i + r]  = x[i + r, j + c]                                   r, c < lanes

LLVM vectorises a loop, but it does not keep a block of sums in registers around another loop: each sum would
be read and written for every few products, which halves the speed. Here the sums stay in vector registers from
the first product to the last, one fused multiply-add per vector. Each tile has its meaning beside it in plain
Python, which is also what runs under ``NUMBA_DISABLE_JIT=1``.

Every entry of out is one chain of fused multiply-adds in ascending order of k. A product with a zero factor
leaves its sum as it is, so a list that leaves out zeros gives the bits of the dense tile.

Source: K. Goto, R. van de Geijn, "Anatomy of high-performance matrix multiplication", ACM TOMS 34, 2008
(register blocking); E. Georganas et al., "High-performance deep learning via a single building block", 2019.
"""

from typing import Any

from llvmlite import binding, ir
from numba import config, types
from numba.core import cgutils
from numba.extending import intrinsic


def _vector_bytes() -> int:
    features = binding.get_host_cpu_features()
    return 64 if features.get("avx512f") else 32 if features.get("avx2") else 16


VECTOR_BYTES = _vector_bytes()
# Rows and vectors of a dense tile: with the vectors of w, the sums must fit the 32 (with AVX2: 16) registers,
# and there must be enough of them to hide the latency of a multiply-add, which takes about 8.
ROWS, VECTORS = (4, 2) if VECTOR_BYTES == 32 else (8, 2)


def dense_tile(rows: int, vectors: int) -> Any:
    """``tile(out, i, f, x, w, k0, k1)``: add the products k0..k1-1 to `rows` x `vectors` vectors of out."""

    def tile(out, i, f, x, w, k0, k1):  # type: ignore[no-untyped-def]
        columns = slice(f, f + vectors * lanes(out))
        for k in range(k0, k1):
            out[i : i + rows, columns] += x[i : i + rows, k, None] * w[k, columns]

    def compiled(typing_context, out, i, f, x, w, k0, k1):  # type: ignore[no-untyped-def]
        def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
            code = _Code(context, builder, signature.args[0], vectors)
            (out, i, f, x, w, k0, k1), of = arguments, signature.args
            start = [code.address(of[0], out, builder.add(i, code.number(r)), f) for r in range(rows)]
            # the address of x[i + r, 0] does not change in the loop
            x_rows = [code.address(of[3], x, builder.add(i, code.number(r)), code.number(0)) for r in range(rows)]
            x_step, w_row = code.strides(of[3], x)[1], code.address(of[4], w, code.number(0), f)
            w_step = code.strides(of[4], w)[0]

            def factors(k):  # type: ignore[no-untyped-def]
                offset = builder.mul(k, x_step)
                return [code.load(builder.gep(row, [offset])) for row in x_rows], builder.mul(k, w_step)

            return code.products(start, w_row, factors, k0, k1)

        return types.void(out, types.intp, types.intp, x, w, types.intp, types.intp), generate

    return tile if config.DISABLE_JIT else intrinsic(compiled)


def listed_tile(rows: int, vectors: int) -> Any:
    """``tile(out, i, f, x, w, index, count)``: add the products of k = index[0], ..., index[count - 1]."""

    def tile(out, i, f, x, w, index, count):  # type: ignore[no-untyped-def]
        columns = slice(f, f + vectors * lanes(out))
        for k in index[:count]:
            out[i : i + rows, columns] += x[i : i + rows, k, None] * w[k, columns]

    def compiled(typing_context, out, i, f, x, w, index, count):  # type: ignore[no-untyped-def]
        def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
            code = _Code(context, builder, signature.args[0], vectors)
            (out, i, f, x, w, index, count), of = arguments, signature.args
            start = [code.address(of[0], out, builder.add(i, code.number(r)), f) for r in range(rows)]
            x_rows = [code.address(of[3], x, builder.add(i, code.number(r)), code.number(0)) for r in range(rows)]
            x_step, w_row = code.strides(of[3], x)[1], code.address(of[4], w, code.number(0), f)
            w_step = code.strides(of[4], w)[0]

            def factors(s):  # type: ignore[no-untyped-def]
                k = builder.load(builder.bitcast(code.address(of[5], index, s), ir.IntType(32).as_pointer()))
                k = builder.sext(k, code.int)
                offset = builder.mul(k, x_step)
                return [code.load(builder.gep(row, [offset])) for row in x_rows], builder.mul(k, w_step)

            return code.products(start, w_row, factors, code.number(0), count)

        return types.void(out, types.intp, types.intp, x, w, index, types.intp), generate

    return tile if config.DISABLE_JIT else intrinsic(compiled)


def squares_tile(rows: int, vectors: int) -> Any:
    """``tile(out, i, f, x, w)``: the squared distances of `rows` rows of x and columns f, f + 1, ... of w."""

    def tile(out, i, f, x, w):  # type: ignore[no-untyped-def]
        columns = slice(f, f + vectors * lanes(out))
        out[i : i + rows, columns] = 0
        for k in range(x.shape[1]):
            out[i : i + rows, columns] += (x[i : i + rows, k, None] - w[k, columns]) ** 2

    def compiled(typing_context, out, i, f, x, w):  # type: ignore[no-untyped-def]
        def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
            code = _Code(context, builder, signature.args[0], vectors)
            (out, i, f, x, w), of = arguments, signature.args
            start = [code.address(of[0], out, builder.add(i, code.number(r)), f) for r in range(rows)]
            x_rows = [code.address(of[3], x, builder.add(i, code.number(r)), code.number(0)) for r in range(rows)]
            x_step, w_row = code.strides(of[3], x)[1], code.address(of[4], w, code.number(0), f)
            w_step = code.strides(of[4], w)[0]

            def factors(k):  # type: ignore[no-untyped-def]
                offset = builder.mul(k, x_step)
                return [code.load(builder.gep(row, [offset])) for row in x_rows], builder.mul(k, w_step)

            made = context.make_array(of[3])(context, builder, x)
            count = builder.extract_value(made.shape, 1)
            return code.products(start, w_row, factors, code.number(0), count, squares=True)

        return types.void(out, types.intp, types.intp, x, w), generate

    return tile if config.DISABLE_JIT else intrinsic(compiled)


def transposed_tile() -> Any:
    """``tile(out, j, i, x)``: out[j + c, i + r] = x[i + r, j + c] for r, c < `lanes`."""

    def tile(out, j, i, x):  # type: ignore[no-untyped-def]
        size = lanes(out)
        out[j : j + size, i : i + size] = x[i : i + size, j : j + size].T

    def compiled(typing_context, out, j, i, x):  # type: ignore[no-untyped-def]
        def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
            code = _Code(context, builder, signature.args[0], 1)
            (out, j, i, x), of = arguments, signature.args
            size = code.lanes
            rows = [code.load_vector(code.address(of[3], x, builder.add(i, code.number(r)), j), 0) for r in range(size)]
            # Rows r and r + distance swap their off-diagonal quarters, at every distance 1, 2, 4, ...
            distance = 1
            while distance < size:
                upper = [c if not c & distance else size + c - distance for c in range(size)]
                lower = [c + distance if not c & distance else size + c for c in range(size)]
                for r in range(size):
                    if not r & distance:
                        a, b = rows[r], rows[r + distance]
                        rows[r], rows[r + distance] = code.shuffle(a, b, upper), code.shuffle(a, b, lower)
                distance *= 2
            for c in range(size):
                code.store_vector(rows[c], code.address(of[0], out, builder.add(j, code.number(c)), i), 0)
            return context.get_dummy_value()

        return types.void(out, types.intp, types.intp, x), generate

    return tile if config.DISABLE_JIT else intrinsic(compiled)


def lanes(out: Any) -> int:
    """Numbers of out's type in one vector."""
    return VECTOR_BYTES // int(out.itemsize)


class _Code:
    """Writes the instructions of a tile."""

    def __init__(self, context: Any, builder: Any, out: Any, vectors: int) -> None:
        self.context, self.builder, self.vectors = context, builder, vectors
        self.float = context.get_value_type(out.dtype)
        self.size = self.float.get_abi_size(context.target_data)
        self.lanes = VECTOR_BYTES // self.size
        self.vector = ir.VectorType(self.float, self.lanes)
        self.int = ir.IntType(64)

    def number(self, value: int) -> Any:
        return ir.Constant(self.int, value)

    def strides(self, array_type: Any, array: Any) -> Any:
        """Bytes from one entry to the next, for each axis."""
        made = self.context.make_array(array_type)(self.context, self.builder, array)
        return cgutils.unpack_tuple(self.builder, made.strides, array_type.ndim)

    def address(self, array_type: Any, array: Any, *index: Any) -> Any:
        """Address of array[index], in bytes."""
        made = self.context.make_array(array_type)(self.context, self.builder, array)
        at = self.builder.bitcast(made.data, ir.IntType(8).as_pointer())
        for i, stride in zip(index, self.strides(array_type, array), strict=True):
            at = self.builder.gep(at, [self.builder.mul(i, stride)])
        return at

    def load(self, address: Any) -> Any:
        return self.builder.load(self.builder.bitcast(address, self.float.as_pointer()))

    def products(self, out: Any, w: Any, factors: Any, first: Any, last: Any, squares: bool = False) -> Any:
        """The loop: every row of sums gains factor times row of w, for first <= k < last.

        With `squares`, the sums start at zero and gain the square of factor minus row of w.
        """
        b, before = self.builder, self.builder.block
        zero = ir.Constant(self.vector, [0.0] * self.lanes)
        sums = [zero if squares else self.load_vector(row, v) for row in out for v in range(self.vectors)]
        loop, end = b.append_basic_block("products"), b.append_basic_block("done")
        b.cbranch(b.icmp_signed("<", first, last), loop, end)
        b.position_at_end(loop)
        k = b.phi(self.int)
        running = [b.phi(self.vector) for _ in sums]
        scalars, offset = factors(k)
        row = [self.load_vector(b.gep(w, [offset]), v) for v in range(self.vectors)]
        products = [(self.broadcast(scalar), vector) for scalar in scalars for vector in row]
        if squares:
            products = [(b.fsub(x, w), None) for x, w in products]
            products = [(difference, difference) for difference, _ in products]
        add = self.multiply_add()
        done = [b.call(add, [x, w, total]) for (x, w), total in zip(products, running, strict=True)]
        # This does nothing; LLVM must not copy it, so it does not unroll the loop, which is slower and slow to compile.
        nothing = ir.FunctionType(ir.VoidType(), [])
        b.call(ir.InlineAsm(nothing, "", "", side_effect=True), [], attrs=["convergent"])
        after = b.add(k, self.number(1))
        b.cbranch(b.icmp_signed("<", after, last), loop, end)
        for phi, start, step in [(k, first, after), *zip(running, sums, done, strict=True)]:
            phi.add_incoming(start, before)
            phi.add_incoming(step, loop)
        b.position_at_end(end)
        for number, (start, step) in enumerate(zip(sums, done, strict=True)):
            total = b.phi(self.vector)
            total.add_incoming(start, before)
            total.add_incoming(step, loop)
            sums[number] = total
        for number, total in enumerate(sums):
            self.store_vector(total, out[number // self.vectors], number % self.vectors)
        return self.context.get_dummy_value()

    def multiply_add(self) -> Any:
        """LLVM's x * y + z: one instruction, rounded once, where the processor has it."""
        of_vectors = ir.FunctionType(self.vector, [self.vector] * 3)
        name = f"llvm.fmuladd.v{self.lanes}f{8 * self.size}"
        return cgutils.get_or_insert_function(self.builder.module, of_vectors, name)

    def broadcast(self, scalar: Any) -> Any:
        undefined = ir.Constant(self.vector, ir.Undefined)
        one = self.builder.insert_element(undefined, scalar, ir.Constant(ir.IntType(32), 0))
        return self.shuffle(one, undefined, [0] * self.lanes)

    def shuffle(self, a: Any, b: Any, order: list[int]) -> Any:
        """The vector of entries `order` of a followed by b."""
        mask = ir.Constant(ir.VectorType(ir.IntType(32), len(order)), order)
        return self.builder.shuffle_vector(a, b, mask)

    def load_vector(self, address: Any, number: int) -> Any:
        vector = self.builder.load(self._vector_address(address, number))
        vector.align = self.size  # arrays start anywhere
        return vector

    def store_vector(self, vector: Any, address: Any, number: int) -> None:
        self.builder.store(vector, self._vector_address(address, number)).align = self.size

    def _vector_address(self, address: Any, number: int) -> Any:
        at = self.builder.gep(address, [self.number(number * VECTOR_BYTES)])
        return self.builder.bitcast(at, self.vector.as_pointer())
