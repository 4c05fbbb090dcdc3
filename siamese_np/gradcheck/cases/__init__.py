"""The cases of this package: every operation and loss, at kinks too, and both presets."""

from collections.abc import Sequence

from siamese_np.gradcheck.case import Shape
from siamese_np.gradcheck.cases.operations import OPERATIONS
from siamese_np.gradcheck.engine import Options, check_cases
from siamese_np.gradcheck.measure import TOLERANCE
from siamese_np.gradcheck.report import Report
from siamese_np.gradcheck.targets import find_cases


def check_target(
    target: str | None = None, shapes: Sequence[Shape] = (), seed: int = 0, tolerance: float = TOLERANCE
) -> Report:
    """Check what `siamese_np.gradcheck.targets.find_cases` finds under a name; everything of ours by default.

    Our layers and losses run on the back end that is active (`siamese_np.backend.use_kernels`).
    """
    return check_cases(find_cases(target, shapes, seed, OPERATIONS), Options(seed, tolerance))
