"""The cases of every operation, at kinks too, held to the strict contract of our own code.

Layers and losses run on the active back end. Layers with parameters are checked as they are made, and with their
parameters moved: biases, which are 0 at first, would hide faults.
"""

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from siamese_np.distances import EuclideanDistance, PairwiseDistances
from siamese_np.errors import ShapeError
from siamese_np.gradcheck.adapters import function_case, layer_case
from siamese_np.gradcheck.case import FAIL, PASS, Array, Arrays, Case, Check, Shape
from siamese_np.gradcheck.cases import references
from siamese_np.gradcheck.cases.networks import preset
from siamese_np.gradcheck.cases.references import chain, step
from siamese_np.gradcheck.targets import Operation
from siamese_np.layer import Layer
from siamese_np.layers import AvgPool2D, Conv2D, Dense, Flatten, GlobalAvgPool2D, MaxPool2D, ReLU
from siamese_np.losses import NEGATIVES, AllPairsContrastiveLoss, ContrastiveLoss
from siamese_np.network import Sequential
from siamese_np.presets import PRESETS

MARGIN = 1.0


def conv2d(rng: np.random.Generator, shape: Shape | None, window: Mapping[str, Shape] | None = None) -> list[Case]:
    """Square and oblong windows, strides and paddings; or the one window that is given."""
    N, H, W, C = _expect("conv2d", shape or (3, 5, 4, 2), "N,H,W,C")
    options: list[dict[str, Any]] = [
        {"kernel_size": 3, "pad": "same"},
        {"kernel_size": (2, 3), "stride": (2, 1), "pad": (1, 0)},
        {"kernel_size": (3, 2), "stride": (1, 2), "pad": (2, 1)},
    ]
    if window:
        options = [{"kernel_size" if name == "kernel" else name: pair for name, pair in window.items()}]
    cases = []
    for option in options:
        layer = Conv2D(C, 3, seed=rng, dtype=np.float64, **option)
        KH, KW, C, F = layer.params["w"].shape
        OH, OW, _ = layer.output_shape((H, W, C))
        terms = {"out": KH * KW * C + 1, "x": KH * KW * F, "w": N * OH * OW, "b": N * OH * OW}
        reference = chain(step("conv2d", "w", "b", options=(layer.stride, layer.pad)))
        cases += _twice(layer, reference, rng.standard_normal((N, H, W, C)), terms, rng)
    return cases


def dense(rng: np.random.Generator, shape: Shape | None) -> list[Case]:
    """A matrix product."""
    N, D = _expect("dense", shape or (4, 6), "N,D")
    layer = Dense(D, 5, seed=rng, dtype=np.float64)
    terms = {"out": D + 1, "x": 5, "w": N, "b": N}
    return _twice(layer, chain(step("dense", "w", "b")), rng.standard_normal((N, D)), terms, rng)


def conv_relu_pool(rng: np.random.Generator, shape: Shape | None) -> list[Case]:
    """What a network makes of the three in a row; and on images that are black in places, with biases of 0."""
    N, H, W, C = _expect("conv_relu_pool", shape or (2, 5, 4, 2), "N,H,W,C")
    conv, pool = Conv2D(C, 3, 3, pad="same", seed=rng, dtype=np.float64), MaxPool2D(2)
    x = rng.standard_normal((N, H, W, C))
    black = x.copy()
    black[0, : H // 2 + 1] = 0
    reference = chain(
        step("conv2d", "conv2d_1.w", "conv2d_1.b", options=(conv.stride, conv.pad)),
        step("relu"),
        step("maxpool2d", options=(pool.window, pool.stride)),
    )

    def case(name: str, arrays: Arrays, dtype: DTypeLike = np.float64) -> Case:
        network = Sequential([Conv2D(C, 3, 3, pad="same", dtype=dtype), ReLU(), pool], (H, W, C))
        for key, param in network.named_params().items():
            param[...] = arrays[key]
        made = layer_case(name, network, arrays["x"], strict=True)
        made.reference, made.reference_backward = reference
        made.reductions = {"out": 9 * C + 1, "x": 27, "conv2d_1.w": N * H * W, "conv2d_1.b": N * H * W}
        made.single = lambda arrays: case(name, arrays, np.float32)
        return made

    params = {f"conv2d_1.{name}": value for name, value in conv.params.items()}
    moved = {name: value + rng.standard_normal(value.shape) for name, value in params.items()}
    return [
        case("convolution, ReLU, pooling", {"x": x, **moved}),
        case("convolution, ReLU, pooling, black in places", {"x": black, **params}),
    ]


def relu(rng: np.random.Generator, shape: Shape | None) -> list[Case]:
    """Anywhere, and with a third of the numbers exactly at the kink."""
    x = rng.standard_normal(shape or (4, 9))
    x.flat[:2] = 0.5, -0.5  # one of each, whatever was drawn
    at = np.where(rng.random(x.shape) < 1 / 3, 0.0, x)
    at.flat[:3] = 0.5, -0.5, 0.0
    cases = []
    for name, values in (("ReLU", x), ("ReLU, a third at 0", at)):
        case = _case(name, ReLU(), values, chain(step("relu")))
        case.signature, case.branches = lambda arrays: (arrays["x"] > 0).astype(int), {0: "off", 1: "on"}
        cases.append(case)
    return cases


def maxpool2d(rng: np.random.Generator, shape: Shape | None) -> list[Case]:
    """With and without overlap; and of three grey levels only, so that most windows hold ties."""
    N, H, W, C = _expect("maxpool2d", shape or (2, 6, 5, 2), "N,H,W,C")
    cases = []
    for window, stride in ((2, 2), ((3, 2), (1, 2))):
        layer = MaxPool2D(window, stride)
        ties = rng.integers(0, 3, (N, H, W, C)).astype(float)
        ties[0, :3, :2] = 0  # black: a tie of all
        pool = step("maxpool2d", options=(layer.window, layer.stride))
        for name, x in ((f"{layer}", rng.standard_normal(ties.shape)), (f"{layer}, ties", ties)):
            case = _case(name, layer, x, chain(pool))
            case.signature = lambda arrays, pool=pool: pool.forward(arrays["x"], *pool.options)[1][0]  # argmax
            cases.append(case)
    return cases


def avgpool2d(rng: np.random.Generator, shape: Shape | None) -> list[Case]:
    """Windows side by side, with overlap, and with gaps between them; and one as large as the image."""
    N, H, W, C = _expect("avgpool2d", shape or (2, 6, 5, 2), "N,H,W,C")
    x = rng.standard_normal((N, H, W, C))
    cases = []
    for window, stride in ((2, 2), ((3, 2), (1, 2)), ((1, 2), (2, 3))):
        layer = AvgPool2D(window, stride)
        size = layer.window[0] * layer.window[1]
        reference = chain(step("avgpool2d", options=(layer.window, layer.stride)))
        cases.append(_case(f"{layer}", layer, x, reference, {"out": size, "x": size}))
    pool = step("avgpool2d", options=((H, W), (H, W)))
    cases.append(_case("GlobalAvgPool2D", GlobalAvgPool2D(), x, chain(pool, references.FLATTEN), {"out": H * W}))
    return cases


def flatten(rng: np.random.Generator, shape: Shape | None) -> list[Case]:
    """Only the shape changes."""
    x = rng.standard_normal(shape or (3, 2, 4, 2))
    return [_case("Flatten", Flatten(), x, chain(references.FLATTEN))]


def _twice(
    layer: Layer, reference: references.Reference, x: Array, terms: dict[str, int], rng: np.random.Generator
) -> list[Case]:
    """`layer` as made, and with its parameters moved."""
    moved = _with_params(layer, {name: w + rng.standard_normal(w.shape) for name, w in layer.params.items()})
    return [
        _case(f"{layer} at initialisation", layer, x, reference, terms),
        _case(f"{layer}, parameters moved", moved, 2 * x, reference, terms),
    ]


def _case(
    name: str, layer: Layer, x: Array, reference: references.Reference, terms: dict[str, int] | None = None
) -> Case:
    case = layer_case(name, layer, x, strict=True)
    case.reference, case.reference_backward = reference
    case.reductions = terms or {}
    case.single = lambda arrays: layer_case(name, _with_params(layer, arrays), arrays["x"], strict=True)
    return case


def _with_params(layer: Layer, params: Arrays) -> Layer:
    """A layer like `layer`, with parameters of its own, of the dtype of `params`."""
    config = layer.config()
    if "dtype" in config:
        config["dtype"] = params["w"].dtype
    other = type(layer).from_config(config)
    other.params = {name: params[name] for name in layer.params}
    return other


def distance(rng: np.random.Generator, shape: Shape | None) -> list[Case]:
    """Rows apart, and rows that are equal: the tip of a cone, where the gradient is declared to be 0."""
    N, E = _expect("distance", shape or (5, 4), "N,E")
    emb_a, emb_b = rng.standard_normal((2, N, E))
    equal = emb_b.copy()
    equal[::2] = emb_a[::2]
    layer, terms = EuclideanDistance(), dict.fromkeys(("out", "emb_a", "emb_b"), E)
    reference = chain(step("euclidean", "emb_b"), start="emb_a")

    def case(name: str, emb_b: Array) -> Case:
        arrays = {"emb_a": emb_a.copy(), "emb_b": emb_b}
        made = _of_functions(name, layer.forward, layer.backward, arrays, reference, terms)
        made.batch = True
        made.signature = lambda arrays: (arrays["emb_a"] != arrays["emb_b"]).any(axis=1).astype(int)
        return made

    apart, at = case("distance", emb_b), case("distance, some rows equal", equal)
    at.extra = check_distance_zero
    return [apart, at]


def pairwise(rng: np.random.Generator, shape: Shape | None) -> list[Case]:
    """Distances of all pairs of a batch; and with equal embeddings."""
    N, E = _expect("pairwise", shape or (5, 3), "N,E", 3)
    apart = rng.standard_normal((N, E))
    equal = apart.copy()
    equal[2] = equal[0]
    layer, terms, cases = PairwiseDistances(), {"out": E, "emb": 2 * N}, []
    for name, emb in (("pairwise", apart), ("pairwise, two equal", equal)):
        case = _of_functions(name, layer.forward, layer.backward, {"emb": emb}, references.pairwise(N), terms)
        case.signature = lambda arrays: (arrays["emb"][:, None] != arrays["emb"]).any(axis=2).astype(int)
        cases.append(case)
    return cases


def contrastive(rng: np.random.Generator, shape: Shape | None) -> list[Case]:
    """Pairs of all three kinds; and some exactly at distance 0 and at the margin."""
    (N,) = _expect("contrastive", shape or (12,), "N", 6)  # two of each kind
    kind = np.arange(N) % 3  # similar, within the margin, beyond
    apart = MARGIN * np.where(kind == 2, 1 + rng.uniform(0.1, 1, N), rng.uniform(0.1, 0.9, N))
    at = apart.copy()
    at[0], at[2] = 0, MARGIN
    label, loss = (kind > 0).astype(int), ContrastiveLoss(MARGIN)

    def forward(dist: Array) -> tuple[float, Any]:
        # a step from 0 leads to where no distance is; the loss of a similar pair is the same on both sides
        return loss.forward(np.abs(dist), label)

    cases = []
    for name, dist in (("contrastive", apart), ("contrastive, at 0 and at the margin", at)):
        reference = chain(*references.pair_losses(label, MARGIN, np.full(N, 1 / N)), start="dist")
        case = _of_functions(name, forward, _loss_backward(loss), {"dist": dist}, reference, {"out": N})
        case.signature = lambda arrays: references.pair_branches(arrays["dist"], label, MARGIN)
        case.branches = references.PAIR_BRANCHES
        cases.append(case)
    return cases


def all_pairs(rng: np.random.Generator, shape: Shape | None) -> list[Case]:
    """All pairs of a batch, with all and with active negatives; and with equal embeddings, of one class and of two."""
    N, E = _expect("all_pairs", shape or (7, 3), "N,E", 5)
    apart, classes = rng.standard_normal((N, E)), np.arange(N) % 3
    i, j = np.triu_indices(N, 1)
    dissimilar = classes[i] != classes[j]
    # the margin in the middle of the dissimilar distances, away from each of them
    dist = np.sort(np.linalg.norm(apart[i] - apart[j], axis=1)[dissimilar])
    margin = float(dist[len(dist) // 2 - 1 : len(dist) // 2 + 1].mean())
    equal = apart.copy()
    equal[1], equal[3] = equal[2], equal[0]

    def branches(arrays: Arrays) -> references.Labels:
        dist = np.linalg.norm(arrays["emb"][i] - arrays["emb"][j], axis=1)
        return np.where(dissimilar & (dist == 0), 3, references.pair_branches(dist, dissimilar.astype(int), margin))

    cases = []
    of_emb = {"all_pairs": apart, "all_pairs, some equal": equal}
    for (name, emb), negatives in itertools.product(of_emb.items(), NEGATIVES):
        loss = AllPairsContrastiveLoss(margin, negatives)
        reference, terms = references.all_pairs(classes, margin, negatives == "active"), {"out": N * N, "emb": N}
        forward = lambda emb, loss=loss: loss.forward(emb, classes)  # noqa: E731
        name = f"{name}, {negatives} negatives"
        case = _of_functions(name, forward, _loss_backward(loss), {"emb": emb}, reference, terms)
        case.signature = branches
        case.branches = {**references.PAIR_BRANCHES, **({3: "dissimilar, at distance 0"} if emb is equal else {})}
        cases.append(case)
    return cases


def _loss_backward(loss: Any) -> Callable[[Array, Any], Array]:
    """The backward pass of a loss with its arguments in the order of a layer's."""
    return lambda dout, cache: loss.backward(cache, float(dout))


def _of_functions(
    name: str,
    forward: Callable[..., tuple[Any, Any]],
    backward: Callable[[Array, Any], Any],
    arrays: Arrays,
    reference: references.Reference,
    terms: dict[str, int],
) -> Case:
    """A case of functions, also in float32; `arrays` are the arguments of `forward`, `terms` the `Case.reductions`."""
    case = function_case(name, forward, backward, list(arrays.values()))
    case.strict, case.reductions = True, terms
    case.reference, case.reference_backward = reference
    case.single = lambda arrays: _of_functions(name, forward, backward, arrays, reference, terms)
    return case


def check_distance_zero() -> list[Check]:
    """Pairs at and next to distance 0, in float64 and float32, down to the smallest number there is.

    At 0 the gradient is exactly 0. Next to it, a similar pair is pulled by its difference, and a dissimilar pair
    is pushed with the full margin, however close. Nothing is NaN or infinite.
    """
    faults = []
    layer, loss = EuclideanDistance(), ContrastiveLoss(MARGIN)
    for dtype in (np.float64, np.float32):
        info = np.finfo(dtype)
        gaps = (0.0, float(info.smallest_subnormal), 1e-30, 1e-8)
        for gap, base, label in itertools.product(gaps, (0.0, -0.0, 1.0), (0, 1)):
            emb_a, emb_b = np.full((1, 3), base, dtype), np.full((1, 3), base, dtype)
            emb_b[0, 1] += dtype(gap)
            difference = float(emb_a[0, 1]) - float(emb_b[0, 1])
            dist, cache = layer.forward(emb_a, emb_b)
            demb_a, demb_b = layer.backward(loss.backward(loss.forward(dist, [label])[1]), cache)
            slope = difference if label == 0 else -np.sign(difference) * (MARGIN - abs(difference))
            close = abs(demb_a[0] - [0, slope, 0]).max() <= 4 * info.eps * abs(slope)
            if not (close and np.array_equal(demb_a, -demb_b)):
                pair = f"a pair {abs(difference):.3g} apart in {info.dtype} with label {label}"
                faults.append(f"{pair} got {float(demb_a[0, 1]):.3g}, not {slope:.3g}")
    return [Check("distance 0", FAIL if faults else PASS, "; ".join(faults[:3]))]


def _expect(name: str, shape: Shape, letters: str, min_n: int = 1) -> Shape:
    if len(shape) != len(letters.split(",")) or shape[0] < min_n:
        wanted = letters + (f" with N of at least {min_n}" if min_n > 1 else "")
        raise ShapeError(f"{name} needs a --shape {wanted}, not {','.join(map(str, shape))}")
    return shape


OPERATIONS: dict[str, Operation] = {
    operation.__name__: operation
    for operation in (
        conv2d, conv_relu_pool, maxpool2d, avgpool2d, relu, flatten, dense, distance, contrastive, all_pairs, pairwise,
    )
} | {name: preset(name) for name in PRESETS}  # fmt: skip
