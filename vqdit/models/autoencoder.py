"""A convolutional autoencoder for one, two or three axes.

The convolutional encoder halves every axis after each level except the last; the decoder mirrors
the encoder. The architecture is that of Esser et al., "Taming Transformers" (VQGAN),
arXiv:2012.09841, appendix A, without attention.
"""

from typing import Any, Literal

import flax.linen as nn
import jax.numpy as jnp

from vqdit.models.base import Autoencoder
from vqdit.nn.conv import Downsample, Mask, ResidualBlock, Upsample, group_norm, zero_behind
from vqdit.nn.patches import fold, unfold
from vqdit.parallel.target_platform import platform
from vqdit.typing import Array, Float

NARROWEST = 16
"""Least width of the layers that interpolate, unless the first level is narrower."""
Grid = Float[Array, "b ... _"]
"""Activations on a grid with one, two or three axes."""


class LeveledAutoencoder(Autoencoder):
    """Base class of convolutional autoencoders; each level but the last halves the resolution.

    Attributes:
        channels: width of each level, from the resolution of the data to that of the latents. Every
            level except the last halves the resolution, so (64, 128, 256) reduces each axis by 4.
        blocks: number of residual blocks per level.
        dtype: precision of the convolutions; parameters and norms stay float32.
        remat: True recomputes each residual block in the backward pass, which needs much less
            memory and a third more time.
    """

    channels: tuple[int, ...] = (64, 128, 256)
    blocks: int = 2
    dtype: Literal["float32", "bfloat16"] = "float32"
    remat: bool = False

    # Constants of an architecture; a subclass overrides them, or makes them fields.
    patch = 1  # edge of the patches that are folded into channels before the first level
    groups = 0  # number of groups in group norms, see `group_norm`
    extra_blocks = 1  # additional residual blocks per level in the decoder
    use_bias = True  # bias in the first convolution and in residual blocks

    def __post_init__(self) -> None:
        has_channels = bool(self.channels) and min(self.channels) >= 1
        self.require("channels to be positive", has_channels)
        self.require("blocks >= 1", self.blocks >= 1)

    @property
    def downsampling(self) -> int:
        return 2 ** (len(self.channels) - 1)

    @property
    def reason(self) -> str:
        return f"{len(self.channels)} levels of channels"

    def check_groups(self) -> None:
        """Raises ValueError unless the number of groups of the norms divides every width."""
        self.require("groups >= 1", self.groups >= 1)
        rule = f"channels to be multiples of groups={self.groups}"
        self.require(rule, all(width % self.groups == 0 for width in self.channels))

    def encoder(self, width: int) -> nn.Module:
        return _Encoder(self, width)

    def decoder(self, channels: int) -> nn.Module:
        return _Decoder(self, channels)

    # The methods below apply layers. Compact methods of encoder and decoder call them.

    def fold(self, x: Grid) -> Grid:
        """Folds patches of the data into channels: [b, *size, c] -> [b, *size / p, p^n c].

        p is the field `patch`.
        """
        return folded(x, self.patch)

    def first(self, x: Grid, width: int, use_bias: bool = True) -> Grid:
        """Applies the first convolution of the encoder or of the decoder."""
        kernel = (3,) * (x.ndim - 2)
        return nn.Conv(width, kernel, dtype=self.dtype, use_bias=use_bias, name="in")(x)

    def down(self, h: Grid, level: int, mask: Mask = None) -> Grid:
        """Applies the layers that reduce the resolution after a level of the encoder."""
        name = f"level_{level}_down"
        return Downsample(h.shape[-1], h.ndim - 2, self.dtype, name=name)(h, mask)

    def up(self, h: Grid, level: int, mask: Mask = None) -> Grid:
        """Applies the layers that increase the resolution after a level of the decoder."""
        name = f"level_{level}_up"
        return Upsample(h.shape[-1], h.ndim - 2, self.dtype, name=name)(h, mask)

    def normalize(self, h: Grid, mask: Mask = None) -> Grid:
        """Applies the norm before the last convolutions."""
        return group_norm(h, "norm", self.groups, mask)

    def block(self, h: Grid, width: int, name: str, mask: Mask = None) -> Grid:
        """Applies a residual block."""
        cls = nn.remat(ResidualBlock) if self.remat and not platform().is_counted else ResidualBlock
        return cls(width, h.ndim - 2, self.dtype, self.groups, self.use_bias, name=name)(h, mask)

    def level(self, h: Grid, level: int, blocks: int, mask: Mask = None) -> Grid:
        """Applies the blocks of a level."""
        for number in range(blocks):
            h = self.block(h, self.channels[level], f"level_{level}_block_{number}", mask)
        return h

    def middle(self, h: Grid, mask: Mask = None) -> Grid:
        """Applies the layers between the levels and the latents. Default: no layers."""
        del mask
        return h

    def to_latents(self, h: Grid, width: int, mask: Mask = None) -> Grid:
        """Applies the last convolutions of the encoder."""
        del mask
        return nn.Conv(width, (1,) * (h.ndim - 2), name="out")(h)

    def from_latents(self, z: Grid) -> Grid:
        """Applies the first convolutions of the decoder. Default: returns z unchanged."""
        return z

    def to_data(self, h: Grid, channels: int, mask: Mask = None) -> Grid:
        """Applies the last convolution of the decoder, which makes whole patches."""
        axes = h.ndim - 2
        out = nn.Conv(channels * self.patch**axes, (3,) * axes, name="out")
        return unfolded(out(zero_behind(h, mask)), self.patch)


class _Encoder(nn.Module):
    config: LeveledAutoencoder
    width: int

    @nn.compact
    def __call__(
        self, x: Float[Array, "b *size c"], mask: Mask = None
    ) -> Float[Array, "b *grid w"]:
        config = self.config
        masks = _masks(mask, len(config.channels))
        h = config.first(config.fold(x), config.channels[0], config.use_bias)
        for level in range(len(config.channels)):
            h = config.level(h, level, config.blocks, masks[level])
            if level < len(config.channels) - 1:
                h = config.down(h, level, masks[level])
        h = nn.silu(config.normalize(config.middle(h, mask), mask))
        return config.to_latents(h.astype(jnp.float32), self.width, mask)


class _Decoder(nn.Module):
    config: LeveledAutoencoder
    channels: int

    @nn.compact
    def __call__(
        self, z: Float[Array, "b *grid d"], mask: Mask = None
    ) -> Float[Array, "b *size c"]:
        config = self.config
        masks = _masks(mask, len(config.channels))
        z = zero_behind(config.from_latents(z), mask)
        h = config.middle(config.first(z, config.channels[-1]), mask)
        for level in reversed(range(len(config.channels))):
            h = config.level(h, level, config.blocks + config.extra_blocks, masks[level])
            if level > 0:
                h = config.up(h, level, masks[level])
        h = nn.silu(config.normalize(h, masks[0])).astype(jnp.float32)
        return config.to_data(h, self.channels, masks[0])


def doubled(x: Grid) -> Grid:
    """Doubles every axis by linear interpolation, with zeros beyond the borders."""
    for axis in range(1, x.ndim - 1):
        x = jnp.repeat(x, 2, axis=axis)
        before = jnp.roll(x, 1, axis=axis)
        before = before.at[(slice(None),) * axis + (0,)].set(0.0)
        x = 0.5 * (x + before)
    return x


def _masks(mask: Mask, levels: int) -> list[Any]:
    """Returns the masks of padding at every level, from the mask at the last level."""
    if mask is None:
        return [None] * levels
    return [jnp.repeat(mask, 2**level, axis=1) for level in reversed(range(levels))]


def folded(x: Grid, patch: int) -> Grid:
    """Folds patches of a grid of n axes into channels: [b, *size, c] -> [b, *size / p, p^n c].

    p is `patch`, the edge of a patch in positions.
    """
    size = x.shape[1:-1]
    h = fold(x.reshape(len(x), -1, x.shape[-1]), size, patch)
    return h.reshape(len(x), *(edge // patch for edge in size), -1)


def unfolded(x: Grid, patch: int) -> Grid:
    """Inverts `folded`."""
    size = tuple(edge * patch for edge in x.shape[1:-1])
    return unfold(x.reshape(len(x), -1, x.shape[-1]), size, patch).reshape(len(x), *size, -1)


class ConvAutoencoder(LeveledAutoencoder):
    """A residual convolutional autoencoder for signals, images and volumes.

    The decoder has one more residual block per level than the encoder.

    Attributes:
        patch: edge of the patches that are folded into channels before the first level, which
            reduces the cost for long signals; must divide the size of the data.
        upsampling: how the decoder makes the values of a patch. "fold": one convolution makes all
            values, each with separate weights. A constant input then gives a signal with the period
            of a patch: sounds have constant tones at multiples of rate / patch. "linear": repeats
            linear interpolation by 2 and a convolution, so that a constant input gives a constant
            output, and sounds have no such tones. Pons et al., "Upsampling artifacts in neural
            audio synthesis", arXiv:2010.14356.
    """

    patch: int = 1
    upsampling: Literal["fold", "linear"] = "fold"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require("patch >= 1", self.patch >= 1)
        is_power = self.patch & (self.patch - 1) == 0
        rule = "patch to be a power of 2 with upsampling='linear'"
        self.require(rule, self.upsampling == "fold" or is_power)

    def to_data(self, h: Grid, channels: int, mask: Mask = None) -> Grid:
        if self.upsampling == "fold":
            return super().to_data(h, channels, mask)
        axes, width = h.ndim - 2, h.shape[-1]
        for number in range(self.patch.bit_length() - 1):
            width = max(width // 2, min(width, NARROWEST))
            h = doubled(zero_behind(h, mask))
            mask = None if mask is None else jnp.repeat(mask, 2, axis=1)
            conv = nn.Conv(width, (3,) * axes, dtype=self.dtype, name=f"smooth_{number}")
            h = nn.silu(conv(zero_behind(h, mask)))
        out = nn.Conv(channels, (7,) * axes, name="out")
        return out(zero_behind(h.astype(jnp.float32), mask))

    @property
    def downsampling(self) -> int:
        return self.patch * super().downsampling

    @property
    def reason(self) -> str:
        patch = f"patch {self.patch}, " if self.patch > 1 else ""
        return f"{patch}{super().reason}"
