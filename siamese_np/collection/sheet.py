"""A contact sheet, one PNG file: each picture beside the form that the network saw of it."""

import argparse
import io
import os
import textwrap
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, PngImagePlugin

from siamese_np._figure import GREY, STYLE, drawn
from siamese_np._process import printed
from siamese_np.datasets import read_idx
from siamese_np.datasets.images import decoded
from siamese_np.datasets.input_form import InputForm, scaled
from siamese_np.errors import DataError, OptionError
from siamese_np.storage import check_output, png_mark, write_atomically

MAX_ROWS, MAX_COLUMNS = 64, 22
SIDE, GAP, LINE, LINES = 112, 24, 13, 4  # pixels of a picture, between two, and of one of the lines of text below
WIDE = 21  # characters of a line

Cell = tuple[NDArray[Any] | None, str]


class Sheet:
    """Rows of at most `MAX_COLUMNS` pictures with text below each; those after `MAX_ROWS` are only counted.

    OptionError where ``--show`` does not end in ``.png``, or `check_output` refuses it; without it no sheet is made.
    """

    def __init__(self, args: argparse.Namespace, heads: Sequence[str]) -> None:
        self.path, self.cut = None if args.show is None else Path(args.show), 0
        self.rows: list[Sequence[Cell]] = [[(None, head) for head in heads]]
        if self.path is not None:
            if self.path.suffix.lower() != ".png":
                raise OptionError(f"--show must end in .png, not {self.path.name!r}")
            check_output(self.path, "--show", png_mark("sheet"), args.overwrite, args.model)

    @property
    def full(self) -> bool:
        """Whether the next row is only counted."""
        return self.path is None or len(self.rows) > MAX_ROWS

    def add(self, cells: Sequence[Cell]) -> None:
        """Add a row of pictures (None where there is none), each with its text."""
        if self.full:
            self.cut += 1
        else:
            self.rows.append(cells[:MAX_COLUMNS])

    def save(self) -> list[str]:
        """Write the file; a line that says so."""
        if self.path is None:
            return []
        import matplotlib  # which comes with a font

        font = ImageFont.truetype(f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSansMono.ttf", 10)
        heights = [2 * LINE] + [SIDE + LINES * LINE + GAP // 2] * (len(self.rows) - 1)
        sheet = Image.new("RGB", (GAP // 2 + max(map(len, self.rows)) * (SIDE + GAP), sum(heights)), "white")
        draw = ImageDraw.Draw(sheet)
        for r, row in enumerate(self.rows):
            for column, (pixels, text) in enumerate(row):
                x, y = GAP // 2 + column * (SIDE + GAP), sum(heights[:r])
                if pixels is not None:
                    picture = Image.fromarray(thumbnail(pixels))
                    sheet.paste(picture, (x, y))
                    draw.rectangle((x - 1, y - 1, x + picture.width, y + picture.height), outline=GREY)
                lines = "\n".join(textwrap.wrap(drawn(text), WIDE, max_lines=LINES, placeholder="..."))
                draw.multiline_text((x, y + (SIDE + 2) * (r > 0)), lines, STYLE["axes.labelcolor"], font, spacing=2)
        content, mark = io.BytesIO(), PngImagePlugin.PngInfo()
        mark.add_text("Software", "siamese-np sheet")
        sheet.save(content, "PNG", pnginfo=mark)
        write_atomically(self.path, content.getvalue())
        cut = f", the first {MAX_ROWS} of {MAX_ROWS + self.cut:,} pictures" if self.cut else ""
        return [f"sheet: {printed(str(self.path))}{cut}"]


def thumbnail(pixels: Any) -> NDArray[np.uint8]:
    """A picture (h, w) or (h, w, C) as bytes, its longer side scaled to `SIDE` pixels."""
    values = np.rint(255 * scaled(pixels)).astype(np.uint8)
    picture = Image.fromarray(values[..., 0] if values.ndim == 3 and values.shape[2] != 3 else values)
    width, height = (max(1, round(length * SIDE / max(picture.size))) for length in picture.size)
    way = Image.Resampling.NEAREST if max(picture.size) < SIDE else Image.Resampling.BOX  # pixels are to be seen
    return np.asarray(picture.resize((width, height), way))


def original(name: str, form: InputForm) -> tuple[NDArray[np.uint8] | None, NDArray[Any] | None]:
    """The picture of this name as it was, small, and as the network sees it; None where there is none any more."""
    try:
        if os.path.lexists(name):
            pixels: NDArray[Any] = decoded(name, form.shape[2])
        else:
            path, _, number = name.rpartition("#")
            pixels = _idx(path)[int(number)]
    except (DataError, ValueError, IndexError):
        return None, None
    try:
        return thumbnail(pixels), form.picture(pixels)
    except DataError:
        return thumbnail(pixels), None


_idx = lru_cache(maxsize=2)(read_idx)  # neighbours are often of one file
