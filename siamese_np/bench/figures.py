"""The figures this package holds itself to, read from the results of one run."""

from typing import Any, NamedTuple

from siamese_np.bench.probe import peak
from siamese_np.bench.words import threads_text
from siamese_np.ladder.climb import rate


class Figure(NamedTuple):
    """One claim: what was wanted, what was measured; `reached` is measured >= wanted, or <= where less is better."""

    number: int
    what: str
    wanted: float
    measured: float
    unit: str
    less_is_better: bool = False

    @property
    def reached(self) -> bool:
        """Whether the measured figure is good enough."""
        return self.measured <= self.wanted if self.less_is_better else self.measured >= self.wanted


def figures(results: dict[str, Any]) -> list[Figure]:
    """Those figures that the sections in `results` give."""
    rows: list[Figure] = []
    T = max(results["threads"])
    for task, by_peer in results.get("peers", {}).get("tasks", {}).items():
        ratios = {name: row["ratio"] for name, row in by_peer.items() if name != "siamese_np" and "ratio" in row}
        if ratios:
            fastest = min(ratios, key=lambda name: ratios[name])
            number = 3 if "embedding" in task else 2 if task.startswith("mlp") else 1
            title = results["peers"]["peers"][fastest]["title"]
            rows.append(
                Figure(number, f"{task}: times faster than {title}, the fastest peer", 2.0, ratios[fastest], "x")
            )
    rows.sort(key=lambda row: row.number)
    whole = results.get("end_to_end", {})
    steps = {(row["preset"], row["pairs"], row["threads"]): row for row in whole.get("steps", ())}
    swept = steps.get(("cnn", 128, T))
    if swept:
        share = swept["dense_gflops"] / peak(results["probe"], T)
        rows.append(Figure(4, "cnn step, 128 pairs: dense-equivalent rate over the FMA peak", 1.25, share, "x"))
    for entry in results.get("ladder", ()):
        if entry["rung"] == "siamese_np" and "_forward" in entry["operation"]:
            for threads in entry["timings"]:
                share = 100 * rate(entry, int(threads)) / peak(results["probe"], int(threads))
                what = f"{entry['operation']}, {threads_text(threads)}: dense-equivalent share of the FMA peak"
                rows.append(Figure(4, what, 80.0, share, "%"))
    one, two = steps.get(("cnn", 128, 1)), steps.get(("cnn", 128, 2))
    if one and two:
        gain = one["timing"]["median"] / two["timing"]["median"]
        rows.append(Figure(5, "cnn step, 128 pairs: two threads against one", 1.85, gain, "x"))
    costs = [row["microseconds_per_image"] for row in whole.get("cost_per_image", ())]
    if len(costs) > 1:
        sizes = [row["images"] for row in whole["cost_per_image"]]
        what = f"cost per image, dearest over cheapest, {min(sizes):,} to {max(sizes):,} images"
        rows.append(Figure(5, what, 1.1, max(costs) / min(costs), "x", True))
    peaks = {row["pairs"]: row["peak_bytes"] for row in whole.get("memory", ()) if row["protocol"] == "batch"}
    if len(peaks) > 1:
        fewest, most = min(peaks), max(peaks)
        what = f"memory of {most:,} training pairs over that of {fewest:,}, protocol batch"
        rows.append(Figure(5, what, 1.1, peaks[most] / peaks[fewest], "x", True))
    for name, row in whole.get("exact", {}).items():
        rows.append(Figure(6, name, 1.5, row["timing"]["median"], "s", True))
    return rows
