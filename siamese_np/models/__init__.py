"""The models that come with the package: ``load_model("mnist")``, and MODEL of every command, take one by its name."""

import hashlib
from pathlib import Path

from siamese_np.errors import ModelError

FOLDER = Path(__file__).parent
SHIPPED = ("mnist",)


def shipped(name: str) -> Path:
    """The file of the shipped model called `name`, or a ModelError unless it is the one that came with the package."""
    path, sums = FOLDER / f"{name}.npz", FOLDER / "SHA256SUMS"
    try:
        digest, known = hashlib.sha256(path.read_bytes()).hexdigest(), sums.read_text(encoding="ascii").split()
    except (OSError, ValueError) as error:
        raise ModelError(f"the model {name} of this package cannot be read: {error}") from None
    if known != [digest, path.name]:
        raise ModelError(f"{path} is not the file that came with this package: its SHA-256 is {digest}")
    return path
