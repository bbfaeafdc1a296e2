"""Uniform-state diffusion over codes: noise is a uniformly random code; there is no mask.

    q(x_t = y | x_0) = (1 - n(t)) [y = x_0] + n(t) / K.

Generation may change a code at every step and so correct mistakes. The network does not know which
codes are noise. Austin et al. (D3PM), arXiv:2107.03006; in continuous time Schiff et al. (UDLM),
arXiv:2412.10193, and Sahoo et al., "The Diffusion Duality", arXiv:2506.10892.
"""

from vqdit.processes.replacing import Replacing


class UniformState(Replacing):
    """Diffusion with uniformly random codes."""

    @property
    def mask_share(self) -> float:
        return 0.0
