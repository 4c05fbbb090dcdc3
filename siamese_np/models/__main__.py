"""Makes the shipped model: ``python -m siamese_np.models`` trains it; ``... RUN`` takes it from a run of `COMMAND`."""

import hashlib
import sys
import tempfile
from collections.abc import Sequence

from siamese_np.datasets import load_dataset
from siamese_np.models import FOLDER
from siamese_np.novelty import Novelty
from siamese_np.recipes import recipe
from siamese_np.run import train_run
from siamese_np.storage import load_model, save_model

COMMAND = "siamese-np train --recipe best --seed 0"


def main(runs: Sequence[str]) -> None:
    """Write ``mnist.npz`` and its hash."""
    mnist = load_dataset()
    with tempfile.TemporaryDirectory() as folder:
        if not runs:
            runs = [f"{folder}/run"]
            if train_run(recipe("best", seed=0), mnist, runs[0], log=print, show_bar=sys.stderr.isatty()).interrupted:
                sys.exit("interrupted: the model is as it was")
        siamese = load_model(runs[0])
    siamese.novelty = Novelty.fit(siamese.network, mnist.train.images, mnist.train.classes, mnist.validation.images)
    siamese.class_names = [str(digit) for digit in range(10)]
    path = FOLDER / "mnist.npz"
    save_model(path, siamese, {"command": COMMAND})
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    (FOLDER / "SHA256SUMS").write_text(f"{digest}  {path.name}\n", encoding="ascii")
    print(f"{path}: {path.stat().st_size:,} bytes, SHA-256 {digest}")


if __name__ == "__main__":
    main(sys.argv[1:])
