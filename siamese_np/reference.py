"""Every kernel's twin in plain NumPy and Python loops: the textbook, slow and obvious.

Same names, same signatures, same conventions at kinks as `siamese_np.kernels`, written from the formulas and
independently of the compiled code, so that each can witness for the other. No numba. The functions take any
float type, and complex numbers too (winners and signs are decided by the real part), so that complex-step
differentiation works on them.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Pair = Sequence[int]


def dense_forward(out: Array, x: Array, w: Array, b: Array) -> None:
    """out (N, E) = x (N, D) @ w (D, E) + b (E,)."""
    out[:] = x @ w + b


def dense_backward(dx: Array, dw: Array, db: Array, dout: Array, x: Array, w: Array) -> None:
    """dx (N, D) = dout (N, E) @ w.T, unless dx is empty; dw += x.T @ dout; db += sum over n of dout."""
    if len(dx):
        dx[:] = dout @ w.T
    dw += x.T @ dout
    db += dout.sum(axis=0)


def conv2d_forward(out: Array, x: Array, w: Array, b: Array, stride: Pair, pad: Pair) -> None:
    """out (N, OH, OW, F) = x (N, H, W, C) convolved with w (KH, KW, C, F), plus b (F,)."""
    KH, KW = w.shape[:2]
    padded = _pad(x, pad)
    for i, j in np.ndindex(out.shape[1:3]):
        patch = padded[:, i * stride[0] : i * stride[0] + KH, j * stride[1] : j * stride[1] + KW]
        out[:, i, j] = np.tensordot(patch, w, axes=3) + b


def conv2d_backward(dx: Array, dw: Array, db: Array, dout: Array, x: Array, w: Array, stride: Pair, pad: Pair) -> None:
    """Every output pixel hands its dout to the patch of x that it saw, to w and to b; dx may be empty (0, H, W, C)."""
    KH, KW = w.shape[:2]
    H, W = x.shape[1:3]
    padded = _pad(x, pad)
    dpadded = np.zeros_like(padded)
    for i, j in np.ndindex(dout.shape[1:3]):
        rows, columns = slice(i * stride[0], i * stride[0] + KH), slice(j * stride[1], j * stride[1] + KW)
        dpadded[:, rows, columns] += np.tensordot(dout[:, i, j], w, axes=(1, 3))
        dw += np.tensordot(padded[:, rows, columns], dout[:, i, j], axes=(0, 0))
    db += dout.sum(axis=(0, 1, 2))
    if len(dx):
        dx[:] = dpadded[:, pad[0] : pad[0] + H, pad[1] : pad[1] + W]


def _pad(x: Array, pad: Pair) -> Array:
    return np.pad(x, ((0, 0), (pad[0], pad[0]), (pad[1], pad[1]), (0, 0)))


def maxpool2d_forward(out: Array, argmax: NDArray[np.integer], x: Array, window: Pair, stride: Pair) -> None:
    """out, argmax (N, OH, OW, C): the first maximum of each window; NaN wins."""
    N, OH, OW, C = out.shape
    for i, j in np.ndindex(OH, OW):
        rows, columns = i * stride[0], j * stride[1]
        entries = x[:, rows : rows + window[0], columns : columns + window[1]].reshape(N, window[0] * window[1], C)
        argmax[:, i, j] = entries.real.argmax(axis=1)  # NumPy takes the first NaN or the first maximum
        out[:, i, j] = np.take_along_axis(entries, argmax[:, i, j, None].astype(int), axis=1)[:, 0]


def maxpool2d_backward(dx: Array, dout: Array, argmax: NDArray[np.integer], window: Pair, stride: Pair) -> None:
    """dx (N, H, W, C) = dout at the winner of each window; windows that overlap add up."""
    dx[:] = 0
    for n, i, j, c in np.ndindex(dout.shape):
        p, q = divmod(int(argmax[n, i, j, c]), window[1])
        dx[n, i * stride[0] + p, j * stride[1] + q, c] += dout[n, i, j, c]


def relu_forward(out: Array, x: Array) -> None:
    """out (M,) = max(x (M,), 0)."""
    out[:] = np.where(x.real <= 0, 0, x)


def relu_backward(dx: Array, dout: Array, out: Array) -> None:
    """dx (M,) = dout where out > 0; the slope at the kink is 0."""
    dx[:] = np.where(out.real > 0, dout, 0)


def conv_relu_pool_forward(
    out: Array,
    argmax: NDArray[np.integer],
    x: Array,
    w: Array,
    b: Array,
    stride: Pair,
    pad: Pair,
) -> None:
    """out, argmax (N, OH, OW, F): convolution, ReLU and 2x2 pooling in a row; argmax is 4 where out is not positive."""
    conv = _conv(x, w, b, stride, pad)
    maxpool2d_forward(out, argmax, conv, (2, 2), (2, 2))
    argmax[~(out.real > 0)] = 4
    relu_forward(out.reshape(-1), out.reshape(-1))


def conv_relu_pool_backward(
    dx: Array,
    dw: Array,
    db: Array,
    dout: Array,
    argmax: NDArray[np.integer],
    x: Array,
    w: Array,
    stride: Pair,
    pad: Pair,
) -> None:
    """Back through pooling and ReLU, where argmax names a winner, and through the convolution."""
    dconv = np.zeros_like(_conv(x, w, np.zeros_like(db), stride, pad))
    for n, i, j, f in np.ndindex(dout.shape):
        if argmax[n, i, j, f] < 4:
            p, q = divmod(int(argmax[n, i, j, f]), 2)
            dconv[n, 2 * i + p, 2 * j + q, f] = dout[n, i, j, f]
    conv2d_backward(dx, dw, db, dconv, x, w, stride, pad)


def _conv(x: Array, w: Array, b: Array, stride: Pair, pad: Pair) -> Array:
    KH, KW, _, F = w.shape
    N, H, W, _ = x.shape
    out = np.empty((N, (H + 2 * pad[0] - KH) // stride[0] + 1, (W + 2 * pad[1] - KW) // stride[1] + 1, F), x.dtype)
    conv2d_forward(out, x, w, b, stride, pad)
    return out


def euclidean_forward(dist: Array, emb_a: Array, emb_b: Array) -> None:
    """dist (N,) = distances between the rows of emb_a and emb_b (N, E)."""
    difference = emb_a - emb_b
    # scaled by the largest difference, so that no square underflows or overflows
    scale = abs(difference.real).max(axis=1, initial=0)
    scale[(scale == 0) | (scale == np.inf)] = 1
    dist[:] = scale * np.sqrt(((difference / scale[:, None]) ** 2).sum(axis=1))


def euclidean_backward(demb_a: Array, demb_b: Array, ddist: Array, emb_a: Array, emb_b: Array, dist: Array) -> None:
    """demb_a = ddist * (emb_a - emb_b) / dist = -demb_b, and exactly 0 at distance 0."""
    safe = np.where(dist == 0, 1, dist)
    slope = (emb_a - emb_b) / safe[:, None]  # at distance 0 the difference itself is 0
    demb_a[:] = ddist[:, None] * slope
    demb_b[:] = -demb_a


def contrastive_forward(loss: Array, dist: Array, label: NDArray[np.integer], margin: float) -> None:
    """loss (N,) = 1/2 (1 - label) dist^2 + 1/2 label max(0, margin - dist)^2; 0 = similar, 1 = dissimilar."""
    hinge = np.where((margin - dist).real <= 0, 0, margin - dist)
    loss[:] = np.where(label == 0, dist**2, hinge**2) / 2


def contrastive_backward(ddist: Array, dloss: Array, dist: Array, label: NDArray[np.integer], margin: float) -> None:
    """ddist (N,) = dloss * dist if similar, -dloss * max(0, margin - dist) if dissimilar."""
    hinge = np.where((margin - dist).real <= 0, 0, margin - dist)
    ddist[:] = dloss * np.where(label == 0, dist, -hinge)


def all_pairs_forward(dist: Array, sums: Array, emb: Array, classes: NDArray[np.integer], margin: float) -> None:
    """dist (N, N) = distances of emb (N, E); sums (N, 2) = each row's loss over its similar and dissimilar pairs."""
    loss = np.empty_like(dist[0])
    for i in range(len(emb)):
        label = (classes != classes[i]).astype(int)
        euclidean_forward(dist[i], np.broadcast_to(emb[i], emb.shape), emb)
        contrastive_forward(loss, dist[i], label, margin)
        sums[i] = loss[label == 0].sum(), loss[label == 1].sum()


def all_pairs_backward(
    demb: Array, weight: Array, dist: Array, emb: Array, classes: NDArray[np.integer], margin: float
) -> None:
    """demb (N, E): chain rule through contrastive loss and distance, pair by pair."""
    ddist, demb_a, demb_b = np.empty_like(dist[0]), np.empty_like(emb), np.empty_like(emb)
    for i in range(len(emb)):
        label = (classes != classes[i]).astype(int)
        mine = np.broadcast_to(emb[i], emb.shape)
        contrastive_backward(ddist, weight[label], dist[i], label, margin)
        euclidean_backward(demb_a, demb_b, ddist, mine, emb, dist[i])
        demb[i] = demb_a.sum(axis=0)


def fill_zero(out: Array, chunks: NDArray[np.integer]) -> None:
    """out (P,) = 0."""
    out[:] = 0


def sgd_step(
    w: Array, velocity: Array, dw: Array, chunks: NDArray[np.integer], learning_rate: float, momentum: float
) -> None:
    """Momentum step on w and velocity (P,)."""
    velocity[:] = momentum * velocity + dw
    w -= learning_rate * velocity


def adam_step(
    w: Array,
    m: Array,
    v: Array,
    dw: Array,
    chunks: NDArray[np.integer],
    learning_rate: float,
    beta1: float,
    beta2: float,
    epsilon: float,
    correction1: float,
    correction2: float,
) -> None:
    """Adam step on w, m and v (P,)."""
    m[:] = beta1 * m + (1 - beta1) * dw
    v[:] = beta2 * v + (1 - beta2) * dw**2
    w -= learning_rate * (m / correction1) / (np.sqrt(v / correction2) + epsilon)


def nearest_rows(squares: Array, indices: NDArray[np.integer], query: Array, gallery: Array) -> None:
    """squares, indices (Q, k): the k smallest squared distances of each query (Q, E) to gallery (G, E)."""
    for q in range(len(query)):
        every = ((query[q] - gallery) ** 2).sum(axis=1)
        indices[q] = np.argsort(every, kind="stable")[: squares.shape[1]]
        squares[q] = every[indices[q]]


def pair_squares(squares: Array, emb: Array, first: NDArray[np.integer], last: NDArray[np.integer]) -> None:
    """squares (S,) of the pairs (i, j), first[i] <= j < last[i], one image after another, of emb (N, E)."""
    pairs = [(i, j) for i in range(len(emb)) for j in range(first[i], last[i])]
    squares[:] = [((emb[i] - emb[j]) ** 2).sum() for i, j in pairs]


def pair_ranks(
    below: NDArray[np.integer],
    equal: NDArray[np.integer],
    values: Array,
    emb: Array,
    first: NDArray[np.integer],
    last: NDArray[np.integer],
) -> None:
    """Count each square of the pairs (i, j), first[i] <= j < last[i], below or at its place among values (S,)."""
    for i in range(len(emb)):
        for j in range(first[i], last[i]):
            square = ((emb[i] - emb[j]) ** 2).sum()
            place = int(np.searchsorted(values, square))
            if place < len(values) and values[place] == square:
                equal[place] += 1
            else:
                below[place] += 1
