"""Terms of the variational bound of Gaussian processes, elementwise and in nats.

Ho et al., "Denoising Diffusion Probabilistic Models", arXiv:2006.11239, equations 5 and 13.
"""

import math

import jax.numpy as jnp

from vqdit.processes.base import Values
from vqdit.typing import Array, Float

HALF_BIN = 1.0 / 255.0
"""Half the distance between neighbouring 8-bit values in [-1, 1]."""
EDGE = 0.999
"""The bins of 8-bit values beyond +-EDGE extend to infinity."""
LEAST_PROBABILITY = 1e-12
Broadcast = Float[Array, "..."]
"""Values that broadcast to those of another argument."""


def gaussian_kl(error: Values, log_variance_q: Broadcast, log_variance_p: Broadcast) -> Values:
    """Returns KL(q || p) of normal distributions q and p whose means differ by `error`."""
    log_ratio = log_variance_q - log_variance_p
    return 0.5 * (jnp.expm1(log_ratio) - log_ratio + error**2 * jnp.exp(-log_variance_p))


def binned_log_likelihood(x: Values, mean: Values, log_variance: Broadcast) -> Values:
    """Returns the log probability of the 8-bit bin around x, a pixel in [-1, 1].

    The normal distribution function is approximated by a tanh, as in the published code.
    """
    precision = jnp.exp(-0.5 * log_variance)
    upper = jnp.where(x > EDGE, 1.0, _below(precision * (x - mean + HALF_BIN)))
    lower = jnp.where(x < -EDGE, 0.0, _below(precision * (x - mean - HALF_BIN)))
    return jnp.log(jnp.maximum(upper - lower, LEAST_PROBABILITY))


def _below(x: Values) -> Values:
    return 0.5 * (1.0 + jnp.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)))
