"""From a hint, or from why a check could not decide, to the section of the notebook that explains the mistake."""

import re

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
