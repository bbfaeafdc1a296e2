"""A loss between mel spectrograms, which is insensitive to inaudible differences of phase.

    d(x, y) = mean over windows w of mean |log10(M_w(x) + e) - log10(M_w(y) + e)|,

where M_w are the magnitudes of a short-time Fourier transform with windows of w samples, summed in
bands of equal width in mel. A few hundred bits per second of codes cannot represent the phases of a
waveform. If the loss is only on the waveform, the decoder then tends to silence. Kumar et al.,
"Improved RVQGAN", arXiv:2306.06546, section 3.4.
"""

import jax.numpy as jnp
import numpy as np

from vqdit.losses.perceptual import Mask, Perceptual
from vqdit.losses.stft import check_sound, frame_centres, magnitudes, of_each_channel
from vqdit.masked_mean import mean_of_each
from vqdit.nn.mel import mel_bands
from vqdit.typing import Array, Float, Int, Params

FLOOR = 1e-3
"""e, 60 dB below the magnitude of a sine at full scale, which is 1.

With a much smaller value, the silence around a word would dominate the loss.
"""


class Mel(Perceptual):
    """The mean absolute error of log mel spectrograms, in several resolutions.

    Attributes:
        rate: samples per second of the sounds, in Hz.
        windows: window lengths of the transforms, in samples; the hop is a quarter of each.
        weight: weight of the loss, relative to a waveform loss of weight 1; 15 in the paper.
        bands: number of mel bands for each of the windows; if empty, a sixth of the window. The
            published windows are (32, 64, 128, 256, 512, 1024, 2048) with
            (5, 10, 20, 40, 80, 160, 320) bands.
    """

    rate: int = 8000
    windows: tuple[int, ...] = (64, 128, 256, 512, 1024)
    weight: float = 15.0
    bands: tuple[int, ...] = ()

    any_length = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require("rate >= 1", self.rate >= 1)
        self.require("windows of at least 32 samples", min(self.windows, default=0) >= 32)
        rule = "bands to be one number of at least 1 for each window, or none"
        is_one_each = len(self.bands) == len(self.windows) and min(self.bands, default=0) >= 1
        self.require(rule, not self.bands or is_one_each)

    def check(self, size: tuple[int, ...], channels: int) -> None:
        check_sound("Mel", self.windows, size)

    def load(self) -> Params:
        return {}

    def like(self) -> Params:
        return {}

    def distance(
        self,
        params: Params,
        x: Float[Array, "b t 1"],
        y: Float[Array, "b t 1"],
        mask: Mask = None,
    ) -> Float[Array, " b"]:
        del params
        each = len(x)
        x, y, mask = of_each_channel(x, y, mask)
        length = None if mask is None else jnp.sum(mask, axis=1)
        total = jnp.zeros(len(x), jnp.float32)
        for number, window in enumerate(self.windows):
            bands = self.bands[number] if self.bands else 0
            first, second = (log_mel(sound, self.rate, window, length, bands) for sound in (x, y))
            starts = jnp.asarray(frame_centres(x.shape[1], window))
            is_real = None if length is None else starts <= length[:, None]
            total += mean_of_each(jnp.abs(first - second), is_real)
        return jnp.mean(total.reshape(each, -1), axis=1) / len(self.windows)


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
        bands: number of bands; 0 for one per three frequencies.
    """
    weights = mel_bands(window, rate, bands or window // 6).astype(np.float32)
    return jnp.log10(magnitudes(sounds, window, length) @ weights + FLOOR)
