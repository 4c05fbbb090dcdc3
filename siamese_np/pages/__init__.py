"""What the HTML pages of this package share: head, colours, script, and how a page is made complete in itself."""

from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from siamese_np._process import to_json


def filled(
    package: str, name: str, data: Any, scripts: Sequence[str], blobs: Sequence[str], texts: Mapping[str, str]
) -> str:
    """A page with the body ``assets/page.html`` of `package`, its style, its program, `data` and `blobs`.

    Parameters
    ----------
    package : str
        Whose assets these are.
    name : str
        Of the page, as HTML.
    data : JSON values
        The program reads them from the element ``data``.
    scripts : sequence of str
        Names of the assets that make the program.
    blobs : sequence of str
        Script elements with numbers or pictures.
    texts : mapping of str to str
        What takes the place of comments in the body, as HTML.
    """
    shown = to_json(data).replace("<", "\\u003c")  # no tag may end the script
    fillers = {
        "NAME": name,
        "BODY": asset(package, "assets", "page.html").rstrip(),
        "STYLE": "\n".join([asset(__name__, "base.css"), asset(package, "assets", "page.css")]),
        "NUMBERS": "\n".join([*blobs, f'<script type="application/json" id="data">{shown}</script>']),
        "PROGRAM": "\n".join([asset(__name__, "base.js"), *(asset(package, "assets", script) for script in scripts)]),
        **texts,
    }
    text = asset(__name__, "page.html")
    for comment, filler in fillers.items():
        text = text.replace(f"<!--{comment}-->", filler)
    return text


def asset(package: str, *path: str) -> str:
    """The text of a file of `package`."""
    return resources.files(package).joinpath(*path).read_text(encoding="utf-8")
