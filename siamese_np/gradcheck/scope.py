"""What each check can see, and what it cannot: one sentence for each."""

from collections.abc import Iterable

DIFFERENCES = (
    "Compares each entry, or of 5,000 and more a sample and random directions, with differences over many steps; "
    "cannot see errors below the tolerance or below the rounding of the output, nor faults at points that are not "
    "drawn."
)

SCOPE = {
    "directions": (
        "Sees gradients that are wrong along four random directions through all arrays at once; cannot see a small "
        "error in few of many entries."
    ),
    "ties and kinks moved together": (
        "Sees gradients that lie between the slopes of both sides in each entry, but not along several; cannot "
        "tell which of the slopes in between is meant."
    ),
    "Taylor remainder": (
        "Sees a wrong slope along one direction, by the rate at which the remainder falls, without a step to "
        "choose; cannot see what changes the remainder less than curvature and rounding do."
    ),
    "dot product with jvp": (
        "Sees that backward is not the transpose of jvp, up to rounding, at any point; cannot see a fault that "
        "both share."
    ),
    "adjoint identity": (
        "Sees any fault in an array that the output is linear in, up to rounding; says nothing of others."
    ),
    "adjoint identity in float32": "As the adjoint identity, up to the rounding of float32.",
    "complex step": (
        "Sees errors down to the last digits, where a reference is given that is analytic; cannot see a fault "
        "that the reference shares, nor kinks."
    ),
    "float32 against float64": (
        "Sees float32 kernels that lose more digits than their sums do; cannot see a fault that the float64 "
        "reference shares."
    ),
    "float32": "Sees whether the same pass runs in float32; says nothing of its numbers.",
    "same bits twice": (
        "Sees a backward pass that depends on what was called before; cannot see one that is wrong each time."
    ),
    "linear in dout": "Sees a dout that is ignored, squared or clipped; cannot see a wrong factor.",
    "zero in, zero out": "Sees what is added regardless of dout; cannot see a wrong factor.",
    "arguments left alone": "Sees a pass that writes into what it is given; says nothing of its numbers.",
    "cache used twice": "Sees a cache that serves one backward pass only; says nothing of its numbers.",
    "any memory layout": "Sees code that reads memory in one order only; says nothing of its numbers.",
    "branches kept apart": "Sees what is kept on the layer but belongs in the cache; says nothing of its numbers.",
    "branches added up": (
        "Sees gradients of shared parameters that overwrite each other; says nothing of their numbers."
    ),
    "batch of 1": "Sees an axis that is lost with one image; says nothing of the gradient's numbers.",
    "batch of 0": "Sees a division by the number of images; says nothing of the gradient's numbers.",
    "all branches taken": "Sees a branch that no element takes at this point, which is then not checked.",
    "arrays of the layer": (
        "Sees arrays that the output depends on and that have no gradient; cannot see those out of reach from the "
        "layer."
    ),
    "arguments": "Sees arguments that have no gradient, though the output depends on them.",
    "distance 0": "Sees whether the distance of a pair that coincides has the gradient 0.",
    "calls": "Sees what raises, returns something else or changes what it should not; then no numbers were compared.",
}


def scope(names: Iterable[str]) -> dict[str, str]:
    """The sentences of the checks of these names, and of the comparison with differences, which is always made."""
    return {"differences": DIFFERENCES, **{name: SCOPE[name] for name in sorted(set(names)) if name in SCOPE}}
