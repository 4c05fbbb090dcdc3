"""SGD with momentum and Adam, each one fused kernel over all parameters, and learning-rate schedules."""

import math
from collections.abc import Callable, Sequence
from itertools import groupby
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siamese_np._arrays import Arrays, check_vectors
from siamese_np._checks import as_number, check_weight_decay
from siamese_np.backend import ops
from siamese_np.errors import OptionError
from siamese_np.layer import Layer
from siamese_np.network import Sequential
from siamese_np.runtime.scheduler import chunks_of

Array = NDArray[np.floating]
Stretches = list[tuple[slice, NDArray[np.int64]]]


class Optimizer:
    """What all optimizers share: the parameters of a network, or a vector of them, and what is kept between steps.

    Parameters
    ----------
    params : Sequential, or (P,) array
        Updated in place. Of a network, frozen layers are left alone; and each thread updates mostly the weights that
        it also uses in the layers, which saves time.
    grads : (P,) array, optional
        Read; only beside a vector of parameters.
    weight_decay : float
        At least 0. After a step with learning rate r the weights that it may move are multiplied by
        ``1 - r * weight_decay``; a product of more than 1 is an OptionError.
    kept : str
        Names of the vectors (P,) in `state`, 0 at first.

    Attributes
    ----------
    state : mapping of str to (P,) ndarray
    steps : int
        Steps taken.
    """

    def __init__(self, params: Sequential | Array, grads: Array | None, weight_decay: float, *kept: str) -> None:
        if isinstance(params, Sequential) and grads is not None:
            raise OptionError("an optimizer takes a network alone, or a vector params and a vector grads")
        self._source: Any = params if isinstance(params, Sequential) else SimpleNamespace(params=params, grads=grads)
        check_vectors(self.params, self.grads)
        self.state = Arrays({name: np.zeros_like(self.params) for name in kept}, type(self).__name__)
        self.steps, self.weight_decay = 0, check_weight_decay(weight_decay)
        self._largest = float(np.finfo(self.params.dtype).max)
        self._layers = [layer for layer in getattr(params, "layers", ()) if layer.params]
        self._trainable: list[bool] = []
        self._stretches: Stretches = [(slice(None), chunks_of([self.params.size]))]

    @property
    def params(self) -> Array:
        return self._source.params

    @property
    def grads(self) -> Array:
        return self._source.grads

    def rate(self, learning_rate: float) -> float:
        """`learning_rate` as a number, or an OptionError."""
        rate = as_number(learning_rate)
        if not 0 <= rate <= self._largest:
            raise OptionError(
                f"the learning rate of a step must be from 0 to {self._largest:.3g}, the largest {self.params.dtype}, "
                f"not {learning_rate!r:.200}"
            )
        check_weight_decay(self.weight_decay, rate)
        return rate

    def stretches(self) -> Stretches:
        """The parts of the vectors that are not frozen, and how threads share each (`chunks_of`)."""
        trainable = [layer.trainable for layer in self._layers]
        if trainable != self._trainable:
            self._trainable, self._stretches = trainable, _stretches(self._layers)
        return self._stretches


class SGD(Optimizer):
    """Stochastic gradient descent with momentum (Polyak 1964).

    Parameters
    ----------
    params, grads : Sequential, or two (P,) arrays
        As of `Optimizer`.
    momentum : float, default 0.9
        In [0, 1).
    weight_decay : float, default 0
        As of `Optimizer`.

    Examples
    --------
    >>> params, grads = np.array([1.0, 2.0]), np.array([0.5, -3.0])
    >>> SGD(params, grads).step(learning_rate=0.1)
    >>> params.round(6).tolist()
    [0.95, 2.3]
    """

    def __init__(
        self,
        params: Sequential | Array,
        grads: Array | None = None,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
    ) -> None:
        if not 0 <= as_number(momentum) < 1:
            raise OptionError(f"momentum must be at least 0 and below 1, not {momentum!r:.200}")
        super().__init__(params, grads, weight_decay, "velocity")
        self.momentum = momentum

    def step(self, learning_rate: float) -> None:
        """Take one step with `learning_rate`; OptionError unless it is a finite number of at least 0."""
        w, dw, velocity = self.params, self.grads, self.state.kept["velocity"]
        scalars = [w.dtype.type(number) for number in (self.rate(learning_rate), self.momentum, self.weight_decay)]
        self.steps += 1
        for part, chunks in self.stretches():
            ops.sgd_step(w[part], velocity[part], dw[part], chunks, *scalars)


class Adam(Optimizer):
    """Adam (Kingma & Ba 2015).

    Parameters
    ----------
    params, grads : Sequential, or two (P,) arrays
        As of `Optimizer`.
    beta1, beta2 : float, default 0.9, 0.999
        Decay of the running means of the gradient and its square, in [0, 1).
    epsilon : float, default 1e-7
        Added to the root of the mean square, > 0 (Keras' default).
    weight_decay : float, default 0
        As of `Optimizer` (decoupled: Loshchilov & Hutter 2019).

    Examples
    --------
    >>> params, grads = np.array([1.0, 2.0]), np.array([0.5, -3.0])
    >>> Adam(params, grads).step(learning_rate=0.1)
    >>> params.round(6).tolist()
    [0.9, 2.1]
    """

    def __init__(
        self,
        params: Sequential | Array,
        grads: Array | None = None,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-7,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, grads, weight_decay, "m", "v")
        limits = np.finfo(self.params.dtype)
        in_range = limits.smallest_subnormal <= as_number(epsilon) <= limits.max  # else it would be 0 or infinite
        if not (0 <= as_number(beta1) < 1 and 0 <= as_number(beta2) < 1 and in_range):
            raise OptionError(
                f"Adam needs 0 <= beta1, beta2 < 1 and epsilon > 0, a finite {self.params.dtype}, "
                f"not {beta1!r:.200}, {beta2!r:.200} and {epsilon!r:.200}"
            )
        self.beta1, self.beta2, self.epsilon = beta1, beta2, epsilon

    def step(self, learning_rate: float) -> None:
        """Take one step with `learning_rate`; OptionError unless it is a finite number of at least 0."""
        w, dw, m, v = self.params, self.grads, self.state.kept["m"], self.state.kept["v"]
        rate = self.rate(learning_rate)
        self.steps += 1
        corrections = 1 - self.beta1**self.steps, 1 - self.beta2**self.steps
        numbers = (rate, self.beta1, self.beta2, self.epsilon, *corrections, self.weight_decay)
        scalars = [w.dtype.type(number) for number in numbers]  # else float32 work would become float64
        for part, chunks in self.stretches():
            ops.adam_step(w[part], m[part], v[part], dw[part], chunks, *scalars)


def _stretches(layers: Sequence[Layer]) -> Stretches:
    """Where the parameters of trainable layers lie in a network's vector, and how threads share them."""
    stretches, start = [], 0
    for trainable, group in groupby(layers, key=lambda layer: layer.trainable):
        sizes = [array.size for layer in group for array in layer.params.values()]
        if trainable:
            stretches.append((slice(start, start + sum(sizes)), chunks_of(sizes)))
        start += sum(sizes)
    return stretches


OPTIMIZERS = {"adam": Adam, "sgd": SGD}


def constant(progress: float) -> float:
    """The full learning rate throughout."""
    _part("progress", progress)
    return 1.0


def cosine(progress: float) -> float:
    """From 1 down to 0 along half a cosine (Loshchilov & Hutter 2017, eq. 5, without restarts)."""
    return (1 + math.cos(math.pi * _part("progress", progress))) / 2


def one_cycle(progress: float, warm_up: float = 0.25, start: float = 0.04) -> float:
    """Up from `start` to 1 over the first `warm_up` of training, then down to 0, along cosines.

    Source: L. Smith, N. Topin, "Super-convergence", 2017 (there with straight lines).
    """
    warm_up, start = _part("warm_up", warm_up), _part("start", start)
    if _part("progress", progress) < warm_up:
        return start + (1 - start) * (1 - cosine(progress / warm_up))
    return cosine((progress - warm_up) / (1 - warm_up) if warm_up < 1 else 1)


def _part(name: str, value: Any) -> float:
    """`value` as a number from 0 to 1, or an OptionError."""
    number = as_number(value)
    if not 0 <= number <= 1:
        raise OptionError(f"{name} must be a number from 0 to 1, not {value!r:.100}")
    return number


# Each maps the part of training done, in [0, 1], to a factor on the learning rate.
SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": constant,
    "cosine": cosine,
    "one-cycle": one_cycle,
}
