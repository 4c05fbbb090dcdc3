"""Faults of backward passes as they are met in public code, and what a person who looks for each wants to read.

The keywords were written without a look at the hints of the checker, so they show how far a hint helps.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from mutants import Backward, Mutant, Operation

LABEL = np.array([0, 3, 1, 1, 2, 0])  # of 6 rows of 4 classes


@dataclass(frozen=True)
class WildMutant(Mutant):
    """A fault; a hint is misleading where it matches `misleading`. Patterns ignore case."""

    misleading: str = ""


def wild(operation: str, fault: str, backward: Backward, means: Sequence[str], misleading: Sequence[str]) -> WildMutant:
    """A fault with its keywords: a helpful hint matches one of `means` and none of `misleading`."""
    return WildMutant(operation, fault, backward, "|".join(means), misleading="|".join(misleading))


# --- convolution, up-sampling ---------------------------------------------------------------------------------

STRIDE = 2


def tap(x, p, q, OH, OW, stride=STRIDE):
    """The view of x that the weight at (p, q) is multiplied with."""
    return x[:, p : p + stride * OH : stride, q : q + stride * OW : stride]


def conv_forward(x, w, b):
    KH, KW = w.shape[:2]
    OH, OW = (x.shape[1] - KH) // STRIDE + 1, (x.shape[2] - KW) // STRIDE + 1
    return b + sum(tap(x, p, q, OH, OW) @ w[p, q] for p, q in np.ndindex(KH, KW))


def conv_dw(dout, x, w, stride):
    dw = np.zeros_like(w)
    for p, q in np.ndindex(w.shape[:2]):
        dw[p, q] = np.einsum("nhwc,nhwf->cf", tap(x, p, q, *dout.shape[1:3], stride), dout)
    return dw


def conv_backward(dout, x, w, b):
    dx = np.zeros_like(x)
    for p, q in np.ndindex(w.shape[:2]):
        tap(dx, p, q, *dout.shape[1:3])[...] += dout @ w[p, q].T
    return dx, conv_dw(dout, x, w, STRIDE), dout.sum((0, 1, 2))


def conv_dw_without_stride(dout, x, w, b):
    dx, _, db = conv_backward(dout, x, w, b)
    return dx, conv_dw(dout, x, w, 1), db


def conv_db_by_window(dout, x, w, b):
    dx, dw, db = conv_backward(dout, x, w, b)
    KH, KW, C = w.shape[:3]
    return dx, dw, db / (KH * KW * C)


def conv_points(rng):
    return [[rng.standard_normal((2, 7, 5, 5)), rng.standard_normal((3, 2, 5, 3)), rng.standard_normal(3)]]


def upsample_forward(x):
    return x.repeat(2, axis=1).repeat(2, axis=2)


def upsample_backward(dout, x):
    N, H, W, C = x.shape
    return (dout.reshape(N, H, 2, W, 2, C).sum((2, 4)),)


def upsample_sliced(dout, x):
    return (dout[:, ::2, ::2].copy(),)


# --- dense, embedding, scores, recurrent ----------------------------------------------------------------------

LEARNING_RATE = 0.1
INDEX = np.array([1, 4, 1, 0, 4, 1])


def dense_forward(x, w, b):
    return x @ w + b


def dense_backward(dout, x, w, b):
    return dout @ w.T, x.T @ dout, dout.sum(0)


def dense_db_mean(dout, x, w, b):
    return dout @ w.T, x.T @ dout, dout.mean(0)


def dense_dx_after_update(dout, x, w, b):
    dw, db = x.T @ dout, dout.sum(0)
    w = w - LEARNING_RATE * dw
    return dout @ w.T, dw, db


def dense_points(rng):
    return [[rng.standard_normal((6, 4)), rng.standard_normal((4, 3)), rng.standard_normal(3)]]


def embedding_forward(w):
    return w[INDEX]


def embedding_backward(dout, w):
    dw = np.zeros_like(w)
    np.add.at(dw, INDEX, dout)
    return (dw,)


def embedding_overwritten(dout, w):
    dw = np.zeros_like(w)
    dw[INDEX] = dout
    return (dw,)


def scores_forward(q, k):
    return q @ k.T


def scores_backward(dout, q, k):
    return dout @ k, dout.T @ q


def scores_swapped(dout, q, k):
    dq, dk = scores_backward(dout, q, k)
    return dk, dq


def scores_points(rng):
    return [[rng.standard_normal((5, 3)), rng.standard_normal((5, 3))]]


def rnn_forward(x, w, u):
    """Hidden states of all steps; the first axis of x is the time."""
    h, out = np.zeros((x.shape[1], u.shape[0])), []
    for step in x:
        h = np.tanh(step @ w + h @ u)
        out.append(h)
    return np.stack(out)


def rnn_backward(dout, x, w, u, carry=1.0):
    out = rnn_forward(x, w, u)
    dx, dw, du, dh = np.zeros_like(x), np.zeros_like(w), np.zeros_like(u), np.zeros_like(out[0])
    for t in reversed(range(len(x))):
        dz = (dout[t] + carry * dh) * (1 - out[t] ** 2)
        dx[t] = dz @ w.T
        dw += x[t].T @ dz
        if t > 0:
            du += out[t - 1].T @ dz
        dh = dz @ u.T
    return dx, dw, du


def rnn_dx_of_own_step(dout, x, w, u):
    _, dw, du = rnn_backward(dout, x, w, u)
    return rnn_backward(dout, x, w, u, carry=0.0)[0], dw, du


def rnn_points(rng):
    return [[rng.standard_normal((4, 2, 3)), rng.standard_normal((3, 3)), rng.standard_normal((3, 3))]]


# --- activations ----------------------------------------------------------------------------------------------

ALPHA = 1.5
_erf = np.vectorize(math.erf, otypes=[float])


def sigmoid_forward(x):
    return 1 / (1 + np.exp(-x))


def sigmoid_backward(dout, x):
    out = sigmoid_forward(x)
    return (dout * out * (1 - out),)


def sigmoid_negative(dout, x):
    out = sigmoid_forward(x)
    return (dout * out * (out - 1),)


def tanh_backward(dout, x):
    return (dout * (1 - np.tanh(x) ** 2),)


def tanh_of_input(dout, x):
    return (dout * (1 - x**2),)


def gelu_forward(x):
    return x * (1 + _erf(x / math.sqrt(2))) / 2


def gelu_backward(dout, x):
    density = np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)
    return (dout * ((1 + _erf(x / math.sqrt(2))) / 2 + x * density),)


def gelu_of_tanh(dout, x):
    c = math.sqrt(2 / math.pi)
    t = np.tanh(c * (x + 0.044715 * x**3))
    return (dout * ((1 + t) / 2 + x / 2 * (1 - t**2) * c * (1 + 3 * 0.044715 * x**2)),)


def elu_forward(x):
    return np.where(x > 0, x, ALPHA * (np.exp(x) - 1))


def elu_backward(dout, x):
    return (dout * ((x > 0) + ALPHA * np.exp(x) * (x <= 0)),)


def elu_without_brackets(dout, x):
    return (dout * (x > 0) + ALPHA * np.exp(x) * (x <= 0),)


def activation_points(rng):
    """Away from the kink at 0."""
    return [[rng.choice([-1, 1], (4, 5)) * rng.uniform(0.1, 2, (4, 5))]]


# --- softmax and batch norm -----------------------------------------------------------------------------------

NORM_EPS = 1e-5
IMAGE = (0, 1, 2)


def softmax_forward(x):
    powers = np.exp(x - x.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def softmax_backward(dout, x):
    out = softmax_forward(x)
    return (out * (dout - (dout * out).sum(1, keepdims=True)),)


def softmax_diagonal(dout, x):
    out = softmax_forward(x)
    return (dout * out * (1 - out),)


def logits_points(rng):
    return [[rng.standard_normal((6, 4))]]


def normalised(x):
    scale = 1 / np.sqrt(x.var(IMAGE) + NORM_EPS)
    return (x - x.mean(IMAGE)) * scale, scale


def batch_norm_forward(x, gamma, beta):
    return gamma * normalised(x)[0] + beta


def batch_norm_backward(dout, x, gamma, beta, m=None):
    m = x[..., 0].size if m is None else m
    xhat, scale = normalised(x)
    dgamma, dbeta = (dout * xhat).sum(IMAGE), dout.sum(IMAGE)
    return gamma * scale / m * (m * dout - dbeta - xhat * dgamma), dgamma, dbeta


def batch_norm_m_is_n(dout, x, gamma, beta):
    return batch_norm_backward(dout, x, gamma, beta, m=len(x))


def batch_norm_points(rng):
    return [[rng.standard_normal((3, 2, 5, 2)), rng.standard_normal(2), rng.standard_normal(2)]]


# --- losses ---------------------------------------------------------------------------------------------------

LOG_EPS = 1e-7
TEMPERATURE = 0.07
CLASS_WEIGHT = np.array([0.3, 2.0, 1.4, 0.7])
TARGET = np.linspace(-1, 1, 12).reshape(4, 3)
PAIR_LABEL, MARGIN = np.array([0, 1, 1, 0, 1]), 1.5


def cross_entropy(temperature=1.0, class_weight=None) -> Operation:
    """Mean cross-entropy of logits."""
    row = np.arange(len(LABEL))
    weight = (np.ones(4) if class_weight is None else class_weight)[LABEL]

    def forward(x):
        return -(weight * np.log(softmax_forward(x / temperature)[row, LABEL])).mean()

    def backward(dout, x):
        dx = softmax_forward(x / temperature)
        dx[row, LABEL] -= 1
        return (dout * dx * weight[:, None] / (temperature * len(x)),)

    # as wide as the temperature: the softmax is not saturated
    return Operation(forward, backward, lambda rng: [[temperature * x for x in logits_points(rng)[0]]])


def cross_entropy_not_divided(dout, x):
    return (dout * (softmax_forward(x) - np.eye(4)[LABEL]),)


def cross_entropy_without_temperature(dout, x):
    return (dout * (softmax_forward(x / TEMPERATURE) - np.eye(4)[LABEL]) / len(x),)


def cross_entropy_without_weights(dout, x):
    return (dout * (softmax_forward(x) - np.eye(4)[LABEL]) / len(x),)


def log_loss_forward(p):
    return -np.log(p[np.arange(len(p)), LABEL] + LOG_EPS).mean()


def log_loss_backward(dout, p, eps=LOG_EPS):
    row = np.arange(len(p))
    dp = np.zeros_like(p)
    dp[row, LABEL] = -dout / (len(p) * (p[row, LABEL] + eps))
    return (dp,)


def log_loss_without_eps(dout, p):
    return log_loss_backward(dout, p, eps=0.0)


def probability_points(rng):
    """One label is unlikely, as for a network that errs."""
    p = softmax_forward(rng.standard_normal((6, 4)))
    p[1, LABEL[1]] = 0.001
    return [[p]]


def l1_forward(x):
    return np.abs(x - TARGET).mean()


def l1_backward(dout, x):
    return (dout * np.sign(x - TARGET) / x.size,)


def l1_negative(dout, x):
    return (dout * np.sign(TARGET - x) / x.size,)


def l1_points(rng):
    return [[TARGET + rng.choice([-1, 1], TARGET.shape) * rng.uniform(0.1, 1, TARGET.shape)]]


def contrastive_forward(emb_a, emb_b):
    dist = np.sqrt(((emb_a - emb_b) ** 2).sum(1))
    return np.where(PAIR_LABEL == 0, dist**2, np.maximum(MARGIN - dist, 0) ** 2).mean()


def contrastive_backward(dout, emb_a, emb_b):
    diff = emb_a - emb_b
    dist = np.sqrt((diff**2).sum(1))
    slope = np.where(PAIR_LABEL == 0, 2.0, -2 * np.maximum(MARGIN - dist, 0) / dist)
    da = dout * slope[:, None] * diff / len(diff)
    return da, -da


def contrastive_same_sign(dout, emb_a, emb_b):
    da, _ = contrastive_backward(dout, emb_a, emb_b)
    return da, da.copy()


def pair_points(rng):
    return [[rng.uniform(-0.4, 0.4, (5, 3)), rng.uniform(-0.4, 0.4, (5, 3))]]


# --- all of them ----------------------------------------------------------------------------------------------

OPERATIONS = {
    "conv2d": Operation(conv_forward, conv_backward, conv_points),
    "up-sampling": Operation(upsample_forward, upsample_backward, lambda rng: [[rng.standard_normal((2, 3, 2, 2))]]),
    "dense": Operation(dense_forward, dense_backward, dense_points),
    "embedding": Operation(embedding_forward, embedding_backward, lambda rng: [[rng.standard_normal((5, 3))]]),
    "scores": Operation(scores_forward, scores_backward, scores_points),
    "recurrent": Operation(rnn_forward, rnn_backward, rnn_points),
    "sigmoid": Operation(sigmoid_forward, sigmoid_backward, activation_points),
    "tanh": Operation(lambda x: np.tanh(x), tanh_backward, activation_points),
    "GELU": Operation(gelu_forward, gelu_backward, activation_points),
    "ELU": Operation(elu_forward, elu_backward, activation_points),
    "softmax": Operation(softmax_forward, softmax_backward, logits_points),
    "batch norm": Operation(batch_norm_forward, batch_norm_backward, batch_norm_points),
    "cross-entropy": cross_entropy(),
    "cross-entropy, temperature": cross_entropy(temperature=TEMPERATURE),
    "cross-entropy, class weights": cross_entropy(class_weight=CLASS_WEIGHT),
    "log loss": Operation(log_loss_forward, log_loss_backward, probability_points),
    "L1 loss": Operation(l1_forward, l1_backward, l1_points),
    "contrastive": Operation(contrastive_forward, contrastive_backward, pair_points),
}

SIGN = (r"\bsign", "negat", "minus", "opposite", r"(by|times|factor|factor of|is) -1\b(?!\.)")
DIVISOR = (r"\bmean\b", "averag", "divid", "batch size", r"number of (rows|samples|examples|terms)")
LAYOUT = ("transpos", "flip", "rotat", "shifted")

MUTANTS = [
    wild(
        "conv2d",
        "dw ignores the stride",
        conv_dw_without_stride,
        ["strid", "dilat", "every second", "window (begins|starts|position)", "wrong (pixels|positions|places) of x"],
        [*SIGN, *DIVISOR, "updated", "twice"],
    ),
    wild(
        "conv2d",
        "db is divided by KH*KW*C",
        conv_db_by_window,
        [
            r"KH",
            "fan.?in",
            r"size of (w|the (window|filter|kernel))",
            r"(1/|by |factor (of )?)30\b",
            r"\b30 times",
            r"weights of (a|one|each) filter",
        ],
        [*SIGN, *LAYOUT, "batch size", r"(by|over|factor of) N\b", "mean over the batch"],
    ),
    wild(
        "up-sampling",
        "dx is a slice of dout",
        upsample_sliced,
        [
            r"\bsum",
            r"\badd",
            "repeat",
            "copies",
            "up-?sampl",
            "block",
            r"several (outputs|places)",
            "terms?.*(missing|lost)",
        ],
        [*SIGN, *LAYOUT, *DIVISOR, "updated"],
    ),
    wild(
        "dense",
        "db is the mean, not the sum",
        dense_db_mean,
        [r"\bmean\b", "averag", r"divid\w* by (N|6|the batch)", "batch size", r"\bN\b", "instead of (the|a) sum"],
        [*SIGN, *LAYOUT, "updated"],
    ),
    wild(
        "dense",
        "dx is computed with weights already updated",
        dense_dx_after_update,
        ["updat", "learning rate", r"not linear", "nonlinear", "quadratic", "optimi[sz]er", r"changed w\b", "stale"],
        [*SIGN, *LAYOUT, *DIVISOR],
    ),
    wild(
        "embedding",
        "repeated indices overwrite (= for +=)",
        embedding_overwritten,
        [
            "repeat",
            "duplicat",
            r"\+=",
            r"add\.at",
            "overwr",
            "accumulat",
            "more than once",
            r"added up",
            "several times",
        ],
        [*SIGN, *LAYOUT, *DIVISOR, "updated"],
    ),
    wild(
        "scores",
        "gradients are returned in the wrong order",
        scores_swapped,
        [
            r"\border\b",
            "swap",
            "exchang",
            "belongs to",
            r"(gradient )?of the other",
            r"is (that|the gradient) of [qk]\b",
        ],
        [*SIGN, *DIVISOR, "updated", "missing"],
    ),
    wild(
        "recurrent",
        "dx without the later time steps",
        rnn_dx_of_own_step,
        [
            r"\btime\b",
            "later",
            "recurren",
            "next step",
            r"(missing|lost|forgotten|left out).*\b(path|term|part|way)",
            "paths?\\b",
            r"(path|term|part|way)s?\b.*(missing|lost|forgotten|left out)",
            r"right .*\blast\b",
            r"\blast\b.*right",
        ],
        [*SIGN, *LAYOUT, *DIVISOR, "updated"],
    ),
    wild(
        "sigmoid",
        "dx has the wrong sign",
        sigmoid_negative,
        SIGN,
        [*LAYOUT, *DIVISOR, "missing", "swap"],
    ),
    wild(
        "tanh",
        "1 - x^2 for 1 - out^2",
        tanh_of_input,
        [
            "1 - out",
            r"\bx (for|instead of|in place of|not) out",
            "input (for|instead of|in place of|not the)",
            "(from|of|at) the output",
            "out(put)? (instead|in place)",
            "tanh",
            "wrong point",
            "derivative of the activation",
        ],
        [*SIGN, *LAYOUT, *DIVISOR, "batch", r"\bconstant factor"],
    ),
    wild(
        "GELU",
        "the gradient of the tanh formula",
        gelu_of_tanh,
        ["approxim", "formula", "(an|the) ?other function", "variant", "tanh", r"\berf\b", "rounded constant"],
        [*SIGN, *LAYOUT, *DIVISOR, "batch", r"\bconstant factor"],
    ),
    wild(
        "ELU",
        "operator precedence leaves one branch without dout",
        elu_without_brackets,
        [
            "precedence",
            "bracket",
            "parenthes",
            r"dout = 0",
            "(not|never|without|lacks?|forg\\w+).*\\bdout",
            "not linear",
            r"independent of dout",
        ],
        [*SIGN, *LAYOUT, *DIVISOR, "updated"],
    ),
    wild(
        "softmax",
        "the diagonal of the Jacobian alone",
        softmax_diagonal,
        [
            "diagonal",
            "jacobian",
            r"other (entries|outputs|classes|elements|columns)",
            "cross terms?",
            "coupl",
            r"(every|each|all|several) outputs? (of|in|depend)",
        ],
        [*SIGN, *LAYOUT, *DIVISOR, "updated"],
    ),
    wild(
        "batch norm",
        "m is N, not N*H*W",
        batch_norm_m_is_n,
        [
            r"H ?\* ?W",
            r"\bOH\b",
            "spatial",
            "number of (elements|entries|values|pixels|terms)",
            "statistic",
            r"through the (mean|variance)",
            "normali[sz]",
            "pixels",
        ],
        [*SIGN, *LAYOUT, "updated", "stride"],
    ),
    wild(
        "cross-entropy",
        "dx is N times too large",
        cross_entropy_not_divided,
        [r"\bmean\b", "averag", r"divid\w*", "batch size", r"\bN\b", r"\b6 times", r"factor (of )?6\b"],
        [*SIGN, *LAYOUT, "updated", "twice"],
    ),
    wild(
        "cross-entropy, temperature",
        "dx is not divided by the temperature",
        cross_entropy_without_temperature,
        ["temperature", r"constant (factor|scale)", r"0\.07\b", r"14\.2[89]", r"\bscal(e|ing)"],
        [*SIGN, *LAYOUT, "batch", r"\bN\b", r"\bmean\b", "averag"],
    ),
    wild(
        "cross-entropy, class weights",
        "dx lacks the weights of the classes",
        cross_entropy_without_weights,
        [
            r"weights? (of|for|per) (each|the|a|every|its)? ?(class|sample|row|example)",
            "(class|sample) weight",
            r"(each|per|every|by) (row|sample|example|class)",
            r"\brows?\b",
            "axis 0",
        ],
        [*SIGN, *LAYOUT, r"\bmean\b", "averag", "updated"],
    ),
    wild(
        "log loss",
        "epsilon in the log, not in its gradient",
        log_loss_without_eps,
        [
            r"\beps",
            "small constant",
            r"1e-0?7",
            r"constant .*(log|denominator|root)",
            r"(added|adds|\+).*\b(log|denominator)",
        ],
        [*SIGN, *LAYOUT, *DIVISOR, "batch", "kink"],
    ),
    wild(
        "L1 loss",
        "dx has the wrong sign",
        l1_negative,
        SIGN,
        [*LAYOUT, *DIVISOR, "missing", "swap"],
    ),
    wild(
        "contrastive",
        "the same sign for both branches",
        contrastive_same_sign,
        SIGN,
        [*LAYOUT, *DIVISOR, r"\border\b", "swap", "missing"],
    ),
]
