"""Means over what is real, where a batch is padded or an example lacks something."""

import jax.numpy as jnp

from vqdit.typing import Array, Bool, Float


def masked_mean(values: Float[Array, "*b"], mask: Bool[Array, "*b"] | None) -> Float[Array, ""]:
    """Returns the mean of the values where the mask is true; 0 if it is nowhere.

    Args:
        values: of any shape; what is masked may be anything, even NaN.
        mask: of that shape; None: all are real.
    """
    if mask is None:
        return jnp.mean(values)
    return jnp.sum(jnp.where(mask, values, 0.0)) / jnp.maximum(jnp.sum(mask), 1)


def mean_weights(mask: Bool[Array, "*b"] | None, count: int) -> Float[Array, " n"]:
    """Returns the weights in one list that sum to 1 over what is real; all 0 if nothing is.

    Args:
        mask: None: all `count` are real.
        count: of the values.
    """
    if mask is None:
        return jnp.full(count, 1.0 / count)
    weights = mask.reshape(-1).astype(jnp.float32)
    return weights / jnp.maximum(jnp.sum(weights), 1.0)
