"""The cases of the presets: the network alone, and the loss of pairs through both of its branches.

Each at initialisation and after a burn-in, which some faults need to show: at first every dissimilar pair lies
within the margin, every bias is 0, and no unit has died.

Source: A. Karpathy, notes of CS231n, "Gradient checks" (check after a burn-in).
"""

from typing import Any

import numpy as np

from siamese_np.errors import ShapeError
from siamese_np.gradcheck.adapters import layer_case, named_grads
from siamese_np.gradcheck.case import FAIL, PASS, Array, Arrays, Case, Check, Shape, check_branches
from siamese_np.gradcheck.cases import references
from siamese_np.gradcheck.targets import Operation
from siamese_np.losses import ContrastiveLoss
from siamese_np.network import Sequential, SiameseNetwork
from siamese_np.presets import make_network

EMBEDDING = 2
IMAGES, SIZE, LARGER = 6, 4, {"cnn3": 8, "slim": 10}  # LARGER: a smaller image would be pooled to nothing
MAX_PAIRS = 2  # similar ones, and as many dissimilar ones
SPREAD = 0.25  # of the images: distances around the margin
STEPS, LEARNING_RATE = 20, 0.2
SINGLE_L2 = 1e-5


def preset(name: str) -> Operation:
    """The operation that checks the preset `name`."""

    def cases(rng: np.random.Generator, shape: Shape | None) -> list[Case]:
        size = LARGER.get(name, SIZE)
        shape = shape or (IMAGES, size, size, 1)
        if len(shape) != 4 or shape[0] < 4:
            raise ShapeError(f"{name} needs a --shape N,H,W,C of at least 4 images, not {','.join(map(str, shape))}")
        seed = int(rng.integers(2**31))

        def network(dtype: type = np.float64) -> Sequential:
            return make_network(name, input_shape=shape[1:], embedding_size=EMBEDDING, seed=seed, dtype=dtype)

        pairs, x = Pairs(rng, shape), rng.random((2, *shape[1:]))
        made = []
        for stage, branches in (("at initialisation", (0, 1)), ("after a burn-in", (0, 1, 2))):
            checked, single = network(), network(np.float32)
            if 2 in branches:  # dissimilar pairs beyond the margin
                pairs.burn_in(checked)
            alone = layer_case(f"{name} {stage}", checked, x, strict=True)
            alone.extra = lambda checked=checked, single=single: [_single(checked, single, x)]
            made += [alone, pairs.case(f"{name} {stage}, loss of pairs", checked, branches)]
        return made

    return cases


class Pairs:
    """Pairs of random images of a few classes, of both signs so that many units switch; and the contrastive loss."""

    def __init__(self, rng: np.random.Generator, shape: Shape, margin: float = 1.0) -> None:
        classes = np.arange(shape[0]) % 3
        images = SPREAD * (rng.standard_normal((3, *shape[1:]))[classes] + rng.standard_normal(shape))
        i, j = np.triu_indices(shape[0], 1)
        similar = classes[i] == classes[j]
        some = np.concatenate([np.flatnonzero(kind)[:MAX_PAIRS] for kind in (similar, ~similar)])
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
        expected = {branch: references.PAIR_BRANCHES[branch] for branch in branches}

        def forward(arrays: Arrays) -> tuple[float, Any]:
            dist, cache = siamese.forward(*self.images)
            value, loss_cache = loss.forward(dist, self.label)
            return value, (loss_cache, cache)

        def backward(dout: Array, cache: Any) -> Arrays:
            siamese.backward(loss.backward(cache[0], float(dout)), cache[1])
            return named_grads(network)

        def taken() -> list[Check]:
            dist = siamese.forward(*self.images)[0]
            return [check_branches(references.pair_branches(dist, self.label, loss.margin), expected)]

        params = network.named_params()
        last = list(params)[-1]  # the last bias moves both embeddings of a pair alike: no distance depends on it
        return Case(name, params, forward, backward, network.zero_grads, strict=True, invariant=(last,), extra=taken)


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
