"""plots.py: each picture is written, of a sensible size, for usual and degenerate data, and leaves no trace.

Whether it looks right is for eyes; here stands what a program can tell: size, colours, words, selection.
"""

import os
import subprocess
import sys

import matplotlib
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from siamese_np import metrics, plots
from siamese_np.errors import OptionError, ShapeError

THRESHOLD = 0.5


def make_history(epochs):
    return [
        {
            "epoch": e,
            "loss": 0.05 / e,
            "validation_loss": 0.04 / e + 0.002,
            "validation_pair_accuracy": 1 - 0.03 / e,
        }
        for e in range(1, epochs + 1)
    ]


def make_pairs(n=60, wrong=(), n_images=30, channels=None, dtype=np.uint8, seed=0):
    """Images, pairs, distances, labels; `wrong` pairs lie on the wrong side of the threshold."""
    rng = np.random.default_rng(seed)
    shape = (n_images, 12, 12) if channels is None else (n_images, 12, 12, channels)
    images = rng.integers(0, 256, shape).astype(np.uint8)
    if dtype != np.uint8:
        images = (images / 255).astype(dtype)
    pairs = rng.integers(0, n_images, (n, 2))
    label = np.arange(n) % 2
    similar_side = label == 0
    similar_side[list(wrong)] ^= True
    dist = np.where(similar_side, 0.1, 0.9) + 0.05 * rng.random(n)
    return images, pairs, dist, label


def picture(path):
    """The PNG as (height, width, 3); fails if it is not one, or is blank, or absurdly sized."""
    with Image.open(path) as image:
        assert image.format == "PNG"
        pixels = np.asarray(image.convert("RGB"))
    assert 150 <= pixels.shape[0] <= 2500 and 300 <= pixels.shape[1] <= 2500
    assert pixels.min() < 100 and (pixels[0] == 255).all()  # something is drawn, on white
    return pixels


def has_colour(pixels, colour):
    wanted = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
    return bool((pixels == wanted).all(axis=2).any())


@pytest.fixture
def words(monkeypatch):
    """Every text of the figures saved while the test runs."""
    seen = []
    save = Figure.savefig

    def listen(fig, *args, **kwargs):
        seen.extend(text.get_text() for text in fig.texts)
        for ax in fig.axes:
            seen.extend(text.get_text() for text in ax.texts)
            seen.extend([ax.get_title(), ax.get_title(loc="left"), ax.get_xlabel(), ax.get_ylabel()])
        return save(fig, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", listen)
    return seen


@pytest.mark.parametrize("epochs", [1, 3, 20, 200])
def test_history(tmp_path, epochs, words):
    path = tmp_path / "history.png"
    assert plots.plot_history(path, make_history(epochs)) == path
    picture(path)
    assert {"Contrastive loss", "epoch", f"training\n{0.05 / epochs:.3g}"} <= set(words)
    assert f"Pair accuracy, best {1 - 0.03 / epochs:.2%} at epoch {epochs}" in words


def test_history_with_gaps_and_without_validation(tmp_path):
    history = make_history(5)
    history[2]["validation_loss"] = None
    del history[4]["validation_pair_accuracy"]
    picture(plots.plot_history(tmp_path / "gaps.png", history))
    picture(plots.plot_history(tmp_path / "only.png", [{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.2}]))
    picture(plots.plot_history(tmp_path / "zero.png", [{"epoch": 1, "loss": 0.0}]))


def test_distances_count_the_wrong_side(tmp_path, words):
    _, _, dist, label = make_pairs(wrong=(0, 2, 1))
    pixels = picture(plots.plot_distances(tmp_path / "d.png", dist, label, THRESHOLD, 1.0))
    assert "2 of 30 similar pairs at or above the threshold (6.67%)" in words
    assert "1 of 30 dissimilar pairs below the threshold (3.33%)" in words
    assert "Distances of 60 pairs: 95.00% decided rightly" in words
    assert has_colour(pixels, plots.SIMILAR_COLOUR) and has_colour(pixels, plots.DISSIMILAR_COLOUR)


@pytest.mark.parametrize(
    ("dist", "label"),
    [([0.0, 0.0], [0, 1]), ([1.0, 2.0], [0, 0]), ([3.0], [1]), (np.full(5, 1e-12), [0, 1, 0, 1, 0])],
)
def test_distances_degenerate(tmp_path, dist, label):
    picture(plots.plot_distances(tmp_path / "d.png", dist, label, THRESHOLD, 1.0))
    picture(plots.plot_distances(tmp_path / "e.png", dist, label, 0.0, 1.0))
    picture(plots.plot_distances(tmp_path / "f.png", dist, label, 1.0, 1.0))
    picture(plots.plot_distances(tmp_path / "g.png", dist, label, np.inf, 1.0))


@pytest.mark.parametrize("kind", ["usual", "separated", "reversed", "chance", "all equal", "two pairs"])
def test_roc(tmp_path, kind, words):
    rng = np.random.default_rng(0)
    label = np.arange(2000) % 2
    dist = {
        "usual": np.abs(rng.normal(label * 3.0, 1.0)),
        "separated": label + 0.1 * rng.random(2000),
        "reversed": 1 - label + 0.1 * rng.random(2000),
        "chance": rng.random(2000),
        "all equal": np.ones(2000),
        "two pairs": label,
    }[kind]
    if kind == "two pairs":
        dist, label = dist[:2], label[:2]
    pixels = picture(plots.plot_roc(tmp_path / "roc.png", dist, label))
    assert has_colour(pixels, plots.BLUE) and has_colour(pixels, plots.VERMILLION)
    assert f"equal error rate {metrics.equal_error_rate(dist, label):.2%}" in words
    assert f"TAR {metrics.tar_at_far(dist, label):.2%} at FAR 0.1%" in words


@pytest.mark.parametrize("n_classes", [1, 2, 10, 47])
def test_embedding_map(tmp_path, n_classes, words):
    rng = np.random.default_rng(0)
    classes = np.arange(500) % n_classes
    emb = rng.normal(size=(n_classes, 8))[classes] + 0.1 * rng.normal(size=(500, 8))
    picture(plots.plot_embedding_map(tmp_path / "map.png", emb.astype(np.float32), classes))
    assert {str(c) for c in range(n_classes)} <= set(words)


def test_embedding_map_takes_names_one_point_and_a_collapsed_network(tmp_path, words):
    picture(plots.plot_embedding_map(tmp_path / "names.png", np.eye(4), ["cat", "$dog", "x_1$", "a\tb\udcff"]))
    assert {"cat", "$dog", "x_1$", r"a\tb\udcff"} <= set(words)
    picture(plots.plot_embedding_map(tmp_path / "one.png", [[1.0, 2.0]], [3]))
    picture(plots.plot_embedding_map(tmp_path / "collapsed.png", np.zeros((20, 4)), np.arange(20) % 2))


def test_pairs_show_both_kinds_and_some_mistakes(tmp_path, words):
    images, pairs, dist, label = make_pairs(wrong=(40, 42, 44, 41))
    classes = np.arange(len(images)) % 10
    path = tmp_path / "pairs.png"
    pixels = picture(plots.plot_pairs(path, images, pairs, dist, label, THRESHOLD, classes))
    verdicts = [word.split()[:2] for word in words if word[:1] in "\u2713\u2717" and word]
    assert verdicts.count(["\u2713", "same"]) == 6 and verdicts.count(["\u2717", "different"]) == 2
    assert verdicts.count(["\u2713", "different"]) == 7 and verdicts.count(["\u2717", "same"]) == 1
    assert f"{classes[pairs[0, 0]]} and {classes[pairs[0, 1]]}" in words
    assert has_colour(pixels, plots.RIGHT[0]) and has_colour(pixels, plots.WRONG[0])


@pytest.mark.parametrize("channels", [None, 1, 3])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_pairs_take_any_images_and_need_no_classes(tmp_path, channels, dtype):
    images, pairs, dist, label = make_pairs(channels=channels, dtype=dtype)
    pixels = picture(plots.plot_pairs(tmp_path / "pairs.png", images, pairs, dist, label, THRESHOLD))
    assert has_colour(pixels, plots.RIGHT[0]) and not has_colour(pixels, plots.WRONG[0])


@pytest.mark.parametrize("keep", [slice(0, 1), slice(1, 2), slice(0, 3), slice(0, None, 2)])
def test_pairs_of_few_or_of_one_kind(tmp_path, keep):
    images, pairs, dist, label = make_pairs(wrong=(0,))
    picture(plots.plot_pairs(tmp_path / "p.png", images, pairs[keep], dist[keep], label[keep], THRESHOLD))


def test_pairs_all_wrong_fill_the_gallery(tmp_path, words):
    images, pairs, dist, label = make_pairs(wrong=range(60))
    picture(plots.plot_pairs(tmp_path / "p.png", images, pairs, dist, label, THRESHOLD))
    assert sum(word.startswith("\u2717") for word in words) == 16


def test_mistakes_are_the_worst_first(tmp_path, words):
    images, pairs, dist, label = make_pairs(wrong=(0, 1, 2))
    dist[[0, 1, 2]] = 0.6, 0.0, 0.8  # 0.1, 0.5 and 0.3 beyond the threshold
    pixels = picture(plots.plot_mistakes(tmp_path / "m.png", images, pairs, dist, label, THRESHOLD))
    shown = [word for word in words if word.startswith("\u2717")]
    assert shown == ["\u2717 same  0.000", "\u2717 different  0.800", "\u2717 different  0.600"]
    assert "3 of 60 pairs decided wrongly at threshold 0.5, the worst first" in words
    assert has_colour(pixels, plots.WRONG[0])


@pytest.mark.parametrize(("wrong", "shown"), [(1, 1), (7, 7), (50, 24)])
def test_mistakes_of_any_number(tmp_path, words, wrong, shown):
    images, pairs, dist, label = make_pairs(wrong=range(wrong))
    classes = np.arange(len(images))
    picture(plots.plot_mistakes(tmp_path / "m.png", images, pairs, dist, label, THRESHOLD, classes))
    assert sum(word.startswith("\u2717") for word in words) == shown


def test_no_mistakes_is_said(tmp_path, words):
    images, pairs, dist, label = make_pairs()
    path = tmp_path / "m.png"
    assert has_colour(picture(plots.plot_mistakes(path, images, pairs, dist, label, THRESHOLD)), plots.RIGHT[0])
    assert "\u2713 no mistakes among 60 pairs at threshold 0.5" in words


@pytest.mark.parametrize("k", [1, 5, 12])
@pytest.mark.parametrize("n_classes", [2, 10, 47])
def test_neighbours(tmp_path, k, n_classes, words):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (120, 8, 8)).astype(np.uint8)
    classes = np.arange(120) % n_classes
    emb = rng.normal(size=(n_classes, 6))[classes] + 0.01 * rng.normal(size=(120, 6))
    emb[0] = emb[1] + 0.001  # query 0 lies in the class of query 1
    indices, distances = metrics.nearest(emb[:60], emb[60:], k)
    path = plots.plot_neighbours(
        tmp_path / "n.png", images[:60], classes[:60], images[60:], classes[60:], indices, distances
    )
    pixels = picture(path)
    assert sum(word.startswith("query: ") for word in words) == min(n_classes, 10)
    marks = [word[0] for word in words if word[:1] in "\u2713\u2717" and word]
    assert len(marks) == min(n_classes, 10) * min(k, 8)
    assert "\u2717" in marks and has_colour(pixels, plots.WRONG[0])


def draw_everything(folder):
    images, pairs, dist, label = make_pairs(wrong=(0, 1))
    classes = np.arange(len(images)) % 3
    emb = images.reshape(len(images), -1)[:, :5] / 255
    indices, distances = metrics.nearest(emb, emb, 3)
    plots.plot_history(folder / "1", make_history(2))
    plots.plot_distances(folder / "2", dist, label, THRESHOLD, 1.0)
    plots.plot_roc(folder / "3", dist, label)
    plots.plot_embedding_map(folder / "4", emb, classes)
    plots.plot_pairs(folder / "5", images, pairs, dist, label, THRESHOLD, classes)
    plots.plot_mistakes(folder / "6", images, pairs, dist, label, THRESHOLD, classes)
    plots.plot_neighbours(folder / "7", images, classes, images, classes, indices, distances)
    return sorted(folder.iterdir())


def test_the_same_data_give_the_same_bytes_and_change_no_setting(tmp_path):
    before = dict(matplotlib.rcParams)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first, second = draw_everything(tmp_path / "a"), draw_everything(tmp_path / "b")
    assert len(first) == 7
    for a, b in zip(first, second, strict=True):
        assert a.read_bytes() == b.read_bytes()
    assert dict(matplotlib.rcParams) == before


DRAW = """
import os, sys
from siamese_np import plots
plots.plot_history(sys.argv[1], [{"epoch": 1, "loss": 0.5}])
assert "matplotlib.pyplot" not in sys.modules
import matplotlib
if os.environ["MPLBACKEND"] == "svg":
    assert matplotlib.rcParams["backend"] == "svg"  # which stays the user's choice for pyplot
"""


@pytest.mark.parametrize("backend", ["", "svg", "Qt4Agg", "module://matplotlib_inline.backend_inline", "module://none"])
def test_any_backend_will_do(tmp_path, backend):
    """Colab's MPLBACKEND is one that only its notebooks have: matplotlib refuses to be imported with it elsewhere."""
    command = [sys.executable, "-c", DRAW, tmp_path / "picture.png"]
    environment = {**os.environ, "MPLBACKEND": backend}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    picture(tmp_path / "picture.png")


def test_frames_have_no_ticks(tmp_path, monkeypatch):
    shown = []
    show = Axes.imshow

    def listen(ax, *args, **options):
        shown.append((ax, options))
        return show(ax, *args, **options)

    monkeypatch.setattr(Axes, "imshow", listen)
    images, pairs, dist, label = make_pairs()
    plots.plot_pairs(tmp_path / "p.png", images, pairs, dist, label, THRESHOLD)
    assert len(shown) == 16
    for ax, options in shown:
        assert len(ax.get_xticks()) == len(ax.get_yticks()) == 0
        assert options["interpolation"] == "nearest"


IMAGES, PAIRS, DIST, LABEL = make_pairs()
INDEX = np.zeros((30, 2), dtype=int)


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda p: plots.plot_history(p, []), ShapeError, "history must hold at least one epoch"),
        (lambda p: plots.plot_distances(p, DIST, LABEL + 1, 0.5, 1.0), ShapeError, r"but label\[1\] is 2"),
        (
            lambda p: plots.plot_distances(p, DIST, LABEL, np.nan, 1.0),
            OptionError,
            "threshold must be a number .*, not nan",
        ),
        (lambda p: plots.plot_distances(p, DIST, LABEL, 0.5, 0.0), OptionError, "the margin must be a finite number"),
        (lambda p: plots.plot_roc(p, DIST, LABEL * 0), ShapeError, "only similar pairs"),
        (
            lambda p: plots.plot_embedding_map(p, np.ones((3, 2)), [1, 2]),
            ShapeError,
            "classes must have 3 .*, not 2",
        ),
        (
            lambda p: plots.plot_embedding_map(p, np.ones((0, 2)), []),
            ShapeError,
            "emb must hold at least one",
        ),
        (lambda p: plots.plot_pairs(p, IMAGES[0], PAIRS, DIST, LABEL, 0.5), ShapeError, "images must be"),
        (lambda p: plots.plot_pairs(p, IMAGES, PAIRS[1:], DIST, LABEL, 0.5), ShapeError, r"\(60, 2\)"),
        (
            lambda p: plots.plot_pairs(p, IMAGES, PAIRS + 30, DIST, LABEL, 0.5),
            ShapeError,
            r"to 29, but pairs\[0, 0\] is",
        ),
        (
            lambda p: plots.plot_pairs(p, IMAGES, PAIRS, DIST, LABEL, 0.5, [1]),
            ShapeError,
            "must have 30 entries, .*, not 1",
        ),
        (
            lambda p: plots.plot_mistakes(p, IMAGES, PAIRS, DIST, LABEL, np.nan),
            OptionError,
            "threshold must be a number",
        ),
        (
            lambda p: plots.plot_neighbours(p, IMAGES, INDEX[:, 0], IMAGES, INDEX[:, 0], INDEX, INDEX[:, :1]),
            ShapeError,
            "indices and distances",
        ),
        (
            lambda p: plots.plot_neighbours(p, IMAGES, INDEX[:, 0], IMAGES, INDEX[:, 0], INDEX + 30, INDEX),
            ShapeError,
            r"indices must hold row numbers from 0 to 29, but indices\[0, 0\] is 30",
        ),
    ],
)
def test_a_mistake_is_named_and_nothing_is_written(tmp_path, call, error, says):
    with pytest.raises(error, match=says) as caught:
        call(tmp_path / "picture.png")
    assert not str(caught.value).endswith(".")
    assert not list(tmp_path.iterdir())


def test_a_picture_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path, save = tmp_path / "history.png", Figure.savefig
    plots.plot_history(path, make_history(3))
    before = path.read_bytes()

    def half(fig, file, **options):
        save(fig, file, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(Figure, "savefig", half)
    with pytest.raises(KeyboardInterrupt):
        plots.plot_history(path, make_history(4))
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
