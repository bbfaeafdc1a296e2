"""How much errors count at different amounts of noise.

With the signal-to-noise ratio snr = alpha^2 / sigma^2, a weighting w(snr) is that of the squared
error of x_0. Whatever the network predicts, x_t is known, so the error of the prediction is that of
x_0 times a factor (`Gaussian.weight`): one weighting serves eps, x_0, v and F alike.
"""

import jax.numpy as jnp

from vqdit.typing import Array, Component, Float


class Weighting(Component):
    """A weight for every amount of noise."""

    def weight(self, alpha: Float[Array, "*b"], sigma: Float[Array, "*b"]) -> Float[Array, "*b"]:
        """Returns sigma^2 w(snr), which is finite at both ends."""
        raise TypeError(f"{type(self).__name__} must define weight")


class MinSNR(Weighting):
    """w = min(snr, gamma): steps of little noise, which are many and easy, do not outweigh others.

    So the error of eps has min(1, gamma / snr), that of v, if alpha^2 + sigma^2 = 1, has
    min(snr, gamma) / (snr + 1). Hang et al., "Efficient Diffusion Training via Min-SNR Weighting
    Strategy", arXiv:2303.09556.

    Attributes:
        gamma: the largest w; 5 in the paper.
    """

    gamma: float = 5.0

    def __post_init__(self) -> None:
        if self.gamma <= 0.0:
            raise ValueError(f"MinSNR needs gamma > 0, got {self.gamma}; 5 is usual")

    def weight(self, alpha: Float[Array, "*b"], sigma: Float[Array, "*b"]) -> Float[Array, "*b"]:
        return jnp.minimum(alpha**2, self.gamma * sigma**2)


class EDMWeighting(Weighting):
    """w = snr + 1 / sigma_data^2: the weighting of EDM, for other processes.

    EDM itself has it without being told: it is what the mean squared error of F amounts to. Of a
    process with alpha^2 + sigma^2 = 1 that predicts v, so it is with data of unit scale. Karras et
    al., "Elucidating the Design Space of Diffusion-Based Generative Models", arXiv:2206.00364,
    table 1.

    Attributes:
        sigma_data: standard deviation of the data; latents are of unit scale.
    """

    sigma_data: float = 1.0

    def __post_init__(self) -> None:
        if self.sigma_data <= 0.0:
            raise ValueError(
                f"EDMWeighting needs sigma_data > 0, got {self.sigma_data}; 1 is usual"
            )

    def weight(self, alpha: Float[Array, "*b"], sigma: Float[Array, "*b"]) -> Float[Array, "*b"]:
        return alpha**2 + (sigma / self.sigma_data) ** 2
