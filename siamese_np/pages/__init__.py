"""What the HTML pages of this package share: their colours, and how a page is put together to be complete in itself."""

from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from siamese_np._process import to_json


def filled(
    package: str, data: Any, scripts: Sequence[str], blobs: Sequence[str] = (), texts: Mapping[str, str] | None = None
) -> str:
    """The page ``assets/page.html`` of `package`, with its style, its program, `data` and `blobs` in it.

    Parameters
    ----------
    package : str
        Whose assets these are.
    data : JSON values
        The program reads them from the element ``data``.
    scripts : sequence of str
        Names of the assets that make the program.
    blobs : sequence of str
        Script elements with numbers or pictures.
    texts : mapping of str to str, optional
        What takes the place of other comments in the page, as HTML.
    """
    shown = to_json(data).replace("<", "\\u003c")  # no tag may end the script
    fillers = {
        "STYLE": "\n".join([asset(__name__, "base.css"), asset(package, "assets", "page.css")]),
        "NUMBERS": "\n".join([*blobs, f'<script type="application/json" id="data">{shown}</script>']),
        "PROGRAM": "\n".join(asset(package, "assets", name) for name in scripts),
        **(texts or {}),
    }
    text = asset(package, "assets", "page.html")
    for name, filler in fillers.items():
        text = text.replace(f"<!--{name}-->", filler)
    return text


def asset(package: str, *path: str) -> str:
    """The text of a file of `package`."""
    return resources.files(package).joinpath(*path).read_text(encoding="utf-8")
