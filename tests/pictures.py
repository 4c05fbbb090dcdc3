"""Pictures of digits as people have them, made from MNIST's: scans, pencil in a shadow, frames, grids, photographs.

Each function of `KINDS` takes a digit (28, 28) in [0, 1] and a random generator, and returns a picture (H, W) of bytes.

`python tests/pictures.py MODEL` prints how many of each kind are read right, of test digits that nothing was chosen on.
"""

import io
import sys

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

BICUBIC, BOX = Image.Resampling.BICUBIC, Image.Resampling.BOX


def stroke(digit, side, turn=0.0):
    """The digit of `side` pixels as ink: 1 in a stroke, 0 beside it, with an edge about as sharp as a pen's."""
    large = Image.fromarray(as_bytes(digit)).resize((side, side), BICUBIC)
    large = large.rotate(turn, BICUBIC).filter(ImageFilter.GaussianBlur(side / 60))
    return np.clip((np.asarray(large) / np.float32(255) - 0.45) * 3 + 0.5, 0, 1)


def as_bytes(picture):
    return (np.clip(picture, 0, 1) * 255).astype(np.uint8)


def tight(digit):
    """Cropped to its ink."""
    rows, columns = (np.flatnonzero(digit.max(axis) > 0) for axis in (1, 0))
    return digit[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def fitted(digit, side):
    """Fills a field of `side` pixels with the aspect kept and no margin, as USPS's and scikit-learn's scans do."""
    ink = tight(digit)
    square = np.zeros((max(ink.shape),) * 2, np.float32)
    top, left = ((length - n) // 2 for length, n in zip(square.shape, ink.shape, strict=True))
    square[top : top + ink.shape[0], left : left + ink.shape[1]] = ink
    return np.asarray(Image.fromarray(square).resize((side, side), BOX))


def skeleton(mask):
    """Thinned to lines of one pixel (Zhang and Suen 1984)."""
    mask = np.pad(mask, 1)
    changed = True
    while changed:
        changed = False
        for first in (True, False):
            p = [np.roll(mask, step, (0, 1)) for step in
                 ((1, 0), (1, -1), (0, -1), (-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1))]  # fmt: skip
            neighbours = sum(q.astype(int) for q in p)
            turns = sum((~p[i] & p[(i + 1) % 8]).astype(int) for i in range(8))
            north, east, south, west = p[0], p[2], p[4], p[6]
            open_a, open_b = (east & south & (north | west), north & west & (east | south))
            drop = mask & (neighbours >= 2) & (neighbours <= 6) & (turns == 1) & ~(open_a if first else open_b)
            changed |= bool(drop.any())
            mask = mask & ~drop
    return mask[1:-1, 1:-1]


def paper(shape, rng, light="even"):
    """Brightness of paper: how it is lit, its texture, and the camera's noise."""
    H, W = shape
    y, x = np.ogrid[-1 : 1 : H * 1j, -1 : 1 : W * 1j]
    angle = rng.uniform(0, 2 * np.pi)
    along = x * np.cos(angle) + y * np.sin(angle)
    lit = {
        "even": 0.85 + 0 * along,
        "linear": 0.7 + 0.18 * along,
        "shadow": 0.85 - 0.35 / (1 + np.exp(-(along - rng.uniform(-0.4, 0.4)) * 9)),
        "vignette": 0.9 - 0.3 * (x * x + y * y) / 2,
    }[light]
    return lit + 0.006 * rng.standard_normal(shape)


def drawn(digit, rng, darkness, light="even", size=256, scale=0.6, turn=0.0):
    """Dark ink on paper: each stroke takes the share `darkness` of the light away."""
    sheet = paper((size, size), rng, light)
    side = int(scale * size)
    top, left = (int(v) for v in rng.uniform(0.1, 0.9, 2) * (size - side))
    sheet[top : top + side, left : left + side] *= 1 - darkness * stroke(digit, side, turn)
    return sheet


def with_frame(digit, rng):
    sheet = Image.fromarray(as_bytes(drawn(digit, rng, 0.7, scale=0.5)))
    ink = np.asarray(sheet) < 140
    rows, columns = (np.flatnonzero(ink.any(axis)) for axis in (1, 0))
    gap = rng.integers(10, 25)
    box = (columns[0] - gap, rows[0] - gap, columns[-1] + gap, rows[-1] + gap)
    ImageDraw.Draw(sheet).rectangle(box, outline=60, width=int(rng.integers(3, 8)))
    return np.asarray(sheet)


def with_lines(digit, rng, across, darkness=0.4, every=40, width=3):
    """Ruled paper, or, with lines `across` too, a grid."""
    sheet = drawn(digit, rng, 0.75)
    lines = np.ones_like(sheet)
    start = int(rng.integers(0, every))
    for k in range(width):
        lines[start + k :: every] = 1 - darkness
        if across:
            lines[:, start + k :: every] = 1 - darkness
    return as_bytes(np.minimum(sheet, paper(sheet.shape, rng) * lines))


def with_underline(digit, rng):
    sheet = Image.fromarray(as_bytes(drawn(digit, rng, 0.75, scale=0.5)))
    ink = np.asarray(sheet) < 140
    rows, columns = (np.flatnonzero(ink.any(axis)) for axis in (1, 0))
    y, slope = rows[-1] + int(rng.integers(10, 22)), int(rng.integers(-5, 6))
    middle, half = (columns[0] + columns[-1]) // 2, int(rng.integers(50, 80))
    ImageDraw.Draw(sheet).line((middle - half, y, middle + half, y + slope), fill=60, width=int(rng.integers(3, 7)))
    return np.asarray(sheet)


def with_specks(digit, rng, count=25):
    sheet = Image.fromarray(as_bytes(drawn(digit, rng, 0.75)))
    for x, y in rng.integers(0, 255, (count, 2)):
        r = rng.uniform(0.5, 2.5)
        ImageDraw.Draw(sheet).ellipse((x - r, y - r, x + r, y + r), fill=50)
    return np.asarray(sheet)


def with_blot(digit, rng):
    """A blot of ink beside the digit."""
    sheet = Image.new("L", (256, 256))
    sheet.putdata(as_bytes(drawn(digit, rng, 0.0)).ravel().tolist())
    side, r = 130, int(rng.integers(10, 20))
    ink = Image.fromarray(as_bytes(stroke(digit, side)))
    sheet.paste(45, (20, 60), ink)
    x, y = 195 + int(rng.integers(0, 20)), int(rng.integers(50, 200))
    ImageDraw.Draw(sheet).ellipse((x - r, y - r, x + r, y + 0.8 * r), fill=45)
    return np.asarray(sheet)


def phone(digit, rng, darkness=0.6):
    """A photograph: texture of the paper, a shadow seen at an angle, grain, blur, JPEG."""
    size = int(rng.integers(400, 900))
    light = rng.choice(["linear", "shadow", "vignette"])
    sheet = drawn(digit, rng, darkness, light, size, rng.uniform(0.3, 0.7), rng.uniform(-6, 6))
    texture = Image.fromarray(rng.standard_normal((size // 5, size // 5)).astype(np.float32))
    sheet = sheet + 0.015 * np.asarray(texture.resize((size, size), BICUBIC))
    picture = Image.fromarray(as_bytes(sheet + 0.02 * rng.standard_normal(sheet.shape)))
    picture = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.5, 2)))
    e = size * 0.06
    corners = [
        float(v) for v in rng.uniform(0, e, 8) * [1, 1, 1, -1, -1, -1, -1, 1] + [0, 0, 0, size, size, size, size, 0]
    ]
    picture = picture.transform((size, size), Image.Transform.QUAD, corners, BICUBIC)
    return jpeg(np.asarray(picture), int(rng.integers(50, 90)))


def jpeg(picture, quality=70):
    """As a JPEG file gives it back."""
    stream = io.BytesIO()
    Image.fromarray(as_bytes(picture) if picture.dtype.kind == "f" else picture).save(stream, "jpeg", quality=quality)
    return np.asarray(Image.open(stream))


def thin_28(digit, rng):
    """A digit of 28x28 drawn with lines of one pixel, as a JPEG, dark on light."""
    lines = skeleton(np.asarray(Image.fromarray(digit.astype(np.float32)).resize((28, 28), BICUBIC)) > 0.3)
    return jpeg(1 - lines.astype(float), 85)


def thin_pen(digit, rng):
    """Lines of one pixel in a picture of 200x200."""
    lines = skeleton(stroke(digit, 140) > 0.2)
    return as_bytes(np.pad(1.0 - lines, 30, constant_values=1))


def moved(digit, rng):
    """Anywhere in 28x28."""
    ink = tight(digit)
    sheet = np.zeros((28, 28), np.float32)
    top, left = (int(rng.integers(0, 29 - length)) for length in ink.shape)
    sheet[top : top + ink.shape[0], left : left + ink.shape[1]] = ink
    return as_bytes(sheet)


def half_size(digit, rng):
    small = np.asarray(Image.fromarray(digit.astype(np.float32)).resize((14, 14), BOX))
    return as_bytes(np.pad(small, 7))


def two_digits(digit, rng, other):
    sheet = paper((160, 280), rng)
    sheet[15:145, 10:140] *= 1 - 0.7 * stroke(digit, 130)
    sheet[15:145, 140:270] *= 1 - 0.7 * stroke(other, 130)
    return as_bytes(sheet)


def semeion(digit, rng):
    """Two tones, 16x16, both sides stretched to the field; but a narrow one only by half."""
    ink = tight(digit)
    width = min(16, 24 * ink.shape[1] // ink.shape[0] + 1)
    small = np.asarray(Image.fromarray(ink.astype(np.float32)).resize((width, 16), BOX))
    return np.pad((small > 0.3).astype(np.uint8) * 255, ((0, 0), ((16 - width) // 2, (17 - width) // 2)))


KINDS = {
    "half size": half_size,
    "moved": moved,
    "tight": lambda digit, rng: as_bytes(tight(digit)),
    "tight, dark": lambda digit, rng: as_bytes(0.9 - 0.8 * tight(digit)),
    "tight, large": lambda digit, rng: as_bytes(tight(stroke(digit, 140))),
    "16x16": lambda digit, rng: as_bytes(fitted(digit, 16)),
    "16x16, dark": lambda digit, rng: as_bytes(1 - fitted(digit, 16)),
    "8x8": lambda digit, rng: (np.rint(fitted(digit, 8) * 16) * 15).astype(np.uint8),
    "stretched": semeion,
    "thin, 28x28 JPEG": thin_28,
    "thin pen": thin_pen,
    "marker": lambda digit, rng: as_bytes(drawn(digit, rng, 0.7)),
    "light on dark": lambda digit, rng: as_bytes(1 - drawn(digit, rng, 0.7)),
    **{
        f"pencil {share:.0%}, {light}": lambda digit, rng, share=share, light=light: as_bytes(
            drawn(digit, rng, share, light)
        )
        for share, light in [(0.12, "even"), (0.12, "linear"), (0.12, "shadow"), (0.12, "vignette"), (0.25, "shadow")]
    },
    "photograph": phone,
    "photograph of pencil": lambda digit, rng: phone(digit, rng, 0.22),
    "JPEG": lambda digit, rng: jpeg(drawn(digit, rng, 0.7, size=100), 40),
    "frame": with_frame,
    "ruled": lambda digit, rng: with_lines(digit, rng, across=False),
    "grid": lambda digit, rng: with_lines(digit, rng, across=True),
    "faint grid": lambda digit, rng: with_lines(digit, rng, across=True, darkness=0.15, every=25, width=2),
    "underline": with_underline,
    "specks": with_specks,
    "blot": with_blot,
}  # fmt: skip

FRESH = 7000  # from this test digit on, nothing was chosen on any


def reader(model):
    """A function that embeds forms (N, 28, 28), and one that names the class of the nearest mean."""
    from siamese_np import load_model

    siamese = load_model(model)
    means = siamese.novelty.class_means

    def embed(forms):
        return siamese.embed(np.ascontiguousarray(forms, np.float32)[..., np.newaxis])

    def nearest(emb):
        return np.linalg.norm(emb[:, np.newaxis] - means, axis=-1).argmin(1)

    return embed, nearest


def known(split, embed, nearest, start=0, count=1500):
    """Digits (N, 28, 28) of a split whose class is right when they are given as they are; and their classes."""
    images, classes = split.images[start : start + count, ..., 0], split.classes[start : start + count]
    right = nearest(embed(images)) == classes
    return images[right], classes[right]


def read(picture):
    """Its form, or an empty one where it is refused."""
    from siamese_np.datasets.mnist_form import to_mnist_form
    from siamese_np.errors import DataError

    try:
        return to_mnist_form(picture)
    except DataError:
        return np.zeros((28, 28), np.float32)


def share_right(name, digits, embed, nearest, count):
    """The share of pictures of this kind whose class is right; those that are refused are wrong."""
    images, classes = (part[:count] for part in digits)
    rng = np.random.default_rng(0)
    forms = np.stack([read(KINDS[name](image, rng)) for image in images])
    right = nearest(embed(forms)) == classes
    return float((right & forms.any(axis=(1, 2))).mean())


def main(model, count=400):
    """Print the table of `model`."""
    from siamese_np import load_dataset

    embed, nearest = reader(model)
    digits = known(load_dataset().test, embed, nearest, FRESH)
    for name in KINDS:
        print(f"{name:24}{share_right(name, digits, embed, nearest, count):8.4f}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:2])
