"""Weights of the loss as a function of the noise level.

A weighting w(snr), with snr = alpha^2 / sigma^2, is the weight of the squared error of x_0. Given
x_t, the error of eps, of v or of EDM's F is the error of x_0 times a known factor
(`Gaussian.weight`), so one weighting serves all prediction targets.
"""

import jax.numpy as jnp

from vqdit.processes.base import Values
from vqdit.typing import Component


class Weighting(Component):
    """A weight for every noise level."""

    def weight(self, alpha: Values, sigma: Values) -> Values:
        """Returns sigma^2 w(snr), which is finite at t = 0 and at t = 1."""
        raise TypeError(f"{type(self).__name__} must define the method 'weight'")


class MinSNR(Weighting):
    """w = min(snr, gamma), which limits the weight of the many easy steps with little noise.

    The weight of the error of eps is min(1, gamma / snr). If alpha^2 + sigma^2 = 1, the weight of
    the error of v is min(snr, gamma) / (snr + 1). Hang et al., "Efficient Diffusion Training via
    Min-SNR Weighting Strategy", arXiv:2303.09556.

    Attributes:
        gamma: the largest w; 5 in the paper.
    """

    gamma: float = 5.0

    def __post_init__(self) -> None:
        self.require("gamma > 0", self.gamma > 0.0, "5 is usual")

    def weight(self, alpha: Values, sigma: Values) -> Values:
        return jnp.minimum(alpha**2, self.gamma * sigma**2)


class EDMWeighting(Weighting):
    """w = snr + 1 / sigma_data^2: the weighting of EDM, for other processes.

    `EDM` with weighting=None already has this weight, because the mean squared error of F implies
    it. The same holds for the mean squared error of v, if data have unit scale and alpha^2 +
    sigma^2 = 1. Karras et al., "Elucidating the Design Space of Diffusion-Based Generative Models",
    arXiv:2206.00364, table 1.

    Attributes:
        sigma_data: standard deviation of the data; 1 for latents of unit scale.
    """

    sigma_data: float = 1.0

    def __post_init__(self) -> None:
        self.require("sigma_data > 0", self.sigma_data > 0.0, "1 is usual")

    def weight(self, alpha: Values, sigma: Values) -> Values:
        return alpha**2 + (sigma / self.sigma_data) ** 2
