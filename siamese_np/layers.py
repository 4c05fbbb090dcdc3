"""The layers: they own parameters, check shapes once, allocate, and hand the work to kernels.

Contract: ``out, cache = layer.forward(x)`` and ``dx = layer.backward(dout, cache)``. The cache is returned and
never kept on the layer, so one layer can serve several branches; backward adds into the arrays of
``layer.grads``. Images are (N, H, W, C), vectors (N, D); arrays are C-contiguous and of the layer's dtype.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from siamese_np._checks import (
    FLOATS,
    as_array,
    cache_argmax,
    cache_array,
    cache_parts,
    cache_shape,
    check_gradient,
    is_array,
    is_whole,
)
from siamese_np.backend import ops
from siamese_np.errors import OptionError, ShapeError
from siamese_np.runtime import buffers, scheduler

Array = NDArray[np.floating]
Shape = tuple[int, ...]

# Smallest shard of a batch: below it, starting a thread costs more than it saves.
IMAGES, ROWS, NUMBERS = 4, 32, 1 << 15


class Layer:
    """Base of all layers: no parameters, any floating dtype.

    Attributes
    ----------
    params, grads : dict of str to ndarray
        The parameters (``"w"``, ``"b"``) and, under the same names, their gradients.
    """

    def __init__(self) -> None:
        self._use({})

    def _use(self, params: dict[str, Array]) -> None:
        """Work with `params` from now on, and with gradients of their shapes and dtypes, zero at first."""
        self.params = params
        self.grads = {name: np.zeros_like(value) for name, value in params.items()}
        self._made = {name: (value.shape, value.dtype) for name, value in params.items()}

    def output_shape(self, shape: Shape) -> Shape:
        """Shape of one output (without N) for one input of `shape`; ShapeError where it does not fit."""
        return shape

    def forward(self, x: Array) -> tuple[Array, Any]:
        """Return the output and what backward needs to know."""
        raise NotImplementedError

    def backward(self, dout: Array, cache: Any, need_dx: bool = True) -> Array | None:
        """Add to ``grads`` and return dx, the gradient of the input (None unless `need_dx`)."""
        raise NotImplementedError

    def _check(self, x: Array) -> Array:
        """`x` as a C-contiguous array of this layer's dtype, or a ShapeError."""
        self._check_params()
        x = as_array(f"the input of {self}", x)
        expected = self.params["w"].dtype if self.params else x.dtype
        if x.dtype != expected or x.dtype not in FLOATS:
            wanted = expected if expected in FLOATS else "float32 or float64"
            raise ShapeError(f"{self} needs its input as {wanted}, not {x.dtype}")
        if x.ndim < 2:
            raise ShapeError(f"{self} needs its input as a batch, (N, ...), not as {x.shape}")
        self.output_shape(x.shape[1:])
        return np.ascontiguousarray(x)

    def _check_params(self) -> None:
        """Kernels trust parameters and gradients: demand that they are as they were made, or raise a ShapeError."""
        for name, (shape, dtype) in self._made.items():
            for kind, arrays in (("params", self.params), ("grads", self.grads)):
                array: Any = arrays.get(name)
                fits = is_array(array) and (array.shape, array.dtype) == (shape, dtype)
                if not fits or not array.flags.c_contiguous or not (array.flags.writeable or kind == "params"):
                    raise ShapeError(
                        f'{self} needs {kind}["{name}"] as a C-contiguous array {shape} of {dtype} '
                        f'that can be written, as it was made; copy yours into it: layer.{kind}["{name}"][:] = ...'
                    )

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class _Weighted(Layer):
    """A layer with weights ``w``, drawn Glorot-uniform, and biases ``b``, zero."""

    def _make(self, w_shape: Shape, fan_in: int, fan_out: int, seed: Any, dtype: DTypeLike) -> None:
        # X. Glorot, Y. Bengio, AISTATS 2010, equation 16
        limit = np.sqrt(6 / (fan_in + fan_out))
        w = np.random.default_rng(seed).uniform(-limit, limit, w_shape)
        self._use({"w": w.astype(dtype), "b": np.zeros(w_shape[-1], dtype)})


class Conv2D(_Weighted):
    """2-D convolution (cross-correlation) with bias.

    Parameters
    ----------
    channels : int
        Channels C of the input.
    filters : int
        Filters F, the channels of the output.
    kernel_size : int or (int, int), default 3
        KH, KW.
    stride : int or (int, int), default 1
    pad : int, (int, int) or "same", default 0
        Zeros added on each side; "same" keeps the image size (odd kernels, stride 1).
    seed : int, SeedSequence or Generator, optional
        Seed of the Glorot-uniform weights.
    dtype : dtype, default float32
        float32 or float64.

    Notes
    -----
    Weights are (KH, KW, C, F), as in Keras. ``OH = (H + 2 pad - KH) // stride + 1``.
    """

    def __init__(
        self,
        channels: int,
        filters: int,
        kernel_size: int | Sequence[int] = 3,
        stride: int | Sequence[int] = 1,
        pad: int | Sequence[int] | str = 0,
        seed: Any = None,
        dtype: DTypeLike = np.float32,
    ) -> None:
        super().__init__()
        KH, KW = self.kernel_size = _pair("kernel_size", kernel_size, 1)
        self.stride = _pair("stride", stride, 1)
        if isinstance(pad, str):
            if pad != "same" or self.stride != (1, 1) or KH % 2 == 0 or KW % 2 == 0:
                raise OptionError('pad must be a number, a pair, or "same" (odd kernels, stride 1 only)')
            pad = (KH // 2, KW // 2)
        self.pad = _pair("pad", pad, 0)
        self.channels = _at_least("channels", channels, 1)
        self.filters = _at_least("filters", filters, 1)
        self._make((KH, KW, channels, filters), KH * KW * channels, KH * KW * filters, seed, _float(dtype))

    def output_shape(self, shape: Shape) -> Shape:
        if len(shape) != 3 or shape[2] != self.channels:
            raise ShapeError(f"{self} needs images (N, H, W, {self.channels}), not {('N', *shape)}")
        size = tuple(
            (length + 2 * pad - window) // stride + 1
            for length, window, stride, pad in zip(shape[:2], self.kernel_size, self.stride, self.pad, strict=True)
        )
        if min(size) < 1:
            raise ShapeError(f"{self} is larger than its padded input of {shape[0]}x{shape[1]} pixels")
        return (*size, self.filters)

    def forward(self, x: Array) -> tuple[Array, Array]:
        x = self._check(x)
        w, b = self.params["w"], self.params["b"]
        out = buffers.empty((len(x), *self.output_shape(x.shape[1:])), x.dtype)
        scheduler.wake()
        ops.conv2d_forward(out, x, w, b, self.stride, self.pad)
        return out, x

    def backward(self, dout: Array, cache: Array, need_dx: bool = True) -> Array | None:
        self._check_params()
        x = cache_array(self, "x", cache, (None, None, None, self.channels), self.params["w"].dtype)
        dout = check_gradient(self, dout, (len(x), *self.output_shape(x.shape[1:])), x.dtype)
        dx = buffers.empty((len(x) if need_dx else 0, *x.shape[1:]), x.dtype)
        scheduler.wake()
        ops.conv2d_backward(
            dx, self.grads["w"], self.grads["b"], dout, x, self.params["w"], self.stride, self.pad
        )  # fmt: skip
        return dx if need_dx else None

    def __repr__(self) -> str:
        KH, KW = self.kernel_size
        return f"Conv2D({self.channels}, {self.filters}, {KH}x{KW}, stride={self.stride}, pad={self.pad})"


class MaxPool2D(Layer):
    """2-D max-pooling without padding; a tie goes to the first maximum in row-major order.

    Parameters
    ----------
    window : int or (int, int), default 2
    stride : int or (int, int), optional
        By default the window, so that windows do not overlap.
    """

    def __init__(self, window: int | Sequence[int] = 2, stride: int | Sequence[int] | None = None) -> None:
        super().__init__()
        self.window = _pair("window", window, 1)
        self.stride = self.window if stride is None else _pair("stride", stride, 1)
        # one byte an entry, where the numbers of a window's entries fit
        self.argmax_dtype = np.uint8 if self.window[0] * self.window[1] < 256 else np.int32

    def output_shape(self, shape: Shape) -> Shape:
        if len(shape) != 3:
            raise ShapeError(f"{self} needs images (N, H, W, C), not {('N', *shape)}")
        size = tuple((n - w) // s + 1 for n, w, s in zip(shape[:2], self.window, self.stride, strict=True))
        if min(size) < 1:
            raise ShapeError(f"{self} is larger than its input of {shape[0]}x{shape[1]} pixels")
        return (*size, shape[2])

    def forward(self, x: Array) -> tuple[Array, Any]:
        x = self._check(x)
        out = buffers.empty((len(x), *self.output_shape(x.shape[1:])), x.dtype)
        argmax = buffers.empty(out.shape, self.argmax_dtype)
        parts = scheduler.shards(len(x), IMAGES)

        def shard(s: int) -> None:
            here = parts[s]
            ops.maxpool2d_forward(out[here], argmax[here], x[here], self.window, self.stride)

        scheduler.run(shard, len(parts))
        return out, (argmax, x.shape)

    def backward(self, dout: Array, cache: Any, need_dx: bool = True) -> Array | None:
        argmax, x_shape = cache_parts(self, cache, tuple, 2)
        N, *shape = cache_shape(self, x_shape)
        out_shape = (N, *self.output_shape(tuple(shape)))
        argmax = cache_argmax(self, argmax, out_shape, self.argmax_dtype, self.window[0] * self.window[1])
        dout = check_gradient(self, dout, out_shape)
        if not need_dx:
            return None
        dx = buffers.empty(x_shape, dout.dtype)
        parts = scheduler.shards(len(dout), IMAGES)

        def shard(s: int) -> None:
            here = parts[s]
            ops.maxpool2d_backward(dx[here], dout[here], argmax[here], dx[here].shape, self.window, self.stride)

        scheduler.run(shard, len(parts))
        return dx

    def __repr__(self) -> str:
        return f"MaxPool2D({self.window[0]}x{self.window[1]}, stride={self.stride})"


class ReLU(Layer):
    """max(x, 0), element by element; the slope at 0 is 0."""

    def forward(self, x: Array) -> tuple[Array, Array]:
        x = self._check(x)
        out = buffers.empty_like(x)
        flat, flat_out = x.reshape(-1), out.reshape(-1)
        parts = scheduler.shards(x.size, NUMBERS)
        scheduler.run(lambda s: ops.relu_forward(flat_out[parts[s]], flat[parts[s]]), len(parts))
        return out, out

    def backward(self, dout: Array, cache: Array, need_dx: bool = True) -> Array | None:
        out = cache_array(self, "out", cache, None)
        dout = check_gradient(self, dout, out.shape, out.dtype)
        if not need_dx:
            return None
        dx = buffers.empty_like(dout)
        flat, flat_dout, flat_out = dx.reshape(-1), dout.reshape(-1), out.reshape(-1)
        parts = scheduler.shards(dout.size, NUMBERS)

        def shard(s: int) -> None:
            here = parts[s]
            ops.relu_backward(flat[here], flat_dout[here], flat_out[here])

        scheduler.run(shard, len(parts))
        return dx


class Flatten(Layer):
    """(N, H, W, C) to (N, H*W*C), without a copy."""

    def output_shape(self, shape: Shape) -> Shape:
        return (math.prod(shape),)

    def forward(self, x: Array) -> tuple[Array, Shape]:
        x = self._check(x)
        return x.reshape(len(x), *self.output_shape(x.shape[1:])), x.shape

    def backward(self, dout: Array, cache: Shape, need_dx: bool = True) -> Array | None:
        N, *shape = cache_shape(self, cache)
        return check_gradient(self, dout, (N, *self.output_shape(tuple(shape)))).reshape(cache)


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
        self.conv, self.pool, self.params = conv, pool, conv.params

    @staticmethod
    def fits(layers: Sequence[Layer]) -> bool:
        """Whether `layers` begin with a convolution, a ReLU and a 2x2 pooling with stride 2."""
        kinds = [type(layer) for layer in layers[:3]]
        pool = layers[2] if kinds == [Conv2D, ReLU, MaxPool2D] else None
        return isinstance(pool, MaxPool2D) and pool.stride == pool.window == (2, 2)

    def forward(self, x: Array) -> tuple[Array, Any]:
        """As `Layer.forward`."""
        conv = self.conv
        x = conv._check(x)
        w, b = conv.params["w"], conv.params["b"]
        out = buffers.empty((len(x), *self.pool.output_shape(conv.output_shape(x.shape[1:]))), x.dtype)
        argmax = buffers.empty(out.shape, np.uint8)
        scheduler.wake()
        ops.conv_relu_pool_forward(out, argmax, x, w, b, conv.stride, conv.pad)
        return out, (argmax, x)

    def backward(self, dout: Array, cache: Any, need_dx: bool = True) -> Array | None:
        """As `Layer.backward`."""
        conv = self.conv
        conv._check_params()
        argmax, x = cache_parts(self, cache, tuple, 2)
        x = cache_array(self, "x", x, (None, None, None, conv.channels), conv.params["w"].dtype)
        out_shape = (len(x), *self.pool.output_shape(conv.output_shape(x.shape[1:])))
        argmax = cache_argmax(self, argmax, out_shape, np.uint8, 5)  # 4: none of the window's entries
        dout = check_gradient(self, dout, out_shape, x.dtype)
        dx = buffers.empty((len(x) if need_dx else 0, *x.shape[1:]), x.dtype)
        scheduler.wake()
        ops.conv_relu_pool_backward(
            dx, conv.grads["w"], conv.grads["b"], dout, argmax, x, conv.params["w"], conv.stride, conv.pad
        )
        return dx if need_dx else None

    def __repr__(self) -> str:
        return f"{self.conv}, ReLU() and {self.pool} in one"


class Dense(_Weighted):
    """Fully connected layer: x @ w + b.

    Parameters
    ----------
    features : int
        Features D of the input.
    units : int
        Features E of the output.
    seed : int, SeedSequence or Generator, optional
        Seed of the Glorot-uniform weights.
    dtype : dtype, default float32
        float32 or float64.

    Notes
    -----
    Weights are (D, E), as in Keras.
    """

    def __init__(self, features: int, units: int, seed: Any = None, dtype: DTypeLike = np.float32) -> None:
        super().__init__()
        self.features = _at_least("features", features, 1)
        self.units = _at_least("units", units, 1)
        self._make((features, units), features, units, seed, _float(dtype))

    def output_shape(self, shape: Shape) -> Shape:
        if shape != (self.features,):
            raise ShapeError(f"{self} needs vectors (N, {self.features}), not {('N', *shape)}")
        return (self.units,)

    def forward(self, x: Array) -> tuple[Array, Array]:
        x = self._check(x)
        out = buffers.empty((len(x), self.units), x.dtype)
        scheduler.wake()
        ops.dense_forward(out, x, self.params["w"], self.params["b"])
        return out, x

    def backward(self, dout: Array, cache: Array, need_dx: bool = True) -> Array | None:
        self._check_params()
        x = cache_array(self, "x", cache, (None, self.features), self.params["w"].dtype)
        dout = check_gradient(self, dout, (len(x), self.units), x.dtype)
        dx = buffers.empty((len(x) if need_dx else 0, self.features), x.dtype)
        scheduler.wake()
        ops.dense_backward(dx, self.grads["w"], self.grads["b"], dout, x, self.params["w"])
        return dx if need_dx else None

    def __repr__(self) -> str:
        return f"Dense({self.features}, {self.units})"


def _pair(name: str, value: int | Sequence[int], least: int) -> tuple[int, int]:
    pair = value if isinstance(value, (tuple, list)) else (value, value)
    if len(pair) != 2:
        raise OptionError(f"{name} must be one number or two (rows, columns), not {value!r}")
    return _at_least(name, pair[0], least), _at_least(name, pair[1], least)


def _at_least(name: str, value: Any, least: int) -> int:
    if not is_whole(value) or value < least:
        raise OptionError(f"{name} must be a whole number of at least {least}, not {value!r}")
    return int(value)


def _float(dtype: DTypeLike) -> np.dtype[Any]:
    try:
        found = np.dtype(dtype)
    except TypeError:
        raise OptionError(f"dtype must be float32 or float64, not {dtype!r}") from None
    if found not in (np.float32, np.float64):
        raise OptionError(f"dtype must be float32 or float64, not {found}")
    return found
