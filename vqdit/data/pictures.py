"""Reading picture files: any size in, one size out."""

from pathlib import Path

import numpy as np

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


def read_picture(file: Path, size: tuple[int, int], channels: int) -> np.ndarray:
    """Reads a picture, turns it as its EXIF says, crops its centre and resizes it.

    Args:
        file: PNG, JPEG or WebP; transparency is laid over white.
        size: height and width of the result. The largest centred part with these proportions is
            resized with antialiasing (Lanczos).
        channels: 1 (grey) or 3 (colour).

    Returns:
        uint8 [h, w, c].

    Raises:
        ValueError: it cannot be decoded; names the path.
        FileNotFoundError: there is no such file.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    if not file.is_file():
        raise FileNotFoundError(f"no picture {file}")
    try:
        with Image.open(file) as opened:
            image = ImageOps.exif_transpose(opened)
            if image.has_transparency_data:
                image = image.convert("RGBA")
                white = Image.new("RGBA", image.size, "white")
                image = Image.alpha_composite(white, image)
            image = image.convert("L" if channels == 1 else "RGB")
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"cannot decode the picture {file}: {error}") from error
    return fit(np.asarray(image).reshape(image.height, image.width, channels), size)


def fit(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Crops the centre of uint8 [h, w, c] to the proportions of `size` and resizes it."""
    from PIL import Image, ImageOps

    if pixels.shape[:2] == size:
        return pixels
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    image = ImageOps.fit(image, (size[1], size[0]), Image.Resampling.LANCZOS)
    return np.asarray(image).reshape(*size, pixels.shape[-1])
