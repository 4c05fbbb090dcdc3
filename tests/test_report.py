"""The report of a run: what is measured after each epoch, and the page, looked around in with a real browser."""

import base64
import contextlib
import io
import json
import re
import sys
from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest
from browser import CHROMIUM, browser
from PIL import Image

from siamese_np import (
    AllPairsContrastiveLoss,
    Conv2D,
    Dataset,
    Dense,
    Flatten,
    MaxPool2D,
    ReLU,
    Sequential,
    SiameseNetwork,
    Split,
    TrainConfig,
    load_dataset,
    train_run,
)
from siamese_np import run as runs
from siamese_np.evaluation import evaluate
from siamese_np.metrics import nearest, pca_2d
from siamese_np.report import shown as chosen
from siamese_np.report.health import DEAD_IMAGES, columns, health
from siamese_np.report.page import page
from siamese_np.run_folder import drawable
from siamese_np.training import Training

in_browser = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")


def data_of(html):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.DOTALL)[1])


def sheet_of(html):
    text = re.search(r'<script type="text/plain" id="sheet">(.*?)</script>', html)[1]
    return np.array(Image.open(io.BytesIO(base64.b64decode(text))))


def measured(images, classes, seed=0):
    """An untrained network on images, all parts of a data set, and what a page is made of."""
    split = Split(images, classes)
    dataset = Dataset("some <b>data</b></script><img src=x onerror=boom()>", split, split, split)
    gallery = Split(images + np.float32(0.02) * np.random.default_rng(seed).random(images.shape, np.float32), classes)
    dataset = replace(dataset, train=gallery)
    layers = [Flatten()] if images.ndim > 2 else []
    network = Sequential([*layers, Dense(images[0].size, 6, seed=seed)], images.shape[1:])
    evaluation = evaluate(SiameseNetwork(network), dataset)
    return evaluation, dataset


# --- After each epoch -------------------------------------------------------------------------------------------


def convolutional():
    layers = [Conv2D(1, 3, 3, pad=1, seed=0), ReLU(), MaxPool2D(2), Flatten(), Dense(12, 5, seed=1), ReLU()]
    return Sequential([*layers, Dense(5, 4, seed=2)], (4, 4, 1))


def blobs(N=40):
    images = np.random.default_rng(0).random((N, 4, 4, 1), np.float32)
    images[:, :2, :2] = 0
    return Split(images, np.arange(N) % 2)


BLOBS = Dataset("blobs", blobs(150), blobs(), blobs())
CONFIG = TrainConfig(epochs=2, batch_size=75)


def test_norms_and_dead_units_are_those_of_the_first_batch(backend):
    training = Training(CONFIG, BLOBS, convolutional())
    training.train_epoch(lambda: False)
    network = training.siamese.network
    network.params[27] = -9  # one of the filters never fires
    network.grads[:] = 7
    found, params = health(training), network.params.copy()
    assert (
        list(found)
        == columns(network)
        == [*("grad_norm.conv2d_1", "grad_norm.dense_1", "grad_norm.dense_2", "dead.relu_1", "dead.relu_2")]
    )
    assert (network.grads == 7).all() and (network.params == params).all()
    batch = next(training.protocol.batches(0))
    images, classes = BLOBS.train.images[batch], BLOBS.train.classes[batch]
    network.zero_grads()
    training.siamese.gradients(images, classes, AllPairsContrastiveLoss(training.config.margin))
    for name in ("conv2d_1", "dense_1", "dense_2"):
        w, b = (network.layers[{"conv2d_1": 0, "dense_1": 4, "dense_2": 6}[name]].grads[key] for key in "wb")
        assert found[f"grad_norm.{name}"] == pytest.approx(np.sqrt((w**2).sum() + (b**2).sum()), rel=1e-5)
    out = images[:DEAD_IMAGES]
    for i, layer in enumerate(network.layers[:6]):
        out, _ = layer.forward(out)
        if isinstance(layer, ReLU):
            zero = out == 0
            assert found[f"dead.relu_{1 if i == 1 else 2}"] == pytest.approx(zero.all(axis=0).mean())
            assert zero.all(axis=0).mean() < zero.mean()
    assert 1 / 3 <= found["dead.relu_1"] < 1


@pytest.mark.parametrize("protocol", ["batch", "notebook"])
def test_to_measure_changes_no_bit_of_the_training(protocol, monkeypatch):
    config = TrainConfig(protocol=protocol, epochs=3, batch_size=30)
    run = train_run(config, BLOBS, network=convolutional())
    monkeypatch.setattr(runs, "health", lambda training: {})
    without = train_run(config, BLOBS, network=convolutional())
    np.testing.assert_array_equal(run.siamese.network.params, without.siamese.network.params)
    for row, plain in zip(run.history, without.history, strict=True):
        clocks = ("seconds", "images_per_second")
        assert {name: row[name] for name in plain if name not in clocks} == {
            name: value for name, value in plain.items() if name not in clocks
        }
        assert set(row) - set(plain) == set(columns(run.siamese.network))


# --- What the page holds ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(small_mnist):
    dataset = load_dataset(small_mnist)
    done = train_run(TrainConfig(preset="mlp", epochs=2, batch_size=64), dataset)
    return done, dataset, evaluate(done.siamese, dataset)


@pytest.fixture(scope="module")
def html(run):
    done, dataset, evaluation = run
    return page(evaluation, dataset, done.history, done.metrics)


def test_every_picture_is_the_image_it_says(run, html):
    _, dataset, evaluation = run
    data, sheet = data_of(html), sheet_of(html)
    assert data["points"]["number"] == list(range(300)) and "All 300 test images are here." in html
    across, (w, h) = data["sheet"]["across"], data["sheet"]["tile"]

    def tile(k):
        return sheet[k // across * h :, k % across * w :][:h, :w]

    for i in (0, 17, 299):
        np.testing.assert_array_equal(tile(i), np.rint(dataset.test.images[i, :, :, 0] * 255))
        for k, neighbour in zip(data["near"][i], evaluation.neighbours[i], strict=True):
            assert data["gallery"]["number"][k] == neighbour
            np.testing.assert_array_equal(tile(300 + k), np.rint(dataset.train.images[neighbour, :, :, 0] * 255))


def test_a_page_that_would_be_too_large_keeps_mistakes_and_hard_pairs(run, html, monkeypatch):
    _, dataset, evaluation = run
    monkeypatch.setattr(chosen, "TAILS", 5)
    monkeypatch.setattr(chosen, "MAX_PNG", 120_000)
    here = chosen.shown(evaluation, dataset)
    wrong = np.flatnonzero(evaluation.voted != dataset.test.classes)
    hardest = evaluation.pairs[np.where(evaluation.label == 1, evaluation.dist, np.inf).argmin()]
    assert len(here.png) <= 120_000 and len(here.numbers) < 300 and 0 < len(wrong) < 100
    assert set(wrong) | set(hardest) <= set(here.numbers)
    text = page(evaluation, dataset, [], {**evaluation.metrics})
    assert f"Here are {len(here.numbers)} of the 300 test images: those of hard pairs" in text
    assert sum(count for *_, count in data_of(text)["confusion"]) == 300


def test_large_images_are_averaged_down():
    images = np.random.default_rng(0).random((3, 100, 60, 3))
    tiles = chosen._tiles(images, np.array([2, 0]))
    assert tiles.shape == (2, 33, 30, 3)
    np.testing.assert_allclose(tiles[1, 4, 7], images[0, 12:15, 14:16].mean(axis=(0, 1)))


def test_what_was_run_and_where(run, html):
    done, *_ = run
    words = " ".join(re.sub(r"<[^>]*>", " ", html).split())
    assert "command siamese-np train --preset mlp --protocol batch --epochs 2 --batch-size 64 --seed 0 " in words
    assert f"python {sys.version.split()[0]}, siamese_np 0.1.0, numpy {np.__version__}," in words
    assert re.search(r"written 20\d\d-\d\d-\d\d \d\d:\d\d", words) and re.search(
        r"machine \d+ cores, \d+ threads", words
    )
    own = page(run[2], run[1], done.history, {**done.metrics, "options": {"loss": "Mine(<1>)", "seed": 3}})
    words = re.sub("</?span>", "", own)
    assert "train_run in Python, with loss of the user&#x27;s: loss Mine(&lt;1&gt;), seed 3" in words


class FakeTSNE:
    def __init__(self, components, **options):
        assert components == 2 and options["perplexity"] < 40
        self.options = options

    def fit_transform(self, emb):
        assert len(self.options["init"]) == len(emb)
        return np.stack([np.arange(len(emb)), np.zeros(len(emb))], axis=1)


def test_a_tsne_map_is_made_where_scikit_learn_is(monkeypatch):
    emb = np.random.default_rng(0).random((40, 3))
    modules = {name: ModuleType(name) for name in ("sklearn", "sklearn.manifold", "threadpoolctl")}
    modules["sklearn.manifold"].TSNE = FakeTSNE
    modules["threadpoolctl"].threadpool_limits = lambda threads: contextlib.nullcontext()
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    found = chosen.tsne_2d(emb, pca_2d(emb)[0])
    np.testing.assert_array_equal(found[:, 0], np.arange(40))
    monkeypatch.setitem(sys.modules, "sklearn.manifold", None)
    assert chosen.tsne_2d(emb, pca_2d(emb)[0]) is None


# --- The page, in a browser -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def window():
    with browser() as opened:
        yield opened


@pytest.fixture
def show(window, tmp_path):
    """Opens a page and in the end finds no error and no request for anything outside it."""

    def opening(html, width=1600, dark=False):
        path = tmp_path / "report.html"
        path.write_bytes(html.encode(errors="backslashreplace"))
        window.resize(width, 1000, dark)
        window.open(path.as_uri())
        return window

    window.requests.clear()
    yield opening
    assert window.errors == []
    assert {url.partition(":")[0] for url in window.requests} <= {"file", "about", "data"}


def text_of(window, selector):
    return " ".join(window.run(f"document.querySelector({selector!r}).innerText").split())


@in_browser
def test_a_walk_to_a_point_its_class_and_its_neighbours(run, html, show):
    _, dataset, evaluation = run
    window = show(html)
    wrong = np.flatnonzero(evaluation.voted != dataset.test.classes)
    i = int(wrong[0])
    window.run("form.wrong.click(); document.getElementById('points').scrollIntoView({block: 'center'})")
    x, y = window.run(f"(([x, y], box) => [box.left + x, box.top + y])(placeOf({i}), canvas.getBoundingClientRect())")
    assert f"{len(wrong)} images." in text_of(window, "#maptext")
    window.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
    indices, distances = nearest(evaluation.emb[[i]], evaluation.gallery, 5)
    told = text_of(window, "#detail")
    assert told.startswith(f"Test image {i} class {dataset.test.classes[i]} ")
    assert f"the 5 neighbours say {evaluation.voted[i]}: wrong" in told
    listed = [f"class {dataset.train.classes[n]} {d:.3f}" for n, d in zip(indices[0], distances[0], strict=True)]
    assert told.endswith(" ".join(listed))
    for number, image in enumerate([dataset.test.images[i], *dataset.train.images[indices[0]]]):
        drawn = f"document.querySelectorAll('#detail canvas')[{number}].getContext('2d')"
        pixels = window.run(f"[...{drawn}.getImageData(0, 0, 28, 28).data]")
        np.testing.assert_array_equal(pixels[::4], np.rint(image * 255).ravel())


@in_browser
def test_keys_move_from_image_to_image(run, html, show):
    _, dataset, evaluation = run
    window = show(html)
    window.run("form.class.value = '3'; form.dispatchEvent(new Event('input')); canvas.focus()")
    window.press("ArrowRight")
    first = window.run("chosen")
    window.press("ArrowRight")
    second = window.run("chosen")
    places = pca_2d(evaluation.emb)[0]
    assert places[second, 0] > places[first, 0] and {*dataset.test.classes[[first, second]]} == {3}
    assert text_of(window, "#detail h3") == f"Test image {second}"
    window.press("+")
    assert window.run("view.zoom") == 1.5
    window.press("0")
    assert window.run("[view.zoom, view.x, view.y]") == [1, 0, 0]


@in_browser
def test_counts_follow_the_threshold(run, html, show):
    _, dataset, evaluation = run
    window = show(html)
    similar, dist = evaluation.label == 0, evaluation.dist

    def counted(t):
        told = [int(text_of(window, f"#{name}").replace(",", "")) for name in ("ta", "fa", "fr", "tr")]
        accepted = dist < t
        cases = [(accepted, similar), (accepted, ~similar), (~accepted, similar), (~accepted, ~similar)]
        assert told == [int((a & b).sum()) for a, b in cases]
        accuracy = (accepted == similar).mean()
        assert text_of(window, "#rates").startswith(f"Accuracy {100 * accuracy:.2f} %;")

    counted(evaluation.metrics["threshold"])
    exact = float(np.sort(dist)[len(dist) // 2])  # a pair exactly at the threshold is not accepted
    for t in (0, 0.2, exact, 5.0):
        window.run(f"setThreshold({t!r})")
        counted(t)
    window.click("#cut [name=half]")
    counted(evaluation.metrics["margin"] / 2)
    window.run("cutForm.slide.focus()")
    window.press("ArrowRight")
    t = window.run("Number(cutForm.slide.value)")
    assert t > evaluation.metrics["margin"] / 2
    counted(t)
    window.run("new Promise(requestAnimationFrame).then(() => new Promise(requestAnimationFrame))")
    worst = np.where(~similar, dist, np.inf).argmin()
    a, b = dataset.test.classes[evaluation.pairs[worst]]
    assert text_of(window, "#accepted figure") == f"{a} and {b} {dist[worst]:.3f}"
    window.click("#accepted figure button")
    assert text_of(window, "#detail h3") == f"Test image {evaluation.pairs[worst][0]}"


@in_browser
def test_a_cell_of_the_confusion_matrix_shows_its_images(run, html, show):
    _, dataset, evaluation = run
    window = show(html)
    classes = dataset.test.classes
    for of, to in ((4, 4), tuple(zip(classes, evaluation.voted, strict=True))[(evaluation.voted != classes).argmax()]):
        images = np.flatnonzero((classes == of) & (evaluation.voted == to))
        window.click(f"[data-cell='{of},{to}']")
        assert text_of(window, f"[data-cell='{of},{to}']") == str(len(images))
        assert text_of(window, "#celltitle") == f"Class {of}, voted {to}: {len(images)} test images"
        names = window.run("[...document.querySelectorAll('#cellimages canvas')].map((c) => c.ariaLabel)")
        assert names == [f"test image {i}, class {of}" for i in images]


@in_browser
@pytest.mark.parametrize(("width", "dark"), [(400, False), (400, True), (1600, True)])
def test_it_fits_the_window_and_names_its_parts(html, show, width, dark):
    window = show(html, width, dark)
    window.run("choose(5, true); document.querySelector('details').open = true")
    assert window.run("document.documentElement.scrollWidth") <= width
    assert (window.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)") is not dark
    nameless = window.run(
        "[...document.querySelectorAll('canvas, button, input, select, svg')].filter((e) => !(e.textContent.trim() || "
        "e.ariaLabel || e.closest('label') || e.ariaHidden || e.querySelector('[aria-label]'))).map((e) => e.outerHTML)"
    )
    assert nameless == []
    assert window.run("document.querySelectorAll('#curves svg[role=img]').length") == 4
    assert text_of(window, "#history th:last-child") == "dead.relu_2"


@in_browser
@pytest.mark.parametrize(
    ("shape", "classes"),
    [
        ((12,), np.arange(8) % 2 * 993 + 7),
        ((6, 9, 3), np.arange(60) % 30 - 5),
        ((70, 50, 1), np.arange(8) % 2),
        ((2, 3, 2, 2), np.arange(8) % 2),
        ((1, 1, 1), np.arange(6) % 3),
    ],
)
def test_images_of_any_kind_and_text_that_is_no_tag(shape, classes, show):
    images = np.random.default_rng(0).random((len(classes), *shape), np.float32)
    evaluation, dataset = measured(images, classes)
    metrics = {**evaluation.metrics, "options": {"own": "</script><b>", "seed": 1}}
    history = [{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": float("nan"), "dead.</script><b>": 0.0}]
    window = show(page(evaluation, dataset, history, metrics))
    assert text_of(window, "h1") == f"A run on {dataset.name}"
    assert window.run("[document.querySelectorAll('b, img').length, N]") == [0, len(classes)]
    window.run("choose(0, true)")
    assert text_of(window, "#detail").startswith(f"Test image 0 class {classes[0]} ")
    window.click("#matrix button")
    assert text_of(window, "#celltitle").startswith("Class ")
    assert drawable(images).ndim in (3, 4)


@in_browser
def test_the_other_map_is_offered_where_there_is_one(run, show, monkeypatch):
    done, dataset, evaluation = run
    for name in ("sklearn", "sklearn.manifold"):
        monkeypatch.setitem(sys.modules, name, None)
    window = show(page(evaluation, dataset, done.history, done.metrics))
    assert window.run("form.kind.options[1].disabled") and "t-SNE map needs scikit-learn" in text_of(window, "#maptext")
    places = np.stack([np.arange(300.0), np.zeros(300)], axis=1)
    monkeypatch.setattr("siamese_np.report.page.tsne_2d", lambda emb, start: places)
    window = show(page(evaluation, dataset, done.history, done.metrics))
    window.run("form.kind.value = 'tsne'; form.dispatchEvent(new Event('input'))")
    assert text_of(window, "#maptext").startswith("t-SNE: neighbours stay together")
    left, right = window.run("[placeOf(0), placeOf(299)]")
    assert right[0] - left[0] == pytest.approx(window.run("canvas.clientWidth") - 40)
