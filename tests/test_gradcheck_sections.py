"""Each hint leads to a section of the notebook, and the notebook has it."""

import json
import re
from pathlib import Path

import mutants
import numpy as np
import pytest

from siamese_np.gradcheck import check_gradients
from siamese_np.gradcheck.scope import NOTEBOOK, SECTIONS, section

ROOT = Path(__file__).parent.parent


def test_the_notebook_has_every_section_and_names_it():
    cells = json.loads((ROOT / NOTEBOOK).read_text(encoding="utf-8"))["cells"]
    text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    anchors = re.findall(r'<a id="([a-z-]+)"></a>\n### ', text)
    assert sorted(anchors) == sorted(SECTIONS)


@pytest.mark.parametrize(
    ("hint", "anchor"),
    [
        ("only entries at a kink are wrong: look at what happens at equality", "kinks-and-ties"),
        ("every entry is divided by 4, the batch size N (1/N: a mean taken for a sum)", "factors-and-signs"),
        ("every entry has the wrong sign", "factors-and-signs"),
        ("the gradient is shifted by 1 along axis 1: padding or stride is off", "convolution-strides"),
        ("the gradient is dout summed along axes (1,): the wrong axis", "wrong-axis"),
        ("the gradient is as if dout were all ones: dout is not used", "losses-and-dout"),
        ("where several outputs meet in one entry, only one of them arrives: = for +=", "accumulating"),
        ("backward left it at 0: its gradient is never written", "accumulating"),
        ("the gradient is divided by 1 - out^2: the derivative of tanh is missing", "chain-rule"),
        ("exactly the wrong entries get a gradient: the mask or its condition is inverted", "masks-and-branches"),
        ("only entries much smaller than the largest of the array are wrong", "small-entries"),
        ("the output is rounded: differences cannot tell", "rounding"),
        ("m is N where it is N*H*W: the gradient through mean and variance", "batch-norm"),
    ],
)
def test_a_sentence_leads_to_its_section(hint, anchor):
    assert section(hint) == f"{NOTEBOOK}#{anchor}"


def test_no_cause_leads_nowhere():
    assert section("no simple cause fits: 3 of 9 checked entries are wrong") is None


def test_the_report_says_where():
    operation = mutants.OPERATIONS["dense"]
    ((x, w, b),) = operation.points(np.random.default_rng(0))
    report = check_gradients(
        lambda *arrays: (operation.forward(*arrays), arrays),
        *(x, w, b),
        backward=lambda dout, arrays: (-operation.backward(dout, *arrays)[0], *operation.backward(dout, *arrays)[1:]),
    )
    assert "wrong sign\n        more: notebooks/gradient-checking.ipynb#factors-and-signs\n" in str(report)
