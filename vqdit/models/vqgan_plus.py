"""VQGAN+: a VQGAN without attention, with the same number of blocks in encoder and decoder.

Weber et al., "MaskBit", arXiv:2409.16211, section 3 and table 1, which lists the changes that
improve rFID from 7.94 to 1.66. One detail differs: where a residual block changes the width, the
shortcut here projects the block's *input*, as in residual networks, while the published code
projects the block's result.
"""

from vqdit.models.autoencoder import Grid, LeveledAutoencoder
from vqdit.nn.conv import Mask


class VQGANPlus(LeveledAutoencoder):
    """The VQGAN+ for images, with `blocks` residual blocks per level and in the middle.

    The convolutions of its residual blocks have no bias. The default channels are the published
    ones.

    Attributes:
        groups: number of groups of the norms; must divide every width.
    """

    channels: tuple[int, ...] = (128, 128, 256, 256, 512)
    groups: int = 32
    extra_blocks = 0
    use_bias = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_groups()

    def middle(self, h: Grid, mask: Mask = None) -> Grid:
        for number in range(self.blocks):
            h = self.block(h, self.channels[-1], f"middle_block_{number}", mask)
        return h
