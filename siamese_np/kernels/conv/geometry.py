"""Where windows lie: an image between black margins as one flat array, its black parts, and the shards of a batch."""

from typing import NamedTuple

import numpy as np

from siamese_np.kernels.simd.scratch import ceil_div, copy, zeros_aligned
from siamese_np.kernels.simd.vectors import length, load, load_scalar, store, store_scalar, zeros
from siamese_np.runtime.jit import inlined

MIN_IMAGES, MAX_SHARDS = 4, 16  # images in a shard, shards of a batch


class Geometry(NamedTuple):
    """The windows in a padded image: window (i, j) has `KH` rows of `width` entries, `line` apart.

    It begins in row i * `down`, at entry j * `right` of it.
    """

    KH: int
    width: int  # KW * C
    line: int  # (W + 2 * pad[1]) * C
    down: int
    right: int  # stride[1] * C
    pad: tuple[int, int]


@inlined
def geometry_of(x, w, stride, pad):
    """The `Geometry` of x (N, H, W, C) convolved with w (KH, KW, C, F)."""
    _, _, W, C = x.shape
    KH, KW, _, _ = w.shape
    return Geometry(KH, KW * C, (W + 2 * pad[1]) * C, stride[0], stride[1] * C, pad)


@inlined
def images_per_shard(N):
    """It depends on nothing but the size N of the batch, so neither does the order of any sum."""
    return max(MIN_IMAGES, ceil_div(N, MAX_SHARDS))


@inlined
def count_shards(N):
    """Number of shards of a batch of N images."""
    return ceil_div(N, images_per_shard(N))


@inlined
def images_of(shard, N):
    """The range of a shard's images."""
    size = images_per_shard(N)
    return range(shard * size, min((shard + 1) * size, N))


@inlined(arrays=True)
def empty_padded(x, more, geometry, like):
    """Memory for an image of x (N, H, W, C) between black margins, and `more` black rows below."""
    return zeros_aligned((x.shape[1] + 2 * geometry.pad[0] + more) * geometry.line, like)


@inlined
def pad_image(padded, x, geometry):
    """Copy x (H, W, C) between the margins."""
    H, W, C = x.shape
    pad, flat = geometry.pad, x.reshape(-1)
    for r in range(H):
        copy(padded, (pad[0] + r) * geometry.line + pad[1] * C, flat, r * W * C, W * C)


@inlined
def unpad_image(x, padded, geometry):
    """Copy x (H, W, C) from between the margins."""
    H, W, C = x.shape
    pad, flat = geometry.pad, x.reshape(-1)
    for r in range(H):
        copy(flat, r * W * C, padded, (pad[0] + r) * geometry.line + pad[1] * C, W * C)


@inlined(arrays=True)
def empty_edges(x, geometry):
    """Memory for the edges of each row of a padded image: where black ends, and begins again."""
    edges = np.empty((x.shape[1] + 2 * geometry.pad[0], 2), np.int64)
    edges[:, 0], edges[:, 1] = geometry.line, 0
    return edges


@inlined
def find_edges(edges, x, geometry):
    """The edges of x (H, W, C), as it lies between the margins."""
    H, W, C = x.shape
    pad, flat = geometry.pad, x.reshape(-1)
    for r in range(H):
        src, left, right = r * W * C, 0, W * C
        while left < right and load_scalar(flat, src + left) == 0:
            left += 1
        while left < right and load_scalar(flat, src + right - 1) == 0:
            right -= 1
        edges[pad[0] + r, 0] = pad[1] * C + left
        edges[pad[0] + r, 1] = pad[1] * C + right if left < right else 0


@inlined
def outer_edges(edges, top, bottom):
    """The leftmost and the rightmost edge of rows top to bottom - 1: all beyond is black."""
    left, right = edges[top, 0], edges[top, 1]
    for r in range(top + 1, bottom):
        left, right = min(left, edges[r, 0]), max(right, edges[r, 1])
    return left, right


@inlined
def copy_windows(rows, padded, windows, geometry):
    """rows (windows, KH * width) = the windows that begin there."""
    KH, width, like = geometry.KH, geometry.width, zeros(padded, 1)
    for m in range(windows.size):
        for p in range(KH):
            dst, src = (m * KH + p) * width, load_scalar(windows, m) + p * geometry.line
            for k in range(0, width, length(like)):  # what is too much, the next row overwrites
                store(rows, dst + k, load(padded, src + k, like))


@inlined
def add_windows(padded, rows, step, windows, geometry):
    """The windows that begin there += rows, which are `step` apart."""
    for m in range(windows.size):
        for p in range(geometry.KH):
            dst, src = load_scalar(windows, m) + p * geometry.line, m * step + p * geometry.width
            for k in range(geometry.width):
                store_scalar(padded, dst + k, load_scalar(padded, dst + k) + load_scalar(rows, src + k))


@inlined
def add_biases(db, dout, argmax, n):
    """db (F,) += the gradient of image n, where a pixel is selected."""
    flat, size = dout.reshape(-1), dout.size // len(dout)
    none, zero = argmax.dtype.type(4), db.dtype.type(0)
    for first in range(n * size, (n + 1) * size, db.size):
        for f in range(db.size):
            value = load_scalar(flat, first + f)
            if argmax.size:
                value = value if load_scalar(argmax, first + f) < none else zero
            store_scalar(db, f, load_scalar(db, f) + value)
