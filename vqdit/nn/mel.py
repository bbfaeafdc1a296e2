"""Mel filter banks."""

import math

import numpy as np

from vqdit.typing import Float


def mel_bands(window: int, rate: int, bands: int) -> Float[np.ndarray, "f m"]:
    """Returns the weights of m triangular mel bands over the f frequencies of a Fourier transform.

    The edges of the bands are equidistant in mel, 2595 log10(1 + frequency / 700 Hz), from 0 Hz to
    half the sampling rate.

    Args:
        window: length of the transform in samples, which gives f = window / 2 + 1 frequencies.
        rate: sampling rate in Hz.
        bands: number m of bands.
    """
    edges = np.linspace(0.0, 2595.0 * math.log10(1.0 + rate / 2 / 700.0), bands + 2)
    edges = 700.0 * (10.0 ** (edges / 2595.0) - 1.0)
    frequencies = np.fft.rfftfreq(window, 1.0 / rate)[:, None]
    rising = (frequencies - edges[:-2]) / np.diff(edges)[:-1]
    falling = (edges[2:] - frequencies) / np.diff(edges)[1:]
    return np.maximum(np.minimum(rising, falling), 0.0)
