"""matplotlib figures of reports: one style, colour maps, numbers in cells, PNG bytes."""

import contextlib
import io
import math
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

SHARES, STEPS, SIGNED = "Blues", "viridis_r", "RdBu_r"
"""Colour maps for fractions, for step numbers (yellow first), and for signed changes (red > 0)."""
FRAME = "#e67800"
STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.edgecolor": "#999999",
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "text.parse_math": False,  # a dollar sign in a user's text is no formula
}


@contextlib.contextmanager
def style() -> Iterator[None]:
    """Context manager that applies the style of reports to figures."""
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        # A letter that is not in the font is drawn as a box.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def new_figure(width: float, height: float) -> Figure:
    """Returns an empty figure of a size in inches, without a display or global state."""
    return Figure(figsize=(width, height), dpi=110, layout="constrained")


def png(figure: Figure) -> bytes:
    """Returns the bytes of a PNG file of a figure."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def heat(
    axes: Axes,
    values: np.ndarray,
    cmap: str,
    limits: tuple[float, float | int],
    texts: Sequence[Sequence[str]] = (),
    **options: Any,
) -> Any:
    """Draws a matrix as coloured cells; `limits` are the values of the first and last colour."""
    image = axes.imshow(values, cmap=cmap, vmin=limits[0], vmax=limits[1], **options)
    low, high = limits
    for (row, column), value in np.ndenumerate(values) if len(texts) else ():
        red, green, blue, _ = image.cmap((value - low) / (high - low))
        colour = "white" if 0.299 * red + 0.587 * green + 0.114 * blue < 0.55 else "black"
        word: Any = texts[row][column]
        axes.text(column, row, word, ha="center", va="center", color=colour, fontsize=7)
    return image


def show_picture(axes: Axes, picture: np.ndarray, title: str = "") -> None:
    """Draws a picture uint8 [h, w, c] without axis ticks."""
    picture = picture[..., 0] if picture.shape[-1] == 1 else picture
    axes.imshow(picture, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    axes.set(xticks=[], yticks=[], title=title)


def signed(value: Any, scale: float) -> str:
    """Returns a number with its sign, and with as many digits as suit numbers up to `scale`."""
    digits = max(1, 1 - math.floor(math.log10(scale)))
    shown = f"{value:+.{digits}f}"
    return shown if float(shown) else f"{0.0:.{digits}f}"


def colour_of(value: float, cmap: str) -> tuple[str, str]:
    """Returns the CSS colours for a number in [0, 1]: the background, and readable text on it."""
    red, green, blue, _ = matplotlib.colormaps[cmap](float(value), bytes=True)
    ink = "white" if 0.299 * red + 0.587 * green + 0.114 * blue < 140 else "black"
    return f"rgb({red},{green},{blue})", ink
