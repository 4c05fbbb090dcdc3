"""Arrays that the output depends on, but whose gradients are not checked: a check without them is no PASS.

Every floating-point array that can be reached from a layer is moved, and the output says whether it matters. Caches and
gradients do not move it, and what is checked is put back before the output is looked at.
"""

import numpy as np

from siamese_np.gradcheck.case import INCONCLUSIVE, PASS, Array, Broken, Check
from siamese_np.gradcheck.objects import RECIPE, arrays_of, text
from siamese_np.gradcheck.point import Point, signs

MOVES = (1e-3, 1.0)  # of the size of an array: less than a step of a threshold, and more
MAX_NAMED = 4


def check_owner(point: Point) -> Check | None:
    """Whether the output depends on no array of the layer but those that are checked; None without a layer."""
    if point.case.owner is None:
        return None
    found = [text(path) for path, array in arrays_of(point.case.owner).items() if _moves_output(point, array)]
    if not found:
        return Check("arrays of the layer", PASS)
    named = ", ".join(found[:MAX_NAMED]) + (f" and {len(found) - MAX_NAMED} more" if found[MAX_NAMED:] else "")
    are, their = ("is an array", "its gradient is") if len(found) == 1 else ("are arrays", "their gradients are")
    return Check(
        "arrays of the layer",
        INCONCLUSIVE,
        f"{named} {are} that the output depends on, but not in params: {their} not checked; keep the gradient of w on "
        "the layer as dw or grads['w'], or, where they are constants, check the functions layer.forward and "
        f"layer.backward; else{RECIPE.removeprefix(';')}",
    )


def _moves_output(point: Point, array: Array) -> bool:
    """Whether the output changes with the part of `array` that is not checked."""
    case = point.case
    while not array.flags.writeable and isinstance(array.base, np.ndarray):
        array = array.base
    locked = not array.flags.writeable
    try:
        array.flags.writeable = True
    except ValueError:  # nobody can tell without moving it
        return True
    kept = array.copy()
    away = (float(np.sqrt(np.mean(np.square(abs(kept))))) or 1.0) * signs(np.random.default_rng(0), kept.shape)
    with case.restored() as checked:
        try:
            for size in MOVES:
                array[...] = kept + size * away
                for name, before in checked.items():
                    case.arrays[name][...] = before
                if np.array_equal(array, kept, equal_nan=True):
                    return False
                if not np.array_equal(case.run()[0], point.out):
                    return True
        except Broken:
            return True
        finally:
            array[...] = kept
            array.flags.writeable = not locked
    return False
