"""Seeded faults in backward passes; checkers.py shows which checkers see them.

Each fault is a small function over the textbook's passes: the gradients as they should be, and what a plausible
mistake makes of them. A fault that changes no gradient is marked equivalent, with its reason.
"""

import functools
import math
import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from siamese_np import textbook
from siamese_np.gradcheck.adapters import function_case
from siamese_np.gradcheck.case import Case
from siamese_np.gradcheck.engine import Options, check_case

Arrays = list[np.ndarray]
Gradients = tuple[np.ndarray, ...]
Backward = Callable[..., Gradients]


@dataclass(frozen=True)
class Operation:
    """A correct pass: ``forward(*arrays) -> out``, ``backward(dout, *arrays) -> gradients``, and points to check."""

    forward: Callable[..., np.ndarray]
    backward: Backward
    points: Callable[[np.random.Generator], list[Arrays]]
    signature: Callable[..., np.ndarray] | None = None


@dataclass(frozen=True)
class Mutant:
    """A fault: what it makes of the gradients; `hint` is a pattern that a helpful hint matches."""

    operation: str
    fault: str
    backward: Backward
    hint: str
    equivalent: str = ""

    @property
    def name(self) -> str:
        return f"{self.operation}: {self.fault}"


# --- the correct passes -----------------------------------------------------------------------------------


def conv(stride: tuple[int, int], pad: tuple[int, int], shape: Sequence[int], window: tuple[int, int]) -> Operation:
    """Convolution of as many filters as channels."""

    def forward(x, w, b):
        return textbook.conv2d_forward(x, w, b, stride, pad)[0]

    def backward(dout, x, w, b):
        return conv_backward(dout, x, w, b, stride, pad)

    def points(rng):
        C = shape[-1]
        return [[rng.standard_normal(shape), rng.standard_normal((*window, C, C)), rng.standard_normal(C)]]

    return Operation(forward, backward, points)


def conv_backward(dout, x, w, b, stride=(1, 1), pad=(1, 1)):
    return textbook.conv2d_backward(dout, (x, w, stride, pad))


def dense_forward(x, w, b):
    return textbook.dense_forward(x, w, b)[0]


def dense_backward(dout, x, w, b):
    return textbook.dense_backward(dout, (x, w))


def dense_points(rng):
    return [[rng.standard_normal((4, 4)), rng.standard_normal((4, 4)), rng.standard_normal(4)]]


def small_points(rng):
    x, w, b = dense_points(rng)[0]
    return [[x, 1e-7 * w, 1e-7 * b]]


def relu_forward(x):
    return textbook.relu_forward(x)[0]


def relu_backward(dout, x):
    return (textbook.relu_backward(dout, textbook.relu_forward(x)[1]),)


def relu_points(rng):
    x = rng.permutation(np.array([-1.3, -0.9, -0.6, -0.4, 0.006, 0.3, 0.7, 0.8, 1.1, 1.5])).reshape(2, 5)
    at = np.where(rng.random(x.shape) < 0.3, 0.0, x)
    at[0, 0] = 0
    return [[x], [at]]


def pool(window: tuple[int, int], stride: tuple[int, int]) -> Operation:
    """Max-pooling; the second point is full of ties."""

    def forward(x):
        return textbook.maxpool2d_forward(x, window, stride)[0]

    def backward(dout, x):
        return (textbook.maxpool2d_backward(dout, textbook.maxpool2d_forward(x, window, stride)[1]),)

    def points(rng):
        shape = (2, 4, 4, 1)
        ties = rng.integers(0, 2, shape).astype(float)
        ties[0, :2, :2] = 0
        return [[rng.permutation(np.arange(32.0)).reshape(shape) / 16], [ties]]

    return Operation(forward, backward, points)


def unpool(dout, x, window, stride, choose=lambda entries: [int(entries.argmax())], add=True, share=1.0):
    """dx of max-pooling, where `choose` says which entries of a window get the gradient."""
    dx = np.zeros_like(x)
    for n, i, j, c in np.ndindex(dout.shape):
        rows, columns = i * stride[0], j * stride[1]
        entries = x[n, rows : rows + window[0], columns : columns + window[1], c].ravel()
        chosen = choose(entries)
        for t in chosen:
            p, q = divmod(t, window[1])
            part = dout[n, i, j, c] * (share if share == 1 else 1 / len(chosen))
            dx[n, rows + p, columns + q, c] = part + (dx[n, rows + p, columns + q, c] if add else 0)
    return dx


def distance_forward(a, b):
    return textbook.euclidean_forward(a, b)[0]


def distance_backward(dout, a, b):
    return textbook.euclidean_backward(dout, textbook.euclidean_forward(a, b)[1])


def distance_points(rng):
    a, b = rng.standard_normal((2, 4, 3))
    equal = b.copy()
    equal[1] = a[1]
    return [[a, b], [a.copy(), equal]]


LABEL, MARGIN = np.array([0, 1, 1, 0, 1, 1]), 1.0


def contrastive_forward(dist):
    return textbook.contrastive_forward(dist, LABEL, MARGIN)[0].mean()


def contrastive_backward(dout, dist):
    return (textbook.contrastive_backward(np.full_like(dist, dout / len(dist)), (dist, LABEL, MARGIN)),)


def pair_kinds(dist):
    return np.where(LABEL == 0, 0, np.where(dist < MARGIN, 1, 2))


def contrastive_points(rng):
    """One without, and one with dissimilar pairs beyond the margin and at it, as after a burn-in."""
    near = rng.uniform(0.1, 0.9, 6)
    far = near.copy()
    far[2], far[4:] = 1.0, rng.uniform(1.2, 2, 2)
    return [[near], [far]]


def siamese_forward(xa, xb, w):
    return distance_forward(np.tanh(xa @ w), np.tanh(xb @ w))


def siamese_parts(dout, xa, xb, w):
    """Gradients of both branches before they are added up."""
    ea, eb = np.tanh(xa @ w), np.tanh(xb @ w)
    da, db = distance_backward(dout, ea, eb)
    za, zb = da * (1 - ea**2), db * (1 - eb**2)
    return za @ w.T, zb @ w.T, xa.T @ za, xb.T @ zb


def siamese_backward(dout, xa, xb, w):
    dxa, dxb, dwa, dwb = siamese_parts(dout, xa, xb, w)
    return dxa, dxb, dwa + dwb


def siamese_points(rng):
    return [[rng.standard_normal((4, 3)), rng.standard_normal((4, 3)), rng.standard_normal((3, 3))]]


def normalise_forward(x, gamma, beta):
    """Batch normalisation of NHWC."""
    c = x - x.mean((0, 1, 2))
    return c / np.sqrt((c**2).mean((0, 1, 2)) + 1e-5) * gamma + beta


def normalise_backward(dout, x, gamma, beta, m=18, through_variance=1):
    axes = (0, 1, 2)
    c = x - x.mean(axes)
    inverse = 1 / np.sqrt((c**2).mean(axes) + 1e-5)
    h, g = c * inverse, dout * gamma
    dx = inverse * (g - g.sum(axes) / m - through_variance * h * (g * h).sum(axes) / m)
    return dx, (dout * h).sum(axes), dout.sum(axes)


def normalise_points(rng):
    return [[rng.standard_normal((2, 3, 3, 2)) + 0.5, rng.uniform(0.5, 2, 2), rng.standard_normal(2)]]


def draws(*shapes: tuple[int, ...], scale: float = 1.0) -> Callable[[np.random.Generator], list[Arrays]]:
    """One point of normal numbers of these shapes."""
    return lambda rng: [[scale * rng.standard_normal(shape) for shape in shapes]]


def phi(x):
    return (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2


def gelu_forward(x):
    return x * phi(x)


def gelu_backward(dout, x):
    return (dout * (phi(x) + x * np.exp(-x * x / 2) / math.sqrt(2 * math.pi)),)


def gelu_tanh_slope(x):
    inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
    t = np.tanh(inner)
    return (1 + t) / 2 + x / 2 * (1 - t * t) * math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * x * x)


def tanh_layer_forward(x, w, b):
    return np.tanh(x @ w + b)


def tanh_layer_backward(dout, x, w, b, slope=lambda dout, y, z: dout * (1 - y * y)):
    z = x @ w + b
    g = slope(dout, np.tanh(z), z)
    return g @ w.T, x.T @ g, g.sum(0)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def sigmoid_backward(dout, x):
    return (dout * sigmoid(x) * (1 - sigmoid(x)),)


def softmax(x):
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def softmax_backward(dout, x):
    y = softmax(x)
    return (y * (dout - (dout * y).sum(axis=1, keepdims=True)),)


CLASSES, CLASS_WEIGHTS, TEMPERATURE = np.array([0, 2, 1, 2, 0]), np.array([0.5, 1.0, 3.0]), 1.7


def cross_entropy_forward(logits):
    chosen = softmax(logits / TEMPERATURE)[np.arange(5), CLASSES]
    return -(CLASS_WEIGHTS[CLASSES] * np.log(chosen)).mean()


def cross_entropy_backward(dout, logits, weights=CLASS_WEIGHTS, temperature=TEMPERATURE, n=5):
    g = (softmax(logits / TEMPERATURE) - np.eye(3)[CLASSES]) * weights[CLASSES][:, None]
    return (dout * g / n / temperature,)


WORDS = np.array([1, 3, 1, 0, 3, 1, 4])


def embedding_backward(dout, table):
    g = np.zeros_like(table)
    np.add.at(g, WORDS, dout)
    return (g,)


def embedding_overwrites(g, dout, table):
    g = np.zeros_like(table)
    g[WORDS] += dout
    return g


def rnn_states(x, wx, wh):
    states = [np.zeros((len(x), wh.shape[0]))]
    for t in range(x.shape[1]):
        states.append(np.tanh(x[:, t] @ wx + states[-1] @ wh))
    return states


def rnn_forward(x, wx, wh):
    return np.stack(rnn_states(x, wx, wh)[1:], 1)


def rnn_backward(dout, x, wx, wh, from_later=1.0):
    states, dx, dwx, dwh = rnn_states(x, wx, wh), np.zeros_like(x), np.zeros_like(wx), np.zeros_like(wh)
    dh = 0.0
    for t in reversed(range(x.shape[1])):
        g = (dout[:, t] + from_later * dh) * (1 - states[t + 1] ** 2)
        dx[:, t] = g @ wx.T
        dwx += x[:, t].T @ g
        dwh += states[t].T @ g
        dh = g @ wh.T
    return dx, dwx, dwh


def upsample_forward(x):
    return x.repeat(2, axis=1).repeat(2, axis=2)


def upsample_backward(dout, x):
    N, H, W, C = x.shape
    return (dout.reshape(N, H, 2, W, 2, C).sum(axis=(2, 4)),)


ELU_ALPHA = 1.5


def elu_forward(x):
    return np.where(x > 0, x, ELU_ALPHA * np.expm1(np.minimum(x, 0)))


def elu_backward(dout, x):
    return (dout * np.where(x > 0, 1, ELU_ALPHA * np.exp(np.minimum(x, 0))),)


def l1_points(rng):
    return [[rng.choice([-1.0, 1.0], (3, 4)) * rng.uniform(0.1, 2, (3, 4))]]


TARGETS, EPSILON = np.array([0, 1, 1, 0, 1, 0.0]), 1e-3


def log_loss_forward(p):
    return -(TARGETS * np.log(p + EPSILON) + (1 - TARGETS) * np.log(1 - p + EPSILON)).mean()


def log_loss_backward(dout, p, epsilon=EPSILON):
    return (dout * ((1 - TARGETS) / (1 - p + epsilon) - TARGETS / (p + epsilon)) / len(p),)


def unit_forward(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def unit_backward(dout, x):
    y = unit_forward(x)
    return ((dout - y * (dout * y).sum(axis=1, keepdims=True)) / np.linalg.norm(x, axis=1, keepdims=True),)


def scores_forward(q, k):
    return q @ k.T / math.sqrt(q.shape[1])


def scores_backward(dout, q, k):
    return dout @ k / math.sqrt(q.shape[1]), dout.T @ q / math.sqrt(q.shape[1])


def perceptron_forward(x, w1, w2):
    return np.maximum(x @ w1, 0) @ w2


def perceptron_backward(dout, x, w1, w2, rate=0.0):
    """With a rate, each layer is updated before the gradient goes on through it."""
    hidden = np.maximum(x @ w1, 0)
    dw2 = hidden.T @ dout
    g = (dout @ (w2 - rate * dw2).T) * (hidden > 0)
    dw1 = x.T @ g
    return g @ (w1 - rate * dw1).T, dw1, dw2


SAME, OBLONG = ((1, 1), (1, 1)), ((2, 1), (1, 0))
OPERATIONS = {
    "conv2d": conv(*SAME, (3, 3, 3, 2), (3, 3)),
    "conv2d, stride (2, 1)": conv(*OBLONG, (2, 4, 3, 2), (3, 2)),
    "dense": Operation(dense_forward, dense_backward, dense_points),
    "dense, outputs of 1e-7": Operation(lambda x, w, b: dense_forward(x, w, b), dense_backward, small_points),
    "relu": Operation(relu_forward, relu_backward, relu_points, lambda x: np.sign(x).astype(int)),
    "maxpool2d": pool((2, 2), (2, 2)),
    "maxpool2d, overlapping": pool((3, 2), (1, 1)),
    "distance": Operation(distance_forward, distance_backward, distance_points),
    "contrastive": Operation(contrastive_forward, contrastive_backward, contrastive_points, pair_kinds),
    "siamese": Operation(siamese_forward, siamese_backward, siamese_points),
    "batch normalisation": Operation(normalise_forward, normalise_backward, normalise_points),
    "GELU": Operation(gelu_forward, gelu_backward, draws((4, 5))),
    "tanh layer": Operation(tanh_layer_forward, tanh_layer_backward, draws((5, 4), (4, 3), (3,), scale=0.7)),
    "sigmoid": Operation(sigmoid, sigmoid_backward, draws((4, 5))),
    "softmax": Operation(softmax, softmax_backward, draws((3, 4))),
    "cross-entropy": Operation(cross_entropy_forward, cross_entropy_backward, draws((5, 3))),
    "embedding": Operation(lambda table: table[WORDS], embedding_backward, draws((5, 3))),
    "recurrent layer": Operation(rnn_forward, rnn_backward, draws((2, 4, 3), (3, 3), (3, 3), scale=0.7)),
    "up-sampling": Operation(upsample_forward, upsample_backward, draws((2, 3, 3, 1))),
    "ELU": Operation(elu_forward, elu_backward, draws((4, 6))),
    "absolute value": Operation(np.abs, lambda dout, x: (dout * np.sign(x),), l1_points),
    "log loss": Operation(log_loss_forward, log_loss_backward, lambda rng: [[rng.uniform(0.02, 0.98, 6)]]),
    "unit vectors": Operation(unit_forward, unit_backward, draws((3, 6))),
    "attention scores": Operation(scores_forward, scores_backward, draws((4, 5), (4, 5))),
    "perceptron": Operation(perceptron_forward, perceptron_backward, draws((4, 3), (3, 5), (5, 2))),
}


# --- the faults -------------------------------------------------------------------------------------------


def changed(operation: str, number: int, change: Callable[..., np.ndarray]) -> Backward:
    """The correct gradients, but the one of this number as `change(gradient, dout, *arrays)` makes it."""

    def backward(dout, *arrays):
        gradients = list(OPERATIONS[operation].backward(dout, *arrays))
        gradients[number] = change(gradients[number], dout, *arrays)
        return tuple(gradients)

    return backward


def shifted(array, axis):
    moved = np.roll(array, 1, axis)
    moved[(slice(None),) * axis + (0,)] = 0
    return moved


def without(array, part):
    array = array.copy()
    array[part] = 0
    return array


def one_entry(gradient, factor):
    gradient = gradient.copy()
    at = np.unravel_index(abs(gradient).argmax(), gradient.shape)
    gradient[at] *= factor
    return gradient


def conv_w(dout, x, b, w_of, stride=(1, 1), pad=(1, 1)):
    return conv_backward(dout, x, w_of, b, stride, pad)


def stride_ignored(dw, dout, x, w, b):
    padded, dw = np.pad(x, ((0, 0), (1, 1), (0, 0), (0, 0))), np.zeros_like(w)
    for i, j in np.ndindex(dout.shape[1:3]):
        dw += np.tensordot(padded[:, i : i + 3, j : j + 2], dout[:, i, j], axes=(0, 0))
    return dw


def tap_lost(dx, dout, x, w, b):
    return conv_backward(dout, x, without(w, np.s_[2]), b)[0]


def edge_lost(dx, *_):
    return without(without(dx, np.s_[:, 0]), np.s_[:, -1])


def last_of_ties(entries):
    return [int(len(entries) - 1 - entries[::-1].argmax())]


def all_of_ties(entries):
    return list(np.flatnonzero(entries == entries.max()))


def hinge(dist, inside=True):
    return np.where((dist < MARGIN) == inside, MARGIN - dist, 0)


def contrastive_like(similar, dissimilar):
    """The gradient with other formulas for the two kinds of pairs."""
    return lambda g, dout, dist: dout / len(dist) * np.where(LABEL == 0, similar(dist), dissimilar(dist))


def at_zero(value):
    """The distance's gradient, with `value` along the first axis where the distance is 0."""

    def change(da, dout, a, b):
        da = da.copy()
        da[distance_forward(a, b) == 0, 0] = value
        return da

    return change


def _faults() -> list[Mutant]:
    made: list[Mutant] = []

    def add(
        operation: str, fault: str, number: int, change: Callable[..., np.ndarray], hint: str, equivalent: str = ""
    ):
        made.append(Mutant(operation, fault, changed(operation, number, change), hint, equivalent))

    o = "conv2d"
    add(o, "dx has the wrong sign", 0, lambda g, *_: -g, "sign")
    add(o, "dw is divided by N", 1, lambda g, dout, *_: g / len(dout), "batch size")
    add(o, "db is a mean over pixels", 2, lambda g, dout, *_: dout.mean(axis=(0, 1, 2)), "1/N")
    add(o, "db counts twice", 2, lambda g, *_: 2 * g, "factor 2")
    add(
        o,
        "dx with the kernel flipped",
        0,
        lambda g, dout, x, w, b: conv_backward(dout, x, w[::-1, ::-1], b)[0],
        "flipped kernel",
    )
    add(o, "dw flipped", 1, lambda g, *_: g[::-1, ::-1], "flip")
    add(o, "dx off by one row of padding", 0, lambda g, *_: shifted(g, 1), "shifted by 1|padding")
    add(o, "dx off by one column of padding", 0, lambda g, *_: shifted(g, 2), "shifted by 1|padding")
    add(
        o,
        "dw from patches one row off",
        1,
        lambda g, dout, x, w, b: conv_backward(dout, shifted(x, 1), w, b)[1],
        "shifted",
    )
    add(o, "dw with rows and columns swapped", 1, lambda g, *_: g.transpose(1, 0, 2, 3), "transposed")
    add(o, "dw with channels and filters swapped", 1, lambda g, *_: g.transpose(0, 1, 3, 2), "transposed")
    add(
        o,
        "dx with channels and filters swapped",
        0,
        lambda g, dout, x, w, b: conv_backward(dout, x, w.transpose(0, 1, 3, 2), b)[0],
        "transposed",
    )
    add(
        o,
        "dw without the last image",
        1,
        lambda g, dout, *rest: conv_backward(without(dout, np.s_[-1:]), *rest)[1],
        "last of the batch is lost",
    )
    add(
        o,
        "dw of the last image only (= for +=)",
        1,
        lambda g, dout, *rest: conv_backward(without(dout, np.s_[:-1]), *rest)[1],
        "last of the batch alone counts",
    )
    add(
        o,
        "dw without the last output row",
        1,
        lambda g, dout, *rest: conv_backward(without(dout, np.s_[:, -1:]), *rest)[1],
        "last of the output axis 1 is lost",
    )
    add(o, "dx without the last image", 0, lambda g, *_: without(g, np.s_[-1:]), "last of the batch is lost")
    add(o, "dx without the last row of the kernel", 0, tap_lost, "leaves it out")
    add(o, "dx zero at the edge", 0, edge_lost, "edge")
    add(o, "one entry of dw off by 0.1 %", 1, lambda g, *_: one_entry(g, 1.001), "single entry")
    add(o, "one entry of dx has the wrong sign", 0, lambda g, *_: one_entry(g, -1), "single entry")
    add(
        o,
        "db added in another order",
        2,
        lambda g, dout, *_: dout.sum(0).sum(0).sum(0),
        "",
        "addition in another order: the same up to rounding",
    )
    o = "conv2d, stride (2, 1)"
    add(o, "dw with stride 1", 1, stride_ignored, "stride")
    add(o, "dx off by one row", 0, lambda g, *_: shifted(g, 1), "shifted")
    add(
        o,
        "dw without the second half of the batch",
        1,
        lambda g, dout, *rest: conv_backward(without(dout, np.s_[1:]), *rest, *OBLONG)[1],
        "lost",
    )
    o = "dense"
    add(o, "dx = dout @ w (not w.T)", 0, lambda g, dout, x, w, b: dout @ w, "transposed")
    add(o, "dw = dout.T @ x", 1, lambda g, *_: g.T, "transposed")
    add(o, "dw is divided by N", 1, lambda g, dout, *_: g / len(dout), "batch size")
    add(o, "dw is not divided by 1/2", 1, lambda g, *_: g / 2, "factor 2")
    add(o, "db summed along the wrong axis", 2, lambda g, dout, *_: dout.sum(axis=1), "axes")
    add(o, "db left at zero", 2, lambda g, *_: 0 * g, "never written")
    add(o, "dw ignores dout", 1, lambda g, dout, x, *_: x.T @ np.ones_like(dout), "dout is not used")
    add(o, "dw of abs(dout)", 1, lambda g, dout, x, *_: x.T @ abs(dout), "sign is lost")
    add(o, "weight decay in dw", 1, lambda g, dout, x, w, b: g + 0.01 * w, "weight decay")
    add(o, "dw of the first half of the batch", 1, lambda g, dout, x, *_: x[:2].T @ dout[:2], "one branch is lost")
    add(
        o,
        "dx masked as by a ReLU",
        0,
        lambda g, dout, x, *_: g * (x > 0),
        "x is negative are wrong; they get no gradient",
    )
    add(o, "dx rows shuffled", 0, lambda g, *_: g[::-1], "flipped")
    o = "dense, outputs of 1e-7"
    add(o, "dx has the wrong sign", 0, lambda g, *_: -g, "sign")
    add(o, "dx left at zero", 0, lambda g, *_: 0 * g, "never written")
    o = "relu"
    add(o, "slope 1 at 0 (>= for >)", 0, lambda g, dout, x: dout * (x >= 0), "kink")
    add(o, "slope 1/2 at 0", 0, lambda g, dout, x: dout * (np.sign(x) + 1) / 2, "kink")
    add(o, "slope 1.5 at 0", 0, lambda g, dout, x: dout * ((x > 0) + 1.5 * (x == 0)), "kink")
    add(o, "no mask", 0, lambda g, dout, x: dout, "the output is ReLU of x, but the derivative is that of x")
    add(o, "mask inverted", 0, lambda g, dout, x: dout * (x <= 0), "branch|mask")
    add(o, "mask of dout instead of x", 0, lambda g, dout, x: dout * (dout > 0), "mask")
    add(o, "mask with x > 0.01", 0, lambda g, dout, x: dout * (x > 0.01), "single entry")
    add(o, "slope 0.01 below 0", 0, lambda g, dout, x: dout * np.where(x > 0, 1, 0.01), "branch|mask")
    add(
        o,
        "mask of the output",
        0,
        lambda g, dout, x: dout * (relu_forward(x) > 0),
        "",
        "the output is positive exactly where the input is",
    )
    o = "maxpool2d"
    w22 = ((2, 2), (2, 2))
    add(o, "last maximum of a tie", 0, lambda g, dout, x: unpool(dout, x, *w22, last_of_ties), "kink")
    add(o, "a tie shares the gradient", 0, lambda g, dout, x: unpool(dout, x, *w22, all_of_ties, share=0), "kink")
    add(o, "all of a tie get the whole gradient", 0, lambda g, dout, x: unpool(dout, x, *w22, all_of_ties), "kink")
    add(
        o,
        "spread as by average pooling",
        0,
        lambda g, dout, x: unpool(dout, x, *w22, lambda e: range(len(e)), share=0),
        "part of it goes",
    )
    add(
        o,
        "the minimum is selected",
        0,
        lambda g, dout, x: unpool(dout, x, *w22, lambda e: [int(e.argmin())]),
        "mask|maximum",
    )
    o = "maxpool2d, overlapping"
    w32 = ((3, 2), (1, 1))
    add(o, "overlapping windows overwrite", 0, lambda g, dout, x: unpool(dout, x, *w32, add=False), "= for")
    add(
        o,
        "row and column of the maximum swapped",
        0,
        lambda g, dout, x: unpool(dout, x, *w32, lambda e: [int(e.reshape(3, 2).T.ravel().argmax()) % 6]),
        "mask|maximum",
    )
    o = "distance"
    add(o, "demb_b has the sign of demb_a", 1, lambda g, *_: -g, "sign")
    add(o, "demb_b is lost", 1, lambda g, *_: 0 * g, "never written")
    add(
        o,
        "dist + 1e-4 in the denominator",
        0,
        lambda g, dout, a, b: dout[:, None] * (a - b) / (distance_forward(a, b) + 1e-4)[:, None],
        "epsilon",
    )
    add(o, "square root forgotten", 0, lambda g, dout, a, b: 2 * dout[:, None] * (a - b), "square root")
    add(o, "not divided by the distance", 0, lambda g, dout, a, b: dout[:, None] * (a - b), "multiplied by the output")
    add(o, "NaN at distance 0", 0, at_zero(np.nan), "NaN")
    add(o, "slope 1 along an axis at distance 0", 0, at_zero(1.0), "kink")
    add(
        o,
        "divided by 7 at distance 0",
        0,
        lambda g, dout, a, b: (
            dout[:, None] * (a - b) / np.where((a == b).all(axis=1), 7, distance_forward(a, b))[:, None]
        ),
        "",
        "the difference is exactly 0 there",
    )
    o = "contrastive"
    add(o, "factor 1/2 forgotten", 0, lambda g, *_: 2 * g, "factor 2")
    add(o, "a sum instead of the mean", 0, lambda g, *_: len(g) * g, "batch size")
    add(o, "sign of the hinge", 0, contrastive_like(lambda d: d, lambda d: hinge(d)), "branch")
    add(o, "labels swapped", 0, contrastive_like(lambda d: -hinge(d), lambda d: d), "branch")
    add(
        o,
        "pushes beyond the margin too",
        0,
        contrastive_like(lambda d: d, lambda d: d - MARGIN),
        "should get no gradient",
    )
    add(o, "wrong side of the margin", 0, contrastive_like(lambda d: d, lambda d: -hinge(d, False)), "branch|mask")
    add(
        o,
        "similar pairs pulled by margin - dist",
        0,
        contrastive_like(lambda d: MARGIN - d, lambda d: -hinge(d)),
        "branch",
    )
    add(o, "a hinge of first power", 0, contrastive_like(lambda d: d, lambda d: -1.0 * (d < MARGIN)), "branch")
    add(
        o,
        "dist <= margin for dist < margin",
        0,
        contrastive_like(lambda d: d, lambda d: np.where(d <= MARGIN, d - MARGIN, 0)),
        "",
        "margin - dist is 0 there, and so is the gradient",
    )
    o = "siamese"

    def parts(change):
        return lambda g, dout, *arrays: change(*siamese_parts(dout, *arrays)[2:])

    add(o, "dw of branch b lost", 2, parts(lambda a, b: a), "through xb")
    add(o, "dw of branch a overwritten by b", 2, parts(lambda a, b: b), "through xa")
    add(o, "dw of the branches subtracted", 2, parts(lambda a, b: a - b), "through xb")
    add(
        o,
        "cache of branch a used for both",
        2,
        lambda g, dout, xa, xb, w: (lambda p: p[2] + xa.T @ (p[1] @ np.linalg.inv(w.T)))(
            siamese_parts(dout, xa, xb, w)
        ),
        "branch",
    )
    o = "batch normalisation"

    def passes(operation: str, fault: str, backward: Backward, hint: str):
        """A fault of a whole pass, which may make several gradients wrong."""
        made.append(Mutant(operation, fault, backward, hint))

    passes(o, "means over N, not N H W", lambda *a: normalise_backward(*a, m=2), "divided by 2, not by 18")
    passes(
        o, "the variance taken for constant", lambda *a: normalise_backward(*a, through_variance=0), "variance is mi"
    )
    add(
        o,
        "dx without gamma",
        0,
        lambda g, dout, x, gamma, beta: normalise_backward(dout, x, np.ones_like(gamma), beta)[0],
        "a factor gamma is missing",
    )
    add("GELU", "slope of another formula", 0, lambda g, dout, x: dout * gelu_tanh_slope(x), "that of GELU with tanh")
    for fault, slope, hint in (
        ("slope 1 - z^2 for 1 - out^2", lambda dout, y, z: dout * (1 - z * z), r"were 1 - z\^2"),
        ("slope out", lambda dout, y, z: dout * y, "derivative of tanh were out"),
        ("1 - out^2 dout for (1 - out^2) dout", lambda dout, y, z: 1 - y * y * dout, "not multiplied by dout"),
    ):
        passes("tanh layer", fault, lambda *a, slope=slope: tanh_layer_backward(*a, slope), hint)
    add("sigmoid", "slope x (1 - x)", 0, lambda g, dout, x: dout * x * (1 - x), r"were z \(1 - z\)")
    add("sigmoid", "of the output again", 0, lambda g, dout, x: sigmoid_backward(dout, sigmoid(x))[0], "applied twice")
    add("softmax", "the diagonal only", 0, lambda g, dout, x: dout * softmax(x) * (1 - softmax(x)), "the diagonal")
    add("softmax", "the sum not subtracted", 0, lambda g, dout, x: dout * softmax(x), "sum of a softmax, is missing")
    o = "cross-entropy"
    passes(
        o, "no class weights", lambda *a: cross_entropy_backward(*a, weights=np.ones(3)), "weights of samples, classes"
    )
    passes(o, "no temperature", lambda *a: cross_entropy_backward(*a, temperature=1), "temperature")
    passes(o, "dout ignored", lambda dout, x: cross_entropy_backward(1, x), "right for dout = 1, but dout is not used")
    passes(
        o,
        "dout ignored and a sum for the mean",
        lambda dout, x: cross_entropy_backward(1, x, n=1),
        "dout is not used; besides, every entry is multiplied by 5, the batch size N",
    )
    add("embedding", "a word that occurs again overwrites", 0, embedding_overwrites, "only one of them arrives: = for")
    passes(
        "recurrent layer",
        "nothing from later steps",
        lambda *a: rnn_backward(*a, from_later=0),
        "from later steps is missing|correct where wh is 0",
    )
    add("up-sampling", "a slice for the sum", 0, lambda g, dout, x: dout[:, ::2, ::2], "a slice for a sum")
    add(
        "ELU",
        "dout times one branch alone",
        0,
        lambda g, dout, x: dout * (x > 0) + (x <= 0) * ELU_ALPHA * np.exp(np.minimum(x, 0)),
        "x is negative are wrong; there, the gradient is as if dout were all ones",
    )
    add("absolute value", "the sign is lost", 0, lambda g, dout, x: dout, "x is negative.*sign|dout itself")
    passes(
        "log loss",
        "no epsilon in the gradient",
        lambda *a: log_loss_backward(*a, 0),
        "epsilon of 0.001 .*forward alone",
    )
    add(
        "unit vectors",
        "the norm taken for constant",
        0,
        lambda g, dout, x: dout / np.linalg.norm(x, axis=1, keepdims=True),
        "through the norm,.* is missing",
    )
    o = "attention scores"
    passes(o, "dq and dk swapped", lambda *a: scores_backward(*a)[::-1], "wrong order")
    passes(
        o, "no square root of D", lambda *a: tuple(math.sqrt(5) * g for g in scores_backward(*a)), "square root of 5"
    )
    passes("perceptron", "layers updated on the way back", lambda *a: perceptron_backward(*a, 0.05), "already updated")
    add("dense", "L1 and L2 in dw", 1, lambda g, dout, x, w, b: g + 0.01 * w + 0.02 * np.sign(w), "weight decay and L1")
    add("conv2d", "db is divided by KH KW C", 2, lambda g, *_: g / 18, r"axes \(0, 1, 2\) of w")
    return made


MUTANTS = _faults()


# --- our checker ------------------------------------------------------------------------------------------


def case_of(operation: Operation, backward: Backward, arrays: Arrays, name: str, declared: bool = True) -> Case:
    """The case of a pass at a point; with the convention at kinks and the branches declared, or as a black box."""

    @functools.wraps(operation.forward)  # for the names of its arguments
    def forward(*values: np.ndarray) -> tuple[np.ndarray, Any]:
        return operation.forward(*values), values

    case = function_case(name, forward, lambda dout, values: backward(dout, *values), [a.copy() for a in arrays])
    if declared:
        correct = operation.backward
        case.reference_backward = lambda values, dout: dict(zip(values, correct(dout, *values.values()), strict=True))
        if (signature := operation.signature) is not None:
            case.signature = lambda values: signature(*values.values())
    return case


# Hints that say what is seen, but name no mistake.
DESCRIBES = (
    "no simple cause|only entries|no checked entry|a single entry|exactly the entries|[0-9] entries|all wrong entries"
    "|^dout is not used$|with dout = 0|the wrong entries|it is correct where"
)


def hints(mutant: Mutant, seed: int) -> list[str]:
    """What the checker says of a fault at the points of a seed: the hints, and what further checks found."""
    operation = OPERATIONS[mutant.operation]
    points = operation.points(np.random.default_rng([seed, zlib.crc32(mutant.operation.encode())]))
    results = [check_case(case_of(operation, mutant.backward, p, "mutant"), Options(seed)) for p in points]
    assert "FAIL" in [result.verdict for result in results], mutant.name
    return [f"{array.name}: {array.hint}" for result in results for array in result.arrays if array.hint] + [
        check.remark for result in results for check in result.checks if check.verdict == "FAIL"
    ]


def is_named(mutant: Mutant, said: Sequence[str]) -> bool:
    """Whether a hint names the fault."""
    return any(re.search(mutant.hint, hint) for hint in said)


def wrong_hints(mutant: Mutant, said: Sequence[str]) -> list[str]:
    """Hints that name a mistake, but another one."""
    named = [hint for hint in said if ": " in hint and hint.split(": ")[0].isidentifier()]
    return [hint for hint in named if not re.search(f"{mutant.hint}|{DESCRIBES}", hint.split(": ", 1)[1])]


def hint_table(mutants: Sequence[Mutant], seeds: int) -> str:
    """Markdown: how many hints name the fault, how many another one, and what they say of each fault."""
    said = {mutant.name: [hints(mutant, seed) for seed in range(seeds)] for mutant in mutants}
    runs = [(mutant, found) for mutant in mutants for found in said[mutant.name]]
    named = sum(is_named(mutant, found) for mutant, found in runs) / len(runs)
    wrong = sum(bool(wrong_hints(mutant, found)) for mutant, found in runs) / len(runs)
    rows = [f"| {mutant.name} | {'; '.join(dict.fromkeys(said[mutant.name][0]))} |" for mutant in mutants]
    head = (
        f"In {len(runs)} runs, {seeds} for each fault, {named:.1%} of the hints name the fault and {wrong:.1%} another."
    )
    return "\n".join([head + "\n", "| fault | hint |", "|---|---|", *rows])


if __name__ == "__main__":
    print(hint_table([mutant for mutant in MUTANTS if not mutant.equivalent], seeds=4))
