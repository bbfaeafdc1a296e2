"""Euler: first-order steps along the probability-flow ODE, optionally with added noise.

The step is linear in the variable of `ode.py`. Except for Flow with the path "gvp", it equals
DDIM's step, x_s = alpha_s x_0 + sigma_s eps. The ancestral variant steps to a time below s and adds
the missing noise, as in K. Crowson's k-diffusion; it equals DDIM with eta = 1.
"""

from vqdit.processes.base import Latents
from vqdit.samplers.base import Carry, Step
from vqdit.samplers.ddim import DDIM
from vqdit.samplers.gaussian import GaussianSampler, gaussian
from vqdit.samplers.ode import along, slope


class Euler(GaussianSampler):
    """Deterministic Euler steps along the ODE.

    Attributes:
        steps: number of network evaluations; 50 is usual.
        spacing: spacing of the times.
    """

    steps: int = 50

    def step(self, step: Step) -> tuple[Latents, Carry]:
        process = gaussian(step.process)
        direction = slope(process, step.prediction, step.x_t, step.t)
        return along(process, step.x_t, direction, step.t, step.s), step.carry


class EulerAncestral(DDIM):
    """Euler steps that add the noise of the process's posterior.

    Attributes:
        steps: number of network evaluations; 50 is usual.
        spacing: spacing of the times.
        eta: in [0, 1], scale of the added noise.
    """

    eta: float = 1.0
