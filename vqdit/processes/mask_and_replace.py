"""Mask-and-replace diffusion over codes: most noise is the mask, the rest is any code.

    alpha(t) = 1 - n(t),        gamma(t) = m n(t),        K beta(t) = (1 - m) n(t).

The random codes teach the network to doubt what it sees. Gu et al., "Vector Quantized Diffusion
Model for Text-to-Image Synthesis" (VQ-Diffusion), arXiv:2111.14822, has T = 100 steps with n
linear, and m = 0.9. Its released code goes from alpha = 0.99999, gamma = 9e-6 to alpha = 9e-6,
gamma = 0.99999, so that K beta is 1e-6 throughout: m = 0.999999 is that schedule, which is all but
`Masked`. In continuous time alpha(0) = 1 and alpha(1) = 0 exactly, and the sum over steps is an
integral.
"""

from vqdit.processes.replacing import Replacing


class MaskAndReplace(Replacing):
    """Diffusion by masks and uniform noise over codes.

    Attributes:
        mask: m in (0, 1), the share of the noise that is mask.
        auxiliary: 0.1 is VQ-Diffusion's 1e-3 in each of its 100 steps.
    """

    mask: float = 0.9
    auxiliary: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 < self.mask < 1.0:
            raise ValueError(
                f"MaskAndReplace needs mask in (0, 1), got {self.mask}; use UniformState for 0 and "
                "Masked for 1"
            )

    @property
    def mask_share(self) -> float:
        return self.mask
