"""Means over real values where a batch is padded or an example lacks a modality."""

import jax.numpy as jnp

from vqdit.typing import Array, Bool, Float


def masked_mean(values: Float[Array, "*b"], mask: Bool[Array, "*b"] | None) -> Float[Array, ""]:
    """Returns the mean of the values where the mask is true; 0 if it is true nowhere.

    Args:
        values: of any shape; masked values may be anything, even NaN.
        mask: of the same shape; None if all values are real.
    """
    if mask is None:
        return jnp.mean(values)
    return jnp.sum(jnp.where(mask, values, 0.0)) / jnp.maximum(jnp.sum(mask), 1)


def mean_weights(mask: Bool[Array, "*b"] | None, count: int) -> Float[Array, " n"]:
    """Returns the weight of each value in the mean over real values, flattened.

    The weights sum to 1, or are all 0 if no value is real.

    Args:
        mask: True for real values; None if all `count` values are real.
        count: number of values.
    """
    if mask is None:
        return jnp.full(count, 1.0 / count)
    weights = mask.reshape(-1).astype(jnp.float32)
    return weights / jnp.maximum(jnp.sum(weights), 1.0)
