"""A report as a table for people, and as plain values for programs."""

import dataclasses
import math
from collections.abc import Iterable
from typing import Any

from siamese_np.gradcheck import curve
from siamese_np.gradcheck.case import FAIL, PASS
from siamese_np.gradcheck.measure import worst_verdict
from siamese_np.gradcheck.results import TOO_SMALL, CaseResult, Entry, Report, Tensor

EXIT = {"PASS": 0, "FAIL": 1, "INCONCLUSIVE": 3}
MOST_SHOWN = 4  # arrays shown entry by entry
HEAD = ("operation", "array", "entries", "kinks", "worst error", "verdict")


def text(report: Report, seconds: float | None = None, curves: bool = False) -> str:
    """The table, then what is wrong or undecided, then one line; with the V-curve of each array if `curves`."""
    rows: list[tuple[str, ...]] = [HEAD]
    for name, cases in report.operations.items():
        lines = _rows(cases)
        rows += [(name if number == 0 else "", *line) for number, line in enumerate(lines)]
    widths = [max(len(row[k]) for row in rows) for k in range(len(HEAD))]
    table = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    table.insert(1, "-" * len(max(table, key=len)))
    parts = ["\n".join(table), *_troubles(report)]
    worst = _worst(report)
    if worst is not None and (curves or worst[1].verdict == FAIL):
        parts.append(f"{worst[0].name}, {worst[1].name}\n{curve.text(worst[1].curve)}")
    return "\n\n".join([*parts, _last_line(report, seconds)])


def _worst(report: Report) -> tuple[CaseResult, Tensor] | None:
    """The array whose V-curve is worth a look: the first that is wrong, else the one with the largest error."""
    found = [(case, tensor) for case in report.cases for tensor in case.tensors if tensor.curve]
    order = {FAIL: 2, PASS: 0}
    return max(
        found, key=lambda ct: (order.get(ct[1].verdict, 1), ct[1].error if ct[1].verdict == PASS else 0), default=None
    )


def _rows(cases: list[CaseResult]) -> list[tuple[str, ...]]:
    """One row for each array of an operation, all of its cases together, and one for the further checks."""
    arrays: dict[str, list[Tensor]] = {}
    for case in cases:
        for tensor in case.tensors:
            arrays.setdefault(tensor.name, []).append(tensor)
    rows = [_row(name, tensors) for name, tensors in arrays.items()]
    checks = [check for case in cases for check in case.checks]
    if checks:
        bad = sum(check.verdict != PASS for check in checks)
        count = f"{len(checks) - bad} of {len(checks)}" if bad else str(len(checks))
        rows.append(("further checks", count, "", "", worst_verdict(check.verdict for check in checks)))
    return rows


def _row(name: str, tensors: list[Tensor]) -> tuple[str, ...]:
    checked, total, directions = (sum(getattr(t, key) for t in tensors) for key in ("checked", "total", "directions"))
    entries = f"{checked:,}" if checked == total else f"{checked:,} of {total:,}, {directions} directions"
    errors = [t.error for t in tensors if not math.isnan(t.error)]
    kinks = sum(t.kinks for t in tensors)
    error = f"{max(errors):.1e}" if errors else "-"
    return name, entries, f"{kinks:,}" if kinks else "-", error, worst_verdict(t.verdict for t in tensors)


def _troubles(report: Report) -> list[str]:
    """What is not PASS, and notes; the entries of an array only the first time that it is wrong."""
    parts: list[str] = []
    shown: set[tuple[str, str]] = set()
    for operation, case in ((name, case) for name, cases in report.operations.items() for case in cases):
        lines = []
        for tensor in case.tensors:
            if tensor.small and TOO_SMALL not in tensor.remark:
                lines.append(f"  note  {tensor.name}: {TOO_SMALL}: {tensor.small} of {tensor.checked} entries")
            if tensor.verdict == PASS:
                continue
            lines.append(f"  {tensor.verdict}  {tensor.name}: {tensor.remark}")
            if tensor.hint:
                lines.append(f"        hint: {tensor.hint}")
            if tensor.worst and len(shown) < MOST_SHOWN and (operation, tensor.name) not in shown:
                shown.add((operation, tensor.name))
                lines.append(_entries(tensor.worst))
        lines += [f"  {check.verdict}  {check.name}: {check.remark}" for check in case.checks if check.verdict != PASS]
        lines += [f"  note  {note}" for note in case.notes]
        if lines:
            parts.append("\n".join([case.name, *lines]))
    return parts


def _entries(entries: Iterable[Entry]) -> str:
    """The worst entries as a table."""
    rows = [("entry", "analytic", "numeric", "ratio", "step", "error", "")]
    for e in entries:
        numeric = f"{e.numeric:.8g}" if e.low is None else f"[{e.low:.6g}, {e.high:.6g}]"
        remarks = [e.remark, f"branch: {e.branch}" if e.branch else ""]
        remarks += [f"complex step {e.oracle:.8g}"] if e.oracle is not None else []
        remark = "; ".join(part for part in remarks if part)
        rows.append(
            (e.where, f"{e.analytic:.8g}", numeric, f"{e.ratio:.4g}", f"{e.step:.0e}", f"{e.error:.1e}", remark)
        )
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    return "\n".join(
        "        " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _last_line(report: Report, seconds: float | None) -> str:
    tensors = [tensor for case in report.cases for tensor in case.tensors]
    checks = sum(len(case.checks) for case in report.cases)
    kinks, skipped, small = (sum(getattr(t, key) for t in tensors) for key in ("kinks", "skipped", "small"))
    facts = [
        _count(len(report.operations), "operation"),
        f"{_count(sum(t.checked for t in tensors), 'entry', 'entries')} and "
        f"{_count(sum(t.directions for t in tensors), 'direction')} of {_count(len(tensors), 'gradient')}",
        f"{_count(kinks, 'kink')}, {skipped:,} skipped" + (f", {small:,} {TOO_SMALL}" if small else ""),
        _count(checks, "further check"),
        f"seed {report.seed}",
    ]
    time = f", {seconds:.1f} s" if seconds is not None else ""
    return f"{report.verdict}: {'; '.join(facts)}{time}"


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def as_dict(report: Report) -> dict[str, Any]:
    """The report as values that JSON knows. No times: the same seed gives the same object."""
    return {
        "verdict": report.verdict,
        "seed": report.seed,
        "tolerance": report.tolerance,
        "operations": {
            name: [{"verdict": case.verdict, **_plain(dataclasses.asdict(case))} for case in cases]
            for name, cases in report.operations.items()
        },
    }


def _plain(value: Any) -> Any:
    """`value` with tuples as lists, and NaN and infinity, which JSON has no numbers for, as strings."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
