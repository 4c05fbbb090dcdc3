"""The checker on many kinds of functions whose gradients are known: how often its verdict is the wrong one.

    python tests/gradcheck_kinds.py [--seeds 12] [--only WORD] [--json FILE]

Prints a row for each kind: runs, as it should, false FAIL, INCONCLUSIVE, false PASS. A correct gradient should PASS,
a wrong one FAIL; kinds of which nothing can be known should be INCONCLUSIVE. Kinds marked with * are documented
limits: faults below the tolerance, or at points that no draw touches.
"""

import argparse
import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from siamese_np.gradcheck import check_gradients

RIGHT, WRONG, UNKNOWN = "PASS", "FAIL", "INCONCLUSIVE"
Make = Callable[[np.random.Generator], tuple[Any, ...]]  # forward, backward, *arrays; or a layer, None, x


class Kind(NamedTuple):
    """Functions of one kind, by name, and the verdict that all of them should get."""

    wanted: str
    functions: dict[str, Make]
    limit: bool = False  # documented: verdicts other than the wanted one are no fault
    few: int = 0  # at most so many seeds


# --- how the functions are written down -------------------------------------------------------------------


def entrywise(f: Callable[..., Any], df: Callable[..., Any], draw: Callable[..., Any] | None = None) -> Make:
    """A function of each entry and its derivative, at numbers that `draw` takes from a generator."""
    draw = draw or (lambda r: r.standard_normal(12))
    return lambda r: (lambda x: (f(x), x), lambda d, x: d * df(x), draw(r))


def scaled(size: float, offset: float = 0.0) -> Make:
    """A sine of inputs of a size, plus a constant."""
    return lambda r: (
        lambda x: (np.sin(x / size) + offset, x),
        lambda d, x: d * np.cos(x / size) / size,
        size * r.standard_normal(12),
    )


def outputs(scale: float) -> Make:
    return entrywise(lambda x: scale * np.sin(x), lambda x: scale * np.cos(x))


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def softmax(x: Any) -> Any:
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def cross_entropy(scale: float, right: bool = False) -> Make:
    """Softmax and cross-entropy of five classes; `right`: of a net that knows them."""

    def make(r: np.random.Generator) -> tuple[Any, ...]:
        classes = r.integers(0, 5, 8)
        x = scale * r.standard_normal((8, 5))
        if right:
            x[np.arange(8), classes] += 8 * scale

        def forward(x: Any) -> Any:
            p = softmax(x)
            return -np.log(p[np.arange(8), classes]).mean(), p

        def backward(d: Any, p: Any) -> Any:
            p = p.copy()
            p[np.arange(8), classes] -= 1
            return d * p / 8

        return forward, backward, x

    return make


def variance(mean: float, rows: int = 40) -> Make:
    """E[x^2] - E[x]^2, along the first axis."""
    return lambda r: (
        lambda x: ((x * x).mean(0) - x.mean(0) ** 2, x),
        lambda d, x: 2 * d * (x - x.mean(0)) / len(x),
        r.standard_normal((rows, 4)) + mean,
    )


def layer_norm(mean: float, shape: tuple[int, int] = (16, 40), eps: float = 1e-5) -> Make:
    def forward(x: Any) -> Any:
        c = x - x.mean(-1, keepdims=True)
        i = 1 / np.sqrt((c * c).mean(-1, keepdims=True) + eps)
        return c * i, (c * i, i)

    def backward(d: Any, cache: Any) -> Any:
        c, i = cache
        return i * (d - d.mean(-1, keepdims=True) - c * (d * c).mean(-1, keepdims=True))

    return lambda r: (forward, backward, r.standard_normal(shape) + mean)


def offset_sum(offset: float) -> Make:
    return lambda r: (
        lambda x: ((offset + x).sum() - offset * len(x), x),
        lambda d, x: d * np.ones_like(x),
        r.standard_normal(12),
    )


def net(r: np.random.Generator, **wrong: float) -> tuple[Any, ...]:
    """Dense, ReLU, dense: forward, backward and arrays; a gradient is multiplied where it is to be wrong."""

    def forward(x: Any, w1: Any, b1: Any, w2: Any) -> Any:
        a = x @ w1 + b1
        return np.maximum(a, 0) @ w2, (x, w1, w2, a)

    def backward(d: Any, cache: Any) -> Any:
        x, w1, w2, a = cache
        g = (d @ w2.T) * (a > 0)
        found = {"x": g @ w1.T, "w1": x.T @ g, "b1": g.sum(0), "w2": np.maximum(a, 0).T @ d}
        return tuple(gradient * wrong.get(name, 1) for name, gradient in found.items())

    arrays = (r.standard_normal((4, 3)), r.standard_normal((3, 5)), r.standard_normal(5), r.standard_normal((5, 2)))
    return forward, backward, *arrays


def black_pixels(**wrong: float) -> Make:
    def make(r: np.random.Generator) -> tuple[Any, ...]:
        forward, backward, x, w1, b1, w2 = net(r, **wrong)
        x[0] = 0
        return forward, backward, x, w1, 0 * b1, w2

    return make


def away(distance: float) -> Make:
    """ReLU so far from its kink in one entry."""
    return entrywise(lambda x: np.maximum(x, 0), lambda x: x > 0, lambda r: np.append(r.standard_normal(40), distance))


def order(function: str) -> Make:
    """An order statistic of numbers that are all different."""

    def make(r: np.random.Generator) -> tuple[Any, ...]:
        pick = {"max": -1, "median": 2, "second": 1}[function]

        def backward(d: Any, x: Any) -> Any:
            dx = np.zeros_like(x)
            dx[np.argsort(x)[pick]] = d
            return dx

        return lambda x: (np.sort(x)[pick], x), backward, r.standard_normal(5)

    return make


def sort(r: np.random.Generator) -> tuple[Any, ...]:
    def backward(d: Any, x: Any) -> Any:
        dx = np.zeros_like(x)
        dx[np.argsort(x)] = d
        return dx

    return lambda x: (np.sort(x), x), backward, r.standard_normal(30)


def matmul(r: np.random.Generator, **wrong: Any) -> tuple[Any, ...]:
    return (
        lambda x, w: (x @ w, (x, w)),
        lambda d, c: (d @ c[1].T * wrong.get("x", 1), c[0].T @ d * wrong.get("w", 1)),
        r.standard_normal((4, 5)),
        r.standard_normal((5, 3)),
    )


def inverse(r: np.random.Generator) -> tuple[Any, ...]:
    def forward(x: Any) -> Any:
        y = np.linalg.inv(x)
        return y, y

    return forward, lambda d, y: -y.T @ d @ y.T, r.standard_normal((4, 4))


def log_sum_exp(scale: float) -> Make:
    return lambda r: (
        lambda x: (np.log(np.exp(x - x.max(-1, keepdims=True)).sum(-1)) + x.max(-1), x),
        lambda d, x: d[:, None] * softmax(x),
        scale * r.standard_normal((6, 5)),
    )


def binary_cross_entropy(scale: float) -> Make:
    def make(r: np.random.Generator) -> tuple[Any, ...]:
        y = r.integers(0, 2, 10)
        return (
            lambda x: (np.mean(np.maximum(x, 0) - x * y + np.log1p(np.exp(-abs(x)))), x),
            lambda d, x: d * (sigmoid(x) - y) / 10,
            scale * r.standard_normal(10),
        )

    return make


def norms(eps: float, size: float) -> Make:
    return lambda r: (
        lambda x: (np.sqrt((x * x).sum(-1) + eps), x),
        lambda d, x: d[:, None] * x / np.sqrt((x * x).sum(-1, keepdims=True) + eps),
        size * r.standard_normal((6, 4)),
    )


def one_wrong(size: int, how: str) -> Make:
    """A weighted sum of squares, one entry of whose gradient is wrong."""

    def make(r: np.random.Generator) -> tuple[Any, ...]:
        at = int(r.integers(size))
        factor = np.ones(size)
        factor[at] = {"sign": -1.0, "1 %": 1.01, "lost": 0.0}[how]
        return lambda x: ((x**2).sum(), x), lambda d, x: 2 * d * x * factor, r.uniform(0.5, 2, size)

    return make


def times(factor: float) -> Make:
    return entrywise(np.sin, lambda x: factor * np.cos(x))


def small_entry(size: float, factor: float) -> Make:
    """The sum of squares at numbers of which the first is small; its gradient times `factor`."""

    def make(r: np.random.Generator) -> tuple[Any, ...]:
        x = r.uniform(0.5, 2, 12) * r.choice([-1, 1], 12)
        x[0] *= size
        factors = np.r_[factor, np.ones(11)]
        return lambda x: ((x**2).sum(), x), lambda d, x: 2 * d * x * factors, x

    return make


def single(f: Any, df: Any, out: Any = np.float32, gradient: Any = np.float32, factor: float = 1.0) -> Make:
    """A function of each entry that works in float32; what it gives back is `out` and `gradient`."""
    return lambda r: (
        lambda x: (f(x.astype(np.float32)).astype(out), x.astype(np.float32)),
        lambda d, x: (np.float32(factor) * d.astype(np.float32) * df(x)).astype(gradient),
        r.standard_normal(12),
    )


def single_dense(factor: float = 1.0) -> Make:
    def make(r: np.random.Generator) -> tuple[Any, ...]:
        def forward(x: Any, w: Any) -> Any:
            x, w = x.astype(np.float32), w.astype(np.float32)
            h = np.tanh(x @ w)
            return h, (x, w, h)

        def backward(d: Any, cache: Any) -> Any:
            x, w, h = cache
            g = (d * (1 - h * h)).astype(np.float32)
            return g @ w.T, np.float32(factor) * (x.T @ g)

        return forward, backward, r.standard_normal((5, 4)), r.standard_normal((4, 3))

    return make


# --- layers whose numbers are right, but which do more -----------------------------------------------------


class InPlaceRelu:
    """Writes into dout."""

    def forward(self, x: Any) -> Any:
        return np.maximum(x, 0), x <= 0

    def backward(self, dout: Any, mask: Any) -> Any:
        dout[mask] = 0
        return dout


class InPlaceCache:
    """Works in place on its own cache."""

    def forward(self, x: Any) -> Any:
        return np.exp(x), np.exp(x)

    def backward(self, dout: Any, cache: Any) -> Any:
        cache *= dout
        return cache


class Adds:
    """Adds up its gradients, and nobody sets them to zero."""

    def __init__(self, r: np.random.Generator) -> None:
        self.params = {"w": r.standard_normal((3, 2))}
        self.grads: dict[str, Any] = {}

    def forward(self, x: Any) -> Any:
        return x @ self.params["w"], x

    def backward(self, dout: Any, x: Any) -> Any:
        self.grads["w"] = self.grads.get("w", 0) + x.T @ dout
        return dout @ self.params["w"].T


def batch_norm(r: np.random.Generator) -> tuple[Any, ...]:
    forward, backward, x = layer_norm(1e4, (8, 64))(r)
    return lambda x: _turned(forward(x.T)), lambda d, c: backward(d.T, c).T, x.T.copy()


def _turned(result: Any) -> Any:
    return result[0].T, result[1]


def weight_difference(r: np.random.Generator) -> tuple[Any, ...]:
    """A gradient read off an update of the weights."""
    return (
        lambda x, w: (x @ w, (x, w)),
        lambda d, c: (d @ c[1].T, c[1] - (c[1] - c[0].T @ d)),
        r.standard_normal((4, 5)),
        r.standard_normal((5, 3)),
    )


# --- wrong in other ways ----------------------------------------------------------------------------------


def wrong_layer_norm(how: str) -> Make:
    def make(r: np.random.Generator) -> tuple[Any, ...]:
        forward, _, x = layer_norm(0, (5, 8), 1e-2)(r)

        def wrong(d: Any, cache: Any) -> Any:
            c, i = cache
            first, second = d.mean(-1, keepdims=True), c * (d * c).mean(-1, keepdims=True)
            return i * {"no mean": d - second, "no variance": d - first, "plus": d - first + second}[how]

        return forward, wrong, x

    return make


def wrong_loss(how: str) -> Make:
    def make(r: np.random.Generator) -> tuple[Any, ...]:
        y = r.standard_normal((6, 3))
        factor = {"sum for mean": 6, "half": 0.5, "sign": -1}[how]
        return lambda x: (((x - y) ** 2).mean(), x), lambda d, x: d * 2 * (x - y) / y.size * factor, y[::-1].copy()

    return make


def embedding(r: np.random.Generator) -> tuple[Any, ...]:
    indices = np.array([0, 2, 2, 1])

    def backward(d: Any, w: Any) -> Any:
        dw = np.zeros_like(w)
        dw[indices] = d
        return dw

    return lambda w: (w[indices], w), backward, r.standard_normal((4, 3))


def rnn(r: np.random.Generator) -> tuple[Any, ...]:
    """The gradient of the weights, without what comes through later steps."""
    x = r.standard_normal((3, 4))

    def forward(w: Any) -> Any:
        h, states = np.zeros(4), []
        for step in x:
            states.append(h)
            h = np.tanh(step + w @ h)
        return h, (states, h)

    def backward(d: Any, cache: Any) -> Any:
        states, h = cache
        return np.outer(d * (1 - h * h), states[-1])

    return forward, backward, r.standard_normal((4, 4))


def wrong_softmax(how: str) -> Make:
    def make(r: np.random.Generator) -> tuple[Any, ...]:
        def backward(d: Any, p: Any) -> Any:
            return {"diagonal": d * p * (1 - p), "no sum": d * p}[how]

        return lambda x: (softmax(x), softmax(x)), backward, r.standard_normal((4, 5))

    return make


WRONG_KINDS: dict[str, Make] = {
    "negative x": entrywise(lambda x: x**3, lambda x: 3 * x**2 * np.where(x < 0, 1.1, 1)),
    "negative dout": lambda r: (lambda x: (x**3, x), lambda d, x: abs(d) * 3 * x**2, r.standard_normal(12)),
    "dout ignored": lambda r: (lambda x: (x**3, x), lambda d, x: 3 * x**2, r.standard_normal(12)),
    "second sample": lambda r: (
        lambda x: (x**3, x),
        lambda d, x: d * 3 * x**2 * np.array([1, 1.01, 1, 1])[:, None],
        r.standard_normal((4, 3)),
    ),
    "order": lambda r: (lambda x: (x**2, x), lambda d, x: (2 * d * x)[::-1], r.standard_normal(12)),
    "scale": times(2.0),
    "eps": entrywise(lambda x: np.log(abs(x) + 1e-3), lambda x: np.sign(x) / abs(x)),
    "transposed": lambda r: (lambda x: (x**2, x), lambda d, x: (2 * d * x).T, r.standard_normal((4, 4))),
    "wrong sign of w": lambda r: matmul(r, w=-1),
    "x by 1 %": lambda r: matmul(r, x=1.01),
    "w lost": lambda r: matmul(r, w=0),
    "bias mean for sum": lambda r: (
        lambda x, b: (np.sin(x + b), x + b),
        lambda d, c: (d * np.cos(c), (d * np.cos(c)).mean(0)),
        r.standard_normal((4, 3)),
        r.standard_normal(3),
    ),
    "norm without mean": wrong_layer_norm("no mean"),
    "norm without variance": wrong_layer_norm("no variance"),
    "norm with plus": wrong_layer_norm("plus"),
    "loss, sum for mean": wrong_loss("sum for mean"),
    "loss, half": wrong_loss("half"),
    "loss, sign": wrong_loss("sign"),
    "embedding": embedding,
    "rnn": rnn,
    "softmax, diagonal": wrong_softmax("diagonal"),
    "softmax, no sum": wrong_softmax("no sum"),
    "gelu": entrywise(
        lambda x: 0.5 * x * (1 + np.tanh(0.7978845608 * (x + 0.044715 * x**3))),
        lambda x: sigmoid(1.702 * x) + 1.702 * x * sigmoid(1.702 * x) * (1 - sigmoid(1.702 * x)),
    ),
}

KINDS: dict[str, Kind] = {
    "smooth": Kind(
        RIGHT,
        {
            "sin": times(1.0),
            "exp(x^3)": entrywise(lambda x: np.exp(x**3), lambda x: 3 * x**2 * np.exp(x**3)),
            "sin(1000 x)": entrywise(lambda x: np.sin(1000 * x), lambda x: 1000 * np.cos(1000 * x)),
            "sin(1e5 x)": entrywise(lambda x: np.sin(1e5 * x), lambda x: 1e5 * np.cos(1e5 * x)),
            "x^9": entrywise(lambda x: x**9, lambda x: 9 * x**8),
            "tanh(50 x)": entrywise(lambda x: np.tanh(50 * x), lambda x: 50 * (1 - np.tanh(50 * x) ** 2)),
            "tanh(50 x), cosh": entrywise(lambda x: np.tanh(50 * x), lambda x: 50 / np.cosh(50 * x) ** 2),
            "sigmoid 30..40": entrywise(
                sigmoid, lambda x: np.exp(-x) / (1 + np.exp(-x)) ** 2, lambda r: r.uniform(30, 40, 12)
            ),
            "sigmoid 15..25": entrywise(
                sigmoid, lambda x: sigmoid(x) * (1 - sigmoid(x)), lambda r: r.uniform(15, 25, 12)
            ),
            "tanh 15..20": entrywise(np.tanh, lambda x: 1 / np.cosh(x) ** 2, lambda r: r.uniform(15, 20, 12)),
            "softplus": entrywise(lambda x: np.log1p(np.exp(x)), sigmoid, lambda r: 10 * r.standard_normal(12)),
            "x sin(1/x)": entrywise(
                lambda x: x * np.sin(1 / x),
                lambda x: np.sin(1 / x) - np.cos(1 / x) / x,
                lambda r: r.uniform(0.05, 1, 12),
            ),
            "arctan(1e4 x)": entrywise(lambda x: np.arctan(1e4 * x), lambda x: 1e4 / (1 + (1e4 * x) ** 2)),
            "sum of squares": lambda r: (lambda x: ((x**2).sum(), x), lambda d, x: 2 * d * x, r.standard_normal(30)),
        },
    ),
    "scales": Kind(
        RIGHT,
        {
            **{f"outputs {s:g}": outputs(s) for s in (1e-300, 1e-100, 1e-12, 1e12, 1e100, 1e300)},
            **{f"inputs {s:g}": scaled(s) for s in (1e-12, 1e-6, 1e6, 1e12)},
            **{f"offset {s:g}": scaled(1.0, s) for s in (1e3, 1e6, 1e8, 1e10, 1e12, 1e15)},
            "sum with offset 1e8": offset_sum(1e8),
            "sum with offset 1e12": offset_sum(1e12),
            "denormals": entrywise(np.exp, np.exp, lambda r: np.r_[-744.6, r.uniform(-1, 1, 2)]),
            "denormal outputs": outputs(1e-320),
        },
    ),
    "ill-conditioned": Kind(
        RIGHT,
        {
            **{f"logsumexp, {s:g}": log_sum_exp(s) for s in (1, 10, 100, 1000)},
            **{f"cross-entropy, {s:g}": cross_entropy(s) for s in (1, 10, 30, 100)},
            **{f"cross-entropy, confident, {s:g}": cross_entropy(s, True) for s in (1, 3, 5)},
            **{f"binary cross-entropy, {s:g}": binary_cross_entropy(s) for s in (1, 10, 40)},
            **{f"norms, {size:g}, eps {eps:g}": norms(eps, size) for eps in (0, 1e-12) for size in (1e-5, 1, 1e3)},
            **{f"E[x^2] - E[x]^2 at {m:g}": variance(m) for m in (0, 1e2, 1e4, 1e5)},
            **{f"LayerNorm at {m:g}": layer_norm(m, (6, 10)) for m in (0, 1e3, 1e5, 1e6)},
            "LayerNorm 16x40 at 1e5": layer_norm(1e5),
            "sqrt": entrywise(np.sqrt, lambda x: 0.5 / np.sqrt(x), lambda r: r.uniform(0, 1, 12) ** 4),
            "1/x": entrywise(lambda x: 1 / x, lambda x: -1 / x**2),
            "log near 1": entrywise(np.log, lambda x: 1 / x, lambda r: 1 + 1e-8 * r.standard_normal(12)),
            "1 - cos at 1e-6": entrywise(lambda x: 1 - np.cos(x), np.sin, lambda r: 1e-6 * r.standard_normal(12)),
            "exp(x) - 1 at 1e-10": entrywise(lambda x: np.exp(x) - 1, np.exp, lambda r: 1e-10 * r.standard_normal(12)),
            "inverse": inverse,
            "softmax": lambda r: (
                lambda x: (softmax(x), softmax(x)),
                lambda d, p: p * (d - (d * p).sum(-1, keepdims=True)),
                20 * r.standard_normal((6, 5)),
            ),
            "softmax, sure": lambda r: (
                lambda x: (softmax(x), softmax(x)),
                lambda d, p: p * (d - (d * p).sum(-1, keepdims=True)),
                r.standard_normal((6, 5)) + 36 * np.eye(6, 5),
            ),
            "gradients that cancel": lambda r: (
                lambda x: (softmax(x).sum(-1), softmax(x)),
                lambda d, p: p * (d[:, None] - (d[:, None] * p).sum(-1, keepdims=True)),
                r.standard_normal((6, 5)),
            ),
        },
    ),
    "kinks": Kind(
        RIGHT,
        {
            "abs": entrywise(abs, np.sign),
            **{f"relu {d:g} away": away(d) for d in (1e-2, 1e-4, 1e-6, 1e-9, 1e-11, 1e-13, 0.0)},
            "Huber": entrywise(lambda x: np.where(abs(x) < 1, x * x / 2, abs(x) - 0.5), lambda x: np.clip(x, -1, 1)),
            "hinge": entrywise(lambda x: np.maximum(0, 1 - x), lambda x: -1.0 * (x < 1)),
            "squared hinge": entrywise(lambda x: np.maximum(0, 1 - x) ** 2, lambda x: -2 * np.maximum(0, 1 - x)),
            "clip": entrywise(lambda x: np.clip(x, -0.5, 0.5), lambda x: abs(x) < 0.5),
            "leaky relu": entrywise(lambda x: np.where(x > 0, x, 0.01 * x), lambda x: np.where(x > 0, 1, 0.01)),
            "max": order("max"),
            "median": order("median"),
            "second smallest": order("second"),
            "sort": sort,
            "net": net,
        },
    ),
    "kinks of a composition": Kind(
        UNKNOWN,
        {
            "black pixels": black_pixels(),
            "relu(x) - relu(-x)": entrywise(
                lambda x: np.maximum(x, 0) - np.maximum(-x, 0),
                lambda x: (x > 0) + 1.0 * (x < 0),
                lambda r: np.append(r.standard_normal(6), 0.0),
            ),
            "relu(x) - 0.1 relu(-x)": entrywise(
                lambda x: np.maximum(x, 0) - 0.1 * np.maximum(-x, 0),
                lambda x: (x > 0) + 0.1 * (x < 0),
                lambda r: np.append(r.standard_normal(6), 0.0),
            ),
        },
    ),
    "wrong at kinks of a composition": Kind(
        WRONG, {f"black pixels, {name}": black_pixels(**{name: 1.1}) for name in ("x", "w1", "b1", "w2")}
    ),
    "structure": Kind(
        RIGHT,
        {
            "batch norm at 1e4": batch_norm,
            "weight difference": weight_difference,
            "d * 3 + 1 - 1": lambda r: (lambda x: (3 * x, x), lambda d, x: d * 3.0 + 1.0 - 1.0, r.standard_normal(12)),
        },
    ),
    "in place": Kind(
        RIGHT,
        {
            "dout": lambda r: (InPlaceRelu(), None, r.standard_normal((4, 5))),
            "cache": lambda r: (InPlaceCache(), None, r.standard_normal((4, 5))),
        },
    ),
    "accumulating": Kind(RIGHT, {"dict": lambda r: (Adds(r), None, r.standard_normal((4, 3)))}),
    "float32": Kind(
        RIGHT,
        {
            "sin": single(np.sin, np.cos),
            "exp": single(np.exp, np.exp),
            "cube": single(lambda x: x**3, lambda x: 3 * x**2),
            "float32 output": single(np.tanh, lambda x: 1 - np.tanh(x) ** 2, gradient=np.float64),
            "float32 gradient": single(np.sin, np.cos, out=np.float64),
            "dense": single_dense(),
            "float32 inside": single(np.sin, np.cos, out=np.float64, gradient=np.float64),
        },
    ),
    "float32, wrong": Kind(
        WRONG,
        {
            "sin, sign": single(np.sin, np.cos, factor=-1),
            "sin, 1 %": single(np.sin, np.cos, factor=1.01),
            "exp, 0.5 %": single(np.exp, np.exp, factor=1.005),
            "dense, 1 %": single_dense(1.01),
            "dense, twice": single_dense(2.0),
        },
    ),
    "floor, sign, ties": Kind(
        UNKNOWN,
        {
            "floor": entrywise(np.floor, np.zeros_like),
            "round": entrywise(np.round, np.zeros_like),
            "sign": entrywise(np.sign, np.zeros_like),
            "floor at whole numbers": entrywise(np.floor, np.zeros_like, lambda r: np.arange(12.0)),
            "relu at 0": entrywise(lambda x: np.maximum(x, 0), lambda x: x > 0, lambda r: np.zeros(5)),
            "max of equals": lambda r: (
                lambda x: (x.max(1), x),
                lambda d, x: d[:, None] * (np.arange(3) == x.argmax(1)[:, None]),
                np.repeat(r.standard_normal((4, 1)), 3, 1),
            ),
        },
    ),
    "straight-through": Kind(
        WRONG,
        {
            "round": entrywise(np.round, np.ones_like),
            "sign": entrywise(np.sign, np.ones_like),
        },
    ),
    "wrong by 1e-3 .. 3e-6": Kind(WRONG, {f"{e:g}": times(1 + e) for e in (1e-3, 1e-4, 1e-5, 3e-6)}),
    "wrong by 1e-6": Kind(WRONG, {"1e-6": times(1 + 1e-6)}, limit=True),
    "wrong by 5e-7, 1e-7": Kind(WRONG, {f"{e:g}": times(1 + e) for e in (5e-7, 1e-7)}, limit=True),
    "one wrong entry": Kind(
        WRONG,
        {f"of {n}, {how}": one_wrong(n, how) for n in (500, 4_999, 5_000, 100_000) for how in ("sign", "1 %", "lost")},
        few=2,
    ),
    "23 wrong kinds": Kind(WRONG, WRONG_KINDS),
    "small entries": Kind(RIGHT, {f"{s:g}": small_entry(s, 1) for s in (1e-3, 1e-6, 1e-8)}),
    "small entries, wrong": Kind(
        WRONG, {f"{s:g}, {f:g} times": small_entry(s, f) for s in (1e-3, 1e-6, 1e-8) for f in (-1, 0, 1.01)}
    ),
    "wrong beyond what is drawn": Kind(
        WRONG,
        {
            "x < -2": entrywise(lambda x: x**3, lambda x: 3 * x**2 * np.where(x < -2, -1, 1)),
            "|x| > 3": entrywise(lambda x: x**3, lambda x: 3 * x**2 * np.where(abs(x) > 3, -1, 1)),
        },
        limit=True,
    ),
}


def verdict_of(make: Make, seed: int) -> str:
    """The verdict, or the name of the exception that came out."""
    forward, backward, *arrays = make(np.random.default_rng(seed))
    try:
        return check_gradients(forward, *arrays, backward=backward, seed=seed).verdict
    except Exception as error:
        return type(error).__name__


def run(seeds: int, names: Iterable[str]) -> Iterator[tuple[str, Kind, Counter[str], dict[str, Counter[str]]]]:
    """For each kind: how often each verdict came out, in all and for each of its functions."""
    for name in names:
        kind = KINDS[name]
        each = {
            label: Counter(verdict_of(make, seed) for seed in range(min(seeds, kind.few or seeds)))
            for label, make in kind.functions.items()
        }
        yield name, kind, sum(each.values(), Counter()), each


def falses(kind: Kind, verdicts: Counter[str]) -> tuple[int, int]:
    """Correct gradients that FAIL (or raise), wrong ones that PASS."""
    raised = sum(count for verdict, count in verdicts.items() if verdict not in (RIGHT, WRONG, UNKNOWN))
    false_fail = 0 if kind.wanted == WRONG else verdicts["FAIL"]
    false_pass = 0 if kind.wanted == RIGHT or kind.limit else verdicts["PASS"]
    return false_fail + raised, false_pass


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=12)
    parser.add_argument("--only", default="", help="kinds whose name holds this word")
    parser.add_argument("--json", help="write the verdicts of each function to this file too")
    options = parser.parse_args()
    start, found = time.perf_counter(), {}
    print("| kind | wanted | runs | as it should | false FAIL | INCONCLUSIVE | false PASS |\n" + "|---" * 7 + "|")
    for name, kind, verdicts, each in run(options.seeds, [name for name in KINDS if options.only in name]):
        found[name] = each
        false_fail, false_pass = falses(kind, verdicts)
        undecided = 0 if kind.wanted == UNKNOWN else verdicts[UNKNOWN]
        mark = "*" if kind.limit else ""
        print(
            f"| {name}{mark} | {kind.wanted} | {verdicts.total()} | {verdicts[kind.wanted]} | {false_fail} "
            f"| {undecided} | {false_pass} |",
            flush=True,
        )
    print(f"{time.perf_counter() - start:.0f} s")
    if options.json:
        with open(options.json, "w") as file:
            json.dump(found, file, indent=1)


if __name__ == "__main__":
    main()
