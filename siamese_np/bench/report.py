"""What is said of a run, in Markdown: the terminal shows the same tables as ``benchmark.md``."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from siamese_np.bench.compare import machine
from siamese_np.bench.probe import DRIFT, peak, threads_text
from siamese_np.errors import OptionError
from siamese_np.ladder.climb import rate
from siamese_np.ladder.operations import OPERATIONS
from siamese_np.storage import write_atomically

BUSY = 0.5  # load average of the last minute, from which on others may have disturbed the run
PEAK, TIMES = "% of peak", "times siamese_np"  # ratios hold for one machine, which is named beside them
SPREAD = ["median ms", "95 % interval"]


class Table(NamedTuple):
    """The first column has names, the others figures."""

    title: str
    heads: list[str]
    rows: list[list[str]]


def tables(results: dict[str, Any]) -> Iterator[Table]:
    """Every table of a run."""
    sections = {"probe": _probe, "clocks": _clocks, "ladder": _ladder, "end_to_end": _end_to_end, "peers": _peers}
    for section, make in sections.items():
        if section in results:
            yield from (table for table in make(results) if table.rows)


def text(results: dict[str, Any]) -> str:
    """All tables."""
    parts = [_headline(results), *_warnings(results)]
    for title, heads, rows in tables(results):
        parts.append(f"## {title}")
        if {PEAK, TIMES} & set(heads):
            parts.append(f"On {machine(results)}.")
        first, *others = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
        rule = ["-" * first, *("-" * (width - 1) + ":" for width in others)]
        lines = []
        for name, *figures in (heads, rule, *rows):
            cells = [name.ljust(first), *(cell.rjust(width) for cell, width in zip(figures, others, strict=True))]
            lines.append("| " + " | ".join(cells) + " |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def check_folder(folder: Path) -> None:
    """Make `folder`, and be sure that files can be written there, before a run of minutes; OptionError if not."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise OptionError(f"the folder {folder} cannot be written: {error.strerror or error}") from None


def write(folder: Path, results: dict[str, Any]) -> None:
    """Write ``benchmark.json``, ``benchmark.md`` and the pictures."""
    from siamese_np.bench.pictures import draw

    pictures = [f"![{name}]({name}.png)" for name in ("roofline", "ladder") if results.get("ladder")]
    page = "\n\n".join(["# Benchmark", text(results), *pictures]) + "\n"
    write_atomically(folder / "benchmark.json", (json.dumps(results, indent=1) + "\n").encode())
    write_atomically(folder / "benchmark.md", page.encode())
    draw(folder, results)


def _headline(results: dict[str, Any]) -> str:
    facts = results["environment"]
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    llvm = f", LLVM calls it {facts['llvm_processor']}" if "llvm_processor" in facts else ""
    return (
        f"{facts['date']}: {machine(results)}{llvm}; at most {threads_text(max(results['threads']))}; {versions}; "
        f"{results['sizes']} run of {results['seconds']:.0f} s"
    )


def _warnings(results: dict[str, Any]) -> list[str]:
    moved = {name: change for name, change in results["drift"].items() if abs(change) > DRIFT}
    lines = [f"The machine was steady: no limit moved by more than {100 * DRIFT:.0f} % during the run."]
    if moved:
        listed = ", ".join(f"{name} {100 * change:+.1f} %" for name, change in moved.items())
        lines = [f"The machine drifted during the run, limits moved: {listed}."]
    load = results["environment"].get("load_average", [0.0])[0]
    if load > BUSY:
        lines.append(f"The machine was not idle when the run began: its load average was {load:.1f}.")
    missing = {**results.get("failed", {}), **results.get("skipped", {})}
    return lines + [f"The section {name} is missing: {why}." for name, why in missing.items()]


def _probe(results: dict[str, Any]) -> Iterator[Table]:
    limits = results["probe"]
    named = [(f"FMA, {32 * int(lanes)}-bit vectors, GFLOP/s", rates) for lanes, rates in limits["fma_gflops"].items()]
    named += [(f"{level}, a += s b, GB/s", rates) for level, rates in limits["gbytes_per_second"].items()]
    rows = [[name, *(f"{rates[str(count)]:.0f}" for count in results["threads"])] for name, rates in named]
    yield Table("Machine probe", ["limit", *map(threads_text, results["threads"])], rows)


def _clocks(results: dict[str, Any]) -> Iterator[Table]:
    rows = []
    for preset, clocks in results["clocks"].items():
        for kind in ("cold", "cached"):
            moments = clocks[kind]
            second = f"{1e3 * (moments['second_step'] - moments['first_step']):.1f}"
            rows.append([f"{preset}, {kind}", f"{moments['imports']:.2f}", f"{moments['first_step']:.2f}", second])
    heads = ["process", "imports done, s", "first training step done, s", "second step, ms"]
    yield Table("From process start to training", heads, rows)


def _ladder(results: dict[str, Any]) -> Iterator[Table]:
    heads = ["rung", "threads", "ms/image", "executed GFLOP/s", "dense-equivalent", PEAK, "FLOP/byte", "error"]
    for operation, details in OPERATIONS.items():
        rows = []
        for entry in results["ladder"]:
            for threads, timing in entry["timings"].items() if entry["operation"] == operation else ():
                count, dense = int(threads), rate(entry, int(threads))
                figures = [1e3 * timing["median"] / entry["images"], rate(entry, count, "executed_flops"), dense]
                figures += [100 * dense / peak(results["probe"], count), entry["executed_flops"] / entry["bytes"]]
                shown = [*(f"{figure:.3g}" for figure in figures), f"{entry['error']:.0e}"]
                rows.append([entry["rung"], threads, *shown, f"{entry['first_call_seconds']:.2f}"])
        yield Table(f"Ladder: {details.title}", [*heads, "first call, s"], rows)


def _end_to_end(results: dict[str, Any]) -> Iterator[Table]:
    whole, rows = results["end_to_end"], []
    for row in whole["steps"]:
        share = f"{100 * row['dense_gflops'] / peak(results['probe'], row['threads']):.0f}"
        figures = [*_spread(row), f"{row['images_per_second']:,.0f}", f"{row['dense_gflops']:.0f}", share]
        rows.append([f"{row['preset']}, {row['pairs']} pairs", str(row["threads"]), *figures])
    heads = ["threads", *SPREAD, "images/s"]
    yield Table("Training step", ["training step", *heads, "GFLOP/s dense-equivalent", PEAK], rows)
    rows = []
    for row in whole["embeddings"]:
        figures = [str(row["threads"]), *_spread(row), f"{row['images_per_second']:,.0f}"]
        rows.append([f"{row['preset']}, {row['images']:,} images", *figures])
    yield Table("Embedding", ["embedding", *heads], rows)
    rows = [[name, *_spread(row)] for name, row in whole.get("exact", {}).items()]
    yield Table("Exact metrics over all pairs", ["metric", *SPREAD], rows)
    costs = {"microseconds_per_image": "µs/image", "drawing_microseconds": "of it drawing batches"}
    rows = [[f"{row['images']:,}", *(f"{row[cost]:.2f}" for cost in costs)] for row in whole["cost_per_image"]]
    yield Table("Cost of training one image", ["images in the data set", *costs.values()], rows)
    rows = []
    for row in whole.get("memory", ()):
        peak_memory = "-" if row["peak_bytes"] is None else f"{row['peak_bytes'] / 1e6:,.1f}"
        rows.append([f"{row['pairs']:,}", peak_memory, f"{row['as_copies'] / 1e6:,.1f}"])
    yield Table("Memory", ["training pairs", "peak memory, MB", "copies of pixels would take, MB"], rows)


def _peers(results: dict[str, Any]) -> Iterator[Table]:
    found, rows = results["peers"]["peers"], []
    for peer in found.values():
        versions = [f"{name} {version}" for name, version in peer.get("versions", {}).items()]
        rows.append([peer["title"], ", ".join([peer["status"], *versions])])
    yield Table("Peers", ["peer", "status and versions"], rows)
    for task, by_peer in results["peers"]["tasks"].items():
        rows = []
        for name, row in sorted(by_peer.items(), key=lambda item: item[1]["timing"]["median"]):
            ratio = f"{row['ratio']:.2f}" if "ratio" in row else "-"
            rows.append([found[name]["title"], *_spread(row), ratio, f"{row['prepare_seconds']:.1f}"])
        yield Table(f"Peers: {task}", ["peer", *SPREAD, TIMES, "compile and warm-up, s"], rows)


def _spread(row: dict[str, Any]) -> list[str]:
    median, low, high = (1e3 * row["timing"][name] for name in ("median", "low", "high"))
    return [f"{median:.3f}", f"{low:.3f} to {high:.3f}"]
