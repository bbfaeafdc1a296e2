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
from vqdit.masked_mean import mean_of_each
from vqdit.nn.mel import mel_bands
from vqdit.typing import Array, Float, Int, Params

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
        weight: weight of the loss, relative to a waveform loss of weight 1; 15 in the paper.
    """

    rate: int = 8000
    windows: tuple[int, ...] = (64, 128, 256, 512, 1024)
    weight: float = 15.0

    any_length = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require("rate >= 1", self.rate >= 1)
        self.require("windows of at least 32 samples", min(self.windows, default=0) >= 32)

    def check(self, size: tuple[int, ...], channels: int) -> None:
        if len(size) != 1 or channels != 1 or size[0] < max(self.windows):
            raise ValueError(
                f"Mel needs sounds with one channel and at least {max(self.windows)} samples, its "
                f"longest window, got size {'x'.join(map(str, size))} with {channels} channels"
            )

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
        length = None if mask is None else jnp.sum(mask, axis=1)
        total = jnp.zeros(len(x), jnp.float32)
        for window in self.windows:
            first, second = (log_mel(sound[..., 0], self.rate, window, length) for sound in (x, y))
            starts = jnp.asarray(_starts(x.shape[1], window))
            is_real = None if length is None else starts <= length[:, None]
            total += mean_of_each(jnp.abs(first - second), is_real)
        return total / len(self.windows)


def log_mel(
    sounds: Float[Array, "b t"], rate: int, window: int, length: Int[Array, " b"] | None = None
) -> Float[Array, "b n m"]:
    """Returns log10 of the mel magnitudes [b, frames, bands], with one band per three frequencies.

    The frames of a sound are centred at 0, `window` / 4, and so on up to its end.

    Args:
        sounds: waveforms in [-1, 1]; they are padded by reflection.
        rate: samples per second, in Hz.
        window: length of the Hann window, in samples.
        length: length of each sound, at which it is reflected; None if all sounds fill the array.
    """
    half = window // 2
    if length is None:
        padded = jnp.pad(sounds, ((0, 0), (half, half)), mode="reflect")
    else:
        last = jnp.maximum(length - 1, 0)[:, None]
        place = last - jnp.abs(last - np.abs(np.arange(-half, sounds.shape[1] + half)))
        padded = jnp.take_along_axis(sounds, jnp.maximum(place, 0), axis=1)
    frames = padded[:, _starts(sounds.shape[1], window)[:, None] + np.arange(window)]
    hann = np.hanning(window + 1)[:-1].astype(np.float32)
    spectrum = jnp.fft.rfft(frames * hann)
    power = jnp.real(spectrum) ** 2 + jnp.imag(spectrum) ** 2
    # The square root has an infinite slope at 0, which occurs in silence.
    magnitude = jnp.sqrt(power + EPSILON) * (2.0 / hann.sum())
    bands = mel_bands(window, rate, window // 6).astype(np.float32)
    return jnp.log10(magnitude @ bands + FLOOR)


def _starts(length: int, window: int) -> np.ndarray:
    """Returns the centres of the frames of a sound, which are their starts in the padded sound."""
    return np.arange(0, length + 1, window // 4)
