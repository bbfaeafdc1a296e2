"""The resizing of pictures for a feature network, exactly as programs that compute FID do it.

Their methods of resizing differ, and so do the distances that they compute. Parmar et al., "On
Aliased Resizing and Surprising Subtleties in GAN Evaluation", arXiv:2104.11222.
"""

from typing import Literal

import numpy as np

from vqdit.typing import Float, UInt8

Method = Literal["clean", "pytorch", "tensorflow"]
METHODS: dict[Method, str] = {
    "clean": "bicubic with antialiasing, in float per channel (Pillow), as clean-fid",
    "pytorch": "bilinear without antialiasing, as pytorch-fid",
    "tensorflow": "bilinear without antialiasing from corner to corner, as TensorFlow 1, ADM and "
    "torch-fidelity",
}
"""Descriptions of the methods."""


def resize(
    pictures: UInt8[np.ndarray, "b h w c"], edge: int, method: Method
) -> Float[np.ndarray, "b n n c"]:
    """Returns pictures of edge x edge pixels in float32, from 0 to 255, which are not rounded."""
    if method == "clean":
        return np.stack([_pillow(picture, edge) for picture in pictures])
    down, across = (bilinear(size, edge, method) for size in pictures.shape[1:3])
    rows = np.tensordot(pictures.astype(np.float32), down, axes=(1, 1))  # [b, w, c, n]
    return np.tensordot(rows, across, axes=(1, 1)).transpose(0, 2, 3, 1)


def bilinear(size: int, edge: int, method: Method) -> Float[np.ndarray, "n m"]:
    """Returns the weights [edge, size] of an axis' pixels in each resized pixel.

    Args:
        size: number of pixels.
        edge: number of resized pixels.
        method: "pytorch" aligns the borders of the pixels, "tensorflow" the centre of the first.
    """
    centre = 0.5 if method == "pytorch" else 0.0
    place = np.maximum((np.arange(edge) + centre) * (size / edge) - centre, 0.0)
    first = np.minimum(place.astype(int), size - 1)
    weights = np.zeros((edge, size))
    rows = np.arange(edge)
    np.add.at(weights, (rows, first), 1.0 - (place - first))
    np.add.at(weights, (rows, np.minimum(first + 1, size - 1)), place - first)
    return weights.astype(np.float32)


def _pillow(picture: UInt8[np.ndarray, "h w c"], edge: int) -> Float[np.ndarray, "n n c"]:
    from PIL import Image

    channels = [
        np.asarray(Image.fromarray(channel).resize((edge, edge), resample=Image.Resampling.BICUBIC))
        for channel in np.moveaxis(picture.astype(np.float32), -1, 0)
    ]
    return np.clip(np.stack(channels, axis=-1), 0.0, 255.0)
