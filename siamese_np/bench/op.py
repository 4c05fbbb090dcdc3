"""One operation of any shape, forward and backward, beside single operations of others: oneDNN and im2col + BLAS.

Every result is compared with the textbook's in float64 before it is timed. The arrays are dense, normal numbers
without a zero to skip, and all processes keep freed memory (`siamese_np.bench.suite.KEEP_MEMORY`): ours writes into an
array that is kept, others may allocate theirs in each call. `GRID` has layers of published networks; what is slow there
is shown like what is fast.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from siamese_np import kernels, textbook
from siamese_np.backend import as_kernel
from siamese_np.bench import executed
from siamese_np.bench.sampling import Log, Run, measure, relative_error, settled
from siamese_np.errors import OptionError
from siamese_np.ladder.rungs import im2col
from siamese_np.runtime import scheduler

Array = np.ndarray[Any, Any]

TOLERANCE = 1e-4  # of the largest entry
COPIES = 12  # of all arrays in float64: no more memory than this is used
FORMS = {"conv2d": ("N,H,W,C", "K,F or KH,KW,F"), "dense": ("N,D", "E"), "maxpool2d": ("N,H,W,C", "K or KH,KW")}
DIRECTIONS = ("forward", "backward")
PEER = "with_torch_op"  # in benchmarks/peers
OURS, NUMPY = "siamese_np", "numpy"
BLAS = {"conv2d": "im2col + BLAS (NumPy)", "dense": "BLAS (NumPy)", "maxpool2d": "NumPy"}
TORCH = {"nchw": "NCHW", "channels_last": "channels_last", "packed": "packed weights"}


class Layer(NamedTuple):
    """One operation and its shape; `kernel` is (KH, KW, F) of conv2d, (E,) of dense, (KH, KW) of maxpool2d."""

    operation: str
    shape: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, int] = (1, 1)
    pad: tuple[int, int] = (0, 0)
    name: str = ""

    @property
    def output(self) -> tuple[int, ...]:
        """The shape of the output."""
        if self.operation == "dense":
            return self.shape[0], self.kernel[0]
        windows = zip(self.shape[1:3], self.pad, self.kernel[:2], self.stride, strict=True)
        places = ((n + 2 * p - k) // s + 1 for n, p, k, s in windows)
        return self.shape[0], *places, self.kernel[2] if self.operation == "conv2d" else self.shape[3]

    @property
    def weights(self) -> tuple[int, ...]:
        """The shape of the weights, () where there are none."""
        if self.operation == "dense":
            return self.shape[1], self.kernel[0]
        return (*self.kernel[:2], self.shape[3], self.kernel[2]) if self.operation == "conv2d" else ()

    def __str__(self) -> str:
        """``"conv2d 8x14x14x6, kernel 5x5x16, stride 1x1, pad 0x0"``."""
        parts = [f"{self.operation} {_by(self.shape)}", f"kernel {_by(self.kernel)}"]
        parts += [f"stride {_by(self.stride)}"] if self.operation != "dense" else []
        parts += [f"pad {_by(self.pad)}"] if self.operation == "conv2d" else []
        return (f"{self.name}: " if self.name else "") + ", ".join(parts)


def layer_of(entry: dict[str, Any]) -> Layer:
    """The layer of an entry of `run`, as JSON has it."""
    values = (entry[name] for name in Layer._fields)
    return Layer._make(tuple(value) if isinstance(value, list) else value for value in values)


def _by(numbers: Sequence[int]) -> str:
    return "x".join(map(str, numbers))


def _conv(name: str, side: int, C: int, K: int, F: int, stride: int = 1, pad: int = 0, N: int = 8) -> Layer:
    return Layer("conv2d", (N, side, side, C), (K, K, F), (stride, stride), (pad, pad), name)


# Layers as their authors describe them (AlexNet in the form of one tower, as Krizhevsky published it in 2014).
GRID = (
    _conv("LeNet-5 C1 (LeCun 1998)", 32, 1, 5, 6),
    _conv("LeNet-5 C3", 14, 6, 5, 16),
    _conv("AlexNet conv1 (Krizhevsky 2014)", 224, 3, 11, 64, stride=4, pad=2),
    _conv("AlexNet conv2", 27, 64, 5, 192, pad=2),
    _conv("AlexNet conv3", 13, 192, 3, 384, pad=1),
    _conv("VGG-16 conv1_1 (Simonyan 2014)", 224, 3, 3, 64, pad=1),
    _conv("VGG-16 conv3_1", 56, 128, 3, 256, pad=1),
    _conv("VGG-16 conv5_1", 14, 512, 3, 512, pad=1),
    _conv("GoogLeNet 3a 5x5 (Szegedy 2014)", 28, 16, 5, 32, pad=2),
    _conv("ResNet-18 conv1 (He 2015)", 224, 3, 7, 64, stride=2, pad=3),
    _conv("ResNet-18 conv2_x", 56, 64, 3, 64, pad=1),
    _conv("ResNet-18 conv3_1", 56, 64, 3, 128, stride=2, pad=1),
    _conv("ResNet-18 conv3_x", 28, 128, 3, 128, pad=1),
    _conv("ResNet-18 conv4_x", 14, 256, 3, 256, pad=1),
    _conv("ResNet-18 conv5_x", 7, 512, 3, 512, pad=1),
    _conv("ResNet-50 conv2_x 1x1", 56, 64, 1, 256),
    _conv("ResNet-50 conv4_x 1x1", 14, 1024, 1, 256),
    _conv("SqueezeNet fire2 3x3 (Iandola 2016)", 55, 16, 3, 64, pad=1),
    _conv("MobileNet 1x1, first (Howard 2017)", 112, 32, 1, 64),
    _conv("MobileNet 1x1, middle", 14, 512, 1, 512),
)


def parse(
    operation: str,
    shape: Sequence[int] | None,
    kernel: Sequence[int] | None,
    stride: Sequence[int] | None,
    pad: Sequence[int] | None,
) -> list[Layer]:
    """The layers that the options ``--op``, ``--shape`` ... ask for; of pooling, the stride is by default its window.

    Raises
    ------
    OptionError
        There is no such operation, or the shapes do not fit.
    """
    if operation == "grid":
        if shape or kernel or stride or pad:
            raise OptionError("--op grid has its own shapes; leave out --shape, --kernel, --stride and --pad")
        return list(GRID)
    if operation not in FORMS:
        raise OptionError(f"--op must be {', '.join(FORMS)} or grid, not {operation!r}")
    if shape is None or kernel is None:
        wanted = "--shape {} and --kernel {}".format(*FORMS[operation])
        raise OptionError(f"--op {operation} needs {wanted}, whole numbers separated by commas")
    window = 2 if operation == "maxpool2d" else 3
    if operation != "dense" and len(kernel) == window - 1:
        kernel = kernel[0], *kernel  # a square
    lengths = (2, 1) if operation == "dense" else (4, window)
    if (len(shape), len(kernel)) != lengths or min(*shape, *kernel) < 1:
        raise OptionError(
            f"--op {operation} takes --shape {FORMS[operation][0]} and --kernel {FORMS[operation][1]}, from 1 on, "
            f"not {','.join(map(str, shape))} and {','.join(map(str, kernel))}"
        )
    if (stride and operation == "dense") or (pad and operation != "conv2d"):
        raise OptionError(f"--op {operation} has no {'--pad' if pad else '--stride'}")
    for option, values, least in (("--stride", stride or (1,), 1), ("--pad", pad or (0,), 0)):
        if min(values) < least:
            raise OptionError(f"{option} is numbers from {least} on, not {','.join(map(str, values))}")
    steps = stride or (kernel if operation == "maxpool2d" else (1, 1))
    layer = Layer(operation, tuple(shape), tuple(kernel), (steps[0], steps[1]), tuple(pad or (0, 0)))  # type: ignore[arg-type]
    if min(layer.output) < 1:
        raise OptionError(f"the window of {layer} is larger than the image with its padding: no output is left")
    return [layer]


def check_memory(layer: Layer) -> None:
    """OptionError where there is too little memory for the layer."""
    from siamese_np.bench.end_to_end import free_memory

    sizes = [float(np.prod(shape, dtype=float)) for shape in (layer.shape, layer.output, layer.weights or (0,))]
    patches = sizes[1] * sizes[2] / layer.output[-1] ** 2  # of im2col: a window of x for each pixel of the output
    if (needed := 8 * COPIES * sum(sizes) + 8 * patches) > (free := free_memory()):
        raise OptionError(
            f"{layer} needs about {needed / 1e9:,.1f} GB, and {free / 1e9:,.1f} GB are free: take a smaller batch"
        )


class Problem:
    """The arrays of a layer, what must come out, and a kernel's arguments for both directions."""

    def __init__(self, layer: Layer) -> None:
        check_memory(layer)
        rng, self.layer = np.random.default_rng(0), layer
        shapes = {"x": layer.shape, "dout": layer.output}
        if layer.weights:
            shapes.update(w=layer.weights, b=layer.weights[-1:])
        self.arrays = {name: rng.standard_normal(shape, np.float32) for name, shape in shapes.items()}
        if layer.weights:
            self.arrays["w"] /= np.float32(np.prod(layer.weights[:-1]) ** 0.5)
        exact = {name: array.astype(np.float64) for name, array in self.arrays.items()}
        inputs = [exact[name] for name in ("x", "w", "b") if name in exact]
        windows = {"conv2d": (layer.stride, layer.pad), "maxpool2d": (layer.kernel, layer.stride)}
        self.options = windows.get(layer.operation, ())
        out, cache = getattr(textbook, f"{layer.operation}_forward")(*inputs, *self.options)
        grads = getattr(textbook, f"{layer.operation}_backward")(exact["dout"], cache)
        self.expected = {"forward": [out], "backward": list(grads) if isinstance(grads, tuple) else [grads]}
        self.argmax = None
        if layer.operation == "maxpool2d":  # of the type that the layer takes
            self.argmax = cache[0].astype(np.uint8 if np.prod(layer.kernel) < 256 else np.int32)

    def candidate(self, kernel: Callable[..., None], direction: str) -> tuple[Callable[[], None], list[Array], Any]:
        """A call of `kernel`, the arrays it fills, and its arguments; gradients that it adds to are cleared first."""
        a, outputs = self.arrays, [np.empty(like.shape, np.float32) for like in self.expected[direction]]
        inputs = [a[name] for name in ("x", "w") if name in a]
        if direction == "forward":
            arguments = [*outputs, *inputs, *([a["b"]] if "b" in a else []), *self.options]
            if self.argmax is not None:
                arguments.insert(1, np.full_like(self.argmax, np.iinfo(self.argmax.dtype).max))
        else:
            arguments = [*outputs, a["dout"], *inputs, *self.options]
            if self.argmax is not None:
                arguments[2:3] = [self.argmax, self.layer.shape]

        def call() -> None:
            for added in outputs[1:]:
                added.fill(0)
            kernel(*arguments)

        return call, outputs, tuple(arguments)

    def error(self, results: Sequence[Array], direction: str) -> float:
        """How far the results are off, as a share of the largest entry; infinite where shapes differ."""
        expected = self.expected[direction]
        if len(results) != len(expected):
            return float("inf")
        return max(map(relative_error, results, expected))


def _im2col_backward(dx: Array, dw: Array, db: Array, dout: Array, x: Array, w: Array, stride: Any, pad: Any) -> None:
    im2col.conv2d_backward_x(dx, dout, np.ascontiguousarray(w.transpose(3, 0, 1, 2)), stride, pad)
    im2col.conv2d_backward_w(dw, dout, x, stride, pad)
    db += dout.sum(axis=(0, 1, 2))


def candidate_title(who: str, operation: str) -> str:
    """What a candidate is called; PyTorch's convolutions are oneDNN's."""
    if who in TORCH:
        layout = "" if operation == "dense" else f", {TORCH[who]}"
        return f"oneDNN (PyTorch{layout})" if operation == "conv2d" else f"PyTorch{layout}"
    return who if who == OURS else BLAS[operation]


def _kernels(name: str) -> dict[str, Callable[..., None]]:
    """Ours and NumPy's kernel of `name`: the textbook's, where that is a product of matrices anyway, or no product."""
    ours = getattr(kernels, name)
    im2cols = {"conv2d_forward": im2col.conv2d_forward, "conv2d_backward": _im2col_backward}
    return {OURS: ours, NUMPY: im2cols.get(name) or as_kernel(getattr(textbook, name), ours)}


def run(options: dict[str, Any], log: Log) -> list[dict[str, Any]]:
    """Verify and time the layers in ``options["layers"]``; an entry for each and each direction.

    ``"candidates"`` has those that were timed, with ``"ratio"`` (median over ours), ``"failed"`` why others were not.
    Where a layer needs too much memory, its only entry says so in ``"skipped"``.

    Raises
    ------
    OptionError
        Our own result is wrong.
    """
    threads, entries = max(options["threads"]), []
    layers = [layer_of(dict(zip(Layer._fields, fields, strict=True))) for fields in options["layers"] or GRID]
    scheduler.set_threads(threads)
    with _peers(options, threads, log) as peers:
        for number, layer in enumerate(layers, 1):
            log(f"{number}. {layer}")
            try:
                problem = Problem(layer)
            except OptionError as error:
                log(f"skipped: {error}")
                entries.append({**layer._asdict(), "skipped": str(error)})
                continue
            entries += [_entry(problem, direction, peers, options, log) for direction in DIRECTIONS]
            del problem  # the next one needs its memory
    return entries


def timed(results: dict[str, Any]) -> list[dict[str, Any]]:
    """The entries of a run's section op without skipped layers."""
    return [entry for entry in results.get("op", ()) if "skipped" not in entry]


def _entry(problem: Problem, direction: str, peers: dict[str, Any], options: dict[str, Any], log: Log) -> Any:
    layer, name = problem.layer, f"{problem.layer.operation}_{direction}"
    runs: dict[str, Run] = {}
    found: dict[str, dict[str, Any]] = {}
    failed: dict[str, str] = {}

    def verified(who: str, run: Run, error: float) -> None:
        if error <= TOLERANCE:
            runs[who], found[who] = run, {"title": candidate_title(who, layer.operation), "error": error}
        else:
            failed[who] = f"its result is wrong, off by {error:.1e} of the largest entry"

    counted = executed.Count(0.0, 0.0, 0.0)
    for who, kernel in _kernels(name).items():
        call, outputs, arguments = problem.candidate(kernel, direction)
        outputs[0].fill(np.nan)  # what was not written must not look right
        call()
        moved = direction == "forward" and problem.argmax is not None and (arguments[1] != problem.argmax).any()
        verified(who, settled(call), float("inf") if moved else problem.error(outputs, direction))
        if who == OURS:
            counted = executed.count(name, arguments)
    if OURS in failed:
        raise OptionError(f"{OURS} fails at {layer}, {direction}: {failed[OURS]}")
    for variant, peer in list(peers.items()):
        if not _differs(variant, layer, direction):
            continue
        results = peer.results({**layer._asdict(), "direction": direction}, problem.arrays)
        if isinstance(results, str):
            failed[variant] = results
        else:
            verified(variant, peer.run, problem.error(results, direction))
        if variant in found:
            found[variant]["versions"] = peer.versions
        if peer.refusal:  # that is said once
            del peers[variant]
    timings = measure(runs, options["repetitions"], options["seconds"])
    for who in list(found):
        if not (median := timings[who].median) < float("inf"):  # it died while it was timed
            failed[who] = "it ended early"
            del found[who]
            continue
        found[who].update(timing=timings[who]._asdict(), ratio=median / timings[OURS].median)
    for who, why in failed.items():
        log(f"{candidate_title(who, layer.operation)} {direction}: {why}")
    figures = {"flops": counted.dense, "executed_flops": counted.executed, "bytes": counted.bytes}
    return {**layer._asdict(), "direction": direction, **figures, "candidates": found, "failed": failed}


def _differs(variant: str, layer: Layer, direction: str) -> bool:
    """Whether a variant of PyTorch's is another than the first one for a layer."""
    packed = (layer.operation, direction) == ("conv2d", "forward")
    return variant == "nchw" or (layer.operation != "dense" and (variant != "packed" or packed))


@contextlib.contextmanager
def _peers(options: dict[str, Any], threads: int, log: Log) -> Iterator[dict[str, Any]]:
    """PyTorch's variants, each in a process of its own; none where it is missing."""
    from siamese_np.bench import suite

    try:
        runner = suite.load_peers()
    except OptionError as error:
        if options["peer_python"]:
            raise
        log(str(error))
        yield {}
        return
    with runner.operations(PEER, "torch", TORCH, options["peer_python"], threads) as peers:
        if not peers:
            log("no PyTorch, so no oneDNN beside; --peer-python names an interpreter that has it")
        yield peers
