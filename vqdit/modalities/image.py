"""Images: uint8 in store, float32 in [-1, 1] for networks, PNG for people."""

import base64
import io
import math
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from vqdit.data.pictures import SUFFIXES, open_picture
from vqdit.modalities.base import Modality, find_files, numbered
from vqdit.typing import Array, Float, UInt8


class Image(Modality):
    """Images of one size.

    Attributes:
        size: height and width in pixels.
        channels: 1 for grey, 3 for colour.
    """

    size: tuple[int, int] = (32, 32)
    channels: int = 3

    def __post_init__(self) -> None:
        if min(self.size) < 1:
            raise ValueError(f"Image needs a positive size, got {self.size}")
        if self.channels not in (1, 3):
            raise ValueError(f"Image needs 1 (grey) or 3 (colour) channels, got {self.channels}")

    @property
    def shape(self) -> tuple[int, ...]:
        return (*self.size, self.channels)

    @property
    def grid(self) -> tuple[int, ...]:
        return self.size

    def standardize(self, raw: UInt8[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        return (2.0 * raw.astype(jnp.float32) - 255.0) / 255.0  # never above 1, compiled or not

    def restore(self, x: Float[Array, "b h w c"]) -> UInt8[Array, "b h w c"]:
        return jnp.clip(jnp.round((x + 1.0) * 127.5), 0, 255).astype(jnp.uint8)

    def read(self, value: str) -> list[np.ndarray]:
        return [self._read(file) for file in find_files(value, SUFFIXES, "picture")]

    def _read(self, file: Path) -> np.ndarray:
        picture = open_picture(file, self.channels)
        if picture.shape[:2] != self.size:
            found, wanted = ("x".join(map(str, x)) for x in (picture.shape[:2], self.size))
            raise ValueError(f"{file} has {found} pixels; this model takes {wanted}: resize it")
        return picture

    def write(self, values: np.ndarray, folder: Path) -> None:
        for name, value in zip(numbered("image", ".png", len(values)), values, strict=True):
            save(folder / name, value)

    def draw(self, stored: np.ndarray) -> np.ndarray:
        return stored

    def html(self, stored: np.ndarray) -> str:
        return picture_html(stored)


def grid(images: np.ndarray, columns: int = 0, edge: int = 512) -> np.ndarray:
    """Tiles uint8 images [n, h, w, c] into one, with a gap; small pixels are enlarged.

    Args:
        images: the tiles, row by row.
        columns: tiles in a row; 0 makes the grid about square.
        edge: the longer edge is enlarged by whole factors up to about this many pixels.
    """
    count, height, width, channels = images.shape
    columns = columns or math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    scale = max(1, edge // max(rows * (height + 2), columns * (width + 2)))
    images = images.repeat(scale, axis=1).repeat(scale, axis=2)
    gap = 2 * scale if scale == 1 else scale
    height, width = height * scale + gap, width * scale + gap
    canvas = np.full((rows * height + gap, columns * width + gap, channels), 127, np.uint8)
    for number, image in enumerate(images):
        top, left = number // columns * height + gap, number % columns * width + gap
        canvas[top : top + height - gap, left : left + width - gap] = image
    return canvas


def save(file: Any, image: np.ndarray) -> None:
    """Writes one uint8 image [h, w, c] as PNG, to a path or an open file."""
    from PIL import Image as Pillow

    Pillow.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(file, "PNG")


def picture_html(image: np.ndarray, edge: int = 96) -> str:
    """Returns one uint8 image [h, w, c] as HTML, its pixels enlarged to about `edge`."""
    buffer = io.BytesIO()
    save(buffer, image)
    data = base64.b64encode(buffer.getvalue()).decode()
    height, width = (max(1, round(edge / max(image.shape[:2]))) * size for size in image.shape[:2])
    return f'<img src="data:image/png;base64,{data}" width="{width}" height="{height}">'
