"""Perceived loudness of sounds, in LUFS.

    L = -0.691 + 10 log10 sum_channels mean (K * x)^2,

with the K-weighting filter of ITU-R BS.1770-5, annex 1: a high shelf, which models the head,
followed by a high pass. The mean is over blocks of 400 ms, one every 100 ms. Blocks below -70 LUFS
are left out, and then also blocks below the loudness of the others minus 10 LU, which are pauses.
"""

import math

import numpy as np

from vqdit.typing import Float

FULL_SCALE = 32768.0
BLOCK, HOP = 0.4, 0.1
"""Length of a block and step between blocks in seconds."""
ABSOLUTE, RELATIVE = -70.0, -10.0
"""Thresholds of blocks that count, in LUFS and in LU."""


def loudness(sound: np.ndarray, rate: int) -> float:
    """Returns the integrated loudness of a sound in LUFS; -inf for silence.

    A sound of less than 400 ms is a single block.

    Args:
        sound: int16 [n] or [n, c].
        rate: samples per second, in Hz.
    """
    from scipy.signal import sosfilt

    x = (sound / FULL_SCALE).reshape(len(sound), -1)
    if not x.any():
        return -math.inf
    power = np.sum(np.asarray(sosfilt(k_weighting(rate), x, axis=0)) ** 2, axis=1)
    block, hop = min(round(BLOCK * rate), len(power)), max(1, round(HOP * rate))
    sums = np.concatenate([[0.0], np.cumsum(power)])
    starts = np.arange(0, len(power) - block + 1, hop)
    blocks = (sums[starts + block] - sums[starts]) / block
    blocks = blocks[blocks > _power(ABSOLUTE)]
    if not len(blocks):
        return -math.inf
    blocks = blocks[blocks > blocks.mean() * 10.0 ** (RELATIVE / 10.0)]
    return -0.691 + 10.0 * math.log10(blocks.mean())


def brought_to(sound: np.ndarray, rate: int, level: float) -> tuple[np.ndarray, bool]:
    """Scales a sound to `level` LUFS, or to less if it would clip; also returns whether to less.

    Silence stays silence.
    """
    found = loudness(sound, rate)
    if found == -math.inf:
        return sound, False
    gain = 10.0 ** ((level - found) / 20.0)
    most = (FULL_SCALE - 1.0) / np.abs(sound.astype(np.int32)).max()
    scaled = np.round(min(gain, most) * sound)
    return scaled.astype(np.int16), bool(gain > most)


def k_weighting(rate: int) -> Float[np.ndarray, "2 6"]:
    """Returns the K-weighting filter at a sampling rate as second-order sections.

    The standard gives coefficients at 48 kHz, which are the bilinear transform of a high shelf of
    4.000 dB at 1681.97 Hz and a high pass at 38.135 Hz. Other rates use the same transform.
    """
    shelf = _section(rate, 1681.974450955533, 0.7071752369554196, gain=3.999843853973347)
    return np.stack([shelf, _section(rate, 38.13547087602444, 0.5003270373238773)])


def _section(rate: int, frequency: float, quality: float, gain: float | None = None) -> np.ndarray:
    """Returns the coefficients [6] of a high-shelf filter, or of a high-pass one without a gain.

    `frequency` is in Hz, `quality` is the Q factor, and `gain` is in dB.
    """
    k = math.tan(math.pi * frequency / rate)
    tail = np.asarray([1.0 + k / quality + k * k, 2.0 * (k * k - 1.0), 1.0 - k / quality + k * k])
    if gain is None:
        return np.concatenate([[1.0, -2.0, 1.0], tail / tail[0]])
    high = 10.0 ** (gain / 20.0)
    band = high**0.4996667741545416
    head = [high + band * k / quality + k * k, 2.0 * (k * k - high)]
    head = np.asarray([*head, high - band * k / quality + k * k])
    return np.concatenate([head, tail]) / tail[0]


def _power(level: float) -> float:
    return 10.0 ** ((level + 0.691) / 10.0)
