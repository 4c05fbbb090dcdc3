"""The cases of the two presets: the network alone, and the loss of pairs through both of its branches.

Each at initialisation and after a burn-in, which some faults need to show: at first every dissimilar pair lies
within the margin, every bias is 0, and no unit has died.

Source: A. Karpathy, notes of CS231n, "Gradient checks" (check after a burn-in).
"""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np

from siamese_np.errors import ShapeError
from siamese_np.gradcheck.case import FAIL, INCONCLUSIVE, PASS, Array, Arrays, Case, Check
from siamese_np.gradcheck.cases import references
from siamese_np.losses import ContrastiveLoss
from siamese_np.network import Sequential, SiameseNetwork, make_network

Shape = tuple[int, ...]

EMBEDDING = 2
IMAGES, SIZE = 6, 4
MOST_PAIRS = 2  # similar ones, and as many dissimilar ones
SPREAD = 0.25  # of the images: distances around the margin
STEPS, LEARNING_RATE = 20, 0.2
SINGLE_L2 = 1e-5


def preset(name: str) -> Callable[[np.random.Generator, Shape | None], list[Case]]:
    """The operation that checks the preset `name`."""

    def cases(rng: np.random.Generator, shape: Shape | None) -> list[Case]:
        shape = shape or (IMAGES, SIZE, SIZE, 1)
        if len(shape) != 4 or shape[0] < 4:
            raise ShapeError(f"{name} needs a --shape N,H,W,C of at least 4 images, not {','.join(map(str, shape))}")
        seed = int(rng.integers(2**31))

        def network(dtype: type = np.float64) -> Sequential:
            return make_network(name, input_shape=shape[1:], embedding_size=EMBEDDING, seed=seed, dtype=dtype)

        fresh, trained, pairs = network(), network(), Pairs(rng, shape)
        x = rng.random((2, *shape[1:]))
        made = _stage(f"{name} at initialisation", fresh, network(np.float32), x, pairs, (0, 1))
        pairs = copy.copy(pairs)
        pairs.burn_in(trained)
        made += _stage(f"{name} after a burn-in", trained, network(np.float32), x, pairs, (0, 1, 2))
        return made

    return cases


def _stage(
    name: str, network: Sequential, single: Sequential, x: Array, pairs: "Pairs", branches: tuple[int, ...]
) -> list[Case]:
    """The network alone, against float32 too, and with the loss of pairs."""
    case = network_case(name, network, x)
    case.extra = lambda: [_single(network, single, x)]
    return [case, pairs.case(f"{name}, loss of pairs", network, branches)]


def network_case(name: str, network: Sequential, x: Array) -> Case:
    """A whole network: the gradients of its input and of every parameter."""
    params = network.named_params()

    def backward(dout: Array, cache: Any) -> Arrays:
        dx = network.backward(dout, cache)
        assert dx is not None
        return {"x": dx, **named_grads(network)}

    return Case(
        name,
        {"x": x, **params},
        lambda arrays: network.forward(arrays["x"]),
        backward,
        network.zero_grads,
        inputs=("x",),
        batch=True,
        adds=True,
        owner=network,
    )


def named_grads(network: Sequential) -> Arrays:
    """Every gradient under the name of its parameter."""
    grads = [gradient for layer in network.layers for gradient in layer.grads.values()]
    return dict(zip(network.named_params(), grads, strict=True))


class Pairs:
    """Pairs of random images of a few classes, of both signs so that many units switch; and the contrastive loss."""

    def __init__(self, rng: np.random.Generator, shape: Shape, margin: float = 1.0) -> None:
        classes = np.arange(shape[0]) % 3
        images = SPREAD * (rng.standard_normal((3, *shape[1:]))[classes] + rng.standard_normal(shape))
        i, j = np.triu_indices(shape[0], 1)
        some = np.concatenate(
            [np.flatnonzero(kind)[:MOST_PAIRS] for kind in (classes[i] == classes[j], classes[i] != classes[j])]
        )
        i, j = i[some], j[some]
        self.images, self.label = (images[i], images[j]), (classes[i] != classes[j]).astype(int)
        self.loss = ContrastiveLoss(margin)

    def burn_in(self, network: Sequential) -> None:
        """Train `network` for a few steps; then put the margin where dissimilar pairs lie on both sides of it."""
        siamese = SiameseNetwork(network, self.loss.margin)
        for _ in range(STEPS):
            dist, cache = siamese.forward(*self.images)
            network.zero_grads()
            siamese.backward(self.loss.backward(self.loss.forward(dist, self.label)[1]), cache)
            network.params -= LEARNING_RATE * network.grads
        apart = np.sort(siamese.forward(*self.images)[0][self.label == 1])
        self.loss = ContrastiveLoss(float(apart[:2].mean()))

    def case(self, name: str, network: Sequential, branches: tuple[int, ...]) -> Case:
        """The loss of the pairs through both branches of the Siamese network."""
        siamese, loss = SiameseNetwork(network, self.loss.margin), self.loss

        def forward(arrays: Arrays) -> tuple[float, Any]:
            dist, cache = siamese.forward(*self.images)
            value, loss_cache = loss.forward(dist, self.label)
            return value, (loss_cache, cache)

        def backward(dout: Array, cache: Any) -> Arrays:
            siamese.backward(loss.backward(cache[0], float(dout)), cache[1])
            return named_grads(network)

        def taken() -> list[Check]:
            missing = set(branches) - set(self._branches(siamese.forward(*self.images)[0]))
            never = ", ".join(references.PAIR_BRANCHES[branch] for branch in sorted(missing))
            return [
                Check("all branches taken", INCONCLUSIVE if missing else PASS, f"never: {never}" if missing else "")
            ]

        params = network.named_params()
        last = list(params)[-1]  # the last bias moves both embeddings of a pair alike: no distance depends on it
        return Case(name, params, forward, backward, network.zero_grads, adds=True, invariant=(last,), extra=taken)

    def _branches(self, dist: Array) -> references.Labels:
        return references.pair_branches(dist, self.label, self.loss.margin)


def _single(network: Sequential, single: Sequential, x: Array) -> Check:
    """The same network in float32: its output and gradients against those in float64."""
    x32 = x.astype(np.float32)
    single.params[:] = network.params
    exact = single.params.astype(np.float64)
    kept, network.params[:] = network.params.copy(), exact
    try:
        found = []
        for net, images in ((network, x32.astype(np.float64)), (single, x32)):
            out, caches = net.forward(images)
            net.zero_grads()
            dx = net.backward(np.ones_like(out), caches)
            assert dx is not None
            found.append({"output": out, "gradient of x": dx, **named_grads(net)})
    finally:
        network.params[:] = kept
    for name, reference in found[0].items():
        off = np.linalg.norm(found[1][name] - reference) / np.linalg.norm(reference)
        if not off <= SINGLE_L2:
            return Check("float32 against float64", FAIL, f"{name} is off by {off:.2g} of its norm")
    return Check("float32 against float64", PASS)
