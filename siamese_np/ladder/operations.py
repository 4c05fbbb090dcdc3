"""What a rung must compute, on which data, and how that is checked.

The data are real: MNIST images after the first block of the `cnn` preset, with as many zeros as in training; and
a gradient that comes back through max-pooling and ReLU, of which at most one entry in four is not zero. The
reference is `siamese_np.textbook` in float64.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from siamese_np import kernels, textbook
from siamese_np.backend import ADDED, as_kernel
from siamese_np.ladder.rung import error_text

Array = NDArray[Any]

TOLERANCE = 1e-4  # of the largest entry, for float32 work
TIES = 0.01  # share of the maxima of pooling that rounding may move
STRIDE = PAD = (1, 1)
WINDOW = (2, 2)


@dataclasses.dataclass
class Problem:
    """The second block of `cnn` and a dense layer, forward and backward: all that a rung may need, in float32.

    Attributes
    ----------
    x, w, b : arrays (N, H, W, C), (3, 3, C, F), (F,)
    wT : (F, 3, 3, C) array
        The weights, transposed once for the whole batch.
    argmax : (N, H/2, W/2, F) array
        Maximum of each 2x2 window of the convolution's output, and 4 where ReLU lets nothing through.
    dpooled : (N, H/2, W/2, F) array
        Gradient of the output after ReLU and pooling.
    dout : (N, H, W, F) array
        Gradient of the convolution's output: `dpooled` sent back through pooling and ReLU.
    dense_x, dense_w, dense_b, dense_dout : arrays (N, D), (D, E), (E,), (N, E)
        The first layer of `mlp` on the images themselves; its gradient has come through ReLU.
    full_x : (N, D) array
        Input of the same layer without a zero, so that nothing can be skipped.
    """

    x: Array
    w: Array
    b: Array
    wT: Array
    argmax: Array
    dpooled: Array
    dout: Array
    dense_x: Array
    dense_w: Array
    dense_b: Array
    dense_dout: Array
    full_x: Array


def make_problem(
    images: Array, crop: int | None = None, channels: int = 32, filters: int = 64, units: int = 512
) -> Problem:
    """The work for `images` (N, H, W, 1), in the convolution only for the middle `crop` x `crop` pixels."""
    rng = np.random.default_rng(0)
    w = rng.uniform(-0.1, 0.1, (3, 3, 1, channels))
    x, _ = textbook.conv_relu_pool_forward(images.astype(np.float64), w, np.zeros(channels), STRIDE, PAD)
    if crop is not None:
        start = (x.shape[1] - crop) // 2
        x = x[:, start : start + crop, start : start + crop]
    w, b = _weights(rng, (3, 3, channels, filters), 9 * (channels + filters))
    # the same numbers in both precisions, else a tie could have different maxima
    x, w, b = (array.astype(np.float32).astype(np.float64) for array in (x, w, b))
    pooled, (argmax, *_) = textbook.conv_relu_pool_forward(x, w, b, STRIDE, PAD)
    dpooled = rng.standard_normal(pooled.shape)
    dout = textbook.maxpool2d_backward(dpooled, (argmax, (*x.shape[:3], filters), WINDOW, WINDOW))
    dense_x = images.reshape(len(images), -1)
    dense_w, dense_b = _weights(rng, (dense_x.shape[1], units), dense_x.shape[1] + units)
    dense_dout = rng.standard_normal((len(images), units)) * (rng.random((len(images), units)) < 0.5)
    fields = {"x": x, "w": w, "b": b, "wT": w.transpose(3, 0, 1, 2), "dpooled": dpooled, "dout": dout}
    fields |= {"dense_x": dense_x, "dense_w": dense_w, "dense_b": dense_b, "dense_dout": dense_dout}
    fields["full_x"] = rng.uniform(0.1, 1, dense_x.shape)
    single = {name: np.ascontiguousarray(array, np.float32) for name, array in fields.items()}
    return Problem(argmax=argmax.astype(np.uint8), **single)


def _weights(rng: np.random.Generator, shape: tuple[int, ...], fans: int) -> tuple[Array, Array]:
    limit = np.sqrt(6 / fans)
    return rng.uniform(-limit, limit, shape), rng.uniform(-0.01, 0.01, shape[-1])


class Operation(NamedTuple):
    """What all rungs of one section of the ladder compute.

    Attributes
    ----------
    title : str
    outputs : callable
        Given the problem, name and shape of what is written: the first arguments of the kernel. To ``dw`` and
        ``db`` it adds, all else it overwrites.
    arguments : callable
        Given the problem, the kernel's other arguments.
    reference : callable
        A slow kernel for any float type that is correct by definition.
    flops : callable
        Given the problem, operations of the dense sum; a multiply-add is two, and padding counts like pixels.
    """

    title: str
    outputs: Callable[[Problem], dict[str, tuple[int, ...]]]
    arguments: Callable[[Problem], tuple[Any, ...]]
    reference: Callable[..., None]
    flops: Callable[[Problem], float]

    def bytes(self, problem: Problem) -> float:
        """Bytes of arguments and results, each counted once."""
        arrays = [*self.new_outputs(problem).values(), *self.arguments(problem)]
        return float(sum(array.nbytes for array in arrays if isinstance(array, np.ndarray)))

    def new_outputs(self, problem: Problem, dtype: DTypeLike = np.float32) -> dict[str, Array]:
        """Zeros for what the kernel writes."""
        shapes = self.outputs(problem)
        return {name: np.zeros(shape, np.uint8 if name == "argmax" else dtype) for name, shape in shapes.items()}


def _conv_flops(p: Problem) -> float:
    return 2.0 * p.dout.size * p.w[..., 0].size


def _dense_flops(p: Problem) -> float:
    return 2.0 * len(p.dense_x) * p.dense_w.size


def _reference(name: str) -> Callable[..., None]:
    return as_kernel(getattr(textbook, name), getattr(kernels, name))


def _reference_dx(dx: Array, dout: Array, wT: Array, stride: Any, pad: Any) -> None:
    x = np.broadcast_to(0.0, dx.shape)  # dx does not depend on it
    dx[:] = textbook.conv2d_backward(dout, (x, wT.transpose(1, 2, 3, 0), stride, pad))[0]


def _reference_dw(dw: Array, dout: Array, x: Array, stride: Any, pad: Any) -> None:
    dw += textbook.conv2d_backward(dout, (x, np.zeros(dw.shape), stride, pad))[1]


OPERATIONS = {
    "conv2d_forward": Operation(
        "convolution forward",
        lambda p: {"out": p.dout.shape},
        lambda p: (p.x, p.w, p.b, STRIDE, PAD),
        _reference("conv2d_forward"),
        _conv_flops,
    ),
    "conv2d_backward_x": Operation(
        "convolution backward, dx",
        lambda p: {"dx": p.x.shape},
        lambda p: (p.dout, p.wT, STRIDE, PAD),
        _reference_dx,
        _conv_flops,
    ),
    "conv2d_backward_w": Operation(
        "convolution backward, dw",
        lambda p: {"dw": p.w.shape},
        lambda p: (p.dout, p.x, STRIDE, PAD),
        _reference_dw,
        _conv_flops,
    ),
    "conv_relu_pool_forward": Operation(
        "convolution, ReLU and pooling forward",
        lambda p: {"out": p.argmax.shape, "argmax": p.argmax.shape},
        lambda p: (p.x, p.w, p.b, STRIDE, PAD),
        _reference("conv_relu_pool_forward"),
        _conv_flops,
    ),
    "conv_relu_pool_backward": Operation(
        "convolution, ReLU and pooling backward, dx and dw",
        lambda p: {"dx": p.x.shape, "dw": p.w.shape, "db": p.b.shape},
        lambda p: (p.dpooled, p.argmax, p.x, p.w, STRIDE, PAD),
        _reference("conv_relu_pool_backward"),
        lambda p: 2 * _conv_flops(p),
    ),
    "dense_forward": Operation(
        "dense layer forward, on pixels",
        lambda p: {"out": p.dense_dout.shape},
        lambda p: (p.dense_x, p.dense_w, p.dense_b),
        _reference("dense_forward"),
        _dense_flops,
    ),
    "dense_backward": Operation(
        "dense layer backward, dx and dw",
        lambda p: {"dx": p.dense_x.shape, "dw": p.dense_w.shape, "db": p.dense_b.shape},
        lambda p: (p.dense_dout, p.dense_x, p.dense_w),
        _reference("dense_backward"),
        lambda p: 2 * _dense_flops(p),
    ),
}
OPERATIONS["dense_forward_full"] = OPERATIONS["dense_forward"]._replace(
    title="dense layer forward, no zeros", arguments=lambda p: (p.full_x, p.dense_w, p.dense_b)
)


class Work:
    """One rung at work on one problem: its output arrays, and the call that fills them."""

    def __init__(self, operation: str, function: Callable[..., Any], problem: Problem) -> None:
        self.function, self.arguments = function, OPERATIONS[operation].arguments(problem)
        self.outputs = OPERATIONS[operation].new_outputs(problem)

    def __call__(self) -> None:
        """Compute once."""
        self.function(*self.outputs.values(), *self.arguments)


def expected(operation: str, problem: Problem) -> dict[str, Array]:
    """What `operation` gives on `problem`, in float64, added to zeros."""
    fields = {name: a.astype(np.float64) for name, a in vars(problem).items() if a.dtype == np.float32}
    exact, details = dataclasses.replace(problem, **fields), OPERATIONS[operation]
    outputs = details.new_outputs(exact, np.float64)
    details.reference(*outputs.values(), *details.arguments(exact))
    return outputs


def check(
    operation: str, function: Callable[..., Any], problem: Problem, reference: dict[str, Array]
) -> tuple[str, float]:
    """What is wrong with `function`, in a few words ("" if nothing), and its error as a share of the largest entry.

    It is compared with `reference`, as `expected` gives it.
    """
    before = {name: value.copy() for name, value in vars(problem).items()}
    work = Work(operation, function, problem)
    for name, output in work.outputs.items():
        # what is added to must not be overwritten; what is written must be all of it
        output[:] = 0.5 if name in ADDED else 255 if name == "argmax" else np.nan
    try:
        work()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # whatever a user's kernel does, SystemExit included
        return f"it raises {error_text(error)}", np.nan
    changed = [name for name, value in vars(problem).items() if not np.array_equal(value, before[name])]
    for name in changed:
        getattr(problem, name)[:] = before[name]
    if changed:
        return f"it changes its argument {changed[0]}", np.nan
    worst = 0.0
    for name, output in work.outputs.items():
        if name == "argmax":
            if (moved := np.mean(output != reference[name])) > TIES:
                return f"{100 * moved:.0f} % of its maxima are elsewhere than those of the reference", np.nan
            continue
        start = 0.5 if name in ADDED else 0
        off = float(abs(output - start - reference[name]).max() / abs(reference[name]).max())
        if not off <= TOLERANCE:
            return f"its result is off by {off:.1e} of the largest entry, where {TOLERANCE:.0e} is allowed", off
        worst = max(worst, off)
    return "", worst
