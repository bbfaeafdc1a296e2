"""What keeps continuous latents near a known distribution, where a quantizer would make codes.

The encoder gives mean and log variance of a normal posterior q(z|x) of every latent element, and

    KL(q | N(0, 1)) = 1/2 sum (mean^2 + var - 1 - log var).

Kingma & Welling, "Auto-Encoding Variational Bayes", arXiv:1312.6114, appendix B; with a very small
weight, as in Rombach et al., "Latent Diffusion Models", arXiv:2112.10752, section 3.1.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from vqdit.typing import Array, Component, Float, Key

LOG_VARIANCE = (-30.0, 20.0)
"""The log variance is clipped to this range, as published."""


class Posterior(NamedTuple):
    """A normal distribution of every latent element."""

    mean: Float[Array, "*b d"]
    log_variance: Float[Array, "*b d"]


class KL(Component):
    """A normal posterior, pulled towards N(0, 1).

    Attributes:
        dim: width d of the latents; the encoder gives 2 d channels.
        weight: of the divergence, summed over an example's latents, beside the reconstruction's
            error, summed over its data; as in Rombach et al.
    """

    dim: int = 4
    weight: float = 1e-6

    def __post_init__(self) -> None:
        if self.dim < 1 or self.weight < 0.0:
            raise ValueError(f"KL needs dim >= 1 and weight >= 0, got {self.dim}, {self.weight}")

    def posterior(self, moments: Float[Array, "*b m"]) -> Posterior:
        """Returns the posterior of the encoder's output, whose m = 2 d channels are its moments.

        Raises:
            ValueError: there are not 2 d channels.
        """
        if moments.shape[-1] != 2 * self.dim:
            raise ValueError(
                f"KL(dim={self.dim}) takes {2 * self.dim} channels, mean and log variance; "
                f"the encoder gave {moments.shape[-1]}"
            )
        mean, log_variance = jnp.split(moments.astype(jnp.float32), 2, axis=-1)
        return Posterior(mean, jnp.clip(log_variance, *LOG_VARIANCE))

    def sample(self, posterior: Posterior, key: Key[Array, ""]) -> Float[Array, "*b d"]:
        """Draws mean + std * noise, through which gradients reach both moments."""
        noise = jax.random.normal(key, posterior.mean.shape)
        return posterior.mean + jnp.exp(0.5 * posterior.log_variance) * noise

    def loss(self, posterior: Posterior) -> Float[Array, " b"]:
        """Returns the divergence from N(0, 1) of each example in nats, summed over its elements."""
        mean, log_variance = posterior
        terms = mean**2 + jnp.exp(log_variance) - 1.0 - log_variance
        return 0.5 * jnp.sum(terms, axis=tuple(range(1, mean.ndim)))
