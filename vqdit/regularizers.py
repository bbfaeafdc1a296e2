"""KL regularization of continuous latents, an alternative to a quantizer.

The encoder predicts the mean and the log variance of a normal posterior q(z|x) of every latent
element, and the regularizer is

    KL(q | N(0, 1)) = 1/2 sum (mean^2 + var - 1 - log var).

Kingma & Welling, "Auto-Encoding Variational Bayes", arXiv:1312.6114, appendix B. The weight of this
term is very small by default, as in Rombach et al., "Latent Diffusion Models", arXiv:2112.10752,
section 3.1.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from vqdit.typing import Array, Component, Float, Key

LOG_VARIANCE = (-30.0, 20.0)
"""Range to which the log variance is clipped, as published."""


class Posterior(NamedTuple):
    """An independent normal distribution for every latent element."""

    mean: Float[Array, "*b d"]
    log_variance: Float[Array, "*b d"]


class KL(Component):
    """A normal posterior, regularized towards N(0, 1).

    Attributes:
        dim: width d of the latents; the encoder has 2 d output channels.
        weight: weight w in the loss (reconstruction error) + w KL of an example. The error is
            summed over all elements of the example, and KL over all its latents, as in Rombach et
            al.
    """

    dim: int = 4
    weight: float = 1e-6

    def __post_init__(self) -> None:
        self.require("dim >= 1", self.dim >= 1)
        self.require("weight >= 0", self.weight >= 0.0)

    def posterior(self, moments: Float[Array, "*b m"]) -> Posterior:
        """Returns the posterior for the encoder's m = 2 d output channels.

        Raises:
            ValueError: if m is not 2 d.
        """
        if moments.shape[-1] != 2 * self.dim:
            raise ValueError(
                f"KL(dim={self.dim}) needs {2 * self.dim} channels, mean and log variance, but the "
                f"encoder returned {moments.shape[-1]}; change dim or the encoder's width"
            )
        mean, log_variance = jnp.split(moments.astype(jnp.float32), 2, axis=-1)
        return Posterior(mean, jnp.clip(log_variance, *LOG_VARIANCE))

    def sample(self, posterior: Posterior, key: Key[Array, ""]) -> Float[Array, "*b d"]:
        """Draws mean + std * noise, with gradients with respect to mean and log variance."""
        noise = jax.random.normal(key, posterior.mean.shape, jnp.float32)
        return posterior.mean + jnp.exp(0.5 * posterior.log_variance) * noise

    def loss(self, posterior: Posterior) -> Float[Array, " b"]:
        """Returns KL(q | N(0, 1)) of each example in nats, summed over all elements."""
        terms = _twice_kl(posterior)
        return 0.5 * jnp.sum(terms, axis=tuple(range(1, terms.ndim)))

    def each(self, posterior: Posterior) -> Float[Array, "*b"]:
        """Returns KL(q | N(0, 1)) of each latent vector in nats."""
        return 0.5 * jnp.sum(_twice_kl(posterior), axis=-1)


def _twice_kl(posterior: Posterior) -> Float[Array, "*b d"]:
    mean, log_variance = posterior
    return mean**2 + jnp.exp(log_variance) - 1.0 - log_variance
