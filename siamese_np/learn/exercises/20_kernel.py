"""A kernel of your own: a convolution in plain loops, compiled by Numba.

The kernels of this package write into their first argument; they allocate nothing and check nothing. Numba's njit
compiles loops over numbers to machine code: what is slow in Python is fast here. Speed is the next exercise; this one
is about being right.

    out[n, i, j, f] = b[f] + sum over p, q, c of  x[n, i + p - 1, j + q - 1, c] * w[p, q, c, f]

with x = 0 outside the image: a window of 3 x 3, stride 1, padding 1. Write all of out; it holds NaN when you get it.

Shapes.    out (N, H, W, F), x (N, H, W, C), w (3, 3, C, F), b (F,), all float32; stride and pad are (1, 1)

The decorator puts the kernel on the ladder: `siamese-np bench --rung 20_kernel.py` times it beside the package's own.

Read: notebooks/build-your-own-layer.ipynb, section "4. A kernel of your own"
Hint: Seven loops: n, i, j, f, then p, q, c. Start the sum with b[f], store it when the three inner loops are done.
Hint: Inside the loops: row = i + p - 1, column = j + q - 1; skip what is not 0 <= row < H and 0 <= column < W.
"""

from numba import njit

from siamese_np.ladder.rung import rung


@rung("conv2d_forward", name="my first")
@njit
def conv2d_forward(out, x, w, b, stride, pad):
    """out = the convolution of x with w, plus b."""
    raise NotImplementedError
