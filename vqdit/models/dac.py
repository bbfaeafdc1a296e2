"""The network of DAC: Snake activations, and residual blocks of increasing dilation.

Kumar et al., "High-Fidelity Audio Compression with Improved RVQGAN", arXiv:2306.06546, section 3.
`vqdit.pretrained` loads public weights into it.
"""

from typing import Literal

from vqdit.models.conv_codec import ConvCodec
from vqdit.nn.conv1d import Norm, Padding


class DAC(ConvCodec):
    """The encoder and decoder of DAC; the defaults are those of the published 44.1 kHz model.

    Silence is appended to recordings to fill the last token.

    Attributes:
        cut_odd: whether transposed convolutions with an odd stride omit their last output, as in
            the published code. The last samples of a recording are then less accurate.
        bounded: whether the decoder ends in tanh.
    """

    channels: int = 64
    decoder_channels: int = 1536
    strides: tuple[int, ...] = (2, 4, 8, 8)
    blocks: int = 3
    dilation: int = 3
    compress: int = 1
    last_width: tuple[int, int] = (3, 7)
    block_width: int = 7
    conv_shortcut: bool = False
    causal: bool = False
    padding: Padding = "constant"
    norm: Norm = "weight_norm"
    activation: Literal["snake", "elu"] = "snake"
    cut_odd: bool = False
    bounded: bool = True

    @property
    def fills_tokens(self) -> bool:
        return True
