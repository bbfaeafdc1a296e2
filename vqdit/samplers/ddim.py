"""DDIM: estimates x_0 from x_t, and adds the noise of time s, of which a part is newly drawn.

Song et al., "Denoising Diffusion Implicit Models", arXiv:2010.02502; the formula is in
`vqdit.samplers.gaussian`.
"""

from vqdit.processes.base import Latents
from vqdit.samplers.base import Carry, Step
from vqdit.samplers.gaussian import GaussianSampler, denoise, gaussian


class DDIM(GaussianSampler):
    """DDIM steps.

    Attributes:
        steps: number of network evaluations; 50 is usual.
        spacing: spacing of the times.
        eta: in [0, 1], scale of the newly drawn noise: 0 draws none (an Euler step), 1 draws the
            noise of the process's posterior (DDPM's ancestral sampling).
    """

    steps: int = 50
    eta: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require("eta in [0, 1]", 0.0 <= self.eta <= 1.0)

    def step(self, step: Step) -> tuple[Latents, Carry]:
        process = gaussian(step.process)
        x_0, eps = process.x_0_and_eps(step.prediction, step.x_t, step.t)
        return denoise(step.keys, process, x_0, eps, step.t, step.s, self.eta), step.carry
