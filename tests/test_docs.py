"""The documentation: every public name is on its reference page, its recipes run, and it can be built."""

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import siamese_np
from siamese_np import collection, errors, gradcheck, learn

DOCS = Path(__file__).parent.parent / "docs"
REFERENCE = (DOCS / "reference.rst").read_text(encoding="utf-8")
RECIPES = dict(
    re.findall(r"^## From (\w+)\n+```python\n(.*?)```", (DOCS / "weights.md").read_text(), re.DOTALL | re.MULTILINE)
)


def test_the_reference_has_every_public_name():
    shown = re.findall(r"^\.\. auto\w+:: siamese_np\.(.+)$", REFERENCE, re.MULTILINE)
    for name in shown:
        module, _, last = name.rpartition(".")
        if last != "SiameseEmbedder":  # scikit-learn may be missing
            assert hasattr(importlib.import_module(f"siamese_np.{module}" if module else "siamese_np"), last), name
    public = [*siamese_np.__all__, *(f"gradcheck.{name}" for name in gradcheck.__all__)]
    public += [f"learn.{name}" for name in learn.__all__]
    public += ["estimator.SiameseEmbedder", "export.export_onnx", "export.export_npz", "projector.export_projector"]
    public += ["datasets.InputForm", "datasets.read_images", *(f"collection.{name}" for name in collection.__all__)]
    assert sorted(public) == sorted(set(shown) - {"metrics", "errors"})  # modules, of which all members are shown
    assert {"metrics", "errors"} < set(shown) and errors.ModelError.__doc__


def test_every_promise_names_tests_that_exist():
    rows = [line for line in (DOCS / "promises.md").read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    promises = [row for row in rows if not row.startswith(("| promise |", "|---"))]
    assert len(promises) > 20
    for promise in promises:
        named = re.findall(r"`(test_\w+)::(test_\w+)`( \(long\))?", promise)
        assert named and len(named) == promise.count("::"), promise
        for file, name, long in named:
            tree = ast.parse((DOCS.parent / "tests" / f"{file}.py").read_text(encoding="utf-8"))
            (test,) = (part for part in tree.body if isinstance(part, ast.FunctionDef) and part.name == name)
            marks = {ast.unparse(mark) for mark in test.decorator_list}
            assert bool(long) == bool(marks & {"long", "pytest.mark.long"}), name


@pytest.mark.parametrize(("name", "module"), [("Keras", "keras"), ("PyTorch", "torch")])
def test_weights_of_other_frameworks(name, module, capsys):
    code = RECIPES[name]
    pytest.importorskip(module)
    exec(compile(code, f"docs/weights.md, from {name}", "exec"), {})
    assert float(capsys.readouterr().out) < 1e-5


def test_the_site_is_built_without_a_warning(tmp_path):
    for needed in ("sphinx", "numpydoc", "myst_nb", "sklearn"):
        pytest.importorskip(needed)
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-c", DOCS, DOCS.parent, tmp_path]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "docs" / "reference.html").read_text(encoding="utf-8")
    assert 'id="siamese_np.SiameseNetwork.embed"' in page and 'id="siamese_np.metrics.nearest"' in page
    notebooks = {path.stem for path in (DOCS.parent / "notebooks").glob("*.ipynb")}
    assert {path.stem for path in (tmp_path / "notebooks").glob("*.html")} == notebooks
    assert (tmp_path / "docs" / "weights.html").exists()
