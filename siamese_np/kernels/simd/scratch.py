"""What the convolution kernels share: shards of a batch, memory in whole vectors, images between black margins."""

import numpy as np

from siamese_np.kernels.simd.vectors import PAIR, VECTOR_BYTES, load_scalar, store_scalar
from siamese_np.runtime.inline import array_part, part

IMAGES, SHARDS = 4, 16  # least images that a thread takes at a time, and most shards of a batch


@part
def shard_size(N):
    """Images in a shard of a batch of N: it depends on nothing else, so neither does the order of any sum."""
    return max(IMAGES, -(-N // SHARDS))


@array_part
def aligned(size, like):
    """A new array of `size` numbers at a multiple of a vector's bytes; PAIR vectors more may be read behind its end.

    `like` is flat wherever this is called: for each number of dimensions there would be another version to compile.
    """
    vector = VECTOR_BYTES // like.itemsize
    room = np.empty(size + (PAIR + 1) * vector, like.dtype)
    clear(room, size, room.size - size)
    first = (VECTOR_BYTES - room.ctypes.data % VECTOR_BYTES) % VECTOR_BYTES // like.itemsize
    return room[first : first + size]


@array_part
def aligned_zeros(size, like):
    """`aligned`, full of zeros."""
    room = aligned(size, like)
    clear(room, 0, size)
    return room


@part
def clear(out, to, count):
    """`count` zeros, from out[to] on."""
    for k in range(to, to + count):
        store_scalar(out, k, out.dtype.type(0))


@part
def copy(out, to, source, at, count):
    """`count` numbers of out, from out[to] on, from those of `source` from source[at] on."""
    for k in range(count):
        store_scalar(out, to + k, load_scalar(source, at + k))


@part
def round_up(count, like):
    """`count`, rounded up to a multiple of the numbers in PAIR vectors."""
    lanes = PAIR * VECTOR_BYTES // like.itemsize
    return (count + lanes - 1) // lanes * lanes


@array_part
def pad_to_vector(flat, F, FP):
    """Copy of rows of F numbers, each filled up with zeros to FP."""
    K = flat.size // F
    out = aligned_zeros(K * FP, flat)
    for k in range(K):
        copy(out, k * FP, flat, k * F, F)
    return out


@array_part
def empty_padded(H, W, C, pad, like):
    """Room for an image (H, W, C) between black margins, flat."""
    return aligned_zeros((H + 2 * pad[0]) * (W + 2 * pad[1]) * C, like)


@part
def pad_image(padded, x, pad):
    """Copy x (H, W, C) between the margins."""
    H, W, C = x.shape
    flat = x.reshape(-1)
    for r in range(H):
        copy(padded, ((pad[0] + r) * (W + 2 * pad[1]) + pad[1]) * C, flat, r * W * C, W * C)


@array_part
def empty_edges(H, W, pad):
    """Room for the edges of the rows of a padded image: where black ends, and begins again."""
    edges = np.empty((H + 2 * pad[0], 2), np.int64)
    for r in range(len(edges)):
        edges[r, 0], edges[r, 1] = W + 2 * pad[1], 0
    return edges


@part
def find_edges(edges, x, pad):
    """The edges of x (H, W, C), as it lies between the margins."""
    H, W, C = x.shape
    flat = x.reshape(-1)
    for r in range(H):
        first, left, right = r * W * C, 0, W * C
        while left < right and load_scalar(flat, first + left) == 0:
            left += 1
        while left < right and load_scalar(flat, first + right - 1) == 0:
            right -= 1
        edges[pad[0] + r, 0] = pad[1] + left // C
        edges[pad[0] + r, 1] = pad[1] + (right + C - 1) // C if left < right else 0


@part
def is_black(edges, top, bottom, left, right):
    """Whether rows top to bottom - 1 of a padded image are 0 in columns left to right - 1, as the edges tell."""
    for r in range(top, bottom):  # noqa: SIM110  (compiled code knows no generators)
        if edges[r, 0] < right and edges[r, 1] > left:
            return False
    return True


@part
def all_finite(w, at, step, K, F):
    """Whether all of w (K, F), flat, from w[at] on, rows `step` apart, is finite."""
    bad = False
    for k in range(K):
        for f in range(at + k * step, at + k * step + F):
            bad |= load_scalar(w, f) - load_scalar(w, f) != 0  # NaN for NaN and for infinity
    return not bad
