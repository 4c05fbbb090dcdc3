"""What a check found, as plain records: entries, arrays, further checks, cases, and the report of them all."""

from dataclasses import dataclass, field
from typing import Any

from siamese_np.gradcheck.case import INCONCLUSIVE, Check
from siamese_np.gradcheck.measure import worst_verdict

TOO_SMALL = "too small to judge"
Curve = list[tuple[float, float, float]]  # step, error of the central difference, error after Richardson


@dataclass
class Entry:
    """One slope compared: an entry of an array, or a direction, which then has a name in place of an `index`.

    `kink` is ``"at"``, ``"near"`` or empty, as in `differences.Estimate`; `oracle` is the value that the
    complex step gave, where there is one; `branch` the branch the element takes, where that is known.
    """

    array: str
    index: tuple[int, ...] | str
    analytic: float
    numeric: float
    step: float
    error: float
    verdict: str
    kink: str = ""
    low: float | None = None
    high: float | None = None
    oracle: float | None = None
    branch: str | None = None
    remark: str = ""

    @property
    def where(self) -> str:
        """Array and multi-index, or the direction."""
        return f"{self.array}, {self.index}" if isinstance(self.index, str) else f"{self.array}{list(self.index)}"

    @property
    def ratio(self) -> float:
        """Analytic over numeric."""
        return self.analytic / self.numeric if self.numeric else float("nan") if not self.analytic else float("inf")


@dataclass
class Tensor:
    """What was found about the gradient of one array.

    `checked` of `total` entries were compared one by one, and `directions` random directions through all of
    them; `kinks` of the entries lie at or near a kink, `skipped` could not be decided, `small` are too small beside
    the largest to be judged at their own size, `flat` have slope 0.
    """

    name: str
    shape: tuple[int, ...]
    total: int
    checked: int
    directions: int
    kinks: int
    skipped: int
    flat: int
    error: float
    verdict: str
    small: int = 0
    remark: str = ""
    hint: str = ""
    worst: list[Entry] = field(default_factory=list)
    curve: Curve = field(default_factory=list)


@dataclass
class CaseResult:
    """All that was found at one point of one pass."""

    name: str
    tensors: list[Tensor] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def verdict(self) -> str:
        """The worst of all verdicts; a case of which no array was checked is at best inconclusive."""
        found = [tensor.verdict for tensor in self.tensors] + [check.verdict for check in self.checks]
        return worst_verdict(found if self.tensors else [*found, INCONCLUSIVE])


@dataclass
class Report:
    """The outcome of a gradient check: ``str(report)`` is the table, ``report.verdict`` its last word.

    Attributes
    ----------
    operations : dict of str to list of CaseResult
        The cases of each operation.
    seed, tolerance
        As given.
    """

    operations: dict[str, list[CaseResult]]
    seed: int
    tolerance: float

    @property
    def verdict(self) -> str:
        """``"PASS"``, ``"FAIL"`` or ``"INCONCLUSIVE"``, the worst of all cases."""
        return worst_verdict(case.verdict for case in self.cases)

    @property
    def passed(self) -> bool:
        """Whether the verdict is PASS; INCONCLUSIVE is no success."""
        return self.verdict == "PASS"

    @property
    def cases(self) -> list[CaseResult]:
        """All cases in a row."""
        return [case for cases in self.operations.values() for case in cases]

    def __str__(self) -> str:
        from siamese_np.gradcheck.report import text

        return text(self)

    def __bool__(self) -> bool:
        raise TypeError("a report has three verdicts: ask for report.passed or report.verdict")

    def to_dict(self) -> dict[str, Any]:
        """The report as plain numbers and strings, the same for the same seed; no times in it."""
        from siamese_np.gradcheck.report import as_dict

        return as_dict(self)
