"""Ancestral sampling: x_s ~ p(x_s | x_t), with the mean of q(x_s | x_t, x_0) at the estimated x_0.

    x_s = alpha_s x_0 + (alpha_t / alpha_s) (sigma_s^2 / sigma_t) eps + sqrt(v) z,

where z ~ N(0, I), and v is the variance of the posterior q or, if the network learned it, the
predicted variance. Ho et al., "Denoising Diffusion Probabilistic Models", arXiv:2006.11239, eq. 6
and 11; Nichol & Dhariwal, "Improved DDPM", arXiv:2102.09672.
"""

import jax.numpy as jnp

from vqdit.processes.base import Latents
from vqdit.random import normal
from vqdit.samplers.base import Carry, Step
from vqdit.samplers.gaussian import GaussianSampler, gaussian


class Ancestral(GaussianSampler):
    """The sampler of DDPM.

    Attributes:
        steps: number of network evaluations; 250 are usual.
        spacing: spacing of the times; `Respaced` gives the times that published results of DDPMs
            use.
    """

    steps: int = 250

    def step(self, step: Step) -> tuple[Latents, Carry]:
        process, t, s = gaussian(step.process), step.t, step.s
        x_0, eps = process.x_0_and_eps(step.prediction, step.x_t, t)
        alpha_s, sigma_s = process.alpha(s), process.sigma(s)
        mean = alpha_s * x_0
        mean = mean + process.alpha(t) / alpha_s * sigma_s**2 / process.sigma(t) * eps
        std = jnp.exp(0.5 * process.log_variance(step.prediction, t, s))
        x_s = jnp.where(s > 0.0, mean + std * normal(step.keys, mean.shape[1:]), mean)
        return x_s, step.carry
