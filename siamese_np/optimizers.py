"""SGD with momentum and Adam, each one fused kernel over all parameters, and learning-rate schedules."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siamese_np._checks import FLOATS, as_array, as_number, is_array
from siamese_np.backend import ops
from siamese_np.errors import OptionError, ShapeError
from siamese_np.runtime import scheduler
from siamese_np.runtime.scheduler import chunks_of

Array = NDArray[np.floating]
Chunks = NDArray[np.int64]


class SGD:
    """Stochastic gradient descent with momentum (Polyak 1964).

    Parameters
    ----------
    params, grads : (P,) arrays
        Updated in place; read.
    momentum : float, default 0.9
        In [0, 1).
    chunks : (S, 2) array, optional
        As `chunks_of` gives them: (start, end), every parameter in exactly one; no result depends on them.
    """

    def __init__(self, params: Array, grads: Array, momentum: float = 0.9, chunks: Chunks | None = None) -> None:
        if not 0 <= as_number(momentum) < 1:
            raise OptionError(f"momentum must be at least 0 and below 1, not {momentum!r}")
        self.chunks = _check(params, grads, chunks)
        self.params, self.grads, self.momentum = params, grads, params.dtype.type(momentum)
        self.state = {"velocity": np.zeros_like(params)}
        self.steps = 0

    def step(self, learning_rate: float) -> None:
        """Take one step with `learning_rate`; OptionError unless it is a finite number of at least 0."""
        w, dw, velocity = self.params, self.grads, self.state["velocity"]
        rate = _check_rate(learning_rate, w)
        _check_state(self.state, w)
        self.steps += 1
        scheduler.wake()
        ops.sgd_step(w, velocity, dw, self.chunks, w.dtype.type(rate), self.momentum)


class Adam:
    """Adam (Kingma & Ba 2015).

    Parameters
    ----------
    params, grads : (P,) arrays
        Updated in place; read.
    beta1, beta2 : float, default 0.9, 0.999
        Decay of the running means of the gradient and its square, in [0, 1).
    epsilon : float, default 1e-7
        Added to the root of the mean square, > 0 (Keras' default).
    chunks : (S, 2) array, optional
        As `chunks_of` gives them: (start, end), every parameter in exactly one; no result depends on them.
    """

    def __init__(
        self,
        params: Array,
        grads: Array,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-7,
        chunks: Chunks | None = None,
    ) -> None:
        self.chunks = _check(params, grads, chunks)
        least, largest = _range(params)
        in_range = least <= as_number(epsilon) <= largest  # else it would be 0 or infinite
        if not (0 <= as_number(beta1) < 1 and 0 <= as_number(beta2) < 1 and in_range):
            raise OptionError(
                f"Adam needs 0 <= beta1, beta2 < 1 and epsilon > 0, a finite {params.dtype}, "
                f"not {beta1!r}, {beta2!r} and {epsilon!r}"
            )
        self.params, self.grads = params, grads
        self.beta1, self.beta2, self.epsilon = beta1, beta2, epsilon
        self.state = {"m": np.zeros_like(params), "v": np.zeros_like(params)}
        self.steps = 0

    def step(self, learning_rate: float) -> None:
        """Take one step with `learning_rate`; OptionError unless it is a finite number of at least 0."""
        w, dw, m, v = self.params, self.grads, self.state["m"], self.state["v"]
        rate = _check_rate(learning_rate, w)
        _check_state(self.state, w)
        self.steps += 1
        numbers = (
            rate,
            self.beta1,
            self.beta2,
            self.epsilon,
            1 - self.beta1**self.steps,
            1 - self.beta2**self.steps,
        )
        scalars = [w.dtype.type(number) for number in numbers]  # else float32 work would become float64
        scheduler.wake()
        ops.adam_step(w, m, v, dw, self.chunks, *scalars)


def _check(params: Array, grads: Array, chunks: Chunks | None) -> Chunks:
    """The chunks, made where none are given; ShapeError unless all three are as the kernels trust them to be."""
    for name, array in (("params", params), ("grads", grads)):
        if not is_array(array) or array.ndim != 1 or array.dtype not in FLOATS:
            found = f"{array.shape} of {array.dtype}" if is_array(array) else type(array).__name__
            raise ShapeError(f"an optimizer needs {name} as a vector (P,) of float32 or float64, not {found}")
        if not array.flags.c_contiguous or not (array.flags.writeable or array is grads):
            raise ShapeError(f"an optimizer needs {name} contiguous, and params writeable")
    if (params.shape, params.dtype) != (grads.shape, grads.dtype):
        raise ShapeError(
            f"an optimizer needs params and grads of one shape and dtype, not {params.shape} of {params.dtype} "
            f"and {grads.shape} of {grads.dtype}"
        )
    if chunks is None:
        return chunks_of([params.size])
    return _check_chunks(chunks, params.size)


def _check_chunks(chunks: Any, size: int) -> Chunks:
    """`chunks` as an array of pairs (start, end) that cover 0 to `size` exactly once, or a ShapeError."""
    chunks = as_array("chunks", chunks)
    fits = chunks.ndim == 2 and chunks.shape[1] == 2 and (chunks.dtype.kind in "iu" or not chunks.size)
    if fits:
        start, end = chunks[np.lexsort((chunks[:, 1], chunks[:, 0]))].T
        fits = (start <= end).all() and [0, *end] == [*start, size]  # each begins where the one before ends
    if not fits:
        raise ShapeError(f"chunks must be pairs (start, end) that hold each of the {size} parameters exactly once")
    return np.ascontiguousarray(chunks, np.int64)


def _range(params: Array) -> tuple[float, float]:
    """The smallest and the largest number above 0 of the dtype of `params`."""
    limits = np.finfo(params.dtype)
    return float(limits.smallest_subnormal), float(limits.max)


def _check_rate(learning_rate: float, params: Array) -> float:
    """`learning_rate` as a number, or an OptionError."""
    rate, largest = as_number(learning_rate), _range(params)[1]
    if not 0 <= rate <= largest:
        raise OptionError(
            f"the learning rate of a step must be from 0 to {largest:.3g}, the largest {params.dtype}, "
            f"not {learning_rate!r}"
        )
    return rate


def _check_state(state: dict[str, Array], params: Array) -> None:
    """Kernels trust what is kept from step to step: demand that it is as it was made, or raise a ShapeError."""
    for name, array in state.items():
        fits = is_array(array) and (array.shape, array.dtype) == (params.shape, params.dtype)
        if not fits or not array.flags.c_contiguous or not array.flags.writeable:
            raise ShapeError(
                f'an optimizer needs state["{name}"] as a contiguous array {params.shape} of {params.dtype} '
                f'that can be written; copy yours into it: optimizer.state["{name}"][:] = ...'
            )


OPTIMIZERS = {"adam": Adam, "sgd": SGD}


def constant(progress: float) -> float:
    """The full learning rate throughout."""
    return 1.0


def cosine(progress: float) -> float:
    """From 1 down to 0 along half a cosine (Loshchilov & Hutter 2017, eq. 5, without restarts)."""
    return (1 + math.cos(math.pi * progress)) / 2


def one_cycle(progress: float, warm_up: float = 0.25, start: float = 0.04) -> float:
    """Up from `start` to 1 over the first `warm_up` of training, then down to 0, along cosines.

    Source: L. Smith, N. Topin, "Super-convergence", 2017 (there with straight lines).
    """
    if progress < warm_up:
        return start + (1 - start) * (1 - cosine(progress / warm_up))
    return cosine((progress - warm_up) / (1 - warm_up))


# Each maps the part of training done, in [0, 1], to a factor on the learning rate.
SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": constant,
    "cosine": cosine,
    "one-cycle": one_cycle,
}
