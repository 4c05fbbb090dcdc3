"""The pytest fixture `gradcheck`: a test fails unless a gradient is correct. Imports nothing until it is called."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from siamese_np.gradcheck.report import Report


@pytest.fixture
def gradcheck() -> "Callable[..., Report]":
    """Call it like `siamese_np.gradcheck.check_gradients`; anything but PASS fails the test and says why.

    The first line, which pytest repeats in its summary, names the array, how many of its entries are wrong, and a
    hint at the cause; the report follows. A mistake in the call fails the test with one sentence.
    """

    def gradcheck(target: Any, *arrays: Any, **options: Any) -> "Report":
        __tracebackhide__ = True  # the traceback ends in the line of the test
        from siamese_np.errors import SiameseError
        from siamese_np.gradcheck.check import check_gradients

        try:
            report = check_gradients(target, *arrays, **options)
        except SiameseError as error:
            failure = str(error)
        else:
            if report.passed:
                return report
            failure = f"{report.headline}\n{report}"
        pytest.fail(failure)

    return gradcheck
