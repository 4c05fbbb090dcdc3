"""How large the rounding errors of a function are, measured on the function.

The last operation alone costs eps * |out|. But sums inside may be far larger than what comes out of them:
E[x^2] - E[x]^2 at x = 1e4 is right to 8 digits only. So outputs are taken at equal distances along a line. Where the
function is straight, their fourth differences are 0, and what is left is rounding.

At the smallest distances an inner sum may not move at all; at the largest the function is curved, or has a kink. But
rounding errors have the same size at any distance: the smallest distance that agrees with a larger one counts.

Source: J. J. Moré, S. M. Wild, "Estimating computational noise", SIAM Journal on Scientific Computing 33, 2011.
"""

import numpy as np

from siamese_np.gradcheck.case import Array, Arrays, Broken, Case, Floats
from siamese_np.gradcheck.differences import EPS

DISTANCES = (1e-12, 1e-10, 1e-8, 1e-6, 1e-4, 1e-2)  # of neighbours, in units of the size of each array
POINTS = 7
ORDER = 4
ALIKE = 30  # two levels from so few points may differ by chance by this factor
OSCILLATES = 1e4  # so much less at a smaller distance, and it is no rounding: the points are too far apart
GAMMA = 1 / 70  # (4!)^2 / 8!: the variance of errors is so much of the mean square of fourth differences


def measured_noise(case: Case, sizes: dict[str, float], out: Array, rng: np.random.Generator) -> Floats:
    """(outputs,) standard deviation of the rounding errors of each output; 0 where none show.

    All arrays of the case are moved at once, in proportion to `sizes`, and put back.
    """
    # of many lengths: steps that are whole multiples of the last digit of a number would show no rounding of it
    direction = {name: sizes[name] * rng.uniform(-1.5, 1.5, array.shape) for name, array in case.arrays.items()}
    with case.restored() as saved:
        levels = np.array([_level(case, saved, direction, h, out) for h in DISTANCES])
    noise, silent = np.zeros(out.size), 4 * EPS * abs(out).ravel()
    for k in reversed(range(len(DISTANCES) - 1)):  # of distances that agree with a larger one, the smallest counts
        with np.errstate(all="ignore"):
            agree = (levels[k] > 0) & (levels[k + 1 :] <= ALIKE * levels[k]) & (levels[k] <= ALIKE * levels[k + 1 :])
            agree &= ~((levels[:k] > silent) & (levels[:k] < levels[k] / OSCILLATES)).any(axis=0)
        both = np.maximum(levels[k], np.where(agree, levels[k + 1 :], 0).max(axis=0))
        noise = np.where(agree.any(axis=0), both, noise)
    return noise


def _level(case: Case, saved: Arrays, direction: Arrays, h: float, out: Array) -> Floats:
    """(outputs,) the noise at points `h` apart, on one side of the point: it may lie on a kink."""
    moves: list[Array] = []
    for k in range(POINTS):
        for name, v in direction.items():
            np.add(saved[name], (k + 1) * h * v, out=case.arrays[name])
        try:
            moved = np.array(case.run()[0], float)
        except Broken:  # such a step leaves the domain: it tells nothing
            break
        if moved.shape != out.shape:
            break
        moves.append(moved.ravel())
    if len(moves) < POINTS:
        return np.full(out.size, np.nan)
    with np.errstate(all="ignore"):
        # the mean size, not that of the squares, which overflow
        noise: Floats = np.sqrt(GAMMA) * np.mean(abs(np.diff(np.array(moves) - out.ravel(), ORDER, axis=0)), axis=0)
    return noise
