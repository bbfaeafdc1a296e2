"""Short-time Fourier transforms, and the multi-resolution loss between their magnitudes.

With the magnitudes X and Y of original and reconstruction, and a small constant e,

    d(x, y) = mean over windows of  |X - Y|_F / |X|_F  +  mean |ln(X + e) - ln(Y + e)|,

the sum of the spectral convergence and of the distance of log magnitudes. Yamamoto et al.,
"Parallel WaveGAN", arXiv:1910.11480, eqs. 4 to 6.
"""

import jax.numpy as jnp
import numpy as np

from vqdit.losses.perceptual import Mask, Perceptual
from vqdit.masked_mean import mean_of_each
from vqdit.typing import Array, Bool, Float, Int, Params

EPSILON = 1e-8
"""Added to powers in the square root."""
FLOOR = 1e-4
"""e, 80 dB below the magnitude of a sine at full scale, which is 1."""


class Spectrograms(Perceptual):
    """Base class of distances between spectrograms of several resolutions.

    Attributes:
        windows: window lengths of the transforms, in samples; the hop is a quarter of each.
        weight: weight of the loss, relative to a waveform loss of weight 1.
    """

    windows: tuple[int, ...] = (128, 256, 512, 1024)
    weight: float = 1.0

    any_length = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require("windows of at least 32 samples", min(self.windows, default=0) >= 32)

    def check(self, size: tuple[int, ...], channels: int) -> None:
        del channels
        if len(size) != 1 or size[0] < max(self.windows):
            raise ValueError(
                f"{type(self).__name__} compares sounds of at least {max(self.windows)} samples, "
                f"its longest window, got size {'x'.join(map(str, size))}"
            )

    def load(self) -> Params:
        return {}

    def like(self) -> Params:
        return {}

    def distance(
        self,
        params: Params,
        x: Float[Array, "b t c"],
        y: Float[Array, "b t c"],
        mask: Mask = None,
    ) -> Float[Array, " b"]:
        del params
        each = len(x)
        x, y, mask = of_each_channel(x, y, mask)
        length = None if mask is None else jnp.sum(mask, axis=1)
        total = jnp.zeros(len(x), jnp.float32)
        for number, window in enumerate(self.windows):
            centres = jnp.asarray(frame_centres(x.shape[1], window))
            is_real = None if length is None else centres <= length[:, None]
            first, second = (magnitudes(sound, window, length) for sound in (x, y))
            total += self.between(first, second, number, is_real)
        return jnp.mean(total.reshape(each, -1), axis=1) / len(self.windows)

    def between(
        self,
        x: Float[Array, "b n f"],
        y: Float[Array, "b n f"],
        number: int,
        is_real: Bool[Array, "b n"] | None,
    ) -> Float[Array, " b"]:
        """Returns the distance of magnitudes.

        Args:
            x: magnitudes of the originals.
            y: magnitudes of the reconstructions.
            number: index of the window length in `windows`.
            is_real: False for frames that are padding; None if there are none.
        """
        raise TypeError(f"{type(self).__name__} must define the method 'between'")


class STFT(Spectrograms):
    """The spectral convergence and the distance of log magnitudes, at several resolutions."""

    def between(
        self,
        x: Float[Array, "b n f"],
        y: Float[Array, "b n f"],
        number: int,
        is_real: Bool[Array, "b n"] | None,
    ) -> Float[Array, " b"]:
        del number
        error, power = (mean_of_each(part**2, is_real) for part in (x - y, x))
        logarithms = jnp.log(x + FLOOR) - jnp.log(y + FLOOR)
        # Both roots have an infinite slope at 0, that is, where x and y are equal.
        convergence = jnp.sqrt(error + EPSILON) / jnp.sqrt(power + EPSILON)
        return convergence + mean_of_each(jnp.abs(logarithms), is_real)


def of_each_channel(
    x: Float[Array, "b t c"], y: Float[Array, "b t c"], mask: Mask
) -> tuple[Float[Array, "m t"], Float[Array, "m t"], Bool[Array, "m t"] | None]:
    """Returns x, y and mask with each channel as a separate example; m = b c.

    The channels of one sound are adjacent.
    """
    channels = x.shape[-1]
    x, y = (jnp.moveaxis(sound, -1, 1).reshape(-1, sound.shape[1]) for sound in (x, y))
    return x, y, mask if mask is None else jnp.repeat(mask, channels, axis=0)


def magnitudes(
    sounds: Float[Array, "b t"], window: int, length: Int[Array, " b"] | None = None
) -> Float[Array, "b n f"]:
    """Returns the magnitudes of a short-time Fourier transform; 1 for a sine at full scale.

    The frames of a sound are centred at 0, `window` / 4, and so on up to its end.

    Args:
        sounds: waveforms in [-1, 1]; they are padded by reflection.
        window: length of the Hann window, in samples.
        length: length of each sound in samples, at which it is reflected; None if all fill the
            array.
    """
    half = window // 2
    if length is None:
        padded = jnp.pad(sounds, ((0, 0), (half, half)), mode="reflect")
    else:
        last = jnp.maximum(length - 1, 0)[:, None]
        place = last - jnp.abs(last - np.abs(np.arange(-half, sounds.shape[1] + half)))
        padded = jnp.take_along_axis(sounds, jnp.maximum(place, 0), axis=1)
    frames = padded[:, frame_centres(sounds.shape[1], window)[:, None] + np.arange(window)]
    hann = np.hanning(window + 1)[:-1].astype(np.float32)
    spectrum = jnp.fft.rfft(frames * hann)
    power = jnp.real(spectrum) ** 2 + jnp.imag(spectrum) ** 2
    # The square root has an infinite slope at 0, that is, in silence.
    return jnp.sqrt(power + EPSILON) * (2.0 / hann.sum())


def frame_centres(length: int, window: int) -> np.ndarray:
    """Returns the centres of a sound's frames, in samples: their starts in the padded sound."""
    return np.arange(0, length + 1, window // 4)
