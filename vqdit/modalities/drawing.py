"""Pictures for display, uint8 [h, w, c]: tilings, PNG and HTML forms, and pictures of texts."""

import base64
import io
import math
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vqdit.files import write_whole

EDGE = 64
"""Least edge in pixels of the square of each modality in an `overview`."""
GREY = 127
"""Colour between and around pictures."""


def tile(images: np.ndarray, columns: int = 0, edge: int = 512) -> np.ndarray:
    """Tiles uint8 images [n, h, w, c] into one, with a gap; small pixels are enlarged.

    Args:
        images: the tiles, row by row.
        columns: number of tiles in a row; 0 makes the picture about square.
        edge: tiles are enlarged by an integer factor until the longer edge has about this many
            pixels.
    """
    count, height, width, channels = images.shape
    columns = columns or math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    scale = max(1, edge // max(rows * (height + 2), columns * (width + 2)))
    images = images.repeat(scale, axis=1).repeat(scale, axis=2)
    gap = 2 * scale if scale == 1 else scale
    height, width = height * scale + gap, width * scale + gap
    canvas = np.full((rows * height + gap, columns * width + gap, channels), GREY, np.uint8)
    for number, image in enumerate(images):
        top, left = number // columns * height + gap, number % columns * width + gap
        canvas[top : top + height - gap, left : left + width - gap] = image
    return canvas


def side_by_side(originals: np.ndarray, results: np.ndarray, columns: int = 8) -> np.ndarray:
    """Tiles uint8 pictures so that each row of originals stands above its reconstructions."""
    columns = min(columns, len(originals))
    rows = []
    for start in range(0, len(originals), columns):
        for images in (originals, results):
            row = images[start : start + columns]
            blank = np.full((columns - len(row), *row.shape[1:]), GREY, np.uint8)
            rows.append(np.concatenate([row, blank]))
    return tile(np.concatenate(rows), columns)


def overview(drawn: Mapping[str, np.ndarray], columns: int = 0) -> np.ndarray:
    """Tiles samples of several modalities: the pictures of each sample form one column.

    Args:
        drawn: pictures of every modality, uint8 [n, h, w, c], in the order from top to bottom.
        columns: number of samples in a row; 0 makes the picture about square.
    """
    channels = max(pictures.shape[-1] for pictures in drawn.values())
    edge = max(EDGE, *(pictures.shape[2] for pictures in drawn.values()))
    parts = [_square(pictures, channels, edge) for pictures in drawn.values()]
    samples = np.concatenate(parts, axis=1)
    columns = columns or math.ceil(math.sqrt(len(samples) * len(parts)))
    return tile(samples, min(columns, len(samples)), edge=1)


def _square(pictures: np.ndarray, channels: int, edge: int) -> np.ndarray:
    """Enlarges pictures by an integer factor; pads them to width `edge`, height `edge` or more."""
    factor = max(1, edge // max(pictures.shape[1:3]))
    pictures = pictures.repeat(factor, axis=1).repeat(factor, axis=2)
    height, width = max(edge, pictures.shape[1]), edge
    canvas = np.full((len(pictures), height, width, channels), GREY, np.uint8)
    top, left = (height - pictures.shape[1]) // 2, (width - pictures.shape[2]) // 2
    canvas[:, top : top + pictures.shape[1], left : left + pictures.shape[2]] = pictures
    return canvas


def save_png(file: Any, image: np.ndarray) -> None:
    """Writes one uint8 image [h, w, c] as PNG, to a path or an open file."""
    from PIL import Image as Pillow

    content = io.BytesIO()
    Pillow.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(content, "PNG")
    if isinstance(file, Path):
        write_whole(file, content.getvalue())
    else:
        file.write(content.getvalue())


def picture_html(image: np.ndarray, edge: int = 96) -> str:
    """Returns one uint8 image [h, w, c] as HTML, enlarged to about `edge` pixels."""
    buffer = io.BytesIO()
    save_png(buffer, image)
    data = base64.b64encode(buffer.getvalue()).decode()
    height, width = (max(1, round(edge / max(image.shape[:2]))) * size for size in image.shape[:2])
    return f'<img src="data:image/png;base64,{data}" width="{width}" height="{height}">'


def text_picture(text: str, edge: int = EDGE) -> np.ndarray:
    """Returns a square grey picture with a text on it: uint8 [edge, edge, 1]."""
    from PIL import Image, ImageDraw

    picture = Image.new("L", (edge, edge), 255)
    lines = textwrap.fill(text, max(4, edge // 6), max_lines=edge // 11)
    ImageDraw.Draw(picture).multiline_text((2, edge // 3), lines, fill=0)
    return np.asarray(picture)[..., None]
