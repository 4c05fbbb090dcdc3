"""The layers, one after another: they check shapes once, allocate, and hand the work to kernels (`ops`)."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from siamese_np._checks import as_dtype, as_flag, check_lengths, is_whole, seeded
from siamese_np._contract import cache_argmax, cache_array, cache_parts, cache_shape, check_gradient
from siamese_np.backend import ops
from siamese_np.description import register_layer
from siamese_np.errors import OptionError, ShapeError
from siamese_np.layer import Array, Layer, Shape
from siamese_np.runtime import buffers

MAX_SIZE = (1 << 31) - 1  # of a window, a stride or a number of features: kernels compute with 64 bits


class _Weighted(Layer):
    """A layer with weights ``w``, drawn Glorot-uniform, and biases ``b``, zero."""

    def _make(self, shapes: dict[str, Shape], fan_in: int, fan_out: int, seed: Any, dtype: DTypeLike) -> None:
        # X. Glorot, Y. Bengio, AISTATS 2010, equation 16
        limit = np.sqrt(6 / (fan_in + fan_out))
        w = seeded(np.random.default_rng, seed).uniform(-limit, limit, shapes["w"])
        self.params = {"w": w.astype(dtype), "b": np.zeros(shapes["b"], dtype)}

    @property
    def _w(self) -> Array:
        return self._params.kept["w"]

    @property
    def _b(self) -> Array:
        return self._params.kept["b"]

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the parameters and so of the input, float32 or float64."""
        return self._w.dtype

    def _added(self) -> tuple[Array, Array]:
        """Where backward adds the gradients of w and b; those of a frozen layer are thrown away."""
        dw, db = self._grads.kept["w"], self._grads.kept["b"]
        return (dw, db) if self.trainable else (np.zeros_like(dw), np.zeros_like(db))


@register_layer
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

    Examples
    --------
    >>> Conv2D(1, 8, pad="same").output_shape((28, 28, 1)), Conv2D(1, 8).params["w"].shape
    ((28, 28, 8), (3, 3, 1, 8))
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
        shapes = self.param_shapes(channels, filters, self.kernel_size)
        self.channels, self.filters = shapes["w"][2:]
        self._make(shapes, KH * KW * self.channels, KH * KW * self.filters, seed, as_dtype(dtype))

    @classmethod
    def param_shapes(
        cls, channels: int, filters: int, kernel_size: int | Sequence[int] = 3, **_: Any
    ) -> dict[str, Shape]:
        C, F = _at_least("channels", channels, 1), _at_least("filters", filters, 1)
        return {"w": (*_pair("kernel_size", kernel_size, 1), C, F), "b": (F,)}

    def output_shape(self, shape: Shape) -> Shape:
        shape = check_lengths(shape)
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
        out = buffers.empty((len(x), *self.output_shape(x.shape[1:])), x.dtype)
        ops.conv2d_forward(out, x, self._w, self._b, self.stride, self.pad)
        return out, x

    def backward(self, dout: Array, cache: Array, need_dx: bool = True) -> Array | None:
        need_dx = as_flag("need_dx", need_dx)
        x = cache_array(self, "x", cache, (None, None, None, self.channels), self.dtype)
        dout = check_gradient(self, dout, (len(x), *self.output_shape(x.shape[1:])), x.dtype)
        dx = buffers.empty((len(x) if need_dx else 0, *x.shape[1:]), x.dtype)
        ops.conv2d_backward(dx, *self._added(), dout, x, self._w, self.stride, self.pad)
        return dx if need_dx else None

    def __repr__(self) -> str:
        KH, KW = self.kernel_size
        return f"Conv2D({self.channels}, {self.filters}, {KH}x{KW}, stride={self.stride}, pad={self.pad})"


class _Pool2D(Layer):
    """A layer that makes one number of each window of an image, without padding."""

    def __init__(self, window: int | Sequence[int] = 2, stride: int | Sequence[int] | None = None) -> None:
        super().__init__()
        self.window = _pair("window", window, 1)
        self.stride = self.window if stride is None else _pair("stride", stride, 1)

    def output_shape(self, shape: Shape) -> Shape:
        shape = check_lengths(shape)
        if len(shape) != 3:
            raise ShapeError(f"{self} needs images (N, H, W, C), not {('N', *shape)}")
        size = tuple((n - w) // s + 1 for n, w, s in zip(shape[:2], self.window, self.stride, strict=True))
        if min(size) < 1:
            raise ShapeError(f"{self} is larger than its input of {shape[0]}x{shape[1]} pixels")
        return (*size, shape[2])

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.window[0]}x{self.window[1]}, stride={self.stride})"


@register_layer
class MaxPool2D(_Pool2D):
    """2-D max-pooling without padding; a tie goes to the first maximum in row-major order.

    Parameters
    ----------
    window : int or (int, int), default 2
    stride : int or (int, int), optional
        By default the window, so that windows do not overlap.

    Examples
    --------
    >>> MaxPool2D().forward(np.arange(8.0).reshape(1, 2, 4, 1))[0].ravel().tolist()
    [5.0, 7.0]
    """

    @property
    def argmax_dtype(self) -> type[np.integer]:
        """One byte an entry, where the numbers of a window's entries fit."""
        return np.uint8 if self.window[0] * self.window[1] < 256 else np.int32

    def forward(self, x: Array) -> tuple[Array, Any]:
        x = self._check(x)
        out = buffers.empty((len(x), *self.output_shape(x.shape[1:])), x.dtype)
        argmax = buffers.empty(out.shape, self.argmax_dtype)
        ops.maxpool2d_forward(out, argmax, x, self.window, self.stride)
        return out, (argmax, x.shape)

    def backward(self, dout: Array, cache: Any, need_dx: bool = True) -> Array | None:
        argmax, x_shape = cache_parts(self, cache, tuple, 2)
        N, *shape = cache_shape(self, x_shape)
        out_shape = (N, *self.output_shape(tuple(shape)))
        argmax = cache_argmax(self, argmax, out_shape, self.argmax_dtype, self.window[0] * self.window[1])
        dout = check_gradient(self, dout, out_shape)
        if not as_flag("need_dx", need_dx):
            return None
        dx = buffers.empty(x_shape, dout.dtype)
        ops.maxpool2d_backward(dx, dout, argmax, x_shape, self.window, self.stride)
        return dx


@register_layer
class AvgPool2D(_Pool2D):
    """2-D average-pooling without padding.

    Parameters
    ----------
    window : int or (int, int), default 2
    stride : int or (int, int), optional
        By default the window, so that windows do not overlap.
    """

    def forward(self, x: Array) -> tuple[Array, Shape]:
        x = self._check(x)
        out = buffers.empty((len(x), *self.output_shape(x.shape[1:])), x.dtype)
        ops.avgpool2d_forward(out, x, self.window, self.stride)
        return out, x.shape

    def backward(self, dout: Array, cache: Shape, need_dx: bool = True) -> Array | None:
        N, *shape = x_shape = cache_shape(self, cache)
        dout = check_gradient(self, dout, (N, *self.output_shape(tuple(shape))))
        if not as_flag("need_dx", need_dx):
            return None
        dx = buffers.empty(x_shape, dout.dtype)
        ops.avgpool2d_backward(dx, dout, x_shape, self.window, self.stride)
        return dx


@register_layer
class GlobalAvgPool2D(Layer):
    """The mean of each channel: images (N, H, W, C) to vectors (N, C)."""

    def output_shape(self, shape: Shape) -> Shape:
        shape = check_lengths(shape)
        if len(shape) != 3 or min(shape[:2]) < 1:
            raise ShapeError(f"{self} needs images (N, H, W, C) of at least one pixel, not {('N', *shape)}")
        return shape[2:]

    def forward(self, x: Array) -> tuple[Array, Shape]:
        x = self._check(x)
        N, H, W, C = x.shape
        out = buffers.empty((N, C), x.dtype)
        ops.avgpool2d_forward(out.reshape(N, 1, 1, C), x, (H, W), (H, W))  # one window, as large as the image
        return out, x.shape

    def backward(self, dout: Array, cache: Shape, need_dx: bool = True) -> Array | None:
        N, *shape = x_shape = cache_shape(self, cache)
        dout = check_gradient(self, dout, (N, *self.output_shape(tuple(shape))))
        if not as_flag("need_dx", need_dx):
            return None
        H, W, C = shape
        dx = buffers.empty(x_shape, dout.dtype)
        ops.avgpool2d_backward(dx, dout.reshape(N, 1, 1, C), x_shape, (H, W), (H, W))
        return dx


@register_layer
class ReLU(Layer):
    """max(x, 0), element by element; the slope at 0 is 0."""

    def forward(self, x: Array) -> tuple[Array, Array]:
        x = self._check(x)
        out = buffers.empty_like(x)
        ops.relu_forward(out.reshape(-1), x.reshape(-1))
        return out, out

    def backward(self, dout: Array, cache: Array, need_dx: bool = True) -> Array | None:
        out = cache_array(self, "out", cache, None)
        dout = check_gradient(self, dout, out.shape, out.dtype)
        if not as_flag("need_dx", need_dx):
            return None
        dx = buffers.empty_like(dout)
        ops.relu_backward(dx.reshape(-1), dout.reshape(-1), out.reshape(-1))
        return dx


@register_layer
class Flatten(Layer):
    """(N, H, W, C) to (N, H*W*C), without a copy."""

    def output_shape(self, shape: Shape) -> Shape:
        shape = check_lengths(shape)
        return (math.prod(shape),)

    def forward(self, x: Array) -> tuple[Array, Shape]:
        x = self._check(x)
        return x.reshape(len(x), *self.output_shape(x.shape[1:])), x.shape

    def backward(self, dout: Array, cache: Shape, need_dx: bool = True) -> Array | None:
        N, *shape = cache_shape(self, cache)
        return check_gradient(self, dout, (N, *self.output_shape(tuple(shape)))).reshape(cache)


@register_layer
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

    Examples
    --------
    >>> out, cache = Dense(4, 3, seed=0).forward(np.ones((2, 4), np.float32))
    >>> out.shape
    (2, 3)
    """

    def __init__(self, features: int, units: int, seed: Any = None, dtype: DTypeLike = np.float32) -> None:
        super().__init__()
        shapes = self.param_shapes(features, units)
        self.features, self.units = shapes["w"]
        self._make(shapes, self.features, self.units, seed, as_dtype(dtype))

    @classmethod
    def param_shapes(cls, features: int, units: int, **_: Any) -> dict[str, Shape]:
        D, E = _at_least("features", features, 1), _at_least("units", units, 1)
        return {"w": (D, E), "b": (E,)}

    def output_shape(self, shape: Shape) -> Shape:
        shape = check_lengths(shape)
        if shape != (self.features,):
            raise ShapeError(f"{self} needs vectors (N, {self.features}), not {('N', *shape)}")
        return (self.units,)

    def forward(self, x: Array) -> tuple[Array, Array]:
        x = self._check(x)
        out = buffers.empty((len(x), self.units), x.dtype)
        ops.dense_forward(out, x, self._w, self._b)
        return out, x

    def backward(self, dout: Array, cache: Array, need_dx: bool = True) -> Array | None:
        need_dx = as_flag("need_dx", need_dx)
        x = cache_array(self, "x", cache, (None, self.features), self.dtype)
        dout = check_gradient(self, dout, (len(x), self.units), x.dtype)
        dx = buffers.empty((len(x) if need_dx else 0, self.features), x.dtype)
        ops.dense_backward(dx, *self._added(), dout, x, self._w)
        return dx if need_dx else None

    def __repr__(self) -> str:
        return f"Dense({self.features}, {self.units})"


def _pair(name: str, value: int | Sequence[int], least: int) -> tuple[int, int]:
    pair = value if isinstance(value, (tuple, list)) else (value, value)
    if len(pair) != 2:
        raise OptionError(f"{name} must be one number or two (rows, columns), not {value!r:.200}")
    return _at_least(name, pair[0], least), _at_least(name, pair[1], least)


def _at_least(name: str, value: Any, least: int) -> int:
    if not is_whole(value) or value < least:
        raise OptionError(f"{name} must be a whole number of at least {least}, not {value!r:.200}")
    if value > MAX_SIZE:
        raise OptionError(f"{name} must be at most {MAX_SIZE}, not {value!r:.200}")
    return int(value)
