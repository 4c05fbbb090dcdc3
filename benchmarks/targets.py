"""What this project wants of its kernels, and whether a run of the benchmark reached it.

``python benchmarks/targets.py [RESULTS]`` reads a benchmark.json, or the folder that holds one (by default the results
in this repository), and prints a line for each target. Exit status 1 if one was not reached, 2 if nothing can be read.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from siamese_np.bench.compare import machine, read_results
from siamese_np.bench.probe import peak, threads_text
from siamese_np.errors import DataError
from siamese_np.ladder.climb import rate

# The tasks whose names begin so: number of the target, and how many times faster than the fastest peer
AGAINST_PEERS = {"cnn step": (1, 4.0), "mlp step": (2, 3.0), "cnn embedding": (3, 2.0), "5 nearest": (3, 2.0)}
COLD_START = 6.0  # seconds from the start of the process to the end of the first training step, nothing compiled

RESULTS = Path(__file__).parent / "results" / "bench"


class Target(NamedTuple):
    """One target and what was measured, in `unit`."""

    number: int
    what: str
    wanted: float
    measured: float
    unit: str
    at_most: bool = False

    @property
    def reached(self) -> bool:
        """Whether the measured figure is at least, or at most, the one wanted."""
        return self.measured <= self.wanted if self.at_most else self.measured >= self.wanted

    def __str__(self) -> str:
        limit = f"{'at most' if self.at_most else 'at least'} {self.wanted:g} {self.unit}"
        verdict = "reached" if self.reached else "NOT REACHED"
        return f"{self.number}. {self.what}: {self.measured:.2f} {self.unit}, wanted {limit}: {verdict}"


def targets(results: dict[str, Any]) -> list[Target]:
    """Those targets that the sections in `results` have figures for, in order."""
    found = [*_against_peers(results), *_against_peak(results), *_scaling(results)]
    if "cnn" in results.get("clocks", {}):
        first = results["clocks"]["cnn"]["cold"]["first_step"]
        found.append(
            Target(7, "cnn, first training step done after a cold start", COLD_START, first, "s", at_most=True)
        )
    return sorted(found, key=lambda target: target.number)


def _against_peers(results: dict[str, Any]) -> Iterator[Target]:
    for task, by_peer in results.get("peers", {}).get("tasks", {}).items():
        ratios = {name: row["ratio"] for name, row in by_peer.items() if name != "siamese_np" and "ratio" in row}
        number, wanted = next((found for words, found in AGAINST_PEERS.items() if task.startswith(words)), (0, 0.0))
        if ratios and number and not task.endswith("other precision"):
            fastest = min(ratios, key=lambda name: ratios[name])
            title = results["peers"]["peers"][fastest]["title"]
            yield Target(number, f"{task}: times faster than {title}, the fastest peer", wanted, ratios[fastest], "x")


def _against_peak(results: dict[str, Any]) -> Iterator[Target]:
    threads = max(results["threads"])
    for row in results.get("end_to_end", {}).get("steps", ()):
        if (row["preset"], row["pairs"], row["threads"]) == ("cnn", 128, threads):
            share = row["dense_gflops"] / peak(results["probe"], threads)
            yield Target(4, "cnn step, 128 pairs: dense-equivalent rate over the FMA peak", 1.25, share, "x")
    for entry in results.get("ladder", ()):
        if entry["rung"] == "siamese_np" and "_forward" in entry["operation"]:
            for count in map(int, entry["timings"]):
                share = 100 * rate(entry, count) / peak(results["probe"], count)
                what = f"{entry['operation']}, {threads_text(count)}: dense-equivalent share of the FMA peak"
                yield Target(4, what, 80.0, share, "%")


def _scaling(results: dict[str, Any]) -> Iterator[Target]:
    whole = results.get("end_to_end", {})
    swept = [row for row in whole.get("steps", ()) if (row["preset"], row["pairs"]) == ("cnn", 128)]
    steps = {row["threads"]: row["timing"]["median"] for row in swept}
    if 1 in steps and 2 in steps:
        yield Target(5, "cnn step, 128 pairs: two threads against one", 1.85, steps[1] / steps[2], "x")
    costs = {row["images"]: row["microseconds_per_image"] for row in whole.get("cost_per_image", ())}
    if len(costs) > 1:
        what = f"cost per image, highest over lowest, {min(costs):,} to {max(costs):,} images"
        yield Target(5, what, 1.1, max(costs.values()) / min(costs.values()), "x", at_most=True)
    peaks = {row["pairs"]: row["peak_bytes"] for row in whole.get("memory", ()) if row["protocol"] == "batch"}
    if len(peaks) > 1 and None not in peaks.values():
        what = f"memory of {max(peaks):,} training pairs over that of {min(peaks):,}, protocol batch"
        yield Target(5, what, 1.1, peaks[max(peaks)] / peaks[min(peaks)], "x", at_most=True)
    for name, row in whole.get("exact", {}).items():
        yield Target(6, name, 1.5, row["timing"]["median"], "s", at_most=True)


def main(arguments: list[str]) -> int:
    """Print the targets; return the exit status."""
    try:
        results = read_results(Path(arguments[0]) if arguments else RESULTS)
    except DataError as error:
        print(f"targets: {error}", file=sys.stderr)
        return 2
    print(f"On {machine(results)}:")
    found = targets(results)
    for target in found:
        print(target)
    return 0 if all(target.reached for target in found) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
