"""Images: uint8 in stored form, float32 in [-1, 1] for networks, and PNG files."""

from pathlib import Path
from typing import Literal

import numpy as np

from vqdit.modalities.base import (
    Cell,
    Value,
    as_file,
    find_files,
    numbered,
    report_fitted,
)
from vqdit.modalities.drawing import picture_html, save_png
from vqdit.modalities.pictures import DONE, SUFFIXES, conversions, fit, open_picture
from vqdit.modalities.pixels import Pixels


class Image(Pixels):
    """Images of one size.

    Attributes:
        size: height and width in pixels.
        channels: 1 for grey, 3 for colour.
        fit: treatment of pictures with another aspect ratio: "crop" cuts off both ends of the
            longer side, "pad" adds black bars on both sides of the shorter one, "stretch" distorts.
    """

    size: tuple[int, int] = (32, 32)
    channels: int = 3
    fit: Literal["crop", "pad", "stretch"] = "crop"

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

    def read_cell(self, value: Value) -> Cell:
        picture = open_picture(as_file(value), self.channels)
        changes = conversions(picture.shape, self.size, self.fit)
        return Cell(fit(picture, self.size, self.fit), changes)

    def read(self, value: str) -> list[np.ndarray]:
        files = find_files(value, SUFFIXES, "picture")
        pictures = [open_picture(file, self.channels) for file in files]
        read = [fit(picture, self.size, self.fit) for picture in pictures]
        changed = [
            file
            for file, picture in zip(files, pictures, strict=True)
            if picture.shape[:2] != self.size
        ]
        size = "x".join(map(str, self.size))
        report_fitted(changed, f"{DONE[self.fit]} and resized to {size} pixels")
        return read

    def write(self, values: np.ndarray, folder: Path, name: str = "image") -> None:
        for file, value in zip(numbered(name, ".png", len(values)), values, strict=True):
            save_png(folder / file, value)

    def draw(self, stored: np.ndarray) -> np.ndarray:
        return stored

    def html(self, stored: np.ndarray) -> str:
        return picture_html(stored)
