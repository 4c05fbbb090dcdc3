"""Sliding windows: the pixels that one entry of a window sees, for all places of the window at once.

A window of KH x KW pixels moves over an image by `stride`. At place (i, j) its entry (p, q) lies on the pixel
(i*sh + p, j*sw + q). With (p, q) fixed, these pixels are a strided slice: reading it takes one number from every
window, adding to it gives one number back to every window.
"""


def count(shape, window, stride):
    """How often a window (KH, KW) fits into `shape` (H, W): OH, OW."""
    return tuple((length - size) // step + 1 for length, size, step in zip(shape, window, stride, strict=True))


def seen_by(p, q, places, stride):
    """Index of the pixels under entry (p, q) of every window, into images (N, H, W, C); `places` is (OH, OW)."""
    rows = slice(p, p + places[0] * stride[0], stride[0])
    columns = slice(q, q + places[1] * stride[1], stride[1])
    return slice(None), rows, columns
