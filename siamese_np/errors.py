"""The exceptions this package raises for a caller's mistake; each message is one sentence.

All derive from `ValueError`, so code that does not know this package can still catch them.
The command line prints the sentence and exits with status 2.
"""

import re


class SiameseError(ValueError):
    """Base of all errors below: something the caller gave is wrong."""

    def __init__(self, sentence: object, code: str = "") -> None:
        # the repr of an array has several lines; code to be copied keeps its own
        super().__init__(re.sub(r"\s*\n\s*", " ", str(sentence)) + code)


class DataError(SiameseError):
    """A data or image file is missing, damaged, or not what it claims to be."""


class ModelError(SiameseError):
    """A model or run folder is missing, damaged, or does not fit."""


class ShapeError(SiameseError):
    """An array has the wrong shape, dtype or values for the operation it was given to."""


class OptionError(SiameseError):
    """An option or argument is outside the values it may take."""


class TrainingError(SiameseError):
    """Training cannot go on, for example because the loss became NaN."""
