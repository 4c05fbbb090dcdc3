"""Models and checkpoints on disk: they come back to the bit, and a damaged file earns one sentence."""

import contextlib
import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from conftest import IRREGULAR, irregular_files, long_npy_header, refusals, write_npz
from hypothesis import given
from hypothesis import strategies as st

from siamese_np import Conv2D, Dense, Sequential, SiameseNetwork, cnn, load_model, mlp, save_model, storage
from siamese_np.errors import ModelError, SiameseError
from siamese_np.presets import PRESETS
from siamese_np.storage import write_atomically

READ = "from siamese_np.storage import load_model as read"
DATA = Path(__file__).parent / "data"
OLD = DATA / "model-1.npz"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A small model of the mlp preset on disk."""
    path = tmp_path_factory.mktemp("model") / "model.npz"
    network = mlp((4, 4, 1), embedding_size=3, seed=5)
    save_model(path, SiameseNetwork(network, margin=2.0, threshold=0.7, class_names=["a", "b"]), {"seed": 5})
    return path


@pytest.mark.parametrize("make", [cnn, mlp])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_model_comes_back_to_the_bit(make, dtype, tmp_path):
    network = make((8, 9, 2), embedding_size=5, seed=3, dtype=dtype)
    network.params[:] += np.arange(network.params.size, dtype=dtype) / 7
    save_model(tmp_path / "model.npz", SiameseNetwork(network, 1.5, 0.3), {"note": "kept"})
    for path in (tmp_path, tmp_path / "model.npz", str(tmp_path)):
        again = load_model(path)
        np.testing.assert_array_equal(again.network.params, network.params)
        assert (again.margin, again.threshold, again.class_names) == (1.5, 0.3, None)
        assert again.network.params.dtype == dtype and again.network.input_shape == (8, 9, 2)
        assert again.network.config() == network.config()


def test_the_header_says_what_the_model_is(model):
    with np.load(model, allow_pickle=False) as archive:
        header = json.loads(str(archive["header"]))
        assert archive["dense_1.w"].shape == (16, 512)
    assert header["margin"] == 2.0 and header["class_names"] == ["a", "b"] and header["notes"] == {"seed": 5}
    assert header["layers"][1] == {"class": "Dense", "features": 16, "units": 512, "dtype": "float32"}
    assert header["input_shape"] == [4, 4, 1] and header["versions"]["numpy"] == np.__version__
    assert load_model(model).class_names == ["a", "b"]


@pytest.mark.parametrize(
    ("version", "form", "emb"),
    [
        (1, (2.0, 0.75, None), [[-0.0066413879, -0.0271759033], [0.0472984314, -0.0611076355]]),
        (2, (1.5, 0.25, ["zero", "one"]), [[-0.24902344, 0.47363281, -0.0625], [-0.18066406, 0.15527344, -0.19042969]]),
    ],
)
def test_a_model_file_of_each_format_loads_for_ever(version, form, emb):
    siamese = load_model(DATA / f"model-{version}.npz")
    assert (siamese.margin, siamese.threshold, siamese.class_names) == form
    images = (np.arange(32) % 5 / 4).reshape(2, 4, 4, 1)
    np.testing.assert_allclose(siamese.embed(images), emb, rtol=1e-5)


@pytest.mark.parametrize("preset", ["cnn", "mlp"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_format_1_names_the_preset_alone(preset, dtype):
    network = PRESETS[preset]((9, 6, 2), embedding_size=3, dtype=dtype)
    config = storage._preset_config(preset, [9, 6, 2], 3, dtype)
    assert Sequential.from_config(config).config() == network.config()


@pytest.mark.parametrize(
    ("said", "instead", "sentence"),
    [
        ('"margin": 2.0', '"margin": 2e999', "it holds 2e999, where numbers must be finite"),
        ('"margin": 2.0', '"margin": 2.0, "margin": 3.0', "it gives a name twice"),
        ('{"seed": 5}', '{"seed": 5, "seed": 6}', "it gives a name twice"),
        ('{"seed": 5}', "[" * 100_000, "it is nested too deeply"),
        ('"margin": 2.0', '"margin": 2.0, "later": [1]', None),
    ],
)
def test_a_header_is_plain_json(said, instead, sentence, model, tmp_path):
    with np.load(model, allow_pickle=False) as archive:
        text = str(archive["header"])
    assert text.count(said) == 1
    path = rewritten(model, tmp_path, header=np.array(text.replace(said, instead)))
    if sentence is None:  # what a later version may say is ignored
        assert load_model(path).margin == 2
        return
    with pytest.raises(ModelError, match=sentence):
        load_model(path)


@pytest.mark.parametrize("notes", [{"loss": float("nan")}, {"loss": [float("inf")]}, {"a": object()}, 5])
def test_notes_that_could_not_be_read_again_are_refused(notes, model, tmp_path):
    with pytest.raises(ModelError, match="notes must be a mapping of what JSON can hold"):
        save_model(tmp_path / "model.npz", load_model(model), notes)
    assert not list(tmp_path.iterdir())


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
        ({"header": np.array("[]")}, "is not a 'siamese_np model 2' or 'siamese_np model 1' file"),
        ({"header": np.array([object()], dtype=object)}, "damaged"),  # would have to be unpickled
    ],
)
def test_a_wrong_model_earns_a_sentence(changes, sentence, model, tmp_path):
    with pytest.raises(ModelError, match=sentence):
        load_model(rewritten(model, tmp_path, **changes))


DENSE, DENSE_2, DENSE_3 = ({"class": "Dense", "features": D, "units": E} for D, E in ((16, 512), (512, 256), (256, 3)))
FLATTEN = {"class": "Flatten"}


@pytest.mark.parametrize("name", ["layers", "input_shape", "dtype", "margin", "threshold"])
def test_a_header_must_be_whole(name, model, tmp_path):
    with np.load(model, allow_pickle=False) as archive:
        header = json.loads(str(archive["header"]))
    del header[name]
    with pytest.raises(ModelError, match=f"changed.npz has a header that describes no network: .*({name}|a list of)"):
        load_model(rewritten(model, tmp_path, header=np.array(json.dumps(header))))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"preset": "vgg"}, "no preset 'vgg'"),
        ({"preset": None}, "no preset None"),
        ({"input_shape": [4, 4]}, r"input_shape must be \[H, W, C\]"),
        ({"input_shape": [4, 4.0, 1]}, "each number of input_shape must be a whole number"),
        ({"embedding_size": 0}, "at least 1, not 0"),
        ({"embedding_size": True}, "embedding_size must be a whole number"),
        ({"embedding_size": 10**12}, "units must be at most 2147483647"),
        ({"dtype": "float16"}, "dtype must be float32 or float64"),
        ({"threshold": None}, "threshold must be a finite number"),
    ],
)
def test_a_wrong_header_of_format_1_earns_a_sentence(changes, sentence, tmp_path):
    with pytest.raises(ModelError, match=sentence):
        load_model(rewritten(OLD, tmp_path, header=header_with(OLD, **changes)))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"format": "siamese_np model 3"}, "is not a 'siamese_np model 2' or 'siamese_np model 1' file"),
        ({"layers": None}, "a list of layers, each with its class"),
        ({"layers": {}}, "a list of layers"),
        ({"layers": [DENSE, 5]}, "a list of layers"),
        ({"layers": [{"features": 16}]}, "a list of layers"),
        ({"layers": [{"class": "LayerNorm"}]}, "there is no layer 'LayerNorm'; .* @register_layer above it"),
        ({"layers": [{"class": ["Dense"]}]}, r"there is no layer \['Dense'\]"),
        ({"layers": [{"class": "Dense"}]}, "Dense cannot be made from its description: .*features"),
        ({"layers": [{**DENSE, "colour": 1}]}, "Dense cannot be made from its description|its network has"),
        ({"layers": [{**DENSE, "units": 10**12}]}, "units must be at most 2147483647"),
        (
            {"layers": [{**DENSE, "units": 512.0}, DENSE_2, DENSE_3]},
            "units must be a whole number of at least 1, not 512.0",
        ),
        ({"layers": [{**DENSE, "dtype": "float64"}, DENSE_2, DENSE_3]}, "must have one dtype"),
        (
            {"layers": [FLATTEN, *({**each, "dtype": "float64"} for each in (DENSE, DENSE_2, DENSE_3))]},
            "its layers have float64",
        ),
        ({"layers": [DENSE, DENSE_2, DENSE_3]}, r"Dense\(16, 512\) needs vectors \(N, 16\), not"),
        ({"layers": [FLATTEN, DENSE, DENSE_2]}, None),  # another network, which the file holds
        ({"layers": [{"class": "MaxPool2D", "window": 0}]}, "window must be a whole number of at least 1, not 0"),
        ({"layers": []}, "must end in vectors"),
        ({"input_shape": [4, 5, 1]}, r"Dense\(16, 512\) needs vectors \(N, 16\), not"),
        ({"input_shape": [4, 4.0, 1]}, "an input shape is .* whole numbers of at least 1, not"),
        ({"input_shape": "big"}, "an input shape is"),
        ({"input_shape": None}, "an input shape is"),
        ({"dtype": "int8"}, "dtype must be float32 or float64"),
        ({"dtype": [4]}, "dtype must be float32 or float64"),
        ({"dtype": "float64"}, r"holds 'dense_1.w' as \(16, 512\) float32"),
        ({"class_names": "ab"}, "class names must be a list of text"),
        ({"class_names": [1, 2]}, "class names must be a list of text"),
        *[
            ({name.split()[-1]: value}, f"{name} must be a finite number (of at least|above) 0, not")
            for name in ("threshold", "the margin")
            for value in (-1, -1e-9, 10**400, None, True, "0.5", "low", [0.5])
        ],
        *[
            ({name: value}, f"it holds {word}, where numbers must be finite")
            for name in ("threshold", "margin", "anything")
            for value, word in ((float("nan"), "NaN"), (float("inf"), "Infinity"), ([-float("inf")], "-Infinity"))
        ],
        ({"margin": 0}, "margin must be a finite number above 0"),
    ],
)
def test_a_wrong_header_earns_a_sentence(changes, sentence, model, tmp_path):
    if sentence is None:
        load_model(rewritten(model, tmp_path, header=header_with(model, **changes)))
        return
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


def described(model, *layers):
    return header_with(model, layers=[FLATTEN, *layers])


def test_a_small_file_takes_little_memory(model, tmp_path):
    """Headers that announce large networks, members that announce large headers or arrays, and honest bombs."""
    with np.load(model, allow_pickle=False) as archive:
        arrays = {**archive}
    zeros = np.zeros(60_000_000, np.float32)
    large = {
        "embedding": {"header": described(model, DENSE, DENSE_2, {**DENSE_3, "units": 4_000_000})},
        "images": {"header": described(model, {**DENSE, "features": 10**18})},
        "cnn": {"header": described(model, {"class": "Conv2D", "channels": 10**6, "filters": 10**6})},
        "nothing": {name: None for name in arrays if name != "header"}
        | {"header": described(model, {**DENSE, "units": 4_000_000})},
        "old": {"header": header_with(OLD, preset="mlp", embedding_size=4_000_000, input_shape=[4, 4, 1])},
        "npy-header": {"dense_1.w": long_npy_header(200_000_000)},
        "first-npy-header": {"header": long_npy_header(1_000_000)},
        "bomb": {"dense_1.w": zeros},
        "beside": {"more": zeros[:20_000_000]},
        "honest": {
            "header": described(model, DENSE, DENSE_2, {**DENSE_3, "units": 230_000}),
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
        r"features must be at most 2147483647, not 1000000000000000000",
        r"lacks the array 'conv2d_1.w'",
        r"lacks the array 'dense_1.w'",
        r"its network has (256, 4000000)",
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
        process.kill()
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


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="memory is read from /proc")
def test_rejected_calls_leave_no_memory(tmp_path):
    (tmp_path / "model.npz").write_bytes(b"PK\3\4" + bytes(500))
    conv, dense = Conv2D(1, 4, 3, seed=0), Dense(4, 3, seed=0)
    images = np.zeros((2, 5, 5, 1), np.float32)
    calls = [
        lambda: load_model(tmp_path),
        lambda: conv.forward(images[..., :0]),
        lambda: conv.backward(images, None),
        lambda: dense.forward(images),
        lambda: Dense(-1, 3),
    ]

    def resident():
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    before, opened = 0, len(os.listdir("/proc/self/fd"))
    for number in range(2200):
        before = resident() if number == 200 else before
        for call in calls:
            with pytest.raises(SiameseError):
                call()
    assert resident() - before < 5_000_000 and len(os.listdir("/proc/self/fd")) == opened
