"""The functions to call: the check of a layer, of a loss or of functions at a point."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from siamese_np.errors import OptionError
from siamese_np.gradcheck.adapters import (
    expect_float64,
    floats,
    function_case,
    is_loss,
    layer_case,
    loss_case,
    parameters,
)
from siamese_np.gradcheck.engine import Options, check_cases
from siamese_np.gradcheck.measure import TOLERANCE
from siamese_np.gradcheck.report import Report


def check_gradients(
    target: Any,
    *arrays: ArrayLike,
    backward: Callable[..., Any] | None = None,
    seed: int = 0,
    tolerance: float = TOLERANCE,
    strict: bool = False,
) -> Report:
    """Check the backward pass of a layer, of a loss or of a pair of functions at the point `arrays`.

    Parameters
    ----------
    target : object or callable
        A layer: ``forward(x) -> (out, cache)``, ``backward(dout, cache) -> dx`` and, where it has parameters,
        ``params`` and ``grads``, dicts (or lists) of float64 arrays; backward adds into grads, or writes them. Other
        arrays of the layer that the output depends on are named, and the verdict is at best INCONCLUSIVE. Or a loss:
        ``forward(emb, classes) -> (value, cache)`` or ``forward(dist, label)``, and ``backward(cache)``. Or,
        together with `backward`, a function ``target(*arrays) -> (out, cache)``; all else it uses is constant.
    *arrays : array_like
        The input of the layer, its first axis the batch; or the two arguments of the loss, of which the second is
        constant; or the arguments of the function. Real numbers, copied as float64.
    backward : callable, optional
        ``backward(dout, cache)`` returns the gradient of each of the arrays.
    seed : int
        Of the upstream gradient and all directions: the same seed gives the same report.
    tolerance : float, default 1e-6
        Largest error that passes, in [1e-9, 0.1): relative to the larger of the analytic and the numeric slope.
        Entries below a tenth of the largest in their array are held to it as far as differences can tell; those
        too small to be told to a thousandth are counted, and more than 5 % of them make INCONCLUSIVE.
    strict : bool
        Demand more than correct numbers: the contract of our own layers, whose breaches are notes otherwise. The
        same call gives the same bits, dout and arguments are left alone, a cache serves more than once, gradients of
        parameters are added to, memory layout changes nothing, a batch may hold one image or none.

    Returns
    -------
    Report
        Printed, it is a table; ``report.verdict`` is ``"PASS"``, ``"FAIL"`` or ``"INCONCLUSIVE"``.

    Raises
    ------
    OptionError, ShapeError
        The arguments are not as above. A fault of the pass itself is never raised but reported.

    Examples
    --------
    >>> import numpy as np
    >>> from siamese_np.gradcheck import check_gradients
    >>> check_gradients(lambda x: (np.sin(x), x), [0.1, 2.0], backward=lambda dout, x: dout * np.cos(x)).verdict
    'PASS'
    """
    if backward is None and is_loss(target):
        name = type(target).__name__
        if len(arrays) != 2:
            form = ", ".join(p.name for p in parameters(target.forward))
            raise OptionError(
                f"the loss {name} is checked at the two arrays of its forward({form}), not at {len(arrays)}"
            )
        case = loss_case(name, target, floats("array 0", arrays[0]), np.array(arrays[1]))
        return check_cases({name: [case]}, Options(seed, tolerance, strict))
    values = [floats(f"array {number}", array) for number, array in enumerate(arrays)]
    if backward is not None:
        name = getattr(target, "__name__", type(target).__name__).strip("<>")
        if not values:
            raise OptionError(f"there is nothing to check {name} at: give the arrays it is called with")
        case = function_case(name, target, backward, values)
    else:
        name = type(target).__name__
        if not (hasattr(target, "forward") and hasattr(target, "backward")):
            raise OptionError(f"a {name} has no methods forward and backward; give a function's backward as backward=")
        if len(values) != 1:
            raise OptionError(f"a layer is checked at one array, its input, not at {len(values)}")
        expect_float64(name, target)
        case = layer_case(name, target, values[0])
    return check_cases({name: [case]}, Options(seed, tolerance, strict))


def assert_gradients(
    target: Any,
    *arrays: ArrayLike,
    backward: Callable[..., Any] | None = None,
    seed: int = 0,
    tolerance: float = TOLERANCE,
    strict: bool = False,
) -> Report:
    """`check_gradients` for tests: anything but PASS is an AssertionError with the table of the worst entries.

    Parameters and return value are those of `check_gradients`.

    Raises
    ------
    AssertionError
        The verdict is FAIL or INCONCLUSIVE; the message is the report.
    """
    report = check_gradients(target, *arrays, backward=backward, seed=seed, tolerance=tolerance, strict=strict)
    if not report.passed:
        raise AssertionError(f"gradient check: {report.verdict}\n{report}")
    return report
