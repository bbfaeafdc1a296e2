"""Learned weights: a loss counts by how well it can be known at its time.

    L = l / exp(u(t)) + u(t),    at its least where exp(u(t)) = E[l | t].

Times at which little can be known no longer drown the others, and no weighting has to be found by
hand. Karras et al., "Analyzing and Improving the Training Dynamics of Diffusion Models" (EDM2),
arXiv:2312.02696, eqs. 21 and 22, with u linear in a sinusoid of t.
"""

import jax.numpy as jnp

from vqdit.nn.embeddings import sinusoid
from vqdit.processes.base import TIME_SCALE
from vqdit.typing import Array, Float

WIDTH = 128
"""Of the sinusoid of t."""


def blank() -> Float[Array, " d"]:
    """Returns parameters with which u is 0 everywhere: every loss has weight 1."""
    return jnp.zeros(WIDTH)


def log_expected(weights: Float[Array, " d"], t: Float[Array, "*b"]) -> Float[Array, "*b"]:
    """Returns u(t), the logarithm of the loss that is expected at t in [0, 1]."""
    return sinusoid(TIME_SCALE * t, WIDTH) @ weights


def weighted(
    weights: Float[Array, " d"], losses: Float[Array, "b l"], t: Float[Array, "b #l"]
) -> Float[Array, "b l"]:
    """Returns L of losses at their times; its gradient reaches both.

    What is known (t = 0) has no loss to expect, and is left as it is: u would fall without end.
    """
    u = log_expected(weights, t)
    return jnp.where(t > 0.0, losses * jnp.exp(-u) + u, losses)
