"""Damages the files of fuzz.py as the coverage of the code that reads them suggests, with atheris (libFuzzer).

    python tests/guided_fuzz.py GROUP SECONDS [SEED]    or all: python -m pytest -m long tests/test_fuzz.py -k guided -s

It needs ``pip install atheris``. An input is the number of a part (two bytes) and what stands in its place; it must
load, or be refused in one sentence, in little memory and time (`fuzz.attempt`). An input that does not is told by the
exception, and left as a file ``crash-...`` in the current folder: ``python tests/guided_fuzz.py GROUP 0 FILE`` reads it
again. Prints how many inputs were tried, how many lines and branches they reached, and what was most, as JSON.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

GROUPS = {
    "models": ("model", "model-1", "checkpoint", "embeddings"),
    "data": ("idx", "idx-gz", "csv", "npz"),
    "notes": ("collection", "progress", "benchmark"),
    "pictures": ("avif", "bmp", "dib", "gif", "jpeg", "jpeg2000", "png", "ppm", "tga", "tiff", "webp"),
}
FROM = 2  # bytes that number the part
MEGABYTES = 2048  # of the whole process
HANGS = 60  # seconds for one input


def main(group: str, seconds: str, seed: str = "1") -> int:
    """Fuzz in a process of its own, which libFuzzer ends."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--child", group, seconds, seed, folder]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    reached = re.findall(r"cov: (\d+) ", done.stderr)
    if done.returncode:
        print(done.stdout + done.stderr[-5000:], file=sys.stderr)
    elif not os.path.exists(seed):
        print(json.dumps({**json.loads(done.stdout.splitlines()[-1]), "reached": int(reached[-1]) if reached else 0}))
    return done.returncode


def child(group: str, seconds: str, seed: str, place: str) -> None:
    import atheris

    reading = ["siamese_np", "PIL", "zipfile", "gzip", "csv"]
    compiled = ["siamese_np.kernels", "siamese_np.runtime"]  # Numba cannot read what is added for coverage
    with atheris.instrument_imports(include=reading, exclude=compiled):
        import fuzz

    folder, corpus, parts = Path(place), Path(place) / "corpus", []
    corpus.mkdir()
    for name in GROUPS[group]:
        try:
            format = fuzz.make(name)
        except LookupError:  # which this Pillow cannot write
            continue
        own = folder / name
        own.mkdir()
        for part in format.parts:
            content = part.content if isinstance(part.content, bytes) else json.dumps(part.content).encode()
            (corpus / str(len(parts))).write_bytes(len(parts).to_bytes(FROM, "big") + content)
            parts.append((format, part, own))
        fuzz.attempt(format, format.files, own)  # what is only done once
    most = {"group": group, "tried": 0, "loaded": 0, "megabytes": 0.0, "seconds": 0.0}
    end = time.monotonic() + float(seconds)

    def read(data: bytes) -> None:
        if len(data) < FROM:
            return
        format, part, own = parts[int.from_bytes(data[:FROM], "big") % len(parts)]
        try:
            content = data[FROM:] if isinstance(part.content, bytes) else json.loads(data[FROM:])
        except (ValueError, RecursionError):  # the parts that are bytes have what is no JSON
            return
        outcome = fuzz.attempt(format, {**format.files, part.name: part.whole(content)}, own)
        most["tried"] += 1
        most["loaded"] += outcome.sentence is None
        for figure in ("megabytes", "seconds"):
            most[figure] = max(most[figure], getattr(outcome, figure))
        if time.monotonic() > end and not again:
            print(json.dumps(most), flush=True)
            os._exit(0)

    again = [seed] if os.path.exists(seed) else []
    longest = 2 * max(path.stat().st_size for path in corpus.iterdir())
    options = [f"-max_len={longest}", f"-rss_limit_mb={MEGABYTES}", f"-timeout={HANGS}", "-len_control=0"]
    options += again or [f"-seed={seed}", str(corpus)]
    atheris.Setup([sys.argv[0], *options], read)
    atheris.Fuzz()


if __name__ == "__main__":
    if sys.argv[1] == "--child":
        child(*sys.argv[2:])
    else:
        sys.exit(main(*sys.argv[1:]))
