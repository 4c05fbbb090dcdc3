"""Known operations whose gradient is wrong in a known way: sizes left out, and formulas taken for one another.

Each cause makes guesses, as `hints` describes them.
"""

import itertools
import math
from collections.abc import Callable, Iterator

import numpy as np

from siamese_np.gradcheck.case import Array
from siamese_np.gradcheck.evidence import ALIKE, Evidence, spread

Guess = tuple[Array | None, str]
Guesses = Iterator[Guess]


def reading(e: Evidence, k: float) -> str | None:
    """What the factor `k` of all entries may be: sizes, or what is often made of a size."""
    all_entries = e.only is None
    sizes = [(n, what) for n, what in _sizes(e) if all_entries and n > 1 and (n > 2 or not what.startswith("axis"))]
    same = list(dict.fromkeys(what for size, what in sizes if abs(k - size) < ALIKE * k))
    mean = "(1/N: a mean taken for a sum, or a sum for a mean)"
    if abs(k - 2) < ALIKE * k:
        return "2: a factor 2 is missing or too many" + (f", or it is {same[0]} {mean}" if same else "")
    if same:
        return f"{k:.0f}, {' or '.join(same[:2])} {mean}"
    for (size, what), (how, of) in itertools.product(sizes, OF_A_SIZE.items()):
        if size > 2 and abs(k - of(size)) < ALIKE * k and what.startswith("axis") == (of is math.sqrt):
            return f"{k:.6g}: {how.format(size)}, {what}"
    return None


OF_A_SIZE: dict[str, Callable[[int], float]] = {
    "half of {0} (a factor 2 and a mean are wrong)": lambda size: size / 2,
    "twice {0} (a factor 2 and a mean are wrong)": lambda size: size * 2,
    "the square root of {0}": math.sqrt,  # of a single axis
    "the square of {0} (multiplied instead of divided: brackets?)": lambda size: size**2,
    "N / (N - 1) with N = {0}": lambda size: size / (size - 1),
}


def _sizes(e: Evidence) -> Iterator[tuple[int, str]]:
    """Sizes that are easily left out or put in, the likeliest first."""
    arrays, out = e.point.case.arrays, e.point.out.shape
    inputs = arrays[e.point.case.inputs[0]].shape if e.point.case.inputs else out
    shapes = {"the output": out, e.name: e.shape, **{name: array.shape for name, array in e.others.items()}}
    for batch in (out, inputs):
        if batch:
            yield batch[0], "the batch size N"
    for name, shape in shapes.items():
        yield math.prod(shape), f"the number of {'outputs' if name == 'the output' else f'entries of {name}'}"
    if len(out) > 2:
        yield math.prod(out[:-1]), "the number of output pixels"
    ours, theirs = math.prod(e.shape), max(math.prod(out), 1)
    if max(ours, theirs) % min(ours, theirs) == 0 and min(ours, theirs) > 1:
        ratio = f"entries of {e.name} per output" if ours > theirs else f"outputs per entry of {e.name}"
        yield max(ours, theirs) // min(ours, theirs), f"the number of {ratio} (a window)"
    several = [
        (name, shape, tuple(range(first, last)))
        for name, shape in {shape: (name, shape) for name, shape in [*shapes.items()][::-1]}.values()
        for first, last in itertools.combinations(range(len(shape) + 1), 2)
        if last - first < len(shape) and not (shape in (out, inputs) and last == 1)  # that is N
        if not (shape == out and first == 0 and last == len(out) - 1)  # those are pixels
    ]
    several += [(name, shape, (0, *range(2, len(shape)))) for name, shape in shapes.items() if len(shape) > 2]  # NCHW
    for name, shape, axes in sorted(several, key=lambda found: -len(found[2])):
        what = f"the size of axes {axes}" if len(axes) > 1 else f"axis {axes[0]}"
        yield math.prod(shape[axis] for axis in axes), f"{what} of {name}"


def slopes(e: Evidence) -> Iterator[tuple[Array, str]]:
    """What dout is multiplied by where the derivative of tanh or the sigmoid is missing, or another formula.

    They may be the function itself, or one of its factors, of an array of the same shape.
    """
    out, arrays = e.point.out, {n: a for n, a in e.point.case.arrays.items() if a.shape == e.point.out.shape}
    for name, function, slope, inverse, right in (
        ("tanh", np.tanh, lambda y: 1 - y**2, np.arctanh, "1 - out^2"),
        ("the sigmoid", _sigmoid, lambda y: y * (1 - y), lambda y: np.log(y / (1 - y)), "out (1 - out)"),
    ):
        given = [(name, out, inverse(out))]
        given += [(f"{name} of {argument}", function(array), array) for argument, array in arrays.items()]
        for of, y, z in given:
            yield 1 / slope(y), f"divided by {right}: the derivative of {of} is missing"
            for what, wrong in {
                "out": y,
                "1 - out^2": 1 - y**2,
                "out (1 - out)": y * (1 - y),
                "1 - z^2 with z the input": 1 - z**2,
                "z (1 - z) with z the input": z * (1 - z),
                "that at the output, as if applied twice": slope(function(y)),
            }.items():
                if what != right:
                    yield wrong / slope(y), f"as if the derivative of {of} were {what}; it is {right}"


def _sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "x": lambda x: x,
    "ReLU": lambda x: np.maximum(x, 0),
    "sigmoid": _sigmoid,
    "tanh": np.tanh,
    "SiLU": lambda x: x * _sigmoid(x),
    "softplus": lambda x: np.log1p(np.exp(x)),
    "ELU": lambda x: np.where(x > 0, x, np.expm1(x)),
    "GELU with erf": lambda x: x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2,
    "GELU with tanh": lambda x: x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2,
    "GELU with the sigmoid": lambda x: x * _sigmoid(1.702 * x),
}


def activation(e: Evidence) -> Guesses:
    """The derivative of another function than that of forward, or at the output where it should be at the input."""
    array, out = e.point.case.arrays[e.name], e.point.out
    names = ACTIVATIONS if array.shape == out.shape else ()
    for name in [name for name in names if np.allclose(ACTIVATIONS[name](array), out, 1e-12, 1e-15)][:1]:
        places = (array, ""), (out, ", at the output in place of the input")
        for other, (at, where) in itertools.product(names, places):
            slope = (ACTIVATIONS[other](at + 1e-5) - ACTIVATIONS[other](at - 1e-5)) / 2e-5
            what = f"the output is {name} of {e.name}, but the derivative is that of {other}{where}"
            yield e.at(slope * e.weights.reshape(out.shape)), what


def normalised(e: Evidence) -> Guesses:
    """x divided by its norm, or less its mean by its deviation, over some axes: the sums that backward subtracts."""
    x, dout = e.point.case.arrays[e.name], e.weights.reshape(e.point.dout.shape)
    factors = [np.ones(x.shape), *(spread(array, x.shape) for array in e.others.values())]
    for axes, factor in itertools.product([*subsets(x.ndim)][::-1], factors):  # of those that fit, the most axes
        size = math.prod(x.shape[axis] for axis in axes)
        if factor is None or size < 6 or x.shape != dout.shape or len(e.indices) != x.size:
            continue
        order = np.moveaxis(np.arange(x.size).reshape(x.shape), axes, range(-len(axes), 0)).reshape(-1, size)
        g, v = (array.ravel()[order] for array in (dout * factor, x))
        basis = np.stack([g, v - v.mean(axis=1, keepdims=True), np.ones(g.shape)], -1)
        target = np.stack([e.numeric[order], e.analytic[order]], -1)
        fit = np.linalg.pinv(basis) @ target  # (groups, 3, 2): how much of each of the three is in both
        if abs(basis @ fit - target).max() > ALIKE * e.scale:
            continue
        there = (fit[..., 0] ** 2).sum(axis=0)
        counts = (fit[..., 0] * fit[..., 1]).sum(axis=0) / there
        if there[2] < ALIKE**2 * there[0]:  # no mean is subtracted
            counts[2] = counts[1]
        guess = np.empty(x.size)
        guess[order] = basis @ (fit[..., 0] * counts)[..., None] @ np.ones(1)
        variance, mean = counts[1:]
        missing = [what for what, k in (("variance", variance), ("mean", mean)) if abs(k) < ALIKE]
        if missing:
            through = "norm, or the mean and the variance," if len(missing) == 2 else missing[0]
            what = f"what comes through the {through} is missing"
        elif abs(variance - mean) < ALIKE * abs(variance):
            what = f"the means that are subtracted are divided by {size / variance:.4g}, not by {size}"
        else:
            what = f"what comes through the variance counts {variance:.4g} times, through the mean {mean:.4g} times"
        yield guess, f"of a normalisation over the axes {axes}, {what}"


def convolution(e: Evidence) -> Guesses:
    """The gradient of a kernel (KH, KW, C, F) or (F, C, KH, KW) with another stride or padding than that of forward.

    Or (KH, KW), of one picture (H, W).
    """
    images = [array for array in e.others.values() if array.ndim == len(e.shape) == e.point.out.ndim in (2, 4)][:1]
    for x, (to_last, kernel_last, kernel_back) in itertools.product(images, LAYOUTS):
        dout, kernel = e.point.dout, e.shape
        if x.ndim == 2:
            x, dout, kernel = x[None, :, :, None], dout[None, :, :, None], (*e.shape, 1, 1)
        x, dout, shape = x.transpose(to_last), dout.transpose(to_last), tuple(kernel[axis] for axis in kernel_last)
        fits = (len(x), x.shape[3], dout.shape[3]) == (len(dout), *shape[2:])
        if not fits or shape[0] * shape[1] > 50 or dout.size * e.analytic.size > 1e6:
            continue
        padded = np.pad(x, ((0, 0), *((3, 3 * n + k) for n, k in zip(dout.shape[1:3], shape, strict=False)), (0, 0)))
        found = {}
        strides, pads = itertools.product((1, 2, 3), repeat=2), itertools.product(range(4), repeat=2)
        for stride, pad in itertools.product(strides, pads):
            rows, columns = (3 - p + s * np.arange(n) for s, p, n in zip(stride, pad, dout.shape[1:3], strict=True))
            dw = np.zeros(shape)
            for i, j in np.ndindex(shape[:2]):
                dw[i, j] = np.tensordot(padded[:, rows + i][:, :, columns + j], dout, ((0, 1, 2), (0, 1, 2)))
            found[stride, pad] = e.at(dw.transpose(kernel_back).reshape(e.shape))
        for right_stride, right_pad in [key for key, dw in found.items() if e.measures(dw)][:1]:
            for (stride, pad), dw in found.items():
                wrong_pad = f"as if the padding were {pad}, not {right_pad}"
                yield dw, wrong_pad if stride == right_stride else f"as if the stride were {stride}, not {right_stride}"


LAYOUTS = (((0, 1, 2, 3), (0, 1, 2, 3), (0, 1, 2, 3)), ((0, 2, 3, 1), (2, 3, 1, 0), (3, 2, 0, 1)))  # NHWC, NCHW


def epsilon(e: Evidence) -> Guesses:
    """An epsilon in a denominator of one pass alone: beside the array or 1 less the array, or beside the output."""
    out = spread(e.point.out, e.shape)
    beside = {f"{e.name} or 1 - {e.name}": np.array([e.values, 1 - e.values])}
    beside |= {"the output": e.at(out)[None]} if out is not None else {}
    for (what, bases), (alone, power) in itertools.product(beside.items(), (("forward", 1), ("backward", -1))):
        more = np.where(e.numeric == e.analytic, 0, (e.analytic / e.numeric) ** power - 1)
        for base in bases if len(e.values) > 3 else ():
            eps = float((base * more)[abs(more).argmax()])
            nearest = np.take_along_axis(bases, abs(bases * more - eps).argmin(axis=0)[None], 0)[0]
            if 0 < eps < 0.5:
                guess = e.numeric * (1 + eps / nearest) ** power
                yield guess, f"an epsilon of {eps:.3g} beside {what}, in a denominator, is in {alone} alone"


def subsets(ndim: int) -> Iterator[tuple[int, ...]]:
    """Every choice of one axis or more."""
    return itertools.chain.from_iterable(itertools.combinations(range(ndim), count + 1) for count in range(ndim))
