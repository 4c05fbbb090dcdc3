"""Checks backward passes, of any layer or function, against everything that is known about them.

It needs NumPy alone and imports nothing of the network; `cases` holds the cases of this package.

case.py          what is checked: a forward and backward pass, and the arrays it depends on
check.py         the functions to call;  targets.py  from a name to cases;  engine.py  all checks of a case in a row
adapters.py      our layers, networks and losses, and any other object, as a case
styles.py        other people's layers and functions: how they are called and where their gradients are, by trying
calls.py         how forward and backward may be called, and what they return;  objects.py  what an object holds
names.py         which gradient is that of which parameter
derivatives.py   functions beside their derivative, PyTorch, JAX
differences.py   slopes by central differences over many steps, and where they can be trusted
changes.py       by how much a step moves each output, in little memory
budget.py        how many calls a check may take: counted, predicted, limited
noise.py         how large the rounding errors of a function are, measured on it
measure.py       how wrong is wrong: PASS, FAIL, or INCONCLUSIVE, why, and what to do
point.py         a case at its point: how slopes are measured and compared there
entries.py       the gradient of one array, entry by entry, and the verdict on it
kinks.py         ties and kinks, where the slope is an interval, and many of them in one place
curve.py         the V-curve, and the Taylor remainder, whose rate needs no step;  plot.py  both as pictures
independent.py   checks without a step size: adjoint identity, complex step, float32 against float64
structure.py     what must hold of the numbers without a derivative: the same twice, linear in dout, zero for zero
contract.py      how a pass treats arguments, cache and state: required of ours, notes for others
unchecked.py     arrays of a layer that the output depends on, but whose gradients are not checked
hints.py         what a wrong gradient looks like: the likely cause, from evidence.py;  formulas.py  known operations
report.py        what was found: records, table, JSON
scope.py         what each check can see, and what it cannot; where the notebook explains a hint
pytest_plugin.py the fixture `gradcheck`;  watchdog.py  what ends a check that hangs, on the command line
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from siamese_np.gradcheck.check import assert_gradients, check_gradients
    from siamese_np.gradcheck.independent import InvalidReference, complex_step
    from siamese_np.gradcheck.report import Report

__all__ = ["InvalidReference", "Report", "assert_gradients", "check_gradients", "complex_step"]


_MODULE = {
    "InvalidReference": "independent",
    "Report": "report",
    "assert_gradients": "check",
    "check_gradients": "check",
    "complex_step": "independent",
}


def __getattr__(name: str) -> Any:  # on first use: pytest imports the plugin of this package whenever it starts
    if name in _MODULE:
        return getattr(import_module(f"{__name__}.{_MODULE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
