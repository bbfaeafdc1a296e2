"""VQGAN: the convolutional encoder and decoder with attention, exactly as published.

Esser et al., "Taming Transformers", arXiv:2012.09841, appendix A. With mean and log variance as
the encoder's output, it is also the autoencoder of Rombach et al., "Latent Diffusion Models",
arXiv:2112.10752. `vqdit.pretrained` loads public weights into this network.
"""

import flax.linen as nn
import jax.numpy as jnp

from vqdit.models.autoencoder import LeveledAutoencoder
from vqdit.nn.conv import AttentionBlock, Downsample, Upsample, group_norm
from vqdit.typing import Array, Float

KERNEL, POINT = (3, 3), (1, 1)


class VQGAN(LeveledAutoencoder):
    """The published VQGAN for images.

    Attributes:
        channels: width of each level, from the image's resolution to that of the latents. Every
            level except the last halves the resolution. Published: 128 times (1, 1, 2, 2, 4).
        blocks: residual blocks per level of the encoder; the decoder has one more per level.
        attention: levels in which attention follows every block, counted from 0 at the image's
            resolution or from -1 at the latents'. Published for 16-fold reduction: the last level.
        middle_attention: use attention between the two middle blocks, at the latents' resolution.
        z_channels: width between encoder and `quant_conv`, and between `post_quant_conv` and
            decoder.
        double_z: the encoder returns mean and log variance (2 z_channels), for a KL regularizer.
        quant_conv: use 1x1 convolutions to map z_channels to the codes' width and back. Without
            them, the two widths must be equal.
        groups: number of groups of the norms; must divide every width.
        dtype: precision of the convolutions and of attention; parameters and norms stay float32.
        remat: as in `LeveledAutoencoder`.
    """

    channels: tuple[int, ...] = (128, 128, 256, 256, 512)
    attention: tuple[int, ...] = (-1,)
    middle_attention: bool = True
    z_channels: int = 256
    double_z: bool = False
    quant_conv: bool = True
    groups: int = 32

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_groups(self.groups)
        if self.z_channels < 1:
            raise ValueError(f"VQGAN needs z_channels >= 1, got {self.z_channels}")
        levels = len(self.channels)
        if any(not -levels <= level < levels for level in self.attention):
            raise ValueError(
                f"VQGAN has {levels} levels, one per entry of channels, so attention needs "
                f"levels from {-levels} to {levels - 1}, got {self.attention}"
            )

    def encoder(self, width: int) -> nn.Module:
        return _Encoder(self, width)

    def decoder(self, channels: int) -> nn.Module:
        return _Decoder(self, channels)

    def level(self, h: Float[Array, "b h w c"], level: int, blocks: int) -> Float[Array, "b h w e"]:
        """Applies the blocks of a level; to be called in a compact method of a module."""
        width = self.channels[level]
        has_attention = level in {number % len(self.channels) for number in self.attention}
        for number in range(blocks):
            name = f"level_{level}_block_{number}"
            h = self.block(width, 2, self.dtype, self.groups, name=name)(h)
            if has_attention:
                name = f"level_{level}_attention_{number}"
                h = AttentionBlock(self.dtype, self.groups, name=name)(h)
        return h

    def middle(self, h: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """Applies the middle blocks; to be called in a compact method of a module."""
        block = self.block
        h = block(h.shape[-1], 2, self.dtype, self.groups, name="middle_block_0")(h)
        if self.middle_attention:
            h = AttentionBlock(self.dtype, self.groups, name="middle_attention")(h)
        return block(h.shape[-1], 2, self.dtype, self.groups, name="middle_block_1")(h)


class _Encoder(nn.Module):
    config: VQGAN
    width: int

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b y x e"]:
        config, dtype = self.config, self.config.dtype
        h = nn.Conv(config.channels[0], KERNEL, dtype=dtype, name="in")(x)
        for level, channels in enumerate(config.channels):
            h = config.level(h, level, config.blocks)
            if level < len(config.channels) - 1:
                h = Downsample(channels, 2, dtype, name=f"level_{level}_down")(h)
        h = nn.silu(group_norm(config.middle(h), "norm", config.groups))
        channels = config.z_channels * (2 if config.double_z else 1)
        h = nn.Conv(channels, KERNEL, name="out")(h.astype(jnp.float32))
        if config.quant_conv:
            return nn.Conv(self.width, POINT, name="quant_conv")(h)
        _require("encoder gives", channels, self.width)
        return h


class _Decoder(nn.Module):
    config: VQGAN
    channels: int

    @nn.compact
    def __call__(self, z: Float[Array, "b y x d"]) -> Float[Array, "b h w c"]:
        config, dtype = self.config, self.config.dtype
        if config.quant_conv:
            z = nn.Conv(config.z_channels, POINT, name="post_quant_conv")(z)
        else:
            _require("decoder takes", config.z_channels, z.shape[-1])
        h = config.middle(nn.Conv(config.channels[-1], KERNEL, dtype=dtype, name="in")(z))
        for level, channels in reversed(list(enumerate(config.channels))):
            h = config.level(h, level, config.blocks + 1)
            if level > 0:
                h = Upsample(channels, 2, dtype, name=f"level_{level}_up")(h)
        h = nn.silu(group_norm(h, "norm", config.groups))
        return nn.Conv(self.channels, KERNEL, name="out")(h.astype(jnp.float32))


def _require(what: str, channels: int, wanted: int) -> None:
    if channels != wanted:
        raise ValueError(
            f"without quant_conv the VQGAN's {what} {channels} channels, not {wanted}; change "
            "z_channels (double_z for a KL regularizer), or use quant_conv=True"
        )
