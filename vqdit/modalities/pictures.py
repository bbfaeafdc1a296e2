"""Finds image files, reads them and resizes them to one size."""

import contextlib
import io
import os
import re
import warnings
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
"""The only decoders of Pillow that are enabled, as some others run external programs."""
SUFFIXES = (
    ".png",
    ".jpg",
    ".jpeg",
    ".jpe",
    ".jfif",
    ".webp",
    ".gif",
    ".bmp",
    ".tif",
    ".tiff",
)
PIXELS = 2**26
"""Largest number of pixels of a picture; reading it needs less than 1 GB."""
CLUTTER = {
    *("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__macosx", "__pycache__"),
    *("$recycle.bin", "recycler", "system volume information", "lost+found", "found.000"),
    *("@eadir", "@tmp", "@recycle", "@recently-snapshot", "#recycle", "#snapshot", "~snapshot"),
    *("network trash folder", "temporary items", "thevolumesettingsfolder"),
}
"""Lower-case names of files and folders that operating systems and network disks create."""
ROWS = 256
"""Number of rows of pixels that are converted at once."""
DONE = {"crop": "cropped", "pad": "padded", "stretch": "stretched"}
"""Treatments of another aspect ratio, for messages."""
SCALES = {"L;2": 85, "L;4": 17}
"""By Pillow's raw mode: conversion of a transparent value to 8 bits, as Pillow converts pixels."""


class UnreadablePicture(ValueError):
    """Raised if a picture cannot be decoded.

    Attributes:
        file: path of the picture; empty if it was given as bytes.
        why: the cause, which follows the path in the message.
    """

    def __init__(self, file: Path | bytes, why: str) -> None:
        name = file if isinstance(file, Path) else f"of {len(file):,} bytes"
        super().__init__(f"cannot decode the picture {name}: {why}; replace or remove the file")
        self.file, self.why = file if isinstance(file, Path) else Path(), why


class Found(NamedTuple):
    """The files in a folder and its sub-folders.

    Attributes:
        pictures: the image files, or those with the wanted endings, sorted.
        left_out: number of other files, by file ending in lower case.
        unreadable: folders without permission, broken links, and devices.
    """

    pictures: list[Path]
    left_out: Counter[str]
    unreadable: list[Path]


def check_form(source: object, size: int, channels: int) -> None:
    """Raises ValueError, with the class name of `source`, for an invalid size or channel number."""
    name = type(source).__name__
    if not 1 <= size <= PIXELS**0.5:
        raise ValueError(f"{name} needs size from 1 to {int(PIXELS**0.5)}, got {size}")
    if channels not in (1, 3):
        raise ValueError(f"{name} needs 1 (grey) or 3 (colour) channels, got {channels}")


def is_clutter(name: str) -> bool:
    """Returns whether a file or folder is hidden, or created by an operating system."""
    return name.startswith(".") or name.lower() in CLUTTER


def find_pictures(folder: Path, endings: tuple[str, ...] = SUFFIXES) -> Found:
    """Finds the files of a folder and its sub-folders by their endings; follows symbolic links.

    Hidden files and files of operating systems and network disks are ignored. To avoid endless
    loops, a link to a folder above it is not followed. Inside a linked folder, a link to a folder
    that was already read is not followed either.

    Raises:
        OSError: if the folder itself cannot be read.
    """
    os.scandir(folder).close()
    found = Found([], Counter(), [])
    seen: set[Path] = set()
    places = [(folder, folder.resolve(), False)]
    while places:
        place, real, linked = places.pop()
        seen.add(real)
        if not os.access(place, os.R_OK | os.X_OK):
            found.unreadable.append(place)
            continue
        with os.scandir(place) as scanned:
            entries = sorted(scanned, key=lambda entry: entry.name)
        for entry in entries:
            if is_clutter(entry.name):
                continue
            path, is_link = place / entry.name, entry.is_symlink()
            if os.path.isdir(path) if is_link else entry.is_dir():
                target = path.resolve() if is_link else real / entry.name
                again = real.is_relative_to(target) or (linked and target in seen)
                if not (is_link and again):
                    places.append((path, target, linked or is_link))
            elif not (os.path.isfile(path) if is_link else entry.is_file()):
                found.unreadable.append(path)
            elif path.suffix.lower() in endings:
                found.pictures.append(path)
            else:
                found.left_out[path.suffix.lower() or "without ending"] += 1
    found.pictures.sort()
    return found


def read_picture(file: Path, size: tuple[int, int], channels: int) -> np.ndarray:
    """Reads an image file with `open_picture`, crops its centre and resizes it.

    Args:
        file: the image file.
        size: height and width of the result. The largest centred crop with this aspect ratio is
            resized with antialiasing (Lanczos).
        channels: 1 (grey) or 3 (colour).
    """
    return fit(open_picture(file, channels), size)


def open_picture(file: Path | bytes, channels: int) -> np.ndarray:
    """Reads an image file in its original size, in the orientation of its EXIF data.

    Args:
        file: PNG, JPEG, WebP, GIF, BMP or TIFF file with any ending, or the bytes of one.
            Transparent pixels are blended with white. Only the first frame or page is read.
        channels: 1 (grey) or 3 (colour).

    Returns:
        The image, uint8 [h, w, c].

    Raises:
        UnreadablePicture: if the file cannot be decoded, or has more than PIXELS pixels; the
            message names its path.
        FileNotFoundError: if there is no such file.
    """
    if isinstance(file, Path) and not file.is_file():
        raise FileNotFoundError(f"no picture {file}")
    source = file if isinstance(file, Path) else io.BytesIO(file)
    try:
        with warnings.catch_warnings(action="ignore"), open_checked(source) as opened:
            return _pixels(opened, channels)
    except Exception as error:  # Pillow raises errors of any type for damaged files
        why = str(error).replace(f"'{file}'", "it") if isinstance(file, Path) else str(error)
        why = re.sub(r"<_io\.BytesIO.*?>", "it", why)
        raise UnreadablePicture(file, why) from error


def open_checked(source: Path | io.BytesIO) -> Any:
    """Opens a picture of one of FORMATS without decoding it.

    Raises:
        ValueError: if its header declares no pixels or too many.
        OSError: if its format is not one of FORMATS.
    """
    from PIL import Image

    try:
        opened = Image.open(source, formats=FORMATS)
    except Image.DecompressionBombError as error:  # far above PIXELS
        claim = str(error).partition(" exceeds")[0]
        raise ValueError(
            f"{claim} is not allowed; it must be from 1 to {PIXELS:,} pixels"
        ) from error
    width, height = opened.size
    if not 0 < width * height <= PIXELS:
        opened.close()
        count = f"Image size ({width * height} pixels)"
        raise ValueError(f"{count} is not allowed; it must be from 1 to {PIXELS:,} pixels")
    return opened


def _pixels(opened: Any, channels: int) -> np.ndarray:
    """Decodes an opened picture: uint8 [h, w, c]."""
    from PIL import ImageOps

    raw = str(opened.tile[0].args) if opened.tile else ""
    opened.load()
    with contextlib.suppress(Exception):  # the EXIF data are invalid, but not the pixels
        ImageOps.exif_transpose(opened, in_place=True)
    _scale_transparency(opened, raw)
    pixels = np.empty((opened.height, opened.width, channels), np.uint8)
    for top in range(0, opened.height, ROWS):
        rows = pixels[top : top + ROWS]
        part = opened.crop((0, top, opened.width, top + len(rows)))
        rows[:] = np.asarray(opaque(part, channels)).reshape(rows.shape)
    return pixels


def _scale_transparency(image: Any, raw: str) -> None:
    """Converts a PNG's transparent value to the depth to which Pillow converts its pixels."""
    value = image.info.get("transparency")
    if raw in SCALES and isinstance(value, int):
        image.info["transparency"] = value * SCALES[raw]
    elif raw == "RGB;16B" and isinstance(value, tuple):
        image.info["transparency"] = tuple(part >> 8 for part in value)


def opaque(image: Any, channels: int) -> Any:
    """Returns an 8-bit picture in grey or colour, blended with white."""
    from PIL import Image

    image = _eight_bits(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("L" if channels == 1 else "RGB")


def _eight_bits(image: Any) -> Any:
    """Scales 16-bit grey images to 8 bits; Pillow's own conversion would clip them at 255."""
    from PIL import Image

    if image.mode[0] not in "IF":
        return image
    values = np.asarray(image)
    if image.mode == "F" or values.min() < 0 or values.max() > 65535:
        raise ValueError("the pixels have more than 16 bits")
    scaled = Image.fromarray(np.round(values / 257.0).astype(np.uint8))
    if (transparent := image.info.get("transparency")) is not None:
        scaled.putalpha(Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8)))
    return scaled


def conversions(found: tuple[int, ...], size: tuple[int, int], how: str) -> tuple[str, ...]:
    """Returns what `fit` does to a picture of height and width `found`, such as "cropped"."""
    factors = [new / old for new, old in zip(size, found, strict=False)]
    ends = [max(factors) * old - new for new, old in zip(size, found, strict=False)]
    return (DONE[how],) * (max(ends) >= 1.0) + ("enlarged",) * (max(factors) > 1.0)


def fit(pixels: np.ndarray, size: tuple[int, int], how: str = "crop") -> np.ndarray:
    """Resizes uint8 [h, w, c] with antialiasing (Lanczos).

    Args:
        pixels: the picture.
        size: height and width of the result.
        how: treatment of another aspect ratio: "crop" cuts off both ends of the longer side, "pad"
            adds black bars on both sides of the shorter one, "stretch" distorts.
    """
    from PIL import Image, ImageOps

    if pixels.shape[:2] == size:
        return pixels
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    resize = {"crop": ImageOps.fit, "pad": ImageOps.pad, "stretch": Image.Image.resize}[how]
    image = resize(image, (size[1], size[0]), Image.Resampling.LANCZOS)
    return np.asarray(image).reshape(*size, pixels.shape[-1])
