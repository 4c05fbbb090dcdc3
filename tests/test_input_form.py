"""How pictures become a network's input, and that a model file keeps it."""

import json

import numpy as np
import pytest
from conftest import write_idx, write_npz
from PIL import Image

from siamese_np import Dense, Flatten, Sequential, SiameseNetwork, load_model, save_model
from siamese_np.datasets import DIGIT, InputForm, load_images, read_image, read_images
from siamese_np.errors import DataError, ModelError, OptionError, ShapeError

GARMENTS = InputForm("resize", (28, 28, 1), 0.0, 1.0)


def coat(side=28):
    """A light garment on black that touches the box at the top and at the bottom, with texture."""
    y, x = (np.mgrid[:side, :side] + 0.5) / side
    cloth = np.abs(x - 0.5) < 0.22 + 0.2 * y
    return (cloth * (0.45 + 0.3 * np.cos(9 * x) * np.sin(7 * y) ** 2)).astype(np.float32)


def siamese(shape, form=None):
    layers = [Flatten(), Dense(int(np.prod(shape)), 2)] if len(shape) > 1 else [Dense(shape[0], 2)]
    return SiameseNetwork(Sequential(layers, shape), input_form=form)


@pytest.mark.parametrize(
    "form",
    [DIGIT, GARMENTS, InputForm("as-is", (5, 7, 3)), InputForm("resize", (9, 4, 3), background=None)],
)
def test_a_model_file_keeps_its_input_form(tmp_path, form):
    save_model(tmp_path / "m.npz", siamese(form.shape, form))
    assert load_model(tmp_path / "m.npz").input_form == form


def test_a_file_without_input_form_gets_the_default(tmp_path):
    for shape, form in (((28, 28, 1), DIGIT), ((5, 4, 1), InputForm("as-is", (5, 4, 1))), ((6,), None)):
        made = siamese(shape)
        assert made.input_form == form
        save_model(tmp_path / "m.npz", made)
        with np.load(tmp_path / "m.npz") as file:
            arrays = dict(file)
        header = json.loads(str(arrays.pop("header")))
        del header["input"]
        write_npz(tmp_path / "m.npz", header=np.array(json.dumps(header)), **arrays)
        assert load_model(tmp_path / "m.npz").input_form == form


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kind": "guess"}, "no input form 'guess'"),
        ({"shape": [28, 28]}, "have the shape"),
        ({"shape": "28"}, "whole numbers"),
        ({"background": 2}, "background must be a number from 0 to 1"),
        ({"fill": "all"}, "fill must be a number"),
        ({"mean": 1}, "mean"),
        ({"shape": [5, 4, 1]}, "no input of a network"),
    ],
)
def test_a_wrong_input_form_in_a_model_file(tmp_path, change, words):
    save_model(tmp_path / "m.npz", siamese((28, 28, 1), GARMENTS))
    with np.load(tmp_path / "m.npz") as file:
        arrays = dict(file)
    header = json.loads(str(arrays.pop("header")))
    header["input"].update(change)
    write_npz(tmp_path / "m.npz", header=np.array(json.dumps(header)), **arrays)
    with pytest.raises(ModelError, match=words):
        load_model(tmp_path / "m.npz")


def test_what_makes_no_form():
    for wrong in (("digit", (28, 28, 3)), ("resize", (28, 28)), ("as-is", (0, 1, 1)), (["digit"], (28, 28, 1))):
        with pytest.raises(OptionError):
            InputForm(*wrong)
    with pytest.raises(ShapeError, match="no input of a network"):
        siamese((5, 4, 1), DIGIT)


# --- resize: like the training images ---------------------------------------------------------------------------------


@pytest.mark.parametrize("side", [28, 60, 112, 400])
@pytest.mark.parametrize("paper", ["black", "white", "grey"])
@pytest.mark.parametrize("margin", [0, 0.3])
def test_a_garment_is_read_whatever_its_size_polarity_and_margin(tmp_path, side, paper, margin):
    pixels = np.asarray(Image.fromarray(coat(224)).resize((side, side), Image.Resampling.BOX))
    top = int(margin * side)
    pixels = np.pad(pixels, ((top, top // 2), (top // 3, top)))
    pixels = {"black": pixels, "white": 1 - pixels, "grey": 0.75 * (1 - pixels)}[paper]
    Image.fromarray(np.uint8(pixels * 255)).convert("RGB").save(tmp_path / "g.png")
    found = read_image(tmp_path / "g.png", GARMENTS)
    assert found.shape == (28, 28, 1) and found.dtype == np.float32
    assert np.corrcoef(found.ravel(), coat().ravel())[0, 1] > 0.97
    assert found[:3, :3].max() < 0.05


def test_what_is_in_the_form_is_only_divided(tmp_path):
    stack = np.uint8(np.stack([coat(), np.roll(coat(), 2, axis=1), np.full((28, 28), 0.8)]) * 255)
    write_idx(tmp_path / "g", stack)
    images, names = load_images([tmp_path / "g"], GARMENTS)
    assert np.array_equal(images[..., 0], stack / np.float32(255)) and names[1].endswith("g#1")
    Image.fromarray(stack[0]).save(tmp_path / "g.png")
    assert np.array_equal(read_image(tmp_path / "g.png", GARMENTS), images[0])
    write_idx(tmp_path / "dark", 255 - stack[:2])
    assert np.abs(load_images([tmp_path / "dark"], GARMENTS)[0][0] - images[0]).max() < 0.01


def test_the_form_follows_the_training_images():
    rng = np.random.default_rng(0)
    coats = np.stack([coat() * rng.uniform(0.7, 1) for _ in range(20)])[..., np.newaxis]
    assert InputForm.like(coats) == GARMENTS
    small = np.pad(coats[:, ::2, ::2], ((0, 0), (7, 7), (7, 7), (0, 0)))
    form = InputForm.like(1 - small)
    assert form.background == pytest.approx(1) and form.fill == pytest.approx(0.5, abs=0.04)
    moved = np.stack([np.roll(image, rng.integers(-7, 8, 2), (0, 1)) for image in small])
    assert InputForm.like(moved) == InputForm("resize", (28, 28, 1), 0.0, None)
    mixed = np.concatenate([coats[:10], 1 - coats[10:]])
    noise = rng.random((20, 9, 5, 3), np.float32)
    for images in (mixed, noise):  # no background in common
        form = InputForm.like(images)
        assert (form.background, form.fill) == (None, None)


def test_aspect_is_kept_and_colour_too(tmp_path):
    pixels = np.zeros((90, 30, 3), np.uint8)
    pixels[..., 0], pixels[20:40] = 200, (0, 0, 255)
    Image.fromarray(pixels).save(tmp_path / "tall.png")
    found = read_image(tmp_path / "tall.png", InputForm("resize", (30, 30, 3)))
    np.testing.assert_allclose(found[15, 15], [200 / 255, 0, 0], atol=1e-6)
    np.testing.assert_allclose(found[15, 0], [200 / 255, 0, 0], atol=1e-6)  # beside it, the colour of its border
    assert found[9, 15, 2] > 0.9 and found[9, 2, 2] == 0
    grey = read_image(tmp_path / "tall.png", InputForm("as-is", (90, 30, 1)))
    np.testing.assert_allclose(grey[50, 0, 0], 200 / 255 * 0.299, atol=0.005)


def test_as_is_takes_just_its_size(tmp_path):
    Image.new("L", (30, 20), 9).save(tmp_path / "p.png")
    assert read_image(tmp_path / "p.png", InputForm("as-is", (20, 30, 1))).max() == np.float32(9) / np.float32(255)
    with pytest.raises(DataError, match=r"p\.png cannot be used: it has 20x30 pixels .* but the model takes 30x20"):
        read_image(tmp_path / "p.png", InputForm("as-is", (30, 20, 1)))
    with pytest.raises(DataError, match="model of 5 channels"):
        read_image(tmp_path / "p.png", InputForm("as-is", (20, 30, 5)))


@pytest.mark.parametrize(
    ("pixels", "wanted"),
    [
        (np.full((4, 4), 51, np.uint8), 0.2),
        (np.full((4, 4), 51.0), 0.2),
        (np.full((4, 4), 0.2), 0.2),
        (np.full((4, 4, 1), 13107, np.uint16), 0.2),
        (np.array([[True] * 4] * 4), 1),
        (np.array([[0, 127.5, 25.5, 254.7]] * 4), np.array([[0, 127.5, 25.5, 254.7]] * 4)[..., None] / 255),
        (np.array([[0, 1.02, 0.51, 0.51]] * 4), np.array([[0, 1, 0.5, 0.5]] * 4)[..., None]),
        (np.full((4, 4), -7), 0),
    ],
)
def test_the_scale_of_pixels(pixels, wanted):
    np.testing.assert_allclose(InputForm("as-is", (4, 4, 1)).picture(pixels), wanted, rtol=1e-6)


@pytest.mark.parametrize("pixels", [np.zeros(4), np.zeros((0, 4)), np.array([["a"]]), np.full((4, 4), np.nan), "x"])
@pytest.mark.parametrize("form", [InputForm("as-is", (4, 4, 1)), InputForm("resize", (4, 4, 1)), DIGIT])
def test_what_is_no_picture(pixels, form):
    with pytest.raises(DataError):
        form.picture(pixels)


# --- pictures one after the other -------------------------------------------------------------------------------------


def test_pictures_stream_and_the_unreadable_are_handed_over(tmp_path):
    for name in ("a/1.png", "a/deep/2.png", "b/3.png", "4.png"):
        (tmp_path / "own" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.uint8(coat(40) * 255)).save(tmp_path / "own" / name)
    (tmp_path / "own" / "b" / "cut.png").write_bytes(b"\x89PNG")
    (tmp_path / "empty").mkdir()
    failed = []
    inputs = [tmp_path / "own", tmp_path / "absent.png", tmp_path / "empty"]
    found = list(read_images(inputs, GARMENTS, failed.append))
    assert [(picture.name[len(str(tmp_path)) + 5 :], picture.class_name) for picture in found] == [
        ("4.png", None),
        ("a/1.png", "a"),
        ("a/deep/2.png", "a"),
        ("b/3.png", "b"),
    ]
    assert all(p.image.shape == (28, 28, 1) and p.original.shape == (40, 40) and p.error is None for p in found)
    assert [(p.class_name, p.image) for p in failed] == [("b", None), (None, None), (None, None)]
    for picture, words in zip(failed, ("not an image", "there is no file", "no image file"), strict=True):
        assert words in picture.error and picture.name in picture.error
    with pytest.raises(DataError, match=r"cut\.png is not an image"):
        list(read_images(inputs, GARMENTS))


def test_links_are_followed_once(tmp_path):
    (tmp_path / "own" / "a").mkdir(parents=True)
    (tmp_path / "other").mkdir()
    for name in ("own/a/1.png", "other/2.png"):
        Image.fromarray(np.uint8(coat() * 255)).save(tmp_path / name)
    (tmp_path / "own" / "a" / "up").symlink_to(tmp_path / "own")
    (tmp_path / "own" / "b").symlink_to(tmp_path / "other")
    (tmp_path / "own" / "c").symlink_to(tmp_path / "other")
    (tmp_path / "own" / "3.png").symlink_to(tmp_path / "other" / "2.png")
    names = [picture.name[len(str(tmp_path)) + 5 :] for picture in read_images([tmp_path / "own"], GARMENTS)]
    assert names == ["3.png", "a/1.png", "b/2.png"]
