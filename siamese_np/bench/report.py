"""What is said of a run, in Markdown: the terminal shows the same tables as ``benchmark.md``."""

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from siamese_np._process import to_json
from siamese_np.bench import idle
from siamese_np.bench.compare import machine
from siamese_np.bench.op import DIRECTIONS, NUMPY, OURS, TORCH, candidate_title, layer_of, timed
from siamese_np.bench.probe import DRIFT, least_seconds, peak, threads_text
from siamese_np.errors import OptionError
from siamese_np.ladder.operations import OPERATIONS
from siamese_np.storage import check_no_file, check_output, png_mark, write_atomically

PEAK, TIMES = "% of peak", "times siamese_np"  # ratios hold for one machine, which is named beside them
ROOF, DENSE = "% of roof", "algorithmic speed-up over dense"  # see READING
READING = f"""{PEAK}: operations that were executed, over the measured FMA peak. {DENSE.capitalize()}: operations of the
dense sums over those executed, with Winograd's transform and without products with zeros. {ROOF}: over what the peak,
or the memory that holds all arrays, allows. Transforms, biases, pooling, loss and optimizer count as no operations."""
COSTS = ["executed GFLOP/s", PEAK, DENSE, "FLOP/byte", ROOF]
SPREAD = ["median ms", "95 % interval"]
# What a run writes, and the pattern of what each file begins with
FILES = {"benchmark.json": rb'\{\n "format": "siamese_np benchmark', "benchmark.md": rb"# Benchmark\n"}
FILES |= {f"{name}.png": png_mark("bench") for name in ("roofline", "ladder", "layers")}


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
    yield from (table for table in _at_points(results) if table.rows)
    if "op" in results:
        yield from _op(results)


def text(results: dict[str, Any]) -> str:
    """All tables."""
    shown, parts = list(tables(results)), [_headline(results), *_warnings(results), *_lead(results)]
    parts += [READING] if any(_has(table, PEAK, DENSE, ROOF) for table in shown) else []
    for table in shown:
        title, *lines = markdown(table)
        parts += [title, f"On {machine(results)}."] if _has(table, PEAK, TIMES) else [title]
        parts.append("\n".join(lines[1:]))
    return "\n\n".join(parts)


def _has(table: Table, *words: str) -> bool:
    return any(word in head for head in table.heads for word in words)


def markdown(table: Table) -> list[str]:
    """The lines of a table: its title, an empty one, and the rows."""
    heads, rows = table.heads, table.rows
    first, *others = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    rule = ["-" * first, *("-" * (width - 1) + ":" for width in others)]
    lines = [f"## {table.title}", ""]
    for name, *figures in (heads, rule, *rows):
        cells = [name.ljust(first), *(cell.rjust(width) for cell, width in zip(figures, others, strict=True))]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def check_folder(folder: Path, overwrite: bool = False) -> None:
    """Make `folder`, and be sure that files may be written there, before a run of minutes; OptionError if not."""
    check_no_file(folder, "--out")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise OptionError(f"the folder {folder} cannot be written: {error.strerror or error}") from None
    for name, mark in FILES.items():
        check_output(folder / name, "--out", mark, overwrite)


def write(folder: Path, results: dict[str, Any]) -> None:
    """Write ``benchmark.json``, ``benchmark.md`` and the pictures."""
    from siamese_np.bench.pictures import draw

    write_atomically(folder / "benchmark.json", (to_json(results, indent=1) + "\n").encode())
    pictures = [f"![{name}]({name}.png)" for name in draw(folder, results)]
    page = "\n\n".join(["# Benchmark", text(results), *pictures]) + "\n"
    write_atomically(folder / "benchmark.md", page.encode())


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
    for when, found in results["idle"].items():
        if found["busy"]:
            lines.append(f"The machine was busy {when} the run: {idle.sentence(found['others'])}.")
    missing = {**results.get("failed", {}), **results.get("skipped", {})}
    lines += [f"The section {name} is missing: {why}." for name, why in missing.items()]
    if left_out := results.get("avx2", {}).get("left_out"):
        lines.append(f"Engines without a switch that holds them to AVX2, left out there: {', '.join(left_out)}.")
    for title, found in _points(results).items():
        failed = (peer for peer in found["peers"].values() if peer["status"].startswith("failed"))
        lines += [f"{title}: {peer['title']} {peer['status']}." for peer in failed]
    lines += [f"Skipped: {entry['skipped']}." for entry in results.get("op", ()) if "skipped" in entry]
    for entry in timed(results):
        what = f"{layer_of(entry)}, {entry['direction']}"
        lines += [f"{candidate_title(who, entry['operation'])}, {what}: {why}." for who, why in entry["failed"].items()]
    return lines


def _lead(results: dict[str, Any]) -> Iterator[str]:
    """The figures that come first, each with where it holds."""
    where = f"({machine(results).split(':')[0]})"
    lines = []
    for step in results.get("end_to_end", {}).get("parts", ()):
        same = ("preset", "pairs", "threads")
        row = next(row for row in results["end_to_end"]["steps"] if all(row[name] == step[name] for name in same))
        share = 100 * row["executed_gflops"] / peak(results["probe"], row["threads"])
        dense = f"{DENSE} {row['dense_gflops'] / row['executed_gflops']:.2f}"
        what = f"{row['preset']} step, {row['pairs']} pairs, {threads_text(row['threads'])}"
        lines.append(f"- {what}: operations executed at {share:.0f} % of the measured FMA peak; {dense} {where}")
    peers = results.get("peers", {"tasks": {}})
    for task, _ours, fastest, _theirs, ratio in _against_fastest(peers):
        lines.append(f"- {task}: {fastest}, the fastest peer, takes {ratio} times our time {where}")
    for direction in DIRECTIONS:
        beside = (_least(entry["candidates"], TORCH) for entry in timed(results) if entry["direction"] == direction)
        if len(ratios := [ratio for ratio in beside if ratio]) > 1:
            wins, clear = (sum(ratio >= least for ratio in ratios) for least in (1, 1.5))
            said = f"faster than oneDNN's fastest layout on {wins} of {len(ratios)} layers, 1.5 times on {clear}"
            lines.append(f"- {direction}: {said} {where}")
    if lines:
        yield "\n".join(lines)


def _against_fastest(found: dict[str, Any]) -> Iterator[list[str]]:
    """For each task our median, the fastest peer, its median and its ratio; other precision has its own table."""
    for task, by_peer in found["tasks"].items():
        others = {name: row for name, row in by_peer.items() if name != OURS and "ratio" in row}
        if others and not task.endswith("other precision"):
            fastest = min(others, key=lambda name: others[name]["ratio"])
            medians = [f"{1e3 * row['timing']['median']:.3f}" for row in (by_peer[OURS], others[fastest])]
            ratio = f"{others[fastest]['ratio']:.2f}"
            yield [task, medians[0], found["peers"][fastest]["title"], medians[1], ratio]


AGAINST = ["siamese_np, median ms", "fastest peer", "its median ms", TIMES]


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
    heads = ["rung", "threads", "ms/image", *COSTS, "error", "first call, s"]
    for operation, details in OPERATIONS.items():
        rows = []
        for entry in results["ladder"]:
            for threads, timing in entry["timings"].items() if entry["operation"] == operation else ():
                shown = [f"{1e3 * timing['median'] / entry['images']:.3g}"]
                shown += _cost(results, int(threads), entry, timing["median"])
                last = [f"{entry['error']:.0e}", f"{entry['first_call_seconds']:.2f}"]
                rows.append([entry["rung"], threads, *shown, *last])
        yield Table(f"Ladder: {details.title}", heads, rows)


def _cost(results: dict[str, Any], threads: int, work: dict[str, Any], seconds: float) -> list[str]:
    """The columns `COSTS` of something with ``"flops"``, ``"executed_flops"`` and ``"bytes"``."""
    dense, executed, size = (work[name] for name in ("flops", "executed_flops", "bytes"))
    roof = f"{100 * least_seconds(results['probe'], threads, executed, size) / seconds:.3g}" if size else "-"
    if not executed:
        return ["-", "-", "-", "-", roof]
    gflops = executed / seconds / 1e9
    share = 100 * gflops / peak(results["probe"], threads)
    return [*(f"{figure:.3g}" for figure in (gflops, share, dense / executed, executed / size)), roof]


def _end_to_end(results: dict[str, Any]) -> Iterator[Table]:
    whole, rows = results["end_to_end"], []
    for row in whole["steps"]:
        # no roof: the bytes of all calls are what is moved, not what a memory holds
        *cost, _roof = _cost(results, row["threads"], row, row["timing"]["median"])
        figures = [str(row["threads"]), *cost, "-", *_spread(row), f"{row['images_per_second']:,.0f}"]
        rows.append([f"{row['preset']}, {row['pairs']} pairs", *figures])
    yield Table("Training step", ["training step", "threads", *COSTS, *SPREAD, "images/s"], rows)
    for step in whole["parts"]:
        rows, total = [], sum(part["seconds"] for part in step["parts"])
        for part in step["parts"]:
            took = 1e6 * part["seconds"], 100 * part["seconds"] / total, part["bytes"] / 1e6
            cost = _cost(results, step["threads"], part, part["seconds"])
            rows.append([part["part"], *(f"{figure:.3g}" for figure in took), *cost])
        name = f"Parts of a step: {step['preset']}, {step['pairs']} pairs, {threads_text(step['threads'])}"
        yield Table(name, ["operation and shape", "µs", "% of step", "MB", *COSTS], rows)
    rows = []
    for row in whole["embeddings"]:
        figures = [str(row["threads"]), *_spread(row), f"{row['images_per_second']:,.0f}"]
        rows.append([f"{row['preset']}, {row['images']:,} images", *figures])
    yield Table("Embedding", ["embedding", "threads", *SPREAD, "images/s"], rows)
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
        seconds = f"{peer['seconds']:.0f}" if "seconds" in peer else "-"
        rows.append([peer["title"], ", ".join([peer["status"], *versions]), seconds])
    yield Table("Peers", ["peer", "status and versions", "seconds in all"], rows)
    for task, by_peer in results["peers"]["tasks"].items():
        rows = []
        for name, row in sorted(by_peer.items(), key=lambda item: item[1]["timing"]["median"]):
            ratio = f"{row['ratio']:.2f}" if "ratio" in row else "-"
            rows.append([found[name]["title"], *_spread(row), ratio, f"{row['prepare_seconds']:.1f}", _result(row)])
        yield Table(f"Peers: {task}", ["peer", *SPREAD, TIMES, "compile and warm-up, s", "result"], rows)


def _result(row: dict[str, Any]) -> str:
    """How a peer's result compares with ours in float64."""
    said = {"chunk": "{} at a time", "embedding_error": "off by {:.0e}", "auc_difference": "AUC {:+.1e}"}
    said["equal_neighbours"] = "{:.4%} of the nearest"
    return ", ".join(words.format(row[key]) for key, words in said.items() if key in row) or "-"


def _points(results: dict[str, Any]) -> dict[str, Any]:
    """What the section peers gave at other points, by title."""
    titles = {"dense_input": "Dense input (uniform noise)", "avx2": "At most AVX2 on both sides"}
    found = {title: results[name] for name, title in titles.items() if name in results}
    return found | {threads_text(count): at for count, at in results.get("thread_counts", {}).items()}


def _at_points(results: dict[str, Any]) -> Iterator[Table]:
    for title, found in _points(results).items():
        yield Table(f"{title}, beside peers", ["task", *AGAINST], list(_against_fastest(found)))
    zeros, rows = results.get("dense_input", {}).get("zeros", {"data": {}}), []
    for preset, layers in zeros["data"].items():
        for layer, share in layers.items():
            shares = share, zeros["noise"][preset][layer]
            rows.append([f"{preset}, {layer}", *(f"{100 * share:.1f}" for share in shares)])
    yield Table("Zeros in a layer's input", ["layer", "MNIST, % zeros", "uniform noise, % zeros"], rows)


def _op(results: dict[str, Any]) -> Iterator[Table]:
    entries, threads = timed(results), max(results["threads"])
    by_layer: dict[str, list[str]] = {}
    for entry in entries:
        name, found, ours = str(layer_of(entry)), entry["candidates"], entry["candidates"][OURS]["timing"]["median"]
        row = by_layer.setdefault(name, [name])
        row += [_cost(results, threads, entry, ours)[1], f"{1e3 * ours:.3f}"]
        row += [f"{ratio:.2f}" if (ratio := _least(found, of)) else "-" for of in (TORCH, [NUMPY])]
    if len(by_layer) > 1:
        each = (PEAK, "ms", f"oneDNN, {TIMES}", f"BLAS, {TIMES}")
        heads = ["layer", *(f"{direction} {what}" for direction in DIRECTIONS for what in each)]
        yield Table(f"Published layers, dense input, {threads_text(threads)}", heads, list(by_layer.values()))
        return
    for entry in entries:
        rows = []
        for who, peer in entry["candidates"].items():
            seconds = peer["timing"]["median"]
            share = _cost(results, threads, entry, seconds)[1] if who == OURS else "-"  # not known of theirs
            rates = (f"{rate:.3g}" if (rate := entry[what] / seconds / 1e9) else "-" for what in ("flops", "bytes"))
            rows.append([peer["title"], share, *_spread(peer), f"{peer['ratio']:.2f}", *rates, f"{peer['error']:.0e}"])
        name = f"{layer_of(entry)}: {entry['direction']}, {threads_text(threads)}"
        yield Table(name, ["", PEAK, *SPREAD, TIMES, "GFLOP/s of the dense sums", "GB/s", "error"], rows)


def _least(candidates: dict[str, Any], names: Iterable[str]) -> float | None:
    """The ratio of the fastest of `names`; None where none was timed."""
    return min((candidates[name]["ratio"] for name in names if name in candidates), default=None)


def _spread(row: dict[str, Any]) -> list[str]:
    median, low, high = (1e3 * row["timing"][name] for name in ("median", "low", "high"))
    return [f"{median:.3f}", f"{low:.3f} to {high:.3f}"]
