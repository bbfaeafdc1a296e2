"""A loss between mel spectrograms, which is insensitive to inaudible differences of phase.

    d(x, y) = mean over windows w of mean |log10(M_w(x) + e) - log10(M_w(y) + e)|,

where M_w are the magnitudes of a short-time Fourier transform with windows of w samples, summed in
bands of equal width in mel, and e is a small constant. Codes at a few hundred bits per second
cannot represent the phases of a waveform; a decoder that is trained only on the error of the
waveform then tends to output silence. Kumar et al., "Improved RVQGAN", arXiv:2306.06546, section
3.4.
"""

import math

import jax.numpy as jnp
import numpy as np

from vqdit.losses.stft import STFT, Spectrograms, magnitudes
from vqdit.masked_mean import mean_of_each
from vqdit.nn.mel import mel_bands
from vqdit.typing import Array, Bool, Float, Int

FLOOR = 1e-3
"""e, 60 dB below the magnitude of a sine at full scale, which is 1.

With a much smaller value, the silence around a word would dominate the loss.
"""


class Mel(Spectrograms):
    """The mean absolute error of log mel spectrograms, in several resolutions.

    Attributes:
        rate: samples per second of the sounds, in Hz.
        windows: window lengths of the transforms, in samples; the hop is a quarter of each.
        weight: weight of the loss if a loss of the waveform has weight 1; 15 in the paper.
        bands: number of mel bands for each of the windows; if empty, window / 6 bands. The
            published windows (32, 64, 128, 256, 512, 1024, 2048) have
            (5, 10, 20, 40, 80, 160, 320) bands.
    """

    rate: int = 8000
    windows: tuple[int, ...] = (64, 128, 256, 512, 1024)
    weight: float = 15.0
    bands: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require("rate >= 1", self.rate >= 1)
        rule = "bands to be one number of at least 1 for each window, or none"
        is_one_each = len(self.bands) == len(self.windows) and min(self.bands, default=0) >= 1
        self.require(rule, not self.bands or is_one_each)

    def between(
        self,
        x: Float[Array, "b n f"],
        y: Float[Array, "b n f"],
        number: int,
        is_real: Bool[Array, "b n"] | None,
    ) -> Float[Array, " b"]:
        window, bands = self.windows[number], self.bands[number] if self.bands else 0
        first, second = (log_bands(part, self.rate, window, bands) for part in (x, y))
        return mean_of_each(jnp.abs(first - second), is_real)


def spectral_distances(rate: int) -> dict[str, Mel | STFT]:
    """Returns the mel and the STFT distance with which all sounds are evaluated, keyed by name.

    Both have one window, of about 32 ms.

    Args:
        rate: samples per second, in Hz.
    """
    window = max(32, 2 ** round(math.log2(0.032 * rate)))
    mel, stft = Mel(rate=rate, windows=(window,)), STFT(windows=(window,))
    return {"mel_distance": mel, "stft_distance": stft}


def log_mel(
    sounds: Float[Array, "b t"],
    rate: int,
    window: int,
    length: Int[Array, " b"] | None = None,
    bands: int = 0,
) -> Float[Array, "b n m"]:
    """Returns log10 of the mel magnitudes [b, frames, bands].

    Args:
        sounds: waveforms in [-1, 1].
        rate: samples per second, in Hz.
        window: length of the Hann window, in samples; see `magnitudes`.
        length: length of each sound; None if all fill the array.
        bands: number of bands; 0 means window / 6, a third of the frequencies.
    """
    return log_bands(magnitudes(sounds, window, length), rate, window, bands)


def log_bands(
    spectrum: Float[Array, "b n f"], rate: int, window: int, bands: int
) -> Float[Array, "b n m"]:
    """Returns log10 of the sums of magnitudes in mel bands; for the arguments see `log_mel`."""
    weights = mel_bands(window, rate, bands or window // 6).astype(np.float32)
    return jnp.log10(spectrum @ weights + FLOOR)
