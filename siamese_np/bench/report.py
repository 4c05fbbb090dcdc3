"""What is said of a run: tables for the terminal and for Markdown, from one description of rows."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from siamese_np.bench.figures import figures
from siamese_np.bench.probe import DRIFT, peak
from siamese_np.bench.words import threads_text
from siamese_np.errors import OptionError
from siamese_np.ladder.climb import rate
from siamese_np.ladder.operations import OPERATIONS
from siamese_np.storage import write_atomically

BUSY = 0.5  # load average of the last minute, from which on others may have disturbed the run

Table = tuple[str, list[str], list[list[str]]]  # title, heads, rows


def tables(results: dict[str, Any]) -> list[Table]:
    """Every table of a run."""
    made = [_figures(results), _probe(results)]
    for section, table in (("clocks", _clocks), ("ladder", _ladder), ("end_to_end", _end_to_end), ("peers", _peers)):
        if section in results:
            made += table(results)
    return [table for table in made if table[2]]


def text(results: dict[str, Any]) -> str:
    """All tables for a terminal."""
    parts = [_headline(results)]
    for title, heads, rows in tables(results):
        widths = [max(len(row[i]) for row in [heads, *rows]) for i in range(len(heads))]
        lines = [title, *("  " + _aligned(row, widths) for row in [heads, *rows])]
        parts.append("\n".join(lines))
    return "\n\n".join([*parts, *_warnings(results)])


def markdown(results: dict[str, Any], command: str) -> str:
    """All tables for a file, with the pictures' names."""
    parts = ["# Benchmark", _headline(results) + "  ", f"Command: `{command}`", *_warnings(results)]
    for title, heads, rows in tables(results):
        lines = ["| " + " | ".join(row) + " |" for row in [heads, ["---", *["---:"] * (len(heads) - 1)], *rows]]
        parts.append(f"## {title[0].upper()}{title[1:]}\n\n" + "\n".join(lines))
    for name, section in (("roofline", "ladder"), ("ladder", "ladder"), ("scaling", "end_to_end")):
        if section in results:
            parts.append(f"![{name}]({name}.png)")
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
    processor = facts.get("model_name", facts["processor"])
    model = f" (family {facts['cpu_family']}, model {facts['model']})" if "cpu_family" in facts else ""
    llvm = f", LLVM calls it {facts['llvm_processor']}" if "llvm_processor" in facts else ""
    return (
        f"{facts['date']}: {processor}{model}{llvm}; {facts['processors']} processors, at most "
        f"{max(results['threads'])} threads; {versions}; {results['sizes']} run of {results['seconds']:.0f} s"
    )


def _warnings(results: dict[str, Any]) -> list[str]:
    moved = {name: change for name, change in results["drift"].items() if abs(change) > DRIFT}
    said = [f"The machine was steady: no roof moved by more than {100 * DRIFT:.0f} % during the run."]
    if moved:
        listed = ", ".join(f"{name} {100 * change:+.1f} %" for name, change in moved.items())
        said = [f"The machine drifted during the run, roofs moved: {listed}."]
    load = results["environment"].get("load_average", [0.0])[0]
    if load > BUSY:
        said.append(f"The machine was not idle when the run began: its load average was {load:.1f}.")
    return said + [f"The section {name} is missing: {error}." for name, error in results.get("failed", {}).items()]


def _figures(results: dict[str, Any]) -> Table:
    rows = [
        [
            f"{row.number}. {row.what}",
            f"{'<=' if row.less_is_better else '>='} {row.wanted:g} {row.unit}",
            f"{row.measured:.2f} {row.unit}",
            "reached" if row.reached else "not reached",
        ]
        for row in figures(results)
    ]
    return "figures", ["figure", "wanted", "measured", ""], rows


def _probe(results: dict[str, Any]) -> Table:
    roofs, rows = results["probe"], []
    counts = [str(count) for count in results["threads"]]
    for lanes, by_threads in roofs["fma_gflops"].items():
        rows.append([f"FMA, {32 * int(lanes)}-bit vectors, GFLOP/s", *(f"{by_threads[c]:.0f}" for c in counts)])
    for level, by_threads in roofs["gbytes_per_second"].items():
        rows.append([f"{level}, a += s b, GB/s", *(f"{by_threads[c]:.0f}" for c in counts)])
    return "machine probe", ["roof", *(threads_text(count) for count in results["threads"])], rows


def _clocks(results: dict[str, Any]) -> list[Table]:
    rows = []
    for preset in ("cnn", "mlp"):
        clock = results["clocks"].get(preset)
        if clock:
            for kind in ("cold", "cached"):
                moments = clock[kind]
                steady = moments["second_step"] - moments["first_step"]
                row = [f"{preset}, {kind}", *(f"{moments[name]:.2f}" for name in ("imports", "first_step"))]
                rows.append([*row, f"{1e3 * steady:.1f}"])
    rows.append(["import siamese_np", f"{results['clocks']['import_seconds']:.2f}", "", ""])
    rows.append(["siamese-np --help", f"{results['clocks']['help_seconds']:.2f}", "", ""])
    heads = ["process", "imports done, s", "first training step done, s", "second step, ms"]
    made: list[Table] = [("from process start to training", heads, rows)]
    kernels = results["clocks"].get("cnn", {}).get("kernels", {})
    if kernels:
        slowest = sorted(kernels.items(), key=lambda item: -item[1]["cold"])
        rows = [[name, *("-" if s is None else f"{s:.2f}" for s in clock.values())] for name, clock in slowest]
        made.append(("the cnn step's kernels", ["kernel", "cold compile, s", "load from cache, s"], rows))
    return made


def _ladder(results: dict[str, Any]) -> list[Table]:
    made: list[Table] = []
    heads = ["rung", "ms/image", "GFLOP/s executed", "dense-equivalent", "% of peak", "FLOP/byte", "GB/s"]
    heads += ["vector bits", "error", "first call, s"]
    for operation, details in OPERATIONS.items():
        for threads in results["threads"]:
            top, rows = peak(results["probe"], threads), []
            for entry in results["ladder"]:
                if entry["operation"] == operation and str(threads) in entry["timings"]:
                    seconds = entry["timings"][str(threads)]["median"]
                    rows.append(
                        [
                            entry["rung"],
                            f"{1e3 * seconds / entry['images']:.3g}",
                            f"{rate(entry, threads, 'executed_flops'):.3g}",
                            f"{rate(entry, threads):.3g}",
                            f"{100 * rate(entry, threads) / top:.3g}",
                            f"{entry['executed_flops'] / entry['bytes']:.3g}",
                            f"{entry['bytes'] / seconds / 1e9:.3g}",
                            str(entry["vector_bits"] or "-"),
                            f"{entry['error']:.0e}",
                            f"{entry['first_call_seconds']:.2f}",
                        ]
                    )
            made.append((f"ladder: {details.title}, {threads_text(threads)}", heads, rows))
    return made


def _end_to_end(results: dict[str, Any]) -> list[Table]:
    whole, made = results["end_to_end"], []
    rows = [
        [
            f"{row['preset']}, {row['pairs']} pairs",
            str(row["threads"]),
            *_spread(row["timing"]),
            f"{row['images_per_second']:,.0f}",
            f"{row['dense_gflops']:.0f}",
            f"{100 * row['dense_gflops'] / peak(results['probe'], row['threads']):.0f}",
        ]
        for row in whole["steps"]
    ]
    heads = ["training step", "threads", *SPREAD, "images/s", "GFLOP/s dense-equivalent", "% of peak"]
    made.append(("training step", heads, rows))
    rows = [
        [
            f"{row['preset']}, {row['images']:,} images",
            str(row["threads"]),
            *_spread(row["timing"]),
            f"{row['images_per_second']:,.0f}",
        ]
        for row in whole["embeddings"]
    ]
    made.append(("embedding", ["embedding", "threads", *SPREAD, "images/s"], rows))
    rows = [[name, *_spread(row["timing"])] for name, row in whole.get("exact", {}).items()]
    made.append(("exact figures over all pairs", ["figure", *SPREAD], rows))
    rows = [
        [f"{row['images']:,}", f"{row['microseconds_per_image']:.2f}", f"{row['drawing_microseconds']:.3f}"]
        for row in whole["cost_per_image"]
    ]
    made.append(("cost of training one image", ["images in the data set", "us/image", "of it drawing batches"], rows))
    rows = [
        [
            f"{row['protocol']}, {row['pairs']:,}",
            *(f"{row[name] / 1e6:,.1f}" for name in ("peak_bytes", "pair_bytes", "as_copies")),
        ]
        for row in whole["memory"]
    ]
    heads = [
        "protocol, training pairs",
        "peak memory, MB",
        "of it pairs and order, MB",
        "copies of pixels would take, MB",
    ]
    made.append(("memory", heads, rows))
    if "training" in whole:
        rows = [
            [str(number), f"{row['seconds']:.2f}", f"{row['pair_accuracy']:.4f}"]
            for number, row in enumerate(whole["training"]["epochs"], 1)
        ]
        made.append(("default training", ["epoch", "seconds of training", "validation pair accuracy"], rows))
        rows = [
            [f"{float(mark):.1%}", "-" if seconds is None else f"{seconds:.2f}"]
            for mark, seconds in whole["training"]["seconds_to"].items()
        ]
        made.append(("time to an accuracy, at the ends of epochs", ["validation pair accuracy", "seconds"], rows))
    return made


def _peers(results: dict[str, Any]) -> list[Table]:
    made: list[Table] = []
    found = results["peers"]["peers"]
    rows = []
    for peer in found.values():
        versions = ", ".join(f"{name} {version}" for name, version in peer.get("versions", {}).items())
        rows.append([peer["title"], peer["status"], versions])
    made.append(("peers", ["peer", "", "versions"], rows))
    for task, by_peer in results["peers"]["tasks"].items():
        rows = [
            [
                found[name]["title"],
                *_spread(row["timing"]),
                f"{row['ratio']:.2f}" if "ratio" in row else "-",
                f"{row['prepare_seconds']:.1f}",
            ]
            for name, row in sorted(by_peer.items(), key=lambda item: item[1]["timing"]["median"])
        ]
        made.append((task, ["peer", *SPREAD, "times siamese_np", "compile and warm-up, s"], rows))
    return made


SPREAD = ["median ms", "95 % interval", "MAD", "outliers"]


def _spread(timing: dict[str, Any]) -> list[str]:
    median, low, high, mad = (1e3 * timing[name] for name in ("median", "low", "high", "mad"))
    return [f"{median:.3f}", f"{low:.3f} to {high:.3f}", f"{mad:.3f}", f"{timing['outliers']}/{len(timing['samples'])}"]


def _aligned(row: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(
        cell.ljust(width) if i == 0 else cell.rjust(width)
        for i, (cell, width) in enumerate(zip(row, widths, strict=True))
    ).rstrip()
