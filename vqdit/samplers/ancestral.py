"""Ancestral sampling: x_s ~ p(x_s | x_t), with the mean of q(x_s | x_t, x_0) at the estimated x_0.

    x_s = alpha_s x_0 + (alpha_t / alpha_s) (sigma_s^2 / sigma_t) eps + sqrt(v) z,

v being the variance of the process: that of the posterior q, or what the network has learned. Ho
et al., "Denoising Diffusion Probabilistic Models", arXiv:2006.11239, eq. 6 and 11; Nichol &
Dhariwal, "Improved DDPM", arXiv:2102.09672.
"""

import jax.numpy as jnp

from vqdit.processes.base import Process
from vqdit.random import normal
from vqdit.samplers.base import Carry
from vqdit.samplers.gaussian import GaussianSampler, gaussian
from vqdit.typing import Array, Float, Key


class Ancestral(GaussianSampler):
    """The sampler of DDPM.

    Attributes:
        steps: number of network evaluations; 250 are usual.
        spacing: where they lie; Respaced for the grids of published tables.
    """

    steps: int = 250

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
        alpha_s, sigma_s = process.alpha(s), process.sigma(s)
        mean = alpha_s * x_0
        mean = mean + process.alpha(t) / alpha_s * sigma_s**2 / process.sigma(t) * eps
        std = jnp.exp(0.5 * process.log_variance(prediction, t, s))
        return jnp.where(s > 0.0, mean + std * normal(keys, mean.shape[1:]), mean), carry
