"""Pictures of several modalities side by side."""

import math
from collections.abc import Mapping

import numpy as np

from vqdit.modalities.image import grid

EDGE = 64


def overview(drawn: Mapping[str, np.ndarray], columns: int = 0) -> np.ndarray:
    """Tiles samples of several modalities: each sample is one column of all its pictures.

    Args:
        drawn: pictures of every modality, uint8 [n, h, w, c], in the order from top to bottom.
        columns: samples in a row; 0 makes the whole about square.

    Returns:
        uint8 [h, w, c].
    """
    channels = max(pictures.shape[-1] for pictures in drawn.values())
    parts = [_square(pictures, channels) for pictures in drawn.values()]
    samples = np.concatenate(parts, axis=1)
    columns = columns or math.ceil(math.sqrt(len(samples) * len(parts)))
    return grid(samples, min(columns, len(samples)), edge=1)


def _square(pictures: np.ndarray, channels: int) -> np.ndarray:
    """Enlarges pictures by whole factors and pads them to squares of about EDGE pixels."""
    factor = max(1, EDGE // max(pictures.shape[1:3]))
    pictures = pictures.repeat(factor, axis=1).repeat(factor, axis=2)
    height, width = (max(EDGE, size) for size in pictures.shape[1:3])
    canvas = np.full((len(pictures), height, width, channels), 127, np.uint8)
    top, left = (height - pictures.shape[1]) // 2, (width - pictures.shape[2]) // 2
    canvas[:, top : top + pictures.shape[1], left : left + pictures.shape[2]] = pictures
    return canvas
