"""Models and checkpoints on disk: they come back to the bit, and a damaged file earns one sentence."""

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from conftest import IRREGULAR, irregular_files, long_npy_header, refusals, write_npz
from hypothesis import given
from hypothesis import strategies as st

from siamese_np import SiameseNetwork, cnn, load_model, mlp, save_model, storage
from siamese_np.errors import ModelError
from siamese_np.network import PRESETS
from siamese_np.storage import write_atomically

READ = "from siamese_np.storage import load_model as read"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A small model of the mlp preset on disk."""
    path = tmp_path_factory.mktemp("model") / "model.npz"
    network = mlp((4, 4, 1), embedding_size=3, seed=5)
    save_model(path, SiameseNetwork(network, margin=2.0, threshold=0.7, preset="mlp"), {"seed": 5})
    return path


@pytest.mark.parametrize(("make", "preset"), [(cnn, "cnn"), (mlp, "mlp")])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_model_comes_back_to_the_bit(make, preset, dtype, tmp_path):
    network = make((8, 9, 2), embedding_size=5, seed=3, dtype=dtype)
    network.params[:] += np.arange(network.params.size, dtype=dtype) / 7
    save_model(tmp_path / "model.npz", SiameseNetwork(network, 1.5, 0.3, preset), {"note": "kept"})
    for path in (tmp_path, tmp_path / "model.npz", str(tmp_path)):
        again = load_model(path)
        np.testing.assert_array_equal(again.network.params, network.params)
        assert (again.margin, again.threshold, again.preset) == (1.5, 0.3, preset)
        assert again.network.params.dtype == dtype and again.network.input_shape == (8, 9, 2)


def test_the_header_says_what_the_model_is(model):
    with np.load(model, allow_pickle=False) as archive:
        header = json.loads(str(archive["header"]))
        assert archive["dense_1.w"].shape == (16, 512)
    assert header["preset"] == "mlp" and header["margin"] == 2.0 and header["threshold"] == 0.7
    assert header["shapes"]["dense_3.w"] == [256, 3] and header["seed"] == 5


def test_only_presets_can_be_saved(tmp_path):
    with pytest.raises(ModelError, match="only networks made by a preset"):
        save_model(tmp_path / "model.npz", SiameseNetwork(mlp((4, 4, 1))))


def rewritten(model, tmp_path, **changes):
    """A copy of the model with some arrays replaced, or left out if None."""
    with np.load(model, allow_pickle=False) as archive:
        arrays = {**archive}
    arrays.update(changes)
    path = tmp_path / "changed.npz"
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return path


def header_with(model, **changes):
    with np.load(model, allow_pickle=False) as archive:
        return np.array(json.dumps({**json.loads(str(archive["header"])), **changes}))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"dense_1.w": None}, "lacks the array 'dense_1.w'"),
        ({"dense_1.w": np.zeros((3, 3), np.float32)}, r"holds 'dense_1.w' as \(3, 3\) float32"),
        ({"dense_1.w": np.zeros((16, 512))}, r"holds 'dense_1.w' as \(16, 512\) float64"),
        ({"dense_1.w": np.full((16, 512), np.nan, np.float32)}, "NaN or infinity in 'dense_1.w'"),
        ({"header": None}, "damaged"),
        ({"header": np.array("{")}, "damaged"),
        ({"header": np.array("[]")}, "is not a 'siamese_np model 1' file"),
        ({"header": np.array([object()], dtype=object)}, "damaged"),  # would have to be unpickled
    ],
)
def test_a_wrong_model_earns_a_sentence(changes, sentence, model, tmp_path):
    with pytest.raises(ModelError, match=sentence):
        load_model(rewritten(model, tmp_path, **changes))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"preset": "vgg"}, "no preset 'vgg'"),
        ({"preset": None}, "describes no network"),
        ({"format": "siamese_np model 2"}, "is not a 'siamese_np model 1' file"),
        ({"input_shape": [4, 4]}, "describes no network"),
        ({"input_shape": "big"}, "describes no network"),
        ({"dtype": "int8"}, "dtype must be float32 or float64"),
        ({"embedding_size": 0}, "at least 1"),
        ({"embedding_size": 10**12}, "its network has"),
        ({"embedding_size": True}, "embedding_size must be a whole number"),
        ({"input_shape": [4, 4.0, 1]}, "each number of input_shape must be a whole number"),
        *[
            ({name: value}, f"{name} must be a finite number of at least 0, not")
            for name in ("threshold", "margin")
            for value in (float("nan"), float("inf"), -1, -1e-9, 10**400, None, True, "0.5", "low", [0.5])
        ],
        ({"margin": 0}, "margin must be a finite number above 0"),
    ],
)
def test_a_wrong_header_earns_a_sentence(changes, sentence, model, tmp_path):
    with pytest.raises(ModelError, match=sentence):
        load_model(rewritten(model, tmp_path, header=header_with(model, **changes)))


@given(st.data())
def test_a_damaged_file_is_refused_or_right(model, tmp_path_factory, data):
    content = bytearray(model.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.sampled_from([len(content), len(content) // 2, 10, 0]))]
    path = tmp_path_factory.getbasetemp() / "damaged.npz"
    path.write_bytes(content)
    with contextlib.suppress(ModelError):  # any other exception fails the test
        again = load_model(path)
        np.testing.assert_array_equal(again.network.params, load_model(model).network.params)


def test_a_bomb_is_refused_before_it_is_unpacked(model, tmp_path):
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(model) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            if name == "dense_1.w.npy":
                large = io.BytesIO()
                np.lib.format.write_array_header_1_0(
                    large, {"shape": (1 << 40,), "fortran_order": False, "descr": "<f4"}
                )
                new.writestr(name, large.getvalue() + bytes(1 << 20))
            else:
                new.writestr(name, old.read(name))
    with pytest.raises(ModelError, match="1099511627776"):
        load_model(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        new.writestr("header.npy", bytes(1 << 24))
    with pytest.raises(ModelError, match="a header of 16777216 bytes"):
        load_model(path)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("shape", [(4, 4, 1), (9, 6, 2)])
def test_the_parameters_of_a_preset_are_known_before_it_is_made(preset, shape):
    network = PRESETS[preset](shape, embedding_size=3, dtype=np.float64)
    made = {name: (param.shape, param.dtype) for name, param in network.named_params().items()}
    assert storage._param_specs(preset, list(shape), 3, np.dtype(np.float64)) == made


def test_a_small_file_takes_little_memory(model, tmp_path):
    """Headers that announce large networks, members that announce large headers or arrays, and honest bombs."""
    with np.load(model, allow_pickle=False) as archive:
        arrays = {**archive}
    zeros = np.zeros(60_000_000, np.float32)
    large = {
        "embedding": {"header": header_with(model, embedding_size=4_000_000)},
        "images": {"header": header_with(model, input_shape=[10**6] * 3)},
        "cnn": {"header": header_with(model, preset="cnn", input_shape=[10**6, 10**6, 1])},
        "nothing": {name: None for name in arrays if name != "header"}
        | {"header": header_with(model, embedding_size=4_000_000)},
        "npy-header": {"dense_1.w": long_npy_header(200_000_000)},
        "first-npy-header": {"header": long_npy_header(1_000_000)},
        "bomb": {"dense_1.w": zeros},
        "beside": {"more": zeros[:20_000_000]},
        "honest": {
            "header": header_with(model, embedding_size=230_000),
            "dense_3.w": zeros[: 256 * 230_000].reshape(256, -1),
            "dense_3.b": zeros[:230_000],
        },
    }
    paths = [tmp_path / f"{name}.npz" for name in large]
    for path, changes in zip(paths, large.values(), strict=True):
        write_npz(path, **{name: member for name, member in (arrays | changes).items() if member is not None})
    sentences = refusals(READ, paths)
    wanted = [
        r"its network has (256, 4000000)",
        r"its network has (1000000000000000000, 512)",
        r"lacks the array 'conv2d_1.w'",
        r"lacks the array 'dense_1.w'",
        r"would unpack to 2005",
        r"header of 1000000 bytes, more than 4096",
        *[r"times its size or 64 MiB"] * 3,
    ]
    for sentence, words in zip(sentences, wanted, strict=True):
        assert words in sentence


def test_a_long_list_of_members_is_not_read(tmp_path):
    path = tmp_path / "members.npz"
    with zipfile.ZipFile(path, "w") as archive:
        for i in range(9_000):
            archive.writestr(f"{i:0100}.npy", b"")
    with pytest.raises(ModelError, match="list of members has"):
        load_model(path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_member_given_twice_is_refused(model, tmp_path):
    path = tmp_path / "twice.npz"
    path.write_bytes(model.read_bytes())
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("dense_1.w.npy", archive.read("dense_1.w.npy"))
    with pytest.raises(ModelError, match=r"holds 'dense_1\.w\.npy' twice"):
        load_model(path)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_compression_without_bounds_is_refused(model, tmp_path, method):
    path = tmp_path / "rare.npz"
    with zipfile.ZipFile(model) as old, zipfile.ZipFile(path, "w", method) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    with pytest.raises(ModelError, match="a way that NumPy does not use"):
        load_model(path)


def test_only_regular_files_are_read(tmp_path):
    """A pipe would be waited for, a device read for ever."""
    for sentence, words in zip(refusals(READ, irregular_files(tmp_path)), IRREGULAR, strict=True):
        assert f"{words}, where a regular file is needed" in sentence


def test_a_killed_save_leaves_the_old_file_or_the_new_one(tmp_path):
    path = tmp_path / "file"
    script = (
        "import sys, pathlib; from siamese_np.storage import write_atomically\n"
        "path, number = pathlib.Path(sys.argv[1]), 0\n"
        "while True:\n"
        "    write_atomically(path, bytes([number % 256]) * 300_000); number += 1\n"
        "    print(flush=True)\n"
    )
    for _ in range(3):
        process = subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE)
        process.stdout.readline()
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        content = path.read_bytes()
        assert len(content) == 300_000 and len(set(content)) == 1


def test_an_unwritable_place_raises_and_leaves_nothing(tmp_path):
    (tmp_path / "file").mkdir()  # a folder cannot be replaced by a file
    for path in (tmp_path / "file", tmp_path / "nowhere" / "file"):
        with pytest.raises(OSError, match="file") as caught:
            write_atomically(path, b"x")
        assert caught.value.filename == str(path)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_link_is_replaced_and_not_followed(tmp_path):
    (tmp_path / "other").write_bytes(b"other")
    (tmp_path / "file").symlink_to(tmp_path / "other")
    write_atomically(tmp_path / "file", b"x")
    assert (tmp_path / "other").read_bytes() == b"other"
    assert (tmp_path / "file").read_bytes() == b"x" and not (tmp_path / "file").is_symlink()


def test_an_interrupted_cleanup_does_not_hide_the_first_error(tmp_path, monkeypatch):
    replace = os.replace

    def replace_and_interrupt(source, target):
        replace(source, target)
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", replace_and_interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "file", b"x")


def test_a_file_system_without_modes_can_be_written(tmp_path, monkeypatch):
    def refuse(*arguments):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "chmod", refuse)
    write_atomically(tmp_path / "file", b"x")
    assert (tmp_path / "file").read_bytes() == b"x"
