"""What no digit is, drawn from a seed: noise, garments, scribbles, letters, broken rings, bars.

`python tests/garbage.py MODEL` prints, for each kind apart, how well `unlike` tells the digits from it: the AUC, and
the share beyond the limit, where the images are taken as they are drawn, and where they are read from dark-on-light
pictures of four times the size.
"""

import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

SIDE, FINE = 28, 4  # pixels of an image, and of the drawing for each of them
LETTERS = "ACDEFHJKLMNPQRTUVWXYacdefhjkmnprtuvwxy"  # without O, I, S, Z, B, G and o, i, l, s, z, b, g, q


def noise(rng: np.random.Generator, kind: str) -> np.ndarray:
    pixels = rng.random((SIDE, SIDE)) if kind != "gaussian" else np.clip(rng.normal(0.5, 0.25, (SIDE, SIDE)), 0, 1)
    if kind == "blurred":
        soft = np.asarray(_image(pixels).filter(ImageFilter.GaussianBlur(rng.uniform(1, 3))), float)
        pixels = np.clip((soft - np.median(soft)) / (np.ptp(soft) / 3), 0, 1)
    if kind == "speckle":
        pixels = pixels * (rng.random((SIDE, SIDE)) < 0.2)
    if kind in ("boxed", "blurred"):  # in MNIST's form: 20 pixels on black
        pixels[:, :4] = pixels[:, -4:] = pixels[:4] = pixels[-4:] = 0
    return pixels


GARMENTS = {  # outlines in a square of side 1: x, y
    "shirt": [(0.35, 0.05), (0.65, 0.05), (1, 0.3), (0.88, 0.45), (0.75, 0.36), (0.75, 0.97), (0.25, 0.97),
              (0.25, 0.36), (0.12, 0.45), (0, 0.3)],
    "shoe": [(0.03, 0.45), (0.3, 0.4), (0.5, 0.52), (0.97, 0.66), (1, 0.8), (0.03, 0.8)],
    "trousers": [(0.3, 0.02), (0.7, 0.02), (0.78, 0.98), (0.56, 0.98), (0.5, 0.3), (0.44, 0.98), (0.22, 0.98)],
    "dress": [(0.38, 0.02), (0.62, 0.02), (0.6, 0.4), (0.75, 0.98), (0.25, 0.98), (0.4, 0.4)],
    "bag": [(0.05, 0.35), (0.95, 0.35), (1, 0.9), (0, 0.9)],
    "boot": [(0.35, 0.03), (0.65, 0.03), (0.66, 0.55), (0.95, 0.75), (0.97, 0.97), (0.33, 0.97)],
}  # fmt: skip


def garment(rng: np.random.Generator, kind: str) -> np.ndarray:
    """A filled shape that is as large as its image, of some brightness, with folds, a pattern or stripes."""
    side = SIDE * FINE
    canvas = Image.new("L", (side, side))
    draw, stretch = ImageDraw.Draw(canvas), rng.uniform(0.85, 1, 2)
    points = [tuple((np.array(p) - 0.5 + rng.normal(0, 0.02, 2)) * stretch * side + side / 2) for p in GARMENTS[kind]]
    draw.polygon(points, fill=255)
    if kind == "bag":
        draw.arc([side * 0.3, side * 0.1, side * 0.7, side * 0.6], 180, 360, fill=255, width=int(rng.integers(4, 9)))
    shape = np.asarray(canvas.resize((SIDE, SIDE), Image.Resampling.BOX), float) / 255
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    wave = np.sin(rng.uniform(5, 40) * (x * rng.normal() + y * rng.normal()) + rng.uniform(0, 6))
    texture = rng.uniform(0.4, 1) * (1 + rng.uniform(0, 0.4) * wave) + rng.normal(0, rng.uniform(0, 0.15), x.shape)
    return shape * np.clip(texture, 0.05, 1)


def scribble(rng: np.random.Generator, kind: str) -> np.ndarray:
    """A random smooth stroke, or two; a closed one; or an angular one."""
    canvas = _canvas()
    width = int(rng.integers(14, 26))
    for _ in range(2 if kind == "two strokes" else 1):
        knots = rng.uniform(20, 380, (int(rng.integers(5, 9)), 2))
        if kind == "closed":
            knots = np.concatenate([knots, knots[:2]])
        _stroke(canvas, knots if kind == "zigzag" else _smooth(knots), width)
    return in_form(canvas)


@cache
def _fonts(kind: str) -> list[str]:
    import matplotlib

    families = {
        "DejaVu": ("DejaVuSans.ttf", "DejaVuSans-Oblique.ttf", "DejaVuSans-Bold.ttf", "DejaVuSerif.ttf"),
        "Mono": ("DejaVuSansMono.ttf", "DejaVuSansMono-Oblique.ttf"),
        "STIX": ("STIXGeneral.ttf", "STIXGeneralBol.ttf", "STIXGeneralItalic.ttf"),
        "Computer Modern": ("cmr10.ttf", "cmss10.ttf", "cmtt10.ttf", "cmb10.ttf"),
    }
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    return [str(folder / name) for name in families[kind]]


def letter(rng: np.random.Generator, kind: str) -> np.ndarray:
    return in_form(_written(rng, str(rng.choice(list(LETTERS))), kind))


def _written(rng: np.random.Generator, text: str, kind: str) -> Image.Image:
    canvas = _canvas()
    font = ImageFont.truetype(str(rng.choice(_fonts(kind))), int(rng.integers(150, 280)))
    ImageDraw.Draw(canvas).text((200, 200), text, fill=255, font=font, anchor="mm")
    return canvas.rotate(rng.uniform(-12, 12), Image.Resampling.BILINEAR)


def ring(rng: np.random.Generator, kind: str) -> np.ndarray:
    """A ring that lacks a quarter."""
    canvas, start = _canvas(), rng.uniform(0, 360)
    right, down = rng.uniform(60, 150, 2)
    box = [200 - right, 200 - down, 200 + right, 200 + down]
    ImageDraw.Draw(canvas).arc(box, start, start + 270, fill=255, width=int(rng.integers(16, 34)))
    return in_form(canvas)


def bar(rng: np.random.Generator, kind: str) -> np.ndarray:
    """Bars, each thick or thin: two that are parallel, a cross, or a comb; a single one would be a 1."""
    canvas = _canvas()
    width, angle = int(rng.integers(14, 40)), rng.uniform(0, np.pi)
    along = 150 * np.array([np.cos(angle), np.sin(angle)])
    across = along[::-1] * (-1, 1)
    if kind == "cross":
        lines = [(-along, along), (-across, across)]
    else:
        count = 2 if kind == "two" else 3
        lines = [(s * across - along, s * across + along) for s in np.linspace(-0.8, 0.8, count)]
    for a, b in lines:
        _stroke(canvas, np.array([a, b]) + 200, width)
    return in_form(canvas)


# What is drawn of each set; the statistic was chosen on the first ones alone.
Drawing = Callable[[np.random.Generator, str], np.ndarray]
CHOSEN_ON = {"noise": 2, "garments": 2, "scribbles": 1, "letters": 1, "broken rings": 0, "bars": 0}
SETS: dict[str, tuple[Drawing, list[str]]] = {
    "noise": (noise, ["uniform", "blurred", "gaussian", "speckle", "boxed"]),
    "garments": (garment, [*GARMENTS]),
    "scribbles": (scribble, ["open", "closed", "two strokes", "zigzag"]),
    "letters": (letter, ["DejaVu", "Mono", "STIX", "Computer Modern"]),
    "broken rings": (ring, ["broken"]),
    "bars": (bar, ["two", "three", "cross"]),
}
MARKS = {"noise": 0.99, "garments": 0.97, "scribbles": 0.97, "letters": 0.90}


def drawn(name: str, kind: str, count: int, seed: int = 0) -> np.ndarray:
    """Images (count, 28, 28, 1) of one kind of a set, float32 in [0, 1], in MNIST's form where they are strokes."""
    draw, kinds = SETS[name]
    rng = np.random.default_rng([seed, [*SETS].index(name), kinds.index(kind)])
    return np.stack([draw(rng, kind) for _ in range(count)])[..., None].astype(np.float32)


def read_from_pictures(images: np.ndarray, seed: int = 0) -> np.ndarray:
    """The same, read from dark-on-light pictures of four times the size, a little noisy; without those refused."""
    from siamese_np.datasets.mnist_form import to_mnist_form
    from siamese_np.errors import DataError

    rng, found = np.random.default_rng(seed), []
    for image in images[..., 0]:
        large = _image(image).resize((SIDE * FINE,) * 2, Image.Resampling.BICUBIC)
        picture = 0.9 - np.asarray(large, float) / 255 * 0.7 + rng.normal(0, 0.02, (SIDE * FINE,) * 2)
        try:
            found.append(to_mnist_form(np.pad(np.clip(picture, 0, 1), 20, mode="edge")))
        except DataError:
            continue
    return np.reshape(found, (-1, SIDE, SIDE, 1)).astype(np.float32)


def auc(familiar: np.ndarray, strange: np.ndarray) -> float:
    """The share of pairs of which the strange one has the higher score; equal ones count half."""
    order = np.sort(familiar)
    below, above = (np.searchsorted(order, strange, side) for side in ("left", "right"))
    return float((below + above).mean() / 2 / len(order))


def in_form(canvas: Image.Image) -> np.ndarray:
    """A drawing in MNIST's form: its longer side 20 pixels, its centre of mass at the centre."""
    box = canvas.getbbox()
    if box is None:
        return np.zeros((SIDE, SIDE))
    scale = 20 / max(box[2] - box[0], box[3] - box[1])
    ink = canvas.crop(box).resize(
        [max(1, round(length * scale)) for length in (box[2] - box[0], box[3] - box[1])], Image.Resampling.BOX
    )
    pixels = np.asarray(ink, float) / 255
    image = np.zeros((SIDE, SIDE))
    middle = [(pixels.sum(1 - axis) * np.arange(pixels.shape[axis])).sum() / pixels.sum() for axis in (0, 1)]
    top, left = (min(max(0, round(14 - m)), SIDE - length) for m, length in zip(middle, pixels.shape, strict=True))
    image[top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels
    return image


def _canvas() -> Image.Image:
    return Image.new("L", (400, 400))


def _image(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray((pixels * 255).round().astype(np.uint8))


def _smooth(knots: np.ndarray) -> np.ndarray:
    """Points of a Catmull-Rom curve through the knots."""
    a = np.concatenate([knots[:1], knots, knots[-1:]])
    t = np.linspace(0, 1, 20)[:, None]
    pieces = []
    for p0, p1, p2, p3 in zip(a, a[1:], a[2:], a[3:], strict=False):
        pieces.append(
            p1 + t * ((p2 - p0) / 2 + t * ((2 * p0 - 5 * p1 + 4 * p2 - p3) / 2 + t * (3 * p1 - p0 - 3 * p2 + p3) / 2))
        )
    return np.concatenate(pieces)


def _stroke(canvas: Image.Image, points: np.ndarray, width: int) -> None:
    draw = ImageDraw.Draw(canvas)
    draw.line([tuple(p) for p in points.tolist()], fill=255, width=width, joint="curve")
    for x, y in points[[0, -1]].tolist():
        draw.ellipse([x - width / 2, y - width / 2, x + width / 2, y + width / 2], fill=255)


def main(model: str, count: int = 300) -> None:
    """Print the table of `model`."""
    from siamese_np import load_dataset, load_model

    siamese, digits = load_model(model), load_dataset().test.images
    digits = digits[:: max(1, len(digits) // (40 * count))]
    known = [
        siamese.embed_scored(images)[1]
        for images in (digits, read_from_pictures(digits[:: len(digits) // (2 * count)]))
    ]
    limit = siamese.novelty.limit
    print(f"{'digits beyond the limit':34}" + "".join(f"{np.mean(s > limit):16.3f}" for s in known))
    print(f"{'set':16}{'kind':18}   AUC   beyond   AUC   beyond (read from pictures); * chosen on")
    for name, (_, kinds) in SETS.items():
        for i, kind in enumerate(kinds):
            images = drawn(name, kind, count)
            scores = [siamese.embed_scored(each)[1] for each in (images, read_from_pictures(images))]
            pairs = [(auc(k, s), np.mean(s > limit)) if len(s) else (1, 1) for k, s in zip(known, scores, strict=True)]
            told = "".join(f"{area:8.4f} {share:6.3f} " for area, share in pairs)
            print(f"{name:16}{kind + ' *' * (i < CHOSEN_ON[name]):16}{told}")


if __name__ == "__main__":
    main(*sys.argv[1:2])
