"""The table "your style, what to write" of README and notebook: each row runs, and sees a fault put into its layer."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from siamese_np import Dense, Sequential
from siamese_np.gradcheck import check_gradients

ROOT = Path(__file__).parent.parent
CELLS = [
    "".join(cell["source"]) for cell in json.loads((ROOT / "notebooks/gradient-checking.ipynb").read_text())["cells"]
]
GATE, STYLES = (cell for cell in CELLS if cell.startswith(("class Gate", "class Attributes")))
SOURCE = GATE.split("\n\n\nx =")[0] + "\n\n\n" + STYLES


def rows(text: str) -> list[str]:
    table = text.split("| your style | what to write |\n|---|---|\n")[1].split("\n\n")[0]
    return re.findall(r"\| `([^`|]+)` \|$", table, re.MULTILINE)


# for each row a fault: what stands in the notebook, and what is put in its place
FAULTS = {
    "Gate": ("x.T @ dz", "x.T @ abs(dz)"),
    "Attributes": ("self.dW, self.db = self.x.T @ dout", "self.dW, self.db = -self.x.T @ dout"),
    "Lists": ("self.grads[0] += self.x.T @ dout", "self.grads[0] += self.x.T @ dout / 6"),
    "affine_forward": ("return dout @ w.T, x.T @ dout, dout.sum(axis=0)", "return dout @ w.T, x.T @ dout, dout[0]"),
    "power_forward": ('dout * config["exponent"] * x', "dout * x"),
    "CrossEntropy": ("return dx / len(dx)", "return dx"),
    "squared_loss": ("sum() / 2, difference", "sum() / 2, 2 * difference"),
    "valley": ("grad[1:] += 200", "grad[1:] = 200"),
    "Dropout": ("return dout * self.keep / 0.7", "return dout * self.keep"),
    "Square": ("return 2 * dout * ctx", "return dout * ctx"),
    "network": ("network = Sequential([", "network = Sequential([Wrong(4, 4, dtype=float), "),
}

SQUARE = """
import torch

class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, dout):
        return 2 * dout * ctx.saved_tensors[0]
"""


class Wrong(Dense):
    def backward(self, dout, cache, need_dx=True):
        return 2 * super().backward(dout, cache, need_dx)


def run(row: str, source: str) -> str:
    here = {"np": np, "rng": np.random.default_rng(0), "Dense": Dense, "Sequential": Sequential, "Wrong": Wrong}
    exec(compile(source, "the notebook's layers", "exec"), here)
    return eval(row, {**here, "gradcheck": check_gradients}).verdict


README_ROWS = rows((ROOT / "README.md").read_text())


def test_readme_and_notebook_have_the_same_rows():
    assert rows("\n".join(CELLS)) == README_ROWS
    assert len(README_ROWS) == len(FAULTS) == 11


@pytest.mark.parametrize("row", README_ROWS)
def test_a_row_passes_and_sees_a_fault(row):
    name = next(name for name in FAULTS if re.search(rf"\b{name}\b", row))
    source = SOURCE
    if name == "Square":
        pytest.importorskip("torch")
        source += SQUARE
    correct, fault = FAULTS[name]
    assert source.count(correct) == 1
    assert run(row, source) == "PASS"
    assert run(row, source.replace(correct, fault)) == "FAIL"
