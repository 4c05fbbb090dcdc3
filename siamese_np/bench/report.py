"""What is said of a run: tables for the terminal and for Markdown, from one description of rows."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from siamese_np.bench.compare import machine
from siamese_np.bench.probe import DRIFT, peak, threads_text
from siamese_np.errors import OptionError
from siamese_np.ladder.climb import rate
from siamese_np.ladder.operations import OPERATIONS
from siamese_np.storage import write_atomically

BUSY = 0.5  # load average of the last minute, from which on others may have disturbed the run

SPREAD = ["median ms", "95 % interval", "MAD", "outliers"]


class Table(NamedTuple):
    """`ratios`: whether it has figures that hold for this machine only, which is then named beside them."""

    title: str
    heads: list[str]
    rows: list[list[str]]
    ratios: bool = False


def tables(results: dict[str, Any]) -> list[Table]:
    """Every table of a run."""
    made = [_probe(results)]
    for section, table in (("clocks", _clocks), ("ladder", _ladder), ("end_to_end", _end_to_end), ("peers", _peers)):
        if section in results:
            made += table(results)
    return [table for table in made if table.rows]


def text(results: dict[str, Any]) -> str:
    """All tables for a terminal."""
    parts = [_headline(results)]
    for title, heads, rows, ratios in tables(results):
        widths = [max(len(row[i]) for row in [heads, *rows]) for i in range(len(heads))]
        lines = [f"{title} ({machine(results)})" if ratios else title]
        for first, *others in [heads, *rows]:
            cells = [first.ljust(widths[0]), *(c.rjust(width) for c, width in zip(others, widths[1:], strict=True))]
            lines.append("  " + "  ".join(cells).rstrip())
        parts.append("\n".join(lines))
    return "\n\n".join([*parts, *_warnings(results)])


def markdown(results: dict[str, Any], command: str) -> str:
    """All tables for a file, with the pictures' names."""
    parts = ["# Benchmark", _headline(results) + "  ", f"Command: `{command}`", *_warnings(results)]
    for title, heads, rows, ratios in tables(results):
        parts.append(f"## {title[0].upper()}{title[1:]}" + (f"\n\nOn {machine(results)}." if ratios else ""))
        lines = [heads, ["---", *["---:"] * (len(heads) - 1)], *rows]
        parts.append("\n".join("| " + " | ".join(row) + " |" for row in lines))
    if results.get("ladder"):
        parts += [f"![{name}]({name}.png)" for name in ("roofline", "ladder")]
    return "\n\n".join(parts) + "\n"


def check_folder(folder: Path) -> None:
    """Make `folder`, and be sure that files can be written there, before a run of minutes; OptionError if not."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise OptionError(f"the folder {folder} cannot be written: {error.strerror or error}") from None


def write(folder: Path, results: dict[str, Any], command: str) -> None:
    """Write ``benchmark.json``, ``benchmark.md`` and the pictures."""
    from siamese_np.bench.pictures import draw

    write_atomically(folder / "benchmark.json", (json.dumps(results, indent=1) + "\n").encode())
    write_atomically(folder / "benchmark.md", markdown(results, command).encode())
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


def _probe(results: dict[str, Any]) -> Table:
    limits = results["probe"]
    named = [(f"FMA, {32 * int(lanes)}-bit vectors, GFLOP/s", rates) for lanes, rates in limits["fma_gflops"].items()]
    named += [(f"{level}, a += s b, GB/s", rates) for level, rates in limits["gbytes_per_second"].items()]
    rows = [[name, *(f"{rates[str(count)]:.0f}" for count in results["threads"])] for name, rates in named]
    return Table("machine probe", ["limit", *map(threads_text, results["threads"])], rows)


def _clocks(results: dict[str, Any]) -> list[Table]:
    rows = []
    for preset in ("cnn", "mlp"):
        for kind in ("cold", "cached") if preset in results["clocks"] else ():
            moments = results["clocks"][preset][kind]
            second = 1e3 * (moments["second_step"] - moments["first_step"])
            row = [f"{preset}, {kind}", f"{moments['imports']:.2f}", f"{moments['first_step']:.2f}", f"{second:.1f}"]
            rows.append(row)
    rows.append(["import siamese_np", f"{results['clocks']['import_seconds']:.2f}", "", ""])
    rows.append(["siamese-np --help", f"{results['clocks']['help_seconds']:.2f}", "", ""])
    heads = ["process", "imports done, s", "first training step done, s", "second step, ms"]
    return [Table("from process start to training", heads, rows)]


def _ladder(results: dict[str, Any]) -> list[Table]:
    made = []
    heads = ["rung", "ms/image", "GFLOP/s executed", "dense-equivalent", "% of peak", "FLOP/byte", "GB/s"]
    heads += ["error", "first call, s"]
    for operation, details in OPERATIONS.items():
        for threads in results["threads"]:
            top, rows = peak(results["probe"], threads), []
            for entry in results["ladder"]:
                if entry["operation"] == operation and str(threads) in entry["timings"]:
                    seconds, dense = entry["timings"][str(threads)]["median"], rate(entry, threads)
                    numbers = [1e3 * seconds / entry["images"], rate(entry, threads, "executed_flops"), dense]
                    numbers += [100 * dense / top, entry["executed_flops"] / entry["bytes"]]
                    shown = [f"{number:.3g}" for number in [*numbers, entry["bytes"] / seconds / 1e9]]
                    last = [f"{entry['error']:.0e}", f"{entry['first_call_seconds']:.2f}"]
                    rows.append([entry["rung"], *shown, *last])
            made.append(Table(f"ladder: {details.title}, {threads_text(threads)}", heads, rows, ratios=True))
    return made


def _end_to_end(results: dict[str, Any]) -> list[Table]:
    whole, steps, embeddings = results["end_to_end"], [], []
    for row in whole["steps"]:
        name, share = (
            f"{row['preset']}, {row['pairs']} pairs",
            row["dense_gflops"] / peak(results["probe"], row["threads"]),
        )
        last = [f"{row['images_per_second']:,.0f}", f"{row['dense_gflops']:.0f}", f"{100 * share:.0f}"]
        steps.append([name, str(row["threads"]), *_spread(row), *last])
    for row in whole["embeddings"]:
        name, speed = f"{row['preset']}, {row['images']:,} images", f"{row['images_per_second']:,.0f}"
        embeddings.append([name, str(row["threads"]), *_spread(row), speed])
    costs = [
        [f"{row['images']:,}", f"{row['microseconds_per_image']:.2f}", f"{row['drawing_microseconds']:.3f}"]
        for row in whole["cost_per_image"]
    ]
    sizes = ("peak_bytes", "pair_bytes", "as_copies")
    memory = [
        [f"{row['protocol']}, {row['pairs']:,}"]
        + ["-" if row[size] is None else f"{row[size] / 1e6:,.1f}" for size in sizes]
        for row in whole.get("memory", ())
    ]
    training = whole.get("training", {"epochs": (), "seconds_to": {}})
    epochs = [
        [str(number), f"{row['seconds']:.2f}", f"{row['pair_accuracy']:.4f}"]
        for number, row in enumerate(training["epochs"], 1)
    ]
    levels = [
        [f"{float(level):.1%}", "-" if seconds is None else f"{seconds:.2f}"]
        for level, seconds in training["seconds_to"].items()
    ]
    rates = ["threads", *SPREAD, "images/s"]
    megabytes = ["peak memory, MB", "of it pairs and order, MB", "copies of pixels would take, MB"]
    return [
        Table("training step", ["training step", *rates, "GFLOP/s dense-equivalent", "% of peak"], steps, ratios=True),
        Table("embedding", ["embedding", *rates], embeddings),
        Table(
            "exact metrics over all pairs",
            ["metric", *SPREAD],
            [[name, *_spread(row)] for name, row in whole.get("exact", {}).items()],
        ),
        Table("cost of training one image", ["images in the data set", "µs/image", "of it drawing batches"], costs),
        Table("memory", ["protocol, training pairs", *megabytes], memory),
        Table("default training", ["epoch", "seconds of training", "validation pair accuracy"], epochs),
        Table("time to an accuracy, at the ends of epochs", ["validation pair accuracy", "seconds"], levels),
    ]


def _peers(results: dict[str, Any]) -> list[Table]:
    found, rows = results["peers"]["peers"], []
    for peer in found.values():
        versions = [f"{name} {version}" for name, version in peer.get("versions", {}).items()]
        rows.append([peer["title"], ", ".join([peer["status"], *versions])])
    made = [Table("peers", ["peer", "status and versions"], rows)]
    heads = ["peer", *SPREAD, "times siamese_np", "compile and warm-up, s"]
    for task, by_peer in results["peers"]["tasks"].items():
        rows = []
        for name, row in sorted(by_peer.items(), key=lambda item: item[1]["timing"]["median"]):
            ratio = f"{row['ratio']:.2f}" if "ratio" in row else "-"
            rows.append([found[name]["title"], *_spread(row), ratio, f"{row['prepare_seconds']:.1f}"])
        made.append(Table(f"peers: {task}", heads, rows, ratios=True))
    return made


def _spread(row: dict[str, Any]) -> list[str]:
    timing = row["timing"]
    median, low, high, mad = (1e3 * timing[name] for name in ("median", "low", "high", "mad"))
    return [f"{median:.3f}", f"{low:.3f} to {high:.3f}", f"{mad:.3f}", f"{timing['outliers']}/{len(timing['samples'])}"]
