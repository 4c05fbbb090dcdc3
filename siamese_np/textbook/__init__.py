"""Every operation in plain NumPy, one file each: its derivation, then the code that is the derivation.

    out, cache = conv2d_forward(x, w, b, stride, pad)
    dx, dw, db = conv2d_backward(dout, cache)

How to read a page. In the end all numbers flow into one number, the loss. ``dout`` has the shape of ``out``, and each
of its entries is the slope of the loss in that entry of ``out``: how much the loss grows per unit, if only this one
number grows a little. Backward is given ``dout`` and returns the same for the inputs: ``dx``, ``dw``, ``db``. It uses
one rule only, the chain rule: follow a number along every way on which it reaches ``out``; on each way multiply the
slopes; add up the ways. The ``cache`` is what forward has seen and backward needs again.

Letters of shapes: N images (or pairs), D numbers that go into a dense layer, E that come out; images are (N, H, W, C),
rows, columns and channels; a window has KH rows and KW columns; F filters give outputs of OH rows and OW columns.

Where to begin: dense, relu, distance, contrastive and adam are a whole Siamese network, which
notebooks/whole-thing.ipynb builds; conv2d and maxpool2d make it a convolutional one.

``use_kernels("textbook")`` (siamese_np.backend) runs the whole package on these files, so that a debugger steps through
them. The compiled kernels (siamese_np.kernels) compute the same under the same names, and the tests hold each against
the other.

Each function of a page is an operation. Those of windows.py, and those whose names begin with _, only help.

All functions take float32, float64 and complex numbers, so the complex step works on them: decisions (which is the
largest, which side of a kink) are made by the real part. They check nothing; the layers do.
"""

import pkgutil
from importlib import import_module
from inspect import isfunction
from typing import TYPE_CHECKING, Any

HELPERS = ("windows",)
_found: dict[str, Any] = {}
for _module in pkgutil.iter_modules(__path__):
    if _module.name not in HELPERS:
        _page = import_module(f"{__name__}.{_module.name}")
        _found |= {
            name: thing
            for name, thing in vars(_page).items()
            if isfunction(thing) and name[0] != "_" and thing.__module__ == _page.__name__
        }

globals().update(_found)
__all__ = sorted(_found)

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any: ...
