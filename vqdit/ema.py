"""Exponential moving average of parameters, with warm-up.

    theta' <- d theta' + (1 - d) theta,      d = min(decay, (1 + n) / (10 + n)) at step n,

so that the first steps, whose parameters are far off, are soon forgotten.
"""

import jax
import jax.numpy as jnp

from vqdit.typing import Array, Float, Int, Params


def update(average: Params, params: Params, decay: float, step: Int[Array, ""]) -> Params:
    """Returns the next average; `params` are those after the step."""
    n = step.astype(jnp.float32)
    d: Float[Array, ""] = jnp.minimum(decay, (1.0 + n) / (10.0 + n))
    return jax.tree.map(lambda mean, value: mean + (1.0 - d) * (value - mean), average, params)
