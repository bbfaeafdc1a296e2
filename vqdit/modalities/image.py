"""Images: uint8 in store, float32 in [-1, 1] for networks, PNG for people."""

import math
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from vqdit.data.pictures import SUFFIXES, is_picture, read_picture
from vqdit.modalities.base import Modality
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

    def standardize(self, raw: UInt8[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        return (2.0 * raw.astype(jnp.float32) - 255.0) / 255.0  # never above 1, compiled or not

    def restore(self, x: Float[Array, "b h w c"]) -> UInt8[Array, "b h w c"]:
        return jnp.clip(jnp.round((x + 1.0) * 127.5), 0, 255).astype(jnp.uint8)

    def read(self, value: str) -> list[np.ndarray]:
        path = Path(value).expanduser()
        files = [path]
        if path.is_dir():
            files = sorted(file for file in path.iterdir() if is_picture(file))
            if not files:
                raise ValueError(
                    f"no picture in the folder {value}; known endings: {', '.join(SUFFIXES)}"
                )
        return [read_picture(file, size=self.size, channels=self.channels) for file in files]

    def write(self, samples: np.ndarray, folder: Path) -> None:
        digits = max(4, len(str(len(samples) - 1)))
        for number, sample in enumerate(samples):
            save(folder / f"image_{number:0{digits}d}.png", sample)
        save(folder / "grid.png", grid(samples))


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


def save(path: Path, image: np.ndarray) -> None:
    """Writes one uint8 image [h, w, c] as PNG."""
    from PIL import Image as Pillow

    Pillow.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(path)
