"""A numeric derivative of your own: what a gradient checker compares with.

    df/dx[k]  is about  (f(x + h in entry k) - f(x - h in entry k)) / (2 h)

Going to both sides matters. To one side, (f(x + h) - f(x)) / h, the error is about h times half the curvature. To both
sides the curvature cancels, and the error is of the order of h^2. But h must not be too small: f(x) has some 16 digits,
and the difference of two numbers that are nearly the same has fewer. In float64 h = 1e-5 is a good step to both sides.

Shapes.    function takes x, an array of any shape, and returns one number  ->  the gradient, an array like x
           Ten digits must be right. x is as before when you return.

Example.   f(x) = x0^2 + 3 x1 at x = [2, 5]: [4, 3].

Read: notebooks/gradient-checking.ipynb, section "1. A slope from two points"
Hint: for index in np.ndindex(x.shape) walks over the entries of any shape.
Hint: Work on a copy of x; put the entry back before you go on to the next.
"""

import numpy as np


def numeric_gradient(function, x):
    """The gradient of function at x."""
    raise NotImplementedError
