"""Layers as other people write them, checked as they are: the correct gradient passes, and a wrong one fails."""

# ruff: noqa: NPY002  (layers of other people draw from numpy.random)

import copy
import functools

import numpy as np
import pytest

from siamese_np.gradcheck import check_gradients


def draw(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def names(report):
    return [array.name for array in report.cases[0].arrays]


def wrong_ones(report):
    return {array.name for _, array in report.arrays if array.verdict == "FAIL"}


def findings(report) -> str:
    return "\n".join(check.remark for case in report.cases for check in case.checks if check.verdict != "PASS")


X, Y = draw(4, 5), np.array([2, 0, 1, 2])


# --- the styles: each is a function of `off`, a factor that spoils one gradient, of the names in `spoilt` --------


def affine_forward(x, w, b):
    out = x.reshape(x.shape[0], -1).dot(w) + b
    return out, (x, w, b)


def affine_backward(dout, cache, off=1):
    x, w, _ = cache
    dx = dout.dot(w.T).reshape(x.shape)
    dw = x.reshape(x.shape[0], -1).T.dot(dout)
    return dx, off * dw, dout.sum(axis=0)


def softmax_loss(x, y, off=1):
    """Loss and gradient in one function, with labels."""
    shifted = x - x.max(axis=1, keepdims=True)
    log_probs = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    dx = np.exp(log_probs)
    dx[np.arange(len(y)), y] -= 1
    return -log_probs[np.arange(len(y)), y].mean(), off * dx / len(y)


def lstm_step_forward(x, prev_h, prev_c, Wx, Wh, b):
    a = x.dot(Wx) + prev_h.dot(Wh) + b
    i, f, o, g = np.split(a, 4, axis=1)
    i, f, o, g = 1 / (1 + np.exp(-i)), 1 / (1 + np.exp(-f)), 1 / (1 + np.exp(-o)), np.tanh(g)
    next_c = f * prev_c + i * g
    return o * np.tanh(next_c), next_c, (x, prev_h, prev_c, Wx, Wh, i, f, o, g, next_c)


def lstm_step_backward(dnext_h, dnext_c, cache, off=1):
    x, prev_h, prev_c, Wx, Wh, i, f, o, g, next_c = cache
    t = np.tanh(next_c)
    dc = dnext_c + dnext_h * o * (1 - t**2)
    parts = dc * g * i * (1 - i), dc * prev_c * f * (1 - f), dnext_h * t * o * (1 - o), dc * i * (1 - g**2)
    da = np.concatenate(parts, axis=1)
    return da.dot(Wx.T), da.dot(Wh.T), off * dc * f, x.T.dot(da), prev_h.T.dot(da), da.sum(axis=0)


def batchnorm_forward(x, gamma, beta, bn_param):
    """Training mode; running averages are kept in the dict of settings."""
    eps, momentum = bn_param.get("eps", 1e-5), bn_param.get("momentum", 0.9)
    mean, var = x.mean(axis=0), x.var(axis=0)
    running = bn_param.get("running_mean", np.zeros(x.shape[1]))
    bn_param["running_mean"] = momentum * running + (1 - momentum) * mean
    x_hat = (x - mean) / np.sqrt(var + eps)
    return gamma * x_hat + beta, (x_hat, gamma, np.sqrt(var + eps))


def batchnorm_backward(dout, cache, off=1):
    x_hat, gamma, std = cache
    dx_hat = dout * gamma
    dx = (dx_hat - dx_hat.mean(axis=0) - x_hat * (dx_hat * x_hat).mean(axis=0)) / std
    return dx, off * (dout * x_hat).sum(axis=0), dout.sum(axis=0)


def dropout_forward(x, dropout_param):
    p = dropout_param["p"]
    if "seed" in dropout_param:
        np.random.seed(dropout_param["seed"])
    mask = (np.random.rand(*x.shape) < p) / p
    return x * mask, (dropout_param, mask)


def dropout_backward(dout, cache, off=1):
    return off * dout * cache[1]


def embedding_forward(x, W):
    return W[x], (x, W)


def embedding_backward(dout, cache, off=1):
    x, W = cache
    dW = np.zeros_like(W)
    if off == 1:
        np.add.at(dW, x, dout)
    else:
        dW[x] = dout  # repeated words are lost
    return dW


def affine_dict_backward(dout, cache, off=1):
    dx, dw, db = affine_backward(dout, cache, off)
    return {"dx": dx, "db": db, "dw": dw}


FUNCTIONS = {
    "forward and backward": (affine_forward, affine_backward, (X, draw(5, 3), draw(3)), {"w"}),
    "a dict of gradients": (affine_forward, affine_dict_backward, (X, draw(5, 3), draw(3)), {"w"}),
    "several outputs, each with its dout": (
        lstm_step_forward,
        lstm_step_backward,
        (draw(2, 3), draw(2, 4), draw(2, 4), draw(3, 16), draw(4, 16), draw(16)),
        {"prev_c"},
    ),
    "batch norm in training mode": (
        batchnorm_forward,
        batchnorm_backward,
        (draw(6, 3), draw(3) + 2, draw(3), {"mode": "train"}),
        {"gamma"},
    ),
    "dropout with a seed": (dropout_forward, dropout_backward, (X, {"p": 0.6, "seed": 1}), {"x"}),
    "whole numbers and a table": (
        embedding_forward,
        embedding_backward,
        (np.array([[1, 2], [2, 0]]), draw(4, 3)),
        {"W"},
    ),
}


@pytest.mark.parametrize("style", FUNCTIONS)
def test_functions(style):
    forward, backward, arguments, spoilt = FUNCTIONS[style]
    report = check_gradients(forward, *arguments, backward=backward)
    assert report.passed, str(report)
    report = check_gradients(forward, *arguments, backward=functools.partial(backward, off=-1))
    assert report.verdict == "FAIL" and wrong_ones(report) == spoilt, str(report)


# --- objects: `off` is an attribute, which spoils a gradient -----------------------------------------------------


class ParamsDict:
    """Dicts of parameters and gradients, state on self; gradients are made anew."""

    def __init__(self):
        self.params = {"W": draw(5, 3), "b": draw(3)}
        self.grads = {}

    def forward(self, x):
        self.x = x
        return x @ self.params["W"] + self.params["b"]

    def backward(self, dout):
        self.grads = {"W": self.off * self.x.T @ dout, "b": dout.sum(axis=0)}
        return dout @ self.params["W"].T


class Attributes:
    def __init__(self):
        self.W, self.b = draw(5, 3), np.zeros(3)

    def forward(self, x):
        self.x = x
        return np.dot(x, self.W) + self.b

    def backward(self, dout):
        self.dW = self.off * np.dot(self.x.T, dout)
        self.db = np.sum(dout, axis=0)
        return np.dot(dout, self.W.T)


class CacheAndAttributes:
    """Both a cache and attributes."""

    def __init__(self):
        self.W, self.b = draw(5, 3), np.zeros(3)

    def forward(self, x):
        return x @ self.W + self.b, x

    def backward(self, d, x):
        self.dW, self.db = self.off * x.T @ d, d.sum(0)
        return d @ self.W.T


class Lists:
    def __init__(self):
        self.params = [draw(5, 3), draw(3)]
        self.grads = [np.zeros_like(self.params[0]), np.zeros_like(self.params[1])]

    def forward(self, x):
        self.x = x
        return x @ self.params[0] + self.params[1]

    def backward(self, dout):
        self.grads[0][...] = self.off * self.x.T @ dout
        self.grads[1][...] = dout.sum(axis=0)
        return dout @ self.params[0].T


class Accumulates(Lists):
    def backward(self, dout):
        self.grads[0] += self.off * self.x.T @ dout
        self.grads[1] += dout.sum(axis=0)
        return dout @ self.params[0].T


class Book:
    """Nothing is returned: output and gradients are attributes."""

    def __init__(self):
        self.weights, self.biases = 0.5 * draw(5, 3), np.zeros((1, 3))

    def forward(self, inputs, training):
        self.inputs = inputs
        self.output = np.dot(inputs, self.weights) + self.biases

    def backward(self, dvalues):
        self.dweights = self.off * np.dot(self.inputs.T, dvalues)
        self.dbiases = np.sum(dvalues, axis=0, keepdims=True)
        self.dinputs = np.dot(dvalues, self.weights.T)


class BookLoss:
    """A loss for each sample; backward begins with the predictions, and is the gradient of the mean."""

    def forward(self, y_pred, y_true):
        return -np.log(y_pred[range(len(y_pred)), y_true])

    def backward(self, dvalues, y_true):
        samples, labels = len(dvalues), len(dvalues[0])
        self.dinputs = self.off * -np.eye(labels)[y_true] / dvalues / samples


class FrameworkLayer:
    """forward_pass and backward_pass; weights are made when the first input is seen, and replaced in backward."""

    def __init__(self):
        self.W, self.learning_rate = None, 0.1

    def forward_pass(self, X, training=True):
        if self.W is None:
            self.W, self.w0 = np.random.uniform(-1, 1, (X.shape[1], 3)), np.zeros((1, 3))
        self.layer_input = X
        return X.dot(self.W) + self.w0

    def backward_pass(self, accum_grad):
        W = self.W
        self.W = self.W - self.learning_rate * self.off * self.layer_input.T.dot(accum_grad)
        self.w0 = self.w0 - self.learning_rate * np.sum(accum_grad, axis=0, keepdims=True)
        return accum_grad.dot(W.T)


class Prop:
    """fprop and bprop, an update in place, the learning rate as an argument."""

    def __init__(self):
        self.W, self.b = draw(5, 3), draw(3)

    def fprop(self, inputs):
        self.inputs = inputs
        return np.tanh(inputs @ self.W + self.b)

    def bprop(self, grad_output, learning_rate):
        delta = grad_output * (1 - np.tanh(self.inputs @ self.W + self.b) ** 2)
        grad_input = delta @ self.W.T
        self.W -= learning_rate * self.off * self.inputs.T @ delta
        self.b -= learning_rate * delta.sum(axis=0)
        return grad_input


class InputAgain:
    """backward(input, grad_output) with gradients under a name of their own."""

    def __init__(self):
        self.weights, self.biases = draw(5, 3), np.zeros(3)

    def forward(self, input):
        return input @ self.weights + self.biases

    def backward(self, input, grad_output):
        self.grad_weights, self.grad_biases = self.off * input.T @ grad_output, grad_output.sum(axis=0)
        return grad_output @ self.weights.T


class Course:
    """dLdW beside W."""

    def __init__(self):
        self.W, self.b = draw(3, 5), draw(3, 1)

    def forward(self, A):
        self.A, self.N = A, A.shape[0]
        return self.A @ self.W.T + np.ones((self.N, 1)) @ self.b.T

    def backward(self, dLdZ):
        self.dLdW = self.off * dLdZ.T @ self.A
        self.dLdb = dLdZ.T @ np.ones((self.N, 1))
        return dLdZ @ self.W


class Param:
    def __init__(self, value):
        self.value, self.grad = value, np.zeros_like(value)


class ParamObjects:
    def __init__(self):
        self.W, self.B = Param(draw(5, 3)), Param(draw(1, 3))

    def forward(self, X):
        self.X = X
        return X @ self.W.value + self.B.value

    def backward(self, d_out):
        self.W.grad += self.off * self.X.T @ d_out
        self.B.grad += d_out.sum(axis=0, keepdims=True)
        return d_out @ self.W.value.T


class PReLU:
    """A learnable number."""

    def __init__(self):
        self.alpha = 0.25

    def __call__(self, x):
        self.x = x
        return np.where(x > 0, x, self.alpha * x)

    def backward(self, dout):
        self.dalpha = self.off * np.sum(dout * np.where(self.x > 0, 0, self.x))
        return dout * np.where(self.x > 0, 1, self.alpha)


class BatchNorm:
    """Running averages on the layer, training mode."""

    def __init__(self):
        self.gamma, self.beta = draw(5) + 2, draw(5)
        self.running_mean, self.running_var, self.train = np.zeros(5), np.ones(5), True

    def forward(self, x):
        if not self.train:
            return self.gamma * (x - self.running_mean) / np.sqrt(self.running_var + 1e-5) + self.beta
        mean, var = x.mean(axis=0), x.var(axis=0)
        self.running_mean = 0.9 * self.running_mean + 0.1 * mean
        self.running_var = 0.9 * self.running_var + 0.1 * var
        self.std = np.sqrt(var + 1e-5)
        self.x_hat = (x - mean) / self.std
        return self.gamma * self.x_hat + self.beta

    def backward(self, dout):
        self.dgamma, self.dbeta = self.off * (dout * self.x_hat).sum(axis=0), dout.sum(axis=0)
        d = dout * self.gamma
        return (d - d.mean(axis=0) - self.x_hat * (d * self.x_hat).mean(axis=0)) / self.std


class Dropout:
    """Random numbers from a generator of its own."""

    def __init__(self):
        self.rng = np.random.default_rng(3)

    def forward(self, x):
        self.mask = self.rng.random(x.shape) < 0.7
        return x * self.mask

    def backward(self, dout):
        return self.off * dout * self.mask


class SoftmaxWithLoss:
    """backward(dout=1), which it ignores; labels beside the input."""

    def forward(self, x, t):
        e = np.exp(x - x.max(axis=1, keepdims=True))
        self.y, self.t = e / e.sum(axis=1, keepdims=True), t
        return -np.log(self.y[np.arange(len(t)), t]).mean()

    def backward(self, dout=1):
        dx = self.y.copy()
        dx[np.arange(len(self.t)), self.t] -= 1
        return self.off * dx / len(self.t)


class MeanSquares:
    def forward(self, prediction, target):
        self.diff = prediction - target
        return np.mean(self.diff**2)

    def backward(self):
        return self.off * 2 * self.diff / self.diff.size


class Returned:
    """The gradients of the parameters are returned after that of the input."""

    def __init__(self):
        self.w, self.b = draw(5, 3), draw(3)

    def forward(self, x):
        self.x = x
        return x @ self.w + self.b

    def backward(self, dout):
        return dout @ self.w.T, self.off * self.x.T @ dout, dout.sum(axis=0)


class OneVector:
    """Parameters are views of one vector, and so are gradients."""

    def __init__(self):
        self.theta, self.grad = draw(18), np.zeros(18)
        self.W, self.b = self.theta[:15].reshape(5, 3), self.theta[15:]
        self.dW, self.db = self.grad[:15].reshape(5, 3), self.grad[15:]

    def forward(self, x):
        self.x = x
        return x @ self.W + self.b

    def backward(self, dout):
        self.dW[...] = self.off * self.x.T @ dout
        self.db[...] = dout.sum(axis=0)
        return dout @ self.W.T


class VectorOfGradients:
    """Parameters as attributes, their gradients as one vector."""

    def __init__(self):
        self.W, self.b = draw(5, 3), draw(3)

    def forward(self, x):
        self.x = x
        return x @ self.W + self.b

    def backward(self, dout):
        self.grads = np.concatenate([(self.off * self.x.T @ dout).ravel(), dout.sum(axis=0)])
        return dout @ self.W.T


class Network:
    """Layers within a layer, and pairs of lists."""

    def __init__(self):
        self.weights, self.biases = [draw(5, 4), draw(4, 2)], [draw(4), draw(2)]

    def feedforward(self, x):
        self.a = [x]
        for w, b in zip(self.weights, self.biases, strict=True):
            self.a.append(np.tanh(self.a[-1] @ w + b))
        return self.a[-1]

    def backprop(self, delta):
        self.grad_weights, self.grad_biases = [None] * 2, [None] * 2
        for i in (1, 0):
            delta = delta * (1 - self.a[i + 1] ** 2)
            self.grad_weights[i], self.grad_biases[i] = self.off * self.a[i].T @ delta, delta.sum(axis=0)
            delta = delta @ self.weights[i].T
        return delta


class Model:
    def __init__(self):
        self.layers = [Attributes(), Activation(), Hidden()]

    @property
    def off(self):
        return self.layers[0].off

    @off.setter
    def off(self, value):
        for layer in self.layers:
            layer.off = 1
        self.layers[0].off = value

    def forward(self, x):
        for layer in self.layers:
            x = layer.forward(x)
        return x

    def backward(self, dout):
        for layer in reversed(self.layers):
            dout = layer.backward(dout)
        return dout


class Activation:
    def forward(self, x):
        self.y = 1 / (1 + np.exp(-x))
        return self.y

    def backward(self, d):
        return self.off * d * self.y * (1 - self.y)


class Hidden(Attributes):
    def __init__(self):
        self.W, self.b = draw(3, 2), np.zeros(2)


class Sigmoid:
    """A call and its derivative."""

    def __call__(self, x):
        return 1 / (1 + np.exp(-x))

    def gradient(self, x):
        return self.off * self(x) * (1 - self(x))


class Float32(ParamsDict):
    def __init__(self):
        self.params = {"W": draw(5, 3).astype(np.float32), "b": np.zeros(3, np.float32)}
        self.grads = {"W": np.zeros((5, 3), np.float32), "b": np.zeros(3, np.float32)}


class TwoOutputs:
    """Outputs of two shapes."""

    def forward(self, x):
        self.x = x
        return np.tanh(x), x.sum(axis=1)

    def backward(self, dout):
        d_tanh, d_sum = dout
        return self.off * d_tanh * (1 - np.tanh(self.x) ** 2) + d_sum[:, None]


class PureLists:
    """Python lists in and out."""

    def forward(self, x):
        self.x = [float(v) for v in x]
        return [v * v for v in self.x]

    def backward(self, dout):
        return [self.off * 2 * d * v for d, v in zip(dout, self.x, strict=True)]


P = np.full((4, 3), 0.2) + 0.1 * np.random.default_rng(1).random((4, 3))
OBJECTS = {
    ParamsDict: ((X,), ["x", "W", "b"], {"W"}),
    Attributes: ((X,), ["x", "W", "b"], {"W"}),
    CacheAndAttributes: ((X,), ["x", "W", "b"], {"W"}),
    Lists: ((X,), ["x", "params[0]", "params[1]"], {"params[0]"}),
    Accumulates: ((X,), ["x", "params[0]", "params[1]"], {"params[0]"}),
    Book: ((X, True), ["inputs", "weights", "biases"], {"weights"}),
    BookLoss: ((P, Y), ["y_pred"], {"y_pred"}),
    FrameworkLayer: ((X,), ["X", "W", "w0"], {"W"}),
    Prop: ((X,), ["inputs", "W", "b"], {"W"}),
    InputAgain: ((X,), ["input", "weights", "biases"], {"weights"}),
    Course: ((X,), ["A", "W", "b"], {"W"}),
    ParamObjects: ((X,), ["X", "W.value", "B.value"], {"W.value"}),
    PReLU: ((X,), ["x", "alpha"], {"alpha"}),
    BatchNorm: ((X,), ["x", "gamma", "beta"], {"gamma"}),
    Dropout: ((X,), ["x"], {"x"}),
    SoftmaxWithLoss: ((X, Y), ["x"], {"x"}),
    MeanSquares: ((X, draw(4, 5, seed=1)), ["prediction"], {"prediction"}),
    Returned: ((X,), ["x", "w", "b"], {"w"}),
    OneVector: ((X,), ["x", "W", "b"], {"W"}),
    VectorOfGradients: ((X,), ["x", "W", "b"], {"W"}),
    Network: (
        (X,),
        ["x", "weights[0]", "weights[1]", "biases[0]", "biases[1]"],
        {"weights[0]", "weights[1]"},
    ),
    Model: ((X,), ["x", "layers[0].W", "layers[0].b", "layers[2].W", "layers[2].b"], {"layers[0].W"}),
    Activation: ((X,), ["x"], {"x"}),
    Sigmoid: ((X,), ["x"], {"x"}),
    Float32: ((X,), ["x", "W", "b"], {"W"}),
    TwoOutputs: ((X,), ["x"], {"x"}),
    PureLists: ((np.array([0.5, -1.2, 2.0]),), ["x"], {"x"}),
}


def made(style, off=1):
    np.random.seed(0)
    layer = style()
    layer.off = off
    return layer


@pytest.mark.parametrize("style", OBJECTS)
def test_objects(style):
    arguments, expected, spoilt = OBJECTS[style]
    layer = made(style)
    before = copy.deepcopy(vars(layer))
    report = check_gradients(layer, *arguments)
    assert report.passed and sorted(names(report)) == sorted(expected), str(report)
    assert str(vars(layer)).split("rng")[0] == str(before).split("rng")[0] or style in (Model, ParamObjects)
    report = check_gradients(made(style, -1), *arguments)
    assert report.verdict == "FAIL" and wrong_ones(report) == spoilt, str(report)
