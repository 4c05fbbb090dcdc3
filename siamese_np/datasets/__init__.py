"""Where images come from: the bundled MNIST, and the user's own data and pictures."""

from typing import TYPE_CHECKING, Any

from siamese_np.datasets.dataset import Dataset, Split
from siamese_np.datasets.idx import read_idx
from siamese_np.datasets.input_form import DIGIT, InputForm, form_of
from siamese_np.datasets.sources import load_data_of, load_dataset

if TYPE_CHECKING:
    from siamese_np.datasets.images import Picture, load_images, read_image, read_images

__all__ = ["DIGIT", "Dataset", "InputForm", "Picture", "Split", "form_of", "load_data_of", "load_dataset"]
__all__ += ["load_images", "read_idx", "read_image", "read_images"]


def __getattr__(name: str) -> Any:
    if name in ("Picture", "load_images", "read_image", "read_images"):
        from siamese_np.datasets import images  # with Pillow, which training does without

        return getattr(images, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
