"""DDIM: from x_t to the estimated x_0, and back to the noise of s, part of it drawn anew.

Song et al., "Denoising Diffusion Implicit Models", arXiv:2010.02502; the step is in
`vqdit.samplers.gaussian`.
"""

from vqdit.processes.base import Process
from vqdit.samplers.base import Carry
from vqdit.samplers.gaussian import GaussianSampler, denoise, gaussian
from vqdit.typing import Array, Float, Key


class DDIM(GaussianSampler):
    """Steps of DDIM.

    Attributes:
        steps: number of network evaluations; 50 is usual.
        spacing: where they lie.
        eta: in [0, 1], how much noise is drawn: 0 draws none, which is Euler; 1 as much as the
            posterior of the process has, which is DDPM's ancestral sampling.
    """

    steps: int = 50
    eta: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 <= self.eta <= 1.0:
            raise ValueError(f"DDIM needs eta in [0, 1], got {self.eta}")

    def step(
        self,
        keys: Key[Array, " b"],
        process: Process,
        prediction: Float[Array, "b l w"],
        x_t: Float[Array, "b l d"],
        t: Float[Array, ""],
        s: Float[Array, ""],
        carry: Carry,
    ) -> tuple[Float[Array, "b l d"], Carry]:
        process = gaussian(process)
        x_0, eps = process.x_0_and_eps(prediction, x_t, t)
        return denoise(keys, process, x_0, eps, t, s, self.eta), carry
