"""What a layer is: its contract, its arrays, which its network owns, and its description.

Contract: ``out, cache = layer.forward(x)`` and ``dx = layer.backward(dout, cache)``. The cache is returned and
never kept on the layer, so one layer can serve several branches; backward adds into the arrays of
``layer.grads``. Images are (N, H, W, C), vectors (N, D); arrays are C-contiguous and of the layer's dtype.
"""

import inspect
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from siamese_np._arrays import Arrays
from siamese_np._checks import FLOATS, as_array, check_lengths, found, kernel_input
from siamese_np.description import constructor_arguments
from siamese_np.errors import ModelError, ShapeError

Array = NDArray[np.floating]
Shape = tuple[int, ...]


class _MadeWhenAsked:
    """As `functools.cached_property`, without the lock of older versions of Python: a fork may leave it held."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, layer: Any, owner: type) -> Any:
        return self if layer is None else layer.__dict__.setdefault(self.name, Arrays())


class Layer:
    """Base of all layers: no parameters, any floating dtype.

    A layer of one's own derives from it and defines `forward`, `backward` and, where shapes change, `output_shape`.
    Parameters are set in its constructor, ``self.params = {"w": array}``, which makes gradients for them, and
    backward adds to ``self.grads["w"]``. `register_layer` above the class lets saved models load.

    Attributes
    ----------
    params, grads : mapping of str to ndarray
        The parameters (``"w"``, ``"b"``) and, under the same names, their gradients. To assign to one, or to all,
        copies the values into the arrays there are; ShapeError where they do not fit.
    trainable : bool
        False: the layer is frozen. Backward adds nothing to its gradients, and optimizers leave its parameters alone.
    """

    adds_gradients = True  # backward adds to grads, so that branches can share a layer; the gradient checker tests it
    trainable = True

    def forward(self, x: Array) -> tuple[Array, Any]:
        """Return the output and what backward needs to know."""
        raise NotImplementedError

    def backward(self, dout: Array, cache: Any, need_dx: bool = True) -> Array | None:
        """Add to ``grads`` and return dx, the gradient of the input (None unless `need_dx`)."""
        raise NotImplementedError

    def output_shape(self, shape: Shape) -> Shape:
        """Shape of one output (without N) for one input of `shape`; ShapeError where it does not fit."""
        return check_lengths(shape)

    def _check(self, x: Array) -> Array:
        """`x` as a C-contiguous array of this layer's dtype, or a ShapeError."""
        if type(x) is not np.ndarray:  # to name the layer takes time in every step
            x = as_array(f"the input of {self}", x)
        expected = getattr(self, "dtype", x.dtype)
        if x.dtype != expected or x.dtype not in FLOATS:
            wanted = expected if expected in FLOATS else "float32 or float64"
            raise ShapeError(f"{self} needs its input as {wanted}, not {x.dtype}")
        if x.ndim < 2:
            raise ShapeError(f"{self} needs its input as a batch, (N, ...), not as {x.shape}")
        self.output_shape(x.shape[1:])
        return kernel_input(x)

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    # --- Its arrays, which become views of a network's vectors (`siamese_np._ownership`) ----------------------

    _params: Arrays = cast(Any, _MadeWhenAsked())  # whenever a class calls super().__init__(), or never
    _grads: Arrays = cast(Any, _MadeWhenAsked())

    def __reduce_ex__(self, protocol: Any) -> Any:
        from siamese_np._ownership import tie_views  # which imports this file

        tie_views(self)  # a view would be copied apart from its array
        return super().__reduce_ex__(protocol)

    @property
    def params(self) -> Any:
        return self._params

    @params.setter
    def params(self, arrays: Mapping[str, Any]) -> None:
        if self._params or self._params.owner:
            self._params.assign(f"the params of {self}", arrays)
            return
        self._params = Arrays.of(arrays)
        if not self._grads:
            self._grads = Arrays({name: np.zeros_like(array) for name, array in self._params.kept.items()})

    @property
    def grads(self) -> Any:
        return self._grads

    @grads.setter
    def grads(self, arrays: Mapping[str, Any]) -> None:
        given = Arrays.of(arrays)
        if not self._params or (not self._grads.owner and given.can_hold_gradients(self._params)):
            self._grads = given  # the class makes its own
        else:
            self._grads.assign(f"the grads of {self}", arrays)

    # --- Its description --------------------------------------------------------------------------------------

    def config(self) -> dict[str, Any]:
        """The keyword arguments that make such a layer with other weights, as JSON values.

        They are all arguments of the constructor but ``seed``, read from the attributes of the same names; a class
        that keeps them elsewhere overrides this.

        Raises
        ------
        ModelError
            An argument is kept in no attribute, or JSON cannot hold it.
        """
        return constructor_arguments(self)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Layer":
        """A layer such as the one that `config` is of, with weights of its own.

        Raises
        ------
        ModelError
            `config` is no mapping, or its names are not those of the constructor's arguments.
        """
        if not isinstance(config, Mapping):
            raise ModelError(f"{cls.__name__} is described by a mapping of arguments by name, not {found(config)}")
        try:
            inspect.signature(cls).bind(**config)
        except TypeError as error:
            raise ModelError(f"{cls.__name__} takes other arguments: {error}") from None
        return cls(**config)

    @classmethod
    def param_shapes(cls, *_: Any, **config: Any) -> dict[str, Shape]:
        """The shapes of the parameters of a layer of this `config`.

        What a model file says is checked against its arrays with them, before a layer of the size that it claims is
        made. A class whose parameters may be large computes them here; others are made and looked at.
        """
        return {name: array.shape for name, array in cls.from_config(config).params.items()}
