"""Sizes rounded up, and memory in whole vectors, whose ends can be computed and read like all the rest."""

import numpy as np

from siamese_np.kernels.simd.vectors import PAIR, VECTOR_BYTES, load_scalar, store_scalar
from siamese_np.runtime.jit import inlined


@inlined
def ceil_div(a, b):
    """a / b, rounded up."""
    return (a + b - 1) // b


@inlined
def round_up(count, like):
    """`count`, rounded up to a multiple of the numbers in PAIR vectors."""
    numbers = PAIR * VECTOR_BYTES // like.itemsize
    return ceil_div(count, numbers) * numbers


@inlined(arrays=True)
def empty_aligned(size, like):
    """A new array of `size` numbers, aligned to vectors; up to PAIR vectors may be read past its end.

    `like` is flat wherever this is called: for each number of dimensions there would be another version to compile.
    """
    vector = VECTOR_BYTES // like.itemsize
    memory = np.empty(size + (PAIR + 1) * vector, like.dtype)
    clear(memory, size, memory.size - size)
    first = (VECTOR_BYTES - memory.ctypes.data % VECTOR_BYTES) % VECTOR_BYTES // like.itemsize
    return memory[first : first + size]


@inlined(arrays=True)
def zeros_aligned(size, like):
    """`empty_aligned`, full of zeros."""
    memory = empty_aligned(size, like)
    clear(memory, 0, size)
    return memory


@inlined(arrays=True)
def pad_to_vector(flat, F, FP):
    """Copy of rows of F numbers, each filled up with zeros to FP."""
    K = flat.size // F
    out = zeros_aligned(K * FP, flat)
    for k in range(K):
        copy(out, k * FP, flat, k * F, F)
    return out


@inlined
def clear(out, dst, count):
    """out[dst : dst + count] = 0."""
    for k in range(dst, dst + count):
        store_scalar(out, k, out.dtype.type(0))


@inlined
def copy(out, dst, x, src, count):
    """out[dst : dst + count] = x[src : src + count]."""
    for k in range(count):
        store_scalar(out, dst + k, load_scalar(x, src + k))


@inlined
def all_finite(x, src, step, M, K):
    """Whether M rows of K numbers are finite, `step` apart, from x[src] on."""
    bad = False
    for m in range(M):
        for k in range(src + m * step, src + m * step + K):
            bad |= load_scalar(x, k) - load_scalar(x, k) != 0  # NaN for NaN and for infinity
    return not bad
