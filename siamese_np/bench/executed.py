"""What kernels really multiply: Winograd's 16 products instead of 36, and no product with a zero that is skipped.

A kernel's arguments tell which way it goes and how many of its operands are zero; the counts follow the rules of
`siamese_np.kernels.conv` and `siamese_np.kernels.dense`. A multiply-add is two operations. Tiles that reach
beyond an odd output are multiplied, so they count. Transforms, biases, ReLU, pooling, losses, optimizers and rows that
only fill up a block count nothing: a share of the peak is never too high.
"""

import contextlib
import inspect
import statistics
import time
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from typing import Any, NamedTuple

import numpy as np

from siamese_np import kernels, textbook
from siamese_np.backend import ops
from siamese_np.kernels.conv import backward
from siamese_np.kernels.conv.winograd import MIN_CHANNELS
from siamese_np.kernels.dense import SAMPLE, SPARSE

Array = np.ndarray[Any, Any]
Span = tuple[int, int]  # first and, exclusive, last


class Count(NamedTuple):
    """Operations of the dense sums, those executed, and bytes of arguments and results, each counted once."""

    dense: float
    executed: float
    bytes: float


def count(operation: str, arguments: tuple[Any, ...]) -> Count:
    """The `Count` of one call of a kernel, with outputs that it has already written."""
    named = dict(zip(_parameters(operation), arguments, strict=True))
    made = sum(value.nbytes for value in arguments if isinstance(value, np.ndarray))
    counter = COUNTERS.get(operation)
    dense, executed = counter(**named) if counter else (0.0, 0.0)
    return Count(dense, float(executed), float(made))


def conv_forward(
    x: Array, w: Array, stride: Span, pad: Span, argmax: Array | None = None, **_: Any
) -> tuple[float, float]:
    """Tiles of 2x2 pixels: by Winograd's transform, or plain, without those that see only zeros."""
    KH, KW, C, F = w.shape
    OH, OW = _outputs(x, w, stride, pad)
    rows, columns = ((OH + 1) // 2, (OW + 1) // 2) if argmax is None else argmax.shape[1:3]
    dense = 2.0 * len(x) * OH * OW * w.size
    if (KH, KW) == (3, 3) and C >= MIN_CHANNELS and tuple(stride) == (1, 1):
        return dense, 2.0 * 16 * len(x) * rows * columns * C * F

    def spans(tiles: int, outputs: int, step: int, size: int) -> list[Span]:
        return [(2 * i * step, 2 * i * step + step * (2 * i + 1 < outputs) + size) for i in range(tiles)]

    tiles = _seen(x, pad, spans(rows, OH, stride[0], KH), spans(columns, OW, stride[1], KW))
    return dense, 2.0 * 4 * tiles * w.size


def conv_backward(
    dx: Array, dout: Array, x: Array, w: Array, stride: Span, pad: Span, argmax: Array | None = None, **_: Any
) -> tuple[float, float]:
    """Entries of dout that are not zero where those are few; else all, by Winograd's transform or plain.

    Without dx, products of matrices leave out pixels that saw only zeros.
    """
    KH, KW, C, F = w.shape
    OH, OW = _outputs(x, w, stride, pad)
    passes = 1 + bool(len(dx))
    dense = 2.0 * passes * len(x) * OH * OW * w.size
    sample = dout.reshape(-1, dout.shape[3])[:: max(1, dout.size // dout.shape[3] // backward.SAMPLE)]
    sparse = argmax is not None or np.count_nonzero(sample) <= backward.SPARSE * sample.size
    if sparse and (C >= backward.FEW_CHANNELS or passes == 2):
        entries = np.count_nonzero(dout if argmax is None else dout * (argmax < 4))
        return dense, 2.0 * passes * entries * w[..., 0].size
    if not sparse and (KH, KW) == (3, 3) and min(C, F) >= MIN_CHANNELS and tuple(stride) == (1, 1) and max(pad) <= 2:
        tiles = sum(((H + 1) // 2) * ((W + 1) // 2) for H, W in ((OH, OW), x.shape[1:3])[:passes])
        return dense, 2.0 * 16 * len(x) * tiles * C * F
    if passes == 2:
        return dense, dense
    rows, columns = (OH, OW) if argmax is None else (2 * argmax.shape[1], 2 * argmax.shape[2])
    down = [(i * stride[0], i * stride[0] + KH) for i in range(rows)]
    right = [(j * stride[1], j * stride[1] + KW) for j in range(columns)]
    return dense, 2.0 * _seen(x, pad, down, right) * w.size


def dense_forward(x: Array, w: Array, **_: Any) -> tuple[float, float]:
    """All products, or those of the entries of x that are not zero."""
    dense = 2.0 * len(x) * w.size
    return dense, 2.0 * np.count_nonzero(x) * w.shape[1] if _is_sparse(x) else dense


def dense_backward(dx: Array, dout: Array, x: Array, w: Array, **_: Any) -> tuple[float, float]:
    """Rows of dout that are not all zero; of these all products, or those of entries that are not zero."""
    (D, E), rows, entries = w.shape, dout.any(axis=1), np.count_nonzero(dout)
    R = np.count_nonzero(rows)
    executed = 2.0 * (np.count_nonzero(x[rows]) if _is_sparse(x) else R * D) * E
    if len(dx):
        executed += 2.0 * D * (entries if entries <= SPARSE * R * E else R * E)
    return 2.0 * (1 + bool(len(dx))) * len(x) * w.size, executed


COUNTERS: dict[str, Callable[..., tuple[float, float]]] = {
    "conv2d_forward": conv_forward,
    "conv_relu_pool_forward": conv_forward,
    "conv2d_backward": conv_backward,
    "conv_relu_pool_backward": conv_backward,
    "dense_forward": dense_forward,
    "dense_backward": dense_backward,
}


def _outputs(x: Array, w: Array, stride: Span, pad: Span) -> Span:
    height, width = ((x.shape[k + 1] + 2 * pad[k] - w.shape[k]) // stride[k] + 1 for k in (0, 1))
    return height, width


def _is_sparse(x: Array) -> bool:
    rows = x[:: max(1, len(x) // SAMPLE)]
    return bool(np.count_nonzero(rows) <= SPARSE * rows.size)


def _seen(x: Array, pad: Span, down: list[Span], right: list[Span]) -> int:
    """How many of the windows `down` x `right` of all padded images hold anything but the zeros at a row's ends."""
    N, H, W, C = x.shape
    nonzero = (x != 0).any(axis=3) if C == 1 else (x != 0).reshape(N, H, W * C)
    first = np.full((N, H + 2 * pad[0]), (W + 2 * pad[1]) * C)
    last = np.zeros_like(first)
    inside, some = slice(pad[0], pad[0] + H), nonzero.any(axis=2)
    first[:, inside] = np.where(some, pad[1] * C + nonzero.argmax(axis=2), first[:, inside])
    last[:, inside] = np.where(some, pad[1] * C + W * C - nonzero[..., ::-1].argmax(axis=2), 0)
    ends = np.array(right) * C
    hit = (first[..., None] < ends[:, 1]) & (last[..., None] > ends[:, 0])  # (N, rows, windows across)
    return sum(int(np.count_nonzero(hit[:, top:bottom].any(axis=1))) for top, bottom in down)


@contextlib.contextmanager
def watched(watch: Callable[..., None]) -> Iterator[None]:
    """Within the block, operations of a network call ``watch(name, kernel, *arguments)`` in their kernel's place."""
    kept = {name: getattr(ops, name) for name in textbook.__all__}
    for name, kernel in kept.items():
        setattr(ops, name, partial(watch, name, kernel))
    try:
        yield
    finally:
        vars(ops).update(kept)


def step_count(step: Callable[[], Any], steps: int) -> Count:
    """The `Count` of one `step`, the mean of `steps`."""
    made = [one for calls in _counted(step, steps).values() for one in calls]
    return Count(*(np.sum(made, axis=0) / steps).tolist())


def parts(step: Callable[[], Any], batches: int, steps: int) -> list[dict[str, Any]]:
    """What each operation of `step` costs: its calls summed, mean counts of `batches` steps, median seconds of `steps`.

    The last part, ``"all else"``, is the time between kernels: Python.
    """
    counts = _counted(step, batches)
    seconds: list[dict[str, float]] = []
    watching = 0.0  # seconds that the bookkeeping took

    def timing(name: str, kernel: Any, *arguments: Any) -> None:
        nonlocal watching
        start = time.perf_counter()
        kernel(*arguments)
        end = time.perf_counter()
        part = _label(name, arguments)
        seconds[-1][part] = seconds[-1].get(part, 0.0) + end - start
        watching += time.perf_counter() - end

    with watched(timing):
        for _ in range(steps):
            seconds.append({})
            watching, start = 0.0, time.perf_counter()
            step()
            passed = time.perf_counter() - start
            seconds[-1]["all else"] = passed - watching - sum(seconds[-1].values())
    rows = []
    for part in seconds[-1]:
        dense, executed, made = (np.sum(counts.get(part, [Count(0.0, 0.0, 0.0)]), axis=0) / batches).tolist()
        took = statistics.median(one[part] for one in seconds)
        rows.append({"part": part, "flops": dense, "executed_flops": executed, "bytes": made, "seconds": took})
    return rows


def _counted(step: Callable[[], Any], steps: int) -> dict[str, list[Count]]:
    counts: dict[str, list[Count]] = {}

    def counting(name: str, kernel: Any, *arguments: Any) -> None:
        kernel(*arguments)
        counts.setdefault(_label(name, arguments), []).append(count(name, arguments))

    with watched(counting):
        for _ in range(steps):
            step()
    return counts


def _label(name: str, arguments: tuple[Any, ...]) -> str:
    """The operation and the shape of its weights, or of its first array: ``"dense_forward 784x512"``."""
    return f"{name} {'x'.join(map(str, arguments[_parameters(name).index('w') if name in COUNTERS else 0].shape))}"


@lru_cache  # asking takes longer than a small kernel
def _parameters(name: str) -> tuple[str, ...]:
    return tuple(inspect.signature(getattr(kernels, name)).parameters)
