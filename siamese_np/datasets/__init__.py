"""Where images come from: IDX files, the bundled MNIST, and the user's own pictures."""

from typing import TYPE_CHECKING, Any

from siamese_np.datasets.idx import read_idx
from siamese_np.datasets.mnist import Dataset, Split, load_dataset

if TYPE_CHECKING:
    from siamese_np.datasets.images import load_images, read_image

__all__ = ["Dataset", "Split", "load_dataset", "load_images", "read_idx", "read_image"]


def __getattr__(name: str) -> Any:
    if name in ("load_images", "read_image"):
        from siamese_np.datasets import images  # with Pillow, which training does without

        return getattr(images, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
