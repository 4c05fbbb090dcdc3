"""Checks a backward pass against central differences in float64.

For a function with arrays in and an array out, and a random upstream gradient dout, the scalar sum(out * dout)
has the gradient that backward must return. Central differences measure it entry by entry:

    (f(x + h) - f(x - h)) / 2h = f'(x) + O(h^2)

The error is measured relative to the largest gradient of each array, so scaling the function changes nothing,
and nothing small passes for being small.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

STEP = 1e-6  # near the cube root of float64's precision, where truncation and rounding balance


def numeric_gradient(function: Callable[[], float], x: Array, step: float = STEP) -> Array:
    """Central differences of `function`, which reads `x`, in every entry of `x`.

    Parameters
    ----------
    function : callable
        Takes nothing, returns a number that depends on the array `x`.
    x : ndarray of float64
        Changed entry by entry while the function is called, and put back.
    step : float
        h, relative to max(1, |entry|).
    """
    slopes = np.empty_like(x)
    for index in np.ndindex(x.shape):
        entry = x[index]
        h = step * max(1.0, float(abs(entry)))
        x[index] = entry + h
        above = function()
        x[index] = entry - h
        below = function()
        x[index] = entry
        slopes[index] = (above - below) / (2 * h)
    return slopes


def gradient_error(analytic: Array, numeric: Array) -> float:
    """Largest difference of two gradients, relative to the largest entry of either; infinite for NaN.

    Two gradients that are zero throughout agree (0.0), but say nothing: do not check at such a point.
    """
    if analytic.shape != numeric.shape or not (np.isfinite(analytic).all() and np.isfinite(numeric).all()):
        return np.inf
    scale = max(abs(analytic).max(initial=0), abs(numeric).max(initial=0))
    return float(abs(analytic - numeric).max(initial=0) / scale) if scale else 0.0


def check_gradients(
    forward: Callable[[], Array],
    backward: Callable[[Array], Sequence[Array]],
    arrays: Sequence[Array],
    seed: int = 0,
    tolerance: float = 1e-6,
) -> float:
    """Compare `backward` with central differences of `forward` in every entry of every array.

    Parameters
    ----------
    forward : callable
        Takes nothing and returns the output computed from the present values of `arrays`.
    backward : callable
        Takes dout, of the output's shape, and returns the gradient of each of `arrays`.
    arrays : sequence of float64 arrays
    seed : int
        Of the random upstream gradient dout.
    tolerance : float
        Largest `gradient_error` that passes.

    Returns
    -------
    float
        The largest error.

    Raises
    ------
    AssertionError
        Naming the array and the entry that is furthest off.
    """
    dout = np.random.default_rng(seed).standard_normal(np.shape(forward()))
    worst = 0.0
    for number, (x, analytic) in enumerate(zip(arrays, backward(dout), strict=True)):
        numeric = numeric_gradient(lambda: float((forward() * dout).sum()), x)
        error = gradient_error(np.asarray(analytic), numeric)
        if not error <= tolerance:
            at = np.unravel_index(np.argmax(abs(analytic - numeric)), x.shape) if error < np.inf else ()
            where = f" at {tuple(map(int, at))}: {analytic[at]} instead of {numeric[at]}" if at else ""
            raise AssertionError(f"the gradient of array {number} is wrong{where} (error {error:.2e})")
        worst = max(worst, error)
    return worst
