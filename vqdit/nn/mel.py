"""Bands of frequencies as the ear has them."""

import math

import numpy as np

from vqdit.typing import Float


def mel_bands(window: int, rate: int, bands: int) -> Float[np.ndarray, "f m"]:
    """Returns the weight of each frequency of a transform in triangular bands.

    Their edges are equidistant in mel, 2595 log10(1 + f / 700 Hz), from 0 to half the rate.

    Args:
        window: length of the transform, in samples: f = window / 2 + 1 frequencies.
        rate: samples per second, in Hz.
        bands: number m of bands.
    """
    edges = np.linspace(0.0, 2595.0 * math.log10(1.0 + rate / 2 / 700.0), bands + 2)
    edges = 700.0 * (10.0 ** (edges / 2595.0) - 1.0)
    frequencies = np.fft.rfftfreq(window, 1.0 / rate)[:, None]
    rising = (frequencies - edges[:-2]) / np.diff(edges)[:-1]
    falling = (edges[2:] - frequencies) / np.diff(edges)[1:]
    return np.maximum(np.minimum(rising, falling), 0.0)
