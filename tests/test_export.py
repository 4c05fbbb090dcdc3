"""Files for other tools: another runtime gives our embeddings, arrays and projector files are read back as written."""

import json
import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

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
    TrainConfig,
    cnn,
    load_dataset,
    mlp,
    save_model,
    train_run,
)
from siamese_np.cli import main
from siamese_np.description import package_layers
from siamese_np.errors import ModelError, OptionError, ShapeError
from siamese_np.export import _WRITERS, export_npz, export_onnx
from siamese_np.projector import export_projector

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


def trained(small_mnist) -> SiameseNetwork:
    return train_run(TrainConfig(epochs=2, batch_size=64), load_dataset(small_mnist)).siamese


@pytest.mark.parametrize("count", [200, pytest.param(10_000, marks=pytest.mark.long)])
def test_onnx_runtime_embeds_images_as_we_do(count, small_mnist, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    siamese, images = trained(small_mnist), load_dataset().test.images[:count]
    export_onnx(siamese, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    (found,) = session.run(["embeddings"], {"images": images})
    assert len(found) == count
    np.testing.assert_allclose(found, siamese.embed(images), rtol=0, atol=1e-5)


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


@pytest.mark.parametrize("kind", ["onnx", "npz", "projector"])
def test_what_is_there_is_kept_also_from_the_model_that_comes_along(kind, tmp_path, capsys):
    notes = tmp_path / "notes.txt"
    notes.write_text("mine")
    assert main(["export", "mnist", "--to", kind, "-o", str(notes)]) == 2
    sentence = f"{notes} exists already: choose another name, or overwrite it with --overwrite"
    if kind == "onnx":
        sentence = f"{notes} was not written by --output, and is not replaced; --overwrite replaces it"
    assert capsys.readouterr().err == f"siamese-np: {sentence}\n"
    assert notes.read_text() == "mine"


def test_the_command_names_the_extra(tmp_path, capsys, monkeypatch):
    save_model(tmp_path / "model.npz", SiameseNetwork(mlp((2, 2, 1), 3)))
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert main(["export", str(tmp_path / "model.npz"), "-o", str(tmp_path / "m.onnx")]) == 2
    assert capsys.readouterr().err.endswith("needs the library onnx: pip install 'siamese_np[export]'\n")


# --- Plain arrays -------------------------------------------------------------------------------------------


def test_arrays_are_read_by_numpy_alone_and_loaded_again(tmp_path, capsys):
    save_model(tmp_path / "model.npz", SiameseNetwork(biased(cnn(seed=1))))
    output, network = tmp_path / "weights.npz", cnn(seed=2)
    command = ["export", str(tmp_path), "-o", str(output)]
    assert main([*command, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["to"], told["file"], told["parameters"]) == ("npz", str(output), network.params.size)
    with np.load(output) as archive:
        assert {name: list(archive[name].shape) for name in archive} == told["arrays"]
    network.load_params(output)
    np.testing.assert_array_equal(network.params, biased(cnn(seed=1)).params)
    assert main(command) == 2
    assert "weights.npz exists already: choose another name, or overwrite it with --over" in capsys.readouterr().err
    output.write_bytes(b"")
    assert main([*command, "--to", "npz", "--overwrite"]) == 0
    assert capsys.readouterr().out == f"8 arrays of 428,608 parameters written to {output}\n"
    network.load_params(output)


def test_the_model_itself_is_never_overwritten(tmp_path, capsys):
    model = tmp_path / "model.npz"
    save_model(model, SiameseNetwork(mlp((2, 2, 1), 3)))
    before = model.read_bytes()
    for given in (model, tmp_path):
        for kind in ("onnx", "npz"):
            assert main(["export", str(given), "--to", kind, "--overwrite", "-o", str(model)]) == 2
            assert "model.npz is the model itself: choose another name" in capsys.readouterr().err
        assert main(["embed", str(given), "-o", str(model), "one.png"]) == 2
        assert "model.npz is the model itself: choose another name" in capsys.readouterr().err
    assert model.read_bytes() == before
    with pytest.raises(OptionError, match="export_npz takes a SiameseNetwork or a Sequential, not dict"):
        export_npz({}, tmp_path / "weights.npz")


# --- The projector of TensorBoard ---------------------------------------------------------------------------


def read_projector(folder: Path) -> tuple[np.ndarray, list[list[str]], Image.Image | None, tuple[int, ...]]:
    """Vectors, rows of metadata, sprite and the size of one image there, where the configuration says they are."""
    config = (folder / "projector_config.pbtxt").read_text()
    path = dict(re.findall(r'(tensor|metadata|image)_path: "(.+?)"', config))
    rows = (folder / path["metadata"]).read_text().splitlines() if "metadata" in path else []
    sheet = Image.open(folder / path["image"]) if "image" in path else None
    size = tuple(map(int, re.findall(r"single_image_dim: (\d+)", config)))
    return np.loadtxt(folder / path["tensor"], ndmin=2), [row.split("\t") for row in rows], sheet, size


def test_the_projector_shows_the_test_images(small_mnist, tmp_path, capsys):
    siamese, test = SiameseNetwork(cnn(seed=1)), load_dataset(small_mnist).test
    save_model(tmp_path / "model.npz", siamese)
    folder = tmp_path / "projector"
    command = ["export", str(tmp_path), "--to", "projector", "-o", str(folder), "--data", str(small_mnist)]
    assert main([*command, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert sorted(told["files"]) == sorted(path.name for path in folder.iterdir()) and told["embeddings"] == 300
    emb, rows, sheet, size = read_projector(folder)
    np.testing.assert_array_equal(emb.astype(np.float32), siamese.embed(test.images))
    assert rows[0] == ["name", "class"] and len(rows) == 301
    assert rows[-1] == ["test image 299", str(test.classes[299])]
    assert size == (28, 28) and sheet.size == (18 * 28, 17 * 28)
    left, top = 299 % 18 * 28, 299 // 18 * 28
    shown = np.asarray(sheet.crop((left, top, left + 28, top + 28)))
    np.testing.assert_array_equal(shown, np.rint(test.images[299, :, :, 0] * 255))
    assert main(command) == 2
    assert "projector exists already" in capsys.readouterr().err
    (folder / "notes").touch()
    (folder / "vectors.tsv").write_text("")
    assert main([*command, "--overwrite"]) == 0
    assert f"`tensorboard --logdir {folder}` shows it" in capsys.readouterr().out
    assert len(read_projector(folder)[0]) == 300 and (folder / "notes").exists()


def test_the_projector_shows_pictures_and_an_index(tmp_path, capsys):
    save_model(tmp_path / "model.npz", SiameseNetwork(cnn(seed=1)))
    scans, index = tmp_path / "scans", tmp_path / "index.npz"
    scans.mkdir()
    pixels = np.rint(load_dataset().test.images[:3, :, :, 0] * 255).astype(np.uint8)
    names = [scans / name for name in ("a.png", "b c.png", os.fsdecode(b"d\xe9.png"))]
    for name, image in zip(names, pixels, strict=True):
        Image.fromarray(image).save(name)
    command = ["export", str(tmp_path), "--to", "projector", "-o"]
    assert main([*command, str(tmp_path / "seen"), str(scans)]) == 0
    emb, rows, sheet, _ = read_projector(tmp_path / "seen")
    assert emb.shape == (3, 64) and sheet.size == (56, 56)
    shown = [str(name).encode(errors="backslashreplace").decode() for name in names]
    assert rows == [[name] for name in shown]  # one column has no heading
    assert main(["embed", str(tmp_path), str(scans), "-o", str(index)]) == 0
    assert main([*command, str(tmp_path / "read"), "--index", str(index)]) == 0
    found, rows, sheet, _ = read_projector(tmp_path / "read")
    np.testing.assert_array_equal(found, emb)
    assert rows == [[name] for name in shown] and sheet is None
    capsys.readouterr()
    for wrong, sentence in (
        (["--index", str(index), str(scans)], "choose one: images, --index or --data"),
        (["--to", "onnx", str(scans)], "images, --index and --data go with --to projector, not with --to onnx"),
    ):
        assert main([*command, str(tmp_path / "other"), *wrong]) == 2
        assert capsys.readouterr().err == f"siamese-np: {sentence}\n"


def test_the_projector_has_classes_of_folders_and_names_what_cannot_be_read(tmp_path, capsys):
    for kind in ("dark", "light"):
        (tmp_path / "own" / kind).mkdir(parents=True)
        image = load_dataset().test.images[len(kind), :, :, 0]
        Image.fromarray(np.rint(image * 255).astype(np.uint8)).save(tmp_path / "own" / kind / "a.png")
    broken = tmp_path / "own" / "dark" / "broken.png"
    broken.write_bytes(b"broken")
    command = ["export", "mnist", str(tmp_path / "own"), "--to", "projector", "-o", str(tmp_path / "seen"), "--json"]
    assert main(command) == 1
    said = capsys.readouterr()
    assert [one["path"] for one in json.loads(said.out)["unreadable"]] == [str(broken)]
    assert said.err.startswith(f"siamese-np: skipped: {broken} is not an image") and said.err.count("\n") == 1
    _, rows, sheet, _ = read_projector(tmp_path / "seen")
    assert [row[-1] for row in rows] == ["class", "dark", "light"] and sheet is not None


def test_a_sheet_is_never_larger_than_the_projector_takes(tmp_path, monkeypatch):
    monkeypatch.setattr("siamese_np.projector.MAX_SHEET", 16)
    images = np.zeros((5, 6, 8, 3), np.float32)
    images[4, :, :, 1] = 1
    export_projector(np.zeros((5, 2)), tmp_path / "p", images)
    _, _, sheet, size = read_projector(tmp_path / "p")
    assert size == (5, 3) and sheet.size == (15, 6) and sheet.getpixel((7, 4)) == (0, 255, 0)


def test_what_the_projector_cannot_take_is_refused_and_nothing_half_written(tmp_path, monkeypatch):
    emb, images = np.zeros((3, 2)), np.zeros((3, 4, 4, 1))
    for wrong, sentence in (
        ({"emb": np.zeros((0, 2))}, "emb holds no embedding"),
        ({"emb": np.full((3, 2), np.nan)}, "emb must hold finite numbers"),
        ({"images": images[:2]}, r"images are floats \(3, H, W, C\) in \[0, 1\] with 1 or 3 channels"),
        ({"images": np.zeros((3, 4, 4, 2))}, "1 or 3 channels"),
        ({"images": np.zeros((3, 4, 4, 1), np.uint8)}, "images are floats"),
        ({"columns": {"name": ["a"]}}, "the column 'name' must have 3 entries, one an embedding, not 1"),
    ):
        with pytest.raises(ShapeError, match=sentence):
            export_projector(**{"emb": emb, "folder": tmp_path / "p", **wrong})
    (tmp_path / "file").touch()
    with pytest.raises(OptionError, match="file is no folder, which export_projector writes"):
        export_projector(emb, tmp_path / "file", overwrite=True)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match=r"No space left on device: .*p'"):
        export_projector(emb, tmp_path / "p")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_tensorboard_reads_the_configuration(tmp_path):
    projector = pytest.importorskip("tensorboard.plugins.projector")
    text_format = pytest.importorskip("google.protobuf.text_format")
    export_projector(np.zeros((3, 2)), tmp_path / "p", np.zeros((3, 4, 5, 1)), {"name": ["a", "b", "c"]})
    config = text_format.Parse((tmp_path / "p" / "projector_config.pbtxt").read_text(), projector.ProjectorConfig())
    (found,) = config.embeddings
    assert (found.tensor_path, found.metadata_path, found.sprite.image_path) == (
        *("vectors.tsv", "metadata.tsv"),
        "sprite.png",
    )
    assert list(found.sprite.single_image_dim) == [5, 4]
