"""Elementwise losses, averaged over the elements of each example."""

import jax.numpy as jnp

from vqdit.typing import Array, Float

Data = Float[Array, "b *size c"]


def l1(x: Data, y: Data) -> Float[Array, " b"]:
    """Returns the mean absolute error of each example."""
    return jnp.mean(jnp.abs(x - y), axis=tuple(range(1, x.ndim)))


def l2(x: Data, y: Data) -> Float[Array, " b"]:
    """Returns the mean squared error of each example."""
    return jnp.mean((x - y) ** 2, axis=tuple(range(1, x.ndim)))


def huber(x: Data, y: Data, delta: float = 0.1) -> Float[Array, " b"]:
    """Returns the mean Huber loss of each example.

    With e = x - y it is e^2 / 2 where |e| <= delta, and delta (|e| - delta / 2) elsewhere. The
    default of delta is a twentieth of the data's range. Huber, "Robust Estimation of a Location
    Parameter", 1964.
    """
    error = jnp.abs(x - y)
    inner = jnp.minimum(error, delta)
    return jnp.mean(inner * (error - 0.5 * inner), axis=tuple(range(1, x.ndim)))


RECONSTRUCTION = {"l1": l1, "l2": l2, "huber": huber}
"""The losses by their names in configs."""
