"""Checks without a step size: the adjoint identity, the dot-product test, the complex step, float32 against float64.

Adjoint identity: where the output depends on an array linearly (out = J v + constant), backward must apply J's
transpose, so for any v and y, <y, J v> = <J' y, v>, up to rounding. Whether it is linear is measured.

Dot-product test: where the user also gives J v, forward mode, the same identity must hold whether linear or not.

Complex step: f(x + ih) = f(x) + ih f'(x) - ..., so Im f(x + ih) / h is the derivative to the last digit for h = 1e-30.
The function must be analytic: abs, conjugate, or a maximum of complex numbers break it silently. So it is compared with
differences first, and refused as an invalid reference where the two disagree.

Sources: W. Squire, G. Trapp, SIAM Review 40, 1998 (complex step); J. Claerbout, "Earth Soundings Analysis", 1992
(the dot-product test).
"""

import warnings
from collections.abc import Callable

import numpy as np

from siamese_np.gradcheck import measure
from siamese_np.gradcheck.case import FAIL, INCONCLUSIVE, PASS, Array, Arrays, Broken, Case, Check, describe
from siamese_np.gradcheck.differences import SINGLE_EPS, SWEEP, differences, typical_sizes
from siamese_np.gradcheck.point import SAME_BITS, Point, signed, signs

TRIALS = 4
COMPLEX_STEP = 1e-30
MAX_COMPLEX = 2000  # entries: one evaluation of the reference each
SINGLE_ADJOINT = SINGLE_L2 = 1e-5  # relative error of float32 arrays as a whole
DOT_PRODUCT = 1e-9  # relative: J v and the gradient are computed in two ways


class InvalidReference(ValueError):
    """The function is not fit for the complex step; the message says why."""


def check_adjoint(
    case: Case, rng: np.random.Generator, allowed: float = SAME_BITS, tolerance: float = 0.0
) -> Check | None:
    """Test the adjoint identity in each array that the output is linear in, up to `allowed`; None if there is none."""
    wrong, linear = [], []
    sizes = typical_sizes(case.arrays)
    for name, array in case.arrays.items():
        point = array.copy()

        def output(value: Array, array: Array = array) -> Array:
            array[...] = value
            return case.run()[0].copy()  # it may be a view of the array

        def draw(like: Array, size: float) -> Array:
            # magnitudes differ: order statistics and votes are linear where all are equal
            return (size * signed(rng, like.shape)).astype(like.dtype)

        try:
            zero = output(np.zeros_like(point))
            u = draw(point, 0.7310585786 * sizes[name])  # no whole numbers: x + floor(x) is linear on those
            Ju, Jx, fault = output(u) - zero, output(point) - zero, ""
            # far away on both sides too: |x - c| is linear as long as x stays on one side of c
            far = 1e3 * max(sizes.values()) / sizes[name]
            scaled = [((output((t * u).astype(u.dtype)) - zero) / t, Ju) for t in (-1, far, -far)]
            for _ in range(TRIALS):
                v, y = draw(point, sizes[name]), draw(zero, 1.0)
                Jv = output(v) - zero
                moved = [*scaled, (output(u + v) - zero, Ju + Jv), (output(point + v) - zero, Jx + Jv)]
                size = sum(measure.norm(J) for J in (Ju, Jv, Jx))
                if not (Jv.any() and size < np.inf and all(measure.norm(a - b) <= allowed * size for a, b in moved)):
                    break
                gradient = case.gradients(y, case.run()[1])[name]
                forward, back = np.vdot(y.astype(float), Jv), np.vdot(gradient.astype(float), v)
                limit = max(allowed, tolerance) * measure.norm(Jv.astype(float)) * measure.norm(y)
                if not (fault or abs(forward - back) <= limit):
                    fault = f"<y, J v> = {forward:.10g} but <J' y, v> = {back:.10g} in {name}"
            else:
                linear.append(name)
                wrong += [fault] if fault else []
        except Broken:  # not defined everywhere, so not linear
            continue
        finally:
            array[...] = point
    if not linear:
        return None
    return Check("adjoint identity", FAIL if wrong else PASS, "; ".join(wrong) or "linear in " + ", ".join(linear))


def check_jvp(point: Point) -> Check | None:
    """Test <y, J v> = <J' y, v> with the J v that the user gives; None where none is given.

    Where they differ, differences along v say which of the two is wrong.
    """
    case, name = point.case, "dot product with jvp"
    if case.jvp is None:
        return None
    rng, allowed = np.random.default_rng(0), SINGLE_ADJOINT if point.single else DOT_PRODUCT
    for _ in range(TRIALS):
        v = {n: point.sizes[n] * signed(rng, a.shape) for n, a in case.arrays.items()}
        try:
            Jv = np.asarray(case.jvp(tuple(a.copy() for a in case.arrays.values()), tuple(v.values())), float)
        except Exception as error:
            return Check(name, INCONCLUSIVE, f"jvp raised {describe(error)}")
        if Jv.size != point.out.size:
            return Check(name, INCONCLUSIVE, f"jvp must return an array {point.out.shape}, but it has shape {Jv.shape}")
        forward, back = float((Jv.ravel() * point.dout.ravel()).sum()), point.along(v)
        limit = allowed * measure.norm(Jv) * measure.norm(point.dout)
        limit += sum(point.floors[n] * measure.norm(v[n]) for n in v)
        if not abs(forward - back) <= limit:
            slope = point.slopes(v).estimate(point.enough * abs(back)).value
            fault = "jvp" if abs(slope - back) < abs(slope - forward) else "backward"
            sides = f"<dout, J v> = {forward:.10g} but <gradient, v> = {back:.10g}"
            return Check(name, FAIL, f"{sides}; differences give {slope:.6g}, so {fault} is wrong")
    return Check(name, PASS)


def complex_step(
    function: Callable[[Arrays], Array],
    arrays: Arrays,
    dout: Array,
    seed: int = 0,
    smooth: Arrays | None = None,
) -> Arrays:
    """Gradients of sum(function(arrays) * dout) by the complex step, correct to about 15 digits.

    Parameters
    ----------
    function : callable
        Takes a dict like `arrays`, also with complex numbers in it, and returns the output.
    arrays : dict of str to float64 ndarray
    dout : ndarray
        Weights of the outputs.
    seed : int
        Of the directions in which the result is compared with differences.
    smooth : dict of str to bool ndarray, optional
        The entries to take, away from kinks; the gradient of the others is left at 0.

    Raises
    ------
    InvalidReference
        The function cannot be evaluated at complex numbers, or its complex step and its differences disagree.
    """
    gradients = {name: np.zeros_like(array) for name, array in arrays.items()}
    smooth = smooth or {name: np.ones(array.shape, bool) for name, array in arrays.items()}
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")  # an imaginary part that is dropped shows in the comparison below
            for name, array in arrays.items():
                moved = array.astype(complex)
                for index in map(tuple, np.argwhere(smooth[name])):
                    moved[index] += 1j * COMPLEX_STEP
                    out = np.asarray(function({**arrays, name: moved}))
                    gradients[name][index] = (out.imag * dout).sum() / COMPLEX_STEP
                    moved[index] = array[index]
    except Exception as error:
        raise InvalidReference(f"it cannot be evaluated at complex numbers: {type(error).__name__}: {error}") from error
    rng = np.random.default_rng(seed)
    case = Case("complex step", {n: a.copy() for n, a in arrays.items()}, lambda a: (function(a), None), lambda *_: {})
    out, sizes = case.run()[0].copy(), typical_sizes(arrays)
    for name, array in arrays.items():
        norm = float(np.linalg.norm(gradients[name]))
        for v in (np.ones_like(array), signs(rng, array.shape), signs(rng, array.shape)):
            v *= smooth[name]
            slopes = differences(case, {name: v}, out, dout, SWEEP, sizes[name])
            estimate = slopes.estimate(measure.TOLERANCE * measure.FLOOR * norm)
            claimed = float((gradients[name] * v).sum())
            verdict, _ = measure.evaluate(claimed, estimate, norm, measure.TOLERANCE, measure.TOLERANCE)
            if verdict == FAIL:
                raise InvalidReference(
                    f"its complex step and its differences disagree in {name}: {claimed:.6g} and {estimate.value:.6g}"
                )
    return gradients


def check_complex(point: Point) -> Check | None:
    """Compare the gradients with the complex step on the reference, away from kinks, and keep it at `point.exact`."""
    case = point.case
    if case.reference is None or sum(array.size for array in case.arrays.values()) > MAX_COMPLEX:
        return None
    off = abs(case.reference(case.arrays) - point.out).max(initial=0)
    if not off <= SAME_BITS * abs(point.out).max(initial=0):
        return Check("complex step", FAIL, f"the output differs from the reference's by {off:.2g}")
    smooth = {name: np.ones(array.shape, bool) for name, array in case.arrays.items()}
    for name, estimates in point.estimates.items():
        for index, estimate in estimates.items():
            smooth[name][index] = estimate.kink != "at"
    try:
        exact = point.exact = complex_step(case.reference, case.arrays, point.dout, smooth=smooth)
    except InvalidReference as error:
        return Check("complex step", INCONCLUSIVE, f"INVALID REFERENCE: {error}")
    for name, gradient in point.gradients.items():
        wrong = abs(gradient - exact[name])[smooth[name]].max(initial=0)
        if not wrong <= SAME_BITS * abs(exact[name]).max(initial=0):
            return Check("complex step", FAIL, f"the gradient of {name} is off by {wrong:.2g}")
    return Check("complex step", PASS)


def check_single(point: Point, rng: np.random.Generator) -> list[Check]:
    """Compare the pass in float32 with the float64 reference at the same inputs; without one, with itself in float64.

    Each array may be off by 1e-5 as a whole; beside a reference, each entry by the rounding of its sum, which grows
    with the root of its terms.
    """
    case = point.case
    if case.single is None:
        return []
    single = case.single({name: array.astype(np.float32) for name, array in case.arrays.items()})
    exact = {name: array.astype(np.float64) for name, array in single.arrays.items()}
    dout = point.dout.astype(np.float32)
    try:
        out, cache = single.run()
        ours = {"out": out, **single.gradients(dout, cache)}
        adjoint = check_adjoint(single, rng, SINGLE_ADJOINT)
    except Broken as error:
        return [Check("float32", FAIL, str(error))]
    if case.reference is not None and case.reference_backward is not None:
        expected = {"out": case.reference(exact), **case.reference_backward(exact, dout.astype(np.float64))}
    else:
        with case.restored():
            for name, array in case.arrays.items():
                array[...] = exact[name]
            out, cache = case.run()
            expected = {"out": out.copy(), **case.gradients(dout.astype(np.float64), cache)}
    wrong = []
    for name, reference in expected.items():
        if ours[name].ndim and ours[name].dtype != np.float32:
            wrong.append(f"{name} is {ours[name].dtype}")
            continue
        off, largest = abs(ours[name] - reference), abs(reference).max(initial=0)
        terms = case.reductions.get(name, 1) if case.reference is not None else np.inf
        budget = 4 * SINGLE_EPS * np.sqrt(terms) * largest
        if not np.linalg.norm(off) <= SINGLE_L2 * np.linalg.norm(reference) or not (off <= budget).all():
            wrong.append(f"{name} is off by {off.max():.2g}, where its sums allow {budget:.2g}")
    checks = [Check("float32 against float64", FAIL if wrong else PASS, "; ".join(wrong))]
    return checks + ([Check("adjoint identity in float32", adjoint.verdict, adjoint.remark)] if adjoint else [])
