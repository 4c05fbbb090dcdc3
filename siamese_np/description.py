"""Networks described: their layers as JSON values, and their parameters by name, as a model file holds them."""

import inspect
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from siamese_np._checks import as_array
from siamese_np.errors import ModelError, OptionError, ShapeError
from siamese_np.reading import one_line, open_npz

if TYPE_CHECKING:
    from siamese_np.layer import Array, Layer, Shape

LayerClass = TypeVar("LayerClass", bound="type[Layer]")
Value = TypeVar("Value")

_REGISTERED: "dict[str, type[Layer]]" = {}


def register_layer(cls: LayerClass) -> LayerClass:
    """Keep a class of layers by its name, so that models with such layers can be saved and loaded; a decorator.

    Raises
    ------
    OptionError
        `cls` is no class of layers, or another class of that name is registered. One that was defined in ``__main__``
        may be defined again, as a notebook does.
    """
    needed = ("config", "from_config", "param_shapes")  # of Layer
    if not (isinstance(cls, type) and all(hasattr(cls, name) for name in needed)):
        raise OptionError(f"only classes derived from Layer can be registered, not {cls!r}")
    known = _REGISTERED.get(cls.__name__, cls)
    again = known.__module__ == cls.__module__ == "__main__" and known.__qualname__ == cls.__qualname__
    if known is not cls and not again:
        raise OptionError(f"there is another layer called {cls.__name__}, {known.__module__}.{known.__qualname__}")
    _REGISTERED[cls.__name__] = cls
    return cls


def registered_layer(name: Any) -> "type[Layer]":
    """The registered class called `name`, or a ModelError."""
    if not isinstance(name, str) or name not in _REGISTERED:
        raise ModelError(
            f"there is no layer {name!r}; if it is one of yours, import its class, with @register_layer above it, first"
        )
    return _REGISTERED[name]


def package_layers() -> dict[str, "type[Layer]"]:
    """The layers of this package by name, which are public names of it."""
    from siamese_np import layers

    return {name: cls for name, cls in _REGISTERED.items() if cls.__module__ == layers.__name__}


def constructor_arguments(layer: Any) -> dict[str, Any]:
    """As `Layer.config`: the attributes called as the arguments of the constructor, all but ``seed``."""
    names = [name for name in inspect.signature(type(layer)).parameters if name != "seed"]
    missing = [name for name in names if not hasattr(layer, name)]
    if missing:
        raise ModelError(
            f"{type(layer).__name__} keeps its argument {missing[0]!r} in no attribute of that name, so it "
            "cannot be described; keep it there, or define config()"
        )
    try:
        values = {name: getattr(layer, name) for name in names}
        return dict(json.loads(json.dumps(values, allow_nan=False, default=_plain)))
    except (TypeError, ValueError) as error:
        raise ModelError(f"{type(layer).__name__} has an argument that JSON cannot hold: {error}") from None


def _plain(value: Any) -> Any:
    """A number or a dtype of NumPy as a JSON value, or a TypeError."""
    if isinstance(value, np.generic):
        return value.item()
    return np.dtype(value).name


def layer_config(layer: "Layer") -> dict[str, Any]:
    """`layer` as `Sequential.config` lists it; ModelError unless a network would load it as what it is."""
    kind = type(layer)

    def form(layer: "Layer") -> Any:
        arrays = {name: (array.shape, array.dtype) for name, array in layer.params.items()}
        try:
            return json.loads(json.dumps(layer.config(), allow_nan=False)), arrays
        except (TypeError, ValueError) as error:
            raise ModelError(f"{kind.__name__}.config() must return what JSON can hold: {error}") from None

    arguments, arrays = form(layer)
    frozen = {} if layer.trainable else {"trainable": False}
    with described(kind.__name__):
        again = form(kind.from_config(dict(arguments)))
        shapes = kind.param_shapes(**arguments)
    if again != (arguments, arrays) or shapes != {name: shape for name, (shape, _) in arrays.items()}:
        raise ModelError(
            f"{layer} is not what its description makes, {arguments} and arrays {again[1]}: config() must hold all "
            "that the constructor made it of"
        )
    return {"class": kind.__name__, **arguments, **frozen}


def make_layers(config: Any) -> "list[Layer]":
    """The layers that `config` describes, with weights of their own, or a ModelError."""
    layers = []
    for kind, arguments, trainable in _layer_configs(config):
        with described(kind.__name__):
            layers.append(kind.from_config(arguments))
            if not trainable:
                layers[-1].trainable = False
    return layers


def param_shapes(config: Mapping[str, Any]) -> "dict[str, Shape]":
    """The shapes of `Sequential.named_params` of a network of this `config`, found without making it.

    Raises
    ------
    ModelError
        As `Sequential.from_config`.
    """
    shapes = []
    for kind, arguments, _ in _layer_configs(config):
        with described(kind.__name__):
            shapes.append((kind.__name__, kind.param_shapes(**arguments)))
    return numbered(shapes)


def _layer_configs(config: Any) -> "list[tuple[type[Layer], dict[str, Any], bool]]":
    """Of each layer that `config` lists the class, the arguments, and whether it is trainable; or a ModelError."""
    layers = config.get("layers") if isinstance(config, Mapping) else None
    if not isinstance(layers, list) or not all(isinstance(layer, dict) and "class" in layer for layer in layers):
        raise ModelError("a network is described by a list of layers, each with its class and its arguments")
    found = []
    for layer in layers:
        kind, arguments = registered_layer(layer["class"]), {key: layer[key] for key in layer if key != "class"}
        trainable = arguments.get("trainable", True)
        if not isinstance(trainable, bool):
            raise ModelError(f"trainable is true or false, not {trainable!r}")
        if "trainable" not in inspect.signature(kind).parameters:
            arguments.pop("trainable", None)
        found.append((kind, arguments, trainable))
    return found


@contextmanager
def described(name: str) -> Iterator[None]:
    """Turns what a wrong description of `name` leads to, in a user's class anything, into one sentence."""
    try:
        yield
    except Exception as error:
        raise ModelError(f"{name} cannot be made from its description: {one_line(error)}") from error


def numbered(groups: Iterable[tuple[str, Mapping[str, Value]]]) -> dict[str, Value]:
    """All values of groups, each a class name and its named values, under names such as ``conv2d_1.w``."""
    numbered, seen = {}, Counter()  # type: dict[str, Value], Counter[str]
    for kind, values in groups:
        seen[kind.lower()] += 1
        for name, value in values.items():
            numbered[f"{kind.lower()}_{seen[kind.lower()]}.{name}"] = value
    return numbered


def load_params(own: "Mapping[str, Array]", params: Mapping[str, Any] | str | Path) -> None:
    """Copy `params`, as `Sequential.load_params` takes them, into the arrays `own`, all or none."""
    if isinstance(params, Mapping):
        given = {name: as_array(f"the array {name!r}", array) for name, array in params.items()}
        _check_names(own, {name: array.shape for name, array in given.items()})
    elif not isinstance(params, (str, os.PathLike)):
        raise OptionError(f"load_params takes arrays by name, or the path of a file, not {type(params).__name__}")
    else:
        with open_npz(Path(params), ModelError, "an .npz file of arrays") as archive:
            names = [name for name in archive if name != "header" and not name.startswith("novelty.")]
            _check_names(own, {name: archive.announced(name)[0] for name in names})
            given = {name: archive.read(name) for name in own}
    for name, array in given.items():
        dtype = own[name].dtype
        with np.errstate(over="ignore"):  # told as infinity
            fits = array.dtype.kind in "iuf" and np.isfinite(array.astype(dtype)).all()
        if not fits:
            raise ShapeError(f"the array {name!r} must hold finite real numbers of {dtype}")
    for name, array in given.items():
        own[name][...] = array


def _check_names(own: "Mapping[str, Array]", shapes: "Mapping[str, Shape]") -> None:
    """ModelError or ShapeError unless arrays of these names and `shapes` are those of the network."""
    for name in own:
        if name not in shapes:
            raise ModelError(f"the array {name!r} is missing; the network has {', '.join(own)}")
    for name, shape in shapes.items():
        if name not in own:
            raise ModelError(f"the network has no {name!r}, only {', '.join(own) or 'layers without parameters'}")
        if shape != own[name].shape:
            raise ShapeError(f"the array {name!r} must have the shape {own[name].shape}, not {shape}")
