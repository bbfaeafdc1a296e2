"""Discriminators of sounds: on every p-th sample, and on spectrograms at several resolutions.

As in the publications, their convolutions have weight norm and no other norm, so the logits of a
sound do not depend on the other sounds of a batch, nor on its padding.
"""

from collections.abc import Callable
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from vqdit.models.discriminators import Discriminator, Judgement
from vqdit.nn.conv import Mask, zero_behind
from vqdit.typing import Array, Bool, Float, Key, Params

SLOPE = 0.1
"""Negative slope of the leaky ReLUs of `MultiPeriod`; `MultiSTFT` has 0.2 or 0.1."""


class SoundDiscriminator(Discriminator):
    """Base class of discriminators that consist of several networks; their losses are averaged.

    Networks take sounds [b, n, c] and return logits at many positions.

    Attributes:
        channels: width of the first layer of each network.
        dtype: precision of the convolutions; parameters and logits stay float32.
    """

    channels: int = 32
    dtype: Literal["float32", "bfloat16"] = "float32"

    any_length = True

    def __post_init__(self) -> None:
        self.require("channels >= 1", self.channels >= 1)

    @property
    def has_features(self) -> bool:
        return True

    def parts(self) -> list[Callable[[], nn.Module]]:
        """Returns the networks."""
        raise TypeError(f"{type(self).__name__} must define the method 'parts'")

    def _network(self) -> nn.Module:
        return _Several(self)

    def judge(self, params: Params, x: Float[Array, "b n c"], mask: Mask = None) -> list[Judgement]:
        found: Any = self._network().apply({"params": params}, x, mask)
        return found

    def real(self, mask: Bool[Array, "b n"]) -> None:
        """Returns None, as `judge` returns the masks of its logits."""
        del mask

    def apply(self, params: Params, x: Float[Array, "b n c"], mask: Mask = None) -> Array:
        raise TypeError(
            f"{type(self).__name__} has several arrays of logits; call `judge` instead of `apply`"
        )


class MultiPeriod(SoundDiscriminator):
    """Classifies every p-th sample, for several p: a sound is reshaped to [n / p, p].

    Kong et al., "HiFi-GAN", arXiv:2010.05646, section 2.3; DAC has the same. The widths of the
    layers are 1, 4, 16, 32 and 32 times `channels`.

    Attributes:
        periods: the numbers p, pairwise coprime, so that they select different samples.
    """

    periods: tuple[int, ...] = (2, 3, 5, 7, 11)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require("periods of at least 1", min(self.periods, default=0) >= 1)

    def parts(self) -> list[Callable[[], nn.Module]]:
        return [_part(_Period, self, period, f"period_{period}") for period in self.periods]


class MultiSTFT(SoundDiscriminator):
    """Classifies complex spectrograms at several resolutions, as two channels each.

    The defaults are those of EnCodec (Défossez et al., arXiv:2210.13438, section 3.4). With
    `bands=(0.0, 0.1, 0.25, 0.5, 0.75, 1.0)`, `dilations=(1, 1, 1)` and three windows it is the
    multi-band discriminator of DAC (Kumar et al., arXiv:2306.06546, section 3.3): each band has
    its own layers except the last.

    Attributes:
        windows: window lengths of the transforms in samples; the hop is a quarter of each.
        bands: edges of the bands, as fractions of half the sampling rate.
        dilations: dilations in time of the layers that halve the frequencies.
    """

    windows: tuple[int, ...] = (2048, 1024, 512, 256, 128)
    bands: tuple[float, ...] = (0.0, 1.0)
    dilations: tuple[int, ...] = (1, 2, 4)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require("windows of at least 32 samples", min(self.windows, default=0) >= 32)
        is_rising = self.bands[:1] == (0.0,) and self.bands[-1:] == (1.0,)
        is_rising = is_rising and all(np.diff(self.bands) > 0.0)
        self.require("bands that rise from 0 to 1", is_rising and len(self.bands) > 1)
        self.require("dilations of at least 1", min(self.dilations, default=1) >= 1)

    def parts(self) -> list[Callable[[], nn.Module]]:
        return [_part(_Spectrogram, self, window, f"window_{window}") for window in self.windows]


class Together(Discriminator):
    """Combines discriminators of sounds, such as `MultiPeriod` and `MultiSTFT` (DAC).

    Attributes:
        discriminators: the discriminators; all their networks have equal weight.
    """

    discriminators: tuple[Discriminator, ...] = (MultiPeriod(), MultiSTFT())

    any_length = True

    def __post_init__(self) -> None:
        self.require("discriminators", bool(self.discriminators))

    @property
    def has_features(self) -> bool:
        return all(one.has_features for one in self.discriminators)

    @property
    def smallest(self) -> int:
        return max(one.smallest for one in self.discriminators)

    def init(self, key: Key[Array, ""], x: Float[Array, "b n c"]) -> Params:
        return {
            f"{number}": one.init(jax.random.fold_in(key, number), x)
            for number, one in enumerate(self.discriminators)
        }

    def judge(self, params: Params, x: Float[Array, "b n c"], mask: Mask = None) -> list[Judgement]:
        found = (
            one.judge(params[f"{number}"], x, mask)
            for number, one in enumerate(self.discriminators)
        )
        return [judgement for judgements in found for judgement in judgements]

    def real(self, mask: Bool[Array, "b n"]) -> None:
        for one in self.discriminators:
            one.real(mask)


def _part(cls: Any, config: SoundDiscriminator, size: int, name: str) -> Callable[[], nn.Module]:
    return lambda: cls(config, size, name=name)


class _Several(nn.Module):
    config: SoundDiscriminator

    @nn.compact
    def __call__(self, x: Float[Array, "b n c"], mask: Mask = None) -> list[Judgement]:
        return [part()(zero_behind(x, mask), mask) for part in self.config.parts()]


class _Layers(nn.Module):
    """The convolutions of one network; `mask` is for the first axis of the activations."""

    config: Any

    def conv(
        self,
        h: Array,
        mask: Mask,
        width: int,
        kernel: tuple[int, int],
        strides: tuple[int, int] = (1, 1),
        dilation: int = 1,
        name: str = "out",
    ) -> tuple[Array, Any]:
        """Applies a convolution; returns its result and the new mask of its first axis."""
        rows, columns = dilation * (kernel[0] // 2), kernel[1] // 2
        padding = [(rows, rows), (columns, columns)]
        conv = nn.Conv(
            width, kernel, strides, padding, kernel_dilation=(dilation, 1), name=name,
            dtype=self.config.dtype if name != "out" else jnp.float32,
        )  # fmt: skip
        h = nn.WeightNorm(conv, variable_filter={"kernel"}, name=f"{name}_norm")(_behind(h, mask))
        return h, mask if mask is None else mask[:, :: strides[0]]


class _Period(_Layers):
    period: int

    @nn.compact
    def __call__(self, x: Float[Array, "b n c"], mask: Mask = None) -> Judgement:
        more = -x.shape[1] % self.period
        h = jnp.pad(x, ((0, 0), (0, more), (0, 0))).reshape(len(x), -1, self.period, x.shape[-1])
        mask, features = None if mask is None else mask[:, :: self.period], []
        for number, factor in enumerate((1, 4, 16, 32, 32)):
            width, stride = factor * self.config.channels, 3 if number < 4 else 1
            h, mask = self.conv(h, mask, width, (5, 1), (stride, 1), name=f"layer_{number}")
            h = nn.leaky_relu(h, SLOPE)
            features.append((h, mask))
        h, mask = self.conv(h.astype(jnp.float32), mask, 1, (3, 1))
        return Judgement(h[..., 0], mask, tuple(features))


class _Spectrogram(_Layers):
    window: int

    @nn.compact
    def __call__(self, x: Float[Array, "b n c"], mask: Mask = None) -> Judgement:
        config, bins = self.config, self.window // 2 + 1
        slope = 0.2 if len(config.bands) == 2 else 0.1
        spectrum, mask = spectrogram(x, self.window, mask)
        edges = [round(edge * bins) for edge in config.bands]
        features, outs = [], []
        for band, (low, high) in enumerate(zip(edges, edges[1:], strict=False)):
            h, within, name = spectrum[:, :, low:high], mask, f"band_{band}"
            for number, dilation in enumerate((0, *config.dilations)):
                strides = (1, 2) if dilation else (1, 1)
                h, within = self.conv(
                    h, within, config.channels, (3, 9), strides, max(dilation, 1),
                    f"{name}_layer_{number}",
                )  # fmt: skip
                h = nn.leaky_relu(h, slope)
                features.append((h, within))
            h, within = self.conv(h, within, config.channels, (3, 3), name=f"{name}_last")
            h = nn.leaky_relu(h, slope)
            features.append((h, within))
            outs.append(h)
        h, mask = self.conv(jnp.concatenate(outs, axis=2).astype(jnp.float32), mask, 1, (3, 3))
        return Judgement(h[..., 0], mask, tuple(features))


def spectrogram(
    x: Float[Array, "b n c"], window: int, mask: Mask = None
) -> tuple[Float[Array, "b m f e"], Any]:
    """Returns real and imaginary parts of a short-time Fourier transform, and the frames' mask.

    The frames have a Hann window and are centred at 0, `window` / 4, and so on up to the end.
    Sounds are padded with silence at both ends. Values are divided by the root of the window's
    energy.
    """
    half, hop = window // 2, window // 4
    starts = np.arange(0, x.shape[1] + 1, hop)
    padded = jnp.pad(x, ((0, 0), (half, half), (0, 0)))
    frames = jnp.moveaxis(padded[:, starts[:, None] + np.arange(window)], -1, 2)  # b m c w
    hann = np.hanning(window + 1)[:-1].astype(np.float32)
    found = jnp.fft.rfft(frames * hann) / np.sqrt(np.sum(hann**2))
    parts = jnp.concatenate([jnp.real(found), jnp.imag(found)], axis=2)
    if mask is not None:
        mask = jnp.asarray(starts) <= jnp.sum(mask, axis=1, keepdims=True)
    return jnp.moveaxis(parts, 2, -1), mask


def _behind(h: Float[Array, "b n p c"], mask: Mask) -> Float[Array, "b n p c"]:
    """Returns h with zeros after the end of each sound, along the first axis."""
    return h if mask is None else jnp.where(mask[:, :, None, None], h, jnp.zeros((), h.dtype))
