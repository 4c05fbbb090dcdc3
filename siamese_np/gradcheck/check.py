"""The functions to call: the check of a layer, of a loss or of functions at a point."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from siamese_np.errors import OptionError
from siamese_np.gradcheck.adapters import object_case
from siamese_np.gradcheck.case import Case
from siamese_np.gradcheck.derivatives import gradient_case, jax_case, torch_case, torch_kind
from siamese_np.gradcheck.engine import Options, check_cases
from siamese_np.gradcheck.measure import TOLERANCE
from siamese_np.gradcheck.report import Report
from siamese_np.gradcheck.styles import both_ways, found_case


def check_gradients(
    target: Any,
    *arrays: Any,
    backward: Callable[..., Any] | None = None,
    grad: Callable[..., Any] | None = None,
    jac: Callable[..., Any] | None = None,
    jvp: Callable[..., Any] | None = None,
    seed: int = 0,
    tolerance: float = TOLERANCE,
    strict: bool = False,
    reseed: bool = False,
    entries: int | None = None,
    seconds: float | None = None,
    progress: bool = False,
) -> Report:
    """Check the backward pass of a layer, of a loss or of functions at the point `arrays`.

    Parameters
    ----------
    target : object or callable
        A layer, loss or network with methods such as ``forward`` and ``backward``: forward returns out, several
        outputs, or those and a cache; backward takes dout, or a cache too, or nothing. Gradients are returned in order
        or by name, or kept on the layer: ``dW`` beside ``W``, ``grads["W"]`` beside ``params["W"]``. The report says
        what was found, and names arrays that the output depends on and that have no gradient: at best INCONCLUSIVE.
        Or a function, with `backward`, `grad` or `jac`, or one that returns ``(loss, dx)``. Or what PyTorch and JAX
        differentiate: a module, a ``torch.autograd.Function``, a function.
    *arrays : array_like
        The arguments of forward. Floating-point numbers are copied as float64, and checked; all else is handed on.
    backward : callable, optional
        ``backward(dout, cache)`` returns the gradient of each of the arrays, None where there is none.
    grad, jac : callable, optional
        As in scipy.optimize: ``grad(*arrays)`` returns the gradient of a scalar function, or the derivative of each
        entry; ``jac(*arrays)`` the full Jacobian, ``(*out.shape, *array.shape)``. Of several arrays, a tuple.
    jvp : callable, optional
        ``jvp(arrays, directions)``, both tuples, returns J v. Backward is held to it: <dout, J v> = <gradient, v>.
    seed : int
        Of the upstream gradient and all directions: the same seed gives the same report.
    tolerance : float, default 1e-6
        Largest error that passes, in [1e-9, 0.1): relative to the larger of the analytic and the numeric slope, as
        `siamese_np.gradcheck.measure` explains. Small entries are held to their own size, as far as rounding lets them
        be judged. Of arrays of 5,000 entries and more a sample is, the others along directions, all together. Code in
        float32 is judged in float32: errors up to 8e-6, or up to its measured rounding, pass. More than 5 % of
        entries that are not decided make INCONCLUSIVE; of fewer than 20, one may be left, if it or the sum of all is
        known well enough. It is named.
    strict : bool
        Demand the contract of our own layers too (`siamese_np.gradcheck.contract`); its breaches are notes otherwise.
    reseed : bool, default False
        Seed ``numpy.random`` and ``random`` before each forward pass, for dropout that draws from them.
    entries : int, optional
        How many entries of each array are checked one by one; the rest along 8 directions through all of them. By
        default as many as 16,000 forward calls suffice for, in larger cases fewer, but at least 32.
    seconds : float, optional
        Time limit, looked at between calls. Fewer entries are checked to keep it; what is not reached makes the verdict
        INCONCLUSIVE unless something is wrong. The report then depends on the machine.
    progress : bool
        Show on standard error how far it is and how long it will take, if longer than 2 seconds.

    Returns
    -------
    Report
        Printed, it is a table; ``report.verdict`` is ``"PASS"``, ``"FAIL"`` or ``"INCONCLUSIVE"``. Ctrl-C ends the
        check with what was found until then: ``report.interrupted`` says so, and the verdict is not PASS.

    Raises
    ------
    OptionError, ShapeError
        The arguments are not as above, or nothing was found to check; the message says what to write.

    Examples
    --------
    >>> import numpy as np
    >>> from siamese_np.gradcheck import check_gradients
    >>> check_gradients(lambda x: (np.sin(x), x), [0.1, 2.0], backward=lambda dout, x: dout * np.cos(x)).verdict
    'PASS'
    >>> check_gradients(lambda x: (x**2).sum(), [0.1, 2.0], grad=lambda x: 2 * x).verdict
    'PASS'
    """
    case = replace(_case(target, arrays, backward, [way for way in (grad, jac) if way is not None]), jvp=jvp)
    options = Options(seed, tolerance, strict, reseed, entries, seconds, progress)
    return check_cases({case.name: [case]}, options)


def _case(target: Any, arrays: tuple[Any, ...], backward: Any, derivatives: list[Any]) -> Case:
    """What PyTorch or JAX differentiate, an object that goes forward and backward, or functions, as a case."""
    name = getattr(target, "__name__", type(target).__name__).strip("<>")
    given = [*derivatives, *([] if backward is None else [backward])]
    if not given:
        if torch_kind(target, arrays):
            return torch_case(name, target, arrays)
        both = all(both_ways(target))
        if arrays and callable(target) and (not both or type(target).__module__.startswith("jax")):
            found = jax_case(name, target, arrays)
            if found is not None:
                return found
        is_function = callable(target) and (hasattr(target, "__name__") or hasattr(target, "func"))
        if not isinstance(target, type) and (both or not is_function):
            return object_case(type(target).__name__, target, arrays)
    if isinstance(target, type):
        raise OptionError(f"{name} is a class: check an object of it, as {name}(...)")
    if len(given) > 1:
        raise OptionError("give one of backward, grad and jac: each says what the gradient is")
    if not arrays:
        raise OptionError(f"there is nothing to check {name} at: give the arrays it is called with")
    if not all(map(callable, (target, *given))):
        raise OptionError(f"{name} and its backward, grad or jac must be functions")
    if derivatives:
        return gradient_case(name, target, derivatives[0], arrays)
    return found_case(name, None, target, backward, arrays)


def assert_gradients(target: Any, *arrays: Any, **options: Any) -> Report:
    """`check_gradients` for tests: the report, or an AssertionError with it, after one line that says what is wrong.

    Ctrl-C, which ends a check early, is raised again with the report of what was found until then.
    """
    __tracebackhide__ = True  # pytest shows the line of the test
    report = check_gradients(target, *arrays, **options)
    if report.interrupted:
        raise KeyboardInterrupt(f"{report.headline}\n{report}")
    if not report.passed:
        raise AssertionError(f"{report.headline}\n{report}")
    return report
