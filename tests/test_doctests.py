"""The examples in docstrings run, and what a reader looks up first has one."""

import doctest
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import siamese_np

PACKAGE = Path(siamese_np.__file__).parent
NEEDS = {"siamese_np.estimator": "sklearn", "export_onnx": "onnx"}
# what the examples take for granted
GLOBALS = {"np": np, **{name: getattr(siamese_np, name) for name in siamese_np.__all__}}
WITH_EXAMPLE = [
    *("AllPairsContrastiveLoss", "ContrastiveLoss", "SupConLoss", "EuclideanDistance", "PairwiseDistances"),
    *("Sequential", "SiameseNetwork", "Conv2D", "Dense", "MaxPool2D", "cnn", "Adam", "SGD", "Distort", "TrainConfig"),
    *("load_dataset", "save_model", "load_model", "random_pairs", "balanced_batches", "recipe", "train_run", "trace"),
    "use_kernels",
    *("gradcheck.check_gradients", "export.export_onnx", "export.export_npz", "projector.export_projector"),
]


def modules() -> list[str]:
    paths = [path for path in sorted(PACKAGE.rglob("*.py")) if ">>> " in path.read_text(encoding="utf-8")]
    return [".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts) for path in paths]


@pytest.mark.parametrize("name", modules())
def test_the_examples_of_a_module_run(name, tmp_path, monkeypatch):
    if name in NEEDS and find_spec(NEEDS[name]) is None:
        pytest.skip(f"needs {NEEDS[name]}")
    monkeypatch.chdir(tmp_path)
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    found = doctest.DocTestFinder().find(import_module(name), extraglobs=GLOBALS)
    assert any(test.examples for test in found)
    for test in found:
        needed = NEEDS.get(test.name.split(".")[-1])
        if needed is None or find_spec(needed):
            assert runner.run(test).failed == 0, test.name


def test_what_is_looked_up_first_has_an_example():
    for name in WITH_EXAMPLE:
        module, _, of_module = name.rpartition(".")
        public = import_module(f"siamese_np.{module}" if module else "siamese_np")
        assert ">>>" in (getattr(public, of_module).__doc__ or ""), name
