"""A pair's trace: its numbers are the textbook's, in Python and in the page, and the page says what they come from."""

import base64
import json
import re
import threading
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from browser import CHROMIUM, browser
from PIL import Image

import siamese_np
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
    load_model,
    mlp,
    register_layer,
    save_model,
    textbook,
    trace,
)
from siamese_np.cli import main
from siamese_np.errors import OptionError, ShapeError
from siamese_np.tracing import mistakes
from siamese_np.tracing import page as pages
from siamese_np.tracing.mistakes import MISTAKES, PlantedNetwork, check, place, said
from siamese_np.tracing.page import Pair

ROOT = Path(siamese_np.__file__).parent.parent
EXAMPLE = ROOT / "notebooks" / "trace.html"
in_browser = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")


def small(seed=0):
    """A network of every layer that there is, on images of 10x10 pixels; its biases are not 0."""
    layers = [
        Conv2D(1, 4, 3, pad="same", seed=seed),
        ReLU(),
        MaxPool2D(2),
        Conv2D(4, 6, (2, 3), stride=(1, 2), pad=1, seed=seed + 1),
        ReLU(),
        MaxPool2D(2, stride=1),
        AvgPool2D(2, stride=1),
        Flatten(),
        Dense(4 * 6, 8, seed=seed + 2),
        ReLU(),
        Dense(8, 5, seed=seed + 3),
    ]
    siamese = SiameseNetwork(Sequential(layers, (10, 10, 1)), margin=2.0)
    siamese.network.params += np.random.default_rng(seed).normal(0, 0.1, siamese.network.params.shape)
    return siamese


def images(count=2, seed=0):
    drawn = np.random.default_rng(seed).random((count, 10, 10, 1), np.float32)
    return np.where(drawn < 0.5, np.float32(0), drawn)


@pytest.fixture(scope="module", autouse=True)
def checked_once():
    """What the checker says of a mistake with the same weights is the same on each page, and takes seconds."""
    kept = {}

    def check_once(layers, mistake):
        weights = [(name, repr(layer), *(a.tobytes() for a in layer.params.values())) for name, layer in layers.items()]
        key = mistake, *weights
        if key not in kept:
            kept[key] = check(layers, mistake)
        return kept[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pages, "check", check_once)
        yield


@pytest.fixture(scope="module")
def siamese():
    return small()


@pytest.fixture(scope="module")
def traced(siamese):
    return trace(siamese, *images(), label=1)


# --- In Python ------------------------------------------------------------------------------------------------


def test_a_hundred_numbers_are_the_textbook_s(siamese, traced):
    """Each array again from those it is made of, by a call of the textbook written here; a random hundred compared."""
    t, again = traced, {}
    for of in "ab":
        for name, layer in t.layers.items():
            x, dout, key = t[f"{of}.{name}.x"], t[f"{of}.{name}.dout"], f"{of}.{name}"
            p = {n: array for n, array in layer.params.items()}
            if isinstance(layer, Conv2D):
                again[f"{key}.out"], cache = textbook.conv2d_forward(x, p["w"], p["b"], layer.stride, layer.pad)
                again[f"{key}.dx"], again[f"{key}.dw"], again[f"{key}.db"] = textbook.conv2d_backward(dout, cache)
            elif isinstance(layer, Dense):
                again[f"{key}.out"], cache = textbook.dense_forward(x, p["w"], p["b"])
                again[f"{key}.dx"], again[f"{key}.dw"], again[f"{key}.db"] = textbook.dense_backward(dout, cache)
            elif isinstance(layer, ReLU):
                again[f"{key}.out"], cache = textbook.relu_forward(x)
                again[f"{key}.dx"] = textbook.relu_backward(dout, cache)
            elif isinstance(layer, MaxPool2D):
                again[f"{key}.out"], cache = textbook.maxpool2d_forward(x, layer.window, layer.stride)
                again[f"{key}.argmax"] = cache[0]
                again[f"{key}.dx"] = textbook.maxpool2d_backward(dout, cache)
            elif isinstance(layer, AvgPool2D):
                again[f"{key}.out"], cache = textbook.avgpool2d_forward(x, layer.window, layer.stride)
                again[f"{key}.dx"] = textbook.avgpool2d_backward(dout, cache)
            else:
                again[f"{key}.out"], again[f"{key}.dx"] = x.reshape(1, -1), dout.reshape(x.shape)
    emb = [t[f"{of}.dense_2.out"] for of in "ab"]
    again["dist"], cache = textbook.euclidean_forward(*emb)
    again["a.dense_2.dout"], again["b.dense_2.dout"] = textbook.euclidean_backward(t["ddist"], cache)
    again["loss"], cache = textbook.contrastive_forward(t["dist"], np.array([1]), np.float32(2))
    again["ddist"] = textbook.contrastive_backward(np.ones(1, np.float32), cache)
    inputs = {n for n in t if n.endswith(".x") or n.startswith("shared.")}
    assert set(t) == set(again) | inputs | {n for n in t if n.endswith(".dout")}

    rng = np.random.default_rng(0)
    for name in rng.choice([*again], 100):
        assert again[name].shape == t[name].shape
        at = tuple(rng.integers(again[name].shape))
        assert again[name][at] == t[name][at], (name, at)
    assert {a.dtype for n, a in t.items() if not n.endswith("argmax")} == {np.dtype(np.float32)}


def test_neighbours_hand_over_and_both_branches_add_up(traced):
    names = [*traced.layers]
    for of in "ab":
        for before, after in pairwise(names):
            assert traced[f"{of}.{before}.out"] is traced[f"{of}.{after}.x"]
            assert traced[f"{of}.{after}.dx"] is traced[f"{of}.{before}.dout"]
    for name in (n for n in traced if n.startswith("shared.")):
        rest = name.removeprefix("shared.")
        assert (traced[name] == traced[f"a.{rest}"] + traced[f"b.{rest}"]).all()


def test_the_compiled_run_differs_in_the_last_digits_only(siamese, traced):
    a, b = images()
    siamese.network.zero_grads()
    loss = siamese_np.ContrastiveLoss(2.0)
    siamese.pair_gradients(a[None], b[None], [1], loss)
    grads = np.concatenate([traced[n].ravel() for n in traced if n.startswith("shared.")])
    np.testing.assert_allclose(grads, siamese.network.grads, rtol=2e-4, atol=1e-6)
    assert siamese.distances(a[None], b[None])[0] == pytest.approx(traced["dist"][0], rel=1e-5)


def test_nothing_of_the_network_changes(siamese):
    before = siamese.network.params.copy(), siamese.network.grads.copy()
    trace(siamese, *images())
    assert (siamese.network.params == before[0]).all() and (siamese.network.grads == before[1]).all()


def test_the_table_and_the_names(traced):
    text = repr(traced)
    for part in ("a.conv2d_1.dw", "b.maxpool2d_1.dx", "shared.dense_1.dw", "3x3x1x4", "FLOPs", "dissimilar pair"):
        assert part in text
    assert "b.relu_1.x" not in text and "argmax" not in text
    with pytest.raises(
        KeyError, match=r"has no array 'conv2d_1\.dw'; a name is branch, layer and array, as a\.conv2d_1\.dw"
    ):
        traced["conv2d_1.dw"]
    assert "a.conv2d_1.dw" in traced and "conv" not in traced


def test_the_label_is_the_model_s_guess_unless_given(siamese):
    a, b = images()
    assert trace(siamese, a, a).label == 0 and trace(siamese, a, a)["ddist"] == 0
    siamese = SiameseNetwork(siamese.network, margin=2.0, threshold=1e-6)
    assert trace(siamese, a, b).label == 1
    assert trace(siamese, a, b, 0).label == 0


def test_float64_models_are_traced_in_float32():
    network = mlp((4, 4, 1), dtype=np.float64)
    t = trace(SiameseNetwork(network), np.ones((4, 4)), np.zeros((4, 4)))
    assert {array.dtype for array in t.values()} == {np.dtype(np.float32)}


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"a": np.ones((9, 10), np.float32)}, ShapeError, r"images \(10, 10, 1\), but image a is \(9, 10\)"),
        ({"b": np.ones((10, 10), np.uint8)}, ShapeError, "image b must be floats"),
        ({"a": np.full((10, 10), np.nan, np.float32)}, ShapeError, "NaN"),
        ({"a": "seven"}, ShapeError, "image a is"),
        ({"label": 2}, OptionError, "label is 0 for a similar pair"),
        ({"label": True}, OptionError, "label is 0 for a similar pair"),
        ({"siamese": mlp()}, OptionError, "a SiameseNetwork with layers can be traced, not Sequential"),
        ({"siamese": SiameseNetwork(Sequential([], (2,)))}, OptionError, "a SiameseNetwork with layers can be traced"),
    ],
)
def test_what_is_wrong_is_told(siamese, change, error, words):
    a, b = images()
    with pytest.raises(error, match=words):
        trace(**{"siamese": siamese, "a": a, "b": b, **change})


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_user_s_layer_runs_itself_and_is_left_as_it_was(dtype):
    class Mine(Dense):
        pass

    def siamese(kind):
        return SiameseNetwork(
            Sequential([Flatten(), kind(4, 3, seed=1, dtype=dtype), Dense(3, 2, seed=0, dtype=dtype)], (2, 2, 1))
        )

    a, b = np.random.default_rng(0).random((2, 2, 2), np.float32)
    mine, plain = siamese(Mine), siamese(Dense)
    mine.network.grads[:] = 5
    t, expected = trace(mine, a, b, 0), trace(plain, a, b, 0)
    names = [name.replace("dense_2", "dense_1").replace("mine_1", "dense_1") for name in t]
    assert len(t) == len(expected) and set(names) <= set(expected)
    for of in ("x", "out", "dout", "dx", "dw", "db"):
        np.testing.assert_allclose(t[f"b.mine_1.{of}"], expected[f"b.dense_1.{of}"], rtol=1e-5)
        assert t[f"b.mine_1.{of}"].dtype == np.float32
    np.testing.assert_array_equal(t["shared.mine_1.dw"], t["a.mine_1.dw"] + t["b.mine_1.dw"])
    assert (mine.network.grads == 5).all() and "mine_1.out" in repr(t)


class Plain(Layer):
    """A layer without parameters that asks for float64, as its network has."""

    dtype = np.float64

    def __init__(self, kept=None):
        self.kept = kept

    def forward(self, x):
        return self._check(x) * 2, None

    def backward(self, dout, cache):
        return dout * 2


class Largest(MaxPool2D):
    """Of the package's class, but with a cache of its own."""

    def forward(self, x):
        out, self.kept = super().forward(x)
        return out, None

    def backward(self, dout, cache):
        return super().backward(dout, self.kept)


def test_a_user_s_pooling_keeps_what_it_likes():
    network = Sequential([Largest(2), Flatten(), Dense(1, 2, seed=0)], (2, 2, 1))
    a, b = np.random.default_rng(0).random((2, 2, 2), np.float32)
    t = trace(SiameseNetwork(network), a, b, 0)
    assert "a.largest_1.argmax" not in t and t["a.largest_1.out"].item() == a.max()


class Complex(Plain):
    def forward(self, x):
        return x * 1j, None


@pytest.mark.parametrize(
    ("layer", "error", "words"),
    [
        (Complex(), ShapeError, r"Complex\(\).forward must return an array of float64, not of complex128"),
        (Plain(threading.Lock()), OptionError, "a layer of your own is run on a copy, but none can be made: .*pickle"),
    ],
)
def test_a_user_s_layer_that_cannot_be_traced_is_told(layer, error, words):
    def siamese(layer):
        return SiameseNetwork(Sequential([Flatten(), layer, Dense(4, 2, seed=0, dtype=np.float64)], (2, 2, 1)))

    a, b = np.random.default_rng(0).random((2, 2, 2), np.float32)
    out = trace(siamese(Plain()), a, b, 0)["a.plain_1.out"]
    np.testing.assert_array_equal(out, 2 * a.reshape(1, 4))
    assert out.dtype == np.float32
    with pytest.raises(error, match=words):
        trace(siamese(layer), a, b, 0)


# --- Planted mistakes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mistake", "words"),
    [
        ("branch", "shared by two branches, one of them is lost"),
        ("mask", "a mask or a condition is missing"),
        ("sign", "along axis 1 each index has a factor of its own (1, -1): the sign is wrong for some"),
        ("mean", "(1/N: a mean taken for a sum, or a sum for a mean)"),
        ("stride", "goes where nothing should arrive: a wrong index"),
    ],
)
def test_the_checker_names_each_mistake(traced, mistake, words):
    report = check(traced.layers, mistake)
    assert report.verdict == "FAIL"
    assert words in "\n".join(said(report))


def test_the_checker_looks_at_the_model_s_own_weights(monkeypatch):
    monkeypatch.setattr(mistakes, "check_gradients", lambda network, pairs, seed: (network, pairs))
    for name, layer, w, shape in [
        ("conv2d_7", Conv2D(3, 4, (2, 3), stride=(1, 2), seed=0), np.s_[:, :, :1, :2], (3, 2, 3, 5, 1)),
        ("dense_7", Dense(9, 8, seed=0), np.s_[:4, :3], (3, 2, 4)),
        ("dense_7", Dense(2, 1, seed=0), np.s_[:], (3, 2, 2)),
    ]:
        layer.params["b"][...] = np.arange(layer.params["b"].size)
        network, pairs = check({"relu_1": ReLU(), name: layer}, "branch")
        assert (network.params[f"{name}.w"] == layer.params["w"][w]).all() and pairs.shape == shape
        assert (network.params[f"{name}.b"] == np.arange(network.params[f"{name}.b"].size)).all()


def test_without_a_mistake_the_gradients_are_right(traced):
    network = PlantedNetwork(traced.layers)
    pair = np.stack(images())[None].astype(np.float64)
    dist, cache = network.forward(pair)
    network.backward(dist - 2, cache)  # the slope of a dissimilar pair
    for name, grad in network.grads.items():
        layer, _, key = name.partition(".")
        np.testing.assert_allclose(traced[f"shared.{layer}.d{key}"], grad, rtol=1e-3, atol=1e-6)
    assert [place(traced.layers, name) for name in MISTAKES] == ["conv2d_1", "relu_1", "", "conv2d_1", "maxpool2d_1"]
    assert place({"dense_1": Dense(2, 2)}, "mask") is place({"dense_1": Dense(2, 2)}, "stride") is None


# --- The page, read as a file -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def html(siamese, traced):
    identical = trace(siamese, *images()[[0, 0]], label=0)
    pairs = [Pair(traced, "dissimilar", "one", "other"), Pair(identical, "identical <b>", "one", "one")]
    return pages.page(siamese, pairs)


def data_of(html):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.DOTALL)[1])


def test_the_page_holds_the_textbook_s_bits(html, traced):
    data = data_of(html)
    blob = re.search(r'<script type="text/plain" id="pair0">(.*?)</script>', html)[1]
    numbers, at = np.frombuffer(base64.b64decode(blob), "<f4"), 0
    names = [name for name, _ in data["pairs"][0]["arrays"]]
    for name, length in data["pairs"][0]["arrays"]:
        of, _, rest = name.partition(".")
        array = traced[{"x": f"{of}.conv2d_1.x", "demb": f"{of}.dense_2.dout"}.get(rest, name)]
        assert (numbers[at : at + length] == array.ravel()).all(), name
        at += length
    assert at == len(numbers)
    assert not any("dense_1.dw" in name or "relu" in name for name in names)
    assert {"a.conv2d_1.dw", "b.avgpool2d_1.out", "a.maxpool2d_2.dx"} <= set(names)
    assert "a.maxpool2d_1.dx" not in names


def test_the_page_needs_nothing_else(html):
    assert not re.search(r"https?:|src=|<link|@import|fetch\(|XMLHttp|import\(", html)
    assert "identical <b>" not in html  # nor can a title be a tag
    assert "<!--" not in html


def test_every_line_of_the_textbook_is_found(html):
    data = data_of(html)
    for arrays in data["lines"].values():
        for file, number in arrays.values():
            assert data["sources"][file][number - 1].startswith("    ")
    assert data["lines"]["Conv2D"]["dw"][0] == "conv2d"
    assert "np.tensordot" in data["sources"]["conv2d"][data["lines"]["Conv2D"]["dw"][1] - 1]


def test_pairs_that_do_not_fit_are_left_out(siamese, traced, html, monkeypatch):
    pair = Pair(traced, "a pair", "one", "other")
    monkeypatch.setattr(pages, "MAX_BYTES", len(html) + 4_000)
    kept = pages.page(siamese, [pair] * 6)
    assert 1 <= len(data_of(kept)["pairs"]) < 6 and len(kept) <= pages.MAX_BYTES
    monkeypatch.setattr(pages, "MAX_BYTES", 10_000)
    assert len(data_of(pages.page(siamese, [pair] * 2))["pairs"]) == 1  # the first is shown, however large it is
    monkeypatch.setattr(pages, "MAX_BYTES_OF_ONE", 20_000)
    with pytest.raises(OptionError, match="more than 20,000 bytes"):
        pages.page(siamese, [pair])


def test_the_committed_example_is_of_this_version():
    """Small enough, made by the program and from the textbook as they are now, and with the numbers of its weights."""
    html = EXAMPLE.read_text(encoding="utf-8")
    assert len(html) <= 2_000_000
    data = data_of(html)
    assert pages._fill(data, re.findall(r'<script type="text/plain".*?</script>', html)) == html, "make it again"
    assert data["sources"] == {file: pages._source(file).splitlines() for file in data["sources"]}
    titles = [pair["title"] for pair in data["pairs"]]
    assert titles[1:] == [
        "similar",
        "dissimilar, within the margin",
        "dissimilar, beyond the margin",
        "identical",
        "misjudged",
    ]

    def numbers(id, about):
        blob = re.search(rf'<script type="text/plain" id="{id}">(.*?)</script>', html)[1]
        ends = np.cumsum([length for _, length in about])
        parts = np.split(np.frombuffer(base64.b64decode(blob), "<f4"), ends[:-1])
        return {name: part for (name, _), part in zip(about, parts, strict=True)}

    layers = [Conv2D(1, 8, pad="same"), ReLU(), MaxPool2D(), Conv2D(8, 16, pad="same"), ReLU(), MaxPool2D()]
    layers += [Flatten(), Dense(784, 32), ReLU(), Dense(32, 16)]
    network = Sequential(layers, (28, 28, 1))
    weights = numbers("weights", data["weights"])
    network.load_params({name: weights[name].reshape(a.shape) for name, a in network.named_params().items()})
    for n, pair in enumerate(data["pairs"]):
        kept = numbers(f"pair{n}", pair["arrays"])
        t = trace(
            SiameseNetwork(network, pair["margin"]), *(kept[f"{of}.x"].reshape(28, 28) for of in "ab"), pair["label"]
        )
        assert t["dist"][0] == pytest.approx(pair["dist"], abs=1e-5)
        for name in ("a.conv2d_1.dw", "b.conv2d_2.dx", "b.dense_1.out"):
            np.testing.assert_allclose(kept[name], t[name].ravel(), rtol=1e-3, atol=1e-5)


# --- The command ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.npz"
    layers = [Conv2D(1, 2, 5, stride=2, seed=0), ReLU(), MaxPool2D(2), GlobalAvgPool2D(), Dense(2, 3, seed=1)]
    save_model(path, SiameseNetwork(Sequential(layers, (28, 28, 1))))
    return path


def test_numbers_of_test_images_and_other_pairs(model, tmp_path, capsys):
    assert main(["trace", str(model), "0", "1", "-o", str(tmp_path / "t.html"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    html = (tmp_path / "t.html").read_text()
    assert told["output"] == str(tmp_path / "t.html") and told["bytes"] == len(html) and told["label"] == 1
    pairs = data_of(html)["pairs"]
    assert pairs[0]["of_b"] == "test image 1, class 2"
    assert {"similar", "identical"} < {pair["title"] for pair in pairs}
    assert [pair["dist"] for pair in pairs if pair["title"] == "identical"] == [0]


def test_pictures_of_one_s_own(model, tmp_path, capsys):
    drawn = np.zeros((40, 30), np.uint8)
    drawn[5:35, 12:18] = 255
    for name in ("one.png", "other.png"):
        Image.fromarray(drawn).save(tmp_path / name)
    files = [str(tmp_path / name) for name in ("one.png", "other.png")]
    assert main(["trace", str(model), *files, "-o", str(tmp_path / "t.html"), "--only"]) == 0
    said = capsys.readouterr().out
    assert "similar pair" in said and "this pair has no gradient: its embeddings are equal; try" in said
    (pair,) = data_of((tmp_path / "t.html").read_text())["pairs"]
    assert pair["title"] == "your pictures (taken for similar)" and pair["dist"] == 0 and pair["of_a"] == "one.png"
    assert main(["trace", str(model), *files, "--only", "--label", "dissimilar", "-o", str(tmp_path / "t.html")]) == 0
    (pair,) = data_of((tmp_path / "t.html").read_text())["pairs"]
    assert pair["label"] == 1 and pair["title"] == "your pictures" and pair["ddist"] == -1


def test_a_pair_beyond_the_margin_is_told_to_have_no_gradient(model, tmp_path, capsys):
    siamese = load_model(model)
    siamese.margin = 1e-6
    save_model(tmp_path / "model.npz", siamese)
    given = ["trace", str(tmp_path), "0", "1", "--only", "-o", str(tmp_path / "t.html")]
    assert main(given) == 0
    assert "no gradient: it is dissimilar, and beyond the margin; try other images" in capsys.readouterr().out
    assert main([*given, "--json"]) == 0
    assert '"ddist": 0.0' in capsys.readouterr().out
    assert main(["trace", str(model), "0", "1", "--only", "--label", "similar", *given[-2:]]) == 0
    assert "no gradient" not in capsys.readouterr().out


def test_numbers_that_leave_the_range_are_told(tmp_path, capsys):
    network = Sequential([Flatten(), Dense(784, 4, seed=0), Dense(4, 2, seed=1)], (28, 28, 1))
    network.params *= 1e30
    save_model(tmp_path / "model.npz", SiameseNetwork(network))
    assert main(["trace", str(tmp_path), "0", "1", "--only", "-o", str(tmp_path / "t.html")]) == 2
    out, err = capsys.readouterr()
    assert out == "" and re.fullmatch(r"siamese-np: a\.demb holds NaN or infinity: .*\n", err)


@register_layer
class Doubled(ReLU):
    """A layer of a user."""


def test_one_sentence_and_status_2(model, tmp_path, capsys):
    other, own = tmp_path / "other.npz", tmp_path / "own.npz"
    save_model(other, SiameseNetwork(mlp((8, 8, 1))))
    save_model(own, SiameseNetwork(Sequential([Flatten(), Doubled(), Dense(784, 2, seed=0)], (28, 28, 1))))
    (tmp_path / "foreign.npz").write_bytes(b"no model")
    (tmp_path / "text.png").write_text("no image")
    for arguments, words in [
        ([tmp_path / "none.npz", "0", "1"], "none.npz"),
        ([tmp_path / "foreign.npz", "0", "1"], "damaged or not a file that siamese_np wrote"),
        ([other, "0", "1"], "the model does not say what it was trained on; name the data to use (--data)"),
        ([own, "0", "1"], "doubled_1, Doubled(), has no page in the textbook"),
        ([model, "0", "10000"], "test images 0 to 9999, not 10000"),
        ([model, "-1", "0"], "test images 0 to 9999, not -1"),
        ([model, "0", tmp_path / "none.png"], "there is no file"),
        ([model, "0", tmp_path / "text.png"], "not an image file"),
        ([model, "0", "1", "-o", tmp_path / "t.pdf"], "must end in .html"),
        ([model, "0", "1", "-o", tmp_path / "none" / "t.html"], "there is no folder"),
        ([model, "0", "1", "--data", tmp_path / "none"], "there is no file or folder"),
    ]:
        given = ["trace", *map(str, arguments)]
        given += [] if "-o" in given else ["-o", str(tmp_path / "t.html")]
        assert main(given) == 2, arguments
        out, err = capsys.readouterr()
        assert out == "" and err.count("\n") == 1 and words in err, err
    assert not (tmp_path / "t.html").exists()


# --- The page, in a browser -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def opened(html, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "trace.html"
    path.write_text(html, encoding="utf-8")
    with browser() as page:
        page.url = path.as_uri()
        page.resize(1600, 1000)
        yield page
        assert page.errors == []
        assert {url.partition(":")[0] for url in page.requests} <= {"file", "about"}


def numbers_of(page, script):
    return np.array(page.run(f"Array.from({script})"))


@in_browser
def test_every_array_in_the_page_has_the_textbook_s_bits(opened, traced):
    opened.open(opened.url)
    names = [*traced.layers]
    for of in "ab":
        for i, name in enumerate(names):
            got = {
                "x": f"base().{of}.acts[{i}]",
                "out": f"base().{of}.acts[{i + 1}]",
                "dout": f"base().{of}.grads[{i + 1}]",
                "dx": f"base().{of}.grads[{i}]",
            }
            if traced.layers[name].params:
                got |= {"dw": f"base().{of}.of[{i}].w", "db": f"base().{of}.of[{i}].b"}
                for key in "wb":
                    shared = numbers_of(opened, f"base().shared[{i}].{key}")
                    assert (shared == traced[f"shared.{name}.d{key}"].ravel()).all()
            if isinstance(traced.layers[name], MaxPool2D):
                got["argmax"] = f"base().{of}.argmax[{i}]"
            for key, script in got.items():
                assert (numbers_of(opened, script) == traced[f"{of}.{name}.{key}"].ravel()).all(), (of, name, key)


@in_browser
def test_a_walk_click_a_cell_of_dw_and_read_its_sum(opened, traced):
    opened.open(f"{opened.url}#layer=conv2d_1&pass=backward&array=dw&branch=a&cell=0,0,0,3")
    opened.click('canvas[aria-label^="dw of conv2d_1, branch b"]', x=0.5, y=5 / 6)  # p = 2, q = 1
    assert opened.run("document.querySelector('#cell h3').textContent") == "dw[2, 1, 0, 3] of conv2d_1, branch b"
    _, cache = textbook.conv2d_forward(
        traced["b.conv2d_1.x"], *traced.layers["conv2d_1"].params.values(), (1, 1), (1, 1)
    )
    _, dw, _ = textbook.conv2d_backward(traced["b.conv2d_1.dout"], cache)
    assert opened.run("Number(document.getElementById('value').dataset.value)") == dw[2, 1, 0, 3]
    assert opened.run("Number(document.getElementById('sum').dataset.value)") == pytest.approx(dw[2, 1, 0, 3], rel=1e-5)
    assert opened.run("document.querySelector('#cell a').textContent").startswith("siamese_np/textbook/conv2d.py, line")
    assert opened.run("Number(document.getElementById('agreement').dataset.digits)") >= 4
    assert "array=dw&branch=b&cell=2,1,0,3" in opened.run("location.hash")
    opened.run("document.querySelector('#cell a').click()")
    assert "np.tensordot" in opened.run("document.querySelector('#source mark').textContent")


OTHERS = {
    "a global mean, strides that leave pixels out": (
        [Conv2D(1, 3, (3, 2), stride=(2, 3), pad=(0, 2), seed=0), MaxPool2D(3, stride=2), GlobalAvgPool2D()],
        (13, 12, 1),
    ),
    "three channels, windows apart": (
        [Conv2D(3, 2, 2, seed=0), AvgPool2D(2, stride=3), MaxPool2D(1), Flatten()],
        (9, 8, 3),
    ),
    "vectors": ([Dense(6, 5, seed=0), ReLU(), Dense(5, 3, seed=1)], (6,)),
}


@pytest.fixture(scope="module", params=["every layer", *OTHERS])
def address(request, html, tmp_path_factory):
    """Pages of networks of several kinds."""
    if request.param in OTHERS:
        layers, shape = OTHERS[request.param]
        siamese = SiameseNetwork(Sequential(layers, shape), margin=3.0)
        a, b = np.random.default_rng(1).random((2, *shape), np.float32)
        html = pages.page(siamese, [Pair(trace(siamese, a, b, 1), "a pair", "one", "other")])
    path = tmp_path_factory.mktemp("page") / "trace.html"
    path.write_text(html, encoding="utf-8")
    return path.as_uri()


@in_browser
def test_the_sum_of_every_array_is_its_number(opened, address):
    """In each step, for each array and branch, the chosen cell's terms add up to what the array holds."""
    opened.open(address)
    wrong = opened.run(
        """(() => { const wrong = [];
        for (let n = 0; n < STEPS.length; n++) { go(n);
          for (const row of Object.values(arrays)) for (const branch of Object.keys(row.of)) {
            const data = row.of[branch], most = largestOf(data);
            for (let k = 0; k < data.length; k += Math.ceil(data.length / 7)) {
              const cell = cellOf(row.shape, k), found = explain(row.key, cell, branch);
              if (!found && branch !== 'w' && row.key !== 'x' && row.key !== 'dout') wrong.push([n, row.key]);
              if (!found || found.own) continue;
              const sum = found.terms.reduce((s, fs) => s + fs.reduce((p, f) => p * f.value, 1), 0);
              const right = Math.abs(sum - data[k]) <= 1e-5 * most;
              if (!right) wrong.push([STEPS[n].id, row.key, branch, cell, sum, data[k]]);
            } } }
        return wrong })()"""
    )
    assert wrong == []


@in_browser
def test_numeric_derivatives_agree_with_every_gradient(opened, address):
    opened.open(address)
    digits = opened.run(
        """(() => { const found = [];
        for (let n = 0; n < STEPS.length; n++) { go(n);
          for (const row of Object.values(arrays)) for (const branch of Object.keys(row.of)) {
            if (row.key[0] !== 'd') continue;
            const data = row.of[branch], k = data.reduce((m, v, i) => Math.abs(v) > Math.abs(data[m]) ? i : m, 0);
            const { central } = numeric(LAYERS, PARAMS, run(), movedBy(row.key, cellOf(row.shape, k), branch));
            found.push([STEPS[n].id, row.key, branch, agreement(data[k], central)]);
          } }
        return found })()"""
    )
    assert len(digits) > 8
    assert [each for each in digits if each[-1] < 4] == []


def put(page, name, value, event="input"):
    """Give a control a value, as a user does, and wait until the page has drawn what follows."""
    page.run(
        f"(() => {{ const box = document.getElementById('{name}'); box.value = '{value}'; "
        f"box.dispatchEvent(new Event('{event}')) }})()"
    )
    page.run("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def planted(traced, mistake="", ddist=None):
    """Gradients by name with a mistake, in float64, and with another slope of the loss than the trace's."""
    network = PlantedNetwork(traced.layers, mistake)
    pair = np.stack([traced["a.conv2d_1.x"][0], traced["b.conv2d_1.x"][0]])[None].astype(np.float64)
    dist, cache = network.forward(pair)
    dpair = network.backward(dist - 2 if ddist is None else np.array([ddist]), cache)
    return network.grads, dpair[0]


def close(got, expected):
    np.testing.assert_allclose(got, expected.ravel(), rtol=1e-5, atol=1e-5 * abs(expected).max() + 1e-12)


def compare(page, traced, grads, dpair):
    for i, name in enumerate(traced.layers):
        for key in traced.layers[name].params:
            close(numbers_of(page, f"run().shared[{i}].{key}"), grads[f"{name}.{key}"])
    for of, expected in zip("ab", dpair, strict=True):
        close(numbers_of(page, f"run().{of}.grads[0]"), expected)


@in_browser
@pytest.mark.parametrize("mistake", ["", *MISTAKES])
def test_planted_mistakes_are_recomputed_as_in_python(opened, traced, mistake):
    opened.open(opened.url)
    put(opened, "mistake", mistake, "change")
    compare(opened, traced, *planted(traced, mistake))
    effect = opened.run("document.getElementById('effect').textContent")
    marked = opened.run("document.querySelectorAll('#steps .changed').length")
    if mistake:
        assert marked > 0 and "FAIL" in effect and "recomputed in this page" in effect
    else:
        assert marked == 0


@in_browser
def test_sliders_are_recomputed_as_in_python(opened, traced):
    opened.open(opened.url)
    put(opened, "margin", 3)
    margin = opened.run("Number(document.getElementById('margin').value)")
    slope = float(traced["dist"][0]) - margin
    assert opened.run("Number(document.getElementById('ddist').dataset.value)") == pytest.approx(slope, rel=1e-5)
    compare(opened, traced, *planted(traced, ddist=slope))
    assert "recomputed in this page" in opened.run("document.getElementById('slope').textContent")
    put(opened, "margin", 0.11)
    assert "no weight moves" in opened.run("document.getElementById('slope').textContent")
    opened.click("#reset")
    assert opened.run("Number(document.getElementById('ddist').dataset.value)") == traced["ddist"][0]


@in_browser
def test_a_step_of_descent_is_the_textbook_s(opened, siamese, traced):
    opened.open(opened.url)
    grads, _ = planted(traced)
    moved = Sequential.from_config(siamese.network.config())
    moved.load_params({n: siamese.network.named_params()[n] - 0.01 * grad for n, grad in grads.items()})
    after = trace(SiameseNetwork(moved, margin=2.0), *images(), label=1)["loss"][0]
    assert opened.run("Number(document.getElementById('after').dataset.value)") == pytest.approx(after, rel=1e-5)
    predicted = -0.01 * sum((grad**2).sum() for grad in grads.values())
    assert opened.run("Number(document.getElementById('predicted').dataset.value)") == pytest.approx(
        predicted, rel=1e-4
    )


@in_browser
@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("layer=conv2d_9", "There is no layer conv2d_9 here; there are conv2d_1, relu_1,"),
        ("pair=7", "This page has the pairs 0 to 1, not 7."),
        ("layer=conv2d_1&pass=sideways", "A pass is forward or backward, not sideways."),
        (
            "layer=conv2d_1&array=dw&cell=9,0,0,0",
            "dw of conv2d_1 has the shape 3 x 3 x 1 x 4: there is no cell 9,0,0,0.",
        ),
        ("layer=relu_1&array=dw&cell=0", "relu_1 has no array dw on its way backward; it has dout, x, dx."),
    ],
)
def test_an_address_that_leads_nowhere_is_told(opened, address, words):
    opened.open(f"{opened.url}#{address}")
    assert opened.run("document.getElementById('notice').textContent").startswith(words)


@in_browser
def test_keys_step_through_and_choose_cells(opened):
    opened.open(f"{opened.url}#layer=conv2d_1")
    for _ in range(3):
        opened.press("ArrowRight")
    assert opened.run("document.getElementById('title').textContent") == "conv2d_2, forward"
    opened.press("ArrowLeft")
    assert "layer=maxpool2d_1&pass=forward" in opened.run("location.hash")
    opened.open(f"{opened.url}#layer=conv2d_1&array=out&cell=4,4,2")
    opened.run("document.querySelector('canvas[aria-label^=\"out of conv2d_1, branch a\"]').focus()")
    opened.press("ArrowDown", shift=True)
    opened.press("ArrowRight", shift=True)
    assert opened.run("location.hash").endswith("array=out&branch=a&cell=5,5,2")


@in_browser
@pytest.mark.parametrize(
    ("address", "control", "value", "cell"),
    [
        ("layer=conv2d_2&array=dw&cell=0,1,2,3", "out", 5, "0,1,2,5"),
        ("layer=conv2d_2&array=dw&cell=0,1,2,3", "in", 0, "0,1,0,3"),
        ("layer=conv2d_2&array=dout&cell=1,1,3", "out", 4, "1,1,4"),
        ("layer=conv2d_2&array=dx&cell=1,1,3", "out", 4, "1,1,3"),
        ("layer=dense_1&array=dw&cell=7,3", "out", 6, "7,6"),
        ("layer=dense_1&array=out&cell=3", "out", 1, "1"),
        ("layer=dense_1&array=x&cell=9", "out", 1, "9"),
        ("layer=relu_1&array=dx&cell=2,2,1", "in", 3, "2,2,3"),
        ("layer=maxpool2d_1&array=out&cell=2,2,1", "in", 3, "2,2,3"),
    ],
)
def test_another_channel_keeps_the_place(opened, address, control, value, cell):
    opened.open(f"{opened.url}#{address}")
    opened.run(
        f"(() => {{ const box = document.querySelector('#controls [name={control}]'); box.value = {value}; "
        "box.dispatchEvent(new Event('input')) })()"
    )
    assert opened.run("location.hash").endswith(f"cell={cell}")
    assert opened.run(f"Number(document.querySelector('#controls [name={control}]').value)") == value


@in_browser
def test_hovering_a_gradient_marks_what_it_came_through_in_both_branches(opened):
    opened.open(f"{opened.url}#layer=conv2d_2&pass=backward&array=dout&cell=0,0,0")
    opened.run(
        "document.querySelector('canvas[aria-label^=\"dx of conv2d_2, branch a\"]').scrollIntoView({block: 'center'})"
    )
    x, y, wide, high = opened.run(
        "(() => { const b = document.querySelector('canvas[aria-label^=\"dx of conv2d_2, branch a\"]')"
        ".getBoundingClientRect(); return [b.left, b.top, b.width, b.height] })()"
    )
    opened.call("Input.dispatchMouseEvent", type="mouseMoved", x=x + 2.5 / 5 * wide, y=y + 1.5 / 5 * high)
    # pixel (1, 2) of the padded input of a 2x3 window with stride (1, 2): under places (1, 1), (2, 1)
    assert opened.run("Object.keys(outlined)") == ["dout a", "w w", "dout b"]
    rows = opened.run("[...outlined['dout a'].keys()].map((k) => cellOf(arrays.dout.shape, k).slice(0, 2).join())")
    assert set(rows) == {"1,1", "2,1"}
    assert opened.run("document.getElementById('hover').textContent").startswith("dx[1, 2, ")


@in_browser
def test_numeric_derivatives_follow_the_sliders(opened):
    opened.open(f"{opened.url}#layer=conv2d_1&pass=backward")
    put(opened, "dist", 0.9)
    put(opened, "margin", 1.3)
    assert opened.run("Number(document.getElementById('agreement').dataset.digits)") >= 4


@in_browser
@pytest.mark.parametrize("width", [360, 1600])
@pytest.mark.parametrize("dark", [False, True])
def test_it_fits_the_window_and_names_its_parts(opened, width, dark):
    opened.resize(width, 900, dark)
    opened.open(opened.url)
    for n in range(opened.run("STEPS.length")):
        opened.run(f"go({n})")
        assert opened.run("document.documentElement.scrollWidth") <= width
    background = opened.run("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(255, 255, 255)") is not dark
    nameless = opened.run(
        "[...document.querySelectorAll('canvas, button, input, select, svg')].filter((e) => !(e.textContent.trim() "
        "|| e.getAttribute('aria-label') || e.closest('label') || e.ariaHidden)).map((e) => e.outerHTML)"
    )
    assert nameless == []
    opened.resize(1600, 1000)


@in_browser
@pytest.mark.parametrize("shape", [(64, 64, 1), (40, 60, 3)])
def test_images_of_any_size_and_colour(shape, tmp_path):
    """Every step is shown, and the sum of a cell is its number; the page is larger than several pairs may make it."""
    siamese = SiameseNetwork(cnn(shape, seed=0))
    a, b = np.random.default_rng(0).random((2, *shape), np.float32)
    traced = trace(siamese, a, b, label=1)
    (path := tmp_path / "large.html").write_text(
        pages.page(siamese, [Pair(traced, "large", "a", "b")]), encoding="utf-8"
    )
    assert path.stat().st_size > pages.MAX_BYTES
    with browser() as page:
        page.open(path.as_uri())
        for step in range(page.run("STEPS.length")):
            page.run(f"go({step})")
        for key, way in (("out", "forward"), ("dw", "backward")):
            wanted = traced[f"a.conv2d_1.{key}"][0 if key == "out" else ...]
            cell = np.unravel_index(abs(wanted).argmax(), wanted.shape)
            page.run(f"go(STEPS.findIndex((s) => s.id === 'conv2d_1' && s.pass === '{way}'))")
            page.run(f"choose('{key}', 'a', {[int(n) for n in cell]})")
            said = float(page.run("document.getElementById('sum').dataset.value"))
            assert said == pytest.approx(wanted[cell], rel=1e-4)
        assert page.errors == []


@in_browser
def test_identical_images_have_no_gradient(opened):
    opened.open(f"{opened.url}#pair=1&layer=conv2d_1&pass=backward")
    assert not numbers_of(opened, "run().shared[0].w").any()
    assert "both are 0" in opened.run("document.getElementById('agreement').textContent").lower()
    assert "No gradient, no step" in opened.run("document.getElementById('descent').textContent")
