"""Formulas shared by samplers of Gaussian processes.

A prediction gives estimates of x_0 and of eps (see `vqdit.processes.gaussian`). With
lambda = log(alpha / sigma) and h = lambda_s - lambda_t, so that e^-h = sigma_s alpha_t / (alpha_s
sigma_t), a step that draws noise of variance v = eta^2 sigma_s^2 (1 - e^-2h) is

    x_s = alpha_s x_0 + sqrt(sigma_s^2 - v) eps + sqrt(v) z,      z ~ N(0, I).

eta = 1 is the posterior of the process; eta = 0 adds no noise and is a first-order step along the
ODE. Song et al., "Denoising Diffusion Implicit Models", arXiv:2010.02502, eq. 12.
"""

import jax.numpy as jnp

from vqdit.processes.base import Latents, Process
from vqdit.processes.gaussian import Gaussian
from vqdit.random import normal
from vqdit.samplers.base import Sampler
from vqdit.samplers.spacing import Even, Spacing
from vqdit.typing import Array, Float, Key

LEAST = 1e-30
"""Lower bound of alpha and sigma in logarithms; they can be 0 at an end of a process."""


class GaussianSampler(Sampler):
    """A sampler of Gaussian processes, such as DDPM and Flow.

    Attributes:
        steps: number of steps.
        spacing: spacing of the times.
    """

    spacing: Spacing = Even()

    def check(self, process: Process) -> None:
        if not isinstance(process, Gaussian):
            raise ValueError(
                f"{type(self).__name__} runs Gaussian processes (Flow, DDPM), got "
                f"{type(process).__name__}; use Unmasking for codes"
            )
        self.spacing.check(process)

    def times(self, process: Process, times: Float[Array, " times"]) -> Float[Array, " times"]:
        return self.spacing.times(gaussian(process), times)


def gaussian(process: Process) -> Gaussian:
    """Casts a process that `GaussianSampler.check` accepted to `Gaussian`."""
    if not isinstance(process, Gaussian):
        raise TypeError(
            f"this sampler needs a Gaussian process (Flow, DDPM), got {type(process).__name__}"
        )
    return process


def log_snr(process: Gaussian, t: Float[Array, "*b"]) -> Float[Array, "*b"]:
    """Returns lambda = log(alpha / sigma), finite at both ends."""
    alpha, sigma = jnp.maximum(process.alpha(t), LEAST), jnp.maximum(process.sigma(t), LEAST)
    return jnp.log(alpha) - jnp.log(sigma)


def denoise(
    keys: Key[Array, " b"],
    process: Gaussian,
    x_0: Latents,
    eps: Latents,
    t: Float[Array, ""],
    s: Float[Array, ""],
    eta: float,
) -> Latents:
    """Returns x_s by the formula above."""
    alpha_s, sigma_s = process.alpha(s), process.sigma(s)
    if eta == 0.0:
        return alpha_s * x_0 + sigma_s * eps
    ratio = sigma_s * process.alpha(t) / (alpha_s * process.sigma(t))  # e^-h, 0 where s = 0
    v = eta**2 * sigma_s**2 * (1.0 - ratio**2)
    return (
        alpha_s * x_0 + jnp.sqrt(sigma_s**2 - v) * eps + jnp.sqrt(v) * normal(keys, x_0.shape[1:])
    )
