"""VQGAN+: the VQGAN without attention, with as many blocks in the decoder as in the encoder.

Weber et al., "MaskBit", arXiv:2409.16211, section 3 and table 1: what was changed, step by step,
on the way from 7.94 to 1.66 rFID. Here a block that changes its width adds a projection of its
*input*, as residual networks do; the published code projects its result.
"""

import flax.linen as nn
import jax.numpy as jnp

from vqdit.models.autoencoder import LeveledAutoencoder
from vqdit.nn.conv import Downsample, Upsample, group_norm
from vqdit.typing import Array, Float

KERNEL, POINT = (3, 3), (1, 1)


class VQGANPlus(LeveledAutoencoder):
    """The improved, symmetric VQGAN on images. Convolutions of its blocks have no bias.

    Attributes:
        channels: width of each level, from the image's resolution to the latents'; every level but
            the last ends in a halving. Published: 128 times (1, 1, 2, 2, 4).
        blocks: residual blocks per level and in the middle, of encoder and decoder alike.
        groups: of the norms; divides every width.
        dtype: precision of the convolutions; parameters and norms stay float32.
        remat: recompute each residual block in the backward pass: much less memory, a third more
            time.
    """

    channels: tuple[int, ...] = (128, 128, 256, 256, 512)
    groups: int = 32

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_groups(self.groups)

    def encoder(self, width: int) -> nn.Module:
        return _Encoder(self, width)

    def decoder(self, channels: int) -> nn.Module:
        return _Decoder(self, channels)

    def stage(self, h: Float[Array, "b h w c"], name: str, width: int) -> Float[Array, "b h w e"]:
        """Applies `blocks` blocks of one resolution; to be called within a module."""
        for number in range(self.blocks):
            fields = (width, 2, self.dtype, self.groups, False)
            h = self.block(*fields, name=f"{name}_block_{number}")(h)
        return h


class _Encoder(nn.Module):
    config: VQGANPlus
    width: int

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b y x e"]:
        config, dtype = self.config, self.config.dtype
        h = nn.Conv(config.channels[0], KERNEL, dtype=dtype, use_bias=False, name="in")(x)
        for level, channels in enumerate(config.channels):
            h = config.stage(h, f"level_{level}", channels)
            if level < len(config.channels) - 1:
                h = Downsample(channels, 2, dtype, name=f"level_{level}_down")(h)
        h = config.stage(h, "middle", config.channels[-1])
        h = nn.silu(group_norm(h, "norm", config.groups))
        return nn.Conv(self.width, POINT, name="out")(h.astype(jnp.float32))


class _Decoder(nn.Module):
    config: VQGANPlus
    channels: int

    @nn.compact
    def __call__(self, z: Float[Array, "b y x d"]) -> Float[Array, "b h w c"]:
        config, dtype = self.config, self.config.dtype
        h = nn.Conv(config.channels[-1], KERNEL, dtype=dtype, name="in")(z)
        h = config.stage(h, "middle", config.channels[-1])
        for level, channels in reversed(list(enumerate(config.channels))):
            h = config.stage(h, f"level_{level}", channels)
            if level > 0:
                h = Upsample(channels, 2, dtype, name=f"level_{level}_up")(h)
        h = nn.silu(group_norm(h, "norm", config.groups))
        return nn.Conv(self.channels, KERNEL, name="out")(h.astype(jnp.float32))
