"""VQGAN+: a VQGAN without attention, with as many blocks in the decoder as in the encoder.

Weber et al., "MaskBit", arXiv:2409.16211, section 3 and table 1, which lists the changes that
improve rFID from 7.94 to 1.66. One detail differs: where a residual block changes the width, the
shortcut here projects the block's *input*, as in residual networks, while the published code
projects the block's result.
"""

import flax.linen as nn
import jax.numpy as jnp

from vqdit.models.autoencoder import LeveledAutoencoder
from vqdit.nn.conv import Downsample, Upsample, group_norm
from vqdit.typing import Array, Float

KERNEL, POINT = (3, 3), (1, 1)


class VQGANPlus(LeveledAutoencoder):
    """The VQGAN+ for images. The convolutions of its residual blocks have no bias.

    Attributes:
        channels: width of each level, from the image's resolution to that of the latents. Every
            level except the last halves the resolution. Published: 128 times (1, 1, 2, 2, 4).
        blocks: residual blocks per level and in the middle, for both encoder and decoder.
        groups: number of groups of the norms; must divide every width.
        dtype: as in `LeveledAutoencoder`.
        remat: as in `LeveledAutoencoder`.
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
        """Applies the blocks of one resolution; to be called in a compact method of a module."""
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
