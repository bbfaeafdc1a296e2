"""Elementwise losses, averaged over the elements of each example."""

import jax.numpy as jnp

from vqdit.typing import Array, Float


def l1(x: Float[Array, "b *size c"], y: Float[Array, "b *size c"]) -> Float[Array, " b"]:
    """Returns the mean absolute error of each example."""
    return jnp.mean(jnp.abs(x - y), axis=tuple(range(1, x.ndim)))


def l2(x: Float[Array, "b *size c"], y: Float[Array, "b *size c"]) -> Float[Array, " b"]:
    """Returns the mean squared error of each example."""
    return jnp.mean((x - y) ** 2, axis=tuple(range(1, x.ndim)))


def huber(
    x: Float[Array, "b *size c"], y: Float[Array, "b *size c"], delta: float = 0.1
) -> Float[Array, " b"]:
    """Returns the mean Huber loss of each example: e^2 / 2 up to delta, delta (|e| - delta / 2).

    Small errors count as in `l2`, large errors linearly. Huber, "Robust Estimation of a Location
    Parameter", 1964.

    Args:
        x: data in [-1, 1].
        y: the reconstruction of x.
        delta: error above which the loss is linear; the default is a twentieth of the data range.
    """
    error = jnp.abs(x - y)
    inner = jnp.minimum(error, delta)
    return jnp.mean(inner * (error - 0.5 * inner), axis=tuple(range(1, x.ndim)))


RECONSTRUCTION = {"l1": l1, "l2": l2, "huber": huber}
"""The losses by their names in configs."""
