"""Mask-and-replace diffusion over codes: noise is mostly the mask, otherwise random codes.

    alpha(t) = 1 - n(t),        gamma(t) = m n(t),        K beta(t) = (1 - m) n(t).

With random codes in its input, the network learns that codes may be wrong. Gu et al., "Vector
Quantized Diffusion Model for Text-to-Image Synthesis" (VQ-Diffusion), arXiv:2111.14822, use T = 100
steps with linear n, and m = 0.9. Their released code goes from alpha = 0.99999, gamma = 9e-6 to
alpha = 9e-6, gamma = 0.99999 with K beta = 1e-6 throughout; m = 0.999999 gives that schedule, which
is nearly `Masked`. Here time is continuous: alpha(0) = 1 and alpha(1) = 0 exactly, and the sum over
steps becomes an integral.
"""

from vqdit.processes.replacing import Replacing


class MaskAndReplace(Replacing):
    """Diffusion with masks and uniformly random codes.

    Attributes:
        mask: m in (0, 1), the fraction of the noise that is the mask.
        auxiliary: weight of the auxiliary loss of `Replacing`; 0.1 equals VQ-Diffusion's 1e-3 in
            each of its 100 steps.
    """

    mask: float = 0.9
    auxiliary: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        hint = "use UniformState for 0 and Masked for 1"
        self.require("mask in (0, 1)", 0.0 < self.mask < 1.0, hint)

    @property
    def mask_share(self) -> float:
        return self.mask
