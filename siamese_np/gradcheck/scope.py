"""What a report explains: what each check can see, and what it cannot; and where the notebook explains a mistake."""

import re
from collections.abc import Iterable

NUMBERS = "; says nothing of the numbers."
FACTOR = "; cannot see a wrong factor."
SCOPE = {
    "directions": "Sees gradients that are wrong along four random directions through all arrays at once; cannot see a "
    "small error in few of many entries.",
    "ties and kinks moved together": "Sees gradients that lie between the slopes of both sides in each entry, but not "
    "along several; cannot tell which of the slopes in between is meant.",
    "Taylor remainder": "Sees a wrong slope along one direction, by the rate at which the remainder falls, without a "
    "step to choose; cannot see what changes the remainder less than curvature and rounding do.",
    "dot product with jvp": "Sees that backward is not the transpose of jvp, up to rounding, at any point; cannot see "
    "a fault that both share.",
    "adjoint identity": "Sees any fault in an array that the output is linear in, up to rounding; says nothing of "
    "others.",
    "adjoint identity in float32": "As the adjoint identity, up to the rounding of float32.",
    "complex step": "Sees errors down to the last digits, where a reference is given that is analytic; cannot see a "
    "fault that the reference shares, nor kinks.",
    "float32 against float64": "Sees float32 kernels that lose more digits than their sums do; cannot see a fault that "
    "the float64 reference shares.",
    "float32": "Sees whether the same pass runs in float32" + NUMBERS,
    "same bits twice": "Sees a backward pass that depends on what was called before; cannot see one that is wrong each "
    "time.",
    "linear in dout": "Sees a dout that is ignored, squared or clipped" + FACTOR,
    "zero in, zero out": "Sees what is added regardless of dout" + FACTOR,
    "arguments left alone": "Sees a pass that writes into what it is given" + NUMBERS,
    "cache used twice": "Sees a cache that serves one backward pass only" + NUMBERS,
    "any memory layout": "Sees code that reads memory in one order only" + NUMBERS,
    "branches kept apart": "Sees what is kept on the layer but belongs in the cache" + NUMBERS,
    "branches added up": "Sees gradients of shared parameters that overwrite each other" + NUMBERS,
    "batch of 1": "Sees an axis that is lost with one image" + NUMBERS,
    "batch of 0": "Sees a division by the number of images" + NUMBERS,
    "all branches taken": "Sees a branch that no element takes at this point, which is then not checked.",
    "arrays of the layer": "Sees arrays that the output depends on and that have no gradient; cannot see those out of "
    "reach from the layer.",
    "arguments": "Sees arguments that have no gradient, though the output depends on them.",
    "distance 0": "Sees whether the distance of a pair that coincides has the gradient 0.",
    "calls": "Sees what raises, returns something else or changes what it should not; then no numbers were compared.",
}
DIFFERENCES = (
    "Compares each entry, or of 5,000 and more a sample and random directions, with differences over many steps; "
    "cannot see errors below the tolerance or the rounding of the output, nor faults at points that are not drawn."
)


def scope(names: Iterable[str]) -> dict[str, str]:
    """The sentences of the checks of these names, and of the comparison with differences, which is always made."""
    return {"differences": DIFFERENCES, **{name: SCOPE[name] for name in sorted(set(names)) if name in SCOPE}}


NOTEBOOK = "notebooks/gradient-checking.ipynb"

# the anchor of each section, and the words of a sentence that belongs to it; the first that fits is taken
SECTIONS = {
    "kinks-and-ties": r"\b(kinks?|ties?|equality|maximum)\b",
    "batch-norm": r"statistic|variance|normali[sz]|batch.?norm",
    "factors-and-signs": r"1/N|a mean|constant factor|factor 2|factor of its own|^every entry|wrong sign",
    "convolution-strides": r"strid|padding|pixel|kernel|edge of the image|window",
    "wrong-axis": r"transposed|flipped|axes|wrong axis|shifted|wrong order|swapped",
    "losses-and-dout": r"\bdout\b",
    "chain-rule": r"chain rule|factor .* missing|through|derivative|square root|diagonal|formula|epsilon|few digits",
    "accumulating": r"\+=|counts? twice|added|adds up|overwr|accumulat|lost|never written|repeated|updated|loop",
    "masks-and-branches": r"mask|branch|condition|no gradient",
    "small-entries": r"smaller than the largest|too small",
    "rounding": r"round|noise|cancel",
}


def section(sentence: str) -> str | None:
    """Where the mistake that a sentence tells is explained, as FILE#ANCHOR."""
    anchor = next((anchor for anchor, words in SECTIONS.items() if re.search(words, sentence, re.IGNORECASE)), None)
    return f"{NOTEBOOK}#{anchor}" if anchor else None
