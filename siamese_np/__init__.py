"""A Siamese network on MNIST with contrastive loss: every gradient by hand, in NumPy and Numba.

The names below are the public ones, and the layers: the classes of layers.py that are registered there. Each is
imported when it is first used, so importing the package compiles nothing and loads neither numba nor matplotlib.
"""

from importlib import import_module
from typing import Any

_PUBLIC = {
    "augment": ("Distort",),
    "backend": ("use_kernels",),
    "config": ("TrainConfig",),
    "datasets": ("Dataset", "Split", "load_dataset", "load_images", "read_idx", "read_image"),
    "distances": ("EuclideanDistance", "PairwiseDistances"),
    "errors": ("SiameseError",),
    "storage": ("load_model", "save_model"),
    "description": ("register_layer",),
    "layer": ("Layer",),
    "losses": ("AllPairsContrastiveLoss", "ContrastiveLoss", "SupConLoss"),
    "network": ("Sequential", "SiameseNetwork"),
    "optimizers": ("SGD", "Adam"),
    "pairs": ("balanced_batches", "random_pairs"),
    "presets": ("cnn", "cnn3", "mlp", "slim"),
    "recipes": ("recipe",),
    "run": ("Run", "train_run"),
    "runtime.scheduler": ("set_threads",),
    "tracing": ("trace",),
}
_MODULE = {name: module for module, names in _PUBLIC.items() for name in names}


def __getattr__(name: str) -> Any:
    if name in _MODULE:
        return getattr(import_module(f"siamese_np.{_MODULE[name]}"), name)
    if name == "__all__":
        return sorted([*_MODULE, *_layers()])
    if name[:1].isupper() and name in (layers := _layers()):  # to look for a module or a dunder loads nothing
        return layers[name]
    raise AttributeError(f"module 'siamese_np' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __getattr__("__all__")


def _layers() -> dict[str, Any]:
    return import_module("siamese_np.description").package_layers()
