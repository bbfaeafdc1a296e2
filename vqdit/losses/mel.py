"""A loss between mel spectrograms, which ignores inaudible differences of phase.

    d(x, y) = mean over windows w of mean |log10(M_w(x) + e) - log10(M_w(y) + e)|,

with M_w the magnitudes of a short-time Fourier transform with windows of w samples, summed in
bands of equal width in mel. Codes of a few hundred bits per second cannot represent the phases of
a waveform, and a loss on the waveform alone then favours silence. Kumar et al., "Improved
RVQGAN", arXiv:2306.06546, section 3.4.
"""

import jax.numpy as jnp
import numpy as np

from vqdit.losses.perceptual import Perceptual
from vqdit.nn.mel import mel_bands
from vqdit.typing import Array, Float, Params

FLOOR = 1e-3
"""e, 60 dB below the magnitude of a sine at full scale, which is 1.

With a much smaller value, the silence around a word would dominate the loss.
"""

EPSILON = 1e-8
"""Added to powers in the square root."""


class Mel(Perceptual):
    """The mean absolute error of log mel spectrograms, in several resolutions.

    Attributes:
        rate: samples per second of the sounds, in Hz.
        windows: window lengths of the transforms, in samples; the hop is a quarter of each.
        weight: weight of the loss, relative to a waveform loss of weight 1; 15 as published.
    """

    rate: int = 8000
    windows: tuple[int, ...] = (64, 128, 256, 512, 1024)
    weight: float = 15.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require("rate >= 1", self.rate >= 1)
        self.require("windows of at least 32 samples", min(self.windows, default=0) >= 32)

    def check(self, size: tuple[int, ...], channels: int) -> None:
        if len(size) != 1 or channels != 1 or size[0] < max(self.windows):
            raise ValueError(
                f"Mel compares sounds of one channel and at least {max(self.windows)} samples, its "
                f"longest window, got size {'x'.join(map(str, size))} with {channels} channels"
            )

    def load(self) -> Params:
        return {}

    def like(self) -> Params:
        return {}

    def distance(
        self, params: Params, x: Float[Array, "b t 1"], y: Float[Array, "b t 1"]
    ) -> Float[Array, " b"]:
        del params
        total = jnp.zeros(len(x))
        for window in self.windows:
            first, second = (log_mel(sound[..., 0], self.rate, window) for sound in (x, y))
            total += jnp.mean(jnp.abs(first - second), axis=(1, 2))
        return total / len(self.windows)


def log_mel(sounds: Float[Array, "b t"], rate: int, window: int) -> Float[Array, "b n m"]:
    """Returns log10 of the mel magnitudes [b, frames, bands], with one band per three frequencies.

    Args:
        sounds: waveforms in [-1, 1]; they are padded by reflection.
        rate: samples per second, in Hz.
        window: length of the Hann window, in samples.
    """
    hop = window // 4
    padded = jnp.pad(sounds, ((0, 0), (window // 2, window // 2)), mode="reflect")
    starts = np.arange(0, sounds.shape[1] + 1, hop)
    frames = padded[:, starts[:, None] + np.arange(window)]
    hann = np.hanning(window + 1)[:-1].astype(np.float32)
    spectrum = jnp.fft.rfft(frames * hann)
    power = jnp.real(spectrum) ** 2 + jnp.imag(spectrum) ** 2
    # The square root has an infinite slope at 0, that is, in silence.
    magnitude = jnp.sqrt(power + EPSILON) * (2.0 / hann.sum())
    bands = mel_bands(window, rate, window // 6).astype(np.float32)
    return jnp.log10(magnitude @ bands + FLOOR)
