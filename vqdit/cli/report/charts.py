"""Charts drawn with Pillow: coloured cells, their labels and scales, put side by side."""

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

Colours = Sequence[tuple[int, int, int]]
SHARES: Colours = ((255, 255, 255), (158, 202, 225), (33, 113, 181), (8, 48, 107))
STEPS: Colours = ((253, 231, 37), (94, 201, 98), (33, 145, 140), (59, 82, 139), (68, 1, 84))
SIGNED: Colours = (
    (33, 102, 172),
    (146, 197, 222),
    (255, 255, 255),
    (244, 165, 130),
    (178, 24, 43),
)
FRAME = (230, 120, 0)
LINE = 18
"""Height of a line of text, in pixels."""
FONT = ImageFont.load_default(13)

Number = Any
"""A number, of Python or NumPy."""
Marks = Sequence[tuple[Number, str]]
"""Texts along an axis, and the pixels of their centres."""


def colours(share: np.ndarray, scale: Colours) -> np.ndarray:
    """Returns the colours of numbers from 0 to 1, clipped: uint8 [..., 3]."""
    at = np.linspace(0.0, 1.0, len(scale))
    channels = [np.interp(share, at, channel) for channel in zip(*scale, strict=True)]
    return np.stack(channels, axis=-1).round().astype(np.uint8)


def ink(colour: np.ndarray) -> str:
    """Returns the colour of letters that can be read on a colour."""
    return "white" if colour @ np.asarray([0.299, 0.587, 0.114]) < 140.0 else "black"


def width_of(text: str) -> int:
    """Returns the width of a text in pixels."""
    return round(FONT.getlength(text))


def write(
    picture: Image.Image,
    x: Number,
    y: Number,
    text: str,
    fill: str,
    anchor: str,
    halo: int = 0,
) -> None:
    """Writes a text.

    Args:
        picture: what is written on.
        x: of the anchor.
        y: of the anchor.
        text: what is written.
        fill: colour.
        anchor: Pillow's: "mm" has the middle of the text at the point.
        halo: width of a white line around the letters.
    """
    ImageDraw.Draw(picture).text(
        (x, y), text, fill, FONT, anchor, stroke_width=halo, stroke_fill="white"
    )


def blank(width: Number, height: Number) -> Image.Image:
    """Returns a white picture."""
    return Image.new("RGB", (max(1, round(width)), max(1, round(height))), "white")


def line(text: str) -> Image.Image:
    """Returns a line of text."""
    picture = blank(width_of(text) + 2, LINE)
    write(picture, 0, LINE / 2, text, "black", "lm")
    return picture


def lines(marks: Marks, width: Number, height: Number, side: str = "right") -> Image.Image:
    """Returns texts below each other, moved down where they would overlap.

    Args:
        marks: the texts and their centres from above, rising.
        width: of the picture; at least that of the texts.
        height: of the picture; at least that of the texts.
        side: "left" or "right", where they are aligned.
    """
    placed, low = [], 0.0
    for at, text in marks:
        low = max(at + LINE / 2, low + LINE)
        placed.append((low - LINE / 2, text))
    picture = blank(max([width, *(width_of(t) + 6 for _, t in marks)]), max(height, low))
    for at, text in placed:
        x, anchor = (picture.width - 6, "rm") if side == "right" else (2, "lm")
        write(picture, x, at, text, "black", anchor)
    return picture


def axis(marks: Marks, width: Number) -> Image.Image:
    """Returns texts beside each other, without those that would overlap an earlier one."""
    picture, free = blank(width, LINE), 0.0
    for at, text in marks:
        half = width_of(text) / 2
        if at - half >= free - 1.0:
            write(picture, at, LINE / 2, text, "black", "mm")
            free = at + half + 4.0
    return picture


def cells(
    colour: np.ndarray, width: int, height: int, texts: Sequence[Sequence[str]] = ()
) -> Image.Image:
    """Returns a matrix of coloured cells.

    Args:
        colour: uint8 [r, c, 3].
        width: of a cell, in pixels.
        height: of a cell, in pixels.
        texts: of the cells, or none.
    """
    picture = Image.fromarray(colour.repeat(height, axis=0).repeat(width, axis=1))
    for row, words in enumerate(texts):
        for column, word in enumerate(words):
            x, y = (column + 0.5) * width, (row + 0.5) * height
            write(picture, x, y, word, ink(colour[row, column]), "mm")
    return picture


def boxes(
    names: Sequence[str], rows: Sequence[tuple[str, Sequence[str], np.ndarray]], width: int
) -> Image.Image:
    """Returns a table with one column per name, wrapped at a width.

    Args:
        names: heads of the columns.
        rows: of each its label, its texts and their colours uint8 [n, 3].
        width: in pixels.
    """
    marks = [((number + 1.5) * LINE, label) for number, (label, *_) in enumerate(rows)]
    side = lines(marks, 80, (len(rows) + 1) * LINE)
    found, now = [], [side]
    for number, name in enumerate(names):
        column = [(name, np.asarray([255] * 3)), *((t[number], c[number]) for _, t, c in rows)]
        size = max(46, *(width_of(text) + 8 for text, _ in column))
        box = blank(size, side.height)
        for row, (text, colour) in enumerate(column):
            edges = (0, row * LINE, size - 2, (row + 1) * LINE - 2)
            ImageDraw.Draw(box).rectangle(edges, fill=tuple(colour.tolist()))
            write(box, size / 2, (row + 0.5) * LINE, text, ink(colour), "mm")
        if len(now) > 1 and sum(part.width for part in now) + size > width:
            found, now = [*found, stack(now, beside=True)], [side]
        now.append(box)
    return stack([*found, stack(now, beside=True)], gap=4)


def legend(scale: Colours, low: str, high: str, width: int = 1) -> Image.Image:
    """Returns a scale of colours from low, which takes at least a width, to high."""
    bar = cells(colours(np.linspace(0.0, 1.0, 160)[None], scale), 1, LINE - 4)
    ImageDraw.Draw(bar).rectangle((0, 0, bar.width - 1, bar.height - 1), outline="grey")
    start = lines([(LINE / 2, low)], width, LINE)
    return stack([start, bar, line(f" {high}")], beside=True)


def enlarged(picture: np.ndarray, edge: int) -> Image.Image:
    """Returns uint8 [h, w, c] enlarged by a whole factor to about so many pixels."""
    factor = max(1, round(edge / max(picture.shape[:2])))
    picture = picture.repeat(factor, axis=0).repeat(factor, axis=1)
    return Image.fromarray(np.broadcast_to(picture, (*picture.shape[:2], 3)).copy())


def stack(parts: Sequence[Image.Image], gap: int = 0, beside: bool = False) -> Image.Image:
    """Returns pictures below each other, or beside each other, on white."""
    axis = 0 if beside else 1
    sizes = np.asarray([part.size for part in parts]).reshape(-1, 2)
    size = sizes.max(axis=0, initial=1)
    size[axis] = sizes[:, axis].sum() + gap * max(0, len(parts) - 1)
    picture, start = blank(*size), 0
    for part in parts:
        picture.paste(part, (start, 0) if beside else (0, start))
        start += part.size[axis] + gap
    return picture


def framed(parts: Sequence[Image.Image], margin: int = 10) -> Image.Image:
    """Returns pictures below each other with a white margin."""
    inside = stack(parts, gap=margin)
    picture = blank(inside.width + 2 * margin, inside.height + 2 * margin)
    picture.paste(inside, (margin, margin))
    return picture


def embedded(picture: Image.Image) -> str:
    """Returns a picture as HTML that needs no file."""
    buffer: Any = io.BytesIO()
    picture.save(buffer, "PNG")
    data = base64.b64encode(buffer.getvalue()).decode()
    return f'<img src="data:image/png;base64,{data}" width="{picture.width}">'
