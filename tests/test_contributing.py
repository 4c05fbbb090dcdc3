"""What CONTRIBUTING.md says: its Python runs, its files and names are there."""

import re
from pathlib import Path

import pytest

from siamese_np.description import _REGISTERED

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
FOLDERS = ("", "siamese_np", "tests")


def test_its_layer_runs_and_a_wrong_one_would_be_told(monkeypatch):
    monkeypatch.delitem(_REGISTERED, "Scale", raising=False)  # of another test
    block, _ = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    wrong = block.replace("(dout * cache).sum", "dout.sum")
    assert wrong != block
    exec(compile(block, "CONTRIBUTING.md", "exec"), {"__name__": "__main__"})
    with pytest.raises(AssertionError, match="FAIL"):
        exec(compile(wrong, "CONTRIBUTING.md", "exec"), {"__name__": "__main__"})
    monkeypatch.delitem(_REGISTERED, "Scale")


def test_the_files_it_names_exist():
    named = set(re.findall(r"`([\w./-]+(?:\.py|\.ipynb|/))`", TEXT)) | set(re.findall(r"\]\(([^)]+)\)", TEXT))
    assert len(named) > 25
    missing = [name for name in named if not any((ROOT / folder / name).exists() for folder in FOLDERS)]
    assert not missing
