"""SEANet, the network of EnCodec; and the network of Mimi, which adds transformers.

Tagliasacchi et al., "SEANet", arXiv:2009.02095; Defossez et al., "High Fidelity Neural Audio
Compression" (EnCodec), arXiv:2210.13438, section 3.1; Defossez et al., "Moshi" (Mimi),
arXiv:2410.00037, section 3.3. `vqdit.pretrained` loads public weights into these networks.
"""

from fractions import Fraction
from typing import Literal

import flax.linen as nn
import jax.numpy as jnp

from vqdit.models.codec import Stage
from vqdit.models.conv_codec import ConvCodec
from vqdit.nn.causal import CausalTransformer
from vqdit.nn.conv import Mask
from vqdit.nn.conv1d import Conv1d, ConvTranspose1d, Length, Norm, Padding
from vqdit.nn.lstm import LSTM
from vqdit.typing import Array, Float, Params

LOUDNESS = 0.1
"""Root mean square of the output of codecs that normalise loudness; 20 dB below full scale."""


class SEANet(ConvCodec):
    """The encoder and decoder of EnCodec; the defaults are those of the published 24 kHz model.

    Attributes:
        middle: layers at the rate of the tokens, before the last layer of the encoder and after the
            first layer of the decoder: an LSTM; causal attention over `window` tokens; or none.
        layers: layers of the LSTM or of the attention.
        heads: attention heads.
        window: number of tokens to which a token attends.
        trim_right: fraction of the surplus outputs of a transposed convolution that are trimmed at
            the end; the other surplus outputs are trimmed at the start.
        normalize: whether the encoder divides every recording by its root mean square, so that the
            codes do not contain the loudness. The decoder's output then has a root mean square of
            about `LOUDNESS`; the training data must have this root mean square, too.
    """

    middle: Literal["lstm", "attention", "none"] = "lstm"
    layers: int = 2
    heads: int = 8
    window: int = 250
    trim_right: float = 1.0
    normalize: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require("layers >= 1", self.layers >= 1)
        self.require("window >= 1", self.window >= 1)
        self.require("trim_right in [0, 1]", 0.0 <= self.trim_right <= 1.0)
        rule = "trim_right = 1 unless causal=True"
        self.require(rule, self.causal or self.trim_right == 1.0)
        if self.middle == "attention":
            widths = self.channels * 2 ** len(self.strides), self.widest
            rule = f"heads to divide the widths {widths[0]} and {widths[1]} into even parts"
            holds = self.heads >= 1 and all(width % (2 * self.heads) == 0 for width in widths)
            self.require(rule, holds)

    @property
    def whole_only(self) -> str:
        if self.normalize:
            return "normalize=True divides by the loudness of the whole recording"
        return super().whole_only

    def encode(
        self,
        params: dict[str, Params],
        x: Float[Array, "b *size c"],
        width: int,
        mask: Mask = None,
    ) -> Float[Array, "b *grid w"]:
        if self.normalize:
            x = x / loudness(x, mask)[:, None, None]
        return super().encode(params, x, width, mask)

    def decode(
        self,
        params: dict[str, Params],
        z: Float[Array, "b *grid d"],
        channels: int,
        mask: Mask = None,
    ) -> Float[Array, "b *size c"]:
        x = super().decode(params, z, channels, mask)
        return x * LOUDNESS if self.normalize else x

    def encoder_stages(self, width: int) -> list[Stage]:
        front = self.stage("front", *self.encoder_steps())
        middle = self._middle(self.channels * 2 ** len(self.strides))
        return [front, *middle, self.stage("back", self.last(width, True))]

    def decoder_stages(self, channels: int) -> list[Stage]:
        front = self.stage("front", self.first())
        back = self.stage("back", *self.decoder_steps(), self.last(channels, False), is_end=True)
        return [front, *self._middle(self.widest), back]

    def _middle(self, width: int) -> list[Stage]:
        if self.middle == "lstm":
            return [Stage(LSTM(self.layers, name="lstm"), is_recurrent=True)]
        if self.middle == "attention":
            sizes = self.layers, self.heads, self.window, 4 * width
            return [Stage(CausalTransformer(*sizes, name="transformer"), is_recurrent=True)]
        return []


class Mimi(ConvCodec):
    """The encoder and decoder of Mimi; the defaults are those of the published 24 kHz model.

    The encoder ends in a causal transformer and a convolution of stride `token_stride`; the decoder
    begins with a transposed convolution of this stride and a causal transformer. Both transformers
    have the width of the encoder's output.

    Attributes:
        token_stride: factor by which the convolution after the transformer reduces the rate.
        layers: layers of each transformer.
        heads: attention heads.
        window: number of positions to which a position attends.
        hidden: width of the MLPs of the transformers.
        base: base of the rotary frequencies, base^(-2 i / d) for channel pair i of a head of width
            d.
        layer_scale: initial value of the learned scales of the transformers' residual branches.
        epsilon: added to the variance in the norms of the transformers.
        token_groups: groups of channels of the transposed convolution of stride `token_stride`; 0
            for one per channel.
        trim_right: fraction of the surplus outputs of a transposed convolution that are trimmed at
            the end; the other surplus outputs are trimmed at the start.
    """

    channels: int = 64
    strides: tuple[int, ...] = (4, 5, 6, 8)
    last_width: tuple[int, int] = (3, 3)
    conv_shortcut: bool = False
    padding: Padding = "constant"
    norm: Norm = "none"
    token_stride: int = 2
    layers: int = 8
    heads: int = 8
    window: int = 250
    hidden: int = 2048
    base: float = 1e4
    layer_scale: float = 0.01
    epsilon: float = 1e-5
    token_groups: int = 0
    trim_right: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for field in ("token_stride", "layers", "heads", "window", "hidden"):
            self.require(f"{field} >= 1", getattr(self, field) >= 1)
        self.require("token_groups >= 0", self.token_groups >= 0)
        self.require("trim_right in [0, 1]", 0.0 <= self.trim_right <= 1.0)
        self.require("trim_right = 1 unless causal=True", self.causal or self.trim_right == 1.0)

    @property
    def downsampling(self) -> int:
        return super().downsampling * self.token_stride

    @property
    def reason(self) -> str:
        return f"{super().reason}, {self.token_stride}"

    def encoder_stages(self, width: int) -> list[Stage]:
        self._check(width)
        front = self.stage("front", *self.encoder_steps(), self.last(width, True))
        return [front, self._transformer(), self._resampling(width, is_up=False)]

    def decoder_stages(self, channels: int) -> list[Stage]:
        steps = self.first(), *self.decoder_steps(), self.last(channels, False)
        back = self.stage("back", *steps, is_end=True)
        return [self._resampling(0, is_up=True), self._transformer(), back]

    def _transformer(self) -> Stage:
        module = CausalTransformer(
            self.layers,
            self.heads,
            self.window,
            self.hidden,
            base=self.base,
            scale=self.layer_scale,
            epsilon=self.epsilon,
            name="transformer",
        )
        return Stage(module, is_recurrent=True)

    def _resampling(self, width: int, is_up: bool) -> Stage:
        stride, later = self.token_stride, 0 if self.is_causal else 2 * self.token_stride
        module = _Resampling(self, width, is_up, name="up" if is_up else "down")
        rate = Fraction(stride) if is_up else Fraction(1, stride)
        return Stage(module, 2 * stride, later, rate)

    def _check(self, width: int) -> None:
        if width % (2 * self.heads):
            raise ValueError(
                f"Mimi's transformers have {self.heads} heads of even width, so the width of its "
                f"latents must be a multiple of {2 * self.heads}, got {width}"
            )


class _Resampling(nn.Module):
    config: Mimi
    width: int
    is_up: bool

    @nn.compact
    def __call__(
        self, x: Float[Array, "b n c"], length: Length = None
    ) -> tuple[Float[Array, "b m e"], Length]:
        config, stride = self.config, self.config.token_stride
        common = {"causal": config.causal, "bias": False, "name": "conv"}
        if not self.is_up:
            conv = Conv1d(self.width, 2 * stride, stride, padding="replicate", **common)
            return conv(x, length)
        groups = config.token_groups or x.shape[-1]
        conv = ConvTranspose1d(
            x.shape[-1], 2 * stride, stride, groups, trim_right=config.trim_right, **common
        )
        return conv(x, length)


def loudness(x: Float[Array, "b n c"], mask: Mask = None) -> Float[Array, " b"]:
    """Returns the root mean square of every recording, mixed to mono, plus 1e-8."""
    power = jnp.mean(x, axis=-1) ** 2
    if mask is None:
        mean = jnp.mean(power, axis=1)
    else:
        mean = jnp.sum(jnp.where(mask, power, 0.0), 1) / jnp.maximum(jnp.sum(mask, 1), 1)
    return jnp.sqrt(mean) + 1e-8
