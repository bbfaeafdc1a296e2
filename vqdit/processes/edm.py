"""EDM: adds noise to unscaled data; preconditioning gives inputs and targets unit scale.

    x_t = x_0 + sigma eps,      D(x_t) = c_skip x_t + c_out F(c_in x_t, c_noise),

where D estimates x_0 and F is the network. With s^2 = sigma^2 + sigma_data^2

    c_skip = sigma_data^2 / s^2,     c_out = sigma sigma_data / s,     c_in = 1 / s,
    c_noise = ln(sigma) / 4,

so the target of F is (x_0 - c_skip x_t) / c_out = (sigma x_0 / sigma_data - sigma_data eps) / s.
EDM weights the squared error of D by 1 / c_out^2, so its loss is the mean squared error of F.

The time is t = sigma / (1 + sigma), at which `Flow` has the same signal-to-noise ratio; for sigma
above sigma_max - 1 it is sigma / sigma_max, so that it ends at 1. EDM's training distribution ln
sigma ~ N(m, std^2) is therefore LogitNormal(mean=m, std=std). Karras et al., "Elucidating the
Design Space of Diffusion-Based Generative Models", arXiv:2206.00364.
"""

import jax.numpy as jnp

from vqdit.processes.base import NetworkInput, Time, Values, X
from vqdit.processes.gaussian import Gaussian


class EDM(Gaussian):
    """Preconditioned denoising: alpha(t) = 1.

    The paper's data have a standard deviation of 0.5. Latents of unit scale need sigmas twice as
    large: LogitNormal(mean=-0.5, std=1.2) corresponds to LogitNormal(mean=-1.2, std=1.2) in the
    paper.

    Attributes:
        sigma_data: standard deviation of the data.
        sigma_min: lower bound of the sigma that the network embeds, also for known data (sigma 0).
        sigma_max: sigma at t = 1.
    """

    sigma_data: float = 1.0
    sigma_min: float = 0.002
    sigma_max: float = 80.0

    def __post_init__(self) -> None:
        self.require("sigma_data > 0", self.sigma_data > 0.0, "1 is usual")
        rule = f"sigma_min in (0, sigma_max={self.sigma_max})"
        self.require(rule, 0.0 < self.sigma_min < self.sigma_max, "0.002 and 80 are usual")

    def alpha(self, t: Values) -> Values:
        return jnp.ones_like(t)

    def sigma(self, t: Values) -> Values:
        return t / jnp.maximum(1.0 - t, 1.0 / self.sigma_max)

    def time_of(self, sigma: Values) -> Values:
        """Returns the t of a sigma in [0, `sigma_max`]: the inverse of `sigma`.

        The sampling grid of n steps of Karras et al. is, with rho = 7, `time_of` of
        (sigma_max^(1/rho) + i / (n - 1) (sigma_min^(1/rho) - sigma_max^(1/rho)))^rho for i from 0
        to n - 1, and then 0.
        """
        return jnp.maximum(sigma / (1.0 + sigma), sigma / self.sigma_max)

    def coefficients(self, t: Values) -> tuple[Values, Values]:
        sigma, scale = self.sigma(t), self._scale(t)
        return sigma / (self.sigma_data * scale), -self.sigma_data / scale

    def _scale(self, t: Values) -> Values:
        """Returns s, the standard deviation of x_t."""
        return jnp.sqrt(self.sigma(t) ** 2 + self.sigma_data**2)

    def network_input(self, x_t: X, t: Time) -> NetworkInput:
        c_noise = jnp.log(jnp.maximum(self.sigma(t), self.sigma_min)) / 4.0
        return NetworkInput(x_t / self._scale(t)[..., None], c_noise)
