"""The cases of the presets: the network alone, and the loss of pairs through both of its branches.

Each at initialisation and after a burn-in, which some faults need to show: at first every dissimilar pair lies
within the margin, every bias is 0, and no unit has died.

Source: A. Karpathy, notes of CS231n, "Gradient checks" (check after a burn-in).
"""

from typing import Any

import numpy as np

from siamese_np.errors import ShapeError
from siamese_np.gradcheck.adapters import layer_case, named_grads
from siamese_np.gradcheck.case import Array, Arrays, Case, Check, Shape, check_branches
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

        def in_float32(arrays: Arrays) -> Case:
            single = network(np.float32)
            for key, param in single.named_params().items():
                param[...] = arrays[key]
            return layer_case(name, single, arrays["x"], strict=True)

        pairs, x = Pairs(rng, shape), rng.random((2, *shape[1:]))
        made = []
        for stage, branches in (("at initialisation", (0, 1)), ("after a burn-in", (0, 1, 2))):
            checked = network()
            if 2 in branches:  # dissimilar pairs beyond the margin
                pairs.burn_in(checked)
            alone = layer_case(f"{name} {stage}", checked, x, strict=True)
            alone.single = in_float32
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
            network.zero_grads()
            siamese.pair_gradients(*self.images, self.label, self.loss)
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
