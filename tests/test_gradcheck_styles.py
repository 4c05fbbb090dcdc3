"""Layers as other people write them, checked as they are: the correct gradient passes, and a wrong one fails."""

# ruff: noqa: NPY002  (layers of other people draw from numpy.random)

import copy
import functools
import random
import sys
from types import SimpleNamespace

import numpy as np
import pytest

import siamese_np
from siamese_np.cli import main
from siamese_np.errors import OptionError, ShapeError
from siamese_np.gradcheck import assert_gradients, check_gradients


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


def linear_forward(A, parameters):
    """Parameters in a dict that is an argument."""
    return np.tanh(A @ parameters["W1"] + parameters["b1"]) @ parameters["W2"], (A, parameters)


def linear_backward(dAL, cache, off=1):
    A, parameters = cache
    h = np.tanh(A @ parameters["W1"] + parameters["b1"])
    d = (dAL @ parameters["W2"].T) * (1 - h**2)
    return d @ parameters["W1"].T, {"dW2": off * h.T @ dAL, "db1": d.sum(axis=0), "dW1": A.T @ d}


def row_forward(x, params):
    W, b = params
    return x @ W + b, (x, params)


def row_backward(dout, cache, off=1):
    x, (W, _) = cache
    return dout @ W.T, [off * x.T @ dout, dout.sum(axis=0)]


PARAMETERS = {"W1": draw(5, 4), "b1": draw(4), "W2": draw(4, 2)}
FUNCTIONS |= {
    "a dict of parameters": (linear_forward, linear_backward, (X, PARAMETERS), {"parameters['W2']"}),
    "a list of parameters": (row_forward, row_backward, (X, [draw(5, 3), draw(3)]), {"params[0]"}),
}


@pytest.mark.parametrize("style", FUNCTIONS)
def test_functions(style):
    forward, backward, arguments, spoilt = FUNCTIONS[style]
    report = check_gradients(forward, *arguments, backward=backward)
    assert report.passed, str(report)
    report = check_gradients(forward, *arguments, backward=functools.partial(backward, off=-1))
    assert report.verdict == "FAIL" and wrong_ones(report) == spoilt, str(report)


def test_a_parameter_in_a_dict_without_a_gradient_is_named():
    def backward(dout, cache):
        dx, grads = linear_backward(dout, cache)
        return dx, {"dW1": grads["dW1"], "dW2": grads["dW2"]}

    report = check_gradients(linear_forward, X, PARAMETERS, backward=backward)
    assert report.verdict == "INCONCLUSIVE" and "parameters['b1'] is an array" in findings(report)
    report = check_gradients(linear_forward, X, PARAMETERS, backward=lambda d, c: (linear_backward(d, c)[0], None))
    assert report.verdict == "INCONCLUSIVE" and "parameters['W1'], parameters['b1'], parameters['W2']" in str(report)


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


class BookCombined:
    """Softmax and its loss in one; backward begins with what was kept as output."""

    def forward(self, inputs, y_true):
        e = np.exp(inputs - inputs.max(axis=1, keepdims=True))
        self.output = e / e.sum(axis=1, keepdims=True)
        return -np.log(self.output[range(len(y_true)), y_true]).mean()

    def backward(self, dvalues, y_true):
        self.dinputs = dvalues.copy()
        self.dinputs[range(len(y_true)), y_true] -= 1
        self.dinputs = self.off * self.dinputs / len(y_true)


class ParametersOnly(Attributes):
    """No gradient of the input: one of the parameters is returned first."""

    def backward(self, dout):
        super().backward(dout)
        return self.__dict__.pop("dW"), self.__dict__.pop("db")


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


class OneVectorInParts:
    """One vector of parameters and one of gradients; the layer works with views of the first."""

    def __init__(self):
        self.params, self.grads = draw(18), np.zeros(18)
        self.W, self.b = self.params[:15].reshape(5, 3), self.params[15:]

    def forward(self, x):
        self.x = x
        return x @ self.W + self.b

    def backward(self, dout):
        self.grads[:15] = self.off * (self.x.T @ dout).ravel()
        self.grads[15:] = dout.sum(axis=0)
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
    BookCombined: ((X, Y), ["inputs"], {"inputs"}),
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
    OneVectorInParts: ((X,), ["x", "params"], {"params"}),
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


def test_the_order_of_a_returned_dict_or_of_lists_of_lists_does_not_matter():
    class Nested(Returned):
        def backward(self, dout):
            dx, dw, db = super().backward(dout)
            return dx, {"b": db, "w": dw}

    assert check_gradients(made(Nested), X).passed
    report = check_gradients(made(Nested, 2), X)
    assert wrong_ones(report) == {"w"}


def test_what_was_found_is_said():
    notes = check_gradients(made(Accumulates), X).cases[0].notes
    assert "called as forward(x) and backward(dout); params[0]: grads[0]; params[1]: grads[1]" in notes[0]
    assert any("one layer cannot serve two branches" in note for note in notes)
    assert any("gradients add up from call to call: params[0], params[1]" in note for note in notes)
    assert not any("add up" in note for note in check_gradients(made(Lists), X).cases[0].notes)
    notes = check_gradients(made(Prop), X).cases[0].notes
    assert any("gradients of W, b are read off their update in backward, learning rate 1" in n for n in notes)
    notes = check_gradients(made(BookLoss), P, Y).cases[0].notes
    assert any("gradient of the mean of all outputs" in note for note in notes)
    assert any("not checked, as they are no floating-point numbers: y_true" in note for note in notes)
    report = check_gradients(made(MeanSquares), X, 2 * X)
    assert "target has no gradient; it was taken for labels, and not checked" in str(report)


# --- functions without a backward pass -----------------------------------------------------------------------


def test_a_loss_that_returns_its_gradient():
    report = assert_gradients(softmax_loss, X, Y)
    assert names(report) == ["x"] and "dout is not used: checked at dout = 1" in str(report)
    report = check_gradients(functools.partial(softmax_loss, off=2), X, Y)
    assert report.verdict == "FAIL" and "every entry is multiplied by 2" in str(report)
    assert_gradients(lambda x: ((x**2).sum(), 2 * x), [1, 2])  # whole numbers are meant as floats
    with pytest.raises(OptionError, match=r"lambda cannot be called with x \(4, 5\): it raised TypeError"):
        check_gradients(lambda x: x.sum() + None, X)


def test_the_loss_of_a_model():
    class TwoLayerNet:
        def __init__(self):
            self.params = {"W1": draw(5, 6), "b1": draw(6), "W2": draw(6, 3), "b2": draw(3)}

        def loss(self, X, y=None):
            p = self.params
            h = np.tanh(X @ p["W1"] + p["b1"])
            value, dscores = softmax_loss(h @ p["W2"] + p["b2"], y)
            dh = (dscores @ p["W2"].T) * (1 - h**2)
            grads = {"W1": X.T @ dh, "b1": self.off * dh.sum(0), "W2": h.T @ dscores, "b2": dscores.sum(0)}
            return value, grads

    for off, verdict in ((1, "INCONCLUSIVE"), (2, "FAIL")):
        net = TwoLayerNet()
        net.off = off
        report = check_gradients(net.loss, X, Y)
        assert report.verdict == verdict and sorted(names(report)) == ["W1", "W2", "b1", "b2"]
        assert "no gradient was found of X, which the output depends on: not checked" in findings(report)
        assert wrong_ones(report) == ({"b1"} if off == 2 else set())


def rosenbrock(x):
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


def rosenbrock_gradient(x, off=1):
    g = np.zeros_like(x)
    g[:-1] = -400 * x[:-1] * (x[1:] - x[:-1] ** 2) - 2 * (1 - x[:-1])
    g[1:] += off * 200 * (x[1:] - x[:-1] ** 2)
    return g


def test_a_scalar_function_and_its_gradient():
    x = [1.3, 0.7, 0.8]
    assert_gradients(rosenbrock, x, grad=rosenbrock_gradient)
    assert_gradients(rosenbrock, x, jac=rosenbrock_gradient)
    assert check_gradients(rosenbrock, x, grad=functools.partial(rosenbrock_gradient, off=-1)).verdict == "FAIL"
    assert_gradients(lambda a, b: a @ b, X[0], X[1], grad=lambda a, b: (b, a))
    assert check_gradients(lambda a, b: a @ b**2, X[0], X[1], grad=lambda a, b: (b, a)).verdict == "FAIL"


def test_a_jacobian_and_derivatives_of_all_entries():
    def field(x):
        return np.array([x[0] * x[1], x[1] ** 2, np.sin(x[2])])

    def jacobian(x, off=1):
        return np.array([[x[1], off * x[0], 0], [0, 2 * x[1], 0], [0, 0, np.cos(x[2])]])

    assert_gradients(field, [1.0, 2.0, 3.0], jac=jacobian)
    assert check_gradients(field, [1.0, 2.0, 3.0], jac=lambda x: jacobian(x).T).verdict == "FAIL"
    assert check_gradients(field, [1.0, 2.0, 3.0], jac=functools.partial(jacobian, off=2)).verdict == "FAIL"
    assert_gradients(lambda a, b: a @ b, X[:2], X.T[:, :2], jac=lambda a, b: (
        np.einsum("ik,lj->ijkl", np.eye(2), b), np.einsum("jl,ik->ijkl", np.eye(2), a)))  # fmt: skip
    assert_gradients(np.sin, X, grad=np.cos)
    assert check_gradients(np.sin, X, grad=np.sin).verdict == "FAIL"
    with pytest.raises(ShapeError, match=r"gradient of a scalar or the Jacobian \(3, 3\), not \(2,\)"):
        check_gradients(field, [1.0, 2.0, 3.0], jac=lambda x: x[:2])


# --- what is not checked is never PASS -----------------------------------------------------------------------


def test_attributes_are_checked():
    class Wrong(CacheAndAttributes):
        def backward(self, d, x):
            self.dW, self.db = 0 * self.W, 99 * d.sum(0)
            return d @ self.W.T

    report = check_gradients(Wrong(), X)
    assert report.verdict == "FAIL" and wrong_ones(report) == {"W", "b"}


@pytest.mark.parametrize(
    ("names_", "unchecked"),
    [(("dW", "other"), "b is an array"), (("one", "other"), "W, b are arrays"), (("one", "db"), "W is an array")],
)
def test_an_array_without_a_gradient_is_named(names_, unchecked):
    class Layer(Attributes):
        def backward(self, dout):
            dx = super().backward(dout)
            setattr(self, names_[0], self.__dict__.pop("dW"))
            setattr(self, names_[1], self.__dict__.pop("db"))
            return dx

    report = check_gradients(made(Layer), X)
    assert report.verdict == "INCONCLUSIVE" and unchecked in findings(report)
    assert "def backward(dout, layer): return layer.backward(dout.copy()), layer.dW, layer.db" in findings(report)


def test_a_layer_that_returns_the_gradients_of_its_parameters_alone():
    report = check_gradients(made(ParametersOnly), X)
    assert report.verdict == "INCONCLUSIVE" and names(report) == ["W", "b"]
    assert "no gradient was found of x, which the output depends on" in findings(report)
    assert wrong_ones(check_gradients(made(ParametersOnly, 2), X)) == {"W"}


def test_an_argument_without_a_gradient_is_named():
    def check(backward):
        return check_gradients(lambda a, b: ((a * b).sum(), (a, b)), X, 2 * X, backward=backward)

    report = check(lambda d, c: (d * c[1], None))
    assert report.verdict == "INCONCLUSIVE" and names(report) == ["a"] and "no gradient was found of b" in str(report)
    assert check(lambda d, c: (d * c[1], d * c[0])).passed
    unused = check_gradients(lambda a, b: (a * a, a), X, X, backward=lambda d, a: (2 * d * a, None))
    assert unused.passed and "b has no gradient, and the output does not depend on it" in str(unused)


@pytest.mark.parametrize(
    ("update", "note"),
    [
        (lambda W, g, lr: W - lr * g / (abs(g) + 1e-8), "backward updates W by something else than a rate times"),
        (lambda W, g, lr: W - lr * (g + 0.1 * W), "backward updates W by something else than a rate times"),
        (lambda W, g, lr: W - 0.01 * g, "backward updates W, but the learning rate is not known"),
        (
            lambda W, g, lr: W - 0.01 * g,
            "but the learning rate is not known: no gradient can be told (else lr)",
        ),
    ],
)
def test_an_update_that_tells_no_gradient(update, note):
    class Layer:
        def __init__(self):
            self.W = draw(5, 3)
            if "else" in note:  # it has a rate
                self.lr = 0.1

        def forward(self, x):
            self.x = x
            return x @ self.W

        def backward(self, dout):
            W = self.W
            self.W = update(W, self.x.T @ dout, getattr(self, "lr", 0.1))
            return dout @ W.T

    report = check_gradients(Layer(), X)
    assert report.verdict == "INCONCLUSIVE" and "W is an array" in findings(report)
    assert note.removesuffix(" (else lr)") in str(report)


def test_the_gradient_of_the_input_with_weights_already_updated():
    class Updated(FrameworkLayer):
        def backward_pass(self, accum_grad):
            super().backward_pass(accum_grad)
            return accum_grad.dot(self.W.T)

    assert wrong_ones(check_gradients(made(Updated), X)) == {"X"}


def test_gradients_without_names_go_by_shape():
    class Shuffled(Returned):
        def backward(self, dout):
            dx, dw, db = super().backward(dout)
            return dx, db, dw

    assert check_gradients(made(Shuffled), X).passed


def test_gradients_without_names_and_of_one_shape_go_by_their_slopes():
    class Square:
        def __init__(self):
            self.W, self.V = draw(5, 5), draw(5, 5, seed=1)

        def forward(self, x):
            self.x = x
            return np.tanh(x @ self.W) @ self.V

        def backward(self, dout):
            h = np.tanh(self.x @ self.W)
            dh = dout @ self.V.T * (1 - h**2)
            self.grads = [self.off * h.T @ dout, self.x.T @ dh]  # V first
            return dh @ self.W.T

    report = check_gradients(made(Square), X)
    assert report.passed and "W: grads[1]; V: grads[0]" in str(report)
    assert wrong_ones(check_gradients(made(Square, 2), X)) == {"V"}


def test_arrays_beside_a_call_and_its_derivative_are_named():
    class Linear:
        def __init__(self):
            self.w = draw(5)

        def __call__(self, x):
            return x @ self.w

        def gradient(self, x):
            return self.w

    report = check_gradients(Linear(), X[0])
    assert report.verdict == "INCONCLUSIVE" and "w is an array" in findings(report)


def test_a_gradient_of_another_shape_is_a_fault():
    layer = type(
        "Transposed", (), {"forward": lambda self, x: (2 * x, x), "backward": lambda self, dout, x: 2 * dout.T}
    )
    report = check_gradients(layer(), X)
    assert report.verdict == "FAIL" and "the gradient of x has shape (5, 4), but x has shape (4, 5)" in findings(report)


@pytest.mark.parametrize("name", ["cache", "dist_cache", "dense", "dist", "x"])
def test_the_name_of_the_cache_does_not_matter(name):
    code = f"def backward(dout, {name}):\n    return dout * np.cos({name})"
    found = {"np": np}
    exec(code, found)
    assert check_gradients(lambda dist: (np.sin(dist), dist), X, backward=found["backward"]).passed
    if name in ("dist",):
        assert check_gradients(lambda dist: np.sin(dist), X, backward=found["backward"]).passed


def test_a_layer_that_rounds_to_float32_is_not_called_wrong():
    class Rounds(Float32):
        def forward(self, x):
            return super().forward(x.astype(np.float32))

    assert check_gradients(made(Rounds), X).verdict != "FAIL"


def test_a_layer_that_was_used_before():
    layer = made(Accumulates)
    layer.forward(X)
    layer.backward(np.ones((4, 3)))
    kept = layer.grads[0].copy()
    assert check_gradients(layer, X).passed
    np.testing.assert_array_equal(layer.grads[0], kept)


def test_a_loss_of_floats_that_returns_one_gradient():
    def squares(pred, target):
        return ((pred - target) ** 2).sum(), 2 * (pred - target)

    report = check_gradients(squares, X, 2 * X)
    assert report.passed and "target has no gradient; it was taken for labels" in str(report)
    report = check_gradients(lambda a, b: squares(a, b), X, 2 * X)
    assert report.verdict == "INCONCLUSIVE" and "no gradient was found of b" in findings(report)


# --- ours, whole ---------------------------------------------------------------------------------------------

IMAGES = np.random.default_rng(0).random((3, 4, 4, 1))


def small_network():
    dense = [siamese_np.Dense(n, m, seed=n, dtype=np.float64) for n, m in ((16, 5), (5, 2))]
    return siamese_np.Sequential([siamese_np.Flatten(), dense[0], siamese_np.ReLU(), dense[1]], (4, 4, 1))


@pytest.mark.parametrize(("preset", "size"), [("cnn3", 8), ("slim", 10)])  # mlp and cnn: test_our_presets_pass
def test_our_networks(preset, size):
    shape = (size, size, 1)
    network = getattr(siamese_np, preset)(input_shape=shape, embedding_size=2, seed=0, dtype=np.float64)
    report = check_gradients(network, np.random.default_rng(0).random((3, *shape)))
    assert report.passed and names(report) == ["x", *network.named_params()], str(report)


def test_a_siamese_network():
    network = small_network()
    whole = siamese_np.SiameseNetwork(network)
    report = check_gradients(whole, IMAGES, IMAGES[[1, 2, 0]] ** 2)
    assert report.passed and names(report) == list(network.named_params()), str(report)
    assert "images_a and images_b are constant" in str(report)
    with pytest.raises(OptionError, match="at two batches of images, images_a and images_b, not at 1"):
        check_gradients(whole, IMAGES)


def test_a_siamese_network_with_a_wrong_gradient():
    class Wrong(siamese_np.SiameseNetwork):
        def backward(self, ddist, cache):
            super().backward(ddist, cache)
            self.network.layers[1].grads["w"] *= 0.5

    report = check_gradients(Wrong(small_network()), IMAGES, IMAGES[[1, 2, 0]] ** 2)
    assert report.verdict == "FAIL" and wrong_ones(report) == {"dense_1.w"}


@pytest.mark.parametrize(
    ("loss", "arguments", "expected"),
    [
        (siamese_np.ContrastiveLoss(1.0), ([0.1, 0.7, 0.4, 1.3], [0, 0, 1, 1]), ["dist"]),
        (siamese_np.AllPairsContrastiveLoss(2.0), (draw(6, 3), np.arange(6) % 3), ["emb"]),
        (siamese_np.AllPairsContrastiveLoss(2.0, "active"), (draw(6, 3), np.arange(6) % 3), ["emb"]),
        (siamese_np.SupConLoss(0.5), (draw(7, 3), np.arange(7) // 2), ["emb"]),
        (siamese_np.PairwiseDistances(), (draw(5, 3),), ["emb"]),
        (siamese_np.EuclideanDistance(), (draw(5, 3), draw(5, 3, seed=1)), ["emb_a", "emb_b"]),
    ],
)
def test_our_losses_and_distances(loss, arguments, expected):
    report = check_gradients(loss, *arguments)
    assert report.passed and names(report) == expected, str(report)


# --- bad input -----------------------------------------------------------------------------------------------


class Random:
    def forward(self, x):
        self.mask = np.random.rand(*x.shape) < 0.5
        return x * self.mask

    def backward(self, dout):
        return dout * self.mask


def test_what_draws_from_the_global_generators_is_reseeded_on_request():
    report = check_gradients(Random(), X)
    assert report.verdict == "INCONCLUSIVE" and "reseed=True seeds numpy.random" in findings(report)
    state, other = np.random.get_state()[1].copy(), random.getstate()
    assert check_gradients(Random(), X, reseed=True).passed
    np.testing.assert_array_equal(np.random.get_state()[1], state)
    assert random.getstate() == other


COUNT = [0]
PLANNED = 3  # forward passes by which it is found how the layer is called


def counted(x):
    COUNT[0] += 1
    return x * COUNT[0]


def changing(x):
    COUNT[0] += 1
    return x if COUNT[0] <= PLANNED else "no numbers"


@pytest.mark.parametrize(
    ("forward", "sentence"), [(counted, "is random or keeps a state"), (changing, "forward changed what it returns")]
)
def test_global_state_is_undecided(forward, sentence):
    COUNT[0] = 0
    layer = type("Global", (), {"forward": lambda self, x: forward(x), "backward": lambda self, dout: dout})()
    report = check_gradients(layer, X)
    assert report.verdict == "INCONCLUSIVE" and sentence in findings(report)


def test_prints_views_and_domains_are_no_fault(capsys):
    class Log:
        def forward(self, x):
            print("forward!")
            if not (x > 0).all():
                raise ValueError("the logarithm of nothing")
            self.x = x
            return np.log(x).T

        def backward(self, dout):
            return dout.T / self.x

    class View:
        def forward(self, x):
            self.shape = x.shape
            return x.reshape(-1)

        def backward(self, dout):
            return dout.reshape(self.shape)

    x = abs(X) + 0.01
    assert check_gradients(Log(), x).passed and check_gradients(View(), x).passed
    assert "forward!" not in capsys.readouterr().out


class OnlyForward:
    def forward(self, x):
        return x


class Locked(Random):
    def __init__(self):
        self.file = sys.stdout


NO_CACHE = type("NoCache", (OnlyForward,), {"backward": lambda self, dout, cache: dout})
RAISES = type("Raises", (OnlyForward,), {"backward": lambda self, dout: dout["x"]})
NOTHING = type("Nothing", (OnlyForward,), {"backward": lambda self, dout: None})
TEXT = type("Text", (OnlyForward,), {"forward": lambda self, x: "out", "backward": lambda self, dout: dout})
RECIPE = "    def forward(x, W, b): layer = Affine(W, b); return layer.forward(x), layer\n"


@pytest.mark.parametrize(
    ("target", "arguments", "options", "sentence"),
    [
        (OnlyForward(), (X,), {}, "OnlyForward has no method backward"),
        (SimpleNamespace(), (X,), {}, "SimpleNamespace has no methods forward and backward"),
        (OnlyForward, (X,), {}, "OnlyForward is a class: check an object of it, as OnlyForward(...)"),
        (Attributes(), (), {}, "a layer is checked at the arguments of its forward: at one array at least"),
        (Attributes(), (draw(4, 6),), {}, "Attributes: forward cannot be called with x (4, 6): it raised ValueError"),
        (Attributes(), (np.full((4, 5), np.nan),), {}, "array 0 must hold finite numbers, but it holds NaN"),
        (Attributes(), (1j * X,), {}, "array 0 must hold real numbers, not complex128"),
        (Locked(), (X,), {}, "Locked cannot be copied for each forward pass: copy.deepcopy raised TypeError"),
        (NO_CACHE(), (X,), {}, f"forward returned an array (4, 5) of float64, which does not fit .*\n{RECIPE}"),
        (RAISES(), (X,), {}, "Raises: backward(dout) raised IndexError: .* no other way to call it was found; write"),
        (NOTHING(), (X,), {}, "Nothing: backward gave no gradient, neither returned nor kept; write these"),
        (TEXT(), (X,), {}, "forward must return floating-point numbers, but its output is a str"),
        (OnlyForward().forward, (X,), {}, "forward must return a scalar loss and its gradients, (loss, dx), or be"),
        (np.sin, (X,), {"grad": np.cos, "jac": np.cos}, "give one of backward, grad and jac"),
        (np.sin, (), {"grad": np.cos}, "there is nothing to check sin at"),
        (np.sin, (X,), {"grad": X}, "sin and its backward, grad or jac must be functions"),
    ],
)
def test_what_cannot_be_checked_is_one_sentence(target, arguments, options, sentence):
    with pytest.raises((OptionError, ShapeError)) as caught:
        check_gradients(target, *arguments, **options)
    start, *rest = sentence.split(".*")
    assert start in str(caught.value) and all(part in str(caught.value) for part in rest)


# --- by name -------------------------------------------------------------------------------------------------

FILE = """
import numpy as np

def conv_forward_naive(x, w, b, conv_param):
    s, p = conv_param["stride"], conv_param["pad"]
    padded = np.pad(x, ((0, 0), (p, p)))
    out = np.stack([padded[:, i : i + len(w)] @ w + b for i in range(0, x.shape[1], s)], axis=1)
    return out, (padded, w, x.shape, p, s)

def conv_backward_naive(dout, cache):
    padded, w, shape, p, s = cache
    dx, dw = np.zeros_like(padded), np.zeros_like(w)
    for k, i in enumerate(range(0, shape[1], s)):
        dx[:, i : i + len(w)] += dout[:, k : k + 1] * w
        dw += dout[:, k] @ padded[:, i : i + len(w)]
    return dx[:, p : shape[1] + p], dw, np.full(1, dout.sum()).reshape(1)

def relu_fprop(x):
    return np.maximum(x, 0), x

def relu_bprop(dout, x):
    return dout * (x > 0)

def mean_loss(x, y):
    return (x[np.arange(len(y)), y] ** 2).mean(), None

def square_loss(x):
    return (x**2).sum(), 2 * x

def wrong_loss(x):
    return (x**2).sum(), x

def cube(x):
    return x**3

def cube_grad(x):
    return 3 * x**2

class Affine:
    def __init__(self):
        self.W, self.b = np.random.randn(5, 3), np.zeros(3)
    def forward(self, x):
        print("forward!")
        self.x = x
        return np.tanh(x @ self.W + self.b)
    def backward(self, dout):
        d = dout * (1 - np.tanh(self.x @ self.W + self.b) ** 2)
        self.dW, self.db = self.x.T @ d, d.sum(0)
        return d @ self.W.T

class Sized(Affine):
    def __init__(self, inputs, outputs):
        pass

class OnlyForward:
    def forward(self, x):
        return x

class Loss:
    def forward(self, scores, labels):
        self.shape, self.at = scores.shape, (np.arange(len(labels)), labels)
        return scores[self.at].mean()
    def backward(self):
        d = np.zeros(self.shape)
        d[self.at] = 1 / self.shape[0]
        return d

def siamese(dtype, seed):
    from siamese_np import Dense, Flatten, Sequential, SiameseNetwork
    return SiameseNetwork(Sequential([Flatten(), Dense(4, 2, dtype=dtype, seed=seed)], (2, 2, 1)))
"""


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    name = f"styles_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(FILE)
    monkeypatch.chdir(tmp_path)

    def run(target, *shapes):
        status = main(["gradcheck", f"{name}.py:{target}", *(part for s in shapes for part in ("--shape", s))])
        return status, *capsys.readouterr()

    yield run
    sys.modules.pop(name, None)


@pytest.mark.parametrize(
    ("target", "shapes", "status"),
    [
        ("conv_forward_naive", ("2,5", "3", "1"), 0),
        ("relu_fprop", ("4,3",), 0),
        ("square_loss", ("4,3",), 0),
        ("wrong_loss", ("4,3",), 1),
        ("cube", ("4,3",), 0),
        ("Affine", ("4,5",), 0),
        ("Loss", ("4,3",), 0),
        ("siamese", ("3,2,2,1",), 0),
    ],
)
def test_targets_of_a_file(command, target, shapes, status):
    found, out, _ = command(target, *shapes)
    assert found == status and "forward!" not in out, out


@pytest.mark.parametrize(
    ("target", "shapes", "sentence"),
    [
        ("Sized", ("4,5",), "cannot be made without arguments (inputs, outputs); write a function without parameters"),
        ("OnlyForward", ("4,5",), "OnlyForward gives a OnlyForward, which has no method backward"),
        ("Affine", ("4,6",), "forward cannot be called with x (4, 6): it raised ValueError"),
        ("conv_forward_naive", ("2,5",), "conv_forward_naive takes 3 arrays (x, w, b): it needs as many --shape"),
        ("mean_loss", ("4,3",), "gave no gradient, neither returned nor kept"),
    ],
)
def test_misuse_of_targets(command, target, shapes, sentence):
    status, out, err = command(target, *shapes)
    assert status == 2 and not out and sentence in err and "Traceback" not in err


# --- frameworks, where they are installed --------------------------------------------------------------------


@pytest.mark.parametrize(("off", "verdict"), [(1, "PASS"), (-1, "FAIL"), (None, "INCONCLUSIVE")])
def test_a_function_of_torch(off, verdict):
    torch = pytest.importorskip("torch")

    class Affine(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, w):
            ctx.save_for_backward(x, w)
            return x @ w

        @staticmethod
        def backward(ctx, dout):
            x, w = ctx.saved_tensors
            return dout @ w.T, None if off is None else off * x.T @ dout

    report = check_gradients(Affine, X, draw(5, 3))
    assert report.verdict == verdict and names(report) == (["x", "w"] if off else ["x"])


def test_modules_and_functions_of_torch():
    torch = pytest.importorskip("torch")
    report = check_gradients(torch.nn.Linear(5, 3), X)
    assert report.passed and names(report) == ["input", "weight", "bias"]
    assert check_gradients(torch.nn.CrossEntropyLoss(), X, Y).passed
    assert check_gradients(lambda x, w: ((x @ w) ** 2).sum(), torch.ones(2, 3), torch.ones(3)).passed


def test_functions_of_jax():
    jax = pytest.importorskip("jax")

    @jax.custom_vjp
    def sine(x):
        return jax.numpy.sin(x)

    sine.defvjp(lambda x: (sine(x), x), lambda x, d: (-d * jax.numpy.cos(x),))
    assert check_gradients(lambda x, w: jax.numpy.tanh(x @ w), X, draw(5, 3)).passed
    assert wrong_ones(check_gradients(sine, X)) == {"x"}


# --- passes that write into what they are given, or are not the same each time ------------------------------------


def absolute_in_place(x):
    np.abs(x, out=x)
    return x, x


class AbsoluteInPlace:
    def forward(self, x):
        np.abs(x, out=x)
        return x

    def backward(self, dout):
        return dout


@pytest.mark.parametrize("strict", [False, True])
def test_a_forward_that_overwrites_its_input_is_checked_where_it_was_given(strict):
    assert check_gradients(absolute_in_place, X, backward=lambda d, c: d, strict=strict).gradient == "FAIL"
    assert check_gradients(AbsoluteInPlace(), X, strict=strict).gradient == "FAIL"
    before = X.copy()

    def relu(x):
        np.maximum(x, 0, out=x)
        return x, x

    report = check_gradients(relu, X, backward=lambda d, out: d * (out > 0))
    assert report.passed and "changed its input x" in str(report)
    np.testing.assert_array_equal(X, before)


def test_a_backward_that_clears_its_cache_passes():
    def clears(dout, cache):
        x, w = cache
        dx, dw = dout @ w.T, x.T @ dout
        x[...] = 0
        w[...] = 0
        return dx, dw

    W = np.random.default_rng(1).standard_normal((X.shape[1], 2))
    assert check_gradients(lambda x, w: (x @ w, (x, w)), X, W, backward=clears).passed


def test_what_a_forward_keeps_of_other_inputs_is_seen():
    kept = [0.0]

    def lags(x):
        out = x + kept[0]
        kept[0] = x.copy()
        return out, None

    report = check_gradients(lags, X, backward=lambda d, _: d)
    assert report.verdict == "INCONCLUSIVE" and "is random or keeps a state" in str(report)


def test_the_adjoint_identity_is_held_to_the_tolerance_and_drifting_digits_are_no_fault():
    calls, W = [], np.random.default_rng(1).standard_normal((X.shape[1], 2))

    def drifts(x):
        calls.append(1)
        return x * (1 + 1e-13 * len(calls)), x

    assert check_gradients(drifts, X, backward=lambda d, x: d).verdict != "FAIL"

    def off(d, c):
        return d @ c[1].T, c[0].T @ d * (1 + 1e-4)

    assert check_gradients(lambda x, w: (x @ w, (x, w)), X, W, backward=off, tolerance=1e-2).passed
    assert check_gradients(lambda x, w: (x @ w, (x, w)), X, W, backward=off).verdict == "FAIL"


def test_an_output_that_is_not_finite_is_undecided():
    report = check_gradients(lambda x: (np.append(x * x, np.nan), x), X[0], backward=lambda d, x: d[:-1] * 2 * x)
    assert report.verdict == "INCONCLUSIVE" and "the output holds NaN at" in str(report)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"tolerance": "1e-3"}, "the tolerance must be"),
        ({"seed": -1}, "the seed must be a whole number"),
        ({"seed": None}, "the seed must be a whole number"),
    ],
)
def test_options_of_a_wrong_kind_are_told(options, sentence):
    with pytest.raises(OptionError, match=sentence):
        check_gradients(lambda x: (x, None), X, backward=lambda d, _: d, **options)
