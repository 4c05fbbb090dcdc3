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
from siamese_np.errors import OptionError
from siamese_np.ladder.rung import Rung, error_text

Array = NDArray[Any]

TOLERANCE = 1e-4  # of the largest entry, for float32 work
TIES = 0.01  # share of the maxima of pooling that rounding may move
STRIDE = PAD = (1, 1)


@dataclasses.dataclass
class Problem:
    """The second block of `cnn`, forward and backward: all that a rung may need, in float32."""

    x: Array  # (N, H, W, C)
    w: Array  # (3, 3, C, F)
    b: Array  # (F,)
    wT: Array  # (F, 3, 3, C): w, transposed once for the whole batch
    argmax: Array  # (N, H/2, W/2, F): maximum of each 2x2 window of the convolution's output; 4 where ReLU gives 0
    dpooled: Array  # (N, H/2, W/2, F): gradient of the output after ReLU and pooling
    dout: Array  # (N, H, W, F): gradient of the convolution's output, `dpooled` sent back through pooling and ReLU


def make_problem(images: Array, crop: int | None = None, channels: int = 32, filters: int = 64) -> Problem:
    """The work for `images` (N, H, W, 1), if `crop` is given only for the middle `crop` x `crop` pixels."""
    rng = np.random.default_rng(0)
    w = rng.uniform(-0.1, 0.1, (3, 3, 1, channels))
    x, _ = textbook.conv_relu_pool_forward(images.astype(np.float64), w, np.zeros(channels), STRIDE, PAD)
    if crop is not None:
        start = (x.shape[1] - crop) // 2
        x = x[:, start : start + crop, start : start + crop]
    limit = np.sqrt(6 / (9 * (channels + filters)))
    w, b = rng.uniform(-limit, limit, (3, 3, channels, filters)), rng.uniform(-0.01, 0.01, filters)
    # the same numbers in both precisions, else a tie could have different maxima
    x, w, b = (array.astype(np.float32).astype(np.float64) for array in (x, w, b))
    pooled, (argmax, *_) = textbook.conv_relu_pool_forward(x, w, b, STRIDE, PAD)
    dpooled = rng.standard_normal(pooled.shape)
    dout = textbook.maxpool2d_backward(dpooled, (argmax, (*x.shape[:3], filters), (2, 2), (2, 2)))
    fields = {"x": x, "w": w, "b": b, "wT": w.transpose(3, 0, 1, 2), "dpooled": dpooled, "dout": dout}
    single = {name: np.ascontiguousarray(array, np.float32) for name, array in fields.items()}
    return Problem(argmax=argmax.astype(np.uint8), **single)


class Operation(NamedTuple):
    """What all rungs of one section of the ladder compute: from the arrays of a problem others, by name.

    A kernel's arguments are outputs, inputs, stride and padding. To ``dw`` and ``db`` it adds; all else it overwrites.
    """

    title: str
    outputs: Callable[[Problem], dict[str, Array]]  # arrays of the same shapes
    inputs: Callable[[Problem], tuple[Array, ...]]
    reference: Callable[..., None]  # a slow kernel for any float type that is correct by definition
    products: int = 1  # how often the convolution's dense sum is made

    def flops(self, problem: Problem) -> float:
        """Operations of the dense sum; a multiply-add is two, and padding counts like pixels."""
        return 2.0 * self.products * problem.dout.size * problem.w[..., 0].size

    def bytes(self, problem: Problem) -> float:
        """Bytes of arguments and results, each counted once."""
        return float(sum(array.nbytes for array in [*self.outputs(problem).values(), *self.inputs(problem)]))

    def new_outputs(self, problem: Problem, dtype: DTypeLike = np.float32) -> dict[str, Array]:
        """Zeros for what the kernel writes."""
        arrays = self.outputs(problem)
        return {name: np.zeros(like.shape, np.uint8 if name == "argmax" else dtype) for name, like in arrays.items()}


def _reference_dx(dx: Array, dout: Array, wT: Array, stride: Any, pad: Any) -> None:
    x = np.broadcast_to(0.0, dx.shape)  # dx does not depend on it
    dx[:] = textbook.conv2d_backward(dout, (x, wT.transpose(1, 2, 3, 0), stride, pad))[0]


def _reference_dw(dw: Array, dout: Array, x: Array, stride: Any, pad: Any) -> None:
    dw += textbook.conv2d_backward(dout, (x, np.zeros(dw.shape), stride, pad))[1]


OPERATIONS = {
    "conv2d_forward": Operation(
        "convolution forward",
        lambda p: {"out": p.dout},
        lambda p: (p.x, p.w, p.b),
        as_kernel(textbook.conv2d_forward, kernels.conv2d_forward),
    ),
    "conv2d_backward_x": Operation(
        "convolution backward, dx", lambda p: {"dx": p.x}, lambda p: (p.dout, p.wT), _reference_dx
    ),
    "conv2d_backward_w": Operation(
        "convolution backward, dw", lambda p: {"dw": p.w}, lambda p: (p.dout, p.x), _reference_dw
    ),
    "conv_relu_pool_forward": Operation(
        "convolution, ReLU and pooling forward",
        lambda p: {"out": p.dpooled, "argmax": p.argmax},
        lambda p: (p.x, p.w, p.b),
        as_kernel(textbook.conv_relu_pool_forward, kernels.conv_relu_pool_forward),
    ),
    "conv_relu_pool_backward": Operation(
        "convolution, ReLU and pooling backward, dx and dw",
        lambda p: {"dx": p.x, "dw": p.w, "db": p.b},
        lambda p: (p.dpooled, p.argmax, p.x, p.w),
        as_kernel(textbook.conv_relu_pool_backward, kernels.conv_relu_pool_backward),
        products=2,
    ),
}


def refusal(rung: Rung, wrong: str) -> OptionError:
    """The error that ends a run: `wrong` says what the rung does, in a few words."""
    return OptionError(f"the rung {rung.name!r} of {rung.operation} is refused: {wrong}")


class Work:
    """One rung at work on one problem: its output arrays, and the call that fills them."""

    def __init__(self, rung: Rung, problem: Problem) -> None:
        self.rung, self.outputs = rung, OPERATIONS[rung.operation].new_outputs(problem)
        self.arguments = *self.outputs.values(), *OPERATIONS[rung.operation].inputs(problem), STRIDE, PAD

    def __call__(self) -> None:
        """Compute once; what the rung raises becomes its refusal."""
        try:
            self.rung.function(*self.arguments)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # whatever a user's kernel does, SystemExit included
            raise refusal(self.rung, f"it raises {error_text(error)}") from error


def expected(operation: str, problem: Problem) -> dict[str, Array]:
    """What `operation` gives on `problem`, in float64, added to zeros."""
    fields = {name: a.astype(np.float64) for name, a in vars(problem).items() if a.dtype == np.float32}
    exact, details = dataclasses.replace(problem, **fields), OPERATIONS[operation]
    outputs = details.new_outputs(exact, np.float64)
    details.reference(*outputs.values(), *details.inputs(exact), STRIDE, PAD)
    return outputs


def check(rung: Rung, problem: Problem, reference: dict[str, Array]) -> float:
    """The error of a rung as a share of the largest entry of `reference`, which `expected` gives.

    Raises
    ------
    OptionError
        The error is too large, or the rung fails or changes its arguments.
    """
    before = {name: value.copy() for name, value in vars(problem).items()}
    work, worst = Work(rung, problem), 0.0
    for name, output in work.outputs.items():
        # what is added to must not be overwritten; what is written must be all of it
        output[:] = 0.5 if name in ADDED else 255 if name == "argmax" else np.nan
    work()
    changed = [name for name, value in vars(problem).items() if not np.array_equal(value, before[name])]
    for name in changed:
        getattr(problem, name)[:] = before[name]
    if changed:
        raise refusal(rung, f"it changes its argument {changed[0]}")
    for name, output in work.outputs.items():
        if name == "argmax":
            if (moved := np.mean(output != reference[name])) > TIES:
                raise refusal(rung, f"{100 * moved:.0f} % of its maxima are elsewhere than those of the reference")
            continue
        start = 0.5 if name in ADDED else 0
        off = float(abs(output - start - reference[name]).max() / abs(reference[name]).max())
        if not off <= TOLERANCE:
            wrong = f"its result is off by {off:.1e} of the largest entry, where {TOLERANCE:.0e} is allowed"
            raise refusal(rung, wrong)
        worst = max(worst, off)
    return worst
