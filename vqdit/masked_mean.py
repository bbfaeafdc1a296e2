"""Means over values that are not masked, for padded batches and missing modalities."""

import math

import jax.numpy as jnp

from vqdit.typing import Array, Bool, Float, Int


def masked_mean(
    values: Float[Array, "*b"], mask: Bool[Array, "*b"] | Int[Array, "*b"] | None
) -> Float[Array, ""]:
    """Returns the mean of the values where the mask is True; 0 if it is False everywhere.

    Args:
        values: an array of any shape; masked values may be anything, even NaN.
        mask: an array of the same shape; None averages all values. The entries of an integer mask
            are weights, such as the number of positions over which each value was averaged; 0
            ignores a value.
    """
    if mask is None:
        return jnp.mean(values)
    if mask.dtype != bool:
        weighted = jnp.where(mask > 0, values, 0.0) * mask
        return jnp.sum(weighted) / jnp.maximum(jnp.sum(mask), 1)
    return jnp.sum(jnp.where(mask, values, 0.0)) / jnp.maximum(jnp.sum(mask), 1)


def mean_of_each(
    values: Float[Array, "b *size"], mask: Bool[Array, "b n"] | None
) -> Float[Array, " b"]:
    """Returns the mean of each example's values at the positions where the mask is True: [b].

    The mean of an example whose mask is False everywhere is 0.

    Args:
        values: values [b, n, ...]; masked values may be anything, even NaN.
        mask: mask of the n positions of each example; None averages all values.
    """
    axes = tuple(range(1, values.ndim))
    if mask is None:
        return jnp.mean(values, axis=axes)
    is_real = mask.reshape(*mask.shape, *(1,) * (values.ndim - 2))
    count = jnp.sum(mask, axis=1) * math.prod(values.shape[2:])
    return jnp.sum(jnp.where(is_real, values, 0.0), axis=axes) / jnp.maximum(count, 1)


def mean_weights(mask: Bool[Array, "*b"] | None, count: int) -> Float[Array, " n"]:
    """Returns the weight of each value in `masked_mean`, as a flat array [count].

    The weights sum to 1, or are all 0 if the mask is False everywhere.

    Args:
        mask: mask of `count` values, of any shape; None gives all values the same weight.
        count: number of values.
    """
    if mask is None:
        return jnp.full(count, 1.0 / count, jnp.float32)
    weights = mask.reshape(-1).astype(jnp.float32)
    return weights / jnp.maximum(jnp.sum(weights), 1.0)
