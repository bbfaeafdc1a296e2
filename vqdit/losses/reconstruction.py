"""Pixel losses: one value per example, the mean over its elements."""

import jax.numpy as jnp

from vqdit.typing import Array, Float


def l1(x: Float[Array, "b *size c"], y: Float[Array, "b *size c"]) -> Float[Array, " b"]:
    """Returns the mean absolute error of each example."""
    return jnp.mean(jnp.abs(x - y), axis=tuple(range(1, x.ndim)))


def l2(x: Float[Array, "b *size c"], y: Float[Array, "b *size c"]) -> Float[Array, " b"]:
    """Returns the mean squared error of each example."""
    return jnp.mean((x - y) ** 2, axis=tuple(range(1, x.ndim)))
