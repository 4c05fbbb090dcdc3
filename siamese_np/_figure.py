"""How every picture of this package is drawn: its colours, its style, and a figure that becomes a PNG file.

Figures are drawn on matplotlib's Agg canvas, never through pyplot. So nothing global changes: no backend is chosen and
no figure stays open. Import matplotlib after this module, which does without a backend that is not installed.
"""

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from siamese_np._process import printed
from siamese_np.storage import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PathLike = str | os.PathLike[str]

# Okabe & Ito, "Color Universal Design", 2008: colour-blind readers tell them apart too.
BLUE, ORANGE, GREEN, VERMILLION, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#767676"

# Ten classes: Paul Tol's "muted" scheme, its pale grey darkened. More classes start again from the first.
CLASS_COLOURS = (
    "#332288", "#88CCEE", "#44AA99", "#117733", "#999933",
    "#DDCC77", "#CC6677", "#882255", "#AA4499", "#888888",
)  # fmt: skip

STYLE: Any = {
    "figure.facecolor": "white",
    "figure.dpi": 130,
    "figure.constrained_layout.w_pad": 0.12,
    "figure.constrained_layout.h_pad": 0.12,
    "text.usetex": False,
    "savefig.dpi": 130,
    "font.family": "DejaVu Sans",  # comes with matplotlib and has the tick and the cross
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.labelcolor": "#333333",
    "xtick.color": "#333333",
    "ytick.color": "#333333",
    "lines.linewidth": 1.8,
}


def drawn(text: str) -> str:
    """`text` as a font can draw it: what names of files and folders hold beside characters becomes escapes."""
    return printed(text).encode(errors="backslashreplace").decode()


@contextlib.contextmanager
def png_figure(path: PathLike, width: float, height: float, kind: str = "run", **layout: Any) -> Iterator["Figure"]:
    """An empty figure of so many inches, written to `path` as PNG, whatever its name, when the block ends well.

    The file says of what `kind` it is, for `check_output`.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    content = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        fig = Figure(figsize=(width, height), **layout)
        FigureCanvasAgg(fig)
        yield fig
        fig.savefig(content, format="png", metadata={"Software": f"siamese-np {kind}"})
    write_atomically(Path(path), content.getvalue())


def _import_matplotlib() -> None:
    """Import matplotlib, which refuses to be imported where MPLBACKEND names a backend that is not installed."""
    if "matplotlib" in sys.modules:
        return
    backend = os.environ.pop("MPLBACKEND", None)
    try:
        import matplotlib
    finally:
        if backend is not None:
            os.environ["MPLBACKEND"] = backend
    if backend:
        with contextlib.suppress(ValueError):
            matplotlib.rcParams["backend"] = backend  # still the user's choice for pyplot


_import_matplotlib()
