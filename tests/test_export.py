"""ONNX files: another runtime gives our embeddings, and what cannot be exported is refused in one sentence."""

import json
import sys

import numpy as np
import pytest

from siamese_np import (
    AvgPool2D,
    Conv2D,
    Dense,
    Flatten,
    GlobalAvgPool2D,
    Layer,
    MaxPool2D,
    ReLU,
    Sequential,
    SiameseNetwork,
    cnn,
    mlp,
    save_model,
)
from siamese_np.cli import main
from siamese_np.description import package_layers
from siamese_np.errors import ModelError, OptionError
from siamese_np.export import _WRITERS, export_onnx

NETWORKS = {
    "cnn": lambda: cnn(seed=1),
    "mlp": lambda: mlp(seed=1),
    "float64": lambda: cnn((8, 9, 2), 3, seed=1, dtype="float64"),
    "odd": lambda: Sequential(
        [
            *(Conv2D(3, 5, (3, 2), (2, 1), (0, 2), seed=0), ReLU(), AvgPool2D((2, 3), (1, 2))),
            *(Conv2D(5, 4, 1, 3, seed=1), Flatten(), ReLU(), Dense(16, 7, seed=2), Flatten(), Dense(7, 2, seed=3)),
        ],
        (13, 11, 3),
    ),
    "gaps between windows": lambda: Sequential([MaxPool2D(2, 3), Flatten()], (9, 8, 2)),
    "global": lambda: Sequential([Conv2D(2, 3, seed=0), GlobalAvgPool2D(), Dense(3, 4, seed=1)], (5, 6, 2)),
    "global at the end": lambda: Sequential([Conv2D(2, 3, seed=0), GlobalAvgPool2D()], (5, 6, 2)),
    "flattened images": lambda: Sequential([Conv2D(2, 3, seed=0), Flatten(), ReLU()], (4, 3, 2)),
    "feature maps": lambda: cnn(seed=1).upto(4),
    "vectors": lambda: Sequential([Dense(6, 3, seed=0)], (6,)),
    "nothing": lambda: Sequential([ReLU(), Flatten()], (6,)),
}


def biased(network: Sequential) -> Sequential:
    rng = np.random.default_rng(3)
    for name, value in network.named_params().items():
        if name.endswith(".b"):
            value[:] = rng.uniform(-0.5, 0.5, value.shape)
    return network


def runtime(path):
    """ONNX Runtime, or where it is missing the evaluator of the library onnx; both run a file in the same way."""
    try:
        import onnxruntime
    except ImportError:
        from onnx.reference import ReferenceEvaluator

        return ReferenceEvaluator(str(path))
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("name", NETWORKS)
def test_another_runtime_gives_the_same(tmp_path, name):
    pytest.importorskip("onnx")
    network = biased(NETWORKS[name]())
    told = export_onnx(network, tmp_path / "model.onnx")
    assert told["parameters"] == network.params.size and told["output"]["shape"] == ["N", *network.output_shape]
    session = runtime(tmp_path / "model.onnx")
    for count in (1, 5):
        x = np.random.default_rng(count).random((count, *network.input_shape), np.float32) - np.float32(0.3)
        (found,) = session.run(["embeddings"], {"images": x})
        expected = network.forward(x.astype(network.params.dtype))[0]
        assert found.shape == expected.shape and found.dtype == np.float32
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * abs(expected).max())


def test_the_file_says_what_its_embeddings_mean(tmp_path, capsys):
    onnx = pytest.importorskip("onnx")
    siamese = SiameseNetwork(cnn((8, 8, 1), 3), margin=2.0, threshold=0.7, class_names=["a", "b"])
    save_model(tmp_path / "model.npz", siamese)
    output = tmp_path / "model.onnx"
    assert main(["export", str(tmp_path / "model.npz"), "-o", str(output), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["output"] == {"name": "embeddings", "shape": ["N", 3]} and told["file"] == str(output)
    loaded = onnx.load(output)
    assert (
        {prop.key: prop.value for prop in loaded.metadata_props}
        == told["metadata"]
        == {
            "input": "float32 (N, H, W, C) = (N, 8, 8, 1) in [0, 1]",
            "threshold": "0.7",
            "margin": "2.0",
            "class_names": '["a", "b"]',
        }
    )
    assert [dim.dim_param or dim.dim_value for dim in loaded.graph.input[0].type.tensor_type.shape.dim] == [
        *("N", 8, 8, 1)
    ]
    assert main(["export", str(tmp_path / "model.npz"), "-o", str(output)]) == 0
    assert "images (N, 8, 8, 1) in, embeddings (N, 3) out" in capsys.readouterr().out


def test_every_layer_of_the_package_can_be_exported():
    assert _WRITERS.keys() == package_layers().keys()


def test_what_cannot_be_exported_is_refused(tmp_path, monkeypatch):
    class Mine(Layer):
        def forward(self, x):
            return x, None

    class Dense(ReLU):  # by its name alone one of ours
        pass

    path = tmp_path / "model.onnx"
    for layer in (Mine(), Dense()):
        with pytest.raises(ModelError, match=r"^(Mine|Dense)\(\) cannot be exported: only the layers of this package"):
            export_onnx(Sequential([layer], (3,)), path)
    with pytest.raises(OptionError, match="takes a SiameseNetwork or a Sequential, not list"):
        export_onnx([], path)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(OptionError, match=r"needs the library onnx: pip install 'siamese_np\[export\]'$"):
        export_onnx(mlp(), path)
    assert not path.exists()


def test_weights_that_no_file_can_hold_are_refused(tmp_path, monkeypatch):
    pytest.importorskip("onnx")
    network = mlp((2, 2, 1), 3)
    monkeypatch.setattr("siamese_np.export.LARGEST", 4 * network.params.size - 1)
    with pytest.raises(ModelError, match="holds less than 2 GiB"):
        export_onnx(network, tmp_path / "model.onnx")
    network.params[3] = np.nan
    with pytest.raises(ModelError, match=r"NaN or infinity in 'dense_1.w'"):
        export_onnx(network, tmp_path / "model.onnx")


@pytest.mark.parametrize("output", ["nowhere/model.onnx", "."])
def test_the_command_refuses_in_one_sentence(tmp_path, capsys, output):
    pytest.importorskip("onnx")
    save_model(tmp_path / "model.npz", SiameseNetwork(mlp((2, 2, 1), 3)))
    assert main(["export", str(tmp_path / "model.npz"), "-o", str(tmp_path / output)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("siamese-np: ") and said.count("\n") == 1


def test_the_command_names_the_extra(tmp_path, capsys, monkeypatch):
    save_model(tmp_path / "model.npz", SiameseNetwork(mlp((2, 2, 1), 3)))
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert main(["export", str(tmp_path / "model.npz"), "-o", str(tmp_path / "m.onnx")]) == 2
    assert capsys.readouterr().err.endswith("needs the library onnx: pip install 'siamese_np[export]'\n")
