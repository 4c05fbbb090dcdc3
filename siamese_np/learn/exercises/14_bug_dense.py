"""Find the bug: a dense layer.

Someone trains with this backward pass. The loss falls, more slowly than it should. `siamese-np learn check` says what
the numbers look like; mend the line that makes them so. The formulas are those of exercise 1.

Shapes.    x (N, D), w (D, E), dout (N, E)  ->  dx (N, D), dw (D, E), db (E,)

Read: notebooks/gradient-checking.ipynb, section "3. A planted bug"
Hint: The mean over a batch is taken once, by the loss. Who takes it here a second time?
"""

import numpy as np


def dense_backward(dout, cache):
    """dx, dw, db from dout."""
    x, w = cache
    dx = dout @ w.T
    dw = x.T @ dout
    db = dout.mean(axis=0)
    return dx, dw, db
