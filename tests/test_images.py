"""The user's own pictures: every kind of file, what must not change the result, and what refusals say."""

import contextlib
import gzip
import os
import struct
import subprocess
import sys
import tracemalloc
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from conftest import IRREGULAR, irregular_files, refusals, write_idx
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import EpsImagePlugin, Image, ImageDraw, ImageFilter

from siamese_np import datasets
from siamese_np.datasets import images, load_dataset, load_images
from siamese_np.datasets.input_form import DIGIT
from siamese_np.datasets.mnist_form import BOX, CENTRE, as_mnist_form, to_mnist_form
from siamese_np.errors import DataError


def read_image(path):
    """A picture in MNIST's form, (28, 28)."""
    return datasets.read_image(path)[..., 0]


READ = "from siamese_np.datasets import load_images\nread = lambda path: load_images([path])"


@pytest.fixture(scope="module")
def mnist():
    """Bytes (N, 28, 28) and classes of validation images."""
    split = load_dataset().validation
    return np.rint(split.images[..., 0] * 255).astype(np.uint8), split.classes


@pytest.fixture(scope="module")
def digits(mnist):
    """One image of bytes (28, 28) of each digit."""
    return np.stack([mnist[0][np.flatnonzero(mnist[1] == digit)[1]] for digit in range(10)])


def drawing(size=(120, 100), ink=255, paper=0):
    """A mark like an F, which no turn or mirror brings to itself; as large as it can be in the middle."""
    picture = Image.new("L", size, paper)
    draw, unit = ImageDraw.Draw(picture), min(size) // 10
    for box in ((3, 2, 4, 8), (3, 2, 7, 3), (3, 5, 6, 6)):
        draw.rectangle([unit * place for place in box], fill=ink)
    return picture


def alike(a, b):
    """Cosine of two images."""
    return float((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()))


def photograph(digit, size, rng, scale=0.5, turn=8, noise=0.03):
    """Dark ink on unevenly lit paper, not in the middle, a little turned, with noise: bytes (H, W, 3)."""
    W, H = size
    side = int(scale * H)
    stroke = (
        Image.fromarray(digit).resize((side, side), Image.Resampling.BICUBIC).rotate(turn, Image.Resampling.BICUBIC)
    )
    stroke = np.clip((np.asarray(stroke.filter(ImageFilter.GaussianBlur(side / 45))) / 255 - 0.5) * 4 + 0.5, 0, 1)
    y, x = np.ogrid[-1 : 1 : H * 1j, -1 : 1 : W * 1j]
    light = 0.7 + 0.15 * x - 0.1 * y - 0.08 * (x * x + y * y)
    top, left = int(0.3 * H * rng.random()) + H // 10, int(0.4 * W * rng.random()) + W // 10
    light[top : top + side, left : left + side] *= 1 - 0.7 * stroke
    light += noise * rng.standard_normal((H, W))
    return (np.clip(light[..., np.newaxis] * [1, 0.97, 0.9], 0, 1) * 255).astype(np.uint8)


def fails(path, words, read=read_image):
    with pytest.raises(DataError, match=words) as caught:
        read(path)
    assert Path(path).name in str(caught.value) and "\n" not in str(caught.value)


# --- MNIST's own form -------------------------------------------------------------------------------------------------


def test_mnist_images_pass_unchanged(mnist):
    """But for one in a thousand, whose strokes are so thin that they are thickened."""
    scaled = mnist[0] / np.float32(255)
    forms = as_mnist_form(mnist[0])
    assert (forms != scaled).any((1, 2)).mean() < 0.002
    for image, form in zip(mnist[0][:500], forms, strict=False):
        assert np.array_equal(to_mnist_form(image), form)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "pgm", "gif", "webp"])
def test_a_28x28_file_of_mnist_is_exact(tmp_path, digits, suffix):
    for digit, image in enumerate(digits):
        path = tmp_path / f"{digit}.{suffix}"
        Image.fromarray(image).save(path, **({"lossless": True} if suffix == "webp" else {}))
        found = read_image(path)
        assert found.dtype == np.float32 and np.array_equal(found, np.divide(image, 255, dtype=np.float32))


def test_28x28_in_other_ways(tmp_path, digits):
    """Sixteen bits, colour, dark on light, and the traces JPEG leaves on the border."""
    image, wanted = digits[3], digits[3] / np.float32(255)
    Image.fromarray(image.astype(np.uint16) * 257).save(tmp_path / "a.png")
    Image.fromarray(image).convert("RGB").save(tmp_path / "b.png")
    Image.fromarray(255 - image).save(tmp_path / "c.png")
    Image.fromarray(image).save(tmp_path / "d.jpg", quality=75)
    Image.fromarray(image.astype(np.float32)).save(tmp_path / "e.tif")
    Image.fromarray(image.astype(np.int32)).save(tmp_path / "f.tif")
    for name in ("a.png", "b.png", "f.tif"):
        assert np.array_equal(read_image(tmp_path / name), wanted)
    for name, tolerance in (("c.png", 1e-6), ("d.jpg", 0.15), ("e.tif", 1e-6)):
        np.testing.assert_allclose(read_image(tmp_path / name), wanted, atol=tolerance)


# --- kinds of files ---------------------------------------------------------------------------------------------------


def _palette(picture):
    """Two inks and a paper in a palette whose order says nothing about brightness."""
    pixels = (np.asarray(picture) > 128).astype(np.uint8) * 2
    palette = Image.fromarray(pixels, "L").convert("P")
    palette.putdata(pixels.ravel().tolist())
    palette.putpalette([240, 240, 200, 9, 9, 9, 30, 40, 90] + [0] * 759)
    return palette


def _on_glass(picture, ink):
    """Ink of one colour, nothing else: paper is what is transparent."""
    glass = Image.new("RGBA", picture.size, (*ink, 0))
    glass.putalpha(picture)
    return glass


KINDS = {
    "grey.png": lambda p: p,
    "inverted.png": lambda p: p.point(lambda v: 255 - v),
    "faint.png": lambda p: p.point(lambda v: 130 + v // 20),
    "colour.png": lambda p: Image.merge("RGB", (p, p.point(lambda v: v // 2), p)),
    "photo.jpg": lambda p: Image.merge("RGB", [p.point(lambda v: 220 - v // 2)] * 3),
    "grey.jpg": lambda p: p,
    "cmyk.jpg": lambda p: p.convert("RGB").convert("CMYK"),
    "cmyk.tif": lambda p: p.convert("RGB").convert("CMYK"),
    "alpha.png": lambda p: p.convert("RGBA"),
    "grey-alpha.png": lambda p: p.convert("LA"),
    "black-on-glass.png": lambda p: _on_glass(p, (0, 0, 0)),
    "white-on-glass.png": lambda p: _on_glass(p, (255, 255, 255)),
    "blue-on-glass.webp": lambda p: _on_glass(p, (20, 30, 120)),
    "white-on-glass-grey.png": lambda p: _on_glass(p, (255, 255, 255)).convert("LA"),
    "palette.png": _palette,
    "palette.gif": _palette,
    "one-bit.png": lambda p: p.convert("1"),
    "one-bit.tif": lambda p: p.convert("1"),
    "sixteen.png": lambda p: Image.fromarray(np.asarray(p).astype(np.uint16) * 257),
    "sixteen.tif": lambda p: Image.fromarray(np.asarray(p).astype(np.uint16) * 257),
    "twelve-of-sixteen.png": lambda p: Image.fromarray(4095 - np.asarray(p).astype(np.uint16) * 16),
    "integer.tif": lambda p: Image.fromarray(np.asarray(p).astype(np.int32) * 1000 - 70_000),
    "small-integer.tif": lambda p: Image.fromarray(np.asarray(p).astype(np.int32)),
    "float.tif": lambda p: Image.fromarray(np.asarray(p).astype(np.float32) / 255),
    "wide-float.tif": lambda p: Image.fromarray(np.asarray(p).astype(np.float32) * 1e9 - 1e9),
}


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_file_gives_the_same(tmp_path, name):
    plain = to_mnist_form(np.asarray(drawing()))
    KINDS[name](drawing()).save(tmp_path / name)
    found = read_image(tmp_path / name)
    assert found.shape == (28, 28) and found.dtype == np.float32 and found.min() >= 0 and found.max() <= 1
    assert alike(found, plain) > 0.99


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
@pytest.mark.parametrize(("ink", "paper"), [((255, 0, 0), (0, 130, 0)), ((60, 60, 255), (82, 82, 82))])
def test_colours_that_are_equally_bright(tmp_path, suffix, ink, paper):
    """Brightness shows nothing of the digit, or only what rounding leaves of its edges."""
    mask = drawing(ink=255, paper=0)
    picture = Image.composite(Image.new("RGB", mask.size, ink), Image.new("RGB", mask.size, paper), mask)
    assert np.ptp(np.asarray(picture.convert("L"))) <= 2
    picture.save(tmp_path / f"p.{suffix}", quality=95)
    plain = to_mnist_form(np.asarray(drawing()))
    assert alike(read_image(tmp_path / f"p.{suffix}"), plain) > 0.98
    assert alike(DIGIT.picture(np.asarray(picture))[..., 0], plain) > 0.99


@pytest.mark.parametrize("suffix", ["png", "gif"])
def test_palette_with_a_transparent_colour(tmp_path, suffix):
    """Paper is transparent and, were it not, of the ink's colour."""
    picture = _palette(drawing())
    picture.putpalette([30, 40, 90, 9, 9, 9, 30, 40, 90] + [0] * 759)
    picture.save(tmp_path / f"p.{suffix}", transparency=0)
    assert alike(read_image(tmp_path / f"p.{suffix}"), to_mnist_form(np.asarray(drawing()))) > 0.99


def test_grey_with_a_transparent_level(tmp_path):
    drawing(ink=40, paper=41).save(tmp_path / "t.png", transparency=41)
    assert alike(read_image(tmp_path / "t.png"), to_mnist_form(np.asarray(drawing()))) > 0.99


def test_paper_with_transparent_corners_and_a_hole(tmp_path):
    """The paper is in the picture: what is missing of it is paper, not ink."""
    picture, mask = drawing(ink=30, paper=230).convert("RGBA"), Image.new("L", (120, 100), 0)
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, 119, 99), 30, fill=255)
    ImageDraw.Draw(mask).ellipse((60, 60, 80, 80), fill=0)
    picture.putalpha(mask)
    picture.save(tmp_path / "card.png")
    assert alike(read_image(tmp_path / "card.png"), to_mnist_form(np.asarray(drawing()))) > 0.99


def test_first_frame_of_an_animation(tmp_path):
    frames = [drawing(), Image.new("L", (120, 100), 0)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:], duration=100)
    with Image.open(tmp_path / "a.gif") as animation:
        assert animation.n_frames == 2
    assert alike(read_image(tmp_path / "a.gif"), to_mnist_form(np.asarray(drawing()))) > 0.99


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path, orientation, suffix):
    picture = drawing()
    held = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,  # the camera turned the other way
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = picture.transpose(held[orientation]) if orientation in held else picture
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / f"held.{suffix}", exif=exif)
    assert alike(read_image(tmp_path / f"held.{suffix}"), to_mnist_form(np.asarray(picture))) > 0.99


@pytest.mark.parametrize("suffix", ["png", "webp", "jpg"])
@pytest.mark.parametrize(
    "exif",
    [
        b"Exif\0\0garbage",
        b"II*\0",
        b"II*\0\x08\0\0\0\xff\xff",
        b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x02\0\x01\0\x06\0\0",
    ],
)
def test_a_broken_exif_block_does_not_matter(tmp_path, suffix, exif):
    """Garbage, blocks cut short, and two orientations at once: the picture is taken as upright."""
    drawing().save(tmp_path / f"a.{suffix}", exif=exif)
    assert alike(read_image(tmp_path / f"a.{suffix}"), to_mnist_form(np.asarray(drawing()))) > 0.99


def test_large_pictures_are_averaged_in_tiles(tmp_path, monkeypatch):
    """As strips, as many tiles, and by Pillow alone: the same picture."""
    picture = drawing((2610, 2130)).filter(ImageFilter.GaussianBlur(20))
    picture.save(tmp_path / "large.png")
    read = read_image(tmp_path / "large.png")
    for pixels in (2000, 5220, 70_000):  # three tiles across, strips of one row, of many
        monkeypatch.setattr(images, "_TILE", pixels)
        assert np.array_equal(read_image(tmp_path / "large.png"), read)
    assert alike(read, to_mnist_form(np.asarray(picture))) > 0.999
    picture.save(tmp_path / "large.jpg")
    assert alike(read, read_image(tmp_path / "large.jpg")) > 0.999


# --- finding the digit ------------------------------------------------------------------------------------------------


def test_it_is_mnists_form(digits):
    """The box of 20 pixels, and the centre of mass at 14 whatever the digit's place and size."""
    for image in digits:
        canvas = np.full((300, 400), 200.0)
        large = np.asarray(Image.fromarray(image).resize((140, 140), Image.Resampling.BICUBIC)) / 255
        canvas[130:270, 10:150] -= 150 * large
        form = to_mnist_form(canvas / 255)
        rows, columns = (np.flatnonzero(form.max(axis) > 0.1) for axis in (1, 0))
        assert BOX - 1 <= max(np.ptp(rows), np.ptp(columns)) + 1 <= BOX + 2
        for axis in (0, 1):
            assert abs(form.sum(1 - axis) @ np.arange(28) / form.sum() - CENTRE) < 0.6
        assert form.max() == 1 and np.median(form[0]) == 0


@pytest.mark.parametrize("digit", range(10))
def test_a_photograph_resembles_its_digit(digits, digit):
    rng = np.random.default_rng(digit)
    for scale in (0.2, 0.6):
        photo = np.asarray(Image.fromarray(photograph(digits[digit], (900, 600), rng, scale, turn=4)).convert("L"))
        found = to_mnist_form(photo)
        best = max(
            alike(np.roll(found, (dy, dx), (0, 1)), digits[digit] / 255) for dy in (-1, 0, 1) for dx in (-1, 0, 1)
        )
        assert best > 0.85


def test_what_lies_around_the_paper_is_left_out(digits):
    """A dark table around the paper, dirt on it, and a thread that enters from outside."""
    photo = photograph(digits[5], (600, 400), np.random.default_rng(0), turn=0).mean(axis=-1) / 255
    alone = to_mnist_form(photo)
    photo[:, :40] = photo[:, -30:] = photo[:25] = photo[-20:] = 0.2
    photo[385:388, 300:500] = photo[350:353, 560:] = 0.1
    photo[365:371, 100:106] = 0.1
    assert alike(to_mnist_form(photo), alone) > 0.98


@given(
    angle=st.sampled_from([0, 90, 180, 270]),
    contrast=st.floats(0.1, 1),
    brightness=st.floats(0, 1),
    inverted=st.booleans(),
    dtype=st.sampled_from(["uint8", "uint16", "float32", "float64", "int32"]),
)
def test_brightness_contrast_polarity_and_type_do_not_matter(angle, contrast, brightness, inverted, dtype):
    plain = np.asarray(drawing().rotate(angle, expand=True))
    values = plain / 255 * contrast + brightness * (1 - contrast)
    values = 1 - values if inverted else values
    largest = {"uint8": 255, "uint16": 65535, "int32": 10_000}.get(dtype, 1)
    values = (values * largest).astype(dtype)
    assert alike(to_mnist_form(values), to_mnist_form(plain)) > 0.98


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_widest_range_of_brightness(tmp_path, dtype, recwarn):
    """From the smallest number of the type to the largest, whose difference is none."""
    plain = np.asarray(drawing())
    values = np.where(plain > 0, np.finfo(dtype).max, np.finfo(dtype).min).astype(dtype)
    assert alike(to_mnist_form(values), to_mnist_form(plain)) > 0.99
    if dtype == np.float32:
        Image.fromarray(values).save(tmp_path / "wide.tif")
        assert alike(read_image(tmp_path / "wide.tif"), to_mnist_form(plain)) > 0.99
    smallest = np.where(plain > 0, np.float32(1e-45), np.float32(-1e-45))
    assert alike(to_mnist_form(smallest), to_mnist_form(plain)) > 0.99
    assert not recwarn.list


@given(st.integers(0, 60), st.integers(0, 60), st.floats(0.7, 3))
def test_place_and_size_do_not_matter(top, left, factor):
    plain = drawing()
    size = tuple(int(side * factor) for side in plain.size)
    canvas = Image.new("L", (size[0] + 80, size[1] + 80), 0)
    canvas.paste(plain.resize(size, Image.Resampling.LANCZOS), (left, top))
    assert alike(to_mnist_form(np.asarray(canvas)), to_mnist_form(np.asarray(plain))) > 0.95


def test_thin_strokes_are_thickened():
    picture = Image.new("L", (500, 500), 255)
    ImageDraw.Draw(picture).line([(100, 100), (300, 90), (200, 400)], fill=0, width=3)  # a 3 of 310 pixels
    form = to_mnist_form(np.asarray(picture))
    assert 40 < form.sum() < 70  # 30 without


@given(
    hnp.arrays(
        st.sampled_from([np.uint8, np.int16, np.float32, np.bool_]),
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=40),
    )
)
def test_any_picture_gives_an_image_or_a_reason(picture):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            form = to_mnist_form(picture)
        except DataError:
            return
    assert form.shape == (28, 28) and form.dtype == np.float32
    assert form.min() >= 0 and form.max() <= 1 and form.any()


@given(st.integers(1, 70), st.integers(1, 70), st.integers(0, 1000))
def test_noise_gives_an_image_or_a_reason(height, width, seed):
    rng = np.random.default_rng(seed)
    try:
        form = to_mnist_form(rng.random((height, width)) ** rng.integers(1, 20))
    except DataError:
        return
    assert form.shape == (28, 28) and np.isfinite(form).all()


# --- folders and IDX files --------------------------------------------------------------------------------------------


def test_folders_are_walked_in_order(tmp_path, digits):
    for name in ("b/2.png", "b/10.PNG", "a.png", "b/c/x.gif", "c.png", ".hidden/h.png", "b/._2.png"):
        path = tmp_path / "own" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(digits[4]).save(path, format=path.suffix[1:])
    (tmp_path / "own" / "notes.txt").write_text("no image")
    Image.fromarray(digits[7]).save(tmp_path / "without-suffix", format="png")
    found, names = load_images([tmp_path / "own", str(tmp_path / "without-suffix")])
    assert names == [
        *(str(tmp_path / "own" / name) for name in ("a.png", "b/10.PNG", "b/2.png", "b/c/x.gif", "c.png")),
        str(tmp_path / "without-suffix"),
    ]
    assert found.shape == (6, 28, 28, 1) and found.dtype == np.float32
    assert np.array_equal(found[-1, :, :, 0], digits[7] / np.float32(255))


@pytest.mark.parametrize("name", ["own-idx3-ubyte", "own.gz"])
def test_idx(tmp_path, digits, name):
    write_idx(tmp_path / name, digits)
    found, names = load_images([tmp_path / name])
    assert np.array_equal(found[..., 0], digits / np.float32(255))
    assert names == [f"{tmp_path / name}#{i}" for i in range(10)]


def test_idx_of_a_data_set_that_fills_its_border(tmp_path, digits):
    """Clothes and the like touch the border in many images; the file as a whole decides."""
    wide = digits.copy()
    wide[2] = np.maximum(wide[2], 90)
    write_idx(tmp_path / "a", wide)
    garments = datasets.InputForm("resize", (28, 28, 1), 0.0)
    assert np.array_equal(load_images([tmp_path / "a"], garments)[0][..., 0], wide / np.float32(255))


def test_idx_and_image_files_are_read_alike(tmp_path, digits):
    """Also a digit that is not in MNIST's form, in a file of others that are."""
    moved = digits.copy()
    moved[3] = np.roll(moved[3], 4, axis=0)
    write_idx(tmp_path / "a", moved)
    found = load_images([tmp_path / "a"])[0]
    for i, image in enumerate(moved):
        Image.fromarray(image).save(tmp_path / f"{i}.png")
        assert np.array_equal(datasets.read_image(tmp_path / f"{i}.png"), found[i])
    assert np.abs(found[3, ..., 0] - digits[3] / 255).max() < 0.02


def test_images_that_start_like_idx_files(tmp_path):
    """Two zero bytes and 0x0b, as IDX files of int16 do; a picture that happens to be gzipped is none."""
    drawing().save(tmp_path / "a.tga", compression="tga_rle")
    assert (tmp_path / "a.tga").read_bytes()[:3] == b"\0\0\x0b"
    assert np.array_equal(load_images([tmp_path / "a.tga"])[0][0, :, :, 0], to_mnist_form(np.asarray(drawing())))
    (tmp_path / "b.tga.gz").write_bytes(gzip.compress((tmp_path / "a.tga").read_bytes()))
    fails(tmp_path / "b.tga.gz", "0 dimensions", lambda path: load_images([path]))


def test_idx_in_another_form(tmp_path, digits):
    write_idx(tmp_path / "inverted", 255 - digits)
    np.testing.assert_allclose(load_images([tmp_path / "inverted"])[0][..., 0], digits / 255, atol=1e-6)
    large = np.stack([np.asarray(drawing(size)) for size in ((70, 50), (70, 50))])
    write_idx(tmp_path / "large", large)
    found, names = load_images([tmp_path / "inverted", tmp_path / "large"])
    assert len(names) == 12 and np.array_equal(found[11, :, :, 0], to_mnist_form(large[1]))
    floats = struct.pack(">HBB3I", 0, 0x0D, 3, 2, 50, 70) + (large / 255).astype(">f4").tobytes()
    (tmp_path / "floats").write_bytes(floats)
    assert alike(load_images([tmp_path / "floats"])[0][1], found[11]) > 0.999


# --- what is wrong is said --------------------------------------------------------------------------------------------


def _save(make):
    return lambda path: make().save(path, format="png")


WRONG = {
    "empty.png": (lambda path: path.write_bytes(b""), "not an image file"),
    "text.png": (lambda path: path.write_text("This is a text.\n" * 9), "not an image file"),
    "black.png": (_save(lambda: Image.new("L", (50, 40), 0)), "same brightness"),
    "white.png": (_save(lambda: Image.new("RGB", (28, 28), "white")), "same brightness"),
    "clear.png": (_save(lambda: Image.new("RGBA", (50, 40), (9, 9, 9, 0))), "same brightness"),
    "pixel.png": (_save(lambda: Image.new("L", (1, 1), 7)), "same brightness"),
    "slope.png": (_save(lambda: Image.linear_gradient("L")), "stands out"),
    "lab.tif": (lambda path: Image.new("LAB", (9, 9)).save(path), "of a rare kind .*LAB"),
    "nan.tif": (lambda path: Image.fromarray(np.full((9, 9), np.nan, np.float32)).save(path), "not finite"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_files(tmp_path, name, recwarn):
    make, words = WRONG[name]
    make(tmp_path / name)
    fails(tmp_path / name, words)
    fails(tmp_path / name, words, lambda path: load_images([path]))
    fails(tmp_path / name, words, lambda path: load_images([path.parent]))
    assert not recwarn.list


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "tif", "bmp", "webp", "ppm"])
def test_truncated_or_changed_files(tmp_path, suffix):
    path = tmp_path / f"cut.{suffix}"
    drawing().convert("RGB").save(path)
    content = path.read_bytes()
    for length in np.linspace(1, len(content) * 0.7, 25).astype(int):
        path.write_bytes(content[:length])
        fails(path, "damaged|not an image file|stands out|same brightness")
    rng = np.random.default_rng(0)
    for _ in range(60):
        changed = bytearray(content)
        for place in rng.integers(min(len(content), 400), size=3):
            changed[place] = rng.integers(256)
        path.write_bytes(changed)
        with contextlib.suppress(DataError):
            assert read_image(path).shape == (28, 28)


@pytest.mark.parametrize("suffix", ["png", "eps", "pdf", "jpg"])
def test_no_other_program_is_started(tmp_path, monkeypatch, suffix):
    """Whatever the name, PostScript is not handed to the interpreter that Pillow knows."""
    for name in ("gs", "gswin64c", "gswin32c"):
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)  # look for it again
    drawing().convert("RGB").save(tmp_path / f"p.{suffix}", format="EPS")
    fails(tmp_path / f"p.{suffix}", "not an image file of a known kind .*PNG")
    assert not (tmp_path / "started").exists()


def test_missing_folder_unreadable_and_empty(tmp_path, monkeypatch):
    fails(tmp_path / "absent.png", "there is no file .*absent.png")
    fails(tmp_path / "absent.png", "there is no file .*absent.png", lambda path: load_images([path]))
    fails(tmp_path, "is a folder, but one image file")
    (tmp_path / "note.txt").write_text("no image")
    fails(tmp_path, "holds no image file", lambda path: load_images([path]))
    with pytest.raises(DataError, match="nothing to read"):
        load_images([])

    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    drawing().save(tmp_path / "secret.png")
    monkeypatch.setattr("builtins.open", refuse)  # the tests may run as a user who may read everything
    fails(tmp_path / "secret.png", "cannot read .*: Permission denied")
    fails(tmp_path / "secret.png", "cannot read .*: Permission denied", lambda path: load_images([path]))


@pytest.mark.parametrize("shape", [(5,), (28, 28), (2, 28, 28, 2), (0, 28, 28)])
def test_idx_of_wrong_rank(tmp_path, shape):
    write_idx(tmp_path / "labels", np.zeros(shape))
    fails(tmp_path / "labels", r"but images have the shape \(N, H, W\)", lambda path: load_images([path]))


def test_damaged_and_blank_idx(tmp_path, digits):
    write_idx(tmp_path / "cut", digits)
    (tmp_path / "cut").write_bytes((tmp_path / "cut").read_bytes()[:-1])
    fails(tmp_path / "cut", "too short", lambda path: load_images([path]))
    (tmp_path / "cut.gz").write_bytes(gzip.compress(b"text"))
    fails(tmp_path / "cut.gz", "not an IDX file", lambda path: load_images([path]))
    write_idx(tmp_path / "blank", np.stack([np.asarray(drawing((60, 60))), np.zeros((60, 60))]))
    with pytest.raises(DataError, match=r"blank#1 .*same brightness"):
        load_images([tmp_path / "blank"])


def test_too_many_pixels(tmp_path, monkeypatch):
    """Up to Pillow's hard limit a picture is read without a word, above it is refused."""
    drawing().save(tmp_path / "large.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 120 * 100 - 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_image(tmp_path / "large.png").any()
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5000)
    fails(tmp_path / "large.png", "too large a picture")


@pytest.mark.parametrize("wrong", [np.zeros((28, 28, 1)), np.zeros(28), np.zeros((0, 28)), np.array([["a"]]), 3.0])
def test_what_is_no_picture(wrong):
    with pytest.raises(DataError, match="2-D array of numbers"):
        to_mnist_form(wrong)


def test_memory_of_a_large_picture_beside_pillows(tmp_path):
    """Python's own share; Pillow holds the decoded picture once."""
    drawing((6000, 5000)).convert("RGB").save(tmp_path / "large.png", compress_level=1)
    tracemalloc.start()
    try:
        read_image(tmp_path / "large.png")
        assert tracemalloc.get_traced_memory()[1] < 60_000_000
    finally:
        tracemalloc.stop()


def png_claiming(width, height, content=b""):
    """A PNG file of grey pixels with `content` as its compressed data."""
    chunks = (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)), (b"IDAT", content), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )


def test_a_small_file_takes_little_memory(tmp_path):
    files = {
        "wide.png": png_claiming(1_562_500, 64, zlib.compress(bytes(1_562_501 * 64))),
        "tall.png": png_claiming(1, 170_000_000),
        "large.png": png_claiming(13_000, 13_000, zlib.compress(bytes(13_001 * 13_000))),
        "strip.png": png_claiming(63_000, 631, zlib.compress(bytes(63_001 * 631))),
        "idx.gz": gzip.compress(struct.pack(">HBB3I", 0, 8, 3, 1, 8000, 8000) + bytes(64_000_000)),
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    sentences = refusals(
        READ,
        [tmp_path / name for name in files],
    )
    wanted = ["at most 100 times", "at most 100 times", "at least 0.01 bytes for each", "same brightness", "8000x8000"]
    for sentence, words in zip(sentences, wanted, strict=True):
        assert words in sentence


def test_only_regular_files_are_read(tmp_path):
    """A pipe would be waited for, a device read for ever."""
    for sentence, words in zip(refusals(READ, irregular_files(tmp_path)), IRREGULAR, strict=True):
        assert f"{words}, where a regular file is needed" in sentence
    (folder := tmp_path / "pictures").mkdir()
    os.mkfifo(folder / "a.png")
    with pytest.raises(DataError, match=r"cannot read .*a\.png: it is a pipe"):
        load_images([folder])


def test_a_long_picture_is_read(tmp_path):
    """A strip of paper: its averaged form has less than 30 pixels of height."""
    canvas = Image.new("L", (40_000, 900), 255)
    canvas.paste(drawing((800, 800), ink=0, paper=255), (20_000, 50))
    ImageDraw.Draw(canvas).line([(20_100, 500), (22_500, 500)], fill=0, width=200)
    canvas.save(tmp_path / "long.png")
    assert read_image(tmp_path / "long.png").any()


def test_training_imports_no_pillow():
    code = "import sys, siamese_np.datasets as d; assert 'PIL' not in sys.modules; d.read_image; sys.modules['PIL']"
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(ImportError, match="nothing_like_it"):
        from siamese_np.datasets import nothing_like_it  # noqa: F401
