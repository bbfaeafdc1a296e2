"""Images: uint8 when stored, float32 in [-1, 1] for networks, PNG for people."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np

from vqdit.data.pictures import SUFFIXES, open_picture
from vqdit.modalities.base import Modality, find_files, numbered
from vqdit.modalities.drawing import picture_html, save_png
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
        return (2.0 * raw.astype(jnp.float32) - 255.0) / 255.0  # at most 1, compiled or not

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
            save_png(folder / name, value)

    def draw(self, stored: np.ndarray) -> np.ndarray:
        return stored

    def html(self, stored: np.ndarray) -> str:
        return picture_html(stored)
