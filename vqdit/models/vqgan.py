"""VQGAN: the convolutional encoder and decoder with attention, exactly as published.

Esser et al., "Taming Transformers", arXiv:2012.09841, appendix A. With mean and log variance as
the encoder's output, it is also the autoencoder of Rombach et al., "Latent Diffusion Models",
arXiv:2112.10752. `vqdit.pretrained` loads public weights into this network.
"""

import flax.linen as nn

from vqdit.models.autoencoder import Grid, LeveledAutoencoder
from vqdit.nn.conv import AttentionBlock, Mask, zero_behind


class VQGAN(LeveledAutoencoder):
    """The published VQGAN, for images and, with attention along one axis, for signals.

    The decoder has one more residual block per level than the encoder. The default channels are the
    published ones.

    Attributes:
        attention: levels in which attention follows every block. Levels count from 0 at the image's
            resolution, or backwards from -1 at the latents' resolution. The published model with
            16-fold reduction uses the last level.
        middle_attention: True uses attention between the two middle blocks, at the latents'
            resolution.
        z_channels: width between encoder and `quant_conv`, and between `post_quant_conv` and
            decoder.
        double_z: True makes the encoder return mean and log variance (2 z_channels), for a KL
            regularizer.
        quant_conv: True maps z_channels to the codes' width and back by 1x1 convolutions. With
            False, the two widths must be equal.
        groups: number of groups of the norms; must divide every width.
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
        self.check_groups()
        self.require("z_channels >= 1", self.z_channels >= 1)
        levels = len(self.channels)
        rule = f"attention to list levels from {-levels} to {levels - 1}"
        holds = all(-levels <= level < levels for level in self.attention)
        self.require(rule, holds, "each entry of channels is a level")

    def level(self, h: Grid, level: int, blocks: int, mask: Mask = None) -> Grid:
        has_attention = level in {number % len(self.channels) for number in self.attention}
        for number in range(blocks):
            h = self.block(h, self.channels[level], f"level_{level}_block_{number}", mask)
            if has_attention:
                name = f"level_{level}_attention_{number}"
                h = AttentionBlock(self.dtype, self.groups, name=name)(h, mask)
        return h

    def middle(self, h: Grid, mask: Mask = None) -> Grid:
        h = self.block(h, h.shape[-1], "middle_block_0", mask)
        if self.middle_attention:
            h = AttentionBlock(self.dtype, self.groups, name="middle_attention")(h, mask)
        return self.block(h, h.shape[-1], "middle_block_1", mask)

    def to_latents(self, h: Grid, width: int, mask: Mask = None) -> Grid:
        axes, channels = h.ndim - 2, self.z_channels * (2 if self.double_z else 1)
        h = nn.Conv(channels, (3,) * axes, name="out")(zero_behind(h, mask))
        if self.quant_conv:
            return nn.Conv(width, (1,) * axes, name="quant_conv")(h)
        self._check("encoder gives", channels, width)
        return h

    def from_latents(self, z: Grid) -> Grid:
        if self.quant_conv:
            return nn.Conv(self.z_channels, (1,) * (z.ndim - 2), name="post_quant_conv")(z)
        self._check("decoder takes", self.z_channels, z.shape[-1])
        return z

    def _check(self, what: str, channels: int, wanted: int) -> None:
        if channels != wanted:
            raise ValueError(
                f"without quant_conv the VQGAN's {what} {channels} channels, not {wanted}; change "
                "z_channels (double_z for a KL regularizer), or use quant_conv=True"
            )
