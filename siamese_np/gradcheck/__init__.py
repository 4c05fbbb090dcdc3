"""Checks backward passes, ours and anybody's, against everything that is known about them.

case.py          what is checked: a forward and backward pass, and the arrays it depends on
differences.py   slopes by central differences over many steps, and where they can be trusted
measure.py       how wrong is wrong: PASS, FAIL, or INCONCLUSIVE
entries.py       the gradient of one array, entry by entry
kinks.py         ties and kinks, where the slope is an interval
oracles.py       witnesses without a step size: adjoint identity, complex step, float32 against float64
structure.py     what must hold exactly: same bits twice, linear in dout, caches kept apart ...
unchecked.py     arrays of a layer that the output depends on, but whose gradients are not checked
hints.py         what a wrong gradient looks like: the likely cause
check.py         all of these in a row;  results.py  what they found
adapters.py, targets.py, api.py          from a layer, a function or a name to cases
operations.py, networks.py, references.py     the cases of this package
report.py, curve.py                      the table, the V-curve, JSON
"""

from siamese_np.gradcheck.api import assert_gradients, check_gradients, check_target
from siamese_np.gradcheck.oracles import InvalidOracle, complex_step
from siamese_np.gradcheck.results import Report

__all__ = ["InvalidOracle", "Report", "assert_gradients", "check_gradients", "check_target", "complex_step"]
