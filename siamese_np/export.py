"""Networks for other tools: ONNX files, which other runtimes and languages can run, and plain arrays.

An ONNX graph takes the arrays that the network takes, images (N, H, W, C) in [0, 1] of any number N. ONNX wants them as
(N, C, H, W): they are transposed once, before the first convolution or pooling, and never back before a dense layer,
whose rows are reordered instead. All numbers are float32, since runtimes lack convolutions in float64.
"""

import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from siamese_np.errors import ModelError, OptionError

if TYPE_CHECKING:
    from siamese_np.network import Sequential, SiameseNetwork

# old enough for every runtime in use, new enough for all that is written here
OPSET, IR_VERSION = 17, 8
LARGEST = (1 << 31) - (1 << 20)  # bytes of weights: a protobuf holds less than 2 GiB


def export_onnx(model: "SiameseNetwork | Sequential", path: str | Path) -> dict[str, Any]:
    """Write the network, or the embedding network of a Siamese one, as an ONNX file.

    The file's metadata holds what a user of the embeddings needs: threshold, margin and class names of a Siamese
    network, and the form of the input.

    Parameters
    ----------
    model : SiameseNetwork or Sequential
        Of layers of this package.
    path : str or Path

    Returns
    -------
    dict
        ``"input"`` and ``"output"``, each the name and the shape of an array, ``"opset"``, ``"parameters"`` and
        ``"metadata"``.

    Raises
    ------
    OptionError
        The library onnx is missing, or `model` is no network.
    ModelError
        A layer is a user's own, a weight is NaN or infinity, or the weights need 2 GiB or more.

    Examples
    --------
    >>> import tempfile
    >>> from siamese_np import SiameseNetwork, cnn
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     told = export_onnx(SiameseNetwork(cnn(seed=0)), Path(folder) / "model.onnx")
    >>> told["output"]
    {'name': 'embeddings', 'shape': ['N', 64]}
    """
    from siamese_np.description import package_layers
    from siamese_np.network import SiameseNetwork
    from siamese_np.storage import write_atomically

    network = _network(model, "export_onnx")
    ours = package_layers()
    for layer in network.layers:
        if ours.get(type(layer).__name__) is not type(layer):
            raise ModelError(f"{layer} cannot be exported: only the layers of this package can, {', '.join(ours)}")
    metadata = {"input": _input_form(network.input_shape)}
    if isinstance(model, SiameseNetwork):
        metadata.update(threshold=repr(model.threshold), margin=repr(model.margin))
        if model.class_names is not None:
            metadata["class_names"] = json.dumps(model.class_names)
    config, params = network.config(), network.named_params()
    write_atomically(Path(path), onnx_bytes(config, params, network.output_shape, metadata))
    return {
        "input": {"name": "images", "shape": ["N", *network.input_shape]},
        "output": {"name": "embeddings", "shape": ["N", *network.output_shape]},
        "opset": OPSET,
        "parameters": network.params.size,
        "metadata": metadata,
    }


def export_npz(model: "SiameseNetwork | Sequential", path: str | Path, overwrite: bool = False) -> dict[str, Any]:
    """Write the weights as plain arrays under their names, an ``.npz`` file that NumPy alone reads.

    `Sequential.load_params` takes it; so do others, with the layouts that ``docs/weights.md`` tells.

    Parameters
    ----------
    model : SiameseNetwork or Sequential
    path : str or Path
    overwrite : bool, default False
        Replace a file that exists.

    Returns
    -------
    dict
        ``"parameters"``, their number, and ``"arrays"``, the shape of each by its name.

    Raises
    ------
    OptionError
        The file exists, or `model` is no network.

    Examples
    --------
    >>> import tempfile
    >>> from siamese_np import Dense, Sequential
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     told = export_npz(Sequential([Dense(4, 3, seed=0)], (4,)), Path(folder) / "weights.npz")
    ...     weights = dict(np.load(Path(folder) / "weights.npz"))
    >>> told["arrays"], weights["dense_1.w"].shape
    ({'dense_1.w': [4, 3], 'dense_1.b': [3]}, (4, 3))
    """
    from siamese_np.storage import check_output, write_atomically

    network, path = _network(model, "export_npz"), Path(path)
    check_output(path, "export_npz", overwrite=overwrite)
    content, params = io.BytesIO(), network.named_params()
    np.savez(content, **params)  # type: ignore[arg-type]
    write_atomically(path, content.getvalue())
    return {"parameters": network.params.size, "arrays": {name: list(array.shape) for name, array in params.items()}}


def _network(model: Any, function: str) -> "Sequential":
    from siamese_np.network import Sequential, SiameseNetwork

    network = model.network if isinstance(model, SiameseNetwork) else model
    if not isinstance(network, Sequential):
        raise OptionError(f"{function} takes a SiameseNetwork or a Sequential, not {type(model).__name__}")
    return network


def onnx_bytes(
    config: Mapping[str, Any],
    params: Mapping[str, np.ndarray],
    output_shape: tuple[int, ...],
    metadata: Mapping[str, str],
) -> bytes:
    """The content of the file, checked by onnx; it needs neither numba nor the network itself.

    Parameters
    ----------
    config : mapping
        As `Sequential.config` returns it.
    params : mapping of str to ndarray
        As `Sequential.named_params` returns it.
    output_shape : tuple of int
    metadata : mapping of str to str

    Raises
    ------
    OptionError
        The library onnx is missing.
    ModelError
        A weight is NaN or infinity, or the weights need 2 GiB or more.
    """
    try:
        from onnx import TensorProto, checker, helper
    except ImportError:
        raise OptionError("an ONNX file needs the library onnx: pip install 'siamese_np[export]'") from None
    for name, array in params.items():
        if not np.isfinite(array).all():
            raise ModelError(f"a network cannot be exported with NaN or infinity in {name!r}")
    if (size := 4 * sum(array.size for array in params.values())) > LARGEST:
        raise ModelError(f"an ONNX file holds less than 2 GiB, but the weights need {size / 2**30:.1f} GiB")
    graph = _Graph(params, config["input_shape"])
    for layer in config["layers"]:
        _WRITERS[layer["class"]](graph, layer)
    graph.finish()
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", *shape])
        for name, shape in (("images", config["input_shape"]), ("embeddings", output_shape))
    ]
    made = helper.make_model(
        helper.make_graph(graph.nodes, "siamese_np", ends[:1], ends[1:], graph.arrays),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="siamese_np",
    )
    helper.set_model_props(made, dict(metadata))
    checker.check_model(made, full_check=True)
    content: bytes = made.SerializeToString()
    return content


def _input_form(shape: tuple[int, ...]) -> str:
    names = "N, H, W, C" if len(shape) == 3 else "N, ..."
    return f"float32 ({names}) = (N, {', '.join(map(str, shape))}) in [0, 1]"


class _Graph:
    """The nodes so far, one after another, and the state of what the last of them gives."""

    def __init__(self, params: Mapping[str, np.ndarray], input_shape: Any) -> None:
        self.params, self.nodes, self.arrays = iter(params.items()), [], []  # type: ignore[var-annotated]
        self.channels = input_shape[-1]
        self.channels_first = False
        self.flat = False  # it is to count as vectors, in the order of (H, W, C)

    def add(self, kind: str, *arrays: np.ndarray, **attributes: Any) -> None:
        """Append a node that takes what the last gave, and `arrays`."""
        from onnx import helper, numpy_helper

        names = [self.nodes[-1].output[0] if self.nodes else "images"]
        for array in arrays:
            names.append(f"array_{len(self.arrays)}")
            self.arrays.append(numpy_helper.from_array(np.ascontiguousarray(array, np.float32), names[-1]))
        self.nodes.append(helper.make_node(kind, names, [f"{kind}_{len(self.nodes)}"], **attributes))

    def weights(self) -> tuple[np.ndarray, np.ndarray]:
        """The w and b of the next layer that has some."""
        return next(self.params)[1], next(self.params)[1]

    def images_first(self) -> None:
        """Transpose to (N, C, H, W), unless it is that already."""
        if not self.channels_first:
            self.add("Transpose", perm=[0, 3, 1, 2])
            self.channels_first = True

    def finish(self) -> None:
        """Give the order and the name that the user expects."""
        if self.channels_first:
            self.add("Transpose", perm=[0, 2, 3, 1])
        self.add("Flatten" if self.flat else "Identity")
        self.nodes[-1].output[0] = "embeddings"


def _conv2d(graph: _Graph, layer: dict[str, Any]) -> None:
    graph.images_first()
    w, b = graph.weights()
    graph.add("Conv", w.transpose(3, 2, 0, 1), b, strides=layer["stride"], pads=[*layer["pad"], *layer["pad"]])
    graph.channels = layer["filters"]


def _pool2d(kind: str) -> Callable[[_Graph, dict[str, Any]], None]:
    def write(graph: _Graph, layer: dict[str, Any]) -> None:
        graph.images_first()
        graph.add(kind, kernel_shape=layer["window"], strides=layer["stride"])

    return write


def _global_avg_pool2d(graph: _Graph, layer: dict[str, Any]) -> None:
    graph.images_first()
    graph.add("GlobalAveragePool")
    graph.flat = True


def _relu(graph: _Graph, layer: dict[str, Any]) -> None:
    graph.add("Relu")


def _flatten(graph: _Graph, layer: dict[str, Any]) -> None:
    graph.flat = True


def _dense(graph: _Graph, layer: dict[str, Any]) -> None:
    w, b = graph.weights()
    if graph.flat:
        graph.add("Flatten")
    if graph.channels_first:  # the rows of w are those of (H * W, C)
        w = w.reshape(-1, graph.channels, w.shape[1]).transpose(1, 0, 2).reshape(w.shape)
    graph.add("Gemm", w, b)
    graph.channels_first = graph.flat = False


_WRITERS: dict[str, Callable[[_Graph, dict[str, Any]], None]] = {
    "Conv2D": _conv2d,
    "MaxPool2D": _pool2d("MaxPool"),
    "AvgPool2D": _pool2d("AveragePool"),
    "GlobalAvgPool2D": _global_avg_pool2d,
    "ReLU": _relu,
    "Flatten": _flatten,
    "Dense": _dense,
}
