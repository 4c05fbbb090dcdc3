"""The reference of a layer or loss: the same pass as a chain of textbook functions.

It takes complex numbers too, and its gradients hold the conventions at kinks. It shares no code with the compiled
kernels. Sums over pairs are taken pair by pair here, unlike in the kernels and in their textbook pages.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siamese_np import textbook
from siamese_np.gradcheck.case import Array, Arrays

Reference = tuple[Callable[[Arrays], Array], Callable[[Arrays, Array], Arrays]]  # forward, backward
Labels = NDArray[np.integer]


@dataclass
class Step:
    """``forward(x, *arrays, *options) -> (out, cache)``, ``backward(dout, cache) -> dx, *gradients``."""

    forward: Callable[..., tuple[Any, Any]]
    backward: Callable[[Array, Any], Any]
    names: tuple[str, ...] = ()  # of the arrays, within a case
    options: tuple[Any, ...] = ()


def chain(*steps: Step, start: str = "x") -> Reference:
    """The steps one after another, from the array named `start`."""

    def forward(arrays: Arrays) -> tuple[Array, list[Any]]:
        out, caches = arrays[start], []
        for step in steps:
            out, cache = step.forward(out, *(arrays[name] for name in step.names), *step.options)
            caches.append(cache)
        return np.asarray(out), caches

    def backward(arrays: Arrays, dout: Array) -> Arrays:
        gradients: Arrays = {}
        for step, cache in zip(reversed(steps), reversed(forward(arrays)[1]), strict=True):
            found = step.backward(dout, cache)
            dout, *others = found if isinstance(found, tuple) else (found,)
            gradients.update(zip(step.names, others, strict=True))
        return {start: dout, **gradients}

    return lambda arrays: forward(arrays)[0], backward


def step(name: str, *names: str, options: tuple[Any, ...] = ()) -> Step:
    """The textbook's page `name`; it takes the arrays `names` besides its input."""
    return Step(getattr(textbook, f"{name}_forward"), getattr(textbook, f"{name}_backward"), names, options)


FLATTEN = Step(lambda x: (x.reshape(len(x), -1), x.shape), lambda dout, shape: dout.reshape(shape))


def pair_distances(i: Labels, j: Labels) -> Step:
    """Distances of the rows i and j of embeddings, each pair on its own."""

    def forward(emb: Array) -> tuple[Array, Any]:
        dist, of_pairs = textbook.euclidean_forward(emb[i], emb[j])
        return dist, (emb.shape, of_pairs)

    def backward(ddist: Array, cache: Any) -> Array:
        shape, of_pairs = cache
        demb = np.zeros(shape)
        for rows, gradient in zip((i, j), textbook.euclidean_backward(ddist, of_pairs), strict=True):
            np.add.at(demb, rows, gradient)
        return demb

    return Step(forward, backward)


def pair_losses(label: Labels, margin: float, weight: Array) -> tuple[Step, Step]:
    """The contrastive loss of each pair, and their weighted sum."""
    total = Step(lambda loss: ((loss * weight).sum(), None), lambda dout, _: dout * weight)
    return step("contrastive", options=(label, margin)), total


def all_pairs(classes: Labels, margin: float, active: bool) -> Reference:
    """Loss over all pairs, similar and dissimilar ones weighing the same; of the latter all, or those with a loss."""
    i, j = np.triu_indices(len(classes), 1)
    label = (classes[i] != classes[j]).astype(int)

    def total(loss: Array) -> tuple[Array, Array]:
        counted = label[(loss.real > 0) | (label == 0)] if active else label
        weight = 0.5 / np.maximum(np.bincount(counted, minlength=2), 1)[label]
        return (loss * weight).sum(), weight

    contrastive = step("contrastive", options=(label, margin))
    return chain(pair_distances(i, j), contrastive, Step(total, lambda dout, weight: dout * weight), start="emb")


def pairwise(N: int) -> Reference:
    """Distances (N, N) of all pairs of N embeddings."""
    i, j = np.indices((N, N)).reshape(2, -1)
    square = Step(lambda dist: (dist.reshape(N, N), None), lambda ddist, _: ddist.reshape(-1))
    return chain(pair_distances(i, j), square, start="emb")


PAIR_BRANCHES = {0: "similar", 1: "dissimilar, within the margin", 2: "dissimilar, beyond the margin"}


def pair_branches(dist: Array, label: Labels, margin: float) -> Labels:
    """Which of `PAIR_BRANCHES` each pair takes; at the margin a pair counts as beyond it."""
    return np.where(label == 0, 0, np.where(dist < margin, 1, 2))
