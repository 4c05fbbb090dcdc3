"""Layers add to their gradients, so that two branches can share one; each training step starts by setting them to 0.

Compiled: kernels/zero.py.
"""

import numpy as np


def fill_zero(out):
    """0 for every entry of out (P,)."""
    return np.zeros_like(out)
