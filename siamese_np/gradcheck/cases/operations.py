"""The cases of this package: every operation, at kinks too, and both presets before and after a burn-in.

An operation is a function of a random generator and the shape of its input (None for its own choice) that
returns its cases. Layers run the compiled kernels. Those with parameters are checked as they are made, and with
their parameters moved: biases, which are 0 at first, would hide faults.
"""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from siamese_np.errors import ShapeError
from siamese_np.gradcheck.adapters import layer_case
from siamese_np.gradcheck.case import FAIL, PASS, Array, Arrays, Case, Check
from siamese_np.gradcheck.cases import references
from siamese_np.gradcheck.cases.networks import network_case, preset
from siamese_np.layers import Conv2D, Dense, Flatten, Layer, MaxPool2D, ReLU
from siamese_np.losses import AllPairsContrastiveLoss, ContrastiveLoss, EuclideanDistance
from siamese_np.network import Sequential

Shape = tuple[int, ...]
Cases = list[Case]

MARGIN = 1.0


# --- layers -----------------------------------------------------------------------------------------------


def conv2d(rng: np.random.Generator, shape: Shape | None) -> Cases:
    """Square and oblong windows, strides and paddings."""
    N, H, W, C = _expect("conv2d", shape or (3, 5, 4, 2), "N,H,W,C")
    options: list[dict[str, Any]] = [
        {"kernel_size": 3, "pad": "same"},
        {"kernel_size": (2, 3), "stride": (2, 1), "pad": (1, 0)},
        {"kernel_size": (3, 2), "stride": (1, 2), "pad": (2, 1)},
    ]
    cases = []
    for option in options:
        layer = Conv2D(C, 3, seed=rng, dtype=np.float64, **option)
        KH, KW, C, F = layer.params["w"].shape
        OH, OW, _ = layer.output_shape((H, W, C))
        terms = {"out": KH * KW * C + 1, "x": KH * KW * F, "w": N * OH * OW, "b": N * OH * OW}
        cases += _twice(layer, references.conv2d(layer), rng.standard_normal((N, H, W, C)), terms, rng)
    return cases


def dense(rng: np.random.Generator, shape: Shape | None) -> Cases:
    """A matrix product."""
    N, D = _expect("dense", shape or (4, 6), "N,D")
    layer = Dense(D, 5, seed=rng, dtype=np.float64)
    terms = {"out": D + 1, "x": 5, "w": N, "b": N}
    return _twice(layer, references.dense(layer), rng.standard_normal((N, D)), terms, rng)


def conv_relu_pool(rng: np.random.Generator, shape: Shape | None) -> Cases:
    """What a network makes of the three in a row; and on images that are black in places, with biases of 0."""
    N, H, W, C = _expect("conv_relu_pool", shape or (2, 5, 4, 2), "N,H,W,C")
    conv, pool = Conv2D(C, 3, 3, pad="same", seed=rng, dtype=np.float64), MaxPool2D(2)
    x = rng.standard_normal((N, H, W, C))
    black = x.copy()
    black[0, : H // 2 + 1] = 0

    def case(name: str, arrays: Arrays, dtype: DTypeLike = np.float64) -> Case:
        network = Sequential([Conv2D(C, 3, 3, pad="same", dtype=dtype), ReLU(), pool], (H, W, C))
        for key, param in network.named_params().items():
            param[...] = arrays[key]
        made = network_case(name, network, arrays["x"])
        made.twin, made.twin_backward = references.conv_relu_pool(conv, pool)
        made.reductions = {"out": 9 * C + 1, "x": 27, "conv2d_1.w": N * H * W, "conv2d_1.b": N * H * W}
        made.single = lambda arrays: case(name, arrays, np.float32)
        return made

    params = {"conv2d_1.w": conv.params["w"], "conv2d_1.b": conv.params["b"]}
    moved = {name: value + rng.standard_normal(value.shape) for name, value in params.items()}
    return [
        case("convolution, ReLU, pooling", {"x": x, **moved}),
        case("convolution, ReLU, pooling, black in places", {"x": black, **params}),
    ]


def relu(rng: np.random.Generator, shape: Shape | None) -> Cases:
    """Anywhere, and with a third of the numbers exactly at the kink."""
    x = rng.standard_normal(shape or (4, 9))
    x.flat[:2] = 0.5, -0.5  # one of each, whatever was drawn
    at = np.where(rng.random(x.shape) < 1 / 3, 0.0, x)
    at.flat[:3] = 0.5, -0.5, 0.0
    cases = []
    for name, values in (("ReLU", x), ("ReLU, a third at 0", at)):
        case = _with_twin(layer_case(name, ReLU(), values), ReLU(), references.relu())
        case.signature, case.branches = lambda arrays: (arrays["x"] > 0).astype(int), {0: "off", 1: "on"}
        cases.append(case)
    return cases


def maxpool2d(rng: np.random.Generator, shape: Shape | None) -> Cases:
    """With and without overlap; and of three grey levels only, so that most windows hold ties."""
    N, H, W, C = _expect("maxpool2d", shape or (2, 6, 5, 2), "N,H,W,C")
    cases = []
    for window, stride in ((2, 2), ((3, 2), (1, 2))):
        layer = MaxPool2D(window, stride)
        ties = rng.integers(0, 3, (N, H, W, C)).astype(float)
        ties[0, :3, :2] = 0  # black: a tie of all
        for name, x in ((f"{layer}", rng.standard_normal(ties.shape)), (f"{layer}, ties", ties)):
            case = _with_twin(layer_case(name, layer, x), layer, references.maxpool2d(layer))
            case.signature = lambda arrays, layer=layer: references.winners(layer, arrays)
            cases.append(case)
    return cases


def flatten(rng: np.random.Generator, shape: Shape | None) -> Cases:
    """Only the shape changes."""
    x = rng.standard_normal(shape or (3, 2, 4, 2))
    return [_with_twin(layer_case("Flatten", Flatten(), x), Flatten(), references.flatten())]


def _twice(layer: Layer, twin: references.Twin, x: Array, terms: dict[str, int], rng: np.random.Generator) -> Cases:
    """`layer` as made, and with its parameters moved."""
    moved = _with_params(layer, {name: w + rng.standard_normal(w.shape) for name, w in layer.params.items()})
    return [
        _with_twin(layer_case(f"{layer} at initialisation", layer, x), layer, twin, terms),
        _with_twin(layer_case(f"{layer}, parameters moved", moved, 2 * x), moved, twin, terms),
    ]


def _with_twin(case: Case, layer: Layer, twin: references.Twin, terms: dict[str, int] | None = None) -> Case:
    case.twin, case.twin_backward = twin
    case.reductions = terms or {}
    case.single = lambda arrays: layer_case(case.name, _with_params(layer, arrays), arrays["x"])
    return case


def _with_params(layer: Layer, params: Arrays) -> Layer:
    """A copy of `layer` with parameters of its own."""
    other = copy.copy(layer)
    other._use({name: params[name] for name in layer.params})
    return other


# --- distance and losses ----------------------------------------------------------------------------------


def distance(rng: np.random.Generator, shape: Shape | None) -> Cases:
    """Rows apart, and rows that are equal: the tip of a cone, where the gradient is declared to be 0."""
    N, E = _expect("distance", shape or (5, 4), "N,E")
    emb_a, emb_b = rng.standard_normal((2, N, E))
    equal = emb_b.copy()
    equal[::2] = emb_a[::2]
    layer = EuclideanDistance()

    def case(name: str, arrays: Arrays) -> Case:
        return Case(
            name,
            arrays,
            lambda arrays: layer.forward(arrays["emb_a"], arrays["emb_b"]),
            lambda ddist, cache: dict(zip(("emb_a", "emb_b"), layer.backward(ddist, cache), strict=True)),
            inputs=("emb_a", "emb_b"),
            batch=True,
            adds=True,
            twin=references.distance()[0],
            twin_backward=references.distance()[1],
            signature=lambda arrays: (arrays["emb_a"] != arrays["emb_b"]).any(axis=1).astype(int),
            reductions=dict.fromkeys(("out", "emb_a", "emb_b"), E),
            single=lambda arrays: case(name, arrays),
        )

    apart = case("distance", {"emb_a": emb_a, "emb_b": emb_b})
    at = case("distance, some rows equal", {"emb_a": emb_a.copy(), "emb_b": equal})
    at.extra = check_distance_zero
    return [apart, at]


def contrastive(rng: np.random.Generator, shape: Shape | None) -> Cases:
    """Pairs of all three kinds; and some exactly at distance 0 and at the margin."""
    (N,) = _expect("contrastive", shape or (12,), "N")
    if N < 6:
        raise ShapeError(f"contrastive needs a --shape of at least 6 pairs, two of each kind, not {N}")
    kind = np.arange(N) % 3  # similar, within the margin, beyond
    dist = MARGIN * np.where(kind == 2, 1 + rng.uniform(0.1, 1, N), rng.uniform(0.1, 0.9, N))
    at = dist.copy()
    at[0], at[2] = 0, MARGIN
    label, loss = (kind > 0).astype(int), ContrastiveLoss(MARGIN)

    def case(name: str, arrays: Arrays) -> Case:
        twin, twin_backward = references.contrastive(label, MARGIN)
        return Case(
            name,
            arrays,
            # a step from 0 leads to where no distance is; the loss of a similar pair is the same on both sides
            lambda arrays: loss.forward(np.abs(arrays["dist"]), label),
            lambda dout, cache: {"dist": loss.backward(cache, float(dout))},
            inputs=("dist",),
            adds=True,
            twin=twin,
            twin_backward=twin_backward,
            signature=lambda arrays: references.pair_branches(arrays["dist"], label, MARGIN),
            branches=references.PAIR_BRANCHES,
            reductions={"out": N},
            single=lambda arrays: case(name, arrays),
        )

    return [case("contrastive", {"dist": dist}), case("contrastive, at 0 and at the margin", {"dist": at})]


def all_pairs(rng: np.random.Generator, shape: Shape | None) -> Cases:
    """All pairs of a batch; and with equal embeddings, of one class and of two."""
    N, E = _expect("all_pairs", shape or (7, 3), "N,E")
    if N < 5:
        raise ShapeError(f"all_pairs needs a --shape N,E with at least 5 embeddings, not {N}")
    emb, classes = rng.standard_normal((N, E)), np.arange(N) % 3
    i, j = np.triu_indices(N, 1)
    dissimilar = classes[i] != classes[j]
    # the margin in the middle of the dissimilar distances, away from each of them
    dist = np.sort(np.linalg.norm(emb[i] - emb[j], axis=1)[dissimilar])
    margin = float(dist[len(dist) // 2 - 1 : len(dist) // 2 + 1].mean())
    equal = emb.copy()
    equal[1], equal[3] = equal[2], equal[0]
    loss = AllPairsContrastiveLoss(margin)

    def branches(arrays: Arrays) -> references.Labels:
        dist = np.linalg.norm(arrays["emb"][i] - arrays["emb"][j], axis=1)
        return np.where(dissimilar & (dist == 0), 3, references.pair_branches(dist, dissimilar.astype(int), margin))

    def case(name: str, arrays: Arrays) -> Case:
        twin, twin_backward = references.all_pairs(classes, margin)
        return Case(
            name,
            arrays,
            lambda arrays: loss.forward(arrays["emb"], classes),
            lambda dout, cache: {"emb": loss.backward(cache, float(dout))},
            inputs=("emb",),
            adds=True,
            twin=twin,
            twin_backward=twin_backward,
            signature=branches,
            branches=references.PAIR_BRANCHES,
            reductions={"out": N * N, "emb": N},
            single=lambda arrays: case(name, arrays),
        )

    at = case("all_pairs, some equal", {"emb": equal})
    at.branches = {**references.PAIR_BRANCHES, 3: "dissimilar, at distance 0"}
    return [case("all_pairs", {"emb": emb}), at]


def check_distance_zero() -> list[Check]:
    """Pairs at and next to distance 0, in float64 and float32, down to the smallest number there is.

    At 0 the gradient is exactly 0. Next to it, a similar pair is pulled by its difference, and a dissimilar pair
    is pushed with the full margin, however close. Nothing is NaN or infinite.
    """
    faults = []
    layer, loss = EuclideanDistance(), ContrastiveLoss(MARGIN)
    for dtype in (np.float64, np.float32):
        info = np.finfo(dtype)
        for gap in (0.0, float(info.smallest_subnormal), 1e-30, 1e-8):
            for base in (0.0, -0.0, 1.0):
                emb_a, emb_b = np.full((1, 3), base, dtype), np.full((1, 3), base, dtype)
                emb_b[0, 1] += dtype(gap)
                difference = float(emb_a[0, 1]) - float(emb_b[0, 1])
                for label in (0, 1):
                    dist, cache = layer.forward(emb_a, emb_b)
                    demb_a, demb_b = layer.backward(loss.backward(loss.forward(dist, [label])[1]), cache)
                    expected = np.zeros(3)
                    expected[1] = difference if label == 0 else -np.sign(difference) * (MARGIN - abs(difference))
                    close = abs(demb_a[0] - expected).max() <= 4 * info.eps * abs(expected).max()
                    if not (close and np.array_equal(demb_a, -demb_b)):
                        kind = "dissimilar" if label else "similar"
                        got = float(demb_a[0, 1])
                        pair = f"a {kind} pair {abs(difference):.3g} apart in {info.dtype}"
                        faults.append(f"{pair} got {got:.3g}, not {expected[1]:.3g}")
    return [Check("distance 0", FAIL if faults else PASS, "; ".join(faults[:3]))]


def _expect(name: str, shape: Shape, letters: str) -> Shape:
    if len(shape) != len(letters.split(",")):
        raise ShapeError(f"{name} needs a --shape {letters}, not {','.join(map(str, shape))}")
    return shape


OPERATIONS: dict[str, Callable[[np.random.Generator, Shape | None], Cases]] = {
    "conv2d": conv2d,
    "conv_relu_pool": conv_relu_pool,
    "maxpool2d": maxpool2d,
    "relu": relu,
    "flatten": flatten,
    "dense": dense,
    "distance": distance,
    "contrastive": contrastive,
    "all_pairs": all_pairs,
    "cnn": preset("cnn"),
    "mlp": preset("mlp"),
}
