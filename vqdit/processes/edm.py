"""EDM: noise is added to data that keep their scale, and the network sees and predicts unit scale.

    x_t = x_0 + sigma eps,      D(x_t) = c_skip x_t + c_out F(c_in x_t, c_noise),

where D estimates x_0 and F is the network. With s^2 = sigma^2 + sigma_data^2

    c_skip = sigma_data^2 / s^2,     c_out = sigma sigma_data / s,     c_in = 1 / s,
    c_noise = ln(sigma) / 4,

so F should predict (x_0 - c_skip x_t) / c_out = (sigma x_0 / sigma_data - sigma_data eps) / s. EDM
weighs the error of D by 1 / c_out^2, which makes it the mean squared error of F.

The time is t = sigma / (1 + sigma), that of `Flow` at the same signal-to-noise ratio; above
sigma_max - 1 it is sigma / sigma_max, so that it ends at 1. So ln sigma ~ N(m, std^2), from which
EDM draws in training, is LogitNormal(mean=m, std=std). Karras et al., "Elucidating the Design Space
of Diffusion-Based Generative Models", arXiv:2206.00364.
"""

import jax.numpy as jnp

from vqdit.processes.base import X
from vqdit.processes.gaussian import Gaussian
from vqdit.typing import Array, Float


class EDM(Gaussian):
    """Preconditioned denoising: alpha(t) = 1.

    The paper's data have a standard deviation of 0.5; latents of unit scale are trained alike with
    twice its sigmas: LogitNormal(mean=-0.5, std=1.2) stands for its LogitNormal(mean=-1.2,
    std=1.2).

    Attributes:
        sigma_data: standard deviation of the data.
        sigma_min: least sigma that the network is told; smaller ones, as of what is known, are told
            as this.
        sigma_max: sigma at t = 1.
    """

    sigma_data: float = 1.0
    sigma_min: float = 0.002
    sigma_max: float = 80.0

    def __post_init__(self) -> None:
        if self.sigma_data <= 0.0:
            raise ValueError(f"EDM needs sigma_data > 0, got {self.sigma_data}; 1 is usual")
        if not 0.0 < self.sigma_min < self.sigma_max:
            raise ValueError(
                "EDM needs 0 < sigma_min < sigma_max, got "
                f"sigma_min={self.sigma_min} and sigma_max={self.sigma_max}; 0.002 and 80 are usual"
            )

    def alpha(self, t: Float[Array, "*b"]) -> Float[Array, "*b"]:
        return jnp.ones_like(t)

    def sigma(self, t: Float[Array, "*b"]) -> Float[Array, "*b"]:
        return t / jnp.maximum(1.0 - t, 1.0 / self.sigma_max)

    def time_of(self, sigma: Float[Array, "*b"]) -> Float[Array, "*b"]:
        """Returns the t at which the noise has this scale, from 0 to `sigma_max`.

        The grid of n steps that Karras et al. sample with is, with rho = 7, `time_of` of
        (sigma_max^(1/rho) + i / (n - 1) (sigma_min^(1/rho) - sigma_max^(1/rho)))^rho for i from 0
        to n - 1, and then 0.
        """
        return jnp.maximum(sigma / (1.0 + sigma), sigma / self.sigma_max)

    def coefficients(self, t: Float[Array, "*b"]) -> tuple[Float[Array, "*b"], Float[Array, "*b"]]:
        sigma, scale = self.sigma(t), self._scale(t)
        return sigma / (self.sigma_data * scale), -self.sigma_data / scale

    def _scale(self, t: Float[Array, "*b"]) -> Float[Array, "*b"]:
        """Returns s, the standard deviation of x_t."""
        return jnp.sqrt(self.sigma(t) ** 2 + self.sigma_data**2)

    def network_input(self, x_t: X, t: Float[Array, "b #l"]) -> tuple[X, Float[Array, "b #l"]]:
        told = jnp.log(jnp.maximum(self.sigma(t), self.sigma_min)) / 4.0
        return x_t / self._scale(t)[..., None], told
