"""Learned loss weights: a loss at time t is divided by its expected value at t.

    L = l / exp(u(t)) + u(t),    minimal for exp(u(t)) = E[l | t].

Times with large losses then do not dominate, and no weighting must be tuned. Karras et al.,
"Analyzing and Improving the Training Dynamics of Diffusion Models" (EDM2), arXiv:2312.02696, eqs.
21 and 22, with u linear in a sinusoid of t.
"""

import jax.numpy as jnp

from vqdit.nn.embeddings import sinusoid
from vqdit.processes.base import TIME_SCALE
from vqdit.typing import Array, Float

WIDTH = 128
"""Width of the sinusoidal embedding of t."""


def blank() -> Float[Array, " d"]:
    """Returns the initial parameters, for which u(t) = 0, so all weights are 1."""
    return jnp.zeros(WIDTH, jnp.float32)


def log_expected(weights: Float[Array, " d"], t: Float[Array, "*b"]) -> Float[Array, "*b"]:
    """Returns u(t), the logarithm of the expected loss at t in [0, 1]."""
    return sinusoid(TIME_SCALE * t, WIDTH) @ weights


def weighted(
    weights: Float[Array, " d"], losses: Float[Array, "b l"], t: Float[Array, "b #l"]
) -> Float[Array, "b l"]:
    """Returns L for losses at times t, with gradients with respect to the losses and to u.

    Losses of known data (t = 0) are always 0 and are returned unchanged, as u would diverge to
    -inf.
    """
    u = log_expected(weights, t)
    return jnp.where(t > 0.0, losses * jnp.exp(-u) + u, losses)
