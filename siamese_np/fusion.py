"""Layers that the compiled back end runs as one: convolution, ReLU and pooling in a row."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from siamese_np._contract import cache_argmax, cache_array, cache_parts, check_gradient
from siamese_np.backend import ops
from siamese_np.layer import Array, Layer, Shape
from siamese_np.layers import Conv2D, MaxPool2D, ReLU
from siamese_np.runtime import buffers


class ConvReLUPool:
    """Conv2D, ReLU and MaxPool2D(2) in a row as one operation: what `Sequential` makes of them.

    Gives the bits of the three layers' outputs and the same gradients, and never writes the largest array, the
    output of the convolution, to memory. Parameters stay with the convolution.

    Parameters
    ----------
    conv : Conv2D
    pool : MaxPool2D
        Of 2x2 windows that do not overlap: see `fits`.
    """

    def __init__(self, conv: Conv2D, pool: MaxPool2D) -> None:
        self.conv, self.pool = conv, pool

    @property
    def params(self) -> Any:
        return self.conv.params

    @property
    def grads(self) -> Any:
        return self.conv.grads

    @property
    def trainable(self) -> bool:
        return self.conv.trainable

    @staticmethod
    def fits(layers: Sequence[Layer]) -> bool:
        """Whether `layers` begin with a convolution, a ReLU and a 2x2 pooling with stride 2."""
        kinds = [type(layer) for layer in layers[:3]]
        pool = layers[2] if kinds == [Conv2D, ReLU, MaxPool2D] else None
        return isinstance(pool, MaxPool2D) and pool.stride == pool.window == (2, 2)

    def output_shape(self, shape: Shape) -> Shape:
        """As `Layer.output_shape`."""
        return self.pool.output_shape(self.conv.output_shape(shape))

    def forward(self, x: Array) -> tuple[Array, Any]:
        """As `Layer.forward`."""
        conv = self.conv
        x = conv._check(x)
        out = buffers.empty((len(x), *self.output_shape(x.shape[1:])), x.dtype)
        argmax = buffers.empty(out.shape, np.uint8)
        ops.conv_relu_pool_forward(out, argmax, x, conv._w, conv._b, conv.stride, conv.pad)
        return out, (argmax, x)

    def backward(self, dout: Array, cache: Any, need_dx: bool = True) -> Array | None:
        """As `Layer.backward`."""
        conv = self.conv
        argmax, x = cache_parts(self, cache, tuple, 2)
        x = cache_array(self, "x", x, (None, None, None, conv.channels), conv.dtype)
        out_shape = (len(x), *self.output_shape(x.shape[1:]))
        argmax = cache_argmax(self, argmax, out_shape, np.uint8, 5)  # 4: none of the window's entries
        dout = check_gradient(self, dout, out_shape, x.dtype)
        dx = buffers.empty((len(x) if need_dx else 0, *x.shape[1:]), x.dtype)
        ops.conv_relu_pool_backward(dx, *conv._added(), dout, argmax, x, conv._w, conv.stride, conv.pad)
        return dx if need_dx else None

    def __repr__(self) -> str:
        return f"{self.conv}, ReLU() and {self.pool} in one"


def fused(layers: Sequence[Layer]) -> tuple[Layer | ConvReLUPool, ...]:
    """The steps that `layers` amount to: convolution, ReLU and pooling in a row are one."""
    steps: list[Layer | ConvReLUPool] = []
    i = 0
    while i < len(layers):
        if ConvReLUPool.fits(layers[i:]):
            steps.append(ConvReLUPool(layers[i], layers[i + 2]))  # type: ignore[arg-type]
            i += 3
        else:
            steps.append(layers[i])
            i += 1
    return tuple(steps)
