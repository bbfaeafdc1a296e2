"""Uniform-state diffusion over codes: noise is any code, each as likely; there is no mask.

    q(x_t = y | x_0) = (1 - n(t)) [y = x_0] + n(t) / K.

A code may change at every step of generation, so that mistakes can be mended, and the network is
not told which codes are noise. Austin et al. (D3PM), arXiv:2107.03006; in continuous time Schiff
et al. (UDLM), arXiv:2412.10193; Sahoo et al., "The Diffusion Duality", arXiv:2506.10892.
"""

from vqdit.processes.replacing import Replacing


class UniformState(Replacing):
    """Diffusion by uniform noise over codes."""

    @property
    def mask_share(self) -> float:
        return 0.0
