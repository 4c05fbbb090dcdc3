"""The cases of this package: every operation and loss, at kinks too, and the presets."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

from siamese_np.errors import OptionError
from siamese_np.gradcheck.case import Shape
from siamese_np.gradcheck.cases.operations import OPERATIONS, conv2d
from siamese_np.gradcheck.engine import Options, check_cases
from siamese_np.gradcheck.report import Report
from siamese_np.gradcheck.targets import find_cases


def check_target(
    target: str | None = None,
    shapes: Sequence[Shape] = (),
    seed: int = 0,
    window: Mapping[str, Shape] | None = None,
    **options: Any,
) -> Report:
    """Check what `siamese_np.gradcheck.targets.find_cases` finds under a name; everything of ours by default.

    Our layers and losses run on the back end that is active (`siamese_np.backend.use_kernels`). `window` may hold the
    kernel, stride and pad of conv2d; `options` are further fields of `siamese_np.gradcheck.engine.Options`.
    """
    how = Options(seed, **options)
    operations = dict(OPERATIONS)
    if target is None:
        for name in ("cnn3", "slim"):  # the operations of cnn once more, in several times as long
            del operations[name]
    if window:
        if target != "conv2d":
            raise OptionError(f"--{next(iter(window))} is for conv2d alone: give a layer of your own its own windows")
        operations["conv2d"] = functools.partial(conv2d, window=window)
    return check_cases(find_cases(target, shapes, seed, operations), how)
