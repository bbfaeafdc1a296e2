"""Similarity of a reconstructed sound to its original."""

import jax.numpy as jnp
import numpy as np

from vqdit.masked_mean import mean_of_each
from vqdit.typing import Array, Bool, Float, Int

SILENCE = 1e-10
"""Added to both powers of SI-SDR: 100 dB below full scale."""


def si_sdr(
    x: Float[Array, "b n c"],
    y: Float[Array, "b n c"],
    mask: Bool[Array, "b n"] | None = None,
) -> Float[Array, " b"]:
    """Returns the scale-invariant signal-to-distortion ratio of each sound in dB.

    After the means of x and y are subtracted,

        s = <x, y> / |x|^2 x,        SI-SDR = 10 log10 (|s|^2 / |y - s|^2).

    The channels are concatenated. Le Roux et al., "SDR - half-baked or well done?",
    arXiv:1811.02508, eqs. 3 to 5.

    Args:
        x: originals.
        y: reconstructions.
        mask: False at padding of sounds of different lengths.
    """

    def mean(values: Float[Array, "b n c"]) -> Float[Array, "b 1 1"]:
        return mean_of_each(values, mask)[:, None, None]

    x, y = x - mean(x), y - mean(y)
    scale = mean(x * y) / jnp.maximum(mean(x * x), SILENCE)
    signal, noise = mean((scale * x) ** 2), mean((y - scale * x) ** 2)
    return 10.0 * jnp.log10((signal + SILENCE) / (noise + SILENCE))[:, 0, 0]


def stride_tones(sound: Int[np.ndarray, "n *c"], stride: int, periods: int = 8) -> float:
    """Returns the level in dB of tones at multiples of rate / stride, relative to nearby power.

    A decoder that computes the `stride` samples of each token with separate weights has such tones,
    since equal tokens give a signal of this period. The level is 10 log10 of the median, over the
    multiples, of the mean power at the multiple divided by the mean power half-way to its
    neighbours: about 0 dB for sounds without such tones.

    Args:
        sound: int16 [n] or [n, c], of at least 2 * periods * stride samples.
        stride: samples per token.
        periods: length of the Hann window of the spectra, in strides.
    """
    x = sound.reshape(len(sound), -1).mean(axis=1) / 32768.0
    size = periods * stride
    frames = np.lib.stride_tricks.sliding_window_view(x, size)[:: size // 4]
    power = np.mean(np.abs(np.fft.rfft(frames * np.hanning(size + 1)[:-1])) ** 2, axis=0)
    power = power + 1e-12 * size
    lines = np.arange(periods, size // 2 - periods, periods)
    half = periods // 2
    beside = 0.5 * (power[lines - half] + power[lines + half])
    return 10.0 * float(np.log10(np.median(power[lines] / beside)))
