"""The names of the package: all of them, the layers among them, and none loads more than it needs."""

import subprocess
import sys
from types import ModuleType

import pytest

import siamese_np

LAYERS = ["AvgPool2D", "Conv2D", "Dense", "Flatten", "GlobalAvgPool2D", "MaxPool2D", "ReLU"]
OTHERS = [
    *("Adam", "AllPairsContrastiveLoss", "ContrastiveLoss", "Dataset", "Distort", "EuclideanDistance", "Layer"),
    *("PairwiseDistances", "Run", "SGD", "Sequential", "SiameseError", "SiameseNetwork", "Split", "SupConLoss"),
    *("TrainConfig", "balanced_batches", "cnn", "cnn3", "load_dataset", "load_images", "load_model", "mlp"),
    *("random_pairs", "read_idx", "read_image", "recipe", "register_layer", "save_model", "set_threads", "trace"),
    *("slim", "train_run", "use_kernels"),
]


def test_the_public_names_are_these():
    assert siamese_np.__all__ == dir(siamese_np) == sorted(LAYERS + OTHERS)
    assert not any(isinstance(getattr(siamese_np, name), ModuleType) for name in siamese_np.__all__)
    given: dict[str, object] = {}
    exec("from siamese_np import *", given)
    assert {name: given[name] for name in siamese_np.__all__} == {
        name: getattr(siamese_np, name) for name in siamese_np.__all__
    }


def test_a_layer_of_a_user_is_no_name_of_the_package():
    from siamese_np.description import _REGISTERED

    @siamese_np.register_layer
    class Mine(siamese_np.Layer):
        pass

    try:
        assert "Mine" not in siamese_np.__all__ and not hasattr(siamese_np, "Mine")
    finally:
        del _REGISTERED["Mine"]


@pytest.mark.parametrize("name", ["Densee", "conv", "__wrapped__", "__path__s", "_layer"])
def test_other_names_are_refused(name):
    with pytest.raises(AttributeError, match=f"module 'siamese_np' has no attribute '{name}'"):
        getattr(siamese_np, name)


def test_numba_is_loaded_only_where_it_is_needed():
    code = """
import sys
import siamese_np
assert not any(hasattr(siamese_np, name) for name in ("__wrapped__", "__file__s", "conv", "_x"))
from siamese_np import gradcheck, read_image, textbook
from siamese_np.gradcheck import check_gradients
assert "numba" not in sys.modules
siamese_np.Dense
assert "numba" in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
