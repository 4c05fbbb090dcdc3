"""What a check found, as plain records, as a table for people, and as values for programs."""

import dataclasses
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from siamese_np.gradcheck import curve as curves
from siamese_np.gradcheck.budget import INTERRUPTED
from siamese_np.gradcheck.case import ENOUGH, FAIL, INCONCLUSIVE, PASS, Check, Shape, two, worst_verdict
from siamese_np.gradcheck.curve import Taylor
from siamese_np.gradcheck.scope import scope, section

EXIT = {PASS: 0, FAIL: 1, INCONCLUSIVE: 3}
TOO_SMALL = "too small to judge"
MAX_SHOWN = 4  # arrays shown entry by entry
HEAD = ("operation", "array", "entries", "kinks", "worst error", "verdict")
JSON_KEYS = {"arrays": "tensors", "complex_step": "oracle"}  # scripts know these fields by an older name


@dataclass
class Entry:
    """One slope compared: of an entry of an array, or along a direction."""

    array: str
    index: tuple[int, ...] | str  # of a direction, its name
    analytic: float
    numeric: float
    step: float
    error: float
    verdict: str
    kink: str = ""  # "at", "near" or empty, as in `differences.Estimate`
    low: float | None = None
    high: float | None = None
    complex_step: float | None = None  # what it gave, where it was taken
    branch: str | None = None  # the one that the element takes, where that is known
    remark: str = ""
    doubt: float | None = None  # how far off `numeric` may be where undecided, in the units of `error`

    @property
    def where(self) -> str:
        return f"{self.array}, {self.index}" if isinstance(self.index, str) else f"{self.array}{list(self.index)}"

    def numbers(self, digits: int) -> tuple[str, str]:
        """Analytic and numeric slope in words, in digits that tell them apart, or with what is known of the latter."""
        analytic, numeric = (f"{slope:.{digits}g}" for slope in (self.analytic, self.numeric))
        if self.low is not None and self.high is not None:
            return analytic, f"[{self.low:.6g}, {self.high:.6g}]"
        if self.doubt is not None:
            return analytic, f"{numeric} (to {self.doubt:.0e})" if math.isfinite(self.doubt) else "unknown"
        return two(self.analytic, self.numeric, digits)

    @property
    def nearly(self) -> bool:
        """Whether an entry that is not decided is right to a thousandth at least."""
        return self.doubt is not None and self.error + 2 * self.doubt <= ENOUGH

    @property
    def ratio(self) -> float:
        return self.analytic / self.numeric if self.numeric else math.nan if not self.analytic else math.inf


@dataclass
class ArrayResult:
    """What was found about the gradient of one array."""

    name: str
    shape: Shape
    total: int = 0
    checked: int = 0  # entries, one by one
    directions: int = 0  # random ones through all entries
    kinks: int = 0  # entries at or near one
    skipped: int = 0  # entries that could not be decided
    flat: int = 0  # entries with slope 0
    error: float = 0.0
    verdict: str = PASS
    small: int = 0  # entries too small beside the largest to be compared at their own size
    remark: str = ""
    hint: str = ""
    worst: list[Entry] = field(default_factory=list)
    curve: curves.Curve = field(default_factory=list)


@dataclass
class CaseResult:
    """All that was found at one point of one pass, in so many forward calls."""

    name: str
    strict: bool = False  # as in `siamese_np.gradcheck.case.Case`
    precision: str = "float64"  # or "float32" where outputs or gradients are, which are judged in it then
    arrays: list[ArrayResult] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    taylor: Taylor = field(default_factory=Taylor)
    calls: int = 0
    seconds: float = 0.0
    stopped: str = ""  # what ended it early

    def add(self, *checks: Check | None) -> None:
        """Take in further checks (None: not made); where the contract is no requirement, its breaches are notes."""
        made = [check for check in checks if check is not None]
        self.checks += made
        self.notes += [check.remark for check in made if check.verdict != PASS and not self.counts(check)]

    def counts(self, check: Check) -> bool:
        return self.strict or not check.contract

    @property
    def gradient(self) -> str:
        """Whether the numbers are right; a case of which no array was checked is at best inconclusive."""
        found = [array.verdict for array in self.arrays] + [c.verdict for c in self.checks if not c.contract]
        return worst_verdict(found if self.arrays else [*found, INCONCLUSIVE])

    @property
    def contract(self) -> str:
        """Whether the contract of our own layers is kept."""
        return worst_verdict(check.verdict for check in self.checks if check.contract)

    @property
    def verdict(self) -> str:
        """The worse of both where the case is strict, else that of the gradient."""
        return worst_verdict([self.gradient, self.contract]) if self.strict else self.gradient


@dataclass(repr=False)
class Report:
    """The outcome of a gradient check: printed or shown, it is the table; ``report.verdict`` is its last word.

    Attributes
    ----------
    operations : dict of str to list of CaseResult
        The cases of each operation; `cases` has all in a row, `arrays` all arrays, each with its case.
    seed, tolerance
        As given.
    verdict : str
        ``"PASS"``, ``"FAIL"`` or ``"INCONCLUSIVE"``: the worst of all cases; `passed` is whether it is PASS.
    gradient, contract : str
        Whether the numbers are right; and whether the contract of our own layers is kept: breaches of others are notes.
    calls, seconds
        How many forward calls it took, and how long.
    interrupted : bool
        Whether Ctrl-C ended it: the report is of what was found until then.
    """

    operations: dict[str, list[CaseResult]]
    seed: int
    tolerance: float

    def __post_init__(self) -> None:
        self.cases = [case for cases in self.operations.values() for case in cases]
        self.arrays = [(case, array) for case in self.cases for array in case.arrays]
        self.verdict = worst_verdict(case.verdict for case in self.cases)
        self.gradient = worst_verdict(case.gradient for case in self.cases)
        self.contract = worst_verdict(case.contract for case in self.cases)
        self.passed = self.verdict == PASS
        self.calls = sum(case.calls for case in self.cases)
        self.seconds = sum(case.seconds for case in self.cases)
        self.interrupted = any(case.stopped == INTERRUPTED for case in self.cases)

    @property
    def headline(self) -> str:
        """What is wrong, or else undecided, in one line: the first array or check, and how many more there are."""
        if self.passed:
            return "all gradients are correct"
        arrays = [array for _, array in self.arrays if array.verdict == self.verdict]
        checks = [c for case in self.cases for c in case.checks if c.verdict == self.verdict and case.counts(c)]
        found = ["; ".join(filter(None, (f"{array.name}: {array.remark}", array.hint))) for array in arrays]
        found = found or [f"{check.name}: {check.remark}" for check in checks] or ["no gradient was checked"]
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        return ("not decided: " if self.verdict == INCONCLUSIVE else "") + found[0] + more

    def __repr__(self) -> str:
        return text(self)

    def __bool__(self) -> bool:
        raise TypeError("a report has three verdicts: ask for report.passed or report.verdict")

    def to_dict(self) -> dict[str, Any]:
        """The report as values that JSON knows. The same seed gives the same object, but for ``"seconds"``."""
        return {
            **_verdicts(self),
            "seed": self.seed,
            "tolerance": self.tolerance,
            "scope": scope(check.name for case in self.cases for check in case.checks),
            "calls": self.calls,
            "seconds": self.seconds,
            "operations": {
                name: [{**_verdicts(case), **_plain(dataclasses.asdict(case))} for case in cases]
                for name, cases in self.operations.items()
            },
        }


def _verdicts(found: Report | CaseResult) -> dict[str, str]:
    return {"verdict": found.verdict, "gradient": found.gradient, "contract": found.contract}


def _plain(value: Any) -> Any:
    """`value` with tuples as lists, and NaN and infinity, which JSON has no numbers for, as strings."""
    if isinstance(value, dict):
        return {JSON_KEYS.get(key, key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def text(report: Report, seconds: float | None = None, show_curve: bool = False) -> str:
    """The table, then what is wrong or undecided, then one line; with the V-curve of one array if `show_curve`."""
    rows = [row for name, cases in report.operations.items() for row in _rows(name, cases)]
    table = _aligned([HEAD, *rows])
    table.insert(1, "-" * len(max(table, key=len)))
    parts = ["\n".join(table), *_troubles(report)]
    # the V-curve that is worth a look: that of the first array that is wrong, else of the one with the largest error
    rank = {PASS: 0, INCONCLUSIVE: 1, FAIL: 2}
    worth = max(
        ((case, array) for case, array in report.arrays if array.curve),
        key=lambda found: (rank[found[1].verdict], found[1].error if found[1].verdict == PASS else 0),
        default=None,
    )
    if worth and (show_curve or worth[1].verdict == FAIL):
        parts.append(f"{worth[0].name}, {worth[1].name}\n{curves.text(worth[1].curve)}")
    return "\n\n".join([*parts, _last_line(report, seconds)])


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _rows(operation: str, cases: list[CaseResult]) -> list[tuple[str, ...]]:
    """For an operation, all cases together: one row for each array, one for further checks, one for the contract."""
    all_arrays = [array for case in cases for array in case.arrays]
    rows: list[tuple[str, ...]] = []
    for name in dict.fromkeys(array.name for array in all_arrays):
        arrays = [array for array in all_arrays if array.name == name]
        checked, total, directions, kinks = _sums(arrays, "checked", "total", "directions", "kinks")
        entries = f"{checked:,}" if checked == total else f"{checked:,} of {total:,}, {directions} directions"
        errors = [array.error for array in arrays if not math.isnan(array.error)]
        error = f"{max(errors):.1e}" if errors else "-"
        rows.append((name, entries, f"{kinks:,}" if kinks else "-", error, worst_verdict(a.verdict for a in arrays)))
    for name, contract in (("further checks", False), ("contract", True)):
        checks = [check for case in cases for check in case.checks if check.contract == contract]
        if checks:
            good = sum(check.verdict == PASS for check in checks)
            count = f"{good} of {len(checks)}" if good < len(checks) else str(good)
            noted = contract and good < len(checks) and not any(case.strict for case in cases)
            verdict = "see notes" if noted else worst_verdict(check.verdict for check in checks)
            rows.append((name, count, "", "", verdict))
    return [("" if number else operation, *row) for number, row in enumerate(rows)]


def _sums(arrays: Iterable[ArrayResult], *counts: str) -> list[int]:
    return [sum(getattr(array, count) for array in arrays) for count in counts]


def _troubles(report: Report) -> list[str]:
    """What is not PASS, and notes; the entries of an array only the first time that it is wrong."""
    parts: list[str] = []
    shown: set[tuple[str, str]] = set()
    for operation, case in ((name, case) for name, cases in report.operations.items() for case in cases):
        lines = []
        for array in case.arrays:
            if array.small and TOO_SMALL not in array.remark:
                lines.append(f"  note  {array.name}: {TOO_SMALL}: {array.small} of {array.checked} entries")
            if array.verdict != PASS or array.remark:
                lines.append(f"  {'note' if array.verdict == PASS else array.verdict}  {array.name}: {array.remark}")
            if array.verdict != PASS:
                more = {"hint": array.hint, "more": section(array.hint or array.remark)}
                lines += [f"        {word}: {what}" for word, what in more.items() if what]
                if array.worst and len(shown) < MAX_SHOWN and (operation, array.name) not in shown:
                    shown.add((operation, array.name))
                    lines += _entries(array.worst)
        faults = [check for check in case.checks if check.verdict != PASS and case.counts(check)]
        lines += [f"  {check.verdict}  {check.name}: {check.remark}" for check in faults]
        lines += [f"  note  {note}" for note in case.notes]
        if lines:
            parts.append("\n".join([case.name, *lines]))
    return parts


def _entries(entries: Iterable[Entry]) -> list[str]:
    rows = [("entry", "analytic", "numeric", "ratio", "step", "error", "")]
    for e in entries:
        remarks = [e.remark, f"branch: {e.branch}" if e.branch else ""]
        remarks += [f"complex step {e.complex_step:.8g}"] if e.complex_step is not None else []
        numbers = *e.numbers(8), f"{e.ratio:.4g}", f"{e.step:.0e}", f"{e.error:.1e}"
        rows.append((e.where, *numbers, "; ".join(filter(None, remarks))))
    return ["        " + line for line in _aligned(rows)]


def _last_line(report: Report, seconds: float | None) -> str:
    arrays = [array for _, array in report.arrays]
    checked, directions, kinks, skipped, small = _sums(arrays, "checked", "directions", "kinks", "skipped", "small")
    in_float32 = any(case.precision == "float32" for case in report.cases)
    facts = [
        _count(len(report.operations), "operation"),
        f"{checked:,} {'entry' if checked == 1 else 'entries'} and {_count(directions, 'direction')} "
        f"of {_count(len(arrays), 'gradient')}",
        f"{_count(kinks, 'kink')}, {skipped:,} skipped" + (f", {small:,} {TOO_SMALL}" if small else ""),
        _count(sum(len(case.checks) for case in report.cases), "further check"),
        _count(report.calls, "forward call"),
        f"seed {report.seed}" + ("; in float32" if in_float32 else ""),
    ]
    return f"{report.verdict}: {'; '.join(facts)}" + (f", {seconds:.1f} s" if seconds is not None else "")


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
