"""Finding image files, reading them and resizing them to one size."""

import os
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


def check_form(source: object, size: int, channels: int) -> None:
    """Raises ValueError, with the name of the source's class, for an invalid size or channels."""
    name = type(source).__name__
    if size < 1:
        raise ValueError(f"{name} needs size >= 1, got {size}")
    if channels not in (1, 3):
        raise ValueError(f"{name} needs 1 (grey) or 3 (colour) channels, got {channels}")


def is_picture(file: Path) -> bool:
    """Returns whether the file has the suffix of an image and is not hidden."""
    return file.suffix.lower() in SUFFIXES and not file.name.startswith(".")


def find_pictures(folder: Path) -> list[Path]:
    """Returns the sorted image files of a folder and its sub-folders; follows symbolic links.

    Raises:
        OSError: if a folder cannot be read.
    """
    found: list[Path] = []
    for place, folders, files in os.walk(folder, onerror=_fail, followlinks=True):
        here = Path(place).resolve()
        folders[:] = [  # skips hidden folders, and links to a folder that contains them
            name
            for name in folders
            if not name.startswith(".") and not here.is_relative_to((here / name).resolve())
        ]
        found += [Path(place, name) for name in files if is_picture(Path(name))]
    return sorted(found)


def _fail(error: OSError) -> NoReturn:
    raise error


def read_picture(file: Path, size: tuple[int, int], channels: int) -> np.ndarray:
    """Reads an image file with `open_picture`, crops its centre and resizes it.

    Args:
        file: the image file.
        size: height and width of the result. The largest centred crop with this aspect ratio is
            resized with antialiasing (Lanczos).
        channels: 1 (grey) or 3 (colour).
    """
    return fit(open_picture(file, channels), size)


def open_picture(file: Path, channels: int) -> np.ndarray:
    """Reads an image file in its original size, in the orientation that its EXIF data give.

    Args:
        file: PNG, JPEG or WebP file; transparent pixels are blended with white.
        channels: 1 (grey) or 3 (colour).

    Returns:
        The image, uint8 [h, w, c].

    Raises:
        ValueError: if the file cannot be decoded; the message has its path.
        FileNotFoundError: if there is no such file.
    """
    from PIL import Image, ImageOps

    if not file.is_file():
        raise FileNotFoundError(f"no picture {file}")
    try:
        with Image.open(file) as opened:
            image = _eight_bits(ImageOps.exif_transpose(opened))
            if image.has_transparency_data:
                image = image.convert("RGBA")
                white = Image.new("RGBA", image.size, "white")
                image = Image.alpha_composite(white, image)
            image = image.convert("L" if channels == 1 else "RGB")
    except Exception as error:  # damaged files make Pillow raise almost anything
        why = str(error).replace(f"'{file}'", "it")
        raise ValueError(
            f"cannot decode the picture {file}: {why}; replace or remove the file"
        ) from error
    return np.asarray(image).reshape(image.height, image.width, channels)


def _eight_bits(image: Any) -> Any:
    """Scales 16-bit grey images to 8 bits; Pillow's own conversion would clip them at 255."""
    from PIL import Image

    if not image.mode.startswith("I"):
        return image
    return Image.fromarray(np.round(np.asarray(image) / 257.0).astype(np.uint8))


def fit(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Crops the centre of uint8 [h, w, c] to the aspect ratio of `size` and resizes it."""
    from PIL import Image, ImageOps

    if pixels.shape[:2] == size:
        return pixels
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    image = ImageOps.fit(image, (size[1], size[0]), Image.Resampling.LANCZOS)
    return np.asarray(image).reshape(*size, pixels.shape[-1])
