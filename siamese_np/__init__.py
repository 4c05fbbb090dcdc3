"""A Siamese network on MNIST with contrastive loss: every gradient by hand, in NumPy and Numba.

The names below are the public ones. Each is imported when it is first used, so importing the package
compiles nothing and loads neither numba nor matplotlib.
"""

from importlib import import_module
from typing import Any

_PUBLIC = {
    "augment": ("RandomShift",),
    "datasets": ("Dataset", "Split", "load_dataset", "load_images", "read_idx", "read_image"),
    "errors": ("SiameseError",),
    "storage": ("load_model", "save_model"),
    "layers": ("Conv2D", "Dense", "Flatten", "Layer", "MaxPool2D", "ReLU", "register_layer"),
    "losses": ("AllPairsContrastiveLoss", "ContrastiveLoss", "EuclideanDistance", "PairwiseDistances"),
    "network": ("Sequential", "SiameseNetwork", "cnn", "mlp"),
    "optimizers": ("SGD", "Adam"),
    "pairs": ("balanced_batches", "random_pairs"),
    "runtime.scheduler": ("set_threads",),
    "training": ("Run", "TrainConfig", "train_run"),
}
_MODULE = {name: module for module, names in _PUBLIC.items() for name in names}

__all__ = sorted(_MODULE)


def __getattr__(name: str) -> Any:
    if name not in _MODULE:
        raise AttributeError(f"module 'siamese_np' has no attribute {name!r}")
    return getattr(import_module(f"siamese_np.{_MODULE[name]}"), name)


def __dir__() -> list[str]:
    return __all__
