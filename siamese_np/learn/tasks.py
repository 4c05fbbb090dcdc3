"""What each exercise asks for: the solution, the points where it is compared, and the mistakes that have a name."""

from typing import Any

import numpy as np

from siamese_np import textbook
from siamese_np.learn import solutions
from siamese_np.learn.comparing import Function, Gradient, Kernel, Values

rng = np.random.default_rng(0)
normal = rng.standard_normal


def _pool(window: tuple[int, int], stride: tuple[int, int]) -> Function:
    return lambda x: (textbook.maxpool2d_forward(x, window, stride)[0], (x, window, stride))


def _conv(stride: tuple[int, int], pad: tuple[int, int], filters: int) -> Any:
    def forward(x: Any, w: Any, b: Any) -> Any:
        return textbook.conv2d_forward(x, w, b, stride, pad)

    return forward, IMAGES, FILTERS[..., :filters], BIAS[:filters]


def _siamese(x_a: Any, x_b: Any, w: Any, b: Any) -> Any:
    (hidden_a, dense_a), (hidden_b, dense_b) = (textbook.dense_forward(x, w, b) for x in (x_a, x_b))
    (emb_a, relu_a), (emb_b, relu_b) = map(textbook.relu_forward, (hidden_a, hidden_b))
    dist, dist_cache = textbook.euclidean_forward(emb_a, emb_b)
    return dist, (dense_a, dense_b, relu_a, relu_b, dist_cache)


def _contrastive(margin: float) -> Function:
    return lambda dist: textbook.contrastive_forward(dist, np.array([0, 1, 1, 0, 1, 1, 0]), margin)


def rows_alone(ddist: Any, cache: Any) -> Any:
    """Only row i of ddist arrives at emb[i]."""
    single_rows = np.eye(len(ddist))[:, :, None] * ddist
    return np.stack([textbook.pairwise_backward(row, cache)[i] for i, row in enumerate(single_rows)])


PLAIN = (1, 1), (0, 0)  # stride, padding
IMAGES, FILTERS, BIAS = normal((3, 5, 4, 3)), normal((3, 2, 3, 4)), normal(4)
ONE_FILTER = FILTERS[..., :1]  # then it shows when one place of the window overwrites another
OPEN, SHUT = (np.ones((5, 4)),), (np.zeros((5, 4)),)  # caches of ReLUs that let everything through, and nothing
DISTINCT = rng.permutation(np.arange(120.0)).reshape(2, 6, 5, 2) / 10
TIES = rng.integers(0, 2, (2, 6, 5, 2)).astype(float)
EMB_A, EMB_B = normal((2, 5, 3))
EQUAL = np.where([[False], [True], [False], [False], [False]], EMB_A, EMB_B)  # in one row

_dense = Gradient(textbook.dense_backward, (textbook.dense_forward, normal((5, 3)), normal((3, 4)), normal(4)))
_relu = Gradient(
    textbook.relu_backward,
    (textbook.relu_forward, normal((3, 5))),
    (textbook.relu_forward, np.array([[-1.0, 0.0, 2.0], [0.0, 0.5, -0.3]])),
    mistakes={"all of dout goes through: out is never below 0, so out >= 0 is no mask": lambda d, c: d},
)
_pooling = Gradient(
    solutions.maxpool2d_backward,
    (_pool((2, 2), (2, 2)), DISTINCT),
    (_pool((3, 2), (2, 1)), DISTINCT),
    (_pool((2, 2), (2, 2)), TIES),
    shown=[textbook.maxpool2d_forward, textbook.maxpool2d_backward],
)
_strides = Gradient(
    textbook.conv2d_backward,
    *(_conv(*how) for how in (((2, 1), (0, 0), 1), ((1, 2), (1, 0), 4), ((2, 2), (1, 2), 4))),
    mistakes={"it is as if the stride were 1": lambda d, c: textbook.conv2d_backward(d, (*c[:2], (1, 1), c[3]))},
)
_loss = Gradient(
    textbook.contrastive_backward,
    (_contrastive(1.0), rng.uniform(0.1, 0.9, 7)),
    (_contrastive(1.5), np.array([0.2, 1.7, 0.4, 1.3, 1.5, 2.5, 0.6])),
    mistakes={
        "similar and dissimilar are swapped": lambda d, c: textbook.contrastive_backward(d, (c[0], 1 - c[1], c[2])),
        "it is the loss itself, not its slope": lambda d, c: d * textbook.contrastive_forward(*c)[0],
        "margin is not always 1": lambda d, c: textbook.contrastive_backward(d, (*c[:2], 1.0)),
    },
)
_shared = Gradient(
    solutions.siamese_backward,
    (_siamese, normal((5, 3)), normal((5, 3)), normal((3, 4)), normal(4)),
    mistakes={
        "the way back through ReLU is left out": lambda d, c: solutions.siamese_backward(d, (*c[:2], OPEN, OPEN, c[4])),
        "branch b is lost in the sum": lambda d, c: solutions.siamese_backward(d, (*c[:3], SHUT, c[4])),
        "branch a is lost in the sum": lambda d, c: solutions.siamese_backward(d, (*c[:2], SHUT, *c[3:])),
    },
)

TASKS: dict[str, Gradient | Values | Kernel] = {
    "dense": _dense,
    "relu": _relu,
    "pooling": _pooling,
    "conv_dw": Gradient(
        solutions.conv2d_backward_w,
        (lambda w: (textbook.conv2d_forward(IMAGES, w, BIAS, *PLAIN)[0], (IMAGES, w)), FILTERS),
        shown=[textbook.conv2d_backward],
    ),
    "conv_dx": Gradient(
        solutions.conv2d_backward_x,
        (lambda x: (textbook.conv2d_forward(x, ONE_FILTER, 0, *PLAIN)[0], (x, ONE_FILTER)), IMAGES),
        mistakes={"the window is flipped": lambda d, c: solutions.conv2d_backward_x(d, (c[0], c[1][::-1, ::-1]))},
        shown=[textbook.conv2d_backward],
    ),
    "conv_stride": _strides,
    "distance": Gradient(
        textbook.euclidean_backward,
        (textbook.euclidean_forward, EMB_A, EMB_B),
        (textbook.euclidean_forward, EMB_A, EQUAL),
    ),
    "contrastive": _loss,
    "shared_weights": _shared,
    "all_pairs": Gradient(
        textbook.pairwise_backward,
        (textbook.pairwise_forward, EMB_A),
        (textbook.pairwise_forward, EMB_A[[0, 1, 1, 2]]),
        mistakes={
            "row i of ddist counts twice, in place of column i": lambda d, c: rows_alone(2 * d, c),
            "column i of ddist arrives with the wrong sign": lambda d, c: rows_alone(d, c) - rows_alone(d.T, c),
            "only ddist[i, j] with i > j counts": lambda d, c: textbook.pairwise_backward(np.tril(d), c),
            "only ddist[i, j] with i < j counts": lambda d, c: textbook.pairwise_backward(np.triu(d), c),
        },
        shown=[textbook.euclidean_backward],
    ),
    "momentum": Values(
        textbook.sgd_step,
        "w velocity",
        [(*normal((3, 6)), 0.1, 0.9), (*normal((3, 6)), 0.2, 0.5)],
        {
            "w goes up the gradient: the step must be subtracted": lambda *a: textbook.sgd_step(*a[:3], -a[3], a[4]),
            "the velocity is not kept from step to step": lambda *a: textbook.sgd_step(*a[:4], 0),
        },
    ),
    "adam": Values(
        textbook.adam_step,
        "w m v",
        [(*abs(normal((4, 6))), 0.1 * t, 0.9 / t, 0.99 / t, 1e-3 * t, 0.1 * t, 0.01 * t) for t in (1, 2)],
        {
            "w goes up the gradient: the step must be subtracted": lambda *a: textbook.adam_step(*a[:4], -a[4], *a[5:]),
            "the corrections are forgotten": lambda *a: textbook.adam_step(*a[:8], 1, 1),
            "epsilon is forgotten": lambda *a: textbook.adam_step(*a[:7], 0, *a[8:]),
        },
    ),
    "numeric_derivative": Values(
        solutions.numeric_gradient,
        "gradient",
        [(lambda x: (x**2).sum() + 3 * x[0], normal(3)), (lambda x: np.sin(x).sum() * x[0, 1], normal((2, 3)))],
        {"divided by h where 2 h is meant": lambda function, x: 2 * solutions.numeric_gradient(function, x)},
        tolerance=1e-9,
    ),
    "bug_dense": _dense,
    "bug_relu": _relu,
    "bug_pooling": _pooling,
    "bug_conv": _strides,
    "bug_loss": _loss,
    "bug_siamese": _shared,
    "kernel": Kernel("loops", times=0),
    "fast_kernel": Kernel("channels", times=3),
}
